//! Round-trip times, by ping(8).

use std::net::Ipv4Addr;
use std::process::Stdio;
use std::time::Duration;

use super::overhear::MARK;
use super::stage::NEAR;
use super::wait::wait_for;
use crate::namespaces::command_in;
use crate::stop::Stop;

/// Pings that do not count: CPUs that have slept for long are slow to wake.
const WARM_UP: usize = 50;

/// Round-trip times, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RoundTrip {
    /// Half of all are below.
    pub p50_us: f64,
    /// 99% are below.
    pub p99_us: f64,
}

/// The round-trip times of so many pings, a hundredth of a second apart.
///
/// # Errors
/// That some are not answered, or a signal.
pub fn round_trip(to: Ipv4Addr, count: usize, stop: &Stop) -> Result<RoundTrip, String> {
    let mut times = ping(to, WARM_UP + count, Duration::from_millis(10), stop)?;
    if times.len() < WARM_UP + count {
        let unanswered = WARM_UP + count - times.len();
        return Err(format!("of {} pings that an idle {to} was sent, {unanswered} are not answered", WARM_UP + count));
    }
    times.drain(..WARM_UP);
    times.sort_by(f64::total_cmp);
    Ok(RoundTrip { p50_us: percentile(&times, 0.5), p99_us: percentile(&times, 0.99) })
}

/// Pings with [`MARK`] in them; the round-trip times of those that were answered, in microseconds.
///
/// # Errors
/// That ping cannot run, or a signal.
pub fn ping(to: Ipv4Addr, count: usize, interval: Duration, stop: &Stop) -> Result<Vec<f64>, String> {
    let mark: String = MARK.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut command = command_in(NEAR, "ping");
    command.args(["-n", "-W", "1", "-p", &mark, "-c", &count.to_string()]);
    command.args(["-i", &interval.as_secs_f64().to_string(), &to.to_string()]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    let child = child.map_err(|error| format!("cannot run ping ({error}): install iputils-ping"))?;
    Ok(parse(&wait_for(child, stop)?))
}

/// The times in what ping says, in microseconds.
fn parse(said: &str) -> Vec<f64> {
    let time = |line: &str| line.split_once("time=")?.1.split(' ').next()?.parse::<f64>().ok();
    said.lines().filter_map(time).map(|milliseconds| milliseconds * 1000.0).collect()
}

/// The lowest of some values in order that at least this share of them do not exceed.
fn percentile(values: &[f64], share: f64) -> f64 {
    let rank = (values.len() as f64 * share).ceil() as usize;
    values.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_from_what_ping_says() {
        let said = "PATTERN: 0x6272\nPING 10.9.0.2 (10.9.0.2) 56(84) bytes of data.\n\
                    64 bytes from 10.9.0.2: icmp_seq=1 ttl=64 time=0.250 ms\n\
                    64 bytes from 10.9.0.2: icmp_seq=2 ttl=64 time=0.091 ms\n\n\
                    2 packets transmitted, 2 received, 0% packet loss, time 10ms\n";
        assert_eq!(parse(said), [250.0, 91.0]);
    }

    #[test]
    fn percentiles_are_values_that_were_seen() {
        let values: Vec<f64> = (1..=400).map(f64::from).collect();
        assert_eq!(percentile(&values, 0.5), 200.0);
        assert_eq!(percentile(&values, 0.99), 396.0);
        assert_eq!(percentile(&[7.0], 0.99), 7.0);
    }
}
