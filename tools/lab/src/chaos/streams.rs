//! The two numbered streams, one each way, and what became of them.

use std::net::{Ipv4Addr, SocketAddr};
use std::thread;
use std::time::Duration;

use serde::Serialize;

use super::stage::Done;
use crate::addresses::TUNNEL_ALL;
use crate::course::Direction;
use crate::end::Which;
use crate::scenario::Traffic;
use crate::stream::{Feed, Sink, Source};
use crate::traffic::analysis::{Arrival, Summary};
use crate::traffic::source::SourceReport;

/// The port of the first stream; each later one has the next, so that stragglers of one are not taken for another's, and no
/// end hears itself.
const PORT_FIRST: u16 = 5001;
/// How long what is under way may take to come in after the last datagram was sent.
const DRAIN: Duration = Duration::from_millis(1500);
/// The most violations that are told one by one.
const VIOLATIONS_TOLD_MAX: usize = 8;
/// A violation is told with what was done this long before it, in nanoseconds.
const DONE_BEFORE: u64 = 3_000_000_000;

/// Both streams while they flow.
pub struct Streams {
    ways: Vec<(Direction, Source, Sink)>,
}

/// What became of one stream.
#[derive(Clone, Debug, Serialize)]
pub struct Passage {
    /// Which way it went.
    pub direction: &'static str,
    /// Datagrams that the sender's own kernel refused, its TAP being down or gone; among the lost.
    pub refused: u64,
    /// Counts and delays.
    #[serde(flatten)]
    pub summary: Summary,
    /// The first datagrams that came twice or out of order.
    pub violations: Vec<Violation>,
}

/// A datagram that came twice, or after a later one.
#[derive(Clone, Debug, Serialize)]
pub struct Violation {
    /// Its number.
    pub number: u64,
    /// Whether it had come before.
    pub duplicate: bool,
    /// When it was sent, in seconds after the stream began.
    pub sent_s: f64,
    /// When it came.
    pub received_s: f64,
    /// The highest number that had come before it.
    pub after_number: u64,
    /// When that had been sent.
    pub after_sent_s: f64,
    /// What had been done shortly before, and when.
    pub done: Vec<String>,
}

impl Streams {
    /// Starts both for `span`; `section` is how many pairs there have been before.
    ///
    /// # Errors
    /// What went wrong.
    pub fn start(traffic: &Traffic, section: u16, span: Duration) -> Result<Self, String> {
        let feed = Feed::Constant { rate: traffic.rate, size: traffic.size, duration: span };
        let way = |direction: Direction| {
            let (from, to, port) = match direction {
                Direction::Up => (Which::Box, Which::Gateway, PORT_FIRST + 2 * section),
                Direction::Down => (Which::Gateway, Which::Box, PORT_FIRST + 2 * section + 1),
            };
            // By any address, since that of the TAP may be gone when somebody looks.
            let sink = Sink::start(to.namespace(), SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)), None)?;
            // Everybody's hardware address need not be asked for. What the kernel sends while it still asks for one it
            // keeps, and has later ones overtake it when it is told: not what is tested here.
            let source = Source::start(from.namespace(), SocketAddr::from((TUNNEL_ALL, port)), feed)?;
            Ok((direction, source, sink))
        };
        [Direction::Up, Direction::Down].into_iter().map(way).collect::<Result<_, _>>().map(|ways| Self { ways })
    }

    /// Waits for the end of both; what became of them. `done` is what happened meanwhile.
    ///
    /// # Errors
    /// What went wrong.
    pub fn finish(mut self, done: &[Done]) -> Result<Vec<Passage>, String> {
        let sent: Vec<SourceReport> =
            self.ways.iter_mut().map(|(_, source, _)| source.finish()).collect::<Result<_, _>>()?;
        thread::sleep(DRAIN);
        let passages = self.ways.iter_mut().zip(sent).map(|((direction, _, sink), sent)| {
            let arrivals = sink.finish()?;
            Ok(Passage {
                direction: direction.name(),
                refused: sent.refused,
                summary: Summary::of(&arrivals, sent.offered),
                violations: violations(&arrivals, sent.began, done),
            })
        });
        passages.collect()
    }
}

impl Passage {
    /// Whether each datagram came once at most, and none after a later one.
    #[must_use]
    pub const fn is_lawful(&self) -> bool {
        self.summary.duplicated == 0 && self.summary.reordered == 0
    }

    /// Whether everything came, too.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.is_lawful() && self.summary.lost == 0
    }
}

fn violations(arrivals: &[Arrival], began: u64, done: &[Done]) -> Vec<Violation> {
    let seconds = |at: u64| (at as f64 - began as f64) / 1e9;
    let mut seen = std::collections::HashSet::with_capacity(arrivals.len());
    let mut highest: Option<Arrival> = None;
    let mut found = vec![];
    for arrival in arrivals {
        let duplicate = !seen.insert(arrival.number);
        match highest {
            Some(before) if before.number >= arrival.number => {
                let shortly = |done: &&Done| done.at <= arrival.received && done.at + DONE_BEFORE > arrival.received;
                let tell = |done: &Done| format!("{:.3}: {:?}", seconds(done.at), done.deed);
                found.push(Violation {
                    number: arrival.number,
                    duplicate,
                    sent_s: seconds(arrival.sent),
                    received_s: seconds(arrival.received),
                    after_number: before.number,
                    after_sent_s: seconds(before.sent),
                    done: done.iter().filter(shortly).map(tell).collect(),
                });
            }
            _ => highest = Some(*arrival),
        }
        if found.len() == VIOLATIONS_TOLD_MAX {
            break;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chaos::plan::Deed;

    #[test]
    fn a_violation_is_told_with_what_was_done_before_it() {
        let arrival = |number: u64| Arrival { number, sent: number * 1000, received: 9_000_000_000, length: 64 };
        let arrivals = [0, 2, 1, 2, 3].map(arrival);
        let deed = Deed::Kill(Which::Box);
        let done = [Done { at: 1_000_000_000, deed }, Done { at: 8_000_000_000, deed }];
        let found = violations(&arrivals, 0, &done);
        let told: Vec<_> = found.iter().map(|one| (one.number, one.duplicate, one.after_number)).collect();
        assert_eq!(told, [(1, false, 2), (2, true, 2)]);
        assert_eq!(found[0].done, ["8.000: Kill(Box)"]);
    }
}
