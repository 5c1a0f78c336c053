//! Many worlds drawn from seeds.

use braid::sim::run_seed;

use super::{for_each_seed, teller};
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
    let outcomes = for_each_seed(worlds.seeds, |seed| {
        let outcome = run_seed(seed, worlds.seconds, teller(worlds.is_told));
        outcome.inspect_err(|objection| eprintln!("{objection}"))
    });
    let all = outcomes.len();
    let failures: Vec<u64> = outcomes.iter().filter(|(_, outcome)| outcome.is_err()).map(|(seed, _)| *seed).collect();
    if !failures.is_empty() {
        return Err(format!("{} of {all} seeds failed: {failures:?}", failures.len()));
    }
    let ways = || outcomes.iter().flat_map(|(_, outcome)| outcome).flat_map(|report| &report.ways);
    say(&format!(
        "{all} worlds of {} s, {} frames offered, {} delivered: nothing to object to\n",
        worlds.seconds,
        ways().map(|way| way.offered).sum::<u64>(),
        ways().map(|way| way.delivered).sum::<u64>(),
    ));
    Ok(())
}
