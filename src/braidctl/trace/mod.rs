//! Records what enters and leaves an end.

use clap::Args;

use super::EndArguments;

/// How.
#[derive(Debug, Args)]
pub(super) struct TraceArguments {}

pub(super) fn run(_end: &EndArguments, _arguments: &TraceArguments) -> Result<(), String> {
    Err("not built yet".to_owned())
}
