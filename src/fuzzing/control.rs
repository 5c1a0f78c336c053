//! The parser of control messages, on any bytes.

use super::with_checksum;
use crate::proto::wire::control::{Message, ParityBytes};
use crate::proto::wire::{self, Datagram};

/// One datagram, as it is and with a checksum that fits.
///
/// # Panics
/// If what is accepted has a second spelling: if it is not what we would have sent, or still a message when cut short
/// or lengthened.
pub fn control(input: &[u8]) {
    check_spelling(input);
    let whole = with_checksum(input);
    check_spelling(&whole);
    if !is_message(&whole) {
        return;
    }
    for length in 0..input.len() {
        assert!(!is_message(&with_checksum(&input[..length])), "cut to {length} bytes, it still is a message");
    }
    for more in [0, 1, 0xff] {
        assert!(!is_message(&with_checksum(&[input, &[more]].concat())), "with a byte more, it still is a message");
    }
    for (at, _) in whole.iter().enumerate() {
        let mut spoiled = whole.to_vec();
        spoiled[at] ^= 1 << (at % 8);
        assert!(!is_message(&spoiled), "with byte {at} spoiled, it still is a message");
    }
}

/// What passes the gate is what we would have sent.
pub(super) fn check_spelling(datagram: &[u8]) {
    match wire::parse(datagram) {
        Ok(Datagram::Frame { sequence }) => assert!(datagram.starts_with(&wire::frame_header(sequence))),
        Ok(Datagram::Control { counter, body }) => {
            assert!(datagram.starts_with(&wire::control_header(counter)));
            match wire::control::parse(body) {
                Ok((head, Message::Sounding { length })) => {
                    let mut sounding = ParityBytes::room_for(usize::from(length));
                    sounding.put_sounding(&head, length);
                    assert_eq!(sounding.plaintext(counter), datagram);
                }
                Ok((head, message)) => {
                    assert_eq!(wire::control::emit(&head, &message).plaintext(counter), datagram);
                }
                Err(_) => {}
            }
            if let Ok((head, parity)) = wire::parity::parse(body) {
                assert!(wire::parity::is_parity(body) && wire::control::parse(body).is_err(), "it is one or the other");
                let mut message = ParityBytes::room();
                message.put(head, parity);
                assert_eq!(message.plaintext(counter), datagram);
            }
        }
        Err(_) => {}
    }
}

fn is_message(datagram: &[u8]) -> bool {
    matches!(wire::parse(datagram), Ok(Datagram::Control { body, .. }) if wire::control::parse(body).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_corpus_passes() {
        crate::fuzzing::replay("control", 20, control);
    }

    #[test]
    fn each_kind_of_message_is_in_the_corpus() {
        let mut seen = std::collections::BTreeSet::new();
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/control");
        for file in std::fs::read_dir(folder).expect("the corpus is committed") {
            let datagram = with_checksum(&std::fs::read(file.expect("an entry").path()).expect("readable"));
            let is_parity = wire::parity::parse(&datagram[wire::CONTROL_HEADER_LENGTH.min(datagram.len())..]).is_ok();
            if is_message(&datagram) || is_parity {
                seen.insert(datagram[wire::CONTROL_HEADER_LENGTH]);
            }
        }
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6, 7, 8, 9]);
    }
}
