//! One read waits in the ring. Under load as many as the last batch of completions suggests go before it, which take
//! what is there and do not wait: each that waits costs a wake-up for every frame.

use std::io;
use std::rc::Rc;

use io_uring::{opcode, types};

use super::file_place;
use crate::io::buffers::{Arena, HEADROOM, Lease, Room, Size, Slot};
use crate::io::ring::Ring;
use crate::io::token::Token;
use crate::offload::split::{Split, complete_checksum};
use crate::offload::vnet_header::{Checksum, Segmentation, VNET_HEADER_LENGTH, VnetHeader};
use crate::proto::session::cipher::TAG_LENGTH;
use crate::proto::stats::DropReason;
use crate::proto::time::Instant;
use crate::proto::tunnel::{Frame, Payload};
use crate::proto::wire::FRAME_HEADER_LENGTH;

/// The most reads in flight.
pub const READS_MAX: usize = 64;

/// A frame on its way from the TAP to the uplinks: its headers, with room in front, and what follows them where the
/// TAP has put it; or all of it in one piece.
#[derive(Debug)]
pub struct OutboundFrame {
    /// The headers; or everything.
    pub head: Room,
    /// What follows.
    pub body: Option<Lease>,
    /// When the reactor woke up for it.
    pub read_at: Instant,
}

impl Frame for OutboundFrame {
    #[inline]
    fn length(&self) -> usize {
        self.head.length() + self.body.as_ref().map_or(0, Lease::length)
    }

    #[inline]
    fn head(&self) -> &[u8] {
        self.head.bytes()
    }

    fn copy_to(&self, out: &mut [u8]) {
        let (head, rest) = out.split_at_mut(self.head.length());
        head.copy_from_slice(self.head.bytes());
        rest.copy_from_slice(self.body.as_ref().map_or(&[], Lease::bytes));
    }
}

/// What a read brought.
#[derive(Debug)]
pub enum ReadOutcome {
    /// Frames.
    Frames(Frames),
    /// Nothing, for now.
    Empty,
    /// The TAP is gone, or broken.
    Failed(io::Error),
}

/// The frames of one read.
#[derive(Debug)]
pub enum Frames {
    /// One, or why it is none.
    One(Option<Result<OutboundFrame, DropReason>>),
    /// Those of a super-frame.
    Many(Segments),
}

impl Iterator for Frames {
    type Item = Result<OutboundFrame, DropReason>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::One(frame) => frame.take(),
            Self::Many(segments) => segments.next(),
        }
    }
}

/// A super-frame being cut up.
#[derive(Debug)]
pub struct Segments {
    arena: Rc<Arena>,
    super_frame: Lease,
    split: Split,
    next: usize,
    /// Where the next headers go.
    headers: Option<Room>,
    read_at: Instant,
}

impl Segments {
    fn next(&mut self) -> Option<Result<OutboundFrame, DropReason>> {
        let index = self.next;
        if index >= self.split.segments() {
            return None;
        }
        self.next += 1;
        let Some(mut head) = self.carve() else { return Some(Err(DropReason::NoBuffer)) };
        self.split.write_header(index, self.super_frame.bytes(), head.bytes_mut());
        let payload = self.split.payload(index);
        let body = (!payload.is_empty()).then(|| self.super_frame.part(payload));
        Some(Ok(OutboundFrame { head, body, read_at: self.read_at }))
    }

    /// Room for one frame's headers, and for the tunnel's in front.
    fn carve(&mut self) -> Option<Room> {
        let length = self.split.header_length();
        if let Some(room) = self.headers.as_mut().and_then(|headers| headers.carve(FRAME_HEADER_LENGTH, length)) {
            return Some(room);
        }
        self.headers = self.arena.empty_room(Size::Small);
        self.headers.as_mut()?.carve(FRAME_HEADER_LENGTH, length)
    }
}

/// The reads.
pub struct TapReading {
    tap: u8,
    arena: Rc<Arena>,
    /// Whether frames come with a header of their own, and may be super-frames.
    has_vnet_header: bool,
    reads_max: usize,
    /// Whether the arena is registered, so that fixed reads can be used.
    fixed: bool,
    /// Whether the read that waits for a frame is under way.
    is_waiting: bool,
    completed_in_batch: usize,
}

impl TapReading {
    /// Of TAP number `tap`, which is in its place among the registered files, with at most `reads_max` reads in flight.
    #[must_use]
    pub fn new(tap: u8, arena: &Rc<Arena>, has_vnet_header: bool, reads_max: usize, fixed: bool) -> Self {
        assert!((1..=READS_MAX).contains(&reads_max));
        Self {
            tap,
            arena: Rc::clone(arena),
            has_vnet_header,
            reads_max,
            fixed,
            is_waiting: false,
            completed_in_batch: 0,
        }
    }

    /// The size of slot that a read takes.
    #[must_use]
    pub const fn slot_size(has_vnet_header: bool) -> Size {
        if has_vnet_header { Size::Large } else { Size::Small }
    }

    /// Brings the reads up to what the last batch of completions suggests.
    ///
    /// # Errors
    /// What io_uring_enter(2) says.
    pub fn replenish(&mut self, ring: &mut Ring) -> io::Result<()> {
        let completed = std::mem::take(&mut self.completed_in_batch);
        if self.is_waiting {
            return Ok(());
        }
        for place in (0..=completed.min(self.reads_max - 1)).rev() {
            // Without a free slot the frames wait in the TAP's own queue: that is flow control.
            let Some(slot) = self.arena.take(Self::slot_size(self.has_vnet_header)) else { break };
            self.is_waiting = place == 0;
            self.push(ring, slot, self.is_waiting)?;
        }
        Ok(())
    }

    fn push(&self, ring: &mut Ring, slot: Slot, waits: bool) -> io::Result<()> {
        let address = self.arena.address(slot).wrapping_add(HEADROOM);
        // Behind the frame there is to be room for a tag.
        let length = (self.arena.slot_size(Self::slot_size(self.has_vnet_header)) - HEADROOM - TAG_LENGTH) as u32;
        let file = types::Fixed(file_place(self.tap));
        let flags = if waits { 0 } else { libc::RWF_NOWAIT };
        let entry = if self.fixed {
            opcode::ReadFixed::new(file, address, length, 0).offset(u64::MAX).rw_flags(flags).build()
        } else {
            opcode::Read::new(file, address, length).offset(u64::MAX).rw_flags(flags).build()
        };
        let entry = entry.user_data(Token::TapRead { tap: self.tap, slot, waits }.pack());
        if !waits {
            // SAFETY: As below.
            return unsafe { ring.push_immediate(&entry) };
        }
        // SAFETY: The slot was taken for this read and is nobody else's until it completes; the arena outlives the
        // ring's operations (see the reactor's drop).
        unsafe { ring.push(&entry) }
    }

    /// A read has completed with `result`.
    pub fn on_read(&mut self, now: Instant, slot: Slot, waits: bool, result: i32) -> ReadOutcome {
        self.is_waiting &= !waits;
        let Ok(length) = usize::try_from(result) else {
            self.arena.put_back(slot);
            return match -result {
                libc::EAGAIN | libc::EINTR | libc::ENOMEM | libc::ENOBUFS => ReadOutcome::Empty,
                errno => ReadOutcome::Failed(io::Error::from_raw_os_error(errno)),
            };
        };
        self.completed_in_batch += 1;
        let room = self.arena.room(slot, HEADROOM, HEADROOM + length);
        ReadOutcome::Frames(if self.has_vnet_header {
            self.unwrap(now, room).unwrap_or_else(|reason| Frames::One(Some(Err(reason))))
        } else {
            one(now, room)
        })
    }

    /// Does what the kernel has left to do to the frame: its checksum, or cutting it up.
    fn unwrap(&self, now: Instant, mut room: Room) -> Result<Frames, DropReason> {
        let header = VnetHeader::parse(room.bytes())?;
        room.advance(VNET_HEADER_LENGTH);
        if header.segmentation != Segmentation::None {
            let split = Split::new(&header, room.bytes())?;
            let (arena, super_frame) = (Rc::clone(&self.arena), room.freeze());
            return Ok(Frames::Many(Segments { arena, super_frame, split, next: 0, headers: None, read_at: now }));
        }
        if let Checksum::Partial { start, offset } = header.checksum {
            complete_checksum(start, offset, room.bytes_mut())?;
        }
        Ok(one(now, room))
    }
}

const fn one(read_at: Instant, head: Room) -> Frames {
    Frames::One(Some(Ok(OutboundFrame { head, body: None, read_at })))
}
