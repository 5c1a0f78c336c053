//! When to probe: often while frames flow, ever more seldom when they have stopped.
//!
//! All uplinks are probed in one go, so that an idle machine is woken once for all of them.

use std::time::Duration;

use crate::proto::time::Instant;

/// How long after the last frame, either way, the tunnel counts as busy.
const BUSY_FOR: Duration = Duration::from_secs(3);
/// The slowest probing.
const IDLE_INTERVAL: Duration = Duration::from_secs(1);
/// From one beat to the next for uplinks that are to be spared: both ends' probes and the answers to them are then half a
/// gigabyte a month.
const SPARED_INTERVAL: Duration = Duration::from_secs(2);

/// Beats.
#[derive(Clone, Copy, Debug)]
pub struct ProbeClock {
    busy_interval: Duration,
    interval: Duration,
    interval_since: Instant,
    next: Instant,
    busy_until: Instant,
    spared_next: Instant,
}

impl ProbeClock {
    /// Beats at once, and then every `busy_interval` while frames flow.
    #[must_use]
    pub fn new(now: Instant, busy_interval: Duration) -> Self {
        let (next, busy_until) = (now, now + BUSY_FOR);
        Self { busy_interval, interval: busy_interval, interval_since: now, next, busy_until, spared_next: now }
    }

    /// Beats every `busy_interval` while frames flow from now on, and now.
    pub fn set_busy_interval(&mut self, now: Instant, busy_interval: Duration) {
        self.busy_interval = busy_interval;
        self.interval = busy_interval;
        self.change_pace(now);
    }

    /// When the next beat is due.
    #[must_use]
    pub const fn next(&self) -> Instant {
        self.next
    }

    /// The time between beats.
    #[must_use]
    pub const fn interval(&self) -> Duration {
        self.interval
    }

    /// Since when beats have come no slower than now.
    #[must_use]
    pub const fn interval_since(&self) -> Instant {
        self.interval_since
    }

    /// A frame was sent or received.
    #[inline]
    pub fn on_frame(&mut self, now: Instant) {
        self.busy_until = now + BUSY_FOR;
        if self.interval > self.busy_interval {
            self.interval = self.busy_interval;
            self.interval_since = now;
            self.next = now;
        }
    }

    /// Beat as soon as possible.
    pub fn hurry(&mut self, now: Instant) {
        self.next = self.next.min(now);
        self.spared_next = self.spared_next.min(now);
    }

    /// Some uplinks are to be spared from now on, or not any more.
    pub fn change_pace(&mut self, now: Instant) {
        self.interval_since = now;
        self.hurry(now);
    }

    /// The longest time between two beats for uplinks that are to be spared.
    #[must_use]
    pub fn spared_interval(&self) -> Duration {
        SPARED_INTERVAL + self.interval
    }

    /// Whether the beat that is made now is for uplinks that are to be spared, too.
    pub fn beats_for_spared(&mut self, now: Instant) -> bool {
        let is_due = now >= self.spared_next;
        if is_due {
            self.spared_next = now + SPARED_INTERVAL;
        }
        is_due
    }

    /// Beat now instead of soon, so that one wake-up serves for both: for the end that follows the other's beat.
    pub fn join(&mut self, now: Instant) {
        if self.next <= now + self.interval / 2 {
            self.next = self.next.min(now);
        }
    }

    /// A beat is made. Returns when the next one will come.
    pub fn beat(&mut self, now: Instant) -> Duration {
        if now >= self.busy_until {
            // By half as much each time: the peer, which calls three announced intervals of silence suspicious,
            // bears the loss of the probe that announced the slower one.
            self.interval = (self.interval + self.interval / 2).min(IDLE_INTERVAL.max(self.busy_interval));
        }
        self.next = now + self.interval;
        self.interval
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slows_down_gently_and_wakes_at_once() {
        let busy = Duration::from_millis(20);
        let mut clock = ProbeClock::new(Instant::ZERO, busy);
        let mut now = Instant::ZERO;
        let mut before = busy;
        for _ in 0..300 {
            let interval = clock.beat(now);
            assert!(before + interval <= before * 3, "one lost announcement is borne");
            before = interval;
            now = clock.next();
        }
        assert_eq!(clock.interval(), IDLE_INTERVAL);
        clock.on_frame(now);
        assert_eq!((clock.next(), clock.beat(now)), (now, busy));
    }
}
