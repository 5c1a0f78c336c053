//! What a run gives up: before it holds keys, and once it has opened all it needs.
//!
//! An end that carries traffic parses what strangers send. Should one of them find a mistake in it, then what they get
//! is a process that can do little more than the job it has: of the capabilities at most CAP_NET_ADMIN, and of the
//! system calls those of [`filter`].

mod capabilities;
mod filter;

use std::fmt;
use std::io;
use std::os::fd::RawFd;

/// Why privileges were not given up, in one line.
#[derive(Debug)]
pub struct PrivilegeError(String);

impl fmt::Display for PrivilegeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for PrivilegeError {}

/// What will be done once all is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs {
    /// Opens sockets again for uplinks that have come back. Since Linux 5.7 binding one to an interface for the first
    /// time takes no capability, but a receive buffer beyond net.core.rmem_max takes CAP_NET_ADMIN.
    pub reopens_sockets: bool,
    /// Changes the MTU of the TAP, which takes CAP_NET_ADMIN.
    pub changes_mtu: bool,
    /// Takes its addresses from a TAP that stays, which takes CAP_NET_ADMIN.
    pub gives_back_addresses: bool,
    /// Leaves a port that it shares with other processes.
    pub leaves_shared_port: bool,
    /// Takes connections to its control socket.
    pub is_controlled: bool,
    /// Writes in place to this file, which is open.
    pub writes_usage: Option<RawFd>,
}

impl Needs {
    /// To run on with what there is.
    #[cfg(test)]
    pub const NOTHING: Self = Self {
        reopens_sockets: false,
        changes_mtu: false,
        gives_back_addresses: false,
        leaves_shared_port: false,
        is_controlled: false,
        writes_usage: None,
    };

    const fn net_admin(self) -> bool {
        self.reopens_sockets || self.changes_mtu || self.gives_back_addresses
    }
}

/// Keeps this process's memory, which is to hold keys, out of core dumps, and out of reach of other processes of the
/// same user (ptrace(2), /proc/PID/mem).
///
/// # Errors
/// What the kernel says, and of what.
pub fn hide_memory() -> Result<(), PrivilegeError> {
    let explain = |error: io::Error| PrivilegeError(format!("cannot keep keys out of core dumps: {error}"));
    // The limit stops the kernel from writing a file, but not from feeding a program (core(5)); this stops both.
    // SAFETY: PR_SET_DUMPABLE takes a number and touches no memory of ours.
    check(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) }).map_err(explain)?;
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: The kernel reads one rlimit from `none`.
    check(unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const none) }).map_err(explain)
}

/// Gives up, for good, every capability and, with `filters_system_calls`, every system call that is not needed for
/// `needs`. To be called by the only thread, when all is set up.
///
/// # Errors
/// What the kernel says, and of what. That it has no filters, or none for this architecture, is logged instead.
pub fn drop_all(needs: Needs, filters_system_calls: bool) -> Result<(), PrivilegeError> {
    let kept = if needs.net_admin() { capabilities::NET_ADMIN } else { capabilities::NONE };
    capabilities::keep_only(kept)
        .map_err(|error| PrivilegeError(format!("cannot give up capabilities: {error}: does a sandbox forbid it?")))?;
    // Also what lets a process without CAP_SYS_ADMIN install a filter.
    // SAFETY: PR_SET_NO_NEW_PRIVS takes a number and touches no memory of ours.
    check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) })
        .map_err(|error| PrivilegeError(format!("cannot rule out new privileges (no_new_privs): {error}")))?;
    if filters_system_calls && let Err(error) = filter::install(needs) {
        tracing::warn!("system calls are not filtered ({error}): an attacker who gets in could use them all");
    }
    Ok(())
}

/// Gives up every capability but that to read files, and, with `removes`, that to remove one from another's folder.
///
/// # Errors
/// What the kernel says, and of what.
pub fn keep_files(removes: bool) -> Result<(), PrivilegeError> {
    let kept = capabilities::READ_FILES | if removes { capabilities::WRITE_FILES } else { capabilities::NONE };
    capabilities::keep_only(kept).map_err(|error| PrivilegeError(format!("cannot give up capabilities: {error}")))?;
    // SAFETY: PR_SET_NO_NEW_PRIVS takes a number and touches no memory of ours.
    check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) })
        .map_err(|error| PrivilegeError(format!("cannot rule out new privileges (no_new_privs): {error}")))
}

/// The error behind what a system call has returned.
fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOX: Needs = Needs { reopens_sockets: true, changes_mtu: true, ..Needs::NOTHING };

    /// Privileges are a thread's own. The fields of its status that tell of them, after it has dropped some.
    fn status_after(needs: Needs, filters: bool) -> Vec<(String, String)> {
        let dropped = std::thread::spawn(move || {
            // A filter forbids to open files.
            let status = std::fs::File::open("/proc/thread-self/status").expect("opened");
            drop_all(needs, filters).expect("dropped");
            std::io::read_to_string(status).expect("read")
        });
        let status = dropped.join().expect("the thread ends");
        status.lines().filter_map(|line| line.split_once(":\t")).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
    }

    fn field(status: &[(String, String)], name: &str) -> u64 {
        let (_, value) = status.iter().find(|(key, _)| key == name).expect("the kernel has it");
        u64::from_str_radix(value, 16).expect("a number")
    }

    #[test]
    fn no_capability_is_left_but_the_one_that_is_needed_and_none_can_come_back() {
        let own = std::fs::read_to_string("/proc/thread-self/status").expect("read");
        let is_root = own.lines().any(|line| line.starts_with("Uid:\t0\t"));
        for (needs, kept) in [(BOX, capabilities::NET_ADMIN), (Needs::NOTHING, capabilities::NONE)] {
            let status = status_after(needs, false);
            // Who has none keeps none.
            let expected = if is_root { kept } else { 0 };
            assert_eq!(["CapEff", "CapPrm"].map(|name| field(&status, name)), [expected; 2]);
            assert_eq!(["CapInh", "CapAmb"].map(|name| field(&status, name)), [0; 2]);
            assert_eq!(field(&status, "NoNewPrivs"), 1);
            if is_root {
                assert_eq!(field(&status, "CapBnd"), 0);
            }
        }
    }

    #[test]
    fn system_calls_are_filtered_unless_told_otherwise() {
        assert_eq!(field(&status_after(BOX, true), "Seccomp"), 2);
        assert_eq!(field(&status_after(BOX, false), "Seccomp_filters"), 0);
    }

    #[test]
    fn a_kernel_without_filters_is_done_without() {
        let status = std::thread::spawn(|| {
            let refused = seccompiler::SeccompAction::Errno(libc::ENOSYS as u32);
            let allowed = seccompiler::SeccompAction::Allow;
            let architecture = std::env::consts::ARCH.try_into().expect("a known one");
            let calls = [(libc::SYS_seccomp, vec![])].into_iter().collect();
            let old = seccompiler::SeccompFilter::new(calls, allowed, refused, architecture).expect("lawful");
            let old: seccompiler::BpfProgram = old.try_into().expect("lawful");
            seccompiler::apply_filter(&old).expect("installed");
            drop_all(BOX, true).expect("a log line is all that comes of it");
            std::fs::read_to_string("/proc/thread-self/status").expect("nothing is filtered")
        });
        let status = status.join().expect("the thread ends");
        assert!(status.contains("NoNewPrivs:\t1"), "{status}");
    }

    #[test]
    fn memory_with_keys_is_dumped_nowhere() {
        hide_memory().expect("anyone may");
        // SAFETY: PR_GET_DUMPABLE touches no memory of ours.
        assert_eq!(unsafe { libc::prctl(libc::PR_GET_DUMPABLE, 0, 0, 0, 0) }, 0);
        let limits = std::fs::read_to_string("/proc/self/limits").expect("read");
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).expect("listed");
        assert_eq!(core.split_whitespace().filter(|word| *word == "0").count(), 2, "{core}");
    }
}
