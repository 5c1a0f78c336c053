//! All numbers, as Prometheus wants them.

use clap::Args;

use super::EndArguments;

/// How.
#[derive(Debug, Args)]
pub(super) struct MetricsArguments {}

pub(super) fn run(_end: &EndArguments, _arguments: &MetricsArguments) -> Result<(), String> {
    Err("not built yet".to_owned())
}
