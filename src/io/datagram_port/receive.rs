//! The receiving half.

use std::io;

use io_uring::{opcode, types};

use super::{empty_message, file_place};
use crate::io::buffers::Room;
use crate::io::control_message::{self, RECEIVE_CONTROL_LENGTH};
use crate::io::provided;
use crate::io::ring::Ring;
use crate::io::token::Token;
use crate::io::uplink_socket::socket_address_from_name;
use crate::proto::stats::DropReason;
use crate::proto::tunnel::Path;

/// Bytes that a multishot receive puts before the datagram: its own header, the sender's address, control messages.
const RECEIVE_HEADER_LENGTH: usize = 16;
const RECEIVE_NAME_LENGTH: usize = size_of::<libc::sockaddr_in6>();

/// The most that a receive puts before the datagram.
pub const RECEIVE_PREFIX_MAX: usize = RECEIVE_HEADER_LENGTH + RECEIVE_NAME_LENGTH + RECEIVE_CONTROL_LENGTH;

/// What a receive brought.
#[derive(Debug)]
pub enum Received {
    /// One datagram or several of the same way.
    Datagrams(Datagrams),
    /// A datagram that is no use.
    Dropped(DropReason),
    /// Nothing: the receive has ended and will be armed again.
    Ended,
    /// The socket has an error to tell.
    Failed(i32),
}

/// Datagrams that have come together.
#[derive(Debug)]
pub struct Datagrams {
    bytes: Room,
    segment_size: usize,
    /// Where they are from, and to which of our addresses, if the socket is shared.
    pub path: Path,
}

impl Datagrams {
    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.bytes.length().div_ceil(self.segment_size).max(1)
    }

    /// Bytes in all of them.
    #[must_use]
    pub fn length(&self) -> usize {
        self.bytes.length()
    }

    /// Each by itself, in the order they came.
    pub fn each(self) -> impl Iterator<Item = Room> {
        let Self { bytes, segment_size, .. } = self;
        // An empty datagram is one, too: dropped, and counted, as any other that is too short.
        let mut rest = Some(bytes);
        std::iter::from_fn(move || {
            let mut bytes = rest.take()?;
            if bytes.length() <= segment_size {
                return Some(bytes);
            }
            let datagram = bytes.carve(0, segment_size);
            rest = Some(bytes);
            datagram
        })
    }
}

/// What all receives have in common.
pub struct Receiving {
    /// What a receive wants to be told: lengths only.
    message: Box<libc::msghdr>,
}

impl Receiving {
    pub(super) fn new() -> Self {
        let mut message = Box::new(empty_message());
        message.msg_controllen = RECEIVE_CONTROL_LENGTH as _;
        message.msg_namelen = RECEIVE_NAME_LENGTH as u32;
        Self { message }
    }

    pub(super) fn arm(&self, ring: &mut Ring, socket: u8, generation: u16) -> io::Result<()> {
        let file = types::Fixed(file_place(socket));
        let entry = opcode::RecvMsgMulti::new(file, &raw const *self.message, provided::GROUP)
            .build()
            .user_data(Token::Receive { socket, generation }.pack());
        // SAFETY: The message is boxed and lives as long as `self`; the buffers are the arena's. Both outlive the ring's
        // operations (see the reactor's drop).
        unsafe { ring.push(&entry) }
    }

    /// Takes datagrams out of what the kernel has wrapped around them.
    pub(super) fn unwrap(&self, mut room: Room) -> Received {
        let Ok(out) = types::RecvMsgOut::parse(room.bytes(), &self.message) else {
            return Received::Dropped(DropReason::Truncated);
        };
        if out.flags() & libc::MSG_TRUNC as u32 != 0 {
            return Received::Dropped(DropReason::Oversize);
        }
        let told = control_message::parse(out.control_data());
        let Some(remote) = socket_address_from_name(out.name_data()) else {
            return Received::Dropped(DropReason::UnknownSource);
        };
        let path = Path { remote, local: told.local };
        let before_payload = room.length() - out.payload_data().len();
        room.advance(before_payload);
        let segment_size = told.segment_size.filter(|size| *size > 0).unwrap_or_else(|| room.length().max(1));
        Received::Datagrams(Datagrams { bytes: room, segment_size, path })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::buffers::{Arena, Slots};

    fn lengths(bytes: usize, segment_size: usize) -> Vec<usize> {
        let arena = Arena::new(Slots { count: 1, size: 4096 }, Slots { count: 0, size: 0 }).expect("mapped");
        let bytes = arena.copy(&vec![0; bytes]).expect("free");
        let path = Path { remote: "192.0.2.1:4754".parse().expect("an address"), local: None };
        let datagrams = Datagrams { bytes, segment_size, path };
        let (count, length) = (datagrams.count(), datagrams.length());
        let lengths: Vec<_> = datagrams.each().map(|datagram| datagram.length()).collect();
        assert_eq!((count, length), (lengths.len(), lengths.iter().sum()));
        lengths
    }

    #[test]
    fn what_has_come_together_is_told_apart_again() {
        assert_eq!(lengths(3000, 1400), [1400, 1400, 200]);
        assert_eq!(lengths(2800, 1400), [1400, 1400]);
        assert_eq!(lengths(60, 60), [60]);
        assert_eq!(lengths(0, 1), [0], "an empty one is counted as what it is");
    }
}
