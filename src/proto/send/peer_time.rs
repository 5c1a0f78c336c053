//! Moments by the peer's clock.

use std::time::Duration;

use crate::proto::time::{Instant, nanos};

/// A moment by the peer's clock, in nanoseconds since an origin that only the peer knows.
///
/// It comes from the wire and may be anything: arithmetic saturates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PeerTime(i64);

/// How far a moment by the peer's clock is from one by ours, in nanoseconds: the time on the way, and whatever the two
/// clocks differ by. Comparable between uplinks, whose ends are the same two clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Transit(pub i64);

impl PeerTime {
    /// From what the peer says.
    #[must_use]
    pub const fn from_nanos(nanoseconds: u64) -> Self {
        Self(nanoseconds.cast_signed())
    }

    /// The peer's clock when what leaves at `sent_at` by ours arrives.
    #[must_use]
    pub const fn arrival(sent_at: Instant, transit: Transit) -> Self {
        Self(sent_at.as_nanos().cast_signed().saturating_add(transit.0))
    }

    /// What lies between `sent_at` by our clock and this.
    #[must_use]
    pub const fn transit_since(self, sent_at: Instant) -> Transit {
        Transit(self.0.saturating_sub(sent_at.as_nanos().cast_signed()))
    }

    /// The time from `earlier` to `self`; zero if `earlier` is in fact later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        excess(self.0, earlier.0)
    }

    /// So much later.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add_unsigned(nanos(duration)))
    }

    /// So much earlier.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub_unsigned(nanos(duration)))
    }
}

impl Transit {
    /// By how much this exceeds `base`; zero if it does not.
    #[must_use]
    pub const fn above(self, base: Self) -> Duration {
        excess(self.0, base.0)
    }

    /// So much more.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add_unsigned(nanos(duration)))
    }

    /// So much less.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub_unsigned(nanos(duration)))
    }
}

/// By how many nanoseconds one number exceeds another; zero if it does not.
const fn excess(one: i64, other: i64) -> Duration {
    let difference = one.saturating_sub(other);
    Duration::from_nanos(if difference < 0 { 0 } else { difference.cast_unsigned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leaves_later_arrives_later_whatever_the_clocks_say() {
        let sent_at = Instant::from_nanos(5_000_000);
        for theirs in [0, 7_000_000, u64::MAX] {
            let transit = PeerTime::from_nanos(theirs).transit_since(sent_at);
            assert_eq!(PeerTime::arrival(sent_at, transit), PeerTime::from_nanos(theirs));
            assert_eq!(PeerTime::arrival(sent_at, transit).transit_since(sent_at), transit);
        }
    }

    #[test]
    fn absurd_times_are_borne() {
        let (first, last) = (PeerTime::from_nanos(1 << 63), PeerTime::from_nanos((1 << 63) - 1));
        assert!(first < last);
        assert_eq!(first.since(last), Duration::ZERO);
        assert_eq!(last.since(first), Duration::from_nanos(i64::MAX.cast_unsigned()));
        assert_eq!(last.plus(Duration::MAX), last);
    }
}
