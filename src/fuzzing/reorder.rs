//! The reorder ring beside a model without a ring, which has to agree with it at every step.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::{Buf, Bytes};

use super::pause;
use crate::proto::histogram::TimeHistogram;
use crate::proto::receive::reorder::{Insertion, REORDER_CAPACITY, Reorder};
use crate::proto::time::Instant;

/// An operation in the input: which, how long after the one before, and a distance as 16 bits, little-endian.
const OPERATION_LENGTH: usize = 4;
/// Where the ring begins: far enough up that there is room below, just under where the wire's numbers wrap.
const FIRST: u64 = (2 << 32) - 20;

/// What is done to the ring; distances count from the next number due.
#[derive(Clone, Copy, Debug)]
enum Operation {
    Insert { ahead: u64 },
    InsertBehind { distance: u64 },
    GiveUp { ahead: u64 },
    Expire { window: Duration },
    Restart { ahead: u64 },
}

/// Operations on the ring, four bytes each.
///
/// # Panics
/// If ring and model disagree.
pub fn reorder(input: &[u8]) {
    let mut input = Bytes::copy_from_slice(input);
    let mut operations = vec![];
    while input.len() >= OPERATION_LENGTH {
        let kind = input.get_u8();
        let since = pause(input.get_u8());
        operations.push((since, decode(kind, input.get_u16_le().into())));
    }
    run(&operations);
}

fn decode(kind: u8, distance: u64) -> Operation {
    match kind % 8 {
        0 => Operation::GiveUp { ahead: distance },
        1 => Operation::Expire { window: pause(distance as u8) },
        2 => Operation::InsertBehind { distance },
        3 => Operation::Restart { ahead: distance << (kind >> 3) },
        // No gap is too wide.
        4 => Operation::Insert { ahead: distance << (kind >> 3) },
        5 => Operation::Insert { ahead: distance % (2 * REORDER_CAPACITY as u64) },
        _ => Operation::Insert { ahead: distance % 32 },
    }
}

fn run(operations: &[(Duration, Operation)]) {
    let mut reorder = Reorder::new(FIRST);
    let mut model = Model { next: FIRST, ..Model::default() };
    let mut now = Instant::from_nanos(1_000_000_000);
    for (since, operation) in operations {
        now = now + *since;
        apply(&mut reorder, &mut model, now, *operation);
        compare(&mut reorder, &mut model);
    }
}

fn apply(reorder: &mut Reorder<u64>, model: &mut Model, now: Instant, operation: Operation) {
    let next = model.next;
    match operation {
        Operation::Insert { ahead } => insert(reorder, model, now, next + ahead),
        Operation::InsertBehind { distance } => insert(reorder, model, now, next.saturating_sub(distance)),
        Operation::GiveUp { ahead } => {
            reorder.give_up_below(now, next + ahead);
            model.give_up_below(now, next + ahead);
        }
        Operation::Expire { window } => {
            assert_eq!(reorder.expires_at(window), model.oldest().map(|arrived| arrived + window));
            reorder.expire(now, window);
            model.expire(now, window);
            assert!(reorder.expires_at(window).is_none_or(|at| at > now), "a wake-up that would change nothing");
        }
        Operation::Restart { ahead } => {
            reorder.restart(now, FIRST + ahead);
            model.restart(now, FIRST + ahead);
        }
    }
}

fn insert(reorder: &mut Reorder<u64>, model: &mut Model, now: Instant, sequence: u64) {
    // Dedup comes before the ring, which may rely on it.
    if !model.held.contains_key(&sequence) {
        assert_eq!(reorder.insert(now, sequence, sequence), model.insert(now, sequence));
    }
}

fn compare(reorder: &mut Reorder<u64>, model: &mut Model) {
    let out: Vec<u64> = std::iter::from_fn(|| reorder.pop()).map(|(sequence, _)| sequence).collect();
    assert!(out.windows(2).all(|pair| pair[0] < pair[1]), "once, and never backwards");
    assert_eq!(out, std::mem::take(&mut model.out));
    assert_eq!(reorder.next(), model.next);
    assert_eq!(reorder.held(), model.held.len());
    assert!(reorder.held() <= REORDER_CAPACITY);
    assert_eq!(reorder.given_up(), model.given_up);
    let holds = [reorder.holds(), &model.holds].map(|holds| (holds.count(), holds.max()));
    assert_eq!(holds[0], holds[1]);
}

/// The contract of the ring, written down without one.
#[derive(Default)]
struct Model {
    held: BTreeMap<u64, Instant>,
    next: u64,
    out: Vec<u64>,
    given_up: u64,
    holds: TimeHistogram,
}

impl Model {
    fn insert(&mut self, now: Instant, sequence: u64) -> Insertion {
        if sequence < self.next {
            return Insertion::Late;
        }
        let is_due = sequence == self.next;
        self.give_up_below(now, (sequence + 1).saturating_sub(REORDER_CAPACITY as u64));
        self.held.insert(sequence, now);
        self.give_up_below(now, self.next);
        if is_due { Insertion::Released } else { Insertion::Held }
    }

    fn give_up_below(&mut self, now: Instant, floor: u64) {
        while let Some(entry) = self.held.first_entry().filter(|entry| *entry.key() <= floor.max(self.next)) {
            let (sequence, arrived) = entry.remove_entry();
            self.given_up += sequence - self.next;
            self.next = sequence + 1;
            self.holds.record(now.since(arrived));
            self.out.push(sequence);
        }
        self.given_up += floor.saturating_sub(self.next);
        self.next = self.next.max(floor);
    }

    fn expire(&mut self, now: Instant, window: Duration) {
        let expired = self.held.iter().filter(|(_, arrived)| now >= **arrived + window);
        if let Some((newest, _)) = expired.max() {
            self.give_up_below(now, newest + 1);
        }
    }

    fn restart(&mut self, now: Instant, next: u64) {
        if let Some((newest, _)) = self.held.last_key_value() {
            self.give_up_below(now, newest + 1);
        }
        self.next = next;
    }

    fn oldest(&self) -> Option<Instant> {
        self.held.values().min().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_operation() -> impl Strategy<Value = Operation> {
        prop_oneof![
            16 => (0_u64..30).prop_map(|ahead| Operation::Insert { ahead }),
            4 => (0_u64..9000).prop_map(|ahead| Operation::Insert { ahead }),
            2 => (0_u64..9000).prop_map(|distance| Operation::InsertBehind { distance }),
            2 => (0_u64..9000).prop_map(|ahead| Operation::GiveUp { ahead }),
            2 => (0_u64..60).prop_map(|window| Operation::Expire { window: Duration::from_millis(window) }),
            1 => (0_u64..1 << 40).prop_map(|ahead| Operation::Insert { ahead }),
            1 => (0_u64..1 << 40).prop_map(|ahead| Operation::Restart { ahead }),
        ]
    }

    proptest! {
        #[test]
        fn agrees_with_a_naive_model(steps in proptest::collection::vec((0_u64..10, any_operation()), 1..300)) {
            let operations: Vec<_> =
                steps.into_iter().map(|(since, operation)| (Duration::from_millis(since), operation)).collect();
            run(&operations);
        }
    }

    #[test]
    fn the_corpus_passes() {
        crate::fuzzing::replay("reorder", 8, reorder);
    }
}
