//! Numbered datagrams, of our own or around a video.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use crate::course::{Outcome, RunOptions, cpu_seconds, ends, watch};
use crate::lab::{Lab, own_program};
use crate::namespaces::prompt_command_in;
use crate::report::{Fault, Report};
use crate::scenario::{Scenario, TrafficKind};
use crate::stop::Stop;
use crate::traffic::analysis::{Arrival, Summary};
use crate::traffic::sink::Line;
use crate::traffic::source::SourceReport;
use crate::tunnel::Tunnel;
use crate::video::{self, Player, Video};

/// The port that traffic goes to.
const PORT: u16 = 5001;
/// How long what is under way may take to come in after the last datagram was sent.
const DRAIN: Duration = Duration::from_millis(1500);

/// Runs the flow while the scenario's events happen.
///
/// # Errors
/// What went wrong.
pub fn run(lab: &mut Lab, tunnel: &mut Option<Tunnel>, options: &RunOptions, stop: &Stop) -> Result<Outcome, String> {
    let scenario = lab.scenario().clone();
    let is_video = scenario.traffic.kind == TrafficKind::Video;
    let (from, to, address) = ends(options);
    let file = options.output.join("received.ts");
    let video = if is_video { Some(Video::encode(&options.output, &scenario)?) } else { None };
    let mut sink = Sink::start(to, SocketAddr::new(address, PORT), is_video.then_some(&file))?;
    let mut source = Source::start(from, SocketAddr::new(address, PORT), &scenario)?;
    let mut player = video.as_ref().map(|video| Player::start(from, video, &scenario)).transpose()?;
    let cpu_before = cpu_seconds(tunnel);
    let happened = watch(lab, tunnel, || sink.live(), options, stop)?;
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
struct Sink {
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
