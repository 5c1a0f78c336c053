//! bpf(2), as much of it as steering needs. Numbers and layouts are those of linux/bpf.h.

use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::program::Instruction;

/// Commands of bpf(2).
mod command {
    pub const MAP_CREATE: u32 = 0;
    pub const MAP_LOOKUP_ELEM: u32 = 1;
    pub const MAP_UPDATE_ELEM: u32 = 2;
    pub const MAP_DELETE_ELEM: u32 = 3;
    pub const PROG_LOAD: u32 = 5;
    pub const OBJ_PIN: u32 = 6;
    pub const OBJ_GET: u32 = 7;
    pub const OBJ_GET_INFO_BY_FD: u32 = 15;
}

/// What is done to a map that is in use already; the system-call filter lets it through.
pub const COMMANDS_AT_THE_END: [u32; 2] = [command::MAP_LOOKUP_ELEM, command::MAP_DELETE_ELEM];

const MAP_TYPE_REUSEPORT_SOCKARRAY: u32 = 20;
const PROG_TYPE_SK_REUSEPORT: u32 = 21;
/// BPF_NOEXIST: no element is replaced.
const ONLY_IF_EMPTY: u64 = 1;
/// Neither helper that the program calls asks for the GPL.
const LICENSE: &CStr = c"Apache-2.0";

#[repr(C)]
struct MapCreate {
    kind: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
}

#[repr(C)]
struct MapElement {
    map: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
struct ProgramLoad {
    kind: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
}

#[repr(C)]
struct ObjectPath {
    path: u64,
    object: u32,
    flags: u32,
}

#[repr(C)]
struct ObjectInfo {
    object: u32,
    length: u32,
    info: u64,
}

/// The beginning of `struct bpf_map_info`.
#[repr(C)]
#[derive(Default)]
struct MapInfo {
    kind: u32,
    id: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
}

/// The sockets that share a port, by number: a BPF_MAP_TYPE_REUSEPORT_SOCKARRAY. A socket that is closed leaves its
/// slot by itself, however its process has ended.
#[derive(Debug)]
pub struct SocketArray {
    map: OwnedFd,
    slots: u32,
}

impl SocketArray {
    /// A new one with so many slots, all empty.
    ///
    /// # Errors
    /// What bpf(2) says.
    pub fn new(slots: u32) -> io::Result<Self> {
        // Values of 8 bytes are sockets' numbers when they are read; those of 4 could not be read.
        let mut create =
            MapCreate { kind: MAP_TYPE_REUSEPORT_SOCKARRAY, key_size: 4, value_size: 8, max_entries: slots };
        Ok(Self { map: object(bpf(command::MAP_CREATE, &mut create)?), slots })
    }

    /// The one that was pinned at `path`.
    ///
    /// # Errors
    /// What bpf(2) says: ENOENT if there is none; EINVAL if it is something else.
    pub fn open(path: &CStr) -> io::Result<Self> {
        let mut get = ObjectPath { path: path.as_ptr() as u64, object: 0, flags: 0 };
        let map = object(bpf(command::OBJ_GET, &mut get)?);
        let mut info = MapInfo::default();
        let length = size_of::<MapInfo>() as u32;
        let mut ask = ObjectInfo { object: number(&map), length, info: (&raw mut info) as u64 };
        bpf(command::OBJ_GET_INFO_BY_FD, &mut ask)?;
        if (info.kind, info.key_size, info.value_size) != (MAP_TYPE_REUSEPORT_SOCKARRAY, 4, 8) {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        Ok(Self { map, slots: info.max_entries })
    }

    /// Has it stay at `path`, for others to open.
    ///
    /// # Errors
    /// What bpf(2) says.
    pub fn pin(&self, path: &CStr) -> io::Result<()> {
        let mut pin = ObjectPath { path: path.as_ptr() as u64, object: number(&self.map), flags: 0 };
        bpf(command::OBJ_PIN, &mut pin).map(drop)
    }

    /// How many slots there are.
    pub const fn slots(&self) -> u32 {
        self.slots
    }

    /// Whether no slot has a socket.
    ///
    /// # Errors
    /// What bpf(2) says.
    pub fn is_vacant(&self) -> io::Result<bool> {
        for slot in 0..self.slots {
            let mut value = 0_u64;
            match self.element(command::MAP_LOOKUP_ELEM, slot, (&raw mut value) as u64, 0) {
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
                Ok(()) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Puts a bound socket, with SO_REUSEPORT, into an empty slot.
    ///
    /// # Errors
    /// What bpf(2) says: EEXIST if the slot has one.
    pub fn put(&self, slot: u32, socket: BorrowedFd<'_>) -> io::Result<()> {
        let value = socket.as_raw_fd() as u64;
        self.element(command::MAP_UPDATE_ELEM, slot, (&raw const value) as u64, ONLY_IF_EMPTY)
    }

    /// Empties a slot.
    ///
    /// # Errors
    /// What bpf(2) says: ENOENT if it is empty.
    pub fn clear(&self, slot: u32) -> io::Result<()> {
        self.element(command::MAP_DELETE_ELEM, slot, 0, 0)
    }

    /// The number by which a program that is to be loaded names it.
    pub fn descriptor(&self) -> i32 {
        self.map.as_raw_fd()
    }

    /// `value` is the address of 8 bytes, which the caller keeps for as long as the call takes, or 0.
    fn element(&self, command: u32, slot: u32, value: u64, flags: u64) -> io::Result<()> {
        let key = (&raw const slot) as u64;
        let mut element = MapElement { map: number(&self.map), padding: 0, key, value, flags };
        bpf(command, &mut element).map(drop)
    }
}

/// Loads a program that chooses among the sockets that share a port.
///
/// # Errors
/// What bpf(2) says.
pub fn load(instructions: &[Instruction]) -> io::Result<OwnedFd> {
    let mut load = ProgramLoad {
        kind: PROG_TYPE_SK_REUSEPORT,
        instruction_count: instructions.len() as u32,
        instructions: instructions.as_ptr() as u64,
        license: LICENSE.as_ptr() as u64,
    };
    bpf(command::PROG_LOAD, &mut load).map(object)
}

/// Has the program choose for all sockets that share a port with this one, which must have SO_REUSEPORT.
///
/// # Errors
/// What setsockopt(2) says.
pub fn attach(socket: BorrowedFd<'_>, program: &OwnedFd) -> io::Result<()> {
    let program = program.as_raw_fd();
    let length = size_of::<libc::c_int>() as u32;
    let (level, option) = (libc::SOL_SOCKET, libc::SO_ATTACH_REUSEPORT_EBPF);
    // SAFETY: The kernel reads one int from `program`, which outlives the call.
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const program).cast(), length) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// What tells the network namespace of a socket from all others since the machine was started.
///
/// # Errors
/// What getsockopt(2) says.
pub fn network_namespace(socket: BorrowedFd<'_>) -> io::Result<u64> {
    let mut cookie = MaybeUninit::<u64>::zeroed();
    let mut length = size_of::<u64>() as u32;
    let (level, option) = (libc::SOL_SOCKET, libc::SO_NETNS_COOKIE);
    // SAFETY: The kernel writes at most `length` bytes to `cookie`, which has as many.
    let result =
        unsafe { libc::getsockopt(socket.as_raw_fd(), level, option, cookie.as_mut_ptr().cast(), &raw mut length) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: It was zeroed, and any bytes are a number.
    Ok(unsafe { cookie.assume_init() })
}

fn number(object: &OwnedFd) -> u32 {
    object.as_raw_fd() as u32
}

/// Owns what a command has returned as a new object.
fn object(descriptor: i32) -> OwnedFd {
    // SAFETY: bpf(2) has just made the descriptor for us, and nobody else has it.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}

/// `attributes` must be what the command takes, and what it points to must outlive the call.
fn bpf<T>(command: u32, attributes: &mut T) -> io::Result<i32> {
    // SAFETY: The kernel reads as many bytes as the attributes have, and what each points to is the caller's, who lends
    // it for the call.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<T>() as u32) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}
