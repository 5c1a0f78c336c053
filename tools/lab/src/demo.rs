//! The demo: one video, one failure, four ways to bond.

use std::path::Path;

use serde::Serialize;

use crate::course::{Direction, Outcome, RunOptions};
use crate::plot::{self, Panel};
use crate::report::Report;
use crate::run::run;
use crate::say::say;
use crate::scenario::Scenario;
use crate::stop::Stop;
use crate::tunnel::{Contender, TunnelOptions};

const SCENARIO: &str = "demo";

/// What each contender is run with: title, mode, window.
const CONTENDERS: [(&str, &str, &str); 4] = [
    ("plain striping (balance-rr, window off)", "balance-rr", "off"),
    ("braid balance-rr", "balance-rr", "80ms"),
    ("braid broadcast", "broadcast", "80ms"),
    ("braid adaptive", "adaptive", "auto"),
];

/// The demo's result, for machines.
#[derive(Serialize)]
pub struct DemoReport {
    runs: Vec<DemoRun>,
    plot: String,
}

#[derive(Serialize)]
struct DemoRun {
    title: &'static str,
    #[serde(flatten)]
    report: Report,
}

/// Runs the demo; files go to `output`.
///
/// # Errors
/// What went wrong.
pub fn demo(tunnel: &TunnelOptions, output: &Path, quiet: bool, stop: &Stop) -> Result<DemoReport, String> {
    let scenario = Scenario::load(SCENARIO).map_err(|error| error.to_string())?;
    let mut outcomes = vec![];
    for (title, mode, window) in CONTENDERS {
        if !quiet {
            say(&format!("\n== {title} ==\n"));
        }
        let outcome = contend(&scenario, tunnel, output, (mode, window), quiet, stop)?;
        outcomes.push(outcome);
    }
    let plot = output.join("demo.png");
    let panels = CONTENDERS.iter().zip(&outcomes);
    let panels: Vec<_> = panels.map(|((title, ..), outcome)| Panel { title: (*title).to_owned(), outcome }).collect();
    plot::draw(&plot, &panels)?;
    let runs = CONTENDERS.iter().zip(outcomes);
    let runs = runs.map(|((title, ..), outcome)| DemoRun { title, report: outcome.report }).collect();
    Ok(DemoReport { runs, plot: plot.display().to_string() })
}

fn contend(
    scenario: &Scenario,
    tunnel: &TunnelOptions,
    output: &Path,
    (mode, window): (&str, &str),
    quiet: bool,
    stop: &Stop,
) -> Result<Outcome, String> {
    let tunnel = TunnelOptions { mode: Some(mode.to_owned()), window: Some(window.to_owned()), ..tunnel.clone() };
    let tunnel = Some(Contender::Braid(tunnel));
    let options = RunOptions { tunnel, direction: Direction::Up, output: output.to_owned(), live: !quiet };
    run(scenario, SCENARIO, &options, stop)
}

impl DemoReport {
    /// The comparison, for people.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = format!(
            "\n{:<40} {:>6} {:>5} {:>9} {:>6} {:>9} {:>7} {:>11} {:>7}\n",
            "", "sent", "lost", "disorder", "twice", "pictures", "errors", "from order", "p99 ms"
        );
        for DemoRun { title, report } in &self.runs {
            let (summary, video) = (&report.summary, report.video.as_ref());
            let pictures = video.map_or(String::new(), |v| format!("{}/{}", v.frames_decoded, v.frames_expected));
            text.push_str(&format!(
                "{title:<40} {:>6} {:>5} {:>9} {:>6} {pictures:>9} {:>7} {:>11} {:>7.1}\n",
                summary.offered,
                summary.lost,
                summary.reordered,
                summary.duplicated,
                video.map_or(0, |video| video.decode_errors),
                video.map_or(0, |video| video.decode_errors_order),
                summary.latency_ms.p99,
            ));
        }
        text.push_str("\nsent, lost, disorder, twice: datagrams; errors: complaints of the H.264 decoder;\n");
        text.push_str(
            "from order: those that are gone when the same datagrams are put in order before they are decoded.\n",
        );
        text.push_str(
            "What balance-rr loses is what was under way on the failing link until the failure was noticed; adaptive sends it again.\n",
        );
        text.push_str(&format!("Arrival over time: {}\n", self.plot));
        text
    }
}
