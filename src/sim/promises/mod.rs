//! What `adaptive` is held to: that it does not do what users of other bonding tools complain of.
//!
//! Each test's name is a promise. Links are written as `link("near", 20).rate(mbit(10))`, 20 ms long each way, and a
//! stream over them as `stream(mbit(8)).over([near, far])`; what follows says what is different this time. A world is
//! looked at every [`LOOK`] while it runs, so that promises about queues and counters can be held, too.
//!
//! What does not hold yet is ignored, and says how far it is from holding: `cargo test --lib sim::promises -- --ignored`.

mod capacity;
mod cost;
mod loss;
mod orders;
mod outages;
mod run;
mod sizes;

use std::time::Duration;

use run::{Run, run};

use super::course::{Capacity, Course, CourseEvent, CourseUplink, Happening};
use super::link::{LinkSettings, Loss, Queue};
use super::{MILLISECOND, Nanoseconds, SECOND};
use crate::proto::scheduler::Mode;
use crate::proto::time::nanos;
use crate::proto::uplink::Limits;
use crate::proto::uplink::UplinkName;
use crate::proto::uplink::measure::PartsPerMillion;

/// What any link has, so that seeds differ.
const JITTER: Duration = Duration::from_millis(1);
/// How often a running world is looked at.
const LOOK: Nanoseconds = 10 * MILLISECOND;
/// Bytes of each Ethernet frame of a stream: 1,280 of payload.
const FRAME_LENGTH: usize = 1322;
/// How long a stream lasts unless told otherwise.
const DURATION: Nanoseconds = 12 * SECOND;
/// Places of the first two links in a course.
const NEAR: usize = 0;
const FAR: usize = 1;
/// Each promise is held with each of these.
const SEEDS: [u64; 3] = [1, 2, 3];

/// Bits per second.
const fn mbit(number: u64) -> u64 {
    number * 1_000_000
}

const fn ms(number: u64) -> Duration {
    Duration::from_millis(number)
}

/// A link that carries whatever there is, and is `delay_ms` long each way, and up to [`JITTER`] longer.
fn link(name: &str, delay_ms: u64) -> CourseUplink {
    CourseUplink {
        name: UplinkName::new(name).expect("lawful"),
        up: Capacity::Unlimited,
        rate_down: None,
        link: LinkSettings { delay: ms(delay_ms), jitter: JITTER, ..LinkSettings::default() },
        limits: Limits::default(),
    }
}

impl CourseUplink {
    /// It carries so many bits of IP packet per second each way.
    fn rate(self, rate: u64) -> Self {
        Self { up: Capacity::Rate(rate), rate_down: Some(rate), ..self }
    }

    /// Packets take up to so much longer by it, and stay in order.
    fn jitter(mut self, most: Duration) -> Self {
        self.link.jitter = most;
        self
    }

    /// It loses so much both ways.
    fn losing(mut self, share: PartsPerMillion) -> Self {
        self.link.loss = Loss::Random(share);
        self
    }

    /// So much may wait at its entry.
    fn queue(mut self, longest: Duration) -> Self {
        self.link.queue = Queue::Time(longest);
        self
    }

    /// It costs money.
    fn metered(mut self) -> Self {
        self.limits.is_metered = true;
        self
    }

    /// The user wants no more than so many bits of frame per second to go by it.
    fn rate_max(mut self, rate: u64) -> Self {
        self.limits.rate_max = Some(rate / 8);
        self
    }
}

/// A stream of so many bits of Ethernet frame per second, in `adaptive` as it is unless told otherwise, over no link yet.
fn stream(rate: u64) -> Course {
    let (window, window_follows) = Mode::Adaptive.window();
    Course {
        mode: Mode::Adaptive,
        window: Some(window),
        window_follows,
        is_sealed: false,
        uplinks: vec![],
        events: vec![],
        frame_length: FRAME_LENGTH,
        interval: FRAME_LENGTH as u64 * 8 * SECOND / rate,
        burst: 1,
        duration: DURATION,
    }
}

impl Course {
    /// It goes over these.
    fn over<const LINKS: usize>(self, links: [CourseUplink; LINKS]) -> Self {
        Self { uplinks: links.to_vec(), ..self }
    }

    /// So many frames come at once.
    fn in_bursts_of(self, burst: u64) -> Self {
        Self { burst, ..self }
    }

    /// Both ends hold frames for up to this, no more and no less.
    fn window_fixed(self, window: Duration) -> Self {
        Self { window: Some(window), window_follows: false, ..self }
    }

    /// There are keys.
    fn sealed(self) -> Self {
        Self { is_sealed: true, ..self }
    }

    /// This happens to a link, `at_ms` after the stream has begun.
    fn when(mut self, at_ms: u64, uplink: usize, what: Happening) -> Self {
        self.events.push(CourseEvent { at: at_ms * MILLISECOND, uplink, what });
        self
    }

    /// The data budget of a link is spent then, `at_ms` after the stream has begun.
    fn spent(self, uplink: usize, at_ms: u64) -> Self {
        self.when(at_ms, uplink, Happening::Spent(true))
    }

    /// A link swallows everything from the one moment to the other.
    fn blackhole(self, uplink: usize, (begin_ms, end_ms): (u64, u64)) -> Self {
        let swallowed = Happening::Blackhole([true, true]);
        self.when(begin_ms, uplink, swallowed).when(end_ms, uplink, Happening::Restore)
    }

    /// The interface of a link is down from the one moment to the other.
    fn unplugged(self, uplink: usize, (begin_ms, end_ms): (u64, u64)) -> Self {
        self.when(begin_ms, uplink, Happening::Carrier(false)).when(end_ms, uplink, Happening::Carrier(true))
    }
}

/// The two links of most promises: 20 and 45 ms long, with whatever they carry.
fn near_and_far() -> [CourseUplink; 2] {
    [link("near", 20), link("far", 45)]
}

/// The same, where each carries so many bits of IP packet per second.
fn near_and_far_of(rate: u64) -> [CourseUplink; 2] {
    near_and_far().map(|link| link.rate(rate))
}

/// What comes of `course` with each seed, without keys and with them.
fn runs(course: &Course) -> Vec<Run> {
    let courses = [course.clone(), course.clone().sealed()];
    courses.iter().flat_map(|course| SEEDS.map(|seed| run(course, seed))).collect()
}
