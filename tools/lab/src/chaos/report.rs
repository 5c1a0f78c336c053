//! What a run of chaos has shown: for people, and for machines.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::streams::Passage;
use crate::end::{PerEnd, Resources, Which};

/// How much more memory an end may have resident after a long stretch of chaos than before, in KiB: what the allocator
/// takes from the kernel at a time, several times over. All packet buffers are resident from the start.
pub const RESIDENT_GROWTH_KIB_MAX: u64 = 512;

/// A run's report.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ChaosReport {
    /// What random numbers began with.
    pub seed: u64,
    /// How long chaos reigned, in seconds.
    pub duration_s: f64,
    /// Which modes.
    pub modes: PerEnd<String>,
    /// How often each kind of thing was done.
    pub events: BTreeMap<&'static str, u64>,
    /// How often each end was killed and started again.
    pub restarts: PerEnd<u64>,
    /// The streams while ends were killed, too.
    pub chaos_with_kills: Vec<Passage>,
    /// The streams while everything else happened.
    pub chaos_without_kills: Vec<Passage>,
    /// The streams after all was healed.
    pub clean: Vec<Passage>,
    /// What the ends held before the stretch without kills.
    pub resources_before: PerEnd<Resources>,
    /// What the same ends held after it.
    pub resources_after: PerEnd<Resources>,
    /// What should not have been; empty if all is well.
    pub failures: Vec<String>,
}

impl ChaosReport {
    /// Notes what in the figures should not be.
    pub fn judge(&mut self, left: Vec<String>) {
        let mut failures = vec![];
        for (section, passages) in [
            ("chaos with kills", &self.chaos_with_kills),
            ("chaos without kills", &self.chaos_without_kills),
            ("the clean period", &self.clean),
        ] {
            for passage in passages.iter().filter(|passage| !passage.is_lawful()) {
                let summary = &passage.summary;
                failures.push(format!(
                    "{section}, {}: {} duplicated, {} out of order",
                    passage.direction, summary.duplicated, summary.reordered
                ));
            }
        }
        for passage in self.clean.iter().filter(|passage| passage.is_lawful() && !passage.is_whole()) {
            failures.push(format!("the clean period, {}: {} lost", passage.direction, passage.summary.lost));
        }
        for which in Which::BOTH {
            let (before, after) = (self.resources_before.of(which), self.resources_after.of(which));
            failures.extend(grown(which, before, after));
        }
        failures.extend(left);
        self.failures = failures;
    }

    /// The report for people.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = format!(
            "chaos for {:?}, seed {}, modes: box {}, gateway {}\n",
            Duration::from_secs_f64(self.duration_s),
            self.seed,
            self.modes.box_end,
            self.modes.gateway
        );
        let mut line = |what: &str, value: String| text.push_str(&format!("  {what:<26} {value}\n"));
        for (kind, count) in &self.events {
            line(kind, count.to_string());
        }
        line("restarts box, gateway", format!("{}, {}", self.restarts.box_end, self.restarts.gateway));
        for (section, passages) in [
            ("with kills", &self.chaos_with_kills),
            ("without kills", &self.chaos_without_kills),
            ("clean", &self.clean),
        ] {
            passages.iter().for_each(|passage| line(&format!("{section}, {}", passage.direction), tell(passage)));
        }
        for which in Which::BOTH {
            let (before, after) = (self.resources_before.of(which), self.resources_after.of(which));
            line(
                which.program(),
                format!(
                    "descriptors {} -> {}, memory {} -> {} KiB, buffers in use {} -> {}",
                    before.descriptors,
                    after.descriptors,
                    before.resident_kib,
                    after.resident_kib,
                    before.buffers_in_use,
                    after.buffers_in_use
                ),
            );
        }
        text
    }
}

fn tell(passage: &Passage) -> String {
    let summary = &passage.summary;
    format!(
        "offered {}, delivered {}, lost {} (refused {}), duplicated {}, out of order {}, longest gap {:.0} ms",
        summary.offered,
        summary.delivered,
        summary.lost,
        passage.refused,
        summary.duplicated,
        summary.reordered,
        summary.longest_gap_ms
    )
}

fn grown(which: Which, before: &Resources, after: &Resources) -> Vec<String> {
    let program = which.program();
    let mut failures = vec![];
    if after.descriptors != before.descriptors {
        failures.push(format!("{program} had {} open files, and has {}", before.descriptors, after.descriptors));
    }
    if after.resident_kib > before.resident_kib + RESIDENT_GROWTH_KIB_MAX {
        failures.push(format!(
            "{program} had {} KiB of memory, and has {}, over {RESIDENT_GROWTH_KIB_MAX} more",
            before.resident_kib, after.resident_kib
        ));
    }
    if after.buffers_in_use != before.buffers_in_use {
        failures.push(format!(
            "{program} had {} packet buffers in use when idle, and has {}",
            before.buffers_in_use, after.buffers_in_use
        ));
    }
    failures
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_grown_is_told_and_what_has_shrunk_is_not() {
        let before = Resources { descriptors: 12, resident_kib: 19_000, buffers_in_use: 0 };
        assert!(grown(Which::Box, &before, &Resources { resident_kib: 10, ..before }).is_empty());
        let after = Resources { descriptors: 13, resident_kib: 19_513, buffers_in_use: 1 };
        assert_eq!(grown(Which::Box, &before, &after).len(), 3);
    }
}
