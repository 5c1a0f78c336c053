//! The default mode, with real sockets: what is lost goes again, a stream keeps up beside downloads, and what the user has
//! said of an uplink is kept to. How well it uses links that change is held by the simulator (`src/sim/promises`).

use std::process::{Child, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::lab::{BOX, GATEWAY, GATEWAY_ADDRESS, Lab, TWO, await_that, may_run, missing, run_scenario};
use crate::streams::{assert_in_order_and_once, count, event, scenario};

/// A machine that runs tests may stall an emulated link, or an end, for as long as what is lost needs to be sent again.
pub(crate) const PATIENT: &str = "--mode adaptive --window 400ms";

#[test]
fn nothing_is_lost_whichever_uplink_fails_and_however() {
    if !may_run() {
        return;
    }
    for (uplink, fails, returns, direction) in [
        ("near", "blackhole", "restore", "up"),
        ("near", "blackhole", "restore", "down"),
        ("near", "carrier-down", "carrier-up", "up"),
    ] {
        let events = event("1s", uplink, fails) + &event("2500ms", uplink, returns);
        let report = run_scenario(&(scenario("") + &events), &format!("{PATIENT} --direction {direction}"));
        assert_in_order_and_once(&report);
        assert_eq!(count(&report, "lost"), 0, "{uplink} {fails} {direction}: {report:#}");
    }
}

#[test]
fn what_every_uplink_loses_now_and_then_comes_all_the_same() {
    if !may_run() {
        return;
    }
    let lossy = scenario("loss = \"2%\"").replace("delay = \"45ms\"", "delay = \"45ms\"\nloss = \"2%\"");
    let report = run_scenario(&lossy, PATIENT);
    assert_in_order_and_once(&report);
    assert_eq!(count(&report, "lost"), 0, "{report:#}");
    let taken = report["uplinks"][0]["up"]["lost"].as_u64().expect("a count");
    assert!(taken > 10, "the links did lose: {report:#}");
}

/// Far away, and lossy.
const SATELLITES: &str = r#"
name = "satellites"
duration = "8s"
traffic = { kind = "cbr", rate = "8mbit" }
[[uplink]]
name = "leo"
delay = "280ms"
loss = "2%"
[[uplink]]
name = "geo"
delay = "300ms"
loss = "2%"
"#;

#[test]
fn what_cannot_be_sent_again_in_time_is_made_up() {
    if !may_run() {
        return;
    }
    let report = run_scenario(SATELLITES, "--mode adaptive --window 200ms");
    assert_in_order_and_once(&report);
    let taken = |uplink: usize| report["uplinks"][uplink]["up"]["lost"].as_u64().expect("a count");
    let taken = taken(0) + taken(1);
    assert!(taken > 60, "the links did lose: {report:#}");
    assert!(count(&report, "lost") * 10 < taken, "{report:#}");
}

/// Two links of 10 Mbit/s with long queues.
const SLOW: &str = r#"
name = "slow"
duration = "1s"
[[uplink]]
name = "a"
delay = "10ms"
rate = "10mbit"
queue = "500ms"
[[uplink]]
name = "b"
delay = "15ms"
rate = "10mbit"
queue = "500ms"
"#;

#[test]
fn a_stream_loses_nothing_beside_two_downloads_that_take_all_they_can() {
    let Some(lab) = Lab::up(SLOW) else { return };
    let (_far, _near) = lab.start_both(PATIENT);
    let server = |port: u16| spawn(&lab, GATEWAY, &format!("iperf3 -s -1 -p {port}"));
    let client = |port: u16| spawn(&lab, BOX, &format!("iperf3 -c {GATEWAY_ADDRESS} -p {port} -t 5 -J"));
    let servers = [5201, 5202].map(server);
    thread::sleep(Duration::from_millis(500));
    let clients = [5201, 5202].map(client);
    thread::sleep(Duration::from_millis(500));
    // A fifth of what there is, of which TCP would leave nothing if all waited in one queue.
    assert_eq!(missing(&lab.stream(Lab::UP, 3000, || {})), 0);
    for client in clients {
        let output = client.wait_with_output().expect("it ends");
        let report: Value = serde_json::from_slice(&output.stdout).expect("a report");
        let received = report["end"]["sum_received"]["bytes"].as_f64().unwrap_or_default();
        assert!(received > 1e6, "a download was starved: {received} bytes");
    }
    for mut server in servers {
        let _ = server.kill();
        let _ = server.wait();
    }
}

fn spawn(lab: &Lab, namespace: &str, line: &str) -> Child {
    lab.command(namespace, line).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("ip runs")
}

#[test]
fn a_metered_uplink_rests_while_the_other_suffices_and_is_there_when_it_fails() {
    let Some(lab) = Lab::up(TWO) else { return };
    let flags = format!("{PATIENT} --uplink dev=a --uplink dev=b,metered");
    let (_far, near) = (lab.start_gateway(PATIENT), lab.start_box(&flags));
    near.await_log_times("-> up: ", 2);
    lab.await_answer();
    assert_eq!(missing(&lab.stream(Lab::UP, 1500, || {})), 0);
    let used = sent_by(&near, "b");
    assert!(used < 20, "{used} frames went by the metered uplink");
    let fail = || {
        thread::sleep(Duration::from_millis(500));
        lab.happen("a", "blackhole");
    };
    assert_eq!(missing(&lab.stream(Lab::UP, 1500, fail)), 0);
    assert!(sent_by(&near, "b") > 200, "it was used when it was needed");
}

/// How many frames the box has sent by an uplink.
pub(crate) fn sent_by(end: &crate::lab::End, uplink: &str) -> u64 {
    end.counters();
    let is_it = |line: &&str| line.contains(&format!("uplink {uplink}: ")) && line.contains("tx_packets=");
    let line = || end.log().lines().rfind(is_it).map(str::to_owned);
    let count = |line: &str| line.split("tx_packets=").nth(1)?.split(' ').next()?.parse().ok();
    let mut found = None;
    await_that("the uplink's counters", || {
        found = line().as_deref().and_then(count);
        found.is_some()
    });
    found.expect("just found")
}

#[test]
fn encoders_are_told_what_the_uplinks_carry() {
    const LISTEN: &str = "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(10); \
                          s.bind(('127.0.0.1', 9999)); [s.recv(4096) for _ in range(12)]; print(s.recv(4096).decode())";
    let Some(lab) = Lab::up(TWO) else { return };
    let _far = lab.start_gateway(PATIENT);
    let near = lab.start_box(&format!("{PATIENT} --capacity-to 127.0.0.1:9999"));
    near.await_log_times("-> up: ", 2);
    let listener = lab.command(BOX, "python3 -c").arg(LISTEN).stdout(Stdio::piped()).spawn().expect("ip runs");
    assert_eq!(missing(&lab.stream(Lab::UP, 3000, || {})), 0);
    let said = listener.wait_with_output().expect("it ends").stdout;
    let said: Value = serde_json::from_slice(&said).expect("a line of JSON");
    // 4 Mbit/s were carried, by links that could carry any amount.
    let (now, safe) = (said["capacity_bps"].as_u64().expect("a rate"), said["safe_bps"].as_u64().expect("a rate"));
    assert!(now > 3_000_000 && safe <= now, "{said:#}");
    assert_eq!(
        (&said["version"], &said["tap"], &said["uplinks"][1]["name"]),
        (&1.into(), &"braid0".into(), &"b".into())
    );
}
