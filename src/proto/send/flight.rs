//! The frames that are on their way, by their numbers: where each was sent, and when it is expected.

use std::time::Duration;

use super::peer_time::PeerTime;
use crate::proto::time::Instant;
use crate::proto::uplink::{UplinkId, UplinkSet};

/// The most frames on their way; a power of two. At 1,400 bytes and 50 ms this is 1.8 Gbit/s.
pub const FLIGHT_MAX: usize = 8192;
const _: () = assert!(FLIGHT_MAX.is_power_of_two());

/// So many copies of a frame are told apart: the first, and the one sent last in its place.
const COPIES: usize = 2;

/// A frame sent by an uplink.
#[derive(Clone, Copy, Debug)]
pub struct Copy {
    /// By which.
    pub uplink: UplinkId,
    /// Counts what was sent by that uplink.
    pub number: u64,
    /// When.
    pub sent_at: Instant,
    /// When it was expected to arrive.
    pub expected_at: PeerTime,
    /// Whether nothing else was on its way by that uplink then.
    pub is_lone: bool,
}

/// A frame on its way.
#[derive(Clone, Copy, Debug)]
pub struct Record {
    /// Bytes of frame.
    pub length: u32,
    /// When it came from the TAP.
    pub offered_at: Instant,
    /// Copies that may still arrive.
    pub copies: [Option<Copy>; COPIES],
    /// The copy that was taken for lost last.
    pub taken_for_lost: Option<Copy>,
    /// How often it was sent again.
    pub resent: u8,
    /// The uplinks by which it was sent.
    pub sent_by: UplinkSet,
    /// Those by which it was sent more than once: when it comes by one of these, nobody knows which of the datagrams has come
    /// (as in Karn's algorithm, RFC 6298 §3).
    pub ambiguous: UplinkSet,
    /// Whether it waits to be sent again.
    pub is_wanted: bool,
    is_settled: bool,
}

impl Record {
    /// The copy sent by `uplink`, if it may still arrive.
    fn copy_by(&self, uplink: UplinkId) -> Option<Copy> {
        self.copies.into_iter().flatten().find(|copy| copy.uplink == uplink)
    }

    /// The uplinks by which copies of it are on their way.
    #[must_use]
    pub fn uplinks(&self) -> UplinkSet {
        self.copies.into_iter().flatten().map(|copy| copy.uplink).collect()
    }

    /// It goes by `uplink`, whatever has gone before.
    pub fn note_sent_by(&mut self, uplink: UplinkId) {
        if self.sent_by.contains(uplink) {
            self.ambiguous.insert(uplink);
        }
        self.sent_by.insert(uplink);
    }

    /// The copy sent by `uplink`, if it may still arrive and is the only one that ever went by it.
    #[must_use]
    pub fn only_copy_by(&self, uplink: UplinkId) -> Option<Copy> {
        self.copy_by(uplink).filter(|_| !self.ambiguous.contains(uplink))
    }

    /// It was sent by another uplink at the same time.
    pub fn on_duplicated(&mut self, copy: Copy) {
        self.note_sent_by(copy.uplink);
        self.copies[1] = Some(copy);
    }

    /// It has been sent again. Returns the copy that is not told apart any more.
    pub fn on_resent(&mut self, copy: Copy) -> Option<Copy> {
        self.is_wanted = false;
        self.resent += 1;
        self.note_sent_by(copy.uplink);
        if self.copies[0].is_none() {
            return self.copies[0].replace(copy);
        }
        self.copies[1].replace(copy)
    }

    /// The copy sent by `uplink` with this number will not come. Returns whether it is known.
    pub fn remove_copy(&mut self, uplink: UplinkId, number: u64) -> bool {
        let is_it = |copy: &Copy| copy.uplink == uplink && copy.number == number;
        let found = self.copies.iter_mut().find(|copy| copy.as_ref().is_some_and(is_it));
        let removed = found.and_then(Option::take);
        self.taken_for_lost = removed.or(self.taken_for_lost);
        removed.is_some()
    }

    /// Whether nothing of it is on its way any more.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.copies.iter().all(Option::is_none)
    }
}

/// All of them, as a ring.
#[derive(Debug)]
pub struct Flight {
    ring: Box<[Record]>,
    oldest: u64,
    end: u64,
}

impl Flight {
    /// Nothing on its way; the next frame will be number `next`.
    #[must_use]
    pub fn new(next: u64) -> Self {
        let empty = Record {
            length: 0,
            offered_at: Instant::ZERO,
            copies: [None; COPIES],
            taken_for_lost: None,
            resent: 0,
            sent_by: UplinkSet::EMPTY,
            ambiguous: UplinkSet::EMPTY,
            is_wanted: false,
            is_settled: true,
        };
        Self { ring: vec![empty; FLIGHT_MAX].into(), oldest: next, end: next }
    }

    /// The number of the oldest frame on its way: those below are settled.
    #[must_use]
    pub const fn oldest(&self) -> u64 {
        self.oldest
    }

    /// One past the newest.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.end
    }

    /// Whether nothing is on its way.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.oldest == self.end
    }

    /// Whether no other frame can be sent.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.end - self.oldest >= FLIGHT_MAX as u64
    }

    /// The next frame has been sent.
    ///
    /// # Panics
    /// If the flight is full.
    pub fn push(&mut self, length: u32, offered_at: Instant, copy: Copy) {
        assert!(!self.is_full());
        let copies = [Some(copy), None];
        let (sent_by, ambiguous) = (UplinkSet::only(copy.uplink), UplinkSet::EMPTY);
        self.ring[place(self.end)] = Record {
            length,
            offered_at,
            copies,
            taken_for_lost: None,
            resent: 0,
            sent_by,
            ambiguous,
            is_wanted: false,
            is_settled: false,
        };
        self.end += 1;
    }

    /// Frame number `sequence`, unless it is settled.
    #[must_use]
    pub fn get(&self, sequence: u64) -> Option<&Record> {
        let record = &self.ring[place(sequence)];
        (self.has(sequence) && !record.is_settled).then_some(record)
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, sequence: u64) -> Option<&mut Record> {
        let has = self.has(sequence);
        let record = &mut self.ring[place(sequence)];
        (has && !record.is_settled).then_some(record)
    }

    /// The peer's clock has stepped ahead, and what is expected is expected later by it.
    pub fn on_clock_step(&mut self, ahead: Duration) {
        for record in &mut self.ring {
            for copy in record.copies.iter_mut().flatten() {
                copy.expected_at = copy.expected_at.plus(ahead);
            }
        }
    }

    fn has(&self, sequence: u64) -> bool {
        (self.oldest..self.end).contains(&sequence)
    }

    /// A frame has come, or is given up. Returns what was known of it, the first time.
    pub fn settle(&mut self, sequence: u64) -> Option<Record> {
        let record = self.get_mut(sequence)?;
        record.is_settled = true;
        let settled = *record;
        while self.oldest < self.end && self.ring[place(self.oldest)].is_settled {
            self.oldest += 1;
        }
        Some(settled)
    }
}

const fn place(sequence: u64) -> usize {
    sequence as usize & (FLIGHT_MAX - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_settle_in_any_order_and_make_room() {
        let mut flight = Flight::new(100);
        let copy = Copy {
            uplink: UplinkId::new(3).expect("within range"),
            number: 1,
            is_lone: false,
            sent_at: Instant::ZERO,
            expected_at: PeerTime::from_nanos(0),
        };
        for _ in 0..FLIGHT_MAX {
            flight.push(1000, Instant::ZERO, copy);
        }
        assert!(flight.is_full());
        assert!(flight.settle(101).is_some());
        assert!(flight.settle(101).is_none(), "once");
        assert!(flight.is_full());
        assert!(flight.settle(100).is_some());
        assert_eq!((flight.oldest(), flight.is_full()), (102, false));
        assert!(flight.get(101).is_none() && flight.get(102).is_some());
        assert!(flight.get(99).is_none() && flight.get(flight.end()).is_none());
    }
}
