//! Sealing what leaves: in place where there is room around a frame, and else in one piece with the others that are sealed
//! in the same breath.

use std::rc::Rc;

use super::Endpoint;
use super::buffers::{Arena, Room, Size};
use super::datagram_port::send::Datagram;
use super::tap_port::reading::OutboundFrame;
use crate::proto::session::cipher::TAG_LENGTH;
use crate::proto::session::transport::OVERHEAD;
use crate::proto::stats::DropReason;
use crate::proto::time::Instant;
use crate::proto::tunnel::{Frame, FrameTransmit, Payload};
use crate::proto::wire::KEYED_HEADER_LENGTH;

/// Makes datagrams of frames.
pub struct Sealing {
    arena: Rc<Arena>,
    /// Where the next one goes that cannot be sealed in place.
    room: Option<Room>,
}

impl Sealing {
    /// With slots of `arena`.
    #[must_use]
    pub fn new(arena: &Rc<Arena>) -> Self {
        Self { arena: Rc::clone(arena), room: None }
    }

    /// The datagram that brings a frame of a tunnel with keys.
    ///
    /// # Errors
    /// [`DropReason::NoSession`] or [`DropReason::NoBuffer`].
    #[inline]
    pub fn seal(
        &mut self,
        now: Instant,
        endpoint: &mut Endpoint,
        tunnel: usize,
        transmit: FrameTransmit<OutboundFrame>,
    ) -> Result<Datagram, DropReason> {
        let FrameTransmit { sequence, payload, .. } = transmit;
        let mut frame = payload;
        let fits = frame.body.is_none() && frame.head.widen(KEYED_HEADER_LENGTH, TAG_LENGTH);
        let mut datagram = if fits { frame.head } else { self.gather(&frame).ok_or(DropReason::NoBuffer)? };
        endpoint.seal_frame(now, tunnel, sequence, datagram.bytes_mut())?;
        Ok(Datagram { head: datagram.freeze(), body: None })
    }

    /// A copy of the frame with room around it. What seals has to go over the bytes anyway, and finds them in the cache.
    fn gather(&mut self, frame: &OutboundFrame) -> Option<Room> {
        let mut datagram = self.carve(frame.length() + OVERHEAD)?;
        let bytes = &mut datagram.bytes_mut()[KEYED_HEADER_LENGTH..];
        let head = frame.head.bytes();
        bytes[..head.len()].copy_from_slice(head);
        if let Some(body) = &frame.body {
            bytes[head.len()..head.len() + body.length()].copy_from_slice(body.bytes());
        }
        Some(datagram)
    }

    fn carve(&mut self, length: usize) -> Option<Room> {
        if let Some(room) = self.room.as_mut().and_then(|room| room.carve(0, length)) {
            return Some(room);
        }
        self.room = self.arena.empty_room(Size::Large).or_else(|| self.arena.empty_room(Size::Small));
        self.room.as_mut()?.carve(0, length)
    }
}
