//! HdrHistogram's text form of a percentile distribution (`.hgrm`), which its plotter reads: as `outputPercentileDistribution`
//! of its Java library prints it, in milliseconds.

use std::fmt::Write;

use super::Recorded;

/// Nanoseconds in a millisecond.
const UNIT: f64 = 1e6;
/// Reported in each half of the distance to 100%, as the Java library does.
const TICKS_PER_HALF_DISTANCE: u32 = 5;

/// That of the only one.
///
/// # Errors
/// That there are several, which this form cannot hold.
pub(super) fn render(all: &[Recorded]) -> Result<String, String> {
    match all {
        [only] => Ok(distribution(only)),
        _ => {
            let titles: Vec<String> = all.iter().map(|recorded| recorded.title(all)).collect();
            let advice = "choose one by --of, --uplink and --tap, or take them all as hlog";
            Err(format!("hgrm is of one histogram, and here are {}: {advice}: {}", all.len(), titles.join(", ")))
        }
    }
}

fn distribution(recorded: &Recorded) -> String {
    let values = &recorded.values;
    let mut text = format!("{:>12} {:>14} {:>10} {:>14}\n\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)");
    let mut total = 0;
    for step in values.iter_quantiles(TICKS_PER_HALF_DISTANCE) {
        total += step.count_since_last_iteration();
        let (value, quantile) = (step.value_iterated_to() as f64 / UNIT, step.quantile_iterated_to());
        let _ = write!(text, "{value:12.6} {quantile:2.12} {total:10}");
        let _ = match quantile {
            1.0 => writeln!(text),
            _ => writeln!(text, " {:14.2}", 1.0 / (1.0 - quantile)),
        };
    }
    let (mean, deviation, max) = (values.mean() / UNIT, values.stdev() / UNIT, values.max() as f64 / UNIT);
    let _ = writeln!(text, "#[Mean    = {mean:12.6}, StdDeviation   = {deviation:12.6}]");
    let _ = writeln!(text, "#[Max     = {max:12.6}, Total count    = {:12}]", values.len());
    let _ =
        writeln!(text, "#[Buckets = {:12}, SubBuckets     = {:12}]", values.buckets(), sub_buckets(values.sigfig()));
    text
}

/// Into how many each bucket is divided, so that values of so many digits are told apart.
fn sub_buckets(digits: u8) -> u64 {
    (2 * 10_u64.pow(u32::from(digits))).next_power_of_two()
}
