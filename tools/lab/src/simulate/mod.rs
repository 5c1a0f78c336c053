//! Simulated worlds: many that are drawn from seeds and full of trouble, or one scenario's, some times over.

mod command_line;
mod repeat;
mod scenario;
mod table;
mod window;
mod worlds;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use braid::sim::cases;
use braid::sim::world::{Tell, clock_text};

pub use command_line::SimulateArguments;

use crate::command_line::Failure;
use crate::say::{say, tell};
use crate::scenario::Scenario;

/// Does what the user typed.
///
/// # Errors
/// What is wrong with it, or what the oracle objected to.
pub fn main(arguments: &SimulateArguments) -> Result<(), Failure> {
    if arguments.table {
        say(&cases::table()?);
        return Ok(());
    }
    let Some(name) = &arguments.scenario else { return Ok(worlds::run(&arguments.worlds())?) };
    let scenario = Scenario::load(name).map_err(|error| Failure::Usage(error.to_string()))?;
    let options = arguments.repeat_options();
    let course =
        scenario::course(&scenario, &options).map_err(|message| Failure::Usage(format!("{name}: {message}")))?;
    let report = repeat::run(&scenario.name, &course, &options).map_err(|seeds| {
        let command = arguments.repeat_command(name);
        Failure::Runtime(format!("{seeds}: repeat one by: {command} --seed SEED --tell"))
    })?;
    Ok(tell(&report.to_json(), report.to_text(), arguments.json.as_deref())?)
}

/// What tells what happens in a world, on standard error, if it is told.
fn teller(is_told: bool) -> Option<Tell> {
    if is_told { Some(|now, what| eprintln!("{} {what}", clock_text(now))) } else { None }
}

/// What `run` comes to for each seed from the first to the one before the last, on every CPU there is, in order of seed.
fn for_each_seed<T: Send>((first, end): (u64, u64), run: impl Fn(u64) -> T + Sync) -> Vec<(u64, T)> {
    let next = AtomicU64::new(first);
    let outcomes = Mutex::new(vec![]);
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end {
                return;
            }
            let outcome = run(seed);
            outcomes.lock().expect("no worker panics").push((seed, outcome));
        }
    };
    thread::scope(|scope| {
        (0..thread::available_parallelism().map_or(1, usize::from)).for_each(|_| drop(scope.spawn(work)))
    });
    let mut outcomes = outcomes.into_inner().expect("no worker panics");
    outcomes.sort_by_key(|(seed, _)| *seed);
    outcomes
}
