//! How many packet buffers there are, and who may have them.

use std::io;
use std::rc::Rc;

use super::buffers::{Arena, Lease, Room, Size, Slots};
use super::datagram_port::receive::RECEIVE_PREFIX_MAX;
use super::datagram_port::send::SENDS_MAX;
use super::provided::{ProvidedBuffers, provided_buffers};
use super::tap_port::reading::{OutboundFrame, READS_MAX};
use super::tap_port::writing::WRITES_MAX;
use crate::proto::receive::reorder::REORDER_CAPACITY;
use crate::proto::session::cipher::TAG_LENGTH;
use crate::proto::session::transport::OVERHEAD;
use crate::proto::stats::DropReason;
use crate::proto::tunnel::Payload;

/// Small slots that all hands together can need, beside those that wait for datagrams: those that wait for frames, those
/// held to restore order by so many tunnels, those on their way out (control messages, headers of super-frames).
const fn small_slots(tunnels: usize) -> usize {
    let holding = if tunnels < TUNNELS_HOLDING_MAX { tunnels } else { TUNNELS_HOLDING_MAX };
    READS_MAX + REORDER_CAPACITY * holding + SENDS_MAX + WRITES_MAX
}
/// So many tunnels can hold all that they may at the same time: more of them share.
const TUNNELS_HOLDING_MAX: usize = 4;
/// Large slots, beside those that wait for datagrams: those that wait for super-frames, and as many again as can be full
/// of frames that are held to restore order or on their way out.
const LARGE_SLOTS: usize = READS_MAX + LARGE_SLOTS_FILLED;
const LARGE_SLOTS_FILLED: usize = 128;
/// Beside those that are reserved, so many are left for what comes in.
const LARGE_SLOTS_SPARED: usize = 32;
/// A small slot holds at least this, so that slots are aligned and MTUs may grow a little.
const SMALL_SLOT_MIN: usize = 2048;
/// A large slot holds 64 KiB, the most that a super-frame or datagrams received together can be, and what is put in
/// front of them: in whole pages.
const LARGE_SLOT: usize = 17 * 4096;
/// The small slots' share is bounded by this too, so that large MTUs have fewer slots rather than more memory.
const SMALL_BYTES_MAX: usize = 24 << 20;
/// Slots that are left to TAP reads and control messages when datagrams come in faster than frames go out.
pub const SLOTS_RESERVED: usize = READS_MAX + 32;

const _: () = assert!(
    small_slots(TUNNELS_HOLDING_MAX) + provided_buffers(Size::Small) + LARGE_SLOTS + provided_buffers(Size::Large)
        <= 1 << 16
);

/// The arena for frames of up to `frame_length_max` bytes of so many tunnels, when datagrams are received into slots of size `received`,
/// and the TAP is read into slots of size `read`.
///
/// # Errors
/// What mmap(2) says.
pub fn arena(tunnels: usize, frame_length_max: usize, received: Size, read: Size) -> io::Result<Rc<Arena>> {
    let needed = RECEIVE_PREFIX_MAX + OVERHEAD + frame_length_max;
    let size = needed.next_multiple_of(1024).max(SMALL_SLOT_MIN);
    let provided = |size| if size == received { provided_buffers(size) } else { 0 };
    let small =
        Slots { count: (small_slots(tunnels) + provided(Size::Small)).min(small_bytes_max(tunnels) / size), size };
    let large = if received == Size::Large || read == Size::Large { LARGE_SLOTS + provided(Size::Large) } else { 0 };
    Arena::new(small, Slots { count: large, size: LARGE_SLOT })
}

const fn small_bytes_max(tunnels: usize) -> usize {
    if tunnels > 1 { 2 * SMALL_BYTES_MAX } else { SMALL_BYTES_MAX }
}

/// Whether large slots are worth sparing: few are left for the kernel to receive into, because what was received in them is
/// held for long.
fn is_scarce(arena: &Arena, provided: &ProvidedBuffers) -> bool {
    let size = provided.size();
    size == Size::Large && arena.free_slots(size) + provided.given() < SLOTS_RESERVED + provided_buffers(size)
}

/// Whether no more small slots may be taken for what is only held: the rest are for TAP reads and control messages.
fn are_small_scarce(arena: &Arena) -> bool {
    arena.free_slots(Size::Small) <= SLOTS_RESERVED
}

/// Whether what waits for an uplink, or is kept to be sent again, may take up large slots: those that it leaves free are
/// enough to receive by and to read the TAP into.
fn may_hold_large(arena: &Arena) -> bool {
    arena.slots_of(Size::Large) == 0 || arena.free_slots(Size::Large) > SLOTS_RESERVED + LARGE_SLOTS_SPARED
}

/// Moves a frame that will have to wait for an uplink out of its large slot, if those are scarce.
///
/// # Errors
/// If small slots are scarce, too.
#[inline]
pub fn settle(arena: &Rc<Arena>, frame: OutboundFrame) -> Result<OutboundFrame, DropReason> {
    if may_hold_large(arena) {
        return Ok(frame);
    }
    if are_small_scarce(arena) {
        return Err(DropReason::NoBuffer);
    }
    let body = frame.body.as_ref().map_or(&[][..], Lease::bytes);
    let head = arena.copy_with_room([frame.head.bytes(), body], TAG_LENGTH).ok_or(DropReason::NoBuffer)?;
    Ok(OutboundFrame { head, body: None, read_at: frame.read_at })
}

/// Whether a datagram that has been sent may be kept.
#[inline]
pub fn may_keep(arena: &Arena) -> bool {
    may_hold_large(arena) || !are_small_scarce(arena)
}

/// Moves a datagram that may have to be kept out of its large slot, which is worth many of them, if those are scarce.
///
/// # Errors
/// If small slots are scarce, too: some are left to TAP reads and control messages.
#[inline]
pub fn keep(arena: &Rc<Arena>, provided: &ProvidedBuffers, datagram: Room) -> Result<Room, DropReason> {
    if !is_scarce(arena, provided) || datagram.length() > arena.slot_size(Size::Small) {
        return Ok(datagram);
    }
    if are_small_scarce(arena) {
        return Err(DropReason::NoBuffer);
    }
    arena.copy(datagram.bytes()).ok_or(DropReason::NoBuffer)
}
