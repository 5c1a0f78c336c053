//! Sealed datagrams, changed on the way.

use std::time::Duration;

use bytes::{Buf, Bytes};

use super::sealed::{BOX, GATEWAY, Pair, arrival};
use crate::proto::wire::FRAME_LENGTH_MIN;

/// In front of each piece of the input: what to do, and how many bytes follow.
const PIECE_HEADER_LENGTH: usize = 2;

/// Frames sealed, changed, lost, replayed and made up, for the gateway of an established tunnel.
///
/// Each piece of `input` comes behind a byte for what to do and its length. By the lowest bits of the first: a frame
/// (of the piece's length at least) is sealed and kept; one that was kept is handed in, at the place that the higher
/// bits say; the same with pairs of a place and what to change there; the piece is handed in as it is.
///
/// # Panics
/// If anything but what was sealed comes out, or that more than once or in another order; or if what was changed is not
/// dropped.
pub fn opener(input: &[u8]) {
    let mut input = Bytes::copy_from_slice(input);
    let mut pair = Pair::new();
    pair.talk(50);
    let mut sealed: Vec<Bytes> = vec![];
    let mut frames: Vec<Bytes> = vec![];
    while input.len() >= PIECE_HEADER_LENGTH {
        let (what, length) = (input.get_u8(), input.get_u8());
        let length = usize::from(length).min(input.len());
        let piece = input.split_to(length);
        pair.now = pair.now + Duration::from_millis(1);
        pair.wake(GATEWAY);
        sealed.extend(pair.wake(BOX));
        let kept = sealed.get(usize::from(what >> 2) % sealed.len().max(1)).cloned();
        match (what & 3, kept) {
            (0, _) => {
                let frame = frame(frames.len(), &piece);
                sealed.extend(pair.offer(BOX, &frame));
                frames.push(frame);
            }
            (1, Some(datagram)) => drop(pair.hand(GATEWAY, arrival(GATEWAY), &datagram)),
            (2, Some(datagram)) => hand_forged(&mut pair, &change(&datagram, &piece), &sealed),
            _ => hand_forged(&mut pair, &piece, &sealed),
        }
    }
    pair.now = pair.now + Duration::from_secs(1);
    pair.wake(GATEWAY);
    check_delivered(&pair.delivered[GATEWAY], &frames);
}

/// A frame that says which it is.
fn frame(number: usize, piece: &[u8]) -> Bytes {
    let mut frame = number.to_be_bytes().to_vec();
    frame.extend_from_slice(piece);
    frame.resize(frame.len().max(FRAME_LENGTH_MIN), 0);
    frame.into()
}

fn change(datagram: &[u8], piece: &[u8]) -> Vec<u8> {
    let mut changed = datagram.to_vec();
    for pair in piece.chunks_exact(2) {
        let at = usize::from(pair[0]) % changed.len();
        changed[at] ^= pair[1];
    }
    // An odd byte makes it longer.
    changed.extend_from_slice(piece.chunks_exact(2).remainder());
    changed
}

fn hand_forged(pair: &mut Pair, datagram: &[u8], sealed: &[Bytes]) {
    let (before, dropped) = (pair.state(GATEWAY), pair.ends[GATEWAY].drops().total());
    let answers = pair.hand(GATEWAY, arrival(GATEWAY), datagram);
    if sealed.iter().any(|sealed| sealed == datagram) {
        return;
    }
    assert_eq!(pair.state(GATEWAY), before, "changed by {datagram:02x?}");
    assert_eq!(pair.ends[GATEWAY].drops().total(), dropped + 1, "{datagram:02x?}");
    assert!(answers.is_empty());
}

/// Each frame once at most, as it was, and in order.
fn check_delivered(delivered: &[Bytes], frames: &[Bytes]) {
    let mut next = 0;
    for frame in delivered {
        let place = frames[next..].iter().position(|known| known == frame);
        next += place.expect("a frame that was sealed, and not before one that came out already") + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_corpus_passes() {
        crate::fuzzing::replay("opener", 4, opener);
    }
}
