//! Control messages: how the two ends measure the uplinks and tell each other what they hear.
//!
//! A message is a head that every kind shares, then the fields of its kind, all big-endian. What follows the fields
//! is reserved: sent as nothing, refused when received, so that a later version can be told apart by its number. The
//! checksum behind it all is the gate's affair (see [`super`]).
//!
//! ```text
//! offset  0 kind   1 version   2 uplink   3 reserved (0)
//!         4 epoch (8)         12 peer epoch (8)        20 sent at (8)
//!        28 next sequence (4) 32 heard (2)             34 TAP MTU (2)
//!        36 fields of the kind:
//!           probe   36 next probe in µs (4)  40 sent packets (8)  48 weight (1)  49 name length (1)  50 name (15)
//!                   65 flags (1): 1 asks for feedback, 2 says that what is lost is sent again, 4 that the uplink is
//!                             metered, 8 that parities are sent, 16 that the uplink's data budget is spent, 32 asks for
//!                             the address that the probe comes from
//!                   66 zero padding (2, and 19 more with flag 32): a reply may never be longer than its probe
//!           reply   36 echoed sent at (8)    44 echoed sent packets (8)  52 received packets (8)  60 received bytes (8)
//!           seen    as a reply, to a probe with flag 32, and where that came from:
//!                   68 4 or 6 (1)  69 port (2)  71 address (16; IPv4: 4, then zeroes)
//!           report  36 count (1), then for each uplink: 0 uplink (1)  1 received packets (8)  9 received bytes (8)
//!           bye     nothing
//!           sounding  36 length of this message (2), then zeroes up to that length: it shows whether datagrams that long come
//!                     through, and is not counted as sent or lost. The shortest is as long as what answers it
//!           sounded   36 echoed sent at (8)  44 the sounding's length (2)
//!           feedback  see [`super::feedback`]
//!           parity    has another head, see [`super::parity`]
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::{Buf, BufMut};

use super::feedback::{FEEDBACK_LENGTH_MAX, Feedback};
use super::parity::{PARITY_HEAD_LENGTH, ParityHead, SHARE_MAX};
use crate::proto::stats::{DropReason, Traffic};
use crate::proto::uplink::{UPLINK_NAME_MAX, UPLINKS_MAX, UplinkId, UplinkName, UplinkSet};

pub(super) const VERSION: u8 = 4;
/// What a parity has where the others have their kind.
pub(super) const PARITY_KIND: u8 = 6;
const HEAD_LENGTH: usize = 36;
const PROBE_LENGTH: usize = HEAD_LENGTH + 32;
const REPLY_LENGTH: usize = HEAD_LENGTH + 32;
/// The address that a probe came from, in the reply.
const SEEN_LENGTH: usize = 1 + 2 + 16;
const SOUNDED_LENGTH: usize = HEAD_LENGTH + 10;
/// The shortest sounding, in bytes.
pub const SOUNDING_LENGTH_MIN: usize = SOUNDED_LENGTH;
const REPORT_ENTRY_LENGTH: usize = 17;

/// The longest control message, in bytes: feedback on every uplink.
pub const CONTROL_LENGTH_MAX: usize = HEAD_LENGTH + FEEDBACK_LENGTH_MAX;
const _: () = assert!(UPLINKS_MAX * REPORT_ENTRY_LENGTH < FEEDBACK_LENGTH_MAX);

const _: () = assert!(REPLY_LENGTH <= PROBE_LENGTH, "a reply must never bring more bytes than its probe did");

/// What every control message says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The uplink that the message travels on, numbered by the box.
    pub uplink: UplinkId,
    /// Drawn when the sender started: a greater one means that it has restarted. The time of day in milliseconds, and
    /// 20 random bits. Never 0.
    pub epoch: u64,
    /// The receiver's epoch as far as the sender knows it; 0 if it does not.
    pub peer_epoch: u64,
    /// When it was sent, by the sender's clock, in nanoseconds.
    pub sent_at: u64,
    /// The number that the sender's next frame will have: whatever is below has been sent already.
    pub next_sequence: u32,
    /// The uplinks on which the sender hears the receiver.
    pub heard: UplinkSet,
    /// The largest MTU that the TAPs may have as far as the sender knows, in bytes: both ends use the smaller of the two.
    pub tap_mtu: u16,
}

/// What a probe says by one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProbeFlags {
    /// The sender needs to know what comes of its frames.
    pub wants_feedback: bool,
    /// It sends again what is lost, as long as it can be in time.
    pub recovers: bool,
    /// The uplink is to be used only where the others do not suffice.
    pub is_metered: bool,
    /// The sender sends parities, since what is lost cannot be sent again in time.
    pub protects: bool,
    /// The uplink is to be used only where no other can be.
    pub is_spent: bool,
    /// The sender wants to know the address that the probe comes from.
    pub asks_address: bool,
}

impl ProbeFlags {
    const fn bits(self) -> u8 {
        let Self { wants_feedback, recovers, is_metered, protects, is_spent, asks_address } = self;
        wants_feedback as u8
            | (recovers as u8) << 1
            | (is_metered as u8) << 2
            | (protects as u8) << 3
            | (is_spent as u8) << 4
            | (asks_address as u8) << 5
    }

    /// `None` if there are others among them.
    const fn from_bits(bits: u8) -> Option<Self> {
        if bits >> 6 != 0 {
            return None;
        }
        Some(Self {
            wants_feedback: bits & 1 != 0,
            recovers: bits & 2 != 0,
            is_metered: bits & 4 != 0,
            protects: bits & 8 != 0,
            is_spent: bits & 16 != 0,
            asks_address: bits & 32 != 0,
        })
    }

    const fn padding(self) -> usize {
        if self.asks_address { SEEN_LENGTH } else { 0 }
    }
}

/// What the kinds say beside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "the core allocates nothing, and messages are few and short-lived")]
pub enum Message {
    /// Asks for a reply, and vouches for the address it comes from.
    Probe {
        /// When the next probe will come at the latest, in microseconds.
        next_in_micros: u32,
        /// Frames sent on this uplink so far.
        sent_packets: u64,
        /// The uplink's weight, 1 to 255.
        weight: u8,
        /// What the box calls the uplink.
        name: UplinkName,
        /// What it says beside.
        flags: ProbeFlags,
        /// The uplinks that the sender has in use, one that it probes by or not.
        used: UplinkSet,
    },
    /// Answers a probe.
    Reply {
        /// The probe's [`Head::sent_at`].
        echo_sent_at: u64,
        /// The probe's `sent_packets`.
        echo_sent_packets: u64,
        /// Frames that had come by this uplink when the probe did.
        received: Traffic,
        /// The address that the probe came from, if it has asked.
        seen: Option<SocketAddr>,
    },
    /// Says at once that what is heard has changed, and what has been received on every uplink.
    Report(Report),
    /// The sender stops.
    Bye,
    /// Says what has come of the receiver's frames.
    Feedback(Feedback),
    /// Asks whether a datagram this long comes through.
    Sounding {
        /// How many bytes the whole message has, [`SOUNDING_LENGTH_MIN`] or more.
        length: u16,
    },
    /// Says that it has.
    Sounded {
        /// The sounding's [`Head::sent_at`].
        echo_sent_at: u64,
        /// The sounding's length.
        length: u16,
    },
}

/// Counters of what has been received, per uplink.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    received: [Option<Traffic>; UPLINKS_MAX],
}

impl Report {
    /// Sets the counters of one uplink.
    pub fn set(&mut self, uplink: UplinkId, received: Traffic) {
        self.received[uplink.index()] = Some(received);
    }

    /// The counters of one uplink, if the report has them.
    #[must_use]
    pub fn get(&self, uplink: UplinkId) -> Option<Traffic> {
        self.received[uplink.index()]
    }

    fn entries(&self) -> impl Iterator<Item = (UplinkId, Traffic)> + '_ {
        UplinkId::all().filter_map(|uplink| self.get(uplink).map(|received| (uplink, received)))
    }
}

/// Bytes behind a message that is sealed; where there are no keys, a checksum has room there.
pub const SEAL_LENGTH: usize = 16;
const _: () = assert!(super::CONTROL_CHECKSUM_LENGTH <= SEAL_LENGTH);

/// The longest datagram that carries one.
const DATAGRAM_LENGTH_MAX: usize = super::CONTROL_HEADER_LENGTH + CONTROL_LENGTH_MAX + SEAL_LENGTH;

/// A control message, put together in place, with room in front for a header and behind for a trailer.
#[derive(Clone, Debug)]
pub struct ControlBytes<B = [u8; DATAGRAM_LENGTH_MAX]> {
    bytes: B,
    body_length: usize,
}

/// The same with room for a parity, or for a sounding.
pub type ParityBytes = ControlBytes<Box<[u8]>>;

impl ParityBytes {
    /// Room for a parity, and nothing in it.
    #[must_use]
    pub fn room() -> Self {
        Self::room_for(PARITY_HEAD_LENGTH + SHARE_MAX)
    }

    /// Room for a message of so many bytes, and nothing in it.
    #[must_use]
    pub fn room_for(body_length: usize) -> Self {
        let length = super::CONTROL_HEADER_LENGTH + body_length + SEAL_LENGTH;
        Self { bytes: vec![0; length].into(), body_length: 0 }
    }

    /// Puts a sounding of `length` bytes in.
    ///
    /// # Panics
    /// If there is no room for so many.
    pub fn put_sounding(&mut self, head: &Head, length: u16) {
        self.body_length = usize::from(length);
        let mut body = &mut self.bytes[super::CONTROL_HEADER_LENGTH..][..self.body_length];
        let message = Message::Sounding { length };
        emit_head(&mut body, kind(&message), head);
        emit_message(&mut body, &message);
    }

    /// Puts a parity in.
    ///
    /// # Panics
    /// If it is longer than [`SHARE_MAX`].
    pub fn put(&mut self, head: ParityHead, parity: &[u8]) {
        let body = &mut self.bytes[super::CONTROL_HEADER_LENGTH..];
        self.body_length = PARITY_HEAD_LENGTH + parity.len();
        body[..PARITY_HEAD_LENGTH].copy_from_slice(&head.emit());
        body[PARITY_HEAD_LENGTH..self.body_length].copy_from_slice(parity);
    }
}

impl<B: AsMut<[u8]>> ControlBytes<B> {
    /// The whole datagram, without keys: GRE header with this `counter`, message and checksum.
    #[must_use]
    pub fn plaintext(&mut self, counter: u32) -> &[u8] {
        let checked = super::CONTROL_HEADER_LENGTH + self.body_length;
        let bytes = self.bytes.as_mut();
        bytes[..super::CONTROL_HEADER_LENGTH].copy_from_slice(&super::control_header(counter));
        let checksum = super::control_checksum(&bytes[..checked]);
        let length = checked + checksum.len();
        bytes[checked..length].copy_from_slice(&checksum);
        &bytes[..length]
    }

    /// Room for a header, the message, and room for a trailer of `trailer_length` bytes: to be sealed in place.
    ///
    /// # Panics
    /// If the trailer is longer than any tag.
    #[must_use]
    pub fn datagram_mut(&mut self, trailer_length: usize) -> &mut [u8] {
        assert!(trailer_length <= SEAL_LENGTH);
        let length = super::CONTROL_HEADER_LENGTH + self.body_length + trailer_length;
        &mut self.bytes.as_mut()[..length]
    }
}

/// Writes a control message, still without header and trailer.
///
/// # Panics
/// If it is a sounding of more than [`CONTROL_LENGTH_MAX`] bytes: see [`ControlBytes::put_sounding`].
#[must_use]
pub fn emit(head: &Head, message: &Message) -> ControlBytes {
    let mut bytes = [0; DATAGRAM_LENGTH_MAX];
    let mut out = &mut bytes[super::CONTROL_HEADER_LENGTH..];
    let room = out.len();
    emit_head(&mut out, kind(message), head);
    emit_message(&mut out, message);
    let body_length = room - out.remaining_mut();
    ControlBytes { bytes, body_length }
}

const fn kind(message: &Message) -> u8 {
    match message {
        Message::Probe { .. } => 1,
        Message::Reply { seen: None, .. } => 2,
        Message::Report(_) => 3,
        Message::Bye => 4,
        Message::Feedback(_) => 5,
        // 6 is [`PARITY_KIND`].
        Message::Sounding { .. } => 7,
        Message::Sounded { .. } => 8,
        Message::Reply { seen: Some(_), .. } => 9,
    }
}

fn emit_head(out: &mut impl BufMut, kind: u8, head: &Head) {
    out.put_u8(kind);
    out.put_u8(VERSION);
    out.put_u8(head.uplink.number());
    out.put_u8(0);
    out.put_u64(head.epoch);
    out.put_u64(head.peer_epoch);
    out.put_u64(head.sent_at);
    out.put_u32(head.next_sequence);
    out.put_u16(head.heard.bits());
    out.put_u16(head.tap_mtu);
}

fn emit_message(out: &mut impl BufMut, message: &Message) {
    match message {
        Message::Probe { next_in_micros, sent_packets, weight, name, flags, used } => {
            let mut name_field = [0; UPLINK_NAME_MAX];
            name_field[..name.as_str().len()].copy_from_slice(name.as_str().as_bytes());
            out.put_u32(*next_in_micros);
            out.put_u64(*sent_packets);
            out.put_u8(*weight);
            out.put_u8(name.as_str().len() as u8);
            out.put_slice(&name_field);
            out.put_u8(flags.bits());
            out.put_u16(used.bits());
            out.put_bytes(0, flags.padding());
        }
        Message::Reply { echo_sent_at, echo_sent_packets, received, seen } => {
            out.put_u64(*echo_sent_at);
            out.put_u64(*echo_sent_packets);
            out.put_u64(received.packets);
            out.put_u64(received.bytes);
            if let Some(seen) = seen {
                emit_address(out, *seen);
            }
        }
        Message::Report(report) => {
            out.put_u8(report.entries().count() as u8);
            for (uplink, received) in report.entries() {
                out.put_u8(uplink.number());
                out.put_u64(received.packets);
                out.put_u64(received.bytes);
            }
        }
        Message::Bye => {}
        Message::Feedback(feedback) => feedback.emit(out),
        Message::Sounding { length } => {
            out.put_u16(*length);
            out.put_bytes(0, usize::from(*length) - HEAD_LENGTH - 2);
        }
        Message::Sounded { echo_sent_at, length } => {
            out.put_u64(*echo_sent_at);
            out.put_u16(*length);
        }
    }
}

fn emit_address(out: &mut impl BufMut, address: SocketAddr) {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => {
            out.put_u8(4);
            out.put_u16(address.port());
            out.put_slice(&ip.octets());
            out.put_bytes(0, 12);
        }
        IpAddr::V6(ip) => {
            out.put_u8(6);
            out.put_u16(address.port());
            out.put_slice(&ip.octets());
        }
    }
}

/// Reads what [`super::parse`] calls the body of a control message.
///
/// # Errors
/// [`DropReason::Truncated`] or [`DropReason::ControlMalformed`].
pub fn parse(body: &[u8]) -> Result<(Head, Message), DropReason> {
    if body.len() < HEAD_LENGTH {
        return Err(DropReason::Truncated);
    }
    let (mut head, mut fields) = body.split_at(HEAD_LENGTH);
    let kind = head.get_u8();
    if head.get_u8() != VERSION {
        return Err(DropReason::ControlMalformed);
    }
    let head = parse_head(head)?;
    let message = match kind {
        1 => parse_probe(&mut fields)?,
        2 | 9 => parse_reply(kind == 9, &mut fields)?,
        3 => parse_report(&mut fields)?,
        4 => Message::Bye,
        5 => Message::Feedback(Feedback::parse(&mut fields)?),
        7 => parse_sounding(&mut fields)?,
        8 => parse_sounded(&mut fields)?,
        _ => return Err(DropReason::ControlMalformed),
    };
    if fields.has_remaining() {
        return Err(DropReason::ControlMalformed);
    }
    Ok((head, message))
}

fn parse_head(mut head: &[u8]) -> Result<Head, DropReason> {
    let uplink = UplinkId::new(head.get_u8()).ok_or(DropReason::ControlMalformed)?;
    let reserved = head.get_u8();
    let head = Head {
        uplink,
        epoch: head.get_u64(),
        peer_epoch: head.get_u64(),
        sent_at: head.get_u64(),
        next_sequence: head.get_u32(),
        heard: UplinkSet::from_bits(head.get_u16()),
        tap_mtu: head.get_u16(),
    };
    if reserved != 0 || head.epoch == 0 {
        return Err(DropReason::ControlMalformed);
    }
    Ok(head)
}

fn parse_probe(fields: &mut &[u8]) -> Result<Message, DropReason> {
    need(fields, PROBE_LENGTH - HEAD_LENGTH)?;
    let next_in_micros = fields.get_u32();
    let sent_packets = fields.get_u64();
    let weight = fields.get_u8();
    let name_length = usize::from(fields.get_u8());
    let mut name = [0; UPLINK_NAME_MAX];
    fields.copy_to_slice(&mut name);
    let flags = ProbeFlags::from_bits(fields.get_u8());
    let used = UplinkSet::from_bits(fields.get_u16());
    let mut padding = [0; SEEN_LENGTH];
    let padding = &mut padding[..flags.map_or(0, ProbeFlags::padding)];
    need(fields, padding.len())?;
    fields.copy_to_slice(padding);
    let (text, after) = name.split_at_checked(name_length).ok_or(DropReason::ControlMalformed)?;
    let name = std::str::from_utf8(text).ok().and_then(|text| UplinkName::new(text).ok());
    let zeroes_are_zero = after.iter().chain(&*padding).all(|byte| *byte == 0);
    match name.zip(flags) {
        Some((name, flags)) if weight > 0 && zeroes_are_zero => {
            Ok(Message::Probe { next_in_micros, sent_packets, weight, name, flags, used })
        }
        _ => Err(DropReason::ControlMalformed),
    }
}

fn parse_reply(has_address: bool, fields: &mut &[u8]) -> Result<Message, DropReason> {
    need(fields, REPLY_LENGTH - HEAD_LENGTH)?;
    Ok(Message::Reply {
        echo_sent_at: fields.get_u64(),
        echo_sent_packets: fields.get_u64(),
        received: Traffic { packets: fields.get_u64(), bytes: fields.get_u64() },
        seen: if has_address { Some(parse_address(fields)?) } else { None },
    })
}

fn parse_address(fields: &mut &[u8]) -> Result<SocketAddr, DropReason> {
    need(fields, SEEN_LENGTH)?;
    let (family, port) = (fields.get_u8(), fields.get_u16());
    let mut octets = [0; 16];
    fields.copy_to_slice(&mut octets);
    let (first, rest) = octets.split_at(4);
    let ip = match family {
        4 if rest.iter().all(|byte| *byte == 0) => IpAddr::from(Ipv4Addr::new(first[0], first[1], first[2], first[3])),
        6 => IpAddr::from(Ipv6Addr::from(octets)),
        _ => return Err(DropReason::ControlMalformed),
    };
    // An IPv4 address has one spelling.
    if ip.to_canonical() != ip {
        return Err(DropReason::ControlMalformed);
    }
    Ok(SocketAddr::new(ip, port))
}

fn parse_sounding(fields: &mut &[u8]) -> Result<Message, DropReason> {
    need(fields, SOUNDING_LENGTH_MIN - HEAD_LENGTH)?;
    let body_length = HEAD_LENGTH + fields.len();
    let length = fields.get_u16();
    let is_blank = fields.iter().all(|byte| *byte == 0);
    if usize::from(length) != body_length || !is_blank {
        return Err(DropReason::ControlMalformed);
    }
    fields.advance(fields.len());
    Ok(Message::Sounding { length })
}

fn parse_sounded(fields: &mut &[u8]) -> Result<Message, DropReason> {
    need(fields, SOUNDED_LENGTH - HEAD_LENGTH)?;
    Ok(Message::Sounded { echo_sent_at: fields.get_u64(), length: fields.get_u16() })
}

fn parse_report(fields: &mut &[u8]) -> Result<Message, DropReason> {
    need(fields, 1)?;
    let count = usize::from(fields.get_u8());
    need(fields, count * REPORT_ENTRY_LENGTH)?;
    let mut report = Report::default();
    let mut previous = None;
    for _ in 0..count {
        let uplink = UplinkId::new(fields.get_u8()).ok_or(DropReason::ControlMalformed)?;
        // Ascending, so that each report has one spelling and no uplink appears twice.
        if previous.is_some_and(|previous: UplinkId| previous.number() >= uplink.number()) {
            return Err(DropReason::ControlMalformed);
        }
        previous = Some(uplink);
        report.set(uplink, Traffic { packets: fields.get_u64(), bytes: fields.get_u64() });
    }
    Ok(Message::Report(report))
}

fn need(fields: &[u8], length: usize) -> Result<(), DropReason> {
    if fields.len() < length { Err(DropReason::Truncated) } else { Ok(()) }
}

#[cfg(test)]
mod tests;
