use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

const BOUNDS: Bounds = Bounds { header: 28, floor: 618, wanted: 1472 };
const ROUND_TRIP: Duration = Duration::from_millis(40);
const PATIENCE: Duration = Duration::from_millis(60);

/// An uplink that carries what is no longer than it can, and loses what it is told to.
struct World {
    now: Instant,
    size: PathMtu,
    carries: u16,
    /// Answers on their way: when they come, when the sounding was sent, its length, and whether it was the short one.
    answers: VecDeque<(Instant, Instant, u16, bool)>,
    soundings: u64,
    /// Whether the kernel says so when something is too long.
    refuses: bool,
    long_ones: Vec<u16>,
    lost: Box<dyn FnMut() -> bool>,
    /// The longest frame's datagram that is sent every 10 ms.
    frames: Option<u16>,
    frames_sent: u64,
    received: Traffic,
}

impl World {
    fn new(carries: u16, lost: impl FnMut() -> bool + 'static) -> Self {
        let mut world = Self {
            now: Instant::ZERO,
            size: PathMtu::new(BOUNDS),
            carries,
            answers: VecDeque::new(),
            soundings: 0,
            refuses: false,
            long_ones: vec![],
            lost: Box::new(lost),
            frames: None,
            frames_sent: 0,
            received: Traffic::default(),
        };
        world.size.start(Instant::ZERO, true);
        world
    }

    fn calm(carries: u16) -> Self {
        Self::new(carries, || false)
    }

    fn run(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            self.step();
            self.now = self.now + Duration::from_millis(1);
        }
    }

    fn step(&mut self) {
        let now = self.now;
        while self.answers.front().is_some_and(|(at, ..)| *at <= now) {
            let Some((_, sent_at, length, is_small)) = self.answers.pop_front() else { break };
            self.size.on_answered(now, sent_at, length, is_small);
        }
        let milliseconds = now.as_nanos() / 1_000_000;
        if let Some(length) = self.frames.filter(|_| milliseconds.is_multiple_of(10)) {
            let length = self.size.limit().map_or(length, |limit| limit.min(length));
            self.size.on_sent(length);
            self.frames_sent += 1;
            if length <= self.carries && !(self.lost)() {
                self.received.add(usize::from(length));
            }
        }
        if milliseconds.is_multiple_of(20) {
            self.size.on_small_sent(now);
            if !(self.lost)() && !(self.lost)() {
                self.answers.push_back((now + ROUND_TRIP, now, 0, true));
            }
            // As if it were known at once.
            self.size.on_counted(now, self.frames_sent, self.received, 0);
        }
        while let Some(length) = self.size.poll(now, PATIENCE) {
            self.soundings += 1;
            self.long_ones.push(length);
            if self.refuses && length > self.carries {
                assert!(self.size.on_refused(now, length), "it was a sounding");
            }
            for (length, is_small) in [(length, false), (0, true)] {
                let comes = length <= self.carries && !(self.lost)() && !(self.lost)();
                if comes {
                    self.answers.push_back((now + ROUND_TRIP, now, length, is_small));
                }
            }
        }
        assert!(self.size.next_timeout(PATIENCE).is_none_or(|at| at > now), "due again at once");
    }

    /// Runs until this is the limit, and returns how many milliseconds that took.
    fn await_limit(&mut self, limit: Option<u16>) -> u64 {
        let begun = self.now;
        while self.size.limit() != limit || self.size.is_searching(self.now) {
            self.run(Duration::from_millis(1));
            assert!(self.now.since(begun) < Duration::from_secs(20), "{:?}", self.size);
        }
        self.now.since(begun).as_millis() as u64
    }
}

#[test]
fn an_uplink_that_carries_all_is_asked_once() {
    let mut world = World::calm(1472);
    world.run(Duration::from_secs(3_600));
    assert_eq!((world.size.limit(), world.size.known()), (None, Some(1472)));
    assert_eq!(world.soundings, 1);
}

#[test]
fn a_common_size_is_found_exactly_and_others_within_a_few_bytes() {
    for packet in PACKETS_COMMON {
        let mut world = World::calm(packet - 28);
        world.run(Duration::from_secs(3));
        assert_eq!(world.size.known(), Some(packet - 28));
        assert_eq!(world.size.limit(), Some(packet - 28).filter(|limit| *limit < BOUNDS.wanted));
    }
    for carries in [618, 700, 1000, 1171, 1172, 1173, 1290, 1333, 1471] {
        let mut world = World::calm(carries);
        world.run(Duration::from_secs(3));
        let limit = world.size.limit().expect("less than is wanted");
        assert!(limit <= carries && limit + GRANULARITY >= carries, "{limit} of {carries}");
    }
}

#[test]
fn an_uplink_that_carries_hardly_anything_has_the_floor_for_its_limit() {
    let mut world = World::calm(300);
    world.run(Duration::from_secs(3));
    assert_eq!((world.size.limit(), world.size.known()), (Some(618), None));
}

#[test]
fn what_carries_less_suddenly_is_noticed_by_what_is_lost() {
    let mut world = World::calm(1472);
    world.frames = Some(1400);
    world.run(Duration::from_secs(20));
    world.carries = 1272;
    let begun = world.now;
    while world.size.limit().is_none() {
        world.run(Duration::from_millis(1));
    }
    let noticed = world.now.since(begun);
    // A look at the counters every 20 ms, three pairs 10 ms apart, and the time an answer would have taken.
    assert!(noticed <= Duration::from_millis(20 + 20 + 60 + 2), "{noticed:?}");
    assert_eq!(world.size.limit(), Some(1172), "at once what every uplink carries");
    assert!(world.await_limit(Some(1272)) < 800);
    world.carries = 1472;
    // Five seconds after the search.
    assert!(world.await_limit(None) < 6_000);
}

#[test]
fn a_stream_of_one_length_shows_by_itself_that_it_comes_through() {
    let mut world = World::calm(1472);
    world.frames = Some(1400);
    world.run(Duration::from_secs(60));
    assert_eq!(world.soundings, 1, "the one at the start");
}

#[test]
fn a_confirmation_goes_once_a_second_and_only_while_long_ones_are_sent() {
    let mut world = World::calm(1472);
    let mixed = |world: &mut World, seconds: u64| {
        for _ in 0..seconds * 10 {
            // Now and then a longer one: the average does not show that it comes.
            world.size.on_sent(1450);
            world.frames = Some(900);
            world.run(Duration::from_millis(100));
        }
    };
    mixed(&mut world, 60);
    assert!((55..=62).contains(&world.soundings), "{}", world.soundings);
    let before = world.soundings;
    world.frames = Some(900);
    world.run(Duration::from_secs(60));
    assert!(world.soundings - before <= 2, "{}", world.soundings - before);
}

#[test]
fn where_much_is_lost_losses_are_looked_into_no_more_than_once_a_second() {
    let mut random = 7_u64;
    let mut world = World::new(1472, move || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        random >> 33 < (1 << 31) / 20
    });
    world.run(Duration::from_secs(5));
    let before = world.soundings;
    for _ in 0..600 {
        world.size.on_sent(1450);
        world.frames = Some(900);
        world.run(Duration::from_millis(100));
    }
    assert_eq!(world.size.limit(), None);
    // A pair of three soundings a second, and at first some more often.
    assert!(world.soundings - before < 60 * 4, "{}", world.soundings - before);
}

#[test]
fn more_is_tried_ever_more_seldom() {
    let mut world = World::calm(1272);
    world.run(Duration::from_secs(3_600));
    // After 5, 10, 20, ... 320 s, and every 600 s.
    let tries = world.long_ones.windows(2).filter(|pair| pair[1] == 1472 && pair[0] != 1472).count();
    assert!((11..=14).contains(&tries), "{tries}");
}

#[test]
fn what_the_kernel_refuses_is_looked_into_at_once() {
    let mut world = World::calm(1472);
    world.run(Duration::from_secs(5));
    let begun = world.now;
    (world.carries, world.refuses) = (972, true);
    world.size.on_sent(1400);
    assert!(!world.size.on_refused(world.now, 1400), "it was a frame");
    while world.size.limit().is_none() {
        world.run(Duration::from_millis(1));
    }
    assert!(world.now.since(begun) <= Duration::from_millis(25), "{:?}", world.now.since(begun));
}

#[test]
fn a_forged_refusal_changes_nothing() {
    let mut world = World::calm(1472);
    world.run(Duration::from_secs(5));
    for _ in 0..1_000 {
        world.size.on_refused(world.now, 1400);
        world.run(Duration::from_millis(10));
        assert_eq!(world.size.limit(), None);
    }
    assert!(world.soundings <= 4 * 100, "{}", world.soundings);
}

#[test]
fn an_uplink_that_is_silent_is_not_taken_for_one_that_carries_less() {
    let silent = std::rc::Rc::new(std::cell::Cell::new(false));
    let is_silent = silent.clone();
    let mut world = World::new(1472, move || is_silent.get());
    world.frames = Some(1400);
    world.run(Duration::from_secs(5));
    silent.set(true);
    world.run(Duration::from_secs(10));
    assert_eq!(world.size.limit(), None);
    silent.set(false);
    world.run(Duration::from_secs(10));
    assert_eq!(world.size.limit(), None);
}

#[test]
fn what_comes_back_by_the_same_way_keeps_its_limit_until_more_is_shown() {
    let mut world = World::calm(1272);
    world.run(Duration::from_secs(3));
    world.size.stop();
    world.run(Duration::from_secs(1));
    world.size.start(world.now, false);
    assert_eq!(world.size.limit(), Some(1272));
    world.carries = 1472;
    assert!(world.await_limit(None) < 100, "it is tried at once");
    world.size.stop();
    world.carries = 1272;
    world.size.start(world.now, true);
    assert_eq!(world.size.limit(), None, "of another way nothing is known");
    world.await_limit(Some(1272));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_is_lost_the_search_ends_and_never_above_what_is_carried(
        carries in 618_u16..1600, share in 0_u64..=20, burst in 1_u64..20, seed: u64
    ) {
        // Losses come in runs of up to `burst`, and take `share` percent of all datagrams, each way.
        let (mut random, mut run) = (seed | 1, 0_u64);
        let mut world = World::new(carries, move || {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            if run == 0 && random % (100 * burst) < share {
                run = burst;
            }
            let is_lost = run > 0;
            run -= u64::from(is_lost);
            is_lost
        });
        world.frames = Some(1400);
        for _ in 0..60 {
            world.run(Duration::from_secs(1));
            // Up to a moment ago it may not have been noticed, but what is said to be known is known.
            prop_assert!(world.size.known().is_none_or(|known| known <= carries), "{:?}", world.size);
        }
        let reached = world.size.limit().unwrap_or(BOUNDS.wanted);
        prop_assert!(reached <= carries.min(BOUNDS.wanted), "{reached} of {carries}: {:?}", world.size);
        // A search has 20 trials at most, and there is one at the start and after 5, 10, 20 s; and what is lost is looked into
        // once a second. Few of them need as many pairs as one may.
        prop_assert!(world.soundings < (4 * 20 + 60) * u64::from(trial::PAIRS_MAX), "{}", world.soundings);
        if share == 0 {
            prop_assert!(reached + GRANULARITY >= carries.min(BOUNDS.wanted), "{reached} of {carries}");
        }
    }
}
