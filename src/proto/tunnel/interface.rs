//! What goes into a tunnel, and what comes out of it.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::{Buf, Bytes};

use crate::proto::receive::ReceiveCounters;
use crate::proto::scheduler::SchedulerConfig;
use crate::proto::seq;
use crate::proto::session::cipher::Cipher;
use crate::proto::stats::{DropCounters, Traffic};
use crate::proto::uplink::Limits;
use crate::proto::uplink::state::Transition;
use crate::proto::uplink::{UplinkId, UplinkName, UplinkSet};
use crate::proto::wire::control::{ControlBytes, ParityBytes};
use crate::proto::wire::{self, FRAME_HEADER_LENGTH};

/// A datagram that was received, and the frame that is left of it; wherever its bytes are kept.
pub trait Payload {
    /// Its bytes.
    fn bytes(&self) -> &[u8];
    /// Drops the first `count` bytes.
    fn advance(&mut self, count: usize);
}

/// A frame to send, wherever its bytes are kept: in one place, or in several. The core looks into its headers at most, but
/// to make parities.
pub trait Frame {
    /// How many bytes it has.
    fn length(&self) -> usize;
    /// What it begins with: its headers at least.
    fn head(&self) -> &[u8];
    /// Copies it to `out`, which is as long.
    fn copy_to(&self, out: &mut [u8]);
}

impl<T: Payload> Frame for T {
    #[inline]
    fn length(&self) -> usize {
        self.bytes().len()
    }

    #[inline]
    fn head(&self) -> &[u8] {
        self.bytes()
    }

    fn copy_to(&self, out: &mut [u8]) {
        out.copy_from_slice(self.bytes());
    }
}

impl Payload for Bytes {
    #[inline]
    fn bytes(&self) -> &[u8] {
        self
    }

    #[inline]
    fn advance(&mut self, count: usize) {
        Buf::advance(self, count);
    }
}

/// Which end this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Has the uplinks, and numbers them.
    Box,
    /// Learns the uplinks from the box's probes.
    Gateway,
}

impl Role {
    /// The program that is this end.
    #[must_use]
    pub const fn program(self) -> &'static str {
        match self {
            Self::Box => "braid-box",
            Self::Gateway => "braid-gateway",
        }
    }
}

/// One uplink as the box's user named it.
#[derive(Clone, Copy, Debug)]
pub struct UplinkSettings {
    /// Its name.
    pub name: UplinkName,
    /// Its weight, 1 to 255.
    pub weight: u8,
    /// How far it may be used.
    pub limits: Limits,
}

impl UplinkSettings {
    /// One that nothing but its name was said of.
    #[must_use]
    pub fn named(name: UplinkName) -> Self {
        Self { name, weight: 1, limits: Limits::default() }
    }
}

/// What a tunnel is made with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which end this is.
    pub role: Role,
    /// What this start of the process is known by, not 0: see [`super::peer::epoch`].
    pub epoch: u64,
    /// The number of the first frame sent.
    pub first_sequence: u32,
    /// How frames are spread.
    pub scheduler: SchedulerConfig,
    /// The longest that a frame may be held to restore order; `None` delivers in order of arrival.
    pub window: Option<Duration>,
    /// Whether the window is as long as the uplinks require, and `window` only a bound.
    pub window_follows: bool,
    /// Time between probes while frames flow.
    pub probe_interval: Duration,
    /// The MTU of the TAP, in bytes.
    pub tap_mtu: u16,
    /// The box's uplinks; empty at the gateway.
    pub uplinks: Vec<UplinkSettings>,
}

/// Where a datagram came from, and from which of our addresses to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path {
    /// The peer's address.
    pub remote: SocketAddr,
    /// Our address that the datagram was sent to, where the socket listens on several.
    pub local: Option<IpAddr>,
}

/// How a datagram arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// By the socket of an uplink (at the box).
    Uplink(UplinkId),
    /// From an address (at the gateway).
    Path(Path),
}

/// A frame to send, by each of `uplinks`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameTransmit<F> {
    /// Where to; never empty.
    pub uplinks: UplinkSet,
    /// Its number.
    pub sequence: u64,
    /// Whether the datagram is to be kept: it may be asked for again ([`super::Tunnel::poll_resend`]) until its number is
    /// below [`super::Tunnel::kept_from`].
    pub is_kept: bool,
    /// The Ethernet frame.
    pub payload: F,
}

impl<F> FrameTransmit<F> {
    /// What goes in front, without keys.
    #[inline]
    #[must_use]
    pub fn plaintext_header(&self) -> [u8; FRAME_HEADER_LENGTH] {
        wire::frame_header(seq::truncate(self.sequence))
    }
}

/// A control message to send.
#[derive(Clone, Debug)]
pub struct ControlTransmit {
    /// Where to.
    pub uplink: UplinkId,
    /// Its number among the control messages.
    pub counter: u64,
    /// What it says.
    pub message: ControlBytes,
}

impl ControlTransmit {
    /// The whole datagram, without keys.
    #[must_use]
    pub fn plaintext(&mut self) -> &[u8] {
        self.message.plaintext(seq::truncate(self.counter))
    }
}

/// A parity to send, as control messages are.
#[derive(Debug)]
pub struct ParityTransmit<'a> {
    /// Where to.
    pub uplink: UplinkId,
    /// Its number among the control messages.
    pub counter: u64,
    /// What it says.
    pub message: &'a mut ParityBytes,
}

impl ParityTransmit<'_> {
    /// The whole datagram, without keys.
    #[must_use]
    pub fn plaintext(&mut self) -> &[u8] {
        self.message.plaintext(seq::truncate(self.counter))
    }
}

/// A sounding to send, as control messages are.
#[derive(Debug)]
pub struct SoundingTransmit<'a> {
    /// Where to.
    pub uplink: UplinkId,
    /// Its number among the control messages.
    pub counter: u64,
    /// What it says.
    pub message: &'a mut ParityBytes,
}

impl SoundingTransmit<'_> {
    /// The whole datagram, without keys.
    #[must_use]
    pub fn plaintext(&mut self) -> &[u8] {
        self.message.plaintext(seq::truncate(self.counter))
    }
}

/// Something that the user may want to read in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// An uplink has changed its state.
    Uplink(UplinkId, Transition),
    /// The gateway has learned an uplink's address, or followed it to a new one.
    Moved {
        /// Which.
        uplink: UplinkId,
        /// The address before, if there was one.
        from: Option<Path>,
        /// The address now.
        to: Path,
    },
    /// An uplink is used no more.
    Removed {
        /// What it was called.
        name: UplinkName,
    },
    /// A first peer has shown up.
    PeerFound,
    /// The peer has started anew.
    PeerRestarted,
    /// The peer has said good-bye.
    PeerLeft,
    /// The peer can bear no larger MTU of the TAPs than this.
    PeerMtu(u16),
    /// An uplink has been found to carry IP packets of no more than so many bytes; `None` if it has no limit any more that
    /// matters.
    PathMtu {
        /// Which.
        uplink: UplinkId,
        /// The limit, with all headers.
        limit: Option<u16>,
    },
    /// The TAP's MTU should be this: see [`super::Tunnel::tap_mtu_allowed`].
    TapMtu(u16),
    /// The peer's count contradicted what had come; order was begun anew.
    Resynchronised(UplinkId),
    /// There are new keys, for use with this cipher.
    Sealed {
        /// The cipher.
        cipher: Cipher,
        /// Whether there were none before, or those of another start of the peer.
        is_first: bool,
    },
    /// The gateway has not answered for a while when it was asked for keys.
    Unanswered,
    /// A peer that we let in offers only ciphers that we do not want.
    CipherRefused,
}

/// The counters of a tunnel, at one moment.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// Frames taken from the TAP and sent on at least one uplink.
    pub sent: Traffic,
    /// Frames put in order and handed out.
    pub delivered: Traffic,
    /// Frames that wait for an uplink.
    pub waiting: u64,
    /// Order.
    pub receive: ReceiveCounters,
    /// Everything else.
    pub drops: DropCounters,
}
