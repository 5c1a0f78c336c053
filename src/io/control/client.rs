//! One connection to the control socket.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::control::{Answer, Command, Line, REQUEST_LENGTH_MAX, Request, VERSION};
use crate::io::ring::Ring;
use crate::io::sys;
use crate::io::token::Token;
use crate::proto::time::Instant;

/// For so long a client may read nothing of what it is told.
const PATIENCE: Duration = Duration::from_secs(10);
/// So many bytes are sent at once.
const SEND_MAX: usize = 64 << 10;

/// Which client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientId {
    pub(super) place: usize,
    pub(super) generation: u16,
}

/// What is to be done for a client, a step at a time.
#[derive(Clone, Debug, PartialEq)]
pub enum Task {
    /// Look at what it asks.
    Request(Request),
    /// Tell how tunnels are: those from the first number up to the second.
    Statuses(usize, usize),
    /// Tell histograms: those from the first number on, of the tunnels from the second number up to the third.
    Histograms(usize, usize, usize),
    /// Tell events: those after this number.
    Events(u64),
    /// Tell it this, and no more.
    Finish(Answer),
}

/// A connection.
pub struct Client {
    stream: UnixStream,
    generation: u16,
    incoming: Vec<u8>,
    outgoing: VecDeque<u8>,
    staged: Vec<u8>,
    task: Option<Task>,
    /// Whether it waits for the attendant.
    is_waiting: bool,
    /// Whether it will say no more.
    has_ended: bool,
    /// What the ring waits for, of its socket.
    watched: libc::c_short,
    /// When it last said something, or took something.
    still_since: Instant,
}

impl Client {
    pub(super) fn new(now: Instant, stream: UnixStream, generation: u16) -> Self {
        Self {
            stream,
            generation,
            incoming: vec![],
            outgoing: VecDeque::new(),
            staged: vec![],
            task: None,
            is_waiting: false,
            has_ended: false,
            watched: 0,
            still_since: now,
        }
    }

    pub(super) const fn generation(&self) -> u16 {
        self.generation
    }

    pub(super) const fn still_since(&self) -> Instant {
        self.still_since
    }

    /// When it has gone too long without reading.
    pub(super) fn gives_up_at(&self) -> Option<Instant> {
        (!self.outgoing.is_empty()).then(|| self.still_since + PATIENCE)
    }

    /// Has the ring wait for what it says next, or until it has room for more.
    pub(super) fn watch(&mut self, place: usize, ring: &mut Ring) -> io::Result<()> {
        let wanted = if !self.outgoing.is_empty() {
            libc::POLLOUT
        } else if self.has_ended || self.incoming.len() > REQUEST_LENGTH_MAX {
            0
        } else {
            libc::POLLIN
        };
        if self.watched == wanted {
            return Ok(());
        }
        if self.watched != 0 {
            ring.cancel(self.token(place))?;
        }
        self.watched = wanted;
        if wanted == 0 {
            return Ok(());
        }
        crate::io::poll(ring, self.stream.as_raw_fd(), wanted, self.token(place))
    }

    pub(super) fn unwatch(&self, place: usize, ring: &mut Ring) -> io::Result<()> {
        // Its socket stays open for as long as the ring waits for it.
        if self.watched == 0 { Ok(()) } else { ring.cancel(self.token(place)) }
    }

    const fn token(&self, place: usize) -> Token {
        Token::Control { client: place as u8, generation: self.generation }
    }

    pub(super) const fn on_ready(&mut self) {
        self.watched = 0;
    }

    /// Takes what it has said.
    ///
    /// # Errors
    /// If it is gone, or says more than anybody who means well.
    pub(super) fn receive(&mut self, now: Instant) -> io::Result<()> {
        let mut bytes = [0; 4096];
        while self.incoming.len() <= REQUEST_LENGTH_MAX {
            match sys::receive_now(&self.stream, &mut bytes) {
                Ok(0) => {
                    self.has_ended = true;
                    return Ok(());
                }
                Ok(length) => {
                    self.still_since = now;
                    self.incoming.extend_from_slice(&bytes[..length]);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        if self.incoming.contains(&b'\n') { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
    }

    /// Whether it will say no more, and has been told all that it has asked for.
    pub(super) fn is_over(&self) -> bool {
        self.has_ended && self.has_taken_all() && !self.is_waiting && !self.has_work()
    }

    /// Whether it has taken all that it was told.
    pub(super) fn has_taken_all(&self) -> bool {
        self.outgoing.is_empty() && self.staged.is_empty()
    }

    /// Whether a step can be done for it: it has taken all that it was told, and there is something to do.
    pub(super) fn has_work(&self) -> bool {
        self.outgoing.is_empty() && !self.is_waiting && (self.task.is_some() || self.incoming.contains(&b'\n'))
    }

    /// What is to be done for it next.
    pub(super) fn next_task(&mut self) -> Option<Task> {
        if !self.has_work() {
            return None;
        }
        self.task.take().or_else(|| self.next_request())
    }

    fn next_request(&mut self) -> Option<Task> {
        let end = self.incoming.iter().position(|byte| *byte == b'\n')?;
        let line: Vec<u8> = self.incoming.drain(..=end).collect();
        if line.len() > REQUEST_LENGTH_MAX {
            return Some(Task::Finish(Answer::Error(format!("a request is longer than {REQUEST_LENGTH_MAX} bytes"))));
        }
        Some(match serde_json::from_slice::<Request>(&line) {
            Ok(Request { version, .. }) if version != VERSION => Task::Finish(Answer::Error(format!(
                "version {version} of the control socket is not spoken here, but {VERSION}: use a braidctl of this release"
            ))),
            Ok(request) => Task::Request(request),
            Err(error) => Task::Finish(Answer::Error(format!("not a request that is known here: {error}"))),
        })
    }

    pub(super) fn set_task(&mut self, task: Option<Task>) {
        self.task = task;
    }

    pub(super) const fn set_waiting(&mut self) {
        self.is_waiting = true;
    }

    pub(super) const fn take_waiting(&mut self) -> bool {
        std::mem::replace(&mut self.is_waiting, false)
    }

    pub(super) fn say(&mut self, line: &Line) {
        if serde_json::to_writer(&mut self.staged, line).is_ok() {
            self.staged.push(b'\n');
        }
    }

    /// Bytes to be sent that are no lines.
    pub(super) const fn outgoing(&mut self) -> &mut Vec<u8> {
        &mut self.staged
    }

    /// Sends what there is, as far as there is room.
    ///
    /// # Errors
    /// If it has hung up.
    pub(super) fn send(&mut self, now: Instant) -> io::Result<()> {
        if self.outgoing.is_empty() && !self.staged.is_empty() {
            // What it has not read counts from now.
            self.still_since = now;
        }
        self.outgoing.extend(self.staged.drain(..));
        let (first, _) = self.outgoing.as_slices();
        if first.is_empty() {
            return Ok(());
        }
        match sys::send_now(&self.stream, &first[..first.len().min(SEND_MAX)]) {
            Ok(sent) => {
                self.still_since = now;
                self.outgoing.drain(..sent);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
        }
    }
}

impl Task {
    /// Whether a command changes something, and so must be about one tunnel.
    #[must_use]
    pub const fn changes(command: &Command) -> bool {
        matches!(
            command,
            Command::Mode { .. }
                | Command::Window { .. }
                | Command::UplinkAdd { .. }
                | Command::UplinkRemove { .. }
                | Command::UplinkSet { .. }
        )
    }
}
