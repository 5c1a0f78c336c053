//! What is on the wire, and what must not get in from there.

use std::process::Command;

use crate::lab::{BOX, Lab, TWO};

#[test]
fn foreign_datagrams_are_dropped_counted_and_not_answered() {
    let Some(lab) = Lab::up(TWO) else { return };
    let (far, _near) = lab.start_both("--plaintext");
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
fn a_frame_longer_than_the_tunnel_carries_is_dropped_and_counted() {
    let Some(lab) = Lab::up(TWO) else { return };
    let (_far, near) = lab.start_both("");
    lab.run(BOX, "ip link set dev braid0 mtu 9000");
    let _ = lab.command(BOX, "ping -q -c 3 -i 0.1 -W 1 -M do -s 1600 10.9.0.2").output();
    let _ = lab.command(BOX, "ping -q -c 3 -i 0.1 -W 1 -M do -s 8000 10.9.0.2").output();
    assert!(near.counters().contains(" oversize=6"), "{}", near.log());
    assert!(lab.answers(), "and shorter ones pass");
}

#[test]
fn tshark_reads_frames_as_gre_that_carries_ethernet() {
    const FIELDS: [&str; 5] = ["udp.dstport", "gre.proto", "gre.sequence_number", "eth.type", "icmp.type"];
    let Some(lab) = Lab::up(TWO) else { return };
    let (_far, _near) = (lab.start_gateway("--plaintext"), lab.start_box("--plaintext --uplink dev=a"));
    lab.await_answer();
    let file = lab.capture("-a packets:30", || {
        lab.run(BOX, "ping -q -c 20 -i 0.1 10.9.0.2");
    });
    let output = Command::new("tshark")
        .arg("-r")
        .arg(file.path())
        .args(["-Y", "icmp.type == 8 && gre", "-T", "fields"])
        .args(FIELDS.iter().flat_map(|field| ["-e", field]))
        .output()
        .expect("tshark runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().next().unwrap_or_else(|| panic!("nothing was read: {output:?}"));
    let columns: Vec<&str> = line.split('\t').collect();
    assert_eq!((columns[0], columns[1], columns[4]), ("4754", "0x6558", "8"), "{text}");
    assert!(columns[3].contains("0x0800"), "the inner Ethernet frame is read too: {text}");
}

#[test]
fn tshark_finds_nothing_of_what_is_sealed() {
    const PATTERN: &str = "6272616964207365637265742121";
    let Some(lab) = Lab::up(TWO) else { return };
    let (_far, _near) = (lab.start_gateway(""), lab.start_box("--uplink dev=a"));
    lab.await_answer();
    let file = lab.capture("-a packets:60", || {
        lab.run(BOX, &format!("ping -q -c 20 -i 0.05 -s 1000 -p {PATTERN} 10.9.0.2"));
    });
    let bytes = std::fs::read(file.path()).expect("the capture");
    let secret = b"braid secret!!";
    assert!(bytes.len() > 20_000, "the pings were captured");
    assert!(!bytes.windows(secret.len()).any(|window| window == secret), "what was sent can be read");
    let output = Command::new("tshark")
        .arg("-r")
        .arg(file.path())
        .args(["-Y", "udp.port == 4754", "-T", "fields", "-e", "gre.proto", "-e", "gre.key"])
        .output()
        .expect("tshark runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines.iter().any(|line| line.starts_with("0x88b5\t0x")), "sealed frames are read as GRE: {text}");
    assert!(lines.iter().all(|line| line.starts_with("0x88b5\t") || line.starts_with("0x88b6\t")), "{text}");
}
