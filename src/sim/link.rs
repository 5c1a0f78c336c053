//! One direction of a link: when does a packet that enters now come out, if at all, and how? Pure: it is told the time.
//!
//! The simulator and the lab's emulator carry their packets by it alike.

use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use super::Nanoseconds;
use super::random::Random;
use super::shaper::Shaper;
use crate::proto::time::nanos;
use crate::proto::uplink::measure::PartsPerMillion;

/// What is lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Loss {
    /// Nothing.
    #[default]
    None,
    /// This share of all packets.
    Random(PartsPerMillion),
    /// Gilbert and Elliott's bursts: all is lost in the bad state, which begins in a share `p` of all packets, and
    /// ends in a share `r` of those lost.
    Burst {
        /// From good to bad.
        p: PartsPerMillion,
        /// From bad to good.
        r: PartsPerMillion,
    },
}

/// What may wait when packets come faster than they leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queue {
    /// As long as the packet would leave within this.
    Time(Duration),
    /// So many packets.
    Packets(usize),
}

/// Packets that others overtake.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reordering {
    /// Which share of them.
    pub share: PartsPerMillion,
    /// By how much they are late at most.
    pub by: Duration,
}

/// What a link is like.
#[derive(Clone, Debug)]
pub struct LinkSettings {
    /// What limits the rate.
    pub shaper: Shaper,
    /// What may wait for it.
    pub queue: Queue,
    /// One-way delay.
    pub delay: Duration,
    /// Up to this much more delay, at random; packets stay in order.
    pub jitter: Duration,
    /// Packets that do not stay in order.
    pub reordering: Reordering,
    /// What is lost.
    pub loss: Loss,
    /// Which share comes out twice.
    pub duplication: PartsPerMillion,
    /// Which share comes out spoiled.
    pub corruption: PartsPerMillion,
    /// The longest packet that it carries, in bytes of IP packet: longer ones are swallowed, and nobody is told.
    pub longest: Option<usize>,
}

impl Default for LinkSettings {
    fn default() -> Self {
        Self {
            shaper: Shaper::Unlimited,
            queue: Queue::Time(Duration::from_millis(200)),
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            reordering: Reordering::default(),
            loss: Loss::None,
            duplication: PartsPerMillion(0),
            corruption: PartsPerMillion(0),
            longest: None,
        }
    }
}

/// What a link has done so far. What has entered has left, is lost, overflowed or swallowed, or is on its way; what
/// came out twice has left twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkCounters {
    /// Packets that went in.
    pub entered: u64,
    /// Bytes of IP packet that went in, whatever became of them.
    pub entered_bytes: u64,
    /// Packets that came out.
    pub left: u64,
    /// Bytes of IP packet that came out.
    pub left_bytes: u64,
    /// Packets that the loss model took.
    pub lost: u64,
    /// Packets for which the queue had no room.
    pub overflowed: u64,
    /// Packets that a blackhole swallowed, or that were too long.
    pub swallowed: u64,
    /// Packets that were made two.
    pub duplicated: u64,
    /// Packets that came out spoiled.
    pub corrupted: u64,
}

/// A packet that has come out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Departure<P> {
    /// When it was due.
    pub due: Nanoseconds,
    /// The packet as it went in.
    pub packet: P,
    /// If it is spoiled: a number that says how.
    pub spoiled: Option<u64>,
}

struct Flying<P> {
    due: Nanoseconds,
    /// Breaks ties: of two that are due at once, the first in is the first out.
    number: u64,
    length: usize,
    packet: P,
}

/// One direction of a link.
pub struct Link<P> {
    /// What it is like; may be changed at any time.
    pub settings: LinkSettings,
    /// Whether it swallows everything.
    pub blackhole: bool,
    random: Random,
    in_burst: bool,
    /// When the last packet accepted will have left the queue.
    departed: Nanoseconds,
    /// Departures of packets that may still be in the queue.
    departures: VecDeque<Nanoseconds>,
    /// When the last packet that keeps its place comes out.
    last_due: Nanoseconds,
    flying: BinaryHeap<Flying<P>>,
    numbered: u64,
    counters: LinkCounters,
}

impl<P: Clone> Link<P> {
    /// A link that is empty.
    #[must_use]
    pub const fn new(settings: LinkSettings, random: Random) -> Self {
        Self {
            settings,
            blackhole: false,
            random,
            in_burst: false,
            departed: 0,
            departures: VecDeque::new(),
            last_due: 0,
            flying: BinaryHeap::new(),
            numbered: 0,
            counters: LinkCounters {
                entered: 0,
                entered_bytes: 0,
                left: 0,
                left_bytes: 0,
                lost: 0,
                overflowed: 0,
                swallowed: 0,
                duplicated: 0,
                corrupted: 0,
            },
        }
    }

    /// What it has done.
    #[must_use]
    pub const fn counters(&self) -> &LinkCounters {
        &self.counters
    }

    /// How many packets are on their way.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.flying.len()
    }

    /// How long a packet that enters now waits before it is sent, if there is room for it.
    #[must_use]
    pub fn wait(&self, now: Nanoseconds) -> Duration {
        Duration::from_nanos(self.departed.saturating_sub(now))
    }

    /// A packet of `length` bytes enters.
    pub fn enter(&mut self, now: Nanoseconds, length: usize, packet: P) {
        self.counters.entered += 1;
        self.counters.entered_bytes += length as u64;
        let is_too_long = self.settings.longest.is_some_and(|longest| length > longest);
        if self.blackhole || is_too_long {
            self.counters.swallowed += 1;
        } else if self.is_lost() {
            self.counters.lost += 1;
        } else if self.is_full(now) {
            self.counters.overflowed += 1;
        } else {
            self.accept(now, length, packet);
        }
    }

    fn is_lost(&mut self) -> bool {
        match self.settings.loss {
            Loss::None => false,
            Loss::Random(share) => self.random.chance(share),
            Loss::Burst { p, r } => {
                self.in_burst = if self.in_burst { !self.random.chance(r) } else { self.random.chance(p) };
                self.in_burst
            }
        }
    }

    fn is_full(&mut self, now: Nanoseconds) -> bool {
        while self.departures.front().is_some_and(|at| *at <= now) {
            self.departures.pop_front();
        }
        match self.settings.queue {
            Queue::Time(longest) => self.departed.saturating_sub(now) > nanos(longest),
            Queue::Packets(most) => self.departures.len() >= most,
        }
    }

    fn accept(&mut self, now: Nanoseconds, length: usize, packet: P) {
        self.departed = self.settings.shaper.serve(now, self.departed.max(now), length);
        if self.departed > now {
            self.departures.push_back(self.departed);
        }
        if self.random.chance(self.settings.duplication) {
            self.counters.duplicated += 1;
            self.fly(length, packet.clone());
        }
        self.fly(length, packet);
    }

    fn fly(&mut self, length: usize, packet: P) {
        let earliest = self.departed + nanos(self.settings.delay) + self.random.below(nanos(self.settings.jitter) + 1);
        let in_order = self.last_due.max(earliest);
        let due = if self.random.chance(self.settings.reordering.share) {
            in_order + self.random.below(nanos(self.settings.reordering.by) + 1)
        } else {
            self.last_due = in_order;
            in_order
        };
        self.numbered += 1;
        self.flying.push(Flying { due, number: self.numbered, length, packet });
    }

    /// When the next packet comes out.
    #[must_use]
    pub fn next_departure(&self) -> Option<Nanoseconds> {
        self.flying.peek().map(|flying| flying.due)
    }

    /// The next packet that has come out by `now`.
    pub fn leave(&mut self, now: Nanoseconds) -> Option<Departure<P>> {
        while self.next_departure().is_some_and(|due| due <= now) {
            let Flying { due, length, packet, .. } = self.flying.pop()?;
            if self.blackhole {
                self.counters.swallowed += 1;
                continue;
            }
            self.counters.left += 1;
            self.counters.left_bytes += length as u64;
            let is_spoiled = self.random.chance(self.settings.corruption);
            self.counters.corrupted += u64::from(is_spoiled);
            return Some(Departure { due, packet, spoiled: is_spoiled.then(|| self.random.next()) });
        }
        None
    }
}

impl<P> Ord for Flying<P> {
    /// The next one due is the greatest, as a heap wants it.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.due, other.number).cmp(&(self.due, self.number))
    }
}

impl<P> PartialOrd for Flying<P> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<P> PartialEq for Flying<P> {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl<P> Eq for Flying<P> {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::shaper::Trace;

    const MS: u64 = 1_000_000;
    const DEEP: Queue = Queue::Time(Duration::from_secs(1000));

    fn link(settings: LinkSettings) -> Link<u64> {
        Link::new(LinkSettings { queue: DEEP, ..settings }, Random::new(7))
    }

    /// All that comes out, and when.
    fn departures(link: &mut Link<u64>) -> Vec<(u64, u64)> {
        let mut all = vec![];
        while let Some(at) = link.next_departure() {
            all.extend(link.leave(at).map(|departure| (departure.packet, departure.due)));
        }
        all
    }

    fn times(link: &mut Link<u64>) -> Vec<u64> {
        departures(link).into_iter().map(|(_, at)| at).collect()
    }

    #[test]
    fn a_rate_spaces_packets_and_delay_follows() {
        let delay = Duration::from_millis(20);
        let mut link = link(LinkSettings { shaper: Shaper::Rate(8_000_000), delay, ..LinkSettings::default() });
        (0..3).for_each(|number| link.enter(0, 1000, number));
        assert_eq!(times(&mut link), [21 * MS, 22 * MS, 23 * MS]);
    }

    #[test]
    fn a_trace_carries_1500_bytes_at_each_opportunity_and_repeats() {
        let trace = Trace::new(vec![2, 5, 10].into(), 0, Duration::ZERO);
        let mut link = link(LinkSettings { shaper: Shaper::Trace(trace), ..LinkSettings::default() });
        (0..9).for_each(|number| link.enter(0, 750, number));
        assert_eq!(times(&mut link), [2, 2, 5, 5, 10, 10, 12, 12, 15].map(|ms| ms * MS));
    }

    #[test]
    fn a_trace_can_begin_in_its_middle_and_unused_opportunities_pass() {
        let trace = Trace::new(vec![2, 5, 10].into(), 100 * MS, Duration::from_millis(4));
        let mut link = link(LinkSettings { shaper: Shaper::Trace(trace), ..LinkSettings::default() });
        link.enter(102 * MS, 1500, 0);
        assert_eq!(times(&mut link), [106 * MS]);
    }

    #[test]
    fn a_queue_has_an_end_in_time_or_in_packets() {
        for (queue, most) in [(Queue::Time(Duration::from_millis(5)), 6), (Queue::Packets(4), 4)] {
            let settings = LinkSettings { shaper: Shaper::Rate(8_000_000), queue, ..LinkSettings::default() };
            let mut link = Link::new(settings, Random::new(7));
            (0..100).for_each(|number| link.enter(0, 1000, number));
            assert_eq!(times(&mut link).len(), most);
            assert_eq!(link.counters().overflowed, 100 - most as u64);
        }
    }

    #[test]
    fn losses_are_as_frequent_as_asked() {
        let lost = |loss| {
            let mut link = link(LinkSettings { loss, ..LinkSettings::default() });
            (0..100_000).for_each(|number| link.enter(0, 100, number));
            link.counters().lost
        };
        assert!((4_700..5_300).contains(&lost(Loss::Random(PartsPerMillion(50_000)))));
        // In the long run p / (p + r) of the time is bad.
        let burst = Loss::Burst { p: PartsPerMillion(10_000), r: PartsPerMillion(90_000) };
        assert!((9_000..11_000).contains(&lost(burst)));
    }

    #[test]
    fn a_blackhole_swallows_what_is_on_its_way_too() {
        let mut link = link(LinkSettings { delay: Duration::from_millis(20), ..LinkSettings::default() });
        link.enter(0, 100, 0);
        link.blackhole = true;
        link.enter(1, 100, 1);
        assert_eq!(link.next_departure(), Some(20 * MS));
        assert_eq!(link.leave(50 * MS), None);
        assert_eq!((link.counters().swallowed, link.counters().left), (2, 0));
    }

    #[test]
    fn what_is_too_long_is_swallowed() {
        let mut link = link(LinkSettings { longest: Some(1300), ..LinkSettings::default() });
        (0..3).for_each(|number| link.enter(0, 1299 + number as usize, number));
        assert_eq!(departures(&mut link).into_iter().map(|(number, _)| number).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(link.counters().swallowed, 1);
    }

    #[test]
    fn jitter_keeps_packets_in_order_and_reordering_does_not() {
        let ordered = |settings| {
            let mut link = link(settings);
            (0..1000).for_each(|number| link.enter(number * MS, 100, number));
            departures(&mut link).windows(2).all(|pair| pair[0].0 < pair[1].0)
        };
        assert!(ordered(LinkSettings { jitter: Duration::from_millis(10), ..LinkSettings::default() }));
        let reordering = Reordering { share: PartsPerMillion(100_000), by: Duration::from_millis(5) };
        assert!(!ordered(LinkSettings { reordering, ..LinkSettings::default() }));
    }

    #[test]
    fn what_enters_is_accounted_for() {
        let tenth = PartsPerMillion(100_000);
        let (loss, duplication, corruption) = (Loss::Random(tenth), tenth, tenth);
        let mut link = link(LinkSettings { loss, duplication, corruption, ..LinkSettings::default() });
        (0..1000).for_each(|number| link.enter(number, 100, number));
        let spoiled = std::iter::from_fn(|| link.leave(u64::MAX)).filter(|gone| gone.spoiled.is_some()).count();
        let counters = link.counters();
        assert_eq!(counters.entered_bytes, counters.entered * 100);
        assert_eq!(counters.entered + counters.duplicated, counters.left + counters.lost);
        assert_eq!(counters.corrupted, spoiled as u64);
        assert!([counters.lost, counters.duplicated, counters.corrupted].iter().all(|count| (60..150).contains(count)));
    }
}
