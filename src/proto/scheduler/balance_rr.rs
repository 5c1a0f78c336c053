//! `balance-rr`: frames in turn over the best uplinks, by weight.

use std::num::NonZeroU32;

use super::standing::Standing;
use crate::proto::uplink::{UPLINKS_MAX, UplinkId, UplinkSet};

/// Takes turns.
#[derive(Clone, Debug)]
pub struct BalanceRr {
    packets_per_uplink: NonZeroU32,
    members: UplinkSet,
    quotas: [u32; UPLINKS_MAX],
    current: Option<UplinkId>,
    /// Frames that the current uplink may still have in a row.
    left: u32,
}

impl BalanceRr {
    /// `packets_per_uplink` frames in a row per unit of weight.
    #[must_use]
    pub const fn new(packets_per_uplink: NonZeroU32) -> Self {
        Self { packets_per_uplink, members: UplinkSet::EMPTY, quotas: [0; UPLINKS_MAX], current: None, left: 0 }
    }

    pub(super) fn refresh(&mut self, standing: &Standing) {
        self.members = standing.best;
        for uplink in self.members.iter() {
            self.quotas[uplink.index()] =
                u32::from(standing.weight(uplink)).saturating_mul(self.packets_per_uplink.get());
        }
        if self.current.is_some_and(|current| !self.members.contains(current)) {
            self.left = 0;
        }
    }

    #[inline]
    pub(super) fn schedule(&mut self) -> UplinkSet {
        self.schedule_past(UplinkSet::EMPTY)
    }

    /// The same without those that are `narrow`, whose turns pass to the next.
    #[inline]
    pub(super) fn schedule_past(&mut self, narrow: UplinkSet) -> UplinkSet {
        if self.left == 0 || self.current.is_some_and(|current| narrow.contains(current)) {
            self.current = self.successor(self.members.without(narrow));
            self.left = self.current.map_or(0, |uplink| self.quotas[uplink.index()]);
        }
        self.left = self.left.saturating_sub(1);
        self.current.map_or(UplinkSet::EMPTY, UplinkSet::only)
    }

    /// The one of `members` after the current uplink, around the ring.
    fn successor(&self, members: UplinkSet) -> Option<UplinkId> {
        let after = self.current.and_then(|current| members.iter().find(|uplink| *uplink > current));
        after.or_else(|| members.iter().next())
    }
}
