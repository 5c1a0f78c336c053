use std::io;

use super::super::finding::{Verdict, assert_says};
use super::*;

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn interface(addresses: &[&str], mtu: u32) -> Interface {
    let addresses = addresses.iter().map(|text| Cidr { address: address(text), prefix_length: 24 }).collect();
    Interface { name: "wwan0".to_owned(), is_up: true, has_carrier: true, mtu, addresses }
}

/// An uplink that nothing is wrong with.
fn well() -> UplinkFacts {
    let gateway = "203.0.113.1:4754".parse().expect("an address");
    UplinkFacts {
        name: "lte".to_owned(),
        device: "wwan0".to_owned(),
        interface: Some(interface(&["fe80::1", "10.0.0.7"], 1500)),
        gateways: vec![address("203.0.113.1")],
        way: Some(Ok(Way { local: address("10.0.0.7"), gateway })),
        way_mtu: Some(1500),
        filter: Some(2),
        returns_by: Some("eth0".to_owned()),
        overhead: 70,
        tap_mtu: Some(1430),
        ..UplinkFacts::default()
    }
}

fn running(state: &str, path_mtu: Option<u16>) -> Option<UplinkStatus> {
    Some(UplinkStatus {
        state: state.to_owned(),
        state_for_s: 12.4,
        local: Some("10.0.0.7".to_owned()),
        seen_as: Some("198.51.100.9:1024".to_owned()),
        path_mtu,
        ..UplinkStatus::default()
    })
}

/// What is wrong, if one thing is.
#[track_caller]
fn only_complaint(facts: &UplinkFacts) -> Finding {
    let mut complaints: Vec<Finding> = facts.findings();
    complaints.retain(|finding| finding.result != Verdict::Ok);
    assert_eq!(complaints.len(), 1, "{complaints:?}");
    complaints.remove(0)
}

#[test]
fn of_one_that_is_well_everything_is_said_to_be() {
    let facts = UplinkFacts { running: running("up", Some(1500)), ..well() };
    let findings = facts.findings();
    assert!(findings.iter().all(|finding| finding.result == Verdict::Ok), "{findings:?}");
    let checks: Vec<&str> = findings.iter().map(|finding| finding.check).collect();
    assert_eq!(checks, ["interface", "address", "route", "MTU", "path MTU", "reverse path", "state", "NAT"]);
    assert!(findings.iter().all(|finding| finding.uplink.as_deref() == Some("lte")));
    assert_says(&findings[7], "NAT", Verdict::Ok, &["198.51.100.9"]);
}

#[test]
fn an_interface_that_cannot_be_used_is_all_that_is_said() {
    let with = |change: fn(&mut Interface)| {
        let mut facts = well();
        change(facts.interface.as_mut().expect("there is one"));
        facts
    };
    for (facts, words) in [
        (UplinkFacts { interface: None, ..well() }, ["no 'wwan0'", "ip link"]),
        (with(|interface| interface.is_up = false), ["set down", "ip link set dev wwan0 up"]),
        (with(|interface| interface.has_carrier = false), ["no carrier", "modem"]),
    ] {
        assert_says(&only_complaint(&facts), "interface", Verdict::Fail, &words);
        assert_eq!(facts.findings().len(), 1);
    }
}

#[test]
fn it_needs_an_address_of_the_gateways_family() {
    let with = |addresses: &[&str], gateways: &[&str]| UplinkFacts {
        interface: Some(interface(addresses, 1500)),
        gateways: gateways.iter().map(|text| address(text)).collect(),
        way: Some(Err(io::Error::from_raw_os_error(libc::ENETUNREACH))),
        ..well()
    };
    let none = only_complaint(&with(&[], &["203.0.113.1"]));
    assert_says(&none, "address", Verdict::Fail, &["it has none", "DHCP"]);
    let other = only_complaint(&with(&["2001:db8::7"], &["203.0.113.1"]));
    assert_says(&other, "address", Verdict::Fail, &["2001:db8::7", "203.0.113.1", "an IPv4 address"]);
    let local = only_complaint(&with(&["fe80::1"], &["2001:db8::1"]));
    assert_says(&local, "address", Verdict::Fail, &["none but fe80::1", "DHCP"]);
    // Either family of the gateway will do.
    let either = only_complaint(&with(&["2001:db8::7"], &["203.0.113.1", "2001:db8::1"]));
    assert_says(&either, "route", Verdict::Fail, &["no route"]);
}

#[test]
fn an_address_that_is_asked_for_must_be_there() {
    let asked = |source: &str| UplinkFacts { source: Some(address(source)), ..well() };
    let findings = asked("10.0.0.7").findings();
    assert_says(&findings[1], "address", Verdict::Ok, &["as asked for"]);
    assert_says(&only_complaint(&asked("10.0.0.8")), "address", Verdict::Fail, &["10.0.0.8", "10.0.0.7", "source"]);
}

#[test]
fn what_keeps_it_from_the_gateway_is_told() {
    for (errno, words) in [
        (libc::ENETUNREACH, ["no route to 203.0.113.1", "dev wwan0"]),
        (libc::EPERM, ["203.0.113.1", "forbids"]),
        (libc::EAFNOSUPPORT, ["203.0.113.1", "family"]),
        (libc::EADDRNOTAVAIL, ["203.0.113.1", "ip route get"]),
    ] {
        let facts = UplinkFacts { way: Some(Err(io::Error::from_raw_os_error(errno))), ..well() };
        assert_says(&only_complaint(&facts), "route", Verdict::Fail, &words);
    }
    // Where the gateway is not known, nothing can be said of the way to it.
    let facts = UplinkFacts { way: None, gateways: vec![], ..well() };
    assert!(facts.findings().iter().all(|finding| finding.result == Verdict::Ok));
}

#[test]
fn what_leaves_from_another_interfaces_address_is_told() {
    let way = Way { local: address("192.0.2.9"), gateway: "203.0.113.1:4754".parse().expect("an address") };
    let facts = UplinkFacts { way: Some(Ok(way)), ..well() };
    assert_says(&only_complaint(&facts), "route", Verdict::Warn, &["from 192.0.2.9", "source"]);
}

#[test]
fn packets_must_fit_the_interface() {
    let with = |mtu, tap_mtu| UplinkFacts {
        interface: Some(interface(&["10.0.0.7"], mtu)),
        way_mtu: Some(mtu),
        tap_mtu,
        ..well()
    };
    assert_says(&only_complaint(&with(600, None)), "MTU", Verdict::Fail, &["600", "70", "mtu 1500"]);
    assert_says(&only_complaint(&with(1300, None)), "MTU", Verdict::Warn, &["1230", "1280"]);
    let fixed = with(1400, Some(1400)).findings();
    let mtu = fixed.iter().find(|finding| finding.check == "MTU").expect("looked at");
    assert_says(mtu, "MTU", Verdict::Fail, &["1400 + 70", "1330"]);
    assert!(with(1492, None).findings().iter().all(|finding| finding.result == Verdict::Ok));
}

#[test]
fn packets_must_fit_the_path_whoever_knows_it() {
    let by_kernel = UplinkFacts { way_mtu: Some(1400), ..well() };
    assert_says(&only_complaint(&by_kernel), "path MTU", Verdict::Warn, &["1400", "the kernel", "1330"]);
    let by_end = UplinkFacts { running: running("up", Some(1420)), ..well() };
    assert_says(&only_complaint(&by_end), "path MTU", Verdict::Warn, &["1420", "the end that runs", "1350"]);
    let followed = UplinkFacts { tap_mtu: Some(1350), ..by_end };
    assert!(followed.findings().iter().all(|finding| finding.result == Verdict::Ok));
}

#[test]
fn one_that_is_down_is_told_with_for_how_long() {
    for (state, verdict) in [("down", Verdict::Fail), ("suspect", Verdict::Warn), ("probation", Verdict::Warn)] {
        let facts = UplinkFacts { running: running(state, None), ..well() };
        assert_says(&only_complaint(&facts), "state", verdict, &[state, "12 s"]);
    }
}
