//! Feedback: which frames have come, and when the last of them came by each uplink.
//!
//! ```text
//! offset  0 hold in µs (4)   4 next (4)   8 count (1)   9 length (2)
//!        11 for each uplink: 0 uplink (1)  1 highest (4)  5 age in µs (4)  9 bytes (4)  13 burst in kB/s (4)
//!           then `length` bytes, a bit for each number from `next` on, lowest first: 1 if it has come
//! ```
//! All numbers are the low 32 bits of what they count.

use bytes::{Buf, BufMut};

use crate::proto::stats::DropReason;
use crate::proto::uplink::{UPLINKS_MAX, UplinkId};

/// The most bytes of bits: one for each place of the receiver's ring.
pub const SEEN_BYTES_MAX: usize = 512;
/// The most numbers that can be told of.
pub const SEEN_MAX: u64 = SEEN_BYTES_MAX as u64 * 8;

const HEAD_LENGTH: usize = 11;
const ARRIVALS_LENGTH: usize = 17;

/// The longest feedback, in bytes.
pub const FEEDBACK_LENGTH_MAX: usize = HEAD_LENGTH + UPLINKS_MAX * ARRIVALS_LENGTH + SEEN_BYTES_MAX;

/// What has come by one uplink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrivals {
    /// The highest number that came by it.
    pub highest: u32,
    /// How long before this was sent that one came, in microseconds; [`u32::MAX`] if none came of late but copies of what
    /// others had brought, which say nothing of when.
    pub age_micros: u32,
    /// Bytes of frame that had come by it by then.
    pub bytes: u32,
    /// How fast frames that came close together came since the last report, in kilobytes of frame per second; 0 if none
    /// did.
    pub burst_kilobytes: u32,
}

impl Arrivals {
    /// Nothing.
    pub const NONE: Self = Self { highest: 0, age_micros: u32::MAX, bytes: 0, burst_kilobytes: 0 };
}

/// All of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feedback {
    /// How long the receiver holds frames to restore order, in microseconds.
    pub hold_micros: u32,
    /// The number due next: those below have come or are given up.
    pub next: u32,
    arrivals: [Option<Arrivals>; UPLINKS_MAX],
    seen: [u8; SEEN_BYTES_MAX],
    seen_bytes: u16,
}

impl Feedback {
    /// Nothing has come but what is below `next`.
    #[must_use]
    pub const fn new(hold_micros: u32, next: u32) -> Self {
        Self { hold_micros, next, arrivals: [None; UPLINKS_MAX], seen: [0; SEEN_BYTES_MAX], seen_bytes: 0 }
    }

    /// Says what has come by `uplink`.
    pub fn set_arrivals(&mut self, uplink: UplinkId, arrivals: Arrivals) {
        self.arrivals[uplink.index()] = Some(arrivals);
    }

    /// What has come by each uplink that anything has come by of late.
    pub fn arrivals(&self) -> impl Iterator<Item = (UplinkId, Arrivals)> + '_ {
        UplinkId::all().filter_map(|uplink| self.arrivals[uplink.index()].map(|arrivals| (uplink, arrivals)))
    }

    /// The number that is `offset` above `next` has come. Beyond [`SEEN_MAX`] it cannot be told.
    pub fn set_seen(&mut self, offset: u64) {
        if offset < SEEN_MAX {
            let place = (offset / 8) as usize;
            self.seen[place] |= 1 << (offset % 8);
            self.seen_bytes = self.seen_bytes.max(place as u16 + 1);
        }
    }

    /// How far above `next` the numbers are that have come, the lowest first.
    pub fn seen(&self) -> impl Iterator<Item = u64> + '_ {
        let bytes = self.seen[..usize::from(self.seen_bytes)].iter().enumerate();
        bytes.flat_map(|(place, byte)| {
            (0..8).filter(move |bit| byte & (1 << bit) != 0).map(move |bit| place as u64 * 8 + bit)
        })
    }

    pub(super) fn emit(&self, out: &mut impl BufMut) {
        out.put_u32(self.hold_micros);
        out.put_u32(self.next);
        out.put_u8(self.arrivals().count() as u8);
        out.put_u16(self.seen_bytes);
        for (uplink, arrivals) in self.arrivals() {
            out.put_u8(uplink.number());
            out.put_u32(arrivals.highest);
            out.put_u32(arrivals.age_micros);
            out.put_u32(arrivals.bytes);
            out.put_u32(arrivals.burst_kilobytes);
        }
        out.put_slice(&self.seen[..usize::from(self.seen_bytes)]);
    }

    pub(super) fn parse(fields: &mut &[u8]) -> Result<Self, DropReason> {
        need(fields, HEAD_LENGTH)?;
        let mut feedback = Self::new(fields.get_u32(), fields.get_u32());
        let (count, seen_bytes) = (usize::from(fields.get_u8()), usize::from(fields.get_u16()));
        need(fields, count * ARRIVALS_LENGTH)?;
        let mut previous = None;
        for _ in 0..count {
            let uplink = UplinkId::new(fields.get_u8()).ok_or(DropReason::ControlMalformed)?;
            // Ascending, so that each feedback has one spelling.
            if previous.is_some_and(|previous| previous >= uplink) {
                return Err(DropReason::ControlMalformed);
            }
            previous = Some(uplink);
            let arrivals = Arrivals {
                highest: fields.get_u32(),
                age_micros: fields.get_u32(),
                bytes: fields.get_u32(),
                burst_kilobytes: fields.get_u32(),
            };
            feedback.set_arrivals(uplink, arrivals);
        }
        need(fields, seen_bytes)?;
        let seen = feedback.seen.get_mut(..seen_bytes).ok_or(DropReason::ControlMalformed)?;
        fields.copy_to_slice(seen);
        if seen.last() == Some(&0) {
            return Err(DropReason::ControlMalformed);
        }
        feedback.seen_bytes = seen_bytes as u16;
        Ok(feedback)
    }
}

fn need(fields: &[u8], length: usize) -> Result<(), DropReason> {
    if fields.len() < length { Err(DropReason::Truncated) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_come_is_told() {
        let mut feedback = Feedback::new(40_000, 7);
        for offset in [0, 9, 4095, 4096] {
            feedback.set_seen(offset);
        }
        assert_eq!(feedback.seen().collect::<Vec<_>>(), [0, 9, 4095], "the last is beyond what can be told");
    }
}
