//! Watches an end.

mod screen;
mod source;
mod view;
mod watch;

use std::convert::Infallible;
use std::io::{self, IsTerminal};
use std::thread;
use std::time::Duration;

use clap::Args;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;

use super::{EndArguments, say};
use crate::units::parse_duration;
use source::Source;
use watch::Watch;

/// What is drawn where nobody says how large it may be.
const SIZE: (u16, u16) = (80, 24);
/// More often nobody can look, and the end has better things to do.
const INTERVAL_MIN: Duration = Duration::from_millis(50);
const INTERVAL_MAX: Duration = Duration::from_secs(3_600);

/// How.
#[derive(Debug, Args)]
pub(super) struct TopArguments {
    /// How long to wait before the end is asked again: 50ms to 1h
    #[arg(long, value_name = "DURATION", value_parser = parse_interval, default_value = "1s")]
    interval: Duration,
    /// Print what there is to be seen after one interval, as text, and end
    #[arg(long)]
    once: bool,
}

fn parse_interval(text: &str) -> Result<Duration, String> {
    let interval = parse_duration(text)?;
    let is_fit = (INTERVAL_MIN..=INTERVAL_MAX).contains(&interval);
    if is_fit { Ok(interval) } else { Err(format!("'{text}' is out of range: from 50ms to 1h")) }
}

/// Watches an end until told not to, or once.
///
/// # Errors
/// Why it cannot be watched.
pub(super) fn run(end: &EndArguments, arguments: &TopArguments) -> Result<(), String> {
    let mut watch = Watch::new(arguments.interval);
    let mut source = Source::new(end);
    // An end that is not there at the start is more likely misnamed than away.
    watch.take(Ok(source.ask()?));
    if arguments.once {
        thread::sleep(arguments.interval);
        watch.take(Ok(source.ask()?));
        return say(&once(&mut watch));
    }
    if !io::stdout().is_terminal() {
        return Err("top needs a terminal: add --once for text, or use 'braidctl status'".to_owned());
    }
    screen::show(watch, source)
}

/// What there is to be seen, of one tunnel after another, as text.
fn once(watch: &mut Watch) -> String {
    let width = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    let width = width.filter(|width| (20..=1_000).contains(width)).unwrap_or(SIZE.0);
    let mut texts = vec![];
    for place in 0..watch.tunnels.len().max(1) {
        watch.selected = place;
        // Nobody can scroll here.
        let uplinks = watch.tunnel().map_or(0, |tunnel| tunnel.flows.len()) as u16;
        texts.push(text_of(&drawn(watch, (width, SIZE.1.max(uplinks + SIZE.1 / 2)), false)));
    }
    texts.join("\n")
}

/// What is seen on a terminal of that size.
fn drawn(watch: &Watch, (width, height): (u16, u16), has_keys: bool) -> Buffer {
    let terminal: Result<Terminal<TestBackend>, Infallible> = Terminal::new(TestBackend::new(width, height));
    let Ok(mut terminal) = terminal;
    let Ok(_) = terminal.draw(|frame| view::draw(frame, watch, has_keys));
    terminal.backend().buffer().clone()
}

/// The text of it, without empty lines at its end.
fn text_of(buffer: &Buffer) -> String {
    let width = usize::from(buffer.area.width).max(1);
    let lines = buffer.content().chunks(width).map(|row| {
        let line: String = row.iter().map(|cell| cell.symbol()).collect();
        line.trim_end().to_owned()
    });
    let text = lines.collect::<Vec<_>>().join("\n");
    format!("{}\n", text.trim_end())
}
