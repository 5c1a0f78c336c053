//! The comparison of tunnels: that it measures, and leaves nothing, whatever happens. Needs root, iperf3 and ping.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const LAB: &str = env!("CARGO_BIN_EXE_braid-lab");
/// How long anything may take to begin.
const PATIENCE: Duration = Duration::from_secs(20);

/// There is one bench at a time on a machine, and tests take turns.
static TURN: Mutex<()> = Mutex::new(());

/// Does `test` when it is its turn, if the machine lets it; says loudly if not.
fn with_bench(test: impl FnOnce()) {
    let is_root = fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
    let has_programs = ["iperf3", "ping", "ip"].iter().all(|program| is_installed(program));
    if !is_root || !has_programs || fs::metadata("/dev/net/tun").is_err() {
        eprintln!("SKIPPED: this test makes network namespaces, and needs root, /dev/net/tun, iperf3, ping and ip");
        assert!(std::env::var_os("CI").is_none(), "with CI=true no test of the bench may be skipped");
        return;
    }
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    test();
}

fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

fn bench() -> Command {
    let mut command = Command::new(LAB);
    // What must be installed is another test's affair.
    command.arg("bench").env_remove("CI");
    command
}

/// Whether braid's programs have been built beside the lab's, as `tools/test` does.
fn has_braid() -> bool {
    let folder = Path::new(LAB).parent().unwrap_or(Path::new("."));
    let is_built = ["braid-box", "braid-gateway"].iter().all(|program| folder.join(program).is_file());
    if !is_built {
        eprintln!("SKIPPED: braid-box and braid-gateway are not built: run tools/test");
        assert!(std::env::var_os("CI").is_none(), "with CI=true no test of the bench may be skipped");
    }
    is_built
}

fn leftovers() -> String {
    let listed = Command::new("ip").args(["netns", "list"]).output().expect("ip runs");
    let namespaces = String::from_utf8_lossy(&listed.stdout).into_owned();
    let mut left: Vec<&str> = namespaces.lines().filter(|name| name.starts_with("braid-bench")).collect();
    left.extend(Some("/run/braid-bench").filter(|folder| Path::new(folder).exists()));
    left.join(", ")
}

fn number(report: &Value, path: &str) -> f64 {
    report.pointer(path).and_then(Value::as_f64).unwrap_or_else(|| panic!("no {path} in {report:#}"))
}

#[test]
fn braid_is_measured_beside_the_bare_link() {
    with_bench(|| {
        if !has_braid() {
            return;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let file = |name: &str| -> PathBuf { folder.path().join(name) };
        let output = bench()
            .args(["--only", "raw,braid-balance-rr", "--rounds", "1", "--quick", "--json", "-"])
            .args(["--table".as_ref(), file("table.md").as_os_str(), "--chart".as_ref(), file("chart.svg").as_os_str()])
            .output()
            .expect("the lab runs");
        assert!(output.status.success(), "{output:?}");
        let report: Value = serde_json::from_slice(&output.stdout).expect("nothing but JSON");
        assert_eq!(report.pointer("/tunnels/1/name"), Some(&Value::from("braid-balance-rr")));
        for figure in ["tcp_mbps", "udp_mbps", "gso_mbps", "rtt_p50_us", "tcp_machine_core_seconds_per_gb"] {
            for tunnel in 0..2 {
                assert!(number(&report, &format!("/tunnels/{tunnel}/summary/{figure}/median")) > 0.0, "{report:#}");
            }
        }
        for figure in ["tcp_tunnel_core_seconds_per_gb", "video_cpu_percent", "memory_mib"] {
            assert!(number(&report, &format!("/tunnels/1/summary/{figure}/median")) > 0.0, "{report:#}");
        }
        for figure in ["udp_out_of_order", "udp_duplicated", "gso_out_of_order", "gso_duplicated"] {
            assert_eq!(number(&report, &format!("/tunnels/1/summary/{figure}/max")), 0.0, "{report:#}");
        }
        let table = fs::read_to_string(file("table.md")).expect("a table");
        assert!(table.starts_with("Linux ") && table.contains("| braid balance-rr"), "{table}");
        assert!(fs::read_to_string(file("chart.svg")).expect("a chart").contains("braid balance-rr"));
        assert_eq!(leftovers(), "");
    });
}

/// A bench that is measuring.
fn started(arguments: &[&str]) -> Child {
    let child = bench().args(arguments).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().expect("the lab runs");
    let begun = Instant::now();
    while !leftovers().contains("braid-bench-far") {
        assert!(begun.elapsed() < PATIENCE, "it does not begin");
        thread::sleep(Duration::from_millis(20));
    }
    thread::sleep(Duration::from_millis(300));
    child
}

#[test]
fn nothing_is_left_of_one_that_is_interrupted_or_killed() {
    with_bench(|| {
        let mut child = started(&["--only", "raw", "--rounds", "1"]);
        kill_process(Pid::from_child(&child), Signal::INT).expect("it runs");
        assert_eq!(child.wait().expect("it ends").code(), Some(1));
        assert_eq!(leftovers(), "");

        let mut child = started(&["--only", "raw", "--rounds", "1"]);
        let second = bench().args(["--only", "raw"]).output().expect("the lab runs");
        assert_told(&second, &["another bench is running"]);
        child.kill().expect("killed");
        child.wait().expect("it ends");
        assert_ne!(leftovers(), "", "nobody has cleared up");
        assert!(Command::new(LAB).arg("down").status().expect("the lab runs").success());
        assert_eq!(leftovers(), "");
    });
}

#[test]
fn a_tunnel_that_nobody_knows_is_a_wrong_command_line() {
    let output = bench().args(["--only", "carrier-pigeon"]).output().expect("the lab runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(["carrier-pigeon", "braid-balance-rr", "openvpn"].iter().all(|word| said.contains(word)), "{said}");
}

fn assert_told(output: &Output, culprits: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(culprits.iter().all(|culprit| said.contains(culprit)), "{culprits:?}: {said}");
}
