//! `braidctl`, the operator's tool: asks an end that runs how it is, changes it while it runs, finds out what is wrong with a
//! machine, and makes keys.

mod change;
mod client;
mod doctor;
mod histogram;
mod keys;
mod metrics;
#[cfg(test)]
mod sample;
mod status;
mod top;
mod trace;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::cli::{Request, parse_alone};
use crate::io::hide_memory;
use crate::run::{EXIT_RUNTIME, EXIT_USAGE, fail};
use client::Client;

const PROGRAM: &str = "braidctl";

/// Sees to braid-box and braid-gateway: how they are, how they are tuned, what is wrong, and keys
#[derive(Debug, Parser)]
#[command(name = PROGRAM, version, disable_help_subcommand = true, arg_required_else_help = false)]
struct Arguments {
    #[command(flatten)]
    end: EndArguments,
    #[command(subcommand)]
    command: Command,
}

/// Which end is meant.
#[derive(Clone, Debug, Args)]
struct EndArguments {
    /// The control socket of the end that is meant [default: the only one in /run/braid]
    #[arg(long, global = true, value_name = "PATH")]
    control: Option<PathBuf>,
    /// Of an end with several tunnels, that with this TAP
    #[arg(long, global = true, value_name = "TAP")]
    tap: Option<String>,
}

impl EndArguments {
    fn connect(&self) -> Result<Client, String> {
        Client::connect(self.control.as_deref(), self.tap.as_deref())
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Tell how an end is: its uplinks, what came and went, what was lost
    Status(status::StatusArguments),
    /// Watch an end: the same, live, with what happens
    Top(top::TopArguments),
    /// Show how long things took: round trips, holds, transits, the reactor
    Histogram(histogram::HistogramArguments),
    /// Tell all numbers as Prometheus wants them, once or to whoever asks by HTTP
    Metrics(metrics::MetricsArguments),
    /// Change how an end sends, while it runs
    Mode(change::ModeArguments),
    /// Change how long an end holds received frames at most, while it runs
    Window(change::WindowArguments),
    /// Add, remove or change an uplink, while the box runs
    Uplink(change::UplinkArguments),
    /// Have an end take its configuration file as it is now
    Reload,
    /// Record what enters and leaves an end, for Wireshark
    Trace(trace::TraceArguments),
    /// Find out what is wrong with this machine, or an end that runs on it
    Doctor(doctor::DoctorArguments),
    /// Make a private key: on standard output, or in a file of its owner's alone, and then print the public key
    Keygen {
        /// Make a secret that two ends share beside their keys, instead; there is no public key to it
        #[arg(long)]
        preshared: bool,
        /// The file to make, which must not be there
        file: Option<PathBuf>,
    },
    /// Print the public key that belongs to a private key
    Pubkey {
        /// The file with the private key; standard input unless given
        file: Option<PathBuf>,
    },
}

/// The command line of `braidctl`, for those who write about it: man pages, completions.
#[must_use]
pub fn command() -> clap::Command {
    Arguments::command()
}

/// Does what the command line asks for; errors go to standard error, one line each.
#[must_use]
pub fn run(arguments: Vec<OsString>) -> ExitCode {
    if let Err(error) = hide_memory() {
        return fail(PROGRAM, &error, EXIT_RUNTIME);
    }
    let outcome = match parse_alone(arguments) {
        Ok(Request::Run(arguments)) => obey(&arguments),
        Ok(Request::Show(text)) => say(&text).map(|()| ExitCode::SUCCESS),
        Err(error) => return fail(PROGRAM, &error, EXIT_USAGE),
    };
    outcome.unwrap_or_else(|error| fail(PROGRAM, &error, EXIT_RUNTIME))
}

fn obey(Arguments { end, command }: &Arguments) -> Result<ExitCode, String> {
    match command {
        Command::Status(arguments) => status::run(end, arguments)?,
        Command::Top(arguments) => top::run(end, arguments)?,
        Command::Histogram(arguments) => histogram::run(end, arguments)?,
        Command::Metrics(arguments) => metrics::run(end, arguments)?,
        Command::Mode(arguments) => change::mode(end, arguments)?,
        Command::Window(arguments) => change::window(end, arguments)?,
        Command::Uplink(arguments) => change::uplink(end, arguments)?,
        Command::Reload => change::reload(end)?,
        Command::Trace(arguments) => trace::run(end, arguments)?,
        Command::Doctor(arguments) => return doctor::run(end, arguments),
        Command::Keygen { preshared, file } => keys::keygen(*preshared, file.as_deref())?,
        Command::Pubkey { file } => keys::pubkey(file.as_deref())?,
    }
    Ok(ExitCode::SUCCESS)
}

fn say(text: &str) -> Result<(), String> {
    write_to_stdout(text.as_bytes())
}

/// Past the standard library's buffers, which would keep a copy.
fn write_to_stdout(bytes: &[u8]) -> Result<(), String> {
    let stdout = io::stdout().as_fd().try_clone_to_owned().map(File::from);
    let written = stdout.and_then(|mut stdout| stdout.write_all(bytes));
    written.map_err(|error| format!("standard output cannot be written: {error}"))
}
