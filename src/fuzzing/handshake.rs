//! Both ends of a sealed tunnel, and whoever is between them.

use std::time::Duration;

use bytes::{Buf, Bytes};

use super::sealed::{BOX, GATEWAY, Pair, arrival, arrival_from, public_key};
use crate::proto::session::handshake::mac::ReceiverKeys;
use crate::proto::session::handshake::message::{
    self, COOKIE_LENGTH, INITIATION_LENGTH, MAC_LENGTH, Message, RESPONSE_LENGTH,
};
use crate::proto::wire::{self, KeyedDatagram};

/// In front of each datagram of the input: to which end and made how, of which message, its length.
const PIECE_HEADER_LENGTH: usize = 3;
/// As a piece's first byte has them: to the gateway; a changed copy of what was said; with a mac1 that is right.
const TO_GATEWAY: u8 = 1;
const IS_CHANGED_COPY: u8 = 2;
const HAS_RIGHT_MAC1: u8 = 4;

/// Datagrams made up and changed on the way, for two ends whose handshake has come more or less far.
///
/// The first byte of `input` says how far; then each piece comes behind a byte for what it is, one for the message that
/// it is a copy of, and its length. What follows is the datagram, or pairs of a place and what to change there.
///
/// # Panics
/// If what is not authentic changes anything, is answered with more bytes than it has, or keeps the ends from talking.
pub fn handshake(input: &[u8]) {
    let mut input = Bytes::copy_from_slice(input);
    let stage = input.try_get_u8().unwrap_or(0);
    let mut pair = Pair::new();
    let said = prepare(&mut pair, stage);
    while input.len() >= PIECE_HEADER_LENGTH {
        let (how, of, length) = (input.get_u8(), input.get_u8(), input.get_u8());
        let length = usize::from(length).min(input.len());
        let piece = input.split_to(length);
        let to = if how & TO_GATEWAY == 0 { BOX } else { GATEWAY };
        let datagram = make(how, of, &piece, &said, to);
        pair.now = pair.now + Duration::from_millis(1);
        // Each end says what it has to say of itself before, so that what comes then is an answer.
        pair.wake(to);
        hand(&mut pair, to, &datagram, &said);
    }
    pair.check_works();
}

/// Brings the ends so far. Returns all that has been said.
fn prepare(pair: &mut Pair, stage: u8) -> Vec<Bytes> {
    let mut said = pair.wake(BOX);
    for round in 0..stage % 6 {
        let to = if round % 2 == 0 { GATEWAY } else { BOX };
        let last = said.clone();
        last.iter().for_each(|datagram| said.extend(pair.hand(to, arrival(to), datagram)));
        said.extend(pair.wake(to));
        said.extend(pair.offer(to, &[round; 60]));
    }
    said
}

fn make(how: u8, of: u8, piece: &[u8], said: &[Bytes], to: usize) -> Vec<u8> {
    if how & IS_CHANGED_COPY == 0 {
        return piece.to_vec();
    }
    let mut datagram = said[usize::from(of) % said.len()].to_vec();
    for change in piece.chunks_exact(2) {
        let at = usize::from(change[0]) % datagram.len();
        datagram[at] ^= change[1];
    }
    // An odd byte cuts it.
    if piece.len() % 2 == 1 {
        datagram.truncate(usize::from(piece[piece.len() - 1]));
    }
    if how & HAS_RIGHT_MAC1 != 0 {
        let mac1 = match datagram.len() {
            INITIATION_LENGTH => INITIATION_LENGTH - 2 * MAC_LENGTH,
            RESPONSE_LENGTH => RESPONSE_LENGTH - MAC_LENGTH,
            _ => return datagram,
        };
        ReceiverKeys::of(&public_key(to)).write_mac1(&mut datagram, mac1);
    }
    datagram
}

fn hand(pair: &mut Pair, to: usize, datagram: &[u8], said: &[Bytes]) {
    let before = pair.state(to);
    let arrival = if to == BOX { arrival(to) } else { arrival_from([198, 51, 100, 1]) };
    let answers = pair.hand(to, arrival, datagram);
    if said.iter().any(|said| vouched(said) == vouched(datagram)) {
        return;
    }
    assert_eq!(pair.state(to), before, "changed by {datagram:02x?}");
    // Whoever knows our key, and asks too often, is sent a cookie.
    assert!(answers.iter().all(|answer| to == GATEWAY && answer.len() == COOKIE_LENGTH), "{datagram:02x?}");
    assert!(answers.len() <= 1 && answers.iter().all(|answer| answer.len() <= datagram.len()));
}

/// What of a datagram is vouched for: not what tells processes apart, nor the name in front, nor what only says that the
/// sender knows our key and where it is.
fn vouched(datagram: &[u8]) -> Vec<&[u8]> {
    if wire::parse_keyed(datagram) != Ok(KeyedDatagram::Handshake) {
        return vec![datagram];
    }
    match message::parse(datagram) {
        Ok(Message::Initiation(bytes)) => {
            vec![&bytes[..8], &bytes[12..16], &bytes[20..INITIATION_LENGTH - 2 * MAC_LENGTH]]
        }
        Ok(Message::Response(bytes)) => vec![&bytes[..8], &bytes[12..16], &bytes[20..RESPONSE_LENGTH - MAC_LENGTH]],
        Ok(Message::Cookie(bytes)) => vec![&bytes[..8], &bytes[12..]],
        Err(_) => vec![datagram],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_corpus_passes() {
        crate::fuzzing::replay("handshake", 18, handshake);
    }

    #[test]
    fn any_byte_of_any_message_may_be_changed_at_any_stage() {
        for stage in 0..6 {
            for of in 0..12 {
                let pieces = (0..u8::MAX).step_by(5).flat_map(|at| {
                    let how = IS_CHANGED_COPY | HAS_RIGHT_MAC1 | ((of ^ at) % 2);
                    [how, of, 2, at, 1 << (at % 8)]
                });
                println!("stage {stage}, message {of}");
                handshake(&std::iter::once(stage).chain(pieces).collect::<Vec<_>>());
            }
        }
    }
}
