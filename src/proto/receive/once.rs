//! Has this number come before? A sliding window of bits (RFC 6479), for numbers that come by any uplink, in any order.

use crate::proto::seq;

/// How far back it remembers; a multiple of 64.
const WINDOW: u64 = 1024;
const WORD: u64 = u64::BITS as u64;

/// The memory.
#[derive(Clone, Copy, Debug, Default)]
pub struct Once {
    seen: [u64; (WINDOW / WORD) as usize],
    /// One past the highest number; 0 as long as none has come.
    end: u64,
}

impl Once {
    /// Whether `number`, as it is on the wire, comes for the first time. What is older than the window counts as come.
    pub fn admit(&mut self, number: u32) -> bool {
        let number = if self.end == 0 { seq::begin(number) } else { seq::extend(number, self.end) };
        if number >= self.end {
            let first = self.end.max((number + 1).saturating_sub(WINDOW));
            (first..=number).for_each(|passed| self.seen[word(passed)] &= !bit(passed));
            self.end = number + 1;
        } else if self.end - number > WINDOW {
            return false;
        }
        let is_new = self.seen[word(number)] & bit(number) == 0;
        self.seen[word(number)] |= bit(number);
        is_new
    }
}

const fn word(number: u64) -> usize {
    (number % WINDOW / WORD) as usize
}

const fn bit(number: u64) -> u64 {
    1 << (number % WORD)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn agrees_with_a_set(first: u32, steps in proptest::collection::vec(-1500_i64..1500, 0..500)) {
            let (mut once, mut model) = (Once::default(), BTreeSet::new());
            let (base, mut newest) = (seq::begin(first), None::<u64>);
            let mut number = base;
            for step in steps {
                number = number.saturating_add_signed(step);
                let is_too_old = newest.is_some_and(|newest| newest + 1 - number.min(newest) > WINDOW);
                let expected = !is_too_old && model.insert(number);
                prop_assert_eq!(once.admit(seq::truncate(number)), expected, "{} after {:?}", number, newest);
                newest = newest.max(Some(number));
            }
        }
    }
}
