//! Histograms as they come from an end, made into what can be asked and subtracted.

use std::io::Cursor;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::serialization::Deserializer;
use serde::Serialize;

use super::Span;
use crate::braidctl::Client;
use crate::control::{Answer, Command, Histogram, Quantity};

/// All that has been recorded of one quantity.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::braidctl) struct Recorded {
    /// Of what.
    pub(in crate::braidctl) of: Quantity,
    /// The tunnel's TAP; none where it is the whole process's.
    pub(in crate::braidctl) tap: Option<String>,
    /// The uplink, where it is of one.
    pub(in crate::braidctl) uplink: Option<String>,
    /// How often how many nanoseconds.
    pub(in crate::braidctl) values: hdrhistogram::Histogram<u64>,
}

impl Recorded {
    /// What it is of: `rtt lte-a`, or `rtt van1/lte-a` among those of several tunnels.
    pub(super) fn title(&self, all: &[Self]) -> String {
        format!("{} {}", self.of.name(), self.place(all)).trim_end().to_owned()
    }

    /// Where it was recorded: `lte-a`, or `van1/lte-a` among those of several tunnels; nothing, where there is one place.
    pub(super) fn place(&self, all: &[Self]) -> String {
        let mut taps = all.iter().filter_map(|other| other.tap.as_deref());
        let first = taps.next();
        let are_several = taps.any(|tap| Some(tap) != first);
        let tap = self.tap.as_deref().filter(|_| are_several);
        [tap, self.uplink.as_deref()].into_iter().flatten().collect::<Vec<_>>().join("/")
    }

    fn is_of_the_same(&self, other: &Self) -> bool {
        (self.of, &self.tap, &self.uplink) == (other.of, &other.tap, &other.uplink)
    }
}

/// All that the end tells of.
///
/// # Errors
/// Why they cannot be had.
pub(in crate::braidctl) fn fetch(client: &mut Client) -> Result<Vec<Recorded>, String> {
    let (answers, _) = client.ask(Command::Histograms)?;
    let histograms = answers.into_iter().filter_map(|answer| match answer {
        Answer::Histogram(histogram) => Some(histogram),
        _ => None,
    });
    decode(histograms.collect())
}

/// Reads them, and puts those of one quantity beside one another.
///
/// # Errors
/// That one is none.
pub(in crate::braidctl) fn decode(histograms: Vec<Histogram>) -> Result<Vec<Recorded>, String> {
    let mut all = histograms.into_iter().map(decode_one).collect::<Result<Vec<_>, _>>()?;
    // Stable, so that uplinks stay in their order.
    all.sort_by_key(|recorded| recorded.of);
    Ok(all)
}

fn decode_one(histogram: Histogram) -> Result<Recorded, String> {
    let Histogram { of, tap, uplink, data } = histogram;
    let wrong = |error: String| {
        format!(
            "the histogram of {} cannot be understood: {error}: is this braidctl as old as the end that runs?",
            of.name()
        )
    };
    let bytes = STANDARD.decode(data).map_err(|error| wrong(error.to_string()))?;
    let values = Deserializer::new().deserialize(&mut Cursor::new(bytes)).map_err(|error| wrong(error.to_string()))?;
    Ok(Recorded { of, tap, uplink, values })
}

/// What is in `after` and not in `before`. What was not there before is new.
///
/// # Errors
/// That the end cannot be the same.
pub(super) fn subtract(mut after: Vec<Recorded>, before: &[Recorded]) -> Result<Vec<Recorded>, String> {
    for recorded in &mut after {
        if let Some(earlier) = before.iter().find(|earlier| earlier.is_of_the_same(recorded)) {
            let subtracted = recorded.values.subtract(&earlier.values);
            subtracted.map_err(|_| "the end was started anew meanwhile: try again".to_owned())?;
        }
    }
    Ok(after)
}

/// One of the list that JSON has.
#[derive(Serialize)]
struct Told<'a> {
    of: Quantity,
    tap: Option<&'a str>,
    uplink: Option<&'a str>,
    began_unix_s: f64,
    length_s: f64,
    count: u64,
    min_ns: u64,
    max_ns: u64,
    mean_ns: f64,
    standard_deviation_ns: f64,
    /// Pairs of a quantile, from 0 to 1, and its value.
    quantiles_ns: [(f64, u64); 8],
    /// Pairs of a value and how often it was recorded, as far as values are told apart.
    values_ns: Vec<(u64, u64)>,
}

/// A list, for programs.
///
/// # Errors
/// That it cannot be written.
pub(super) fn json(all: &[Recorded], span: Span) -> Result<String, String> {
    let list: Vec<Told<'_>> = all.iter().map(|recorded| told(recorded, span)).collect();
    serde_json::to_string_pretty(&list).map(|text| text + "\n").map_err(|error| error.to_string())
}

fn told(recorded: &Recorded, span: Span) -> Told<'_> {
    let values = &recorded.values;
    Told {
        of: recorded.of,
        tap: recorded.tap.as_deref(),
        uplink: recorded.uplink.as_deref(),
        began_unix_s: span.began.as_secs_f64(),
        length_s: span.length.as_secs_f64(),
        count: values.len(),
        min_ns: if values.is_empty() { 0 } else { values.min() },
        max_ns: values.max(),
        mean_ns: values.mean(),
        standard_deviation_ns: values.stdev(),
        quantiles_ns: [0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 0.9999, 1.0].map(|at| (at, values.value_at_quantile(at))),
        values_ns: values
            .iter_recorded()
            .map(|step| (step.value_iterated_to(), step.count_since_last_iteration()))
            .collect(),
    }
}
