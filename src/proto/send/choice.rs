//! By which uplink a frame goes, and whether it goes at all.

use std::time::Duration;

use super::peer_time::PeerTime;
use super::route::Route;
use super::{QUEUE_RESENT, Sender};
use crate::proto::time::Instant;
use crate::proto::uplink::{UplinkId, UplinkSet};

/// Frames may wait this long on an uplink's way, or a quarter of the time that they have, if that is less.
const QUEUE_MAX: Duration = Duration::from_millis(40);
/// What waits here counts so many times when a worse uplink is compared with better ones: the frames behind it wait, too.
const IMPATIENCE: u32 = 2;
/// Uplinks by which frames arrive within so much of each other are equally good.
const EQUAL_WITHIN: Duration = Duration::from_millis(1);

/// So many bytes on their way are next to nothing: one frame of the usual MTU.
const LITTLE: u64 = 1514;

/// What to do with the frame whose turn it is.
pub(super) enum Choice {
    /// Send it by this uplink.
    Send(UplinkId),
    /// Let it wait for a better one.
    Wait,
    /// Drop it.
    TooLate,
    /// Drop it: no uplink carries it.
    TooLong,
}

impl<F> Sender<F> {
    pub(super) fn shortest_round_trip(&self) -> Option<Duration> {
        self.usable.iter().filter_map(|uplink| self.routes[uplink.index()].round_trip()).min()
    }

    /// By the peer's clock, when a frame offered then is of no use any more; `None` as long as nothing is known.
    pub(super) fn deadline(&self, offered_at: Instant) -> Option<PeerTime> {
        let shortest = self.usable.iter().filter_map(|uplink| self.routes[uplink.index()].base()).min()?;
        Some(PeerTime::arrival(offered_at, shortest).plus(self.hold))
    }

    pub(super) fn queue_max(&self) -> Duration {
        QUEUE_MAX.min(self.hold / 4)
    }

    pub(super) fn choose(&self, now: Instant, length: u32, offered_at: Instant) -> Choice {
        let queue_max = self.queue_max();
        let (mut best, mut open) = (None, None);
        let usable = self.usable_for(length);
        if usable.is_empty() && !self.usable.is_empty() {
            return Choice::TooLong;
        }
        for uplink in usable.iter() {
            let route = &self.routes[uplink.index()];
            let Some((cost, arrival)) = route.cost(now, length).zip(route.arrival(now, length)) else { continue };
            let candidate = (cost, arrival, uplink);
            best = earlier(best, candidate);
            if route.has_room(now, queue_max) {
                open = earlier(open, candidate);
            }
        }
        let Some((best_cost, best_arrival, best)) = best else {
            // Nothing is known of any of them: whatever can be done with a frame.
            return usable.iter().next().map_or(Choice::TooLate, Choice::Send);
        };
        // With nothing on its way nothing is learned: whatever is believed, one frame finds out, or some that are as short.
        let in_flight: u64 = self.usable.iter().map(|uplink| self.routes[uplink.index()].in_flight()).sum();
        let is_little = self.flight.is_empty() || in_flight + u64::from(length) <= LITTLE;
        if is_little && self.routes[best.index()].is_allowed(now) {
            return Choice::Send(best);
        }
        // The time that the frame itself takes is not waiting.
        let slack = self.routes[best.index()].time_for(length.into());
        let deadline = self.deadline(offered_at).map_or(best_arrival, |deadline| deadline.plus(slack));
        let soonest = open.map_or(best_arrival, |(_, arrival, _)| arrival.min(best_arrival));
        if soonest > deadline {
            return Choice::TooLate;
        }
        match open {
            Some((cost, _, open)) if open == best => {
                Choice::Send(self.shares.choose(open, self.equals(now, cost, length)))
            }
            // By the better ones all that waits here would have come when the frame comes by this one.
            Some((cost, ..)) if cost > best_cost.plus(self.backlog(now, length, cost)) => Choice::Wait,
            Some((_, arrival, open)) if arrival <= deadline => Choice::Send(open),
            // The oldest could still come by the better ones, but in its wake this one would never be used.
            Some((_, arrival, _))
                if now.since(offered_at) >= self.hold / 2
                    && self.deadline(now).is_some_and(|deadline| arrival <= deadline) =>
            {
                Choice::TooLate
            }
            _ => Choice::Wait,
        }
    }

    /// The uplinks by which a frame would arrive no later than `cost`, as good as.
    fn equals(&self, now: Instant, cost: PeerTime, length: u32) -> UplinkSet {
        let queue_max = self.queue_max();
        let is_equal = |uplink: &UplinkId| {
            let route = &self.routes[uplink.index()];
            route.cost(now, length).is_some_and(|own| own <= cost.plus(EQUAL_WITHIN)) && route.has_room(now, queue_max)
        };
        self.usable_for(length).iter().filter(is_equal).collect()
    }

    /// How long the uplinks by which a frame of this length would arrive before that would need for all that waits.
    fn backlog(&self, now: Instant, length: u32, before: PeerTime) -> Duration {
        let usable = self.usable_for(length);
        let better = usable.iter().map(|uplink| &self.routes[uplink.index()]);
        let better = better.filter(|route| route.cost(now, length).is_some_and(|cost| cost < before));
        let rate = better.map(Route::rate).sum::<u64>().max(1);
        Duration::from_nanos(self.queue.bytes().saturating_mul(1_000_000_000) / rate) * IMPATIENCE
    }

    /// The best uplink for a second copy of a frame that goes by `first`.
    pub(super) fn second(&self, now: Instant, first: UplinkId, length: u32, offered_at: Instant) -> Option<UplinkId> {
        let queue_max = self.queue_max() * QUEUE_RESENT;
        let others = self.usable_for(length).without(UplinkSet::only(first));
        let arrivals = others.iter().filter_map(|uplink| {
            let route = &self.routes[uplink.index()];
            route.arrival(now, length).filter(|_| route.has_room(now, queue_max)).map(|arrival| (arrival, uplink))
        });
        let (arrival, uplink) = arrivals.min()?;
        self.deadline(offered_at).is_none_or(|deadline| arrival <= deadline).then_some(uplink)
    }
}

type Candidate = (PeerTime, PeerTime, UplinkId);

fn earlier(best: Option<Candidate>, candidate: Candidate) -> Option<Candidate> {
    Some(best.map_or(candidate, |best| best.min(candidate)))
}
