//! The configuration file: TOML, whose keys are the flags.

use std::ffi::OsString;
use std::io;
use std::ops::Range;
use std::path::Path;

use clap::{ArgMatches, Command, parser::ValueSource};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{UsageError, one_line};

/// A key of the file, as the flag that it stands for.
struct Setting {
    flag: String,
    value: String,
    at: Range<usize>,
}

/// Puts what the file at `path` says, which reads `text`, in front of what was typed, save for flags that were typed.
pub(super) fn merge(
    path: &Path,
    text: io::Result<String>,
    command: Command,
    typed: &ArgMatches,
    arguments: Vec<OsString>,
) -> Result<Vec<OsString>, UsageError> {
    let text = text.map_err(|error| UsageError::new(format!("cannot read {} (--config): {error}", path.display())))?;
    let settings = read(&text, &command).map_err(|(at, message)| {
        UsageError::new(format!("{}: line {}: {message}", path.display(), line_of(&text, &at)))
    })?;
    let was_typed = |flag: &str| typed.value_source(&flag.replace('-', "_")) == Some(ValueSource::CommandLine);
    let from_file = settings.into_iter().filter(|setting| !was_typed(&setting.flag));
    let mut arguments = arguments.into_iter();
    let program = arguments.next();
    Ok(program.into_iter().chain(from_file.map(|setting| setting.argument().into())).chain(arguments).collect())
}

impl Setting {
    fn argument(&self) -> String {
        if self.value.is_empty() { format!("--{}", self.flag) } else { format!("--{}={}", self.flag, self.value) }
    }
}

type Refusal = (Range<usize>, String);

fn read(text: &str, command: &Command) -> Result<Vec<Setting>, Refusal> {
    let table = DeTable::parse(text).map_err(|error| (error.span().unwrap_or(0..0), first_line(error.message())))?;
    let mut settings = vec![];
    for (key, value) in table.get_ref() {
        let flag = key.get_ref().as_ref();
        check_key(command, flag).map_err(|message| (key.span(), message))?;
        for setting in expand(flag, value)? {
            check_value(command, &setting)?;
            settings.push(setting);
        }
    }
    Ok(settings)
}

fn first_line(message: &str) -> String {
    message.lines().next().unwrap_or_default().to_owned()
}

fn check_key(command: &Command, key: &str) -> Result<(), String> {
    let flags = || command.get_arguments().filter_map(clap::Arg::get_long).filter(|flag| *flag != "config");
    if flags().any(|flag| flag == key) {
        return Ok(());
    }
    let nearest = flags().max_by(|one, other| {
        let likeness = |flag: &str| strsim::jaro_winkler(flag, key);
        likeness(one).total_cmp(&likeness(other))
    });
    let hint = nearest.map(|flag| format!(": did you mean '{flag}'?")).unwrap_or_default();
    Err(format!("unknown key '{key}'{hint}"))
}

/// A key with several values is the flag, several times; a table is its keys and values, separated by commas, where a
/// key with several values is that key, several times.
fn expand(flag: &str, value: &Spanned<DeValue<'_>>) -> Result<Vec<Setting>, Refusal> {
    let setting = |value: String, at| Setting { flag: flag.to_owned(), value, at };
    match value.get_ref() {
        DeValue::Array(values) => {
            let mut settings = vec![];
            for value in values {
                settings.extend(expand(flag, value)?);
            }
            Ok(settings)
        }
        DeValue::Table(table) => {
            let mut parts = vec![];
            for (key, value) in table {
                let values = match value.get_ref() {
                    DeValue::Array(values) => values.iter().collect(),
                    _ => vec![value],
                };
                for value in values {
                    parts.push(format!("{}={}", key.get_ref(), part(value)?));
                }
            }
            Ok(vec![setting(parts.join(","), value.span())])
        }
        DeValue::Boolean(true) => Ok(vec![setting(String::new(), value.span())]),
        DeValue::Boolean(false) => Ok(vec![]),
        _ => Ok(vec![setting(scalar(value)?, value.span())]),
    }
}

fn scalar(value: &Spanned<DeValue<'_>>) -> Result<String, Refusal> {
    match value.get_ref() {
        DeValue::String(text) if text.is_empty() => Err((value.span(), "the value is empty".to_owned())),
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Integer(number) => Ok(number.to_string()),
        _ => Err((value.span(), "the value must be a text or a whole number".to_owned())),
    }
}

/// A value in a table, which must not pass for two.
fn part(value: &Spanned<DeValue<'_>>) -> Result<String, Refusal> {
    let text = match value.get_ref() {
        DeValue::Boolean(is_so) => is_so.to_string(),
        _ => scalar(value)?,
    };
    if text.contains(',') { Err((value.span(), "the value must not have a comma".to_owned())) } else { Ok(text) }
}

/// Parses the flag alone, so that what is wrong with it can be told with its line.
fn check_value(command: &Command, setting: &Setting) -> Result<(), Refusal> {
    let alone = command.clone().try_get_matches_from([command.get_name().to_owned(), setting.argument()]);
    alone.map(drop).map_err(|error| (setting.at.clone(), one_line(&error)))
}

fn line_of(text: &str, at: &Range<usize>) -> usize {
    1 + text.bytes().take(at.start).filter(|byte| *byte == b'\n').count()
}
