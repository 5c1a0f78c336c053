//! What has happened, newest at the bottom.

use std::time::{Duration, UNIX_EPOCH};

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span, Text};

use super::{FAINT, style_of};
use crate::braidctl::status::figures::{cut, plain};
use crate::braidctl::status::verdict::Level;
use crate::braidctl::top::watch::Watch;
use crate::control::Event;

/// Those of a tunnel, below a line that says what they are.
pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, watch: &Watch, tap: &str) {
    let (width, height) = (usize::from(area.width), usize::from(area.height));
    let mut newest: Vec<Line<'_>> = watch
        .events
        .iter()
        .rev()
        .filter(|event| event.tap == tap)
        .take(height.saturating_sub(1))
        .map(|event| line(event, width))
        .collect();
    if newest.is_empty() {
        newest.push(Line::styled("nothing yet", FAINT));
    }
    let title = "── events, times in UTC ";
    let title = format!("{title}{}", "─".repeat(width.saturating_sub(title.chars().count())));
    let lines: Vec<Line<'_>> = [Line::styled(title, FAINT)].into_iter().chain(newest.into_iter().rev()).collect();
    frame.render_widget(Text::from(lines), area);
}

fn line(event: &Event, width: usize) -> Line<'static> {
    let style = if event.is_warning { style_of(Level::Warning) } else { Style::new() };
    let time = time_of_day(event.at_ms);
    let text = cut(&plain(&event.text), width.saturating_sub(time.len() + 1));
    Line::from(vec![Span::styled(format!("{time} "), FAINT), Span::styled(text, style)])
}

/// As the log has it: in UTC.
fn time_of_day(at_ms: u64) -> String {
    // What is later than the year 9999 is no time.
    let at = UNIX_EPOCH + Duration::from_millis(at_ms.min(253_402_300_799_000));
    humantime::format_rfc3339_seconds(at).to_string().get(11..19).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_of_the_day() {
        assert_eq!(time_of_day(1_790_000_000_000), "14:13:20");
        assert_eq!(time_of_day(0), "00:00:00");
        assert_eq!(time_of_day(u64::MAX).len(), 8);
    }
}
