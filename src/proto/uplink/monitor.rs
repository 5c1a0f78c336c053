//! One uplink: what came by it and went by it, and what follows for its state.

use std::time::Duration;

use super::measure::Measurements;
use super::state::{Reason, Signs, State, StateMachine, Transition};
use super::{Limits, UplinkName};
use crate::proto::histogram::TimeHistogram;
use crate::proto::seq;
use crate::proto::stats::Traffic;
use crate::proto::time::Instant;

/// The receiver calls an uplink silent after this many missed probes.
const SILENT_AFTER_PROBES: u32 = 3;
/// The sender suspects an uplink after this many unanswered ones: one more, because the receiver's word, which
/// comes by the other uplinks, is the surer sign.
const SUSPECT_AFTER_PROBES: u32 = 4;
/// A suspect uplink falls after as many more.
const DOWN_AFTER_PROBES: u32 = 10;
/// How much variation of delay is allowed for, in units of what is measured.
const VARIATIONS_ALLOWED: u32 = 4;
/// Variation is allowed for up to this much: beyond, failing over is better than waiting.
const VARIATION_ALLOWANCE_MAX: Duration = Duration::from_millis(300);
/// The slowest that a peer may announce its probes; a longer announcement is not believed.
const PEER_INTERVAL_MAX: Duration = Duration::from_secs(5);

/// What is owed to a probe.
#[derive(Clone, Copy, Debug)]
pub struct Echo {
    /// The probe's time stamp.
    pub sent_at: u64,
    /// The probe's count of frames.
    pub sent_packets: u64,
}

/// How long things took by an uplink.
#[derive(Clone, Debug, Default)]
pub struct UplinkTimes {
    /// Round trips of probes.
    pub round_trip: TimeHistogram,
    /// By how much the transit of a probe of the peer differs from that of the one before.
    pub delay_variation: TimeHistogram,
}

/// One uplink.
#[derive(Clone, Debug)]
pub struct Uplink {
    /// What the box calls it.
    pub name: UplinkName,
    /// Its share in `balance-rr`.
    pub weight: u8,
    /// How far it may be used, as the user has said (at the box).
    pub limits: Limits,
    /// Frames sent by it.
    pub sent: Traffic,
    /// Frames received by it.
    pub received: Traffic,
    /// What was sent and received by those that had its place before.
    before: [Traffic; 2],
    /// What is measured of it.
    pub measurements: Measurements,
    /// How long things took by it, since it was attached first.
    pub times: Option<Box<UplinkTimes>>,
    state: StateMachine,
    /// Whether there is a socket, or an address, to send by.
    attached: bool,
    heard_at: Option<Instant>,
    /// From when on its silence counts: one that all uplinks shared says nothing of this one.
    excused_until: Instant,
    peer_interval: Duration,
    confirmed_at: Option<Instant>,
    answered_probe_sent_at: Option<Instant>,
    denied: bool,
    newest_counter: Option<u32>,
    /// Whether what was said last by it was said by the peer.
    is_of_peer: bool,
}

impl Uplink {
    /// An uplink that nothing is known of but what the user said.
    #[must_use]
    pub fn new(now: Instant, name: UplinkName, weight: u8, probe_interval: Duration) -> Self {
        Self {
            name,
            weight,
            limits: Limits::default(),
            sent: Traffic::default(),
            received: Traffic::default(),
            before: [Traffic::default(); 2],
            measurements: Measurements::default(),
            times: None,
            state: StateMachine::new(now),
            attached: false,
            heard_at: None,
            excused_until: now,
            peer_interval: probe_interval,
            confirmed_at: None,
            answered_probe_sent_at: None,
            denied: false,
            newest_counter: None,
            is_of_peer: false,
        }
    }

    /// Another takes its place, and its number on the wire. What has been counted stays, since the peer reckons with it; and
    /// so does which messages are old.
    pub fn replace(&mut self, now: Instant, name: UplinkName, weight: u8, probe_interval: Duration) {
        let Self { sent, received, newest_counter, .. } = *self;
        let before = [sent, received];
        *self = Self { sent, received, before, newest_counter, ..Self::new(now, name, weight, probe_interval) };
    }

    /// Frames sent and received by it since it has its place.
    #[must_use]
    pub fn carried(&self) -> [Traffic; 2] {
        let since = |now: Traffic, before: Traffic| Traffic {
            packets: now.packets - before.packets,
            bytes: now.bytes - before.bytes,
        };
        [since(self.sent, self.before[0]), since(self.received, self.before[1])]
    }

    /// Its state.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state.state()
    }

    /// Since when it has been in that state.
    #[must_use]
    pub const fn state_since(&self) -> Instant {
        self.state.since()
    }

    /// Whether there is a socket, or an address, to send by.
    #[must_use]
    pub const fn is_attached(&self) -> bool {
        self.attached
    }

    /// There is something to send by now.
    pub fn attach(&mut self) {
        self.attached = true;
        self.times.get_or_insert_default();
    }

    /// There is nothing to send by any more, nor to hear by.
    pub fn detach(&mut self, now: Instant, reason: Reason) -> Option<Transition> {
        self.attached = false;
        self.heard_at = None;
        self.fall(now, reason)
    }

    /// Falls at once.
    pub fn fall(&mut self, now: Instant, reason: Reason) -> Option<Transition> {
        self.state.fall(now, reason)
    }

    /// The peer at its other end is a new one, or gone: everything it has said is void.
    pub fn forget_peer(&mut self, now: Instant, reason: Reason) -> Option<Transition> {
        self.heard_at = None;
        self.confirmed_at = None;
        self.answered_probe_sent_at = None;
        self.denied = false;
        self.newest_counter = None;
        self.is_of_peer = false;
        self.measurements = Measurements::default();
        self.state.restart(now, reason)
    }

    /// Whether control message `counter` is newer than all that came by this uplink before; remembers it if so.
    pub fn admit_control(&mut self, counter: u32) -> bool {
        let newer = self.newest_counter.is_none_or(|newest| seq::is_newer(counter, newest));
        if newer {
            self.newest_counter = Some(counter);
            self.is_of_peer = true;
        }
        newer
    }

    /// A former or a coming start of the peer has said something by this uplink.
    pub fn on_stranger(&mut self) {
        self.is_of_peer = false;
    }

    /// Whether frames that come by this uplink are the peer's, as it is now.
    #[must_use]
    pub const fn is_of_peer(&self) -> bool {
        self.is_of_peer
    }

    /// Something of the peer's came by this uplink. If it is detached, that was the last of it.
    #[inline]
    pub fn on_heard(&mut self, now: Instant) {
        if self.attached {
            self.heard_at = Some(now);
        }
    }

    /// A probe came; `next_in` is what it announces.
    pub fn on_probe(&mut self, now: Instant, echo: Echo, next_in: Duration) {
        self.peer_interval = next_in.min(PEER_INTERVAL_MAX);
        let variation = self.measurements.on_probe(now, echo.sent_at, echo.sent_packets, self.received.packets);
        if let (Some(variation), Some(times)) = (variation, &mut self.times) {
            times.delay_variation.record(variation);
        }
    }

    /// A probe of ours was answered.
    pub fn on_reply(&mut self, now: Instant, probe_sent_at: Instant, sent_packets: u64, received: Traffic) {
        self.measurements.on_reply(now, probe_sent_at, sent_packets, received);
        if let Some(times) = &mut self.times {
            times.round_trip.record(now.since(probe_sent_at));
        }
        self.confirmed_at = Some(now);
        self.answered_probe_sent_at = self.answered_probe_sent_at.max(Some(probe_sent_at));
    }

    /// The peer's newest word on whether it hears this uplink.
    pub fn on_peer_hears(&mut self, now: Instant, hears: bool) {
        self.denied = !hears;
        // A peer that has never been answered by this uplink says nothing new; only a reply starts confidence.
        if hears && self.confirmed_at.is_some() {
            self.confirmed_at = Some(now);
        }
    }

    /// Whether the peer is heard on this uplink.
    #[must_use]
    pub fn is_heard(&self, now: Instant) -> bool {
        self.silent_at().is_some_and(|silent_at| now < silent_at)
    }

    /// When the uplink will count as silent unless something comes.
    #[must_use]
    pub fn silent_at(&self) -> Option<Instant> {
        self.heard_at.map(|at| at.max(self.excused_until) + self.patience())
    }

    /// All uplinks have been silent since `all_silent_at`, and one has just been heard again: the sender may have
    /// paused. If this one fell silent with the last of them, it has until its own next datagrams must have come.
    pub fn excuse(&mut self, now: Instant, all_silent_at: Instant) {
        if self.silent_at().is_some_and(|at| at + self.patience() >= all_silent_at) {
            self.excused_until = now;
        }
    }

    /// How long a silence is borne.
    fn patience(&self) -> Duration {
        self.peer_interval * SILENT_AFTER_PROBES + allowance(self.measurements.jitter())
    }

    /// Whether nothing has come for so long that the address may as well be forgotten.
    #[must_use]
    pub fn is_silent_for(&self, now: Instant, long: Duration) -> bool {
        self.heard_at.is_none_or(|at| now.since(at) >= long)
    }

    /// Makes the change of state that is due, if any. Our own probes come every `interval`, since `interval_since`.
    pub fn evaluate(&mut self, now: Instant, interval: Duration, interval_since: Instant) -> Option<Transition> {
        if !self.attached {
            return None;
        }
        let signs = self.signs(interval, interval_since);
        self.state.evaluate(now, &signs)
    }

    /// When [`Self::evaluate`] will have something to do if nothing comes.
    #[must_use]
    pub fn next_change(&self, interval: Duration, interval_since: Instant) -> Option<Instant> {
        self.state.next_change(&self.signs(interval, interval_since))
    }

    fn signs(&self, interval: Duration, interval_since: Instant) -> Signs {
        let round_trip = self.measurements.round_trip();
        let variation = allowance(round_trip.map_or(Duration::ZERO, |rtt| rtt.variation));
        Signs {
            confirmed_at: self.confirmed_at,
            answered_probe_sent_at: self.answered_probe_sent_at,
            denied: self.denied,
            // The first probe of a new rate is answered a round trip later.
            counted_from: interval_since + round_trip.map_or(Duration::ZERO, |rtt| rtt.smoothed),
            suspect_after: interval * SUSPECT_AFTER_PROBES + variation,
            down_after: interval * DOWN_AFTER_PROBES,
        }
    }
}

fn allowance(variation: Duration) -> Duration {
    (variation * VARIATIONS_ALLOWED).min(VARIATION_ALLOWANCE_MAX)
}
