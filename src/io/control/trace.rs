//! What enters and leaves, kept for a moment until the client of [`crate::control::Command::Trace`] has taken it.

use super::ClientId;
use crate::control::trace::{NO_UPLINK, Passage, RECORD_HEAD_LENGTH, RecordHead};
use crate::io::sys;
use crate::proto::stats::DropReason;
use crate::proto::uplink::UplinkId;

/// Bytes of records that wait for the client: of more, the newest are lost, and counted.
const WAITING_MAX: usize = 4 << 20;
/// The most bytes that the client is given at once.
const GIVEN_MAX: usize = 64 << 10;
/// The longest frame there is.
pub const SNAP_LENGTH_MAX: u32 = 65_535;

/// The trace of one client.
pub struct Trace {
    /// Whose.
    pub client: ClientId,
    snap_length: usize,
    records: Vec<u8>,
    /// How much of them has been given.
    given: usize,
    lost: u32,
    /// What is added to the reactor's clock for nanoseconds since 1970.
    epoch_offset: u64,
}

/// A frame that was seen.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// Where.
    pub passage: Passage,
    /// Of which tunnel.
    pub tunnel: usize,
    /// By which uplink.
    pub uplink: Option<UplinkId>,
    /// Its number.
    pub sequence: Option<u64>,
    /// What became of it.
    pub verdict: Verdict,
    /// Its whole length.
    pub length: usize,
}

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on.
    Taken,
    /// It goes on, not for the first time.
    SentAgain,
    /// It does not.
    Dropped(DropReason),
}

impl Verdict {
    /// What each number of a verdict means.
    #[must_use]
    pub fn names() -> Vec<String> {
        let reasons = DropReason::ALL.into_iter().map(DropReason::name);
        ["taken", "sent again"].into_iter().chain(reasons).map(str::to_owned).collect()
    }

    const fn number(self) -> u8 {
        match self {
            Self::Taken => 0,
            Self::SentAgain => 1,
            Self::Dropped(reason) => 2 + reason as u8,
        }
    }
}

impl Trace {
    /// For this client, with up to so many bytes of each frame.
    #[must_use]
    pub fn new(client: ClientId, snap_length: u32) -> Self {
        let time_of_day = sys::time_of_day_ms().saturating_mul(1_000_000);
        Self {
            client,
            snap_length: snap_length.min(SNAP_LENGTH_MAX) as usize,
            records: Vec::with_capacity(WAITING_MAX),
            given: 0,
            lost: 0,
            epoch_offset: time_of_day.wrapping_sub(sys::monotonic_now().as_nanos()),
        }
    }

    /// How many bytes of a frame are wanted.
    #[must_use]
    pub const fn snap_length(&self) -> usize {
        self.snap_length
    }

    /// A frame was seen, whose bytes are `parts`, one behind the other.
    pub fn record(&mut self, seen: Seen, parts: [&[u8]; 2]) {
        let captured = (parts[0].len() + parts[1].len()).min(self.snap_length);
        if self.records.len() + RECORD_HEAD_LENGTH + captured > WAITING_MAX {
            self.lost = self.lost.saturating_add(1);
            return;
        }
        let head = RecordHead {
            at: sys::monotonic_now().as_nanos().wrapping_add(self.epoch_offset),
            passage: seen.passage,
            tap: seen.tunnel as u8,
            uplink: seen.uplink.map_or(NO_UPLINK, UplinkId::number),
            verdict: seen.verdict.number(),
            length: seen.length as u32,
            captured: captured as u32,
            lost: std::mem::take(&mut self.lost),
            sequence: seen.sequence,
        };
        self.records.extend_from_slice(&head.to_bytes());
        let first = parts[0].len().min(captured);
        self.records.extend_from_slice(&parts[0][..first]);
        self.records.extend_from_slice(&parts[1][..captured - first]);
    }

    /// Whether there is something to give.
    #[must_use]
    pub const fn has_records(&self) -> bool {
        self.records.len() > self.given
    }

    /// Gives some of it.
    pub fn give(&mut self, out: &mut Vec<u8>) {
        let end = self.records.len().min(self.given + GIVEN_MAX);
        out.extend_from_slice(&self.records[self.given..end]);
        self.given = end;
        if self.given == self.records.len() || self.given >= WAITING_MAX / 2 {
            self.records.drain(..self.given);
            self.given = 0;
        }
    }
}
