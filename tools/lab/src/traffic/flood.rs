//! Hostile datagrams: forged by raw sockets, from addresses that are not ours, with contents that make no sense, or a
//! little.
//!
//! Inside the lab's namespaces only: whoever is sent to must be ours, and what comes back goes to addresses that the lab
//! does not route.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use braid::proto::stats::Traffic;
use braid::proto::uplink::{UPLINKS_MAX, UplinkId, UplinkName, UplinkSet};
use braid::proto::wire::control::{self, Head, Message, ProbeFlags, Report};
use braid::proto::wire::frame_header;
use braid::sim::random::Random;
use rustix::net::{AddressFamily, SendFlags, SocketType, ipproto, sendto, socket};
use serde::Serialize;

use super::requests::Requests;
use crate::clock::{monotonic_nanoseconds, sharpen_timers, sleep_until};

/// The network of benchmark tests (RFC 2544, RFC 6815), of which sources are made up.
const SOURCES_FIRST: u32 = u32::from_be_bytes([198, 18, 0, 0]);
/// The most sources: as many addresses as that network's first half has.
pub const SOURCES_MAX: u32 = 1 << 16;
/// Datagrams sent in a row before the clock is looked at.
const BATCH: u64 = 8;
const IP_HEADER_LENGTH: usize = 20;
const UDP_HEADER_LENGTH: usize = 8;
/// The longest datagram that is made of random bytes.
const RANDOM_LENGTH_MAX: u64 = 1400;

/// Who is said to have sent a datagram.
#[derive(Clone, Copy, Debug)]
pub enum Sources {
    /// So many addresses and ports, in turn.
    Many(u32),
    /// This one.
    One(SocketAddrV4),
}

/// What is sent.
#[derive(Clone, Debug)]
pub enum Contents {
    /// Frames, control messages and nonsense, as in a tunnel without keys.
    Plaintext {
        /// Whether there are well-formed probes of ever new epochs among them, which without keys are as good as the
        /// peer's.
        probes: bool,
    },
    /// Requests for sessions.
    Requests(Requests),
}

/// What a flood is told.
#[derive(Clone, Debug)]
pub struct FloodOptions {
    /// Where to.
    pub to: SocketAddrV4,
    /// From whom.
    pub sources: Sources,
    /// For how long.
    pub duration: Duration,
    /// Datagrams per second.
    pub rate: u64,
    /// What random numbers begin with.
    pub seed: u64,
    /// What is sent.
    pub contents: Contents,
}

/// What a flood tells at its end.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct FloodReport {
    /// Datagrams sent.
    pub sent: u64,
    /// Datagrams that our own kernel refused.
    pub refused: u64,
    /// What was reached, in datagrams per second.
    pub per_second: f64,
}

/// Floods.
///
/// # Errors
/// What the kernel says of the socket.
pub fn flood(options: &FloodOptions) -> io::Result<FloodReport> {
    sharpen_timers();
    // IPPROTO_RAW: the IP header is ours to write, and the kernel fills in its lengths and its checksum (raw(7)).
    let socket = socket(AddressFamily::INET, SocketType::RAW, Some(ipproto::RAW))?;
    let mut random = Random::new(options.seed);
    let mut report = FloodReport::default();
    let began = monotonic_nanoseconds();
    let offered = (options.rate as u128 * options.duration.as_nanos() / 1_000_000_000) as u64;
    for number in 0..offered {
        if number.is_multiple_of(BATCH) {
            sleep_until(began + (u128::from(number) * 1_000_000_000 / u128::from(options.rate)) as u64);
        }
        let source = source(options.sources, number);
        let packet = match &options.contents {
            Contents::Plaintext { probes } => packet(source, options.to, &forge(&mut random, *probes)),
            Contents::Requests(requests) => packet(source, options.to, &requests.draw(&mut random)),
        };
        match sendto(&socket, &packet, SendFlags::empty(), &options.to) {
            Ok(_) => report.sent += 1,
            Err(_) => report.refused += 1,
        }
    }
    report.per_second = report.sent as f64 * 1e9 / (monotonic_nanoseconds() - began).max(1) as f64;
    Ok(report)
}

fn source(sources: Sources, number: u64) -> SocketAddrV4 {
    match sources {
        Sources::One(source) => source,
        Sources::Many(count) => {
            let index = (number % u64::from(count)) as u32;
            SocketAddrV4::new(Ipv4Addr::from(SOURCES_FIRST + index), 1024 + (index % 64_000) as u16)
        }
    }
}

/// An IP packet that carries `payload` in a UDP datagram without a checksum, which IPv4 allows.
fn packet(from: SocketAddrV4, to: SocketAddrV4, payload: &[u8]) -> Vec<u8> {
    let length = (UDP_HEADER_LENGTH + payload.len()) as u16;
    let mut packet = vec![0; IP_HEADER_LENGTH + UDP_HEADER_LENGTH];
    // Version 4, five words of header; 64 hops; UDP.
    (packet[0], packet[8], packet[9]) = (0x45, 64, 17);
    packet[12..16].copy_from_slice(&from.ip().octets());
    packet[16..20].copy_from_slice(&to.ip().octets());
    packet[20..22].copy_from_slice(&from.port().to_be_bytes());
    packet[22..24].copy_from_slice(&to.port().to_be_bytes());
    packet[24..26].copy_from_slice(&length.to_be_bytes());
    packet.extend_from_slice(payload);
    packet
}

/// A datagram that nobody has asked for.
fn forge(random: &mut Random, probes: bool) -> Vec<u8> {
    let mut datagram = match random.below(if probes { 5 } else { 4 }) {
        0 => random_bytes(random, RANDOM_LENGTH_MAX),
        1 => frame(random),
        2 => control_nonsense(random, probes),
        3 => control_message(random, false),
        _ => control_message(random, true),
    };
    if random.below(8) == 0 {
        datagram.truncate(random.below(datagram.len() as u64 + 1) as usize);
    }
    datagram
}

fn random_bytes(random: &mut Random, length_max: u64) -> Vec<u8> {
    (0..random.between(0, length_max)).map(|_| random.next() as u8).collect()
}

/// A lawful frame with any number.
fn frame(random: &mut Random) -> Vec<u8> {
    let mut datagram = frame_header(random.next() as u32).to_vec();
    datagram.extend((0..random.between(14, 200)).map(|_| random.next() as u8));
    datagram
}

/// A control message with a byte changed and some too many. None that was a probe, unless they are wanted: cut off in the
/// right place it would be one again.
fn control_nonsense(random: &mut Random, probes: bool) -> Vec<u8> {
    let mut datagram = control_message(random, probes);
    let at = random.below(datagram.len() as u64) as usize;
    datagram[at] ^= random.between(1, 255) as u8;
    datagram.extend(random_bytes(random, 4));
    datagram
}

/// A lawful control message whose fields are random.
fn control_message(random: &mut Random, is_probe: bool) -> Vec<u8> {
    let mut traffic = || Traffic { packets: random.next(), bytes: random.next() };
    let received = traffic();
    let mut report = Report::default();
    UplinkId::all().take(3).for_each(|uplink| report.set(uplink, traffic()));
    let message = match random.below(3) {
        _ if is_probe => Message::Probe {
            next_in_micros: random.next() as u32,
            sent_packets: random.next(),
            weight: random.between(1, 255) as u8,
            name: UplinkName::new("forged").unwrap_or_default(),
            flags: ProbeFlags::default(),
            used: UplinkSet::from_bits(random.next() as u16),
        },
        0 => Message::Reply { echo_sent_at: random.next(), echo_sent_packets: random.next(), received, seen: None },
        1 => Message::Report(report),
        _ => Message::Bye,
    };
    let number = random.below(UPLINKS_MAX as u64) as u8;
    let head = Head {
        uplink: UplinkId::new(number).unwrap_or_else(|| unreachable!("drawn below the bound")),
        epoch: random.next().max(1),
        peer_epoch: random.next(),
        sent_at: random.next(),
        next_sequence: random.next() as u32,
        heard: UplinkSet::from_bits(random.next() as u16),
        tap_mtu: random.next() as u16,
    };
    control::emit(&head, &message).plaintext(random.next() as u32).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emulator::packet::Packet;
    use braid::proto::wire::{self, Datagram};

    #[test]
    fn a_forged_packet_is_read_as_it_was_meant() {
        let (from, to) = ("198.18.3.4:99".parse().expect("valid"), "203.0.113.1:4754".parse().expect("valid"));
        let mut bytes = packet(from, to, b"hello");
        let packet = Packet::parse(&mut bytes).expect("a packet");
        let (source, destination) = (packet.source().expect("known"), packet.destination().expect("known"));
        assert_eq!((source.address, source.port), ((*from.ip()).into(), from.port()));
        assert_eq!((destination.address, destination.port), ((*to.ip()).into(), to.port()));
    }

    #[test]
    fn there_is_something_of_everything_and_a_probe_only_where_it_is_wanted() {
        for probes in [false, true] {
            let mut random = Random::new(1);
            let (mut frames, mut messages, mut refused, mut seen_probes) = (0, 0, 0, 0);
            for _ in 0..10_000 {
                match wire::parse(&forge(&mut random, probes)) {
                    Ok(Datagram::Frame { .. }) => frames += 1,
                    Ok(Datagram::Control { body, .. }) => match control::parse(body) {
                        Ok((_, Message::Probe { .. })) => seen_probes += 1,
                        Ok(_) => messages += 1,
                        Err(_) => refused += 1,
                    },
                    Err(_) => refused += 1,
                }
            }
            assert!(frames > 1000 && messages > 1000 && refused > 1000, "{frames} {messages} {refused}");
            assert_eq!(seen_probes > 1000, probes, "{seen_probes}");
        }
    }

    #[test]
    fn as_many_sources_as_asked_for_take_turns() {
        let sources: std::collections::HashSet<_> =
            (0..200_000).map(|number| source(Sources::Many(SOURCES_MAX), number)).collect();
        assert_eq!(sources.len(), SOURCES_MAX as usize);
    }
}
