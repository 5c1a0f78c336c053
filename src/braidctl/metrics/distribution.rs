//! How long things took: since the start as quantiles (a summary), and as buckets, of which Prometheus makes quantiles of any
//! stretch of time by itself (`histogram_quantile` of a `rate`).

use std::collections::BTreeMap;

use prometheus::proto::{Bucket, Histogram, Metric, MetricFamily, MetricType, Quantile, Summary};

use super::exposition::{Labels, labelled, new_family};
use crate::braidctl::histogram::Recorded;
use crate::control::Quantity;

/// Quantiles of a summary; that of 1 is the longest.
const QUANTILES: [f64; 5] = [0.5, 0.9, 0.99, 0.999, 1.0];

/// Upper bounds of buckets, in microseconds: from what a reactor takes to what a satellite's bad day does.
const BOUNDS_US: [u32; 18] = [
    10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000,
    2_000_000, 5_000_000,
];

/// What a quantity's families are called, the summary (where there is one) before the histogram, and what they are of.
const fn names(of: Quantity) -> (Option<&'static str>, &'static str, &'static str) {
    match of {
        // The summary's name would be that of the smoothed round trip.
        Quantity::Rtt => (None, "braid_uplink_rtt_distribution_seconds", "Round trips of probes"),
        Quantity::DelayVariation => (
            Some("braid_uplink_delay_variation_seconds"),
            "braid_uplink_delay_variation_distribution_seconds",
            "How much the one-way delay of a probe differs from that of the one before (RFC 3393)",
        ),
        Quantity::Hold => (
            Some("braid_hold_seconds"),
            "braid_hold_distribution_seconds",
            "How long received frames were held to restore order",
        ),
        Quantity::TapToWire => (
            Some("braid_tap_to_wire_seconds"),
            "braid_tap_to_wire_distribution_seconds",
            "From reading a frame from the TAP until it is handed to the kernel for an uplink",
        ),
        Quantity::WireToTap => (
            Some("braid_wire_to_tap_seconds"),
            "braid_wire_to_tap_distribution_seconds",
            "From receiving a frame until it is handed to the kernel for the TAP",
        ),
        Quantity::Loop => (
            Some("braid_loop_seconds"),
            "braid_loop_distribution_seconds",
            "From a wake-up of the reactor until all is done that it called for",
        ),
        Quantity::ControlStep => (
            Some("braid_control_step_seconds"),
            "braid_control_step_distribution_seconds",
            "A step of the reactor for a client of the control socket",
        ),
    }
}

/// All of them. `boxes` are the names of boxes by their TAPs.
pub(super) fn families(all: &[Recorded], boxes: &BTreeMap<&str, &str>) -> Vec<MetricFamily> {
    let mut families = vec![];
    for of in Quantity::ALL {
        let (summary, histogram, help) = names(of);
        let of_it = || all.iter().filter(move |recorded| recorded.of == of);
        if let Some(name) = summary {
            let mut family = new_family(name, &format!("{help}: since the start."), MetricType::SUMMARY);
            family.set_metric(of_it().map(|recorded| summary_of(recorded, boxes)).collect());
            families.push(family);
        }
        let mut family = new_family(histogram, &format!("{help}: how often how long."), MetricType::HISTOGRAM);
        family.set_metric(of_it().map(|recorded| histogram_of(recorded, boxes)).collect());
        families.push(family);
    }
    families
}

fn labels<'a>(recorded: &'a Recorded, boxes: &BTreeMap<&str, &'a str>) -> Labels<'a> {
    let tap = recorded.tap.as_deref();
    let name = tap.and_then(|tap| boxes.get(tap).copied());
    let labels = [("tap", tap), ("box", name), ("uplink", recorded.uplink.as_deref())];
    labels.into_iter().filter_map(|(label, value)| Some((label, value?))).collect()
}

fn summary_of(recorded: &Recorded, boxes: &BTreeMap<&str, &str>) -> Metric {
    let quantile = |at: f64| {
        let mut quantile = Quantile::default();
        quantile.set_quantile(at);
        // Of nothing there is no quantile; 0 would be one.
        let value = (!recorded.values.is_empty()).then(|| recorded.values.value_at_quantile(at));
        quantile.set_value(value.map_or(f64::NAN, |value| seconds(value as f64)));
        quantile
    };
    let mut summary = Summary::default();
    summary.set_quantile(QUANTILES.map(quantile).to_vec());
    summary.set_sample_count(recorded.values.len());
    summary.set_sample_sum(sum(recorded));
    let mut metric = labelled(&labels(recorded, boxes));
    metric.set_summary(summary);
    metric
}

fn histogram_of(recorded: &Recorded, boxes: &BTreeMap<&str, &str>) -> Metric {
    let mut histogram = Histogram::default();
    histogram.set_bucket(buckets(recorded));
    histogram.set_sample_count(recorded.values.len());
    histogram.set_sample_sum(sum(recorded));
    let mut metric = labelled(&labels(recorded, boxes));
    metric.set_histogram(histogram);
    metric
}

fn buckets(recorded: &Recorded) -> Vec<Bucket> {
    let mut steps = recorded.values.iter_recorded().peekable();
    let mut count = 0;
    let buckets = BOUNDS_US.iter().map(|bound| {
        let bound_ns = u64::from(*bound) * 1_000;
        // By what was counted together with it: a value may be a thousandth off.
        while let Some(step) =
            steps.next_if(|step| recorded.values.lowest_equivalent(step.value_iterated_to()) <= bound_ns)
        {
            count += step.count_since_last_iteration();
        }
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(f64::from(*bound) / 1e6);
        bucket.set_cumulative_count(count);
        bucket
    });
    buckets.collect()
}

/// Of all values, in seconds, each as the middle of those that are counted together with it. It never falls.
fn sum(recorded: &Recorded) -> f64 {
    let steps = recorded.values.iter_recorded();
    let of_step = |(value, count): (u64, u64)| recorded.values.median_equivalent(value) as f64 * count as f64;
    seconds(steps.map(|step| of_step((step.value_iterated_to(), step.count_since_last_iteration()))).sum())
}

fn seconds(nanoseconds: f64) -> f64 {
    nanoseconds / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::braidctl::{histogram, sample};

    fn recorded(durations: &[u64]) -> Recorded {
        let sample = sample::histogram(Quantity::Hold, Some("van1"), None, durations.iter().copied());
        histogram::decode(vec![sample]).expect("a histogram").remove(0)
    }

    #[test]
    fn buckets_count_what_is_no_longer_than_their_bounds() {
        let recorded = recorded(&[5_000, 10_000, 10_900, 1_000_000, 3_000_000, 30_000_000_000]);
        let counts: Vec<(f64, u64)> =
            buckets(&recorded).iter().map(|bucket| (bucket.upper_bound(), bucket.cumulative_count())).collect();
        let at = |bound: f64| counts.iter().find(|(at, _)| *at == bound).expect("a bound").1;
        assert_eq!([at(1e-5), at(2e-5), at(5e-4), at(1e-3), at(2e-3), at(5e-3), at(5.0)], [2, 3, 3, 4, 4, 5, 5]);
        let exact = (5e3 + 10e3 + 10.9e3 + 1e6 + 3e6 + 30e9) / 1e9;
        assert!((sum(&recorded) / exact - 1.0).abs() < 1e-3, "{}", sum(&recorded));
    }

    #[test]
    fn labels_name_the_box_of_the_tap() {
        let recorded = recorded(&[]);
        assert_eq!(labels(&recorded, &BTreeMap::from([("van1", "one")])), [("tap", "van1"), ("box", "one")]);
        assert_eq!(labels(&recorded, &BTreeMap::new()), [("tap", "van1")]);
        let summary = summary_of(&recorded, &BTreeMap::new());
        assert!(summary.get_summary().get_quantile().iter().all(|quantile| quantile.value().is_nan()));
    }
}
