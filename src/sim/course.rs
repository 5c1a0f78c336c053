//! A course: links that somebody has described, what happens to them, and a stream over them from the box to the
//! gateway.
//!
//! Unlike the plans of [`draw`](super::draw) it need not end well, so the oracle asks for no recovery. A seed says
//! where in its trace each uplink begins, and what is random in the links. Times of a course count from the beginning
//! of its stream; the world begins [`BEGIN`] earlier, so that uplinks can be up by then.

use std::sync::Arc;
use std::time::Duration;

use super::link::{LinkSettings, Loss, Reordering};
use super::plan::{BOX, DOWN, EndPlan, GATEWAY, Incident, NEVER, Order, Plan, TrafficPlan, UP, UplinkPlan};
use super::random::Random;
use super::shaper::{Shaper, Trace};
use super::{MILLISECOND, Nanoseconds, SECOND};
use crate::proto::scheduler::{Mode, SchedulerConfig};
use crate::proto::session::transport::OVERHEAD;
use crate::proto::uplink::Limits;
use crate::proto::uplink::UplinkName;
use crate::proto::uplink::measure::PartsPerMillion;
use crate::proto::wire::FRAME_HEADER_LENGTH;

/// When the stream begins, in the world's time: when worlds begin to offer.
pub const BEGIN: Nanoseconds = SECOND;
/// How long the world goes on after the stream, for what still waits on a link whose trace is silent.
const DRAIN: Nanoseconds = 15 * SECOND;
/// What netlink takes to tell of a carrier.
const CARRIER_NEWS_AFTER: Nanoseconds = MILLISECOND;
/// As a box has it unless told otherwise.
const REKEY_INTERVAL: Duration = Duration::from_secs(120);
/// IP and UDP headers of a datagram.
const IP_AND_UDP: usize = 28;
/// What keeps a course's draws from being those of the world of the same seed.
const SALT: u64 = 0x0000_636f_7572_7365;

/// What an uplink carries from the box.
#[derive(Clone, Debug)]
pub enum Capacity {
    /// Whatever there is.
    Unlimited,
    /// So many bits of IP packet per second.
    Rate(u64),
    /// Recorded opportunities.
    Trace {
        /// Milliseconds at which 1,500 bytes may leave; they repeat at their end.
        opportunities: Arc<[u64]>,
        /// How much of them has passed when the stream begins, before the seed adds to it.
        start: Duration,
    },
}

/// An uplink.
#[derive(Clone, Debug)]
pub struct CourseUplink {
    /// What the box calls it.
    pub name: UplinkName,
    /// What it carries from the box.
    pub up: Capacity,
    /// What it carries towards the box, in bits per second; `None` is whatever there is.
    pub rate_down: Option<u64>,
    /// What it is like both ways beside that: the shaper is not looked at.
    pub link: LinkSettings,
    /// How far the box may use it.
    pub limits: Limits,
}

/// What happens to an uplink; both ways, unless it says otherwise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Happening {
    /// It swallows everything in the ways marked, up and down, and goes on swallowing what it swallowed before.
    Blackhole([bool; 2]),
    /// It swallows no more.
    Restore,
    /// The box's interface has a carrier from now on, or none.
    Carrier(bool),
    /// The translation in front of it forgets its mapping.
    Rebind,
    /// Its data budget is spent, or begins anew.
    Spent(bool),
    /// The user of the box wants something else, of this uplink or at all.
    Order(Order),
    /// The user of the gateway does.
    OrderAtGateway(Order),
    /// It carries so many bits per second from the box.
    Rate(u64),
    /// Its one-way delay is this.
    Delay(Duration),
    /// Its jitter is this.
    Jitter(Duration),
    /// It loses this.
    Loss(Loss),
    /// It has this overtaken.
    Reordering(Reordering),
    /// It doubles this share.
    Duplication(PartsPerMillion),
    /// It spoils this share.
    Corruption(PartsPerMillion),
    /// It swallows IP packets of more than so many bytes.
    Mtu(usize),
}

/// Something that happens, when, and to which uplink.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CourseEvent {
    /// When.
    pub at: Nanoseconds,
    /// Which uplink, as a place in [`Course::uplinks`].
    pub uplink: usize,
    /// What.
    pub what: Happening,
}

/// All of it.
#[derive(Clone, Debug)]
pub struct Course {
    /// How both ends spread frames.
    pub mode: Mode,
    /// The window of both ends.
    pub window: Option<Duration>,
    /// Whether the window is as long as the uplinks require, and `window` only a bound.
    pub window_follows: bool,
    /// Whether there are keys.
    pub is_sealed: bool,
    /// The uplinks, 1 to 16.
    pub uplinks: Vec<CourseUplink>,
    /// What happens to them, in order of time.
    pub events: Vec<CourseEvent>,
    /// Bytes of each Ethernet frame of the stream.
    pub frame_length: usize,
    /// From one frame to the next, on average.
    pub interval: Nanoseconds,
    /// So many come at once, as those of a picture do.
    pub burst: u64,
    /// How long the stream lasts.
    pub duration: Nanoseconds,
}

impl Course {
    /// What a world is made of for it, with what follows from `seed`.
    #[must_use]
    pub fn plan(&self, seed: u64) -> Plan {
        let end = EndPlan {
            scheduler: SchedulerConfig::new(self.mode),
            window: self.window,
            window_follows: self.window_follows,
            probe_interval: self.mode.probe_interval(),
            first_sequence: 0,
            clock_origin: 0,
        };
        let stream = TrafficPlan {
            interval: self.interval * self.burst,
            burst: self.burst,
            lengths: (self.frame_length, self.frame_length),
            ..TrafficPlan::NONE
        };
        let quiet_from = BEGIN + self.duration;
        let uplinks: Vec<_> =
            self.uplinks.iter().zip(self.trace_starts(seed)).map(|(uplink, start)| uplink.plan(start)).collect();
        Plan {
            seed,
            ends: [end.clone(), EndPlan { clock_origin: 1_000 * SECOND, ..end }],
            tap_mtu: 1450,
            incidents: self.incidents(&uplinks),
            uplinks,
            traffic: [stream, TrafficPlan::NONE],
            clean_from: NEVER,
            quiet_from,
            until: quiet_from + DRAIN,
            rekey_interval: self.is_sealed.then_some(REKEY_INTERVAL),
        }
    }

    /// How many frames the stream has.
    #[must_use]
    pub const fn frames(&self) -> u64 {
        self.duration.div_ceil(self.interval)
    }

    /// Bytes of the IP packet that carries a frame.
    #[must_use]
    pub const fn packet_length(&self) -> usize {
        self.frame_length + IP_AND_UDP + if self.is_sealed { OVERHEAD } else { FRAME_HEADER_LENGTH }
    }

    /// How much of each uplink's trace has passed when the stream begins, for `seed`; nothing of an uplink without one.
    /// Seed 0 begins where the course says, any other somewhere else in each trace.
    #[must_use]
    pub fn trace_starts(&self, seed: u64) -> Vec<Duration> {
        let mut random = Random::new(seed ^ SALT);
        let start = |uplink: &CourseUplink| {
            let draw = random.next();
            let Capacity::Trace { opportunities, start } = &uplink.up else { return Duration::ZERO };
            let shift_ms = if seed == 0 { 0 } else { Random::new(draw).below(period_ms(opportunities)) };
            *start + Duration::from_millis(shift_ms)
        };
        self.uplinks.iter().map(start).collect()
    }

    fn incidents(&self, uplinks: &[UplinkPlan]) -> Vec<(Nanoseconds, Incident)> {
        let mut ways: Vec<_> = uplinks.iter().map(|uplink| uplink.ways.clone()).collect();
        let mut holes = vec![[false; 2]; uplinks.len()];
        let mut incidents = vec![];
        for CourseEvent { at, uplink, what } in self.events.iter().copied() {
            let at = BEGIN + at;
            match what {
                Happening::Blackhole(more) => {
                    holes[uplink] = [UP, DOWN].map(|way| holes[uplink][way] || more[way]);
                    incidents.push((at, Incident::Blackhole { uplink, ways: holes[uplink] }));
                }
                Happening::Restore => {
                    holes[uplink] = [false; 2];
                    incidents.push((at, Incident::Restore { uplink }));
                }
                Happening::Carrier(up) => {
                    incidents.push((at, Incident::Carrier { uplink, up }));
                    incidents.push((at + CARRIER_NEWS_AFTER, Incident::CarrierNews { uplink }));
                }
                Happening::Spent(is_spent) => incidents.push((at, Incident::Spent { uplink, is_spent })),
                Happening::Order(order) => incidents.push((at, Incident::Order { end: BOX, order })),
                Happening::OrderAtGateway(order) => incidents.push((at, Incident::Order { end: GATEWAY, order })),
                Happening::Rebind => incidents.push((at, Incident::Rebind { uplink })),
                change => {
                    for way in [UP, DOWN] {
                        change.alter(way, &mut ways[uplink][way]);
                        let settings = Box::new(ways[uplink][way].clone());
                        incidents.push((at, Incident::Change { uplink, way, settings }));
                    }
                }
            }
        }
        incidents.sort_by_key(|(at, _)| *at);
        incidents
    }
}

impl CourseUplink {
    /// The plan of it, `start` of whose trace has passed when the stream begins.
    fn plan(&self, start: Duration) -> UplinkPlan {
        let rate = |rate: Option<u64>| rate.map_or(Shaper::Unlimited, Shaper::Rate);
        let up = match &self.up {
            Capacity::Unlimited => Shaper::Unlimited,
            Capacity::Rate(rate) => Shaper::Rate(*rate),
            // The world is older than the stream, and the trace repeats.
            Capacity::Trace { opportunities, .. } => {
                let (period, lead) = (period_ms(opportunities), BEGIN / MILLISECOND);
                let start_ms = start.as_millis() as u64 % period + lead.div_ceil(period) * period - lead;
                Shaper::Trace(Trace::new(opportunities.clone(), 0, Duration::from_millis(start_ms)))
            }
        };
        let ways = [up, rate(self.rate_down)].map(|shaper| LinkSettings { shaper, ..self.link.clone() });
        UplinkPlan { name: self.name, weight: 1, limits: self.limits, healed: ways.clone(), ways }
    }
}

impl Happening {
    /// What a link in direction `way` is like after it.
    fn alter(self, way: usize, link: &mut LinkSettings) {
        match self {
            Self::Rate(rate) if way == UP => link.shaper = Shaper::Rate(rate),
            Self::Delay(delay) => link.delay = delay,
            Self::Jitter(jitter) => link.jitter = jitter,
            Self::Loss(loss) => link.loss = loss,
            Self::Reordering(reordering) => link.reordering = reordering,
            Self::Duplication(share) => link.duplication = share,
            Self::Corruption(share) => link.corruption = share,
            Self::Mtu(longest) => link.longest = Some(longest),
            Self::Rate(_)
            | Self::Blackhole(_)
            | Self::Restore
            | Self::Carrier(_)
            | Self::Rebind
            | Self::Spent(_)
            | Self::Order(_)
            | Self::OrderAtGateway(_) => {}
        }
    }
}

/// After how many milliseconds a trace repeats.
#[must_use]
pub fn period_ms(opportunities: &[u64]) -> u64 {
    opportunities.last().copied().unwrap_or(1).max(1)
}
