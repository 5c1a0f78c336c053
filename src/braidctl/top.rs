//! Watches an end.

use clap::Args;

use super::EndArguments;

/// How.
#[derive(Debug, Args)]
pub(super) struct TopArguments {}

pub(super) fn run(_end: &EndArguments, _arguments: &TopArguments) -> Result<(), String> {
    Err("not built yet".to_owned())
}
