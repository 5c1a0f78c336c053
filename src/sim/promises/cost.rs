//! What uplinks cost: the bad ones, the metered ones, and what is sent beside the frames.

use std::ops::Range;

use super::*;

/// When uplinks are known, until the stream ends, in milliseconds.
const KNOWN: Range<u64> = 2_000..12_000;
/// Sent beside the frames, in percent of what they take.
const OVERHEAD_MAX: f64 = 3.0;
/// What a metered uplink is kept alive by: a probe of some 100 bytes and the answer to one, ten times a second each, and
/// feedback.
const METERED_BITS_PER_SECOND_MAX: u64 = 30_000;

/// The same of one whose budget is spent, from the box: a probe and the answer to one, every two seconds.
const SPENT_BITS_PER_SECOND_MAX: u64 = 1_500;

/// What entered an uplink, in bits of IP packet per second.
fn bits_per_second(run: &Run, uplink: usize) -> u64 {
    run.bytes_up(uplink, KNOWN) * 8 * 1_000 / (KNOWN.end - KNOWN.start)
}

#[test]
fn a_bad_uplink_makes_nothing_worse_than_leaving_it_out() {
    let good = || link("good", 30).rate(mbit(10));
    let bad = link("bad", 400).rate(300_000).losing(PartsPerMillion(200_000)).queue(ms(2_000));
    let alone = runs(&stream(mbit(6)).over([good()]));
    let with_it = runs(&stream(mbit(6)).over([good(), bad]));
    for (alone, with_it) in alone.iter().zip(&with_it) {
        assert!(with_it.figures().lost() <= alone.figures().lost(), "{with_it}; alone: {alone}");
        // Jitter falls otherwise, and now and then a frame waits for feedback about the bad one: 1.1 ms at 10 Mbit/s.
        assert!(with_it.figures().p99 <= alone.figures().p99 + 2 * MILLISECOND, "{with_it}; alone: {alone}");
    }
}

#[test]
fn little_is_sent_beside_the_frames_where_all_is_calm() {
    for run in runs(&stream(mbit(8)).over(near_and_far_of(mbit(10)))) {
        assert!(run.overhead_up_percent() <= OVERHEAD_MAX, "{run}");
    }
}

#[test]
fn a_metered_uplink_carries_next_to_nothing_while_the_other_suffices() {
    let links = [link("fixed", 40).rate(mbit(10)), link("mobile", 20).rate(mbit(10)).metered()];
    for run in runs(&stream(mbit(6)).over(links)) {
        let carried = bits_per_second(&run, FAR);
        assert_eq!(run.figures().lost(), 0, "{run}");
        assert!(carried < METERED_BITS_PER_SECOND_MAX, "{carried} bit/s: {run}");
    }
}

#[test]
fn a_metered_uplink_is_used_where_the_other_does_not_suffice() {
    let links = [link("fixed", 40).rate(mbit(5)), link("mobile", 20).rate(mbit(10)).metered()];
    for run in runs(&stream(mbit(8)).over(links)) {
        let carried = bits_per_second(&run, NEAR);
        assert!(run.has_delivered(99.9), "{run}");
        assert!(carried > mbit(5) * 95 / 100, "{carried} bit/s by the one that costs nothing: {run}");
    }
}

/// The nearer of two links that could each carry the stream alone has spent its budget.
fn near_is_spent() -> Course {
    stream(mbit(6)).over(near_and_far_of(mbit(10))).spent(NEAR, 1_000)
}

#[test]
fn an_uplink_whose_budget_is_spent_carries_nothing_while_another_works() {
    let lossy = [
        link("near", 20).rate(mbit(10)),
        link("far", 45).rate(mbit(10)).jitter(ms(20)).losing(PartsPerMillion(10_000)),
    ];
    for course in [near_is_spent(), stream(mbit(6)).over(lossy).spent(NEAR, 1_000)] {
        for run in runs(&course) {
            let carried = bits_per_second(&run, NEAR);
            // What a link as long as that loses cannot always be sent again in time by itself.
            assert!(run.has_delivered(99.8), "{run}");
            assert!(carried < SPENT_BITS_PER_SECOND_MAX, "{carried} bit/s: {run}");
        }
    }
}

#[test]
fn an_uplink_whose_budget_is_spent_carries_nothing_even_where_the_other_does_not_suffice() {
    let links = [link("near", 20).rate(mbit(10)), link("far", 45).rate(mbit(4))];
    for run in runs(&stream(mbit(6)).over(links).spent(NEAR, 1_000)) {
        let carried = bits_per_second(&run, NEAR);
        assert!(carried < SPENT_BITS_PER_SECOND_MAX, "{carried} bit/s: {run}");
        assert!(run.carried_percent(mbit(4)) > 90.0, "{run}");
    }
}

#[test]
fn an_uplink_whose_budget_is_spent_takes_over_at_once_when_the_other_falls_and_rests_again_after_that() {
    let (gone, spent_from) = ((5_000, 7_000), 1_000);
    for spent in [NEAR, FAR] {
        let other = 1 - spent;
        let unplugged = stream(mbit(6)).over(near_and_far_of(mbit(10))).spent(spent, spent_from).unplugged(other, gone);
        let swallowed = stream(mbit(6)).over(near_and_far()).spent(spent, spent_from).blackhole(other, gone);
        for run in runs(&unplugged).iter().chain(&runs(&swallowed)) {
            assert_eq!(run.figures().lost(), 0, "uplink {spent}: {run}");
            let rate =
                |time_ms: Range<u64>| run.bytes_up(spent, time_ms.clone()) * 8_000 / (time_ms.end - time_ms.start);
            assert!(rate(5_500..7_000) > mbit(5), "uplink {spent} takes over: {run}");
            let after = rate(8_500..12_000);
            assert!(after < SPENT_BITS_PER_SECOND_MAX, "uplink {spent}: {after} bit/s after it: {run}");
        }
    }
}

#[test]
fn an_uplink_carries_no_more_than_the_user_allows() {
    let links = [link("near", 20).rate(mbit(10)).rate_max(mbit(2)), link("far", 45).rate(mbit(10))];
    for run in runs(&stream(mbit(8)).over(links)) {
        let carried = bits_per_second(&run, NEAR);
        assert_eq!(run.figures().lost(), 0, "{run}");
        // Up to 4% of headers, and what is not frames.
        assert!((mbit(2) * 95 / 100..mbit(2) * 106 / 100).contains(&carried), "{carried} bit/s: {run}");
    }
}
