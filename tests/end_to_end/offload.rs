//! Super-frames, and datagrams by the dozen: nobody behind a TAP can tell, and the kernel is the judge.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use crate::lab::{BOX, End, GATEWAY, GATEWAY_ADDRESS, Lab, PATIENT, await_that};

/// Sends and sees frames as they are; see there.
const FRAMES: &str = include_str!("frames.py");
/// Carries bytes and datagrams through sockets; see there.
const SOCKETS: &str = include_str!("sockets.py");

/// What is on an interface, as `frames.py see` prints it.
struct Sight {
    child: Child,
    lines: Receiver<String>,
}

impl Sight {
    fn of(lab: &Lab, namespace: &str, device: &str) -> Self {
        let mut child = python(lab, namespace, FRAMES, &["see", device])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 runs");
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let (sender, lines) = channel();
        thread::spawn(move || stdout.lines().map_while(Result::ok).all(|line| sender.send(line).is_ok()));
        assert_eq!(lines.recv().expect("it says so"), "ready");
        Self { child, lines }
    }

    /// All that has been seen, once nothing more comes.
    fn end(mut self) -> Vec<String> {
        let mut seen = vec![];
        while let Ok(line) = self.lines.recv_timeout(Duration::from_millis(700)) {
            seen.push(line);
        }
        drop(self.child.stdin.take());
        self.child.wait().expect("it ends");
        seen
    }
}

/// A Python script that runs in a namespace.
pub fn python(lab: &Lab, namespace: &str, script: &str, arguments: &[&str]) -> Command {
    let mut command = lab.command(namespace, "python3 -c");
    command.arg(script).args(arguments);
    command
}

fn must_run(mut command: Command) -> String {
    let output = command.output().expect("it runs");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Joins an interface that can do nothing by itself, so that the kernel cuts what goes there and finishes checksums.
fn add_plain_interface(lab: &Lab, namespace: &str, near: &str, far: &str) {
    lab.run(namespace, &format!("ip link add name {near} mtu 9000 type veth peer name {far} mtu 9000"));
    for device in [near, far] {
        lab.run(namespace, &format!("ethtool -K {device} tso off gso off tx off tx-udp-segmentation off txvlan off"));
        lab.run(namespace, &format!("sysctl -qw net.ipv6.conf.{device}.disable_ipv6=1"));
        lab.run(namespace, &format!("ip link set dev {device} up"));
    }
}

/// How many bytes the longest of these frames has.
fn longest(frames: &[String]) -> usize {
    frames.iter().map(|frame| frame.len() / 2).max().unwrap_or(0)
}

/// Where what was seen first differs from what was sent.
fn difference(sent: &[String], seen: &[String]) -> String {
    let at = sent.iter().zip(seen).take_while(|(sent, seen)| sent == seen).count();
    let (one, other) = (sent.get(at).map_or("", String::as_str), seen.get(at).map_or("", String::as_str));
    let place = one.bytes().zip(other.bytes()).take_while(|(one, other)| one == other).count();
    let around =
        |frame: &str| format!("{} bytes, {:.200}... {:.16}", frame.len() / 2, frame, &frame[place.min(frame.len())..]);
    format!(
        "{} sent, {} seen; number {at} differs at byte {}:\nsent {}\nseen {}",
        sent.len(),
        seen.len(),
        place / 2,
        around(one),
        around(other)
    )
}

#[test]
fn whatever_frames_go_in_come_out_as_the_kernel_itself_would_have_cut_them() {
    let Some(lab) = Lab::plain() else { return };
    // What the kernel makes of the frames by itself is seen at `alone-far`; what it makes of what comes out of the
    // tunnel, behind a bridge, at `behind-far`.
    add_plain_interface(&lab, BOX, "alone", "alone-far");
    add_plain_interface(&lab, GATEWAY, "behind", "behind-far");
    lab.run(GATEWAY, "ip link add name bridge type bridge");
    lab.run(GATEWAY, "sysctl -qw net.ipv6.conf.bridge.disable_ipv6=1");
    // Filters of bridged packets would take padding off.
    if Path::new("/proc/sys/net/bridge").exists() {
        for family in ["iptables", "ip6tables"] {
            lab.run(GATEWAY, &format!("sysctl -qw net.bridge.bridge-nf-call-{family}=0"));
        }
    }
    lab.run(GATEWAY, "ip link set dev bridge up");
    lab.run(GATEWAY, "ip link set dev behind master bridge");
    let mut merged = BTreeMap::new();
    for (seed, (near, far)) in [
        ("", ""),
        ("--offload none", ""),
        ("", "--offload none"),
        ("--offload tap", "--offload gro"),
        ("--offload gso,gro", "--offload tap,gso"),
        ("--offload none", "--offload none"),
    ]
    .into_iter()
    .enumerate()
    {
        let common = format!("--mode balance-rr {PATIENT}");
        let (_far, near_end) =
            (lab.start_gateway(&format!("{common} {far}")), lab.start_box(&format!("{common} {near}")));
        lab.await_answer();
        lab.run(GATEWAY, "ip link set dev braid0 master bridge");
        let (alone, behind) = (Sight::of(&lab, BOX, "alone-far"), Sight::of(&lab, GATEWAY, "behind-far"));
        let at_the_tap = Sight::of(&lab, GATEWAY, "braid0");
        for device in ["alone", "braid0"] {
            must_run(python(&lab, BOX, FRAMES, &["send", device, &seed.to_string()]));
        }
        let (sent, seen) = (alone.end(), behind.end());
        assert!(sent.len() > 1000, "the kernel has cut them: {}", sent.len());
        assert!(sent == seen, "{near:?} {far:?}: {}\n{}", difference(&sent, &seen), near_end.counters());
        merged.insert((near, far), longest(&at_the_tap.end()));
    }
    let longest_with = |near, far| merged[&(near, far)];
    assert!(longest_with("", "") > 10_000, "frames were merged: {merged:?}");
    assert!(longest_with("", "--offload none") < 1500, "frames were not merged: {merged:?}");
}

/// Starts what takes, in the gateway's namespace, and waits until it is ready.
fn take(lab: &Lab, arguments: &[&str]) -> (Child, BufReader<std::process::ChildStdout>) {
    let mut child = python(lab, GATEWAY, SOCKETS, arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 runs");
    let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
    let mut line = String::new();
    stdout.read_line(&mut line).expect("it says so");
    assert_eq!(line, "ready\n");
    (child, stdout)
}

/// Carries so many megabytes by TCP to an address of the gateway's, which must come as they are.
fn carry_bytes(lab: &Lab, address: &str, megabytes: &str) {
    let (mut taker, mut taken) = take(lab, &["take", "tcp", address]);
    let given = must_run(python(lab, BOX, SOCKETS, &["give", "tcp", address, megabytes]));
    let mut digest = String::new();
    taken.read_to_string(&mut digest).expect("it says what came");
    taker.wait().expect("it ends");
    assert!(given.len() > 64 && digest == given, "{address}: {given} was sent, {digest} came");
}

/// Carries datagrams of all sizes and kinds, which must come once, in order and as they are.
fn carry_datagrams(lab: &Lab, address: &str, gro: &str) {
    let (mut taker, taken) = take(lab, &["take", "udp", address, gro]);
    let (sender, lines) = channel();
    thread::spawn(move || taken.lines().map_while(Result::ok).all(|line| sender.send(line).is_ok()));
    let given = must_run(python(lab, BOX, SOCKETS, &["give", "udp", address]));
    let mut came = vec![];
    while let Ok(line) = lines.recv_timeout(Duration::from_millis(700)) {
        came.push(line);
    }
    drop(taker.stdin.take());
    taker.wait().expect("it ends");
    let given: Vec<String> = given.lines().map(str::to_owned).collect();
    assert!(given.len() > 1000);
    assert!(given == came, "{address} {gro}: {}", difference(&given, &came));
}

/// Errors that the kernel has counted in checksums of what it was to deliver.
fn checksum_errors(lab: &Lab) -> Vec<String> {
    let counted = [BOX, GATEWAY].map(|namespace| must_run(lab.command(namespace, "nstat -asz")));
    let lines = counted.iter().flat_map(|text| text.lines());
    let errors = lines.filter(|line| line.contains("CsumErrors")).map(str::to_owned).collect::<Vec<_>>();
    assert!(errors.len() >= 6, "nstat tells of them: {counted:?}");
    errors.into_iter().filter(|line| line.split_whitespace().nth(1) != Some("0")).collect()
}

#[test]
fn bytes_and_datagrams_come_as_they_are_by_ipv4_and_ipv6() {
    let Some(lab) = Lab::plain() else { return };
    let flags = |host| format!("--mode balance-rr {PATIENT} --address fd09::{host}/64");
    let (far, near) = (lab.start_gateway(&flags(2)), lab.start_box(&flags(1)));
    lab.await_answer();
    for address in [GATEWAY_ADDRESS, "fd09::2"] {
        carry_bytes(&lab, address, "30");
        carry_datagrams(&lab, address, "");
    }
    carry_datagrams(&lab, GATEWAY_ADDRESS, "gro");
    assert_eq!(checksum_errors(&lab), [""; 0]);
    for end in [&far, &near] {
        let counters = end.counters();
        assert!(counters.contains(" lost=0 "), "{counters}");
        assert!(!counters.contains("super_frame") && !counters.contains("tap_refused"), "{counters}");
        assert!(!end.log().contains("by itself"), "nothing was refused: {}", end.log());
    }
}

/// Counts the packets of a capture that tshark finds to be so.
fn count(capture: &Path, filter: &str) -> usize {
    let mut tshark = Command::new("tshark");
    tshark.arg("-r").arg(capture).args(["-o", "tcp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE", "-Y", filter]);
    must_run(tshark).lines().count()
}

#[test]
fn every_datagram_fits_the_uplink_and_every_frame_in_it_is_whole() {
    let Some(lab) = Lab::plain() else { return };
    for uplink in ["a", "b"] {
        for namespace in [BOX, GATEWAY] {
            lab.run(namespace, &format!("ip link set dev {uplink} mtu 1400"));
        }
        // So that the kernel cuts runs before they can be seen.
        lab.run(BOX, &format!("ethtool -K {uplink} tx-udp-segmentation off"));
    }
    let (_far, near) = lab.start_both(&format!("--plaintext --mode balance-rr {PATIENT}"));
    let file = lab.capture("-B 64 -a packets:4000", || carry_bytes(&lab, GATEWAY_ADDRESS, "20"));
    let count = |filter: &str| count(file.path(), filter);
    assert!(count("gre && tcp.checksum.status == 1 && frame.len > 1350") > 2000, "frames that are full, and right");
    assert_eq!(count("tcp.checksum.status == 0"), 0, "and none whose checksum is wrong");
    // The first is of the outer header, which the interface would finish.
    assert_eq!(count("gre && ip.checksum.status == 0"), 0);
    assert_eq!(count("frame.len > 1414"), 0, "Ethernet's header and the MTU");
    assert_eq!(count("ip.flags.mf == 1 || ip.frag_offset > 0"), 0, "nothing was fragmented");
    near.assert_nothing_dropped();
}

#[test]
fn an_interface_that_refuses_runs_gets_datagrams_one_by_one_and_loses_none() {
    let Some(lab) = Lab::plain() else { return };
    // Without checksums by the interface some kernels cut runs themselves, and others refuse them.
    lab.run(BOX, "ethtool -K a tx off");
    let (_far, near) = lab.start_both(&format!("--mode balance-rr {PATIENT}"));
    carry_bytes(&lab, GATEWAY_ADDRESS, "10");
    carry_datagrams(&lab, GATEWAY_ADDRESS, "");
    near.assert_nothing_dropped();
    let refusals = near.log().matches("does not take several datagrams at once").count();
    assert!(refusals <= 1, "said once at most: {}", near.log());
}

#[test]
fn frames_that_an_uplink_cannot_carry_are_counted_until_they_go_by_another_and_the_others_pass() {
    let Some(lab) = Lab::plain() else { return };
    let (far, near) = lab.start_both(&format!("--mode active-backup --primary a {PATIENT}"));
    lab.run(BOX, "ip link set dev a mtu 1000");
    // Datagrams of 1,200 bytes by the dozen, which the TAP takes and the uplink does not; the last one of each run is short
    // enough for it. There are some until it is known that the uplink does not carry them.
    let many = "import socket,sys\ns=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)\ns.setsockopt(17,103,1200)\n\
                for _ in range(20):\n s.sendto(bytes(12300),('10.9.0.2',5002))\n";
    must_run(python(&lab, BOX, many, &[]));
    await_that("they are counted", || near.counters().contains(" path_mtu="));
    near.await_log("uplink a: carries IP packets of up to ");
    let long = lab.command(BOX, "ping -c 3 -i 0.5 -W 1 -M do -s 1200 10.9.0.2").output().expect("ping runs");
    let said = String::from_utf8_lossy(&long.stdout);
    assert!(long.status.success(), "{said}\n{}\n{}", near.counters(), far.counters());
    assert!(lab.answers(), "shorter ones pass");
    assert!(!near.log().contains("does not take several datagrams"), "which is not for being sent together");
    lab.run(BOX, "ip link set dev a mtu 1500");
    carry_bytes(&lab, GATEWAY_ADDRESS, "5");
}

/// The TAP as `ip -details` shows it.
fn tap_details(lab: &Lab) -> String {
    must_run(lab.command(BOX, "ip -details link show dev braid0"))
}

#[test]
fn a_tap_that_was_there_before_carries_super_frames_whatever_it_was_made_for() {
    let Some(lab) = Lab::plain() else { return };
    let _far = lab.start_gateway("--mode balance-rr");
    for flags in ["", "vnet_hdr"] {
        lab.run(BOX, &format!("ip tuntap add dev braid0 mode tap {flags}"));
        for offload in ["", "--offload none"] {
            let mut near: End = lab.start_box(&format!("--mode balance-rr {PATIENT} {offload}"));
            lab.await_answer();
            carry_bytes(&lab, GATEWAY_ADDRESS, "5");
            assert_eq!(tap_details(&lab).contains("vnet_hdr on"), offload.is_empty(), "{}", tap_details(&lab));
            assert_eq!(near.stop(), Some(0));
        }
        lab.run(BOX, "ip tuntap del dev braid0 mode tap");
    }
}
