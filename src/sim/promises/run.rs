//! A course run to its end, and looked at meanwhile.

use std::fmt;
use std::ops::Range;
use std::time::Duration;

use super::LOOK;
use crate::proto::send::SenderCounters;
use crate::proto::time::nanos;
use crate::proto::uplink::measure::PartsPerMillion;
use crate::sim::course::{BEGIN, Course};
use crate::sim::oracle::{Offer, Stream};
use crate::sim::outcome::Outcome;
use crate::sim::plan::{BOX, GATEWAY, UP};
use crate::sim::report::Figures;
use crate::sim::world::World;
use crate::sim::{MILLISECOND, Nanoseconds, SECOND};

/// What comes within this is in time.
const DEADLINE: Duration = Duration::from_millis(200);

/// What came of a course.
pub(super) struct Run {
    seed: u64,
    pub outcome: Outcome,
    course: Course,
    /// Of the box.
    sender: SenderCounters,
    /// When the first and the last of the frames were offered that were lost or late, in milliseconds of the stream.
    trouble_ms: Option<(u64, u64)>,
    /// When each of the frames that were lost was offered, in milliseconds of the stream.
    lost_ms: Vec<u64>,
    /// While the stream flowed: the first when it began, and the last when it ended.
    looks: Vec<Look>,
}

/// An uplink at a moment.
#[derive(Clone, Copy, Debug)]
struct UplinkLook {
    /// How long what enters it waits.
    wait: Duration,
    /// Bytes of IP packet that have entered its link from the box.
    entered_bytes: u64,
    /// What the box knows of the share of its frames lost there.
    loss: Option<PartsPerMillion>,
}

/// A world at a moment.
pub(super) struct Look {
    /// Of the stream.
    pub at: Nanoseconds,
    uplinks: Vec<UplinkLook>,
    /// What the box knows each uplink to carry.
    pub path_mtus: Vec<Option<u16>>,
    /// Packets that each uplink's link from the box has swallowed.
    pub swallowed: Vec<u64>,
    /// What each end has its TAP's MTU be.
    pub tap_mtus: [u16; 2],
    /// Pairs of soundings that the box has sent.
    pub soundings: u64,
}

/// How a world is while the stream of `course` flows, with what follows from `seed`.
///
/// # Panics
/// If the oracle objects to anything.
pub(super) fn looks(course: &Course, seed: u64) -> Vec<Look> {
    look_on(&mut World::new(course.plan(seed), None), course, seed)
}

fn look_on(world: &mut World, course: &Course, seed: u64) -> Vec<Look> {
    let times = (0..=course.duration).step_by(LOOK as usize);
    times
        .map(|at| {
            world.run_until(BEGIN + at).unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
            Look {
                at,
                uplinks: look(world),
                path_mtus: world.path_mtus(BOX).collect(),
                swallowed: world.link_counters(UP).map(|link| link.swallowed).collect(),
                tap_mtus: [BOX, GATEWAY].map(|end| world.tap_mtu_allowed(end).unwrap_or_default()),
                soundings: world.soundings(BOX),
            }
        })
        .collect()
}

/// Runs `course` with what follows from `seed`.
///
/// # Panics
/// If the oracle objects to anything.
pub(super) fn run(course: &Course, seed: u64) -> Run {
    let mut world = World::new(course.plan(seed), None);
    let looks = look_on(&mut world, course, seed);
    let report = world.run().unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
    let outcome = Outcome::of(course, seed, DEADLINE, &world, &report);
    let sender = world.sender_counters(BOX).unwrap_or_default();
    let run = Run {
        seed,
        outcome,
        course: course.clone(),
        sender,
        trouble_ms: trouble(world.stream(UP)),
        lost_ms: lost(world.stream(UP)),
        looks,
    };
    // Whatever the links are like, TCP sees no reordering.
    assert_eq!(run.figures().out_of_order, 0, "{run}");
    run
}

fn trouble(stream: &Stream) -> Option<(u64, u64)> {
    let is_in_time = |offer: &Offer| offer.delivered_at.is_some_and(|at| at - offer.at <= nanos(DEADLINE));
    let troubled =
        || stream.offers.iter().filter(|offer| !is_in_time(offer)).map(|offer| (offer.at - BEGIN) / MILLISECOND);
    troubled().next().zip(troubled().next_back())
}

fn lost(stream: &Stream) -> Vec<u64> {
    let lost = stream.offers.iter().filter(|offer| offer.delivered_at.is_none());
    lost.map(|offer| (offer.at - BEGIN) / MILLISECOND).collect()
}

fn look(world: &World) -> Vec<UplinkLook> {
    let links = world.link_waits(UP).zip(world.link_counters(UP));
    let uplinks = links.zip(world.uplinks(BOX));
    uplinks
        .map(|((wait, link), uplink)| UplinkLook {
            wait,
            entered_bytes: link.entered_bytes,
            loss: uplink.measurements.loss_sending(),
        })
        .collect()
}

impl Run {
    /// What came of the stream.
    pub fn figures(&self) -> &Figures {
        &self.outcome.figures
    }

    /// Parities that the box has sent.
    pub fn parities(&self) -> u64 {
        self.sender.parities
    }

    /// How many of the frames offered since then were lost.
    pub fn lost_from(&self, time_ms: u64) -> usize {
        self.lost_ms.iter().filter(|at| **at >= time_ms).count()
    }

    /// Whether at least this share of the frames was delivered, in percent.
    pub fn has_delivered(&self, percent: f64) -> bool {
        self.figures().delivered as f64 * 100.0 >= percent * self.figures().offered as f64
    }

    /// Whether every frame offered since then was delivered within 200 ms.
    pub fn is_well_from(&self, time_ms: u64) -> bool {
        self.trouble_ms.is_none_or(|(_, last)| last < time_ms)
    }

    /// Which share of what the links can carry from the box, `rate` bits per second together, was carried of frames that
    /// were delivered, each counted once: in percent.
    pub fn carried_percent(&self, rate: u64) -> f64 {
        let bits = self.figures().delivered * self.course.packet_length() as u64 * 8;
        bits as f64 * 100.0 / (rate as f64 * self.course.duration as f64 / SECOND as f64)
    }

    /// The longest time that anything had to wait for a link within this time of the stream, in milliseconds.
    pub fn wait_max(&self, uplink: usize, time_ms: Range<u64>) -> Duration {
        self.within(&time_ms).map(|look| look.uplinks[uplink].wait).max().unwrap_or_default()
    }

    /// What the box says of an uplink's loss within this time of the stream, in milliseconds: the mean, in percent.
    pub fn loss_percent(&self, uplink: usize, time_ms: Range<u64>) -> f64 {
        let said = self.within(&time_ms).filter_map(|look| look.uplinks[uplink].loss);
        let said: Vec<_> = said.map(|PartsPerMillion(loss)| f64::from(loss) / 1e4).collect();
        said.iter().sum::<f64>() / said.len() as f64
    }

    /// Bytes of IP packet that entered an uplink's link from the box within this time of the stream, in milliseconds.
    pub fn bytes_up(&self, uplink: usize, time_ms: Range<u64>) -> u64 {
        let entered = || self.within(&time_ms).map(|look| look.uplinks[uplink].entered_bytes);
        entered().last().unwrap_or(0) - entered().next().unwrap_or(0)
    }

    /// The same of all uplinks and the whole stream, beyond what its frames take if each is sent once, in percent of that.
    pub fn overhead_up_percent(&self) -> f64 {
        let end_ms = self.course.duration / MILLISECOND + 1;
        let entered: u64 = (0..self.course.uplinks.len()).map(|uplink| self.bytes_up(uplink, 0..end_ms)).sum();
        entered as f64 * 100.0 / self.outcome.needed_bytes as f64 - 100.0
    }

    fn within(&self, time_ms: &Range<u64>) -> impl Iterator<Item = &Look> {
        let time = time_ms.start * MILLISECOND..time_ms.end * MILLISECOND;
        self.looks.iter().filter(move |look| time.contains(&look.at))
    }
}

impl fmt::Display for Run {
    /// For whoever has to find out why a promise was not kept.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Figures { offered, out_of_order, .. } = self.figures();
        let [p50, p99, max, gap] = {
            let figures = self.figures();
            [figures.p50, figures.p99, figures.max, figures.gap].map(crate::sim::report::milliseconds)
        };
        write!(
            f,
            "seed {}{}: {} of {offered} lost, {out_of_order} out of order, {:.2}% within {DEADLINE:?}, p50 {p50} p99 \
             {p99} max {max} gap {gap} ms, overhead up {:.1}%, all {:.1}%, up MB",
            self.seed,
            if self.course.is_sealed { " sealed" } else { "" },
            self.figures().lost(),
            self.outcome.in_time_percent(),
            self.overhead_up_percent(),
            self.outcome.overhead_percent(),
        )?;
        self.outcome.up.iter().try_for_each(|link| {
            write!(f, " {:.2} ({} lost, {} overflowed)", link.entered_bytes as f64 / 1e6, link.lost, link.overflowed)
        })?;
        let soundings = self.looks.last().map_or(0, |look| look.soundings);
        write!(f, ", {soundings} pairs of soundings, {:?}", self.sender)?;
        self.trouble_ms.map_or(Ok(()), |(first, last)| write!(f, ", lost or late from {first} to {last} ms"))
    }
}
