//! Chaos: an hour's worth of trouble in minutes, and what must be true of the tunnel all the same.
//!
//! Whatever happens, no datagram arrives twice or after a later one. A pair of processes that lives through a long
//! stretch of it holds no more of the machine than before. Once all is healed, everything arrives again; and when both
//! ends are stopped, nothing is left.

mod plan;
mod pressure;
mod report;
mod stage;
mod streams;

use std::time::Duration;

use braid::proto::scheduler::Mode;
use braid::sim::random::Random;

pub use pressure::{Target, press};
pub use report::ChaosReport;

use crate::end::{PerEnd, Which};
use crate::say::say;
use crate::scenario::Scenario;
use crate::stop::Stop;
use crate::tunnel::TunnelOptions;
use plan::Step;
use stage::Stage;
use streams::{Passage, Streams};

const SCENARIO: &str = "chaos";
/// How long the streams flow before anything happens.
const WARM_UP: Duration = Duration::from_secs(2);
/// How long they flow after all was healed.
const CLEAN: Duration = Duration::from_secs(10);
/// Longer than the skew of the links as the scenario has them: chaos is about order, not about how soon.
const WINDOW: &str = "200ms";

/// What chaos is told.
#[derive(Clone, Debug)]
pub struct ChaosOptions {
    /// What random numbers begin with.
    pub seed: u64,
    /// How long chaos reigns: half of it with ends killed, half without.
    pub duration: Duration,
    /// `--mode` of both ends; drawn for each if `None`.
    pub mode: Option<String>,
    /// How the tunnel is run.
    pub tunnel: TunnelOptions,
    /// Whether to say nothing on the way.
    pub quiet: bool,
}

/// Runs it.
///
/// # Errors
/// What went wrong so that there is no report. What should not have been is in the report.
pub fn run(options: &ChaosOptions, stop: &Stop) -> Result<ChaosReport, String> {
    let logs = &options.tunnel.logs;
    std::fs::create_dir_all(logs).map_err(|error| format!("{}: {error}", logs.display()))?;
    let mut scenario = Scenario::load(SCENARIO).map_err(|error| error.to_string())?;
    scenario.seed = options.seed;
    let mut random = Random::new(options.seed);
    let modes = PerEnd { box_end: mode(options, &mut random), gateway: mode(options, &mut random) };
    let tunnel = |which: Which| TunnelOptions {
        mode: Some(modes.of(which).clone()),
        window: Some(WINDOW.to_owned()),
        ..options.tunnel.clone()
    };
    let report = ChaosReport {
        seed: options.seed,
        duration_s: options.duration.as_secs_f64(),
        modes: modes.clone(),
        ..ChaosReport::default()
    };
    let ends = PerEnd { box_end: tunnel(Which::Box), gateway: tunnel(Which::Gateway) };
    let stage = Stage::up(&scenario, ends)?;
    Course { options, scenario, stage, stop, report, sections: 0 }.run(&mut random)
}

fn mode(options: &ChaosOptions, random: &mut Random) -> String {
    // Drawn even if it is given, so that the rest of a seed's plan does not depend on it.
    let drawn = random.pick(&Mode::ALL).name();
    options.mode.clone().unwrap_or(drawn.to_owned())
}

/// The course of a run.
struct Course<'a> {
    options: &'a ChaosOptions,
    scenario: Scenario,
    stage: Stage,
    stop: &'a Stop,
    report: ChaosReport,
    /// How many pairs of streams there have been.
    sections: u16,
}

impl Course<'_> {
    fn run(mut self, random: &mut Random) -> Result<ChaosReport, String> {
        let half = self.options.duration / 2;
        self.tell(&format!("seed {}: waiting for every uplink", self.options.seed));
        self.stage.await_well(self.stop)?;
        self.tell("chaos with kills");
        let plan = self.draw(random, half, true);
        self.report.chaos_with_kills = self.section(&plan, WARM_UP + half)?;
        self.tell("healing");
        self.report.resources_before = self.heal()?;
        self.tell("chaos without kills");
        let plan = self.draw(random, half, false);
        self.report.chaos_without_kills = self.section(&plan, half)?;
        self.tell("healing");
        self.report.resources_after = self.heal()?;
        self.tell("the clean period");
        self.report.clean = self.section(&[], CLEAN)?;
        self.tell("stopping");
        self.report.events = self.stage.counts();
        self.report.restarts = self.stage.restarts();
        let left = self.stage.down();
        self.report.judge(left);
        Ok(self.report)
    }

    fn tell(&self, what: &str) {
        if !self.options.quiet {
            say(&format!("{what}\n"));
        }
    }

    fn draw(&self, random: &mut Random, span: Duration, kills: bool) -> Vec<Step> {
        let uplinks = &self.scenario.uplinks;
        let behind_nat: Vec<usize> =
            uplinks.iter().enumerate().filter(|(_, uplink)| uplink.nat).map(|(index, _)| index).collect();
        let mut plan = plan::draw(&mut random.fork(), span, uplinks.len(), &behind_nat, kills);
        if kills {
            plan.iter_mut().for_each(|step| step.at += WARM_UP);
        }
        plan
    }

    /// A pair of streams for `span`, while `plan` happens.
    fn section(&mut self, plan: &[Step], span: Duration) -> Result<Vec<Passage>, String> {
        let streams = Streams::start(&self.scenario.traffic, self.sections, span)?;
        self.sections += 1;
        if !plan.is_empty() {
            self.stage.roughen()?;
        }
        self.stage.play(plan, span, self.stop)?;
        let passages = streams.finish(self.stage.done())?;
        self.stop.check()?;
        Ok(passages)
    }

    fn heal(&mut self) -> Result<PerEnd<crate::end::Resources>, String> {
        self.stage.heal()?;
        self.stage.await_well(self.stop)
    }
}

/// The command that repeats a run.
#[must_use]
pub fn repeat_command(options: &ChaosOptions) -> String {
    let mode = options.mode.as_ref().map_or(String::new(), |mode| format!(" --mode {mode}"));
    let plaintext = if options.tunnel.is_plaintext { " --plaintext" } else { "" };
    format!("braid-lab chaos --seed {} --duration {}ms{mode}{plaintext}", options.seed, options.duration.as_millis())
}
