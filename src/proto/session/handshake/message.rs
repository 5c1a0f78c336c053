//! The form of handshake messages. All numbers are big-endian; what is reserved is zero.
//!
//! ```text
//! offset  0 GRE header with key 0; its counter is the hint in an initiation, and 0 in the others (12)
//!        12 kind   13 version   14 reserved (2)
//!        16 sender's name for the session to be (4)
//!           initiation:  20 Noise message 1: e (32), s (48), payload (37 + 16)   153 mac1 (16)   169 mac2 (16)
//!           response:    20 receiver's name (4)   24 Noise message 2: e (32), payload (29 + 16)   101 mac1 (16)
//!           cookie:      20 nonce (24)   44 cookie, sealed (16 + 16)      (its name is the receiver's)
//! payload    initiation:   0 stamp (8)   8 epoch (8)   16 next frame (8)   24 next control message (8)   32 ciphers (1)
//!                         33 sender's name (4)
//!            response:     0 epoch (8)   8 next frame (8)   16 next control message (8)   24 cipher (1)
//!                         25 sender's name (4)
//! ```
//!
//! The sender's name is said twice, since the exchange vouches for its own parts alone: whoever could change the name in
//! front would have the right answer go to nobody, and the right question refused as a replay after the changed one.
//!
//! An answer is never longer than what it answers.

use std::ops::Range;

use bytes::{Buf, BufMut};

use crate::proto::seq::Position;
use crate::proto::session::cipher::{Cipher, Ciphers};
use crate::proto::stats::DropReason;
use crate::proto::wire::{self, KEYED_HEADER_LENGTH};

const VERSION: u8 = 1;
const KIND_AT: usize = KEYED_HEADER_LENGTH;
const VERSION_AT: usize = KIND_AT + 1;
const RESERVED: Range<usize> = VERSION_AT + 1..VERSION_AT + 3;
const SENDER: Range<usize> = 16..20;

/// Bytes of a message authentication code.
pub const MAC_LENGTH: usize = 16;

pub(in crate::proto::session) const INITIATION_PAYLOAD_LENGTH: usize = 37;
pub(in crate::proto::session) const RESPONSE_PAYLOAD_LENGTH: usize = 29;

/// Where the parts of an initiation are.
pub(in crate::proto::session) mod initiation {
    use super::{INITIATION_PAYLOAD_LENGTH, MAC_LENGTH, Range};

    pub const NOISE: Range<usize> = 20..20 + 32 + 48 + INITIATION_PAYLOAD_LENGTH + 16;
    pub const MAC1: Range<usize> = NOISE.end..NOISE.end + MAC_LENGTH;
    pub const MAC2: Range<usize> = MAC1.end..MAC1.end + MAC_LENGTH;
}

/// Where the parts of a response are.
pub(in crate::proto::session) mod response {
    use super::{MAC_LENGTH, RESPONSE_PAYLOAD_LENGTH, Range};

    pub const RECEIVER: Range<usize> = 20..24;
    pub const NOISE: Range<usize> = 24..24 + 32 + RESPONSE_PAYLOAD_LENGTH + 16;
    pub const MAC1: Range<usize> = NOISE.end..NOISE.end + MAC_LENGTH;
}

/// Where the parts of a cookie reply are.
pub(in crate::proto::session) mod cookie {
    use super::{MAC_LENGTH, Range};

    pub const NONCE: Range<usize> = 20..44;
    pub const SEALED: Range<usize> = 44..44 + MAC_LENGTH + 16;
}

/// Bytes of an initiation, of a response and of a cookie reply.
pub const INITIATION_LENGTH: usize = initiation::MAC2.end;
/// See [`INITIATION_LENGTH`].
pub const RESPONSE_LENGTH: usize = response::MAC1.end;
/// See [`INITIATION_LENGTH`].
pub const COOKIE_LENGTH: usize = cookie::SEALED.end;

const _: () = assert!(RESPONSE_LENGTH <= INITIATION_LENGTH && COOKIE_LENGTH <= INITIATION_LENGTH);

/// A message of the right length for its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// Asks for a session.
    Initiation(&'a [u8; INITIATION_LENGTH]),
    /// Grants it.
    Response(&'a [u8; RESPONSE_LENGTH]),
    /// Asks the initiator to show that it is where it says it is.
    Cookie(&'a [u8; COOKIE_LENGTH]),
}

/// Looks at a datagram that [`wire::parse_keyed`] has called a handshake message.
///
/// # Errors
/// [`DropReason::HandshakeMalformed`].
pub fn parse(datagram: &[u8]) -> Result<Message<'_>, DropReason> {
    let (kind, version) = (datagram.get(KIND_AT), datagram.get(VERSION_AT));
    let is_version = version == Some(&VERSION) && datagram.get(RESERVED) == Some(&[0, 0]);
    let message = match kind {
        Some(1) => datagram.try_into().ok().map(Message::Initiation),
        Some(2) => datagram.try_into().ok().map(Message::Response),
        Some(3) => datagram.try_into().ok().map(Message::Cookie),
        _ => None,
    };
    message.filter(|_| is_version).ok_or(DropReason::HandshakeMalformed)
}

/// Writes what comes before the parts of the kind.
pub(in crate::proto::session) fn emit_head(message: &mut [u8], kind: u8, hint: u32, sender: u32) {
    message[..KEYED_HEADER_LENGTH].copy_from_slice(&wire::handshake_header(hint));
    message[KIND_AT] = kind;
    message[VERSION_AT] = VERSION;
    message[SENDER].copy_from_slice(&sender.to_be_bytes());
}

/// The sender's name for the session; in a cookie reply, the receiver's.
pub(in crate::proto::session) fn sender(message: &[u8]) -> u32 {
    read(message, SENDER)
}

/// The receiver's name for the session, in a response.
pub(in crate::proto::session) fn receiver(message: &[u8; RESPONSE_LENGTH]) -> u32 {
    read(message, response::RECEIVER)
}

fn read(message: &[u8], range: Range<usize>) -> u32 {
    u32::from_be_bytes(message[range].try_into().expect("the range has four bytes"))
}

/// What an initiation says, sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proto::session) struct Request {
    /// Greater in each initiation of a box: nanoseconds since 1970.
    pub stamp: u64,
    /// Which start of the box it is.
    pub epoch: u64,
    /// How far it has counted.
    pub position: Position,
    /// What it is willing to seal with.
    pub ciphers: Ciphers,
    /// Its name for the session to be.
    pub name: u32,
}

impl Request {
    pub fn emit(&self) -> [u8; INITIATION_PAYLOAD_LENGTH] {
        let mut payload = [0; INITIATION_PAYLOAD_LENGTH];
        let mut out = &mut payload[..];
        out.put_u64(self.stamp);
        out.put_u64(self.epoch);
        out.put_u64(self.position.frame);
        out.put_u64(self.position.control);
        out.put_u8(self.ciphers.bits());
        out.put_u32(self.name);
        payload
    }

    pub fn parse(mut payload: &[u8]) -> Result<Self, DropReason> {
        if payload.len() != INITIATION_PAYLOAD_LENGTH {
            return Err(DropReason::HandshakeMalformed);
        }
        let (stamp, epoch) = (payload.get_u64(), payload.get_u64());
        let position = Position { frame: payload.get_u64(), control: payload.get_u64() };
        let ciphers = Ciphers::from_bits(payload.get_u8());
        Ok(Self { stamp, epoch, position, ciphers, name: payload.get_u32() })
    }
}

/// What a response says, sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proto::session) struct Grant {
    /// Which start of the gateway it is.
    pub epoch: u64,
    /// How far it has counted.
    pub position: Position,
    /// What both seal with from now on.
    pub cipher: Cipher,
    /// The gateway's name for the session.
    pub name: u32,
}

impl Grant {
    pub fn emit(&self) -> [u8; RESPONSE_PAYLOAD_LENGTH] {
        let mut payload = [0; RESPONSE_PAYLOAD_LENGTH];
        let mut out = &mut payload[..];
        out.put_u64(self.epoch);
        out.put_u64(self.position.frame);
        out.put_u64(self.position.control);
        out.put_u8(self.cipher.number());
        out.put_u32(self.name);
        payload
    }

    pub fn parse(mut payload: &[u8]) -> Result<Self, DropReason> {
        if payload.len() != RESPONSE_PAYLOAD_LENGTH {
            return Err(DropReason::HandshakeMalformed);
        }
        let epoch = payload.get_u64();
        let position = Position { frame: payload.get_u64(), control: payload.get_u64() };
        let cipher = Cipher::from_number(payload.get_u8()).ok_or(DropReason::HandshakeMalformed)?;
        Ok(Self { epoch, position, cipher, name: payload.get_u32() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_one_length() {
        let mut bytes = vec![0; INITIATION_LENGTH + 1];
        for (kind, length) in [(1, INITIATION_LENGTH), (2, RESPONSE_LENGTH), (3, COOKIE_LENGTH)] {
            emit_head(&mut bytes, kind, 7, 8);
            for cut in 0..bytes.len() {
                assert_eq!(parse(&bytes[..cut]).is_ok(), cut == length, "kind {kind}, {cut} bytes");
            }
        }
        emit_head(&mut bytes, 4, 7, 8);
        assert_eq!(parse(&bytes[..INITIATION_LENGTH]), Err(DropReason::HandshakeMalformed));
    }

    #[test]
    fn another_version_and_reserved_bytes_are_refused() {
        for at in [VERSION_AT, RESERVED.start, RESERVED.start + 1] {
            let mut bytes = [0; INITIATION_LENGTH];
            emit_head(&mut bytes, 1, 7, 8);
            assert!(parse(&bytes).is_ok());
            bytes[at] ^= 2;
            assert_eq!(parse(&bytes), Err(DropReason::HandshakeMalformed));
        }
    }

    #[test]
    fn payloads_are_read_as_they_were_written() {
        let position = Position { frame: 1 << 40, control: 77 };
        let request = Request { stamp: 5, epoch: 6, position, ciphers: Ciphers::ALL, name: 9 };
        assert_eq!(Request::parse(&request.emit()), Ok(request));
        let grant = Grant { epoch: 6, position, cipher: Cipher::ChaCha20Poly1305, name: 9 };
        assert_eq!(Grant::parse(&grant.emit()), Ok(grant));
    }
}
