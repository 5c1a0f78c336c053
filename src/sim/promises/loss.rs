//! What links lose.

use super::*;

/// 2%.
const LOSSY: PartsPerMillion = PartsPerMillion(20_000);
/// Of how many frames one may be lost where links lose 2%.
const FRAMES_PER_LOST: u64 = 10_000;

fn with_one_lossy(mut course: Course, uplink: usize, share: PartsPerMillion) -> Course {
    course.uplinks[uplink] = course.uplinks[uplink].clone().losing(share);
    course
}

#[test]
fn the_loss_of_one_link_loses_nothing_and_stalls_nothing() {
    for lossy in [NEAR, FAR] {
        let course = with_one_lossy(stream(mbit(8)).over(near_and_far_of(mbit(10))), lossy, LOSSY);
        for run in runs(&course).iter().chain(&runs(&course.clone().window_fixed(ms(250)))) {
            assert_eq!(run.figures().lost(), 0, "{run}");
            assert!(run.figures().p99 < 120 * MILLISECOND, "{run}");
        }
    }
}

#[test]
fn the_loss_of_one_link_does_not_stall_the_tunnel() {
    for lossy in [NEAR, FAR] {
        let course = with_one_lossy(stream(mbit(8)).over(near_and_far_of(mbit(10))), lossy, LOSSY);
        let runs = runs(&course);
        assert_hardly_any_lost(&runs);
        for run in &runs {
            assert!(run.figures().p99 < 120 * MILLISECOND, "{run}");
        }
    }
}

#[test]
fn what_every_link_loses_is_sent_again() {
    let lossy = |links: [CourseUplink; 2]| links.map(|link| link.losing(LOSSY));
    for links in [near_and_far(), near_and_far_of(mbit(10))] {
        assert_hardly_any_lost(&runs(&stream(mbit(8)).over(lossy(links))));
    }
}

/// A single frame is more than one in [`FRAMES_PER_LOST`] of a run, so they are taken together.
fn assert_hardly_any_lost(runs: &[Run]) {
    let lost: u64 = runs.iter().map(|run| run.figures().lost()).sum();
    let offered: u64 = runs.iter().map(|run| run.figures().offered).sum();
    assert!(lost * FRAMES_PER_LOST <= offered, "{lost} of {offered} lost: {}", runs[0]);
}

#[test]
fn loss_is_counted_for_the_uplink_that_loses() {
    let links = || [link("near", 20).rate(mbit(8)), link("far", 30).rate(mbit(8))];
    for lossy in [NEAR, FAR] {
        for run in runs(&with_one_lossy(stream(mbit(12)).over(links()), lossy, PartsPerMillion(50_000))) {
            let [of_lossy, of_other] = [lossy, 1 - lossy].map(|uplink| run.loss_percent(uplink, 2_000..12_000));
            // Of some 6,000 frames by this uplink: three standard deviations are 0.85%.
            assert!((4.15..5.85).contains(&of_lossy), "{of_lossy}%: {run}");
            // Now and then a second has one frame too few, and the next one too many.
            assert!(of_other < 0.05, "{of_other}%: {run}");
        }
    }
}

/// By when it is known what the links lose: a round trip after a second of it.
const LOSS_KNOWN_MS: u64 = 2_000;

/// By satellite: the round trip is far longer than the window, so that nothing can be sent again in time.
fn satellites(share: PartsPerMillion) -> [CourseUplink; 2] {
    [link("leo", 280).rate(mbit(20)).losing(share), link("geo", 300).rate(mbit(20)).losing(share)]
}

#[test]
fn what_cannot_be_sent_again_in_time_is_made_up_from_parities() {
    for share in [PartsPerMillion(5_000), LOSSY] {
        let runs = runs(&stream(mbit(8)).over(satellites(share)).window_fixed(ms(200)));
        let lost: usize = runs.iter().map(|run| run.lost_from(LOSS_KNOWN_MS)).sum();
        let offered: u64 = runs.iter().map(|run| run.figures().offered).sum();
        assert!(lost as u64 * FRAMES_PER_LOST <= offered, "{lost} of {offered} lost: {}", runs[0]);
        for run in &runs {
            assert!(run.figures().p50 < 290 * MILLISECOND, "held no longer than it takes: {run}");
        }
    }
}

#[test]
fn parities_keep_to_what_the_user_allows_and_to_what_costs_nothing() {
    let [leo, geo] = satellites(LOSSY);
    let course = stream(mbit(8)).over([leo.rate_max(mbit(15)), geo.metered()]).window_fixed(ms(200));
    for run in runs(&course) {
        let by_metered = run.bytes_up(FAR, 0..12_000) * 8 / 12;
        assert!(run.lost_from(LOSS_KNOWN_MS) <= 3, "{run}");
        assert!(by_metered < 30_000, "{by_metered} bit/s by the one that costs money: {run}");
    }
}

#[test]
fn parities_do_not_fill_a_slow_link_that_carries_nothing_else() {
    let [leo, geo] = satellites(LOSSY);
    let course = stream(mbit(8)).over([leo, geo.rate(256_000).queue(ms(3_000))]).window_fixed(ms(200));
    let mut runs = runs(&course);
    runs.sort_by_key(|run| run.wait_max(FAR, 0..12_000));
    // With one seed of ten frames fill it, not parities, when the near one seems to pause.
    let usual = &runs[..runs.len() * 2 / 3];
    for run in usual {
        assert!(run.lost_from(LOSS_KNOWN_MS) <= 3, "{run}");
        // Of which 370 ms are nine frames that explore it now and then.
        assert!(run.wait_max(FAR, 0..12_000) < ms(600), "{:?}: {run}", run.wait_max(FAR, 0..12_000));
    }
}

#[test]
fn a_gap_that_no_parity_can_fill_holds_up_little() {
    // Sixteen frames a second: too few for groups.
    for run in runs(&stream(170_000).over(satellites(LOSSY)).window_fixed(ms(250))) {
        assert!(run.parities() < 5, "{run}");
        assert!(run.figures().p99 < 345 * MILLISECOND, "no longer than until the next frame has come: {run}");
    }
}

#[test]
fn parities_cost_little_where_nothing_is_lost() {
    for run in runs(&stream(mbit(8)).over(satellites(PartsPerMillion(0))).window_fixed(ms(200))) {
        // 1.5% once that is known, and before, as if some were lost.
        let parities = run.parities() as f64 * 100.0 / run.figures().offered as f64;
        assert!((1.0..4.0).contains(&parities), "{parities}%: {run}");
    }
}

#[test]
fn no_parities_are_sent_where_all_can_be_sent_again() {
    for run in runs(&stream(mbit(8)).over(near_and_far_of(mbit(10)).map(|link| link.losing(LOSSY)))) {
        assert_eq!(run.parities(), 0, "{run}");
    }
}
