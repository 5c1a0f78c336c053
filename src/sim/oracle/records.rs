//! What the oracle knows of frames, of the ends that they come to, and of a datagram that is about to come.

use std::fmt;
use std::time::Duration;

use crate::proto::scheduler::Mode;
use crate::proto::time::Instant;
use crate::proto::tunnel::WINDOW_MIN;
use crate::proto::uplink::{UPLINKS_MAX, UplinkId, UplinkSet};
use crate::sim::{Nanoseconds, SECOND};

/// What the core must not do, and did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// When.
    pub at: Nanoseconds,
    /// What.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at {}.{:06} s: {}", self.at / SECOND, self.at % SECOND / 1_000, self.what)
    }
}

/// A frame that was offered.
#[derive(Clone, Copy, Debug)]
pub struct Offer {
    /// When.
    pub at: Nanoseconds,
    /// When it was delivered.
    pub delivered_at: Option<Nanoseconds>,
    /// In which life of the receiver.
    pub(super) delivered_in: Option<u32>,
    pub(super) length: u16,
    /// Whether the core took it on.
    pub(super) is_sent: bool,
    /// Whether the core sent it again.
    pub(super) is_resent: bool,
    /// Whether it was made up at the receiver.
    pub(super) is_restored: bool,
    /// The uplinks by which it has come to the receiver, whatever became of it.
    pub(super) came_by: UplinkSet,
    /// When a copy was taken on by the receiver, by its clock, and in which of its lives.
    pub(super) taken: Option<(Instant, u32)>,
}

/// What is offered to one end, and comes out of the other.
#[derive(Debug, Default)]
pub struct Stream {
    /// Every frame, by its number.
    pub offers: Vec<Offer>,
    /// Frames delivered after one with a higher number.
    pub out_of_order: u64,
    pub(super) highest_delivered: Option<u64>,
}

/// What is known of one end as a receiver.
#[derive(Debug)]
pub(super) struct Receiver {
    /// The longest that it has had, and the shortest.
    pub(super) window: Option<Duration>,
    pub(super) window_least: Option<Duration>,
    pub(super) window_follows: bool,
    pub(super) peer_mode: Mode,
    /// Counts starts of the process.
    pub(super) life: u32,
    /// The life of the peer that it has taken a control message of last.
    pub(super) known_life: Option<u32>,
    /// When it last began anew with its peer, and by its own clock.
    pub(super) began: (Nanoseconds, Instant),
    /// Numbers higher than all before, and when they were taken on.
    pub(super) highs: Vec<(u64, Instant)>,
    /// When each uplink was last seen to be silent.
    pub(super) silent: [Option<Instant>; UPLINKS_MAX],
    /// When its clock last jumped, as it does for one that sleeps.
    pub(super) jumped: Instant,
    /// When a spoiled datagram last got through.
    pub(super) deceived: Option<Nanoseconds>,
    /// Whether anything but its first peer has been met.
    pub(super) has_begun_anew: bool,
    /// Datagrams and frames handed in, and control messages taken, in this life.
    pub(super) handed: u64,
    pub(super) controls: u64,
    /// Drops counted by the shell.
    pub(super) dropped_outside: u64,
}

impl Receiver {
    /// How long frames are held at least before what is missing is given up: a sender that sends again what is lost gives
    /// it up so much sooner than the window ends.
    pub(super) fn hold(&self) -> Option<Duration> {
        let least = self.window_least;
        let window = if self.window_follows { least.map(|window| window.min(WINDOW_MIN)) } else { least };
        window.map(|window| if self.peer_mode == Mode::Adaptive { window - window / 4 } else { window })
    }

    /// When the first frame with a higher number was taken.
    pub(super) fn overtaken_at(&self, number: u64) -> Option<Instant> {
        let first_higher = self.highs.partition_point(|(high, _)| *high <= number);
        self.highs.get(first_higher).map(|(_, at)| *at)
    }
}

/// A datagram that an end is about to be handed.
#[derive(Clone, Copy, Debug)]
pub struct Arrived {
    /// Which end.
    pub to: usize,
    /// By which uplink.
    pub uplink: UplinkId,
    /// In which life its sender has sent it.
    pub sender_life: u32,
    /// The end's clock.
    pub clock: Instant,
    /// The uplinks that the end does not count as alive.
    pub silent: UplinkSet,
    /// Whether the end knows that the peer is at the datagram's source.
    pub is_known_source: bool,
    /// When its way last reordered or duplicated.
    pub reordered: Option<Nanoseconds>,
    /// When it was sent.
    pub sent_at: Nanoseconds,
}
