//! Forged datagrams by the hundred thousand, from everywhere, and from the peer's own address. In plaintext all
//! that can be had is that nothing breaks; sealed, nothing may be felt.

use crate::lab::{End, Lab, PATIENT, TWO, missing, program};

/// What an end may have more after a second flood than after the first, in KiB: a few of the allocator's pages.
const GROWTH_KIB_MAX: u64 = 256;
/// Frames of the two ends themselves that may be lost while they find each other, or under way when they are counted.
const UNDER_WAY_MAX: u64 = 4;
/// What an end may log of all that, of tens of thousands of probes.
const LOG_LINES_MAX: usize = 2_000;
/// The provider of uplink `a`, from where both ends can be reached past the emulated link.
pub const PROVIDER: &str = "braid-isp-a";
const GATEWAY_LISTENS: &str = "203.0.113.1:4754";

fn flood(lab: &Lab, flags: &str) {
    let output = lab.run(PROVIDER, &format!("{} flood {flags}", program("braid-lab").display()));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("a report");
    assert!(report["sent"].as_u64() > Some(10_000), "{report}");
}

/// A number that an end has counted, 0 if it does not mention it.
pub fn counted(counters: &str, key: &str) -> u64 {
    let word = counters.split_whitespace().find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
    word.map_or(0, |number| number.parse().expect("a number"))
}

/// The port that the gateway sees uplink `a` come from.
pub fn port_of_uplink_a(far: &End) -> u16 {
    let log = far.log();
    let port = log.lines().filter_map(|line| line.split_once(" 10.101.0.2:")).next_back().map(|(_, port)| port);
    port.and_then(|port| port.trim().parse().ok()).unwrap_or_else(|| panic!("uplink a has no address: {log}"))
}

/// Floods twice, and holds what both ends have after the second flood against what they had after the first, which has
/// touched whatever a flood can touch.
fn assert_flat(lab: &Lab, ends: [&End; 2], flags: &str) {
    flood(lab, &format!("{flags} --seed 1"));
    let before = ends.map(End::holds);
    flood(lab, &format!("{flags} --seed 2"));
    for ((resident_before, files_before), end) in before.into_iter().zip(ends) {
        let (resident, files) = end.holds();
        assert!(resident <= resident_before + GROWTH_KIB_MAX, "{resident_before} KiB grew to {resident}");
        assert_eq!(files, files_before, "open files");
    }
}

#[test]
fn a_flood_from_everywhere_costs_the_stream_nothing_and_gets_nothing_in() {
    let Some(lab) = Lab::up(TWO) else { return };
    let (far, near) = lab.start_both(&format!("--plaintext --mode balance-rr {PATIENT}"));
    far.await_log_times("-> up: ", 2);
    let flags = format!("--to {GATEWAY_LISTENS} --duration 4s");
    let stream = lab.stream(Lab::UP, 9_000, || assert_flat(&lab, [&far, &near], &flags));
    assert_eq!(missing(&stream), 0, "{}", far.counters());
    let counters = far.counters();
    assert!(counted(&counters, "unknown_source") > 10_000, "the flood did come: {counters}");
    let (delivered, sent) = (counted(&counters, "delivered"), counted(&near.counters(), "sent"));
    assert!(delivered <= sent && sent - delivered <= UNDER_WAY_MAX, "{delivered} delivered, {sent} sent: some got in");
}

#[test]
fn a_flood_that_bears_the_peers_address_is_survived_and_the_tunnel_is_well_again_after_it() {
    let Some(lab) = Lab::up(TWO) else { return };
    let (far, near) = lab.start_both(&format!("--plaintext --mode broadcast {PATIENT}"));
    far.await_log_times("-> up: ", 2);
    let uplink = format!("10.101.0.2:{}", port_of_uplink_a(&far));
    for (from, to) in [(uplink.as_str(), GATEWAY_LISTENS), (GATEWAY_LISTENS, uplink.as_str())] {
        assert_flat(&lab, [&far, &near], &format!("--from {from} --to {to} --duration 2s"));
        lab.await_answer();
        near.await_well(2);
        far.await_well(2);
        for way in [Lab::UP, Lab::DOWN] {
            assert_eq!(missing(&lab.stream(way, 1_000, || {})), 0, "after the flood from {from}: {way:?}");
        }
    }
}

#[test]
fn probes_that_pretend_to_be_ever_new_peers_are_survived_and_the_true_one_is_let_in_again() {
    let Some(lab) = Lab::up(TWO) else { return };
    let (mut far, mut near) = lab.start_both("--plaintext");
    let uplink = format!("10.101.0.2:{}", port_of_uplink_a(&far));
    for (from, to) in [(uplink.as_str(), GATEWAY_LISTENS), (GATEWAY_LISTENS, uplink.as_str())] {
        assert_flat(&lab, [&far, &near], &format!("--probes --from {from} --to {to} --duration 2s --rate 10000"));
    }
    assert_flat(&lab, [&far, &near], &format!("--probes --to {GATEWAY_LISTENS} --duration 2s --rate 10000"));
    // Without keys the last to pretend is believed, until it counts as gone.
    lab.await_answer();
    for end in [&far, &near] {
        let lines = end.log().lines().count();
        assert!(lines < LOG_LINES_MAX, "{lines} lines were logged");
    }
    assert_eq!((near.stop(), far.stop()), (Some(0), Some(0)));
}

#[test]
fn what_is_forged_costs_a_sealed_stream_nothing_even_from_the_peers_own_address() {
    let Some(lab) = Lab::up(TWO) else { return };
    let (far, near) = lab.start_both(&format!("--mode balance-rr {PATIENT}"));
    far.await_log_times("-> up: ", 2);
    let uplink = format!("10.101.0.2:{}", port_of_uplink_a(&far));
    let stream = lab.stream(Lab::UP, 10_000, || {
        for flags in [
            format!("--to {GATEWAY_LISTENS}"),
            format!("--probes --from {uplink} --to {GATEWAY_LISTENS} --rate 10000"),
            format!("--probes --from {GATEWAY_LISTENS} --to {uplink} --rate 10000"),
        ] {
            flood(&lab, &format!("{flags} --duration 2s --seed 1"));
        }
    });
    assert_eq!(missing(&stream), 0, "{}", far.counters());
    for end in [&far, &near] {
        let counters = end.counters();
        let refused = ["unsealed", "handshake_malformed", "handshake_mac"].map(|key| counted(&counters, key));
        assert!(refused.iter().sum::<u64>() > 10_000, "the flood did come: {counters}");
        assert!(!end.log().contains("has moved") && !end.log().contains("restarted"), "{}", end.log());
    }
    let (delivered, sent) = (counted(&far.counters(), "delivered"), counted(&near.counters(), "sent"));
    assert!(delivered <= sent && sent - delivered <= UNDER_WAY_MAX, "{delivered} delivered, {sent} sent: some got in");
}
