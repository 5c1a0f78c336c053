//! One end in a simulated world: the core with its own clock, and the little that a shell has around it.

use std::collections::VecDeque;

use bytes::Bytes;

use super::Nanoseconds;
use super::plan::{BOX, EndPlan, Plan};
use crate::proto::stats::{DropCounters, DropReason};
use crate::proto::time::Instant;
use crate::proto::tunnel::{Arrival, Role, Settings, Tunnel, UplinkSettings};
use crate::proto::uplink::state::State;
use crate::proto::uplink::{UplinkId, UplinkSet};

/// Frames that wait in a TAP whose process has no CPU (Linux gives a TAP room for 1,000).
const TAP_QUEUE: usize = 1000;

/// What waits for an end that has no CPU.
#[derive(Clone, Debug)]
pub enum Waiting<D> {
    /// A frame on its TAP.
    Frame(u64, Bytes),
    /// A datagram at its socket.
    Datagram(UplinkId, D),
}

/// An end.
pub struct End<D> {
    /// The core; `None` while the process does not run.
    pub tunnel: Option<Tunnel<Bytes>>,
    /// How far its clock is ahead of the world's.
    pub clock_ahead: Nanoseconds,
    /// When it has something to do.
    pub due: Nanoseconds,
    /// Until when it has no CPU.
    pub stalled_until: Nanoseconds,
    /// What waits meanwhile.
    pub waiting: VecDeque<Waiting<D>>,
    settings: Settings,
}

impl<D> End<D> {
    /// An end of `plan` that does not run yet.
    #[must_use]
    pub fn new(plan: &Plan, end: usize) -> Self {
        let own: &EndPlan = &plan.ends[end];
        let uplinks = plan.uplinks.iter().map(|uplink| UplinkSettings { name: uplink.name, weight: uplink.weight });
        let settings = Settings {
            role: if end == BOX { Role::Box } else { Role::Gateway },
            epoch: 0,
            first_sequence: own.first_sequence,
            scheduler: own.scheduler.clone(),
            window: own.window,
            probe_interval: own.probe_interval,
            tap_mtu: plan.tap_mtu,
            uplinks: if end == BOX { uplinks.collect() } else { vec![] },
        };
        Self {
            tunnel: None,
            clock_ahead: own.clock_origin,
            due: Nanoseconds::MAX,
            stalled_until: 0,
            waiting: VecDeque::new(),
            settings,
        }
    }

    /// Starts the process.
    pub fn start(&mut self, now: Nanoseconds, epoch: u64) {
        self.settings.epoch = epoch;
        self.tunnel = Some(Tunnel::new(self.clock(now), &self.settings));
        self.due = now;
    }

    /// Ends the process.
    pub fn stop(&mut self) {
        self.tunnel = None;
        self.due = Nanoseconds::MAX;
        self.waiting.clear();
        self.stalled_until = 0;
    }

    /// What its clock says.
    #[must_use]
    pub const fn clock(&self, now: Nanoseconds) -> Instant {
        Instant::from_nanos(now + self.clock_ahead)
    }

    /// Asks the core when it wants to be woken next.
    pub fn refresh_due(&mut self, now: Nanoseconds) {
        let clock = self.clock(now);
        self.due = match &mut self.tunnel {
            Some(tunnel) => {
                let (at, _) = tunnel.poll_timeout(clock);
                at.as_nanos().saturating_sub(self.clock_ahead).max(now).max(self.stalled_until)
            }
            None => Nanoseconds::MAX,
        };
    }

    /// Whether it gets a CPU now.
    #[must_use]
    pub const fn is_awake(&self, now: Nanoseconds) -> bool {
        self.tunnel.is_some() && now >= self.stalled_until
    }

    /// Whether it takes what comes now: it is awake, and nothing that came before waits.
    #[must_use]
    pub fn is_free(&self, now: Nanoseconds) -> bool {
        self.is_awake(now) && self.waiting.is_empty()
    }

    /// Leaves something for when it is awake again; false if there is no room, or nobody there.
    pub fn leave(&mut self, waiting: Waiting<D>) -> bool {
        let is_full = matches!(waiting, Waiting::Frame(..)) && self.waiting.len() >= TAP_QUEUE;
        if is_full || self.tunnel.is_none() {
            return false;
        }
        self.waiting.push_back(waiting);
        true
    }

    /// The uplinks that can be used, and those of them that are up.
    #[must_use]
    pub fn uplinks(&self) -> [UplinkSet; 2] {
        let Some(tunnel) = &self.tunnel else { return [UplinkSet::EMPTY; 2] };
        let attached = tunnel.attached();
        let up = attached.iter().filter(|uplink| tunnel.uplink(*uplink).state() == State::Up).collect();
        [attached, up]
    }
}

/// Does `step` to a core, and returns what it counted as dropped, if anything.
pub fn watch_drops(tunnel: &mut Tunnel<Bytes>, step: impl FnOnce(&mut Tunnel<Bytes>)) -> Option<DropReason> {
    let before = tunnel.drops().total();
    let counters = tunnel.drops().clone();
    step(tunnel);
    if tunnel.drops().total() == before { None } else { first_difference(&counters, tunnel.drops()) }
}

fn first_difference(before: &DropCounters, after: &DropCounters) -> Option<DropReason> {
    DropReason::ALL.into_iter().find(|reason| after.get(*reason) > before.get(*reason))
}

/// How a datagram reaches the core of `end`: by an uplink's socket, or from an address.
pub const fn arrival(end: usize, uplink: UplinkId, path: crate::proto::tunnel::Path) -> Arrival {
    if end == BOX { Arrival::Uplink(uplink) } else { Arrival::Path(path) }
}
