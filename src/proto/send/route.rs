//! What the sender believes of one uplink: when would a frame sent now arrive?
//!
//! ```text
//!   now ──── shortest transit ────▶ │ what is on its way, at the rate it leaves │ the frame │
//!                                    ▲ arrives at the bottleneck's far end                  ▲ arrives
//! ```
//! All of it by the peer's clock, so that uplinks can be compared without knowing what the two clocks differ by.

use std::time::Duration;

use super::capacity::{Capacity, Load};
use super::peer_time::{PeerTime, Transit};
use crate::proto::time::{Instant, nanos};
use crate::proto::uplink::recent::RecentLeast;
use crate::proto::uplink::{Limits, UplinkId};

/// How long the shortest transit is remembered, twice this at most, and by how much longer by each uplink than by the one
/// before it.
const BASE_MEMORY: Duration = Duration::from_secs(4);
const BASE_MEMORY_STEP: Duration = Duration::from_millis(300);
/// For so long at its end nothing may wait.
const DRAINED_FOR: Duration = Duration::from_millis(300);
/// A transit longer than the shortest by less than this has not waited.
const WAITED_MIN: Duration = Duration::from_millis(4);
/// What two clocks may differ by, from one probe to the next, without having stepped.
const CLOCK_STEP_MIN: Duration = Duration::from_millis(10);
/// A metered uplink is used as if frames took so much longer by it.
const METERED_PENALTY: Duration = Duration::from_millis(100);
/// A frame that is overdue by less than this is not given up.
const OVERDUE_MIN: Duration = Duration::from_millis(10);
/// Variation allowed for, in units of what is measured, and at most.
const VARIATIONS: u32 = 4;
const VARIATION_MAX: Duration = Duration::from_millis(50);
/// How late a frame may be that later ones have overtaken, and how long until what was seen of that counts half.
const REORDERING_MIN: Duration = Duration::from_millis(2);
const REORDERING_MAX: Duration = Duration::from_millis(30);
const REORDERING_HALF_LIFE: Duration = Duration::from_secs(2);
/// Without a word from the peer so much is sent into an uplink beyond a round trip's worth.
const UNHEARD_FOR: Duration = Duration::from_millis(200);
/// The same, in bytes, for an uplink that is believed to carry next to nothing.
const UNHEARD_BYTES: u64 = 8 * 1514;

/// One uplink, as the sender sees it.
#[derive(Clone, Debug, Default)]
pub struct Route {
    /// What the user has set.
    pub limits: Limits,
    number: u32,
    base: Option<RecentLeast<Transit>>,
    last_transit: Option<Transit>,
    variation: u64,
    /// How much later than expected frames come, on average.
    lateness_mean: u64,
    capacity: Capacity,
    in_flight: u64,
    /// Bytes that were sent by it in all, and of these those that the peer has received, as far as it has told.
    sent: u64,
    received: u64,
    received_low: Option<u32>,
    /// Bytes that were lost since the peer last told of any.
    lost: u64,
    /// When the last of what is on its way will have arrived.
    free_at: Option<PeerTime>,
    last_arrival: Option<PeerTime>,
    /// Since when something should have come by it, and nothing has.
    paused_since: Option<PeerTime>,
    round_trip: Option<RecentLeast<Duration>>,
    /// How late frames were that later ones had overtaken, and when that was seen.
    reordering: Duration,
    reordering_since: Instant,
    /// By our clock: when `rate_max` lets the next frame go.
    allowed_at: Instant,
    /// By our clock: when the last parity was sent, and until when those sent take what it has been seen to carry.
    parity_at: Option<Instant>,
    parities_until: Instant,
}

impl Route {
    /// One that nothing is known of.
    #[must_use]
    pub fn new(uplink: UplinkId) -> Self {
        Self { number: uplink.number().into(), ..Self::default() }
    }

    /// What was sent at `sent_at` took this long to the peer.
    pub fn on_transit(&mut self, now: Instant, sent_at: Instant, transit: Transit) {
        self.paused_since.take_if(|since| PeerTime::arrival(sent_at, transit) > *since);
        if let Some(last) = self.last_transit.replace(transit) {
            let difference = nanos(transit.above(last).max(last.above(transit)));
            self.variation = self.variation - self.variation / 16 + difference.min(nanos(VARIATION_MAX)) / 16;
        }
        self.base = Some(RecentLeast::after(self.base, now, transit, self.memory()));
    }

    /// A frame came so much later than expected.
    pub fn on_lateness(&mut self, lateness: Duration) {
        self.lateness_mean = self.lateness_mean - self.lateness_mean / 16 + nanos(lateness.min(VARIATION_MAX)) / 16;
    }

    /// Each uplink's period is another one, so that not all of them make room at the same time.
    fn memory(&self) -> Duration {
        BASE_MEMORY + BASE_MEMORY_STEP * self.number
    }

    /// A probe took `transit` to the peer, and its round trip this long. Who has waited on the way has waited in the round
    /// trip, too: if a transit seems longer than that, the shortest one was none, or the peer's clock has stepped.
    pub fn on_probe_answered(&mut self, now: Instant, sent_at: Instant, transit: Transit, round_trip: Duration) {
        self.on_round_trip(now, round_trip);
        self.on_transit(now, sent_at, transit);
        let waited_max = round_trip.saturating_sub(self.round_trip().unwrap_or(round_trip));
        if self.base().is_some_and(|base| transit.above(base) > waited_max + CLOCK_STEP_MIN) {
            let base = transit.minus(waited_max);
            self.base = Some(RecentLeast::new(now, base));
        }
    }

    fn on_round_trip(&mut self, now: Instant, round_trip: Duration) {
        self.round_trip = Some(RecentLeast::after(self.round_trip, now, round_trip, BASE_MEMORY));
    }

    /// The peer's clock has stepped ahead: what was learned is moved with it.
    pub fn on_clock_step(&mut self, ahead: Duration) {
        let shift = |transit: Transit| transit.plus(ahead);
        let shift_time = |at: PeerTime| at.plus(ahead);
        self.base = self.base.map(|least| least.map(shift));
        self.last_transit = self.last_transit.map(shift);
        self.free_at = self.free_at.map(shift_time);
        self.last_arrival = self.last_arrival.map(shift_time);
        self.paused_since = self.paused_since.map(shift_time);
    }

    /// By `at` the peer had received so many bytes by it (the low 32 bits of its count), the last of which took `transit`, if
    /// that is known.
    pub fn on_received(&mut self, at: PeerTime, received: u32, transit: Option<Transit>) {
        let before = self.received_low.replace(received).unwrap_or(received);
        // The peer's count goes back when it has begun anew.
        let more = Some(received.wrapping_sub(before)).filter(|more| *more < 1 << 31);
        self.received = (self.received + u64::from(more.unwrap_or(0))).min(self.sent);
        self.last_arrival = self.last_arrival.max(Some(at));
        self.paused_since.take_if(|since| at > *since);
        let waited = transit.zip(self.base()).map_or(Duration::ZERO, |(transit, base)| transit.above(base));
        let waited = if waited >= self.waited_min() { waited } else { Duration::ZERO };
        let load = Load { waited, lost: std::mem::take(&mut self.lost) };
        self.capacity.on_received(at, self.received, load);
    }

    /// A train of frames sent at once came this fast, in bytes per second, by a report of `at`.
    pub fn on_burst(&mut self, at: PeerTime, rate: u64) {
        self.capacity.on_burst(at, rate);
    }

    /// By the peer's clock it is now this.
    pub fn on_peer_time(&mut self, at: PeerTime) {
        self.capacity.forget_until(at);
    }

    fn waited_min(&self) -> Duration {
        WAITED_MIN.max(Duration::from_nanos(self.variation) * 2)
    }

    /// The shortest transit of late.
    #[must_use]
    pub fn base(&self) -> Option<Transit> {
        self.base.map(|least| least.get())
    }

    /// A frame that was taken for lost has come by it, up to so much later than it was expected.
    pub fn on_overtaken(&mut self, now: Instant, late: Duration) {
        // What seems to be later was given up by the peer, which says of that, too, that it waits for it no more.
        let wanted = (late + late / 4).clamp(REORDERING_MIN, REORDERING_MAX);
        if late <= REORDERING_MAX && wanted > self.reordering(now) {
            (self.reordering, self.reordering_since) = (wanted, now);
        }
    }

    fn reordering(&self, now: Instant) -> Duration {
        let halvings = nanos(now.since(self.reordering_since)) / nanos(REORDERING_HALF_LIFE);
        self.reordering / 2_u32.saturating_pow(u32::try_from(halvings).unwrap_or(u32::MAX))
    }

    /// How late a frame may come though later ones have: zero if the uplink keeps order.
    #[must_use]
    pub fn lateness(&self, now: Instant) -> Duration {
        Some(self.reordering(now)).filter(|reordering| *reordering >= REORDERING_MIN / 2).unwrap_or_default()
    }

    /// The shortest round trip of late.
    #[must_use]
    pub fn round_trip(&self) -> Option<Duration> {
        self.round_trip.map(|shortest| shortest.get())
    }

    /// How late a frame may be, given how late frames are as a rule, and be on its way still.
    #[must_use]
    pub fn patience(&self) -> Duration {
        OVERDUE_MIN + (Duration::from_nanos(self.lateness_mean) * VARIATIONS).min(VARIATION_MAX)
    }

    /// What it carries.
    #[must_use]
    pub const fn capacity(&self) -> &Capacity {
        &self.capacity
    }

    /// Bytes of frame that are on their way.
    #[must_use]
    pub const fn in_flight(&self) -> u64 {
        self.in_flight
    }

    /// How much later frames count as arriving by it.
    const fn penalty(&self) -> Duration {
        if self.limits.is_metered { METERED_PENALTY } else { Duration::ZERO }
    }

    /// What may be sent by it, in bytes of frame per second.
    #[must_use]
    pub fn rate(&self) -> u64 {
        self.capacity.usable().min(self.limits.rate_max.unwrap_or(u64::MAX)).max(1)
    }

    /// How long it would need for so many bytes.
    #[must_use]
    pub fn time_for(&self, bytes: u64) -> Duration {
        Duration::from_nanos(
            u64::try_from(u128::from(bytes) * 1_000_000_000 / u128::from(self.rate())).unwrap_or(u64::MAX),
        )
    }

    /// How long a frame sent now would wait for those before it.
    #[must_use]
    pub fn queue(&self, now: Instant) -> Duration {
        match (self.free_at, self.base()) {
            (Some(free_at), Some(base)) => free_at.since(PeerTime::arrival(now, base)),
            _ => Duration::ZERO,
        }
    }

    /// When a frame sent now would arrive; `None` if nothing is known of the uplink.
    #[must_use]
    pub fn arrival(&self, now: Instant, length: u32) -> Option<PeerTime> {
        let soonest = PeerTime::arrival(now.max(self.allowed_at), self.base()?);
        Some(self.free_at.map_or(soonest, |free_at| free_at.max(soonest)).plus(self.time_for(length.into())))
    }

    /// The same, as far as the user's terms make it count later.
    #[must_use]
    pub fn cost(&self, now: Instant, length: u32) -> Option<PeerTime> {
        self.arrival(now, length).map(|arrival| arrival.plus(self.penalty()))
    }

    /// At the end of each period nothing may wait on the way: what is seen then is the shortest transit, and not that of a
    /// queue that we keep up ourselves.
    fn queue_max(&self, now: Instant, queue_max: Duration) -> Duration {
        let drains = self.base.is_some_and(|least| now + DRAINED_FOR >= least.since() + self.memory());
        if drains { Duration::ZERO } else { queue_max }
    }

    /// Whether a frame may be sent now, when others may wait for `queue_max` on the way.
    #[must_use]
    pub fn has_room(&self, now: Instant, queue_max: Duration) -> bool {
        self.queue(now) <= self.queue_max(now, queue_max)
            && self.in_flight <= self.in_flight_max()
            && self.is_allowed(now)
    }

    /// Whether a parity may be sent now: also when nothing should wait for a moment, and with a little more patience for
    /// `rate_max` than frames need, which have just taken their part. By an uplink that carries no frames, of which it would
    /// be seen that they wait, no more may go than it has been seen to carry, and nothing while probes are late.
    #[must_use]
    pub fn has_room_for_parity(&self, now: Instant, queue_max: Duration) -> bool {
        let is_late = self.last_transit.zip(self.base()).is_some_and(|(last, base)| last.above(base) > queue_max);
        let is_known = self.in_flight > 0 || self.capacity.seen() > 0;
        let soon = now + queue_max;
        is_known && !is_late && self.queue(now) <= queue_max && self.parities_until <= soon && self.allowed_at <= soon
    }

    /// Whether nothing of ours is on its way by it, as far as is known.
    #[must_use]
    pub fn is_lone(&self, now: Instant) -> bool {
        let has_parity = self.parity_at.is_some_and(|at| now.since(at) <= self.round_trip().unwrap_or(UNHEARD_FOR));
        self.in_flight == 0 && !has_parity
    }

    /// Whether `rate_max` lets a frame go now.
    #[must_use]
    pub fn is_allowed(&self, now: Instant) -> bool {
        self.allowed_at <= now
    }

    fn in_flight_max(&self) -> u64 {
        let longest = nanos(self.round_trip().unwrap_or_default() + UNHEARD_FOR);
        let bytes = u128::from(self.rate()) * u128::from(longest) / 1_000_000_000;
        u64::try_from(bytes).unwrap_or(u64::MAX).saturating_add(UNHEARD_BYTES)
    }

    /// When it will have room, if nothing but time passes; `None` if it takes more.
    #[must_use]
    pub fn room_at(&self, now: Instant, queue_max: Duration) -> Option<Instant> {
        if self.in_flight > self.in_flight_max() {
            return None;
        }
        let wait = self.queue(now).saturating_sub(self.queue_max(now, queue_max));
        Some((now + wait).max(self.allowed_at))
    }

    /// A frame is sent. Returns when it is expected to arrive.
    pub fn on_sent(&mut self, now: Instant, length: u32) -> PeerTime {
        // As long as nothing is known of the way, nothing can be said by the peer's clock.
        let known = self.arrival(now, length);
        self.free_at = known.or(self.free_at);
        let arrival = known.unwrap_or(PeerTime::arrival(now, Transit(0)));
        self.in_flight += u64::from(length);
        self.on_copied(length);
        self.take_allowance(now, length);
        arrival
    }

    fn take_allowance(&mut self, now: Instant, length: u32) {
        if let Some(rate_max) = self.limits.rate_max {
            let taken = Duration::from_nanos(u64::from(length) * 1_000_000_000 / rate_max.max(1));
            self.allowed_at = self.allowed_at.max(now) + taken;
        }
    }

    /// A copy of what went elsewhere goes by it.
    pub fn on_copied(&mut self, length: u32) {
        self.sent += u64::from(length);
    }

    /// A parity goes by it, whose coming nobody reports.
    pub fn on_parity(&mut self, now: Instant, length: u32) {
        self.free_at = self.arrival(now, length).or(self.free_at);
        self.on_copied(length);
        self.parities_until = self.parities_until.max(now) + self.time_for_parity(length);
        self.parity_at = Some(now);
        self.take_allowance(now, length);
    }

    /// Where no frames are under way, of which it would be seen that they wait, it is taken to carry no more than was seen.
    fn time_for_parity(&self, length: u32) -> Duration {
        if self.in_flight > 0 {
            return self.time_for(length.into());
        }
        Duration::from_nanos(u64::from(length) * 1_000_000_000 / self.capacity.seen().max(1))
    }

    /// A frame has been lost on its way.
    pub fn on_lost(&mut self, length: u32) {
        self.lost += u64::from(length);
    }

    /// A frame that was sent when nothing else was on the way took this long: it cannot have waited for others of ours, so
    /// that is how long the way is now.
    pub fn on_lone_transit(&mut self, now: Instant, transit: Transit) {
        self.base = Some(RecentLeast::new(now, transit));
    }

    /// A frame is on its way no more: it has come, or will not.
    pub fn on_settled(&mut self, length: u32) {
        self.in_flight -= u64::from(length);
    }

    /// The peer has said what had come by `at`; of what has not, the first was expected at `expected_at`. What is still on
    /// its way leaves from then on; or, if the uplink pauses, when it has paused for as long again.
    pub fn restart_from(&mut self, at: PeerTime, expected_at: Option<PeerTime>) {
        let due_since = expected_at.map(|expected| self.last_arrival.map_or(expected, |last| last.max(expected)));
        if self.paused_since.is_none() {
            self.paused_since = due_since.filter(|since| at.since(*since) >= self.patience());
        }
        self.free_at = Some(self.paused_since.map_or(at, |since| at.plus(at.since(since))));
    }

    /// Whether something should have come by it, and nothing has.
    #[must_use]
    pub const fn is_paused(&self) -> bool {
        self.paused_since.is_some()
    }

    /// For how long nothing has come by it though something should have, at `at`; `None` if it does not pause.
    #[must_use]
    pub fn paused_for(&self, at: PeerTime) -> Option<Duration> {
        self.paused_since.map(|since| at.since(since))
    }

    /// A frame sent at `sent_at` is on its way still, behind those told of before. Returns when it will arrive.
    pub fn on_still_under_way(&mut self, sent_at: Instant, length: u32) -> PeerTime {
        let soonest = self.base().map(|base| PeerTime::arrival(sent_at, base));
        let begins = self.free_at.max(soonest);
        let arrival = begins.map_or(PeerTime::arrival(sent_at, Transit(0)), |at| at.plus(self.time_for(length.into())));
        self.free_at = Some(arrival);
        arrival
    }

    /// The peer is another one: nothing is known.
    pub fn forget(&mut self) {
        *self = Self { limits: self.limits, number: self.number, allowed_at: self.allowed_at, ..Self::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> Instant {
        Instant::from_nanos(milliseconds * 1_000_000)
    }

    fn peer(milliseconds: u64) -> PeerTime {
        PeerTime::from_nanos(milliseconds * 1_000_000)
    }

    /// A route with a transit of 20 ms that carries 1 byte per microsecond, and is busy.
    fn busy_route() -> Route {
        let mut route = Route::default();
        route.on_transit(at(0), at(0), Transit(20_000_000));
        for step in 0..100 {
            route.on_copied(20_000);
            route.on_received(peer(20 * step), step as u32 * 20_000, Some(Transit(40_000_000)));
        }
        route
    }

    #[test]
    fn a_frame_waits_for_those_before_it() {
        let mut route = busy_route();
        let first = route.on_sent(at(3000), 10_000);
        let second = route.arrival(at(3000), 10_000).expect("known");
        assert!((9..12).contains(&first.since(peer(3020)).as_millis()), "{first:?}");
        assert!((19..23).contains(&second.since(peer(3020)).as_millis()), "{second:?}");
        assert!((9..12).contains(&route.queue(at(3000)).as_millis()));
        assert_eq!(route.queue(at(3030)), Duration::ZERO, "what waited has left");
    }

    #[test]
    fn room_comes_with_time() {
        let mut route = busy_route();
        for _ in 0..10 {
            route.on_sent(at(3000), 10_000);
        }
        let bearable = Duration::from_millis(40);
        assert!(!route.has_room(at(3000), bearable));
        let room_at = route.room_at(at(3000), bearable).expect("time suffices");
        assert!((at(3050)..at(3075)).contains(&room_at), "{room_at:?}");
        assert!(route.has_room(room_at, bearable));
    }

    #[test]
    fn an_uplink_that_nothing_is_heard_of_is_not_filled_for_ever() {
        let mut route = busy_route();
        let bearable = Duration::from_millis(40);
        let mut sent = 0;
        for millisecond in 3000..10_000 {
            while route.has_room(at(millisecond), bearable) {
                route.on_sent(at(millisecond), 1500);
                sent += 1500;
            }
        }
        assert!(sent < 300_000, "{sent}");
        assert_eq!(route.room_at(at(10_000), bearable), None);
    }

    #[test]
    fn a_rate_that_the_user_has_set_is_kept() {
        let mut route = busy_route();
        route.limits.rate_max = Some(100_000);
        let mut sent = 0;
        for millisecond in 3000..4000 {
            while route.has_room(at(millisecond), Duration::from_secs(1)) {
                route.on_sent(at(millisecond), 1000);
                route.on_settled(1000);
                sent += 1000;
            }
        }
        assert!((99_000..102_000).contains(&sent), "{sent}");
    }
}
