//! The simulator's worlds, and the committed table of what each mode makes of each fault.

use std::thread;

use braid::sim::{cases, run_seed};

/// Few enough for a build without optimisation; `.ci/run` has many more run by `braid-lab simulate`.
const SEEDS: std::ops::Range<u64> = 1..101;
const SECONDS: u64 = 60;

#[test]
fn the_core_keeps_its_promises_in_worlds_full_of_trouble() {
    println!("seeds {SEEDS:?}");
    let fails = |seed| run_seed(seed, SECONDS, None).err();
    let failures: Vec<String> = thread::scope(|scope| {
        let halves =
            [0, 1].map(|half| scope.spawn(move || SEEDS.filter(|seed| seed % 2 == half).filter_map(fails).collect()));
        halves.into_iter().flat_map(|half| -> Vec<String> { half.join().expect("failures are caught") }).collect()
    });
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn the_table_of_faults_is_as_committed() {
    let table = cases::table().expect("nothing to object to");
    let committed = include_str!("simulated.md");
    for (line, was) in table.lines().zip(committed.lines()) {
        assert_eq!(
            line, was,
            "behaviour has changed; if it is for the better: braid-lab simulate --table > tests/simulated.md"
        );
    }
    assert_eq!(table.lines().count(), committed.lines().count(), "braid-lab simulate --table > tests/simulated.md");
}
