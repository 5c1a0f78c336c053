//! How tunnels are, for people: whether all is well, then the uplinks, then what came, went, and was lost.

use std::fmt::Write;

use super::figures::{age, bytes, count, cut, nanoseconds, number, number_or_none, percent, plain};
use super::paint::Paint;
use super::verdict::{Level, judge, level_of_state, state_of};
use crate::control::{Quantiles, Status, UplinkStatus};

/// The most columns that are used.
const WIDTH: usize = 80;
/// Of those, what a line's first word has.
const INDENT: usize = 11;

/// All tunnels, one below the other.
pub(super) fn render(tunnels: &[Status], paint: Paint) -> String {
    if tunnels.is_empty() {
        return "no tunnel\n".to_owned();
    }
    let texts: Vec<String> = tunnels.iter().map(|status| tunnel(status, paint)).collect();
    match tunnels {
        [_] => texts.concat(),
        _ => format!("{}\n{}", summary(tunnels, paint), texts.join("\n")),
    }
}

/// Of several tunnels, whether all are well, and which are not.
fn summary(tunnels: &[Status], paint: Paint) -> String {
    let all = tunnels.len();
    let unwell =
        || tunnels.iter().map(|status| (status, judge(status).level)).filter(|(_, level)| *level != Level::Good);
    let names: Vec<String> = unwell().map(|(status, _)| plain(status.name.as_deref().unwrap_or(&status.tap))).collect();
    let text = match names.len() {
        0 => format!("all {all} tunnels are well"),
        1 => format!("1 of {all} tunnels is not well: {}", names[0]),
        many => format!("{many} of {all} tunnels are not well: {}", names.join(", ")),
    };
    let level = unwell().map(|(_, level)| level).max().unwrap_or(Level::Good);
    let (first, more) = wrap(&text, WIDTH);
    let lines = [first].into_iter().chain(more.into_iter().map(|line| format!("  {line}")));
    lines.map(|line| paint.level(level, &line) + "\n").collect()
}

fn tunnel(status: &Status, paint: Paint) -> String {
    let mut text = String::new();
    let verdict = judge(status);
    let (first, more) = wrap(&verdict.text, WIDTH - status.tap.chars().count() - 2);
    let mut line = |line: &str| {
        let _ = writeln!(text, "{}", line.trim_end());
    };
    line(&format!("{}: {}", paint.bold(&plain(&status.tap)), paint.level(verdict.level, &first)));
    more.iter().for_each(|more| line(&format!("  {}", paint.level(verdict.level, more))));
    said(&mut line, "", &about(status).join(", "), |text| paint.faint(text));
    line("");
    line(&paint.faint(&format!(
        "{:<15} {:<9} {:>5} {:>5} {:>6} {:>5} {:>5} {:>7} {:>8} {:>6}",
        "uplink", "state", "for", "RTT", "jitter", "↑loss", "↓loss", "sent", "received", "Mbit/s"
    )));
    status.uplinks.iter().for_each(|uplink| line(&row(uplink, paint)));
    line("");
    for (word, text) in counts(status) {
        said(&mut line, word, &text, str::to_owned);
    }
    text
}

/// What is said of the tunnel as a whole.
fn about(status: &Status) -> Vec<String> {
    let window = match status.window_ms {
        Some(window) => format!("window {} ms ({})", number(window), plain(&status.window)),
        None => "no window".to_owned(),
    };
    let cipher = status.peer.cipher.as_deref().map_or_else(|| "not sealed".to_owned(), plain);
    let name = status.name.as_deref().map(plain);
    let age = format!("up for {}", age(status.process.uptime_s));
    let rest = [plain(&status.mode), window, format!("MTU {}", status.mtu), cipher, age];
    name.into_iter().chain(rest).collect()
}

fn row(uplink: &UplinkStatus, paint: Paint) -> String {
    let state = state_of(uplink);
    let state = paint.level(level_of_state(state), &format!("{:<9}", cut(state, 9)));
    let lost = [uplink.loss, uplink.loss_receiving].map(percent);
    format!(
        "{:<15} {state} {:>5} {:>5} {:>6} {:>5} {:>5} {:>7} {:>8} {:>6}",
        cut(&uplink.name, 15),
        age(uplink.state_for_s),
        number_or_none(uplink.rtt_ms),
        number(uplink.jitter_ms),
        lost[0],
        lost[1],
        bytes(uplink.tx_bytes),
        bytes(uplink.rx_bytes),
        number_or_none(uplink.capacity_mbps),
    )
}

/// What came, went, was lost and held, each with the word that it begins with.
fn counts(status: &Status) -> Vec<(&'static str, String)> {
    let (tx, rx) = (&status.tx, &status.rx);
    let mut lines = vec![
        ("sent", format!("{} frames, {}; {} waiting", count(tx.packets), bytes(tx.bytes), count(tx.waiting))),
        ("delivered", format!("{} frames, {}", count(rx.delivered), bytes(rx.delivered_bytes))),
        (
            "missing",
            format!(
                "{} lost, {} too late; {} restored from parities",
                count(rx.lost),
                count(rx.late),
                count(rx.restored)
            ),
        ),
        ("order", format!("{} put in order, {} copies dropped", count(rx.reordered), count(rx.duplicates))),
        ("held", format!("{} now; for {}", count(rx.held), quantiles(rx.hold_ms, 1e6))),
    ];
    if rx.malformed + rx.unauthenticated > 0 {
        let (malformed, strange) = (count(rx.malformed), count(rx.unauthenticated));
        lines.push(("strangers", format!("{malformed} malformed datagrams, {strange} not the peer's")));
    }
    if let Some(adaptive) = &status.adaptive {
        let again = format!("{} sent again, {} twice at once", count(adaptive.resent), count(adaptive.duplicated));
        let late = format!("{} dropped unsent, {} given up", count(adaptive.too_late), count(adaptive.given_up));
        let more = format!("{} copies to explore, {} parities", count(adaptive.explored), count(adaptive.parities));
        lines.push(("adaptive", format!("{again}, {late}, {more}")));
    }
    if let Some(capacity) = status.capacity_mbps {
        let safe =
            status.safe_mbps.map_or(String::new(), |safe| format!("; {} if the best uplink fails", number(safe)));
        lines.push(("capacity", format!("{} Mbit/s{safe}", number(capacity))));
    }
    lines.extend(status.uplinks.iter().filter_map(budget).map(|text| ("budget", text)));
    lines.push(("to wire", quantiles(status.tap_to_wire_us, 1e3)));
    lines.push(("to TAP", quantiles(status.wire_to_tap_us, 1e3)));
    let process = &status.process;
    lines.push(("loop", quantiles(process.loop_us, 1e3)));
    let program = format!("{} {}, pid {}", plain(&process.program), plain(&process.version), process.pid);
    lines.push(("process", format!("{program}, {} buffers in use", count(process.buffers_in_use))));
    if !status.drops.is_empty() {
        let drops = status.drops.iter().map(|(reason, drops)| format!("{} {}", count(*drops), plain(reason)));
        lines.push(("drops", drops.collect::<Vec<_>>().join(", ")));
    }
    lines
}

/// Quantiles in a unit of so many nanoseconds.
fn quantiles(quantiles: Quantiles, unit: f64) -> String {
    // A histogram's quantile is the end of a small range, which may be beyond the longest of all.
    let [p50, p99] = [quantiles.p50, quantiles.p99].map(|value| value.min(quantiles.max));
    let [p50, p99, max] = [p50, p99, quantiles.max].map(|value| nanoseconds(value * unit));
    format!("p50 {p50}, p99 {p99}, at most {max}")
}

fn budget(uplink: &UplinkStatus) -> Option<String> {
    let budget = uplink.budget?;
    let share = (budget.limit_bytes > 0).then(|| budget.used_bytes as f64 / budget.limit_bytes as f64);
    let spent = if budget.is_spent { ", spent" } else { "" };
    let (used, limit) = (bytes(budget.used_bytes), bytes(budget.limit_bytes));
    Some(format!("{}: {used} of {limit} ({}{spent})", cut(&uplink.name, 15), percent(share)))
}

/// Says a word, and beside it a text in as many lines as it takes.
fn said(line: &mut impl FnMut(&str), word: &str, text: &str, paint: impl Fn(&str) -> String) {
    let indent = if word.is_empty() { 0 } else { INDENT };
    let (first, more) = wrap(text, WIDTH - indent);
    line(&format!("{word:<indent$}{}", paint(&first)));
    for text in more {
        line(&format!("{:indent$}{}", "", paint(&text)));
    }
}

/// A text in lines of at most `width` characters, broken at spaces: the first, and the others, which may be indented by two.
fn wrap(text: &str, width: usize) -> (String, Vec<String>) {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let room = if lines.len() == 1 { width } else { width.min(WIDTH - 2) };
        let last = lines.len() - 1;
        if lines[last].is_empty() {
            lines[last] = cut(word, room);
        } else if lines[last].chars().count() + 1 + word.chars().count() <= room {
            lines[last] = format!("{} {word}", lines[last]);
        } else {
            lines.push(cut(word, width.min(WIDTH - 2)));
        }
    }
    let first = lines.remove(0);
    (first, lines)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::braidctl::sample;
    use proptest::prelude::*;

    #[test]
    fn the_first_line_says_whether_it_is_well_and_the_table_says_the_rest() {
        let mut status = sample::status("braid0", 3);
        status.uplinks[2].state = "down".to_owned();
        status.uplinks[2].rtt_ms = None;
        let text = render(&[status], Paint::Plain);
        let lines: Vec<&str> = text.lines().collect();
        let table = [
            "braid0: 1 of 3 uplinks is down (lte-b)",
            "adaptive, window 83.5 ms (auto:250ms), MTU 1430, aes-256-gcm, up for 3h12m",
            "",
            "uplink          state       for   RTT jitter ↑loss ↓loss    sent received Mbit/s",
            "dsl             up        3h12m  23.1   0.88  0.4%  0.8%  520 MB  33.0 MB   18.5",
            "lte-a           up        3h12m  24.1   1.88  0.6%  1.0%  520 MB  33.0 MB   19.5",
            "lte-b           down      3h12m     –   2.88  0.8%  1.2%  520 MB  33.0 MB   20.5",
            "",
            "sent       1,234,567 frames, 1.62 GB; 3 waiting",
            "delivered  345,678 frames, 98.8 MB",
            "missing    29 lost, 13 too late; 8 restored from parities",
            "order      3,402 put in order, 1,201 copies dropped",
            "held       2 now; for p50 750 µs, p99 12.5 ms, at most 41.4 ms",
            "strangers  5 malformed datagrams, 7 not the peer's",
        ];
        assert_eq!(&lines[..table.len()], table, "{text}");
        for told in ["331 sent again", "42.2 Mbit/s; 24.1 if", "lte-a: 41.2 GB of 50.0 GB (82%)", "23 frame_replayed"] {
            assert!(text.contains(told), "{told}: {text}");
        }
    }

    #[test]
    fn tunnels_stand_below_one_another() {
        let mut tunnels = [sample::status("van1", 1), sample::status("van2", 2)];
        let text = render(&tunnels, Paint::Plain);
        assert!(
            text.starts_with("all 2 tunnels are well\n\nvan1: well\n") && text.contains("\n\nvan2: well\n"),
            "{text}"
        );
        tunnels[1].peer.is_heard = false;
        assert!(render(&tunnels, Paint::Plain).starts_with("1 of 2 tunnels is not well: van2\n\nvan1: well\n"));
        tunnels[0].uplinks.clear();
        tunnels[0].name = Some("one".to_owned());
        assert!(render(&tunnels, Paint::Plain).starts_with("2 of 2 tunnels are not well: one, van2\n"));
        assert_eq!(render(&[], Paint::Plain), "no tunnel\n");
    }

    #[test]
    fn colour_changes_nothing_but_colour() {
        let mut status = sample::status("braid0", 3);
        status.uplinks[1].state = "suspect".to_owned();
        let (plain, coloured) = (render(&[status.clone()], Paint::Plain), render(&[status], Paint::Coloured));
        assert!(!plain.contains('\x1b') && coloured.contains("\x1b[33m"), "{coloured}");
        assert_eq!(without_colour(&coloured), plain);
    }

    fn without_colour(text: &str) -> String {
        let mut parts = text.split('\x1b');
        let first = parts.next().unwrap_or_default().to_owned();
        parts.fold(first, |text, part| text + part.split_once('m').expect("a colour ends").1)
    }

    /// Figures as large as they may ever be, and larger.
    fn anything() -> impl Strategy<Value = Status> {
        (0..=16_usize, any::<u64>(), 0.0..1e9_f64, "\\PC{0,60}").prop_map(|(uplinks, large, long, name)| {
            let mut status = sample::status("fifteen-letters", uplinks);
            status.name = Some(name.clone());
            status.rx.lost = large;
            status.drops.insert(name.clone(), large);
            for uplink in &mut status.uplinks {
                uplink.state = ["up", "down", "suspect", "probation"][uplink.number as usize % 4].to_owned();
                uplink.state_for_s = long / 2.0;
                uplink.tx_bytes = large;
                uplink.rtt_ms = Some(long % 99_999.0);
            }
            status
        })
    }

    proptest! {
        #[test]
        fn eighty_columns_are_enough(status in anything()) {
            for line in render(&[status], Paint::Plain).lines() {
                prop_assert!(line.chars().count() <= WIDTH, "{} columns: {line}", line.chars().count());
            }
        }
    }
}
