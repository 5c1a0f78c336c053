//! What is lost goes again, as long as it can be in time.

use std::cmp::Reverse;
use std::time::Duration;

use super::flight::{Copy, FLIGHT_MAX};
use super::{QUEUE_RESENT, Resend, Sender};
use crate::proto::time::Instant;

/// What a frame needs to be missed, in addition to a round trip, before it can be sent again.
pub const MISSED_WITHIN: Duration = Duration::from_millis(15);
/// How long the peer may take to tell of a frame.
const TOLD_WITHIN: Duration = Duration::from_millis(30);
/// How often a frame is sent again at most.
const RESENT_MAX: u8 = 4;

impl<F> Sender<F> {
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

    /// `None`: not yet. `Some(None)`: not at all.
    fn resend(&mut self, now: Instant, sequence: u64) -> Option<Option<Resend>> {
        let Some(record) = self.flight.get(sequence).copied() else { return Some(None) };
        if !self.recovers {
            return Some(self.give_up(sequence));
        }
        let usable = self.usable_for(record.length);
        let elsewhere = usable.without(record.uplinks());
        // Behind itself on the same uplink it cannot come sooner.
        if elsewhere.is_empty() && !record.is_lost() {
            return Some(self.give_up(sequence));
        }
        let candidates = if elsewhere.is_empty() { usable } else { elsewhere };
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

    /// By when the peer should have told of the oldest frame on its way.
    pub(super) fn oldest_due_at(&self) -> Option<Instant> {
        let record = self.flight.get(self.flight.oldest()).filter(|record| record.resent < RESENT_MAX)?;
        let newest = record.copies.iter().flatten().max_by_key(|copy| copy.sent_at)?;
        let route = &self.routes[newest.uplink.index()];
        let told_within = route.round_trip()? + route.patience() + TOLD_WITHIN;
        // While reports come, they tell more.
        let due_at = newest.sent_at + told_within * (1 + u32::from(record.resent));
        Some(due_at.max(self.heard_at + TOLD_WITHIN * 2))
    }

    /// What comes last, and is lost, has nothing behind it to show that.
    pub(super) fn look_at_oldest(&mut self, now: Instant) {
        if self.oldest_due_at().is_none_or(|due| due > now) {
            return;
        }
        self.review_reserve_unheard();
        let oldest = self.flight.oldest();
        let copies = self.flight.get(oldest).map(|record| record.copies).unwrap_or_default();
        for copy in copies.into_iter().flatten() {
            self.lose_copy(oldest, copy);
        }
    }

    /// This copy of a frame will not come.
    pub(super) fn lose_copy(&mut self, sequence: u64, copy: Copy) {
        let Some(record) = self.flight.get_mut(sequence) else { return };
        if !record.remove_copy(copy.uplink, copy.number) {
            return;
        }
        let (length, is_lost) = (record.length, record.is_lost());
        self.routes[copy.uplink.index()].on_settled(length);
        if is_lost {
            self.want(sequence);
        }
    }

    pub(super) fn want(&mut self, sequence: u64) {
        if let Some(record) = self.flight.get_mut(sequence)
            && !record.is_wanted
            && self.wanted.len() < FLIGHT_MAX
        {
            record.is_wanted = true;
            self.wanted.push(Reverse(sequence));
        }
    }
}
