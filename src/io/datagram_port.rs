//! Datagrams from and to the uplinks' sockets, by the ring.
//!
//! Each socket has one multishot receive, which takes slots from the provided buffers. Sends are single, and never
//! wait: a socket without room is a full queue, and its frame is dropped and counted as such. An uplink that cannot
//! keep up must not hold up the others, and a frame sent late over a full queue is worth less than the next one.

use std::io;

use io_uring::{cqueue, opcode, types};
use slab::Slab;
use socket2::SockAddr;

use super::buffers::Lease;
use super::provided::{self, ProvidedBuffers};
use super::ring::{Files, Ring};
use super::token::Token;
use super::uplink_socket::{ControlBuffer, local_address_from_control, socket_address_from_name};
use crate::proto::stats::DropReason;
use crate::proto::tunnel::{Path, Payload};
use crate::proto::uplink::{UPLINKS_MAX, UplinkId};

/// The most sends in flight.
pub const SENDS_MAX: usize = 1024;
/// The first socket's place among the registered files.
const FILE_PLACE_FIRST: u32 = 1;

/// Bytes that a multishot receive puts before the datagram: its own header, the sender's address, control messages.
const RECEIVE_HEADER_LENGTH: usize = 16;
const RECEIVE_NAME_LENGTH: usize = size_of::<libc::sockaddr_in6>();
const RECEIVE_CONTROL_LENGTH: usize = 64;

/// The most that a receive puts before the datagram.
pub const RECEIVE_PREFIX_MAX: usize = RECEIVE_HEADER_LENGTH + RECEIVE_NAME_LENGTH + RECEIVE_CONTROL_LENGTH;

/// Which sockets there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sockets {
    /// One per uplink, connected to the gateway.
    PerUplink,
    /// One for all, which hears from many addresses.
    Shared,
}

/// What a receive brought.
#[derive(Debug)]
pub enum Received {
    /// A datagram; where it is from, if the socket is shared.
    Datagram(Lease, Option<Path>),
    /// A datagram that is no use.
    Dropped(DropReason),
    /// Nothing: the receive has ended and will be armed again.
    Ended,
    /// The socket has an error to tell.
    Failed(i32),
}

/// How a send ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// The kernel has taken it.
    Taken,
    /// It was dropped, which says nothing of the uplink.
    Dropped(DropReason),
    /// The uplink cannot be used, says this errno.
    Failed(i32),
}

/// A socket's receive.
#[derive(Clone, Copy, Debug, Default)]
struct Receive {
    open: bool,
    armed: bool,
    generation: u16,
}

/// All that the kernel reads while a send is in flight. Addresses point into the struct itself, which does not move:
/// the slab that holds it never grows.
struct Send {
    lease: Lease,
    segment: libc::iovec,
    name: SockAddr,
    control: ControlBuffer,
    message: libc::msghdr,
}

/// The sockets' side of the reactor.
pub struct DatagramPort {
    sockets: Sockets,
    receives: [Receive; UPLINKS_MAX],
    /// What a receive wants to be told: lengths only, no addresses.
    receive_message: Box<libc::msghdr>,
    sends: Slab<Send>,
}

impl DatagramPort {
    /// No socket yet.
    #[must_use]
    pub fn new(sockets: Sockets) -> Self {
        let mut receive_message = Box::new(empty_message());
        if sockets == Sockets::Shared {
            receive_message.msg_namelen = RECEIVE_NAME_LENGTH as u32;
            receive_message.msg_controllen = RECEIVE_CONTROL_LENGTH as _;
        }
        Self {
            sockets,
            receives: [Receive::default(); UPLINKS_MAX],
            receive_message,
            sends: Slab::with_capacity(SENDS_MAX),
        }
    }

    /// Puts a socket in place number `socket`, instead of the one that may be there.
    ///
    /// # Errors
    /// What the kernel says of the registration.
    pub fn open(&mut self, ring: &mut Ring, files: &mut Files, socket: u8, descriptor: i32) -> io::Result<()> {
        self.close(ring, files, socket)?;
        files.set(ring, FILE_PLACE_FIRST + u32::from(socket), descriptor)?;
        let receive = &mut self.receives[usize::from(socket)];
        *receive = Receive { open: true, armed: false, generation: receive.generation.wrapping_add(1) };
        Ok(())
    }

    /// Takes the socket in place number `socket` away.
    ///
    /// # Errors
    /// What the kernel says of the registration.
    pub fn close(&mut self, ring: &mut Ring, files: &mut Files, socket: u8) -> io::Result<()> {
        let receive = &mut self.receives[usize::from(socket)];
        receive.open = false;
        if std::mem::take(&mut receive.armed) {
            ring.cancel(Token::Receive { socket, generation: receive.generation })?;
        }
        files.clear(ring, FILE_PLACE_FIRST + u32::from(socket))
    }

    /// Arms every receive that has ended.
    ///
    /// # Errors
    /// What io_uring_enter(2) says.
    pub fn arm(&mut self, ring: &mut Ring, provided: &ProvidedBuffers) -> io::Result<()> {
        if !provided.has_some() {
            return Ok(());
        }
        for (socket, receive) in self.receives.iter_mut().enumerate() {
            if receive.open && !receive.armed {
                receive.armed = true;
                let token = Token::Receive { socket: socket as u8, generation: receive.generation };
                let file = types::Fixed(FILE_PLACE_FIRST + socket as u32);
                let entry = opcode::RecvMsgMulti::new(file, &raw const *self.receive_message, provided::GROUP)
                    .build()
                    .user_data(token.pack());
                // SAFETY: The message is boxed and lives as long as `self`; the buffers are the arena's. Both outlive
                // the ring's operations (see the reactor's drop).
                unsafe { ring.push(&entry)? };
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
        let receive = &mut self.receives[usize::from(socket)];
        let is_current = receive.generation == generation;
        if is_current && !cqueue::more(entry.flags()) {
            receive.armed = false;
        }
        let buffer = cqueue::buffer_select(entry.flags());
        match (usize::try_from(entry.result()), buffer) {
            (Ok(length), Some(id)) => {
                let lease = provided.take_back(id, 0, length);
                if is_current { self.unwrap(lease) } else { Received::Ended }
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

    /// Takes a datagram out of what the kernel has wrapped around it.
    fn unwrap(&self, mut lease: Lease) -> Received {
        let Ok(out) = types::RecvMsgOut::parse(lease.bytes(), &self.receive_message) else {
            return Received::Dropped(DropReason::Truncated);
        };
        if out.flags() & libc::MSG_TRUNC as u32 != 0 {
            return Received::Dropped(DropReason::Oversize);
        }
        let path = match self.sockets {
            Sockets::PerUplink => None,
            Sockets::Shared => {
                let Some(remote) = socket_address_from_name(out.name_data()) else {
                    return Received::Dropped(DropReason::UnknownSource);
                };
                Some(Path { remote, local: local_address_from_control(out.control_data()) })
            }
        };
        let before_payload = lease.length() - out.payload_data().len();
        lease.advance(before_payload);
        Received::Datagram(lease, path)
    }

    /// Sends `lease` by `uplink`, to `destination` if the socket is shared.
    ///
    /// # Errors
    /// What io_uring_enter(2) says.
    pub fn send(
        &mut self,
        ring: &mut Ring,
        uplink: UplinkId,
        lease: Lease,
        destination: Option<(&SockAddr, ControlBuffer)>,
    ) -> io::Result<Result<(), DropReason>> {
        let socket = match self.sockets {
            Sockets::PerUplink => uplink.number(),
            Sockets::Shared => 0,
        };
        if !self.receives[usize::from(socket)].open {
            return Ok(Err(DropReason::NoUplink));
        }
        if self.sends.len() == SENDS_MAX {
            return Ok(Err(DropReason::NoBuffer));
        }
        let (index, message) = self.prepare(lease, destination);
        let entry = opcode::SendMsg::new(types::Fixed(FILE_PLACE_FIRST + u32::from(socket)), message)
            // Without it a full socket would have the send wait, and later ones overtake it.
            .flags(libc::MSG_DONTWAIT as u32)
            .build()
            .user_data(Token::Send { socket: uplink.number(), index }.pack());
        // SAFETY: Everything that `message` points to is in `sends` (addresses do not change, its capacity is never
        // exceeded) and stays until the completion is reaped, the slot's bytes with it.
        unsafe { ring.push_immediate(&entry)? };
        Ok(Ok(()))
    }

    fn prepare(&mut self, lease: Lease, destination: Option<(&SockAddr, ControlBuffer)>) -> (u32, *const libc::msghdr) {
        let segment = libc::iovec { iov_base: lease.address().cast(), iov_len: lease.length() };
        let has_destination = destination.is_some();
        let (name, control) = match destination {
            Some((name, control)) => (name.clone(), control),
            None => (SockAddr::from(UNUSED_ADDRESS), ControlBuffer::empty()),
        };
        let index = self.sends.insert(Send { lease, segment, name, control, message: empty_message() });
        let send = &mut self.sends[index];
        send.message.msg_iov = &raw mut send.segment;
        send.message.msg_iovlen = 1;
        if has_destination {
            send.message.msg_name = send.name.as_ptr().cast_mut().cast();
            send.message.msg_namelen = send.name.len();
            if send.control.length() > 0 {
                send.message.msg_control = send.control.as_mut_ptr().cast();
                send.message.msg_controllen = send.control.length() as _;
            }
        }
        (index as u32, &raw const send.message)
    }

    /// A send has completed with `result`.
    pub fn on_sent(&mut self, index: u32, result: i32) -> Sent {
        drop(self.sends.remove(index as usize).lease);
        match -result {
            ..=0 => Sent::Taken,
            libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM => Sent::Dropped(DropReason::UplinkQueueFull),
            libc::EMSGSIZE => Sent::Dropped(DropReason::PathMtu),
            libc::ECANCELED | libc::EINTR => Sent::Dropped(DropReason::SendFailed),
            errno => Sent::Failed(errno),
        }
    }
}

/// Stands where no address is used.
const UNUSED_ADDRESS: std::net::SocketAddrV4 = std::net::SocketAddrV4::new(std::net::Ipv4Addr::UNSPECIFIED, 0);

const fn empty_message() -> libc::msghdr {
    // SAFETY: All fields of msghdr are numbers and pointers, for which zero is a value: no name, no segments, no
    // control messages.
    unsafe { std::mem::zeroed() }
}
