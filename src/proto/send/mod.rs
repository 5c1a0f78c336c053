//! The sending half of the mode `adaptive`: each frame by the uplink where it will arrive first ([`route`]), again if it
//! has not come ([`flight`], [`budget`]), and not at all if it could only come too late ([`queue`]).
//!
//! ```text
//!  frames ─▶ queue (by flow, unnumbered) ─▶ choice of the uplink ─▶ number ─▶ flight ─▶ … the peer
//!              │ too late: dropped              ▲      ▲                        │
//!                                               │      └── sent again ◀─────────┤ lost, or overdue
//!                                            routes ◀───── what has come when ──┴◀─ feedback
//! ```
//!
//! An uplink is given no more than what it can be expected to work off within a small queue, so that frames wait here,
//! where they can still go by another one, and not on the way. The peer reports many times a second which numbers have
//! come, and when the last came by each uplink; all else is concluded here.

pub mod budget;
pub mod capacity;
pub mod classify;
pub mod explore;
mod feedback;
pub mod flight;
pub mod peer_time;
pub mod queue;
pub mod redundancy;
pub mod route;
mod shares;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use budget::Budget;
use classify::Headers;
use explore::Explorer;
use flight::{Copy, FLIGHT_MAX, Flight};
use peer_time::{PeerTime, Transit};
use queue::{Kind, Queue, Waiting};
use redundancy::Rule;
use route::{Limits, Route};
use shares::Shares;

use super::time::Instant;
use super::uplink::{UPLINKS_MAX, UplinkId, UplinkSet};

/// As long as the peer has not said how long it holds frames.
const HOLD_UNKNOWN: Duration = Duration::from_millis(250);
/// Frames may wait this long on an uplink's way, or a quarter of the time that they have, if that is less.
const QUEUE_MAX: Duration = Duration::from_millis(40);
/// What goes again may wait so many times longer, since it has waited already.
const QUEUE_RESENT: u32 = 2;
/// What a frame needs to be missed, in addition to a round trip, before it can be sent again.
const MISSED_WITHIN: Duration = Duration::from_millis(15);
/// How often a frame is sent again at most.
const RESENT_MAX: u8 = 4;
/// A frame on its way is forgotten so long after it is of no use any more.
const FORGOTTEN_AFTER: Duration = Duration::from_millis(500);
/// As long as frames wait they are looked at this often, at least and at most.
const LOOK_MIN: Duration = Duration::from_micros(200);
const LOOK_MAX: Duration = Duration::from_millis(5);
/// What waits here counts so many times when a worse uplink is compared with better ones: the frames behind it wait, too.
const IMPATIENCE: u32 = 2;
/// A clock that is off by more than this from one message to the next has stepped: no way is shortened by so much.
const CLOCK_STEP_MIN: Duration = Duration::from_millis(250);
/// How long what is safe is remembered: twice this at most.
const SAFE_FOR: Duration = Duration::from_secs(5);
/// Uplinks by which frames arrive within so much of each other are equally good.
const EQUAL_WITHIN: Duration = Duration::from_millis(1);

/// A frame to send, for the first time.
#[derive(Debug)]
pub struct Dispatch<F> {
    /// By which uplinks: one, or two of a frame that is worth it.
    pub uplinks: UplinkSet,
    /// Its number.
    pub sequence: u64,
    /// The frame.
    pub frame: F,
    /// Its bytes.
    pub length: u32,
}

/// A frame to send again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resend {
    /// By which uplink.
    pub uplink: UplinkId,
    /// Its number.
    pub sequence: u64,
    /// Its bytes.
    pub length: u32,
}

/// What the user has set for an uplink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// How far it may be used.
    pub limits: Limits,
    /// Its share among equally good ones, 1 to 255.
    pub weight: u8,
}

/// What has been counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SenderCounters {
    /// Frames that were dropped because they could only have come too late, or for which there was no room to wait.
    pub too_late: u64,
    /// Frames sent again.
    pub resent: u64,
    /// Frames sent by two uplinks at once.
    pub duplicated: u64,
    /// Frames on their way that were given up.
    pub given_up: u64,
    /// Copies sent by idle uplinks to find out what those can do.
    pub explored: u64,
}

/// What the uplinks are believed to carry together, in bits of frame per second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CapacityEstimate {
    /// What they have been seen to carry of late: at least so much can be sent.
    pub now: u64,
    /// The least that this was within the last 5 to 10 seconds: what an encoder can rely on.
    pub safe: u64,
}

/// The least of this period and of the one before.
#[derive(Clone, Copy, Debug)]
struct LeastCapacity {
    current: u64,
    previous: u64,
    since: Instant,
}

enum Choice {
    Send(UplinkId),
    Wait,
    TooLate,
}

/// The sending half.
#[derive(Debug)]
pub struct Sender<F> {
    queue: Queue<F>,
    flight: Flight,
    routes: [Route; UPLINKS_MAX],
    usable: UplinkSet,
    /// Numbers that are to be sent again, the lowest first.
    wanted: BinaryHeap<Reverse<u64>>,
    budget: Budget,
    shares: Shares,
    redundancy: Vec<Rule>,
    /// Whether the peer has been told that it should wait for what is sent again.
    recovers: bool,
    resent_at: Option<Instant>,
    explorer: Explorer,
    least_capacity: Option<LeastCapacity>,
    /// How long the peer holds frames to restore order.
    hold: Duration,
    newest_feedback: Option<PeerTime>,
    /// From the peer's clock to ours: the least of late.
    return_transit: Option<(Transit, Instant)>,
    /// Per uplink: frames sent by it, and the last of them that has come.
    sent_by: [u64; UPLINKS_MAX],
    passed_by: [u64; UPLINKS_MAX],
    counters: SenderCounters,
}

impl<F> Sender<F> {
    /// Nothing is known of any uplink; the first frame will be number `next`. Frames that a rule of `redundancy` is about go
    /// by two uplinks.
    #[must_use]
    pub fn new(now: Instant, next: u64, redundancy: Vec<Rule>) -> Self {
        Self {
            queue: Queue::default(),
            flight: Flight::new(next),
            routes: std::array::from_fn(|number| UplinkId::new(number as u8).map(Route::new).unwrap_or_default()),
            usable: UplinkSet::EMPTY,
            wanted: BinaryHeap::with_capacity(FLIGHT_MAX),
            budget: Budget::new(now),
            shares: Shares::default(),
            redundancy,
            recovers: false,
            resent_at: None,
            explorer: Explorer::default(),
            least_capacity: None,
            hold: HOLD_UNKNOWN,
            newest_feedback: None,
            return_transit: None,
            sent_by: [0; UPLINKS_MAX],
            passed_by: [0; UPLINKS_MAX],
            counters: SenderCounters::default(),
        }
    }

    /// What has been counted.
    #[must_use]
    pub const fn counters(&self) -> SenderCounters {
        self.counters
    }

    /// One uplink, as it is believed to be.
    #[must_use]
    pub const fn route(&self, uplink: UplinkId) -> &Route {
        &self.routes[uplink.index()]
    }

    /// The uplinks that can be used.
    #[must_use]
    pub const fn usable(&self) -> UplinkSet {
        self.usable
    }

    /// Whether a frame that is lost can be sent again in time.
    fn can_recover(&self) -> bool {
        self.shortest_round_trip().is_some_and(|round_trip| round_trip + MISSED_WITHIN < self.hold)
    }

    /// Whether the peer has to wait for what is sent again: it can be in time, or something is under way still. Holds until
    /// this is asked again, and the peer must be told.
    pub fn announce_recovery(&mut self, now: Instant) -> bool {
        self.recovers = self.can_recover();
        self.recovers || self.resent_at.is_some_and(|at| now.since(at) < self.hold * 2)
    }

    /// What an uplink has been seen to carry of late, in bits of frame per second; nothing if it cannot be used.
    #[must_use]
    pub fn uplink_capacity(&self, uplink: UplinkId) -> u64 {
        let route = &self.routes[uplink.index()];
        let seen = route.capacity().seen().min(route.limits.rate_max.unwrap_or(u64::MAX));
        if self.usable.contains(uplink) { seen.saturating_mul(8) } else { 0 }
    }

    /// What they carry together.
    #[must_use]
    pub fn capacity(&self) -> CapacityEstimate {
        let now = UplinkId::all().map(|uplink| self.uplink_capacity(uplink)).fold(0, u64::saturating_add);
        let least = self.least_capacity.map_or(now, |least| least.current.min(least.previous));
        CapacityEstimate { now, safe: least.min(now) }
    }

    fn note_capacity(&mut self, now: Instant) {
        let capacity = self.capacity().now;
        let least =
            self.least_capacity.get_or_insert(LeastCapacity { current: capacity, previous: capacity, since: now });
        if now >= least.since + SAFE_FOR {
            *least = LeastCapacity { current: capacity, previous: least.current, since: now };
        }
        least.current = least.current.min(capacity);
    }

    /// How many frames wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.queue.frames()
    }

    /// The lowest number that may be asked for again.
    #[must_use]
    pub const fn oldest(&self) -> u64 {
        self.flight.oldest()
    }

    /// What the user has set for an uplink.
    pub fn set_terms(&mut self, uplink: UplinkId, terms: Terms) {
        self.routes[uplink.index()].limits = terms.limits;
        self.shares.set_weight(uplink, terms.weight);
    }

    /// A frame with these headers has been read from the TAP. Returns whether one was dropped for it.
    pub fn handle_frame(&mut self, now: Instant, frame: F, length: u32, headers: &Headers) -> bool {
        let is_precious = self.redundancy.iter().any(|rule| rule.matches(headers, length));
        let displaced = self.queue.push(frame, length, now, Kind::new(headers, is_precious));
        self.counters.too_late += u64::from(displaced.is_some());
        displaced.is_some()
    }

    /// These uplinks can be used; what was on its way by others is sent again.
    pub fn set_usable(&mut self, usable: UplinkSet) {
        let fallen = self.usable.without(usable);
        self.usable = usable;
        if fallen.is_empty() {
            return;
        }
        for sequence in self.flight.oldest()..self.flight.end() {
            for uplink in fallen.iter() {
                self.lose_copy(sequence, uplink);
            }
        }
    }

    /// The peer is gone, or another one.
    pub fn forget_peer(&mut self) {
        for sequence in self.flight.oldest()..self.flight.end() {
            self.settle(sequence);
        }
        self.routes.iter_mut().for_each(Route::forget);
        self.wanted.clear();
        self.hold = HOLD_UNKNOWN;
        self.newest_feedback = None;
        self.return_transit = None;
    }

    /// A probe sent at `sent_at` was answered, at `answered_at` by the peer's clock.
    pub fn on_probe_answered(&mut self, now: Instant, uplink: UplinkId, sent_at: Instant, answered_at: u64) {
        let answered_at = PeerTime::from_nanos(answered_at);
        // An answer from before the peer's clock has stepped.
        if self.newest_feedback.is_some_and(|newest| newest.since(answered_at) >= CLOCK_STEP_MIN) {
            return;
        }
        let route = &mut self.routes[uplink.index()];
        let transit = answered_at.transit_since(sent_at);
        route.on_probe_answered(now, sent_at, transit, now.since(sent_at));
    }

    fn shortest_round_trip(&self) -> Option<Duration> {
        self.usable.iter().filter_map(|uplink| self.routes[uplink.index()].round_trip()).min()
    }

    /// By the peer's clock, when a frame offered then is of no use any more; `None` as long as nothing is known.
    fn deadline(&self, offered_at: Instant) -> Option<PeerTime> {
        let shortest = self.usable.iter().filter_map(|uplink| self.routes[uplink.index()].base()).min()?;
        Some(PeerTime::arrival(offered_at, shortest).plus(self.hold))
    }

    fn queue_max(&self) -> Duration {
        QUEUE_MAX.min(self.hold / 4)
    }

    fn choose(&self, now: Instant, length: u32, offered_at: Instant) -> Choice {
        let queue_max = self.queue_max();
        let (mut best, mut open) = (None, None);
        for uplink in self.usable.iter() {
            let route = &self.routes[uplink.index()];
            let Some(arrival) = route.arrival(now, length) else { continue };
            let candidate = (arrival.plus(route.penalty()), arrival, uplink);
            best = earlier(best, candidate);
            if route.has_room(now, queue_max) {
                open = earlier(open, candidate);
            }
        }
        let Some((best_cost, best_arrival, best)) = best else {
            // Nothing is known of any of them: whatever can be done with a frame.
            return self.usable.iter().next().map_or(Choice::TooLate, Choice::Send);
        };
        let deadline = self.deadline(offered_at).unwrap_or(best_arrival);
        let soonest = open.map_or(best_arrival, |(_, arrival, _)| arrival.min(best_arrival));
        if soonest > deadline {
            return Choice::TooLate;
        }
        match open {
            Some((cost, _, open)) if open == best => {
                Choice::Send(self.shares.choose(open, self.equals(now, cost, length)))
            }
            // By the better ones all that waits here would have come when the frame comes by this one.
            Some((cost, ..)) if cost > best_cost.plus(self.backlog(now, cost)) => Choice::Wait,
            Some((_, arrival, open)) if arrival <= deadline => Choice::Send(open),
            // The oldest could still come by the better ones, but in its wake this one would never be used.
            Some((_, arrival, _)) if self.deadline(now).is_some_and(|deadline| arrival <= deadline) => Choice::TooLate,
            _ => Choice::Wait,
        }
    }

    /// The uplinks by which a frame would arrive no later than `cost`, as good as.
    fn equals(&self, now: Instant, cost: PeerTime, length: u32) -> UplinkSet {
        let queue_max = self.queue_max();
        let is_equal = |uplink: &UplinkId| {
            let route = &self.routes[uplink.index()];
            let arrival = route.arrival(now, length).map(|arrival| arrival.plus(route.penalty()));
            arrival.is_some_and(|arrival| arrival <= cost.plus(EQUAL_WITHIN)) && route.has_room(now, queue_max)
        };
        self.usable.iter().filter(is_equal).collect()
    }

    /// How long the uplinks by which a frame would arrive before that would need for all that waits.
    fn backlog(&self, now: Instant, before: PeerTime) -> Duration {
        let better = self.usable.iter().map(|uplink| &self.routes[uplink.index()]);
        let better = better.filter(|route| route.arrival(now, 0).is_some_and(|arrival| arrival < before));
        let rate = better.map(Route::rate).sum::<u64>().max(1);
        Duration::from_nanos(self.queue.bytes().saturating_mul(1_000_000_000) / rate) * IMPATIENCE
    }

    /// The next frame to send for the first time.
    pub fn poll(&mut self, now: Instant) -> Option<Dispatch<F>> {
        while !self.flight.is_full() {
            let (length, offered_at) = self.queue.first().map(|first| (first.length, first.offered_at))?;
            match self.choose(now, length, offered_at) {
                Choice::Wait => return None,
                Choice::TooLate => {
                    self.queue.pop();
                    self.counters.too_late += 1;
                }
                Choice::Send(uplink) => {
                    let Waiting { frame, is_precious, .. } = self.queue.pop()?;
                    let sequence = self.flight.end();
                    let copy = self.copy_sent(now, uplink, length);
                    self.flight.push(length, offered_at, copy);
                    self.budget.on_sent(now, length);
                    self.explorer.on_sent(uplink);
                    self.shares.on_sent(uplink, length);
                    let mut uplinks = UplinkSet::only(uplink);
                    if let Some(second) = self.second(now, uplink, length, offered_at).filter(|_| is_precious) {
                        self.duplicate(now, sequence, second, length);
                        uplinks.insert(second);
                    }
                    return Some(Dispatch { uplinks, sequence, frame, length });
                }
            }
        }
        None
    }

    /// The best uplink for a second copy of a frame that goes by `first`.
    fn second(&self, now: Instant, first: UplinkId, length: u32, offered_at: Instant) -> Option<UplinkId> {
        let queue_max = self.queue_max() * QUEUE_RESENT;
        let others = self.usable.without(UplinkSet::only(first));
        let arrivals = others.iter().filter_map(|uplink| {
            let route = &self.routes[uplink.index()];
            route.arrival(now, length).filter(|_| route.has_room(now, queue_max)).map(|arrival| (arrival, uplink))
        });
        let (arrival, uplink) = arrivals.min()?;
        self.deadline(offered_at).is_none_or(|deadline| arrival <= deadline).then_some(uplink)
    }

    fn duplicate(&mut self, now: Instant, sequence: u64, uplink: UplinkId, length: u32) {
        let copy = self.copy_sent(now, uplink, length);
        if let Some(record) = self.flight.get_mut(sequence) {
            record.on_duplicated(copy);
        }
        self.counters.duplicated += 1;
    }

    fn copy_sent(&mut self, now: Instant, uplink: UplinkId, length: u32) -> Copy {
        let expected_at = self.routes[uplink.index()].on_sent(now, length);
        self.sent_by[uplink.index()] += 1;
        Copy { uplink, number: self.sent_by[uplink.index()], sent_at: now, expected_at }
    }

    /// The next frame to send again.
    pub fn poll_resend(&mut self, now: Instant) -> Option<Resend> {
        while let Some(Reverse(sequence)) = self.wanted.peek().copied() {
            match self.resend(now, sequence) {
                Some(resend) => {
                    self.wanted.pop();
                    if let Some(resend) = resend {
                        return Some(resend);
                    }
                }
                None => return None,
            }
        }
        None
    }

    /// The next frame to send by an idle uplink, too, to find out what that can do.
    pub fn poll_explore(&mut self) -> Option<Resend> {
        let idle = self.usable.iter().filter(|uplink| {
            let route = &self.routes[uplink.index()];
            route.in_flight() == 0 && !route.limits.is_metered && !route.is_paused()
        });
        let (uplink, place) = self.explorer.poll(idle.collect())?;
        let sequence = self.flight.end().checked_sub(place)?;
        let record = self.flight.get_mut(sequence)?;
        record.note_sent_by(uplink);
        let length = record.length;
        self.counters.explored += 1;
        Some(Resend { uplink, sequence, length })
    }

    /// `None`: not yet. `Some(None)`: not at all.
    fn resend(&mut self, now: Instant, sequence: u64) -> Option<Option<Resend>> {
        let Some(record) = self.flight.get(sequence).copied() else { return Some(None) };
        if !self.recovers {
            return Some(self.give_up(sequence));
        }
        let elsewhere = self.usable.without(record.uplinks());
        let candidates = if elsewhere.is_empty() { self.usable } else { elsewhere };
        let arrivals = candidates.iter().filter_map(|uplink| {
            self.routes[uplink.index()].arrival(now, record.length).map(|arrival| (arrival, uplink))
        });
        let Some((arrival, uplink)) = arrivals.min() else { return Some(self.give_up(sequence)) };
        if self.deadline(record.offered_at).is_some_and(|deadline| arrival > deadline) || record.resent >= RESENT_MAX {
            return Some(self.give_up(sequence));
        }
        if !self.routes[uplink.index()].has_room(now, self.queue_max() * QUEUE_RESENT)
            || !self.budget.take(record.length)
        {
            return None;
        }
        let copy = self.copy_sent(now, uplink, record.length);
        if let Some(displaced) = self.flight.get_mut(sequence).and_then(|record| record.on_resent(copy)) {
            self.routes[displaced.uplink.index()].on_settled(record.length);
        }
        self.counters.resent += 1;
        self.resent_at = Some(now);
        Some(Some(Resend { uplink, sequence, length: record.length }))
    }

    /// Nothing can be done for a frame any more, but to wait for what is on its way.
    fn give_up(&mut self, sequence: u64) -> Option<Resend> {
        let record = self.flight.get_mut(sequence)?;
        record.is_wanted = false;
        if record.is_lost() {
            self.counters.given_up += 1;
            self.settle(sequence);
        }
        None
    }

    /// A frame is on its way no more.
    fn settle(&mut self, sequence: u64) {
        let Some(record) = self.flight.settle(sequence) else { return };
        for copy in record.copies.into_iter().flatten() {
            self.routes[copy.uplink.index()].on_settled(record.length);
        }
    }

    /// What was sent by `uplink` of this frame will not come.
    fn lose_copy(&mut self, sequence: u64, uplink: UplinkId) {
        let Some(record) = self.flight.get_mut(sequence) else { return };
        if !record.remove_copy(uplink) {
            return;
        }
        let (length, is_lost) = (record.length, record.is_lost());
        self.routes[uplink.index()].on_settled(length);
        if is_lost {
            self.want(sequence);
        }
    }

    fn want(&mut self, sequence: u64) {
        if let Some(record) = self.flight.get_mut(sequence)
            && !record.is_wanted
            && self.wanted.len() < FLIGHT_MAX
        {
            record.is_wanted = true;
            self.wanted.push(Reverse(sequence));
        }
    }

    /// Time has passed: forgets what is of no use any more.
    pub fn handle_timeout(&mut self, now: Instant) {
        let useful_since = now - (self.hold + FORGOTTEN_AFTER);
        while let Some(record) = self.flight.get(self.flight.oldest()) {
            if record.offered_at >= useful_since {
                break;
            }
            self.counters.given_up += 1;
            self.settle(self.flight.oldest());
        }
    }

    /// When to look again, if frames wait.
    #[must_use]
    pub fn next_timeout(&self, now: Instant) -> Option<Instant> {
        if self.queue.frames() == 0 && self.wanted.is_empty() {
            return None;
        }
        let queue_max = self.queue_max();
        let rooms = self.usable.iter().filter_map(|uplink| self.routes[uplink.index()].room_at(now, queue_max));
        let room_at = rooms.filter(|at| *at > now).min().unwrap_or(now + LOOK_MAX);
        Some(room_at.clamp(now + LOOK_MIN, now + LOOK_MAX))
    }
}

type Candidate = (PeerTime, PeerTime, UplinkId);

fn earlier(best: Option<Candidate>, candidate: Candidate) -> Option<Candidate> {
    Some(best.map_or(candidate, |best| best.min(candidate)))
}
