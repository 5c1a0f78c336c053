//! Frames are written in the order they come. Those of one flow that follow one another become one super-frame, if the
//! TAP takes such: gathered, not copied. A run ends when the next frame does not fit it, and with the batch: nothing
//! waits for company.

use std::io;

use io_uring::{opcode, types};
use slab::Slab;

use super::file_place;
use crate::io::buffers::Lease;
use crate::io::buffers::gather::Gather;
use crate::io::ring::Ring;
use crate::io::token::Token;
use crate::offload::coalesce::{Coalescer, Finished, Joined, Kinds, RUN_FRAMES_MAX, SUPER_HEADER_MAX};
use crate::offload::vnet_header::{VNET_HEADER_LENGTH, VnetHeader};
use crate::proto::stats::DropReason;
use crate::proto::tunnel::Payload;

/// The most writes in flight, each of one frame or of a run, of all TAPs together unless there are very many.
pub const WRITES_MAX: usize = 1024;

/// The segment that is the header of all, and the first frame's.
const HEADER_SEGMENT: usize = 0;
const FIRST_SEGMENT: usize = 1;

/// All that the kernel reads while a write is in flight. Its addresses are those of the gather's memory, which does not
/// move, and of `header` in the slab, which never grows.
struct Write {
    gather: Gather,
    header: [u8; SUPER_HEADER_MAX],
}

/// How writing went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// Nothing to say, or not yet.
    Fine,
    /// So many frames were dropped.
    Dropped(DropReason, usize),
    /// A super-frame was refused with this errno, and has gone frame by frame: there will be no more of them.
    RunsRefused(i32),
}

/// The writes.
pub struct TapWriting {
    tap: u8,
    /// What may become super-frames; `None` if the TAP takes frames without a header of its own.
    coalescer: Option<Coalescer>,
    /// The frames of the run that the coalescer has begun, all of each.
    run: Option<Gather>,
    /// Whether the TAP has taken every super-frame so far.
    takes_runs: bool,
    writes: Slab<Write>,
    spare: Vec<Gather>,
}

impl TapWriting {
    /// To TAP number `tap`, one of so many, which is in its place among the registered files, and takes super-frames of
    /// these kinds; or, if `None`, bare frames.
    #[must_use]
    pub fn new(tap: u8, kinds: Option<Kinds>, of: usize) -> Self {
        // The frames of a run that is refused are written one by one.
        let writes_max = (WRITES_MAX / of).max(RUN_FRAMES_MAX + 1);
        let frames = if kinds.is_some() { RUN_FRAMES_MAX } else { 1 };
        Self {
            tap,
            coalescer: kinds.map(Coalescer::new),
            run: None,
            takes_runs: true,
            writes: Slab::with_capacity(writes_max),
            spare: (0..writes_max).map(|_| Gather::new(frames, 1 + frames)).collect(),
        }
    }

    /// Whether there is room for one more write.
    #[inline]
    #[must_use]
    pub fn has_room(&self) -> bool {
        !self.spare.is_empty()
    }

    /// Takes a frame to write, which happens at the latest at the next [`Self::flush`].
    ///
    /// # Errors
    /// What io_uring_enter(2) says.
    pub fn write(&mut self, ring: &mut Ring, frame: Lease) -> io::Result<Written> {
        let Some(coalescer) = &mut self.coalescer else { return self.write_bare(ring, frame) };
        match coalescer.join(frame.bytes()) {
            Joined::Yes { payload } => {
                let is_closed = coalescer.is_closed();
                self.append(frame, payload);
                if is_closed { self.flush(ring) } else { Ok(Written::Fine) }
            }
            Joined::No(None) => {
                self.flush(ring)?;
                self.write_alone(ring, frame)
            }
            Joined::No(Some(candidate)) => {
                self.flush(ring)?;
                let Some(gather) = self.spare.pop() else { return Ok(Written::Dropped(DropReason::NoBuffer, 1)) };
                if let Some(coalescer) = &mut self.coalescer {
                    coalescer.begin(candidate, frame.bytes());
                }
                self.begin(gather, frame);
                Ok(Written::Fine)
            }
        }
    }

    fn begin(&mut self, mut gather: Gather, frame: Lease) {
        // Both are known only when the run is finished.
        gather.push_segment(std::ptr::null_mut(), 0);
        gather.push(frame);
        self.run = Some(gather);
    }

    fn append(&mut self, frame: Lease, payload: std::ops::Range<usize>) {
        let run = self.run.as_mut().expect("the coalescer joins frames only to what was begun");
        run.push_segment(frame.address().wrapping_add(payload.start), payload.len());
        run.keep(frame);
    }

    /// Writes the run that was begun.
    ///
    /// # Errors
    /// What io_uring_enter(2) says.
    pub fn flush(&mut self, ring: &mut Ring) -> io::Result<Written> {
        let (Some(coalescer), Some(mut gather)) = (&mut self.coalescer, self.run.take()) else {
            return Ok(Written::Fine);
        };
        let mut header = [0; SUPER_HEADER_MAX];
        let header_length = match coalescer.finish(&mut header) {
            Finished::Nothing => unreachable!("a run is begun here and there together"),
            Finished::Single(vnet_header) => {
                header[..VNET_HEADER_LENGTH].copy_from_slice(&vnet_header.emit());
                VNET_HEADER_LENGTH
            }
            Finished::Super { header_length, first_payload } => {
                let first = gather.leases()[0].address().wrapping_add(first_payload.start);
                gather.set_segment(FIRST_SEGMENT, first, first_payload.len());
                header_length
            }
        };
        self.push(ring, gather, header, header_length)?;
        Ok(Written::Fine)
    }

    /// Writes a frame as it is, about which nothing is known.
    fn write_alone(&mut self, ring: &mut Ring, frame: Lease) -> io::Result<Written> {
        let Some(mut gather) = self.spare.pop() else { return Ok(Written::Dropped(DropReason::NoBuffer, 1)) };
        let mut header = [0; SUPER_HEADER_MAX];
        header[..VNET_HEADER_LENGTH].copy_from_slice(&VnetHeader::default().emit());
        gather.push_segment(std::ptr::null_mut(), 0);
        gather.push(frame);
        self.push(ring, gather, header, VNET_HEADER_LENGTH)?;
        Ok(Written::Fine)
    }

    fn write_bare(&mut self, ring: &mut Ring, frame: Lease) -> io::Result<Written> {
        let Some(mut gather) = self.spare.pop() else { return Ok(Written::Dropped(DropReason::NoBuffer, 1)) };
        gather.push(frame);
        let index = self.writes.insert(Write { gather, header: [0; SUPER_HEADER_MAX] });
        self.submit(ring, index)?;
        Ok(Written::Fine)
    }

    fn push(
        &mut self,
        ring: &mut Ring,
        gather: Gather,
        header: [u8; SUPER_HEADER_MAX],
        header_length: usize,
    ) -> io::Result<()> {
        let index = self.writes.insert(Write { gather, header });
        let write = &mut self.writes[index];
        write.gather.set_segment(HEADER_SEGMENT, write.header.as_mut_ptr(), header_length);
        self.submit(ring, index)
    }

    fn submit(&mut self, ring: &mut Ring, index: usize) -> io::Result<()> {
        let segments = self.writes[index].gather.segments();
        let entry = opcode::Writev::new(types::Fixed(file_place(self.tap)), segments.as_ptr(), segments.len() as u32)
            .offset(u64::MAX)
            .build()
            .user_data(Token::TapWrite { tap: self.tap, index: index as u32 }.pack());
        // SAFETY: `writes` keeps the segments, the header and the leases, and so the slots' bytes unchanged, until the
        // completion is reaped; its capacity is never exceeded, so nothing in it moves.
        unsafe { ring.push_immediate(&entry) }
    }

    /// A write has completed with `result`.
    ///
    /// # Errors
    /// What io_uring_enter(2) says.
    pub fn on_written(&mut self, ring: &mut Ring, index: u32, result: i32) -> io::Result<Written> {
        let mut write = self.writes.remove(index as usize);
        let frames = write.gather.leases().len();
        let written = match -result {
            ..=0 => Written::Fine,
            // Not so any other errno, such as that of a TAP which has been set down.
            errno @ libc::EINVAL if frames > 1 => self.write_each(ring, &write, errno)?,
            _ => Written::Dropped(DropReason::TapRefused, frames),
        };
        write.gather.clear();
        self.spare.push(write.gather);
        Ok(written)
    }

    /// A super-frame was refused: its frames go one by one, and so do all from now on.
    fn write_each(&mut self, ring: &mut Ring, write: &Write, errno: i32) -> io::Result<Written> {
        let mut dropped = 0;
        for frame in write.gather.leases() {
            match self.write_alone(ring, frame.clone())? {
                Written::Fine => {}
                _ => dropped += 1,
            }
        }
        if dropped > 0 {
            return Ok(Written::Dropped(DropReason::NoBuffer, dropped));
        }
        self.flush(ring)?;
        self.coalescer = Some(Coalescer::new(Kinds { tcp: false, udp: false }));
        Ok(if std::mem::take(&mut self.takes_runs) { Written::RunsRefused(errno) } else { Written::Fine })
    }
}
