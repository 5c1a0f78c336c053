//! What a run has shown: for people, and for machines.

use std::collections::HashMap;

use braid::proto::uplink::measure::PartsPerMillion;
use braid::sim::link::Reordering;
use serde::Serialize;

use crate::action::Action;
use crate::emulator::{EmulatorReport, LinkReport};
use crate::end::PerEnd;
use crate::scenario::{Event, Scenario};
use crate::traffic::analysis::{Arrival, Summary};
use crate::video::VideoReport;

/// Something that happened to a link.
#[derive(Clone, Debug, Serialize)]
pub struct Fault {
    /// When, in seconds after the first datagram was sent.
    pub at_s: f64,
    /// To which uplink.
    pub uplink: String,
    /// What, in words.
    pub what: String,
    /// Whether it made things better again.
    pub mends: bool,
}

impl Fault {
    /// What `happened`, if traffic `began` then, both in nanoseconds since boot.
    #[must_use]
    pub fn new(happened: &Happened, began: u64) -> Self {
        let mends = matches!(happened.event.action, Action::Restore | Action::CarrierUp | Action::InterfaceAdd);
        let at_s = happened.at.saturating_sub(began) as f64 / 1e9;
        Self { at_s, what: describe(&happened.event), uplink: happened.event.uplink.clone(), mends }
    }
}

/// An event, and when it happened, in nanoseconds since boot.
#[derive(Clone, Debug)]
pub struct Happened {
    /// The event.
    pub event: Event,
    /// When.
    pub at: u64,
}

/// An event in words.
#[must_use]
pub fn describe(event: &Event) -> String {
    let what = match event.action {
        Action::Blackhole => "swallows everything".to_owned(),
        Action::BlackholeUp => "swallows all from the box".to_owned(),
        Action::BlackholeDown => "swallows all to the box".to_owned(),
        Action::Restore => "is back".to_owned(),
        Action::CarrierDown => "is unplugged".to_owned(),
        Action::CarrierUp => "is plugged in again".to_owned(),
        Action::InterfaceRemove => "has no interface".to_owned(),
        Action::InterfaceAdd => "has an interface again".to_owned(),
        Action::Delay(delay) => format!("now has {delay:?} of delay"),
        Action::Rate(rate) => format!("now carries {:.1} Mbit/s", rate as f64 / 1e6),
        Action::Jitter(jitter) => format!("now has {jitter:?} of jitter"),
        Action::Loss(share) => format!("now loses {}", percent(share)),
        Action::Reordering(Reordering { share, by }) => format!("now has {} overtaken by up to {by:?}", percent(share)),
        Action::Duplication(share) => format!("now doubles {}", percent(share)),
        Action::Mtu(mtu) => format!("now carries packets of up to {mtu} bytes"),
        Action::Corruption(share) => format!("now spoils {}", percent(share)),
        Action::NatRebind => "gets other ports".to_owned(),
    };
    format!("{} {what}", event.uplink)
}

fn percent(PartsPerMillion(share): PartsPerMillion) -> String {
    format!("{:.1}%", f64::from(share) / 1e4)
}

/// What one link carried.
#[derive(Clone, Debug, Serialize)]
pub struct UplinkReport {
    /// The link.
    pub name: String,
    /// From the box.
    pub up: LinkReport,
    /// To the box.
    pub down: LinkReport,
}

/// A run's report.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Which scenario.
    pub scenario: String,
    /// Which way traffic went: up from the box, or down to it.
    pub direction: &'static str,
    /// Through which tunnel.
    pub tunnel: &'static str,
    /// Which mode.
    pub mode: String,
    /// Which window.
    pub window: String,
    /// Which random numbers.
    pub seed: u64,
    /// Counts and delays.
    #[serde(flatten)]
    pub summary: Summary,
    /// Payload delivered per second of the run, each byte counted once.
    pub goodput_mbps: f64,
    /// CPU time that each end used while traffic flowed.
    pub cpu_core_seconds: PerEnd<f64>,
    /// Memory that each end had resident at most.
    pub resident_kib: PerEnd<u64>,
    /// What each link carried.
    pub uplinks: Vec<UplinkReport>,
    /// What happened.
    pub faults: Vec<Fault>,
    /// What a decoder made of it, if it was video.
    #[serde(flatten)]
    pub video: Option<VideoReport>,
}

impl Report {
    /// A report of the traffic; the rest is added as it is known.
    #[must_use]
    pub fn new(scenario: &Scenario, summary: Summary, faults: Vec<Fault>) -> Self {
        Self {
            scenario: scenario.name.clone(),
            direction: "up",
            tunnel: "none",
            mode: "none".to_owned(),
            window: "none".to_owned(),
            seed: scenario.seed,
            summary,
            goodput_mbps: 0.0,
            cpu_core_seconds: PerEnd::default(),
            resident_kib: PerEnd::default(),
            uplinks: vec![],
            faults,
            video: None,
        }
    }

    /// Adds what the emulators have counted.
    pub fn set_uplinks(&mut self, scenario: &Scenario, emulators: &[EmulatorReport]) {
        let uplinks = scenario.uplinks.iter().zip(emulators);
        self.uplinks =
            uplinks.map(|(uplink, r)| UplinkReport { name: uplink.name.clone(), up: r.up, down: r.down }).collect();
    }

    /// Works out how much was delivered per second.
    pub fn set_goodput(&mut self, arrivals: &[Arrival]) {
        let seconds = match (arrivals.first(), arrivals.last()) {
            (Some(first), Some(last)) => last.received.saturating_sub(first.received) as f64 / 1e9,
            _ => return,
        };
        let once: HashMap<u64, u16> = arrivals.iter().map(|arrival| (arrival.number, arrival.length)).collect();
        let bits = once.values().map(|length| f64::from(*length) * 8.0).sum::<f64>();
        self.goodput_mbps = if seconds > 0.0 { (bits / seconds / 1e4).round() / 100.0 } else { 0.0 };
    }

    /// The report for people.
    #[must_use]
    pub fn to_text(&self) -> String {
        let Self { summary: s, cpu_core_seconds: cpu, resident_kib: memory, .. } = self;
        let mut text = format!(
            "scenario {}, {}, tunnel {}, mode {}, window {}, seed {}\n",
            self.scenario, self.direction, self.tunnel, self.mode, self.window, self.seed
        );
        let mut line = |what: &str, value: String| text.push_str(&format!("  {what:<22} {value}\n"));
        if s.offered > 0 {
            line("offered", s.offered.to_string());
            line("delivered", s.delivered.to_string());
            line("lost", s.lost.to_string());
            line("duplicated", s.duplicated.to_string());
            line("out of order", s.reordered.to_string());
            line("longest gap", format!("{:.1} ms", s.longest_gap_ms));
            let latency = s.latency_ms;
            line(
                "latency",
                format!(
                    "p50 {:.2}  p99 {:.2}  p99.9 {:.2}  max {:.2} ms",
                    latency.p50, latency.p99, latency.p999, latency.max
                ),
            );
        }
        line("goodput", format!("{:.2} Mbit/s", self.goodput_mbps));
        if let Some(video) = &self.video {
            line("pictures", format!("{} of {}", video.frames_decoded, video.frames_expected));
            line(
                "decode errors",
                format!(
                    "{}: {} for what was lost, {} for order and duplicates",
                    video.decode_errors, video.decode_errors_loss, video.decode_errors_order
                ),
            );
        }
        line("CPU box, gateway", format!("{:.3} s, {:.3} s", cpu.box_end, cpu.gateway));
        line("memory box, gateway", format!("{} KiB, {} KiB", memory.box_end, memory.gateway));
        for uplink in &self.uplinks {
            let (up, down) = (uplink.up, uplink.down);
            line(
                &format!("link {}", uplink.name),
                format!(
                    "up {:.2} MB (lost {}, overflowed {}, swallowed {}), down {:.2} MB",
                    up.bytes as f64 / 1e6,
                    up.lost,
                    up.overflowed,
                    up.swallowed,
                    down.bytes as f64 / 1e6
                ),
            );
        }
        let late = self.uplinks.iter().map(|uplink| uplink.up.late + uplink.down.late).sum::<u64>();
        if late * 1000 > self.uplinks.iter().map(|uplink| uplink.up.packets + uplink.down.packets).sum() {
            line("careful", format!("the links let {late} packets out over 1 ms late: this machine is busy"));
        }
        for fault in &self.faults {
            line(&format!("at {:.1} s", fault.at_s), fault.what.clone());
        }
        text
    }
}
