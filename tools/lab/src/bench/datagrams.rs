//! Numbered datagrams through a tunnel, as fast as it stands.

use std::net::{Ipv4Addr, SocketAddr};
use std::thread;
use std::time::Duration;

use super::search::{Plan, Verdict, highest};
use super::stage::{FAR, NEAR};
use super::wait::wait_until;
use crate::stop::Stop;
use crate::stream::{Feed, Sink, Source};
use crate::traffic::burst::Burst;

/// Bytes of payload per datagram.
pub const SIZE: usize = 1300;
/// Datagrams by one send of a program that uses UDP_SEGMENT.
pub const SEGMENTS: usize = 40;
/// So many of all datagrams must not be lost.
const LOST_SHARE_MAX: f64 = 0.001;
/// With less lost than this, a second attempt may do better.
const LOST_SHARE_CLOSE: f64 = 0.01;
/// So much of a rate its sender must have sent.
const SENT_SHARE_MIN: f64 = 0.98;
/// How long what is under way may take to come in after the last datagram was sent.
const DRAIN: Duration = Duration::from_millis(200);
/// How much longer than told a source may take before it is given up.
const GRACE: Duration = Duration::from_secs(5);
/// Each passage has a port of its own, so that stragglers are not taken for another's.
const PORT_FIRST: u16 = 5001;
const PORTS: u16 = 20_000;

/// Where datagrams go.
pub struct Road<'a> {
    /// The receiver's address.
    pub far: Ipv4Addr,
    /// How many passages there have been.
    passages: u16,
    stop: &'a Stop,
}

/// What became of some datagrams.
#[derive(Clone, Copy, Debug)]
pub struct Passage {
    /// How many were sent.
    pub offered: u64,
    /// How many of them came.
    pub delivered: u64,
    /// Those that came again.
    pub duplicated: u64,
    /// Those that came after one with a higher number.
    pub out_of_order: u64,
    /// Mbit/s of payload sent.
    pub sent_mbps: f64,
    /// Mbit/s of payload delivered.
    pub delivered_mbps: f64,
}

/// The highest rate that was stood.
#[derive(Clone, Copy, Debug)]
pub struct Best {
    /// What became of the datagrams at that rate.
    pub passage: Passage,
    /// Whether it was the sender that could not send faster.
    pub is_sender_limit: bool,
}

impl<'a> Road<'a> {
    /// The road to an address.
    #[must_use]
    pub const fn to(far: Ipv4Addr, stop: &'a Stop) -> Self {
        Self { far, passages: 0, stop }
    }

    /// Sends, and counts what comes.
    ///
    /// # Errors
    /// What went wrong, or a signal.
    pub fn send(&mut self, burst: Burst) -> Result<Passage, String> {
        let port = PORT_FIRST + self.passages % PORTS;
        self.passages = self.passages.wrapping_add(1);
        let to = SocketAddr::from((self.far, port));
        let mut sink = Sink::start_counting(FAR, to, burst.segments > 1)?;
        let mut source = Source::start(NEAR, to, Feed::Burst(burst))?;
        let patience = burst.duration + GRACE;
        wait_until(|| Ok(source.is_done()), patience, self.stop, || "the source does not end".to_owned())?;
        let sent = source.finish()?;
        thread::sleep(DRAIN);
        let tally = sink.finish_counting()?;
        let mbps = |datagrams: u64| (datagrams * burst.size as u64 * 8) as f64 * 1e3 / (sent.ended - sent.began) as f64;
        Ok(Passage {
            offered: sent.offered,
            delivered: tally.delivered,
            duplicated: tally.duplicated,
            out_of_order: tally.reordered,
            sent_mbps: mbps(sent.offered),
            delivered_mbps: mbps(tally.delivered),
        })
    }

    /// Looks for the highest rate that arrives with less than 0.1% lost, `segments` datagrams by each send. Each attempt
    /// takes `duration`.
    ///
    /// # Errors
    /// What went wrong, or a signal.
    pub fn highest_rate(&mut self, segments: usize, plan: &Plan, duration: Duration) -> Result<Option<Best>, String> {
        let mut is_sender_limit = false;
        let passage = highest(plan, |rate| {
            let passage = self.send(Burst { rate: (rate * 1e6) as u64, size: SIZE, segments, duration })?;
            let verdict = passage.verdict(rate);
            if let Verdict::Failed { .. } = verdict {
                is_sender_limit = passage.lost_share() < LOST_SHARE_MAX;
            }
            Ok(verdict)
        })?;
        Ok(passage.map(|passage| Best { passage, is_sender_limit }))
    }
}

impl Passage {
    /// How many never came.
    #[must_use]
    pub const fn lost(&self) -> u64 {
        self.offered.saturating_sub(self.delivered)
    }

    fn lost_share(&self) -> f64 {
        self.lost() as f64 / self.offered.max(1) as f64
    }

    /// Whether this many Mbit/s were stood.
    fn verdict(self, rate: f64) -> Verdict<Self> {
        let is_sent = self.sent_mbps >= rate * SENT_SHARE_MIN;
        if is_sent && self.lost_share() < LOST_SHARE_MAX {
            return Verdict::Passed(self);
        }
        Verdict::Failed { is_close: self.lost_share() < LOST_SHARE_CLOSE }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passage(sent_mbps: f64, lost: u64) -> Passage {
        let (offered, delivered) = (100_000, 100_000 - lost);
        Passage { offered, delivered, duplicated: 0, out_of_order: 0, sent_mbps, delivered_mbps: sent_mbps }
    }

    #[test]
    fn a_rate_is_stood_if_it_was_sent_and_came() {
        assert!(matches!(passage(495.0, 99).verdict(500.0), Verdict::Passed(_)));
        assert!(matches!(passage(500.0, 100).verdict(500.0), Verdict::Failed { is_close: true }));
        assert!(matches!(passage(480.0, 0).verdict(500.0), Verdict::Failed { is_close: true }));
        assert!(matches!(passage(500.0, 1_000).verdict(500.0), Verdict::Failed { is_close: false }));
    }
}
