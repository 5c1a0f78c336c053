//! The sending half of the mode `adaptive`: each frame by the uplink where it will arrive first ([`route`]), again if it
//! has not come ([`flight`], [`budget`]) or made up from parities where that would be too late ([`protection`]), and not at all if it could only come too late ([`queue`]).
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
mod choice;
pub mod classify;
pub mod estimate;
pub mod explore;
mod fate;
mod feedback;
pub mod flight;
pub mod peer_time;
pub mod protection;
pub mod queue;
pub mod recovery;
pub mod redundancy;
mod reserve;
pub mod route;
mod shares;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use budget::Budget;
use choice::Choice;
use classify::Headers;
use explore::{Explorer, TRAIN};
pub use fate::Fate;
use flight::{Copy, FLIGHT_MAX, Flight};
use peer_time::{PeerTime, Transit};
use protection::Protection;
use queue::{Kind, Queue, Waiting};
use redundancy::Rule;
use reserve::Reserve;
use route::Route;
use shares::Shares;

use super::time::Instant;
use super::uplink::recent::RecentLeast;
use super::uplink::{Limits, UPLINKS_MAX, UplinkId, UplinkSet};

/// As long as the peer has not said how long it holds frames.
const HOLD_UNKNOWN: Duration = Duration::from_millis(250);
/// What goes again may wait so many times longer, since it has waited already.
const QUEUE_RESENT: u32 = 2;
/// A frame on its way is forgotten so long after it is of no use any more.
const FORGOTTEN_AFTER: Duration = Duration::from_millis(500);
/// As long as frames wait they are looked at this often, at least and at most.
const LOOK_MIN: Duration = Duration::from_micros(200);
const LOOK_MAX: Duration = Duration::from_millis(5);
/// A clock that is off by more than this from one message to the next has stepped: no way is shortened by so much.
const CLOCK_STEP_MIN: Duration = Duration::from_millis(250);

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
    /// Parities sent, from which the peer makes up frames that cannot be sent again in time.
    pub parities: u64,
    /// Frames that were dropped because no uplink carries any that long.
    pub too_long: u64,
}

/// The sending half.
#[derive(Debug)]
pub struct Sender<F> {
    queue: Queue<F>,
    flight: Flight,
    routes: [Route; UPLINKS_MAX],
    /// The uplinks that are used: [`reserve`] says which of those that can be.
    usable: UplinkSet,
    reserve: Reserve,
    /// Numbers that are to be sent again, the lowest first.
    wanted: BinaryHeap<Reverse<u64>>,
    budget: Budget,
    shares: Shares,
    redundancy: Vec<Rule>,
    /// Whether the peer has been told that it should wait for what is sent again.
    recovers: bool,
    resent_at: Option<Instant>,
    explorer: Explorer,
    protection: Protection,
    least_capacity: Option<RecentLeast<u64>>,
    /// How long the peer holds frames to restore order.
    hold: Duration,
    newest_feedback: Option<PeerTime>,
    /// From the peer's clock to ours: the least of late.
    return_transit: Option<(Transit, Instant)>,
    /// When the peer last reported.
    heard_at: Instant,
    /// When the peer's clock was found to have stepped.
    stepped_at: Option<Instant>,
    /// When what is on its way was last looked through.
    looked_at: Instant,
    /// Per uplink: frames sent by it, and the last of them that has come.
    sent_by: [u64; UPLINKS_MAX],
    passed_by: [u64; UPLINKS_MAX],
    /// The longest frame that each uplink carries, and the least of these.
    frame_max: [u32; UPLINKS_MAX],
    frame_max_least: u32,
    fates: [Fate; UPLINKS_MAX],
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
            reserve: Reserve::default(),
            wanted: BinaryHeap::with_capacity(FLIGHT_MAX),
            budget: Budget::new(now),
            shares: Shares::default(),
            redundancy,
            recovers: false,
            resent_at: None,
            explorer: Explorer::default(),
            protection: Protection::default(),
            least_capacity: None,
            hold: HOLD_UNKNOWN,
            newest_feedback: None,
            return_transit: None,
            heard_at: now,
            stepped_at: None,
            looked_at: now,
            sent_by: [0; UPLINKS_MAX],
            passed_by: [0; UPLINKS_MAX],
            frame_max: [u32::MAX; UPLINKS_MAX],
            frame_max_least: u32::MAX,
            fates: [Fate::default(); UPLINKS_MAX],
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

    /// The uplinks that are used.
    #[must_use]
    pub const fn usable(&self) -> UplinkSet {
        self.usable
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

    /// From now on frames go by two uplinks that a rule of these is about.
    pub fn set_redundancy(&mut self, redundancy: Vec<Rule>) {
        self.redundancy = redundancy;
    }

    /// Takes the frame out whose turn it is, and its length in bytes: it goes by the rules of another mode.
    pub fn take_waiting(&mut self) -> Option<(F, u32)> {
        self.queue.pop().map(|waiting| (waiting.frame, waiting.length))
    }

    /// An uplink is gone for good, and another may come in its place.
    pub fn forget_uplink(&mut self, uplink: UplinkId) {
        self.routes[uplink.index()].forget();
        self.set_terms(uplink, Terms { limits: Limits::default(), weight: 1 });
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
        let fallen = self.set_reachable(usable);
        if fallen.is_empty() {
            return;
        }
        for sequence in self.flight.oldest()..self.flight.end() {
            let copies = self.flight.get(sequence).map(|record| record.copies).unwrap_or_default();
            for copy in copies.into_iter().flatten().filter(|copy| fallen.contains(copy.uplink)) {
                self.lose_copy(sequence, copy);
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
        self.protection.forget_peer();
        self.hold = HOLD_UNKNOWN;
        self.newest_feedback = None;
        self.return_transit = None;
        self.stepped_at = None;
    }

    /// A probe sent at `sent_at` was answered, at `answered_at` by the peer's clock.
    pub fn on_probe_answered(&mut self, now: Instant, uplink: UplinkId, sent_at: Instant, answered_at: u64) {
        let answered_at = PeerTime::from_nanos(answered_at);
        // It may be from before the peer's clock has stepped.
        if self.stepped_at.is_some_and(|stepped_at| sent_at < stepped_at) {
            return;
        }
        let route = &mut self.routes[uplink.index()];
        let transit = answered_at.transit_since(sent_at);
        route.on_probe_answered(now, sent_at, transit, now.since(sent_at));
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
                Choice::TooLong => {
                    self.queue.pop();
                    self.counters.too_long += 1;
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
                    if is_precious && let Some(second) = self.second(now, uplink, length, offered_at) {
                        self.duplicate(now, sequence, second, length);
                        uplinks.insert(second);
                    }
                    return Some(Dispatch { uplinks, sequence, frame, length });
                }
            }
        }
        None
    }

    fn duplicate(&mut self, now: Instant, sequence: u64, uplink: UplinkId, length: u32) {
        let copy = self.copy_sent(now, uplink, length);
        if let Some(record) = self.flight.get_mut(sequence) {
            record.on_duplicated(copy);
        }
        self.counters.duplicated += 1;
    }

    fn copy_sent(&mut self, now: Instant, uplink: UplinkId, length: u32) -> Copy {
        let is_lone = self.routes[uplink.index()].is_lone(now);
        let expected_at = self.routes[uplink.index()].on_sent(now, length);
        self.sent_by[uplink.index()] += 1;
        Copy { uplink, number: self.sent_by[uplink.index()], sent_at: now, expected_at, is_lone }
    }

    /// The next frame to send by an idle uplink, too, to find out what that can do.
    pub fn poll_explore(&mut self, now: Instant) -> Option<Resend> {
        let idle = self.usable.iter().filter(|uplink| {
            let route = &self.routes[uplink.index()];
            route.in_flight() == 0 && !route.limits.is_metered && !route.is_paused()
        });
        let can_begin = self.flight.end() - self.flight.oldest() >= TRAIN;
        let (uplink, place) = self.explorer.poll(now, idle.collect(), can_begin)?;
        let sequence = self.flight.end().checked_sub(place)?;
        let frame_max = self.frame_max[uplink.index()];
        let record = self.flight.get_mut(sequence).filter(|record| record.length <= frame_max)?;
        record.note_sent_by(uplink);
        let length = record.length;
        self.routes[uplink.index()].on_copied(length);
        self.counters.explored += 1;
        Some(Resend { uplink, sequence, length })
    }

    /// A frame is on its way no more.
    fn settle(&mut self, sequence: u64) {
        let Some(record) = self.flight.settle(sequence) else { return };
        for copy in record.copies.into_iter().flatten() {
            self.routes[copy.uplink.index()].on_settled(record.length);
        }
    }

    /// A frame that was to be sent again, or would have been, is not to be had any more.
    pub fn on_not_kept(&mut self, sequence: u64) {
        self.counters.given_up += 1;
        self.settle(sequence);
    }

    /// Time has passed: wants again what nobody tells of, and forgets what is of no use any more.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.close_group_in_time(now);
        self.look_at_oldest(now);
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
        let oldest_due = self.oldest_due_at().into_iter().chain(self.group_closes_at()).min();
        let oldest_due = oldest_due.map(|at| at.max(now + LOOK_MIN));
        if self.queue.frames() == 0 && self.wanted.is_empty() {
            return oldest_due;
        }
        let queue_max = self.queue_max();
        let rooms = self.usable.iter().filter_map(|uplink| self.routes[uplink.index()].room_at(now, queue_max));
        let room_at = rooms.filter(|at| *at > now).min().unwrap_or(now + LOOK_MAX);
        let look_at = room_at.clamp(now + LOOK_MIN, now + LOOK_MAX);
        Some(oldest_due.map_or(look_at, |due| due.min(look_at)))
    }
}
