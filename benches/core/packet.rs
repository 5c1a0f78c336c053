//! A packet that can be handed on without copying much.

use braid::proto::tunnel::Payload;
use braid::proto::wire::{FRAME_HEADER_LENGTH, FRAME_LENGTH_MIN, frame_header};

const LENGTH_MAX: usize = FRAME_HEADER_LENGTH + FRAME_LENGTH_MIN;

/// A frame, or a whole datagram.
///
/// A frame is the shortest there is and lives where it stands, no larger than the reactor's handle to a buffer, so that
/// it can stand for one: what is measured is the core and not the copying of frames, of which it does none.
#[derive(Clone)]
pub enum Packet {
    /// A frame, with or without its header.
    Frame {
        /// Room for both.
        bytes: [u8; LENGTH_MAX],
        /// Where it begins.
        start: u8,
    },
    /// A control message.
    Control(Box<[u8]>),
}

impl Packet {
    /// A frame from the TAP.
    pub const FRAME: Self = Self::Frame { bytes: [0xab; LENGTH_MAX], start: FRAME_HEADER_LENGTH as u8 };

    /// The frame behind `header`, which is written in front of it as the reactor does.
    #[inline]
    pub fn encapsulated(self, header: [u8; FRAME_HEADER_LENGTH]) -> Self {
        let Self::Frame { mut bytes, .. } = self else { panic!("not a frame") };
        bytes[..FRAME_HEADER_LENGTH].copy_from_slice(&header);
        Self::Frame { bytes, start: 0 }
    }

    /// A datagram with a frame of this number.
    #[inline]
    pub fn numbered(sequence: u32) -> Self {
        Self::FRAME.encapsulated(frame_header(sequence))
    }
}

impl Payload for Packet {
    #[inline]
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Frame { bytes, start } => &bytes[usize::from(*start)..],
            Self::Control(bytes) => bytes,
        }
    }

    #[inline]
    fn advance(&mut self, count: usize) {
        match self {
            Self::Frame { start, .. } => *start += count as u8,
            Self::Control(_) => panic!("not a frame"),
        }
    }
}
