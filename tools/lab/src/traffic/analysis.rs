//! What a list of arrivals says: pure arithmetic.

use std::collections::HashSet;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// One datagram that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Row", into = "Row")]
pub struct Arrival {
    /// Its number.
    pub number: u64,
    /// When it was sent, in nanoseconds since boot.
    pub sent: u64,
    /// When it came, by the same clock.
    pub received: u64,
    /// Its bytes, our header among them.
    pub length: u16,
}

/// How an arrival is written down: by the hundred thousand, so without names.
type Row = (u64, u64, u64, u16);

impl From<Row> for Arrival {
    fn from((number, sent, received, length): Row) -> Self {
        Self { number, sent, received, length }
    }
}

impl From<Arrival> for Row {
    fn from(arrival: Arrival) -> Self {
        (arrival.number, arrival.sent, arrival.received, arrival.length)
    }
}

/// Delays, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Half of all are below.
    pub p50: f64,
    /// 99% are below.
    pub p99: f64,
    /// 99.9% are below.
    pub p999: f64,
    /// The longest.
    pub max: f64,
}

/// What the arrivals come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Datagrams sent.
    pub offered: u64,
    /// Different ones that came.
    pub delivered: u64,
    /// Those that never came.
    pub lost: u64,
    /// Those that came again.
    pub duplicated: u64,
    /// Those that came after one with a higher number, not counting those that came again.
    pub reordered: u64,
    /// The longest time between two arrivals, not counting those that came again.
    pub longest_gap_ms: f64,
    /// From being sent to being received.
    pub latency_ms: Latency,
}

impl Summary {
    /// What `arrivals` come to, of `offered` datagrams.
    #[must_use]
    pub fn of(arrivals: &[Arrival], offered: u64) -> Self {
        let (mut seen, mut highest) = (HashSet::with_capacity(arrivals.len()), None);
        let (mut before, mut longest_gap) = (None, 0);
        let mut summary = Self { offered, ..Self::default() };
        for arrival in arrivals {
            if !seen.insert(arrival.number) {
                summary.duplicated += 1;
                continue;
            }
            if highest.is_some_and(|highest| arrival.number < highest) {
                summary.reordered += 1;
            }
            longest_gap = longest_gap.max(before.map_or(0, |before| arrival.received.saturating_sub(before)));
            before = Some(arrival.received);
            highest = highest.max(Some(arrival.number));
        }
        summary.delivered = seen.len() as u64;
        summary.lost = offered.saturating_sub(summary.delivered);
        summary.longest_gap_ms = milliseconds(longest_gap);
        summary.latency_ms = latency(arrivals);
        summary
    }

    /// The same of a section of the arrivals, of which nobody knows how many were sent: from the lowest number in it
    /// to the highest.
    #[must_use]
    pub fn of_section(arrivals: &[Arrival]) -> Self {
        let numbers = || arrivals.iter().map(|arrival| arrival.number);
        let offered = numbers().max().zip(numbers().min()).map_or(0, |(highest, lowest)| highest - lowest + 1);
        Self::of(arrivals, offered)
    }
}

fn latency(arrivals: &[Arrival]) -> Latency {
    // Three digits, up to a minute.
    let Ok(mut histogram) = Histogram::<u64>::new_with_max(60_000_000_000, 3) else { return Latency::default() };
    for arrival in arrivals {
        histogram.saturating_record(arrival.received.saturating_sub(arrival.sent));
    }
    let at = |percentile| milliseconds(histogram.value_at_percentile(percentile));
    Latency { p50: at(50.0), p99: at(99.0), p999: at(99.9), max: milliseconds(histogram.max()) }
}

fn milliseconds(nanoseconds: u64) -> f64 {
    (nanoseconds as f64 / 1e4).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrivals(numbers: &[u64]) -> Vec<Arrival> {
        let arrival = |(at, number): (usize, &u64)| Arrival {
            number: *number,
            sent: number * 1_000_000,
            received: at as u64 * 1_000_000 + 20_000_000,
            length: 1316,
        };
        numbers.iter().enumerate().map(arrival).collect()
    }

    #[test]
    fn lost_duplicated_and_reordered_are_told_apart() {
        let summary = Summary::of(&arrivals(&[0, 2, 1, 1, 3, 6, 5]), 8);
        assert_eq!((summary.delivered, summary.lost), (6, 2));
        assert_eq!((summary.duplicated, summary.reordered), (1, 2));
    }

    #[test]
    fn delays_and_gaps_are_milliseconds() {
        let mut all = arrivals(&[0, 1, 2]);
        all[2].received += 35_000_000;
        let summary = Summary::of(&all, 3);
        assert!((summary.longest_gap_ms - 36.0).abs() < 0.1, "{summary:?}");
        assert!((summary.latency_ms.p50 - 20.0).abs() < 0.1, "{summary:?}");
        assert!((summary.latency_ms.max - 55.0).abs() < 0.1, "{summary:?}");
    }

    #[test]
    fn nothing_is_no_reason_to_divide_by_it() {
        assert_eq!(Summary::of(&[], 0), Summary::default());
        assert_eq!(Summary::of(&[], 5).lost, 5);
    }
}
