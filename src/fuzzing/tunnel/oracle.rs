//! What may come out of one end, given all that has gone in.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::Flying;
use crate::proto::receive::reorder::REORDER_CAPACITY;
use crate::proto::stats::DropReason;
use crate::proto::tunnel::{Event, Role, Tunnel};
use crate::proto::wire::{self, Datagram, FRAME_HEADER_LENGTH};
use crate::sim::frame;

/// Watches one end.
pub(super) struct Oracle {
    role: Role,
    ordered: bool,
    frames_offered: u64,
    frames_restored: u64,
    datagrams: u64,
    controls_accepted: u64,
    drops_before: u64,
    /// The peer's frames that have come, by number.
    arrived: BTreeSet<u64>,
    /// Frames that were spoiled on their way: without keys they cannot be told from others.
    spoiled: Vec<Bytes>,
    has_met_spoiled: bool,
    order: Order,
}

/// What has been delivered and heard since order last began anew, none of which may come again.
#[derive(Default)]
struct Order {
    delivered: BTreeSet<u64>,
    controls: BTreeSet<Bytes>,
    /// The start of the peer whose frames have come.
    incarnation: Option<u64>,
    /// Whether nothing is promised: frames of two incarnations have come, whose numbers have nothing to do with one
    /// another and which no mark in a plaintext frame tells apart; or a spoiled datagram, whose number or whose
    /// announcement may be anything.
    is_void: bool,
}

impl Oracle {
    pub fn new(role: Role, ordered: bool) -> Self {
        Self {
            role,
            ordered,
            frames_offered: 0,
            frames_restored: 0,
            datagrams: 0,
            controls_accepted: 0,
            drops_before: 0,
            arrived: BTreeSet::new(),
            spoiled: vec![],
            has_met_spoiled: false,
            order: Order::default(),
        }
    }

    /// This end has started anew, with all counters at zero.
    pub fn restart(&mut self) {
        *self = Self::new(self.role, self.ordered);
    }

    pub fn frame_offered(&mut self) {
        self.frames_offered += 1;
    }

    pub fn before_datagram(&mut self, flying: &Flying, tunnel: &Tunnel<Bytes>) {
        self.datagrams += 1;
        self.drops_before = drops(tunnel);
        self.has_met_spoiled |= flying.spoiled;
        self.order.is_void |= flying.spoiled;
        let Ok(Datagram::Frame { .. }) = wire::parse(&flying.bytes) else { return };
        let frame = flying.bytes.slice(FRAME_HEADER_LENGTH..);
        match self.number_of(&frame) {
            Some(number) => drop(self.arrived.insert(number)),
            None => self.spoiled.push(frame),
        }
        let incarnation = *self.order.incarnation.get_or_insert(flying.incarnation);
        self.order.is_void |= incarnation != flying.incarnation;
    }

    pub fn after_datagram(&mut self, flying: &Flying, tunnel: &Tunnel<Bytes>) {
        let dropped = drops(tunnel) - self.drops_before;
        assert!(dropped <= 1, "one datagram was dropped {dropped} times");
        let is_control = matches!(wire::parse(&flying.bytes), Ok(Datagram::Control { .. }));
        if is_control && dropped == 0 {
            self.controls_accepted += 1;
            let is_new = self.order.controls.insert(flying.bytes.clone());
            assert!(is_new || self.has_met_spoiled, "what was said once is heard twice: {:?}", flying.bytes);
        }
    }

    /// A frame was made up.
    pub fn on_restored(&mut self, frame: &Bytes) {
        self.frames_restored += 1;
        match self.number_of(frame) {
            Some(number) => drop(self.arrived.insert(number)),
            None => {
                assert!(self.has_met_spoiled, "{frame:?} was never sent");
                self.spoiled.push(frame.clone());
            }
        }
    }

    pub fn on_delivered(&mut self, frame: &Bytes) {
        let Some(number) = self.number_of(frame).filter(|number| self.arrived.contains(number)) else {
            assert!(self.spoiled.contains(frame), "{frame:?} has never come");
            return;
        };
        if self.order.is_void {
            return;
        }
        let newest = self.order.delivered.last().copied().unwrap_or(0);
        assert!(!self.ordered || number > newest, "frame {number} is delivered after {newest}");
        assert!(self.order.delivered.insert(number), "frame {number} is delivered twice");
    }

    /// Order begins anew with a new peer, and with one that has counted back; what has come before was released.
    pub fn on_event(&mut self, event: &Event) {
        match event {
            Event::PeerFound | Event::PeerRestarted | Event::PeerLeft | Event::Resynchronised(_) => {
                self.order = Order { is_void: self.has_met_spoiled, ..Order::default() };
            }
            Event::Uplink(..)
            | Event::Moved { .. }
            | Event::Removed { .. }
            | Event::PeerMtu(_)
            | Event::PathMtu { .. }
            | Event::TapMtu(_)
            | Event::Sealed { .. }
            | Event::Unanswered
            | Event::CipherRefused => {}
        }
    }

    /// Every packet is somewhere.
    pub fn check(&self, tunnel: &Tunnel<Bytes>) {
        assert!(tunnel.held() <= REORDER_CAPACITY);
        let counters = tunnel.counters();
        let passed_on = counters.sent.packets + counters.delivered.packets + self.controls_accepted;
        assert_eq!(
            self.frames_offered + self.datagrams + self.frames_restored,
            passed_on + tunnel.held() as u64 + counters.waiting + drops(tunnel) + belated(tunnel),
            "what went in is what came out, what is held, and what was dropped: {counters:?}"
        );
    }

    /// Which of the peer's frames this is.
    fn number_of(&self, bytes: &[u8]) -> Option<u64> {
        frame::read(bytes).filter(|(from, _)| *from != self.role as usize).map(|(_, number)| number)
    }
}

/// What was dropped for its own sake.
fn drops(tunnel: &Tunnel<Bytes>) -> u64 {
    tunnel.drops().total() - belated(tunnel)
}

/// Frames that have waited for too long, or meanwhile become too long for every uplink: whatever happens next can show that
/// of several.
fn belated(tunnel: &Tunnel<Bytes>) -> u64 {
    [DropReason::TooLate, DropReason::PathMtu].into_iter().map(|reason| tunnel.drops().get(reason)).sum()
}
