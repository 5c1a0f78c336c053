//! Many simulated worlds, on every CPU there is.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use braid::sim::world::{Tell, clock_text};
use braid::sim::{cases, run_seed};

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
/// The seeds in which the oracle objected; to what, and the command that repeats it, goes to standard error.
pub fn run(worlds: &Worlds) -> Result<(), String> {
    let (first, end) = worlds.seeds;
    let next = AtomicU64::new(first);
    let failures = Mutex::new(vec![]);
    let tell: Option<Tell> =
        if worlds.is_told { Some(|now, what| eprintln!("{} {what}", clock_text(now))) } else { None };
    let (offered, delivered) = (AtomicU64::new(0), AtomicU64::new(0));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end {
                return;
            }
            match run_seed(seed, worlds.seconds, tell) {
                Ok(report) => {
                    offered.fetch_add(report.ways.iter().map(|way| way.offered).sum(), Ordering::Relaxed);
                    delivered.fetch_add(report.ways.iter().map(|way| way.delivered).sum(), Ordering::Relaxed);
                }
                Err(objection) => {
                    eprintln!("{objection}");
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
    let all = end - first;
    if !failures.is_empty() {
        return Err(format!("{} of {all} seeds failed: {failures:?}", failures.len()));
    }
    say(&format!(
        "{all} worlds of {} s, {} frames offered, {} delivered: nothing to object to\n",
        worlds.seconds,
        offered.into_inner(),
        delivered.into_inner()
    ));
    Ok(())
}

/// Writes the committed table to standard output.
///
/// # Errors
/// What the oracle objected to.
pub fn show_table() -> Result<(), String> {
    say(&cases::table()?);
    Ok(())
}
