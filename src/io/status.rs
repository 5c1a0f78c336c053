//! What the log says of the tunnel.

use std::collections::VecDeque;
use std::time::Duration;

use tracing::Level;

use super::{Endpoint, Tunnel, sys};
use crate::control;
use crate::proto::stats::DropCounters;
use crate::proto::time::{Instant, nanos};
use crate::proto::tunnel::Event;
use crate::proto::uplink::UplinkId;
use crate::proto::uplink::measure::PartsPerMillion;
use crate::proto::uplink::state::State;

/// So many events are remembered for whoever asks.
const EVENTS_TOLD_MAX: usize = 256;
/// See [`crate::logging`], which writes each of them.
const EVENT_TARGET: &str = "braid::event";
/// Events that may be logged one after the other, and how long until there may be one more.
const EVENTS_AT_ONCE_MAX: u32 = 256;
const EVENT_EVERY: Duration = Duration::from_millis(50);

/// Logs events, but no more of them than a disk bears: without keys, whoever can send a datagram can cause some.
pub struct EventLog {
    /// The newest, for whoever asks, and the number of the next.
    told: VecDeque<control::Event>,
    next_number: u64,
    /// How many may be logged now.
    allowance: u32,
    /// Up to when the allowance has grown.
    grown_to: Instant,
    unlogged: u64,
}

impl EventLog {
    /// Nothing logged yet.
    #[must_use]
    pub fn new() -> Self {
        let told = VecDeque::with_capacity(EVENTS_TOLD_MAX);
        Self { told, next_number: 1, allowance: EVENTS_AT_ONCE_MAX, grown_to: Instant::ZERO, unlogged: 0 }
    }

    /// Logs an event, one line; `lost_before` are those that the core has had to drop.
    pub fn log(&mut self, now: Instant, tap: &str, tunnel: &Tunnel, event: &Event, lost_before: u64) {
        self.unlogged += lost_before;
        if self.may_log(now) {
            let (level, text) = describe(tunnel, event);
            self.tell(tap, level, text);
        }
    }

    /// Logs something that has happened, and remembers it.
    pub fn tell(&mut self, tap: &str, level: Level, text: String) {
        match level {
            Level::WARN => tracing::warn!(target: EVENT_TARGET, "{text}"),
            Level::INFO => tracing::info!(target: EVENT_TARGET, "{text}"),
            _ => {
                tracing::debug!(target: EVENT_TARGET, "{text}");
                return;
            }
        }
        if self.told.len() == EVENTS_TOLD_MAX {
            self.told.pop_front();
        }
        self.told.push_back(control::Event {
            number: self.next_number,
            at_ms: sys::time_of_day_ms(),
            tap: tap.to_owned(),
            is_warning: level == Level::WARN,
            text,
        });
        self.next_number += 1;
    }

    /// The first remembered event with a higher number than this.
    #[must_use]
    pub fn after(&self, number: u64) -> Option<&control::Event> {
        self.told.iter().find(|event| event.number > number)
    }

    /// Whether a line may be logged now of what the peer has caused. Tells first of those that were not.
    pub fn may_log(&mut self, now: Instant) -> bool {
        let admitted = self.admit(now);
        if let Some(unlogged @ 1..) = admitted {
            tracing::warn!("{unlogged} events were not logged");
        }
        admitted.is_some()
    }

    /// Whether an event may be logged now, and then how many have not been since the last one that was.
    fn admit(&mut self, now: Instant) -> Option<u64> {
        if self.allowance == EVENTS_AT_ONCE_MAX {
            self.grown_to = now;
        }
        let grown = (nanos(now.since(self.grown_to)) / nanos(EVENT_EVERY)) as u32;
        self.grown_to = self.grown_to + EVENT_EVERY * grown;
        self.allowance = self.allowance.saturating_add(grown).min(EVENTS_AT_ONCE_MAX);
        match self.allowance.checked_sub(1) {
            Some(left) => {
                self.allowance = left;
                Some(std::mem::take(&mut self.unlogged))
            }
            None => {
                self.unlogged += 1;
                None
            }
        }
    }
}

/// How much an event matters, and what it is.
fn describe(tunnel: &Tunnel, event: &Event) -> (Level, String) {
    match event {
        Event::Uplink(uplink, change) => {
            let name = tunnel.uplink(*uplink).name;
            let (from, to, reason) = (change.from.name(), change.to.name(), change.reason);
            let level = if change.to == State::Up { Level::INFO } else { Level::WARN };
            (level, format!("uplink {name}: {from} -> {to}: {reason}"))
        }
        Event::Moved { uplink, from: None, to } => {
            (Level::INFO, format!("uplink {}: is at {}", uplink.number(), to.remote))
        }
        Event::Moved { uplink, from: Some(from), to } => {
            let name = tunnel.uplink(*uplink).name;
            (Level::INFO, format!("uplink {name}: has moved from {} to {}", from.remote, to.remote))
        }
        Event::Removed { name } => (Level::INFO, format!("uplink {name}: it is gone")),
        Event::PeerFound => (Level::INFO, "the peer has been found".to_owned()),
        Event::PeerRestarted => (Level::WARN, "the peer has restarted".to_owned()),
        Event::PeerLeft => (Level::WARN, "the peer has stopped".to_owned()),
        Event::PeerMtu(mtu) => (Level::DEBUG, format!("the peer can bear a TAP MTU of {mtu}")),
        Event::PathMtu { uplink, limit: Some(limit) } => (
            Level::WARN,
            format!(
                "uplink {}: carries IP packets of up to {limit} bytes: longer frames go by other uplinks, as far as those \
                 carry them",
                tunnel.uplink(*uplink).name
            ),
        ),
        Event::PathMtu { uplink, limit: None } => {
            (Level::INFO, format!("uplink {}: carries the longest frames again", tunnel.uplink(*uplink).name))
        }
        Event::TapMtu(mtu) => (Level::DEBUG, format!("both ends can bear a TAP MTU of {mtu}")),
        Event::Sealed { cipher, is_first: true } => (Level::INFO, format!("sealed with {}", cipher.name())),
        Event::Sealed { cipher, is_first: false } => (Level::DEBUG, format!("new keys, for {}", cipher.name())),
        Event::Unanswered => (
            Level::WARN,
            "the gateway does not answer: it may be unreachable, or not know our public key; --peer may not be its key, or \
             --preshared-key-file not the one it has; or this machine's clock is behind what it has said before"
                .to_owned(),
        ),
        Event::CipherRefused => (Level::WARN, "the peer offers no cipher that --cipher allows here".to_owned()),
        Event::Resynchronised(uplink) => (
            Level::WARN,
            format!(
                "uplink {}: the peer's count contradicts frames that came by it: order begun anew",
                tunnel.uplink(*uplink).name
            ),
        ),
    }
}

/// Logs all counters: a line for each tunnel and one for each of its uplinks. `buffers_in_use` are the packet buffers that are
/// neither free nor waiting for what may come.
pub fn log_counters(now: Instant, endpoint: &Endpoint, names: &TunnelNames, buffers_in_use: usize) {
    let tunnels = endpoint.tunnels();
    for (number, tunnel) in tunnels.iter().enumerate() {
        let _named = names.enter(number);
        // What came before it was known which tunnel it was for is the only tunnel's, if there is one only.
        let strangers = if tunnels.len() == 1 { endpoint.drops().clone() } else { DropCounters::default() };
        log_tunnel(now, tunnel, &strangers, buffers_in_use);
    }
    if tunnels.len() > 1 {
        tracing::info!("counters of what was for no box: dropped: {}", list(endpoint.drops()));
    }
}

/// What the logs call the tunnels of a gateway that has several.
pub struct TunnelNames(Vec<tracing::Span>);

impl TunnelNames {
    /// Names for tunnels in the order of their numbers; none if there is only one.
    #[must_use]
    pub fn new(names: &[String]) -> Self {
        let spans = names.iter().map(|name| tracing::info_span!("box", name));
        Self(if names.len() > 1 { spans.collect() } else { vec![] })
    }

    /// Has what is logged until the return value is dropped be of tunnel `number`.
    pub fn enter(&self, number: usize) -> Option<tracing::span::Entered<'_>> {
        self.0.get(number).map(tracing::Span::enter)
    }
}

fn list(drops: &DropCounters) -> String {
    let drops: Vec<String> = drops.nonzero().map(|(reason, count)| format!("{}={count}", reason.name())).collect();
    if drops.is_empty() { "nothing".to_owned() } else { drops.join(" ") }
}

fn log_tunnel(now: Instant, tunnel: &Tunnel, strangers: &DropCounters, buffers_in_use: usize) {
    let mut counters = tunnel.counters();
    strangers.nonzero().for_each(|(reason, count)| counters.drops.add_many(reason, count));
    tracing::info!(
        "counters: sent={} delivered={} reordered={} lost={} restored={} held={} hold_max_ms={:.1} \
         buffers_in_use={buffers_in_use} dropped: {}",
        counters.sent.packets,
        counters.delivered.packets,
        counters.receive.reordered,
        counters.receive.lost,
        counters.receive.restored,
        tunnel.held(),
        tunnel.holds().max().as_secs_f64() * 1e3,
        list(&counters.drops),
    );
    if let Some(sender) = tunnel.sender_counters() {
        tracing::info!(
            "adaptive: waiting={} resent={} duplicated={} given_up={} explored={} parities={}",
            counters.waiting,
            sender.resent,
            sender.duplicated,
            sender.given_up,
            sender.explored,
            sender.parities
        );
    }
    tunnel.named().iter().for_each(|uplink| log_uplink(now, tunnel, uplink));
}

fn log_uplink(now: Instant, tunnel: &Tunnel, uplink: UplinkId) {
    let uplink = tunnel.uplink(uplink);
    let measured = &uplink.measurements;
    let milliseconds =
        |time: Option<Duration>| time.map_or("-".to_owned(), |time| format!("{:.1}", time.as_secs_f64() * 1e3));
    let percent = |share: Option<PartsPerMillion>| {
        share.map_or("-".to_owned(), |PartsPerMillion(share)| format!("{:.2}", f64::from(share) / 1e4))
    };
    tracing::info!(
        "uplink {}: {} for {:.0?} rtt_ms={} jitter_ms={:.1} queueing_ms={} loss_sending_percent={} \
         loss_receiving_percent={} delivered_mbps={} tx_packets={} tx_bytes={} rx_packets={} rx_bytes={}",
        uplink.name,
        uplink.state().name(),
        now.since(uplink.state_since()),
        milliseconds(measured.round_trip().map(|round_trip| round_trip.smoothed)),
        measured.jitter().as_secs_f64() * 1e3,
        milliseconds(measured.queueing_delay()),
        percent(measured.loss_sending()),
        percent(measured.loss_receiving()),
        measured.delivered_bits_per_second().map_or("-".to_owned(), |rate| format!("{:.2}", rate as f64 / 1e6)),
        uplink.sent.packets,
        uplink.sent.bytes,
        uplink.received.packets,
        uplink.received.bytes,
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_events_is_not_logged_whole_and_what_was_not_is_counted() {
        let mut log = EventLog::new();
        let at = |milliseconds: u64| Instant::from_nanos((1_000_000 + milliseconds) * 1_000_000);
        let logged = (0..1_000).filter(|_| log.admit(at(0)).is_some()).count();
        assert_eq!(logged, EVENTS_AT_ONCE_MAX as usize);
        assert_eq!(log.admit(at(49)), None);
        assert_eq!(log.admit(at(50)), Some(1_000 - logged as u64 + 1));
        assert_eq!(log.admit(at(50)), None);
        let logged = (0..1_000).filter(|_| log.admit(at(3_600_000)).is_some()).count();
        assert_eq!(logged, EVENTS_AT_ONCE_MAX as usize, "an hour's rest is not saved up");
    }
}
