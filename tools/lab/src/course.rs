//! The course of a run, whatever kind of traffic it has: from where to where, and what happens when.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use crate::addresses::{Addresses, GATEWAY, TUNNEL_BOX, TUNNEL_GATEWAY};
use crate::clock::monotonic_nanoseconds;
use crate::end::PerEnd;
use crate::lab::Lab;
use crate::live::LiveTable;
use crate::namespaces::{BOX, GATEWAY_NAMESPACE};
use crate::report::{Happened, Report};
use crate::stop::Stop;
use crate::traffic::analysis::{Arrival, Summary};
use crate::tunnel::{Contender, Tunnel};

/// Which way traffic flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Direction {
    /// From the box to the gateway.
    Up,
    /// From the gateway to the box.
    Down,
}

impl Direction {
    /// Its name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// What a run is told beside its scenario.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// The tunnel; `None` for the bare first uplink.
    pub tunnel: Option<Contender>,
    /// Which way traffic flows.
    pub direction: Direction,
    /// Where files go.
    pub output: PathBuf,
    /// Whether to print a line each second.
    pub live: bool,
}

/// What a run has brought: a report, and what it was made from.
pub struct Outcome {
    /// The report.
    pub report: Report,
    /// Every arrival.
    pub arrivals: Vec<Arrival>,
    /// When the first datagram was sent, in nanoseconds since boot.
    pub began: u64,
}

/// From which namespace, to which, and to which address.
pub fn ends(options: &RunOptions) -> (&'static str, &'static str, IpAddr) {
    match (options.direction, &options.tunnel) {
        // It takes up and hands out datagrams by the loopback interface of either namespace.
        (_, Some(Contender::Rist(_))) => (BOX, GATEWAY_NAMESPACE, Ipv4Addr::LOCALHOST.into()),
        (Direction::Up, Some(Contender::Braid(_))) => (BOX, GATEWAY_NAMESPACE, TUNNEL_GATEWAY.into()),
        (Direction::Down, Some(Contender::Braid(_))) => (GATEWAY_NAMESPACE, BOX, TUNNEL_BOX.into()),
        (Direction::Up, None) => (BOX, GATEWAY_NAMESPACE, GATEWAY[0]),
        (Direction::Down, None) => (GATEWAY_NAMESPACE, BOX, Addresses::of(0).box_end[0]),
    }
}

/// CPU time that both ends have used so far.
pub fn cpu_seconds(tunnel: &Option<Tunnel>) -> PerEnd<f64> {
    tunnel.as_ref().map(Tunnel::cpu_seconds).unwrap_or_default()
}

/// Waits for the scenario's end, and has its events happen on the way. What `sample` says of the traffic is shown, if
/// that is wanted.
///
/// # Errors
/// What went wrong: an end of the tunnel that has died, a link that does not obey, a signal.
pub fn watch(
    lab: &mut Lab,
    tunnel: &mut Option<Tunnel>,
    mut sample: impl FnMut() -> Option<Summary>,
    options: &RunOptions,
    stop: &Stop,
) -> Result<Vec<Happened>, String> {
    let begun = Instant::now();
    let scenario = lab.scenario().clone();
    let mut events = scenario.events.iter().peekable();
    let mut happened = vec![];
    let mut live = options.live.then(|| LiveTable::new(&scenario));
    while begun.elapsed() < scenario.duration {
        stop.check()?;
        if let Some(tunnel) = tunnel {
            tunnel.check()?;
        }
        if let Some(event) = events.next_if(|event| begun.elapsed() >= event.at) {
            lab.apply(&event.uplink, event.action)?;
            happened.push(Happened { event: event.clone(), at: monotonic_nanoseconds() });
            if let Some(live) = &mut live {
                live.note(event);
            }
            continue;
        }
        while let Some(summary) = sample() {
            if let Some(live) = &mut live {
                live.row(begun.elapsed(), &summary);
            }
        }
        let next = events.peek().map_or(scenario.duration, |event| event.at).min(scenario.duration);
        thread::sleep(next.saturating_sub(begun.elapsed()).min(Duration::from_millis(20)));
    }
    Ok(happened)
}
