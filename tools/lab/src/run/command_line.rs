//! What the user typed after `braid-lab run`, and what follows.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::run;
use crate::command_line::{CommonArguments, Failure, load, tunnel_options};
use crate::course::{Direction, RunOptions};
use crate::plot::{self, Panel};
use crate::say::tell;
use crate::scenario::{Scenario, TrafficKind};
use crate::stop::Stop;
use crate::tunnel::{Contender, RistOptions, TunnelOptions};

/// What the user typed.
#[derive(Args)]
pub struct RunArguments {
    /// A file, or the name of a shipped scenario
    scenario: String,
    /// --mode of both ends; for rist duplicate (every datagram by every uplink, unless told otherwise) or share (in turn)
    #[arg(long)]
    mode: Option<String>,
    /// --window of both ends; for rist its buffer, which is how long it holds every datagram [default there: 1s]
    #[arg(long)]
    window: Option<String>,
    /// What to send through: braid, rist (librist, unencrypted), or none for the bare first uplink
    #[arg(long, value_enum, default_value = "braid")]
    tunnel: TunnelKind,
    /// Which way traffic flows: up from the box, or down to it
    #[arg(long, value_enum, default_value = "up")]
    direction: Direction,
    /// Have the uplinks speak IPv6
    #[arg(long)]
    ipv6: bool,
    /// Begin the random numbers with this instead of the scenario's seed
    #[arg(long)]
    seed: Option<u64>,
    /// A further flag of the box, such as --extra-box=--cpu=1; may be repeated
    #[arg(long, allow_hyphen_values = true)]
    extra_box: Vec<String>,
    /// A further flag of the gateway; may be repeated
    #[arg(long, allow_hyphen_values = true)]
    extra_gateway: Vec<String>,
    /// Write the report here as JSON; - for standard output, and nothing else there
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Plot arrival over time, to .png or .svg
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// Print a line each second
    #[arg(long)]
    live: bool,
    #[command(flatten)]
    common: CommonArguments,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum TunnelKind {
    Braid,
    Rist,
    None,
}

/// Does what was asked for.
///
/// # Errors
/// What went wrong, or a signal.
pub fn main(arguments: &RunArguments) -> Result<(), Failure> {
    let mut scenario = load(&arguments.scenario)?;
    if let Some(seed) = arguments.seed {
        scenario.seed = seed;
    }
    let stop = Stop::on_signals()?;
    let options = RunOptions {
        tunnel: arguments.contender(&scenario)?,
        direction: arguments.direction,
        output: arguments.common.output.clone(),
        live: arguments.live,
    };
    let outcome = run(&scenario, &arguments.scenario, &options, &stop)?;
    if let Some(path) = &arguments.plot {
        plot::draw(path, &[Panel { title: format!("{} {}", scenario.name, outcome.report.mode), outcome: &outcome }])?;
    }
    Ok(tell(&outcome.report, outcome.report.to_text(), arguments.json.as_deref())?)
}

impl RunArguments {
    fn contender(&self, scenario: &Scenario) -> Result<Option<Contender>, Failure> {
        match self.tunnel {
            TunnelKind::None => Ok(None),
            TunnelKind::Braid => Ok(Some(Contender::Braid(TunnelOptions {
                mode: self.mode.clone(),
                window: self.window.clone(),
                extra_box: self.extra_box.clone(),
                extra_gateway: self.extra_gateway.clone(),
                ipv6: self.ipv6,
                ..tunnel_options(&self.common)?
            }))),
            TunnelKind::Rist => self.rist(scenario).map(Contender::Rist).map(Some).map_err(Failure::Usage),
        }
    }

    fn rist(&self, scenario: &Scenario) -> Result<RistOptions, String> {
        if self.direction == Direction::Down {
            return Err("--direction down: rist carries datagrams up only".to_owned());
        }
        if scenario.traffic.kind == TrafficKind::Tcp {
            return Err(format!("scenario '{}': rist carries no TCP", scenario.name));
        }
        let options = RistOptions::parse(self.mode.as_deref(), self.window.as_deref(), &self.common.output)?;
        Ok(RistOptions {
            extra_box: self.extra_box.clone(),
            extra_gateway: self.extra_gateway.clone(),
            ipv6: self.ipv6,
            ..options
        })
    }
}
