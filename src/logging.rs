//! The log: lines on standard error, as text or as JSON, and what repeats itself at most once a minute.

use std::collections::HashMap;
use std::fmt::{self, Write};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::{self, FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormattedFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt as log_format};

use crate::config::LogConfig;

/// How often the same warning is written.
const REPEATED_EVERY: Duration = Duration::from_secs(60);
/// So many warnings are remembered; of more the oldest is forgotten.
const REMEMBERED_MAX: usize = 256;
/// Lines of this target tell what has happened, each of them news.
const EVENT_TARGET: &str = "braid::event";

/// Has the log go to standard error from now on.
///
/// # Panics
/// If there is one already.
pub(crate) fn start(config: &LogConfig) {
    let targets = Targets::new().with_default(config.level).with_targets(config.modules.clone());
    let layer = log_format::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        // A line that cannot be written must not end the tunnel, which telling of it in the same way would.
        .log_internal_errors(false);
    if config.is_json {
        let format = Sparing::new(format::format().json().flatten_event(true), repeated_in_json);
        let layer = layer.fmt_fields(format::JsonFields::new()).event_format(format);
        tracing_subscriber::registry().with(layer.with_filter(targets)).init();
    } else {
        let layer = layer.event_format(Sparing::new(format::format().with_target(false), repeated_in_text));
        tracing_subscriber::registry().with(layer.with_filter(targets)).init();
    }
}

/// Says in a line how often it has been left out.
type TellRepeated = fn(&mut String, u64);

/// Writes warnings that say the same once a minute, and then how often they have been left out.
struct Sparing<F> {
    inner: F,
    tell: TellRepeated,
    warnings: Mutex<HashMap<u64, Warning>>,
}

struct Warning {
    written_at: Instant,
    left_out: u64,
}

impl<F> Sparing<F> {
    fn new(inner: F, tell: TellRepeated) -> Self {
        Self { inner, tell, warnings: Mutex::default() }
    }

    /// Whether a warning is to be written now, and then how often it has been left out before.
    fn admit(&self, warning: u64, now: Instant) -> Option<u64> {
        let mut warnings = self.warnings.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(known) = warnings.get_mut(&warning) {
            if now.duration_since(known.written_at) < REPEATED_EVERY {
                known.left_out += 1;
                return None;
            }
            known.written_at = now;
            return Some(std::mem::take(&mut known.left_out));
        }
        if warnings.len() == REMEMBERED_MAX {
            let oldest = warnings.iter().min_by_key(|(_, known)| known.written_at).map(|(oldest, _)| *oldest);
            oldest.and_then(|oldest| warnings.remove(&oldest));
        }
        warnings.insert(warning, Warning { written_at: now, left_out: 0 });
        Some(0)
    }
}

impl<S, N, F> FormatEvent<S, N> for Sparing<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let is_warning = *event.metadata().level() <= Level::WARN && event.metadata().target() != EVENT_TARGET;
        if !is_warning {
            return self.inner.format_event(context, writer, event);
        }
        let Some(left_out) = self.admit(fingerprint(context, event), Instant::now()) else { return Ok(()) };
        if left_out == 0 {
            return self.inner.format_event(context, writer, event);
        }
        let mut line = String::new();
        self.inner.format_event(context, Writer::new(&mut line), event)?;
        (self.tell)(&mut line, left_out);
        writer.write_str(&line)
    }
}

/// What tells a warning from others: where it comes from, of whom it is, and what it says.
fn fingerprint<S, N>(context: &FmtContext<'_, S, N>, event: &Event<'_>) -> u64
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    struct Fields(DefaultHasher);
    impl Visit for Fields {
        fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
            field.name().hash(&mut self.0);
            format!("{value:?}").hash(&mut self.0);
        }
    }
    let mut fields = Fields(DefaultHasher::new());
    event.metadata().callsite().hash(&mut fields.0);
    for span in context.event_scope().into_iter().flatten() {
        span.name().hash(&mut fields.0);
        if let Some(of_span) = span.extensions().get::<FormattedFields<N>>() {
            of_span.fields.hash(&mut fields.0);
        }
    }
    event.record(&mut fields);
    fields.0.finish()
}

fn repeated_in_text(line: &mut String, left_out: u64) {
    let end = line.trim_end().len();
    line.truncate(end);
    let _ = writeln!(line, " (and {left_out} times more since)");
}

fn repeated_in_json(line: &mut String, left_out: u64) {
    if let Some(end) = line.rfind('}') {
        line.truncate(end);
        let _ = writeln!(line, ",\"left_out\":{left_out}}}");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// What a log writes of `say`, in lines.
    fn logged<F>(sparing: Sparing<F>, say: impl FnOnce()) -> Vec<String>
    where
        Sparing<F>: FormatEvent<tracing_subscriber::Registry, format::DefaultFields> + Send + Sync + 'static,
    {
        let written = Arc::new(Mutex::new(Vec::<u8>::new()));
        let sink = Arc::clone(&written);
        struct Sink(Arc<Mutex<Vec<u8>>>);
        impl std::io::Write for Sink {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                self.0.lock().expect("alone").extend_from_slice(bytes);
                Ok(bytes.len())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let layer = log_format::layer().with_ansi(false).with_writer(move || Sink(Arc::clone(&sink)));
        let subscriber = tracing_subscriber::registry().with(layer.event_format(sparing));
        tracing::subscriber::with_default(subscriber, say);
        let bytes = written.lock().expect("alone").clone();
        String::from_utf8(bytes).expect("text").lines().map(str::to_owned).collect()
    }

    #[test]
    fn what_repeats_itself_is_written_once_and_news_always() {
        let lines = logged(Sparing::new(format::format().without_time(), repeated_in_text), || {
            for number in 0..3 {
                tracing::warn!("the disk is full");
                tracing::warn!("number {number}");
                tracing::info!("all is well");
                tracing::warn!(target: EVENT_TARGET, "uplink lte: up -> down");
                let _of = tracing::info_span!("box", name = number).entered();
                tracing::warn!("the disk is full");
            }
        });
        let count = |text: &str| lines.iter().filter(|line| line.contains(text)).count();
        assert_eq!(count("the disk is full"), 1 + 3, "once, and once of each box: {lines:#?}");
        assert_eq!([count("number"), count("all is well"), count("up -> down")], [3, 3, 3]);
    }

    #[test]
    fn after_a_minute_it_is_written_again_with_how_often_it_was_not() {
        let sparing = Sparing::new((), repeated_in_text);
        let start = Instant::now();
        let at = |second: u64| start + Duration::from_secs(second);
        assert_eq!(sparing.admit(7, at(0)), Some(0));
        assert_eq!((1..60).filter_map(|second| sparing.admit(7, at(second))).count(), 0);
        assert_eq!(sparing.admit(7, at(60)), Some(59));
        assert_eq!(sparing.admit(7, at(120)), Some(0));
        (0..2 * REMEMBERED_MAX as u64).for_each(|other| assert!(sparing.admit(100 + other, at(121)).is_some()));
        assert!(sparing.warnings.lock().expect("alone").len() <= REMEMBERED_MAX);
        let mut text = "WARN the disk is full\n".to_owned();
        repeated_in_text(&mut text, 59);
        assert_eq!(text, "WARN the disk is full (and 59 times more since)\n");
        let mut json = "{\"level\":\"WARN\",\"message\":\"}\"}\n".to_owned();
        repeated_in_json(&mut json, 59);
        assert_eq!(json, "{\"level\":\"WARN\",\"message\":\"}\",\"left_out\":59}\n");
    }
}
