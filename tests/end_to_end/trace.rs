//! What enters and leaves an end that runs, as a capture file.

use std::process::{Command, Stdio};

use crate::lab::{BOX, GATEWAY_ADDRESS, Lab, program};

#[test]
fn a_ping_is_recorded_at_the_tap_and_at_an_uplink_both_ways() {
    let Some(lab) = Lab::plain() else { return };
    let (_far, near) = lab.start_both("--plaintext");
    near.await_well(2);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("trace.pcapng");
    let mut trace = Command::new(program("braidctl"));
    trace.arg("--control").arg(near.control()).args(["trace", "--for", "2s", "--output"]).arg(&file);
    let mut trace = trace.stdin(Stdio::null()).spawn().expect("braidctl runs");
    lab.run(BOX, &format!("ping -q -c 5 -i 0.2 {GATEWAY_ADDRESS}"));
    assert!(trace.wait().is_ok_and(|status| status.success()));
    let mut tshark = Command::new("tshark");
    tshark.arg("-r").arg(&file).args(["-Y", "icmp", "-T", "fields", "-E", "separator=|"]);
    let read = tshark.args(["-e", "frame.interface_name", "-e", "icmp.type"]).output().expect("tshark is needed");
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    let text = String::from_utf8_lossy(&read.stdout);
    // Type 8 is a request, 0 a reply.
    for (is_uplink, kind) in [(false, "8"), (true, "8"), (true, "0"), (false, "0")] {
        let is_so = |line: &str| {
            line.split_once('|').is_some_and(|(name, found)| found == kind && is_uplink == name.starts_with("braid0 "))
        };
        assert!(text.lines().any(is_so), "{is_uplink} {kind}: {text}");
    }
}
