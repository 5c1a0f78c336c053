//! What the kernel has for an end: an io_uring, a TAP, sockets that take many datagrams at once.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use io_uring::{opcode, types};

use crate::config::InterfaceName;
use crate::io::buffers::{Arena, Size};
use crate::io::provided::{GROUP, ProvidedBuffers};
use crate::io::ring::{Files, Ring, RingError};
use crate::io::tap::{Tap, TapError};
use crate::io::token::Token;
use crate::io::{memory, sys, uplink_socket};
use crate::proto::tunnel::Role;

/// How long a datagram that is there may take to be received.
const PATIENCE: Duration = Duration::from_secs(1);
/// The longest frame that buffers are tried for, in bytes.
const FRAME_LENGTH: usize = 1514;

/// The packet buffers, as far as they can be registered.
#[derive(Debug)]
pub struct LockableMemory {
    /// What an end of one tunnel registers, in bytes.
    pub needed: u64,
    /// RLIMIT_MEMLOCK, in bytes; none if there is no limit.
    pub limit: Option<u64>,
    /// Why it cannot be registered, if so.
    pub refused: Option<io::Error>,
}

/// An io_uring that has what it takes.
#[derive(Debug)]
pub struct RingFacts {
    /// Whether completions are worked off only when the ring asks for them (DEFER_TASKRUN).
    pub defers_completions: bool,
    /// Its packet buffers.
    pub memory: LockableMemory,
}

/// Sets a ring up as an end does, and has it receive a datagram into a buffer that the kernel picks.
///
/// # Errors
/// Why not, and what to do.
pub fn ring() -> Result<RingFacts, RingError> {
    let mut ring = Ring::new()?;
    let _files = Files::register(&ring)?;
    let arena = memory::arena(1, FRAME_LENGTH, Size::Large, Size::Large)
        .map_err(|error| RingError::advise("map the packet buffers", &error))?;
    let memory = lockable(&ring, &arena);
    let mut provided = ProvidedBuffers::register(&ring, &arena, Size::Large)?;
    ring.start()?;
    provided.fill(memory::SLOTS_RESERVED);
    let received = receive_one(&mut ring);
    // Before the buffers go.
    ring.cancel_all();
    received.map_err(|error| RingError::advise("receive by a multishot RECVMSG", &error))?;
    Ok(RingFacts { defers_completions: ring.defers_completions(), memory })
}

fn lockable(ring: &Ring, arena: &Arena) -> LockableMemory {
    let memory = arena.memory();
    let whole = libc::iovec { iov_base: memory.base().as_ptr().cast(), iov_len: memory.length() };
    // SAFETY: The kernel is to read or write there only by operations that say so, of which there are none; it lets go of
    // the memory with the next call.
    let registered = unsafe { ring.submitter().register_buffers(&[whole]) };
    if registered.is_ok() {
        // It would go with the ring.
        let _ = ring.submitter().unregister_buffers();
    }
    LockableMemory { needed: memory.length() as u64, limit: memory_limit(), refused: registered.err() }
}

fn memory_limit() -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: The kernel writes one rlimit to `limit`.
    let result = unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit) };
    (result == 0 && limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur)
}

fn receive_one(ring: &mut Ring) -> io::Result<()> {
    let (near, far) = UnixDatagram::pair()?;
    far.send(b"datagram")?;
    // SAFETY: A msghdr is numbers and pointers, for which zero is a value: it asks for neither an address nor control
    // messages.
    let message: libc::msghdr = unsafe { std::mem::zeroed() };
    let receive = opcode::RecvMsgMulti::new(types::Fd(near.as_raw_fd()), &raw const message, GROUP);
    let entry = receive.build().user_data(Token::Cancel.pack());
    // SAFETY: `message` is read while the operation is submitted, which the wait below does; what is received goes to the
    // arena, which outlives the ring's operations, since the caller cancels all.
    unsafe { ring.push(&entry) }?;
    ring.submit_and_wait(PATIENCE)?;
    match ring.reap().map(|completion| completion.result()) {
        Some(0..) => Ok(()),
        Some(error) => Err(io::Error::from_raw_os_error(-error)),
        None => Err(io::Error::from_raw_os_error(libc::ETIME)),
    }
}

/// Why the kernel refuses an option of UDP sockets, if it does: UDP_SEGMENT or UDP_GRO (udp(7)).
#[must_use]
pub fn refused_offload(name: &str) -> Option<io::Error> {
    let option = if name == "UDP_SEGMENT" { libc::UDP_SEGMENT } else { libc::UDP_GRO };
    uplink_socket::probe_option(option).err()
}

/// Opens /dev/net/tun to read and to write.
///
/// # Errors
/// What open(2) says.
pub fn tun_device() -> io::Result<()> {
    OpenOptions::new().read(true).write(true).open("/dev/net/tun").map(drop)
}

/// A TAP that was made, and is gone again.
#[derive(Clone, Copy, Debug)]
pub struct ScratchTap {
    /// Whether it takes super-frames of TCP (IFF_VNET_HDR, TUNSETOFFLOAD).
    pub has_tcp: bool,
    /// Whether it takes those of UDP, too, which takes Linux 6.2.
    pub has_udp: bool,
    /// Whether reads from it can be tried without blocking, which takes Linux 6.4.
    pub is_nowait_capable: bool,
}

/// Makes a TAP of a name that nobody has, and removes it.
///
/// # Errors
/// Why not, and what to do.
pub fn scratch_tap() -> Result<ScratchTap, TapError> {
    // A process has its number to itself: at most 7 digits.
    let name = format!("braidtry{}", std::process::id());
    let name = InterfaceName::new(&name).map_err(|found| TapError { found, advice: None })?;
    let tap = Tap::open(&name, Role::Box, true)?;
    Ok(ScratchTap {
        has_tcp: tap.offloads.is_some_and(|kinds| kinds.tcp),
        has_udp: tap.offloads.is_some_and(|kinds| kinds.udp),
        is_nowait_capable: sys::nowait_capable(tap.as_fd()),
    })
}
