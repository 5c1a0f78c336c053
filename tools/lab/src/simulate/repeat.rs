//! A scenario run with several seeds.

use std::time::Duration;

use braid::proto::scheduler::Mode;
use braid::sim::course::Course;
use braid::sim::run_course;

use super::table::Report;
use super::window::Window;
use super::{for_each_seed, teller};

/// What a scenario is run with.
#[derive(Clone, Copy, Debug)]
pub struct RepeatOptions {
    /// The first seed, and the one after the last.
    pub seeds: (u64, u64),
    /// The mode of both ends.
    pub mode: Mode,
    /// The window of both ends.
    pub window: Window,
    /// What is delivered within this after it was offered is in time.
    pub deadline: Duration,
    /// Whether there are keys.
    pub is_sealed: bool,
    /// Whether to tell what happens.
    pub is_told: bool,
}

/// Runs `course`, which is that of `scenario`, with each seed.
///
/// # Errors
/// The seeds in which the oracle objected; to what goes to standard error.
pub fn run(scenario: &str, course: &Course, options: &RepeatOptions) -> Result<Report, String> {
    let outcomes = for_each_seed(options.seeds, |seed| {
        let outcome = run_course(course, seed, options.deadline, teller(options.is_told));
        outcome.inspect_err(|objection| eprintln!("seed {seed}: {objection}"))
    });
    let all = outcomes.len();
    let failures: Vec<u64> = outcomes.iter().filter(|(_, outcome)| outcome.is_err()).map(|(seed, _)| *seed).collect();
    if !failures.is_empty() {
        return Err(format!("{} of {all} seeds failed: {failures:?}", failures.len()));
    }
    let outcomes = outcomes.into_iter().filter_map(|(seed, outcome)| Some((seed, outcome.ok()?))).collect();
    Ok(Report { scenario: scenario.to_owned(), course: course.clone(), deadline: options.deadline, outcomes })
}
