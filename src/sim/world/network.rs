//! What is under way between the ends.

use std::net::IpAddr;

use bytes::{Bytes, BytesMut};

use super::{Step, World};
use crate::proto::stats::DropReason;
use crate::proto::tunnel::Path;
use crate::proto::uplink::UplinkId;
use crate::proto::wire::{self, Datagram};
use crate::sim::Nanoseconds;
use crate::sim::end::{End, Waiting, arrival, watch_drops};
use crate::sim::frame;
use crate::sim::link::{Departure, Link, LinkSettings};
use crate::sim::oracle::Arrived;
use crate::sim::plan::{BOX, GATEWAY};
use crate::sim::random::Random;

/// IP and UDP headers of a datagram.
pub(super) const IP_AND_UDP: usize = 28;
/// The port that a box's uplink begins with; each rebinding and each restart makes another.
const FIRST_PORT: u16 = 10_000;
const ENETDOWN: i32 = 100;

/// What a datagram carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cargo {
    Frame(u64),
    Control,
    Handshake,
}

/// A datagram under way.
#[derive(Clone, Debug)]
pub(super) struct Parcel {
    bytes: Bytes,
    cargo: Cargo,
    /// The box's port as the gateway sees it: whence it comes, or where it goes.
    port: u16,
    /// In which of its lives its sender has sent it.
    sender_life: u32,
    sent_at: Nanoseconds,
    is_deceptive: bool,
}

/// An uplink's links, and what stands between them and the box.
pub(super) struct Line {
    pub ways: [Link<Parcel>; 2],
    pub has_carrier: bool,
    pub port: u16,
    /// When each way last reordered or duplicated.
    pub reordered: [Option<Nanoseconds>; 2],
}

impl Line {
    pub fn new(ways: &[LinkSettings; 2], random: &mut Random) -> Self {
        let ways = ways.each_ref().map(|settings| Link::new(settings.clone(), random.fork()));
        Self { ways, has_carrier: true, port: FIRST_PORT, reordered: [None; 2] }
    }
}

impl World {
    pub(super) fn arrive(&mut self, to: usize, uplink: usize, departure: Departure<Parcel>) -> Step {
        let Departure { packet: mut parcel, spoiled, .. } = departure;
        self.remember_reordering(uplink, 1 - to);
        let line = &self.lines[uplink];
        // A translation lets in only what is for a port that it knows; without a carrier nothing comes.
        let is_for_nobody = to == BOX && (parcel.port != line.port || !line.has_carrier);
        if is_for_nobody {
            return Ok(());
        }
        if let Some(how) = spoiled {
            let bytes = frame::spoil(&parcel.bytes, how);
            if frame::checksum(&bytes) != frame::checksum(&parcel.bytes) {
                return Ok(());
            }
            parcel.is_deceptive = bytes != parcel.bytes;
            parcel.bytes = bytes;
        }
        if self.ends[to].is_free(self.now) {
            self.hand_datagram(to, Self::id(uplink), parcel)
        } else {
            // Where nobody listens it is lost: ICMP says so, and is not listened to.
            self.ends[to].leave(Waiting::Datagram(Self::id(uplink), parcel));
            Ok(())
        }
    }

    pub(super) fn hand_datagram(&mut self, to: usize, uplink: UplinkId, parcel: Parcel) -> Step {
        let clock = self.ends[to].clock(self.now);
        let reordered = self.lines[uplink.index()].reordered[1 - to];
        let uplinks = (0..self.lines.len()).map(Self::id);
        self.set_time_of_day(to);
        let End { endpoint: Some(endpoint), host, .. } = &mut self.ends[to] else { return Ok(()) };
        let tunnel = endpoint.tunnel_mut(0);
        let path = Self::path(uplink.index(), parcel.port);
        let arrived = Arrived {
            to,
            uplink,
            sender_life: parcel.sender_life,
            clock,
            silent: uplinks.filter(|uplink| !tunnel.uplink(*uplink).is_heard(clock)).collect(),
            is_known_source: tunnel.uplink(uplink).is_of_peer() && (to == BOX || tunnel.path(uplink) == Some(path)),
            reordered,
            sent_at: parcel.sent_at,
        };
        self.oracle.on_arriving(&arrived);
        let bytes = parcel.bytes.clone();
        let dropped = watch_drops(endpoint, |endpoint| {
            endpoint.handle_datagram(clock, host, arrival(to, uplink, path), BytesMut::from(&parcel.bytes[..]));
        });
        match parcel.cargo {
            Cargo::Handshake => self.oracle.on_handshake(&arrived, dropped)?,
            _ if parcel.is_deceptive && self.plan.rekey_interval.is_some() => {
                self.oracle.on_spoiled_sealed(to, dropped)?;
            }
            _ if parcel.is_deceptive => {
                let is_control = matches!(wire::parse(&bytes), Ok(Datagram::Control { .. }));
                self.say(|| format!("end {to} is handed what was spoiled: {bytes:02x?}: {dropped:?}"));
                self.oracle.on_deceived(to, bytes, is_control && dropped.is_none());
            }
            Cargo::Frame(number) => self.oracle.on_frame(&arrived, number, dropped)?,
            Cargo::Control => self.oracle.on_control(&arrived, dropped)?,
        }
        self.drain(to)
    }

    pub(super) fn transmit(&mut self, from: usize, uplink: UplinkId, bytes: Bytes, cargo: Cargo) {
        let line = &mut self.lines[uplink.index()];
        if from == BOX && !line.has_carrier {
            let clock = self.ends[BOX].clock(self.now);
            if let Some(tunnel) = self.ends[BOX].tunnel_mut() {
                tunnel.count_drops(DropReason::SendFailed, 1);
                tunnel.handle_send_error(clock, uplink, ENETDOWN);
                self.oracle.on_dropped_outside(BOX);
            }
            return;
        }
        let port = match from {
            BOX => line.port,
            _ => match self.ends[GATEWAY].tunnel().and_then(|tunnel| tunnel.path(uplink)) {
                Some(path) => path.remote.port(),
                None => return,
            },
        };
        self.enter(from, uplink.index(), (bytes, cargo), port);
    }

    /// Sends an answer to where its question came from.
    pub(super) fn transmit_to(&mut self, to: Path, bytes: Bytes) {
        let IpAddr::V4(address) = to.remote.ip() else { return };
        let uplink = usize::from(address.octets()[3]);
        self.enter(GATEWAY, uplink, (bytes, Cargo::Handshake), to.remote.port());
    }

    fn enter(&mut self, from: usize, uplink: usize, (bytes, cargo): (Bytes, Cargo), port: u16) {
        let (length, sender_life) = (bytes.len() + IP_AND_UDP, self.oracle.life(from));
        let parcel = Parcel { bytes, cargo, port, sender_life, sent_at: self.now, is_deceptive: false };
        self.lines[uplink].ways[from].enter(self.now, length, parcel);
    }
}
