//! HdrHistogram's interval log (`.hlog`), version 1.3: one line a histogram, each with a tag.

use std::time::UNIX_EPOCH;

use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};

use super::{Recorded, Span};

/// The largest value of a line is in milliseconds, as HdrHistogram's tools have it; the histogram itself is in nanoseconds.
const MAX_VALUE_DIVISOR: f64 = 1e6;

/// All of them, over the same time.
///
/// # Errors
/// That it cannot be written.
pub(super) fn render(all: &[Recorded], span: Span) -> Result<Vec<u8>, String> {
    let mut bytes = vec![];
    let mut serializer = V2DeflateSerializer::new();
    let mut writer = IntervalLogWriterBuilder::new()
        .add_comment("[Logged with braidctl: durations in nanoseconds]")
        .add_comment("[Histogram log format version 1.3]")
        .with_start_time(UNIX_EPOCH + span.began)
        .with_max_value_divisor(MAX_VALUE_DIVISOR)
        .begin_log_with(&mut bytes, &mut serializer)
        .map_err(|error| error.to_string())?;
    for recorded in all {
        let tag = tag(recorded);
        let tag = Tag::new(&tag).ok_or_else(|| format!("'{tag}' cannot be a tag of a histogram log"))?;
        let written = writer.write_histogram(&recorded.values, span.began, span.length, Some(tag));
        written.map_err(|error| format!("the log cannot be written: {error}"))?;
    }
    drop(writer);
    Ok(legend(bytes))
}

/// `braid0.rtt.lte-a`: what separates fields of the log becomes a `_`.
fn tag(recorded: &Recorded) -> String {
    let parts = [recorded.tap.as_deref(), Some(recorded.of.name()), recorded.uplink.as_deref()];
    let tag = parts.into_iter().flatten().collect::<Vec<_>>().join(".");
    tag.replace(|character: char| character == ',' || character.is_whitespace() || character.is_control(), "_")
}

/// Puts the line that names the columns below the comments, as the Java library does, and the crate does not.
fn legend(log: Vec<u8>) -> Vec<u8> {
    const LEGEND: &[u8] =
        b"\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\"\n";
    let at =
        log.split_inclusive(|byte| *byte == b'\n').take_while(|line| line.starts_with(b"#")).map(<[u8]>::len).sum();
    let (head, lines): (&[u8], &[u8]) = log.split_at(at);
    [head, LEGEND, lines].concat()
}
