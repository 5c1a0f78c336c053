//! Numbered datagrams, of our own or around a video.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use crate::addresses::TRAFFIC_PORT;
use crate::course::{Outcome, RunOptions, cpu_seconds, ends, watch};
use crate::lab::Lab;
use crate::report::{Fault, Report};
use crate::scenario::TrafficKind;
use crate::stop::Stop;
use crate::stream::{Feed, Sink, Source};
use crate::traffic::analysis::Summary;
use crate::tunnel::{Contender, Tunnel};
use crate::video::{self, Player, Video};

/// How long what is under way on the links may take to come in after the last datagram was sent.
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
    let mut sink = Sink::start(to, SocketAddr::new(address, TRAFFIC_PORT), is_video.then_some(file.as_path()))?;
    let traffic = &scenario.traffic;
    let feed = if is_video {
        Feed::Relay(video::RELAY)
    } else {
        Feed::Constant { rate: traffic.rate, size: traffic.size, duration: scenario.duration }
    };
    let mut source = Source::start(from, SocketAddr::new(address, TRAFFIC_PORT), feed)?;
    let mut player = video.as_ref().map(|video| Player::start(from, video, &scenario)).transpose()?;
    let cpu_before = cpu_seconds(tunnel);
    let happened = watch(lab, tunnel, || sink.live(), options, stop)?;
    let cpu = cpu_seconds(tunnel) - cpu_before;
    if let Some(player) = &mut player {
        player.stop();
    }
    let sent = source.finish()?;
    thread::sleep(DRAIN + options.tunnel.as_ref().map_or(Duration::ZERO, Contender::delay));
    let arrivals = sink.finish()?;
    let summary = Summary::of(&arrivals, sent.offered);
    let faults = happened.iter().map(|happened| Fault::new(happened, sent.began)).collect();
    let mut report = Report::new(&scenario, summary, faults);
    report.cpu_core_seconds = cpu;
    report.set_goodput(&arrivals);
    report.video = video.map(|video| video.judge(&file, &arrivals)).transpose()?;
    Ok(Outcome { report, arrivals, began: sent.began })
}
