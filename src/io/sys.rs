//! System calls that no crate wraps as we need them, one each.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::thread;
use std::time::Duration;

use crate::proto::time::Instant;

/// How often, and how long apart, what a dying process may still hold is tried again: the kernel releases files that
/// were registered with an io_uring a little after their process has ended.
const ATTEMPTS: u32 = 100;
const ATTEMPT_PAUSE: Duration = Duration::from_millis(20);

/// Tries again for two seconds while the error is `errno`.
///
/// # Errors
/// The last error.
pub fn retry_while<T>(errno: i32, mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    for _ in 1..ATTEMPTS {
        match attempt() {
            Err(error) if error.raw_os_error() == Some(errno) => thread::sleep(ATTEMPT_PAUSE),
            other => return other,
        }
    }
    attempt()
}

/// CLOCK_MONOTONIC, which never goes back.
#[must_use]
pub fn monotonic_now() -> Instant {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is ours and writable for the whole of a timespec.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    assert_eq!(result, 0, "every Linux has CLOCK_MONOTONIC");
    Instant::from_nanos(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

/// The time of day, in milliseconds since 1970; may be wrong, and may go back.
#[must_use]
pub fn time_of_day_ms() -> u64 {
    let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX)
}

/// Keeps this thread on one CPU.
///
/// # Errors
/// What sched_setaffinity(2) says: EINVAL if there is no such CPU, or it is not ours to use.
pub fn pin_to_cpu(cpu: usize) -> io::Result<()> {
    if cpu >= libc::CPU_SETSIZE as usize {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // SAFETY: A cpu_set_t is an array of numbers; zeroes are the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: `cpu` is below CPU_SETSIZE, so it has its bit in the set.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: The kernel reads one cpu_set_t from `set`.
    let result = unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Whether this CPU computes AES-GCM by instructions made for it.
#[must_use]
pub fn has_aes() -> bool {
    #[cfg(target_arch = "x86_64")]
    let has = std::arch::is_x86_feature_detected!("aes") && std::arch::is_x86_feature_detected!("pclmulqdq");
    #[cfg(target_arch = "aarch64")]
    let has = std::arch::is_aarch64_feature_detected!("aes") && std::arch::is_aarch64_feature_detected!("pmull");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let has = false;
    has
}

/// A random number.
///
/// # Errors
/// What getrandom(2) says.
pub fn random() -> io::Result<u64> {
    let mut bytes = [0; 8];
    fill_random(&mut bytes)?;
    Ok(u64::from_ne_bytes(bytes))
}

/// Fills `bytes` with randomness that is good enough for keys.
///
/// # Errors
/// What getrandom(2) says.
pub fn fill_random(bytes: &mut [u8]) -> io::Result<()> {
    getrandom::getrandom(bytes).map_err(io::Error::from)
}

/// Puts an interface into a bridge.
///
/// # Errors
/// ENODEV or EOPNOTSUPP if there is no such bridge; what else the kernel says of SIOCBRADDIF.
pub fn join_bridge(bridge: &str, interface_index: u32) -> io::Result<()> {
    // SAFETY: An ifreq is numbers and bytes, for which zero is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (place, byte) in request.ifr_name.iter_mut().zip(bridge.bytes()) {
        *place = byte as libc::c_char;
    }
    request.ifr_ifru.ifru_ifindex = interface_index as i32;
    // SAFETY: socket(2) touches no memory of ours.
    let descriptor = unsafe { libc::socket(libc::AF_UNIX, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: The descriptor is new, and nobody else has it.
    let socket = unsafe { OwnedFd::from_raw_fd(descriptor) };
    // SAFETY: The kernel reads one ifreq from `request`, which outlives the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCBRADDIF as _, &raw const request) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// See netdevice(7) and linux/sockios.h.
const SIOCBRADDIF: u64 = 0x89a2;

/// Blocks SIGTERM, SIGINT, SIGHUP and SIGUSR1, and makes them readable instead.
///
/// # Errors
/// What sigprocmask(2) and signalfd(2) say.
pub fn signals() -> io::Result<OwnedFd> {
    // SAFETY: A sigset_t is plain numbers, and is emptied properly next.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is ours.
    unsafe { libc::sigemptyset(&raw mut set) };
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGUSR1] {
        // SAFETY: `set` is ours and initialised.
        unsafe { libc::sigaddset(&raw mut set, signal) };
    }
    // SAFETY: The kernel reads one sigset_t from `set`, and is not asked for the old one.
    let blocked = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
    if blocked != 0 {
        return Err(io::Error::from_raw_os_error(blocked));
    }
    // SAFETY: The kernel reads one sigset_t from `set`.
    let descriptor = unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: The descriptor is new, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// The next signal that has come, if any, from what [`signals`] made.
///
/// # Errors
/// What read(2) says.
pub fn read_signal(signals: &OwnedFd) -> io::Result<Option<i32>> {
    // SAFETY: signalfd_siginfo is plain numbers.
    let mut info: libc::signalfd_siginfo = unsafe { std::mem::zeroed() };
    let length = size_of::<libc::signalfd_siginfo>();
    // SAFETY: The kernel writes at most one signalfd_siginfo to `info`.
    let read = unsafe { libc::read(signals.as_raw_fd(), (&raw mut info).cast(), length) };
    if read == length as isize {
        return Ok(Some(info.ssi_signo as i32));
    }
    let error = io::Error::last_os_error();
    if error.kind() == io::ErrorKind::WouldBlock { Ok(None) } else { Err(error) }
}

/// Has this process make a copy of itself, and returns whether this is the copy. To be called by the only thread.
///
/// # Errors
/// What fork(2) says.
pub fn fork_is_child() -> io::Result<bool> {
    // SAFETY: With one thread no lock is held by another that the child would not have.
    match unsafe { libc::fork() } {
        0 => Ok(true),
        child if child > 0 => Ok(false),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Ends this process without running what its parent has left to run at its own end.
pub fn exit_now() -> ! {
    // SAFETY: _exit(2) touches no memory of ours, and does not return.
    unsafe { libc::_exit(0) }
}

/// Closes all descriptors of this process but those of `kept`.
pub fn close_all_but(kept: &[i32]) {
    let mut kept: Vec<u32> = kept.iter().map(|descriptor| *descriptor as u32).collect();
    kept.sort_unstable();
    let mut first = 0;
    for end in kept.into_iter().chain([u32::MAX]) {
        if let Some(last) = end.checked_sub(1).filter(|last| *last >= first) {
            // SAFETY: close_range(2) touches no memory of ours; nobody goes on to use what it closes.
            unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
        }
        first = end.saturating_add(1);
    }
}

/// Has this process go on whatever a terminal or a service manager signals.
pub fn ignore_signals() {
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGUSR1] {
        // SAFETY: SIG_IGN is a disposition of the kernel's, and no handler of ours is replaced by it.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

/// What this process is called in lists of processes.
pub fn set_process_name(name: &std::ffi::CStr) {
    // SAFETY: The kernel reads up to 16 bytes, and no further than the terminating zero.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
}

/// Takes what has come by a socket, without waiting.
///
/// # Errors
/// What recv(2) says: EAGAIN if nothing has come.
pub fn receive_now(socket: &impl AsRawFd, bytes: &mut [u8]) -> io::Result<usize> {
    let (start, length) = (bytes.as_mut_ptr().cast(), bytes.len());
    // SAFETY: The kernel writes at most as many bytes as there are.
    let received = unsafe { libc::recv(socket.as_raw_fd(), start, length, libc::MSG_DONTWAIT) };
    usize::try_from(received).map_err(|_| io::Error::last_os_error())
}

/// Sends as much of `bytes` by a socket as there is room for, without waiting.
///
/// # Errors
/// What send(2) says: EAGAIN if there is no room.
pub fn send_now(socket: &impl AsRawFd, bytes: &[u8]) -> io::Result<usize> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: The kernel reads at most as many bytes as there are.
    let sent = unsafe { libc::send(socket.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), flags) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// Has files that this process makes be its owner's alone, until the return value is dropped.
pub fn private_files() -> PrivateFiles {
    // SAFETY: umask(2) touches no memory of ours.
    PrivateFiles(unsafe { libc::umask(0o177) })
}

/// See [`private_files`].
pub struct PrivateFiles(libc::mode_t);

impl Drop for PrivateFiles {
    fn drop(&mut self) {
        // SAFETY: umask(2) touches no memory of ours.
        unsafe { libc::umask(self.0) };
    }
}

/// Whether the kernel can try a read from this file without blocking, which TUN/TAP has learned in Linux 6.4.
///
/// May take a frame away, so ask before the interface is up.
#[must_use]
pub fn nowait_capable(file: BorrowedFd<'_>) -> bool {
    let mut byte = [0_u8; 1];
    let segment = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: byte.len() };
    // SAFETY: The kernel writes at most one byte, to `byte`, which outlives the call.
    let read = unsafe { libc::preadv2(file.as_raw_fd(), &raw const segment, 1, -1, libc::RWF_NOWAIT) };
    read >= 0 || io::Error::last_os_error().raw_os_error() != Some(libc::EOPNOTSUPP)
}

/// Has the frames of this TAP, which must have been opened for it, come and go behind a header of so many bytes.
///
/// # Errors
/// What the kernel says of TUNSETVNETHDRSZ.
pub fn set_vnet_header_length(file: BorrowedFd<'_>, length: usize) -> io::Result<()> {
    let length = length as libc::c_int;
    // SAFETY: The kernel reads one int from `length`, which outlives the call.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETVNETHDRSZ as _, &raw const length) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Whether the TAP of this file stays when the file is closed, as `ip tuntap add` makes them.
///
/// # Errors
/// What the kernel says of TUNGETIFF.
pub fn is_persistent_tap(file: BorrowedFd<'_>) -> io::Result<bool> {
    // SAFETY: An ifreq is numbers and bytes, for which zero is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // SAFETY: The kernel writes one ifreq to `request`, which outlives the call.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNGETIFF as _, &raw mut request) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: TUNGETIFF fills in the flags, and nothing else of the union was written.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    Ok(i32::from(flags) & libc::IFF_PERSIST != 0)
}
