//! Puts frames back into the order they were sent in.
//!
//! ```text
//!                next                              next + REORDER_CAPACITY
//!                 │                                         │
//!   … released or ▼                                         ▼
//!   given up … ──┤ gap │ held │ held │ gap │ held │  free  ├──
//! ```
//!
//! A frame is either released at once (it is next), held in its place of the ring (something before it is missing),
//! or late (its place has been passed). Three things move `next` forward: the missing frame comes; the caller knows
//! that it cannot come any more ([`Reorder::give_up_below`]); the frame held longest has been held for the window
//! ([`Reorder::expire`]).

use std::collections::VecDeque;
use std::time::Duration;

use crate::proto::histogram::TimeHistogram;
use crate::proto::time::Instant;

/// The most frames between the next one due and the newest one held; a power of two. At 1,400 bytes this is 45 ms
/// of 1 Gbit/s: the window bounds the wait long before the ring does.
pub const REORDER_CAPACITY: usize = 4096;

const _: () = assert!(REORDER_CAPACITY.is_power_of_two());

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Insertion {
    /// It is in order and can be delivered, and perhaps others after it.
    Released,
    /// It waits for an earlier one.
    Held,
    /// Its place has been passed; it was dropped.
    Late,
}

#[derive(Debug)]
struct Held<T> {
    item: T,
    arrived: Instant,
}

/// The ring.
#[derive(Debug)]
pub struct Reorder<T> {
    ring: Box<[Option<Held<T>>]>,
    /// The next number to release; everything below has been released or given up.
    next: u64,
    held: usize,
    /// Held frames in the order they arrived, and some that have been released meanwhile.
    arrivals: VecDeque<(u64, Instant)>,
    /// Frames in order, each with when it came.
    ready: VecDeque<(T, Instant)>,
    given_up: u64,
    holds: TimeHistogram,
}

impl<T> Reorder<T> {
    /// An empty ring whose first frame will be number `next`.
    #[must_use]
    pub fn new(next: u64) -> Self {
        Self {
            ring: (0..REORDER_CAPACITY).map(|_| None).collect(),
            next,
            held: 0,
            arrivals: VecDeque::with_capacity(REORDER_CAPACITY + 1),
            ready: VecDeque::with_capacity(REORDER_CAPACITY + 1),
            given_up: 0,
            holds: TimeHistogram::default(),
        }
    }

    /// Releases all that is held, in order, and begins again at `next`.
    pub fn restart(&mut self, now: Instant, next: u64) {
        while self.held > 0 {
            self.release_one(now);
        }
        self.arrivals.clear();
        self.next = next;
    }

    /// The next number due.
    #[must_use]
    pub const fn next(&self) -> u64 {
        self.next
    }

    /// How many frames are held.
    #[must_use]
    pub const fn held(&self) -> usize {
        self.held
    }

    /// How many numbers were passed without their frame, since the start.
    #[must_use]
    pub const fn given_up(&self) -> u64 {
        self.given_up
    }

    /// How long frames have been held, since the start.
    #[must_use]
    pub const fn holds(&self) -> &TimeHistogram {
        &self.holds
    }

    /// Takes in frame number `sequence`, which must not be inserted twice while it is held.
    #[inline]
    pub fn insert(&mut self, now: Instant, sequence: u64, item: T) -> Insertion {
        if sequence < self.next {
            return Insertion::Late;
        }
        if sequence == self.next {
            self.bypass(now, item);
            self.next += 1;
            self.release_run(now);
            return Insertion::Released;
        }
        self.hold(now, sequence, item);
        Insertion::Held
    }

    fn hold(&mut self, now: Instant, sequence: u64, item: T) {
        let lowest_that_fits = (sequence + 1).saturating_sub(REORDER_CAPACITY as u64);
        self.give_up_below(now, lowest_that_fits);
        let place = &mut self.ring[ring_index(sequence)];
        assert!(place.is_none(), "sequence number {sequence} is held already: dedup must come first");
        *place = Some(Held { item, arrived: now });
        self.held += 1;
        // Out of places only if most entries are of frames released meanwhile; those can go.
        if self.arrivals.len() > REORDER_CAPACITY {
            let next = self.next;
            self.arrivals.retain(|(sequence, _)| *sequence >= next);
        }
        self.arrivals.push_back((sequence, now));
        self.release_run(now);
    }

    /// Passes every number below `floor`: releases what is held there, gives up what is missing, and then releases
    /// what has come into order.
    #[inline]
    pub fn give_up_below(&mut self, now: Instant, floor: u64) {
        while self.next < floor {
            if self.held == 0 {
                self.given_up += floor - self.next;
                self.next = floor;
                break;
            }
            self.release_one(now);
        }
        self.release_run(now);
    }

    /// Releases every frame that has been held for `window`, and with it all that comes before it.
    pub fn expire(&mut self, now: Instant, window: Duration) {
        while let Some((sequence, arrived)) = self.oldest_held() {
            if now < arrived + window {
                break;
            }
            self.give_up_below(now, sequence + 1);
        }
    }

    /// When [`Self::expire`] will have something to do.
    #[inline]
    pub fn expires_at(&mut self, window: Duration) -> Option<Instant> {
        if self.held == 0 {
            return None;
        }
        self.oldest_held().map(|(_, arrived)| arrived + window)
    }

    /// The next frame in order, and when it came.
    #[inline]
    pub fn pop(&mut self) -> Option<(T, Instant)> {
        self.ready.pop_front()
    }

    /// Lets `item`, which has just come, through without regard to order.
    #[inline]
    pub fn bypass(&mut self, now: Instant, item: T) {
        self.holds.record(Duration::ZERO);
        self.ready.push_back((item, now));
    }

    fn oldest_held(&mut self) -> Option<(u64, Instant)> {
        while let Some((sequence, arrived)) = self.arrivals.front().copied() {
            if sequence >= self.next {
                return Some((sequence, arrived));
            }
            self.arrivals.pop_front();
        }
        None
    }

    fn release_run(&mut self, now: Instant) {
        while self.held > 0 && self.ring[ring_index(self.next)].is_some() {
            self.release_one(now);
        }
    }

    fn release_one(&mut self, now: Instant) {
        match self.ring[ring_index(self.next)].take() {
            Some(held) => {
                self.held -= 1;
                self.holds.record(now.since(held.arrived));
                self.ready.push_back((held.item, held.arrived));
            }
            None => self.given_up += 1,
        }
        self.next += 1;
    }
}

const fn ring_index(sequence: u64) -> usize {
    sequence as usize & (REORDER_CAPACITY - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_millis(40);

    fn at(milliseconds: u64) -> Instant {
        Instant::from_nanos(milliseconds * 1_000_000)
    }

    fn drain(reorder: &mut Reorder<u64>) -> Vec<u64> {
        std::iter::from_fn(|| reorder.pop()).map(|(item, _)| item).collect()
    }

    #[test]
    fn a_gap_is_filled_in_order() {
        let mut reorder = Reorder::new(10);
        assert_eq!(reorder.insert(at(0), 12, 12), Insertion::Held);
        assert_eq!(reorder.insert(at(1), 11, 11), Insertion::Held);
        assert_eq!(drain(&mut reorder), [0_u64; 0]);
        assert_eq!(reorder.insert(at(2), 10, 10), Insertion::Released);
        assert_eq!(drain(&mut reorder), [10, 11, 12]);
        assert_eq!(reorder.insert(at(3), 11, 11), Insertion::Late);
        assert!((1.98..2.02).contains(&(reorder.holds().max().as_secs_f64() * 1e3)));
        assert_eq!(reorder.holds().count(), 3);
    }

    #[test]
    fn no_frame_is_held_longer_than_the_window() {
        let mut reorder = Reorder::new(0);
        reorder.insert(at(5), 7, 7);
        reorder.insert(at(10), 3, 3);
        assert_eq!(reorder.expires_at(WINDOW), Some(at(45)));
        reorder.expire(at(44), WINDOW);
        assert_eq!(drain(&mut reorder), [0_u64; 0]);
        reorder.expire(at(45), WINDOW);
        assert_eq!(drain(&mut reorder), [3, 7], "the later number came first, and takes the earlier one with it");
        assert_eq!(reorder.given_up(), 6);
        assert_eq!(reorder.expires_at(WINDOW), None);
    }

    #[test]
    fn a_jump_beyond_the_ring_releases_what_was_held() {
        let mut reorder = Reorder::new(0);
        reorder.insert(at(0), 5, 5);
        reorder.insert(at(0), 1_000_000, 1_000_000);
        assert_eq!(drain(&mut reorder), [5]);
        reorder.give_up_below(at(1), 1_000_000);
        assert_eq!(drain(&mut reorder), [1_000_000]);
    }
}
