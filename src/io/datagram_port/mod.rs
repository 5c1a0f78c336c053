//! Datagrams from and to the uplinks' sockets, by the ring.
//!
//! [`receive`]: each socket has one multishot receive, which takes slots from the provided buffers; with UDP_GRO one
//! slot may bring many datagrams. [`send`]: datagrams of one size for one uplink leave as one, with UDP_SEGMENT.

pub mod receive;
pub mod send;

use std::io;

use io_uring::cqueue;

use super::provided::ProvidedBuffers;
use super::ring::{Files, Ring};
use super::token::Token;
use crate::config::BOXES_MAX;
use crate::proto::uplink::{UPLINKS_MAX, UplinkId};
use receive::{Received, Receiving};
use send::{Datagram, Destination, Sending, Sent};

/// The first socket's place among the registered files, behind those of the TAPs.
const FILE_PLACE_FIRST: u32 = BOXES_MAX as u32;

/// A tunnel's uplink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The tunnel's number.
    pub tunnel: u8,
    /// Its uplink.
    pub uplink: UplinkId,
}

impl Route {
    /// Its place among the routes of all tunnels.
    #[inline]
    #[must_use]
    pub const fn index(self) -> usize {
        self.tunnel as usize * UPLINKS_MAX + self.uplink.index()
    }
}

/// Which sockets there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sockets {
    /// One per uplink, of the box's.
    PerUplink,
    /// One for all, which hears from many addresses.
    Shared,
}

/// What has gone through a socket, both ways together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    /// How many datagrams.
    pub datagrams: u64,
    /// Bytes in them, without their IP and UDP headers.
    pub bytes: u64,
}

impl Carried {
    #[inline]
    const fn add(&mut self, datagrams: usize, bytes: usize) {
        self.datagrams += datagrams as u64;
        self.bytes += bytes as u64;
    }
}

/// A place for a socket.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    open: bool,
    /// Whether a receive is under way.
    armed: bool,
    /// How many sockets have been here.
    generation: u16,
}

/// The sockets' side of the reactor.
pub struct DatagramPort {
    sockets: Sockets,
    places: [Place; UPLINKS_MAX],
    receiving: Receiving,
    sending: Sending,
    /// What has gone through the sockets that each place has had.
    carried: [Carried; UPLINKS_MAX],
}

impl DatagramPort {
    /// No socket yet, for so many tunnels. With `gso`, datagrams of one size leave together.
    #[must_use]
    pub fn new(sockets: Sockets, tunnels: usize, gso: bool) -> Self {
        Self {
            sockets,
            places: [Place::default(); UPLINKS_MAX],
            receiving: Receiving::new(),
            sending: Sending::new(tunnels, gso),
            carried: [Carried::default(); UPLINKS_MAX],
        }
    }

    /// Puts a socket in place number `socket`, instead of the one that may be there.
    ///
    /// # Errors
    /// What the kernel says of the registration.
    pub fn open(&mut self, ring: &mut Ring, files: &mut Files, socket: u8, descriptor: i32) -> io::Result<()> {
        self.close(ring, files, socket)?;
        files.set(ring, file_place(socket), descriptor)?;
        let place = &mut self.places[usize::from(socket)];
        *place = Place { open: true, armed: false, generation: place.generation.wrapping_add(1) };
        if let (Sockets::PerUplink, Some(uplink)) = (self.sockets, UplinkId::new(socket)) {
            self.sending.on_opened(Route { tunnel: 0, uplink });
        }
        Ok(())
    }

    /// Takes the socket in place number `socket` away.
    ///
    /// # Errors
    /// What the kernel says of the registration.
    pub fn close(&mut self, ring: &mut Ring, files: &mut Files, socket: u8) -> io::Result<()> {
        let place = &mut self.places[usize::from(socket)];
        place.open = false;
        if std::mem::take(&mut place.armed) {
            ring.cancel(Token::Receive { socket, generation: place.generation })?;
        }
        files.clear(ring, file_place(socket))
    }

    /// Arms every receive that has ended.
    ///
    /// # Errors
    /// What io_uring_enter(2) says.
    pub fn arm(&mut self, ring: &mut Ring, provided: &ProvidedBuffers) -> io::Result<()> {
        if !provided.has_some() {
            return Ok(());
        }
        for (socket, place) in self.places.iter_mut().enumerate() {
            if place.open && !place.armed {
                place.armed = true;
                self.receiving.arm(ring, socket as u8, place.generation)?;
            }
        }
        Ok(())
    }

    /// A receive has completed.
    pub fn on_received(
        &mut self,
        provided: &mut ProvidedBuffers,
        socket: u8,
        generation: u16,
        entry: &cqueue::Entry,
    ) -> Received {
        let place = &mut self.places[usize::from(socket)];
        let is_current = place.generation == generation;
        if is_current && !cqueue::more(entry.flags()) {
            place.armed = false;
        }
        let buffer = cqueue::buffer_select(entry.flags());
        match (usize::try_from(entry.result()), buffer) {
            (Ok(length), Some(id)) => {
                let room = provided.take_back(id, length);
                if !is_current {
                    return Received::Ended;
                }
                let received = self.receiving.unwrap(room);
                if let Received::Datagrams(datagrams) = &received {
                    self.carried[usize::from(socket)].add(datagrams.count(), datagrams.length());
                }
                received
            }
            (Ok(_), None) => Received::Ended,
            // ENOBUFS: all buffers were in use. It is flow control: armed again when there are some.
            (Err(_), _) if !is_current => Received::Ended,
            (Err(_), _) => match -entry.result() {
                libc::ENOBUFS | libc::EINTR | libc::EAGAIN | libc::ECANCELED => Received::Ended,
                errno => Received::Failed(errno),
            },
        }
    }

    /// Takes a datagram to send by `route`. It leaves with the others that go the same way, at the latest at the next
    /// [`Self::flush`].
    ///
    /// # Errors
    /// What io_uring_enter(2) says.
    #[inline]
    pub fn send<'a>(
        &mut self,
        ring: &mut Ring,
        route: Route,
        datagram: Datagram,
        destination: impl FnOnce() -> Option<Destination<'a>>,
    ) -> io::Result<Sent> {
        let socket = self.socket_of(route.uplink);
        if !self.places[usize::from(socket)].open {
            return Ok(Sent::NO_UPLINK);
        }
        self.sending.send(ring, route, socket, datagram, destination)
    }

    /// Sends a datagram to somebody who is no uplink's peer yet, at once.
    ///
    /// # Errors
    /// What io_uring_enter(2) says.
    pub fn answer(&mut self, ring: &mut Ring, datagram: Datagram, destination: Destination<'_>) -> io::Result<Sent> {
        assert_eq!(self.sockets, Sockets::Shared, "an uplink's socket speaks to the gateway only");
        self.sending.answer(ring, 0, datagram, destination)
    }

    /// Sends all that was taken.
    ///
    /// # Errors
    /// What io_uring_enter(2) says.
    pub fn flush(&mut self, ring: &mut Ring) -> io::Result<()> {
        self.sending.flush(ring)
    }

    /// A send has completed with `result`. Tells also by which route, if by one.
    ///
    /// # Errors
    /// What io_uring_enter(2) says.
    pub fn on_sent(&mut self, ring: &mut Ring, index: u32, result: i32) -> io::Result<(Option<Route>, Sent)> {
        self.sending.on_sent(ring, &mut self.carried, index, result)
    }

    /// What has gone through the sockets in place number `socket`, up to now.
    #[must_use]
    pub const fn carried(&self, socket: u8) -> Carried {
        self.carried[socket as usize]
    }

    const fn socket_of(&self, uplink: UplinkId) -> u8 {
        match self.sockets {
            Sockets::PerUplink => uplink.number(),
            Sockets::Shared => 0,
        }
    }
}

const fn file_place(socket: u8) -> u32 {
    FILE_PLACE_FIRST + socket as u32
}

const fn empty_message() -> libc::msghdr {
    // SAFETY: All fields of msghdr are numbers and pointers, for which zero is a value: no name, no segments, no
    // control messages.
    unsafe { std::mem::zeroed() }
}
