//! One direction of a link: when does a packet that enters now come out, if at all? Pure: it is told the time.

use std::collections::VecDeque;
use std::time::Duration;

use crate::random::Random;
use crate::scenario::{Loss, Queue};

/// Bytes that one opportunity of a trace carries (Mahimahi's unit).
const OPPORTUNITY_BYTES: usize = 1500;

/// A packet let out this long after it was due says that the machine was too busy for its delay to be trusted.
const LATE: Nanoseconds = 1_000_000;

/// Nanoseconds since an origin that the caller knows.
pub type Nanoseconds = u64;

/// What limits the rate.
#[derive(Clone, Debug)]
pub enum Shaper {
    /// Nothing.
    Unlimited,
    /// So many bits per second.
    Rate(u64),
    /// Recorded opportunities.
    Trace(Trace),
}

/// Opportunities, and how far they have been used.
#[derive(Clone, Debug)]
pub struct Trace {
    opportunities: Vec<u64>,
    origin: Nanoseconds,
    next: u64,
    bytes_left: usize,
    open_at: Nanoseconds,
}

impl Trace {
    /// The trace, `start` of which has passed at `origin`.
    #[must_use]
    pub fn new(opportunities: Vec<u64>, origin: Nanoseconds, start: Duration) -> Self {
        let mut trace = Self { opportunities, origin, next: 0, bytes_left: 0, open_at: 0 };
        let start_ms = start.as_millis() as u64;
        while trace.millisecond(trace.next) < start_ms {
            trace.next += 1;
        }
        trace.origin = origin.saturating_sub(start_ms * 1_000_000);
        trace
    }

    fn millisecond(&self, number: u64) -> u64 {
        let length = self.opportunities.len() as u64;
        let period = self.opportunities[self.opportunities.len() - 1];
        (number / length) * period + self.opportunities[(number % length) as usize]
    }

    /// When the last of `bytes` that come at `now` leaves.
    fn serve(&mut self, now: Nanoseconds, mut bytes: usize) -> Nanoseconds {
        // An opportunity that nobody used is gone.
        if self.open_at < now {
            self.bytes_left = 0;
        }
        while bytes > 0 {
            if self.bytes_left == 0 {
                self.open_next(now);
            }
            let carried = bytes.min(self.bytes_left);
            bytes -= carried;
            self.bytes_left -= carried;
        }
        self.open_at
    }

    fn open_next(&mut self, now: Nanoseconds) {
        loop {
            let at = self.origin + self.millisecond(self.next) * 1_000_000;
            self.next += 1;
            if at >= now {
                self.open_at = at;
                self.bytes_left = OPPORTUNITY_BYTES;
                return;
            }
        }
    }
}

/// What a link has done so far.
#[derive(Clone, Copy, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct LinkCounters {
    /// Packets that came out.
    pub packets: u64,
    /// Bytes of IP packet that came out.
    pub bytes: u64,
    /// Packets that the loss model took.
    pub lost: u64,
    /// Packets for which the queue had no room.
    pub overflowed: u64,
    /// Packets that a blackhole swallowed.
    pub swallowed: u64,
    /// Packets that came out over 1 ms after they were due, since the machine was busy.
    pub late: u64,
    /// How long after it was due the latest packet came out, in microseconds.
    pub late_us_max: u64,
}

impl LinkCounters {
    fn count(&mut self, bytes: usize, lateness: Nanoseconds) {
        self.packets += 1;
        self.bytes += bytes as u64;
        self.late += u64::from(lateness > LATE);
        self.late_us_max = self.late_us_max.max(lateness / 1_000);
    }
}

struct Flying {
    arrives: Nanoseconds,
    packet: Vec<u8>,
}

/// One direction of a link.
pub struct Link {
    shaper: Shaper,
    /// One-way delay.
    pub delay: Duration,
    jitter: Duration,
    loss: Loss,
    in_burst: bool,
    queue: Queue,
    /// Whether it swallows everything.
    pub blackhole: bool,
    random: Random,
    /// When the last packet accepted will have left the queue.
    departed: Nanoseconds,
    /// Departures of packets that may still be in the queue.
    departures: VecDeque<Nanoseconds>,
    flying: VecDeque<Flying>,
    spare: Vec<Vec<u8>>,
    /// What it has done.
    pub counters: LinkCounters,
}

impl Link {
    /// A link that is empty.
    #[must_use]
    pub fn new(shaper: Shaper, delay: Duration, jitter: Duration, loss: Loss, queue: Queue, random: Random) -> Self {
        Self {
            shaper,
            delay,
            jitter,
            loss,
            in_burst: false,
            queue,
            blackhole: false,
            random,
            departed: 0,
            departures: VecDeque::new(),
            flying: VecDeque::new(),
            spare: vec![],
            counters: LinkCounters::default(),
        }
    }

    /// From now on it carries `rate` bits per second.
    pub fn set_rate(&mut self, rate: u64) {
        self.shaper = Shaper::Rate(rate);
    }

    /// From now on it loses this share.
    pub fn set_loss(&mut self, share: f64) {
        self.loss = Loss::Random(share);
    }

    /// A packet enters.
    pub fn enter(&mut self, now: Nanoseconds, packet: &[u8]) {
        if self.blackhole {
            self.counters.swallowed += 1;
        } else if self.is_lost() {
            self.counters.lost += 1;
        } else if self.is_full(now) {
            self.counters.overflowed += 1;
        } else {
            self.accept(now, packet);
        }
    }

    fn is_lost(&mut self) -> bool {
        match self.loss {
            Loss::None => false,
            Loss::Random(share) => self.random.chance(share),
            Loss::Burst { p, r } => {
                self.in_burst = if self.in_burst { !self.random.chance(r) } else { self.random.chance(p) };
                self.in_burst
            }
        }
    }

    fn is_full(&mut self, now: Nanoseconds) -> bool {
        while self.departures.front().is_some_and(|at| *at <= now) {
            self.departures.pop_front();
        }
        match self.queue {
            Queue::Time(longest) => self.departed.saturating_sub(now) > longest.as_nanos() as u64,
            Queue::Packets(most) => self.departures.len() >= most,
        }
    }

    fn accept(&mut self, now: Nanoseconds, packet: &[u8]) {
        let start = self.departed.max(now);
        self.departed = match &mut self.shaper {
            Shaper::Unlimited => now,
            Shaper::Rate(rate) => start + (packet.len() as u64 * 8 * 1_000_000_000).div_ceil(*rate),
            Shaper::Trace(trace) => trace.serve(start, packet.len()),
        };
        if self.departed > now {
            self.departures.push_back(self.departed);
        }
        let jitter = self.random.below(self.jitter.as_nanos() as u64 + 1);
        let arrives = self.departed + self.delay.as_nanos() as u64 + jitter;
        let arrives = self.flying.back().map_or(arrives, |before| arrives.max(before.arrives));
        let mut buffer = self.spare.pop().unwrap_or_default();
        buffer.clear();
        buffer.extend_from_slice(packet);
        self.flying.push_back(Flying { arrives, packet: buffer });
    }

    /// When the next packet comes out.
    #[must_use]
    pub fn next_arrival(&self) -> Option<Nanoseconds> {
        self.flying.front().map(|flying| flying.arrives)
    }

    /// Hands every packet that comes out by `now` to `deliver`.
    pub fn leave(&mut self, now: Nanoseconds, mut deliver: impl FnMut(&mut [u8])) {
        while self.flying.front().is_some_and(|flying| flying.arrives <= now) {
            let Some(mut flying) = self.flying.pop_front() else { return };
            if self.blackhole {
                self.counters.swallowed += 1;
            } else {
                self.counters.count(flying.packet.len(), now - flying.arrives);
                deliver(&mut flying.packet);
            }
            self.spare.push(flying.packet);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn link(shaper: Shaper, delay_ms: u64, loss: Loss, queue: Queue) -> Link {
        Link::new(shaper, Duration::from_millis(delay_ms), Duration::ZERO, loss, queue, Random::new(7))
    }

    fn arrivals(link: &mut Link) -> Vec<u64> {
        let mut times = vec![];
        while let Some(at) = link.next_arrival() {
            link.leave(at, |_| times.push(at));
        }
        times
    }

    const DEEP: Queue = Queue::Time(Duration::from_secs(1000));

    #[test]
    fn a_rate_spaces_packets_and_delay_follows() {
        let mut link = link(Shaper::Rate(8_000_000), 20, Loss::None, DEEP);
        (0..3).for_each(|_| link.enter(0, &[0; 1000]));
        assert_eq!(arrivals(&mut link), [21 * MS, 22 * MS, 23 * MS]);
    }

    #[test]
    fn a_trace_carries_1500_bytes_at_each_opportunity_and_repeats() {
        let trace = Trace::new(vec![2, 5, 10], 0, Duration::ZERO);
        let mut link = link(Shaper::Trace(trace), 0, Loss::None, DEEP);
        (0..9).for_each(|_| link.enter(0, &[0; 750]));
        assert_eq!(arrivals(&mut link), [2, 2, 5, 5, 10, 10, 12, 12, 15].map(|ms| ms * MS));
    }

    #[test]
    fn a_trace_can_begin_in_its_middle_and_unused_opportunities_pass() {
        let trace = Trace::new(vec![2, 5, 10], 100 * MS, Duration::from_millis(4));
        let mut link = link(Shaper::Trace(trace), 0, Loss::None, DEEP);
        link.enter(102 * MS, &[0; 1500]);
        assert_eq!(arrivals(&mut link), [106 * MS]);
    }

    #[test]
    fn a_queue_has_an_end_in_time_or_in_packets() {
        for (queue, most) in [(Queue::Time(Duration::from_millis(5)), 6), (Queue::Packets(4), 4)] {
            let mut link = link(Shaper::Rate(8_000_000), 0, Loss::None, queue);
            (0..100).for_each(|_| link.enter(0, &[0; 1000]));
            assert_eq!(arrivals(&mut link).len(), most);
            assert_eq!(link.counters.overflowed, 100 - most as u64);
        }
    }

    #[test]
    fn losses_are_as_frequent_as_asked() {
        let mut random = link(Shaper::Unlimited, 0, Loss::Random(0.05), DEEP);
        (0..100_000).for_each(|_| random.enter(0, &[0; 100]));
        assert!((4_700..5_300).contains(&random.counters.lost), "{}", random.counters.lost);
        // In the long run p / (p + r) of the time is bad.
        let mut burst = link(Shaper::Unlimited, 0, Loss::Burst { p: 0.01, r: 0.09 }, DEEP);
        (0..100_000).for_each(|_| burst.enter(0, &[0; 100]));
        assert!((9_000..11_000).contains(&burst.counters.lost), "{}", burst.counters.lost);
    }

    #[test]
    fn a_blackhole_swallows_what_is_on_its_way_too() {
        let mut link = link(Shaper::Unlimited, 20, Loss::None, DEEP);
        link.enter(0, &[0; 100]);
        link.blackhole = true;
        link.enter(1, &[0; 100]);
        assert_eq!(link.next_arrival(), Some(20 * MS));
        link.leave(50 * MS, |_| panic!("swallowed"));
        assert_eq!((link.counters.swallowed, link.counters.packets), (2, 0));
    }

    #[test]
    fn what_comes_out_too_late_is_counted() {
        let mut link = link(Shaper::Unlimited, 20, Loss::None, DEEP);
        (0..2).for_each(|number| link.enter(number * 5 * MS, &[0; 100]));
        link.leave(20 * MS + 300_000, |_| {});
        link.leave(27 * MS, |_| {});
        assert_eq!((link.counters.packets, link.counters.late, link.counters.late_us_max), (2, 1, 2_000));
    }

    #[test]
    fn jitter_keeps_packets_in_order() {
        let jitter = Duration::from_millis(10);
        let mut link = Link::new(Shaper::Unlimited, Duration::ZERO, jitter, Loss::None, DEEP, Random::new(3));
        (0..1000_u64).for_each(|number| link.enter(number * MS, &[0; 100]));
        let times = arrivals(&mut link);
        assert!(times.windows(2).all(|pair| pair[0] <= pair[1]));
    }
}
