//! The Internet checksum (RFC 1071).

use std::ops::{Add, AddAssign};

/// Bytes that are summed at once, in as many independent lanes as keep the vector units busy.
const BLOCK_LENGTH: usize = 64;
const LANE_LENGTH: usize = 8;
const LANES: usize = BLOCK_LENGTH / LANE_LENGTH;

/// A one's complement sum of 16-bit words, not folded yet.
///
/// It is kept in the machine's byte order, in which words are read fastest: RFC 1071 §2(B) shows that the order does not
/// matter as long as it is one. Sums of up to 2^31 words do not overflow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum(u64);

impl Sum {
    /// The sum of `bytes` as big-endian words; an odd last byte counts as if a zero byte followed.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let (blocks, rest) = bytes.as_chunks::<BLOCK_LENGTH>();
        let mut lanes = [0; LANES];
        for block in blocks {
            for (lane, bytes) in lanes.iter_mut().zip(block.as_chunks::<LANE_LENGTH>().0) {
                *lane += halves(*bytes);
            }
        }
        Self(lanes.iter().sum::<u64>() + of_few(rest))
    }

    /// The sum of one word.
    #[must_use]
    pub const fn word(word: u16) -> Self {
        Self(u16::from_ne_bytes(word.to_be_bytes()) as u64)
    }

    /// What, added, takes one word away again.
    #[must_use]
    pub const fn without(word: u16) -> Self {
        Self::word(!word)
    }

    /// The sum of the pseudo-header of TCP or UDP (RFC 9293 §3.1, RFC 8200 §8.1).
    ///
    /// `addresses` are the source's and the destination's, `length` is that of header and payload, in bytes.
    #[must_use]
    pub fn pseudo_header(addresses: &[u8], protocol: u8, length: u32) -> Self {
        let length = Self::word((length >> 16) as u16) + Self::word(length as u16);
        Self::of(addresses) + Self::word(protocol.into()) + length
    }

    /// The sum as one word. It is 0 only if all words are.
    #[must_use]
    pub const fn fold(self) -> u16 {
        let sum = (self.0 & 0xffff_ffff) + (self.0 >> 32);
        let sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = (sum & 0xffff) + (sum >> 16);
        u16::from_be_bytes((sum as u16).to_ne_bytes())
    }

    /// The checksum: what brings the sum of everything to 0xffff.
    #[must_use]
    pub const fn checksum(self) -> u16 {
        !self.fold()
    }

    /// The checksum where 0 says that there is none (UDP, RFC 768), and its other spelling stands for it.
    #[must_use]
    pub const fn checksum_not_zero(self) -> u16 {
        match self.checksum() {
            0 => 0xffff,
            checksum => checksum,
        }
    }

    /// Whether this is the sum of something whose checksum, counted with it, is right.
    #[must_use]
    pub const fn is_right(self) -> bool {
        self.fold() == 0xffff
    }
}

impl Add for Sum {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

impl AddAssign for Sum {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

/// The sum of the two halves, so that carries gather above them.
const fn halves(bytes: [u8; LANE_LENGTH]) -> u64 {
    let word = u64::from_ne_bytes(bytes);
    (word & 0xffff_ffff) + (word >> 32)
}

/// The same as [`Sum::of`], for what is less than a block.
fn of_few(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<LANE_LENGTH>();
    let mut last = [0; LANE_LENGTH];
    last[..rest.len()].copy_from_slice(rest);
    words.iter().map(|word| halves(*word)).sum::<u64>() + halves(last)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Byte by byte, as the RFC words it.
    fn naive(bytes: &[u8]) -> u16 {
        let mut sum: u32 = 0;
        for (at, byte) in bytes.iter().enumerate() {
            sum += if at % 2 == 0 { u32::from(*byte) << 8 } else { u32::from(*byte) };
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }

    #[test]
    fn the_example_of_the_rfc() {
        let sum = Sum::of(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
        assert_eq!((sum.fold(), sum.checksum()), (0xddf2, !0xddf2));
    }

    #[test]
    fn zero_has_two_spellings() {
        assert_eq!((Sum::of(&[0; 100]).fold(), Sum::of(&[0xff; 100]).fold()), (0, 0xffff));
        assert_eq!((Sum::word(0xffff).checksum(), Sum::word(0xffff).checksum_not_zero()), (0, 0xffff));
        assert_eq!(Sum::word(7).checksum_not_zero(), !7);
    }

    #[test]
    fn the_longest_frame_does_not_overflow() {
        assert_eq!(Sum::of(&vec![0xff; 1 << 20]).fold(), 0xffff);
    }

    proptest! {
        #[test]
        fn agrees_with_the_naive_one(bytes in proptest::collection::vec(any::<u8>(), 0..300), cut in 0_usize..300) {
            prop_assert_eq!(Sum::of(&bytes).fold(), naive(&bytes));
            // Parts add up if they begin at even places.
            let (head, tail) = bytes.split_at((cut & !1).min(bytes.len()));
            prop_assert_eq!((Sum::of(head) + Sum::of(tail)).fold(), naive(&bytes));
        }

        #[test]
        fn a_word_is_taken_away_again(bytes in proptest::collection::vec(any::<u8>(), 1..100), word: u16) {
            let sum = Sum::of(&bytes) + Sum::word(word) + Sum::without(word);
            // Up to the spelling of zero.
            prop_assert_eq!(sum.fold() % 0xffff, naive(&bytes) % 0xffff);
        }
    }
}
