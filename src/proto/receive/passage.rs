//! How far one uplink has come: which frames can it still bring?
//!
//! An uplink is nearly first-in, first-out. Once it has shown a number (of a frame, or the sender's next number in a
//! probe), frames with lower numbers will not come by it any more, save for the little reordering that the uplink
//! itself does. That allowance is learned: a frame that comes by the uplink after a later one shows how late it can
//! be; the allowance then fades by half a second's half-life.

use std::time::Duration;

use crate::proto::time::Instant;

/// How many moments are remembered.
const HISTORY: usize = 32;
/// Moments closer together than this are remembered as one (the later), which errs on the side of waiting.
const HISTORY_GRAIN: Duration = Duration::from_millis(1);
/// The longest allowance: [`HISTORY`] moments reach back this far.
const ALLOWANCE_MAX: Duration = Duration::from_millis(30);
/// An uplink that has been past a number for so long, when the sender has yet to say that it has sent as much, was
/// shown a number that was not the sender's. Longer than any link lets one datagram overtake another.
const CONTRADICTED_AFTER: Duration = Duration::from_millis(100);
/// How often in a row the sender must say so: a single message may be a straggler.
const CONTRADICTIONS_MIN: u32 = 2;
/// How long until a learned allowance has halved.
const ALLOWANCE_HALF_LIFE: Duration = Duration::from_millis(500);

/// The progress of one uplink.
#[derive(Clone, Debug)]
pub struct Passage {
    /// One past the highest number shown.
    end: u64,
    /// `(end, when it was reached)`, a ring.
    history: [(u64, Instant); HISTORY],
    newest: usize,
    allowance: Duration,
    allowance_halves_at: Instant,
    contradictions: u32,
}

impl Passage {
    /// An uplink that has shown `end` at `now`.
    #[must_use]
    pub fn new(now: Instant, end: u64) -> Self {
        Self {
            end,
            history: [(end, now); HISTORY],
            newest: 0,
            allowance: Duration::ZERO,
            allowance_halves_at: now,
            contradictions: 0,
        }
    }

    /// One past the highest number shown.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.end
    }

    /// How late a frame may be on this uplink, as learned.
    #[must_use]
    pub const fn allowance(&self) -> Duration {
        self.allowance
    }

    /// The uplink has shown that everything below `end` was sent before.
    #[inline]
    pub fn show(&mut self, now: Instant, end: u64) {
        self.fade(now);
        if end <= self.end {
            return;
        }
        self.end = end;
        let (_, last) = self.history[self.newest];
        if now.since(last) >= HISTORY_GRAIN {
            self.newest = (self.newest + 1) % HISTORY;
        }
        self.history[self.newest] = (end, now);
    }

    /// The sender has spoken by this uplink, and has never yet said, by any, that it has sent as much as `announced`.
    /// Whether that proves that a number shown by this uplink was not the sender's.
    pub fn contradicts(&mut self, now: Instant, announced: u64) -> bool {
        let is_contradicted = self.end > announced && now.since(self.passed_at(announced)) >= CONTRADICTED_AFTER;
        self.contradictions = if is_contradicted { self.contradictions + 1 } else { 0 };
        self.contradictions >= CONTRADICTIONS_MIN
    }

    /// A frame never seen before came by this uplink after a later one had.
    pub fn learn_late(&mut self, now: Instant, sequence: u64) {
        let lateness = now.since(self.passed_at(sequence));
        // A quarter more than seen, and never less than the grain at which time is remembered.
        let wanted = (lateness + lateness / 4).max(HISTORY_GRAIN).min(ALLOWANCE_MAX);
        if wanted > self.allowance {
            self.allowance = wanted;
            self.allowance_halves_at = now + ALLOWANCE_HALF_LIFE;
        }
    }

    /// Frames below this number have not come by this uplink for `patience`, and will not any more.
    #[inline]
    #[must_use]
    pub fn floor(&self, now: Instant, patience: Duration) -> u64 {
        let patience = self.allowance + patience;
        if patience.is_zero() {
            return self.end;
        }
        self.recent().find(|(_, when)| now >= *when + patience).map_or(0, |(end, _)| end)
    }

    /// When [`Self::floor`] will exceed `sequence`; `None` if it does already, or if the uplink has not come so far.
    #[must_use]
    pub fn passes_at(&self, now: Instant, patience: Duration, sequence: u64) -> Option<Instant> {
        if self.end <= sequence || self.floor(now, patience) > sequence {
            return None;
        }
        Some(self.passed_at(sequence) + self.allowance + patience)
    }

    /// The earliest remembered moment at which the uplink had come past `sequence`.
    fn passed_at(&self, sequence: u64) -> Instant {
        let mut moment = self.history[self.newest].1;
        for (end, when) in self.recent() {
            if end <= sequence {
                break;
            }
            moment = when;
        }
        moment
    }

    /// The remembered moments, newest first.
    fn recent(&self) -> impl Iterator<Item = (u64, Instant)> + '_ {
        (0..HISTORY).map(|back| self.history[(self.newest + HISTORY - back) % HISTORY])
    }

    fn fade(&mut self, now: Instant) {
        if self.allowance.is_zero() || now < self.allowance_halves_at {
            return;
        }
        self.allowance /= 2;
        self.allowance_halves_at = now + ALLOWANCE_HALF_LIFE;
        if self.allowance < HISTORY_GRAIN {
            self.allowance = Duration::ZERO;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> Instant {
        Instant::from_nanos(milliseconds * 1_000_000)
    }

    #[test]
    fn a_fifo_uplink_passes_at_once() {
        let mut passage = Passage::new(at(0), 10);
        passage.show(at(5), 12);
        assert_eq!(passage.floor(at(5), Duration::ZERO), 12);
        assert_eq!(passage.passes_at(at(5), Duration::ZERO, 11), None);
    }

    #[test]
    fn an_uplink_that_reorders_is_given_time() {
        let mut passage = Passage::new(at(0), 10);
        passage.show(at(10), 20);
        passage.learn_late(at(14), 15);
        assert_eq!(passage.allowance(), Duration::from_millis(5));
        passage.show(at(20), 30);
        assert_eq!(passage.floor(at(24), Duration::ZERO), 20);
        assert_eq!(passage.passes_at(at(24), Duration::ZERO, 25), Some(at(25)));
        assert_eq!(passage.floor(at(25), Duration::ZERO), 30);
    }

    #[test]
    fn what_was_learned_fades() {
        let mut passage = Passage::new(at(0), 10);
        passage.show(at(10), 20);
        passage.learn_late(at(30), 15);
        assert_eq!(passage.allowance(), Duration::from_millis(25));
        for step in 1..20 {
            passage.show(at(30 + step * 500), 20 + step);
        }
        assert_eq!(passage.allowance(), Duration::ZERO);
    }
}
