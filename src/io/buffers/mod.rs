//! The arena: every byte of every packet lives here, from the kernel's hand to the kernel's hand.
//!
//! One mapping, cut into slots of two sizes: small ones for single packets, large ones for super-frames and for runs
//! of datagrams that the kernel has put together. A slot is in one of three hands: free, the kernel's (an operation
//! writes into it), or ours. Ours are either [`Room`]s, each the only one to see its bytes and so free to write them,
//! or [`Lease`]s, of which there may be any number for the same bytes, to be read. A frame read from the TAP has room
//! in front, so that its header is written there and both leave as one piece; a frame received is written to the TAP
//! from where it arrived. After [`Arena::new`] nothing is allocated.

pub mod gather;
mod lease;
pub mod mapping;

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;

pub use lease::{Lease, Room};
use mapping::Mapping;

/// Room left in front of what the TAP writes into a slot: a header, and then some for alignment.
pub const HEADROOM: usize = 64;

/// The number of a slot.
pub type Slot = u32;

/// The two sizes of slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// For one packet.
    Small,
    /// For 64 KiB of them, with what the kernel puts in front.
    Large,
}

/// How many slots of a size, and how long each is, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Slots {
    /// How many.
    pub count: usize,
    /// Bytes each.
    pub size: usize,
}

/// The slots of one size: numbered from `first`, beginning `offset` bytes into the mapping.
#[derive(Debug)]
struct Region {
    slots: Slots,
    first: Slot,
    offset: usize,
    free: RefCell<Vec<Slot>>,
}

impl Region {
    fn new(slots: Slots, first: usize, offset: usize) -> Self {
        // Taken from the end: the lowest slots are used first, and those never needed are never touched.
        let free = (first as Slot..(first + slots.count) as Slot).rev().collect();
        Self { slots, first: first as Slot, offset, free: RefCell::new(free) }
    }

    const fn offset_of(&self, slot: Slot) -> usize {
        self.offset + (slot - self.first) as usize * self.slots.size
    }
}

/// All slots.
#[derive(Debug)]
pub struct Arena {
    memory: Mapping,
    small: Region,
    large: Region,
    /// Rooms and leases per slot; 0 for a slot that is free or the kernel's.
    holds: Box<[Cell<u32>]>,
    /// How many slots are ours.
    held: Cell<usize>,
}

impl Arena {
    /// As many slots as are asked for, at least one in all.
    ///
    /// # Errors
    /// What mmap(2) says.
    pub fn new(small: Slots, large: Slots) -> io::Result<Rc<Self>> {
        let small_bytes = (small.count * small.size).next_multiple_of(PAGE);
        let memory = Mapping::new(small_bytes + large.count * large.size)?;
        Ok(Rc::new(Self {
            memory,
            small: Region::new(small, 0, 0),
            large: Region::new(large, small.count, small_bytes),
            holds: (0..small.count + large.count).map(|_| Cell::new(0)).collect(),
            held: Cell::new(0),
        }))
    }

    /// The whole arena, to be registered with the ring.
    #[must_use]
    pub const fn memory(&self) -> &Mapping {
        &self.memory
    }

    /// How many slots of this size are free.
    #[must_use]
    pub fn free_slots(&self, size: Size) -> usize {
        self.region(size).free.borrow().len()
    }

    /// How many slots are ours: neither free nor the kernel's.
    #[must_use]
    pub const fn held_slots(&self) -> usize {
        self.held.get()
    }

    /// How many slots there are, of both sizes.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.holds.len()
    }

    /// How many slots of this size there are.
    #[must_use]
    pub const fn slots_of(&self, size: Size) -> usize {
        self.region(size).slots.count
    }

    /// How many bytes a slot of this size has.
    #[must_use]
    pub const fn slot_size(&self, size: Size) -> usize {
        self.region(size).slots.size
    }

    /// Takes a free slot, to be given to the kernel or to become a room.
    #[must_use]
    pub fn take(&self, size: Size) -> Option<Slot> {
        self.region(size).free.borrow_mut().pop()
    }

    /// Puts back a slot that was taken and is in nobody's hand any more.
    ///
    /// # Panics
    /// If somebody holds it.
    pub fn put_back(&self, slot: Slot) {
        assert_eq!(self.holds[slot as usize].get(), 0, "slot {slot} is still held");
        self.region_of(slot).free.borrow_mut().push(slot);
    }

    /// Where slot number `slot` begins.
    ///
    /// # Panics
    /// If there is no such slot.
    #[must_use]
    pub fn address(&self, slot: Slot) -> *mut u8 {
        assert!((slot as usize) < self.slots(), "slot {slot} is beyond the arena");
        self.memory.base().as_ptr().wrapping_add(self.region_of(slot).offset_of(slot))
    }

    /// Makes a slot that was taken, and that the kernel has no more to do with, into a room of which the bytes
    /// `start..end` are filled, and those before them free.
    ///
    /// # Panics
    /// If the range is not within the slot, or somebody holds the slot already.
    #[must_use]
    pub fn room(self: &Rc<Self>, slot: Slot, start: usize, end: usize) -> Room {
        let size = self.size_of(slot);
        assert!(start <= end && end <= size, "bytes {start}..{end} are beyond slot {slot}");
        Room::of_slot(self, slot, start as u32, end as u32)
    }

    /// An empty room of a free slot of this size, all of it to be filled.
    #[must_use]
    pub fn empty_room(self: &Rc<Self>, size: Size) -> Option<Room> {
        self.take(size).map(|slot| self.room(slot, 0, self.slot_size(size)))
    }

    /// Copies `bytes` into a free small slot.
    ///
    /// # Panics
    /// If they do not fit.
    #[must_use]
    pub fn copy(self: &Rc<Self>, bytes: &[u8]) -> Option<Room> {
        let slot = self.take(Size::Small)?;
        let mut room = self.room(slot, 0, bytes.len());
        room.bytes_mut().copy_from_slice(bytes);
        Some(room)
    }

    /// Copies `parts`, one behind the other, into a free small slot, with [`HEADROOM`] in front and what is left behind.
    /// `None` if there is no such slot, or they do not fit with `tail` bytes behind them.
    #[must_use]
    pub fn copy_with_room(self: &Rc<Self>, parts: [&[u8]; 2], tail: usize) -> Option<Room> {
        let length = parts[0].len() + parts[1].len();
        if HEADROOM + length + tail > self.slot_size(Size::Small) {
            return None;
        }
        let slot = self.take(Size::Small)?;
        let mut room = self.room(slot, HEADROOM, HEADROOM + length);
        let (first, second) = room.bytes_mut().split_at_mut(parts[0].len());
        first.copy_from_slice(parts[0]);
        second.copy_from_slice(parts[1]);
        Some(room)
    }

    fn size_of(&self, slot: Slot) -> usize {
        self.region_of(slot).slots.size
    }

    const fn region(&self, size: Size) -> &Region {
        match size {
            Size::Small => &self.small,
            Size::Large => &self.large,
        }
    }

    #[inline]
    const fn region_of(&self, slot: Slot) -> &Region {
        if slot < self.large.first { &self.small } else { &self.large }
    }
}

/// What mappings are aligned to.
const PAGE: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::tunnel::Payload;

    const NONE: Slots = Slots { count: 0, size: 0 };

    fn small(count: usize) -> Rc<Arena> {
        Arena::new(Slots { count, size: 256 }, NONE).expect("mapped")
    }

    #[test]
    fn a_slot_is_free_again_when_its_last_lease_has_gone() {
        let arena = small(2);
        let lease = arena.copy(b"frame").expect("a free slot").freeze();
        let clone = lease.clone();
        assert_eq!((arena.free_slots(Size::Small), arena.held_slots()), (1, 1));
        drop(lease);
        assert_eq!((arena.free_slots(Size::Small), arena.held_slots(), clone.bytes()), (1, 1, &b"frame"[..]));
        drop(clone);
        assert_eq!((arena.free_slots(Size::Small), arena.held_slots()), (2, 0));
    }

    #[test]
    fn a_header_is_written_in_front_and_taken_off_again() {
        let arena = small(1);
        let slot = arena.take(Size::Small).expect("free");
        let mut room = arena.room(slot, HEADROOM, HEADROOM + 3);
        room.prepend(b"head");
        let mut lease = room.freeze();
        assert_eq!(lease.bytes(), b"head\0\0\0");
        lease.advance(4);
        assert_eq!(lease.bytes(), b"\0\0\0");
    }

    #[test]
    fn an_arena_without_a_free_slot_says_so() {
        let arena = small(1);
        let held = arena.copy(b"x");
        assert!(arena.copy(b"y").is_none());
        drop(held);
        assert!(arena.copy(b"y").is_some());
    }

    #[test]
    fn slots_of_both_sizes_lie_apart() {
        let arena = Arena::new(Slots { count: 3, size: 256 }, Slots { count: 2, size: 512 }).expect("mapped");
        let mut rooms: Vec<Room> = vec![];
        for size in [Size::Large, Size::Small] {
            rooms.extend(std::iter::from_fn(|| arena.empty_room(size)));
        }
        assert_eq!(rooms.len(), 5);
        for (number, room) in rooms.iter_mut().enumerate() {
            room.bytes_mut().fill(number as u8);
        }
        for (number, room) in rooms.iter().enumerate() {
            assert!(room.bytes().iter().all(|byte| *byte == number as u8), "room {number} was written by another");
        }
        assert_eq!(rooms.iter().map(|room| room.bytes().len()).collect::<Vec<_>>(), [512, 512, 256, 256, 256]);
    }

    #[test]
    fn rooms_carved_from_one_slot_do_not_see_each_other() {
        let arena = small(1);
        let mut slot = arena.empty_room(Size::Small).expect("free");
        let mut carved: Vec<Room> = std::iter::from_fn(|| slot.carve(8, 50)).collect();
        assert_eq!(carved.len(), 4, "of 58 bytes each, out of 256");
        for (number, room) in carved.iter_mut().enumerate() {
            room.bytes_mut().fill(number as u8);
            room.prepend(&[0xff; 8]);
        }
        drop(slot);
        for (number, room) in carved.iter().enumerate() {
            assert_eq!(room.bytes()[..8], [0xff; 8]);
            assert_eq!(room.bytes()[8..], [number as u8; 50]);
        }
        assert_eq!(arena.free_slots(Size::Small), 0);
        drop(carved);
        assert_eq!(arena.free_slots(Size::Small), 1);
    }

    #[test]
    fn parts_of_a_lease_hold_its_slot() {
        let arena = small(1);
        let whole = arena.copy(b"headpayload").expect("free").freeze();
        let part = whole.part(4..8);
        drop(whole);
        assert_eq!((part.bytes(), arena.free_slots(Size::Small)), (&b"payl"[..], 0));
    }

    #[test]
    #[should_panic(expected = "no room in front")]
    fn a_header_that_does_not_fit_in_front_is_refused() {
        let arena = small(1);
        let slot = arena.take(Size::Small).expect("free");
        arena.room(slot, 3, 10).prepend(b"head");
    }
}
