//! One TCP stream, by iperf3.

use std::process::Stdio;
use std::thread;
use std::time::Duration;

use crate::clock::monotonic_nanoseconds;
use crate::course::{Outcome, RunOptions, cpu_seconds, ends, watch};
use crate::lab::Lab;
use crate::namespaces::command_in;
use crate::report::{Fault, Report};
use crate::stop::Stop;
use crate::traffic::analysis::Summary;
use crate::tunnel::Tunnel;

/// Runs the stream while the scenario's events happen.
///
/// # Errors
/// What went wrong.
pub fn run(lab: &mut Lab, tunnel: &mut Option<Tunnel>, options: &RunOptions, stop: &Stop) -> Result<Outcome, String> {
    let scenario = lab.scenario().clone();
    let (from, to, address) = ends(options);
    let missing =
        |error: std::io::Error| format!("cannot run iperf3 ({error}): install it, or use another kind of traffic");
    let mut server = command_in(to, "iperf3")
        .args(["-s", "-1", "-B", &address.to_string()])
        .stdout(Stdio::null())
        .spawn()
        .map_err(missing)?;
    thread::sleep(Duration::from_millis(300));
    let seconds = scenario.duration.as_secs().max(1).to_string();
    let client = command_in(from, "iperf3")
        .args(["-J", "-c", &address.to_string(), "-t", &seconds])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(missing)?;
    let (began, cpu_before) = (monotonic_nanoseconds(), cpu_seconds(tunnel));
    let happened = watch(lab, tunnel, || None, options, stop)?;
    let cpu = cpu_seconds(tunnel) - cpu_before;
    let output = client.wait_with_output().map_err(|error| format!("iperf3: {error}"))?;
    let _ = server.kill();
    let _ = server.wait();
    let result: serde_json::Value = serde_json::from_slice(&output.stdout)
        .map_err(|error| format!("iperf3 said nothing that makes sense: {error}"))?;
    let rate = result["end"]["sum_received"]["bits_per_second"].as_f64();
    let rate = rate.ok_or_else(|| format!("iperf3 failed: {}", result["error"].as_str().unwrap_or("no result")))?;
    let faults = happened.iter().map(|happened| Fault::new(happened, began)).collect();
    let mut report = Report::new(&scenario, Summary::default(), faults);
    report.cpu_core_seconds = cpu;
    report.goodput_mbps = (rate / 1e4).round() / 100.0;
    Ok(Outcome { report, arrivals: vec![], began })
}
