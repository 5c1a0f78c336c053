//! Everything at once, drawn from a seed: `braid-lab chaos`, for less than a minute.

use std::process::Command;

use serde_json::Value;

use crate::lab::{may_run, program, take_turn};

#[test]
fn chaos_brings_nothing_twice_or_out_of_order_and_leaves_nothing() {
    if !may_run() {
        return;
    }
    let _turn = take_turn();
    let folder = tempfile::tempdir().expect("a folder");
    let output = Command::new(program("braid-lab"))
        .args(["chaos", "--seed", "1", "--duration", "14s", "--json", "-", "--output"])
        .arg(folder.path())
        .output()
        .expect("the lab runs");
    let said = String::from_utf8_lossy(&output.stderr);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{text}");
    let report: Value = serde_json::from_str(&text).expect("a report");
    for section in ["chaos_with_kills", "chaos_without_kills", "clean"] {
        for way in report[section].as_array().expect("both ways") {
            let count = |key: &str| way[key].as_u64().unwrap_or_else(|| panic!("no {key}: {way:#}"));
            assert_eq!((count("duplicated"), count("reordered")), (0, 0), "{section}: {way:#}");
            assert!(count("delivered") > count("offered") / 10, "something came through: {section}: {way:#}");
            assert!(section != "clean" || count("lost") == 0, "{section}: {way:#}");
        }
    }
    let kinds = report["events"].as_object().expect("events").len();
    assert!(kinds > 10, "{kinds} kinds of trouble are hardly chaos: {report:#}");
    assert!(report["restarts"]["box"].as_u64() > Some(0) || report["restarts"]["gateway"].as_u64() > Some(0));
}
