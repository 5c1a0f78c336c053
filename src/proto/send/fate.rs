//! How long the frames are that uplinks carry, and those that they lose.

use super::Sender;
use crate::proto::uplink::{UplinkId, UplinkSet};

/// What has become of frames sent by an uplink, since that was last asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fate {
    /// The longest of which it is certain that it has come by this one, in bytes; 0 if there is none.
    pub carried: u32,
    /// The longest that has been lost, or is overdue; 0 if there is none.
    pub lost: u32,
}

impl<F> Sender<F> {
    /// What has become of frames sent by `uplink`, since this was last asked.
    pub fn take_fate(&mut self, uplink: UplinkId) -> Fate {
        std::mem::take(&mut self.fates[uplink.index()])
    }

    /// A frame of `length` has come that was sent by these.
    pub(super) fn note_carried(&mut self, sent_by: UplinkSet, length: u32) {
        let mut by = sent_by.iter();
        if let (Some(uplink), None) = (by.next(), by.next()) {
            let fate = &mut self.fates[uplink.index()];
            fate.carried = fate.carried.max(length);
        }
    }

    /// A frame of `length` sent by `uplink` has been lost, or should have come.
    pub(super) fn note_lost_length(&mut self, uplink: UplinkId, length: u32) {
        let fate = &mut self.fates[uplink.index()];
        fate.lost = fate.lost.max(length);
    }

    /// `uplink` carries no longer frames than this. What is on its way there and is longer is lost.
    pub fn set_frame_max(&mut self, uplink: UplinkId, frame_max: u32) {
        self.frame_max[uplink.index()] = frame_max;
        self.frame_max_least = self.frame_max.iter().copied().min().unwrap_or(u32::MAX);
        for sequence in self.flight.oldest()..self.flight.end() {
            let Some(record) = self.flight.get(sequence).copied().filter(|record| record.length > frame_max) else {
                continue;
            };
            for copy in record.copies.into_iter().flatten().filter(|copy| copy.uplink == uplink) {
                self.lose_copy(sequence, copy);
            }
        }
    }

    /// The uplinks that are used for frames of this length: if none of those that are used carries it, any that does.
    pub(super) fn usable_for(&self, length: u32) -> UplinkSet {
        if length <= self.frame_max_least {
            return self.usable;
        }
        let wide = |uplinks: UplinkSet| {
            uplinks.iter().filter(|uplink| self.frame_max[uplink.index()] >= length).collect::<UplinkSet>()
        };
        let usable = wide(self.usable);
        if usable.is_empty() { wide(self.reserve.reachable) } else { usable }
    }
}
