//! What the user typed, and what follows.

use std::net::{SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use braid::proto::scheduler::Mode;
use braid::proto::session::keys::PublicKey;
use braid::units::{parse_duration, parse_rate};
use clap::builder::PossibleValuesParser;
use clap::{Args, Parser, Subcommand};

use crate::action::parse_action;
use crate::bench::{self, BenchArguments};
use crate::chaos::ChaosOptions;
use crate::clock::monotonic_nanoseconds;
use crate::lab::Lab;
use crate::orders::Orders;
use crate::run::{self, RunArguments};
use crate::say::{say, tell};
use crate::scenario::Scenario;
use crate::simulate::{self, SimulateArguments};
use crate::stop::Stop;
use crate::traffic::burst::{self, Burst};
use crate::traffic::flood::{self, Contents, FloodOptions, Sources};
use crate::traffic::requests::{Requests, Rightness};
use crate::tunnel::TunnelOptions;
use crate::{addresses, chaos, demo, emulator, lab, namespaces, orders, scenario, traffic};

/// Where files go unless told otherwise.
const OUTPUT: &str = "demo-output";

/// Network namespaces, emulated links and numbered traffic, to watch a tunnel do its job.
#[derive(Parser)]
#[command(name = "braid-lab", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Bring the links of a scenario up, and keep them until `down` or Ctrl-C
    Up {
        /// A file, or the name of a shipped scenario
        scenario: String,
    },
    /// Have something happen to a link of the lab that is up
    Event {
        /// Which link
        uplink: String,
        /// What, such as: blackhole, restore, carrier-down, delay 80ms
        #[arg(required = true, num_args = 1..)]
        action: Vec<String>,
    },
    /// Run a scenario: links, tunnel, traffic, faults, report
    Run(RunArguments),
    /// Remove the lab, also after a crash
    Down,
    /// Stream a video over links that fail, by three ways of bonding, and compare
    Demo(DemoArguments),
    /// Break everything at random, and check that nothing arrives twice, out of order, or not at all once all is healed
    Chaos(ChaosArguments),
    /// Compare braid with other tunnels: throughput, cost, delay, memory
    Bench(BenchArguments),
    /// Run simulated worlds full of trouble, each from a seed, or a scenario, and hold the tunnel's core to what it
    /// promises
    Simulate(SimulateArguments),
    /// List the shipped scenarios, or print one
    Scenarios {
        /// Which one to print
        name: Option<String>,
    },
    /// Send numbered datagrams, at a constant rate or from a relay
    Source(SourceArguments),
    /// Receive numbered datagrams until standard input ends; JSON lines on standard output
    Sink {
        /// Where to receive
        #[arg(long)]
        listen: SocketAddr,
        /// Write the payloads here, in order of arrival
        #[arg(long)]
        payload: Option<PathBuf>,
        /// Only count them, which takes less of the machine than a record of each
        #[arg(long, conflicts_with = "payload")]
        count: bool,
        /// Let the kernel hand out several at once (UDP_GRO)
        #[arg(long, requires = "count")]
        gro: bool,
    },
    /// Count UDP datagrams that carry the bench's mark in the clear, inside a namespace
    #[command(hide = true)]
    Overhear,
    /// Keep every CPU busy, or memory in use
    #[command(hide = true)]
    Press {
        /// What
        target: chaos::Target,
        /// For how long
        #[arg(value_parser = parse_duration)]
        duration: Duration,
    },
    /// Send forged datagrams, as an attacker would; only inside the lab's namespaces
    Flood(FloodArguments),
    /// Emulate one link, inside its provider's namespace
    #[command(hide = true)]
    Emulate {
        /// The scenario
        scenario: String,
        /// Which of its uplinks
        index: usize,
        /// What random numbers begin with
        seed: u64,
    },
}

#[derive(Args)]
struct DemoArguments {
    /// Write the report here as JSON; - for standard output, and nothing else there
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    common: CommonArguments,
}

#[derive(Args)]
struct ChaosArguments {
    /// What random numbers begin with, to repeat a run [default: another one each time]
    #[arg(long)]
    seed: Option<u64>,
    /// How long chaos reigns, half of it with either end killed now and then
    #[arg(long, value_parser = parse_duration, default_value = "3m")]
    duration: Duration,
    /// --mode of both ends [default: drawn at random for each]
    #[arg(long, value_parser = PossibleValuesParser::new(Mode::ALL.map(Mode::name)))]
    mode: Option<String>,
    /// Write the report here as JSON; - for standard output, and nothing else there
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    common: CommonArguments,
}

/// What all that run braid are told.
#[derive(Args)]
pub(crate) struct CommonArguments {
    /// Run the tunnel without keys
    #[arg(long)]
    plaintext: bool,
    /// Where braid-box and braid-gateway are [default: beside this program]
    #[arg(long, value_name = "DIR")]
    bin_dir: Option<PathBuf>,
    /// Where logs, videos and plots go
    #[arg(long, value_name = "DIR", default_value = OUTPUT)]
    pub(crate) output: PathBuf,
}

#[derive(Args)]
struct SourceArguments {
    /// Where to
    #[arg(long)]
    to: SocketAddr,
    /// Bits of payload per second
    #[arg(long, value_parser = parse_rate, default_value = "8mbit")]
    rate: u64,
    /// Bytes of payload per datagram
    #[arg(long, default_value_t = 1316, value_parser = clap::value_parser!(u16).range(64..=1400))]
    size: u16,
    /// For how long
    #[arg(long, value_parser = parse_duration, default_value = "10s")]
    duration: Duration,
    /// Number and send on what comes to this address instead, until standard input ends
    #[arg(long)]
    relay: Option<SocketAddr>,
    /// Send all that are due at once, and so many by one system call (UDP_SEGMENT, if more than 1), instead of each when it
    /// is due
    #[arg(long, value_name = "N", conflicts_with = "relay", value_parser = clap::value_parser!(u16).range(1..=64))]
    gso: Option<u16>,
}

#[derive(Args)]
struct FloodArguments {
    /// Where to
    #[arg(long)]
    to: SocketAddrV4,
    /// From how many made-up addresses and ports
    #[arg(long, default_value_t = flood::SOURCES_MAX, value_parser = clap::value_parser!(u32).range(1..=i64::from(flood::SOURCES_MAX)))]
    sources: u32,
    /// From this address and port instead, as somebody on the way could
    #[arg(long, conflicts_with = "sources")]
    from: Option<SocketAddrV4>,
    /// For how long
    #[arg(long, value_parser = parse_duration, default_value = "5s")]
    duration: Duration,
    /// Datagrams per second
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    rate: u64,
    /// What random numbers begin with
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Have well-formed probes of ever new epochs among them, which a tunnel without keys cannot tell from its peer's
    #[arg(long)]
    probes: bool,
    /// Ask for sessions instead, and have so much of each request right
    #[arg(long, value_enum, value_name = "RIGHTNESS", conflicts_with = "probes")]
    requests: Option<Rightness>,
    /// The gateway's public key, which a right mac1 takes
    #[arg(long, value_name = "KEY", requires = "requests", value_parser = PublicKey::parse)]
    gateway_key: Option<PublicKey>,
}

/// Does what the command line asks for; errors go to standard error, one line each.
#[must_use]
pub fn main() -> ExitCode {
    match dispatch(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Usage(message)) => fail(&message, 2),
        Err(Failure::Runtime(message)) => fail(&message, 1),
    }
}

fn fail(message: &str, code: u8) -> ExitCode {
    eprintln!("braid-lab: {message}");
    ExitCode::from(code)
}

/// Why a command could not be obeyed, in one line.
pub(crate) enum Failure {
    /// It asks for what cannot be.
    Usage(String),
    /// Something went wrong.
    Runtime(String),
}

impl From<String> for Failure {
    fn from(message: String) -> Self {
        Self::Runtime(message)
    }
}

fn dispatch(command: Command) -> Result<(), Failure> {
    match command {
        Command::Up { scenario } => up(&scenario),
        Command::Event { uplink, action } => happen(&uplink, &action.join(" ")),
        Command::Run(arguments) => run::main(&arguments),
        Command::Down => {
            bench::clear_abandoned()?;
            Ok(lab::take_down()?)
        }
        Command::Demo(arguments) => run_demo(&arguments),
        Command::Chaos(arguments) => run_chaos(&arguments),
        Command::Press { target, duration } => {
            chaos::press(target, duration);
            Ok(())
        }
        Command::Bench(arguments) => Ok(bench::main(arguments)?),
        Command::Overhear => Ok(bench::listen().map_err(|error| format!("cannot listen: {error}"))?),
        Command::Simulate(arguments) => simulate::main(&arguments),
        Command::Scenarios { name } => show_scenarios(name.as_deref()),
        Command::Source(arguments) => send(&arguments),
        Command::Sink { listen, payload, count, gro } => {
            let received = match count {
                true => traffic::tally::receive(listen, gro),
                false => traffic::sink::receive(listen, payload.as_deref()),
            };
            Ok(received.map_err(|error| format!("sink: {error}"))?)
        }
        Command::Flood(arguments) => send_flood(&arguments),
        Command::Emulate { scenario, index, seed } => Ok(emulator::run(&Scenario { seed, ..load(&scenario)? }, index)?),
    }
}

/// The scenario of that name or in that file.
pub(crate) fn load(name: &str) -> Result<Scenario, Failure> {
    Scenario::load(name).map_err(|error| Failure::Usage(error.to_string()))
}

fn up(name: &str) -> Result<(), Failure> {
    let scenario = load(name)?;
    let stop = Stop::on_signals()?;
    let mut lab = Lab::up(&scenario, name)?;
    let orders = Orders::listen()?;
    say(&format!(
        "up: namespaces {}, {}, and one per uplink: try\n  ip netns exec {0} ping {}\n",
        namespaces::BOX,
        namespaces::GATEWAY_NAMESPACE,
        addresses::GATEWAY[0]
    ));
    while !stop.is_wanted() {
        orders.obey(|uplink, action| lab.apply(uplink, action));
        thread::sleep(Duration::from_millis(20));
    }
    for (uplink, report) in scenario.uplinks.iter().zip(lab.down()) {
        say(&format!("{}: {}\n", uplink.name, serde_json::to_string(&report).unwrap_or_default()));
    }
    Ok(())
}

fn happen(uplink: &str, action: &str) -> Result<(), Failure> {
    parse_action(action).map_err(Failure::Usage)?;
    Ok(orders::give(uplink, action)?)
}

fn run_demo(arguments: &DemoArguments) -> Result<(), Failure> {
    let stop = Stop::on_signals()?;
    let quiet = arguments.json.as_deref() == Some(Path::new("-"));
    let report = demo::demo(&tunnel_options(&arguments.common)?, &arguments.common.output, quiet, &stop)?;
    Ok(tell(&report, report.to_text(), arguments.json.as_deref())?)
}

fn run_chaos(arguments: &ChaosArguments) -> Result<(), Failure> {
    let stop = Stop::on_signals()?;
    let options = ChaosOptions {
        seed: arguments.seed.unwrap_or_else(|| monotonic_nanoseconds() % 1_000_000),
        duration: arguments.duration,
        mode: arguments.mode.clone(),
        tunnel: tunnel_options(&arguments.common)?,
        quiet: arguments.json.as_deref() == Some(Path::new("-")),
    };
    let repeat = |what: String| format!("chaos: {what}; to repeat it: {}", chaos::repeat_command(&options));
    let report = chaos::run(&options, &stop).map_err(&repeat)?;
    tell(&report, report.to_text(), arguments.json.as_deref())?;
    if report.failures.is_empty() { Ok(()) } else { Err(repeat(report.failures.join("; ")).into()) }
}

/// braid as it is run unless told otherwise.
pub(crate) fn tunnel_options(arguments: &CommonArguments) -> Result<TunnelOptions, Failure> {
    Ok(TunnelOptions {
        folder: lab::program_folder(arguments.bin_dir.as_deref())?,
        is_plaintext: arguments.plaintext,
        mode: None,
        window: None,
        extra_box: vec![],
        extra_gateway: vec![],
        ipv6: false,
        logs: arguments.output.clone(),
    })
}

fn show_scenarios(name: Option<&str>) -> Result<(), Failure> {
    for (shipped, text) in scenario::SHIPPED {
        match name {
            Some(name) if name == *shipped => say(text),
            Some(_) => {}
            None => {
                let purpose = text.lines().next().unwrap_or_default().trim_start_matches("# ");
                say(&format!("{shipped:<18} {purpose}\n"));
            }
        }
    }
    match name {
        Some(name) if !scenario::SHIPPED.iter().any(|(shipped, _)| *shipped == name) => {
            Err(Failure::Usage(format!("no scenario '{name}' is shipped: see 'braid-lab scenarios'")))
        }
        _ => Ok(()),
    }
}

fn send(arguments: &SourceArguments) -> Result<(), Failure> {
    let &SourceArguments { to, rate, duration, .. } = arguments;
    let size = usize::from(arguments.size);
    let report = match (arguments.relay, arguments.gso.map(usize::from)) {
        (Some(from), _) => traffic::source::relay(from, to),
        (None, None) => traffic::source::send_constant(to, rate, size, duration),
        (None, Some(segments)) if size * segments > burst::SEND_LENGTH_MAX => {
            let longest = burst::SEND_LENGTH_MAX;
            return Err(Failure::Usage(format!("source: --gso {segments}: one send carries up to {longest} bytes")));
        }
        (None, Some(segments)) => burst::send(to, &Burst { rate, size, segments, duration }),
    };
    let report = report.map_err(|error| format!("source: {error}"))?;
    say(&(serde_json::to_string(&report).map_err(|error| error.to_string())? + "\n"));
    Ok(())
}

fn send_flood(arguments: &FloodArguments) -> Result<(), Failure> {
    if !namespaces::is_inside()? {
        return Err(Failure::Usage(
            "flood: forged datagrams stay in the lab: bring it up, and run this by 'ip netns exec braid-isp-NAME'"
                .to_owned(),
        ));
    }
    let &FloodArguments { to, sources, from, duration, rate, seed, probes, requests, gateway_key } = arguments;
    let sources = from.map_or(Sources::Many(sources), Sources::One);
    let contents = match requests.map(|rightness| Requests::new(rightness, gateway_key.as_ref())) {
        None => Contents::Plaintext { probes },
        Some(requests) => {
            Contents::Requests(requests.map_err(|error| Failure::Usage(format!("flood: --requests: {error}")))?)
        }
    };
    let report = flood::flood(&FloodOptions { to, sources, duration, rate, seed, contents });
    let report = report.map_err(|error| format!("flood: {error}"))?;
    say(&(serde_json::to_string(&report).map_err(|error| error.to_string())? + "\n"));
    Ok(())
}
