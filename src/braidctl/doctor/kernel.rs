//! What the kernel has, and lets us have.

use std::io;

use super::finding::Finding;
use crate::io::examine::{LockableMemory, NET_ADMIN, RingError, RingFacts, ScratchTap, TapError};

/// The oldest kernel that has all that is needed.
const NEEDED: (u32, u32) = (6, 1);
/// The first that reads TAPs without blocking.
const BETTER: (u32, u32) = (6, 4);

const MIB: u64 = 1 << 20;

/// How old it is.
pub(super) fn release(release: &str) -> Finding {
    let found = format!("Linux {release}");
    let advice = format!("Linux {}.{} or later is needed: Debian 12 has it", NEEDED.0, NEEDED.1);
    match version(release) {
        None => Finding::warn("kernel", found, advice),
        Some(version) if version < NEEDED => Finding::fail("kernel", found, advice),
        Some(version) if version < BETTER => Finding::warn(
            "kernel",
            found,
            format!(
                "it reads the TAP one frame at a time: Linux {}.{} and later read many at once",
                BETTER.0, BETTER.1
            ),
        ),
        Some(_) => Finding::ok("kernel", found),
    }
}

/// The first two numbers of a release.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|character: char| !character.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// Whether there is an io_uring, with all that is used of it, and memory to go with it.
pub(super) fn ring(tried: Result<RingFacts, RingError>) -> Vec<Finding> {
    match tried {
        Err(RingError { found, advice }) => vec![Finding::fail("io_uring", found, advice)],
        Ok(facts) => {
            let ring = if facts.defers_completions {
                Finding::ok("io_uring", "permitted, with provided buffers, multishot receive and deferred completions")
            } else {
                Finding::warn(
                    "io_uring",
                    "permitted, with provided buffers and multishot receive, but it does not defer completions (DEFER_TASKRUN)",
                    "each batch costs a little more: a stock Linux 6.1 or later defers them",
                )
            };
            vec![ring, memory(&facts.memory)]
        }
    }
}

fn memory(memory: &LockableMemory) -> Finding {
    let needed = memory.needed.div_ceil(MIB);
    match (&memory.refused, memory.limit) {
        (None, _) => Finding::ok("locked memory", format!("{needed} MiB of packet buffers can be registered")),
        (Some(error), Some(limit)) if limit < memory.needed => Finding::warn(
            "locked memory",
            format!("RLIMIT_MEMLOCK is {} KiB, and the packet buffers have {needed} MiB: {error}", limit / 1024),
            format!(
                "reads and writes cost a little more: raise it to {needed} MiB or more (LimitMEMLOCK={needed}M, ulimit -l), or \
                 grant CAP_IPC_LOCK"
            ),
        ),
        (Some(error), _) => Finding::warn(
            "locked memory",
            format!("{needed} MiB of packet buffers cannot be registered: {error}"),
            "reads and writes cost a little more: raise RLIMIT_MEMLOCK (LimitMEMLOCK=, ulimit -l), which all processes of a user \
             share, or grant CAP_IPC_LOCK",
        ),
    }
}

/// Whether we may make TAPs.
pub(super) fn permissions(capabilities: u64) -> Finding {
    if capabilities & NET_ADMIN != 0 {
        return Finding::ok("permissions", "CAP_NET_ADMIN");
    }
    Finding::fail(
        "permissions",
        "no CAP_NET_ADMIN, which the TAP takes",
        "run as root (sudo), or grant it (AmbientCapabilities=CAP_NET_ADMIN, setcap cap_net_admin+ep FILE)",
    )
}

/// Whether TAPs can be asked for.
pub(super) fn tun_device(opened: io::Result<()>) -> Finding {
    let Err(error) = opened else { return Finding::ok("/dev/net/tun", "can be opened") };
    let advice = match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "grant read and write access to it; in a container allow the device, too (--device /dev/net/tun)"
        }
        _ => "load the module ('modprobe tun'), or pass the device into the container (--device /dev/net/tun)",
    };
    Finding::fail("/dev/net/tun", format!("cannot be opened: {error}"), advice)
}

/// Whether a TAP could be made, and is as it should be.
pub(super) fn tap(tried: Result<ScratchTap, TapError>) -> Finding {
    let tap = match tried {
        Ok(tap) => tap,
        Err(TapError { found, advice }) => {
            let advice = advice.unwrap_or_else(|| "see the kernel's log".to_owned());
            return Finding::fail("TAP", found, advice);
        }
    };
    let lacks: Vec<&str> = [
        (tap.has_tcp, "super-frames of TCP"),
        (tap.has_udp, "super-frames of UDP (Linux 6.2)"),
        (tap.is_nowait_capable, "reads that do not block (Linux 6.4)"),
    ]
    .iter()
    .filter(|(has, _)| !has)
    .map(|(_, what)| *what)
    .collect();
    if lacks.is_empty() {
        return Finding::ok("TAP", "can be made, with super-frames of TCP and UDP");
    }
    Finding::warn(
        "TAP",
        format!("can be made, without {}", lacks.join(", ")),
        "frames cost more CPU: use a newer kernel where that matters",
    )
}

/// Whether sockets take many datagrams at once.
pub(super) fn offload(option: &'static str, refused: Option<io::Error>) -> Finding {
    match refused {
        None => Finding::ok(option, "sockets have it"),
        Some(error) => Finding::warn(
            option,
            format!("sockets do not have it: {error}"),
            "each datagram goes by itself, which costs more CPU: a stock Linux kernel has it, a sandbox's may not",
        ),
    }
}

/// Whether sockets get the room that they want: `(wanted, granted)`, in bytes.
pub(super) fn receive_buffer((wanted, granted): (usize, usize)) -> Finding {
    let (wanted, granted) = (wanted as u64, granted as u64);
    if granted >= wanted {
        return Finding::ok("receive buffer", format!("{} MiB a socket", wanted / MIB));
    }
    Finding::warn(
        "receive buffer",
        format!("{} KiB a socket instead of {}: bursts may be lost", granted / 1024, wanted / 1024),
        format!("grant CAP_NET_ADMIN, or set it by 'sysctl -w net.core.rmem_max={wanted}'"),
    )
}

#[cfg(test)]
mod tests {
    use super::super::finding::{Verdict, assert_says};
    use super::*;

    fn os_error(errno: i32) -> io::Error {
        io::Error::from_raw_os_error(errno)
    }

    #[test]
    fn kernels_are_told_by_their_release() {
        for (text, verdict, word) in [
            ("5.10.0-21-amd64", Verdict::Fail, "6.1"),
            ("6.0.19", Verdict::Fail, "6.1"),
            ("6.1.0-25-amd64", Verdict::Warn, "one frame at a time"),
            ("6.4.0", Verdict::Ok, "6.4.0"),
            ("6.12.43+deb13-amd64", Verdict::Ok, "6.12"),
            ("10.0-rc1", Verdict::Ok, "10.0"),
            ("unknown", Verdict::Warn, "6.1"),
        ] {
            assert_says(&release(text), "kernel", verdict, &[word]);
        }
    }

    #[test]
    fn a_ring_that_cannot_be_is_told_with_what_its_own_error_advises() {
        let error = RingError { found: "cannot set up io_uring: no".to_owned(), advice: "allow it".to_owned() };
        let findings = ring(Err(error));
        assert_says(&findings[0], "io_uring", Verdict::Fail, &["cannot set up", "allow it"]);
        assert_eq!(findings.len(), 1);
    }

    #[test]
    fn buffers_beyond_the_limit_are_told_with_how_much_it_takes() {
        let facts = |limit, refused, defers_completions| {
            let memory = LockableMemory { needed: 44 * MIB + 1, limit, refused };
            ring(Ok(RingFacts { defers_completions, memory }))
        };
        let tight = facts(Some(8 << 20), Some(os_error(libc::ENOMEM)), true);
        assert_says(&tight[0], "io_uring", Verdict::Ok, &["permitted"]);
        assert_says(
            &tight[1],
            "locked memory",
            Verdict::Warn,
            &["8192 KiB", "45 MiB", "LimitMEMLOCK=45M", "CAP_IPC_LOCK"],
        );
        let shared = facts(Some(64 << 20), Some(os_error(libc::ENOMEM)), true);
        assert_says(&shared[1], "locked memory", Verdict::Warn, &["all processes of a user"]);
        // Who has CAP_IPC_LOCK is not bound by the limit.
        assert_says(&facts(Some(0), None, true)[1], "locked memory", Verdict::Ok, &["45 MiB"]);
        assert_says(&facts(None, None, false)[0], "io_uring", Verdict::Warn, &["DEFER_TASKRUN", "6.1"]);
    }

    #[test]
    fn what_is_not_permitted_is_told_with_who_could() {
        assert_says(&permissions(u64::MAX), "permissions", Verdict::Ok, &[]);
        assert_says(&permissions(!NET_ADMIN), "permissions", Verdict::Fail, &["CAP_NET_ADMIN", "root"]);
        assert_says(&tun_device(Ok(())), "/dev/net/tun", Verdict::Ok, &[]);
        assert_says(&tun_device(Err(os_error(libc::ENOENT))), "/dev/net/tun", Verdict::Fail, &["modprobe tun"]);
        assert_says(
            &tun_device(Err(os_error(libc::EACCES))),
            "/dev/net/tun",
            Verdict::Fail,
            &["read and write access"],
        );
    }

    #[test]
    fn a_tap_lacks_what_it_lacks() {
        let all = ScratchTap { has_tcp: true, has_udp: true, is_nowait_capable: true };
        assert_says(&tap(Ok(all)), "TAP", Verdict::Ok, &["super-frames"]);
        let older = ScratchTap { has_udp: false, is_nowait_capable: false, ..all };
        assert_says(&tap(Ok(older)), "TAP", Verdict::Warn, &["UDP (Linux 6.2), reads that do not block"]);
        let error = TapError { found: "cannot open the TAP".to_owned(), advice: None };
        assert_says(&tap(Err(error)), "TAP", Verdict::Fail, &["cannot open", "log"]);
    }

    #[test]
    fn sockets_that_can_do_less_are_told_with_what_it_costs() {
        assert_says(&offload("UDP_GRO", None), "UDP_GRO", Verdict::Ok, &[]);
        assert_says(&offload("UDP_GRO", Some(os_error(libc::ENOPROTOOPT))), "UDP_GRO", Verdict::Warn, &["more CPU"]);
        assert_says(&receive_buffer((16 << 20, 16 << 20)), "receive buffer", Verdict::Ok, &["16 MiB"]);
        let small = receive_buffer((16 << 20, 212_992));
        assert_says(&small, "receive buffer", Verdict::Warn, &["208 KiB", "net.core.rmem_max=16777216"]);
    }
}
