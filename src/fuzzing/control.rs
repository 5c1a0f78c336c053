//! The parser of control messages, on any bytes.

use crate::proto::wire::{self, Datagram};

/// One datagram.
///
/// # Panics
/// If what is accepted has a second spelling: if it is not what we would have sent, or still a message when cut short
/// or lengthened.
pub fn control(input: &[u8]) {
    check_spelling(input);
    if !is_message(input) {
        return;
    }
    for length in 0..input.len() {
        assert!(!is_message(&input[..length]), "cut to {length} bytes, it still is a message");
    }
    for more in [0, 1, 0xff] {
        assert!(!is_message(&[input, &[more]].concat()), "with a byte more, it still is a message");
    }
}

/// What passes the gate is what we would have sent.
pub(super) fn check_spelling(datagram: &[u8]) {
    match wire::parse(datagram) {
        Ok(Datagram::Frame { sequence }) => assert!(datagram.starts_with(&wire::frame_header(sequence))),
        Ok(Datagram::Control { counter, body }) => {
            assert!(datagram.starts_with(&wire::control_header(counter)));
            if let Ok((head, message)) = wire::control::parse(body) {
                assert_eq!(wire::control::emit(counter, &head, &message).as_slice(), datagram);
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
}
