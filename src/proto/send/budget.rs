//! How much may be sent again: a share of what is sent, so that recovery never starves new frames.

use std::time::Duration;

use crate::proto::time::Instant;

/// One byte may be sent again for so many that are sent.
const SHARE: u64 = 4;
/// May always be saved up, in bytes.
const SAVED_MIN: u64 = 64 << 10;
/// And so much: what was sent within this, which an uplink that falls may have had on its way.
const SAVED_FOR: Duration = Duration::from_millis(250);

/// Saves up.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    saved: u64,
    current: u64,
    previous: u64,
    since: Instant,
}

impl Budget {
    /// With the least that may be saved up.
    #[must_use]
    pub const fn new(now: Instant) -> Self {
        Self { saved: SAVED_MIN, current: 0, previous: 0, since: now }
    }

    /// A frame was sent for the first time.
    pub fn on_sent(&mut self, now: Instant, length: u32) {
        if now >= self.since + SAVED_FOR {
            self.previous = if now >= self.since + SAVED_FOR * 2 { 0 } else { self.current };
            (self.current, self.since) = (0, now);
        }
        self.current += u64::from(length);
        let most = SAVED_MIN.max(self.current + self.previous);
        self.saved = (self.saved + u64::from(length) / SHARE).min(most);
    }

    /// Takes what one frame needs. Returns whether there was so much.
    #[must_use]
    pub fn take(&mut self, length: u32) -> bool {
        let is_enough = self.saved >= u64::from(length);
        if is_enough {
            self.saved -= u64::from(length);
        }
        is_enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_may_be_sent_again_and_what_has_been_saved_up() {
        let mut budget = Budget::new(Instant::ZERO);
        let (mut sent, mut again) = (0_u64, 0_u64);
        for millisecond in 0..4000 {
            budget.on_sent(Instant::from_nanos(millisecond * 1_000_000), 1000);
            sent += 1000;
            while budget.take(1000) {
                again += 1000;
            }
        }
        assert!(again <= sent / SHARE + SAVED_MIN, "{again} of {sent}");
        assert!(again >= sent / SHARE);
    }
}
