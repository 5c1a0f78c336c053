//! Histograms as a table, and, of a few, their shape as bars of text.

use std::fmt::Write;
use std::time::Duration;

use super::Recorded;
use crate::braidctl::status::figures::{age, nanoseconds, percent, plain, short_count};

/// Of more histograms than these, bars would be too long to read.
const BARS_MAX: usize = 4;
/// Rows of bars, and columns of the longest.
const ROWS: usize = 12;
const BAR_WIDTH: usize = 48;
/// Eighths of a block.
const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];

/// All of them, recorded over so long a time.
pub(super) fn render(all: &[Recorded], length: Duration) -> String {
    let titles: Vec<String> = all.iter().map(|recorded| plain(&recorded.title(all))).collect();
    let width = titles.iter().map(|title| title.chars().count()).max().unwrap_or(0).max("quantity".len());
    let heads = ["min", "p50", "p90", "p99", "p99.9", "max", "mean"];
    let mut text = format!("{:width$} {:>6}", "quantity", "count");
    heads.iter().for_each(|head| text.push_str(&format!(" {head:>6}")));
    text.push('\n');
    for (recorded, title) in all.iter().zip(&titles) {
        let _ = writeln!(
            text,
            "{title:width$} {:>6}{}",
            short_count(recorded.values.len()).replace(' ', ""),
            row(recorded)
        );
    }
    if all.len() <= BARS_MAX {
        for (recorded, title) in all.iter().zip(&titles).filter(|(recorded, _)| !recorded.values.is_empty()) {
            let _ = write!(text, "\n{title}\n{}", bars(recorded));
        }
    } else {
        let _ = writeln!(text, "\nChoose at most {BARS_MAX} by --of and --uplink to see their shape.");
    }
    let _ = writeln!(text, "\nRecorded in {}.", age(length.as_secs_f64()));
    text
}

fn row(recorded: &Recorded) -> String {
    let values = &recorded.values;
    if values.is_empty() {
        return String::new();
    }
    let quantiles = [0.5, 0.9, 0.99, 0.999].map(|at| values.value_at_quantile(at) as f64);
    let figures = [&[values.min() as f64][..], &quantiles, &[values.max() as f64, values.mean()]].concat();
    figures.into_iter().map(|figure| format!(" {:>6}", nanoseconds(figure).replace(' ', ""))).collect()
}

/// How many values are of what size, from the least to the largest in steps of equal ratio.
fn bars(recorded: &Recorded) -> String {
    let values = &recorded.values;
    let (low, high) = (values.min().max(1) as f64, values.max().max(1) as f64);
    let rows = if high / low < 1.01 { 1 } else { ROWS };
    let ratio = (high / low).powf(1.0 / rows as f64);
    let mut counts = vec![0; rows];
    for step in values.iter_recorded() {
        let value = values.median_equivalent(step.value_iterated_to()).max(1) as f64;
        let row = if rows == 1 { 0.0 } else { (value / low).ln() / ratio.ln() };
        counts[(row.max(0.0) as usize).min(rows - 1)] += step.count_since_last_iteration();
    }
    let most = counts.iter().copied().max().unwrap_or(0).max(1);
    let mut text = String::new();
    for (row, count) in counts.iter().enumerate() {
        let [from, to] = [row, row + 1].map(|step| nanoseconds(low * ratio.powi(step as i32)));
        let share = percent(Some(*count as f64 / values.len().max(1) as f64));
        let _ = writeln!(text, "{from:>9} – {to:>7} {share:>5} {}", bar(*count as f64 / most as f64));
    }
    // What is so rare that it has no bar must not end in spaces.
    text.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// A bar of a share of the longest.
fn bar(share: f64) -> String {
    let eighths = (share * (BAR_WIDTH * 8) as f64).round() as usize;
    format!("{}{}", "█".repeat(eighths / 8), EIGHTHS[eighths % 8])
}
