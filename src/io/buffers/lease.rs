//! Bytes of the arena, as whoever uses them sees them: a [`Room`] to write, or a [`Lease`] to read.

use std::ops::Range;
use std::rc::Rc;

use super::{Arena, Slot};
use crate::proto::endpoint::Datagram;
use crate::proto::tunnel::Payload;

/// One of those that keep a slot from being free.
#[derive(Debug)]
struct Hold {
    arena: Rc<Arena>,
    slot: Slot,
}

impl Hold {
    #[inline]
    fn address(&self, offset: u32) -> *mut u8 {
        self.arena.address(self.slot).wrapping_add(offset as usize)
    }
}

impl Clone for Hold {
    #[inline]
    fn clone(&self) -> Self {
        let holds = &self.arena.holds[self.slot as usize];
        // Each is at least a few bytes of this process's memory, so four billion of them there are not.
        holds.set(holds.get() + 1);
        Self { arena: Rc::clone(&self.arena), slot: self.slot }
    }
}

impl Drop for Hold {
    #[inline]
    fn drop(&mut self) {
        let holds = &self.arena.holds[self.slot as usize];
        holds.set(holds.get() - 1);
        if holds.get() == 0 {
            self.arena.held.set(self.arena.held.get() - 1);
            self.arena.put_back(self.slot);
        }
    }
}

/// Some bytes of a slot that nobody else sees.
#[derive(Debug)]
pub struct Room {
    hold: Hold,
    /// The first byte that is this room's; up to `start` they are free.
    begin: u32,
    start: u32,
    end: u32,
    /// Up to which the bytes behind `end` are free.
    limit: u32,
}

impl Room {
    pub(super) fn of_slot(arena: &Rc<Arena>, slot: Slot, start: u32, end: u32) -> Self {
        let holds = &arena.holds[slot as usize];
        assert_eq!(holds.get(), 0, "slot {slot} is held already");
        holds.set(1);
        arena.held.set(arena.held.get() + 1);
        let limit = arena.size_of(slot) as u32;
        Self { hold: Hold { arena: Rc::clone(arena), slot }, begin: 0, start, end, limit }
    }

    /// The bytes that are filled.
    #[inline]
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: start..end is within the slot (checked in `Arena::room`, and only narrowed since), which is held and
        // so not the kernel's to write; no other room or lease has these bytes.
        unsafe { std::slice::from_raw_parts(self.hold.address(self.start), self.length()) }
    }

    /// The same, to be written.
    #[inline]
    #[must_use]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: As in `bytes`; and `self`, the only one to have these bytes, is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.hold.address(self.start), self.length()) }
    }

    /// How many bytes are filled.
    #[inline]
    #[must_use]
    pub const fn length(&self) -> usize {
        (self.end - self.start) as usize
    }

    /// Writes `header` in front of what is filled.
    ///
    /// # Panics
    /// If there is no room.
    #[inline]
    pub fn prepend(&mut self, header: &[u8]) {
        assert!(header.len() <= (self.start - self.begin) as usize, "no room in front for {} bytes", header.len());
        self.start -= header.len() as u32;
        self.bytes_mut()[..header.len()].copy_from_slice(header);
    }

    /// Takes `front` free bytes in front of what is filled, and `back` behind it, as filled with whatever is there.
    /// Returns whether there are so many.
    #[inline]
    #[must_use]
    pub fn widen(&mut self, front: usize, back: usize) -> bool {
        let fits = front <= (self.start - self.begin) as usize && back <= (self.limit - self.end) as usize;
        if fits {
            self.start -= front as u32;
            self.end += back as u32;
        }
        fits
    }

    /// Drops the first `count` bytes, which become free for [`Self::prepend`].
    ///
    /// # Panics
    /// If there are not so many.
    #[inline]
    pub fn advance(&mut self, count: usize) {
        assert!(count <= self.length(), "{count} bytes are more than the room has");
        self.start += count as u32;
    }

    /// Takes `headroom` free and `length` filled bytes off the front of what is filled here, as a room by itself.
    #[inline]
    #[must_use]
    pub fn carve(&mut self, headroom: usize, length: usize) -> Option<Self> {
        if headroom + length > self.length() {
            return None;
        }
        let begin = self.start;
        self.start += (headroom + length) as u32;
        self.begin = self.start;
        let (start, end) = (begin + headroom as u32, self.start);
        Some(Self { hold: self.hold.clone(), begin, start, end, limit: end })
    }

    /// Gives up the right to write, and so can be shared.
    #[inline]
    #[must_use]
    pub fn freeze(self) -> Lease {
        Lease { hold: self.hold, start: self.start, end: self.end }
    }
}

impl Datagram for Room {
    type Payload = Lease;

    #[inline]
    fn bytes_mut(&mut self) -> &mut [u8] {
        Self::bytes_mut(self)
    }

    #[inline]
    fn into_payload(self, range: Range<usize>) -> Lease {
        assert!(range.start <= range.end && range.end <= self.length(), "{range:?} is beyond the room");
        let start = self.start + range.start as u32;
        Lease { hold: self.hold, start, end: start + range.len() as u32 }
    }
}

/// Some bytes of a slot that are only read. A clone is another lease of the same bytes; when the last one of a slot
/// goes, the slot is free.
#[derive(Clone, Debug)]
pub struct Lease {
    hold: Hold,
    start: u32,
    end: u32,
}

impl Lease {
    /// A lease of some of these bytes.
    ///
    /// # Panics
    /// If there are not so many.
    #[inline]
    #[must_use]
    pub fn part(&self, range: Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= self.length(), "{range:?} is beyond the lease");
        let start = self.start + range.start as u32;
        Self { hold: self.hold.clone(), start, end: start + range.len() as u32 }
    }

    /// Where the bytes are. Valid while this lease or a clone of it lives.
    #[inline]
    #[must_use]
    pub fn address(&self) -> *mut u8 {
        self.hold.address(self.start)
    }

    /// How many bytes there are.
    #[inline]
    #[must_use]
    pub const fn length(&self) -> usize {
        (self.end - self.start) as usize
    }
}

impl Payload for Lease {
    #[inline]
    fn bytes(&self) -> &[u8] {
        // SAFETY: start..end is within the slot (checked in `Arena::room`, and only narrowed since), which is held and
        // so not the kernel's to write; these bytes were given up by their room, so that nobody writes them.
        unsafe { std::slice::from_raw_parts(self.address(), self.length()) }
    }

    #[inline]
    fn advance(&mut self, count: usize) {
        assert!(count <= self.length(), "{count} bytes are more than the lease has");
        self.start += count as u32;
    }
}
