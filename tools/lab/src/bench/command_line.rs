//! What the user typed after `braid-lab bench`, and what follows.

use std::path::{Path, PathBuf};

use clap::Args;

use super::{BenchOptions, CASES, boxes, draw, run};
use crate::lab::program_folder;
use crate::say::{tell, write_file};
use crate::stop::Stop;

/// What the user typed.
#[derive(Args)]
pub struct BenchArguments {
    /// How often to measure each, all in turn each time; what is shown is the median
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=100))]
    rounds: u16,
    /// Only the tunnels whose names begin so: raw, vxlan, braid (-balance-rr, -sealed, -rekey, -active-backup, -busy-poll),
    /// fastd, openvpn, tinc, vtun
    #[arg(long, value_name = "NAME,...", value_delimiter = ',', value_parser = parse_name)]
    only: Vec<String>,
    /// Seconds of each TCP stream
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Write all figures of all rounds here as JSON; - for standard output, and nothing else there
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the table here, in Markdown; - for standard output, where it goes anyway unless --json does
    #[arg(long, value_name = "FILE")]
    table: Option<PathBuf>,
    /// Draw TCP throughput and its cost, to .png or .svg
    #[arg(long, value_name = "FILE")]
    chart: Option<PathBuf>,
    /// A further flag of braid's box, such as --extra-box=--cpu=1; may be repeated
    #[arg(long, allow_hyphen_values = true)]
    extra_box: Vec<String>,
    /// A further flag of braid's gateway; may be repeated
    #[arg(long, allow_hyphen_values = true)]
    extra_gateway: Vec<String>,
    /// Fail if a tunnel to compare with is not installed, as with CI=true, instead of leaving it out
    #[arg(long)]
    all_required: bool,
    /// Measure two boxes at one gateway instead, of one process, and of two that share the port
    #[arg(long, conflicts_with_all = ["only", "chart", "extra_box", "extra_gateway"])]
    boxes: bool,
    /// Only show within seconds that everything works; the figures are worth nothing
    #[arg(long)]
    quick: bool,
    /// Where braid-box and braid-gateway are [default: beside this program]
    #[arg(long, value_name = "DIR")]
    bin_dir: Option<PathBuf>,
}

/// Does what was asked for.
///
/// # Errors
/// What went wrong, or a signal.
pub fn main(arguments: BenchArguments) -> Result<(), String> {
    let options = BenchOptions {
        programs: program_folder(arguments.bin_dir.as_deref())?,
        rounds: arguments.rounds.into(),
        only: arguments.only,
        seconds: arguments.seconds,
        extra_box: arguments.extra_box,
        extra_gateway: arguments.extra_gateway,
        all_required: arguments.all_required || std::env::var_os("CI").is_some_and(|value| value == "true"),
        quick: arguments.quick,
    };
    let stop = Stop::on_signals()?;
    if arguments.boxes {
        let report = boxes::run(&options, &stop).map_err(|error| format!("bench: {error}"))?;
        return tell(&report, report.to_markdown(), arguments.json.as_deref());
    }
    let report = run(&options, &stop).map_err(|error| format!("bench: {error}"))?;
    if let Some(path) = &arguments.chart {
        draw(path, &report)?;
    }
    if let Some(path) = arguments.table.filter(|path| path != Path::new("-")) {
        write_file(&path, &report.to_markdown())?;
    }
    tell(&report, report.to_markdown(), arguments.json.as_deref())
}

/// The beginning of a tunnel's name.
fn parse_name(text: &str) -> Result<String, String> {
    if !text.is_empty() && CASES.iter().any(|case| case.name.starts_with(text)) {
        return Ok(text.to_owned());
    }
    let names = CASES.map(|case| case.name);
    Err(format!("there is no such tunnel: choose from {}", names.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_the_beginning_of_one_that_there_is() {
        for name in ["raw", "braid", "braid-active-backup", "vtun"] {
            assert_eq!(parse_name(name), Ok(name.to_owned()));
        }
        for name in ["", "pigeon", "rawer"] {
            assert!(parse_name(name).is_err_and(|error| error.contains("vtun")), "{name}");
        }
    }
}
