//! Uplinks that come, go, refuse, and carry less than others.

use std::thread;
use std::time::Duration;

use crate::lab::{BOX, GATEWAY, Lab, PATIENT, TWO, await_that, missing};

#[test]
fn a_box_reaches_a_gateway_that_hears_both_families_by_ipv4() {
    let Some(lab) = Lab::up(TWO) else { return };
    let _far = lab.start_gateway("--listen [::]:4754");
    let _near = lab.start_box("");
    lab.await_answer();
}

#[test]
fn an_interface_that_vanishes_and_comes_back_is_used_again() {
    let Some(lab) = Lab::up(TWO) else { return };
    let flags = "--mode broadcast";
    let (_far, near) = lab.start_both(flags);
    near.await_log_times("-> up: ", 2);
    let unplug = || {
        thread::sleep(Duration::from_millis(300));
        lab.happen("a", "interface-remove");
        // The kernel sets it down before it removes it, and may have done both by the time that the news are read.
        near.await_log("-> down: the interface is ");
    };
    assert_eq!(missing(&lab.stream(Lab::UP, 1500, unplug)), 0);
    // As a modem that is plugged in again: another interface, of the same name.
    lab.happen("a", "interface-add");
    near.await_log("uplink a: down -> probation");
    near.await_log("uplink a: probation -> up");
    assert_eq!(missing(&lab.stream(Lab::UP, 700, || {})), 0);
}

#[test]
fn a_lost_carrier_is_noticed_at_once_and_a_found_one_too() {
    let Some(lab) = Lab::up(TWO) else { return };
    let flags = &format!("--mode balance-rr {PATIENT}");
    let (_far, near) = lab.start_both(flags);
    near.await_log_times("-> up: ", 2);
    lab.run("braid-isp-b", "ip link set dev box down");
    near.await_log("-> down: no carrier");
    assert_eq!(missing(&lab.stream(Lab::UP, 700, || {})), 0);
    lab.run("braid-isp-b", "ip link set dev box up");
    near.await_log("uplink b: probation -> up");
    assert_eq!(missing(&lab.stream(Lab::UP, 700, || {})), 0);
}

#[test]
fn uplinks_come_back_from_a_gateway_that_was_gone_and_from_a_firewalls_no() {
    let Some(lab) = Lab::up(TWO) else { return };
    let flags = &format!("--mode balance-rr {PATIENT}");
    let (mut far, near) = (lab.start_gateway(flags), lab.start_box(flags));
    near.await_log_times("-> up: ", 2);
    far.kill();
    near.await_log_times("-> down: no sign of life", 2);
    let _far = lab.start_gateway(flags);
    near.await_log_times("-> up: ", 4);
    lab.await_answer();
    // A firewall's no is an errno too.
    lab.run(BOX, "nft add table inet t");
    lab.run(BOX, "nft add chain inet t out { type filter hook output priority 0 ; }");
    lab.run(BOX, "nft add rule inet t out oifname b udp dport 4754 drop");
    near.await_log("-> down: Operation not permitted");
    assert_eq!(missing(&lab.stream(Lab::UP, 500, || {})), 0);
    lab.run(BOX, "nft delete table inet t");
    near.await_log("uplink b: probation -> up");
}

#[test]
fn the_tap_takes_its_mtu_from_the_smallest_uplink_at_both_ends() {
    let Some(lab) = Lab::up(&TWO.replace("delay = \"15ms\"", "delay = \"15ms\"\nmtu = 1400")) else { return };
    let (_far, near) = lab.start_both("");
    assert!(near.log().contains("1400 - IP 20 - UDP 8 - GRE 12 - inner Ethernet 14 - tag 16 = 1330"), "{}", near.log());
    for namespace in [BOX, GATEWAY] {
        await_that("the MTU is 1330", || {
            let mtu = lab.run(namespace, "cat /sys/class/net/braid0/mtu").stdout;
            String::from_utf8_lossy(&mtu).trim() == "1330"
        });
    }
    lab.run(BOX, "ping -q -c 2 -W 2 -M do -s 1302 10.9.0.2");
    assert!(!near.counters().contains("path_mtu"), "{}", near.log());
}
