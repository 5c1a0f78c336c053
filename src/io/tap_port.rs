//! Frames from and to the TAP, by the ring.
//!
//! Where the kernel can try a TAP read without blocking (6.4), reads wait in the ring, as many as the last batch
//! suggests: one while little happens, since each waiting read is woken for each frame; up to [`READS_MAX`] under
//! load. Older kernels would give every such read a thread of its own, so there the ring waits for the TAP to become
//! readable, and reads are submitted that return at once.

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

/// How reads wait for frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadStrategy {
    /// In the ring.
    Waiting,
    /// Not at all: the ring polls the TAP, then reads.
    Polled,
}

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
    strategy: ReadStrategy,
    /// Whether the arena is registered, so that fixed reads and writes can be used.
    fixed: bool,
    reads_in_flight: usize,
    reads_wanted: usize,
    frames_in_batch: usize,
    /// Polled: the TAP has said that it is empty, or has not been asked yet.
    empty: bool,
    poll_in_flight: bool,
    writes: Slab<Lease>,
}

impl TapPort {
    /// For a TAP that is in place [`FILE_PLACE`] of the registered files.
    #[must_use]
    pub fn new(arena: &Rc<Arena>, strategy: ReadStrategy, fixed: bool) -> Self {
        Self {
            arena: Rc::clone(arena),
            strategy,
            fixed,
            reads_in_flight: 0,
            reads_wanted: 1,
            frames_in_batch: 0,
            empty: true,
            poll_in_flight: false,
            writes: Slab::with_capacity(WRITES_MAX),
        }
    }

    /// Brings the reads up to what the last batch of completions suggests.
    ///
    /// # Errors
    /// What io_uring_enter(2) says.
    pub fn replenish(&mut self, ring: &mut Ring) -> io::Result<()> {
        let frames = std::mem::take(&mut self.frames_in_batch);
        self.reads_wanted = (frames * 2).clamp(1, READS_MAX);
        match self.strategy {
            ReadStrategy::Waiting => self.push_reads(ring),
            ReadStrategy::Polled if self.empty && self.reads_in_flight == 0 => self.push_poll(ring),
            ReadStrategy::Polled if !self.empty => self.push_reads(ring),
            ReadStrategy::Polled => Ok(()),
        }
    }

    fn push_reads(&mut self, ring: &mut Ring) -> io::Result<()> {
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
        match self.strategy {
            // SAFETY: The slot was taken for this read and is nobody else's until it completes; the arena outlives
            // the ring's operations (see the reactor's drop).
            ReadStrategy::Waiting => unsafe { ring.push(&entry) },
            // SAFETY: As above.
            ReadStrategy::Polled => unsafe { ring.push_immediate(&entry) },
        }
    }

    fn push_poll(&mut self, ring: &mut Ring) -> io::Result<()> {
        if self.poll_in_flight {
            return Ok(());
        }
        let entry = opcode::PollAdd::new(types::Fixed(FILE_PLACE), libc::POLLIN as u32)
            .build()
            .user_data(Token::TapReadable.pack());
        self.poll_in_flight = true;
        // SAFETY: The operation points to no memory.
        unsafe { ring.push(&entry) }
    }

    /// The poll has completed.
    pub fn on_readable(&mut self) {
        self.poll_in_flight = false;
        self.empty = false;
        self.frames_in_batch = self.frames_in_batch.max(1);
    }

    /// A read has completed with `result`.
    pub fn on_read(&mut self, slot: Slot, result: i32) -> ReadOutcome {
        self.reads_in_flight -= 1;
        let Ok(length) = usize::try_from(result) else {
            self.arena.put_back(slot);
            return match -result {
                libc::EAGAIN | libc::EINTR => {
                    self.empty = true;
                    ReadOutcome::Empty
                }
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
