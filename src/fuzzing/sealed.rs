//! A box and a gateway with keys, one uplink between them, and a network that is given away. Benches and other tests
//! have their keys from here, too.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use crate::proto::endpoint::{Endpoint, Security};
use crate::proto::scheduler::{Mode, SchedulerConfig};
use crate::proto::session::cipher::Ciphers;
use crate::proto::session::initiator::{Initiator, InitiatorSettings};
use crate::proto::session::keys::{PresharedKey, PrivateKey, PublicKey};
use crate::proto::session::responder::{Admitted, Responder};
use crate::proto::session::transport::OVERHEAD;
use crate::proto::session::{Host, Identity};
use crate::proto::time::Instant;
use crate::proto::tunnel::{Arrival, Path, Role, Settings, Tunnel, UplinkSettings};
use crate::proto::uplink::{UplinkId, UplinkName};
use crate::proto::wire::KEYED_HEADER_LENGTH;

pub(super) const BOX: usize = 0;
pub(super) const GATEWAY: usize = 1;

/// Counts up, and calls that random: an input is the same run each time.
#[derive(Default)]
pub struct CountingHost(u64);

impl Host for CountingHost {
    fn fill_random(&mut self, bytes: &mut [u8]) {
        self.0 += 1;
        bytes.iter_mut().zip(self.0.to_le_bytes().into_iter().cycle()).for_each(|(byte, drawn)| *byte = drawn);
    }

    fn time_of_day(&mut self) -> Duration {
        Duration::from_secs(1)
    }
}

/// The two ends.
pub(super) struct Pair {
    pub now: Instant,
    pub ends: [Endpoint<Bytes>; 2],
    host: CountingHost,
    /// What each end has delivered since it was last asked.
    pub delivered: [Vec<Bytes>; 2],
}

/// The public key of an end.
pub(super) fn public_key(end: usize) -> PublicKey {
    private_key(end).public()
}

fn private_key(end: usize) -> PrivateKey {
    PrivateKey::from_random([1 + end as u8; 32])
}

fn uplink() -> UplinkId {
    UplinkId::new(0).expect("within range")
}

/// How a datagram comes to an end from the other one.
pub(super) fn arrival(to: usize) -> Arrival {
    if to == BOX { Arrival::Uplink(uplink()) } else { arrival_from([192, 0, 2, 1]) }
}

/// How a datagram comes to the gateway from another address.
pub(super) fn arrival_from(address: [u8; 4]) -> Arrival {
    Arrival::Path(Path { remote: SocketAddr::from((Ipv4Addr::from(address), 1000)), local: None })
}

impl Pair {
    /// They have not met.
    pub fn new() -> Self {
        let now = Instant::from_nanos(1_000_000_000);
        let mut host = CountingHost::default();
        let [initiator, responder] = securities(&mut host, Ciphers::ALL);
        let mut ends = [
            Endpoint::new(vec![tunnel(now, Role::Box)], initiator),
            Endpoint::new(vec![tunnel(now, Role::Gateway)], responder),
        ];
        ends[BOX].handle_uplink_attached(now, uplink());
        Self { now, ends, host, delivered: [vec![], vec![]] }
    }

    /// Wakes an end. Returns what it has to say.
    pub fn wake(&mut self, end: usize) -> Vec<Bytes> {
        if self.ends[end].poll_timeout(self.now).0 <= self.now {
            self.ends[end].handle_timeout(self.now, &mut self.host);
        }
        self.drain(end)
    }

    /// Hands an end a datagram. Returns what it has to say then.
    pub fn hand(&mut self, end: usize, arrival: Arrival, datagram: &[u8]) -> Vec<Bytes> {
        self.ends[end].handle_datagram(self.now, &mut self.host, arrival, BytesMut::from(datagram));
        self.drain(end)
    }

    /// Has an end send a frame. Returns what it has to say then.
    pub fn offer(&mut self, end: usize, frame: &[u8]) -> Vec<Bytes> {
        self.ends[end].tunnel_mut(0).handle_frame(self.now, Bytes::copy_from_slice(frame));
        self.drain(end)
    }

    fn drain(&mut self, end: usize) -> Vec<Bytes> {
        let (now, from) = (self.now, &mut self.ends[end]);
        let mut said = vec![];
        while let Some(frame) = from.tunnel_mut(0).poll_frame() {
            let mut datagram = vec![0; frame.payload.len() + OVERHEAD];
            datagram[KEYED_HEADER_LENGTH..][..frame.payload.len()].copy_from_slice(&frame.payload);
            if from.seal_frame(now, 0, frame.sequence, &mut datagram).is_ok() {
                said.push(datagram.into());
            }
        }
        while from.poll_control(now, 0, |_, bytes| said.push(Bytes::copy_from_slice(bytes))) {}
        while let Some(transmit) = from.poll_handshake() {
            said.push(Bytes::copy_from_slice(transmit.bytes()));
        }
        while let Some(frame) = from.tunnel_mut(0).poll_deliver() {
            self.delivered[end].push(frame);
        }
        while from.tunnel_mut(0).poll_event().is_some() {}
        said
    }

    /// Lets the two talk undisturbed for so many milliseconds.
    pub fn talk(&mut self, milliseconds: u64) {
        for _ in 0..milliseconds {
            self.now = self.now + Duration::from_millis(1);
            let mut said = [self.wake(BOX), self.wake(GATEWAY)];
            while said.iter().any(|said| !said.is_empty()) {
                for to in [GATEWAY, BOX] {
                    for datagram in std::mem::take(&mut said[1 - to]) {
                        let answers = self.hand(to, arrival(to), &datagram);
                        said[to].extend(answers);
                    }
                }
            }
        }
    }

    /// All of an end that may not change because of what is not authentic.
    pub fn state(&self, end: usize) -> impl PartialEq + std::fmt::Debug + use<> {
        let tunnel = &self.ends[end].tunnels()[0];
        let counters = tunnel.counters();
        let ways = (tunnel.path(uplink()), tunnel.is_peer_heard(), tunnel.has_peer());
        (ways, tunnel.position(), tunnel.held(), counters.sent, counters.delivered)
    }

    /// Frames get through, both ways.
    pub fn check_works(&mut self) {
        self.talk(1_000);
        self.delivered = [vec![], vec![]];
        for (from, to) in [(BOX, GATEWAY), (GATEWAY, BOX)] {
            let frame = [from as u8; 60];
            for datagram in self.offer(from, &frame) {
                self.hand(to, arrival(to), &datagram);
            }
            assert_eq!(
                self.delivered[to],
                [&frame[..]],
                "what is not authentic has broken the tunnel: {:?} {:?}",
                self.state(BOX),
                self.state(GATEWAY)
            );
        }
    }
}

/// The keys of a box and a gateway that know each other.
#[must_use]
pub fn securities(host: &mut CountingHost, ciphers: Ciphers) -> [Security; 2] {
    let identity = |end| Identity { private_key: private_key(end), ciphers, epoch: 1 + end as u64 };
    let settings = InitiatorSettings {
        identity: identity(BOX),
        peer: public_key(GATEWAY),
        preshared: PresharedKey::NONE,
        rekey_interval: Duration::from_secs(120),
    };
    let initiator = Security::Box(Box::new(Initiator::new(host, settings)));
    let admitted = vec![Admitted { peer: public_key(BOX), preshared: PresharedKey::NONE }];
    let responder = Security::Gateway(Box::new(Responder::new(host, identity(GATEWAY), 0, admitted)));
    [initiator, responder]
}

/// A tunnel of one uplink.
#[must_use]
pub fn tunnel(now: Instant, role: Role) -> Tunnel<Bytes> {
    let named = UplinkSettings::named(UplinkName::new("a").expect("a lawful name"));
    let settings = Settings {
        role,
        epoch: if role == Role::Box { 1 } else { 2 },
        first_sequence: 0,
        scheduler: SchedulerConfig::new(Mode::BalanceRr),
        window: Some(Duration::from_millis(40)),
        window_follows: false,
        probe_interval: Duration::from_millis(20),
        tap_mtu: 1450,
        uplinks: if role == Role::Box { vec![named] } else { vec![] },
    };
    Tunnel::new(now, &settings)
}
