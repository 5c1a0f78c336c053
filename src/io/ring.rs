//! The io_uring: set up with what this kernel offers, fed in batches, and waited for without waiting twice.

use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

use io_uring::register::Restriction;
use io_uring::types::{CancelBuilder, SubmitArgs, Timespec};
use io_uring::{IoUring, Probe, cqueue, opcode, squeue};

use super::token::Token;
use crate::config::BOXES_MAX;
use crate::proto::uplink::UPLINKS_MAX;

/// Submission entries: what one batch of completions can call for, several times over.
const SUBMISSION_ENTRIES: u32 = 1024;
/// Completion entries: all that can be in flight at once, so that the kernel never has to keep completions aside.
const COMPLETION_ENTRIES: u32 = 8192;
/// How long after the last completion of a cancelled operation no more are expected.
const CANCEL_PATIENCE: Duration = Duration::from_millis(2);
/// Places in the table of registered files: the TAPs, and then the sockets.
pub const FILES_MAX: u32 = (BOXES_MAX + UPLINKS_MAX) as u32;

/// All operations that are used, and what the kernel calls them.
const OPERATIONS: [(u8, &str); 7] = [
    (opcode::ReadFixed::CODE, "READ_FIXED"),
    (opcode::Read::CODE, "READ"),
    (opcode::Writev::CODE, "WRITEV"),
    (opcode::SendMsg::CODE, "SENDMSG"),
    (opcode::RecvMsgMulti::CODE, "RECVMSG"),
    (opcode::PollAdd::CODE, "POLL_ADD"),
    (opcode::AsyncCancel::CODE, "ASYNC_CANCEL"),
];
/// What they are marked with: files by their place, and buffers that the kernel picks.
const OPERATION_FLAGS: squeue::Flags = squeue::Flags::FIXED_FILE.union(squeue::Flags::BUFFER_SELECT);
/// Registrations that happen while the ring runs (linux/io_uring.h): sockets that come and go, and the end.
pub const REGISTRATIONS: [u8; 3] = [
    3,  // IORING_UNREGISTER_FILES
    6,  // IORING_REGISTER_FILES_UPDATE
    24, // IORING_REGISTER_SYNC_CANCEL
];

/// The oldest kernel that has all we cannot do without (provided buffer rings, multishot RECVMSG, both tested at
/// start), as told to the user.
const KERNEL_NEEDED: &str = "6.1";

/// Why there is no ring, with what to do about it.
#[derive(Debug)]
pub struct RingError {
    /// What cannot be done, and what the kernel says.
    pub found: String,
    /// What to do.
    pub advice: String,
}

impl std::fmt::Display for RingError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.found, self.advice)
    }
}

impl std::error::Error for RingError {}

impl RingError {
    /// What went wrong while doing `what`, and what to do.
    #[must_use]
    pub fn advise(what: &str, error: &io::Error) -> Self {
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let disabled = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
        let advice = match error.raw_os_error() {
            Some(libc::ENOSYS) => format!("this kernel ({}) has no io_uring: use Linux {KERNEL_NEEDED} or later", release.trim()),
            Some(libc::EPERM) if matches!(disabled.trim(), "1" | "2") => {
                format!("io_uring is disabled by sysctl kernel.io_uring_disabled={}: set it to 0", disabled.trim())
            }
            Some(libc::EPERM | libc::EACCES) => {
                "io_uring is forbidden here, probably by a seccomp filter (containers have one): allow the io_uring system calls".to_owned()
            }
            Some(libc::ENOMEM) => "not enough lockable memory: raise RLIMIT_MEMLOCK (ulimit -l, LimitMEMLOCK=) or grant CAP_IPC_LOCK".to_owned(),
            Some(libc::EINVAL) => format!("this kernel ({}) is too old: use Linux {KERNEL_NEEDED} or later", release.trim()),
            _ => "see the kernel's log".to_owned(),
        };
        Self { found: format!("cannot {what}: {error}"), advice }
    }
}

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// There are completions, or there may be.
    ByCompletion,
    /// The time is up.
    ByTimeout,
}

/// The ring, and how many operations of the batch being built complete while they are submitted.
pub struct Ring {
    inner: IoUring,
    /// Operations since the last wait that never block: they complete within the very call that submits them, so a
    /// wait has to look past their completions.
    immediate: usize,
    /// The same, submitted ahead of the wait because the queue was full.
    immediate_submitted: usize,
}

impl Ring {
    /// Sets a ring up with the best flags that this kernel takes. It takes registrations, and no operations before
    /// [`Self::start`].
    ///
    /// # Errors
    /// Why not, and what to do.
    pub fn new() -> Result<Self, RingError> {
        let inner = build_best().map_err(|error| RingError::advise("set up io_uring", &error))?;
        if !inner.params().is_feature_ext_arg() || !inner.params().is_feature_nodrop() {
            return Err(RingError::advise("wait with a time limit", &io::Error::from_raw_os_error(libc::EINVAL)));
        }
        check_operations(&inner)?;
        Ok(Self { inner, immediate: 0, immediate_submitted: 0 })
    }

    /// Ends the setting up: operations may follow, of those kinds that we use, and nothing else ever. No filter of system
    /// calls sees operations, and this keeps an attacker who gets in from opening files by them.
    ///
    /// # Errors
    /// Why not, and what to do.
    pub fn start(&self) -> Result<(), RingError> {
        let operations = OPERATIONS.into_iter().map(|(code, _)| Restriction::sqe_op(code));
        let registrations = REGISTRATIONS.into_iter().map(Restriction::register_op);
        let mut restrictions: Vec<_> = operations.chain(registrations).collect();
        restrictions.push(Restriction::sqe_flags_allowed(OPERATION_FLAGS.bits()));
        let submitter = self.inner.submitter();
        submitter
            .register_restrictions(&mut restrictions)
            .and_then(|()| submitter.register_enable_rings())
            .map_err(|error| RingError::advise("start io_uring with what it is needed for", &error))
    }

    /// Whether completions are worked off only when it asks for them, which takes Linux 6.1.
    #[must_use]
    pub fn defers_completions(&self) -> bool {
        self.inner.params().is_setup_single_issuer()
    }

    /// The registrations.
    pub fn submitter(&self) -> io_uring::Submitter<'_> {
        self.inner.submitter()
    }

    /// Has the kernel look the ring up by number instead of by file descriptor, if it can.
    pub fn register_own_descriptor(&mut self) {
        if let Err(error) = self.inner.submitter().register_ring_fd() {
            tracing::info!("cannot register the ring's own descriptor ({error}): each wake-up costs a little more");
        }
    }

    /// Adds an operation to the batch.
    ///
    /// # Errors
    /// What io_uring_enter(2) says, if the queue was full and had to be submitted first.
    ///
    /// # Safety
    /// All memory that `entry` points to must stay valid, and unmoved, and be touched only as the operation allows,
    /// until its completion has been reaped or [`Self::cancel_all`] has returned.
    pub unsafe fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        // SAFETY: The caller's promise is the one that `push` asks for.
        while unsafe { self.inner.submission().push(entry) }.is_err() {
            self.submit_early()?;
        }
        Ok(())
    }

    /// [`Self::push`] for an operation that never blocks, and so completes while it is submitted.
    ///
    /// # Errors
    /// As [`Self::push`].
    ///
    /// # Safety
    /// As [`Self::push`].
    pub unsafe fn push_immediate(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        // SAFETY: The caller's promise is the same.
        unsafe { self.push(entry)? };
        self.immediate += 1;
        Ok(())
    }

    /// Submits the batch and waits until something beyond its immediate operations has completed, or `timeout` has
    /// passed.
    ///
    /// # Errors
    /// What io_uring_enter(2) says, beyond what is a matter of course.
    pub fn submit_and_wait(&mut self, timeout: Duration) -> io::Result<Woken> {
        let immediate = std::mem::take(&mut self.immediate) + std::mem::take(&mut self.immediate_submitted);
        let timespec = Timespec::from(timeout);
        let args = SubmitArgs::new().timespec(&timespec);
        // If the kernel should once not complete one of them at once, the wait is longer than it need be, until the
        // next event or the next probe at the latest; nothing is lost.
        match self.inner.submitter().submit_with_args(immediate + 1, &args) {
            Ok(_) => Ok(Woken::ByCompletion),
            Err(error) => match error.raw_os_error() {
                Some(libc::ETIME) => Ok(Woken::ByTimeout),
                // EBUSY, EAGAIN: completions must be reaped before more can be submitted; that is flow control.
                Some(libc::EINTR | libc::EBUSY | libc::EAGAIN) => Ok(Woken::ByCompletion),
                _ => Err(error),
            },
        }
    }

    /// Submits the batch and has the kernel finish what it can, without waiting.
    ///
    /// # Errors
    /// As [`Self::submit_and_wait`].
    pub fn submit_and_look(&mut self) -> io::Result<()> {
        let nothing_to_do = self.inner.submission().is_empty() && !self.inner.submission().taskrun();
        if nothing_to_do {
            return Ok(());
        }
        self.submit_early()
    }

    fn submit_early(&mut self) -> io::Result<()> {
        self.immediate_submitted += std::mem::take(&mut self.immediate);
        match self.inner.submitter().submit_with_args(0, &SubmitArgs::new()) {
            Ok(_) => Ok(()),
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINTR | libc::EBUSY | libc::EAGAIN)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Whether a completion is there to be reaped.
    pub fn has_completion(&mut self) -> bool {
        !self.inner.completion().is_empty()
    }

    /// Takes the oldest completion.
    pub fn reap(&mut self) -> Option<cqueue::Entry> {
        let entry = self.inner.completion().next();
        if entry.is_some() {
            // Those submitted early have completed by now and are being reaped: the next wait need not count them.
            self.immediate_submitted = self.immediate_submitted.saturating_sub(1);
        }
        entry
    }

    /// Asks the operation of `token` to stop.
    ///
    /// # Errors
    /// As [`Self::push`].
    pub fn cancel(&mut self, token: Token) -> io::Result<()> {
        let entry = opcode::AsyncCancel::new(token.pack()).build().user_data(Token::Cancel.pack());
        // SAFETY: The operation points to no memory.
        unsafe { self.push(&entry) }
    }

    /// Stops every operation, and waits until the kernel has let go of all memory and files it was given.
    pub fn cancel_all(&mut self) {
        // Whatever it says (ENOENT: nothing was left to cancel), the ring is about to go.
        let _ = self.inner.submitter().register_sync_cancel(None, CancelBuilder::any());
        // A cancelled operation holds on to its file until its completion has been worked off.
        while matches!(self.submit_and_wait(CANCEL_PATIENCE), Ok(Woken::ByCompletion)) {
            while self.reap().is_some() {}
        }
    }
}

/// Tries setup flags from the best downwards; each says why it is wanted.
fn build_best() -> io::Result<IoUring> {
    // One thread submits and waits (6.0), completions are worked off only when it asks for them (6.1), and it is told
    // in shared memory when there is something to ask for (5.19): no interruption in the middle of a batch.
    let best = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        .setup_submit_all()
        .setup_cqsize(COMPLETION_ENTRIES)
        .setup_r_disabled()
        .dontfork()
        .build(SUBMISSION_ENTRIES);
    let Err(error) = best else { return best };
    if error.raw_os_error() != Some(libc::EINVAL) {
        return Err(error);
    }
    tracing::info!("the kernel does not defer completion work (DEFER_TASKRUN): using COOP_TASKRUN");
    // No interruption by signal, at least (5.19).
    IoUring::builder()
        .setup_coop_taskrun()
        .setup_taskrun_flag()
        .setup_submit_all()
        .setup_cqsize(COMPLETION_ENTRIES)
        .setup_r_disabled()
        .dontfork()
        .build(SUBMISSION_ENTRIES)
}

fn check_operations(ring: &IoUring) -> Result<(), RingError> {
    let mut probe = Probe::new();
    ring.submitter()
        .register_probe(&mut probe)
        .map_err(|error| RingError::advise("ask io_uring what it can do", &error))?;
    match OPERATIONS.into_iter().find(|(code, _)| !probe.is_supported(*code)) {
        Some((_, name)) => {
            let refused = io::Error::from_raw_os_error(libc::EINVAL);
            Err(RingError::advise(&format!("use the io_uring operation {name}"), &refused))
        }
        None => Ok(()),
    }
}

/// The table of registered files: each is used by its place, which saves a reference count per operation.
pub struct Files {
    occupied: [bool; FILES_MAX as usize],
}

impl Files {
    /// An empty table, registered with `ring`.
    ///
    /// # Errors
    /// Why not, and what to do.
    pub fn register(ring: &Ring) -> Result<Self, RingError> {
        ring.submitter()
            .register_files_sparse(FILES_MAX)
            .map_err(|error| RingError::advise("register files with io_uring", &error))?;
        Ok(Self { occupied: [false; FILES_MAX as usize] })
    }

    /// Puts `descriptor` in place `place`. The ring holds it open until the place is set anew or the ring is gone.
    ///
    /// # Errors
    /// What io_uring_register(2) says.
    pub fn set(&mut self, ring: &Ring, place: u32, descriptor: RawFd) -> io::Result<()> {
        ring.submitter().register_files_update(place, &[descriptor])?;
        self.occupied[place as usize] = true;
        Ok(())
    }

    /// Empties place `place`.
    ///
    /// # Errors
    /// What io_uring_register(2) says.
    pub fn clear(&mut self, ring: &Ring, place: u32) -> io::Result<()> {
        if std::mem::take(&mut self.occupied[place as usize]) {
            ring.submitter().register_files_update(place, &[-1])?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use io_uring::types;

    use super::*;

    fn result_of(ring: &mut Ring, entry: &squeue::Entry) -> i32 {
        // SAFETY: What the operation points to is constant.
        unsafe { ring.push(entry) }.expect("there is room");
        ring.submit_and_wait(Duration::from_secs(10)).expect("waited");
        ring.reap().expect("completed").result()
    }

    #[test]
    fn what_is_not_needed_is_refused_once_it_has_started() {
        let mut ring = Ring::new().expect("a ring");
        ring.start().expect("started");
        let open = opcode::OpenAt::new(types::Fd(libc::AT_FDCWD), c"/etc/passwd".as_ptr()).build();
        assert_eq!(result_of(&mut ring, &open), -libc::EACCES);
        let socket = opcode::Socket::new(libc::AF_INET, libc::SOCK_STREAM, 0).build();
        assert_eq!(result_of(&mut ring, &socket), -libc::EACCES);
        let nothing = opcode::AsyncCancel::new(7).build();
        assert_eq!(result_of(&mut ring, &nothing), -libc::ENOENT);
        let eventfd = ring.submitter().register_eventfd(0).expect_err("not needed either");
        assert_eq!(eventfd.raw_os_error(), Some(libc::EACCES));
    }
}
