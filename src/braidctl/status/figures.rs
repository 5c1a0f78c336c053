//! Numbers as people read them: three digits are enough, and none is wider than its column.

use std::time::Duration;

/// What stands where there is no number.
pub(in crate::braidctl) const NONE: &str = "–";

/// A number of three digits, and of more only before the point. At most 5 characters below 100,000.
pub(in crate::braidctl) fn number(value: f64) -> String {
    let size = value.abs();
    // A figure that rounds up to the next power of ten has one digit more before the point, so the limits are short of it.
    let digits = match size {
        _ if size < 0.005 => return "0".to_owned(),
        _ if size < 9.995 => 2,
        _ if size < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.digits$}")
}

/// The same, or [`NONE`].
pub(in crate::braidctl) fn number_or_none(value: Option<f64>) -> String {
    value.map_or_else(|| NONE.to_owned(), number)
}

/// A count, with commas: `1,234,567`.
pub(in crate::braidctl) fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes in decimal multiples: `999 B`, `12.3 MB`. At most 7 characters below 1,000 EB.
pub(in crate::braidctl) fn bytes(bytes: u64) -> String {
    scaled(bytes as f64, &["B", "kB", "MB", "GB", "TB", "PB", "EB"])
}

/// A count in decimal multiples, where there is no room for all of it: `999`, `12.3 k`, `1.20 M`.
pub(in crate::braidctl) fn short_count(count: u64) -> String {
    scaled(count as f64, &["", "k", "M", "G", "T", "P", "E"]).trim_end().to_owned()
}

fn scaled(mut value: f64, units: &[&str]) -> String {
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    match unit {
        0 => format!("{value:.0} {}", units[0]),
        _ => format!("{} {}", number(value), units[unit]),
    }
}

/// How long something took, from nanoseconds: `850 ns`, `12.3 µs`, `1.20 ms`, `2.50 s`. At most 7 characters below 1,000 s.
pub(in crate::braidctl) fn nanoseconds(nanoseconds: f64) -> String {
    match nanoseconds {
        _ if nanoseconds < 999.5 => format!("{nanoseconds:.0} ns"),
        _ if nanoseconds < 999.5e3 => format!("{} µs", number(nanoseconds / 1e3)),
        _ if nanoseconds < 999.5e6 => format!("{} ms", number(nanoseconds / 1e6)),
        _ => format!("{} s", number(nanoseconds / 1e9)),
    }
}

/// For how long something has been so, in seconds: `59s`, `12m`, `3h12m`, `12d`. At most 5 characters below 10,000 days.
pub(in crate::braidctl) fn age(seconds: f64) -> String {
    let seconds = Duration::try_from_secs_f64(seconds).unwrap_or_default().as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match () {
        () if minutes == 0 => format!("{seconds}s"),
        () if hours == 0 => format!("{minutes}m"),
        () if hours < 10 => format!("{hours}h{:02}m", minutes % 60),
        () if days < 2 => format!("{hours}h"),
        () => format!("{days}d"),
    }
}

/// A share of 0 to 1 in percent: `0%`, `0.4%`, `12%`; or [`NONE`]. At most 4 characters.
pub(in crate::braidctl) fn percent(share: Option<f64>) -> String {
    let Some(share) = share else { return NONE.to_owned() };
    let percent = share * 100.0;
    match percent {
        _ if percent <= 0.0 => "0%".to_owned(),
        // Something is not nothing.
        _ if percent < 0.05 => "<.1%".to_owned(),
        _ if percent < 9.95 => format!("{percent:.1}%"),
        _ => format!("{percent:.0}%"),
    }
}

/// A text without what does more to a terminal than stand on it.
pub(in crate::braidctl) fn plain(text: &str) -> String {
    text.replace(char::is_control, "\u{fffd}")
}

/// At most so many characters of a text; the last one says if there are more.
pub(in crate::braidctl) fn cut(text: &str, width: usize) -> String {
    let text = plain(text);
    if text.chars().count() <= width {
        return text;
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).take(width).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn figures_read_as_people_write_them() {
        for (value, text) in
            [(0.0, "0"), (0.123, "0.12"), (9.994, "9.99"), (9.996, "10.0"), (99.96, "100"), (1234.5, "1234")]
        {
            assert_eq!(number(value), text);
        }
        for (value, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(count(value), text);
        }
        for (value, text) in
            [(0, "0 B"), (999, "999 B"), (1_000, "1.00 kB"), (999_600, "1.00 MB"), (12_345_678, "12.3 MB")]
        {
            assert_eq!(bytes(value), text);
        }
        for (value, text) in [(850.0, "850 ns"), (12_300.0, "12.3 µs"), (999_600.0, "1.00 ms"), (2.5e9, "2.50 s")] {
            assert_eq!(nanoseconds(value), text);
        }
        for (value, text) in
            [(59.9, "59s"), (60.0, "1m"), (11_520.0, "3h12m"), (86_400.0, "24h"), (1e6, "11d"), (-1.0, "0s")]
        {
            assert_eq!(age(value), text);
        }
        for (value, text) in [(0.0, "0%"), (0.0001, "<.1%"), (0.004, "0.4%"), (0.0996, "10%"), (1.0, "100%")] {
            assert_eq!(percent(Some(value)), text);
        }
        assert_eq!(percent(None), NONE);
        assert_eq!(short_count(12_345), "12.3 k");
    }

    #[test]
    fn a_text_that_is_too_long_says_so_and_nothing_to_the_terminal() {
        assert_eq!(cut("wwan0", 5), "wwan0");
        assert_eq!(cut("wwan10", 5), "wwan…");
        assert_eq!(cut("wwan10", 0), "");
        assert_eq!(cut("a\x1b[2J", 9), "a\u{fffd}[2J");
    }

    proptest! {
        #[test]
        fn none_is_wider_than_its_column(value: u64, share in 0.0..=1.0_f64, seconds in 0.0..8e8_f64) {
            prop_assert!(bytes(value).chars().count() <= 7);
            prop_assert!(short_count(value).chars().count() <= 6);
            prop_assert!(nanoseconds((value % 999_000_000_000) as f64).chars().count() <= 7);
            prop_assert!(percent(Some(share)).chars().count() <= 4);
            prop_assert!(age(seconds).chars().count() <= 5);
            prop_assert!(number((value % 99_999) as f64 / 7.0).chars().count() <= 5);
        }
    }
}
