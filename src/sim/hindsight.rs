//! The most that any sender could have in time, had it known all that its links would do.
//!
//! A link gives chances: moments at which it can let one datagram of the stream go, which comes out a delay later. All
//! datagrams are of one size, and are worth nothing after a deadline that counts from when they were offered; so to
//! have each chance carry the oldest datagram that it can still bring in time is the best that can be done.
//!
//! ```text
//! offered   0   1   2   3   4   5          what waits, oldest first
//!           ✗   ✗   │   ▲                  0, 1: no link can save them any more
//!                   │   └ this chance can bring 3 in time, as it is the nearer link's
//!                   └ 2 is too old for it, but not yet lost
//! ```
//!
//! It is a bound in that it knows no loss at random, no jitter and no end of a queue. One opportunity of a trace is a
//! chance for as many whole datagrams as it has room for; what a link that is never idle makes of the rest is not in it.

use std::collections::VecDeque;
use std::iter;
use std::time::Duration;

use super::course::{Capacity, Course, CourseUplink, Happening, period_ms};
use super::plan::{NEVER, UP};
use super::shaper::OPPORTUNITY_BYTES;
use super::{MILLISECOND, Nanoseconds, SECOND};
use crate::proto::time::nanos;

/// A moment at which a link can let one datagram go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Chance {
    at: Nanoseconds,
    /// What it takes from then until the datagram comes out.
    delay: Nanoseconds,
}

/// How many frames of `course` could have come within `deadline`, for `seed`; `None` where a link has no limit.
#[must_use]
pub fn in_time(course: &Course, seed: u64, deadline: Duration) -> Option<u64> {
    let (deadline, length) = (nanos(deadline), course.packet_length());
    let starts = course.trace_starts(seed);
    let histories = course.uplinks.iter().enumerate().map(|(number, uplink)| History::of(course, number, uplink));
    let histories: Vec<_> = histories.collect();
    let is_limited =
        |history: &History| history.spells.iter().all(|spell| !matches!(spell.capacity, Capacity::Unlimited));
    if !histories.iter().all(is_limited) {
        return None;
    }
    let shortest = histories.iter().flat_map(|history| &history.spells).map(|spell| spell.delay).min()?;
    let last = course.duration + deadline;
    let links = histories.iter().zip(&starts).map(|(history, start)| history.chances(*start, length)).collect();
    let chances = merge(links).take_while(|chance| chance.at <= last);
    let offers = (0..course.frames()).map(|number| (number - number % course.burst) * course.interval);
    Some(count(offers, deadline, shortest, chances))
}

/// How many of what is offered at `offers` the `chances` can bring within `deadline`; none has a delay below `shortest`.
/// Both are in order of time.
fn count(
    offers: impl Iterator<Item = Nanoseconds>,
    deadline: Nanoseconds,
    shortest: Nanoseconds,
    chances: impl Iterator<Item = Chance>,
) -> u64 {
    let mut offers = offers.peekable();
    let mut waiting = VecDeque::new();
    let mut brought = 0;
    for Chance { at, delay } in chances {
        while let Some(offer) = offers.next_if(|offer| *offer <= at) {
            waiting.push_back(offer);
        }
        while waiting.front().is_some_and(|offer| offer + deadline < at + shortest) {
            waiting.pop_front();
        }
        let oldest_in_time = waiting.partition_point(|offer| offer + deadline < at + delay);
        brought += u64::from(waiting.remove(oldest_in_time).is_some());
        if waiting.is_empty() && offers.peek().is_none() {
            break;
        }
    }
    brought
}

/// All chances of several links, in order.
fn merge<'a>(links: Vec<Box<dyn Iterator<Item = Chance> + 'a>>) -> impl Iterator<Item = Chance> {
    let mut links: Vec<_> = links.into_iter().map(iter::Iterator::peekable).collect();
    iter::from_fn(move || {
        let next = links.iter_mut().filter_map(|link| link.peek().copied().map(|chance| (chance, link)));
        next.min_by_key(|(chance, _)| *chance).and_then(|(_, link)| link.next())
    })
}

/// A time in which a link is one and the same.
#[derive(Clone, Debug)]
struct Spell {
    from: Nanoseconds,
    to: Nanoseconds,
    capacity: Capacity,
    delay: Nanoseconds,
    /// Whether it swallows what comes from the box.
    is_hole: bool,
    has_carrier: bool,
}

/// What a link is like from the beginning of the stream on.
#[derive(Debug)]
struct History {
    spells: Vec<Spell>,
}

impl History {
    fn of(course: &Course, number: usize, uplink: &CourseUplink) -> Self {
        let (capacity, delay) = (uplink.up.clone(), nanos(uplink.link.delay));
        let mut spells = vec![Spell { from: 0, to: NEVER, capacity, delay, is_hole: false, has_carrier: true }];
        for event in course.events.iter().filter(|event| event.uplink == number) {
            let last = spells.len() - 1;
            let mut spell = Spell { from: event.at, ..spells[last].clone() };
            match event.what {
                Happening::Blackhole(ways) => spell.is_hole |= ways[UP],
                Happening::Restore => spell.is_hole = false,
                Happening::Carrier(up) => spell.has_carrier = up,
                Happening::Rate(rate) => spell.capacity = Capacity::Rate(rate),
                Happening::Delay(delay) => spell.delay = nanos(delay),
                _ => continue,
            }
            spells[last].to = event.at;
            spells.push(spell);
        }
        Self { spells }
    }

    /// Its chances for datagrams of `length` bytes, if `start` of its trace has passed when the stream begins.
    fn chances(&self, start: Duration, length: usize) -> Box<dyn Iterator<Item = Chance> + '_> {
        let work = length as u128 * 8 * u128::from(SECOND);
        let mut left = work;
        let mut all: Vec<Box<dyn Iterator<Item = Chance>>> = vec![];
        for spell in &self.spells {
            let moments: Box<dyn Iterator<Item = Nanoseconds>> = match &spell.capacity {
                Capacity::Unlimited => Box::new(iter::empty()),
                Capacity::Rate(rate) => {
                    let first = left;
                    left = left_after(first, work, u128::from(*rate) * u128::from(spell.to - spell.from));
                    Box::new(rate_moments(spell.from, u128::from(*rate), first, work))
                }
                Capacity::Trace { opportunities, .. } => {
                    let each = (OPPORTUNITY_BYTES / length).max(1);
                    let moments = trace_moments(opportunities, start.as_millis() as u64, spell.from);
                    Box::new(moments.flat_map(move |at| iter::repeat_n(at, each)))
                }
            };
            let is_open = spell.has_carrier && !spell.is_hole;
            let moments = moments.take_while(|at| *at < spell.to).filter(move |_| is_open);
            let chances = moments.map(|at| Chance { at, delay: spell.delay });
            all.push(Box::new(chances.filter(|chance| !self.is_hole_at(chance.at + chance.delay))));
        }
        Box::new(all.into_iter().flatten())
    }

    fn is_hole_at(&self, at: Nanoseconds) -> bool {
        let spell = self.spells.partition_point(|spell| spell.to <= at);
        self.spells.get(spell).is_some_and(|spell| spell.is_hole)
    }
}

/// When a link of so many bits per second has worked off its datagrams, if it is never idle: the first after `first`,
/// each further one after `work`, both in bits times nanoseconds per second.
fn rate_moments(from: Nanoseconds, rate: u128, first: u128, work: u128) -> impl Iterator<Item = Nanoseconds> {
    (0_u128..).map(move |number| from + (first + number * work).div_ceil(rate) as u64)
}

/// What is left to do of a datagram of `work` after so much has been `done`, with `first` left before; nothing of one
/// that has just been finished.
const fn left_after(first: u128, work: u128, done: u128) -> u128 {
    if done <= first { first - done } else { (work - (done - first) % work) % work }
}

/// A trace's opportunities from `from` on, if `start_ms` of it have passed when the stream begins.
fn trace_moments(opportunities: &[u64], start_ms: u64, from: Nanoseconds) -> impl Iterator<Item = Nanoseconds> {
    let period = period_ms(opportunities);
    let earliest = start_ms + from.div_ceil(MILLISECOND);
    // The end of one lap is the beginning of the next, and both have opportunities.
    let lap = earliest.saturating_sub(1) / period;
    let in_lap = move |lap: u64| opportunities.iter().map(move |at| lap * period + at);
    let laps = (lap..).flat_map(in_lap);
    laps.skip_while(move |at| *at < earliest).map(move |at| (at - start_ms) * MILLISECOND)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::course::CourseEvent;
    use super::super::link::LinkSettings;
    use super::*;
    use crate::proto::scheduler::Mode;
    use crate::proto::uplink::Limits;
    use crate::proto::uplink::UplinkName;

    const SECONDS: u64 = 10;

    fn uplink(up: Capacity, delay_ms: u64) -> CourseUplink {
        let link = LinkSettings { delay: Duration::from_millis(delay_ms), ..LinkSettings::default() };
        CourseUplink {
            name: UplinkName::new("u").expect("lawful"),
            up,
            rate_down: None,
            link,
            limits: Limits::default(),
        }
    }

    fn trace(opportunities: &[u64], start_ms: u64) -> Capacity {
        Capacity::Trace { opportunities: Arc::from(opportunities), start: Duration::from_millis(start_ms) }
    }

    /// A frame of 1,358 bytes, 1,394 as a packet, every `interval_ms`.
    fn course(uplinks: Vec<CourseUplink>, interval_ms: u64, frames: u64) -> Course {
        Course {
            mode: Mode::Broadcast,
            window: None,
            window_follows: false,
            is_sealed: false,
            uplinks,
            events: vec![],
            frame_length: 1358,
            interval: interval_ms * MILLISECOND,
            burst: 1,
            duration: frames * interval_ms * MILLISECOND,
        }
    }

    fn bound(course: &Course, deadline_ms: u64) -> Option<u64> {
        in_time(course, 0, Duration::from_millis(deadline_ms))
    }

    #[test]
    fn one_link_brings_what_its_chances_allow() {
        // Offered at 0, 10, 20, 30; chances at 5, 6, 40 and 45, and none before 85 after that. At 5 it brings 0, at 6
        // there is nothing; at 40 the frame of 10 would arrive after 35 ms.
        let uplinks = vec![uplink(trace(&[5, 6, 40, 45, 80], 0), 5)];
        assert_eq!(bound(&course(uplinks.clone(), 10, 4), 25), Some(3));
        assert_eq!(bound(&course(uplinks.clone(), 10, 4), 24), Some(2));
        assert_eq!(bound(&course(uplinks, 10, 4), 35), Some(3), "10 at 40, 20 at 45, and 30 never");
    }

    #[test]
    fn a_trace_begins_where_it_is_told_and_repeats() {
        // From 7 on: a chance at 3, and those of the next laps at 6, 9, 13, 16, for what is offered at 0, 5, 10, 15.
        let uplinks = vec![uplink(trace(&[3, 6, 10], 7), 0)];
        assert_eq!(bound(&course(uplinks.clone(), 5, 4), 3), Some(4));
        assert_eq!(bound(&course(uplinks, 5, 4), 2), Some(2), "5 at 6, and 15 at 16");
        // The end of a lap is the beginning of the next.
        assert_eq!(bound(&course(vec![uplink(trace(&[3, 6, 10], 10), 0)], 5, 4), 0), Some(2), "0 and 10");
    }

    #[test]
    fn what_is_too_old_for_a_far_link_is_left_to_a_near_one() {
        // At 30 the far link cannot bring 0 any more, but 10; at 31 the near one still brings 0.
        let uplinks = vec![uplink(trace(&[31, 1000], 0), 5), uplink(trace(&[30, 1000], 0), 15)];
        assert_eq!(bound(&course(uplinks, 10, 2), 40), Some(2));
    }

    #[test]
    fn a_rate_brings_its_share_and_no_limit_has_no_bound() {
        // 1,394 bytes each 10 ms are 1.1152 Mbit/s; half of that brings half, and what the deadline lets wait.
        let frames = SECONDS * 100;
        let half = course(vec![uplink(Capacity::Rate(557_600), 5)], 10, frames);
        assert_eq!(bound(&half, 105), Some(frames / 2 + 4));
        assert_eq!(bound(&course(vec![uplink(Capacity::Rate(1_115_200), 5)], 10, frames), 105), Some(frames));
        assert_eq!(bound(&course(vec![uplink(Capacity::Unlimited, 5)], 10, frames), 105), None);
    }

    #[test]
    fn what_happens_to_a_link_takes_its_chances() {
        let event = |at, what| CourseEvent { at: at * SECOND, uplink: 0, what };
        let with = |events: &[CourseEvent]| {
            let calm = course(vec![uplink(Capacity::Rate(1_115_200), 5)], 10, 1000);
            bound(&Course { events: events.to_vec(), ..calm }, 20).expect("a bound")
        };
        assert_eq!(with(&[event(3, Happening::Blackhole([false, true]))]), 1000, "only the way back");
        // What is on its way at 3 s is swallowed, too.
        let hole = [event(3, Happening::Blackhole([true, true])), event(5, Happening::Restore)];
        assert!((795..=801).contains(&with(&hole)), "{}", with(&hole));
        let unplugged = [event(3, Happening::Carrier(false)), event(5, Happening::Carrier(true))];
        assert!((798..=801).contains(&with(&unplugged)), "{}", with(&unplugged));
        assert!((599..=601).contains(&with(&[event(2, Happening::Rate(557_600))])));
        assert_eq!(with(&[event(4, Happening::Delay(Duration::from_millis(21)))]), 399);
    }

    #[test]
    fn work_goes_on_where_the_rate_changes() {
        assert_eq!((left_after(10, 10, 4), left_after(6, 10, 6), left_after(6, 10, 20)), (6, 0, 6));
    }
}
