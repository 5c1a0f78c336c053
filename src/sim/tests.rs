//! That the simulator repeats itself, and that its alarm rings.

use super::draw;
use super::oracle::Violation;
use super::world::World;
use crate::proto::receive::Sabotage;

const SECONDS: u64 = draw::SECONDS_MIN;

#[test]
fn a_seed_is_the_same_run_each_time() {
    for seed in 1..6 {
        let run = || World::new(draw::plan(seed, SECONDS), None).run();
        assert_eq!(run(), run(), "seed {seed}");
    }
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
