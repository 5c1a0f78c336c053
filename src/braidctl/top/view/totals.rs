//! What comes and goes by the whole tunnel, and what is lost and held.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span, Text};

use super::{FAINT, style_of};
use crate::braidctl::status::figures::{number, number_or_none, short_count};
use crate::braidctl::status::verdict::Level;
use crate::braidctl::top::watch::Tunnel;

/// In two lines, which begin with what is most important. Of holds the median, the 99th percentile and the longest are told.
pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, tunnel: &Tunnel) {
    frame.render_widget(Text::from(vec![flow(tunnel), losses(tunnel)]), area);
}

fn flow(tunnel: &Tunnel) -> Line<'static> {
    let (status, rates) = (&tunnel.status, tunnel.rates);
    let mut spans = vec![];
    let mut tell = |what: &str, mbps: Option<f64>, rest: String| {
        spans.extend([
            Span::styled(format!("{what} "), FAINT),
            Span::styled(number_or_none(mbps), Style::new().add_modifier(Modifier::BOLD)),
            Span::styled(format!("{rest}  "), FAINT),
        ]);
    };
    let frames = |frames: f64| format!(" Mb/s, {}/s", short(frames.round() as u64));
    tell("sent", rates.map(|rates| rates.sent_mbps), rates.map_or(String::new(), |rates| frames(rates.sent_frames)));
    let delivered = rates.map_or(String::new(), |rates| frames(rates.delivered_frames));
    tell("delivered", rates.map(|rates| rates.delivered_mbps), delivered);
    if let Some(capacity) = status.capacity_mbps {
        tell(
            "carries",
            Some(capacity),
            status.safe_mbps.map_or(String::new(), |safe| format!(", safe {}", number(safe))),
        );
    }
    Line::from(spans)
}

/// With nothing between figure and unit.
fn short(count: u64) -> String {
    short_count(count).replace(' ', "")
}

fn losses(tunnel: &Tunnel) -> Line<'static> {
    let (rx, tx) = (&tunnel.status.rx, &tunnel.status.tx);
    let lost_now = tunnel.rates.map_or(0.0, |rates| rates.lost_frames);
    let now = if lost_now > 0.0 { format!(" +{}/s", number(lost_now)) } else { String::new() };
    let style = if lost_now > 0.0 { style_of(Level::Bad) } else { Style::new() };
    let mut spans = vec![Span::styled("lost ", FAINT), Span::styled(format!("{}{now}  ", short(rx.lost)), style)];
    let [p50, p99, max] = [rx.hold_ms.p50, rx.hold_ms.p99, rx.hold_ms.max].map(number);
    for (what, figure) in [
        ("late", short(rx.late)),
        ("restored", short(rx.restored)),
        ("held", format!("{p50}/{p99}/{max} ms")),
        ("reordered", short(rx.reordered)),
        ("waiting", short(tx.waiting)),
        ("duplicates", short(rx.duplicates)),
    ] {
        spans.extend([Span::styled(format!("{what} "), FAINT), Span::raw(format!("{figure}  "))]);
    }
    Line::from(spans)
}
