//! How long things took: as a table, a picture, or in the forms that HdrHistogram's own tools read.

mod log;
mod percentiles;
mod picture;
mod record;
mod table;

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum};

use super::status;
use super::{Client, EndArguments, write_to_stdout};
use crate::control::{Quantity, Status, UplinkStatus};
use crate::units::parse_duration;
#[cfg(test)]
pub(super) use record::decode;
pub(super) use record::{Recorded, fetch};

/// Which, and how.
#[derive(Debug, Args)]
pub(super) struct HistogramArguments {
    /// Only what belongs to this uplink: its name, or its number on the wire
    #[arg(long, value_name = "UPLINK")]
    uplink: Option<String>,
    /// Only of these: rtt, delay-variation, hold, tap-to-wire, wire-to-tap, loop; separated by commas
    #[arg(long, value_name = "QUANTITY", value_delimiter = ',', hide_possible_values = true, value_parser = quantity())]
    of: Vec<Quantity>,
    /// table; hgrm or hlog, which HdrHistogram's own tools read; json; svg or png, which are pictures
    #[arg(long, value_name = "FORMAT", value_enum, hide_possible_values = true, default_value = "table")]
    format: Format,
    /// Where to write it, instead of standard output; pictures need that
    #[arg(long, value_name = "FILE", required_if_eq_any = [("format", "svg"), ("format", "png")])]
    output: Option<PathBuf>,
    /// Wait for so long, and show only what happens meanwhile [default: all since the start]
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_duration)]
    span: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Table,
    Hgrm,
    Hlog,
    Json,
    Svg,
    Png,
}

fn quantity() -> impl TypedValueParser<Value = Quantity> {
    let names = PossibleValuesParser::new(Quantity::ALL.map(Quantity::name));
    names.try_map(|name| Quantity::ALL.into_iter().find(|of| of.name() == name).ok_or("there is no such quantity"))
}

/// The time that histograms are of.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Span {
    /// When it began, since 1970.
    began: Duration,
    /// How long it was.
    length: Duration,
}

/// Shows how long things took.
///
/// # Errors
/// Why that cannot be shown.
pub(super) fn run(end: &EndArguments, arguments: &HistogramArguments) -> Result<(), String> {
    let mut client = end.connect()?;
    let tunnels = status::fetch(&mut client)?;
    let (all, span) = match arguments.span {
        Some(length) => meanwhile(end, &mut client, length)?,
        None => (fetch(&mut client)?, since_start(&tunnels)),
    };
    let chosen = choose(all, &tunnels, arguments.uplink.as_deref(), &arguments.of)?;
    let bytes = render(&chosen, span, arguments.format)?;
    match &arguments.output {
        Some(path) => fs::write(path, bytes).map_err(|error| format!("{} cannot be written: {error}", path.display())),
        None => write_to_stdout(&bytes),
    }
}

/// What happens from now on, for so long.
fn meanwhile(end: &EndArguments, client: &mut Client, length: Duration) -> Result<(Vec<Recorded>, Span), String> {
    let before = fetch(client)?;
    let began = now();
    thread::sleep(length);
    // An end need not keep a connection that says nothing for long.
    let after = fetch(&mut end.connect()?)?;
    Ok((record::subtract(after, &before)?, Span { began, length: now().saturating_sub(began) }))
}

fn since_start(tunnels: &[Status]) -> Span {
    let uptime = tunnels.first().map_or(0.0, |tunnel| tunnel.process.uptime_s);
    let length = Duration::try_from_secs_f64(uptime).unwrap_or_default();
    Span { began: now().saturating_sub(length), length }
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Those that are wanted, of which there is at least one.
fn choose(
    mut all: Vec<Recorded>,
    tunnels: &[Status],
    uplink: Option<&str>,
    of: &[Quantity],
) -> Result<Vec<Recorded>, String> {
    all.retain(|recorded| of.is_empty() || of.contains(&recorded.of));
    if all.is_empty() {
        return Err("the end tells of no such histogram".to_owned());
    }
    let Some(wanted) = uplink else { return Ok(all) };
    if all.iter().all(|recorded| recorded.uplink.is_none()) {
        return Err("--uplink: of single uplinks there are only rtt and delay-variation".to_owned());
    }
    all.retain(|recorded| is_of_uplink(recorded, tunnels, wanted));
    if all.is_empty() {
        let known: Vec<&str> = uplinks(tunnels, None).map(|uplink| uplink.name.as_str()).collect();
        return Err(format!("--uplink {wanted}: there is no such uplink; there are: {}", known.join(" ")));
    }
    Ok(all)
}

/// Whether it is of the uplink with that name, or, where none has it, with that number.
fn is_of_uplink(recorded: &Recorded, tunnels: &[Status], wanted: &str) -> bool {
    let Some(name) = recorded.uplink.as_deref() else { return false };
    if uplinks(tunnels, None).any(|uplink| uplink.name == wanted) {
        return name == wanted;
    }
    uplinks(tunnels, recorded.tap.as_deref()).any(|uplink| uplink.name == name && uplink.number.to_string() == wanted)
}

/// Those of all tunnels, or of that with a TAP.
fn uplinks<'a>(tunnels: &'a [Status], tap: Option<&'a str>) -> impl Iterator<Item = &'a UplinkStatus> {
    let tunnels = tunnels.iter().filter(move |tunnel| tap.is_none_or(|tap| tunnel.tap == tap));
    tunnels.flat_map(|tunnel| &tunnel.uplinks)
}

fn render(all: &[Recorded], span: Span, format: Format) -> Result<Vec<u8>, String> {
    match format {
        Format::Table => Ok(table::render(all, span.length).into_bytes()),
        Format::Hgrm => percentiles::render(all).map(String::into_bytes),
        Format::Hlog => log::render(all, span),
        Format::Json => record::json(all, span).map(String::into_bytes),
        Format::Svg => picture::svg(all).map(String::into_bytes),
        Format::Png => picture::png(all),
    }
}

#[cfg(test)]
mod tests;
