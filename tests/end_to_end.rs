//! Both ends for real: TAPs, UDP sockets, io_uring, namespaces, emulated links. Needs root.

mod common;

use std::io::{BufRead, BufReader};
use std::thread;
use std::time::Duration;

use common::{BOX, GATEWAY, Lab, await_that, is_root, missing};

/// Two uplinks of 5 and 15 ms.
const TWO: &str = r#"
name = "two"
duration = "1s"
[[uplink]]
name = "a"
delay = "5ms"
[[uplink]]
name = "b"
delay = "15ms"
"#;

const MODES: [&str; 3] = ["broadcast", "balance-rr", "active-backup"];

#[test]
fn every_mode_carries_both_directions_in_order_over_both_families() {
    if !is_root() {
        return;
    }
    let lab = Lab::up(TWO);
    for mode in MODES {
        for (gateway, listen) in [("203.0.113.1", "0.0.0.0:4754"), ("[2001:db8:ffff::1]:4754", "[::]:4754")] {
            let mut far = lab.start_gateway(&format!("--listen {listen} --mode {mode}"));
            let mut near = lab.start_box(&format!("--gateway {gateway} --mode {mode}"));
            near.await_log_times("-> up: ", 2);
            far.await_log_times("-> up: ", 2);
            await_that("a ping is answered", || lab.answers());
            for way in [Lab::UP, Lab::DOWN] {
                assert_eq!(missing(&lab.stream(way, 700, || {})), 0, "{mode} {gateway} {way:?}");
            }
            assert_eq!((near.stop(), far.stop()), (Some(0), Some(0)));
        }
    }
}

#[test]
fn a_box_reaches_a_gateway_that_hears_both_families_by_ipv4() {
    if !is_root() {
        return;
    }
    let lab = Lab::up(TWO);
    let _far = lab.start_gateway("--listen [::]:4754");
    let _near = lab.start_box("");
    await_that("a ping is answered", || lab.answers());
}

#[test]
fn after_sigterm_nothing_is_left() {
    if !is_root() {
        return;
    }
    let lab = Lab::up(TWO);
    let (mut far, mut near) = (lab.start_gateway(""), lab.start_box(""));
    await_that("a ping is answered", || lab.answers());
    assert_eq!((near.stop(), far.stop()), (Some(0), Some(0)));
    for namespace in [BOX, GATEWAY] {
        let links = lab.run(namespace, "ip link").stdout;
        assert!(!String::from_utf8_lossy(&links).contains("braid0"), "the TAP is gone");
        let sockets = lab.run(namespace, "cat /proc/net/udp /proc/net/udp6").stdout;
        assert_eq!(String::from_utf8_lossy(&sockets).lines().count(), 2, "no socket is left");
    }
    assert!(far.log().contains("the peer has stopped"), "{}", far.log());
}

#[test]
fn a_tap_made_before_is_taken_over_and_given_back_as_it_was() {
    if !is_root() {
        return;
    }
    let lab = Lab::up(TWO);
    lab.run(BOX, "ip tuntap add dev braid0 mode tap");
    lab.run(BOX, "ip link set dev braid0 address 02:00:5e:00:53:01");
    lab.run(BOX, "ip addr add 192.0.2.1/24 dev braid0");
    let (_far, mut near) = (lab.start_gateway(""), lab.start_box(""));
    await_that("a ping is answered", || lab.answers());
    assert_eq!(near.stop(), Some(0));
    let left = lab.run(BOX, "ip addr show dev braid0").stdout;
    let left = String::from_utf8_lossy(&left);
    assert!(left.contains("02:00:5e:00:53:01") && left.contains("192.0.2.1"), "{left}");
    assert!(!left.contains(common::BOX_ADDRESS), "{left}");
}

#[test]
fn either_end_may_be_killed_and_comes_back() {
    if !is_root() {
        return;
    }
    let lab = Lab::up(TWO);
    for mode in ["broadcast", "balance-rr"] {
        let flags = format!("--mode {mode}");
        let (mut far, mut near) = (lab.start_gateway(&flags), lab.start_box(&flags));
        await_that("a ping is answered", || lab.answers());
        // Long enough for a receiver to be far ahead of where a restarted sender begins.
        assert_eq!(missing(&lab.stream(Lab::UP, 1000, || {})), 0);
        near.kill();
        near = lab.start_box(&flags);
        await_that("a ping is answered", || lab.answers());
        far.await_log("the peer has restarted");
        near.await_log_times("-> up: ", 2);
        assert_eq!(missing(&lab.stream(Lab::UP, 700, || {})), 0, "{mode}: after the box was killed");
        far.kill();
        far = lab.start_gateway(&flags);
        near.await_log("the peer has restarted");
        await_that("a ping is answered", || lab.answers());
        far.await_log_times("-> up: ", 2);
        near.await_log_times("-> up: ", 4);
        assert_eq!(missing(&lab.stream(Lab::DOWN, 700, || {})), 0, "{mode}: after the gateway was killed");
        (near.stop(), far.stop());
    }
}

#[test]
fn an_interface_that_vanishes_and_comes_back_is_used_again() {
    if !is_root() {
        return;
    }
    let lab = Lab::up(TWO);
    let flags = "--mode broadcast";
    let (_far, near) = (lab.start_gateway(flags), lab.start_box(flags));
    near.await_log_times("-> up: ", 2);
    await_that("a ping is answered", || lab.answers());
    let unplug = || {
        thread::sleep(Duration::from_millis(300));
        lab.run(BOX, "ip link del dev a");
        near.await_log("uplink a: up -> down: the interface is gone");
    };
    assert_eq!(missing(&lab.stream(Lab::UP, 1500, unplug)), 0);
    // As a modem that is plugged in again: another interface, of the same name.
    lab.run(BOX, "ip link add name a type veth peer name box netns braid-isp-a");
    lab.run(BOX, "ip link set dev a up");
    lab.run(BOX, "ip addr add 10.101.0.2/24 dev a");
    lab.run("braid-isp-a", "ip link set dev box up");
    lab.run("braid-isp-a", "ip addr add 10.101.0.1/24 dev box");
    for family in ["-4", "-6"] {
        let _ = lab.command("braid-isp-a", &format!("ip {family} rule del iif box lookup 100")).output();
        lab.run("braid-isp-a", &format!("ip {family} rule add iif box lookup 100"));
    }
    lab.run(BOX, "ip route replace default via 10.101.0.1 dev a metric 100");
    near.await_log("uplink a: down -> probation");
    near.await_log("uplink a: probation -> up");
    assert_eq!(missing(&lab.stream(Lab::UP, 700, || {})), 0);
}

#[test]
fn a_lost_carrier_is_noticed_at_once_and_a_found_one_too() {
    if !is_root() {
        return;
    }
    let lab = Lab::up(TWO);
    let flags = "--mode balance-rr";
    let (_far, near) = (lab.start_gateway(flags), lab.start_box(flags));
    near.await_log_times("-> up: ", 2);
    await_that("a ping is answered", || lab.answers());
    lab.run("braid-isp-b", "ip link set dev box down");
    near.await_log("uplink b: up -> down: no carrier");
    assert_eq!(missing(&lab.stream(Lab::UP, 700, || {})), 0);
    lab.run("braid-isp-b", "ip link set dev box up");
    near.await_log("uplink b: probation -> up");
    assert_eq!(missing(&lab.stream(Lab::UP, 700, || {})), 0);
}

#[test]
fn a_refused_uplink_is_down_and_tried_again() {
    if !is_root() {
        return;
    }
    let lab = Lab::up(TWO);
    let flags = "--mode balance-rr";
    let (mut far, near) = (lab.start_gateway(flags), lab.start_box(flags));
    near.await_log_times("-> up: ", 2);
    far.kill();
    near.await_log("Connection refused");
    let _far = lab.start_gateway(flags);
    near.await_log_times("-> up: ", 4);
    await_that("a ping is answered", || lab.answers());
    // A firewall's no is an errno too.
    lab.run(BOX, "nft add table inet t");
    lab.run(BOX, "nft add chain inet t out { type filter hook output priority 0 ; }");
    lab.run(BOX, "nft add rule inet t out oifname b udp dport 4754 drop");
    near.await_log("uplink b: up -> down: Operation not permitted");
    assert_eq!(missing(&lab.stream(Lab::UP, 500, || {})), 0);
    lab.run(BOX, "nft delete table inet t");
    near.await_log("uplink b: probation -> up");
}

#[test]
fn the_tap_takes_its_mtu_from_the_smallest_uplink_at_both_ends() {
    if !is_root() {
        return;
    }
    let lab = Lab::up(&TWO.replace("delay = \"15ms\"", "delay = \"15ms\"\nmtu = 1400"));
    let (_far, near) = (lab.start_gateway(""), lab.start_box(""));
    await_that("a ping is answered", || lab.answers());
    assert!(near.log().contains("1400 - IP 20 - UDP 8 - GRE 8 - inner Ethernet 14 = 1350"), "{}", near.log());
    for namespace in [BOX, GATEWAY] {
        await_that("the MTU is 1350", || {
            let mtu = lab.run(namespace, "cat /sys/class/net/braid0/mtu").stdout;
            String::from_utf8_lossy(&mtu).trim() == "1350"
        });
    }
    lab.run(BOX, "ping -q -c 2 -W 2 -M do -s 1322 10.9.0.2");
    assert!(!near.counters().contains("path_mtu"), "{}", near.log());
}

#[test]
fn foreign_datagrams_are_dropped_counted_and_not_answered() {
    if !is_root() {
        return;
    }
    let lab = Lab::up(TWO);
    let (far, _near) = (lab.start_gateway(""), lab.start_box(""));
    await_that("a ping is answered", || lab.answers());
    let garbage = [
        "",
        "1000",
        "10006558",
        "1000655800000001aabb",
        "1001655800000001",
        "9000655800000001",
        "1000080000000001",
        "3000655800000001",
        "300088b60000000100000001",
        "300088b60000000000000001ffff",
        "1000655800000001ffffffffffff0200000000010800450000000000",
    ];
    // From an address that no probe has vouched for; what comes back is looked at by the same script.
    let script = "import socket,sys\ns=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)\ns.settimeout(0.3)\n\
                  for h in sys.argv[1:]:\n s.sendto(bytes.fromhex(h),('203.0.113.1',4754))\n\
                  try:\n s.recv(2000)\n print('answered')\nexcept TimeoutError:\n print('silence')\n";
    let output = lab.command(BOX, "python3 -c").arg(script).args(garbage).output().expect("python3 runs");
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "silence", "{output:?}");
    let counters = far.counters();
    for (reason, count) in [
        ("truncated", 4),
        ("runt", 1),
        ("version", 1),
        ("checksum_or_routing", 1),
        ("protocol_type", 1),
        ("reserved_bits", 1),
        ("unknown_session", 1),
        ("unknown_source", 1),
    ] {
        assert!(counters.contains(&format!(" {reason}={count}")), "{reason}: {counters}");
    }
    assert!(lab.answers(), "and the tunnel is none the worse for it");
}

#[test]
fn a_tap_in_use_is_told_and_one_that_is_let_go_is_waited_for() {
    if !is_root() {
        return;
    }
    let lab = Lab::up(TWO);
    let mut far = lab.start_gateway("");
    let flags = "--listen 0.0.0.0:4999 --tap braid0 --plaintext";
    let second = lab.command(GATEWAY, &format!("{} {flags}", common::program("braid-gateway").display())).output();
    let second = second.expect("ip runs");
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(second.status.code() == Some(1) && said.contains("'braid0' is in use"), "{said}");
    far.kill();
    lab.start_gateway("");
}

#[test]
fn without_permission_it_says_what_is_needed() {
    if !is_root() {
        return;
    }
    // The folder of the build may be closed to others; a copy is not.
    let folder = tempfile::tempdir().expect("a folder");
    let copy = folder.path().join("braid-gateway");
    std::fs::copy(common::program("braid-gateway"), &copy).expect("copied");
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder.path(), open).expect("opened");
    let output = std::process::Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"])
        .arg(&copy)
        .args(["--listen", "127.0.0.1:14755", "--tap", "braidtest1", "--plaintext"])
        .output()
        .expect("setpriv runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && said.contains("CAP_NET_ADMIN") && said.contains("braidtest1"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[test]
fn readiness_is_notified_to_the_service_manager() {
    if !is_root() {
        return;
    }
    let lab = Lab::up(TWO);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("notify");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).expect("bound");
    socket.set_read_timeout(Some(Duration::from_secs(5))).expect("set");
    let line = format!("{} --listen 0.0.0.0:4754 --tap braid0 --plaintext", common::program("braid-gateway").display());
    let mut child = lab.command(GATEWAY, &line).env("NOTIFY_SOCKET", &path).spawn().expect("ip runs");
    let mut message = [0; 64];
    let length = socket.recv(&mut message).expect("a notification");
    assert_eq!(String::from_utf8_lossy(&message[..length]).trim(), "READY=1");
    child.kill().expect("killed");
    child.wait().expect("it ends");
}

/// Waits until tshark says that it captures.
fn await_capture(tshark: &mut std::process::Child) {
    let mut lines = BufReader::new(tshark.stderr.take().expect("piped")).lines();
    let begun = lines.by_ref().map_while(Result::ok).any(|line| line.contains("Capturing on"));
    assert!(begun, "tshark is needed: 'tools/test' installs it");
    // The rest is read, so that tshark never waits for a reader.
    thread::spawn(move || lines.for_each(drop));
}

#[test]
fn tshark_reads_frames_as_gre_that_carries_ethernet() {
    if !is_root() {
        return;
    }
    let lab = Lab::up(TWO);
    let (_far, _near) = (lab.start_gateway(""), lab.start_box("--uplink dev=a"));
    await_that("a ping is answered", || lab.answers());
    let file = tempfile::NamedTempFile::new().expect("a file");
    let capture = lab
        .command(GATEWAY, &format!("tshark -q -i a -a packets:30 -a duration:20 -w {}", file.path().display()))
        .stderr(std::process::Stdio::piped())
        .spawn();
    let mut capture = capture.expect("ip runs");
    await_capture(&mut capture);
    lab.run(BOX, "ping -q -c 20 -i 0.1 10.9.0.2");
    capture.wait().expect("tshark ends");
    let output = std::process::Command::new("tshark")
        .arg("-r")
        .arg(file.path())
        .args(["-Y", "icmp.type == 8 && gre", "-T", "fields"])
        .args([
            "-e",
            "udp.dstport",
            "-e",
            "gre.proto",
            "-e",
            "gre.sequence_number",
            "-e",
            "eth.type",
            "-e",
            "icmp.type",
        ])
        .output()
        .expect("tshark runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().next().unwrap_or_else(|| panic!("nothing was read: {output:?}"));
    let columns: Vec<&str> = line.split('\t').collect();
    assert_eq!((columns[0], columns[1], columns[4]), ("4754", "0x6558", "8"), "{text}");
    assert!(columns[3].contains("0x0800"), "the inner Ethernet frame is read too: {text}");
}

#[test]
fn pinned_and_spinning_it_works_as_well() {
    if !is_root() {
        return;
    }
    let lab = Lab::up(TWO);
    let flags = "--cpu 0 --busy-poll 50us";
    let (_far, _near) = (lab.start_gateway(flags), lab.start_box(flags));
    await_that("a ping is answered", || lab.answers());
    assert_eq!(missing(&lab.stream(Lab::UP, 700, || {})), 0);
}
