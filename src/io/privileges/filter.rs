//! Which system calls are made once all is set up, and an end to all others (seccomp(2)).
//!
//! Found by tracing both ends through all that can happen to them, and by reading what the C library does when memory
//! runs short, the vDSO has no clock, or the program panics. Operations of the ring are not system calls, and no filter
//! sees them: the ring itself takes those that are used, and no others (see [`ring::Ring::start`]).
//!
//! What is not listed fails with EPERM, and the kernel's audit log says so. Killing the process would keep an attacker
//! out no better, for the call is not made either way, but would have live video end whenever a C library makes a call
//! that nobody has thought of, such as for want of memory; what fails is told in a line, or has a fallback.
//!
//! The kernel remembers which calls are allowed whatever their arguments (since Linux 5.11), and does not run the
//! filter for those: io_uring_enter(2), above all, is one.

use std::collections::BTreeMap;
use std::io;

use seccompiler::SeccompCmpArgLen::Dword;
use seccompiler::SeccompCmpOp::{Eq, MaskedEq};
use seccompiler::{BackendError, BpfProgram, SeccompAction, SeccompCondition, SeccompFilter, SeccompRule};

use super::{Needs, check};
use crate::io::{ring, steering};

/// What is always allowed, whatever the arguments.
const ALWAYS: [i64; 24] = [
    // The reactor; busy polling yields.
    libc::SYS_io_uring_enter,
    libc::SYS_sched_yield,
    // Signals that came (signalfd), and the log; the standard library writes panics in several parts.
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_close,
    // News of the interfaces, and the word to the service manager that we are ready.
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    libc::SYS_connect,
    // Memory; more of it below.
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_futex,
    // Keys; the clock where the vDSO has none, as on some virtual machines.
    libc::SYS_getrandom,
    libc::SYS_clock_gettime,
    // The end, the bad one, too: a stack that overflows is told of in a signal's handler, and aborts.
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_sigaltstack,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_gettid,
    libc::SYS_getpid,
];

/// The options of an uplink's socket, as `uplink_socket` sets them.
const UPLINK_OPTIONS: [(i32, i32); 7] = [
    (libc::SOL_SOCKET, libc::SO_RCVBUFFORCE),
    (libc::SOL_SOCKET, libc::SO_RCVBUF),
    (libc::SOL_SOCKET, libc::SO_SNDBUF),
    (libc::SOL_SOCKET, libc::SO_BINDTODEVICE),
    (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER),
    (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER),
    (libc::SOL_UDP, libc::UDP_GRO),
];

/// What is left of the type of a socket without SOCK_CLOEXEC and SOCK_NONBLOCK (linux/net.h).
const SOCKET_TYPE_MASK: u64 = 0xf;

/// System calls by number, each with the arguments that are allowed: one rule must fit, and none means any.
type Allowed = BTreeMap<i64, Vec<SeccompRule>>;

/// Has the kernel refuse this thread what is not needed for `needs`. It must have no_new_privs, or CAP_SYS_ADMIN.
///
/// # Errors
/// What seccomp(2) says, or that nobody knows the numbers of this architecture's system calls.
pub fn install(needs: Needs) -> io::Result<()> {
    let program = compile(needs).map_err(io::Error::other)?;
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut().cast() };
    // SAFETY: The kernel reads the program, as long as it says it is, and keeps a copy.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_LOG,
            &raw const program,
        )
    };
    check(result as libc::c_int)
}

fn compile(needs: Needs) -> Result<BpfProgram, BackendError> {
    let refused = SeccompAction::Errno(libc::EPERM as u32);
    let architecture = std::env::consts::ARCH.try_into()?;
    SeccompFilter::new(allowed(needs)?, refused, SeccompAction::Allow, architecture)?.try_into()
}

fn allowed(needs: Needs) -> Result<Allowed, BackendError> {
    let mut allowed: Allowed = ALWAYS.into_iter().map(|call| (call, vec![])).collect();
    // Memory is for data: what was written is not to be run.
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        allow(&mut allowed, call, vec![masked(2, libc::PROT_EXEC as u64, 0)?])?;
    }
    for registration in ring::REGISTRATIONS {
        allow(&mut allowed, libc::SYS_io_uring_register, vec![equal(1, registration.into())?])?;
    }
    // A descriptor that is closed is looked at first where assertions are compiled in.
    allow(&mut allowed, libc::SYS_fcntl, vec![equal(1, libc::F_GETFD as u64)?])?;
    // To abort is to send oneself a signal.
    allow(&mut allowed, libc::SYS_tgkill, vec![equal(0, std::process::id().into())?])?;
    // To the service manager; and the C library finds the number of an interface by one.
    allow_socket(&mut allowed, libc::AF_UNIX, libc::SOCK_DGRAM, 0)?;
    if needs.reopens_sockets {
        allow_uplink_sockets(&mut allowed)?;
    }
    if needs.changes_mtu {
        allow_socket(&mut allowed, libc::AF_INET, libc::SOCK_DGRAM, 0)?;
        allow_ioctls(&mut allowed, &[libc::TUNGETIFF as u32, libc::SIOCGIFMTU as u32, libc::SIOCSIFMTU as u32])?;
    }
    if needs.gives_back_addresses {
        allow_removal_of_addresses(&mut allowed)?;
    }
    if needs.is_controlled {
        allow_any(&mut allowed, &[libc::SYS_accept4]);
    }
    if let Some(file) = needs.writes_usage {
        allow(&mut allowed, libc::SYS_pwrite64, vec![equal(0, file as u64)?])?;
    }
    if needs.leaves_shared_port {
        for command in steering::COMMANDS_AT_THE_END {
            allow(&mut allowed, libc::SYS_bpf, vec![equal(0, command.into())?])?;
        }
        allow_any(&mut allowed, &[libc::SYS_flock, libc::SYS_unlinkat]);
    }
    Ok(allowed)
}

fn allow_uplink_sockets(allowed: &mut Allowed) -> Result<(), BackendError> {
    for family in [libc::AF_INET, libc::AF_INET6] {
        allow_socket(allowed, family, libc::SOCK_DGRAM, libc::IPPROTO_UDP)?;
    }
    for (level, option) in UPLINK_OPTIONS {
        allow(allowed, libc::SYS_setsockopt, vec![equal(1, level as u64)?, equal(2, option as u64)?])?;
    }
    allow_any(allowed, &[libc::SYS_bind, libc::SYS_getsockname]);
    allow_ioctls(allowed, &[libc::SIOCGIFINDEX as u32])
}

/// By the name of the interface, its number, and rtnetlink(7) or netdevice(7).
fn allow_removal_of_addresses(allowed: &mut Allowed) -> Result<(), BackendError> {
    for kind in [libc::SOCK_RAW, libc::SOCK_DGRAM] {
        allow_socket(allowed, libc::AF_NETLINK, kind, libc::NETLINK_ROUTE)?;
    }
    allow_socket(allowed, libc::AF_INET6, libc::SOCK_DGRAM, 0)?;
    allow_any(allowed, &[libc::SYS_bind, libc::SYS_getsockname, libc::SYS_recvmsg]);
    let names = [libc::TUNGETIFF as u32, libc::SIOCGIFINDEX as u32, libc::SIOCGIFNAME as u32];
    allow_ioctls(allowed, &names)?;
    allow_ioctls(allowed, &[libc::SIOCDIFADDR as u32])
}

fn allow_socket(allowed: &mut Allowed, family: i32, kind: i32, protocol: i32) -> Result<(), BackendError> {
    let arguments =
        vec![equal(0, family as u64)?, masked(1, SOCKET_TYPE_MASK, kind as u64)?, equal(2, protocol as u64)?];
    allow(allowed, libc::SYS_socket, arguments)
}

fn allow_ioctls(allowed: &mut Allowed, requests: &[u32]) -> Result<(), BackendError> {
    requests.iter().try_for_each(|request| allow(allowed, libc::SYS_ioctl, vec![equal(1, (*request).into())?]))
}

fn allow_any(allowed: &mut Allowed, calls: &[i64]) {
    for call in calls {
        allowed.entry(*call).or_default();
    }
}

/// Allows a call with these arguments, beside others that it may have.
fn allow(allowed: &mut Allowed, call: i64, arguments: Vec<SeccompCondition>) -> Result<(), BackendError> {
    allowed.entry(call).or_default().push(SeccompRule::new(arguments)?);
    Ok(())
}

/// An argument that has this value. All that are looked at are of 32 bits: the kernel ignores the rest.
fn equal(argument: u8, value: u64) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(argument, Dword, Eq, value)
}

/// An argument whose bits of `mask` are these.
fn masked(argument: u8, mask: u64, value: u64) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(argument, Dword, MaskedEq(mask), value)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::net::TcpListener;
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixDatagram;
    use std::process::Command;

    use socket2::{Domain, Protocol, Socket, Type};

    use super::*;
    use crate::io::uplink_socket;

    type Attempt = fn() -> io::Result<()>;

    /// What `attempt` comes to in a thread of its own that is filtered.
    fn filtered<T: Send + 'static>(needs: Needs, attempt: impl FnOnce() -> T + Send + 'static) -> T {
        let attempted = std::thread::spawn(move || {
            // SAFETY: PR_SET_NO_NEW_PRIVS takes a number and touches no memory of ours.
            check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }).expect("anyone may");
            install(needs).expect("installed");
            attempt()
        });
        attempted.join().expect("the thread ends")
    }

    fn map(protection: i32) -> io::Result<()> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: An anonymous private mapping at an address of the kernel's choosing touches no memory of ours.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), 4096, protection, flags, -1, 0) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: It is the mapping made just now, which nobody uses.
        check(unsafe { libc::munmap(base, 4096) })
    }

    #[test]
    fn what_no_end_does_is_refused() {
        let every = Needs {
            reopens_sockets: true,
            changes_mtu: true,
            gives_back_addresses: true,
            leaves_shared_port: true,
            is_controlled: true,
            writes_usage: Some(0),
        };
        let attempts: [(&str, Attempt); 7] = [
            ("read a file", || File::open("/etc/hostname").map(drop)),
            ("write a file", || File::create("/tmp/braid-filter-test").map(drop)),
            ("run a program", || Command::new("/bin/true").status().map(drop)),
            ("listen by TCP", || TcpListener::bind("127.0.0.1:0").map(drop)),
            ("map memory for code", || map(libc::PROT_READ | libc::PROT_EXEC)),
            ("start a thread", || std::thread::Builder::new().spawn(|| {}).map(drop)),
            ("set up another ring", || io_uring::IoUring::new(8).map(drop)),
        ];
        for (what, attempt) in attempts {
            let refused = filtered(every, attempt).expect_err(what);
            assert_eq!(refused.raw_os_error(), Some(libc::EPERM), "{what}");
        }
    }

    #[test]
    fn a_gateway_that_keeps_its_mtu_opens_no_sockets_and_a_box_does() {
        let open = || Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP)).map(drop);
        assert_eq!(filtered(Needs::NOTHING, open).expect_err("refused").raw_os_error(), Some(libc::EPERM));
        filtered(Needs { reopens_sockets: true, ..Needs::NOTHING }, open).expect("a box does");
        let option = || uplink_socket::probe_option(libc::UDP_SEGMENT);
        let refused = filtered(Needs { reopens_sockets: true, ..Needs::NOTHING }, option);
        assert_eq!(refused.expect_err("not one of ours").raw_os_error(), Some(libc::EPERM));
    }

    #[test]
    fn who_counts_what_uplinks_carry_writes_to_that_file_in_place_and_to_no_other() {
        let [usage, other] = [(), ()].map(|()| tempfile::tempfile().expect("a file"));
        let needs = Needs { writes_usage: Some(usage.as_raw_fd()), ..Needs::NOTHING };
        let write = |needs, file: &File| {
            let descriptor = file.as_raw_fd();
            filtered(needs, move || {
                let line = b"used=1";
                // SAFETY: The kernel reads as many bytes as there are; the file is open until the thread has ended.
                check(unsafe { libc::pwrite(descriptor, line.as_ptr().cast(), line.len(), 64) } as libc::c_int)
            })
        };
        write(needs, &usage).expect("its own");
        for (needs, file) in [(needs, &other), (Needs::NOTHING, &usage)] {
            assert_eq!(write(needs, file).expect_err("refused").raw_os_error(), Some(libc::EPERM));
        }
    }

    #[test]
    fn memory_grows_and_shrinks_and_the_service_manager_is_told() {
        filtered(Needs::NOTHING, || {
            let mut bytes = vec![1_u8; 1 << 12];
            for length in [1 << 20, 1 << 26, 1 << 22, 1 << 10] {
                bytes.resize(length, 1);
                bytes.shrink_to_fit();
            }
            map(libc::PROT_READ | libc::PROT_WRITE).expect("memory for data");
            let socket = UnixDatagram::unbound().expect("a socket");
            let sent = socket.send_to(b"READY=1", "/nobody/listens/here").expect_err("nobody listens");
            assert_eq!(sent.kind(), io::ErrorKind::NotFound, "{sent}");
        });
    }

    #[test]
    fn a_panic_unwinds_and_is_told_and_signals_go_to_oneself_alone() {
        filtered(Needs::NOTHING, || {
            std::panic::catch_unwind(|| panic!("this panic is part of a test")).expect_err("it panicked");
            // As abort(3) does; nobody minds this one.
            // SAFETY: raise(3) touches no memory of ours.
            assert_eq!(unsafe { libc::raise(libc::SIGWINCH) }, 0);
            // SAFETY: kill(2) touches no memory of ours.
            assert_eq!(unsafe { libc::kill(1, 0) }, -1);
        });
    }
}
