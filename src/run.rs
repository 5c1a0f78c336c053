//! What the binaries have in common: parse, log, run, tell.

use std::ffi::OsString;
use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

use crate::cli::{Request, UsageError};
use crate::config::ProcessConfig;
use crate::io::{Reread, hide_memory};
use crate::logging;

/// The exit code of a run that could not start or had to stop.
pub(crate) const EXIT_RUNTIME: u8 = 1;
/// The exit code of a command line that cannot be obeyed.
pub(crate) const EXIT_USAGE: u8 = 2;

/// Does what the command line asks for; errors go to standard error, one line each.
pub fn run<C, E: Display>(
    program: &str,
    parse: impl Fn(Vec<OsString>) -> Result<Request<C>, UsageError>,
    process: impl Fn(&C) -> &ProcessConfig,
    run: impl FnOnce(&C, &dyn Fn() -> Reread) -> Result<(), E>,
) -> ExitCode {
    // Keys are read next.
    if let Err(error) = hide_memory() {
        return fail(program, &error, EXIT_RUNTIME);
    }
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let config = match parse(arguments.clone()) {
        Ok(Request::Run(config)) => config,
        Ok(Request::Show(text)) => {
            // Who reads it may have read enough.
            let _ = io::stdout().write_all(text.as_bytes());
            return ExitCode::SUCCESS;
        }
        Err(error) => return fail(program, &error, EXIT_USAGE),
    };
    logging::start(&process(&config).log);
    let reread = || match parse(arguments.clone()) {
        Ok(Request::Run(config)) => Ok(process(&config).flags.clone()),
        Ok(Request::Show(_)) => Err("it asks for help now".to_owned()),
        Err(error) => Err(error.to_string()),
    };
    match run(&config, &reread) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(program, &error, EXIT_RUNTIME),
    }
}

pub(crate) fn fail(program: &str, error: &impl Display, code: u8) -> ExitCode {
    // A path may hold line breaks, and worse things to say to a terminal.
    let line = error.to_string().replace(char::is_control, "\u{fffd}");
    // Where nobody listens there is nobody to tell.
    let _ = writeln!(io::stderr(), "{program}: {line}");
    ExitCode::from(code)
}
