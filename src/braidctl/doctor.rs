//! Finds out what is wrong with a machine.

use std::process::ExitCode;

use clap::Args;

use super::EndArguments;

/// How.
#[derive(Debug, Args)]
pub(super) struct DoctorArguments {}

pub(super) fn run(_end: &EndArguments, _arguments: &DoctorArguments) -> Result<ExitCode, String> {
    Err("not built yet".to_owned())
}
