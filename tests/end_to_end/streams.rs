//! What the tunnel is for: streams over links that differ, lose and fail.
//!
//! These tests hold what must never happen (loss where none is allowed, wrong order, duplicates). How fast and how
//! soon is measured by `braid-lab run`, and told in the README.

use serde_json::Value;

use crate::lab::{Lab, PATIENT, TWO, may_run, missing, run_scenario};

const MODES: [&str; 3] = ["broadcast", "balance-rr", "active-backup"];

pub fn scenario(more: &str) -> String {
    format!(
        r#"
name = "test"
duration = "4s"
traffic = {{ kind = "cbr", rate = "8mbit" }}
[[uplink]]
name = "near"
delay = "20ms"
{more}
[[uplink]]
name = "far"
delay = "45ms"
"#
    )
}

pub fn event(at: &str, uplink: &str, action: &str) -> String {
    format!("[[event]]\nat = \"{at}\"\nuplink = \"{uplink}\"\ndo = \"{action}\"\n")
}

pub fn count(report: &Value, key: &str) -> u64 {
    report[key].as_u64().unwrap_or_else(|| panic!("the report has no {key}"))
}

pub fn assert_in_order_and_once(report: &Value) {
    assert_eq!((count(report, "reordered"), count(report, "duplicated")), (0, 0), "{report:#}");
}

#[test]
fn striping_over_unlike_links_arrives_in_order_and_whole() {
    if !may_run() {
        return;
    }
    for direction in ["up", "down"] {
        let report = run_scenario(&scenario(""), &format!("--mode balance-rr {PATIENT} --direction {direction}"));
        assert_in_order_and_once(&report);
        assert_eq!(count(&report, "lost"), 0, "{report:#}");
    }
}

#[test]
fn without_a_window_the_same_arrives_out_of_order() {
    if !may_run() {
        return;
    }
    let report = run_scenario(&scenario(""), "--mode balance-rr --window off");
    assert!(count(&report, "reordered") > count(&report, "offered") / 3, "{report:#}");
    assert_eq!((count(&report, "lost"), count(&report, "duplicated")), (0, 0), "{report:#}");
}

#[test]
fn a_video_is_decoded_whole_and_would_not_be_if_its_order_were_not_restored() {
    if !may_run() {
        return;
    }
    let text = scenario("").replace("kind = \"cbr\", rate = \"8mbit\"", "kind = \"video\", rate = \"4mbit\"");
    let report = run_scenario(&text, &format!("--mode balance-rr {PATIENT}"));
    assert_in_order_and_once(&report);
    let (expected, decoded) = (count(&report, "frames_expected"), count(&report, "frames_decoded"));
    assert!(expected > 60 && decoded == expected, "{report:#}");
    assert_eq!((count(&report, "lost"), count(&report, "decode_errors")), (0, 0), "{report:#}");
    let report = run_scenario(&text, "--mode balance-rr --window off");
    assert!(count(&report, "decode_errors_order") > 0, "{report:#}");
}

#[test]
fn broadcast_loses_nothing_whichever_uplink_fails_and_however() {
    if !may_run() {
        return;
    }
    for (uplink, fails, returns, direction) in [
        ("near", "blackhole", "restore", "up"),
        ("near", "blackhole", "restore", "down"),
        ("far", "blackhole", "restore", "up"),
        ("near", "carrier-down", "carrier-up", "up"),
        ("far", "carrier-down", "carrier-up", "down"),
    ] {
        let events = event("1s", uplink, fails) + &event("2500ms", uplink, returns);
        let flags = format!("--mode broadcast --direction {direction}");
        let report = run_scenario(&(scenario("") + &events), &flags);
        assert_in_order_and_once(&report);
        assert_eq!(count(&report, "lost"), 0, "{uplink} {fails} {direction}: {report:#}");
    }
}

#[test]
fn the_other_modes_lose_only_what_was_under_way_until_the_failure_was_noticed() {
    if !may_run() {
        return;
    }
    // At 760 datagrams a second: a quarter of a second's worth, on one uplink or on both.
    for (mode, uplink, direction, most) in [
        ("balance-rr", "near", "up", 95),
        ("balance-rr", "far", "up", 95),
        ("balance-rr", "near", "down", 95),
        ("active-backup", "near", "up", 190),
        ("active-backup", "near", "down", 190),
    ] {
        let events = event("1s", uplink, "blackhole") + &event("2500ms", uplink, "restore");
        let flags = format!("--mode {mode} --direction {direction}");
        let report = run_scenario(&(scenario("") + &events), &flags);
        assert_in_order_and_once(&report);
        assert!((1..=most).contains(&count(&report, "lost")), "{mode} {uplink} {direction}: {report:#}");
    }
}

#[test]
fn random_loss_on_one_uplink_costs_only_the_lost() {
    if !may_run() {
        return;
    }
    let report = run_scenario(&scenario("loss = \"2%\""), &format!("--mode balance-rr {PATIENT}"));
    assert_in_order_and_once(&report);
    let taken = report["uplinks"][0]["up"]["lost"].as_u64().expect("a count");
    assert!((1..=taken).contains(&count(&report, "lost")), "the link took {taken}: {report:#}");
    let report = run_scenario(&scenario("loss = \"2%\""), &format!("--mode broadcast {PATIENT}"));
    assert_in_order_and_once(&report);
    assert_eq!(count(&report, "lost"), 0, "the other uplink had them all: {report:#}");
}

#[test]
fn a_translation_that_forgets_its_ports_is_followed() {
    if !may_run() {
        return;
    }
    let events = event("1500ms", "near", "nat-rebind");
    for mode in ["balance-rr", "broadcast"] {
        let report = run_scenario(&(scenario("nat = true") + &events), &format!("--mode {mode}"));
        assert_in_order_and_once(&report);
        let most = if mode == "broadcast" { 0 } else { 60 };
        assert!(count(&report, "lost") <= most, "{mode}: {report:#}");
    }
}

#[test]
fn a_way_that_is_dead_in_one_direction_only_is_noticed_by_the_end_that_uses_it() {
    if !may_run() {
        return;
    }
    for (action, direction) in [("blackhole-up", "up"), ("blackhole-down", "down")] {
        let events = event("1s", "far", action);
        let flags = format!("--mode balance-rr --direction {direction}");
        let report = run_scenario(&(scenario("") + &events), &flags);
        assert_in_order_and_once(&report);
        assert!(count(&report, "lost") <= 95, "{action}: {report:#}");
    }
}

#[test]
fn every_mode_carries_both_directions_in_order_over_both_families() {
    let Some(lab) = Lab::up(TWO) else { return };
    for mode in MODES {
        for (gateway, listen) in [("203.0.113.1", "0.0.0.0:4754"), ("[2001:db8:ffff::1]:4754", "[::]:4754")] {
            let mut far = lab.start_gateway(&format!("--listen {listen} --mode {mode} {PATIENT}"));
            let mut near = lab.start_box(&format!("--gateway {gateway} --mode {mode} {PATIENT}"));
            near.await_log_times("-> up: ", 2);
            far.await_log_times("-> up: ", 2);
            lab.await_answer();
            for way in [Lab::UP, Lab::DOWN] {
                assert_eq!(missing(&lab.stream(way, 700, || {})), 0, "{mode} {gateway} {way:?}");
            }
            assert_eq!((near.stop(), far.stop()), (Some(0), Some(0)));
        }
    }
}

#[test]
fn pinned_and_spinning_it_works_as_well() {
    let Some(lab) = Lab::up(TWO) else { return };
    let flags = &format!("--cpu 0 --busy-poll 50us {PATIENT}");
    let (_far, _near) = lab.start_both(flags);
    assert_eq!(missing(&lab.stream(Lab::UP, 700, || {})), 0);
}
