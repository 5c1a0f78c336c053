//! A line each second while a run goes on.

use std::process::Command;
use std::time::Duration;

use crate::namespaces::BOX;
use crate::say::say;
use crate::scenario::{Event, Scenario};
use crate::traffic::analysis::Summary;

const RATE_UNIT: &str = " Mb/s";

/// Prints the lines.
pub struct LiveTable {
    uplinks: Vec<String>,
    sent_bytes: Vec<u64>,
    headed: bool,
}

impl LiveTable {
    /// For the uplinks of a scenario.
    #[must_use]
    pub fn new(scenario: &Scenario) -> Self {
        let uplinks: Vec<String> = scenario.uplinks.iter().map(|uplink| uplink.name.clone()).collect();
        let sent_bytes = uplinks.iter().map(|uplink| sent_bytes(uplink)).collect();
        Self { uplinks, sent_bytes, headed: false }
    }

    /// Prints what the last second brought.
    pub fn row(&mut self, at: Duration, summary: &Summary) {
        if !std::mem::replace(&mut self.headed, true) {
            self.head();
        }
        let width = self.width();
        let mut row = format!("{:5.0}s", at.as_secs_f64());
        for (uplink, before) in self.uplinks.iter().zip(&mut self.sent_bytes) {
            let now = sent_bytes(uplink);
            row += &format!(" {:>width$.2}", now.saturating_sub(*before) as f64 * 8.0 / 1e6);
            *before = now;
        }
        row += &format!(
            " {:>9} {:>6} {:>8} {:>6} {:>9.1} {:>9.1}\n",
            summary.delivered,
            summary.lost,
            summary.reordered,
            summary.duplicated,
            summary.latency_ms.p50,
            summary.latency_ms.p99
        );
        say(&row);
    }

    /// Of an uplink's column.
    fn width(&self) -> usize {
        self.uplinks.iter().map(|uplink| uplink.len() + RATE_UNIT.len()).max().unwrap_or_default()
    }

    fn head(&self) {
        let width = self.width();
        let uplinks: String =
            self.uplinks.iter().map(|uplink| format!(" {:>width$}", format!("{uplink}{RATE_UNIT}"))).collect();
        let [received, lost, disorder, twice] = ["received", "lost", "disorder", "twice"];
        say(&format!(
            "  time{uplinks} {received:>9} {lost:>6} {disorder:>8} {twice:>6} {:>9} {:>9}\n",
            "p50 ms", "p99 ms"
        ));
    }

    /// Prints what has just happened to a link.
    pub fn note(&mut self, event: &Event) {
        say(&format!("       --- {} ---\n", crate::report::describe(event)));
    }
}

fn sent_bytes(uplink: &str) -> u64 {
    let path = format!("/sys/class/net/{uplink}/statistics/tx_bytes");
    let output = Command::new("ip").args(["netns", "exec", BOX, "cat", &path]).output();
    output.ok().and_then(|output| String::from_utf8(output.stdout).ok()?.trim().parse().ok()).unwrap_or_default()
}
