//! GRE in UDP: the header in front of every frame and every control message.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |C| |K|S| Reserved0       | Ver |         Protocol Type         |   RFC 2784 §2, RFC 2890 §2
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |          Key (all but plaintext frames)                       |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                        Sequence Number                        |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ```
//!
//! Three kinds of datagrams have a key: sealed frames, control messages, and handshake messages, which are control
//! messages whose key is 0, in tunnels with keys. The key is the receiver's name for the session, and the sequence
//! number the low half of a counter. What follows the header of a sealed datagram is ciphertext, and a tag.
//!
//! Without keys the key is 0, and a control message ends with a checksum (CRC-32, big-endian) of all that comes before
//! it. That of UDP lets a spoiled
//! datagram pass now and then (two words that have changed places, for one), and a spoiled epoch or counter would leave
//! the tunnel deaf to its peer, where a spoiled frame is just one bad frame.
//!
//! [`parse`] is the only gate: whatever it lets through has a whole header and a payload of a lawful length.
//! A plaintext frame is byte for byte what Linux sends for `gretap ... seq encap fou`.

pub mod control;
pub mod feedback;
pub mod parity;

use super::stats::DropReason;

/// Where the fields of the header are.
mod field {
    use std::ops::Range;

    pub const FLAGS: Range<usize> = 0..2;
    pub const PROTOCOL: Range<usize> = 2..4;
    pub const FRAME_SEQUENCE: Range<usize> = 4..8;
    pub const KEY: Range<usize> = 4..8;
    pub const COUNTER: Range<usize> = 8..12;
}

/// S: a sequence number is present (RFC 2890 §2).
const FLAGS_FRAME: u16 = 0x1000;
/// K and S: a key and a sequence number are present.
const FLAGS_KEYED: u16 = 0x3000;
const FLAG_CHECKSUM: u16 = 0x8000;
const FLAG_ROUTING: u16 = 0x4000;
const VERSION_MASK: u16 = 0x0007;

/// Transparent Ethernet Bridging, in the registry of EtherTypes.
const PROTOCOL_ETHERNET: u16 = 0x6558;
/// IEEE local experimental EtherType 1: braid's sealed frames.
const PROTOCOL_SEALED: u16 = 0x88b5;
/// IEEE local experimental EtherType 2: braid's control messages.
const PROTOCOL_CONTROL: u16 = 0x88b6;

/// Bytes in front of a plaintext frame.
pub const FRAME_HEADER_LENGTH: usize = 8;
/// Bytes in front of whatever has a key: sealed frames, control messages, handshake messages.
pub const KEYED_HEADER_LENGTH: usize = 12;
/// Bytes in front of a control message.
pub const CONTROL_HEADER_LENGTH: usize = KEYED_HEADER_LENGTH;
/// Bytes behind a control message.
pub const CONTROL_CHECKSUM_LENGTH: usize = 4;

/// The shortest Ethernet frame that a TAP hands out or accepts: its header alone (net/core: `ETH_HLEN`).
pub const FRAME_LENGTH_MIN: usize = 14;
/// What an Ethernet frame may hold beside the MTU's worth of packet: its header and one VLAN tag.
pub const FRAME_OVERHEAD_MAX: usize = 18;

/// The key of control messages without keys, and of handshake messages.
const KEY_NONE: u32 = 0;

/// A datagram that has passed the gate.
#[derive(Debug, PartialEq, Eq)]
pub enum Datagram<'a> {
    /// An Ethernet frame, which begins [`FRAME_HEADER_LENGTH`] bytes into the datagram.
    Frame {
        /// Its number in the sender's one space.
        sequence: u32,
    },
    /// A control message, not yet looked into.
    Control {
        /// Counts the sender's control messages.
        counter: u32,
        /// For [`control::parse`].
        body: &'a [u8],
    },
}

/// Looks at a datagram's header.
///
/// # Errors
/// Why the datagram has to be dropped.
pub fn parse(datagram: &[u8]) -> Result<Datagram<'_>, DropReason> {
    let flags = read_u16(datagram, field::FLAGS).ok_or(DropReason::Truncated)?;
    let protocol = read_u16(datagram, field::PROTOCOL).ok_or(DropReason::Truncated)?;
    check_flags(flags)?;
    match (protocol, flags) {
        (PROTOCOL_ETHERNET, FLAGS_FRAME) => parse_frame(datagram),
        (PROTOCOL_CONTROL, FLAGS_KEYED) => parse_control(datagram),
        (PROTOCOL_ETHERNET | PROTOCOL_CONTROL, _) => Err(DropReason::ReservedBits),
        _ => Err(DropReason::ProtocolType),
    }
}

/// A datagram in a tunnel with keys that has passed the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyedDatagram {
    /// A sealed frame.
    Frame {
        /// The receiver's name for the session.
        key: u32,
        /// The low half of its number.
        counter: u32,
    },
    /// A sealed control message.
    Control {
        /// The receiver's name for the session.
        key: u32,
        /// The low half of its number.
        counter: u32,
    },
    /// A handshake message.
    Handshake,
}

/// Looks at the header of a datagram in a tunnel with keys. Nothing that it says is to be believed before the datagram
/// has been opened.
///
/// # Errors
/// Why the datagram has to be dropped.
pub fn parse_keyed(datagram: &[u8]) -> Result<KeyedDatagram, DropReason> {
    let flags = read_u16(datagram, field::FLAGS).ok_or(DropReason::Truncated)?;
    let protocol = read_u16(datagram, field::PROTOCOL).ok_or(DropReason::Truncated)?;
    check_flags(flags)?;
    let is_control = match (protocol, flags) {
        (PROTOCOL_SEALED, FLAGS_KEYED) => false,
        (PROTOCOL_CONTROL, FLAGS_KEYED) => true,
        (PROTOCOL_ETHERNET, _) => return Err(DropReason::Unsealed),
        (PROTOCOL_SEALED | PROTOCOL_CONTROL, _) => return Err(DropReason::ReservedBits),
        _ => return Err(DropReason::ProtocolType),
    };
    let key = read_u32(datagram, field::KEY).ok_or(DropReason::Truncated)?;
    let counter = read_u32(datagram, field::COUNTER).ok_or(DropReason::Truncated)?;
    match (is_control, key) {
        (true, KEY_NONE) => Ok(KeyedDatagram::Handshake),
        (true, _) => Ok(KeyedDatagram::Control { key, counter }),
        (false, _) => Ok(KeyedDatagram::Frame { key, counter }),
    }
}

const fn check_flags(flags: u16) -> Result<(), DropReason> {
    if flags & VERSION_MASK != 0 {
        Err(DropReason::Version)
    } else if flags & (FLAG_CHECKSUM | FLAG_ROUTING) != 0 {
        Err(DropReason::ChecksumOrRouting)
    } else {
        Ok(())
    }
}

fn parse_frame(datagram: &[u8]) -> Result<Datagram<'_>, DropReason> {
    let sequence = read_u32(datagram, field::FRAME_SEQUENCE).ok_or(DropReason::Truncated)?;
    if datagram.len() < FRAME_HEADER_LENGTH + FRAME_LENGTH_MIN {
        return Err(DropReason::Runt);
    }
    Ok(Datagram::Frame { sequence })
}

fn parse_control(datagram: &[u8]) -> Result<Datagram<'_>, DropReason> {
    let key = read_u32(datagram, field::KEY).ok_or(DropReason::Truncated)?;
    let counter = read_u32(datagram, field::COUNTER).ok_or(DropReason::Truncated)?;
    if key != KEY_NONE {
        return Err(DropReason::UnknownSession);
    }
    let (checked, checksum) = datagram.split_last_chunk().ok_or(DropReason::Truncated)?;
    let body = checked.get(CONTROL_HEADER_LENGTH..).ok_or(DropReason::Truncated)?;
    if control_checksum(checked) != *checksum {
        return Err(DropReason::Checksum);
    }
    Ok(Datagram::Control { counter, body })
}

/// What must follow `checked`, the header and body of a control message.
#[must_use]
pub fn control_checksum(checked: &[u8]) -> [u8; CONTROL_CHECKSUM_LENGTH] {
    crc32fast::hash(checked).to_be_bytes()
}

/// The header to put in front of frame number `sequence`.
#[must_use]
pub fn frame_header(sequence: u32) -> [u8; FRAME_HEADER_LENGTH] {
    let mut header = [0; FRAME_HEADER_LENGTH];
    header[field::FLAGS].copy_from_slice(&FLAGS_FRAME.to_be_bytes());
    header[field::PROTOCOL].copy_from_slice(&PROTOCOL_ETHERNET.to_be_bytes());
    header[field::FRAME_SEQUENCE].copy_from_slice(&sequence.to_be_bytes());
    header
}

/// The header to put in front of control message number `counter`, without keys.
#[must_use]
pub fn control_header(counter: u32) -> [u8; CONTROL_HEADER_LENGTH] {
    keyed_header(PROTOCOL_CONTROL, KEY_NONE, counter)
}

/// The header to put in front of a sealed frame, for the session that the receiver calls `key`.
#[inline]
#[must_use]
pub fn sealed_frame_header(key: u32, counter: u32) -> [u8; KEYED_HEADER_LENGTH] {
    keyed_header(PROTOCOL_SEALED, key, counter)
}

/// The header to put in front of a sealed control message, for the session that the receiver calls `key`.
#[must_use]
pub fn sealed_control_header(key: u32, counter: u32) -> [u8; KEYED_HEADER_LENGTH] {
    keyed_header(PROTOCOL_CONTROL, key, counter)
}

/// The header to put in front of a handshake message. `hint` tells processes that share a port whose it is.
#[must_use]
pub fn handshake_header(hint: u32) -> [u8; KEYED_HEADER_LENGTH] {
    keyed_header(PROTOCOL_CONTROL, KEY_NONE, hint)
}

#[inline]
fn keyed_header(protocol: u16, key: u32, counter: u32) -> [u8; KEYED_HEADER_LENGTH] {
    let mut header = [0; KEYED_HEADER_LENGTH];
    header[field::FLAGS].copy_from_slice(&FLAGS_KEYED.to_be_bytes());
    header[field::PROTOCOL].copy_from_slice(&protocol.to_be_bytes());
    header[field::KEY].copy_from_slice(&key.to_be_bytes());
    header[field::COUNTER].copy_from_slice(&counter.to_be_bytes());
    header
}

fn read_u16(bytes: &[u8], range: std::ops::Range<usize>) -> Option<u16> {
    bytes.get(range).and_then(|field| field.try_into().ok()).map(u16::from_be_bytes)
}

fn read_u32(bytes: &[u8], range: std::ops::Range<usize>) -> Option<u32> {
    bytes.get(range).and_then(|field| field.try_into().ok()).map(u32::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(sequence: u32, length: usize) -> Vec<u8> {
        let mut datagram = frame_header(sequence).to_vec();
        datagram.resize(FRAME_HEADER_LENGTH + length, 0xab);
        datagram
    }

    #[test]
    fn the_header_is_what_the_kernel_sends() {
        assert_eq!(frame_header(0x0102_0304), [0x10, 0x00, 0x65, 0x58, 1, 2, 3, 4]);
        assert_eq!(control_header(9), [0x30, 0x00, 0x88, 0xb6, 0, 0, 0, 0, 0, 0, 0, 9]);
    }

    #[test]
    fn each_malformation_has_its_reason() {
        let good = frame(1, 60);
        let altered = |byte: usize, value: u8| {
            let mut datagram = good.clone();
            datagram[byte] = value;
            datagram
        };
        let cases: Vec<(Vec<u8>, DropReason)> = vec![
            (vec![], DropReason::Truncated),
            (good[..3].to_vec(), DropReason::Truncated),
            (good[..7].to_vec(), DropReason::Truncated),
            (good[..FRAME_HEADER_LENGTH + FRAME_LENGTH_MIN - 1].to_vec(), DropReason::Runt),
            (altered(1, 0x01), DropReason::Version),
            (altered(0, 0x90), DropReason::ChecksumOrRouting),
            (altered(0, 0x50), DropReason::ChecksumOrRouting),
            (altered(0, 0x00), DropReason::ReservedBits),
            (altered(0, 0x30), DropReason::ReservedBits),
            (altered(0, 0x18), DropReason::ReservedBits),
            (altered(1, 0x80), DropReason::ReservedBits),
            (altered(3, 0x59), DropReason::ProtocolType),
            (
                {
                    let mut control = control_header(1).to_vec();
                    control[7] = 1;
                    control
                },
                DropReason::UnknownSession,
            ),
            (control_header(1)[..11].to_vec(), DropReason::Truncated),
            (control_header(1).to_vec(), DropReason::Truncated),
            ([&control_header(1)[..], &[0; 4]].concat(), DropReason::Checksum),
        ];
        for (datagram, reason) in cases {
            assert_eq!(parse(&datagram), Err(reason), "{datagram:02x?}");
        }
    }

    proptest! {
        #[test]
        fn parsing_undoes_emitting(sequence: u32, length in FRAME_LENGTH_MIN..2000) {
            let datagram = frame(sequence, length);
            prop_assert_eq!(parse(&datagram), Ok(Datagram::Frame { sequence }));
        }

        #[test]
        fn what_parses_is_emitted_again_byte_for_byte(datagram in proptest::collection::vec(any::<u8>(), 0..64)) {
            match parse(&datagram) {
                Ok(Datagram::Frame { sequence }) => prop_assert_eq!(&datagram[..8], &frame_header(sequence)[..]),
                Ok(Datagram::Control { counter, .. }) => prop_assert_eq!(&datagram[..12], &control_header(counter)[..]),
                Err(_) => {}
            }
        }
    }
}
