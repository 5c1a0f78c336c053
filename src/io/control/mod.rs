//! The control socket: who is connected, what they have asked, and what they are still to be told.
//!
//! Packets come first. What is to be done for clients is done in small steps, one each time the reactor has handed everything
//! else to the kernel: a request is read, or one line of an answer written. No step waits for a client; one that does not read
//! its answers is told nothing more, and in the end hung up on.

mod client;
pub mod describe;
pub mod trace;

use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use slab::Slab;

use client::Client;
pub use client::{ClientId, Task};

use super::ring::Ring;
use super::sys;
use super::token::Token;
use crate::control::{Answer, Line};
use crate::proto::time::Instant;

/// Connections at a time; for one more that one makes room that has been still for longest.
const CLIENTS_MAX: usize = 16;

/// How long after connections could not be taken they are tried again.
const LISTEN_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// The socket, and its clients.
pub struct ControlSocket {
    listener: UnixListener,
    clients: Slab<Client>,
    /// Counts connections, so that what was meant for one is not taken for another's in the same place.
    generation: u16,
    /// Whose turn it was last.
    last: usize,
    /// When connections are taken again, after they could not be.
    listens_again_at: Option<Instant>,
}

/// Where a control socket is, made.
pub struct BoundSocket {
    listener: UnixListener,
    /// Where.
    pub path: PathBuf,
}

impl BoundSocket {
    /// Listens at `path`, for this user and root alone. One that was left behind is replaced.
    ///
    /// # Errors
    /// Why not, and what to do.
    pub fn new(path: &Path) -> Result<Self, String> {
        let explain = |error: io::Error| {
            let advice = match error.kind() {
                io::ErrorKind::AddrInUse => "another end has it: give this one another --control",
                io::ErrorKind::PermissionDenied => "run as root, or give a --control where this user may write",
                io::ErrorKind::NotFound => "make its folder first, or give another --control",
                _ => "give another --control, or off",
            };
            format!("cannot listen at {} (--control): {error}: {advice}", path.display())
        };
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.exists()) {
            fs::DirBuilder::new().mode(0o700).create(folder).map_err(explain)?;
        }
        let _private = sys::private_files();
        let listener = match UnixListener::bind(path) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_left_behind(path) => {
                fs::remove_file(path).and_then(|()| UnixListener::bind(path))
            }
            bound => bound,
        };
        let listener = listener.and_then(|listener| listener.set_nonblocking(true).map(|()| listener));
        // In a service's folder it is the service's, so that this may replace it one day.
        if let (Ok(_), Some(owner)) = (&listener, owner_of_folder(path)) {
            std::os::unix::fs::chown(path, Some(owner), None).map_err(explain)?;
        }
        Ok(Self { listener: listener.map_err(explain)?, path: path.to_owned() })
    }
}

/// Whose the folder of `path` is, if it is another's than this process's user.
pub fn owner_of_folder(path: &Path) -> Option<u32> {
    let owner = |path: &Path| fs::metadata(path).ok().map(|metadata| metadata.uid());
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty())?;
    owner(folder).filter(|of_folder| Some(*of_folder) != owner(Path::new("/proc/self")))
}

/// Whether it is a socket that nobody listens at any more.
fn is_left_behind(path: &Path) -> bool {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket());
    is_socket && UnixStream::connect(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

impl ControlSocket {
    /// With nobody connected.
    #[must_use]
    pub fn new(bound: BoundSocket) -> Self {
        Self {
            listener: bound.listener,
            clients: Slab::with_capacity(CLIENTS_MAX),
            generation: 0,
            last: 0,
            listens_again_at: None,
        }
    }

    /// Waits for somebody to connect.
    ///
    /// # Errors
    /// What io_uring_enter(2) says.
    pub fn watch(&self, ring: &mut Ring) -> io::Result<()> {
        super::poll(ring, self.listener.as_raw_fd(), libc::POLLIN, Token::ControlListen)
    }

    /// Somebody has connected.
    ///
    /// # Errors
    /// What io_uring_enter(2) says.
    pub fn on_connected(&mut self, now: Instant, ring: &mut Ring) -> io::Result<()> {
        for _ in 0..CLIENTS_MAX {
            match self.listener.accept() {
                Ok((stream, _)) => self.welcome(now, stream, ring)?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // Such as when there are too many open files: whoever waits is looked at again in a while.
                Err(_) => {
                    self.listens_again_at = Some(now + LISTEN_AGAIN_AFTER);
                    return Ok(());
                }
            }
        }
        self.watch(ring)
    }

    fn welcome(&mut self, now: Instant, stream: UnixStream, ring: &mut Ring) -> io::Result<()> {
        if self.clients.len() == CLIENTS_MAX
            && let Some(stillest) = self.clients.iter().min_by_key(|(_, client)| client.still_since()).map(|(id, _)| id)
        {
            self.hang_up(stillest, ring)?;
        }
        self.generation = self.generation.wrapping_add(1);
        let place = self.clients.insert(Client::new(now, stream, self.generation));
        self.clients[place].watch(place, ring)
    }

    /// A client has said something, or has room for more.
    ///
    /// # Errors
    /// What io_uring_enter(2) says.
    pub fn on_ready(&mut self, now: Instant, ring: &mut Ring, place: usize, generation: u16) -> io::Result<()> {
        let Some(client) = self.clients.get_mut(place).filter(|client| client.generation() == generation) else {
            return Ok(());
        };
        client.on_ready();
        if client.receive(now).is_err() {
            return self.hang_up(place, ring);
        }
        self.go_on(now, ring, place)
    }

    /// Sends a client what there is for it, and waits for what comes next.
    fn go_on(&mut self, now: Instant, ring: &mut Ring, place: usize) -> io::Result<()> {
        let client = &mut self.clients[place];
        if client.send(now).is_err() || client.is_over() {
            self.hang_up(place, ring)
        } else {
            client.watch(place, ring)
        }
    }

    fn hang_up(&mut self, place: usize, ring: &mut Ring) -> io::Result<()> {
        let client = self.clients.remove(place);
        client.unwatch(place, ring)
    }

    /// Whether a client waits for a step.
    #[must_use]
    pub fn has_work(&self) -> bool {
        self.clients.iter().any(|(_, client)| client.has_work())
    }

    /// When [`Self::on_tick`] has something to do.
    #[must_use]
    pub fn next_tick(&self) -> Option<Instant> {
        self.clients.iter().filter_map(|(_, client)| client.gives_up_at()).chain(self.listens_again_at).min()
    }

    /// Hangs up on clients that do not read, and listens again if it has stopped.
    ///
    /// # Errors
    /// What io_uring_enter(2) says.
    pub fn on_tick(&mut self, now: Instant, ring: &mut Ring) -> io::Result<()> {
        let hung =
            |(place, client): (usize, &Client)| client.gives_up_at().is_some_and(|at| at <= now).then_some(place);
        while let Some(place) = self.clients.iter().find_map(hung) {
            self.hang_up(place, ring)?;
        }
        if self.listens_again_at.take_if(|at| *at <= now).is_some() {
            self.watch(ring)?;
        }
        Ok(())
    }

    /// The next task of a client whose turn it is.
    pub fn next_task(&mut self) -> Option<(ClientId, Task)> {
        let capacity = self.clients.capacity().max(1);
        for step in 1..=capacity {
            let place = (self.last + step) % capacity;
            if let Some(client) = self.clients.get_mut(place)
                && let Some(task) = client.next_task()
            {
                self.last = place;
                return Some((ClientId { place, generation: client.generation() }, task));
            }
        }
        None
    }

    /// Tells a client a line, and what is to be done for it next, if anything.
    pub fn say(&mut self, id: ClientId, answer: Answer, then: Option<Task>) {
        if let Some(client) = self.client(id) {
            client.say(&Line::new(answer));
            client.set_task(then);
        }
    }

    /// What is to be done for a client next.
    pub fn set_task(&mut self, id: ClientId, task: Task) {
        if let Some(client) = self.client(id) {
            client.set_task(Some(task));
        }
    }

    /// Whether a client has taken all that it was told.
    #[must_use]
    pub fn is_ready(&self, id: ClientId) -> bool {
        self.find(id).is_some_and(Client::has_taken_all)
    }

    /// Whether a client that waits for nothing else is to be told something later.
    pub fn wait(&mut self, id: ClientId) {
        if let Some(client) = self.client(id) {
            client.set_waiting();
        }
    }

    /// Tells all that wait, and how it came out.
    pub fn say_to_waiting(&mut self, answer: &Answer) {
        for (_, client) in &mut self.clients {
            if client.take_waiting() {
                client.say(&Line::new(answer.clone()));
            }
        }
    }

    /// Room for what a client is told that is no line.
    pub fn outgoing(&mut self, id: ClientId) -> Option<&mut Vec<u8>> {
        self.client(id).map(Client::outgoing)
    }

    /// Whether a client is still there.
    #[must_use]
    pub fn has(&self, id: ClientId) -> bool {
        self.find(id).is_some()
    }

    fn find(&self, id: ClientId) -> Option<&Client> {
        self.clients.get(id.place).filter(|client| client.generation() == id.generation)
    }

    fn client(&mut self, id: ClientId) -> Option<&mut Client> {
        self.clients.get_mut(id.place).filter(|client| client.generation() == id.generation)
    }

    /// Sends what there is to be sent, and waits for what comes.
    ///
    /// # Errors
    /// What io_uring_enter(2) says.
    pub fn flush(&mut self, now: Instant, ring: &mut Ring) -> io::Result<()> {
        let places: Vec<usize> = self.clients.iter().map(|(place, _)| place).collect();
        places.into_iter().try_for_each(|place| self.go_on(now, ring, place))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_socket_is_its_owners_alone_and_one_left_behind_is_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("run").join("braid0.sock");
        let first = BoundSocket::new(&path).expect("made");
        let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().expect("a folder"))), (0o600, 0o700));
        let error = BoundSocket::new(&path).err().expect("taken");
        assert!(error.contains("another end has it"), "{error}");
        drop(first);
        BoundSocket::new(&path).expect("the old one is dead");
        fs::write(folder.path().join("file"), "mine").expect("written");
        assert!(BoundSocket::new(&folder.path().join("file")).is_err(), "no file is removed that is no socket");
    }
}
