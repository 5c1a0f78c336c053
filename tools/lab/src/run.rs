//! One run: the lab up, a tunnel through it, traffic, faults at their times, a report.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::addresses::{GATEWAY, TUNNEL_BOX, TUNNEL_GATEWAY};
use crate::clock::monotonic_nanoseconds;
use crate::lab::{Lab, own_program};
use crate::namespaces::{BOX, GATEWAY_NAMESPACE, prompt_command_in};
use crate::report::{Fault, Happened, Report};
use crate::scenario::{Scenario, TrafficKind};
use crate::stop::Stop;
use crate::tcp;
use crate::traffic::analysis::{Arrival, Summary};
use crate::traffic::sink::Line;
use crate::traffic::source::SourceReport;
use crate::tunnel::{PerEnd, Tunnel, TunnelOptions};
use crate::video::{self, Player, Video};

/// The port that traffic goes to.
const PORT: u16 = 5001;
/// How long what is under way may take to come in after the last datagram was sent.
const DRAIN: Duration = Duration::from_millis(1500);

/// Which way traffic flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Direction {
    /// From the box to the gateway.
    Up,
    /// From the gateway to the box.
    Down,
}

impl Direction {
    const fn name(self) -> &'static str {
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
    pub tunnel: Option<TunnelOptions>,
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

/// Runs a scenario.
///
/// # Errors
/// What went wrong.
pub fn run(scenario: &Scenario, name: &str, options: &RunOptions, stop: &Stop) -> Result<Outcome, String> {
    std::fs::create_dir_all(&options.output).map_err(|error| format!("{}: {error}", options.output.display()))?;
    let mut lab = Lab::up(scenario, name)?;
    let mut tunnel = match &options.tunnel {
        Some(tunnel) => Some(Tunnel::start(scenario, tunnel)?),
        None => None,
    };
    let result = match scenario.traffic.kind {
        TrafficKind::Tcp => tcp::run(&mut lab, &mut tunnel, options, stop),
        TrafficKind::Cbr | TrafficKind::Video => flow(&mut lab, &mut tunnel, options, stop),
    };
    let resident = tunnel.as_ref().map(Tunnel::resident_kib).unwrap_or_default();
    drop(tunnel);
    let emulators = lab.down();
    let mut outcome = result?;
    outcome.report.set_uplinks(scenario, &emulators);
    outcome.report.resident_kib = resident;
    outcome.report.direction = options.direction.name();
    if let Some(options) = &options.tunnel {
        outcome.report.mode = options.mode.clone().unwrap_or("default".to_owned());
        outcome.report.window = options.window.clone().unwrap_or("default".to_owned());
    }
    Ok(outcome)
}

/// Numbered datagrams, of our own or around a video.
fn flow(lab: &mut Lab, tunnel: &mut Option<Tunnel>, options: &RunOptions, stop: &Stop) -> Result<Outcome, String> {
    let scenario = lab.scenario().clone();
    let is_video = scenario.traffic.kind == TrafficKind::Video;
    let (from, to, address) = ends(options);
    let file = options.output.join("received.ts");
    let video = if is_video { Some(Video::encode(&options.output, &scenario)?) } else { None };
    let mut sink = Sink::start(to, SocketAddr::new(address, PORT), is_video.then_some(&file))?;
    let mut source = Source::start(from, SocketAddr::new(address, PORT), &scenario)?;
    let mut player = video.as_ref().map(|video| Player::start(from, video, &scenario)).transpose()?;
    let cpu_before = cpu_seconds(tunnel);
    let happened = watch(lab, tunnel, Some(&mut sink), options, stop)?;
    let cpu = cpu_seconds(tunnel) - cpu_before;
    if let Some(player) = &mut player {
        player.stop();
    }
    let sent = source.finish()?;
    thread::sleep(DRAIN);
    let arrivals = sink.finish()?;
    let summary = Summary::of(&arrivals, sent.offered);
    let faults = happened.iter().map(|happened| Fault::new(happened, sent.began)).collect();
    let mut report = Report::new(&scenario, summary, faults);
    report.cpu_core_seconds = cpu;
    report.set_goodput(&arrivals);
    report.video = video.map(|video| video.judge(&file, &arrivals)).transpose()?;
    Ok(Outcome { report, arrivals, began: sent.began })
}

/// From which namespace, to which, and to which address.
pub fn ends(options: &RunOptions) -> (&'static str, &'static str, IpAddr) {
    match (options.direction, &options.tunnel) {
        (Direction::Up, Some(_)) => (BOX, GATEWAY_NAMESPACE, TUNNEL_GATEWAY.into()),
        (Direction::Down, Some(_)) => (GATEWAY_NAMESPACE, BOX, TUNNEL_BOX.into()),
        (Direction::Up, None) => (BOX, GATEWAY_NAMESPACE, GATEWAY[0]),
        (Direction::Down, None) => (GATEWAY_NAMESPACE, BOX, crate::addresses::Addresses::of(0).box_end[0]),
    }
}

/// CPU time that both ends have used so far.
pub fn cpu_seconds(tunnel: &Option<Tunnel>) -> PerEnd<f64> {
    tunnel.as_ref().map(Tunnel::cpu_seconds).unwrap_or_default()
}

/// Waits for the scenario's end, and has its events happen on the way.
///
/// # Errors
/// What went wrong: an end of the tunnel that has died, a link that does not obey, a signal.
pub fn watch(
    lab: &mut Lab,
    tunnel: &mut Option<Tunnel>,
    mut sink: Option<&mut Sink>,
    options: &RunOptions,
    stop: &Stop,
) -> Result<Vec<Happened>, String> {
    let begun = Instant::now();
    let scenario = lab.scenario().clone();
    let mut events = scenario.events.iter().peekable();
    let mut happened = vec![];
    let mut live = options.live.then(|| crate::live::LiveTable::new(&scenario));
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
        while let Some(summary) = sink.as_mut().and_then(|sink| sink.live()) {
            if let Some(live) = &mut live {
                live.row(begun.elapsed(), &summary);
            }
        }
        let next = events.peek().map_or(scenario.duration, |event| event.at).min(scenario.duration);
        thread::sleep(next.saturating_sub(begun.elapsed()).min(Duration::from_millis(20)));
    }
    Ok(happened)
}

/// A source in its own process and namespace.
struct Source {
    child: Child,
    output: BufReader<ChildStdout>,
    is_relay: bool,
}

impl Source {
    fn start(namespace: &str, to: SocketAddr, scenario: &Scenario) -> Result<Self, String> {
        let traffic = &scenario.traffic;
        let is_relay = traffic.kind == TrafficKind::Video;
        let mut command = prompt_command_in(namespace, own_program()?);
        command.args(["source", "--to", &to.to_string()]);
        if is_relay {
            command.args(["--relay", &video::RELAY.to_string()]);
        } else {
            let duration = format!("{}ms", scenario.duration.as_millis());
            let rate = format!("{}bit", traffic.rate);
            command.args(["--rate", &rate, "--size", &traffic.size.to_string(), "--duration", &duration]);
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot start the source: {error}"))?;
        let mut output = BufReader::new(child.stdout.take().ok_or("no output of the source")?);
        if is_relay {
            output.read_line(&mut String::new()).map_err(|error| format!("the source has not started: {error}"))?;
        }
        Ok(Self { child, output, is_relay })
    }

    fn finish(&mut self) -> Result<SourceReport, String> {
        if self.is_relay {
            drop(self.child.stdin.take());
        }
        let mut text = String::new();
        let read = self.output.read_to_string(&mut text);
        read.map_err(|error| format!("the source says nothing: {error}"))?;
        let _ = self.child.wait();
        serde_json::from_str(text.trim()).map_err(|error| format!("the source has failed ({error}): {text}"))
    }
}

/// A sink in its own process and namespace.
pub struct Sink {
    child: Child,
    lines: Receiver<Line>,
}

impl Sink {
    fn start(namespace: &str, listen: SocketAddr, payload: Option<&PathBuf>) -> Result<Self, String> {
        let mut command = prompt_command_in(namespace, own_program()?);
        command.args(["sink", "--listen", &listen.to_string()]);
        if let Some(payload) = payload {
            command.arg("--payload").arg(payload);
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot start the sink: {error}"))?;
        let output = BufReader::new(child.stdout.take().ok_or("no output of the sink")?);
        let (sender, lines) = channel();
        thread::spawn(move || {
            let parsed = output.lines().map_while(Result::ok).filter_map(|line| serde_json::from_str(&line).ok());
            parsed.for_each(|line| drop(sender.send(line)));
        });
        match lines.recv_timeout(Duration::from_secs(5)) {
            Ok(Line::Ready) => Ok(Self { child, lines }),
            _ => Err(format!("the sink cannot listen on {listen}")),
        }
    }

    fn live(&self) -> Option<Summary> {
        match self.lines.try_recv() {
            Ok(Line::Live(summary)) => Some(summary),
            _ => None,
        }
    }

    fn finish(&mut self) -> Result<Vec<Arrival>, String> {
        drop(self.child.stdin.take());
        while let Ok(line) = self.lines.recv_timeout(Duration::from_secs(10)) {
            if let Line::Arrivals(arrivals) = line {
                let _ = self.child.wait();
                return Ok(arrivals);
            }
        }
        Err("the sink has said nothing at its end".to_owned())
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = std::io::stdout().flush();
    }
}
