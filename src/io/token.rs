//! What an operation was, packed into the 64 bits that the ring hands back with its completion.
//!
//! ```text
//! 63      56 55      48 47          32 31                       0
//! ┌─────────┬──────────┬──────────────┬──────────────────────────┐
//! │  kind   │tap/socket│  generation  │          index           │
//! └─────────┴──────────┴──────────────┴──────────────────────────┘
//! ```

/// What has completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token {
    /// A frame was read from the TAP into this slot.
    TapRead {
        /// The TAP's number.
        tap: u8,
        /// The slot.
        slot: u32,
        /// Whether it was the read that waits for a frame.
        waits: bool,
    },
    /// A frame was written to the TAP.
    TapWrite {
        /// The TAP's number.
        tap: u8,
        /// Which write.
        index: u32,
    },
    /// A datagram has come by a socket.
    Receive {
        /// The socket's number.
        socket: u8,
        /// Which of the sockets that have had this number.
        generation: u16,
    },
    /// A datagram was sent.
    Send {
        /// Which send.
        index: u32,
    },
    /// A signal has come.
    Signal,
    /// The kernel has news of the interfaces.
    LinkNews,
    /// An operation was asked to stop.
    Cancel,
    /// Somebody connects to the control socket.
    ControlListen,
    /// A client of the control socket has said something, or has room for more.
    Control {
        /// Its place.
        client: u8,
        /// Which of the clients that have had this place.
        generation: u16,
    },
    /// The attendant has answered.
    Attendant,
}

impl Token {
    /// Packed.
    #[must_use]
    pub const fn pack(self) -> u64 {
        let (kind, socket, generation, index) = match self {
            Self::TapRead { tap, slot, waits } => (1, tap, waits as u16, slot),
            Self::TapWrite { tap, index } => (2, tap, 0, index),
            Self::Receive { socket, generation } => (3, socket, generation, 0),
            Self::Send { index } => (4, 0, 0, index),
            Self::Signal => (5, 0, 0, 0),
            Self::LinkNews => (6, 0, 0, 0),
            Self::Cancel => (7, 0, 0, 0),
            Self::ControlListen => (8, 0, 0, 0),
            Self::Control { client, generation } => (9, client, generation, 0),
            Self::Attendant => (10, 0, 0, 0),
        };
        (kind << 56) | ((socket as u64) << 48) | ((generation as u64) << 32) | index as u64
    }

    /// Unpacked; `None` if nothing of ours was packed so.
    #[must_use]
    pub const fn unpack(word: u64) -> Option<Self> {
        let (socket, generation, index) = ((word >> 48) as u8, (word >> 32) as u16, word as u32);
        Some(match word >> 56 {
            1 => Self::TapRead { tap: socket, slot: index, waits: generation != 0 },
            2 => Self::TapWrite { tap: socket, index },
            3 => Self::Receive { socket, generation },
            4 => Self::Send { index },
            5 => Self::Signal,
            6 => Self::LinkNews,
            7 => Self::Cancel,
            8 => Self::ControlListen,
            9 => Self::Control { client: socket, generation },
            10 => Self::Attendant,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn unpacking_undoes_packing(socket: u8, generation: u16, index: u32) {
            for token in [
                Token::TapRead { tap: socket, slot: index, waits: generation.is_multiple_of(2) },
                Token::TapWrite { tap: socket, index },
                Token::Receive { socket, generation },
                Token::Send { index },
                Token::Signal,
                Token::LinkNews,
                Token::Cancel,
                Token::ControlListen,
                Token::Control { client: socket, generation },
                Token::Attendant,
            ] {
                prop_assert_eq!(Token::unpack(token.pack()), Some(token));
            }
        }
    }

    #[test]
    fn a_foreign_word_is_no_token() {
        assert_eq!(Token::unpack(0), None);
        assert_eq!(Token::unpack(u64::MAX), None);
    }
}
