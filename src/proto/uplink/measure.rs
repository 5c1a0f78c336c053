//! What probes and replies tell of an uplink: round-trip time, jitter, loss, rate delivered, queueing delay.

use std::time::Duration;

use super::recent::RecentLeast;
use crate::proto::stats::Traffic;
use crate::proto::time::Instant;

/// How long the shortest round-trip time is remembered: twice this at most.
const RTT_MIN_MEMORY: Duration = Duration::from_secs(10);
/// Over how long loss is counted before it is said.
const LOSS_PERIOD: Duration = Duration::from_secs(1);
/// Over how long the delivered rate is counted before it is said.
const RATE_PERIOD: Duration = Duration::from_millis(200);

/// Round-trip time, smoothed as TCP does (RFC 6298 §2).
#[derive(Clone, Copy, Debug)]
pub struct RoundTrip {
    /// The latest sample.
    pub latest: Duration,
    /// SRTT.
    pub smoothed: Duration,
    /// RTTVAR.
    pub variation: Duration,
}

/// A share of packets, in parts per million.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartsPerMillion(pub u32);

/// Two counters of the same stream, at its beginning and at its end, read at one point of it.
#[derive(Clone, Copy, Debug, Default)]
struct Checkpoint {
    when: Instant,
    sent: u64,
    received: u64,
}

/// Counts what was lost between checkpoints.
#[derive(Clone, Copy, Debug, Default)]
struct LossMeter {
    begun: Option<Checkpoint>,
    loss: Option<PartsPerMillion>,
}

impl LossMeter {
    fn on_checkpoint(&mut self, checkpoint: Checkpoint) {
        let Some(begun) = self.begun else {
            self.begun = Some(checkpoint);
            return;
        };
        let counters_began_anew = checkpoint.sent < begun.sent || checkpoint.received < begun.received;
        if counters_began_anew {
            self.begun = Some(checkpoint);
            return;
        }
        let sent = checkpoint.sent - begun.sent;
        if checkpoint.when.since(begun.when) < LOSS_PERIOD || sent == 0 {
            return;
        }
        let lost = sent.saturating_sub(checkpoint.received - begun.received);
        // The counters are the peer's word, and may be anything.
        self.loss = Some(PartsPerMillion((u128::from(lost) * 1_000_000 / u128::from(sent)) as u32));
        self.begun = Some(checkpoint);
    }
}

/// All that is measured of one uplink.
#[derive(Clone, Copy, Debug, Default)]
pub struct Measurements {
    round_trip: Option<RoundTrip>,
    round_trip_min: Option<RecentLeast<Duration>>,
    /// One-way transit of the last probe, offset by the difference of the clocks.
    transit: Option<i64>,
    jitter_nanos: u64,
    loss_sending: LossMeter,
    loss_receiving: LossMeter,
    delivered: Option<(Instant, Traffic)>,
    delivered_bits_per_second: Option<u64>,
}

impl Measurements {
    /// A probe of the peer has come: `sent_at` by its clock, when it had sent `sent_packets` frames on this uplink,
    /// of which `received_packets` have come. Returns by how much its transit differs from that of the one before.
    pub fn on_probe(
        &mut self,
        now: Instant,
        sent_at: u64,
        sent_packets: u64,
        received_packets: u64,
    ) -> Option<Duration> {
        let transit = now.as_nanos().wrapping_sub(sent_at).cast_signed();
        let previous = self.transit.replace(transit);
        let difference = previous.map(|previous| transit.wrapping_sub(previous).unsigned_abs());
        if let Some(difference) = difference {
            // RFC 3550 §6.4.1: J += (|D| - J) / 16.
            self.jitter_nanos = self.jitter_nanos - self.jitter_nanos / 16 + difference / 16;
        }
        self.loss_receiving.on_checkpoint(Checkpoint { when: now, sent: sent_packets, received: received_packets });
        difference.map(Duration::from_nanos)
    }

    /// A probe of ours, sent at `probe_sent_at` after `sent_packets` frames, has been answered; the peer had received
    /// `received` when it came.
    pub fn on_reply(&mut self, now: Instant, probe_sent_at: Instant, sent_packets: u64, received: Traffic) {
        self.on_round_trip(now, now.since(probe_sent_at));
        let checkpoint = Checkpoint { when: now, sent: sent_packets, received: received.packets };
        self.loss_sending.on_checkpoint(checkpoint);
        self.on_delivered(now, received);
    }

    /// The peer has said how much has reached it by this uplink.
    pub fn on_delivered(&mut self, now: Instant, received: Traffic) {
        let Some((since, before)) = self.delivered else {
            self.delivered = Some((now, received));
            return;
        };
        let elapsed = now.since(since);
        if received.bytes < before.bytes {
            self.delivered = Some((now, received));
        } else if elapsed >= RATE_PERIOD {
            let bits = u128::from(received.bytes - before.bytes) * 8;
            self.delivered_bits_per_second = Some((bits * 1_000_000_000 / elapsed.as_nanos()) as u64);
            self.delivered = Some((now, received));
        }
    }

    fn on_round_trip(&mut self, now: Instant, sample: Duration) {
        self.round_trip = Some(match self.round_trip {
            None => RoundTrip { latest: sample, smoothed: sample, variation: sample / 2 },
            Some(before) => RoundTrip {
                latest: sample,
                variation: (before.variation * 3 + before.smoothed.abs_diff(sample)) / 4,
                smoothed: (before.smoothed * 7 + sample) / 8,
            },
        });
        self.round_trip_min = Some(RecentLeast::after(self.round_trip_min, now, sample, RTT_MIN_MEMORY));
    }

    /// Round-trip time, once a probe has been answered.
    #[must_use]
    pub const fn round_trip(&self) -> Option<RoundTrip> {
        self.round_trip
    }

    /// By how much the latest round trip exceeded the shortest of late: what stood in queues on the way, both ways
    /// together.
    #[must_use]
    pub fn queueing_delay(&self) -> Option<Duration> {
        let minimum = self.round_trip_min?;
        Some(self.round_trip?.latest.saturating_sub(minimum.get()))
    }

    /// How long the peer's last probe took to us, in nanoseconds, offset by the difference of the clocks: comparable
    /// between uplinks.
    #[must_use]
    pub const fn transit(&self) -> Option<i64> {
        self.transit
    }

    /// Variation of the one-way delay towards us (RFC 3550 §6.4.1).
    #[must_use]
    pub const fn jitter(&self) -> Duration {
        Duration::from_nanos(self.jitter_nanos)
    }

    /// Share of our frames lost on the way to the peer during the last full second.
    #[must_use]
    pub const fn loss_sending(&self) -> Option<PartsPerMillion> {
        self.loss_sending.loss
    }

    /// Share of the peer's frames lost on the way to us during the last full second.
    #[must_use]
    pub const fn loss_receiving(&self) -> Option<PartsPerMillion> {
        self.loss_receiving.loss
    }

    /// Rate at which our frames reach the peer by this uplink, in bits of Ethernet frame per second.
    #[must_use]
    pub const fn delivered_bits_per_second(&self) -> Option<u64> {
        self.delivered_bits_per_second
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> Instant {
        Instant::from_nanos(milliseconds * 1_000_000)
    }

    #[test]
    fn round_trips_are_smoothed_and_queueing_is_what_exceeds_the_shortest() {
        let mut measurements = Measurements::default();
        measurements.on_reply(at(40), at(0), 0, Traffic::default());
        measurements.on_reply(at(148), at(100), 0, Traffic::default());
        let round_trip = measurements.round_trip().expect("measured");
        assert_eq!(round_trip.smoothed, Duration::from_millis(41));
        assert_eq!(round_trip.variation, Duration::from_millis(17));
        assert_eq!(measurements.queueing_delay(), Some(Duration::from_millis(8)));
    }

    #[test]
    fn a_longer_way_becomes_the_base_after_a_while() {
        let mut measurements = Measurements::default();
        for second in 0..40 {
            let round_trip = if second < 5 { 20 } else { 80 };
            measurements.on_reply(at(second * 1000 + round_trip), at(second * 1000), 0, Traffic::default());
        }
        assert_eq!(measurements.queueing_delay(), Some(Duration::ZERO));
    }

    #[test]
    fn jitter_does_not_mind_that_the_clocks_differ() {
        let mut measurements = Measurements::default();
        for step in 0..200_u64 {
            let wobble = if step % 2 == 0 { 0 } else { 4 };
            measurements.on_probe(at(1_000_000 + step * 20 + wobble), step * 20_000_000, 0, 0);
        }
        let jitter = measurements.jitter();
        assert!((Duration::from_micros(3900)..=Duration::from_millis(4)).contains(&jitter), "{jitter:?}");
    }

    #[test]
    fn loss_is_counted_per_uplink_and_second() {
        let mut measurements = Measurements::default();
        for tenth in 0..=10 {
            measurements.on_probe(at(tenth * 100), 0, tenth * 100, tenth * 98);
        }
        assert_eq!(measurements.loss_receiving(), Some(PartsPerMillion(20_000)));
    }

    #[test]
    fn counters_that_begin_anew_are_no_loss() {
        let mut measurements = Measurements::default();
        measurements.on_probe(at(0), 0, 5000, 5000);
        measurements.on_probe(at(2000), 0, 10, 10);
        measurements.on_probe(at(4000), 0, 110, 110);
        assert_eq!(measurements.loss_receiving(), Some(PartsPerMillion(0)));
    }

    #[test]
    fn absurd_counters_are_borne() {
        let mut measurements = Measurements::default();
        for (second, sent) in [0, u64::MAX, 7, u64::MAX - 1].into_iter().enumerate() {
            let received = Traffic { packets: sent / 3, bytes: sent };
            measurements.on_probe(at(second as u64 * 2000), u64::MAX - sent, sent, sent / 2);
            measurements.on_reply(at(second as u64 * 2000), Instant::ZERO, sent, received);
        }
        let PartsPerMillion(loss) = measurements.loss_receiving().expect("measured");
        assert!((499_999..=500_000).contains(&loss), "{loss}");
    }

    #[test]
    fn the_delivered_rate_is_bits_per_second() {
        let mut measurements = Measurements::default();
        measurements.on_delivered(at(0), Traffic { packets: 0, bytes: 0 });
        measurements.on_delivered(at(250), Traffic { packets: 100, bytes: 250_000 });
        assert_eq!(measurements.delivered_bits_per_second(), Some(8_000_000));
    }
}
