//! The gateway's end: parses what was typed, runs, and says how it went.

use std::process::ExitCode;

fn main() -> ExitCode {
    braid::run::run("braid-gateway", braid::cli::parse_gateway, |config| &config.process, braid::io::run_gateway)
}
