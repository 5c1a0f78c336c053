//! How an end is, for people and for programs.

use clap::Args;

use super::{EndArguments, say};
use crate::control::{Answer, Command, Status};

/// How to tell it.
#[derive(Debug, Args)]
pub(super) struct StatusArguments {
    /// Tell it as JSON: one object, or a list of them at an end with several tunnels
    #[arg(long)]
    json: bool,
}

/// Tells how an end is.
///
/// # Errors
/// Why that cannot be told.
pub(super) fn run(end: &EndArguments, arguments: &StatusArguments) -> Result<(), String> {
    let tunnels = fetch(&mut end.connect()?)?;
    let text = match tunnels.as_slice() {
        [only] => serde_json::to_string_pretty(only),
        _ => serde_json::to_string_pretty(&tunnels),
    };
    say(&format!("{}\n", text.map_err(|error| error.to_string())?))
}

/// All tunnels that are meant.
///
/// # Errors
/// Why they cannot be had.
pub(super) fn fetch(client: &mut super::Client) -> Result<Vec<Status>, String> {
    let (answers, _) = client.ask(Command::Status)?;
    let statuses = answers.into_iter().filter_map(|answer| match answer {
        Answer::Status(status) => Some(*status),
        _ => None,
    });
    Ok(statuses.collect())
}
