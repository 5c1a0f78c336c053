//! Which uplinks each frame goes to.
//!
//! A mode is asked twice: [`Scheduler::refresh`] when the uplinks have changed, where all thinking is done, and
//! [`Scheduler::schedule`] for every frame, which only looks up the outcome.

mod active_backup;
mod balance_rr;
pub mod standing;

use std::num::NonZeroU32;
use std::time::Duration;

use active_backup::ActiveBackup;
use balance_rr::BalanceRr;
use standing::Standing;

use crate::proto::send::redundancy::Rule;
use crate::proto::uplink::{UplinkName, UplinkSet};

/// How frames are spread over the uplinks; named as in the kernel's bonding driver
/// (Documentation/networking/bonding.rst).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Every frame on every live uplink.
    Broadcast,
    /// Frames in turn over the live uplinks.
    BalanceRr,
    /// Every frame on one uplink, the others standing by.
    ActiveBackup,
    /// Each frame where it will arrive first, and again if it is lost (see [`super::send`]).
    Adaptive,
}

impl Mode {
    /// Every mode, in the order in which help lists them.
    pub const ALL: [Self; 4] = [Self::Broadcast, Self::BalanceRr, Self::ActiveBackup, Self::Adaptive];

    /// Those that send each frame at once, by the uplinks that a [`Scheduler`] chooses.
    pub const AT_ONCE: [Self; 3] = [Self::Broadcast, Self::BalanceRr, Self::ActiveBackup];

    /// How often uplinks are probed while frames flow, unless the user says otherwise. In `adaptive` the peer tells many
    /// times a second what has come, and probes only find out about uplinks that carry nothing.
    #[must_use]
    pub const fn probe_interval(self) -> Duration {
        match self {
            Self::Adaptive => Duration::from_millis(100),
            _ => Duration::from_millis(20),
        }
    }

    /// The window unless the user says otherwise, and whether it follows what the uplinks require, up to that. In `adaptive`
    /// it does, and leaves time to send again what is lost.
    #[must_use]
    pub const fn window(self) -> (Duration, bool) {
        match self {
            Self::Adaptive => (Duration::from_millis(250), true),
            _ => (Duration::from_millis(40), false),
        }
    }

    /// The name that users type and read.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Broadcast => "broadcast",
            Self::BalanceRr => "balance-rr",
            Self::ActiveBackup => "active-backup",
            Self::Adaptive => "adaptive",
        }
    }
}

/// When `active-backup` goes back to a better uplink (the bonding driver's `primary_reselect`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrimaryReselect {
    /// As soon as the primary is up again.
    Always,
    /// When the primary is up and has the shorter round-trip time.
    Better,
    /// Only when the active uplink fails.
    Failure,
}

impl PrimaryReselect {
    /// Every choice, in the order in which help lists them.
    pub const ALL: [Self; 3] = [Self::Always, Self::Better, Self::Failure];

    /// The name that users type and read.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::Better => "better",
            Self::Failure => "failure",
        }
    }
}

/// What the schedulers can be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchedulerConfig {
    /// How frames are spread.
    pub mode: Mode,
    /// `balance-rr`: frames in a row on one uplink (per unit of its weight) before the next has its turn.
    pub packets_per_uplink: NonZeroU32,
    /// `active-backup`: the uplink to prefer; without it the live uplink with the shortest round-trip time.
    pub primary: Option<UplinkName>,
    /// `active-backup`: when to go back.
    pub primary_reselect: PrimaryReselect,
    /// `adaptive`: which frames go by two uplinks.
    pub redundancy: Vec<Rule>,
}

impl SchedulerConfig {
    /// `mode` with nothing else said.
    #[must_use]
    pub fn new(mode: Mode) -> Self {
        Self {
            mode,
            packets_per_uplink: NonZeroU32::MIN,
            primary: None,
            primary_reselect: PrimaryReselect::Always,
            redundancy: vec![],
        }
    }
}

/// Chooses the uplinks for each frame, in the modes that send it at once.
#[derive(Clone, Debug)]
pub enum Scheduler {
    /// [`Mode::Broadcast`]: the uplinks that may reach the peer.
    Broadcast(UplinkSet),
    /// [`Mode::BalanceRr`].
    BalanceRr(BalanceRr),
    /// [`Mode::ActiveBackup`].
    ActiveBackup(ActiveBackup),
}

impl Scheduler {
    /// The scheduler of `config`'s mode, with no uplink yet.
    #[must_use]
    pub fn new(config: &SchedulerConfig) -> Self {
        match config.mode {
            Mode::Broadcast => Self::Broadcast(UplinkSet::EMPTY),
            Mode::BalanceRr => Self::BalanceRr(BalanceRr::new(config.packets_per_uplink)),
            Mode::ActiveBackup => Self::ActiveBackup(ActiveBackup::new(config)),
            Mode::Adaptive => unreachable!("frames of this mode wait for their uplink elsewhere"),
        }
    }

    /// The uplinks have changed.
    pub fn refresh(&mut self, standing: &Standing) {
        match self {
            Self::Broadcast(members) => *members = standing.any,
            Self::BalanceRr(mode) => mode.refresh(standing),
            Self::ActiveBackup(mode) => mode.refresh(standing),
        }
    }

    /// Where the next frame goes; empty if there is nowhere.
    #[inline]
    pub fn schedule(&mut self) -> UplinkSet {
        match self {
            Self::Broadcast(members) => *members,
            Self::BalanceRr(mode) => mode.schedule(),
            Self::ActiveBackup(mode) => mode.schedule(),
        }
    }

    /// Where the next frame goes if it cannot go by these; empty if the mode knows nowhere.
    pub fn schedule_past(&mut self, narrow: UplinkSet) -> UplinkSet {
        match self {
            Self::Broadcast(members) => members.without(narrow),
            Self::BalanceRr(mode) => mode.schedule_past(narrow),
            Self::ActiveBackup(mode) => mode.schedule().without(narrow),
        }
    }
}

#[cfg(test)]
mod tests;
