//! What a hostile network can do, which is to drop datagrams, and nothing else.

use std::time::Duration;

use bytes::Bytes;

use super::world::{
    BOX, FRAME_LENGTH, Flight, GATEWAY, SeededHost, Setup, World, path, private_key, strange_path, uplink,
};
use crate::proto::session::Identity;
use crate::proto::session::cipher::Ciphers;
use crate::proto::session::handshake::mac::ReceiverKeys;
use crate::proto::session::handshake::message::{COOKIE_LENGTH, INITIATION_LENGTH, MAC_LENGTH, RESPONSE_LENGTH};
use crate::proto::session::initiator::{Initiator, InitiatorSettings};
use crate::proto::session::keys::PresharedKey;
use crate::proto::stats::DropReason;
use crate::proto::time::Instant;
use crate::proto::tunnel::{Arrival, Event};
use crate::proto::uplink::UplinkSet;
use crate::proto::uplink::state::State;
use crate::proto::wire;

const INITIATION: Option<u8> = Some(1);
const RESPONSE: Option<u8> = Some(2);

/// What may not change because of what is not authentic.
fn state(world: &World, node: usize) -> String {
    let tunnels = world.nodes[node].end.tunnels().iter();
    let seen = tunnels.map(|tunnel| {
        let uplinks = [0, 1].map(|number| {
            let of_uplink = tunnel.uplink(uplink(number));
            (tunnel.path(uplink(number)), of_uplink.state(), of_uplink.received)
        });
        let counters = tunnel.counters();
        let peer = (tunnel.has_peer(), tunnel.is_peer_heard());
        (uplinks, tunnel.position(), counters.sent, counters.delivered, counters.receive, peer)
    });
    format!("{:?} {:?}", seen.collect::<Vec<_>>(), world.nodes[node].events)
}

fn only(world: &World, to: usize, kind: Option<u8>) -> Vec<Flight> {
    world.sent_to(to).into_iter().filter(|flight| flight.kind() == kind).collect()
}

#[test]
fn replayed_initiations_are_refused_and_change_nothing() {
    let setup = Setup { rekey_interval: Duration::from_secs(1), ..Setup::default() };
    let mut world = World::established(setup);
    world.stream(BOX, 3_000);
    world.run(100);
    let before = state(&world, GATEWAY);
    // The last one is known for a copy; whether it is one of another uplink's or a replay nobody can tell.
    let refused = |world: &World| {
        let drops = |reason| world.nodes[GATEWAY].drops(reason);
        drops(DropReason::HandshakeReplayed) + drops(DropReason::HandshakeOver)
    };
    let refused_before = refused(&world);
    let initiations = only(&world, GATEWAY, INITIATION);
    assert!(initiations.len() > 5);
    for flight in &initiations {
        for arrival in [flight.arrival, Arrival::Path(strange_path())] {
            assert_eq!(world.hand(Flight { arrival, ..flight.clone() }), Vec::<Vec<u8>>::new());
            // So that none is throttled.
            world.now = world.now + Duration::from_millis(20);
        }
    }
    let count = 2 * initiations.len() as u64;
    assert_eq!(refused(&world) - refused_before, count);
    assert!(world.nodes[GATEWAY].drops(DropReason::HandshakeReplayed) > 0);
    assert_eq!(state(&world, GATEWAY), before);
}

#[test]
fn a_copy_of_a_question_gets_the_very_same_answer_until_the_session_is_used() {
    let mut world = World::new(Setup::default());
    world.network = |_, _| vec![];
    world.run(0);
    let question = only(&world, GATEWAY, INITIATION).remove(0);
    let answer = world.hand(question.clone());
    assert_eq!(answer.iter().map(Vec::len).collect::<Vec<_>>(), [RESPONSE_LENGTH]);
    world.run(1_000);
    for arrival in [question.arrival, Arrival::Path(path(BOX, uplink(1))), Arrival::Path(strange_path())] {
        assert_eq!(world.hand(Flight { arrival, ..question.clone() }), answer);
    }
    assert_eq!(world.nodes[GATEWAY].end.drops().total(), 0);
    world.hand(Flight { to: BOX, arrival: Arrival::Uplink(uplink(0)), bytes: answer[0].clone() });
    world.network = |_, _| vec![Duration::ZERO];
    world.run(500);
    assert!(world.nodes[GATEWAY].is_sealed_to());
    let over = world.nodes[GATEWAY].drops(DropReason::HandshakeOver);
    assert!(world.hand(question).is_empty());
    assert_eq!(world.nodes[GATEWAY].drops(DropReason::HandshakeOver), over + 1);
}

/// A box that has asked, and the answer, which it does not have yet; nothing comes through by itself.
fn asked() -> (World, Vec<u8>) {
    let mut world = World::new(Setup::default());
    world.network = |_, _| vec![];
    world.run(0);
    let answer = world.hand(only(&world, GATEWAY, INITIATION).remove(0)).remove(0);
    (world, answer)
}

#[test]
fn an_answer_that_was_forged_or_spoiled_does_not_keep_the_right_one_out() {
    let (mut world, answer) = asked();
    let arrival = Arrival::Uplink(uplink(0));
    // Whoever has seen the box's key before can make a right mac1.
    let keys = ReceiverKeys::of(&private_key(BOX).public());
    let mac1 = RESPONSE_LENGTH - MAC_LENGTH;
    // All but the counter and the sender's name in front, which say nothing in an answer.
    for at in (0..8).chain(12..16).chain(20..mac1) {
        let mut bytes = answer.clone();
        bytes[at] ^= 1;
        world.hand(Flight { to: BOX, arrival, bytes: bytes.clone() });
        keys.write_mac1(&mut bytes, mac1);
        world.hand(Flight { to: BOX, arrival, bytes });
        // So that none is throttled.
        world.now = world.now + Duration::from_millis(50);
    }
    assert!(!world.nodes[BOX].is_sealed_to());
    let mut renamed = answer;
    renamed[16] ^= 1;
    keys.write_mac1(&mut renamed, mac1);
    world.hand(Flight { to: BOX, arrival, bytes: renamed });
    assert!(world.nodes[BOX].is_sealed_to());
    world.network = |_, _| vec![Duration::ZERO];
    world.run(300);
    assert!(world.nodes[GATEWAY].is_sealed_to(), "by the name that was meant");
    assert_eq!(world.nodes[GATEWAY].drops(DropReason::UnknownSession), 0);
}

#[test]
fn answers_forged_by_the_thousand_cost_little_and_keep_no_answer_by_another_uplink_out() {
    let (mut world, answer) = asked();
    let keys = ReceiverKeys::of(&private_key(BOX).public());
    let mac1 = RESPONSE_LENGTH - MAC_LENGTH;
    let mut forged = answer.clone();
    forged[mac1 - 1] ^= 1;
    keys.write_mac1(&mut forged, mac1);
    for _ in 0..1_000 {
        world.hand(Flight { to: BOX, arrival: Arrival::Uplink(uplink(0)), bytes: forged.clone() });
    }
    assert_eq!(world.nodes[BOX].drops(DropReason::HandshakeThrottled), 980);
    world.hand(Flight { to: BOX, arrival: Arrival::Uplink(uplink(1)), bytes: answer });
    assert!(world.nodes[BOX].is_sealed_to());
}

#[test]
fn a_question_that_was_forged_or_spoiled_does_not_keep_the_right_one_out() {
    let mut world = World::new(Setup::default());
    world.network = |_, _| vec![];
    world.run(0);
    let question = only(&world, GATEWAY, INITIATION).remove(0);
    let keys = ReceiverKeys::of(&private_key(GATEWAY).public());
    let mac1 = INITIATION_LENGTH - 2 * MAC_LENGTH;
    // All but the counter, which tells processes that share a port whose it is, and may be anything here.
    for at in (0..8).chain(12..mac1) {
        let mut bytes = question.bytes.clone();
        bytes[at] ^= 1;
        assert!(world.hand(Flight { bytes: bytes.clone(), ..question }).is_empty());
        keys.write_mac1(&mut bytes, mac1);
        assert!(world.hand(Flight { bytes, ..question }).is_empty(), "byte {at}");
        // So that none is throttled.
        world.now = world.now + Duration::from_millis(20);
    }
    // The counter may be changed: it is the same question still.
    let mut elsewhere = question.clone();
    elsewhere.bytes[8] ^= 1;
    keys.write_mac1(&mut elsewhere.bytes, mac1);
    let answer = world.hand(elsewhere);
    assert_eq!(answer.len(), 1);
    assert_eq!(world.hand(question), answer);
}

#[test]
fn what_is_not_sealed_is_dropped_where_there_are_keys() {
    let mut world = World::established(Setup::default());
    for node in [GATEWAY, BOX] {
        let arrival = world.sent_to(node)[0].arrival;
        let before = state(&world, node);
        let frame = [&wire::frame_header(5)[..], &[0; FRAME_LENGTH]].concat();
        let mut control = [&wire::control_header(9999)[..], &[1; 68]].concat();
        control.extend_from_slice(&wire::control_checksum(&control.clone()));
        let probe = wire::control::Message::Probe {
            next_in_micros: 20_000,
            sent_packets: 1,
            weight: 1,
            name: crate::proto::uplink::UplinkName::new("a").expect("lawful"),
            flags: wire::control::ProbeFlags::default(),
            used: crate::proto::uplink::UplinkSet::only(uplink(0)),
        };
        let head = wire::control::Head {
            uplink: uplink(0),
            epoch: 1 << 60,
            peer_epoch: 0,
            sent_at: 1 << 60,
            next_sequence: 0,
            heard: UplinkSet::EMPTY,
            tap_mtu: 1450,
        };
        let probe = wire::control::emit(&head, &probe).plaintext(1 << 30).to_vec();
        for (bytes, reason) in [
            (frame, DropReason::Unsealed),
            (control, DropReason::HandshakeMalformed),
            (probe, DropReason::HandshakeMalformed),
        ] {
            let dropped = world.nodes[node].drops(reason);
            world.hand(Flight { to: node, arrival, bytes });
            assert_eq!(world.nodes[node].drops(reason) - dropped, 1, "{}", reason.name());
        }
        assert_eq!(state(&world, node), before);
    }
}

#[test]
fn a_sealed_datagram_with_any_byte_changed_is_never_taken() {
    for mode in crate::proto::scheduler::Mode::ALL {
        let mut world = World::established(Setup { mode, ..Setup::default() });
        world.network = |_, _| vec![];
        let number = world.offer(BOX, 0);
        let frame = world.sent_to(GATEWAY).pop().expect("it was sent");
        world.run(30);
        let control = world.sent_to(GATEWAY).pop().expect("a probe or a reply");
        assert!(!control.is_handshake() && control.bytes != frame.bytes);
        for flight in [&frame, &control] {
            let before = state(&world, GATEWAY);
            for at in 0..flight.bytes.len() {
                for bit in [0, 7] {
                    let mut bytes = flight.bytes.clone();
                    bytes[at] ^= 1 << bit;
                    let dropped = world.nodes[GATEWAY].end.drops().total();
                    world.hand(Flight { bytes, ..flight.clone() });
                    assert_eq!(world.nodes[GATEWAY].end.drops().total() - dropped, 1, "byte {at}");
                }
            }
            for cut in 0..flight.bytes.len() {
                world.hand(Flight { bytes: flight.bytes[..cut].to_vec(), ..flight.clone() });
            }
            world.hand(Flight { bytes: [&flight.bytes[..], &[0]].concat(), ..flight.clone() });
            assert_eq!(state(&world, GATEWAY), before);
        }
        assert_eq!(world.take_delivered(BOX)[0], Vec::<u32>::new());
        world.hand(frame);
        world.run(200);
        assert_eq!(world.take_delivered(BOX)[0], [number], "what was not changed is taken");
    }
}

#[test]
fn what_is_replayed_is_dropped_even_under_keys_that_have_just_been_replaced() {
    let setup = Setup { rekey_interval: Duration::from_secs(1), ..Setup::default() };
    let mut world = World::established(setup);
    world.take_delivered(BOX);
    world.stream(BOX, 1_100);
    world.run(100);
    for node in [GATEWAY, BOX] {
        let before = state(&world, node);
        let count = |world: &World| {
            [DropReason::FrameReplayed, DropReason::ControlReplayed, DropReason::UnknownSession]
                .map(|reason| world.nodes[node].drops(reason))
        };
        let dropped = count(&world);
        let sealed = world.sealed_received_by(node);
        let total = sealed.len() as u64;
        sealed.into_iter().for_each(|flight| drop(world.hand(flight)));
        let now = count(&world);
        let [frames, control, unknown] = [0, 1, 2].map(|at| now[at] - dropped[at]);
        assert_eq!(frames + control + unknown, total);
        assert!(frames > 500 && control > 20, "{frames} {control} {unknown}");
        assert_eq!(state(&world, node), before);
    }
}

fn is_control(flight: &Flight) -> bool {
    matches!(wire::parse_keyed(&flight.bytes), Ok(wire::KeyedDatagram::Control { .. }))
}

#[test]
fn control_messages_that_were_held_back_have_nothing_delivered_again() {
    let mut world = World::established(Setup::default());
    world.take_delivered(BOX);
    let held_from = world.recorded.len();
    // Their operators let the frames pass, and nothing else; and then, for a while, nothing at all.
    world.network = |_, flight| if flight.to == GATEWAY && is_control(flight) { vec![] } else { vec![Duration::ZERO] };
    world.stream(BOX, 60);
    world.network = |_, _| vec![];
    world.run(200);
    let [delivered, _] = world.take_delivered(BOX);
    assert!(delivered.len() > 30, "{delivered:?}");
    let sent: Vec<_> = world.recorded[held_from..].iter().map(|(_, flight)| flight.clone()).collect();
    let to_gateway = || sent.iter().filter(|flight| flight.to == GATEWAY).cloned();
    to_gateway().filter(is_control).for_each(|flight| drop(world.hand(flight)));
    to_gateway().filter(|flight| !is_control(flight)).for_each(|flight| drop(world.hand(flight)));
    world.run(200);
    let [more, _] = world.take_delivered(BOX);
    assert!(more.iter().all(|number| !delivered.contains(number)), "{more:?} after {delivered:?}");
    let events = &world.nodes[GATEWAY].events;
    assert!(!events.iter().any(|event| matches!(event, Event::Resynchronised(_))), "{events:?}");
}

fn is_by_second(flight: &Flight) -> bool {
    [Arrival::Uplink(uplink(1)), Arrival::Path(path(BOX, uplink(1)))].contains(&flight.arrival)
}

#[test]
fn frames_sent_on_as_if_by_another_uplink_are_no_sign_of_its_life() {
    let mut world = World::established(Setup::default());
    world.stream(BOX, 200);
    // The second uplink has failed, and the first one's frames come as if by it, sooner than by the first.
    world.network = |_, flight| if is_by_second(flight) { vec![] } else { vec![Duration::ZERO] };
    for _ in 0..300 {
        let so_far = world.recorded.len();
        world.stream(BOX, 1);
        let sent: Vec<_> = world.recorded[so_far..].iter().map(|(_, flight)| flight.clone()).collect();
        let frames = sent.into_iter().filter(|flight| !is_by_second(flight) && !is_control(flight));
        for flight in frames {
            let arrival = match flight.arrival {
                Arrival::Uplink(_) => Arrival::Uplink(uplink(1)),
                Arrival::Path(_) => Arrival::Path(path(BOX, uplink(1))),
            };
            world.hand(Flight { arrival, ..flight });
        }
    }
    for node in [BOX, GATEWAY] {
        let tunnel = &world.nodes[node].end.tunnels()[0];
        assert_eq!(tunnel.uplink(uplink(0)).state(), State::Up);
        assert_ne!(tunnel.uplink(uplink(1)).state(), State::Up);
    }
}

#[test]
fn a_probe_that_is_replayed_from_elsewhere_moves_nothing() {
    let mut world = World::established(Setup::default());
    world.stream(BOX, 200);
    let before = state(&world, GATEWAY);
    let arrival = Arrival::Path(strange_path());
    for flight in world.sealed_received_by(GATEWAY) {
        world.hand(Flight { arrival, ..flight });
    }
    assert_eq!(state(&world, GATEWAY), before);
    world.stream(BOX, 100);
    assert_eq!(world.astray, Vec::<Vec<u8>>::new());
}

#[test]
fn what_a_box_has_sent_is_void_once_it_has_said_good_bye() {
    let mut world = World::established(Setup::default());
    world.stream(BOX, 200);
    let now = world.now;
    world.nodes[BOX].end.tunnel_mut(0).handle_shutdown(now);
    world.run(100);
    let sealed = world.sealed_received_by(GATEWAY);
    world.network = |_, _| vec![];
    // By then another start of the box would be believed.
    world.run(6_000);
    world.take_delivered(BOX);
    let arrival = Arrival::Path(strange_path());
    for flight in sealed {
        world.hand(Flight { arrival, ..flight });
    }
    world.run(200);
    assert_eq!(world.take_delivered(BOX)[0], Vec::<u32>::new());
    assert_eq!(world.nodes[GATEWAY].end.tunnels()[0].path(uplink(0)), None);
    assert_eq!(world.astray, Vec::<Vec<u8>>::new());
}

#[test]
fn what_a_gateway_has_sent_is_void_once_it_has_said_good_bye() {
    let mut world = World::established(Setup::default());
    world.stream(BOX, 200);
    let now = world.now;
    world.nodes[GATEWAY].end.tunnel_mut(0).handle_shutdown(now);
    world.run(100);
    let sealed = world.sealed_received_by(BOX);
    world.network = |_, _| vec![];
    world.run(6_000);
    world.take_delivered(BOX);
    sealed.into_iter().for_each(|flight| drop(world.hand(flight)));
    world.run(200);
    assert_eq!(world.take_delivered(BOX)[1], Vec::<u32>::new());
}

/// A stranger's question, of one who knows the gateway's key.
fn strangers_initiation(number: usize) -> Vec<u8> {
    let host = &mut SeededHost::new(number as u64);
    let settings = InitiatorSettings {
        identity: Identity { private_key: private_key(1000 + number), ciphers: Ciphers::ALL, epoch: 1 },
        peer: private_key(GATEWAY).public(),
        preshared: PresharedKey::NONE,
        rekey_interval: Duration::from_secs(120),
    };
    let mut initiator = Initiator::new(host, settings);
    let position = crate::proto::seq::Position { frame: 1 << 32, control: 1 };
    initiator.on_timeout(Instant::ZERO, host, UplinkSet::only(uplink(0)), position);
    initiator.poll_transmit().expect("it asks at once").bytes.to_vec()
}

/// Strangers use up what anybody is allowed. Returns what they were told.
fn flood(world: &mut World) -> Vec<Vec<u8>> {
    let arrival = Arrival::Path(strange_path());
    (0..60)
        .flat_map(|number| world.hand(Flight { to: GATEWAY, arrival, bytes: strangers_initiation(number) }))
        .collect()
}

#[test]
fn under_a_flood_a_box_gets_in_by_showing_where_it_is() {
    let mut world = World::new(Setup { delays: [Duration::ZERO; 2], ..Setup::default() });
    let answers = flood(&mut world);
    assert_eq!(world.nodes[GATEWAY].drops(DropReason::HandshakeRejected), 50);
    assert_eq!(world.nodes[GATEWAY].drops(DropReason::HandshakeThrottled), 10);
    assert!(answers.len() == 10 && answers.iter().all(|answer| answer.len() == COOKIE_LENGTH));
    world.run(0);
    assert!(world.nodes[GATEWAY].is_sealed_to());
    assert!(world.nodes[GATEWAY].drops(DropReason::HandshakeThrottled) > 10, "it was asked for a cookie first");
}

#[test]
fn under_a_flood_whoever_gets_no_cookie_does_not_get_in() {
    let mut world = World::new(Setup { delays: [Duration::ZERO; 2], ..Setup::default() });
    world.network = |_, flight| if flight.kind() == Some(3) { vec![] } else { vec![Duration::ZERO] };
    flood(&mut world);
    world.run(0);
    assert!(!world.nodes[BOX].is_sealed_to());
    assert_eq!(only(&world, BOX, RESPONSE).len(), 0);
    world.run(2_000);
    assert!(world.nodes[BOX].is_sealed_to(), "the flood is over");
}

#[test]
fn a_cookie_for_one_address_is_no_good_for_another() {
    let mut world = World::new(Setup { delays: [Duration::ZERO; 2], ..Setup::default() });
    // The box's questions with a cookie do not come through.
    world.network = |_, flight| {
        let has_mac2 = flight.kind() == INITIATION && flight.bytes[INITIATION_LENGTH - MAC_LENGTH..] != [0; 16];
        if has_mac2 { vec![] } else { vec![Duration::ZERO] }
    };
    flood(&mut world);
    world.run(0);
    let with_cookie: Vec<_> = only(&world, GATEWAY, INITIATION)
        .into_iter()
        .filter(|flight| flight.bytes[INITIATION_LENGTH - MAC_LENGTH..] != [0; 16])
        .collect();
    assert_eq!(with_cookie.len(), 2, "one by each uplink");
    let answer = |world: &mut World, arrival| {
        world.hand(Flight { arrival, ..with_cookie[0].clone() }).iter().map(Vec::len).collect::<Vec<_>>()
    };
    assert_eq!(answer(&mut world, Arrival::Path(strange_path())), [COOKIE_LENGTH]);
    assert_eq!(answer(&mut world, with_cookie[1].arrival), [COOKIE_LENGTH]);
    assert_eq!(answer(&mut world, with_cookie[0].arrival), [RESPONSE_LENGTH]);
}

#[test]
fn a_datagram_is_cut_to_the_text_of_it() {
    use crate::proto::endpoint::Datagram;
    let text = bytes::BytesMut::from(&b"header text tag"[..]).into_payload(7..11);
    assert_eq!(text, Bytes::from_static(b"text"));
}
