//! Frames that say who they are: of which direction, which number, and with contents that follow from it.
//!
//! The direction is in the first byte. The number is behind the Ethernet header, so that all frames of a direction are of
//! one flow and from one address to another; or, where a frame is too short for that, within the addresses.

use std::ops::Range;

use bytes::Bytes;

use crate::proto::wire::FRAME_LENGTH_MIN;

const NUMBER_LENGTH: usize = 8;
/// Of a frame that has room for the number behind its header.
const HEAD_LENGTH: usize = FRAME_LENGTH_MIN + NUMBER_LENGTH;
const ETHER_TYPE: Range<usize> = FRAME_LENGTH_MIN - 2..FRAME_LENGTH_MIN;
/// IEEE local experimental EtherType 1: nothing that anybody looks into.
const EXPERIMENTAL: [u8; 2] = [0x88, 0xb5];

const fn place_of_number(length: usize) -> Range<usize> {
    if length >= HEAD_LENGTH {
        FRAME_LENGTH_MIN..HEAD_LENGTH
    } else {
        ETHER_TYPE.start - NUMBER_LENGTH..ETHER_TYPE.start
    }
}

/// Frame `number` of those offered to end `from`, `length` bytes long. One too short for a header says nothing.
pub fn make(from: usize, number: u64, length: usize) -> Bytes {
    let mut frame = vec![0; length];
    if length >= FRAME_LENGTH_MIN {
        frame[FRAME_LENGTH_MIN..].fill(filler(number));
        frame[0] = from as u8;
        frame[ETHER_TYPE].copy_from_slice(&EXPERIMENTAL);
        frame[place_of_number(length)].copy_from_slice(&number.to_be_bytes());
        if length < HEAD_LENGTH {
            // Nothing else would tell of a spoiled number.
            frame[1..ETHER_TYPE.start - NUMBER_LENGTH].fill(filler(number));
        }
    }
    frame.into()
}

/// From which end a frame is, and its number; `None` if it is none of ours.
pub fn read(frame: &[u8]) -> Option<(usize, u64)> {
    let from = usize::from(*frame.first()?);
    let number = frame.get(place_of_number(frame.len()))?;
    let number = u64::from_be_bytes(number.try_into().ok()?);
    (from < 2 && make(from, number, frame.len()) == frame).then_some((from, number))
}

const fn filler(number: u64) -> u8 {
    (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8
}

/// Changes a datagram as a bad link does: some bytes, or now and then two 16-bit words that change places.
pub fn spoil(datagram: &Bytes, how: u64) -> Bytes {
    let mut bytes = datagram.to_vec();
    let words = bytes.len() as u64 / 2;
    if how.is_multiple_of(8) && words > 1 {
        let place = |number: u64| (number % words * 2) as usize;
        let (one, other) = (place(how >> 8), place(how >> 32));
        (0..2).for_each(|at| bytes.swap(one + at, other + at));
    } else if !bytes.is_empty() {
        let at = (how >> 8) as usize % bytes.len();
        bytes[at] ^= ((how >> 56) as u8).max(1);
    }
    bytes.into()
}

/// What UDP checks (RFC 1071), and what cannot tell that two words have changed places.
pub fn checksum(datagram: &[u8]) -> u16 {
    let words = datagram.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0)));
    // A datagram has fewer than 2^16 words, so the sum fits.
    let sum = words.sum::<u32>();
    let folded = (sum & 0xffff) + (sum >> 16);
    (folded + (folded >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_says_who_it_is_and_a_spoiled_one_does_not() {
        let frame = make(1, 77, 100);
        assert_eq!((read(&frame), frame.len()), (Some((1, 77)), 100));
        let spoiled =
            (0..64).map(|how| spoil(&frame, how << 56 | how << 8 | 1)).filter(|frame| read(frame) == Some((1, 77)));
        assert_eq!(spoiled.count(), 0);
    }

    #[test]
    fn a_swap_of_words_passes_the_checksum_and_another_byte_does_not() {
        let datagram = Bytes::from_iter(0..100);
        let swapped = spoil(&datagram, 3 << 8 | 9 << 32);
        assert!(swapped != datagram && checksum(&swapped) == checksum(&datagram));
        assert_ne!(checksum(&spoil(&datagram, 3 << 8 | 1)), checksum(&datagram));
    }
}
