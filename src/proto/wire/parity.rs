//! Parity: what a receiver makes up a lost frame from that cannot be sent again in time.
//!
//! A control message without the head of the others, so that it fits wherever the longest frame does: of the frames of a
//! group a Reed-Solomon code (the systematic one of the crate reed-solomon-simd, over GF(2^16)) makes parities, and each
//! of these stands for any one of them.
//!
//! ```text
//! offset  0 kind (6)   1 version   2 frames (1)   3 parities, place of this one (4 bits each)
//!         4 number of the group's first frame (4)   8 parity, as long as the longest share
//! ```
//! The frames of a group are numbered in a row, and go from the same hardware address to the same. A frame's share is its
//! length (2) and what follows its two addresses (12), filled up with zeros to the length of the longest, which is even.

use super::control::{PARITY_KIND, VERSION};
use crate::proto::stats::DropReason;

/// The least and the most frames in a group: of one there would be nobody left to tell its addresses.
pub const GROUP_MIN: usize = 2;
/// See [`GROUP_MIN`].
pub const GROUP_MAX: usize = 64;
/// The most parities of a group; fewer than its frames, always.
pub const PARITIES_MAX: usize = 8;
/// The longest share, in bytes.
pub const SHARE_MAX: usize = 1536;
/// The longest frame that fits a share, in bytes.
pub const PROTECTED_MAX: usize = SHARE_MAX - SHARE_OVERHEAD + ADDRESSES_LENGTH;
/// Bytes in front of a parity.
pub const PARITY_HEAD_LENGTH: usize = 8;
/// The two hardware addresses that a frame begins with, in bytes.
pub const ADDRESSES_LENGTH: usize = 12;

/// Bytes of a share in front of the frame's: its length.
pub const SHARE_OVERHEAD: usize = 2;

/// Whose parity, and which of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParityHead {
    /// How many frames, [`GROUP_MIN`] to [`GROUP_MAX`].
    pub frames: u8,
    /// How many parities, 1 to [`PARITIES_MAX`].
    pub parities: u8,
    /// Which of them this is, from 0.
    pub place: u8,
    /// The number of the first frame.
    pub first: u32,
}

impl ParityHead {
    fn is_lawful(self) -> bool {
        let (frames, parities) = (usize::from(self.frames), usize::from(self.parities));
        (GROUP_MIN..=GROUP_MAX).contains(&frames)
            && (1..=PARITIES_MAX.min(frames - 1)).contains(&parities)
            && self.place < self.parities
    }

    /// As it is sent.
    #[must_use]
    pub fn emit(self) -> [u8; PARITY_HEAD_LENGTH] {
        let mut bytes = [PARITY_KIND, VERSION, self.frames, self.parities << 4 | self.place, 0, 0, 0, 0];
        bytes[4..].copy_from_slice(&self.first.to_be_bytes());
        bytes
    }
}

/// A frame that was copied, to protect it or to make up another with its help.
#[derive(Clone, Copy)]
pub struct FrameCopy {
    length: usize,
    bytes: [u8; PROTECTED_MAX],
}

impl FrameCopy {
    /// None.
    pub const EMPTY: Self = Self { length: 0, bytes: [0; PROTECTED_MAX] };

    /// Room for one of so many bytes.
    ///
    /// # Panics
    /// If it is longer than [`PROTECTED_MAX`].
    pub fn room(&mut self, length: usize) -> &mut [u8] {
        self.length = length;
        &mut self.bytes[..length]
    }

    /// The frame.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    /// The two hardware addresses that it begins with.
    #[must_use]
    pub fn addresses(&self) -> [u8; ADDRESSES_LENGTH] {
        std::array::from_fn(|at| self.bytes[at])
    }
}

/// Whether the body of a control message is a parity.
#[must_use]
pub fn is_parity(body: &[u8]) -> bool {
    body.first() == Some(&PARITY_KIND)
}

/// Reads one: whose it is, and the parity itself.
///
/// # Errors
/// [`DropReason::Truncated`] or [`DropReason::ControlMalformed`].
pub fn parse(body: &[u8]) -> Result<(ParityHead, &[u8]), DropReason> {
    let (head, share) = body.split_first_chunk::<PARITY_HEAD_LENGTH>().ok_or(DropReason::Truncated)?;
    let [kind, version, frames, numbers, first @ ..] = *head;
    let head = ParityHead { frames, parities: numbers >> 4, place: numbers & 0xf, first: u32::from_be_bytes(first) };
    let is_share = (SHARE_OVERHEAD..=SHARE_MAX).contains(&share.len()) && share.len().is_multiple_of(2);
    if kind != PARITY_KIND || version != VERSION || !head.is_lawful() || !is_share {
        return Err(DropReason::ControlMalformed);
    }
    Ok((head, share))
}

/// How long the share of a frame of so many bytes is at least.
#[must_use]
pub const fn share_length(frame_length: usize) -> usize {
    (SHARE_OVERHEAD + frame_length.saturating_sub(ADDRESSES_LENGTH)).next_multiple_of(2)
}

/// Makes `share` that of `frame`; false if this does not fit it.
#[must_use]
pub fn write_share(share: &mut [u8], frame: &[u8]) -> bool {
    let Some((length, rest)) = share.split_first_chunk_mut::<SHARE_OVERHEAD>() else { return false };
    let Some((_, text)) = frame.split_at_checked(ADDRESSES_LENGTH) else { return false };
    let Some((place, filling)) = rest.split_at_mut_checked(text.len()) else { return false };
    *length = (frame.len() as u16).to_be_bytes();
    place.copy_from_slice(text);
    filling.fill(0);
    true
}

/// What follows the addresses of the frame of this share; `None` if it is none.
#[must_use]
pub fn read_share(share: &[u8]) -> Option<&[u8]> {
    let (length, rest) = share.split_first_chunk::<SHARE_OVERHEAD>()?;
    let length = usize::from(u16::from_be_bytes(*length));
    let (text, filling) = rest.split_at_checked(length.checked_sub(ADDRESSES_LENGTH)?)?;
    filling.iter().all(|byte| *byte == 0).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_parity_of_the_longest_frame_is_no_longer_than_the_frame_but_for_its_last_byte() {
        for length in [1434, 1435, PROTECTED_MAX] {
            let parity = PARITY_HEAD_LENGTH + share_length(length);
            assert!(parity < length, "{length}: {parity}");
        }
        assert_eq!(share_length(PROTECTED_MAX), SHARE_MAX);
    }

    proptest! {
        #[test]
        fn what_parses_is_emitted_again_byte_for_byte(bytes in proptest::collection::vec(any::<u8>(), 8..40)) {
            let mut bytes = bytes;
            (bytes[0], bytes[1]) = (PARITY_KIND, VERSION);
            if let Ok((head, share)) = parse(&bytes) {
                prop_assert!(head.is_lawful());
                prop_assert_eq!([&head.emit()[..], share].concat(), bytes);
            }
        }

        #[test]
        fn parsing_undoes_emitting(frames in 2_u8..=64, parities in 1_u8..=8, place in 0_u8..8, first: u32, length in 1_usize..700) {
            prop_assume!(parities < frames && place < parities);
            let head = ParityHead { frames, parities, place, first };
            let body = [&head.emit()[..], &vec![7; length * 2]].concat();
            prop_assert_eq!(parse(&body), Ok((head, &vec![7; length * 2][..])));
        }

        #[test]
        fn a_share_gives_its_frame_back(frame in proptest::collection::vec(any::<u8>(), 14..300), longer in 0_usize..40) {
            let mut share = vec![1; share_length(frame.len()) + longer * 2];
            prop_assert!(write_share(&mut share, &frame));
            prop_assert_eq!(read_share(&share), Some(&frame[ADDRESSES_LENGTH..]));
        }
    }
}
