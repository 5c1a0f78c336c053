//! Two boxes at one gateway, both busy at once: served by one process, and by two that share the port.

use std::fmt::Write;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use braid::config::Share;
use serde::Serialize;

use super::BenchOptions;
use super::datagrams::{Road, SIZE};
use super::iperf;
use super::metric::Spread;
use super::ping::ping;
use super::stage::{FAR, FAR_ANY, NEAR, Stage, TUNNEL_MTU, UPLINKS};
use super::wait::wait_until;
use crate::daemon::Daemon;
use crate::namespaces::command_in;
use crate::protection::KeyPair;
use crate::stop::Stop;
use crate::traffic::burst::Burst;

/// How long a tunnel may take to come up.
const PATIENCE: Duration = Duration::from_secs(15);
/// Each box's datagrams, in bits per second: what both ends, sources and sinks can do on two CPUs without haste.
const UDP_RATE: u64 = 250_000_000;
const UDP_FOR: Duration = Duration::from_secs(4);

/// What was found with so many processes.
#[derive(Clone, Debug, Serialize)]
pub struct Served {
    /// How many processes shared the port.
    pub processes: u8,
    /// A TCP stream of each box, both at once: Mbit/s of payload in all.
    pub tcp_mbps: Option<Spread>,
    /// CPU time of the gateway's processes meanwhile, core-seconds per 10^9 bytes of payload.
    pub tcp_gateway_core_seconds_per_gb: Option<Spread>,
    /// Datagrams of each box at a constant rate, both at once: how many were lost.
    pub udp_lost: Option<Spread>,
    /// CPU time of the gateway's busiest process meanwhile, % of one core.
    pub udp_busiest_percent: Option<Spread>,
}

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub struct BoxesReport {
    /// By one process, and by two.
    pub served: [Served; 2],
}

/// One round of it.
struct Round {
    tcp_mbps: f64,
    gateway_core_seconds_per_gb: f64,
    udp_lost: f64,
    udp_busiest_percent: f64,
}

/// The mounts that gateways which share a port see together, since ip-netns(8) gives each of them its own.
struct Mounts(Child);

impl Mounts {
    fn new(stop: &Stop) -> Result<Self, String> {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sleep", "infinity"]);
        let mounts = Self(command.spawn().map_err(|error| format!("cannot run unshare: {error}"))?);
        let of = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/mnt")).map_err(|error| format!("unshare: {error}"));
        // Until then whoever enters them enters ours.
        let are_its_own = || Ok(of(&mounts.0.id().to_string())? != of("self")?);
        wait_until(are_its_own, PATIENCE, stop, || "unshare makes no mounts of its own".to_owned())?;
        Ok(mounts)
    }

    /// A command that runs what follows among them, in the gateway's namespace.
    fn enter(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.0.id().to_string(), "--mount", &format!("--net=/run/netns/{FAR}")]);
        command
    }
}

impl Drop for Mounts {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Measures both in turn, as often as asked for.
///
/// # Errors
/// What went wrong, or a signal.
pub fn run(options: &BenchOptions, stop: &Stop) -> Result<BoxesReport, String> {
    let stage = Stage::up()?;
    let mut rounds = [vec![], vec![]];
    for number in 1..=options.rounds {
        for (processes, rounds) in [1, 2].into_iter().zip(&mut rounds) {
            let running = Running::start(&options.programs, stage.folder(), processes, stop)?;
            let round = running.measure(options, stop)?;
            eprintln!(
                "bench: round {number} of {}: two boxes, {processes} process(es): {:.0} Mbit/s",
                options.rounds, round.tcp_mbps
            );
            rounds.push(round);
        }
    }
    let [one, two] = rounds;
    Ok(BoxesReport { served: [Served::of(1, &one), Served::of(2, &two)] })
}

impl Served {
    fn of(processes: u8, rounds: &[Round]) -> Self {
        let spread = |figure: fn(&Round) -> f64| Spread::of(rounds.iter().map(figure).collect());
        Self {
            processes,
            tcp_mbps: spread(|round| round.tcp_mbps),
            tcp_gateway_core_seconds_per_gb: spread(|round| round.gateway_core_seconds_per_gb),
            udp_lost: spread(|round| round.udp_lost),
            udp_busiest_percent: spread(|round| round.udp_busiest_percent),
        }
    }
}

impl BoxesReport {
    /// The table of medians.
    #[must_use]
    pub fn to_markdown(&self) -> String {
        let mut text = format!(
            "| gateway | two TCP streams, Mbit/s in all | gateway CPU, core-s/GB | 2 × {} Mbit/s UDP: lost | busiest \
             process, % of a core |\n|--|--:|--:|--:|--:|\n",
            UDP_RATE / 1_000_000
        );
        let median = |figure: &Option<Spread>, digits: usize| {
            figure.map_or("–".to_owned(), |spread| format!("{:.digits$}", spread.median))
        };
        for served in &self.served {
            let name = if served.processes == 1 { "one process" } else { "two processes, `--share`" };
            let _ = writeln!(
                text,
                "| {name} | {} | {} | {} | {} |",
                median(&served.tcp_mbps, 0),
                median(&served.tcp_gateway_core_seconds_per_gb, 2),
                median(&served.udp_lost, 0),
                median(&served.udp_busiest_percent, 0),
            );
        }
        text
    }
}

/// Gateways and boxes that run.
struct Running {
    gateways: Vec<Daemon>,
    boxes: Vec<Daemon>,
    _mounts: Mounts,
}

/// The gateway's address in the tunnel of a box.
const fn far(number: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 202, number as u8, 2)
}

/// A key that is of that share.
fn key_of(share: Share, folder: &Path, name: &str) -> Result<KeyPair, String> {
    loop {
        let pair = KeyPair::make(folder.join(name))?;
        if share.has(pair.public.hint()) {
            return Ok(pair);
        }
    }
}

impl Running {
    fn start(programs: &Path, folder: &Path, processes: u8, stop: &Stop) -> Result<Self, String> {
        let gateway = KeyPair::make(folder.join("gateway.key"))?;
        let key = |index: u8| key_of(Share { index, of: 2 }, folder, &format!("box{index}.key"));
        let keys = [key(0)?, key(1)?];
        let mounts = Mounts::new(stop)?;
        let common = format!("--key-file {} --mtu {TUNNEL_MTU}", gateway.file.display());
        let entries: Vec<_> = keys.iter().enumerate().map(|(number, pair)| entry(number, pair)).collect();
        let start_gateway = |index: u8| {
            let flags = format!("--listen 0.0.0.0:4754 {common} {} --share {index}/{processes}", entries.join(" "));
            let mut command = mounts.enter();
            command.arg(programs.join("braid-gateway")).args(flags.split_whitespace());
            Daemon::spawn(&mut command, "braid-gateway", folder.join(format!("gateway{index}.log")))
        };
        let gateways = (0..processes).map(start_gateway).collect::<Result<_, _>>()?;
        let start_box = |(number, pair): (usize, &KeyPair)| {
            let flags = format!(
                "--gateway {FAR_ANY} --uplink dev={} --tap box{number} --address 10.202.{number}.1/24 --mtu {TUNNEL_MTU} \
                 --key-file {} --peer {}",
                UPLINKS[number],
                pair.file.display(),
                gateway.public
            );
            let mut command = command_in(NEAR, programs.join("braid-box").display().to_string());
            command.args(flags.split_whitespace());
            Daemon::spawn(&mut command, "braid-box", folder.join(format!("box{number}.log")))
        };
        let boxes = keys.iter().enumerate().map(start_box).collect::<Result<_, _>>()?;
        let mut running = Self { gateways, boxes, _mounts: mounts };
        running.await_answers(stop)?;
        Ok(running)
    }

    fn await_answers(&mut self, stop: &Stop) -> Result<(), String> {
        let are_answered = || {
            self.gateways.iter_mut().chain(&mut self.boxes).try_for_each(Daemon::check)?;
            let answers = |number| ping(far(number), 1, Duration::from_secs(1), stop).map(|times| !times.is_empty());
            Ok(answers(0)? && answers(1)?)
        };
        wait_until(are_answered, PATIENCE, stop, || "not both boxes are answered".to_owned())
    }

    fn measure(&self, options: &BenchOptions, stop: &Stop) -> Result<Round, String> {
        let used = self.gateway_seconds();
        let streams = both(|number| iperf::stream(far(number), options.seconds, stop))?;
        let used: f64 = self.gateway_seconds().iter().zip(used).map(|(after, before)| after - before).sum();
        let bytes: f64 = streams.iter().map(|stream| stream.bytes).sum();
        let (before, begun) = (self.gateway_seconds(), Instant::now());
        let burst = Burst { rate: UDP_RATE, size: SIZE, segments: 1, duration: UDP_FOR };
        let passages = both(|number| Road::to(far(number), stop).send(burst))?;
        let elapsed = begun.elapsed().min(UDP_FOR).as_secs_f64();
        let shares = self.gateway_seconds().into_iter().zip(before).map(|(after, before)| (after - before) / elapsed);
        Ok(Round {
            tcp_mbps: streams.iter().map(|stream| stream.mbps).sum(),
            gateway_core_seconds_per_gb: used * 1e9 / bytes,
            udp_lost: passages.iter().map(|passage| passage.lost() as f64).sum(),
            udp_busiest_percent: 100.0 * shares.fold(0.0, f64::max),
        })
    }

    fn gateway_seconds(&self) -> Vec<f64> {
        self.gateways.iter().map(Daemon::cpu_seconds).collect()
    }
}

/// What a gateway is told of a box.
fn entry(number: usize, pair: &KeyPair) -> String {
    format!("--box name=box{number},peer={},tap=box{number},address={}/24", pair.public, far(number))
}

/// Does the same for both boxes at once.
fn both<T: Send>(work: impl Fn(usize) -> Result<T, String> + Sync) -> Result<[T; 2], String> {
    thread::scope(|scope| {
        let other = scope.spawn(|| work(1));
        let one = work(0);
        let other = other.join().map_err(|_| "a measurement has failed".to_owned())?;
        Ok([one?, other?])
    })
}
