//! Many simulated worlds, on every CPU there is.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use braid::sim::oracle::Violation;
use braid::sim::report::Report;
use braid::sim::world::{Tell, World, clock_text};
use braid::sim::{cases, draw};

use crate::say::say;

/// Which worlds to run.
#[derive(Clone, Copy, Debug)]
pub struct Worlds {
    /// The first seed, and the one after the last.
    pub seeds: (u64, u64),
    /// How long each world lasts, in simulated seconds.
    pub seconds: u64,
    /// Whether to tell what happens.
    pub is_told: bool,
}

/// Runs them all, and says what came of them.
///
/// # Errors
/// The seeds in which the oracle objected, with its first objection and the command that repeats it.
pub fn run(worlds: &Worlds) -> Result<(), String> {
    let (first, end) = worlds.seeds;
    let next = AtomicU64::new(first);
    let failures = Mutex::new(vec![]);
    let (offered, delivered) = (AtomicU64::new(0), AtomicU64::new(0));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end {
                return;
            }
            match run_one(seed, worlds) {
                Ok(report) => {
                    offered.fetch_add(report.ways.iter().map(|way| way.offered).sum(), Ordering::Relaxed);
                    delivered.fetch_add(report.ways.iter().map(|way| way.delivered).sum(), Ordering::Relaxed);
                }
                Err(objection) => {
                    eprintln!("seed {seed}: {objection}");
                    failures.lock().expect("no worker panics").push(seed);
                }
            }
        }
    };
    thread::scope(|scope| {
        (0..thread::available_parallelism().map_or(1, usize::from)).for_each(|_| drop(scope.spawn(work)))
    });
    let mut failures = failures.into_inner().expect("no worker panics");
    failures.sort_unstable();
    match failures.first() {
        None => {
            say(&format!(
                "{} worlds of {} s, {} frames offered, {} delivered: nothing to object to\n",
                end - first,
                worlds.seconds,
                offered.into_inner(),
                delivered.into_inner()
            ));
            Ok(())
        }
        Some(first) => {
            Err(format!("{} of {} seeds failed: {failures:?}: {}", failures.len(), end - first, repeat(*first, worlds)))
        }
    }
}

/// Writes the committed table to standard output.
///
/// # Errors
/// What the oracle objected to.
pub fn show_table() -> Result<(), String> {
    say(&cases::table()?);
    Ok(())
}

/// The command that repeats a world.
fn repeat(seed: u64, worlds: &Worlds) -> String {
    format!(
        "repeat the first by: tools/cargo run --release --package braid-lab -- simulate --seed {seed} --seconds {} --tell",
        worlds.seconds
    )
}

fn run_one(seed: u64, worlds: &Worlds) -> Result<Report, String> {
    let tell: Option<Tell> =
        if worlds.is_told { Some(|now, what| eprintln!("{} {what}", clock_text(now))) } else { None };
    let world = || World::new(draw::plan(seed, worlds.seconds), tell).run();
    // A panic of the core is an objection too; its message has been printed when it comes here.
    match catch_unwind(AssertUnwindSafe(world)) {
        Ok(outcome) => outcome.map_err(|violation: Violation| violation.to_string()),
        Err(_) => Err("panic".to_owned()),
    }
}
