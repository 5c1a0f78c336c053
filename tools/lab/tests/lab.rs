//! The lab by itself, without a tunnel: that its links are what was asked for, and that it leaves nothing. Needs root.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

const LAB: &str = env!("CARGO_BIN_EXE_braid-lab");

/// There is one lab on a machine, and tests take turns.
static TURN: Mutex<()> = Mutex::new(());

/// Does `test` when it is its turn, if the machine lets it; says loudly if not.
fn with_lab(test: impl FnOnce()) {
    let is_root = fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
    if !is_root || fs::metadata("/dev/net/tun").is_err() {
        eprintln!("SKIPPED: this test makes network namespaces, and needs root and /dev/net/tun");
        assert!(std::env::var_os("CI").is_none(), "with CI=true no test of the lab may be skipped");
        return;
    }
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    test();
}

fn scenario(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::Builder::new().suffix(".toml").tempfile().expect("a file");
    fs::write(file.path(), text).expect("written");
    file
}

/// One link without a tunnel, and what it did to a flow of this many Mbit/s.
fn bare_link(link: &str, mbit: u32) -> Value {
    let file = scenario(&format!(
        "name = \"bare\"\nduration = \"4s\"\ntraffic = {{ kind = \"cbr\", rate = \"{mbit}mbit\" }}\n[[uplink]]\nname = \"a\"\n{link}"
    ));
    let folder = tempfile::tempdir().expect("a folder");
    let output = Command::new(LAB)
        .args(["run", "--tunnel", "none", "--json", "-", "--output"])
        .args([folder.path(), file.path()])
        .output()
        .expect("the lab runs");
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).expect("a report")
}

/// The first report that is as wanted, of a few: machines that run tests are shared, and a moment without a CPU looks
/// like a slow link.
fn soon(mut report: impl FnMut() -> Value, is_as_wanted: impl Fn(&Value) -> bool) {
    const ATTEMPTS: usize = 6;
    let reports: Vec<Value> = (0..ATTEMPTS).map(|_| report()).take_while(|report| !is_as_wanted(report)).collect();
    assert!(reports.len() < ATTEMPTS, "{reports:#?}");
}

fn number(report: &Value, path: &str) -> f64 {
    report.pointer(path).and_then(Value::as_f64).unwrap_or_else(|| panic!("no {path} in {report:#}"))
}

#[test]
fn a_link_keeps_its_delay_within_a_millisecond() {
    with_lab(|| {
        soon(
            || bare_link("delay = \"20ms\"\n", 20),
            |report| {
                assert!(number(report, "/latency_ms/p50") >= 20.0, "never sooner than asked: {report:#}");
                number(report, "/latency_ms/p99") <= 21.0 && number(report, "/lost") == 0.0
            },
        );
    });
}

#[test]
fn a_link_carries_two_hundred_megabit() {
    with_lab(|| {
        soon(
            || bare_link("rate = \"250mbit\"\ndelay = \"10ms\"\n", 200),
            |report| number(report, "/goodput_mbps") >= 195.0 && number(report, "/lost") == 0.0,
        );
    });
}

#[test]
fn a_link_carries_no_more_than_its_rate_and_its_queue_is_as_long_as_asked() {
    with_lab(|| {
        soon(
            || bare_link("rate = \"4mbit\"\ndelay = \"10ms\"\nqueue = \"100ms\"\n", 8),
            |report| {
                let overflowed = number(report, "/uplinks/0/up/overflowed");
                assert_eq!(overflowed, number(report, "/lost"), "{report:#}");
                // 4 s at 4 Mbit/s, and what the queue holds at the end.
                let carried = number(report, "/uplinks/0/up/bytes") * 8.0 / 1e6;
                (15.0..=17.0).contains(&carried) && (110.0..=115.0).contains(&number(report, "/latency_ms/p99"))
            },
        );
    });
}

/// A lab brought up, as soon as it is.
fn up(file: &tempfile::NamedTempFile) -> Child {
    let mut lab = Command::new(LAB).arg("up").arg(file.path()).stdout(Stdio::piped()).spawn().expect("the lab runs");
    let mut line = String::new();
    BufReader::new(lab.stdout.as_mut().expect("piped")).read_line(&mut line).expect("a line");
    assert!(line.starts_with("up"), "{line}");
    lab
}

fn down() {
    assert!(Command::new(LAB).arg("down").status().expect("the lab runs").success());
}

fn namespaces() -> String {
    let listed = Command::new("ip").args(["netns", "list"]).output().expect("ip runs");
    String::from_utf8_lossy(&listed.stdout).into_owned()
}

const TWO: &str = "name = \"two\"\nduration = \"1s\"\n[[uplink]]\nname = \"a\"\n[[uplink]]\nname = \"b\"\n";

#[test]
fn down_leaves_nothing_even_of_a_lab_that_was_killed() {
    with_lab(|| {
        let file = scenario(TWO);
        for is_killed in [false, true] {
            let mut lab = up(&file);
            assert!(namespaces().contains("braid-isp-b"));
            // One that stays behind, as a tunnel would.
            let mut left =
                Command::new("ip").args(["netns", "exec", "braid-box", "sleep", "1000"]).spawn().expect("ip runs");
            if is_killed {
                lab.kill().expect("killed");
                lab.wait().expect("it ends");
                assert!(namespaces().contains("braid-isp-b"), "nobody has cleared up");
            }
            down();
            assert!(!namespaces().contains("braid-"), "{}", namespaces());
            left.wait().expect("what ran inside has ended");
            lab.wait().expect("it ends");
        }
        down();
    });
}

#[test]
fn there_is_one_lab_at_a_time() {
    with_lab(|| {
        let file = scenario(TWO);
        let mut lab = up(&file);
        let second = Command::new(LAB).arg("up").arg(file.path()).output().expect("the lab runs");
        assert_told(&second, 1, &["up already", "braid-lab down"]);
        down();
        lab.wait().expect("it ends");
    });
}

#[test]
fn a_scenario_that_cannot_be_obeyed_is_told_in_one_line() {
    for (text, culprits) in [
        ("", &["uplink"][..]),
        ("duratoin = \"1s\"\n[[uplink]]\nname = \"a\"\n", &["line 3", "duratoin"]),
        ("[[uplink]]\nname = \"a\"\nrate = \"fast\"\n", &["rate", "fast"]),
        ("[[uplink]]\nname = \"a\"\ntrace = \"nosuch.up\"\n", &["nosuch.up"]),
        ("[[uplink]]\nname = \"a\"\n[[event]]\nat = \"1s\"\nuplink = \"b\"\ndo = \"restore\"\n", &["'b'"]),
        ("[[uplink]]\nname = \"a\"\n[[event]]\nat = \"1s\"\nuplink = \"a\"\ndo = \"explode\"\n", &["explode"]),
    ] {
        let file = scenario(&format!("name = \"x\"\nduration = \"1s\"\n{text}"));
        let output = Command::new(LAB).arg("run").arg(file.path()).output().expect("the lab runs");
        assert_told(&output, 2, culprits);
    }
    let output = Command::new(LAB).args(["run", "no-such-scenario"]).output().expect("the lab runs");
    assert_told(&output, 2, &["no-such-scenario", "demo"]);
}

#[test]
fn nothing_is_flooded_outside_the_lab() {
    let output = Command::new(LAB).args(["flood", "--to", "127.0.0.1:9"]).output().expect("the lab runs");
    assert_told(&output, 2, &["stay in the lab"]);
}

fn assert_told(output: &Output, code: i32, culprits: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(culprits.iter().all(|culprit| said.contains(culprit)), "{culprits:?}: {said}");
}
