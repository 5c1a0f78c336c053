//! Requests for sessions by the hundred thousand, from everywhere, at a gateway that has something better to do: streams,
//! a video, a box that wants in.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use braid::proto::session::keys::PrivateKey;
use serde_json::Value;

use crate::attacks::{Scene, WINDOW};
use crate::hostile::{PROVIDER, counted};
use crate::lab::{BOX, GATEWAY, Lab, TWO, await_that, may_run, private_key, program, run_scenario};

/// What is sent, if the machine manages.
const RATE: u64 = 100_000;
/// What must be managed for it to be a flood, on two CPUs that also carry the streams.
const RATE_MIN: f64 = 30_000.0;
const SECONDS: u64 = 4;
/// Lines that an end may log meanwhile.
const LOG_LINES_MAX: usize = 500;

/// The command that floods, for so long.
fn flood(rightness: &str, gateway_key: &str, seconds: u64) -> String {
    // Who attacks has a machine of their own, and does not keep the ends from theirs.
    format!(
        "nice -n 10 {} flood --to 203.0.113.1:4754 --rate {RATE} --duration {seconds}s --requests {rightness} --gateway-key {gateway_key}",
        program("braid-lab").display()
    )
}

/// Gives the ends a CPU when they need one, as on a machine of their own, and answers to made-up addresses a place where
/// they vanish, as in the Internet.
fn prepare() {
    for line in [
        "link add vanish arp off type veth peer name vanished",
        "link set vanish up",
        "link set vanished up",
        "route add 198.18.0.0/15 dev vanish",
    ] {
        let status = Command::new("ip").args(["-n", GATEWAY]).args(line.split_whitespace()).status();
        assert!(status.is_ok_and(|status| status.success()), "{line}");
    }
    for namespace in [GATEWAY, BOX] {
        let pids = Command::new("ip").args(["netns", "pids", namespace]).output().expect("ip runs");
        for pid in String::from_utf8_lossy(&pids.stdout).split_whitespace() {
            // Not every machine allows that.
            let _ = Command::new("renice").args(["-n", "-15", "-p", pid]).stdout(Stdio::null()).status();
        }
    }
}

fn assert_is_flood(report: &Value) {
    eprintln!("{report}");
    assert!(report["per_second"].as_f64() > Some(RATE_MIN), "that was no flood: {report}");
}

/// Floods the gateway, and demands that nothing of the streams is lost, and that the box gets new keys meanwhile.
fn assert_is_survived(rightness: &str, reasons: &[&str]) {
    let Some(scene) = Scene::up("--rekey-interval 1s") else { return };
    prepare();
    let key = private_key("braid-gateway").public().to_string();
    let mut sent = 0;
    let mut renewed = 0;
    let drops = scene.assert_unharmed(1_000 * SECONDS + 6_000, || {
        let before = scene.near.log().matches("new keys").count();
        let output = scene.lab.run(PROVIDER, &flood(rightness, &key, SECONDS)).stdout;
        let report = serde_json::from_slice(&output).expect("a report");
        assert_is_flood(&report);
        sent = report["sent"].as_u64().expect("a count");
        renewed = scene.near.log().matches("new keys").count() - before;
    });
    eprintln!("new keys {renewed} times; {}", drops.gateway());
    assert!(renewed > 0, "the box got no new keys: {}", scene.near.log());
    // What counts is that the streams came whole; where the gateway is short of a processor its socket may overflow.
    drops.assert_gateway(reasons, sent / 2);
    let lines = scene.far.log().lines().count();
    assert!(lines < LOG_LINES_MAX, "{lines} lines were logged");
}

#[test]
fn requests_by_those_who_do_not_know_the_gateways_key_are_survived() {
    assert_is_survived("form", &["handshake_mac"]);
}

#[test]
fn requests_by_those_who_know_the_gateways_key_are_survived() {
    assert_is_survived("mac1", &["handshake_throttled", "handshake_rejected"]);
}

#[test]
fn requests_that_pretend_to_have_a_cookie_are_survived() {
    assert_is_survived("mac2", &["handshake_throttled", "handshake_rejected"]);
}

#[test]
fn a_box_gets_in_meanwhile() {
    let Some(lab) = Lab::up(TWO) else { return };
    let far = lab.start_gateway("--mode balance-rr");
    prepare();
    let key = private_key("braid-gateway").public().to_string();
    let mut flood = lab.command(PROVIDER, &flood("mac1", &key, 8)).stdout(Stdio::piped()).spawn().expect("ip runs");
    await_that("the flood has come", || counted(&far.counters(), "handshake_throttled") > RATE / 10);
    let near = lab.start_box("--mode balance-rr");
    near.await_log("sealed with ");
    lab.await_answer();
    assert!(flood.try_wait().expect("asked").is_none(), "the flood was over before the box was in");
    let output = flood.wait_with_output().expect("it ends");
    assert_is_flood(&serde_json::from_slice(&output.stdout).expect("a report"));
}

#[test]
fn a_video_is_decoded_whole_meanwhile() {
    const SCENARIO: &str = r#"
name = "flooded"
duration = "10s"
traffic = { kind = "video", rate = "4mbit" }
[[uplink]]
name = "flooded"
delay = "20ms"
[[uplink]]
name = "b"
delay = "45ms"
"#;
    if !may_run() {
        return;
    }
    let flooding = thread::spawn(flood_when_the_gateway_is_up);
    let report = run_scenario(SCENARIO, &format!("--mode balance-rr {WINDOW}"));
    assert_is_flood(&flooding.join().expect("it has flooded"));
    let count = |key: &str| report[key].as_u64().unwrap_or_else(|| panic!("no {key}: {report:#}"));
    assert_eq!((count("lost"), count("reordered"), count("duplicated")), (0, 0, 0), "{report:#}");
    assert!(count("frames_expected") > 200, "{report:#}");
    assert_eq!((count("frames_decoded"), count("decode_errors")), (count("frames_expected"), 0), "{report:#}");
}

/// Floods the gateway that `braid-lab run` is about to start.
fn flood_when_the_gateway_is_up() -> Value {
    // Where `braid-lab run` has the keys of its run.
    let key = Path::new("/run/braid-lab/braid-gateway.key");
    // That of no other test's scenario.
    let provider = "braid-isp-flooded";
    let has_tap = || {
        let shown = Command::new("ip").args(["-n", GATEWAY, "link", "show", "dev", "braid0"]).output();
        shown.is_ok_and(|output| output.status.success())
    };
    // Other tests may have the lab first, each for as long as it takes.
    while !(Path::new("/run/netns").join(provider).exists() && has_tap() && key.exists()) {
        thread::sleep(Duration::from_millis(20));
    }
    let text = fs::read_to_string(key).expect("the lab's key");
    let public = PrivateKey::parse(text.trim()).expect("a key").public().to_string();
    prepare();
    let line = format!("netns exec {provider} {}", flood("mac1", &public, 8));
    let output = Command::new("ip").args(line.split_whitespace()).output().expect("ip runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("a report")
}
