//! What the user typed, on the command line and in the configuration file, made into a validated [`crate::config`].
//!
//! No system call here but those that read the file, and those that hold keys. Both ways of saying a thing lead through the same parsers:
//! a key of the file becomes the flag of the same name, put in front of those on the command line, which win.

mod arguments;
mod boxes;
mod file;
mod files;
mod flags;
pub(crate) mod keys;
mod values;

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use arguments::{BoxArguments, GatewayArguments};
use clap::error::ErrorKind;
use clap::{Command, CommandFactory, Parser};
pub(crate) use files::{ReadFiles, SystemFiles, read_some};

use crate::config::{BoxConfig, Flag, GatewayConfig};

/// What is wrong with what the user typed: one line, with what to do.
#[derive(Debug, PartialEq, Eq)]
pub struct UsageError(String);

impl UsageError {
    /// What the message quotes may hold line breaks, and worse things to say to a terminal.
    fn new(message: impl Into<String>) -> Self {
        Self(message.into().replace(char::is_control, "\u{fffd}"))
    }
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}

/// What the user wants.
#[derive(Debug)]
pub enum Request<C> {
    /// A run with this configuration.
    Run(C),
    /// To read this text (help, or the version).
    Show(String),
}

/// The command lines of `braid-box` and `braid-gateway`, for those who write about them: man pages, completions.
#[must_use]
pub fn commands() -> [Command; 2] {
    [BoxArguments::command(), GatewayArguments::command()]
}

/// What `braid-box` is to do. `arguments` begins with the program's name.
///
/// # Errors
/// What is wrong with them.
pub fn parse_box(arguments: Vec<OsString>) -> Result<Request<BoxConfig>, UsageError> {
    parse_box_with(arguments, &SystemFiles)
}

/// The same, where `files` has the files.
pub(crate) fn parse_box_with(
    arguments: Vec<OsString>,
    files: &impl ReadFiles,
) -> Result<Request<BoxConfig>, UsageError> {
    parse::<BoxArguments, _>(arguments, files, |arguments, flags| arguments.into_config(flags, files))
}

/// What `braid-gateway` is to do. `arguments` begins with the program's name.
///
/// # Errors
/// What is wrong with them.
pub fn parse_gateway(arguments: Vec<OsString>) -> Result<Request<GatewayConfig>, UsageError> {
    parse_gateway_with(arguments, &SystemFiles)
}

/// The same, where `files` has the files.
pub(crate) fn parse_gateway_with(
    arguments: Vec<OsString>,
    files: &impl ReadFiles,
) -> Result<Request<GatewayConfig>, UsageError> {
    parse::<GatewayArguments, _>(arguments, files, |arguments, flags| arguments.into_config(flags, files))
}

fn parse<A: Parser, C>(
    arguments: Vec<OsString>,
    files: &impl ReadFiles,
    into_config: impl FnOnce(A, Vec<Flag>) -> Result<C, UsageError>,
) -> Result<Request<C>, UsageError> {
    let typed = match A::command().try_get_matches_from(&arguments) {
        Ok(matches) => matches,
        Err(error) => return show_or_refuse(&error).map(Request::Show),
    };
    let arguments = match typed.get_one::<PathBuf>("config") {
        Some(path) => file::merge(path, files.config(path), A::command(), &typed, arguments)?,
        None => arguments,
    };
    let matches = A::command().try_get_matches_from(arguments).map_err(|error| UsageError::new(one_line(&error)))?;
    let arguments = A::from_arg_matches(&matches).map_err(|error| UsageError::new(one_line(&error)))?;
    let config = into_config(arguments, flags::given(&A::command(), &matches))?;
    if matches.get_flag("print_config") {
        return Ok(Request::Show(flags::print(&A::command(), &matches)));
    }
    Ok(Request::Run(config))
}

/// What a program is to do that has no configuration file. `arguments` begins with its name.
pub(crate) fn parse_alone<A: Parser>(arguments: Vec<OsString>) -> Result<Request<A>, UsageError> {
    match A::try_parse_from(arguments) {
        Ok(arguments) => Ok(Request::Run(arguments)),
        Err(error) => show_or_refuse(&error).map(Request::Show),
    }
}

fn show_or_refuse(error: &clap::Error) -> Result<String, UsageError> {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Ok(error.to_string()),
        _ => Err(UsageError::new(one_line(error))),
    }
}

/// What clap says in a paragraph, in a line.
fn one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let said = lines.take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information"));
    let line = said.collect::<Vec<_>>().join(" ");
    line.strip_prefix("error: ").unwrap_or(&line).to_owned()
}

#[cfg(test)]
mod tests;
