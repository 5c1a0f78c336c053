//! What came of a run, in figures.

use super::oracle::{Offer, Stream};
use super::{MILLISECOND, Nanoseconds};

/// What one direction came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Frames offered.
    pub offered: u64,
    /// Frames delivered.
    pub delivered: u64,
    /// Frames delivered after a later one.
    pub out_of_order: u64,
    /// Half of the frames took no longer from being offered to being delivered.
    pub p50: Nanoseconds,
    /// 99% took no longer.
    pub p99: Nanoseconds,
    /// None took longer.
    pub max: Nanoseconds,
    /// The longest time between two frames delivered one after the other.
    pub gap: Nanoseconds,
}

/// What both came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// From the box, and to it.
    pub ways: [Figures; 2],
    /// Since when every uplink has been up at both ends, if they are at the end.
    pub all_up_since: Option<Nanoseconds>,
}

impl Report {
    /// The report of two streams.
    #[must_use]
    pub fn of(streams: [&Stream; 2], all_up_since: Option<Nanoseconds>) -> Self {
        Self { ways: streams.map(Figures::of), all_up_since }
    }
}

impl Figures {
    fn of(stream: &Stream) -> Self {
        let delivered = || stream.offers.iter().filter_map(|offer| offer.delivered_at.map(|at| (offer, at)));
        let mut latencies: Vec<_> = delivered().map(|(offer, at): (&Offer, _)| at - offer.at).collect();
        latencies.sort_unstable();
        let mut moments: Vec<_> = delivered().map(|(_, at)| at).collect();
        moments.sort_unstable();
        Self {
            offered: stream.offers.len() as u64,
            delivered: latencies.len() as u64,
            out_of_order: stream.out_of_order,
            p50: percentile(&latencies, 50),
            p99: percentile(&latencies, 99),
            max: percentile(&latencies, 100),
            gap: moments.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0),
        }
    }

    /// Frames that were never delivered.
    #[must_use]
    pub const fn lost(&self) -> u64 {
        self.offered - self.delivered
    }

    /// How much was delivered, in hundredths of a percent, rounded down.
    #[must_use]
    pub const fn delivered_basis_points(&self) -> u64 {
        match (self.delivered * 10_000).checked_div(self.offered) {
            Some(share) => share,
            None => 10_000,
        }
    }
}

/// By nearest rank; 0 of nothing.
fn percentile(sorted: &[Nanoseconds], percent: usize) -> Nanoseconds {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0)
}

/// Tenths of milliseconds, for people.
#[must_use]
pub fn milliseconds(time: Nanoseconds) -> String {
    let tenths = (time + MILLISECOND / 20) / (MILLISECOND / 10);
    format!("{}.{}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let hundred: Vec<u64> = (1..=100).collect();
        assert_eq!([50, 99, 100].map(|percent| percentile(&hundred, percent)), [50, 99, 100]);
        assert_eq!((percentile(&[7], 50), percentile(&[], 50)), (7, 0));
    }

    #[test]
    fn milliseconds_are_rounded() {
        assert_eq!([0, 49_000, 50_000, 45_260_000].map(milliseconds), ["0.0", "0.0", "0.1", "45.3"]);
    }
}
