use super::*;
use crate::proto::stats::Traffic;
use crate::proto::time::Instant;
use crate::proto::uplink::monitor::Uplink;
use crate::proto::uplink::state::Reason;
use crate::proto::uplink::{UPLINKS_MAX, UplinkId};
use std::time::Duration;

const INTERVAL: Duration = Duration::from_millis(20);

fn at(milliseconds: u64) -> Instant {
    Instant::from_nanos(milliseconds * 1_000_000)
}

/// Three uplinks that are up, with round trips of 30, 20 and 10 ms and weights of 1, 2 and 3.
fn three_up() -> [Uplink; UPLINKS_MAX] {
    let mut uplinks = std::array::from_fn(|_| Uplink::new(at(0), UplinkName::default(), 1, INTERVAL));
    for (number, name) in ["a", "b", "c"].iter().enumerate() {
        let name = UplinkName::new(name).expect("lawful");
        uplinks[number] = Uplink::new(at(0), name, number as u8 + 1, INTERVAL);
        answer(&mut uplinks[number], 100, 30 - number as u64 * 10);
    }
    uplinks
}

fn answer(uplink: &mut Uplink, now: u64, round_trip: u64) {
    uplink.attach();
    uplink.on_reply(at(now), at(now - round_trip), 0, Traffic::default());
    uplink.evaluate(at(now), INTERVAL, at(0));
}

fn standing(uplinks: &[Uplink; UPLINKS_MAX]) -> Standing<'_> {
    Standing::of(uplinks, UplinkId::all().collect())
}

fn numbers(scheduler: &mut Scheduler, count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|_| scheduler.schedule().iter().map(UplinkId::number).collect()).collect()
}

#[test]
fn broadcast_uses_all_that_may_reach_the_peer() {
    let mut uplinks = three_up();
    let mut scheduler = Scheduler::new(&SchedulerConfig::new(Mode::Broadcast));
    uplinks[2].on_peer_hears(at(101), false);
    uplinks[2].evaluate(at(101), INTERVAL, at(0));
    uplinks[0].detach(at(101), Reason::NoCarrier);
    scheduler.refresh(&standing(&uplinks));
    assert_eq!(numbers(&mut scheduler, 1), [[1, 2]], "a suspect is worth a copy, a fallen one is not");
}

#[test]
fn balance_rr_takes_turns_by_weight() {
    let mut scheduler = Scheduler::new(&SchedulerConfig::new(Mode::BalanceRr));
    scheduler.refresh(&standing(&three_up()));
    assert_eq!(numbers(&mut scheduler, 7).concat(), [0, 1, 1, 2, 2, 2, 0]);
}

#[test]
fn balance_rr_sends_packets_per_uplink_in_a_row() {
    let two_in_a_row = NonZeroU32::new(2).expect("two");
    let mut scheduler =
        Scheduler::new(&SchedulerConfig { packets_per_uplink: two_in_a_row, ..SchedulerConfig::new(Mode::BalanceRr) });
    let mut uplinks = three_up();
    uplinks[1].detach(at(101), Reason::InterfaceGone);
    scheduler.refresh(&standing(&uplinks));
    assert_eq!(numbers(&mut scheduler, 9).concat(), [0, 0, 2, 2, 2, 2, 2, 2, 0]);
}

#[test]
fn balance_rr_leaves_a_suspect_out_while_there_are_others() {
    let mut scheduler = Scheduler::new(&SchedulerConfig::new(Mode::BalanceRr));
    let mut uplinks = three_up();
    scheduler.refresh(&standing(&uplinks));
    assert_eq!(numbers(&mut scheduler, 2).concat(), [0, 1]);
    uplinks[1].on_peer_hears(at(101), false);
    uplinks[1].evaluate(at(101), INTERVAL, at(0));
    scheduler.refresh(&standing(&uplinks));
    assert_eq!(numbers(&mut scheduler, 4).concat(), [2, 2, 2, 0], "at once, in the middle of its turn");
}

#[test]
fn active_backup_prefers_the_shortest_way_and_stays() {
    let mut scheduler = Scheduler::new(&SchedulerConfig::new(Mode::ActiveBackup));
    let mut uplinks = three_up();
    scheduler.refresh(&standing(&uplinks));
    assert_eq!(numbers(&mut scheduler, 2).concat(), [2, 2]);
    uplinks[2].fall(at(101), Reason::NoCarrier);
    scheduler.refresh(&standing(&uplinks));
    assert_eq!(numbers(&mut scheduler, 1).concat(), [1]);
    answer(&mut uplinks[2], 200, 10);
    answer(&mut uplinks[1], 700, 20);
    answer(&mut uplinks[2], 701, 10);
    scheduler.refresh(&standing(&uplinks));
    assert_eq!(numbers(&mut scheduler, 1).concat(), [1], "without a primary only a failure moves it");
}

#[test]
fn active_backup_goes_back_to_its_primary_as_it_was_told() {
    for (reselect, primary, expected) in [
        (PrimaryReselect::Always, "a", 0),
        (PrimaryReselect::Better, "a", 2),
        (PrimaryReselect::Better, "c", 2),
        (PrimaryReselect::Failure, "a", 2),
    ] {
        let primary = UplinkName::new(primary).ok();
        let config =
            SchedulerConfig { primary, primary_reselect: reselect, ..SchedulerConfig::new(Mode::ActiveBackup) };
        let mut scheduler = Scheduler::new(&config);
        let mut uplinks = three_up();
        let whole = uplinks.clone();
        uplinks[0].detach(at(101), Reason::NoCarrier);
        scheduler.refresh(&standing(&uplinks));
        assert_eq!(numbers(&mut scheduler, 1).concat(), [2]);
        scheduler.refresh(&standing(&whole));
        assert_eq!(numbers(&mut scheduler, 1).concat(), [expected], "{config:?}");
    }
}

#[test]
fn what_is_to_be_spared_is_used_only_if_no_other_is_up() {
    let spared: UplinkSet = UplinkId::all().skip(1).take(2).collect();
    for (mode, expected) in [
        (Mode::Broadcast, [vec![0], vec![1, 2]]),
        (Mode::BalanceRr, [vec![0], vec![1]]),
        (Mode::ActiveBackup, [vec![0], vec![2]]),
    ] {
        let mut scheduler = Scheduler::new(&SchedulerConfig::new(mode));
        let mut uplinks = three_up();
        scheduler.refresh(&standing(&uplinks).sparing(spared));
        assert_eq!(numbers(&mut scheduler, 1), [&expected[0][..]], "{mode:?}");
        uplinks[0].detach(at(101), Reason::NoCarrier);
        scheduler.refresh(&standing(&uplinks).sparing(spared));
        assert_eq!(numbers(&mut scheduler, 1), [&expected[1][..]], "{mode:?}");
    }
}

#[test]
fn with_no_uplink_alive_those_with_a_socket_are_tried_and_with_none_nothing() {
    for mode in Mode::AT_ONCE {
        let mut scheduler = Scheduler::new(&SchedulerConfig::new(mode));
        let mut uplinks = three_up();
        for uplink in &mut uplinks {
            uplink.fall(at(101), Reason::PeerDoesNotHear);
        }
        scheduler.refresh(&standing(&uplinks));
        assert!(!scheduler.schedule().is_empty(), "{mode:?}");
        for uplink in &mut uplinks {
            uplink.detach(at(101), Reason::NoCarrier);
        }
        scheduler.refresh(&standing(&uplinks));
        assert!(scheduler.schedule().is_empty(), "{mode:?}");
    }
}
