//! What an end can still do once it is ready: its job, and little else.

use std::fs;

use crate::lab::{BOX, End, GATEWAY, GATEWAY_ADDRESS, Lab, await_that};

/// CAP_NET_ADMIN alone.
const NET_ADMIN: u64 = 1 << 12;
const BOX_FLAGS: &str = "--gateway 203.0.113.1 --uplink dev=a --uplink dev=b --address 10.9.0.1/24 --plaintext";

/// A field of /proc/PID/status, in hexadecimal.
fn status(end: &End, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", end.pid())).expect("it runs");
    let value =
        status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t")).expect("the kernel has it");
    u64::from_str_radix(value, 16).expect("a number")
}

fn assert_left(end: &End, capabilities: u64) {
    for (name, expected) in [
        ("CapEff", capabilities),
        ("CapPrm", capabilities),
        ("CapInh", 0),
        ("CapAmb", 0),
        ("NoNewPrivs", 1),
        ("Seccomp", 2),
        ("Seccomp_filters", 1),
    ] {
        assert_eq!(status(end, name), expected, "{name}");
    }
}

fn await_mtu(lab: &Lab, namespace: &str, mtu: &str) {
    await_that("the MTU has followed", || {
        let found = lab.run(namespace, "cat /sys/class/net/braid0/mtu").stdout;
        String::from_utf8_lossy(&found).trim() == mtu
    });
}

/// The lab's way to the gateway by uplink `a`, which goes with the interface or its address.
fn give_route(lab: &Lab) {
    lab.run(BOX, "ip route add 203.0.113.1 via 10.77.0.2 dev a metric 1");
}

/// Sets uplink `a` down and up, and takes its address and gives it back; each time it must be used again.
fn take_and_give_back(lab: &Lab, near: &End) {
    lab.run(BOX, "ip link set dev a down");
    // By the interface's news, or by what a send says meanwhile.
    near.await_log("uplink a: up -> down: ");
    lab.run(BOX, "ip link set dev a up");
    give_route(lab);
    near.await_log("uplink a: probation -> up");
    lab.run(BOX, "ip address del 10.77.0.1/24 dev a");
    near.await_log("uplink a: sending from 10.77.1.1");
    let before = near.log().len();
    lab.run(BOX, "ip address add 10.77.0.1/24 dev a");
    give_route(lab);
    await_that("the address is used again", || near.log()[before..].contains("uplink a: sending from 10.77.0.1"));
    near.await_well(2);
    lab.await_answer();
}

/// Every uplink's receive buffer is larger than the system's bound on it, which takes a privilege to set.
fn assert_large_buffers(lab: &Lab) {
    let sockets = lab.run(BOX, "ss --udp --all --memory --numeric").stdout;
    let sockets = String::from_utf8_lossy(&sockets);
    assert_eq!(sockets.matches(",rb33554432,").count(), 2, "{sockets}");
}

fn assert_nothing_was_refused(ends: [&End; 2]) {
    for end in ends {
        assert!(!end.log().contains("Operation not permitted"), "{}", end.log());
    }
}

#[test]
fn an_end_that_is_ready_has_no_privileges_but_what_its_job_needs() {
    let Some(lab) = Lab::plain() else { return };
    let (mut far, near) = lab.start_both("");
    for end in [&far, &near] {
        assert_left(end, NET_ADMIN);
        assert_eq!(status(end, "CapBnd"), 0);
    }
    assert_eq!(far.stop(), Some(0));
    // Its MTU does not change, its TAP goes by itself, and it opens no socket again.
    let far = lab.start_gateway("--mtu 1400");
    assert_left(&far, 0);
    lab.await_answer();
}

#[test]
fn uplinks_come_back_and_the_mtu_follows_without_those_privileges() {
    let Some(lab) = Lab::plain() else { return };
    lab.run(BOX, "ip link set dev b mtu 1400");
    let (mut far, mut near) = lab.start_both("");
    near.await_log_times("-> up: ", 2);
    await_mtu(&lab, GATEWAY, "1330");
    take_and_give_back(&lab, &near);
    assert_large_buffers(&lab);
    assert_eq!(far.stop(), Some(0));
    let far = lab.start_gateway("--mtu 1300");
    await_mtu(&lab, BOX, "1300");
    assert_nothing_was_refused([&far, &near]);
    assert_eq!(near.stop(), Some(0));
}

#[test]
fn who_may_only_administer_the_network_can_run_both_ends() {
    let Some(lab) = Lab::plain() else { return };
    lab.run(BOX, "ip link set dev b mtu 1400");
    let far = lab.start_as_nobody(
        GATEWAY,
        "braid-gateway",
        &format!("--listen 0.0.0.0:4754 --address {GATEWAY_ADDRESS}/24 --plaintext"),
    );
    let near = lab.start_as_nobody(BOX, "braid-box", BOX_FLAGS);
    near.await_log_times("-> up: ", 2);
    for end in [&far, &near] {
        assert_left(end, NET_ADMIN);
    }
    await_mtu(&lab, GATEWAY, "1350");
    take_and_give_back(&lab, &near);
    assert_large_buffers(&lab);
    assert_nothing_was_refused([&far, &near]);
}

#[test]
fn a_tap_that_stays_is_given_back_without_the_addresses_of_either_family() {
    let Some(lab) = Lab::plain() else { return };
    lab.run(BOX, "ip tuntap add dev braid0 mode tap");
    lab.run(BOX, "ip address add 192.0.2.1/24 dev braid0");
    let (far, mut near) = lab.start_both("--mtu 1400 --address fd00:9::1/64");
    assert_left(&far, 0);
    assert_eq!(near.stop(), Some(0));
    let left = lab.run(BOX, "ip address show dev braid0").stdout;
    let left = String::from_utf8_lossy(&left);
    assert!(left.contains("192.0.2.1") && !left.contains("10.9.0.1") && !left.contains("fd00:9::1"), "{left}");
    assert_nothing_was_refused([&far, &near]);
}
