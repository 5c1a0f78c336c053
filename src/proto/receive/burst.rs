//! How fast an uplink can be, seen from frames that came close together.

use std::time::Duration;

use crate::proto::time::Instant;

/// So many frames in a row make a burst.
pub const BURST_FRAMES: usize = 8;
/// Frames are read in batches: what seems to come within less may have taken so long.
const SPAN_MIN: Duration = Duration::from_millis(2);

/// Watches one uplink.
#[derive(Clone, Copy, Debug, Default)]
pub struct BurstMeter {
    /// When the last frames came, and how many bytes had come by then; a ring.
    recent: [(Instant, u64); BURST_FRAMES],
    frames: u64,
    fastest: u64,
}

impl BurstMeter {
    /// A frame has come, and with it `bytes` in all.
    #[inline]
    pub fn on_frame(&mut self, now: Instant, bytes: u64) {
        let place = (self.frames % BURST_FRAMES as u64) as usize;
        let (first_at, first_bytes) = std::mem::replace(&mut self.recent[place], (now, bytes));
        if self.frames >= BURST_FRAMES as u64 {
            // The first of them came when its bytes had been counted.
            let span = now.since(first_at).max(SPAN_MIN).as_micros();
            let rate = u128::from(bytes.saturating_sub(first_bytes)) * 1_000_000 / span;
            self.fastest = self.fastest.max(u64::try_from(rate).unwrap_or(u64::MAX));
        }
        self.frames += 1;
    }

    /// The fastest since this was asked last, in bytes of frame per second; 0 if there was no burst.
    pub fn take_fastest(&mut self) -> u64 {
        std::mem::take(&mut self.fastest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fastest_burst_counts_and_pauses_do_not() {
        let mut meter = BurstMeter::default();
        let mut at = 0;
        for (frame, gap_ms) in [100_u64, 100, 1, 1, 1, 1, 1, 1, 1, 1, 1, 50, 50, 50].into_iter().enumerate() {
            at += gap_ms;
            meter.on_frame(Instant::from_nanos(at * 1_000_000), (frame as u64 + 1) * 1000);
        }
        assert_eq!(meter.take_fastest(), 1_000_000);
        assert_eq!(meter.take_fastest(), 0);
    }
}
