//! Several gateway processes share one UDP port, each with boxes of its own: the kernel hands every datagram to the
//! process that it is for.
//!
//! SO_REUSEPORT alone would spread datagrams by their addresses. A classic BPF program could go by their content, but
//! counts sockets in the order in which they were bound, which changes when a process restarts. So each process puts
//! its socket into a slot of its own in an eBPF map, which the others find by its name in the BPF file system, and an
//! eBPF program looks the slot up ([`program`]).
//!
//! Slots of processes that have ended, however that was, are empty. The last to leave takes the name away; if it is
//! killed, an empty map of a few hundred bytes stays under that name, which the next to come uses, or replaces if the
//! number of processes is another.

mod bpf;
mod folder;
mod program;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use socket2::{Domain, Protocol, Socket, Type};

pub use bpf::COMMANDS_AT_THE_END;
use bpf::SocketArray;
use folder::Folder;

use crate::config::Share;

/// Where the BPF file system is mounted on every system.
pub const BPF_FILE_SYSTEM: &str = "/sys/fs/bpf";

/// A step on the way, for an error to name.
#[derive(Clone, Copy, Debug)]
enum Doing {
    Mount,
    Folder,
    Map,
    Program,
    Attach,
    Join,
}

/// A step that failed, as one line with what to do.
#[derive(Debug)]
struct SteeringError(String);

impl fmt::Display for SteeringError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for SteeringError {}

/// This process's place among those that share a port, given up on drop; to be dropped with the socket.
#[derive(Debug)]
pub struct Steering {
    folder: Folder,
    name: String,
    sockets: SocketArray,
    slot: u32,
}

impl Steering {
    /// Binds a new UDP socket to `listen`, which the processes of `share` have in common, and takes this process's
    /// place. From then on it gets the datagrams that are for this process, and no others. `root` is where the BPF file
    /// system is, or is to be.
    ///
    /// # Errors
    /// EADDRINUSE if another process has the address for itself, or has this place; otherwise a line that says what
    /// could not be done, why, and what to do.
    pub fn join(socket: &Socket, listen: SocketAddr, share: Share, root: &Path) -> io::Result<Self> {
        socket.set_reuse_port(true)?;
        let folder = Folder::open(root)?;
        folder.lock().map_err(doing(Doing::Folder))?;
        let name = name(socket, listen)?;
        let (sockets, is_first) = meet(&folder, &name, listen, share.of)?;
        let program = bpf::load(&program::assemble(sockets.descriptor(), share.of)).map_err(doing(Doing::Program))?;
        bind(socket, listen, &program, is_first)?;
        let slot = share.index.into();
        sockets.put(slot, socket.as_fd()).map_err(|error| match error.raw_os_error() {
            Some(libc::EEXIST) => io::Error::from_raw_os_error(libc::EADDRINUSE),
            _ => doing(Doing::Join)(error),
        })?;
        folder.unlock().map_err(doing(Doing::Folder))?;
        Ok(Self { folder, name, sockets, slot })
    }
}

impl Drop for Steering {
    fn drop(&mut self) {
        // ENOENT: the socket was closed before, and has left the slot by itself.
        match self.sockets.clear(self.slot) {
            Err(error) if error.raw_os_error() != Some(libc::ENOENT) => {
                tracing::debug!("cannot give up this process's place at the shared port: {error}");
            }
            _ => {}
        }
        if let Err(error) = self.folder.tidy(&self.name, &self.sockets) {
            tracing::debug!("cannot remove the BPF map of the shared port: {error}");
        }
    }
}

/// Binds a socket that is steered by `program` from its first datagram on, so that it never gets what is for others.
fn bind(socket: &Socket, listen: SocketAddr, program: &OwnedFd, is_first: bool) -> io::Result<()> {
    if is_first {
        bpf::attach(socket.as_fd(), program).map_err(doing(Doing::Attach))?;
        return socket.bind(&listen.into());
    }
    // One that has a program cannot join those that have one. Theirs is the same, but they may have gone just now.
    socket.bind(&listen.into())?;
    bpf::attach(socket.as_fd(), program).map_err(doing(Doing::Attach))
}

/// What the map is called: the same for all that would share the address if they could. Ports of different network
/// namespaces are different. The BPF file system reserves dots.
fn name(socket: &Socket, listen: SocketAddr) -> io::Result<String> {
    let namespace = bpf::network_namespace(socket.as_fd()).map_err(doing(Doing::Map))?;
    Ok(format!("netns{namespace}-{listen}").replace('.', "_"))
}

/// The map that the others use, or one that waits for its first; and whether there are no others.
fn meet(folder: &Folder, name: &str, listen: SocketAddr, of: u8) -> io::Result<(SocketArray, bool)> {
    let slots = u32::from(of);
    let found = folder.sockets(name).map_err(doing(Doing::Map))?;
    let has_others = match &found {
        Some(found) => !found.is_vacant().map_err(doing(Doing::Map))?,
        None => false,
    };
    if !has_others {
        ensure_free(listen)?;
    }
    match found {
        Some(found) if found.slots() == slots => Ok((found, !has_others)),
        Some(found) if has_others => Err(disagree(found.slots(), slots)),
        _ => Ok((folder.renew(name, slots).map_err(doing(Doing::Map))?, true)),
    }
}

/// Whether the address is free, as it must be if there are no others. If not, they do not see the same BPF file system,
/// or are no gateways, and would take each other's datagrams.
fn ensure_free(listen: SocketAddr) -> io::Result<()> {
    let probe = Socket::new(Domain::for_address(listen), Type::DGRAM, Some(Protocol::UDP))?;
    if listen.is_ipv6() {
        probe.set_only_v6(false)?;
    }
    probe.bind(&listen.into())
}

fn disagree(theirs: u32, ours: u32) -> io::Error {
    io::Error::other(SteeringError(format!(
        "the processes that share the port now are {theirs}, not {ours}: give all the same number, or stop them first"
    )))
}

/// Puts what was being done, and advice, around an error.
fn doing(what: Doing) -> impl Fn(io::Error) -> io::Error {
    move |error| {
        let done = match what {
            Doing::Mount => format!("mount the BPF file system at {BPF_FILE_SYSTEM}"),
            Doing::Folder => format!("use the folder 'braid' in {BPF_FILE_SYSTEM}"),
            Doing::Map => "get the BPF map of the shared port".to_owned(),
            Doing::Program => "load a BPF program".to_owned(),
            Doing::Attach => "have a BPF program choose among processes".to_owned(),
            Doing::Join => "take this process's place among those that share the port".to_owned(),
        };
        io::Error::other(SteeringError(format!("cannot {done}: {error}: {}", advise(what, &error))))
    }
}

fn advise(what: Doing, error: &io::Error) -> &'static str {
    match (what, error.raw_os_error()) {
        (Doing::Mount, Some(libc::EPERM | libc::EACCES)) => "have it mounted at boot, as systemd does, or run as root",
        (Doing::Folder, Some(libc::EPERM | libc::EACCES)) => "make it, and give it to the user that runs the gateway",
        (Doing::Folder | Doing::Map, Some(libc::EROFS)) => "do not have it mounted read-only",
        (Doing::Mount, Some(libc::ENODEV | libc::ENOENT)) => "this kernel has no BPF: share no port, or use another",
        (_, Some(libc::EPERM | libc::EACCES)) => "grant CAP_BPF and CAP_NET_ADMIN, run as root, or share no port",
        (_, Some(libc::ENOSYS)) => "this kernel, or a sandbox, has no BPF: share no port, or allow bpf(2)",
        _ => "see the kernel's log",
    }
}

#[cfg(test)]
mod tests;
