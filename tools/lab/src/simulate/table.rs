//! What came of a scenario with each seed, and the median: for people, and for machines.

use std::time::Duration;

use braid::sim::course::Course;
use braid::sim::outcome::Outcome;
use serde_json::{Map, Value, json};

use super::window::Window;

/// What came of a scenario.
pub struct Report {
    /// Which scenario.
    pub scenario: String,
    /// What was run.
    pub course: Course,
    /// What came within this was in time.
    pub deadline: Duration,
    /// What came of it, by seed.
    pub outcomes: Vec<(u64, Outcome)>,
}

/// A figure: its heading, its name for machines, how many decimals are shown, and whence it comes.
struct Figure {
    heading: &'static str,
    name: &'static str,
    decimals: usize,
    of: fn(&Outcome) -> Option<f64>,
}

const FIGURES: [Figure; 13] = [
    Figure { heading: "offered", name: "offered", decimals: 0, of: |outcome| Some(outcome.figures.offered as f64) },
    Figure {
        heading: "delivered",
        name: "delivered",
        decimals: 0,
        of: |outcome| Some(outcome.figures.delivered as f64),
    },
    Figure { heading: "in time", name: "in_time", decimals: 0, of: |outcome| Some(outcome.in_time as f64) },
    Figure {
        heading: "in time %",
        name: "in_time_percent",
        decimals: 2,
        of: |outcome| Some(outcome.in_time_percent()),
    },
    Figure { heading: "hindsight %", name: "hindsight_percent", decimals: 2, of: Outcome::hindsight_percent },
    Figure { heading: "reached %", name: "reached_percent", decimals: 2, of: Outcome::reached_percent },
    Figure { heading: "lost", name: "lost", decimals: 0, of: |outcome| Some(outcome.figures.lost() as f64) },
    Figure {
        heading: "out of order",
        name: "out_of_order",
        decimals: 0,
        of: |outcome| Some(outcome.figures.out_of_order as f64),
    },
    Figure { heading: "p50 ms", name: "p50_ms", decimals: 1, of: |outcome| milliseconds(outcome.figures.p50) },
    Figure { heading: "p99 ms", name: "p99_ms", decimals: 1, of: |outcome| milliseconds(outcome.figures.p99) },
    Figure { heading: "max ms", name: "max_ms", decimals: 1, of: |outcome| milliseconds(outcome.figures.max) },
    Figure { heading: "gap ms", name: "gap_ms", decimals: 1, of: |outcome| milliseconds(outcome.figures.gap) },
    Figure {
        heading: "overhead %",
        name: "overhead_percent",
        decimals: 1,
        of: |outcome| Some(outcome.overhead_percent()),
    },
];

fn milliseconds(nanoseconds: u64) -> Option<f64> {
    Some(nanoseconds as f64 / 1e6)
}

/// A column of the table: what it shows of each seed.
struct Column {
    heading: String,
    decimals: usize,
    values: Vec<Option<f64>>,
}

impl Report {
    /// A table of all figures, with a line for each seed, and one for the median.
    #[must_use]
    pub fn to_text(&self) -> String {
        let window = Window { longest: self.course.window, follows: self.course.window_follows };
        let mut text = format!(
            "{}, {}, window {window}, {}, in time within {:?}\n",
            self.scenario,
            self.course.mode.name(),
            if self.course.is_sealed { "sealed" } else { "plaintext" },
            self.deadline
        );
        let seeds = self.outcomes.iter().map(|(seed, _)| seed.to_string()).chain(["median".to_owned()]);
        let mut columns = vec![(["seed".to_owned()].into_iter().chain(seeds)).collect::<Vec<_>>()];
        columns.extend(self.columns().iter().map(Column::cells));
        let widths: Vec<_> = columns.iter().map(|cells| cells.iter().map(String::len).max().unwrap_or(0)).collect();
        for line in 0..columns[0].len() {
            let cells = columns.iter().zip(&widths).map(|(cells, width)| format!("{:>width$}", cells[line]));
            text += &(cells.collect::<Vec<_>>().join("  ") + "\n");
        }
        text
    }

    fn columns(&self) -> Vec<Column> {
        let values =
            |of: &dyn Fn(&Outcome) -> Option<f64>| self.outcomes.iter().map(|(_, outcome)| of(outcome)).collect();
        let figures = FIGURES.iter().map(|figure| Column {
            heading: figure.heading.to_owned(),
            decimals: figure.decimals,
            values: values(&figure.of),
        });
        let uplinks = self.course.uplinks.iter().enumerate().map(|(number, uplink)| Column {
            heading: format!("{} up MB", uplink.name),
            decimals: 2,
            values: values(&|outcome| Some(outcome.up[number].left_bytes as f64 / 1e6)),
        });
        figures.chain(uplinks).collect()
    }

    /// The same for machines, and more of each uplink.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let seeds = self.outcomes.iter().map(|(seed, outcome)| {
            let mut object: Map<_, _> =
                FIGURES.iter().map(|figure| (figure.name.to_owned(), json!((figure.of)(outcome)))).collect();
            object.insert("seed".to_owned(), json!(seed));
            object.insert("uplinks".to_owned(), self.uplinks_to_json(outcome));
            Value::Object(object)
        });
        let median = FIGURES.iter().map(|figure| {
            let values = self.outcomes.iter().filter_map(|(_, outcome)| (figure.of)(outcome));
            (figure.name.to_owned(), json!(median(values.collect())))
        });
        json!({
            "scenario": self.scenario,
            "mode": self.course.mode.name(),
            "window_ms": self.course.window.map(|window| window.as_secs_f64() * 1e3),
            "window_follows": self.course.window_follows,
            "sealed": self.course.is_sealed,
            "deadline_ms": self.deadline.as_secs_f64() * 1e3,
            "seeds": seeds.collect::<Vec<_>>(),
            "median": median.collect::<Map<_, _>>(),
        })
    }

    fn uplinks_to_json(&self, outcome: &Outcome) -> Value {
        let uplink = |(uplink, link): (&braid::sim::course::CourseUplink, &braid::sim::link::LinkCounters)| {
            json!({
                "name": uplink.name.as_str(),
                "entered_bytes_up": link.entered_bytes,
                "left_bytes_up": link.left_bytes,
                "lost_up": link.lost,
                "overflowed_up": link.overflowed,
                "swallowed_up": link.swallowed,
            })
        };
        self.course.uplinks.iter().zip(&outcome.up).map(uplink).collect()
    }
}

impl Column {
    /// Its heading, its values, and their median, as text.
    fn cells(&self) -> Vec<String> {
        let decimals = self.decimals;
        let show = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.decimals$}"));
        let values = self.values.iter().map(|value| show(*value));
        let median = show(median(self.values.iter().copied().flatten().collect()));
        [self.heading.clone()].into_iter().chain(values).chain([median]).collect()
    }
}

/// The middle one, or what is halfway between the two in the middle; nothing of nothing.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    let upper = values.get(values.len() / 2)?;
    let lower = values.get((values.len() - 1) / 2)?;
    Some(f64::midpoint(*lower, *upper))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use braid::proto::scheduler::Mode;

    use super::super::repeat::{self, RepeatOptions};
    use super::super::scenario::course;
    use super::*;
    use crate::scenario::Scenario;

    fn report(uplinks: &str) -> Report {
        let text =
            format!("name = \"short\"\nduration = \"2s\"\ntraffic = {{ kind = \"cbr\", rate = \"1mbit\" }}\n{uplinks}");
        let scenario = Scenario::parse("s.toml", &text, Path::new("")).expect("lawful");
        let options = RepeatOptions {
            seeds: (0, 3),
            mode: Mode::BalanceRr,
            window: Window::OFF,
            deadline: Duration::from_millis(100),
            is_sealed: false,
            is_told: false,
        };
        repeat::run("short", &course(&scenario, &options).expect("lawful"), &options).expect("nothing to object to")
    }

    #[test]
    fn the_median_is_the_middle_one() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(vec![]), None);
    }

    #[test]
    fn a_report_has_a_line_for_each_seed_and_the_median_all_equally_long() {
        let text = report("[[uplink]]\nname = \"near\"\nrate = \"3mbit\"\n").to_text();
        let lines: Vec<_> = text.lines().skip(1).collect();
        assert_eq!(lines.len(), 1 + 3 + 1, "{text}");
        assert!(lines.iter().all(|line| line.len() == lines[0].len()), "{text}");
        assert!(lines[0].contains("in time %") && lines[0].ends_with("near up MB"), "{text}");
        assert!(lines[4].contains("median") && lines[4].contains("100.00"), "{text}");
    }

    #[test]
    fn machines_are_told_the_same_and_null_of_what_has_no_value() {
        let json = report("[[uplink]]\nname = \"near\"\n").to_json();
        assert_eq!(json["median"]["in_time_percent"], 100.0);
        assert_eq!(json["seeds"][2]["seed"], 2);
        assert!(json["seeds"][0]["hindsight_percent"].is_null() && json["median"]["reached_percent"].is_null());
        assert_eq!(json["seeds"][0]["uplinks"][0]["name"], "near");
        assert!(json["seeds"][0]["uplinks"][0]["left_bytes_up"].as_u64().is_some_and(|bytes| bytes > 250_000));
    }
}
