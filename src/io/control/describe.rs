//! How a tunnel is, in the words of [`crate::control`].

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hdrhistogram::serialization::{Serializer, V2Serializer};

use crate::control::{
    Adaptive, Answer, BudgetStatus, Histogram, Peer, Process, Quantiles, Quantity, Received, Sent, Status, UplinkStatus,
};
use crate::io::Tunnel;
use crate::io::times::TunnelTimes;
use crate::proto::histogram::TimeHistogram;
use crate::proto::stats::DropReason;
use crate::proto::time::Instant;
use crate::proto::tunnel::Path;
use crate::proto::uplink::UplinkId;
use crate::proto::uplink::measure::PartsPerMillion;

/// Bits in a megabit.
const MEGABIT: f64 = 1e6;

/// What the shell knows of an uplink.
#[derive(Clone, Debug, Default)]
pub struct UplinkFacts {
    /// Its interface (at the box).
    pub device: Option<String>,
    /// The address that datagrams leave from (at the box).
    pub local: Option<String>,
    /// The address that they go to.
    pub remote: Option<String>,
    /// What it has carried of its budget.
    pub budget: Option<BudgetStatus>,
}

/// What the shell knows of a tunnel.
pub struct TunnelFacts<'a> {
    /// The process that it is in.
    pub process: Process,
    /// The box's name, at a gateway of several.
    pub name: Option<String>,
    /// The TAP.
    pub tap: String,
    /// The window as it was asked for.
    pub window: String,
    /// What frames are sealed with.
    pub cipher: Option<&'static str>,
    /// How long frames take through here.
    pub times: &'a TunnelTimes,
    /// What of each uplink is asked for.
    pub uplink: &'a dyn Fn(UplinkId, Option<Path>) -> UplinkFacts,
}

/// How a tunnel is.
#[must_use]
pub fn status(now: Instant, tunnel: &Tunnel, facts: TunnelFacts<'_>) -> Status {
    let (counters, is_adaptive) = (tunnel.counters(), tunnel.is_adaptive());
    let drops = &counters.drops;
    let sum = |reasons: &[DropReason]| reasons.iter().map(|reason| drops.get(*reason)).sum();
    let capacity = tunnel.capacity();
    let in_adaptive = |bits: u64| known_rate(bits).filter(|_| is_adaptive);
    Status {
        process: facts.process,
        name: facts.name,
        tap: facts.tap,
        mtu: tunnel.tap_mtu(),
        mode: tunnel.mode().name().to_owned(),
        window_ms: tunnel.window().map(milliseconds),
        window: facts.window,
        peer: Peer {
            is_known: tunnel.has_peer(),
            is_heard: tunnel.is_peer_heard(),
            cipher: facts.cipher.map(str::to_owned),
        },
        capacity_mbps: in_adaptive(capacity.now),
        safe_mbps: in_adaptive(capacity.safe),
        tx: Sent { packets: counters.sent.packets, bytes: counters.sent.bytes, waiting: counters.waiting },
        rx: Received {
            delivered: counters.delivered.packets,
            delivered_bytes: counters.delivered.bytes,
            duplicates: drops.get(DropReason::Duplicate),
            reordered: counters.receive.reordered,
            late: drops.get(DropReason::Late),
            lost: counters.receive.lost,
            restored: counters.receive.restored,
            malformed: sum(&MALFORMED),
            unauthenticated: sum(&UNAUTHENTICATED),
            held: tunnel.held() as u64,
            hold_ms: quantiles(tunnel.holds(), 1e3),
        },
        adaptive: tunnel.sender_counters().map(|sender| Adaptive {
            too_late: sender.too_late,
            resent: sender.resent,
            duplicated: sender.duplicated,
            given_up: sender.given_up,
            explored: sender.explored,
            parities: sender.parities,
        }),
        drops: drops.nonzero().map(|(reason, count)| (reason.name().to_owned(), count)).collect(),
        uplinks: tunnel.named().iter().map(|id| uplink(now, tunnel, id, (facts.uplink)(id, tunnel.path(id)))).collect(),
        tap_to_wire_us: quantiles(facts.times.tap_to_wire.times(), 1e6),
        wire_to_tap_us: quantiles(facts.times.wire_to_tap.times(), 1e6),
    }
}

/// Datagrams that nobody could make sense of.
const MALFORMED: [DropReason; 8] = [
    DropReason::Truncated,
    DropReason::Version,
    DropReason::ChecksumOrRouting,
    DropReason::ReservedBits,
    DropReason::ProtocolType,
    DropReason::HandshakeMalformed,
    DropReason::Checksum,
    DropReason::ControlMalformed,
];

/// Datagrams that are not the peer's.
const UNAUTHENTICATED: [DropReason; 7] = [
    DropReason::UnknownSession,
    DropReason::Unsealed,
    DropReason::Unauthenticated,
    DropReason::HandshakeMac,
    DropReason::HandshakeRejected,
    DropReason::HandshakeReplayed,
    DropReason::UnknownSource,
];

fn uplink(now: Instant, tunnel: &Tunnel, id: UplinkId, facts: UplinkFacts) -> UplinkStatus {
    let uplink = tunnel.uplink(id);
    let measured = &uplink.measurements;
    let [sent, received] = uplink.carried();
    let share = |share: Option<PartsPerMillion>| share.map(|PartsPerMillion(share)| f64::from(share) / 1e6);
    UplinkStatus {
        number: id.number(),
        name: uplink.name.as_str().to_owned(),
        state: uplink.state().name().to_owned(),
        state_for_s: now.since(uplink.state_since()).as_secs_f64(),
        is_leaving: tunnel.leaving().contains(id),
        device: facts.device,
        local: facts.local,
        remote: facts.remote,
        seen_as: tunnel.seen_as(id).map(|address| address.to_string()),
        path_mtu: tunnel.path_mtu(id),
        rtt_ms: measured.round_trip().map(|round_trip| milliseconds(round_trip.smoothed)),
        jitter_ms: milliseconds(measured.jitter()),
        queueing_ms: measured.queueing_delay().map(milliseconds),
        loss: share(measured.loss_sending()),
        loss_receiving: share(measured.loss_receiving()),
        tx_packets: sent.packets,
        rx_packets: received.packets,
        tx_bytes: sent.bytes,
        rx_bytes: received.bytes,
        capacity_mbps: known_rate(tunnel.uplink_capacity(id)),
        delivered_mbps: measured.delivered_bits_per_second().map(|rate| rate as f64 / MEGABIT),
        weight: uplink.weight,
        max_rate_mbps: uplink.limits.rate_max.map(|rate| rate as f64 * 8.0 / MEGABIT),
        is_metered: uplink.limits.is_metered,
        budget: facts.budget,
    }
}

/// The histogram of this number that a tunnel has, or none; `None` if it has no more numbers.
#[must_use]
pub fn histogram(number: usize, tunnel: &Tunnel, tap: &str, times: &TunnelTimes) -> Option<Option<Answer>> {
    let of_tunnel = |of, times| Some(describe(of, Some(tap), None, times));
    Some(match number {
        0 => of_tunnel(Quantity::Hold, tunnel.holds()),
        1 => of_tunnel(Quantity::TapToWire, times.tap_to_wire.times()),
        2 => of_tunnel(Quantity::WireToTap, times.wire_to_tap.times()),
        _ => {
            let id = UplinkId::new(u8::try_from((number - 3) / 2).ok()?)?;
            let uplink = tunnel.uplink(id);
            let times = uplink.times.as_ref().filter(|_| !uplink.name.as_str().is_empty());
            times.map(|times| {
                let (of, times) = if number % 2 == 1 {
                    (Quantity::Rtt, &times.round_trip)
                } else {
                    (Quantity::DelayVariation, &times.delay_variation)
                };
                describe(of, Some(tap), Some(uplink.name.as_str()), times)
            })
        }
    })
}

/// A histogram, told.
#[must_use]
pub fn describe(of: Quantity, tap: Option<&str>, uplink: Option<&str>, times: &TimeHistogram) -> Answer {
    let mut bytes = vec![];
    // There is room: it is memory.
    let _ = V2Serializer::new().serialize(times.counts(), &mut bytes);
    let data = BASE64_STANDARD.encode(bytes);
    Answer::Histogram(Histogram { of, tap: tap.map(str::to_owned), uplink: uplink.map(str::to_owned), data })
}

/// In so many parts of a second.
#[must_use]
pub fn quantiles(times: &TimeHistogram, per_second: f64) -> Quantiles {
    let scaled = |time: Duration| time.as_secs_f64() * per_second;
    Quantiles { p50: scaled(times.percentile(50.0)), p99: scaled(times.percentile(99.0)), max: scaled(times.max()) }
}

/// In Mbit/s; none if nothing is known yet.
fn known_rate(bits_per_second: u64) -> Option<f64> {
    (bits_per_second > 0).then_some(bits_per_second as f64 / MEGABIT)
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
