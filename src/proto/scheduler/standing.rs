//! What the schedulers need to know of the uplinks.

use std::time::Duration;

use crate::proto::uplink::monitor::{Uplink, set_of};
use crate::proto::uplink::state::State;
use crate::proto::uplink::{UPLINKS_MAX, UplinkId, UplinkName, UplinkSet};

/// The uplinks as a scheduler sees them. Made anew when something changes, not for every frame.
#[derive(Clone, Debug)]
pub struct Standing {
    /// The best there are: all that are up; if there is none, those that are suspect or in probation; if there is
    /// none of these either, all that have a socket, since nothing better can be done with a frame.
    pub best: UplinkSet,
    /// All that may reach the peer at all: up, suspect or in probation; or else as `best`.
    pub any: UplinkSet,
    weights: [u8; UPLINKS_MAX],
    names: [UplinkName; UPLINKS_MAX],
    round_trips: [Option<Duration>; UPLINKS_MAX],
}

impl Standing {
    /// How `uplinks` stand.
    #[must_use]
    pub fn of(uplinks: &[Uplink; UPLINKS_MAX]) -> Self {
        let attached =
            |state: fn(State) -> bool| set_of(uplinks, |uplink| uplink.is_attached() && state(uplink.state()));
        let up = attached(|state| state == State::Up);
        let doubtful = attached(|state| matches!(state, State::Suspect | State::Probation));
        let all = attached(|_| true);
        let best = [up, doubtful].into_iter().find(|set| !set.is_empty()).unwrap_or(all);
        let alive = UplinkSet::from_bits(up.bits() | doubtful.bits());
        Self {
            best,
            any: if alive.is_empty() { all } else { alive },
            weights: std::array::from_fn(|index| uplinks[index].weight),
            names: std::array::from_fn(|index| uplinks[index].name),
            round_trips: std::array::from_fn(|index| {
                uplinks[index].measurements.round_trip().map(|round_trip| round_trip.smoothed)
            }),
        }
    }

    /// The weight of one uplink, 1 to 255.
    #[must_use]
    pub fn weight(&self, uplink: UplinkId) -> u8 {
        self.weights[uplink.index()].max(1)
    }

    /// The uplink of this name among the best.
    #[must_use]
    pub fn best_named(&self, name: UplinkName) -> Option<UplinkId> {
        self.best.iter().find(|uplink| self.names[uplink.index()] == name)
    }

    /// The best uplink with the shortest round-trip time; those not measured yet come last.
    #[must_use]
    pub fn best_by_round_trip(&self) -> Option<UplinkId> {
        self.best.iter().min_by_key(|uplink| self.round_trip(*uplink))
    }

    /// The smoothed round-trip time, endless if unknown.
    #[must_use]
    pub fn round_trip(&self, uplink: UplinkId) -> Duration {
        self.round_trips[uplink.index()].unwrap_or(Duration::MAX)
    }
}
