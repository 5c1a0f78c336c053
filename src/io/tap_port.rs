//! Frames from and to the TAP, by the ring.
//!
//! Reads wait in the ring, as many as the last batch of completions suggests: one while little happens, since every
//! waiting read is woken for each frame; up to [`READS_MAX`] under load.

use std::io;
use std::rc::Rc;

use io_uring::{opcode, squeue, types};
use slab::Slab;

use super::buffers::{Arena, HEADROOM, Lease, Slot};
use super::ring::Ring;
use super::token::Token;
use crate::proto::stats::DropReason;
use crate::proto::tunnel::Payload;

/// The most reads in flight.
pub const READS_MAX: usize = 64;
/// The most writes in flight.
pub const WRITES_MAX: usize = 1024;
/// The TAP's place among the registered files.
pub const FILE_PLACE: u32 = 0;

/// What a read brought.
#[derive(Debug)]
pub enum ReadOutcome {
    /// A frame.
    Frame(Lease),
    /// Nothing, for now.
    Empty,
    /// The TAP is gone, or broken.
    Failed(io::Error),
}

/// The TAP's side of the reactor.
pub struct TapPort {
    arena: Rc<Arena>,
    reads_max: usize,
    /// Whether the arena is registered, so that fixed reads and writes can be used.
    fixed: bool,
    reads_in_flight: usize,
    reads_wanted: usize,
    frames_in_batch: usize,
    writes: Slab<Lease>,
}

impl TapPort {
    /// For a TAP that is in place [`FILE_PLACE`] of the registered files, and at most `reads_max` reads in flight.
    #[must_use]
    pub fn new(arena: &Rc<Arena>, reads_max: usize, fixed: bool) -> Self {
        assert!((1..=READS_MAX).contains(&reads_max));
        Self {
            arena: Rc::clone(arena),
            reads_max,
            fixed,
            reads_in_flight: 0,
            reads_wanted: 1,
            frames_in_batch: 0,
            writes: Slab::with_capacity(WRITES_MAX),
        }
    }

    /// Brings the reads up to what the last batch of completions suggests.
    ///
    /// # Errors
    /// What io_uring_enter(2) says.
    pub fn replenish(&mut self, ring: &mut Ring) -> io::Result<()> {
        let frames = std::mem::take(&mut self.frames_in_batch);
        self.reads_wanted = (frames * 2).clamp(1, self.reads_max);
        while self.reads_in_flight < self.reads_wanted {
            // Without a free slot the frames wait in the TAP's own queue: that is flow control.
            let Some(slot) = self.arena.take() else { break };
            self.push_read(ring, slot)?;
            self.reads_in_flight += 1;
        }
        Ok(())
    }

    fn push_read(&self, ring: &mut Ring, slot: Slot) -> io::Result<()> {
        let address = self.arena.address(slot).wrapping_add(HEADROOM);
        let length = (self.arena.slot_size() - HEADROOM) as u32;
        let file = types::Fixed(FILE_PLACE);
        let entry = if self.fixed {
            opcode::ReadFixed::new(file, address, length, 0).offset(u64::MAX).build()
        } else {
            opcode::Read::new(file, address, length).offset(u64::MAX).build()
        };
        let entry = entry.user_data(Token::TapRead { slot }.pack());
        // SAFETY: The slot was taken for this read and is nobody else's until it completes; the arena outlives the
        // ring's operations (see the reactor's drop).
        unsafe { ring.push(&entry) }
    }

    /// A read has completed with `result`.
    pub fn on_read(&mut self, slot: Slot, result: i32) -> ReadOutcome {
        self.reads_in_flight -= 1;
        let Ok(length) = usize::try_from(result) else {
            self.arena.put_back(slot);
            return match -result {
                libc::EAGAIN | libc::EINTR | libc::ENOMEM | libc::ENOBUFS => ReadOutcome::Empty,
                errno => ReadOutcome::Failed(io::Error::from_raw_os_error(errno)),
            };
        };
        self.frames_in_batch += 1;
        ReadOutcome::Frame(self.arena.lease(slot, HEADROOM, HEADROOM + length))
    }

    /// Writes `frame` to the TAP.
    ///
    /// # Errors
    /// What io_uring_enter(2) says.
    pub fn write(&mut self, ring: &mut Ring, frame: Lease) -> io::Result<Result<(), DropReason>> {
        if self.writes.len() == WRITES_MAX {
            return Ok(Err(DropReason::NoBuffer));
        }
        let (address, length) = (frame.address(), frame.bytes().len() as u32);
        let index = self.writes.insert(frame) as u32;
        let entry = self.write_entry(address, length).user_data(Token::TapWrite { index }.pack());
        // SAFETY: `writes` keeps the lease, and so the slot's bytes unchanged, until the completion is reaped.
        unsafe { ring.push_immediate(&entry)? };
        Ok(Ok(()))
    }

    fn write_entry(&self, address: *const u8, length: u32) -> squeue::Entry {
        let file = types::Fixed(FILE_PLACE);
        if self.fixed {
            opcode::WriteFixed::new(file, address, length, 0).offset(u64::MAX).build()
        } else {
            opcode::Write::new(file, address, length).offset(u64::MAX).build()
        }
    }

    /// A write has completed with `result`.
    ///
    /// # Errors
    /// Why the frame was dropped.
    pub fn on_written(&mut self, index: u32, result: i32) -> Result<(), DropReason> {
        self.writes.remove(index as usize);
        if result < 0 { Err(DropReason::TapRefused) } else { Ok(()) }
    }
}
