//! All numbers, as Prometheus wants them.

mod distribution;
mod exposition;
mod figures;
mod server;

use std::net::SocketAddr;

use clap::Args;

use super::status::fetch;
use super::{EndArguments, histogram, say};

/// How.
#[derive(Debug, Args)]
pub(super) struct MetricsArguments {
    /// Answer HTTP requests for /metrics here, until stopped, instead of telling them once
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<SocketAddr>,
}

/// Tells all numbers, once or to whoever asks.
///
/// # Errors
/// Why they cannot be told.
pub(super) fn run(end: &EndArguments, arguments: &MetricsArguments) -> Result<(), String> {
    match arguments.listen {
        Some(address) => server::serve(address, || ask(end)),
        None => say(&ask(end)?),
    }
}

/// What the end tells now.
fn ask(end: &EndArguments) -> Result<String, String> {
    let mut client = end.connect()?;
    let tunnels = fetch(&mut client)?;
    exposition::exposition(&tunnels, &histogram::fetch(&mut client)?)
}

#[cfg(test)]
mod tests;
