//! The sending half.
//!
//! A send never waits: a socket without room is a full queue, and what was to go there is dropped and counted as such.
//! An uplink that cannot keep up must not hold up the others, and a frame sent late over a full queue is worth less
//! than the next one.
//!
//! Datagrams that go the same way, of one size but for a shorter last one, make up a run, which leaves in one send that
//! the kernel cuts up again as late as it can (UDP_SEGMENT, udp(7)). A run ends when the next datagram does not fit it,
//! and with the batch: nothing waits for company.

use std::io;

use io_uring::{opcode, types};
use slab::Slab;
use socket2::SockAddr;

use super::{Carried, Route, empty_message, file_place};
use crate::io::buffers::Lease;
use crate::io::buffers::gather::Gather;
use crate::io::control_message::ControlBuffer;
use crate::io::ring::Ring;
use crate::io::token::Token;
use crate::proto::stats::DropReason;
use crate::proto::uplink::UPLINKS_MAX;

/// The most sends in flight, each of one datagram or of a run.
pub const SENDS_MAX: usize = 1024;
/// The most datagrams in a run (the kernel's `UDP_MAX_SEGMENTS`, 64 until Linux 6.9 and 128 since).
const RUN_DATAGRAMS_MAX: usize = 64;
/// The most bytes in a run: one UDP datagram over IPv4 is what it must fit, whatever it is cut into.
const RUN_BYTES_MAX: usize = 65_535 - 20 - 8;
/// A datagram lies in two places at most.
const PLACES_MAX: usize = 2;

/// Where a socket that does not know by itself is to send, and from where.
pub type Destination<'a> = (&'a SockAddr, ControlBuffer);

/// A datagram to send: what lies in one place, and then what lies in another.
#[derive(Clone, Debug)]
pub struct Datagram {
    /// The headers; or everything.
    pub head: Lease,
    /// What follows.
    pub body: Option<Lease>,
}

impl Datagram {
    fn length(&self) -> usize {
        self.head.length() + self.body.as_ref().map_or(0, Lease::length)
    }
}

/// How sending went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// Nothing to say, or not yet.
    Fine,
    /// So many were dropped, which says nothing of the uplink.
    Dropped(DropReason, usize),
    /// So many of this length were dropped, since that is too long (EMSGSIZE).
    TooLong {
        /// Of each datagram, in bytes.
        length: usize,
        /// How many.
        count: usize,
    },
    /// The uplink cannot be used, says this errno; so many were dropped.
    Failed(i32, usize),
    /// What was refused as a run has gone datagram by datagram: this uplink's runs are over.
    RunsRefused(i32),
}

impl Sent {
    pub(super) const NO_UPLINK: Self = Self::Dropped(DropReason::NoUplink, 1);
}

/// All that the kernel reads while a send is in flight. Addresses point into the struct itself and into the gather's
/// own memory, which do not move: the slab that holds it never grows.
struct Send {
    /// `None` for an answer to somebody who is no uplink's peer yet, whose fate says nothing of any uplink.
    route: Option<Route>,
    socket: u8,
    gather: Gather,
    datagrams: usize,
    /// The length of each datagram but the last, which may be shorter.
    segment_size: usize,
    length: usize,
    /// The errno for which the run that it was part of was refused, if its own fate tells why.
    refused: Option<i32>,
    name: SockAddr,
    has_name: bool,
    source: ControlBuffer,
    control: ControlBuffer,
    message: libc::msghdr,
}

impl Send {
    fn push(&mut self, datagram: Datagram) {
        self.datagrams += 1;
        self.length += datagram.length();
        self.gather.push(datagram.head);
        if let Some(body) = datagram.body {
            self.gather.push(body);
        }
    }

    fn has_room_for(&self, length: usize) -> bool {
        length <= self.segment_size && self.length + length <= RUN_BYTES_MAX
    }

    /// Whether no other datagram can join.
    const fn is_complete(&self) -> bool {
        self.datagrams == RUN_DATAGRAMS_MAX || self.length < self.datagrams * self.segment_size
    }

    /// Spells it all out for the kernel; to be called where the send will stay.
    fn seal(&mut self) -> *const libc::msghdr {
        self.control = self.source;
        if self.datagrams > 1 {
            self.control.push_segment_size(self.segment_size as u16);
        }
        self.message = empty_message();
        self.message.msg_iov = self.gather.segments().as_ptr().cast_mut();
        self.message.msg_iovlen = self.gather.segments().len() as _;
        if self.has_name {
            self.message.msg_name = self.name.as_ptr().cast_mut().cast();
            self.message.msg_namelen = self.name.len();
        }
        if self.control.length() > 0 {
            self.message.msg_control = self.control.as_mut_ptr().cast();
            self.message.msg_controllen = self.control.length() as _;
        }
        &raw const self.message
    }

    /// Its datagrams, each by itself.
    fn each(&self) -> impl Iterator<Item = Datagram> + '_ {
        let mut leases = self.gather.leases().iter().cloned();
        let (mut left, size) = (self.length, self.segment_size);
        std::iter::from_fn(move || {
            let head = leases.next()?;
            let length = left.min(size);
            left -= length;
            let body = if head.length() < length { leases.next() } else { None };
            Some(Datagram { head, body })
        })
    }
}

/// All sends.
pub struct Sending {
    sends: Slab<Send>,
    spare: Vec<Gather>,
    /// The run of each route that still has room.
    runs: Box<[Option<u32>]>,
    /// The routes that have such a run.
    open_runs: Vec<Route>,
    /// The routes by which runs go.
    takes_runs: Box<[bool]>,
    gso: bool,
}

impl Sending {
    pub(super) fn new(tunnels: usize, gso: bool) -> Self {
        let routes = tunnels * UPLINKS_MAX;
        let places = PLACES_MAX * if gso { RUN_DATAGRAMS_MAX } else { 1 };
        Self {
            sends: Slab::with_capacity(SENDS_MAX),
            spare: (0..SENDS_MAX).map(|_| Gather::new(places, places)).collect(),
            runs: vec![None; routes].into(),
            open_runs: Vec::with_capacity(routes),
            takes_runs: vec![gso; routes].into(),
            gso,
        }
    }

    /// There is a new socket, which may take what the one before did not.
    pub(super) fn on_opened(&mut self, route: Route) {
        self.takes_runs[route.index()] = self.gso;
    }

    #[inline]
    pub(super) fn send<'a>(
        &mut self,
        ring: &mut Ring,
        route: Route,
        socket: u8,
        datagram: Datagram,
        destination: impl FnOnce() -> Option<Destination<'a>>,
    ) -> io::Result<Sent> {
        let length = datagram.length();
        if let Some(index) = self.runs[route.index()] {
            let run = &mut self.sends[index as usize];
            if run.has_room_for(length) {
                run.push(datagram);
                if run.is_complete() {
                    self.flush_run(ring, route)?;
                }
                return Ok(Sent::Fine);
            }
            self.flush_run(ring, route)?;
        }
        let Some(index) = self.begin(Some(route), socket, datagram, destination()) else {
            return Ok(Sent::Dropped(DropReason::NoBuffer, 1));
        };
        if self.takes_runs[route.index()] {
            self.runs[route.index()] = Some(index);
            self.open_runs.push(route);
        } else {
            self.push(ring, index)?;
        }
        Ok(Sent::Fine)
    }

    pub(super) fn answer(
        &mut self,
        ring: &mut Ring,
        socket: u8,
        datagram: Datagram,
        destination: Destination<'_>,
    ) -> io::Result<Sent> {
        let Some(index) = self.begin(None, socket, datagram, Some(destination)) else {
            return Ok(Sent::Dropped(DropReason::NoBuffer, 1));
        };
        self.push(ring, index)?;
        Ok(Sent::Fine)
    }

    fn begin(
        &mut self,
        route: Option<Route>,
        socket: u8,
        datagram: Datagram,
        destination: Option<Destination<'_>>,
    ) -> Option<u32> {
        let gather = self.spare.pop()?;
        let has_name = destination.is_some();
        let (name, source) = match destination {
            Some((name, source)) => (name.clone(), source),
            None => (SockAddr::from(UNUSED_ADDRESS), ControlBuffer::empty()),
        };
        let mut send = Send {
            route,
            socket,
            gather,
            datagrams: 0,
            segment_size: datagram.length(),
            length: 0,
            refused: None,
            name,
            has_name,
            source,
            control: ControlBuffer::empty(),
            message: empty_message(),
        };
        send.push(datagram);
        Some(self.sends.insert(send) as u32)
    }

    /// Sends all runs.
    pub(super) fn flush(&mut self, ring: &mut Ring) -> io::Result<()> {
        while let Some(route) = self.open_runs.last().copied() {
            self.flush_run(ring, route)?;
        }
        Ok(())
    }

    fn flush_run(&mut self, ring: &mut Ring, route: Route) -> io::Result<()> {
        self.open_runs.retain(|open| *open != route);
        match self.runs[route.index()].take() {
            Some(index) => self.push(ring, index),
            None => Ok(()),
        }
    }

    fn push(&mut self, ring: &mut Ring, index: u32) -> io::Result<()> {
        let send = &mut self.sends[index as usize];
        let file = types::Fixed(file_place(send.socket));
        let entry = opcode::SendMsg::new(file, send.seal())
            // Without it a full socket would have the send wait, and later ones overtake it.
            .flags(libc::MSG_DONTWAIT as u32)
            .build()
            .user_data(Token::Send { index }.pack());
        // SAFETY: Everything that the message points to is in `sends` (addresses do not change, its capacity is never
        // exceeded) and stays until the completion is reaped, the slots' bytes with it.
        unsafe { ring.push_immediate(&entry) }
    }

    pub(super) fn on_sent(
        &mut self,
        ring: &mut Ring,
        carried: &mut [Carried; UPLINKS_MAX],
        index: u32,
        result: i32,
    ) -> io::Result<(Option<Route>, Sent)> {
        let mut send = self.sends.remove(index as usize);
        if result >= 0 {
            carried[usize::from(send.socket)].add(send.datagrams, send.length);
        }
        let sent = match (-result, send.refused) {
            (..=0, None) => Sent::Fine,
            (..=0, Some(errno)) => self.on_run_refused(send.route, errno),
            (errno, _) if send.datagrams > 1 && is_refusal(errno) => self.send_each(ring, &send, errno)?,
            (libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM, _) => {
                Sent::Dropped(DropReason::UplinkQueueFull, send.datagrams)
            }
            (libc::EMSGSIZE, _) => Sent::TooLong { length: send.segment_size, count: send.datagrams },
            (libc::ECANCELED | libc::EINTR, _) => Sent::Dropped(DropReason::SendFailed, send.datagrams),
            (errno, _) if send.route.is_some() => Sent::Failed(errno, send.datagrams),
            // An address that nobody can be at, for one.
            _ => Sent::Dropped(DropReason::SendFailed, send.datagrams),
        };
        send.gather.clear();
        self.spare.push(send.gather);
        Ok((send.route, sent))
    }

    /// A run was refused: its datagrams go one by one. If those of the run's segment size are taken, it was for being a
    /// run; a shorter last one may fit where they do not, and says nothing.
    fn send_each(&mut self, ring: &mut Ring, run: &Send, errno: i32) -> io::Result<Sent> {
        let mut dropped = 0;
        for datagram in run.each() {
            let refused = (datagram.length() == run.segment_size).then_some(errno);
            let destination = run.has_name.then_some((&run.name, run.source));
            match self.begin(run.route, run.socket, datagram, destination) {
                Some(index) => {
                    self.sends[index as usize].refused = refused;
                    self.push(ring, index)?;
                }
                None => dropped += 1,
            }
        }
        Ok(if dropped > 0 { Sent::Dropped(DropReason::NoBuffer, dropped) } else { Sent::Fine })
    }

    fn on_run_refused(&mut self, route: Option<Route>, errno: i32) -> Sent {
        let takes_runs = route.map(|route| &mut self.takes_runs[route.index()]);
        if takes_runs.is_some_and(std::mem::take) { Sent::RunsRefused(errno) } else { Sent::Fine }
    }
}

/// Whether a run may have been refused for being one: EIO where the interface computes no checksums, EINVAL and EMSGSIZE
/// where its datagrams do not fit the interface's MTU (which the kernel says of single ones, too), or it is unheard of.
const fn is_refusal(errno: i32) -> bool {
    matches!(errno, libc::EIO | libc::EINVAL | libc::EMSGSIZE | libc::EOPNOTSUPP)
}

/// Stands where no address is used.
const UNUSED_ADDRESS: std::net::SocketAddrV4 = std::net::SocketAddrV4::new(std::net::Ipv4Addr::UNSPECIFIED, 0);
