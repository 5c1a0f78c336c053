//! Sequence numbers: 32 bits on the wire (RFC 2890 §2.2), 64 bits inside.
//!
//! Inside the core a sequence number never wraps, so order is plain `<`. [`extend`] is the only place where the
//! wire's 32 bits meet it.

/// Where a fresh sequence space starts inside: far enough from zero that a number slightly older than the first one
/// seen still has a place below it.
const SPACE_BASE: u64 = 1 << 32;

/// How far an end has counted: what a peer that has just learned our keys must know to count on from there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The number of the next frame.
    pub frame: u64,
    /// The number of the next control message.
    pub control: u64,
}

/// The low 32 bits, as sent on the wire.
#[must_use]
pub const fn truncate(sequence: u64) -> u32 {
    sequence as u32
}

/// The 64-bit number nearest to `expected` whose low 32 bits are `wire` (RFC 9000 A.3, RFC 1982 for the comparison).
///
/// Correct as long as the two are less than 2^31 apart.
#[must_use]
pub const fn extend(wire: u32, expected: u64) -> u64 {
    let distance = wire.wrapping_sub(truncate(expected)).cast_signed() as i64;
    match expected.checked_add_signed(distance) {
        Some(sequence) => sequence,
        None => wire as u64,
    }
}

/// The first 64-bit number of a space whose first wire number is `wire`.
#[must_use]
pub const fn begin(wire: u32) -> u64 {
    SPACE_BASE + wire as u64
}

/// Whether `candidate` comes after `reference` in serial number arithmetic (RFC 1982 §3.2).
#[must_use]
pub const fn is_newer(candidate: u32, reference: u32) -> bool {
    candidate.wrapping_sub(reference).cast_signed() > 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn extension_crosses_the_wrap_both_ways() {
        let before_wrap = (7 << 32) | 0xffff_fff0;
        assert_eq!(extend(5, before_wrap), (8 << 32) | 5);
        let after_wrap = (8 << 32) | 5;
        assert_eq!(extend(0xffff_fff0, after_wrap), before_wrap);
    }

    #[test]
    fn a_number_older_than_the_first_has_a_place() {
        let first = begin(0);
        assert_eq!(extend(0xffff_ffff, first), first - 1);
    }

    #[test]
    fn serial_order_survives_the_wrap() {
        assert!(is_newer(0, u32::MAX));
        assert!(!is_newer(u32::MAX, 0));
        assert!(!is_newer(9, 9));
    }

    proptest! {
        #[test]
        fn extend_undoes_truncate(sequence in SPACE_BASE..u64::MAX / 2, distance in -(1_i64 << 31) + 1..(1_i64 << 31)) {
            let expected = sequence.saturating_add_signed(distance);
            prop_assert_eq!(extend(truncate(sequence), expected), sequence);
        }
    }
}
