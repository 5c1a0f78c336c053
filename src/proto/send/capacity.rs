//! What an uplink carries, in bytes of Ethernet frame per second.
//!
//! While frames wait on the way (their transit is longer than the shortest), what arrives per second is what the uplink
//! can do: that is the estimate, averaged over a tenth of a second, since a mobile link halves within one. While none
//! waits, it only shows that the uplink can do at least so much: then the most seen of late is taken, and twice as much
//! may be tried, so that the estimate doubles with each round trip until frames do wait.

use std::time::Duration;

use super::peer_time::PeerTime;
use crate::proto::time::nanos;

/// What is believed of an uplink that nothing is known of.
const RATE_INITIAL: u64 = 5_000_000 / 8;
/// Less is never believed: even then one frame now and then finds out.
const RATE_MIN: u64 = 64_000 / 8;
/// The shortest time over which arrivals make a sample.
const SAMPLE_MIN: Duration = Duration::from_millis(15);
/// Over how long the estimate of a busy uplink is averaged: less while it falls, since what is sent too much then waits.
const AVERAGED_OVER: Duration = Duration::from_millis(100);
const AVERAGED_OVER_FALLING: Duration = Duration::from_millis(50);
/// An uplink that loses more than one byte for so many that come carries no more.
const LOSSY: u64 = 8;
/// How long the most seen of an idle uplink is remembered: twice this at most.
const MOST_MEMORY: Duration = Duration::from_secs(1);
/// The same, of what bursts have shown, which are rarer.
const EXPLORED_MEMORY: Duration = Duration::from_secs(20);
/// The fastest that a burst can be, in bytes per second: eight frames of the longest in 2 ms, in which no peer tells them
/// apart.
const BURST_MAX: u64 = 8 * 9018 * 500;
/// What may be tried while nothing waits, in quarters of what has been seen: twice as much, but only a quarter more where
/// frames did wait a while ago.
const GROWTH_QUARTERS: u64 = 8;
const GROWTH_QUARTERS_KNOWN: u64 = 5;
/// How long that while is.
const KNOWN_FOR: Duration = Duration::from_secs(1);
/// How often a busy uplink is tried, and for how long.
const PROBED_EVERY: Duration = Duration::from_millis(800);
const PROBED_FOR: Duration = Duration::from_millis(100);

/// How an uplink stood when frames came by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// How long the last of them had waited on the way; zero if not for long.
    pub waited: Duration,
    /// Bytes that were lost since the time before.
    pub lost: u64,
}

/// How much had arrived, and when the last of it did.
#[derive(Clone, Copy, Debug)]
struct Mark {
    at: PeerTime,
    received: u64,
    has_waited: bool,
}

/// The most seen in this period and in the one before.
#[derive(Clone, Copy, Debug)]
struct RecentMost {
    current: u64,
    previous: u64,
    since: PeerTime,
}

impl RecentMost {
    fn get(&self) -> u64 {
        self.current.max(self.previous)
    }

    /// By `at` the period is over if it has lasted for `memory`.
    fn forget(&mut self, at: PeerTime, memory: Duration) {
        if at.since(self.since) >= memory {
            *self = Self { current: 0, previous: self.current, since: at };
        }
    }
}

/// The estimate.
#[derive(Clone, Debug)]
pub struct Capacity {
    begun: Option<Mark>,
    rate: u64,
    most: Option<RecentMost>,
    is_busy: bool,
    lost: u64,
    busy_at: Option<PeerTime>,
    newest: Option<PeerTime>,
    explored: Option<RecentMost>,
}

impl Default for Capacity {
    fn default() -> Self {
        Self {
            begun: None,
            rate: RATE_INITIAL,
            most: None,
            is_busy: false,
            lost: 0,
            busy_at: None,
            newest: None,
            explored: None,
        }
    }
}

impl Capacity {
    /// By `at` the peer had received so many bytes in all.
    pub fn on_received(&mut self, at: PeerTime, received: u64, load: Load) {
        let mark = Mark { at, received, has_waited: !load.waited.is_zero() };
        self.lost += load.lost;
        let Some(begun) = self.begun else {
            self.begun = Some(mark);
            return;
        };
        let counters_began_anew = received < begun.received || at < begun.at;
        if counters_began_anew {
            self.begun = Some(mark);
            return;
        }
        let elapsed = at.since(begun.at);
        if elapsed < SAMPLE_MIN {
            return;
        }
        let arrived = received - begun.received;
        let sample = (u128::from(arrived) * 1_000_000_000 / u128::from(nanos(elapsed))) as u64;
        // One that drops what it cannot carry has no queue to be seen.
        let is_lossy = std::mem::take(&mut self.lost) > arrived / LOSSY;
        let was_busy = is_lossy || (begun.has_waited && mark.has_waited);
        // One that has rested in between could have carried more.
        let has_rested = !is_lossy && load.waited < elapsed;
        self.begun = Some(mark);
        if !was_busy {
            self.on_idle_sample(at, sample);
        } else if !has_rested || sample > self.rate {
            self.on_busy_sample(elapsed, sample);
        }
        // What varies by itself looks like waiting, too, but passes.
        self.is_busy = is_lossy || (mark.has_waited && !has_rested);
        self.newest = Some(at);
        if is_lossy || mark.has_waited {
            self.busy_at = Some(at);
        }
    }

    fn on_busy_sample(&mut self, elapsed: Duration, sample: u64) {
        let averaged_over = if sample < self.rate { AVERAGED_OVER_FALLING } else { AVERAGED_OVER };
        let weight = nanos(elapsed.min(averaged_over));
        let total = u128::from(weight + nanos(averaged_over));
        let before = u128::from(self.rate) * u128::from(nanos(averaged_over));
        self.rate = ((before + u128::from(sample) * u128::from(weight)) / total) as u64;
        self.most = None;
    }

    fn on_idle_sample(&mut self, at: PeerTime, sample: u64) {
        // What a pause has thinned out says nothing, unless it is more than was known.
        let most = self.most.get_or_insert(RecentMost { current: self.rate, previous: 0, since: at });
        most.forget(at, MOST_MEMORY);
        most.current = most.current.max(sample);
        self.rate = most.get().max(RATE_INITIAL.min(self.rate));
    }

    /// Frames sent all at once came this fast, in bytes per second. Where frames wait, that says nothing new.
    pub fn on_burst(&mut self, at: PeerTime, rate: u64) {
        if self.is_busy {
            self.explored = None;
        } else if rate > 0 {
            let explored = self.explored.get_or_insert(RecentMost { current: 0, previous: 0, since: at });
            explored.current = explored.current.max(rate.min(BURST_MAX));
        }
    }

    /// It is now this time by the peer's clock: what bursts have shown long ago is forgotten.
    pub fn forget_until(&mut self, at: PeerTime) {
        if let Some(explored) = &mut self.explored {
            explored.forget(at, EXPLORED_MEMORY);
        }
    }

    fn explored(&self) -> u64 {
        self.explored.map_or(0, |explored| explored.get())
    }

    /// What it is believed to carry at least, in bytes per second.
    #[must_use]
    pub fn rate(&self) -> u64 {
        self.rate.max(RATE_MIN)
    }

    /// What it has been seen to carry of late, in bytes per second.
    #[must_use]
    pub fn seen(&self) -> u64 {
        let most = self.most.map_or(0, |most| most.get());
        if self.is_busy { self.rate() } else { most.max(self.explored()) }
    }

    /// What may be sent by it, in bytes per second.
    #[must_use]
    pub fn usable(&self) -> u64 {
        if self.is_busy {
            return if self.is_probing() { self.rate().saturating_mul(GROWTH_QUARTERS_KNOWN) / 4 } else { self.rate() };
        }
        let is_known = self.busy_at.zip(self.newest).is_some_and(|(busy_at, newest)| newest.since(busy_at) < KNOWN_FOR);
        let quarters = if is_known { GROWTH_QUARTERS_KNOWN } else { GROWTH_QUARTERS };
        (self.rate().saturating_mul(quarters) / 4).max(self.explored())
    }

    /// Now and then a busy uplink, too, is given a little more: if it was slow only because it was believed to be, that
    /// shows; and if not, what waits a little longer then is worked off soon.
    fn is_probing(&self) -> bool {
        let since = self.newest.map_or(Duration::ZERO, |newest| newest.since(PeerTime::from_nanos(0)));
        nanos(since) % nanos(PROBED_EVERY) < nanos(PROBED_FOR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> PeerTime {
        PeerTime::from_nanos(milliseconds * 1_000_000)
    }

    /// Feeds arrivals at so many bytes per millisecond, from `begin` to `end`.
    fn feed(capacity: &mut Capacity, (begin, end): (u64, u64), rate: u64, received: &mut u64, is_busy: bool) {
        for millisecond in begin..end {
            *received += rate;
            capacity.on_received(at(millisecond), *received, busy(is_busy));
        }
    }

    fn busy(is_busy: bool) -> Load {
        Load { waited: Duration::from_millis(if is_busy { 100 } else { 0 }), lost: 0 }
    }

    #[test]
    fn a_link_that_drops_what_it_cannot_carry_is_not_given_more() {
        let mut capacity = Capacity::default();
        for millisecond in 0..1000 {
            capacity.on_received(at(millisecond), millisecond * 1000, Load { waited: Duration::ZERO, lost: 500 });
        }
        assert!((950_000..1_050_000).contains(&capacity.usable()), "{capacity:?}");
    }

    #[test]
    fn what_comes_in_bursts_with_rests_between_is_no_measure_of_what_could_come() {
        let (mut capacity, mut received) = (Capacity::default(), 0);
        feed(&mut capacity, (0, 1000), 1000, &mut received, true);
        for burst in 0..30 {
            received += 10_000;
            let load = Load { waited: Duration::from_millis(8), lost: 0 };
            capacity.on_received(at(1000 + burst * 33), received, load);
        }
        assert!(capacity.usable() > 900_000, "{capacity:?}");
    }

    #[test]
    fn a_busy_link_that_halves_is_seen_to_within_a_tenth_of_a_second() {
        let (mut capacity, mut received) = (Capacity::default(), 0);
        feed(&mut capacity, (0, 1000), 1000, &mut received, true);
        assert!((950_000..1_050_000).contains(&capacity.usable()), "{capacity:?}");
        feed(&mut capacity, (1000, 1100), 500, &mut received, true);
        assert!(capacity.usable() < 750_000, "{capacity:?}");
    }

    #[test]
    fn an_idle_link_may_be_given_twice_what_it_has_carried() {
        let (mut capacity, mut received) = (Capacity::default(), 0);
        feed(&mut capacity, (0, 500), 1000, &mut received, false);
        assert!((1_900_000..2_100_000).contains(&capacity.usable()), "{capacity:?}");
        feed(&mut capacity, (500, 4000), 20, &mut received, false);
        assert!(capacity.usable() <= 2 * RATE_INITIAL, "what was long ago is no promise: {capacity:?}");
    }

    #[test]
    fn absurd_counters_are_borne() {
        let mut capacity = Capacity::default();
        for (number, received) in [0, u64::MAX, 7, u64::MAX - 1, 3].into_iter().enumerate() {
            capacity.on_received(PeerTime::from_nanos(number as u64 * 20_000_000), received, busy(number % 2 == 0));
            assert!(capacity.usable() >= RATE_MIN);
        }
        capacity.on_received(PeerTime::from_nanos(u64::MAX / 2), u64::MAX, busy(true));
        assert!(capacity.usable() >= RATE_MIN);
    }
}
