//! The operator's tool: makes keys.

use std::process::ExitCode;

fn main() -> ExitCode {
    braid::braidctl::run(std::env::args_os().collect())
}
