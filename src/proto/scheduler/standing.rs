//! What the schedulers need to know of the uplinks.

use std::time::Duration;

use crate::proto::uplink::monitor::Uplink;
use crate::proto::uplink::state::State;
use crate::proto::uplink::{UPLINKS_MAX, UplinkId, UplinkName, UplinkSet};

/// The uplinks as a scheduler sees them. Looked at when something changes, not for every frame.
#[derive(Clone, Copy, Debug)]
pub struct Standing<'a> {
    uplinks: &'a [Uplink; UPLINKS_MAX],
    /// The best there are: all that are up; if there is none, those that are suspect or in probation; if there is
    /// none of these either, all that have a socket, since nothing better can be done with a frame.
    pub best: UplinkSet,
    /// All that may reach the peer at all: up, suspect or in probation; or else as `best`.
    pub any: UplinkSet,
}

impl<'a> Standing<'a> {
    /// How those of `uplinks` stand that are `known`.
    #[must_use]
    pub fn of(uplinks: &'a [Uplink; UPLINKS_MAX], known: UplinkSet) -> Self {
        let (mut up, mut doubtful, mut all) = (UplinkSet::EMPTY, UplinkSet::EMPTY, UplinkSet::EMPTY);
        for id in known.iter().filter(|id| uplinks[id.index()].is_attached()) {
            all.insert(id);
            match uplinks[id.index()].state() {
                State::Up => up.insert(id),
                State::Suspect | State::Probation => doubtful.insert(id),
                State::Down => {}
            }
        }
        let best = [up, doubtful].into_iter().find(|set| !set.is_empty()).unwrap_or(all);
        let alive = UplinkSet::from_bits(up.bits() | doubtful.bits());
        Self { uplinks, best, any: if alive.is_empty() { all } else { alive } }
    }

    /// The same without those of `spared`, unless they are all that is left of the best.
    #[must_use]
    pub fn sparing(self, spared: UplinkSet) -> Self {
        let best = self.best.without(spared);
        if best.is_empty() { self } else { Self { best, any: self.any.without(spared), ..self } }
    }

    /// The weight of one uplink, 1 to 255.
    #[must_use]
    pub fn weight(&self, uplink: UplinkId) -> u8 {
        self.uplinks[uplink.index()].weight.max(1)
    }

    /// The uplink of this name among the best.
    #[must_use]
    pub fn best_named(&self, name: UplinkName) -> Option<UplinkId> {
        self.best.iter().find(|uplink| self.uplinks[uplink.index()].name == name)
    }

    /// The best uplink with the shortest round-trip time; those not measured yet come last.
    #[must_use]
    pub fn best_by_round_trip(&self) -> Option<UplinkId> {
        self.best.iter().min_by_key(|uplink| self.round_trip(*uplink))
    }

    /// The best uplink with the shortest round-trip time, and the next best, if there are so many.
    #[must_use]
    pub fn two_best_by_round_trip(&self) -> [Option<UplinkId>; 2] {
        let first = self.best_by_round_trip();
        let others = self.any.iter().filter(|uplink| Some(*uplink) != first);
        [first, others.min_by_key(|uplink| (!self.best.contains(*uplink), self.round_trip(*uplink)))]
    }

    /// The smoothed round-trip time, endless if unknown.
    #[must_use]
    pub fn round_trip(&self, uplink: UplinkId) -> Duration {
        let measured = self.uplinks[uplink.index()].measurements.round_trip();
        measured.map_or(Duration::MAX, |round_trip| round_trip.smoothed)
    }
}
