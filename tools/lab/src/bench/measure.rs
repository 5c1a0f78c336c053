//! What is measured of a tunnel in a round.

use std::time::Duration;

use super::cpu::{Reading, Used};
use super::datagrams::{Best, Road, SEGMENTS};
use super::iperf;
use super::metric::{Metric, Round};
use super::peers::{Kind, Running};
use super::ping::{RoundTrip, round_trip};
use super::search::Plan;
use crate::stop::Stop;
use crate::traffic::burst::Burst;

/// Video as encoders send it: seven packets of an MPEG transport stream in a datagram, 20 Mbit/s of them.
const VIDEO_SIZE: usize = 1316;
const VIDEO_RATE: u64 = 20_000_000;

/// How thoroughly things are measured.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    /// Seconds of the TCP stream, after a first one that does not count.
    pub tcp_seconds: u64,
    /// How long each attempt at a rate of datagrams lasts.
    pub attempt: Duration,
    /// How the highest rate is searched for.
    pub plan: Plan,
    /// How many pings.
    pub pings: usize,
    /// How long the video lasts.
    pub video: Duration,
}

impl Extent {
    /// What figures are taken with.
    #[must_use]
    pub const fn full(tcp_seconds: u64) -> Self {
        Self {
            tcp_seconds,
            attempt: Duration::from_millis(1500),
            plan: Plan { first: 100.0, step: 25.0, share: 0.025, last: 200_000.0 },
            pings: 400,
            video: Duration::from_secs(6),
        }
    }

    /// What shows in seconds that everything works, with figures that are worth nothing.
    #[must_use]
    pub const fn quick() -> Self {
        Self {
            tcp_seconds: 1,
            attempt: Duration::from_millis(100),
            plan: Plan { first: 200.0, step: 200.0, share: 1.0, last: 800.0 },
            pings: 40,
            video: Duration::from_millis(500),
        }
    }
}

/// Where the searches begin, in Mbit/s: somewhat below what was found the last time.
#[derive(Clone, Copy, Debug)]
pub struct Firsts {
    udp: f64,
    gso: f64,
}

impl Firsts {
    /// Those of a tunnel of which nothing is known but its kind.
    #[must_use]
    pub fn guess(kind: Kind, extent: &Extent) -> Self {
        let within = |guess: f64| guess.clamp(extent.plan.first, extent.plan.last);
        match kind {
            Kind::Limit | Kind::Kernel => Self { udp: within(1_000.0), gso: within(16_000.0) },
            Kind::Braid | Kind::UserSpace => Self { udp: within(400.0), gso: within(400.0) },
        }
    }
}

/// A tunnel under measurement.
pub struct Measurement<'a> {
    /// The tunnel.
    pub running: &'a mut Running,
    /// How thoroughly.
    pub extent: &'a Extent,
    /// The round-trip time without a tunnel, just before; `None` if this is none.
    pub raw: Option<RoundTrip>,
    /// Whether to stop.
    pub stop: &'a Stop,
    /// What has been found so far.
    pub round: Round,
}

impl Measurement<'_> {
    /// Measures the round-trip time of the idle tunnel.
    ///
    /// # Errors
    /// What went wrong, or a signal.
    pub fn round_trip(&mut self) -> Result<(), String> {
        let time = round_trip(self.running.far, self.extent.pings, self.stop)?;
        self.set(Metric::RttP50Us, time.p50_us);
        self.set(Metric::RttP99Us, time.p99_us);
        if let Some(raw) = self.raw {
            self.set(Metric::RttP50AboveRawUs, time.p50_us - raw.p50_us);
            self.set(Metric::RttP99AboveRawUs, time.p99_us - raw.p99_us);
        }
        Ok(())
    }

    /// Measures all that has to do with load.
    ///
    /// # Errors
    /// What went wrong, or a signal.
    pub fn load(&mut self, firsts: &mut Firsts) -> Result<(), String> {
        self.tcp()?;
        self.running.check()?;
        self.datagrams(firsts)?;
        self.running.check()?;
        self.video()?;
        if let Some(resident) = self.running.resident_mib_max() {
            self.set(Metric::MemoryMib, resident);
        }
        self.running.check()
    }

    fn tcp(&mut self) -> Result<(), String> {
        let (stream, used) = self.timed(|this| iperf::stream(this.running.far, this.extent.tcp_seconds, this.stop))?;
        self.set(Metric::TcpMbps, stream.mbps);
        let per_gb = |seconds: f64| seconds * 1e9 / stream.bytes;
        self.set(Metric::TcpMachineCoreSecondsPerGb, per_gb(used.machine));
        if let Some(tunnel) = used.tunnel {
            self.set(Metric::TcpTunnelCoreSecondsPerGb, per_gb(tunnel));
        }
        Ok(())
    }

    fn datagrams(&mut self, firsts: &mut Firsts) -> Result<(), String> {
        let names = [Metric::UdpMbps, Metric::UdpOutOfOrder, Metric::UdpDuplicated, Metric::UdpSenderLimit];
        self.highest_rate(1, &mut firsts.udp, names)?;
        let names = [Metric::GsoMbps, Metric::GsoOutOfOrder, Metric::GsoDuplicated, Metric::GsoSenderLimit];
        self.highest_rate(SEGMENTS, &mut firsts.gso, names)
    }

    fn highest_rate(&mut self, segments: usize, first: &mut f64, names: [Metric; 4]) -> Result<(), String> {
        let plan = Plan { first: *first, ..self.extent.plan };
        let mut road = Road::to(self.running.far, self.stop);
        let best = road.highest_rate(segments, &plan, self.extent.attempt)?;
        let Some(Best { passage, is_sender_limit }) = best else {
            self.set(names[0], 0.0);
            return Ok(());
        };
        *first = (passage.delivered_mbps * 0.75).max(self.extent.plan.first);
        let values = [
            passage.delivered_mbps,
            passage.out_of_order as f64,
            passage.duplicated as f64,
            f64::from(u8::from(is_sender_limit)),
        ];
        names.into_iter().zip(values).for_each(|(name, value)| self.set(name, value));
        Ok(())
    }

    fn video(&mut self) -> Result<(), String> {
        let burst = Burst { rate: VIDEO_RATE, size: VIDEO_SIZE, segments: 1, duration: self.extent.video };
        let (passage, used) = self.timed(|this| Road::to(this.running.far, this.stop).send(burst))?;
        self.set(Metric::VideoLost, passage.lost() as f64);
        if let Some(tunnel) = used.tunnel {
            // Set against the time that it flowed, not that which its source and sink took to start and end.
            self.set(Metric::VideoCpuPercent, 100.0 * tunnel / self.extent.video.as_secs_f64());
        }
        Ok(())
    }

    fn timed<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T, String>) -> Result<(T, Used), String> {
        let before = Reading::take(self.running)?;
        let result = work(self)?;
        Ok((result, before.until(&Reading::take(self.running)?)))
    }

    fn set(&mut self, metric: Metric, value: f64) {
        self.round.insert(metric, value);
    }
}
