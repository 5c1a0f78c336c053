//! Two tunnels in virtual time, joined by links with a delay that can be cut.

mod sizes;
mod spent;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use super::*;
use crate::proto::scheduler::{Mode, PrimaryReselect, SchedulerConfig};

const WINDOW: Duration = Duration::from_millis(40);
const FRAME_LENGTH: usize = 1330;

impl Payload for Vec<u8> {
    fn bytes(&self) -> &[u8] {
        self
    }

    fn advance(&mut self, count: usize) {
        self.drain(..count);
    }
}

fn id(number: u8) -> UplinkId {
    UplinkId::new(number).expect("within range")
}

fn settings(role: Role, mode: Mode, epoch: u64, first_sequence: u32) -> Settings {
    let names: &[&str] = if role == Role::Box { &["fast", "slow"] } else { &[] };
    Settings {
        role,
        epoch,
        first_sequence,
        scheduler: SchedulerConfig {
            mode,
            packets_per_uplink: NonZeroU32::MIN,
            primary: UplinkName::new("fast").ok(),
            primary_reselect: PrimaryReselect::Always,
            redundancy: vec![],
        },
        window: Some(WINDOW),
        window_follows: false,
        probe_interval: Duration::from_millis(20),
        tap_mtu: 1450,
        uplinks: names.iter().map(|n| UplinkSettings::named(UplinkName::new(n).expect("lawful"))).collect(),
    }
}

#[derive(Clone, Copy)]
struct Link {
    delay: Duration,
    towards_gateway: bool,
    towards_box: bool,
    port: u16,
    /// The longest datagram that it carries.
    carries: usize,
}

/// A box, a gateway, two links, a clock.
struct World {
    now: Instant,
    mode: Mode,
    ends: [Tunnel<Vec<u8>>; 2],
    links: [Link; 2],
    flying: BTreeMap<(Instant, u64), (usize, UplinkId, Vec<u8>)>,
    flown: u64,
    /// Per end: what it delivered, and when.
    delivered: [Vec<(u32, Instant)>; 2],
    offered: [BTreeMap<u32, Instant>; 2],
}

const BOX: usize = 0;
const GATEWAY: usize = 1;

impl World {
    fn new(mode: Mode) -> Self {
        Self::with_first_sequence(mode, 0)
    }

    fn with_first_sequence(mode: Mode, first_sequence: u32) -> Self {
        let now = Instant::from_nanos(5_000_000_000);
        let link = |milliseconds, port| Link {
            delay: Duration::from_millis(milliseconds),
            towards_gateway: true,
            towards_box: true,
            port,
            carries: usize::MAX,
        };
        let mut world = Self {
            now,
            mode,
            ends: [
                Tunnel::new(now, &settings(Role::Box, mode, 11, first_sequence)),
                Tunnel::new(now, &settings(Role::Gateway, mode, 22, first_sequence)),
            ],
            links: [link(20, 1000), link(45, 2000)],
            flying: BTreeMap::new(),
            flown: 0,
            delivered: [vec![], vec![]],
            offered: [BTreeMap::new(), BTreeMap::new()],
        };
        world.attach_box();
        world.run(300);
        world
    }

    fn attach_box(&mut self) {
        (0..2).for_each(|number| self.ends[BOX].handle_uplink_attached(self.now, id(number)));
    }

    fn restart(&mut self, end: usize, epoch: u64) {
        let role = if end == BOX { Role::Box } else { Role::Gateway };
        self.ends[end] = Tunnel::new(self.now, &settings(role, self.mode, epoch, 0));
        if end == BOX {
            self.links.iter_mut().for_each(|link| link.port += 1);
            self.attach_box();
        }
    }

    fn offer(&mut self, end: usize, number: u32) {
        let mut frame = number.to_be_bytes().to_vec();
        frame.resize(FRAME_LENGTH, 0);
        self.offered[end].insert(number, self.now);
        self.ends[end].handle_frame(self.now, frame);
        self.drain(end);
    }

    fn drain(&mut self, end: usize) {
        while let Some(frame) = self.ends[end].poll_frame() {
            let datagram = [&frame.plaintext_header()[..], &frame.payload].concat();
            frame.uplinks.iter().for_each(|uplink| self.fly(end, uplink, datagram.clone()));
        }
        while let Some(mut control) = self.ends[end].poll_control() {
            self.fly(end, control.uplink, control.plaintext().to_vec());
        }
        while let Some(mut sounding) = self.ends[end].poll_sounding() {
            let (uplink, datagram) = (sounding.uplink, sounding.plaintext().to_vec());
            assert!(datagram.len() <= sizes::LONGEST, "no longer than the longest frame");
            self.fly(end, uplink, datagram);
        }
        while let Some(frame) = self.ends[end].poll_deliver() {
            let number = u32::from_be_bytes(frame[..4].try_into().expect("four bytes"));
            self.delivered[end].push((number, self.now));
        }
    }

    fn fly(&mut self, from: usize, uplink: UplinkId, datagram: Vec<u8>) {
        let link = self.links[uplink.index()];
        let open = if from == BOX { link.towards_gateway } else { link.towards_box };
        if open && datagram.len() <= link.carries {
            self.flown += 1;
            self.flying.insert((self.now + link.delay, self.flown), (1 - from, uplink, datagram));
        }
    }

    fn run(&mut self, milliseconds: u64) {
        let end = self.now + Duration::from_millis(milliseconds);
        loop {
            let arrival = self.flying.first_key_value().map(|((at, _), _)| *at);
            let timers = self.ends.each_mut().map(|tunnel| tunnel.poll_timeout(self.now).0);
            let next = timers.into_iter().chain(arrival).min().expect("probes never end").max(self.now);
            if next > end {
                self.now = end;
                return;
            }
            self.now = next;
            self.step();
        }
    }

    fn step(&mut self) {
        while let Some(entry) = self.flying.first_entry().filter(|entry| entry.key().0 <= self.now) {
            let (to, uplink, datagram) = entry.remove();
            let arrival = if to == BOX { Arrival::Uplink(uplink) } else { Arrival::Path(self.path(uplink)) };
            self.ends[to].handle_datagram(self.now, arrival, datagram);
            self.drain(to);
        }
        for end in [BOX, GATEWAY] {
            if self.ends[end].poll_timeout(self.now).0 <= self.now {
                self.ends[end].handle_timeout(self.now);
                self.drain(end);
            }
        }
    }

    fn path(&self, uplink: UplinkId) -> Path {
        let remote = SocketAddr::from((Ipv4Addr::new(10, 0, 0, uplink.number()), self.links[uplink.index()].port));
        Path { remote, local: None }
    }

    /// Offers a frame every millisecond to `end`.
    fn stream(&mut self, end: usize, numbers: std::ops::Range<u32>) {
        for number in numbers {
            self.offer(end, number);
            self.run(1);
        }
    }

    fn states(&self, end: usize) -> [State; 2] {
        [self.ends[end].uplink(id(0)).state(), self.ends[end].uplink(id(1)).state()]
    }

    /// What the far end of `from` delivered must be in order and once; returns how many are missing.
    fn missing(&self, from: usize) -> usize {
        let delivered = &self.delivered[1 - from];
        assert!(delivered.windows(2).all(|pair| pair[0].0 < pair[1].0), "in order, and once");
        self.offered[from].len() - delivered.len()
    }

    fn latency_max(&self, from: usize) -> Duration {
        let latency = |(number, at): &(u32, Instant)| at.since(self.offered[from][number]);
        self.delivered[1 - from].iter().map(latency).max().unwrap_or_default()
    }
}

#[test]
fn both_ends_find_each_other_on_every_uplink() {
    let world = World::new(Mode::BalanceRr);
    for end in [BOX, GATEWAY] {
        assert_eq!(world.states(end), [State::Up, State::Up]);
    }
    assert_eq!(world.ends[GATEWAY].uplink(id(1)).name.as_str(), "slow");
    let round_trip = world.ends[GATEWAY].uplink(id(1)).measurements.round_trip().expect("measured");
    assert_eq!(round_trip.smoothed, Duration::from_millis(90));
}

#[test]
fn without_faults_nothing_is_lost_in_any_mode_or_direction() {
    for mode in Mode::ALL {
        let mut world = World::with_first_sequence(mode, u32::MAX - 700);
        for number in 0..2000 {
            world.offer(BOX, number);
            world.offer(GATEWAY, number);
            world.run(1);
        }
        world.run(200);
        for end in [BOX, GATEWAY] {
            assert_eq!(world.missing(end), 0, "{mode:?}");
            let slowest = if mode == Mode::BalanceRr { 45 } else { 20 };
            assert_eq!(world.latency_max(end), Duration::from_millis(slowest), "{mode:?}");
        }
    }
}

#[test]
fn broadcast_does_not_feel_a_silent_blackhole() {
    for cut in [0, 1] {
        let mut world = World::new(Mode::Broadcast);
        world.stream(BOX, 0..500);
        world.links[cut].towards_gateway = false;
        world.links[cut].towards_box = false;
        world.stream(BOX, 500..2000);
        world.run(100);
        assert_eq!(world.missing(BOX), 0);
        assert!(world.latency_max(BOX) <= Duration::from_millis(45));
        assert_eq!(world.states(BOX)[cut], State::Down);
    }
}

#[test]
fn balance_rr_notices_a_silent_blackhole_within_150_ms_and_returns() {
    for cut in [0, 1] {
        let mut world = World::new(Mode::BalanceRr);
        world.stream(BOX, 0..500);
        world.links[cut].towards_gateway = false;
        world.links[cut].towards_box = false;
        world.stream(BOX, 500..1500);
        world.run(100);
        let lost = world.missing(BOX);
        assert!(lost <= 75, "half of 150 ms at a frame a millisecond, but lost {lost}");
        assert!(world.latency_max(BOX) <= Duration::from_millis(45) + WINDOW);
        world.links[cut].towards_gateway = true;
        world.links[cut].towards_box = true;
        world.stream(BOX, 1500..4000);
        world.run(100);
        assert_eq!(world.missing(BOX), lost, "nothing is lost on the way back");
        assert_eq!(world.states(BOX), [State::Up, State::Up]);
    }
}

#[test]
fn a_way_that_is_dead_in_one_direction_is_still_used_in_the_other() {
    let mut world = World::new(Mode::BalanceRr);
    world.stream(BOX, 0..200);
    world.links[1].towards_gateway = false;
    world.stream(BOX, 200..1200);
    assert_eq!(world.states(BOX), [State::Up, State::Down]);
    assert_eq!(world.ends[GATEWAY].uplink(id(1)).state(), State::Up, "its frames do reach the box");
}

#[test]
fn a_restart_of_either_end_is_delivered_again_within_a_probe_interval() {
    for end in [BOX, GATEWAY] {
        for mode in Mode::ALL {
            let mut world = World::new(mode);
            world.stream(BOX, 0..3000);
            world.restart(end, 99);
            let restarted = world.now;
            world.stream(BOX, 10_000..11_000);
            let first = world.delivered[GATEWAY].iter().find(|(number, _)| *number >= 10_000).expect("delivered").1;
            let silence = first.since(restarted);
            assert!(silence <= Duration::from_millis(20 + 45 + 1), "{mode:?}: {silence:?}");
            world.run(300);
            world.stream(BOX, 20_000..21_000);
            world.run(100);
            let last = world.delivered[GATEWAY].iter().filter(|(number, _)| *number >= 20_000).count();
            assert_eq!(last, 1000, "{mode:?}: afterwards nothing is lost");
        }
    }
}

#[test]
fn what_a_former_gateway_has_sent_is_not_taken_for_the_next_ones() {
    for mode in Mode::ALL {
        let mut world = World::new(mode);
        world.stream(GATEWAY, 0..500);
        world.restart(GATEWAY, 99);
        world.stream(GATEWAY, 500..1500);
        world.run(100);
        let missing = world.missing(GATEWAY);
        assert!(missing <= 130, "{mode:?}: what was sent until the box was found again, but {missing} are missing");
    }
}

#[test]
fn a_probe_left_from_a_former_start_is_no_restart() {
    for mode in Mode::ALL {
        let mut world = World::new(mode);
        world.stream(BOX, 0..100);
        // The new box is heard by the faster uplink while probes of the old one are still on their way by the slower.
        world.restart(GATEWAY, 99);
        world.restart(BOX, 98);
        world.run(300);
        assert_eq!(world.states(GATEWAY), [State::Up, State::Up], "{mode:?}");
        world.stream(BOX, 1000..1500);
        world.run(100);
        assert_eq!(world.delivered[GATEWAY].iter().filter(|(number, _)| *number >= 1000).count(), 500, "{mode:?}");
    }
}

#[test]
fn the_peer_learns_at_once_of_an_uplink_that_is_unplugged() {
    let mut world = World::new(Mode::BalanceRr);
    world.stream(GATEWAY, 0..100);
    world.ends[BOX].handle_uplink_detached(world.now, id(1), Reason::NoCarrier);
    world.drain(BOX);
    world.links[1].towards_box = false;
    world.links[1].towards_gateway = false;
    world.stream(GATEWAY, 100..400);
    world.run(100);
    let lost = world.missing(GATEWAY);
    assert!(lost <= 34, "half of what is sent until the news has come by the faster one, and was under way: {lost}");
}

#[test]
fn a_sender_that_pauses_loses_nothing_by_the_slower_uplink() {
    let mut world = World::new(Mode::BalanceRr);
    world.stream(BOX, 0..100);
    // All that was under way has come before the box goes on, and its probes are overdue.
    let paused = world.now;
    while world.now < paused + Duration::from_millis(150) {
        world.now = world.now + Duration::from_millis(1);
        while let Some(entry) = world.flying.first_entry().filter(|entry| entry.key().0 <= world.now) {
            let (to, uplink, datagram) = entry.remove();
            if to == GATEWAY {
                world.ends[GATEWAY].handle_datagram(world.now, Arrival::Path(world.path(uplink)), datagram);
            }
        }
        world.ends[GATEWAY].handle_timeout(world.now);
        world.drain(GATEWAY);
    }
    world.stream(BOX, 100..300);
    world.run(100);
    assert_eq!(world.missing(BOX), 0);
}

#[test]
fn the_gateway_follows_an_uplink_whose_address_changes() {
    let mut world = World::new(Mode::BalanceRr);
    world.stream(BOX, 0..500);
    world.links[0].port = 7777;
    world.stream(BOX, 500..1500);
    world.run(100);
    let lost = world.missing(BOX);
    assert!(lost <= 11, "half of what a probe interval brings, but lost {lost}");
    assert_eq!(world.ends[GATEWAY].path(id(0)).expect("known").remote.port(), 7777);
}

#[test]
fn a_good_bye_is_understood() {
    let mut world = World::new(Mode::Broadcast);
    world.ends[BOX].handle_shutdown(world.now);
    world.drain(BOX);
    world.run(25);
    assert!(world.ends[GATEWAY].attached().is_empty(), "the gateway has forgotten the box");
}

#[test]
fn nothing_foreign_is_delivered_or_answered_beyond_its_size() {
    let mut world = World::new(Mode::Broadcast);
    let stranger = Arrival::Path(Path { remote: SocketAddr::from((Ipv4Addr::new(9, 9, 9, 9), 9)), local: None });
    let frame = [&wire::frame_header(50)[..], &[0; 60]].concat();
    for datagram in [frame, vec![], vec![0x30, 0, 0x88], wire::control_header(1).to_vec(), vec![0xff; 1400]] {
        world.ends[GATEWAY].handle_datagram(world.now, stranger, datagram);
        assert!(world.ends[GATEWAY].poll_deliver().is_none());
        assert!(world.ends[GATEWAY].poll_control().is_none());
    }
    let drops = world.ends[GATEWAY].counters().drops;
    assert_eq!(drops.get(DropReason::UnknownSource), 1);
    assert_eq!(drops.nonzero().map(|(_, count)| count).sum::<u64>(), 5);
}

#[test]
fn a_replayed_control_message_is_dropped() {
    let mut world = World::new(Mode::Broadcast);
    world.ends[BOX].probe_all(world.now);
    let probe = world.ends[BOX].poll_control().expect("a probe").plaintext().to_vec();
    for replayed in [0, 1] {
        let path = Arrival::Path(world.path(id(0)));
        world.ends[GATEWAY].handle_datagram(world.now, path, probe.clone());
        assert_eq!(world.ends[GATEWAY].counters().drops.get(DropReason::ControlReplayed), replayed);
    }
}

#[test]
fn frames_that_are_replayed_neither_keep_an_uplink_alive_nor_count_as_received() {
    let mut world = World::new(Mode::BalanceRr);
    world.stream(BOX, 0..500);
    let by_slow = |(to, uplink, datagram): &(usize, UplinkId, Vec<u8>)| {
        let is_frame = matches!(wire::parse(datagram), Ok(Datagram::Frame { .. }));
        (*to == GATEWAY && *uplink == id(1) && is_frame).then(|| datagram.clone())
    };
    let frames: Vec<_> = world.flying.values().filter_map(by_slow).collect();
    assert!(frames.len() > 10, "{}", frames.len());
    world.run(60);
    world.links[1].towards_gateway = false;
    world.links[1].towards_box = false;
    let received = world.ends[GATEWAY].uplink(id(1)).received;
    for _ in 0..500 {
        for frame in &frames {
            let path = Arrival::Path(world.path(id(1)));
            world.ends[GATEWAY].handle_datagram(world.now, path, frame.clone());
        }
        world.run(1);
    }
    let gateway = &world.ends[GATEWAY];
    assert_eq!(gateway.counters().drops.get(DropReason::FrameReplayed), 500 * frames.len() as u64);
    assert_eq!(gateway.uplink(id(1)).received, received);
    assert_eq!(gateway.uplink(id(1)).state(), State::Down);
}

#[test]
fn runts_and_jumbos_from_the_tap_are_dropped_and_counted() {
    let mut world = World::new(Mode::Broadcast);
    world.ends[BOX].handle_frame(world.now, vec![0; 13]);
    world.ends[BOX].handle_frame(world.now, vec![0; 1450 + 19]);
    assert!(world.ends[BOX].poll_frame().is_none());
    world.ends[BOX].handle_frame(world.now, vec![0; 1450 + 18]);
    assert!(world.ends[BOX].poll_frame().is_some());
    let drops = world.ends[BOX].counters().drops;
    assert_eq!((drops.get(DropReason::Runt), drops.get(DropReason::Oversize)), (1, 1));
}

#[test]
fn an_idle_tunnel_stays_up_and_is_alert_when_frames_come_again() {
    let mut world = World::new(Mode::BalanceRr);
    while world.ends[BOX].poll_event().is_some() {}
    world.run(60_000);
    assert_eq!(world.ends[BOX].poll_event(), None, "no uplink has wavered");
    world.stream(BOX, 0..500);
    world.run(100);
    assert_eq!(world.missing(BOX), 0);
    assert_eq!(world.ends[BOX].poll_event(), None);
}

#[test]
fn a_lost_carrier_is_left_at_once() {
    let mut world = World::new(Mode::BalanceRr);
    world.stream(BOX, 0..100);
    world.ends[BOX].handle_uplink_detached(world.now, id(0), Reason::NoCarrier);
    world.stream(BOX, 100..200);
    world.run(100);
    assert_eq!(world.missing(BOX), 0);
    world.ends[BOX].handle_uplink_attached(world.now, id(0));
    world.run(50);
    assert_eq!(world.states(BOX)[0], State::Probation);
    world.run(600);
    assert_eq!(world.states(BOX)[0], State::Up);
}
