//! Has this sequence number been seen, and by which uplinks? A sliding window, after RFC 6479, of sets instead of bits.

use crate::proto::uplink::{UplinkId, UplinkSet};

/// How far back the memory reaches, in sequence numbers. Covers two seconds at 4,000 frames per second on the one
/// hand, and every place of the reorder ring on the other.
pub const DEDUP_WINDOW: u64 = 1 << 14;

/// What [`Dedup::check`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Never seen; it is marked as seen now.
    Fresh,
    /// Seen before, by other uplinks only: it was sent by several.
    Copy,
    /// Seen before by this uplink. Nobody sends a frame twice by one: the network has doubled it, or somebody replays it.
    Repeated,
    /// Too far behind to tell.
    TooOld,
}

/// The memory.
#[derive(Debug)]
pub struct Dedup {
    seen: Box<[UplinkSet; DEDUP_WINDOW as usize]>,
    /// One past the highest number seen.
    end: u64,
}

impl Dedup {
    /// A memory that knows nothing, and calls everything more than a window below `first` too old.
    #[must_use]
    pub fn new(first: u64) -> Self {
        Self { seen: Box::new([UplinkSet::EMPTY; DEDUP_WINDOW as usize]), end: first }
    }

    /// Forgets everything and begins at `first`.
    pub fn reset(&mut self, first: u64) {
        self.seen.fill(UplinkSet::EMPTY);
        self.end = first;
    }

    /// Looks `sequence` up, which has come by `uplink`, and marks it.
    #[inline]
    pub fn check(&mut self, sequence: u64, uplink: UplinkId) -> Seen {
        if sequence >= self.end {
            self.advance(sequence);
        } else if self.end - sequence > DEDUP_WINDOW {
            return Seen::TooOld;
        }
        let seen = &mut self.seen[place(sequence)];
        let before = *seen;
        seen.insert(uplink);
        if before.is_empty() {
            Seen::Fresh
        } else if before.contains(uplink) {
            Seen::Repeated
        } else {
            Seen::Copy
        }
    }

    /// Whether `sequence` has been seen; false if nobody knows.
    #[must_use]
    pub fn has_seen(&self, sequence: u64) -> bool {
        let is_known = sequence < self.end && self.end - sequence <= DEDUP_WINDOW;
        is_known && !self.seen[place(sequence)].is_empty()
    }

    /// Makes `sequence` the newest: those between the one before and it have not been seen.
    #[inline]
    fn advance(&mut self, sequence: u64) {
        let first = self.end.max((sequence + 1).saturating_sub(DEDUP_WINDOW));
        self.end = sequence + 1;
        let (first, last) = (place(first), place(sequence));
        if first <= last {
            self.seen[first..=last].fill(UplinkSet::EMPTY);
        } else {
            self.seen[first..].fill(UplinkSet::EMPTY);
            self.seen[..=last].fill(UplinkSet::EMPTY);
        }
    }
}

#[inline]
const fn place(sequence: u64) -> usize {
    (sequence % DEDUP_WINDOW) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn uplink(number: u8) -> UplinkId {
        UplinkId::new(number).expect("within range")
    }

    #[test]
    fn a_number_is_fresh_once_and_a_copy_once_by_each_other_uplink() {
        let mut dedup = Dedup::new(1000);
        assert_eq!(dedup.check(1000, uplink(0)), Seen::Fresh);
        assert_eq!(dedup.check(1000, uplink(0)), Seen::Repeated);
        assert_eq!(dedup.check(1000, uplink(15)), Seen::Copy);
        assert_eq!(dedup.check(1000, uplink(15)), Seen::Repeated);
        assert_eq!(dedup.check(999, uplink(0)), Seen::Fresh);
        assert_eq!(dedup.check(1000 + DEDUP_WINDOW * 5, uplink(0)), Seen::Fresh);
        assert_eq!(dedup.check(1000, uplink(0)), Seen::TooOld);
    }

    proptest! {
        #[test]
        fn agrees_with_a_map(first in 1_u64 << 20..1 << 40,
                             steps in proptest::collection::vec((prop_oneof![-40_i64..40, -20_000_i64..20_000], 0_u8..3), 1..400)) {
            let mut dedup = Dedup::new(first);
            let (mut seen, mut end, mut at) = (BTreeMap::new(), first, first);
            for (step, by) in steps {
                at = at.saturating_add_signed(step).max(1 << 19);
                let by = uplink(by);
                let expected = if at < end && end - at > DEDUP_WINDOW {
                    Seen::TooOld
                } else {
                    let before: &mut UplinkSet = seen.entry(at).or_default();
                    let found = match *before {
                        UplinkSet::EMPTY => Seen::Fresh,
                        before if before.contains(by) => Seen::Repeated,
                        _ => Seen::Copy,
                    };
                    before.insert(by);
                    found
                };
                end = end.max(at + 1);
                prop_assert_eq!(dedup.check(at, by), expected);
            }
        }
    }
}
