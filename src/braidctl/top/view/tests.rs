use std::time::Duration;

use proptest::prelude::*;
use ratatui::style::Color;

use super::*;
use crate::braidctl::sample;
use crate::braidctl::top::watch::Poll;
use crate::braidctl::top::{drawn, once, text_of};
use crate::control::{Event, Status};

/// An end that was asked twice, a second apart, and the uplinks of which have carried 8 Mbit/s since.
fn watched(tunnels: &[Status], events: Vec<Event>) -> Watch {
    let mut watch = Watch::new(Duration::from_secs(1));
    watch.take(Ok(Poll { tunnels: tunnels.to_vec(), events }));
    let later = tunnels.iter().map(|status| sample::later(status, 1.0, 8.0)).collect();
    watch.take(Ok(Poll { tunnels: later, events: vec![] }));
    watch
}

fn shown(watch: &Watch, size: (u16, u16)) -> String {
    text_of(&drawn(watch, size, true))
}

fn happened(count: u64) -> Vec<Event> {
    (1..=count).map(|number| sample::event(number, "braid0", number % 2 == 0, &format!("event {number}."))).collect()
}

#[test]
fn every_uplink_is_seen_on_a_usual_terminal() {
    for uplinks in [1, 3, 16] {
        let mut status = sample::status("braid0", uplinks);
        let states = ["up", "suspect", "probation", "down"];
        for uplink in &mut status.uplinks {
            uplink.state = states[usize::from(uplink.number) % 4].to_owned();
        }
        let text = shown(&watched(std::slice::from_ref(&status), happened(40)), (80, 24));
        for uplink in &status.uplinks {
            let row = text.lines().find(|line| line.starts_with(&format!("{} ", uplink.name)));
            let words: Vec<&str> =
                row.unwrap_or_else(|| panic!("{}:\n{text}", uplink.name)).split_whitespace().collect();
            let rtt = number(uplink.rtt_ms.expect("one"));
            assert_eq!(words[1..5], [uplink.state.as_str(), "8.00", "2.00", rtt.as_str()], "{text}");
            assert_eq!(words.last(), Some(&"█"), "{text}");
        }
        for told in [
            "sent ",
            "delivered ",
            "safe 24.1",
            "lost 29",
            "held 0.75/12.5/41.4 ms",
            "event 40.",
            "q  quit",
            "p  pause",
        ] {
            assert!(text.contains(told), "{told}:\n{text}");
        }
        assert!(uplinks > 1 || text.contains("adaptive, window 83.5 ms, every 1s\n"), "{text}");
        assert_eq!(text.lines().count(), 24, "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    }
}

#[test]
fn what_there_is_no_room_for_is_scrolled_to() {
    let mut watch = watched(&[sample::status("braid0", 16)], vec![]);
    let text = shown(&watch, (80, 12));
    assert!(text.contains("dsl ") && !text.contains("wwan15 ") && text.contains("↓ 6 more"), "{text}");
    (0..40).for_each(|_| watch.scroll(true));
    let text = shown(&watch, (80, 12));
    assert!(!text.contains("dsl ") && text.contains("wwan15 ") && text.contains("↑ 6 more"), "{text}");
}

#[test]
fn where_there_is_room_more_is_told() {
    let watch = watched(&[sample::status("braid0", 3)], happened(3));
    let wide = shown(&watch, (160, 24));
    for told in
        ["jitter", "queue", "received", "192.168.1.100:43210 → 203.0.113.1:4754", "41.2 GB of 50.0 GB", "metered"]
    {
        assert!(wide.contains(told), "{told}:\n{wide}");
    }
    assert!(wide.find("event 1.") < wide.find("event 2."), "{wide}");
}

#[test]
fn the_worst_is_said_first_and_in_red() {
    let mut status = sample::status("braid0", 2);
    status.peer.is_heard = false;
    let mut watch = watched(&[status], vec![]);
    let buffer = drawn(&watch, (80, 24), true);
    assert!(text_of(&buffer).starts_with("braid0: the peer is not heard "));
    assert_eq!(buffer[(9, 0)].fg, Color::Red);
    watch.take(Err("/run/braid/braid0.sock: no such\nsocket".to_owned()));
    let text = shown(&watch, (80, 24));
    assert!(text.starts_with("the end is away: trying again: /run/braid/braid0.sock: no such\u{fffd}socket"), "{text}");
    assert!(text.contains("lte-a"), "what was known stays: {text}");
    watch.is_paused = true;
    watch.trouble = None;
    assert!(shown(&watch, (80, 24)).lines().next().expect("a line").ends_with("paused"));
}

#[test]
fn of_several_tunnels_one_is_shown_and_all_are_named() {
    let [mut one, two] = [sample::status("van1", 1), sample::status("van2", 2)];
    one.name = Some("the first".to_owned());
    let mut events = vec![sample::event(1, "van1", false, "of one"), sample::event(2, "van2", true, "of two")];
    events.push(sample::event(3, "van2", false, "\x1b[2Jboo"));
    let mut watch = watched(&[one, two], events);
    watch.turn(true);
    let text = shown(&watch, (80, 24));
    assert!(text.starts_with("van2: well") && text.contains(" the first  van2"), "{text}");
    assert!(text.contains("of two") && !text.contains("of one") && !text.contains('\x1b'), "{text}");
    assert!(text.contains("Tab"), "{text}");
    let many: Vec<Status> = (0..64).map(|number| sample::status(&format!("van{number}"), 1)).collect();
    let mut watch = watched(&many, vec![]);
    watch.selected = 63;
    assert!(shown(&watch, (80, 24)).contains(" van63"));
    let text = once(&mut watch);
    assert!((0..64).all(|number| text.contains(&format!("van{number}: well"))) && !text.contains("quit"));
}

#[test]
fn an_end_without_tunnels_or_uplinks_is_shown_as_well() {
    let nothing = shown(&watched(&[], vec![]), (80, 24));
    assert!(nothing.starts_with("no tunnel"), "{nothing}");
    let empty = shown(&watched(&[sample::status("braid0", 0)], vec![]), (80, 24));
    assert!(empty.starts_with("braid0: no uplink"), "{empty}");
}

proptest! {
    /// Also of figures that no end has.
    #[test]
    fn no_size_is_too_small_or_too_large(
        (width, height) in (1..=220_u16, 1..=70_u16),
        uplinks in 0..=16_usize,
        tunnels in 0..=5_usize,
        (selected, scrolled) in (0..9_usize, 0..20_usize),
        large in any::<u64>(),
        odd in any::<f64>(),
        text in any::<String>(),
        (is_paused, is_away, has_keys) in any::<(bool, bool, bool)>(),
    ) {
        let mut statuses: Vec<Status> = (0..tunnels).map(|tunnel| sample::status(&format!("tap{tunnel}"), uplinks)).collect();
        for status in &mut statuses {
            status.name = Some(text.clone());
            status.rx.lost = large;
            status.capacity_mbps = Some(odd);
            for uplink in &mut status.uplinks {
                uplink.state = text.clone();
                uplink.tx_bytes = large / 2;
                (uplink.rtt_ms, uplink.loss, uplink.state_for_s) = (Some(odd), Some(odd), odd);
            }
        }
        let event = Event { number: 1, at_ms: large, tap: "tap0".to_owned(), is_warning: true, text: text.clone() };
        let mut watch = watched(&statuses, vec![event]);
        (0..selected).for_each(|_| watch.turn(true));
        watch.scrolled = scrolled;
        watch.is_paused = is_paused;
        watch.trouble = is_away.then_some(text);
        let buffer = drawn(&watch, (width, height), has_keys);
        prop_assert_eq!((buffer.area.width, buffer.area.height), (width, height));
    }

    #[test]
    fn all_rows_are_shared_out(height in 0..=200_u16, uplinks in 0..=16_usize, tunnels in 0..=64_usize) {
        let rows = Rows::share(height, uplinks, tunnels, true);
        let parts = [rows.head, rows.tabs, rows.totals, rows.columns, rows.uplinks, rows.events, rows.keys];
        prop_assert_eq!(parts.iter().sum::<u16>(), height);
        prop_assert!(height < 24 || usize::from(rows.uplinks) >= uplinks * usize::from(rows.per_uplink));
    }
}
