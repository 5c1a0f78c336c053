//! The uplinks: a row each with their figures and, beside it, how much came and went by them of late.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{RenderDirection, Sparkline};

use super::{FAINT, style_of};
use crate::braidctl::status::figures::{NONE, age, bytes, cut, number, number_or_none, percent, plain};
use crate::braidctl::status::verdict::{level_of_state, state_of};
use crate::braidctl::top::watch::{Flow, Tunnel};
use crate::control::UplinkStatus;

/// The least columns of a curve, for which figures that are not so important give way.
const CURVE_MIN: usize = 16;
/// From the most important on; those that there is no room for are left out.
const COLUMNS: [Column; 12] = [
    Column { head: "uplink", width: 15, is_text: true, of: |uplink, _| cut(&uplink.name, 15) },
    Column { head: "state", width: 9, is_text: true, of: |uplink, _| cut(state_of(uplink), 9) },
    Column { head: "↑Mb/s", width: 5, is_text: false, of: |_, flow| number_or_none(flow.sent_mbps) },
    Column { head: "↓Mb/s", width: 5, is_text: false, of: |_, flow| number_or_none(flow.received_mbps) },
    Column { head: "RTT", width: 5, is_text: false, of: |uplink, _| number_or_none(uplink.rtt_ms) },
    Column { head: "↑loss", width: 5, is_text: false, of: |uplink, _| percent(uplink.loss) },
    Column { head: "↓loss", width: 5, is_text: false, of: |uplink, _| percent(uplink.loss_receiving) },
    Column { head: "carries", width: 7, is_text: false, of: |uplink, _| number_or_none(uplink.capacity_mbps) },
    Column { head: "jitter", width: 6, is_text: false, of: |uplink, _| number(uplink.jitter_ms) },
    Column { head: "queue", width: 6, is_text: false, of: |uplink, _| number_or_none(uplink.queueing_ms) },
    Column { head: "sent", width: 7, is_text: false, of: |uplink, _| bytes(uplink.tx_bytes) },
    Column { head: "received", width: 8, is_text: false, of: |uplink, _| bytes(uplink.rx_bytes) },
];

/// A figure of an uplink.
struct Column {
    head: &'static str,
    width: usize,
    is_text: bool,
    of: fn(&UplinkStatus, &Flow) -> String,
}

impl Column {
    fn cell(&self, text: &str) -> String {
        let width = self.width;
        if self.is_text { format!("{text:<width$} ") } else { format!("{text:>width$} ") }
    }
}

/// Those that there is room for beside a curve.
fn columns(width: usize) -> &'static [Column] {
    let mut left = width.saturating_sub(CURVE_MIN);
    let fits = |column: &&Column| {
        let fits = left > column.width;
        left = left.saturating_sub(column.width + 1);
        fits
    };
    &COLUMNS[..COLUMNS.iter().take_while(fits).count().max(4)]
}

/// Draws the heads of the columns, and below them the uplinks from the `scrolled`th on.
pub(super) fn draw(frame: &mut Frame<'_>, [heads, area]: [Rect; 2], tunnel: &Tunnel, scrolled: usize, per_uplink: u16) {
    let columns = columns(usize::from(area.width));
    let used: usize = columns.iter().map(|column| column.width + 1).sum();
    let highest = tunnel.flows.iter().flat_map(|flow| &flow.history).copied().fold(0.0, f64::max);
    let curve_head = format!("rate, to {}", number(highest));
    let names: String = columns.iter().map(|column| column.cell(column.head)).collect();
    frame.render_widget(Line::styled(format!("{names}{curve_head}"), FAINT.add_modifier(Modifier::UNDERLINED)), heads);
    let room = usize::from(area.height / per_uplink.max(1));
    let all = tunnel.flows.len();
    let first = scrolled.min(all.saturating_sub(room));
    let hidden = all - (first + room).min(all);
    for (row, place) in (first..all.min(first + room)).enumerate() {
        let y = area.y + row as u16 * per_uplink;
        let place_area = Rect { y, height: per_uplink, ..area };
        let [figures, curve] =
            Layout::horizontal([Constraint::Length(used as u16), Constraint::Min(0)]).areas(place_area);
        let (uplink, flow) = (&tunnel.status.uplinks[place], &tunnel.flows[place]);
        let mut lines = vec![figures_line(columns, uplink, flow)];
        lines.extend(
            details(uplink, used.saturating_sub(3))
                .into_iter()
                .map(|detail| Line::styled(format!("  {detail}"), FAINT)),
        );
        frame.render_widget(Text::from(lines), figures);
        frame.render_widget(curve_of(flow, highest, curve.width), curve);
    }
    let above = if first > 0 { format!("↑ {first} more") } else { String::new() };
    let below = if hidden > 0 { format!("↓ {hidden} more") } else { String::new() };
    let more = format!("{above} {below}").trim().to_owned();
    if !more.is_empty() {
        // At the right of the heads, where no figure is hidden by it.
        frame.render_widget(Line::styled(more, Style::new().fg(Color::Yellow)).right_aligned(), heads);
    }
}

fn figures_line(columns: &[Column], uplink: &UplinkStatus, flow: &Flow) -> Line<'static> {
    let spans = columns.iter().map(|column| {
        let style = match column.head {
            "uplink" => Style::new().add_modifier(Modifier::BOLD),
            "state" => style_of(level_of_state(state_of(uplink))),
            _ => Style::new(),
        };
        Span::styled(column.cell(&(column.of)(uplink, flow)), style)
    });
    Line::from(spans.collect::<Vec<_>>())
}

/// What is known beside the figures, in as many lines of at most `width` characters as it takes.
fn details(uplink: &UplinkStatus, width: usize) -> Vec<String> {
    let mut parts = vec![format!("for {}", age(uplink.state_for_s))];
    let place = |address: &Option<String>| address.as_deref().map_or(NONE.to_owned(), plain);
    parts.extend(uplink.budget.map(|budget| {
        let spent = if budget.is_spent { ", spent" } else { "" };
        format!("{} of {}{spent}", bytes(budget.used_bytes), bytes(budget.limit_bytes))
    }));
    parts.extend(uplink.is_metered.then(|| "metered".to_owned()));
    parts.extend(uplink.max_rate_mbps.map(|rate| format!("at most {} Mbit/s", number(rate))));
    parts.extend(uplink.path_mtu.map(|mtu| format!("MTU {mtu}")));
    parts.extend(uplink.device.as_deref().map(plain));
    parts.push(format!("{} → {}", place(&uplink.local), place(&uplink.remote)));
    parts.extend(uplink.seen_as.as_deref().map(|address| format!("seen as {}", plain(address))));
    let mut lines: Vec<String> = vec![];
    for part in parts {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 2 + part.chars().count() <= width => {
                line.push_str(", ");
                line.push_str(&part);
            }
            _ => lines.push(cut(&part, width)),
        }
    }
    lines
}

/// The newest at the right. All uplinks have the same scale, so that they can be compared.
fn curve_of(flow: &Flow, highest: f64, width: u16) -> Sparkline<'static> {
    let height_of = |rate: &f64| if highest > 0.0 { (rate / highest * 1_000.0).round() as u64 } else { 0 };
    let heights: Vec<u64> = flow.history.iter().take(usize::from(width)).map(height_of).collect();
    Sparkline::default()
        .data(heights)
        .max(1_000)
        .direction(RenderDirection::RightToLeft)
        .style(Style::new().fg(Color::Cyan))
}
