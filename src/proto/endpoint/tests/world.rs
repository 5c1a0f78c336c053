//! A gateway and its boxes in virtual time, and a network that does as it is told.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use crate::proto::endpoint::{Endpoint, HandshakeDestination, Security};
use crate::proto::scheduler::{Mode, SchedulerConfig};
use crate::proto::session::cipher::Ciphers;
use crate::proto::session::initiator::{Initiator, InitiatorSettings};
use crate::proto::session::keys::{PresharedKey, PrivateKey, PublicKey};
use crate::proto::session::responder::{Admitted, Responder};
use crate::proto::session::transport::OVERHEAD;
use crate::proto::session::{Host, Identity};
use crate::proto::stats::DropReason;
use crate::proto::time::Instant;
use crate::proto::tunnel::{Arrival, Event, Path, Role, Settings, Tunnel, UplinkSettings};
use crate::proto::uplink::{UplinkId, UplinkName};
use crate::proto::wire::{self, KEYED_HEADER_LENGTH, KeyedDatagram};

/// The gateway's place among the nodes; boxes follow.
pub const GATEWAY: usize = 0;
/// The first box.
pub const BOX: usize = 1;

pub const FRAME_LENGTH: usize = 100;
/// More at one moment would never end.
const STEPS_AT_ONCE_MAX: u32 = 1000;

/// Numbers that follow from a seed (SplitMix64), and a clock that is told the time.
pub struct SeededHost {
    state: u64,
    pub time_of_day: Duration,
}

impl SeededHost {
    pub const fn new(seed: u64) -> Self {
        Self { state: seed, time_of_day: Duration::from_secs(1_790_000_000) }
    }

    pub const fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

impl Host for SeededHost {
    fn fill_random(&mut self, bytes: &mut [u8]) {
        bytes.iter_mut().for_each(|byte| *byte = (self.next() >> 56) as u8);
    }

    fn time_of_day(&mut self) -> Duration {
        self.time_of_day
    }
}

pub fn private_key(number: usize) -> PrivateKey {
    let mut bytes = [0x5a; 32];
    bytes[1..9].copy_from_slice(&number.to_be_bytes());
    PrivateKey::from_random(bytes)
}

/// What a world is made with.
#[derive(Clone)]
pub struct Setup {
    pub seed: u64,
    pub boxes: usize,
    pub mode: Mode,
    /// One way, of each uplink.
    pub delays: [Duration; 2],
    pub rekey_interval: Duration,
    /// The gateway's, and the boxes'.
    pub ciphers: [Ciphers; 2],
    /// Which key each box has, and which it takes for the gateway's.
    pub box_key: fn(usize) -> PrivateKey,
    pub gateway_key: PublicKey,
    /// What the gateway and the boxes take for the shared secret.
    pub preshared: [PresharedKey; 2],
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            seed: 1,
            boxes: 1,
            mode: Mode::BalanceRr,
            delays: [Duration::from_millis(5), Duration::from_millis(20)],
            rekey_interval: Duration::from_secs(120),
            ciphers: [Ciphers::ALL; 2],
            box_key: private_key,
            gateway_key: private_key(GATEWAY).public(),
            preshared: [PresharedKey::NONE; 2],
        }
    }
}

pub struct Node {
    pub end: Endpoint<Bytes>,
    pub host: SeededHost,
    /// What came out of each tunnel.
    pub delivered: Vec<Vec<u32>>,
    pub events: Vec<Event>,
}

impl Node {
    /// Drops, of the endpoint and of its tunnels.
    pub fn drops(&self, reason: DropReason) -> u64 {
        self.end.drops().get(reason) + self.end.tunnels().iter().map(|tunnel| tunnel.drops().get(reason)).sum::<u64>()
    }

    pub fn is_sealed_to(&self) -> bool {
        self.events.iter().any(|event| matches!(event, Event::Sealed { .. }))
    }

    pub fn sealed(&self) -> usize {
        self.events.iter().filter(|event| matches!(event, Event::Sealed { .. })).count()
    }
}

/// A datagram at its destination.
#[derive(Clone, Debug)]
pub struct Flight {
    pub to: usize,
    pub arrival: Arrival,
    pub bytes: Vec<u8>,
}

impl Flight {
    pub fn is_handshake(&self) -> bool {
        wire::parse_keyed(&self.bytes) == Ok(KeyedDatagram::Handshake)
    }

    pub fn kind(&self) -> Option<u8> {
        self.is_handshake().then(|| self.bytes[KEYED_HEADER_LENGTH])
    }
}

/// What the network does with a datagram: it comes so much later, as often as there are entries.
pub type Network = fn(&mut SeededHost, &Flight) -> Vec<Duration>;

pub struct World {
    pub now: Instant,
    pub setup: Setup,
    pub nodes: Vec<Node>,
    pub network: Network,
    /// All that has ever been sent, and when it comes unless the network is in the way.
    pub recorded: Vec<(Instant, Flight)>,
    /// Sent to where nobody is.
    pub astray: Vec<Vec<u8>>,
    chance: SeededHost,
    flying: BTreeMap<(Instant, u64), Flight>,
    flown: u64,
    offered: u32,
    starts: u64,
}

pub fn uplink(number: u8) -> UplinkId {
    UplinkId::new(number).expect("within range")
}

pub fn path(node: usize, uplink: UplinkId) -> Path {
    let remote = SocketAddr::from((Ipv4Addr::new(10, 0, node as u8, uplink.number()), 7000));
    Path { remote, local: None }
}

/// Somebody's who is no box.
pub fn strange_path() -> Path {
    Path { remote: SocketAddr::from((Ipv4Addr::new(198, 51, 100, 66), 6666)), local: None }
}

impl World {
    /// Nothing has happened yet.
    pub fn new(setup: Setup) -> Self {
        let mut world = Self {
            now: Instant::from_nanos(5_000_000_000),
            nodes: vec![],
            network: |_, _| vec![Duration::ZERO],
            recorded: vec![],
            astray: vec![],
            chance: SeededHost::new(setup.seed ^ 0xabcd),
            flying: BTreeMap::new(),
            flown: 0,
            offered: 0,
            starts: 0,
            setup,
        };
        for number in 0..=world.setup.boxes {
            let node = world.node(number);
            world.nodes.push(node);
            world.attach(number);
        }
        world
    }

    /// One in which all is up.
    pub fn established(setup: Setup) -> Self {
        let mut world = Self::new(setup);
        world.run(1000);
        assert!(world.nodes.iter().all(Node::is_sealed_to));
        world
    }

    fn node(&mut self, number: usize) -> Node {
        self.starts += 1;
        let mut host = SeededHost::new(self.setup.seed << 16 | self.starts);
        host.time_of_day += Duration::from_secs(self.starts);
        let epoch = 100 + self.starts;
        let count = if number == GATEWAY { self.setup.boxes } else { 1 };
        let tunnels = (0..count).map(|_| Tunnel::new(self.now, &self.settings(number, epoch))).collect();
        let security = self.security(number, epoch, &mut host);
        Node { end: Endpoint::new(tunnels, security), host, delivered: vec![vec![]; count], events: vec![] }
    }

    fn settings(&self, number: usize, epoch: u64) -> Settings {
        let names: &[&str] = if number == GATEWAY { &[] } else { &["a", "b"] };
        let named = names.iter().map(|name| UplinkName::new(name).expect("lawful"));
        Settings {
            role: if number == GATEWAY { Role::Gateway } else { Role::Box },
            epoch,
            first_sequence: 0xffff_ff00,
            scheduler: SchedulerConfig::new(self.setup.mode),
            window: Some(Duration::from_millis(100)),
            window_follows: false,
            probe_interval: Duration::from_millis(20),
            tap_mtu: 1450,
            uplinks: named.map(UplinkSettings::named).collect(),
        }
    }

    fn security(&self, number: usize, epoch: u64, host: &mut SeededHost) -> Security {
        let setup = &self.setup;
        if number == GATEWAY {
            let identity = Identity { private_key: private_key(GATEWAY), ciphers: setup.ciphers[0], epoch };
            let admitted = (BOX..=setup.boxes)
                .map(|number| Admitted { peer: private_key(number).public(), preshared: setup.preshared[0].clone() });
            return Security::Gateway(Box::new(Responder::new(host, identity, 3, admitted.collect())));
        }
        let settings = InitiatorSettings {
            identity: Identity { private_key: (setup.box_key)(number), ciphers: setup.ciphers[1], epoch },
            peer: setup.gateway_key,
            preshared: setup.preshared[1].clone(),
            rekey_interval: setup.rekey_interval,
        };
        Security::Box(Box::new(Initiator::new(host, settings)))
    }

    fn attach(&mut self, number: usize) {
        if number != GATEWAY {
            (0..2).for_each(|of| self.nodes[number].end.handle_uplink_attached(self.now, uplink(of)));
        }
    }

    /// Ends a process and starts it again.
    pub fn restart(&mut self, number: usize) {
        self.nodes[number] = self.node(number);
        self.attach(number);
    }

    /// Gives a node a frame to send. Returns its number.
    pub fn offer(&mut self, number: usize, tunnel: usize) -> u32 {
        self.offered += 1;
        let mut frame = self.offered.to_be_bytes().to_vec();
        frame.resize(FRAME_LENGTH, 0);
        self.nodes[number].end.tunnel_mut(tunnel).handle_frame(self.now, frame.into());
        self.drain(number);
        self.offered
    }

    /// A frame each millisecond in both directions between the gateway and a box. Returns the numbers, to the gateway
    /// and to the box.
    pub fn stream(&mut self, of_box: usize, milliseconds: u64) -> [Vec<u32>; 2] {
        let mut numbers = [vec![], vec![]];
        for _ in 0..milliseconds {
            numbers[0].push(self.offer(of_box, 0));
            numbers[1].push(self.offer(GATEWAY, of_box - BOX));
            self.run(1);
        }
        numbers
    }

    /// What has come out since this was last asked, at the gateway from a box, and at the box.
    pub fn take_delivered(&mut self, of_box: usize) -> [Vec<u32>; 2] {
        let at_gateway = std::mem::take(&mut self.nodes[GATEWAY].delivered[of_box - BOX]);
        [at_gateway, std::mem::take(&mut self.nodes[of_box].delivered[0])]
    }

    pub fn run(&mut self, milliseconds: u64) {
        let until = self.now + Duration::from_millis(milliseconds);
        let mut steps_at_once = 0;
        loop {
            let at = self.next_moment();
            if at > until {
                break;
            }
            steps_at_once = if at > self.now { 0 } else { steps_at_once + 1 };
            assert!(steps_at_once < STEPS_AT_ONCE_MAX, "time stands still");
            self.advance_to(at);
            while let Some(flight) = self.flying.first_entry().filter(|first| first.key().0 <= self.now) {
                let flight = flight.remove();
                self.hand(flight);
            }
            for number in 0..self.nodes.len() {
                let node = &mut self.nodes[number];
                if node.end.poll_timeout(self.now).0 <= self.now {
                    node.end.handle_timeout(self.now, &mut node.host);
                }
                self.drain(number);
            }
        }
        self.advance_to(until);
    }

    fn next_moment(&mut self) -> Instant {
        let now = self.now;
        let wakes = self.nodes.iter_mut().map(|node| node.end.poll_timeout(now).0);
        let flights = self.flying.keys().next().map(|(at, _)| *at);
        wakes.chain(flights).min().expect("a gateway").max(now)
    }

    fn advance_to(&mut self, at: Instant) {
        let passed = at.since(self.now);
        self.now = at;
        self.nodes.iter_mut().for_each(|node| node.host.time_of_day += passed);
    }

    /// Hands a datagram to its receiver, now. Returns what it answers at once, of which nothing is longer.
    pub fn hand(&mut self, flight: Flight) -> Vec<Vec<u8>> {
        let node = &mut self.nodes[flight.to];
        let datagram = BytesMut::from(&flight.bytes[..]);
        node.end.handle_datagram(self.now, &mut node.host, flight.arrival, datagram);
        let (before, astray_before) = (self.recorded.len(), self.astray.len());
        self.drain(flight.to);
        let answers = self.recorded[before..].iter().map(|(_, sent)| sent).filter(|sent| sent.is_handshake());
        let mut answers: Vec<_> = answers.map(|sent| sent.bytes.clone()).collect();
        answers.extend_from_slice(&self.astray[astray_before..]);
        if flight.to == GATEWAY {
            assert!(answers.iter().all(|answer| answer.len() <= flight.bytes.len()), "an answer is never longer");
        }
        answers
    }

    fn drain(&mut self, number: usize) {
        let mut outbox = vec![];
        let now = self.now;
        let node = &mut self.nodes[number];
        for tunnel in 0..node.end.tunnels().len() {
            while let Some(frame) = node.end.tunnel_mut(tunnel).poll_frame() {
                let mut datagram = vec![0; frame.payload.len() + OVERHEAD];
                datagram[KEYED_HEADER_LENGTH..][..frame.payload.len()].copy_from_slice(&frame.payload);
                match node.end.seal_frame(now, tunnel, frame.sequence, &mut datagram) {
                    Ok(()) => outbox.extend(frame.uplinks.iter().map(|uplink| (tunnel, uplink, datagram.clone()))),
                    Err(reason) => node.end.tunnel_mut(tunnel).count_drops(reason, 1),
                }
            }
            while node.end.poll_control(now, tunnel, |uplink, bytes| outbox.push((tunnel, uplink, bytes.to_vec()))) {}
            while let Some(frame) = node.end.tunnel_mut(tunnel).poll_deliver() {
                let number = u32::from_be_bytes(frame[..4].try_into().expect("four bytes"));
                node.delivered[tunnel].push(number);
            }
            while let Some((event, lost)) = node.end.tunnel_mut(tunnel).poll_event() {
                assert_eq!(lost, 0);
                node.events.push(event);
            }
        }
        let mut handshakes = vec![];
        while let Some(transmit) = node.end.poll_handshake() {
            handshakes.push((transmit.destination, transmit.bytes().to_vec()));
        }
        for (tunnel, uplink, bytes) in outbox {
            let path = self.nodes[number].end.tunnels()[tunnel].path(uplink);
            match path {
                Some(path) if number == GATEWAY => self.fly_to_path(path, bytes),
                _ if number == GATEWAY => {}
                _ => self.fly_to_gateway(number, uplink, bytes),
            }
        }
        for (destination, bytes) in handshakes {
            match destination {
                HandshakeDestination::Path(path) => self.fly_to_path(path, bytes),
                HandshakeDestination::Uplink(uplink) => self.fly_to_gateway(number, uplink, bytes),
            }
        }
    }

    fn fly_to_gateway(&mut self, from: usize, uplink: UplinkId, bytes: Vec<u8>) {
        self.fly(uplink, Flight { to: GATEWAY, arrival: Arrival::Path(path(from, uplink)), bytes });
    }

    fn fly_to_path(&mut self, to: Path, bytes: Vec<u8>) {
        let all = (BOX..self.nodes.len()).flat_map(|number| [(number, uplink(0)), (number, uplink(1))]);
        match all.into_iter().find(|(number, uplink)| path(*number, *uplink) == to) {
            Some((number, uplink)) => self.fly(uplink, Flight { to: number, arrival: Arrival::Uplink(uplink), bytes }),
            None => self.astray.push(bytes),
        }
    }

    fn fly(&mut self, uplink: UplinkId, flight: Flight) {
        let delay = self.setup.delays[uplink.index()];
        for extra in (self.network)(&mut self.chance, &flight) {
            self.flown += 1;
            self.flying.insert((self.now + delay + extra, self.flown), flight.clone());
        }
        self.recorded.push((self.now + delay, flight));
    }

    /// Of all that has been sent what was for a node, in order.
    pub fn sent_to(&self, node: usize) -> Vec<Flight> {
        self.recorded.iter().filter(|(_, flight)| flight.to == node).map(|(_, flight)| flight.clone()).collect()
    }

    /// Of that what is sealed and has arrived.
    pub fn sealed_received_by(&self, node: usize) -> Vec<Flight> {
        let received = self.recorded.iter().filter(|(at, flight)| flight.to == node && *at <= self.now);
        received.map(|(_, flight)| flight.clone()).filter(|flight| !flight.is_handshake()).collect()
    }
}
