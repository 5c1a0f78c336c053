//! Sealed tunnels from end to end, in virtual time.

mod hostile;
mod world;

use std::time::Duration;

use self::world::{BOX, Flight, GATEWAY, Network, Setup, World, private_key};
use crate::proto::session::cipher::{Cipher, Ciphers};
use crate::proto::session::keys::PresharedKey;
use crate::proto::stats::DropReason;
use crate::proto::tunnel::Event;

#[test]
fn a_session_comes_up_and_frames_flow_both_ways_each_once_and_in_order() {
    for cipher in Cipher::ALL {
        let ciphers = [Ciphers::only(cipher); 2];
        let mut world = World::established(Setup { ciphers, ..Setup::default() });
        let offered = world.stream(BOX, 300);
        world.run(200);
        assert_eq!(world.take_delivered(BOX), offered);
        for node in &world.nodes {
            assert!(node.events.contains(&Event::Sealed { cipher, is_first: true }), "{:?}", node.events);
            // By the slower uplink question and answer come when all has been said.
            let copies = node.drops(DropReason::HandshakeOver) + node.drops(DropReason::HandshakeReplayed);
            assert_eq!(node.end.drops().total(), copies);
        }
    }
}

#[test]
fn there_is_no_session_before_a_round_trip_and_there_is_one_after_it() {
    let mut world = World::new(Setup::default());
    world.offer(BOX, 0);
    world.run(9);
    assert!(!world.nodes[BOX].is_sealed_to());
    assert!(world.nodes[BOX].drops(DropReason::NoSession) > 0);
    world.run(1);
    assert!(world.nodes[BOX].is_sealed_to() && !world.nodes[GATEWAY].is_sealed_to());
    world.run(5);
    assert!(world.nodes[GATEWAY].is_sealed_to(), "the box has used the session at once");
}

#[test]
fn the_handshake_survives_loss_duplication_and_reordering() {
    let network: Network = |chance, flight: &Flight| {
        if !flight.is_handshake() {
            return vec![Duration::ZERO];
        }
        let copies = [0, 0, 1, 2][chance.next() as usize % 4];
        (0..copies).map(|_| Duration::from_millis(chance.next() % 400)).collect()
    };
    for seed in 0..30 {
        let mut world = World::new(Setup { seed, ..Setup::default() });
        world.network = network;
        world.run(8_000);
        let offered = world.stream(BOX, 50);
        world.run(200);
        assert_eq!(world.take_delivered(BOX), offered, "seed {seed}");
    }
}

#[test]
fn new_keys_take_over_from_old_ones_without_a_frame_lost() {
    for mode in crate::proto::scheduler::Mode::ALL {
        let mut world = World::established(Setup { rekey_interval: Duration::from_secs(1), mode, ..Setup::default() });
        let offered = world.stream(BOX, 10_000);
        world.run(300);
        assert_eq!(world.take_delivered(BOX), offered, "{mode:?}");
        for node in &world.nodes {
            assert!((9..=13).contains(&node.sealed()), "{mode:?}: {:?}", node.events);
            let firsts = node.events.iter().filter(|event| matches!(event, Event::Sealed { is_first: true, .. }));
            assert_eq!(firsts.count(), 1);
            for reason in [DropReason::UnknownSession, DropReason::Unauthenticated, DropReason::NoSession] {
                let before = u64::from(reason == DropReason::NoSession) * 10;
                assert!(node.drops(reason) <= before, "{mode:?}: {}", reason.name());
            }
        }
    }
}

#[test]
fn datagrams_under_old_and_new_keys_arrive_in_turn_for_a_while() {
    let setup = Setup {
        rekey_interval: Duration::from_secs(1),
        delays: [Duration::from_millis(1), Duration::from_millis(60)],
        ..Setup::default()
    };
    let mut world = World::established(setup);
    world.stream(BOX, 1500);
    let to_gateway = world.recorded.iter().filter(|(_, flight)| flight.to == GATEWAY && !flight.is_handshake());
    let mut sealed: Vec<_> = to_gateway.map(|(at, flight)| (*at, flight.bytes[4..8].to_vec())).collect();
    sealed.sort();
    let changes = sealed.windows(2).filter(|pair| pair[0].1 != pair[1].1).count();
    assert!(changes > 10, "{changes}");
    assert_eq!(world.nodes[GATEWAY].drops(DropReason::UnknownSession), 0);
}

#[test]
fn a_gateway_that_has_been_started_again_is_found_within_two_seconds() {
    let mut world = World::established(Setup::default());
    world.stream(BOX, 500);
    world.restart(GATEWAY);
    world.stream(BOX, 2_000);
    world.run(100);
    world.take_delivered(BOX);
    let offered = world.stream(BOX, 200);
    world.run(200);
    assert_eq!(world.take_delivered(BOX), offered);
    assert!(world.nodes[BOX].events.contains(&Event::PeerRestarted));
}

#[test]
fn a_box_that_has_been_started_again_is_let_in_and_its_former_life_is_over() {
    let mut world = World::established(Setup::default());
    world.stream(BOX, 500);
    world.run(100);
    let former = world.sealed_received_by(GATEWAY);
    world.restart(BOX);
    world.run(500);
    world.take_delivered(BOX);
    let offered = world.stream(BOX, 200);
    world.run(200);
    assert_eq!(world.take_delivered(BOX), offered);
    let paths = [0, 1].map(|number| world.nodes[GATEWAY].end.tunnels()[0].path(world::uplink(number)));
    let unknown = world.nodes[GATEWAY].drops(DropReason::UnknownSession);
    let sealed = former.len() as u64;
    former.into_iter().for_each(|flight| drop(world.hand(flight)));
    assert_eq!(world.nodes[GATEWAY].drops(DropReason::UnknownSession) - unknown, sealed);
    assert_eq!(world.take_delivered(BOX), [Vec::<u32>::new(), Vec::new()]);
    assert_eq!([0, 1].map(|number| world.nodes[GATEWAY].end.tunnels()[0].path(world::uplink(number))), paths);
    let offered = world.stream(BOX, 50);
    world.run(200);
    assert_eq!(world.take_delivered(BOX), offered);
}

#[test]
fn a_round_trip_of_600_ms_is_no_obstacle() {
    let setup =
        Setup { delays: [Duration::from_millis(300); 2], rekey_interval: Duration::from_secs(5), ..Setup::default() };
    let mut world = World::new(setup);
    world.run(10_000);
    let sealed = world.nodes[BOX].sealed();
    let offered = world.stream(BOX, 20_000);
    world.run(1_000);
    assert_eq!(world.take_delivered(BOX), offered);
    assert!((3..=6).contains(&(world.nodes[BOX].sealed() - sealed)), "a session every five seconds");
}

#[test]
fn whoever_has_another_key_is_not_let_in_and_the_box_says_that_nobody_answers() {
    let shared = |byte: u8| PresharedKey::from_random([byte; 32]);
    let cases: [(Setup, usize, DropReason); 4] = [
        (
            Setup { box_key: |number| private_key(number + 70), ..Setup::default() },
            GATEWAY,
            DropReason::HandshakeRejected,
        ),
        (Setup { gateway_key: private_key(80).public(), ..Setup::default() }, GATEWAY, DropReason::HandshakeMac),
        (Setup { preshared: [shared(1), shared(2)], ..Setup::default() }, BOX, DropReason::HandshakeRejected),
        (Setup { preshared: [shared(1), PresharedKey::NONE], ..Setup::default() }, BOX, DropReason::HandshakeRejected),
    ];
    for (setup, node, reason) in cases {
        let mut world = World::new(setup);
        world.run(70_000);
        assert!(world.nodes.iter().all(|node| !node.is_sealed_to()), "{}", reason.name());
        assert!(world.nodes[node].drops(reason) > 0, "{}", reason.name());
        let unanswered = world.nodes[BOX].events.iter().filter(|event| **event == Event::Unanswered);
        assert_eq!(unanswered.count(), 2, "at once, and a minute later");
    }
}

#[test]
fn a_shared_secret_that_is_the_same_lets_in() {
    let shared = PresharedKey::from_random([7; 32]);
    World::established(Setup { preshared: [shared.clone(), shared], ..Setup::default() });
}

#[test]
fn the_cipher_is_one_that_both_want() {
    let (aes, chacha) = (Ciphers::only(Cipher::Aes256Gcm), Ciphers::only(Cipher::ChaCha20Poly1305));
    for (ciphers, chosen) in [
        ([Ciphers::ALL, Ciphers::ALL], Cipher::Aes256Gcm),
        ([Ciphers::ALL, chacha], Cipher::ChaCha20Poly1305),
        ([chacha, Ciphers::ALL], Cipher::ChaCha20Poly1305),
        ([aes, Ciphers::ALL], Cipher::Aes256Gcm),
    ] {
        let world = World::established(Setup { ciphers, ..Setup::default() });
        let is_chosen = |event: &Event| matches!(event, Event::Sealed { cipher, .. } if *cipher == chosen);
        assert!(world.nodes.iter().all(|node| node.events.iter().any(is_chosen)));
    }
    let mut world = World::new(Setup { ciphers: [aes, chacha], ..Setup::default() });
    world.run(6_000);
    assert!(world.nodes.iter().all(|node| !node.is_sealed_to()));
    assert!(world.nodes[GATEWAY].events.contains(&Event::CipherRefused));
    assert!(world.nodes[GATEWAY].drops(DropReason::HandshakeRejected) > 0);
}

#[test]
fn two_boxes_at_one_gateway_do_not_get_each_others_frames() {
    let mut world = World::established(Setup { boxes: 2, ..Setup::default() });
    let one = world.stream(BOX, 100);
    let other = world.stream(BOX + 1, 100);
    world.run(200);
    assert_eq!(world.take_delivered(BOX), one);
    assert_eq!(world.take_delivered(BOX + 1), other);
    // What was sealed for one of them is nothing to the other.
    let for_one: Vec<_> = world.sent_to(BOX).into_iter().filter(|flight| !flight.is_handshake()).collect();
    let count = for_one.len() as u64;
    for flight in for_one {
        world.hand(Flight { to: BOX + 1, ..flight });
    }
    let other = &world.nodes[BOX + 1];
    assert_eq!(other.drops(DropReason::UnknownSession) + other.drops(DropReason::Unauthenticated), count);
    assert_eq!(world.take_delivered(BOX + 1), [Vec::<u32>::new(), Vec::new()]);
}
