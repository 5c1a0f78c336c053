//! One run: the lab up, a tunnel through it, traffic, a report.

mod command_line;

use crate::course::{Outcome, RunOptions};
use crate::lab::Lab;
use crate::scenario::{Scenario, TrafficKind};
use crate::stop::Stop;
use crate::tunnel::Tunnel;
use crate::{flow, tcp};

pub use command_line::{RunArguments, main};

/// Runs a scenario.
///
/// # Errors
/// What went wrong.
pub fn run(scenario: &Scenario, name: &str, options: &RunOptions, stop: &Stop) -> Result<Outcome, String> {
    std::fs::create_dir_all(&options.output).map_err(|error| format!("{}: {error}", options.output.display()))?;
    let mut lab = Lab::up(scenario, name)?;
    let mut tunnel = match &options.tunnel {
        Some(tunnel) => Some(tunnel.start(scenario, lab.secrets())?),
        None => None,
    };
    let result = match scenario.traffic.kind {
        TrafficKind::Tcp => tcp::run(&mut lab, &mut tunnel, options, stop),
        TrafficKind::Cbr | TrafficKind::Video => flow::run(&mut lab, &mut tunnel, options, stop),
    };
    let resident = tunnel.as_ref().map(Tunnel::resident_kib).unwrap_or_default();
    drop(tunnel);
    let emulators = lab.down();
    let mut outcome = result?;
    outcome.report.set_uplinks(scenario, &emulators);
    outcome.report.resident_kib = resident;
    outcome.report.direction = options.direction.name();
    if let Some(tunnel) = &options.tunnel {
        outcome.report.tunnel = tunnel.name();
        outcome.report.mode = tunnel.mode().to_owned();
        outcome.report.window = tunnel.window();
    }
    Ok(outcome)
}
