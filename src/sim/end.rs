//! One end in a simulated world: the core with its own clock, and the little that a shell has around it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;

use super::Nanoseconds;
use super::plan::{BOX, EndPlan, Plan};
use super::random::Random;
use crate::proto::endpoint::{Endpoint, Security};
use crate::proto::session::cipher::Ciphers;
use crate::proto::session::initiator::{Initiator, InitiatorSettings};
use crate::proto::session::keys::{PresharedKey, PrivateKey};
use crate::proto::session::responder::{Admitted, Responder};
use crate::proto::session::{Host, Identity};
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
    pub endpoint: Option<Endpoint<Bytes>>,
    /// What the core has from the machine.
    pub host: SeededHost,
    rekey_interval: Option<Duration>,
    /// How far its clock is ahead of the world's.
    pub clock_ahead: Nanoseconds,
    /// When it has something to do.
    pub due: Nanoseconds,
    /// Until when it has no CPU.
    pub stalled_until: Nanoseconds,
    /// Datagrams that may be asked for again, with the numbers of their frames, by their numbers in the tunnel.
    pub kept: BTreeMap<u64, (u64, Bytes)>,
    /// What waits meanwhile.
    pub waiting: VecDeque<Waiting<D>>,
    settings: Settings,
    /// What is to go wrong in each core that is started here.
    #[cfg(test)]
    pub sabotage: Option<crate::proto::receive::Sabotage>,
}

impl<D> End<D> {
    /// An end of `plan` that does not run yet.
    #[must_use]
    pub fn new(plan: &Plan, end: usize) -> Self {
        let own: &EndPlan = &plan.ends[end];
        let uplinks = plan.uplinks.iter().map(|uplink| UplinkSettings {
            name: uplink.name,
            weight: uplink.weight,
            limits: uplink.limits,
        });
        let settings = Settings {
            role: if end == BOX { Role::Box } else { Role::Gateway },
            epoch: 0,
            first_sequence: own.first_sequence,
            scheduler: own.scheduler.clone(),
            window: own.window,
            window_follows: own.window_follows,
            probe_interval: own.probe_interval,
            tap_mtu: plan.tap_mtu,
            uplinks: if end == BOX { uplinks.collect() } else { vec![] },
        };
        Self {
            endpoint: None,
            host: SeededHost { random: Random::new(plan.seed ^ end as u64), time_of_day: Duration::ZERO },
            rekey_interval: plan.rekey_interval,
            clock_ahead: own.clock_origin,
            due: Nanoseconds::MAX,
            stalled_until: 0,
            kept: BTreeMap::new(),
            waiting: VecDeque::new(),
            settings,
            #[cfg(test)]
            sabotage: None,
        }
    }

    /// Starts the process.
    pub fn start(&mut self, now: Nanoseconds, epoch: u64) {
        self.settings.epoch = epoch;
        let tunnel = Tunnel::new(self.clock(now), &self.settings);
        let security = self.security();
        self.endpoint = Some(Endpoint::new(vec![tunnel], security));
        #[cfg(test)]
        if let (Some(endpoint), Some(sabotage)) = (&mut self.endpoint, self.sabotage) {
            endpoint.tunnel_mut(0).sabotage(sabotage);
        }
        self.due = now;
    }

    fn security(&mut self) -> Security {
        let Some(rekey_interval) = self.rekey_interval else { return Security::Plaintext };
        let keys = [1, 2].map(|byte| PrivateKey::from_random([byte; 32]));
        let [of_box, of_gateway] = keys.each_ref().map(PrivateKey::public);
        let [private_key_of_box, private_key_of_gateway] = keys;
        let identity = |private_key| Identity { private_key, ciphers: Ciphers::ALL, epoch: self.settings.epoch };
        let preshared = PresharedKey::NONE;
        match self.settings.role {
            Role::Box => {
                let identity = identity(private_key_of_box);
                let settings = InitiatorSettings { identity, peer: of_gateway, preshared, rekey_interval };
                Security::Box(Box::new(Initiator::new(&mut self.host, settings)))
            }
            Role::Gateway => {
                let identity = identity(private_key_of_gateway);
                let admitted = vec![Admitted { peer: of_box, preshared }];
                Security::Gateway(Box::new(Responder::new(&mut self.host, identity, 0, admitted)))
            }
        }
    }

    /// The tunnel, while the process runs.
    #[must_use]
    pub fn tunnel(&self) -> Option<&Tunnel<Bytes>> {
        self.endpoint.as_ref().map(|endpoint| &endpoint.tunnels()[0])
    }

    /// See [`Self::tunnel`].
    pub fn tunnel_mut(&mut self) -> Option<&mut Tunnel<Bytes>> {
        self.endpoint.as_mut().map(|endpoint| endpoint.tunnel_mut(0))
    }

    /// Ends the process.
    pub fn stop(&mut self) {
        self.endpoint = None;
        self.due = Nanoseconds::MAX;
        self.waiting.clear();
        self.kept.clear();
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
        self.due = match &mut self.endpoint {
            Some(endpoint) => {
                let (at, _) = endpoint.poll_timeout(clock);
                at.as_nanos().saturating_sub(self.clock_ahead).max(now).max(self.stalled_until)
            }
            None => Nanoseconds::MAX,
        };
    }

    /// Whether it gets a CPU now.
    #[must_use]
    pub const fn is_awake(&self, now: Nanoseconds) -> bool {
        self.endpoint.is_some() && now >= self.stalled_until
    }

    /// Whether it takes what comes now: it is awake, and nothing that came before waits.
    #[must_use]
    pub fn is_free(&self, now: Nanoseconds) -> bool {
        self.is_awake(now) && self.waiting.is_empty()
    }

    /// Leaves something for when it is awake again; false if there is no room, or nobody there.
    pub fn leave(&mut self, waiting: Waiting<D>) -> bool {
        let is_full = matches!(waiting, Waiting::Frame(..)) && self.waiting.len() >= TAP_QUEUE;
        if is_full || self.endpoint.is_none() {
            return false;
        }
        self.waiting.push_back(waiting);
        true
    }

    /// The uplinks that can be used, and those of them that are up.
    #[must_use]
    pub fn uplinks(&self) -> [UplinkSet; 2] {
        let Some(tunnel) = self.tunnel() else { return [UplinkSet::EMPTY; 2] };
        let attached = tunnel.attached();
        let used = attached.without(tunnel.leaving());
        let up = used.iter().filter(|uplink| tunnel.uplink(*uplink).state() == State::Up).collect();
        [attached, up]
    }

    /// These without those whose budgets are spent, if there are others.
    #[must_use]
    pub fn affordable(&self, uplinks: UplinkSet) -> UplinkSet {
        let rest = uplinks.without(self.tunnel().map_or(UplinkSet::EMPTY, Tunnel::spent));
        if rest.is_empty() { uplinks } else { rest }
    }
}

/// Does `step` to a core, and returns what it counted as dropped, if anything.
pub fn watch_drops(endpoint: &mut Endpoint<Bytes>, step: impl FnOnce(&mut Endpoint<Bytes>)) -> Option<DropReason> {
    let drops = |endpoint: &Endpoint<Bytes>| [endpoint.drops().clone(), endpoint.tunnels()[0].drops().clone()];
    let before = drops(endpoint);
    step(endpoint);
    let after = drops(endpoint);
    before.iter().zip(&after).find_map(|(before, after)| first_difference(before, after))
}

/// Randomness that follows from a seed, and the world's time of day.
pub struct SeededHost {
    random: Random,
    /// What the machine's clock says.
    pub time_of_day: Duration,
}

impl Host for SeededHost {
    fn fill_random(&mut self, bytes: &mut [u8]) {
        bytes.iter_mut().for_each(|byte| *byte = (self.random.next() >> 56) as u8);
    }

    fn time_of_day(&mut self) -> Duration {
        self.time_of_day
    }
}

fn first_difference(before: &DropCounters, after: &DropCounters) -> Option<DropReason> {
    // Whatever is handed in can have a frame dropped that has waited for long, or has become too long.
    let is_of_waiting = |reason: &DropReason| matches!(reason, DropReason::TooLate | DropReason::PathMtu);
    let of_this = DropReason::ALL.into_iter().filter(|reason| !is_of_waiting(reason));
    of_this.into_iter().find(|reason| after.get(*reason) > before.get(*reason))
}

/// How a datagram reaches the core of `end`: by an uplink's socket, or from an address.
pub const fn arrival(end: usize, uplink: UplinkId, path: crate::proto::tunnel::Path) -> Arrival {
    if end == BOX { Arrival::Uplink(uplink) } else { Arrival::Path(path) }
}
