//! How long things take here: frames on their way through, and the reactor on its way round.
//!
//! The clock is read once more before each wait, when all that the wake-up called for has been handed to the kernel. What left in
//! between is told apart by when it had come, and counted then.

use crate::proto::histogram::TimeHistogram;
use crate::proto::time::Instant;

/// Moments told apart within one wake-up: of more the times are counted a little too short.
const MOMENTS_MAX: usize = 256;

/// Of one process.
pub struct Times {
    tunnels: Vec<TunnelTimes>,
    loops: TimeHistogram,
}

/// Of one tunnel.
#[derive(Default)]
pub struct TunnelTimes {
    /// From the wake-up that has read a frame from the TAP.
    pub tap_to_wire: Passages,
    /// From the wake-up that has received a frame.
    pub wire_to_tap: Passages,
}

/// One way through.
#[derive(Default)]
pub struct Passages {
    times: TimeHistogram,
    /// When frames had come that have left since the last wait, and how many.
    left: Vec<(Instant, u64)>,
}

impl Passages {
    fn with_room() -> Self {
        Self { left: Vec::with_capacity(MOMENTS_MAX), ..Self::default() }
    }

    /// A frame that had come at `came_at` leaves.
    #[inline]
    pub fn on_left(&mut self, now: Instant, came_at: Instant) {
        let is_full = self.left.len() == MOMENTS_MAX;
        match self.left.last_mut() {
            Some((moment, count)) if *moment == came_at => *count += 1,
            _ if is_full => self.times.record(now.since(came_at)),
            _ => self.left.push((came_at, 1)),
        }
    }

    /// All that have left have been handed to the kernel at `at`.
    #[inline]
    fn on_handed(&mut self, at: Instant) {
        for (came_at, count) in self.left.drain(..) {
            self.times.record_many(at.since(came_at), count);
        }
    }

    /// How long it took.
    #[must_use]
    pub const fn times(&self) -> &TimeHistogram {
        &self.times
    }
}

impl Times {
    /// Of so many tunnels.
    #[must_use]
    pub fn new(tunnels: usize) -> Self {
        let fresh = || TunnelTimes { tap_to_wire: Passages::with_room(), wire_to_tap: Passages::with_room() };
        Self { tunnels: (0..tunnels).map(|_| fresh()).collect(), loops: TimeHistogram::default() }
    }

    /// Those of a tunnel.
    #[must_use]
    pub fn of(&self, tunnel: usize) -> &TunnelTimes {
        &self.tunnels[tunnel]
    }

    /// The same, to be told of a frame.
    #[inline]
    pub fn of_mut(&mut self, tunnel: usize) -> &mut TunnelTimes {
        &mut self.tunnels[tunnel]
    }

    /// All that the wake-up at `woken_at` called for has been handed to the kernel at `at`.
    #[inline]
    pub fn on_handed(&mut self, woken_at: Instant, at: Instant) {
        self.loops.record(at.since(woken_at));
        for tunnel in &mut self.tunnels {
            tunnel.tap_to_wire.on_handed(at);
            tunnel.wire_to_tap.on_handed(at);
        }
    }

    /// How long the reactor took each time it was woken.
    #[must_use]
    pub const fn loops(&self) -> &TimeHistogram {
        &self.loops
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(microseconds: u64) -> Instant {
        Instant::from_nanos(1_000_000_000 + microseconds * 1_000)
    }

    #[test]
    fn each_frame_counts_from_when_it_came_until_all_is_handed_over() {
        let mut times = Times::new(1);
        let way = &mut times.of_mut(0).tap_to_wire;
        (0..40).for_each(|_| way.on_left(at(100), at(100)));
        (0..60).for_each(|_| way.on_left(at(100), at(0)));
        times.on_handed(at(100), at(110));
        let of = times.of(0).tap_to_wire.times();
        assert_eq!((of.count(), times.of(0).wire_to_tap.times().count()), (100, 0));
        let [fast, slow] = [30.0, 50.0].map(|percent| of.percentile(percent).as_nanos());
        assert!((9_900..10_100).contains(&fast) && (109_000..111_000).contains(&slow), "{fast} {slow}");
        assert_eq!(times.loops().count(), 1);
        times.on_handed(at(200), at(201));
        assert_eq!(times.of(0).tap_to_wire.times().count(), 100, "once");
    }

    #[test]
    fn more_moments_than_there_is_room_for_are_counted_all_the_same() {
        let mut times = Times::new(1);
        let moments = 3 * MOMENTS_MAX as u64;
        (0..moments).for_each(|moment| times.of_mut(0).wire_to_tap.on_left(at(moments), at(moment)));
        times.on_handed(at(moments), at(moments));
        assert_eq!(times.of(0).wire_to_tap.times().count(), moments);
    }
}
