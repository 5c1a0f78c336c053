//! What the two programs say to a command line that cannot be obeyed: one line, what is wrong, and how to mend it.

use std::process::{Command, Output};

const BOX: &str = env!("CARGO_BIN_EXE_braid-box");
const GATEWAY: &str = env!("CARGO_BIN_EXE_braid-gateway");

/// Enough for a box to start, but for what a case adds or changes.
const BOX_MINIMUM: &str = "--gateway 192.0.2.1 --uplink dev=lo --tap braidtest0 --plaintext";
const GATEWAY_MINIMUM: &str = "--listen 127.0.0.1:14754 --tap braidtest0 --plaintext";

fn run(program: &str, arguments: &str) -> Output {
    Command::new(program).args(arguments.split_whitespace()).output().expect("the program runs")
}

/// The one line on standard error, after the program's name.
fn refusal(program: &str, arguments: &str, code: i32) -> String {
    let output = run(program, arguments);
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(output.status.code(), Some(code), "{arguments}: {said}");
    assert_eq!(said.lines().count(), 1, "{arguments}: {said}");
    assert!(output.stdout.is_empty(), "{arguments}");
    let name = program.rsplit('/').next().expect("a name");
    said.strip_prefix(&format!("{name}: ")).unwrap_or_else(|| panic!("{said} does not begin with {name}")).to_owned()
}

#[test]
fn a_box_command_line_that_cannot_be_obeyed_is_told_in_one_line() {
    for (arguments, culprits) in [
        ("", &["--gateway"][..]),
        ("--gateway 192.0.2.1 --tap t0 --plaintext", &["--uplink dev=IF"]),
        ("--gateway 192.0.2.1 --uplink dev=lo --plaintext", &["--tap"]),
        ("--gateway 192.0.2.1 --uplink dev=lo --tap t0", &["keys", "--plaintext"]),
        ("--gatway 192.0.2.1", &["--gatway", "--gateway"]),
        ("--gateway 192.0.2.1:0", &["port 0"]),
        ("--gateway 192.0.2.1:99999", &["99999"]),
        ("--gateway a/b", &["a/b"]),
        ("--mode adaptive", &["adaptive", "broadcast, balance-rr, active-backup"]),
        ("--mode balance-xor", &["balance-xor", "broadcast"]),
        ("--window 40", &["--window", "'40ms'"]),
        ("--window 5s", &["--window", "2s"]),
        ("--window fast", &["--window", "fast"]),
        ("--mtu 100", &["--mtu", "576", "9000"]),
        ("--cpu many", &["--cpu", "many"]),
        ("--log loud", &["--log", "loud", "debug"]),
        ("--tap seventeen-letters0", &["--tap", "15"]),
        ("--address 10.9.0.1", &["--address", "/24"]),
        ("--address 10.9.0.1/33", &["--address", "33"]),
        ("--uplink wwan0", &["--uplink", "dev=wwan0"]),
        ("--uplink dev=a,cost=3", &["cost", "weight"]),
        ("--uplink dev=a,weight=0", &["weight", "255"]),
        ("--uplink dev=a,source=x", &["source", "x"]),
        ("--uplink dev=a,dev=b", &["twice"]),
        ("--config /nonexistent.toml", &["/nonexistent.toml"]),
        ("--key-file k", &["--key-file"]),
    ] {
        let said = refusal(BOX, arguments, 2);
        assert!(culprits.iter().all(|culprit| said.contains(culprit)), "{arguments}: {said}");
    }
}

#[test]
fn flags_that_would_do_nothing_or_contradict_are_refused() {
    for (more, culprits) in [
        ("--packets-per-uplink 2", &["--packets-per-uplink", "balance-rr"][..]),
        ("--primary lo", &["--primary", "active-backup"]),
        ("--mode active-backup --primary dsl", &["dsl", "none of the uplinks"]),
        ("--mode active-backup --primary-reselect always", &["--primary-reselect", "--primary"]),
        ("--uplink dev=lo", &["two uplinks", "name="]),
    ] {
        let said = refusal(BOX, &format!("{BOX_MINIMUM} {more}"), 2);
        assert!(culprits.iter().all(|culprit| said.contains(culprit)), "{more}: {said}");
    }
    let many: String = (0..17).map(|number| format!(" --uplink dev=u{number}")).collect();
    assert!(refusal(BOX, &format!("--gateway 192.0.2.1 --tap t0 --plaintext{many}"), 2).contains("16"));
}

#[test]
fn a_gateway_command_line_that_cannot_be_obeyed_is_told_in_one_line() {
    for (arguments, culprits) in [
        ("", &["--listen"][..]),
        ("--listen 4754 --tap t0 --plaintext", &["--listen", "ADDRESS:PORT"]),
        ("--listen 0.0.0.0:0", &["port 0"]),
        ("--listen 0.0.0.0:4754 --tap t0", &["--plaintext"]),
        ("--uplink dev=lo", &["--uplink"]),
    ] {
        let said = refusal(GATEWAY, arguments, 2);
        assert!(culprits.iter().all(|culprit| said.contains(culprit)), "{arguments}: {said}");
    }
}

#[test]
fn what_fails_at_run_time_exits_with_one() {
    for (program, arguments, culprits) in [
        (BOX, BOX_MINIMUM.replace("dev=lo", "dev=nosuch0"), &["nosuch0", "ip link"][..]),
        (BOX, BOX_MINIMUM.replace("192.0.2.1", "no.such.name.invalid"), &["no.such.name.invalid", "--gateway"]),
        (GATEWAY, GATEWAY_MINIMUM.replace("127.0.0.1", "192.0.2.77"), &["192.0.2.77", "--listen"]),
        (GATEWAY, format!("{GATEWAY_MINIMUM} --cpu 1000"), &["1000", "--cpu"]),
    ] {
        let said = refusal(program, &arguments, 1);
        assert!(culprits.iter().all(|culprit| said.contains(culprit)), "{arguments}: {said}");
    }
}

#[test]
fn help_and_version_are_for_standard_output() {
    for program in [BOX, GATEWAY] {
        let help = run(program, "--help");
        let text = String::from_utf8(help.stdout).expect("UTF-8");
        assert!(help.status.success() && text.contains("--window") && text.contains("Example:"), "{text}");
        assert!(!text.contains("adaptive") && !text.contains("--key-file"), "only what is built is offered");
        let version = run(program, "--version");
        assert!(String::from_utf8(version.stdout).expect("UTF-8").contains(env!("CARGO_PKG_VERSION")));
    }
}
