//! Has this sequence number been seen? A sliding bitmap, after RFC 6479.

/// How far back the memory reaches, in sequence numbers. Covers two seconds at 4,000 frames per second on the one
/// hand, and every place of the reorder ring on the other.
pub const DEDUP_WINDOW: u64 = 1 << 14;

const WORD_BITS: u64 = 64;
/// One word more than the window, so that the word being cleared is never one still asked about (RFC 6479 §3).
const WORDS: usize = (DEDUP_WINDOW / WORD_BITS) as usize * 2;

/// What [`Dedup::check`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Never seen; it is marked as seen now.
    Fresh,
    /// Seen before.
    Duplicate,
    /// Too far behind to tell.
    TooOld,
}

/// The memory.
#[derive(Debug)]
pub struct Dedup {
    words: Box<[u64; WORDS]>,
    /// One past the highest number seen.
    end: u64,
}

impl Dedup {
    /// A memory that knows nothing, and calls everything more than a window below `first` too old.
    #[must_use]
    pub fn new(first: u64) -> Self {
        Self { words: Box::new([0; WORDS]), end: first }
    }

    /// Forgets everything and begins at `first`.
    pub fn reset(&mut self, first: u64) {
        self.words.fill(0);
        self.end = first;
    }

    /// Looks `sequence` up and marks it.
    #[inline]
    pub fn check(&mut self, sequence: u64) -> Seen {
        if sequence >= self.end {
            self.advance(sequence);
        } else if self.end - sequence > DEDUP_WINDOW {
            return Seen::TooOld;
        }
        let word = &mut self.words[word_index(sequence)];
        let bit = 1 << (sequence % WORD_BITS);
        if *word & bit != 0 {
            return Seen::Duplicate;
        }
        *word |= bit;
        Seen::Fresh
    }

    fn advance(&mut self, sequence: u64) {
        let entered = (sequence / WORD_BITS).saturating_sub((self.end.saturating_sub(1)) / WORD_BITS);
        for step in 0..entered.min(WORDS as u64) {
            self.words[word_index(sequence - step * WORD_BITS)] = 0;
        }
        self.end = sequence + 1;
    }
}

#[inline]
const fn word_index(sequence: u64) -> usize {
    (sequence / WORD_BITS) as usize % WORDS
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_number_is_fresh_once() {
        let mut dedup = Dedup::new(1000);
        assert_eq!(dedup.check(1000), Seen::Fresh);
        assert_eq!(dedup.check(1000), Seen::Duplicate);
        assert_eq!(dedup.check(999), Seen::Fresh);
        assert_eq!(dedup.check(1000 + DEDUP_WINDOW * 5), Seen::Fresh);
        assert_eq!(dedup.check(1000), Seen::TooOld);
    }

    proptest! {
        #[test]
        fn agrees_with_a_set(first in 1_u64 << 20..1 << 40,
                             steps in proptest::collection::vec(prop_oneof![-40_i64..40, -20_000_i64..20_000], 1..400)) {
            let mut dedup = Dedup::new(first);
            let (mut seen, mut end, mut at) = (BTreeSet::new(), first, first);
            for step in steps {
                at = at.saturating_add_signed(step).max(1 << 19);
                let expected = if at < end && end - at > DEDUP_WINDOW { Seen::TooOld }
                    else if seen.insert(at) { Seen::Fresh } else { Seen::Duplicate };
                end = end.max(at + 1);
                prop_assert_eq!(dedup.check(at), expected);
            }
        }
    }
}
