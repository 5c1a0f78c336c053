//! The arena: every byte of every packet lives here, from the kernel's hand to the kernel's hand.
//!
//! One mapping, cut into slots of one size. A slot is in one of three hands: free, the kernel's (an operation writes
//! into it), or ours, as one or more [`Lease`]s. A frame read from the TAP leaves room in front, so that its header
//! is written there and frame and header leave as one piece; a frame received is written to the TAP from where it
//! arrived. Nothing is copied, and after [`Arena::new`] nothing is allocated.

use std::cell::{Cell, RefCell};
use std::io;
use std::ptr::NonNull;
use std::rc::Rc;

use crate::proto::tunnel::Payload;

/// Room left in front of a frame that the TAP writes into a slot: a header, and then some for alignment.
pub const HEADROOM: usize = 64;

/// A mapping of zeroed memory, unmapped on drop.
#[derive(Debug)]
pub struct Mapping {
    base: NonNull<u8>,
    length: usize,
}

impl Mapping {
    /// Maps `length` bytes.
    ///
    /// # Errors
    /// What mmap(2) says.
    pub fn new(length: usize) -> io::Result<Self> {
        // SAFETY: An anonymous private mapping at an address of the kernel's choosing touches no memory of ours.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or_else(io::Error::last_os_error)?;
        Ok(Self { base, length })
    }

    /// Where it begins; page-aligned.
    #[must_use]
    pub const fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// How long it is, in bytes.
    #[must_use]
    pub const fn length(&self) -> usize {
        self.length
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: base and length are those of the mapping made in `new`, which nobody else unmaps; whoever holds a
        // pointer into it holds the arena or ring that owns it.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.length) };
    }
}

/// The number of a slot.
pub type Slot = u32;

/// All slots.
#[derive(Debug)]
pub struct Arena {
    memory: Mapping,
    slot_size: usize,
    /// Leases per slot; 0 for a slot that is free or the kernel's.
    lease_counts: Box<[Cell<u16>]>,
    /// How many slots are leased.
    leased: Cell<usize>,
    free: RefCell<Vec<Slot>>,
}

impl Arena {
    /// `slots` slots of `slot_size` bytes each.
    ///
    /// # Errors
    /// What mmap(2) says.
    pub fn new(slots: usize, slot_size: usize) -> io::Result<Rc<Self>> {
        let memory = Mapping::new(slots * slot_size)?;
        let lease_counts = (0..slots).map(|_| Cell::new(0)).collect();
        // Taken from the end: the lowest slots are used first, and those never needed are never touched.
        let free = RefCell::new((0..slots as Slot).rev().collect());
        Ok(Rc::new(Self { memory, slot_size, lease_counts, leased: Cell::new(0), free }))
    }

    /// The whole arena, to be registered with the ring.
    #[must_use]
    pub const fn memory(&self) -> &Mapping {
        &self.memory
    }

    /// Bytes per slot.
    #[must_use]
    pub const fn slot_size(&self) -> usize {
        self.slot_size
    }

    /// How many slots are free.
    #[must_use]
    pub fn free_slots(&self) -> usize {
        self.free.borrow().len()
    }

    /// How many slots are leased: neither free nor the kernel's.
    #[must_use]
    pub const fn leased_slots(&self) -> usize {
        self.leased.get()
    }

    /// How many slots there are.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.lease_counts.len()
    }

    /// Takes a free slot, to be given to the kernel or to become a lease.
    #[must_use]
    pub fn take(&self) -> Option<Slot> {
        self.free.borrow_mut().pop()
    }

    /// Puts back a slot that was taken and is in nobody's hand any more.
    pub fn put_back(&self, slot: Slot) {
        assert_eq!(self.lease_counts[slot as usize].get(), 0, "slot {slot} is still leased");
        self.free.borrow_mut().push(slot);
    }

    /// Where slot number `slot` begins.
    ///
    /// # Panics
    /// If there is no such slot.
    #[must_use]
    pub fn address(&self, slot: Slot) -> *mut u8 {
        assert!((slot as usize) < self.slots(), "slot {slot} is beyond the arena");
        let offset = slot as usize * self.slot_size;
        // SAFETY: The assertion keeps the offset within the mapping, which is slots * slot_size long.
        unsafe { self.memory.base.as_ptr().add(offset) }
    }

    /// Makes a slot that was taken, and that the kernel has no more to do with, into a lease of its bytes
    /// `start..end`.
    ///
    /// # Panics
    /// If the range is not within the slot, or the slot is leased already.
    #[must_use]
    pub fn lease(self: &Rc<Self>, slot: Slot, start: usize, end: usize) -> Lease {
        assert!(start <= end && end <= self.slot_size, "bytes {start}..{end} are beyond slot {slot}");
        let count = &self.lease_counts[slot as usize];
        assert_eq!(count.get(), 0, "slot {slot} is leased already");
        count.set(1);
        self.leased.set(self.leased.get() + 1);
        Lease { arena: Rc::clone(self), slot, start: start as u32, end: end as u32 }
    }

    /// Copies `bytes` into a free slot.
    #[must_use]
    pub fn lease_copy(self: &Rc<Self>, bytes: &[u8]) -> Option<Lease> {
        assert!(bytes.len() <= self.slot_size, "{} bytes do not fit a slot", bytes.len());
        let slot = self.take()?;
        // SAFETY: The slot was just taken, so nobody reads or writes it, and it is at least as long as `bytes`.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.address(slot), bytes.len()) };
        Some(self.lease(slot, 0, bytes.len()))
    }
}

/// Some bytes of a slot. A clone is another lease of the same slot; the last one to go frees it.
#[derive(Debug)]
pub struct Lease {
    arena: Rc<Arena>,
    slot: Slot,
    start: u32,
    end: u32,
}

impl Lease {
    /// Writes `header` in front of the leased bytes and leases it with them.
    ///
    /// # Panics
    /// If there is no room in front, or others lease the slot too.
    pub fn prepend(&mut self, header: &[u8]) {
        assert_eq!(self.arena.lease_counts[self.slot as usize].get(), 1, "others may be reading slot {}", self.slot);
        let start = (self.start as usize).checked_sub(header.len()).expect("frames are read behind headroom");
        let address = self.arena.address(self.slot).wrapping_add(start);
        // SAFETY: start..start + header.len() is within the slot, and this is its only lease, mutably borrowed.
        unsafe { std::ptr::copy_nonoverlapping(header.as_ptr(), address, header.len()) };
        self.start = start as u32;
    }

    /// Where the bytes are. Valid while this lease or a clone of it lives.
    #[must_use]
    pub fn address(&self) -> *mut u8 {
        self.arena.address(self.slot).wrapping_add(self.start as usize)
    }

    /// How many bytes there are.
    #[must_use]
    pub const fn length(&self) -> usize {
        (self.end - self.start) as usize
    }
}

impl Payload for Lease {
    #[inline]
    fn bytes(&self) -> &[u8] {
        // SAFETY: start..end is within the slot (checked in `lease` and `advance`); while a slot is leased the kernel
        // only reads it, and it is written only through a sole, mutably borrowed lease.
        unsafe { std::slice::from_raw_parts(self.address(), self.length()) }
    }

    #[inline]
    fn advance(&mut self, count: usize) {
        assert!(count <= self.length(), "{count} bytes are more than the lease has");
        self.start += count as u32;
    }
}

impl Clone for Lease {
    fn clone(&self) -> Self {
        let count = &self.arena.lease_counts[self.slot as usize];
        count.set(count.get().checked_add(1).expect("a frame has at most one lease per uplink"));
        Self { arena: Rc::clone(&self.arena), slot: self.slot, start: self.start, end: self.end }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let count = &self.arena.lease_counts[self.slot as usize];
        count.set(count.get() - 1);
        if count.get() == 0 {
            self.arena.leased.set(self.arena.leased.get() - 1);
            self.arena.put_back(self.slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_free_again_when_its_last_lease_has_gone() {
        let arena = Arena::new(2, 256).expect("mapped");
        let lease = arena.lease_copy(b"frame").expect("a free slot");
        let clone = lease.clone();
        assert_eq!((arena.free_slots(), arena.leased_slots()), (1, 1));
        drop(lease);
        assert_eq!((arena.free_slots(), arena.leased_slots(), clone.bytes()), (1, 1, &b"frame"[..]));
        drop(clone);
        assert_eq!((arena.free_slots(), arena.leased_slots()), (2, 0));
    }

    #[test]
    fn a_header_is_written_in_front_and_taken_off_again() {
        let arena = Arena::new(1, 256).expect("mapped");
        let slot = arena.take().expect("free");
        let mut lease = arena.lease(slot, HEADROOM, HEADROOM + 3);
        lease.prepend(b"head");
        assert_eq!(lease.bytes(), b"head\0\0\0");
        lease.advance(4);
        assert_eq!(lease.bytes(), b"\0\0\0");
    }

    #[test]
    fn an_arena_without_a_free_slot_says_so() {
        let arena = Arena::new(1, 64).expect("mapped");
        let held = arena.lease_copy(b"x");
        assert!(arena.lease_copy(b"y").is_none());
        drop(held);
        assert!(arena.lease_copy(b"y").is_some());
    }

    #[test]
    #[should_panic(expected = "others may be reading")]
    fn a_shared_slot_is_not_written() {
        let arena = Arena::new(1, 256).expect("mapped");
        let slot = arena.take().expect("free");
        let mut lease = arena.lease(slot, HEADROOM, HEADROOM + 3);
        let _other = lease.clone();
        lease.prepend(b"head");
    }
}
