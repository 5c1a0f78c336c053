//! The whole core: one end's way in, one end's way out, and a frame's way through both.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use braid::proto::scheduler::{Mode, SchedulerConfig};
use braid::proto::time::Instant;
use braid::proto::tunnel::{Arrival, Path, Role, Settings, Tunnel, UplinkSettings};
use braid::proto::uplink::state::State;
use braid::proto::uplink::{UplinkId, UplinkName};
use divan::{Bencher, black_box};

use crate::packet::Packet;

/// 100,000 frames a second: 1.1 Gbit/s.
const FRAME_EVERY: Duration = Duration::from_micros(10);
/// How many frames the reactor moves in one go.
const FRAMES_PER_WAKE_UP: u64 = 16;

fn modes() -> [&'static str; Mode::ALL.len()] {
    Mode::ALL.map(Mode::name)
}

#[divan::bench(args = modes())]
fn frame_in(bencher: Bencher, mode: &str) {
    let Pair { now, mut sender, .. } = Pair::new(mode);
    bencher.bench_local(|| {
        sender.handle_frame(now, black_box(Packet::FRAME));
        sender.poll_frame().expect("it is sent")
    });
}

#[divan::bench]
fn datagram_out(bencher: Bencher) {
    let Pair { now, mut receiver, .. } = Pair::new(Mode::BalanceRr.name());
    let mut sequence = 0_u32;
    bencher.bench_local(|| {
        let datagram = Packet::numbered(sequence);
        receiver.handle_datagram(now, arrival(uplink((sequence % 2) as u8)), datagram);
        sequence += 1;
        receiver.poll_deliver().expect("it is delivered")
    });
}

/// Handled as the reactor does: some frames, then what is due and what there is to say.
#[divan::bench(args = modes())]
fn frame_in_and_out(bencher: Bencher, mode: &str) {
    let mut pair = Pair::new(mode);
    bencher.bench_local(|| pair.pass());
    let [sent, delivered] = [&pair.sender, &pair.receiver].map(|tunnel| tunnel.counters());
    assert_eq!(sent.sent.packets, delivered.delivered.packets, "{delivered:?}");
}

/// A box that sends to a gateway, both uplinks up.
struct Pair {
    now: Instant,
    passed: u64,
    sender: Tunnel<Packet>,
    receiver: Tunnel<Packet>,
}

impl Pair {
    fn new(mode: &str) -> Self {
        let mode = Mode::ALL.into_iter().find(|known| known.name() == mode).expect("one of them");
        let now = Instant::from_nanos(1_000_000_000);
        let [sender, receiver] = [Role::Box, Role::Gateway].map(|role| Tunnel::new(now, &settings(role, mode)));
        let mut pair = Self { now, passed: 0, sender, receiver };
        let uplinks = [uplink(0), uplink(1)];
        uplinks.iter().for_each(|uplink| pair.sender.handle_uplink_attached(now, *uplink));
        for _ in 0..10 {
            pair.now = pair.now + Duration::from_millis(20);
            pair.talk();
        }
        let is_up = |tunnel: &Tunnel<Packet>| uplinks.iter().all(|uplink| tunnel.uplink(*uplink).state() == State::Up);
        assert!(is_up(&pair.sender) && is_up(&pair.receiver));
        pair
    }

    /// One frame, from one end's TAP to the other's.
    fn pass(&mut self) {
        self.now = self.now + FRAME_EVERY;
        self.sender.handle_frame(self.now, black_box(Packet::FRAME));
        while let Some(frame) = self.sender.poll_frame() {
            let header = frame.plaintext_header();
            let datagram = frame.payload.encapsulated(header);
            for uplink in frame.uplinks.iter() {
                self.receiver.handle_datagram(self.now, arrival(uplink), datagram.clone());
            }
        }
        while let Some(frame) = self.receiver.poll_deliver() {
            black_box(frame);
        }
        self.passed += 1;
        if self.passed.is_multiple_of(FRAMES_PER_WAKE_UP) {
            self.talk();
        }
    }

    /// Probes and their answers, if any are due.
    fn talk(&mut self) {
        let now = self.now;
        for tunnel in [&mut self.sender, &mut self.receiver] {
            if tunnel.poll_timeout(now).0 <= now {
                tunnel.handle_timeout(now);
            }
        }
        let mut silent = false;
        while !silent {
            silent = true;
            while let Some(mut control) = self.sender.poll_control() {
                let datagram = Packet::Control(control.plaintext().into());
                self.receiver.handle_datagram(now, arrival(control.uplink), datagram);
            }
            while let Some(mut control) = self.receiver.poll_control() {
                let datagram = Packet::Control(control.plaintext().into());
                self.sender.handle_datagram(now, Arrival::Uplink(control.uplink), datagram);
                silent = false;
            }
        }
    }
}

fn settings(role: Role, mode: Mode) -> Settings {
    let uplink = |name| UplinkSettings::named(UplinkName::new(name).expect("lawful"));
    Settings {
        role,
        epoch: 1 + role as u64,
        first_sequence: 0,
        scheduler: SchedulerConfig::new(mode),
        window: Some(Duration::from_millis(40)),
        window_follows: false,
        probe_interval: Duration::from_millis(20),
        tap_mtu: 1450,
        uplinks: if role == Role::Box { vec![uplink("a"), uplink("b")] } else { vec![] },
    }
}

fn uplink(number: u8) -> UplinkId {
    UplinkId::new(number).expect("within range")
}

/// How what goes by an uplink reaches the gateway.
fn arrival(uplink: UplinkId) -> Arrival {
    let remote = SocketAddr::from((Ipv4Addr::LOCALHOST, 1000 + u16::from(uplink.number())));
    Arrival::Path(Path { remote, local: None })
}
