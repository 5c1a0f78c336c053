//! How long things took.

use clap::Args;

use super::EndArguments;

/// How.
#[derive(Debug, Args)]
pub(super) struct HistogramArguments {}

pub(super) fn run(_end: &EndArguments, _arguments: &HistogramArguments) -> Result<(), String> {
    Err("not built yet".to_owned())
}
