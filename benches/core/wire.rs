//! Headers.

use braid::proto::tunnel::Payload;
use braid::proto::uplink::{UplinkId, UplinkName, UplinkSet};
use braid::proto::wire::control::{self, Head, Message, ProbeFlags};
use braid::proto::wire::{Datagram, frame_header, parse};
use divan::{Bencher, black_box};

use crate::packet::Packet;

#[divan::bench]
fn encapsulate(bencher: Bencher) {
    let mut sequence = 0_u32;
    bencher.bench_local(|| {
        sequence = sequence.wrapping_add(1);
        black_box(Packet::FRAME).encapsulated(frame_header(sequence))
    });
}

#[divan::bench]
fn decapsulate(bencher: Bencher) {
    let packet = Packet::numbered(7);
    bencher.bench_local(|| parse(black_box(packet.bytes())).is_ok());
}

#[divan::bench]
fn parse_and_emit(bencher: Bencher) {
    let packet = Packet::numbered(7);
    bencher.bench_local(|| match parse(black_box(packet.bytes())) {
        Ok(Datagram::Frame { sequence }) => frame_header(sequence),
        other => panic!("not a frame: {other:?}"),
    });
}

#[divan::bench]
fn parse_and_emit_probe(bencher: Bencher) {
    let head = Head {
        uplink: UplinkId::new(1).expect("within range"),
        epoch: 7,
        peer_epoch: 8,
        sent_at: 1 << 40,
        next_sequence: 1000,
        heard: UplinkSet::from_bits(3),
        tap_mtu: 1450,
    };
    let name = UplinkName::new("lte-a").expect("lawful");
    let probe = Message::Probe {
        next_in_micros: 20_000,
        sent_packets: 1000,
        weight: 1,
        name,
        flags: ProbeFlags { wants_feedback: true, recovers: true, ..ProbeFlags::default() },
        used: UplinkSet::from_bits(7),
    };
    let mut emitted = control::emit(&head, &probe);
    let datagram = emitted.plaintext(1).to_vec();
    bencher.bench_local(|| match parse(black_box(&datagram[..])) {
        Ok(Datagram::Control { counter, body }) => {
            let (head, message) = control::parse(body).expect("it was emitted");
            control::emit(&head, &message).plaintext(counter).len()
        }
        other => panic!("not a control message: {other:?}"),
    });
}
