//! What the user typed after `braid-lab simulate`.

use std::path::PathBuf;
use std::time::Duration;

use braid::proto::scheduler::Mode;
use braid::sim::draw;
use braid::units::parse_duration;
use clap::Args;

use super::repeat::RepeatOptions;
use super::window::{Window, parse_window};
use super::worlds::Worlds;

/// The seeds of worlds that are drawn, unless told otherwise.
const SEEDS_OF_WORLDS: (u64, u64) = (1, 1001);
/// The seeds of a scenario: the first is the scenario as it is written.
const SEEDS_OF_SCENARIO: (u64, u64) = (0, 5);

/// What the user typed.
#[derive(Args)]
pub struct SimulateArguments {
    /// The seeds of the worlds to run, such as 1..1001; the last is not among them [default: 1..1001, or 0..5 of a
    /// scenario]
    #[arg(long, value_name = "FIRST..END", value_parser = parse_seeds)]
    seeds: Option<(u64, u64)>,
    /// Run just the world of this seed
    #[arg(long, conflicts_with = "seeds")]
    seed: Option<u64>,
    /// How long each world lasts, in simulated seconds
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(draw::SECONDS_MIN..=draw::SECONDS_MAX))]
    seconds: u64,
    /// Tell all that happens
    #[arg(long)]
    tell: bool,
    /// Write the table that tests/simulated.md holds, of what each mode makes of each fault, instead
    #[arg(long, conflicts_with_all = ["seeds", "seed", "seconds", "tell", "scenario"])]
    pub(super) table: bool,
    /// Run this scenario instead of worlds full of trouble, and report what came of its stream: a file, or the name of
    /// a shipped scenario. Seed 0 is the scenario as it is written; any other begins each trace somewhere else
    #[arg(long, value_name = "NAME|FILE", conflicts_with = "seconds")]
    pub(super) scenario: Option<String>,
    /// --mode of both ends
    #[arg(long, requires = "scenario", value_parser = parse_mode, default_value = Mode::Adaptive.name())]
    mode: Mode,
    /// --window of both ends [default: as the programs have it in this mode]
    #[arg(long, value_name = "DURATION|auto|auto:DURATION|off", requires = "scenario", value_parser = parse_window)]
    window: Option<Window>,
    /// What is delivered within this after it was offered is in time
    #[arg(long, value_name = "DURATION", requires = "scenario", value_parser = parse_deadline, default_value = "300ms")]
    deadline: Duration,
    /// Run the tunnel with keys
    #[arg(long, requires = "scenario")]
    sealed: bool,
    /// Write the report here as JSON; without a name, or as -, to standard output, and nothing else there
    #[arg(long, value_name = "FILE", requires = "scenario", num_args = 0..=1, default_missing_value = "-")]
    pub(super) json: Option<PathBuf>,
}

impl SimulateArguments {
    pub(super) fn worlds(&self) -> Worlds {
        Worlds { seeds: self.seeds_or(SEEDS_OF_WORLDS), seconds: self.seconds, is_told: self.tell }
    }

    pub(super) fn repeat_options(&self) -> RepeatOptions {
        RepeatOptions {
            seeds: self.seeds_or(SEEDS_OF_SCENARIO),
            mode: self.mode,
            window: self.window(),
            deadline: self.deadline,
            is_sealed: self.sealed,
            is_told: self.tell,
        }
    }

    fn window(&self) -> Window {
        self.window.unwrap_or(Window::of(self.mode))
    }

    fn seeds_or(&self, common: (u64, u64)) -> (u64, u64) {
        let one = self.seed.map(|seed| (seed, seed.saturating_add(1)));
        one.or(self.seeds).unwrap_or(common)
    }

    /// The command that runs the scenario once more, but for the seed.
    pub(super) fn repeat_command(&self, scenario: &str) -> String {
        format!(
            "tools/cargo run --release --package braid-lab -- simulate --scenario {scenario} --mode {} --window {}{}",
            self.mode.name(),
            self.window(),
            if self.sealed { " --sealed" } else { "" }
        )
    }
}

fn parse_seeds(text: &str) -> Result<(u64, u64), String> {
    let range = text.split_once("..").and_then(|(first, end)| Some((first.parse().ok()?, end.parse().ok()?)));
    range.filter(|(first, end)| first < end).ok_or_else(|| "write the first and the end, such as 1..1001".to_owned())
}

fn parse_mode(text: &str) -> Result<Mode, String> {
    let known = Mode::ALL.map(Mode::name).join(", ");
    Mode::ALL.into_iter().find(|mode| mode.name() == text).ok_or_else(|| format!("modes are {known}"))
}

fn parse_deadline(text: &str) -> Result<Duration, String> {
    within(text, Duration::from_millis(1), Duration::from_secs(60))
}

/// A duration from `min` to `max`.
pub(super) fn within(text: &str, min: Duration, max: Duration) -> Result<Duration, String> {
    let duration = parse_duration(text)?;
    if (min..=max).contains(&duration) { Ok(duration) } else { Err(format!("it must be from {min:?} to {max:?}")) }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: SimulateArguments,
    }

    fn parse(text: &str) -> Result<SimulateArguments, String> {
        let line = Line::try_parse_from([&["simulate"][..], &text.split_whitespace().collect::<Vec<_>>()].concat());
        line.map(|line| line.arguments).map_err(|error| error.to_string())
    }

    #[test]
    fn seeds_follow_what_is_run() {
        let seeds = |text| parse(text).map(|arguments| (arguments.worlds().seeds, arguments.repeat_options().seeds));
        assert_eq!(seeds("").expect("lawful").0, (1, 1001));
        assert_eq!(seeds("--scenario demo").expect("lawful").1, (0, 5));
        assert_eq!(seeds("--scenario demo --seeds 0..6").expect("lawful").1, (0, 6));
        assert_eq!(seeds("--scenario demo --seed 7").expect("lawful").1, (7, 8));
    }

    #[test]
    fn a_scenario_is_repeated_as_it_was_run() {
        for text in ["--mode balance-rr --window off --sealed", "--mode adaptive --window auto:100ms"] {
            let text = format!("--scenario demo {text}");
            let command = parse(&text).expect("lawful").repeat_command("demo");
            assert!(command.ends_with(&text), "{command}");
        }
        for (text, window) in
            [("", "auto:250ms"), ("--mode broadcast", "40ms"), ("--mode broadcast --window auto", "auto:250ms")]
        {
            let command = parse(&format!("--scenario demo {text}")).expect("lawful").repeat_command("demo");
            assert!(command.ends_with(&format!("--window {window}")), "{command}");
        }
    }

    #[test]
    fn what_cannot_be_obeyed_is_refused() {
        for (text, culprit) in [
            ("--mode broadcast", "--scenario"),
            ("--json", "--scenario"),
            ("--scenario demo --seconds 60", "--seconds"),
            ("--scenario demo --table", "--table"),
            ("--scenario demo --mode loud", "balance-rr"),
            ("--scenario demo --window 5s", "2s"),
            ("--scenario demo --window 40", "'40ms'"),
            ("--scenario demo --deadline 0", "1ms"),
            ("--seeds 5..5", "such as 1..1001"),
        ] {
            let error = parse(text).err().unwrap_or_else(|| panic!("{text} is obeyed"));
            assert!(error.contains(culprit), "{text}: {error}");
        }
    }
}
