//! An uplink's monthly budget of data: counted by real sockets, spent, and not forgotten.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use crate::adaptive::{PATIENT, sent_by};
use crate::lab::{End, Lab, TWO, missing};

/// Bytes, of which the shortest stream here takes more.
const BUDGET: u64 = 1_000_000;

/// What is kept of the one uplink that has a budget: the more of its two lines.
fn kept(usage: &Path) -> u64 {
    let text = fs::read_to_string(usage).expect("made by the box");
    let lines = text.lines().filter_map(|line| line.split_once(" used=")?.1.split(' ').next()?.parse().ok());
    lines.max().expect("a line that says it")
}

/// A stream goes through whole, and next to nothing of it by the uplink whose budget is spent.
fn assert_spared(lab: &Lab, near: &End, meanwhile: impl FnOnce()) {
    let before = sent_by(near, "a");
    assert_eq!(missing(&lab.stream(Lab::UP, 1500, meanwhile)), 0);
    let used = sent_by(near, "a") - before;
    assert!(used < 20, "{used} frames went by the uplink whose budget is spent");
}

#[test]
fn a_budget_is_spent_the_stream_goes_on_by_the_other_uplink_and_no_restart_forgets_it() {
    let Some(lab) = Lab::up(TWO) else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let usage = folder.path().join("made").join("braid0.usage");
    let flags = format!("{PATIENT} --uplink dev=a,budget=1mb --uplink dev=b --usage-file {}", usage.display());
    let (_far, mut near) = (lab.start_gateway(PATIENT), lab.start_box(&flags));
    near.await_log_times("-> up: ", 2);
    lab.await_answer();
    near.await_log("0.00 MB of its data budget of 1.00 MB are used");
    assert_eq!(missing(&lab.stream(Lab::UP, 5000, || {})), 0);
    near.await_log("uplink a: its data budget of 1.00 MB is spent");
    assert!(sent_by(&near, "a") > 700, "it was the better one, and used as long as it could be");
    assert_spared(&lab, &near, || {});

    assert_eq!(near.stop(), Some(0));
    let used = kept(&usage);
    assert!((BUDGET..3 * BUDGET).contains(&used), "{used}");
    for ends_in_a_crash in [true, false] {
        near = lab.start_box(&flags);
        near.await_log("uplink a: its data budget of 1.00 MB is spent");
        near.await_log_times("-> up: ", 2);
        lab.await_answer();
        assert_spared(&lab, &near, || {});
        if ends_in_a_crash {
            near.kill();
        }
    }
    assert!(kept(&usage) >= used);

    let before = sent_by(&near, "a");
    let fail = || {
        thread::sleep(Duration::from_millis(500));
        lab.happen("b", "blackhole");
    };
    assert_eq!(missing(&lab.stream(Lab::UP, 1500, fail)), 0);
    assert!(sent_by(&near, "a") - before > 200, "it is there when there is no other");
    assert!(!near.log().contains("cannot write"), "{}", near.log());
}
