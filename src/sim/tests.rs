//! That the simulator repeats itself, and that its alarm rings.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use super::oracle::Violation;
use super::world::World;
use super::{SECOND, draw};
use crate::proto::receive::Sabotage;

const SECONDS: u64 = draw::SECONDS_MIN;

#[test]
fn a_seed_is_the_same_run_each_time() {
    for seed in 1..6 {
        let run = || World::new(draw::plan(seed, SECONDS), None).run();
        assert_eq!(run(), run(), "seed {seed}");
    }
}

#[test]
fn about_a_third_of_the_worlds_are_sealed() {
    let is_sealed = |seed: &u64| draw::plan(*seed, SECONDS).rekey_interval.is_some();
    assert!((60..140).contains(&(1..=300).filter(is_sealed).count()));
}

#[test]
fn a_sealed_world_without_trouble_loses_nothing_and_replaces_its_keys() {
    static SEALED: AtomicUsize = AtomicUsize::new(0);
    let mut plan = draw::plan(1, SECONDS);
    for uplink in &mut plan.uplinks {
        uplink.ways = uplink.healed.clone();
    }
    plan.incidents.clear();
    plan.clean_from = 3 * SECOND;
    plan.rekey_interval = Some(Duration::from_secs(1));
    let count = |_, what: &str| {
        SEALED.fetch_add(usize::from(what.contains("Sealed")), Relaxed);
    };
    World::new(plan, Some(count)).run().expect("nothing to object to");
    assert!(SEALED.load(Relaxed) > 70, "both ends, each second");
}

/// What the oracle says first of a core that goes wrong, in each of some worlds.
fn alarms(sabotage: Sabotage) -> Vec<Violation> {
    (1..=20).filter_map(|seed| World::sabotaged(draw::plan(seed, SECONDS), sabotage).run().err()).collect()
}

#[test]
fn the_alarm_rings_for_every_fault_made_on_purpose() {
    for (sabotage, complaint) in [
        (Sabotage::DeliverDuplicates, "was delivered twice"),
        (Sabotage::IgnoreOrder, "was delivered after"),
        (Sabotage::HoldForever, "beyond the window"),
        (Sabotage::GiveUpAtOnce, "was late, wrongly"),
        (Sabotage::LoseSilently, "accounts for"),
    ] {
        let alarms = alarms(sabotage);
        let is_heard = alarms.iter().any(|alarm| alarm.what.contains(complaint));
        assert!(is_heard, "{sabotage:?} went unnoticed: {alarms:?}");
    }
}
