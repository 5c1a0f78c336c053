//! The ring of provided buffers: empty slots that the kernel picks from when a datagram comes.

use std::io;
use std::rc::Rc;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;

use super::buffers::mapping::Mapping;
use super::buffers::{Arena, Room, Size, Slot};
use super::ring::{Ring, RingError};

/// Buffers that wait for datagrams, of all uplinks together; a power of two. At 1,400 bytes a datagram the small ones
/// are 11 ms of 1 Gbit/s, longer than the reactor is ever away; the large ones, of up to 64 KiB each, 11 ms of 6 Gbit/s.
#[must_use]
pub const fn provided_buffers(size: Size) -> usize {
    match size {
        Size::Small => 1024,
        Size::Large => 128,
    }
}

/// The group's number; there is only one.
pub const GROUP: u16 = 0;

const _: () = assert!(provided_buffers(Size::Small).is_power_of_two() && provided_buffers(Size::Small) <= 1 << 15);
const _: () = assert!(provided_buffers(Size::Large).is_power_of_two() && provided_buffers(Size::Large) <= 1 << 15);

/// The ring.
pub struct ProvidedBuffers {
    entries: Mapping,
    arena: Rc<Arena>,
    size: Size,
    /// How many the kernel may have.
    wanted: usize,
    tail: u16,
    /// How many slots are the kernel's.
    given: usize,
}

impl ProvidedBuffers {
    /// Registers an empty ring, to be filled with slots of this size.
    ///
    /// # Errors
    /// Why not, and what to do.
    pub fn register(ring: &Ring, arena: &Rc<Arena>, size: Size) -> Result<Self, RingError> {
        let wanted = provided_buffers(size);
        let advise = |error: io::Error| RingError::advise("provide buffers to io_uring", &error);
        let entries = Mapping::new(wanted * size_of::<BufRingEntry>()).map_err(advise)?;
        let address = entries.base().as_ptr() as u64;
        // SAFETY: The mapping is page-aligned and as long as that many entries are; it lives as long as `self`, which
        // its owner drops after the ring.
        unsafe { ring.submitter().register_buf_ring_with_flags(address, wanted as u16, GROUP, 0) }.map_err(advise)?;
        Ok(Self { entries, arena: Rc::clone(arena), size, wanted, tail: 0, given: 0 })
    }

    /// Gives the kernel free slots until it has enough, but leaves `reserve` to others.
    pub fn fill(&mut self, reserve: usize) {
        let before = self.tail;
        while self.given < self.wanted && self.arena.free_slots(self.size) > reserve {
            let Some(slot) = self.arena.take(self.size) else { break };
            self.put(slot);
        }
        if self.tail != before {
            self.publish();
        }
    }

    /// Whether the kernel has at least one slot to receive into.
    #[must_use]
    pub const fn has_some(&self) -> bool {
        self.given > 0
    }

    /// How many slots the kernel has to receive into.
    #[must_use]
    pub const fn given(&self) -> usize {
        self.given
    }

    /// The size of the slots.
    #[must_use]
    pub const fn size(&self) -> Size {
        self.size
    }

    /// Takes back the slot that the kernel has received into, as a room of which the first `length` bytes are filled.
    ///
    /// `id` must be a buffer id from a completion, reaped just now.
    #[must_use]
    pub fn take_back(&mut self, id: u16, length: usize) -> Room {
        self.given -= 1;
        self.arena.room(Slot::from(id), 0, length)
    }

    fn put(&mut self, slot: Slot) {
        let index = usize::from(self.tail) % self.wanted;
        // SAFETY: index is below the number wanted, for which the mapping has room.
        let entry = unsafe { self.entries.base().cast::<BufRingEntry>().add(index) };
        // SAFETY: The mapping is zeroed memory, aligned to a page, and an entry is plain numbers; the kernel reads
        // entries only below the published tail, which this one is not yet.
        let entry = unsafe { &mut *entry.as_ptr() };
        entry.set_addr(self.arena.address(slot) as u64);
        entry.set_len(self.arena.slot_size(self.size) as u32);
        entry.set_bid(u16::try_from(slot).expect("the arena has no more slots than buffer ids"));
        self.tail = self.tail.wrapping_add(1);
        self.given += 1;
    }

    /// Lets the kernel see what was put.
    fn publish(&self) {
        // SAFETY: base is the address of the first entry, and the mapping is zeroed, so the entry is initialised.
        let tail = unsafe { BufRingEntry::tail(self.entries.base().as_ptr().cast()) };
        // SAFETY: The kernel shares this word, and reads it atomically; it lies in the mapping, aligned to 2 bytes.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }
}
