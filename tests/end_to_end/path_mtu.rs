//! Uplinks that carry less than their interfaces say, and tell nobody.

use std::io::Read;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::lab::{BOX, GATEWAY, GATEWAY_ADDRESS, Lab, PATIENT, TWO, await_that};

/// How long the transfer takes, in seconds, and when one uplink begins to swallow long packets.
const SECONDS: u64 = 5;
const FALLS_AFTER: Duration = Duration::from_millis(1500);

fn tap_mtu(lab: &Lab, namespace: &str) -> u16 {
    let mtu = lab.run(namespace, "cat /sys/class/net/braid0/mtu").stdout;
    String::from_utf8_lossy(&mtu).trim().parse().expect("a number")
}

/// Megabits per second of each half second of a transfer, during which one of two uplinks comes to carry packets of up to
/// 1,300 bytes only.
fn transfer(lab: &Lab) -> Vec<f64> {
    let mut server = lab.command(GATEWAY, "iperf3 -s -1").stdout(Stdio::null()).spawn().expect("iperf3 runs");
    await_that("iperf3 listens", || {
        let listeners = lab.run(GATEWAY, "ss -H -l -t -n").stdout;
        String::from_utf8_lossy(&listeners).contains(":5201")
    });
    let line = format!("iperf3 -c {GATEWAY_ADDRESS} -t {SECONDS} -i 0.5 -J");
    let mut client = lab.command(BOX, &line).stdout(Stdio::piped()).spawn().expect("iperf3 runs");
    thread::sleep(FALLS_AFTER);
    lab.happen("b", "mtu 1300");
    let mut report = String::new();
    client.stdout.take().expect("piped").read_to_string(&mut report).expect("a report");
    client.wait().expect("it ends");
    server.wait().expect("it ends");
    let report: Value = serde_json::from_str(&report).expect("JSON");
    let intervals = report["intervals"].as_array().unwrap_or_else(|| panic!("{report}"));
    intervals.iter().map(|interval| interval["sum"]["bits_per_second"].as_f64().unwrap_or_default() / 1e6).collect()
}

#[test]
fn a_transfer_goes_on_when_an_uplink_begins_to_swallow_long_packets_and_the_tap_follows() {
    let scenario = TWO.replace("delay = \"5ms\"", "delay = \"5ms\"\nrate = \"20mbit\"");
    let scenario = scenario.replace("delay = \"15ms\"", "delay = \"15ms\"\nrate = \"20mbit\"");
    for mode in ["adaptive", "balance-rr"] {
        let Some(lab) = Lab::up(&scenario) else { return };
        let flags = if mode == "adaptive" { "--mode adaptive".to_owned() } else { format!("--mode {mode} {PATIENT}") };
        let (far, near) = lab.start_both(&flags);
        near.await_log_times("-> up: ", 2);
        assert_eq!([BOX, GATEWAY].map(|namespace| tap_mtu(&lab, namespace)), [1430; 2]);
        let rates = transfer(&lab);
        let log = format!("{mode}: {rates:?}\n{}\n{}", near.log(), far.log());
        assert!(log.contains("uplink b: carries IP packets of up to 1300 bytes"), "{log}");
        // 1,300 bytes less 70.
        assert_eq!([BOX, GATEWAY].map(|namespace| tap_mtu(&lab, namespace)), [1230; 2], "{log}");
        let after = &rates[FALLS_AFTER.as_millis() as usize / 500 + 2..];
        assert!(after.iter().all(|rate| *rate > 1.0), "it never stands still: {log}");
    }
}
