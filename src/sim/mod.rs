//! The simulator: the second shell of the core. A virtual clock, model links, and an oracle that sees everything.
//!
//! A [`plan::Plan`] says what a world is made of and what befalls it; [`draw`] draws one from a seed, [`cases`] has
//! those of the committed table, [`course`] makes one of links that somebody has described. A [`world::World`] drives two [`Endpoint`](crate::proto::endpoint::Endpoint)s through
//! it, with keys or without, the very code that runs in production, and asks the [`oracle`] about each thing that they do.
//!
//! All is whole numbers, and ties are broken by number, so a seed is the same run on every machine.
//!
//! ```text
//!   cases   draw   course ◀── hindsight ◀── outcome
//!      └──────┼──────┘                         │
//!            plan ──▶ world ◀──────────────────┘
//!              │        └──▶ end ──▶ oracle ──▶ frame, report
//!              └────────┴──▶ link ──▶ shaper, random
//! ```

pub mod cases;
pub mod course;
pub mod draw;
mod end;
pub mod frame;
pub mod hindsight;
pub mod link;
pub mod oracle;
pub mod outcome;
pub mod plan;
#[cfg(test)]
mod promises;
pub mod random;
pub mod report;
pub mod shaper;
#[cfg(test)]
mod tests;
pub mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// Runs the world of `seed` for so many simulated seconds. What happens is told to `tell`.
///
/// # Errors
/// What the oracle objected to first, or that the core panicked, and the command that repeats it.
pub fn run_seed(seed: u64, seconds: u64, tell: Option<world::Tell>) -> Result<report::Report, String> {
    objection_or(|| world::World::new(draw::plan(seed, seconds), tell).run()).map_err(|objection| {
        format!(
            "seed {seed}: {objection}: repeat it by: tools/cargo run --release --package braid-lab -- simulate --seed \
             {seed} --seconds {seconds} --tell"
        )
    })
}

/// Runs `course` with what follows from `seed`, and says what came of it; what comes within `deadline` is in time. What
/// happens is told to `tell`.
///
/// # Errors
/// What the oracle objected to first, or that the core panicked.
pub fn run_course(
    course: &course::Course,
    seed: u64,
    deadline: Duration,
    tell: Option<world::Tell>,
) -> Result<outcome::Outcome, String> {
    objection_or(|| {
        let mut world = world::World::new(course.plan(seed), tell);
        let report = world.run()?;
        Ok(outcome::Outcome::of(course, seed, deadline, &world, &report))
    })
}

/// What `run` comes to; a violation, or a panic of the core, in words.
fn objection_or<T>(run: impl FnOnce() -> Result<T, oracle::Violation>) -> Result<T, String> {
    // The message of a panic has been printed when it comes here.
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(outcome) => outcome.map_err(|violation| violation.to_string()),
        Err(_) => Err("the core panicked".to_owned()),
    }
}

/// Time in a simulated world, in nanoseconds since it began.
pub type Nanoseconds = u64;

/// A millisecond of it.
pub const MILLISECOND: Nanoseconds = 1_000_000;
/// A second of it.
pub const SECOND: Nanoseconds = 1_000_000_000;
