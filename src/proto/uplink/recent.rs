//! Minima that forget: the least of this period and of the one before.

use std::time::Duration;

use crate::proto::time::Instant;

/// The least value of late.
#[derive(Clone, Copy, Debug)]
pub struct RecentLeast<V> {
    current: V,
    previous: V,
    since: Instant,
}

impl<V: Copy + Ord> RecentLeast<V> {
    /// What is known after a first value.
    #[must_use]
    pub const fn new(now: Instant, value: V) -> Self {
        Self { current: value, previous: value, since: now }
    }

    /// What is known after another value, if anything was known before, when values are remembered for `memory`, and twice
    /// that at most.
    #[must_use]
    pub fn after(before: Option<Self>, now: Instant, value: V, memory: Duration) -> Self {
        match before {
            None => Self::new(now, value),
            Some(least) if now >= least.since + memory => Self { current: value, previous: least.current, since: now },
            Some(least) => Self { current: least.current.min(value), ..least },
        }
    }

    /// The least value.
    #[must_use]
    pub fn get(&self) -> V {
        self.current.min(self.previous)
    }

    /// When this period began.
    #[must_use]
    pub const fn since(&self) -> Instant {
        self.since
    }

    /// The same of other values.
    #[must_use]
    pub fn map(self, change: impl Fn(V) -> V) -> Self {
        Self { current: change(self.current), previous: change(self.previous), since: self.since }
    }
}
