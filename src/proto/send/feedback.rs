//! What follows from the peer's report of what has come.

use std::time::Duration;

use super::flight::Copy;
use super::peer_time::PeerTime;
use super::{CLOCK_STEP_MIN, Sender, Transit};
use crate::proto::seq;
use crate::proto::time::Instant;
use crate::proto::uplink::{UPLINKS_MAX, UplinkId};
use crate::proto::wire::feedback::{Arrivals, Feedback};

/// A report that is older than the newest by less than this has come by a longer way.
const STRAGGLES_FOR: Duration = Duration::from_secs(5);
/// No window is longer.
const HOLD_MAX: Duration = Duration::from_secs(2);
/// What is on its way is looked through at most this often.
const LOOK_MIN: Duration = Duration::from_millis(1);
/// How long the shortest way back is remembered.
const RETURN_MEMORY: Duration = Duration::from_secs(10);

/// Per uplink: when the first frame that has not come was expected.
type Expected = [Option<PeerTime>; UPLINKS_MAX];

impl<F> Sender<F> {
    /// The peer said at `sent_at`, by its clock, what has come.
    pub fn on_feedback(&mut self, now: Instant, sent_at: u64, feedback: &Feedback) {
        let at = PeerTime::from_nanos(sent_at);
        if self.newest_feedback.is_some_and(|newest| newest >= at && newest.since(at) < STRAGGLES_FOR) {
            return;
        }
        self.newest_feedback = Some(at);
        self.heard_at = now;
        self.note_return(now, at);
        if feedback.hold_micros > 0 {
            self.hold = Duration::from_micros(feedback.hold_micros.into()).min(HOLD_MAX);
        }
        for (uplink, arrival) in feedback.arrivals() {
            self.on_arrivals(now, at, uplink, arrival);
        }
        self.settle_received(now, at, feedback);
        // To look through all that is on its way costs more than a report does.
        if now.since(self.looked_at) < LOOK_MIN {
            return;
        }
        self.looked_at = now;
        let expected = self.lose_what_was_passed(now, at);
        self.look_ahead(at, expected);
        self.review_reserve(at);
        self.note_capacity(now);
    }

    /// The way back cannot have become much shorter: then the peer's clock has stepped.
    fn note_return(&mut self, now: Instant, at: PeerTime) {
        let back = Transit(at.transit_since(now).0.saturating_neg());
        let (least, since) = self.return_transit.unwrap_or((back, now));
        let ahead = least.above(back);
        if ahead >= CLOCK_STEP_MIN {
            self.routes.iter_mut().for_each(|route| route.on_clock_step(ahead));
            self.flight.on_clock_step(ahead);
            self.return_transit = Some((back, now));
            self.stepped_at = Some(now);
        } else if back < least || now >= since + RETURN_MEMORY {
            self.return_transit = Some((back, now));
        } else {
            self.return_transit = Some((least, since));
        }
    }

    fn on_arrivals(&mut self, now: Instant, at: PeerTime, uplink: UplinkId, arrival: Arrivals) {
        let index = uplink.index();
        if self.explorer.is_explored(now, uplink) {
            self.routes[index].on_burst(at, u64::from(arrival.burst_kilobytes) * 1000);
        }
        if arrival.age_micros == Arrivals::NONE.age_micros {
            return;
        }
        let highest = seq::extend(arrival.highest, self.flight.end());
        let arrived_at = at.minus(Duration::from_micros(arrival.age_micros.into()));
        let copy = self.flight.get(highest).and_then(|record| record.only_copy_by(uplink));
        let transit = copy.map(|copy| arrived_at.transit_since(copy.sent_at));
        if let (Some(copy), Some(transit)) = (copy, transit) {
            self.passed_by[index] = self.passed_by[index].max(copy.number);
            if copy.is_lone {
                self.routes[index].on_lone_transit(now, transit);
            }
            self.routes[index].on_transit(now, copy.sent_at, transit);
            self.routes[index].on_lateness(arrived_at.since(copy.expected_at));
        }
        self.routes[index].on_received(arrived_at, arrival.bytes, transit);
    }

    fn settle_received(&mut self, now: Instant, at: PeerTime, feedback: &Feedback) {
        let next = seq::extend(feedback.next, self.flight.end()).min(self.flight.end());
        for sequence in (self.flight.oldest()..next).chain(feedback.seen().map(|offset| next + offset)) {
            self.learn_reordering(now, at, sequence);
            if let Some(record) = self.flight.get(sequence) {
                self.note_carried(record.sent_by, record.length);
            }
            self.settle(sequence);
        }
    }

    /// A frame has come. If none of its copies can have, one did that was taken for lost.
    fn learn_reordering(&mut self, now: Instant, at: PeerTime, sequence: u64) {
        let Some(record) = self.flight.get(sequence) else { return };
        let Some(late) = record.taken_for_lost else { return };
        let can_have_come = |copy: Copy| {
            let base = self.routes[copy.uplink.index()].base();
            base.is_none_or(|base| at >= PeerTime::arrival(copy.sent_at, base))
        };
        if !record.copies.into_iter().flatten().any(can_have_come) {
            self.routes[late.uplink.index()].on_overtaken(now, at.since(late.expected_at));
        }
    }

    /// An uplink is nearly first-in, first-out: what others have passed on it will not come by it.
    fn lose_what_was_passed(&mut self, now: Instant, at: PeerTime) -> Expected {
        let mut expected = Expected::default();
        let lateness = self.routes.each_ref().map(|route| route.lateness(now));
        for sequence in self.flight.oldest()..self.flight.end() {
            let Some(record) = self.flight.get(sequence).copied() else { continue };
            for copy in record.copies.into_iter().flatten() {
                let index = copy.uplink.index();
                let may_be_late = at < copy.expected_at.plus(lateness[index]) && !lateness[index].is_zero();
                if copy.number < self.passed_by[index] && !may_be_late {
                    self.routes[index].on_lost(record.length);
                    self.note_lost_length(copy.uplink, record.length);
                    self.lose_copy(sequence, copy);
                } else {
                    let first = expected[index].map_or(copy.expected_at, |first| first.min(copy.expected_at));
                    expected[index] = Some(first);
                }
            }
        }
        expected
    }

    /// Finds out when what is on its way will come, and wants again what another uplink would bring sooner.
    fn look_ahead(&mut self, at: PeerTime, expected: Expected) {
        for (route, expected_at) in self.routes.iter_mut().zip(expected) {
            route.on_peer_time(at);
            route.restart_from(at, expected_at);
        }
        let slack = self.deadline(Instant::ZERO);
        for sequence in self.flight.oldest()..self.flight.end() {
            let Some(record) = self.flight.get(sequence).copied() else { continue };
            let deadline = slack.map(|slack| slack.plus(record.offered_at.since(Instant::ZERO)));
            let (mut is_hopeless, mut is_hopeful) = (false, false);
            for copy in record.copies.into_iter().flatten() {
                let route = &mut self.routes[copy.uplink.index()];
                let expected_at = route.on_still_under_way(copy.sent_at, record.length);
                let is_overdue = route.is_paused() && at.since(copy.expected_at) >= route.patience();
                // Where there is too much to send, each frame is sent when it is almost too late.
                let is_delayed = expected_at.since(copy.expected_at) >= route.patience();
                let is_too_late = is_delayed && deadline.is_some_and(|deadline| expected_at > deadline);
                is_hopeless |= is_overdue || is_too_late;
                is_hopeful |= !is_overdue && !is_too_late;
                if is_overdue {
                    self.note_lost_length(copy.uplink, record.length);
                }
            }
            if record.is_lost() || (is_hopeless && !is_hopeful) {
                self.want(sequence);
            }
        }
    }
}
