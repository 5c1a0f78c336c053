//! The end with the uplinks: parses what was typed, runs, and says how it went.

use std::process::ExitCode;

fn main() -> ExitCode {
    braid::run::run("braid-box", braid::cli::parse_box, |config| &config.process, braid::io::run_box)
}
