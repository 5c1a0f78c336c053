//! What the uplinks carry, for those who want to know: encoders that adapt their bit rate, and people.

use std::time::Duration;

use super::Sender;
use crate::proto::time::Instant;
use crate::proto::uplink::UplinkId;
use crate::proto::uplink::recent::RecentLeast;

/// How long what is safe is remembered: twice this at most.
const SAFE_FOR: Duration = Duration::from_secs(5);

/// What the uplinks are believed to carry together, in bits of frame per second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CapacityEstimate {
    /// What they have been seen to carry of late: at least so much can be sent.
    pub now: u64,
    /// The least that this was within the last 5 to 10 seconds: what an encoder can rely on.
    pub safe: u64,
}

impl<F> Sender<F> {
    /// What an uplink has been seen to carry of late, in bits of frame per second; nothing if it cannot be used.
    #[must_use]
    pub fn uplink_capacity(&self, uplink: UplinkId) -> u64 {
        let route = &self.routes[uplink.index()];
        let seen = route.capacity().seen().min(route.limits.rate_max.unwrap_or(u64::MAX));
        if self.usable.contains(uplink) { seen.saturating_mul(8) } else { 0 }
    }

    /// What they carry together.
    #[must_use]
    pub fn capacity(&self) -> CapacityEstimate {
        let now = UplinkId::all().map(|uplink| self.uplink_capacity(uplink)).fold(0, u64::saturating_add);
        let least = self.least_capacity.map_or(now, |least| least.get());
        CapacityEstimate { now, safe: least.min(now) }
    }

    pub(super) fn note_capacity(&mut self, now: Instant) {
        let capacity = self.capacity().now;
        self.least_capacity = Some(RecentLeast::after(self.least_capacity, now, capacity, SAFE_FOR));
    }
}
