//! What a simulated world is made of, and what befalls it when.

use std::fmt;
use std::time::Duration;

use super::link::LinkSettings;
use super::{Nanoseconds, SECOND};
use crate::proto::scheduler::{Mode, SchedulerConfig};
use crate::proto::uplink::Limits;
use crate::proto::uplink::UplinkName;

/// Which end: its place in arrays of two.
pub const BOX: usize = 0;
/// See [`BOX`].
pub const GATEWAY: usize = 1;

/// Which way of an uplink: from the box. Frames offered to end `e` travel by way `e`.
pub const UP: usize = BOX;
/// See [`UP`].
pub const DOWN: usize = GATEWAY;

/// When something happens that never does.
pub const NEVER: Nanoseconds = Nanoseconds::MAX;

/// What befalls a world.
#[derive(Clone, Debug)]
pub enum Incident {
    /// An uplink swallows everything in the ways marked.
    Blackhole {
        /// Which uplink.
        uplink: usize,
        /// Up and down.
        ways: [bool; 2],
    },
    /// An uplink swallows no more.
    Restore {
        /// Which uplink.
        uplink: usize,
    },
    /// One way of an uplink is another one from now on.
    Change {
        /// Which uplink.
        uplink: usize,
        /// Which way.
        way: usize,
        /// What it is like now.
        settings: Box<LinkSettings>,
    },
    /// The box's interface loses its carrier, or has it again. The box learns of it a moment later.
    Carrier {
        /// Which uplink.
        uplink: usize,
        /// Whether it has one now.
        up: bool,
    },
    /// The box has learned of an interface's carrier.
    CarrierNews {
        /// Which uplink.
        uplink: usize,
    },
    /// The translation in front of an uplink forgets its mapping, and makes another with another port.
    Rebind {
        /// Which uplink.
        uplink: usize,
    },
    /// The data budget of an uplink is spent, or begins anew, as the box's shell tells its core.
    Spent {
        /// Which uplink.
        uplink: usize,
        /// Whether it is spent now.
        is_spent: bool,
    },
    /// The user has an end do something otherwise while it runs.
    Order {
        /// Which end.
        end: usize,
        /// What.
        order: Order,
    },
    /// An end's clock steps forward, as after a suspension.
    ClockStep {
        /// Which end.
        end: usize,
        /// By how much.
        by: Duration,
    },
    /// An end gets no CPU for a while: what comes waits, and is then worked off at once.
    Stall {
        /// Which end.
        end: usize,
        /// For how long.
        lasting: Duration,
    },
    /// An end stops: says good-bye, or is killed with all that it held.
    Stop {
        /// Which end.
        end: usize,
        /// Whether it can say good-bye.
        says_bye: bool,
    },
    /// An end that has stopped starts again.
    Start {
        /// Which end.
        end: usize,
    },
    /// Everything is well again: links, carriers, ends.
    Heal,
}

/// What a user can have an end do otherwise while it runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Order {
    /// Send in this mode.
    Mode(Mode),
    /// Hold frames for so long at most; with `true`, for as long as the uplinks require, up to that.
    Window(Duration, bool),
    /// Use an uplink no more, which is then gone a while later (at the box).
    Remove(usize),
    /// Use an uplink again that was removed, as a new one (at the box).
    Add(usize),
    /// Give an uplink another weight (at the box).
    Weight(usize, u8),
}

impl fmt::Display for Incident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Change { uplink, way, settings } => {
                write!(f, "uplink {uplink} way {way} is now {:?}", settings)
            }
            other => write!(f, "{other:?}"),
        }
    }
}

/// An uplink.
#[derive(Clone, Debug)]
pub struct UplinkPlan {
    /// What the box calls it.
    pub name: UplinkName,
    /// Its weight, 1 to 255.
    pub weight: u8,
    /// How far the box may use it, in `adaptive`.
    pub limits: Limits,
    /// What it is like, up and down.
    pub ways: [LinkSettings; 2],
    /// What it is like once all is well again.
    pub healed: [LinkSettings; 2],
}

/// An end.
#[derive(Clone, Debug)]
pub struct EndPlan {
    /// How it spreads frames.
    pub scheduler: SchedulerConfig,
    /// The window that it receives with.
    pub window: Option<Duration>,
    /// Whether the window is as long as the uplinks require, and `window` only a bound.
    pub window_follows: bool,
    /// How often it probes while frames flow.
    pub probe_interval: Duration,
    /// The number of its first frame, at each start.
    pub first_sequence: u32,
    /// What its clock says when the world begins.
    pub clock_origin: Nanoseconds,
}

/// Frames offered to one end, in equal steps.
#[derive(Clone, Debug)]
pub struct TrafficPlan {
    /// From one burst to the next.
    pub interval: Nanoseconds,
    /// Frames in a burst.
    pub burst: u64,
    /// The shortest and the longest frame, in bytes.
    pub lengths: (usize, usize),
    /// Which share of the frames is too short or too long for the TAP, per million.
    pub misfits: u32,
    /// Times without any, as beginning and end.
    pub pauses: Vec<(Nanoseconds, Nanoseconds)>,
}

impl TrafficPlan {
    /// Nothing at all.
    pub const NONE: Self = Self { interval: SECOND, burst: 0, lengths: (0, 0), misfits: 0, pauses: vec![] };
}

/// All of it.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What random numbers begin with.
    pub seed: u64,
    /// The box and the gateway.
    pub ends: [EndPlan; 2],
    /// The MTU of both TAPs, in bytes.
    pub tap_mtu: u16,
    /// The uplinks, 1 to 16.
    pub uplinks: Vec<UplinkPlan>,
    /// What is offered to each end.
    pub traffic: [TrafficPlan; 2],
    /// What befalls it, in order of time.
    pub incidents: Vec<(Nanoseconds, Incident)>,
    /// From when on every uplink must be up at both ends, and no frame may be lost; [`NEVER`] if that is not promised.
    pub clean_from: Nanoseconds,
    /// From when on nothing is offered any more.
    pub quiet_from: Nanoseconds,
    /// When it ends.
    pub until: Nanoseconds,
    /// After how long keys are replaced; `None` if there are none.
    pub rekey_interval: Option<Duration>,
}
