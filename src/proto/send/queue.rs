//! Frames that wait for an uplink, each flow in a queue of its own.
//!
//! Expedited frames go first. The others take turns by flow, by deficit round robin (Shreedhar and Varghese 1996), and a
//! flow that has just begun goes before those that have been waiting (RFC 8290 §4.2): so a stream that fills the
//! uplinks waits behind itself, and not a video behind it. Nothing is numbered here: what is dropped leaves no gap.

use std::collections::VecDeque;

use super::classify::{Class, Headers};
use crate::proto::time::Instant;

/// The most frames that wait.
pub const WAITING_MAX: usize = 1024;
/// Flows are told apart by as many queues; a power of two.
const FLOWS: usize = 64;
const _: () = assert!(FLOWS.is_power_of_two());
/// The queue of what is expedited.
const EXPEDITED: usize = FLOWS;
/// What a flow may send in its turn, in bytes: a stream, and datagrams, which cannot make room for others.
const QUANTUM_STREAM: i64 = 1514;
const QUANTUM_DATAGRAM: i64 = 8 * 1514;

/// What matters of a frame here.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// Its flow.
    pub flow: u32,
    /// What it wants.
    pub class: Class,
    /// Whether it goes by two uplinks.
    pub is_precious: bool,
}

impl Kind {
    /// Of a frame with these headers.
    #[must_use]
    pub const fn new(headers: &Headers, is_precious: bool) -> Self {
        Self { flow: headers.flow, class: headers.class, is_precious }
    }
}

/// A frame that waits.
#[derive(Debug)]
pub struct Waiting<F> {
    /// The frame.
    pub frame: F,
    /// Its bytes.
    pub length: u32,
    /// When it came from the TAP.
    pub offered_at: Instant,
    /// Whether it goes by two uplinks.
    pub is_precious: bool,
    /// The next one of its flow.
    next: Option<u16>,
}

#[derive(Clone, Copy, Debug, Default)]
struct FlowQueue {
    first: Option<u16>,
    last: Option<u16>,
    bytes: u64,
    quantum: i64,
    deficit: i64,
    is_listed: bool,
}

/// All of them.
#[derive(Debug)]
pub struct Queue<F> {
    places: Box<[Option<Waiting<F>>]>,
    free: Vec<u16>,
    flows: [FlowQueue; FLOWS + 1],
    /// Flows that have just begun, and those that take turns.
    begun: VecDeque<u8>,
    in_turn: VecDeque<u8>,
    bytes: u64,
}

impl<F> Default for Queue<F> {
    fn default() -> Self {
        Self {
            places: (0..WAITING_MAX).map(|_| None).collect(),
            free: (0..WAITING_MAX as u16).rev().collect(),
            flows: [FlowQueue::default(); FLOWS + 1],
            begun: VecDeque::with_capacity(FLOWS + 1),
            in_turn: VecDeque::with_capacity(FLOWS + 1),
            bytes: 0,
        }
    }
}

impl<F> Queue<F> {
    /// Bytes that wait.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Frames that wait.
    #[must_use]
    pub fn frames(&self) -> usize {
        WAITING_MAX - self.free.len()
    }

    /// A frame of this kind waits from now on. If there is no room, the oldest of the longest flow makes some, and is
    /// returned.
    pub fn push(&mut self, frame: F, length: u32, offered_at: Instant, kind: Kind) -> Option<Waiting<F>> {
        let displaced =
            if self.free.is_empty() { self.longest().and_then(|longest| self.take_first(longest)) } else { None };
        let number = if kind.class == Class::Expedited { EXPEDITED } else { kind.flow as usize & (FLOWS - 1) };
        let place = self.free.pop().expect("room has been made");
        self.places[usize::from(place)] =
            Some(Waiting { frame, length, offered_at, is_precious: kind.is_precious, next: None });
        let queue = &mut self.flows[number];
        match queue.last.replace(place) {
            Some(last) => {
                if let Some(last) = &mut self.places[usize::from(last)] {
                    last.next = Some(place);
                }
            }
            None => queue.first = Some(place),
        }
        queue.bytes += u64::from(length);
        self.bytes += u64::from(length);
        if !queue.is_listed && number != EXPEDITED {
            queue.is_listed = true;
            queue.quantum = if kind.class == Class::Stream { QUANTUM_STREAM } else { QUANTUM_DATAGRAM };
            queue.deficit = queue.quantum;
            self.begun.push_back(number as u8);
        }
        displaced
    }

    fn longest(&self) -> Option<usize> {
        (0..self.flows.len())
            .max_by_key(|number| self.flows[*number].bytes)
            .filter(|number| self.flows[*number].first.is_some())
    }

    /// The flow whose turn it is.
    fn turn(&mut self) -> Option<usize> {
        if self.flows[EXPEDITED].first.is_some() {
            return Some(EXPEDITED);
        }
        loop {
            let is_beginner = !self.begun.is_empty();
            let number = *self.begun.front().or(self.in_turn.front())?;
            let queue = &mut self.flows[usize::from(number)];
            if queue.first.is_some() && queue.deficit > 0 {
                return Some(number.into());
            }
            if is_beginner {
                self.begun.pop_front()
            } else {
                self.in_turn.pop_front()
            };
            if queue.first.is_none() && !is_beginner {
                queue.is_listed = false;
                continue;
            }
            // One that has run empty keeps its place in the round, or it would begin anew with every frame.
            if queue.deficit <= 0 {
                queue.deficit += queue.quantum;
            }
            self.in_turn.push_back(number);
        }
    }

    /// The frame whose turn it is.
    pub fn first(&mut self) -> Option<&Waiting<F>> {
        let place = self.turn().and_then(|number| self.flows[number].first)?;
        self.places[usize::from(place)].as_ref()
    }

    /// Takes it out.
    pub fn pop(&mut self) -> Option<Waiting<F>> {
        let number = self.turn()?;
        let taken = self.take_first(number)?;
        self.flows[number].deficit -= i64::from(taken.length);
        Some(taken)
    }

    fn take_first(&mut self, number: usize) -> Option<Waiting<F>> {
        let queue = &mut self.flows[number];
        let place = queue.first?;
        let taken = self.places[usize::from(place)].take()?;
        queue.first = taken.next;
        if queue.first.is_none() {
            queue.last = None;
        }
        queue.bytes -= u64::from(taken.length);
        self.bytes -= u64::from(taken.length);
        self.free.push(place);
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const VIDEO: Kind = Kind { flow: 1, class: Class::Datagram, is_precious: false };
    const DOWNLOAD: Kind = Kind { flow: 2, class: Class::Stream, is_precious: false };
    const VOICE: Kind = Kind { flow: 3, class: Class::Expedited, is_precious: false };

    fn push(queue: &mut Queue<u32>, frame: u32, flow: Kind) -> Option<u32> {
        queue.push(frame, 1400, Instant::ZERO, flow).map(|displaced| displaced.frame)
    }

    #[test]
    fn a_video_does_not_wait_behind_a_download() {
        let mut queue = Queue::default();
        (0..500).for_each(|number| assert_eq!(push(&mut queue, number, DOWNLOAD), None));
        let mut waited = vec![];
        for frame in 1000..1100 {
            push(&mut queue, frame, VIDEO);
            waited.push((0..).take_while(|_| queue.pop().is_some_and(|taken| taken.frame != frame)).count());
        }
        assert!(waited.iter().all(|others| *others <= 2), "{waited:?}");
    }

    #[test]
    fn what_is_expedited_goes_first() {
        let mut queue = Queue::default();
        push(&mut queue, 1, VIDEO);
        push(&mut queue, 2, VOICE);
        assert_eq!(queue.first().map(|first| first.frame), Some(2));
        assert_eq!(
            [queue.pop(), queue.pop(), queue.pop()].map(|taken| taken.map(|taken| taken.frame)),
            [Some(2), Some(1), None]
        );
    }

    #[test]
    fn two_downloads_share_evenly() {
        let mut queue = Queue::default();
        let other = Kind { flow: 9, ..DOWNLOAD };
        for _ in 0..200 {
            push(&mut queue, 1, DOWNLOAD);
            push(&mut queue, 2, other);
        }
        let first_half: Vec<u32> = (0..200).filter_map(|_| queue.pop()).map(|taken| taken.frame).collect();
        let of_first = first_half.iter().filter(|frame| **frame == 1).count();
        assert!((95..=105).contains(&of_first), "{of_first}");
    }

    #[test]
    fn a_full_queue_drops_the_oldest_of_the_longest_flow() {
        let mut queue = Queue::default();
        push(&mut queue, 5000, VIDEO);
        (0..WAITING_MAX as u32 - 1).for_each(|number| assert_eq!(push(&mut queue, number, DOWNLOAD), None));
        assert_eq!(push(&mut queue, 5001, VIDEO), Some(0));
        assert_eq!((queue.frames(), queue.bytes()), (WAITING_MAX, WAITING_MAX as u64 * 1400));
    }

    proptest! {
        #[test]
        fn each_flow_keeps_its_order_and_nothing_is_forgotten(steps in proptest::collection::vec((0_u8..3, any::<bool>()), 1..3000)) {
            let mut queue = Queue::default();
            let (mut next, mut seen, mut taken) = (0_u32, [None; 3], 0);
            for (flow, is_push) in steps {
                let left = if is_push {
                    next += 1;
                    queue.push((flow, next), 100 + u32::from(flow), Instant::ZERO, [VIDEO, DOWNLOAD, VOICE][usize::from(flow)])
                } else {
                    queue.pop()
                };
                if let Some(waiting) = left {
                    let (flow, number) = waiting.frame;
                    prop_assert!(seen[usize::from(flow)] < Some(number));
                    seen[usize::from(flow)] = Some(number);
                    taken += 1;
                }
            }
            while let Some(waiting) = queue.pop() {
                let (flow, number) = waiting.frame;
                prop_assert!(seen[usize::from(flow)] < Some(number));
                seen[usize::from(flow)] = Some(number);
                taken += 1;
            }
            prop_assert_eq!((taken, queue.frames(), queue.bytes()), (next, 0, 0));
        }
    }
}
