//! What is seen of an end that is watched. What matters most keeps its room when there is little: whether all is well, then
//! the uplinks, then the rest.

mod events;
mod totals;
mod uplinks;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};

use super::watch::Watch;
use crate::braidctl::status::figures::{cut, number, plain};
use crate::braidctl::status::verdict::{Level, judge};

/// Rows of an uplink where there is room.
const ROWS_PER_UPLINK_MAX: usize = 3;
/// So many rows of events are worth more than a second one of an uplink.
const EVENT_ROWS_WANTED: usize = 8;

/// What is not to stand out.
const FAINT: Style = Style::new().fg(Color::DarkGray);

/// Rows of each part, which all together are those of the terminal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Rows {
    head: u16,
    tabs: u16,
    totals: u16,
    columns: u16,
    uplinks: u16,
    per_uplink: u16,
    events: u16,
    keys: u16,
}

impl Rows {
    fn share(height: u16, uplinks: usize, tunnels: usize, has_keys: bool) -> Self {
        let mut left = usize::from(height);
        let mut take = |wanted: usize| {
            let taken = wanted.min(left);
            left -= taken;
            taken as u16
        };
        let (head, columns, mut list) = (take(1), take(1), take(uplinks.max(1)));
        let (totals, keys, tabs) = (take(2), take(usize::from(has_keys)), take(usize::from(tunnels > 1)));
        let mut per_uplink = 1;
        if usize::from(list) >= uplinks {
            let can_grow = |rows: &usize| left >= uplinks * (rows - 1) + EVENT_ROWS_WANTED;
            per_uplink = (1..=ROWS_PER_UPLINK_MAX).rev().find(can_grow).unwrap_or(1);
            let more = uplinks * (per_uplink - 1);
            left -= more;
            list += more as u16;
        }
        Self { head, tabs, totals, columns, uplinks: list, per_uplink: per_uplink as u16, events: left as u16, keys }
    }

    /// From the top to the bottom: head, tabs, totals, columns, uplinks, events, keys.
    fn areas(self, area: Rect) -> [Rect; 7] {
        let rows = [self.head, self.tabs, self.totals, self.columns, self.uplinks, self.events, self.keys];
        Layout::vertical(rows.map(Constraint::Length)).areas(area)
    }
}

/// Draws all of it, with the keys if there are any.
pub(super) fn draw(frame: &mut Frame<'_>, watch: &Watch, has_keys: bool) {
    let area = frame.area();
    let uplinks = watch.tunnel().map_or(0, |tunnel| tunnel.flows.len());
    let rows = Rows::share(area.height, uplinks, watch.tunnels.len(), has_keys);
    let [head_area, tabs_area, totals_area, columns_area, uplinks_area, events_area, keys_area] = rows.areas(area);
    frame.render_widget(head(watch, usize::from(area.width)), head_area);
    frame.render_widget(tabs(watch, usize::from(area.width)), tabs_area);
    if let Some(tunnel) = watch.tunnel() {
        totals::draw(frame, totals_area, tunnel);
        uplinks::draw(frame, [columns_area, uplinks_area], tunnel, watch.scrolled, rows.per_uplink);
        events::draw(frame, events_area, watch, &tunnel.status.tap);
    }
    frame.render_widget(keys(watch.tunnels.len() > 1), keys_area);
    if watch.trouble.is_some() {
        // What is still there to be seen is how it was.
        let past = Rect { y: area.y + rows.head, height: area.height - rows.head, ..area };
        frame.buffer_mut().set_style(past, Style::new().add_modifier(Modifier::DIM));
    }
}

/// How something so bad is written.
fn style_of(level: Level) -> Style {
    let colour = match level {
        Level::Good => Color::Green,
        Level::Warning => Color::Yellow,
        Level::Bad => Color::Red,
    };
    Style::new().fg(colour)
}

/// Whether it is well; and, if there is room beside that, how it sends and how often it is asked.
fn head(watch: &Watch, width: usize) -> Line<'static> {
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let (name, text, level) = match (&watch.trouble, watch.tunnel()) {
        (Some(trouble), _) => ("the end is away".to_owned(), format!("trying again: {}", plain(trouble)), Level::Bad),
        (None, None) => ("no tunnel".to_owned(), "the end has none".to_owned(), Level::Warning),
        (None, Some(tunnel)) => {
            let verdict = judge(&tunnel.status);
            (plain(&tunnel.status.tap), verdict.text, verdict.level)
        }
    };
    let pace = if watch.is_paused { "paused".to_owned() } else { format!("every {:?}", watch.interval) };
    let mut beside = vec![pace];
    if let Some(tunnel) = watch.tunnel() {
        let status = &tunnel.status;
        let window = status.window_ms.map_or("no window".to_owned(), |window| format!("window {} ms", number(window)));
        beside.splice(0..0, [plain(&status.mode), window]);
    }
    let text = cut(&text, width.saturating_sub(name.chars().count() + 2));
    let used = name.chars().count() + 2 + text.chars().count();
    // "paused" is what must be seen, so the rest gives way first.
    while !beside.is_empty() && used + 2 + beside.join(", ").chars().count() > width {
        beside.remove(0);
    }
    let beside = beside.join(", ");
    let gap = " ".repeat(width.saturating_sub(used + beside.chars().count()));
    Line::from(vec![
        Span::styled(format!("{name}: "), bold),
        Span::styled(text, style_of(level).add_modifier(Modifier::BOLD)),
        Span::raw(gap),
        Span::styled(beside, if watch.is_paused { style_of(Level::Warning) } else { FAINT }),
    ])
}

/// All tunnels, each in the colour of how it is. Those before the one that is shown give way to it.
fn tabs(watch: &Watch, width: usize) -> Line<'static> {
    let tab = |place: usize| {
        let status = &watch.tunnels[place].status;
        let style = style_of(judge(status).level);
        let style = if place == watch.selected { style.add_modifier(Modifier::REVERSED) } else { style };
        Span::styled(format!(" {} ", plain(status.name.as_deref().unwrap_or(&status.tap))), style)
    };
    let tabs: Vec<Span<'_>> = (0..watch.tunnels.len()).map(tab).collect();
    let mut first = 0;
    while first < watch.selected && tabs[first..=watch.selected].iter().map(Span::width).sum::<usize>() > width {
        first += 1;
    }
    Line::from(tabs.into_iter().skip(first).collect::<Vec<_>>())
}

fn keys(are_several: bool) -> Line<'static> {
    let mut keys = vec![("q", "quit"), ("p", "pause"), ("+ -", "interval"), ("↑ ↓", "uplinks")];
    if are_several {
        keys.push(("Tab ← →", "tunnel"));
    }
    let spans = keys.into_iter().flat_map(|(key, what)| {
        [
            Span::styled(format!(" {key} "), Style::new().add_modifier(Modifier::REVERSED)),
            Span::styled(format!(" {what}  "), FAINT),
        ]
    });
    Line::from(spans.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests;
