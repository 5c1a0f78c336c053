//! What the tunnel is for, by the lab's own count: streams over links that differ, lose and fail. Needs root.
//!
//! These tests hold what must never happen (loss where none is allowed, wrong order, duplicates). How fast and how
//! soon is measured by `braid-lab run`, and told in the README.

mod common;

use common::{is_root, run_scenario};
use serde_json::Value;

fn scenario(more: &str) -> String {
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

fn event(at: &str, uplink: &str, action: &str) -> String {
    format!("[[event]]\nat = \"{at}\"\nuplink = \"{uplink}\"\ndo = \"{action}\"\n")
}

fn count(report: &Value, key: &str) -> u64 {
    report[key].as_u64().unwrap_or_else(|| panic!("the report has no {key}"))
}

fn assert_in_order_and_once(report: &Value) {
    assert_eq!((count(report, "reordered"), count(report, "duplicated")), (0, 0), "{report:#}");
}

#[test]
fn striping_over_unlike_links_arrives_in_order_and_whole() {
    if !is_root() {
        return;
    }
    for direction in ["up", "down"] {
        let report = run_scenario(&scenario(""), &format!("--mode balance-rr --direction {direction}"));
        assert_in_order_and_once(&report);
        assert_eq!(count(&report, "lost"), 0, "{report:#}");
    }
}

#[test]
fn without_a_window_the_same_arrives_out_of_order() {
    if !is_root() {
        return;
    }
    let report = run_scenario(&scenario(""), "--mode balance-rr --window off");
    assert!(count(&report, "reordered") > count(&report, "offered") / 3, "{report:#}");
    assert_eq!((count(&report, "lost"), count(&report, "duplicated")), (0, 0), "{report:#}");
}

#[test]
fn broadcast_loses_nothing_whichever_uplink_fails_and_however() {
    if !is_root() {
        return;
    }
    for (uplink, fails, returns) in
        [("near", "blackhole", "restore"), ("far", "blackhole", "restore"), ("near", "carrier-down", "carrier-up")]
    {
        let events = event("1s", uplink, fails) + &event("2500ms", uplink, returns);
        let report = run_scenario(&(scenario("") + &events), "--mode broadcast");
        assert_in_order_and_once(&report);
        assert_eq!(count(&report, "lost"), 0, "{uplink} {fails}: {report:#}");
    }
}

#[test]
fn the_other_modes_lose_only_what_was_under_way_until_the_failure_was_noticed() {
    if !is_root() {
        return;
    }
    // At 760 datagrams a second: a quarter of a second's worth, on one uplink or on both.
    for (mode, uplink, most) in [("balance-rr", "near", 95), ("balance-rr", "far", 95), ("active-backup", "near", 190)]
    {
        let events = event("1s", uplink, "blackhole") + &event("2500ms", uplink, "restore");
        let report = run_scenario(&(scenario("") + &events), &format!("--mode {mode}"));
        assert_in_order_and_once(&report);
        assert!((1..=most).contains(&count(&report, "lost")), "{mode} {uplink}: {report:#}");
    }
}

#[test]
fn random_loss_on_one_uplink_costs_only_the_lost() {
    if !is_root() {
        return;
    }
    let report = run_scenario(&scenario("loss = \"2%\""), "--mode balance-rr");
    assert_in_order_and_once(&report);
    let taken = report["uplinks"][0]["up"]["lost"].as_u64().expect("a count");
    assert!((1..=taken).contains(&count(&report, "lost")), "the link took {taken}: {report:#}");
    let report = run_scenario(&scenario("loss = \"2%\""), "--mode broadcast");
    assert_in_order_and_once(&report);
    assert_eq!(count(&report, "lost"), 0, "the other uplink had them all: {report:#}");
}

#[test]
fn a_translation_that_forgets_its_ports_is_followed() {
    if !is_root() {
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
    if !is_root() {
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
