//! How long things took, all of them: to a hundredth, from 64 ns to a minute, in 24 KiB.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::time::nanos;

/// The shortest time told from none, in nanoseconds.
const LOWEST: u64 = 64;
/// Longer times count as this, in nanoseconds.
const HIGHEST: u64 = 60_000_000_000;
/// Significant decimal digits.
const DIGITS: u8 = 2;

/// Times, counted.
#[derive(Clone, Debug)]
pub struct TimeHistogram(Histogram<u64>);

impl Default for TimeHistogram {
    fn default() -> Self {
        let histogram = Histogram::new_with_bounds(LOWEST, HIGHEST, DIGITS);
        Self(histogram.expect("the bounds are in order, and two digits can be had"))
    }
}

impl TimeHistogram {
    /// Counts one. Allocates nothing.
    #[inline]
    pub fn record(&mut self, time: Duration) {
        self.record_many(time, 1);
    }

    /// Counts so many of the same length.
    #[inline]
    pub fn record_many(&mut self, time: Duration, count: u64) {
        self.0.saturating_record_n(nanos(time), count);
    }

    /// What so many of a hundred are no longer than: zero if there are none.
    #[must_use]
    pub fn percentile(&self, percent: f64) -> Duration {
        let time = self.0.value_at_percentile(percent);
        // Shorter times are none.
        if time < LOWEST { Duration::ZERO } else { Duration::from_nanos(time).min(self.max()) }
    }

    /// The longest: zero if there are none.
    #[must_use]
    pub fn max(&self) -> Duration {
        Duration::from_nanos(self.0.max())
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// All of it, in nanoseconds.
    #[must_use]
    pub const fn counts(&self) -> &Histogram<u64> {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_to_a_hundredth_and_what_is_longer_than_a_minute_is_a_minute() {
        let mut histogram = TimeHistogram::default();
        assert_eq!(
            (histogram.count(), histogram.percentile(50.0), histogram.max()),
            (0, Duration::ZERO, Duration::ZERO)
        );
        (1..=100).for_each(|milliseconds| histogram.record(Duration::from_millis(milliseconds)));
        let median = histogram.percentile(50.0).as_secs_f64() * 1e3;
        assert!((49.5..=50.5).contains(&median), "{median}");
        histogram.record_many(Duration::from_secs(7_200), 300);
        assert_eq!(histogram.count(), 400);
        assert!(histogram.max() >= Duration::from_secs(59) && histogram.max() <= Duration::from_secs(61));
    }
}
