//! What came of a course, in figures.

use std::time::Duration;

use super::course::Course;
use super::hindsight;
use super::link::LinkCounters;
use super::oracle::Stream;
use super::plan::{DOWN, UP};
use super::report::{Figures, Report};
use super::world::World;
use crate::proto::time::nanos;

/// What came of a course.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Of the stream, in order.
    pub figures: Figures,
    /// Frames delivered within the deadline.
    pub in_time: u64,
    /// Frames that could have been, in hindsight; `None` where a link has no limit.
    pub hindsight: Option<u64>,
    /// What the link from the box did, by uplink.
    pub up: Vec<LinkCounters>,
    /// Bytes of IP packet that entered any link either way, whatever became of them.
    pub entered_bytes: u64,
    /// Bytes of IP packet that the stream takes if each frame is sent once, and nothing beside.
    pub needed_bytes: u64,
}

impl Outcome {
    /// What came of `course` in `world`, which has run with what follows from `seed`.
    #[must_use]
    pub fn of(course: &Course, seed: u64, deadline: Duration, world: &World, report: &Report) -> Self {
        let figures = report.ways[UP];
        Self {
            figures,
            in_time: in_time(world.stream(UP), deadline),
            hindsight: hindsight::in_time(course, seed, deadline),
            up: world.link_counters(UP).copied().collect(),
            entered_bytes: [UP, DOWN]
                .into_iter()
                .flat_map(|way| world.link_counters(way))
                .map(|link| link.entered_bytes)
                .sum(),
            needed_bytes: figures.offered * course.packet_length() as u64,
        }
    }

    /// Which share of the frames came in time, in percent.
    #[must_use]
    pub fn in_time_percent(&self) -> f64 {
        percent(self.in_time, self.figures.offered)
    }

    /// Which share of the frames could have come in time, in percent.
    #[must_use]
    pub fn hindsight_percent(&self) -> Option<f64> {
        self.hindsight.map(|possible| percent(possible, self.figures.offered))
    }

    /// How many frames came in time for each hundred that could have.
    #[must_use]
    pub fn reached_percent(&self) -> Option<f64> {
        self.hindsight.map(|possible| percent(self.in_time, possible))
    }

    /// What entered the links beyond what the stream needs, in percent of that: copies, probes, repair.
    #[must_use]
    pub fn overhead_percent(&self) -> f64 {
        percent(self.entered_bytes, self.needed_bytes) - 100.0
    }
}

fn in_time(stream: &Stream, deadline: Duration) -> u64 {
    let is_in_time = |at, offered| at - offered <= nanos(deadline);
    let offers = stream.offers.iter();
    offers.filter(|offer| offer.delivered_at.is_some_and(|at| is_in_time(at, offer.at))).count() as u64
}

/// All of nothing is 100%.
fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 100.0 } else { part as f64 * 100.0 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::scheduler::Mode;
    use crate::proto::uplink::Limits;
    use crate::proto::uplink::UplinkName;
    use crate::sim::course::{Capacity, CourseEvent, CourseUplink, Happening};
    use crate::sim::link::LinkSettings;
    use crate::sim::{MILLISECOND, SECOND, run_course};

    fn uplink(name: &str, up: Capacity, delay_ms: u64) -> CourseUplink {
        let link = LinkSettings { delay: Duration::from_millis(delay_ms), ..LinkSettings::default() };
        CourseUplink {
            name: UplinkName::new(name).expect("lawful"),
            up,
            rate_down: None,
            link,
            limits: Limits::default(),
        }
    }

    /// A frame of 1,000 bytes each 2 ms, for 4 s.
    fn course(mode: Mode, uplinks: Vec<CourseUplink>) -> Course {
        Course {
            mode,
            window: Some(Duration::from_millis(40)),
            window_follows: false,
            is_sealed: false,
            uplinks,
            events: vec![],
            frame_length: 1000,
            interval: 2 * MILLISECOND,
            burst: 1,
            duration: 4 * SECOND,
        }
    }

    fn outcome(course: &Course, seed: u64) -> Outcome {
        run_course(course, seed, Duration::from_millis(100), None).expect("nothing to object to")
    }

    #[test]
    fn a_stream_that_fits_comes_in_time_and_broadcast_sends_it_twice() {
        let uplinks =
            || vec![uplink("near", Capacity::Rate(10_000_000), 20), uplink("far", Capacity::Rate(10_000_000), 45)];
        for is_sealed in [false, true] {
            let once = outcome(&Course { is_sealed, ..course(Mode::ActiveBackup, uplinks()) }, 1);
            assert_eq!((once.figures.offered, once.in_time, once.hindsight), (2000, 2000, Some(2000)));
            assert!((0.0..30.0).contains(&once.overhead_percent()), "probes alone: {}", once.overhead_percent());
            let twice = outcome(&Course { is_sealed, ..course(Mode::Broadcast, uplinks()) }, 1);
            let copies = twice.overhead_percent() - once.overhead_percent();
            assert!((99.0..101.0).contains(&copies), "{copies}");
            assert_eq!(twice.reached_percent(), Some(100.0));
        }
    }

    #[test]
    fn what_comes_too_late_or_never_is_not_in_time() {
        let slow = course(Mode::ActiveBackup, vec![uplink("slow", Capacity::Rate(2_000_000), 60)]);
        let outcome = outcome(&slow, 0);
        assert!(outcome.figures.delivered > outcome.in_time && outcome.figures.lost() > 0, "{outcome:?}");
        let possible = outcome.hindsight_percent().expect("a bound");
        assert!((45.0..52.0).contains(&possible), "2 of 4.1 Mbit/s, and not {possible}%");
        assert!(outcome.reached_percent().is_some_and(|reached| reached < 100.0));
    }

    #[test]
    fn a_course_may_end_badly() {
        let uplinks = vec![uplink("near", Capacity::Unlimited, 20), uplink("far", Capacity::Unlimited, 45)];
        let event = |uplink| CourseEvent { at: 2 * SECOND, uplink, what: Happening::Blackhole([true, true]) };
        let dead = Course { events: vec![event(0), event(1)], ..course(Mode::BalanceRr, uplinks) };
        let outcome = outcome(&dead, 3);
        assert!((980..=1000).contains(&outcome.figures.delivered), "{outcome:?}");
        assert_eq!(outcome.hindsight_percent(), None);
        assert!(outcome.up.iter().all(|link| link.swallowed > 0 && link.left > 0));
    }

    #[test]
    fn seeds_differ_in_where_traces_begin_and_zero_begins_as_told() {
        let mut random = crate::sim::random::Random::new(1);
        let opportunities = || (0..5000).map(|number| number * 2 + 1).collect::<Vec<u64>>().into();
        let trace = || Capacity::Trace { opportunities: opportunities(), start: Duration::from_millis(7) };
        let two = course(Mode::BalanceRr, vec![uplink("a", trace(), 20), uplink("b", trace(), 30)]);
        assert_eq!(two.trace_starts(0), [Duration::from_millis(7); 2]);
        let seed = random.between(1, 1000);
        let starts = two.trace_starts(seed);
        assert!(starts[0] != starts[1] && starts != two.trace_starts(seed + 1), "{starts:?}");
        assert_eq!(outcome(&two, seed), outcome(&two, seed));
    }
}
