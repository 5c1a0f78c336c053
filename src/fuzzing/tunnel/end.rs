//! One end: the real tunnel, and the oracle that watches it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::time::Duration;

use bytes::Bytes;

use super::Flying;
use super::oracle::Oracle;
use crate::proto::scheduler::{Mode, PrimaryReselect, SchedulerConfig};
use crate::proto::time::Instant;
use crate::proto::tunnel::{Arrival, Path, Role, Settings, Tunnel, UplinkSettings};
use crate::proto::uplink::Limits;
use crate::proto::uplink::{UplinkId, UplinkName};
use crate::proto::wire::{FRAME_LENGTH_MIN, FRAME_OVERHEAD_MAX};
use crate::sim::frame;

/// How many uplinks the box has.
pub(super) const UPLINKS: u8 = 3;
const TAP_MTU: u16 = 1450;

/// What the first bytes of the input say.
#[derive(Clone)]
pub(super) struct Plan {
    pub mode: Mode,
    pub reselect: u8,
    pub window: Option<Duration>,
    pub first_sequence: u32,
    /// Two bits for each uplink.
    pub weights: u8,
}

impl Plan {
    fn settings(&self, role: Role, epoch: u64) -> Settings {
        let uplink = |number: u8| UplinkSettings {
            name: UplinkName::new(&format!("uplink{number}")).expect("lawful"),
            weight: 1 + ((self.weights >> (2 * number)) & 3),
            limits: Limits { rate_max: None, is_metered: self.weights & (1 << number) == 0 },
        };
        Settings {
            role,
            epoch,
            first_sequence: self.first_sequence,
            scheduler: SchedulerConfig {
                mode: self.mode,
                packets_per_uplink: NonZeroU32::MIN,
                primary: UplinkName::new("uplink1").ok().filter(|_| self.reselect & 4 == 0),
                primary_reselect: PrimaryReselect::ALL[usize::from(self.reselect & 3) % PrimaryReselect::ALL.len()],
                redundancy: vec![],
            },
            window: self.window,
            window_follows: false,
            probe_interval: Duration::from_millis(20),
            tap_mtu: TAP_MTU,
            uplinks: (0..UPLINKS).filter(|_| role == Role::Box).map(uplink).collect(),
        }
    }
}

/// Where the gateway sees an uplink.
pub(super) fn address_of(uplink: UplinkId, port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::new(192, 0, 2, uplink.number()), port))
}

/// Whose address that is.
pub(super) fn uplink_at(address: SocketAddr) -> UplinkId {
    let IpAddr::V4(ip) = address.ip() else { panic!("{address} was never seen") };
    UplinkId::new(ip.octets()[3]).expect("an address of an uplink")
}

/// One end.
pub(super) struct End {
    pub role: Role,
    pub tunnel: Tunnel<Bytes>,
    pub oracle: Oracle,
    plan: Plan,
    starts: u64,
    /// Datagrams that may be asked for again, by the numbers of their frames.
    pub kept: BTreeMap<u64, Bytes>,
    /// How many frames all its incarnations have been offered.
    offered: u64,
    tap_mtu: u16,
}

impl End {
    pub fn new(now: Instant, role: Role, plan: Plan) -> Self {
        let mut end = Self {
            role,
            tunnel: Tunnel::new(now, &plan.settings(role, 1)),
            oracle: Oracle::new(role, plan.window.is_some()),
            plan,
            kept: BTreeMap::new(),
            starts: 0,
            offered: 0,
            tap_mtu: TAP_MTU,
        };
        end.restart(now);
        end
    }

    /// Starts anew; what was held or on its way out is lost.
    pub fn restart(&mut self, now: Instant) {
        self.starts += 1;
        self.tunnel = Tunnel::new(now, &self.plan.settings(self.role, self.incarnation()));
        self.oracle.restart();
        self.kept.clear();
        self.tap_mtu = TAP_MTU;
        for number in (0..UPLINKS).filter(|_| self.role == Role::Box) {
            self.tunnel.handle_uplink_attached(now, UplinkId::new(number).expect("few"));
        }
    }

    /// Names this start among those of both ends, and is its epoch.
    pub const fn incarnation(&self) -> u64 {
        self.starts * 2 + self.role as u64
    }

    pub fn set_tap_mtu(&mut self, mtu: u16) {
        self.tap_mtu = mtu;
        self.tunnel.set_tap_mtu(mtu);
    }

    /// A frame from the TAP: one too short, one too long, and those between.
    pub fn offer(&mut self, now: Instant, kind: u8) {
        let longest = usize::from(self.tap_mtu) + FRAME_OVERHEAD_MAX;
        let lengths = [FRAME_LENGTH_MIN - 1, FRAME_LENGTH_MIN, 60, 1330, longest, longest + 1];
        let length = lengths[usize::from(kind) % lengths.len()];
        self.offered += 1;
        self.oracle.frame_offered();
        self.tunnel.handle_frame(now, frame::make(self.role as usize, self.offered, length));
    }

    /// A datagram from the network.
    pub fn receive(&mut self, now: Instant, flying: &Flying) {
        let arrival = match self.role {
            Role::Box => Arrival::Uplink(flying.uplink),
            Role::Gateway => Arrival::Path(Path { remote: address_of(flying.uplink, flying.port), local: None }),
        };
        self.oracle.before_datagram(flying, &self.tunnel);
        self.tunnel.handle_datagram(now, arrival, flying.bytes.clone());
        self.oracle.after_datagram(flying, &self.tunnel);
    }

    /// Takes what the tunnel delivers and tells, and looks whether it all adds up.
    pub fn collect(&mut self) {
        while let Some(frame) = self.tunnel.poll_deliver() {
            self.oracle.on_delivered(&frame);
        }
        while let Some((event, lost)) = self.tunnel.poll_event() {
            assert_eq!(lost, 0, "events are asked for after each operation");
            self.oracle.on_event(&event);
        }
        assert!(self.tunnel.poll_frame().is_none() && self.tunnel.poll_control().is_none());
        assert!(self.tunnel.poll_sounding().is_none());
        self.oracle.check(&self.tunnel);
    }
}
