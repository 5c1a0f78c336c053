//! What is measured of a tunnel, and what several rounds of it come to.

use std::collections::BTreeMap;

use serde::Serialize;

/// A figure; its unit is the last word of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// One TCP stream, Mbit/s of payload received.
    TcpMbps,
    /// CPU time of both tunnel processes while it flowed, core-seconds per 10^9 bytes of payload.
    TcpTunnelCoreSecondsPerGb,
    /// The same of the whole machine: tunnel, kernel, iperf3 and whatever else ran.
    TcpMachineCoreSecondsPerGb,
    /// Datagrams sent one by one: the highest rate that arrives with less than 0.1% lost, Mbit/s of payload.
    UdpMbps,
    /// Of those, how many came after a later one.
    UdpOutOfOrder,
    /// Of those, how many came twice.
    UdpDuplicated,
    /// 1 if it was the sender that could not send faster, 0 if it was the tunnel that lost more.
    UdpSenderLimit,
    /// Datagrams sent with UDP_SEGMENT and received with UDP_GRO: the highest rate, as before.
    GsoMbps,
    /// Of those, how many came after a later one.
    GsoOutOfOrder,
    /// Of those, how many came twice.
    GsoDuplicated,
    /// 1 if it was the sender that could not send faster, 0 if it was the tunnel that lost more.
    GsoSenderLimit,
    /// Half of all pings of an idle tunnel return sooner, in microseconds.
    RttP50Us,
    /// 99% of them.
    RttP99Us,
    /// How much later that is than without a tunnel, in the same round.
    RttP50AboveRawUs,
    /// The same of 99% of them.
    RttP99AboveRawUs,
    /// CPU time of both tunnel processes with 20 Mbit/s of video, % of one core.
    VideoCpuPercent,
    /// How many of its datagrams were lost.
    VideoLost,
    /// How many cores were busy before the tunnel was started: what the machine does beside.
    IdleBusyCores,
    /// The most memory that an end had resident, in MiB.
    MemoryMib,
}

/// What a round has shown of a tunnel.
pub type Round = BTreeMap<Metric, f64>;

/// What several rounds have shown.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// Half of them are below, half above.
    pub median: f64,
    /// The lowest.
    pub min: f64,
    /// The highest.
    pub max: f64,
}

impl Spread {
    /// That of some values, if there are any.
    #[must_use]
    pub fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let median = f64::midpoint(values[(values.len() - 1) / 2], values[values.len() / 2]);
        Some(Self { median, min, max })
    }
}

/// What the rounds come to, of each figure that any of them has.
#[must_use]
pub fn summarise(rounds: &[Round]) -> BTreeMap<Metric, Spread> {
    let mut values = BTreeMap::<Metric, Vec<f64>>::new();
    for (metric, value) in rounds.iter().flatten() {
        values.entry(*metric).or_default().push(*value);
    }
    values.into_iter().filter_map(|(metric, values)| Some((metric, Spread::of(values)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_between() {
        assert_eq!(Spread::of(vec![]), None);
        assert_eq!(Spread::of(vec![3.0]), Some(Spread { median: 3.0, min: 3.0, max: 3.0 }));
        assert_eq!(Spread::of(vec![9.0, 1.0, 2.0]), Some(Spread { median: 2.0, min: 1.0, max: 9.0 }));
        assert_eq!(Spread::of(vec![4.0, 1.0, 2.0, 9.0]), Some(Spread { median: 3.0, min: 1.0, max: 9.0 }));
    }

    #[test]
    fn a_figure_that_one_round_lacks_is_that_of_the_others() {
        let rounds =
            [Round::from([(Metric::TcpMbps, 5.0)]), Round::from([(Metric::TcpMbps, 7.0), (Metric::UdpMbps, 1.0)])];
        let summary = summarise(&rounds);
        assert_eq!(summary[&Metric::TcpMbps].median, 6.0);
        assert_eq!(summary[&Metric::UdpMbps].max, 1.0);
    }
}
