//! Links that swallow packets which are too long for them, and tell nobody.

use super::run::{Look, looks};
use super::*;
use crate::sim::plan::{BOX, GATEWAY};
use crate::sim::world::World;

/// Full-size frames: 1,450 bytes of MTU.
const FULL: usize = 1464;
/// When a link begins to swallow them.
const FALLS_MS: u64 = 4_000;
/// What it carries from then on: an IP packet of so many bytes.
const LESS: usize = 1300;
/// By when that has to be noticed, and the size be known.
const NOTICED_WITHIN_MS: u64 = 300;
const KNOWN_WITHIN_MS: u64 = 1_500;

/// 8 Mbit/s of full-size frames.
fn full_frames(mode: Mode) -> Course {
    let (window, window_follows) = mode.window();
    let interval = FULL as u64 * 8 * SECOND / mbit(8);
    Course { mode, window: Some(window), window_follows, frame_length: FULL, interval, ..stream(mbit(8)) }
}

/// The same over two links, one of which carries less from one moment on.
fn one_falls(mode: Mode, uplink: usize) -> Course {
    full_frames(mode).over(near_and_far()).when(FALLS_MS, uplink, Happening::Mtu(LESS))
}

/// What the box knows an uplink to carry, from when it was first so, in milliseconds.
fn known_ms(looks: &[Look], uplink: usize, packet: u16) -> Option<u64> {
    let after = looks.iter().filter(|look| look.at >= FALLS_MS * MILLISECOND);
    after.filter(|look| look.path_mtus[uplink] == Some(packet)).map(|look| look.at / MILLISECOND).next()
}

/// The last bytes that full-size frames have entered an uplink's link with, in milliseconds: when it was swallowed last.
fn last_swallowed_ms(looks: &[Look], uplink: usize) -> u64 {
    let mut last = 0;
    for pair in looks.windows(2) {
        if pair[1].swallowed[uplink] > pair[0].swallowed[uplink] + 3 {
            last = pair[1].at / MILLISECOND;
        }
    }
    last
}

#[test]
fn a_link_that_swallows_long_packets_costs_adaptive_nothing() {
    for uplink in [NEAR, FAR] {
        for links in [near_and_far(), near_and_far_of(mbit(12))] {
            let course = Course { uplinks: links.to_vec(), ..one_falls(Mode::Adaptive, uplink) };
            for run in runs(&course) {
                assert_eq!(run.figures().lost(), 0, "uplink {uplink}: {run}");
            }
        }
    }
}

#[test]
fn a_link_that_swallows_long_packets_costs_the_modes_that_send_at_once_a_moment() {
    for mode in Mode::AT_ONCE {
        for uplink in [NEAR, FAR] {
            for run in runs(&one_falls(mode, uplink)) {
                let after = run.lost_from(FALLS_MS + NOTICED_WITHIN_MS);
                assert_eq!(after, 0, "{} uplink {uplink}: {run}", mode.name());
                // What was under way, and what was sent until it was noticed.
                assert!(run.figures().lost() < 683 * (NOTICED_WITHIN_MS + 45) / 1_000, "{}: {run}", mode.name());
            }
        }
    }
}

#[test]
fn what_a_link_carries_is_known_soon_after_it_has_become_less() {
    for course in [one_falls(Mode::BalanceRr, NEAR), one_falls(Mode::BalanceRr, FAR)] {
        for seed in SEEDS {
            let uplink = course.events[0].uplink;
            let looks = looks(&course, seed);
            let known = known_ms(&looks, uplink, LESS as u16).expect("it is found out");
            assert!(known <= FALLS_MS + KNOWN_WITHIN_MS, "{known} ms, seed {seed}");
            let swallowed = last_swallowed_ms(&looks, uplink);
            assert!(swallowed <= FALLS_MS + NOTICED_WITHIN_MS, "{swallowed} ms, seed {seed}");
        }
    }
}

#[test]
fn where_all_links_carry_less_the_tap_follows_at_both_ends() {
    for mode in Mode::ALL {
        let course = full_frames(mode).over(near_and_far());
        let course = course.when(FALLS_MS, NEAR, Happening::Mtu(1400)).when(FALLS_MS, FAR, Happening::Mtu(LESS));
        for seed in SEEDS {
            let looks = looks(&course, seed);
            let look = looks.iter().find(|look| look.at >= (FALLS_MS + KNOWN_WITHIN_MS) * MILLISECOND).expect("one");
            let plaintext_overhead = 50;
            assert_eq!(look.tap_mtus, [LESS as u16 - plaintext_overhead; 2], "{} seed {seed}", mode.name());
            assert_eq!(looks[0].tap_mtus, [1450; 2]);
        }
    }
}

#[test]
fn a_tunnel_over_a_link_that_never_carried_more_finds_that_out_at_its_start() {
    let short = |name, delay| {
        let link = link(name, delay);
        CourseUplink { link: LinkSettings { longest: Some(1420), ..link.link }, ..link }
    };
    for mode in Mode::ALL {
        // The stream begins a second after the tunnel.
        for run in runs(&full_frames(mode).over([short("near", 20), link("far", 45)])) {
            assert_eq!(run.figures().lost(), 0, "{}: {run}", mode.name());
        }
    }
}

#[test]
fn the_tap_rises_again_when_more_has_been_good_for_half_a_minute() {
    let course = Course { duration: 60 * SECOND, ..full_frames(Mode::BalanceRr) }.over(near_and_far());
    let course = course.when(FALLS_MS, FAR, Happening::Mtu(LESS)).when(8_000, FAR, Happening::Mtu(1500));
    let mut world = World::new(course.plan(1), None);
    let mut allowed = |at_ms: u64| {
        world.run_until(SECOND + at_ms * MILLISECOND).expect("nothing to object to");
        [BOX, GATEWAY].map(|end| world.tap_mtu_allowed(end).expect("it runs"))
    };
    assert_eq!(allowed(3_900), [1450; 2]);
    assert_eq!(allowed(7_900), [1250; 2]);
    // A try 5, 10 and 20 seconds after the search, and then half a minute.
    assert_eq!(allowed(36_000), [1250; 2]);
    assert_eq!(allowed(59_000), [1450; 2]);
}

#[test]
fn soundings_cost_next_to_nothing_where_all_is_calm() {
    for mode in [Mode::BalanceRr, Mode::Adaptive] {
        let course = full_frames(mode).over(near_and_far());
        for seed in SEEDS {
            let looks = looks(&course, seed);
            let last = looks.last().expect("some");
            // A pair by each uplink when it is first up, of which the long one has 1,500 bytes: a stream of one length shows by
            // itself that it comes through.
            assert!(last.soundings <= 2 * 2, "{} pairs by the box, {} seed {seed}", last.soundings, mode.name());
        }
    }
}
