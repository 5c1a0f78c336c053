//! The records that follow [`super::Answer::Trace`], until the connection ends: what entered and left, in the order in which
//! it did.
//!
//! ```text
//!  0        8          9        10         11        12                16                20              24        32
//! ┌────────┬──────────┬────────┬──────────┬─────────┬─────────────────┬─────────────────┬───────────────┬─────────┬───────┐
//! │ time   │ passage  │ tap    │ uplink   │ verdict │ length of frame │ bytes that follow│ records lost  │ number  │ bytes │
//! └────────┴──────────┴────────┴──────────┴─────────┴─────────────────┴─────────────────┴───────────────┴─────────┴───────┘
//! ```
//! Numbers are little-endian. `time` is in nanoseconds since 1970; `uplink` is its number on the wire, 255 where none is meant;
//! `verdict` is an index into the `verdicts` of the answer; `records lost` are those before this one that there was no room for; `number` is
//! the frame's sequence number, [`u64::MAX`] where it has none (yet).

/// Bytes of a record before those of the frame.
pub const RECORD_HEAD_LENGTH: usize = 32;

/// No uplink.
pub const NO_UPLINK: u8 = 255;

/// Where a frame was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Passage {
    /// Read from the TAP.
    FromTap = 0,
    /// Handed to the kernel for an uplink.
    ToUplink = 1,
    /// Come by an uplink.
    FromUplink = 2,
    /// Handed to the kernel for the TAP.
    ToTap = 3,
}

impl Passage {
    /// By its number.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::FromTap),
            1 => Some(Self::ToUplink),
            2 => Some(Self::FromUplink),
            3 => Some(Self::ToTap),
            _ => None,
        }
    }
}

/// A record, without the bytes of its frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHead {
    /// In nanoseconds since 1970.
    pub at: u64,
    /// Where.
    pub passage: Passage,
    /// The number of the TAP in [`super::Answer::Trace`].
    pub tap: u8,
    /// The uplink's number, or [`NO_UPLINK`].
    pub uplink: u8,
    /// What became of it, as an index into the `verdicts` of [`super::Answer::Trace`], of which the first is "taken".
    pub verdict: u8,
    /// The length of the whole frame.
    pub length: u32,
    /// How many bytes of it follow.
    pub captured: u32,
    /// Records lost before this one.
    pub lost: u32,
    /// The frame's sequence number.
    pub sequence: Option<u64>,
}

impl RecordHead {
    /// Its bytes.
    #[must_use]
    pub fn to_bytes(self) -> [u8; RECORD_HEAD_LENGTH] {
        let mut bytes = [0; RECORD_HEAD_LENGTH];
        bytes[..8].copy_from_slice(&self.at.to_le_bytes());
        bytes[8..12].copy_from_slice(&[self.passage as u8, self.tap, self.uplink, self.verdict]);
        bytes[12..16].copy_from_slice(&self.length.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.captured.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.lost.to_le_bytes());
        bytes[24..].copy_from_slice(&self.sequence.unwrap_or(u64::MAX).to_le_bytes());
        bytes
    }

    /// From its bytes; `None` if they are none of ours.
    #[must_use]
    pub fn parse(bytes: &[u8; RECORD_HEAD_LENGTH]) -> Option<Self> {
        let four = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let eight = |at: usize| u64::from(four(at)) | u64::from(four(at + 4)) << 32;
        Some(Self {
            at: eight(0),
            passage: Passage::from_number(bytes[8])?,
            tap: bytes[9],
            uplink: bytes[10],
            verdict: bytes[11],
            length: four(12),
            captured: four(16),
            lost: four(20),
            sequence: Some(eight(24)).filter(|number| *number != u64::MAX),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_as_it_was_written() {
        for sequence in [None, Some(0), Some(1 << 40)] {
            for passage in [Passage::FromTap, Passage::ToUplink, Passage::FromUplink, Passage::ToTap] {
                let head = RecordHead {
                    at: 1_790_000_000_123_456_789,
                    passage,
                    tap: 1,
                    uplink: NO_UPLINK,
                    verdict: 7,
                    length: 1_514,
                    captured: 128,
                    lost: 3,
                    sequence,
                };
                assert_eq!(RecordHead::parse(&head.to_bytes()), Some(head));
            }
        }
    }
}
