//! Uplinks whose data budgets are spent.

use super::*;

impl World {
    fn sent_by_fast_and_slow(&self, end: usize) -> [u64; 2] {
        [0, 1].map(|number| self.ends[end].uplink(id(number)).sent.packets)
    }

    fn set_spent(&mut self, number: u8, is_spent: bool) {
        let now = self.now;
        self.ends[BOX].set_spent(now, id(number), is_spent);
        self.run(100);
    }
}

#[test]
fn a_spent_uplink_carries_no_frame_in_either_direction_until_the_other_falls() {
    for mode in Mode::ALL {
        let mut world = World::new(mode);
        world.set_spent(1, true);
        assert_eq!(world.ends[GATEWAY].spent(), UplinkSet::only(id(1)), "{mode:?}: the gateway is told");
        for number in 0..1500 {
            world.offer(BOX, number);
            world.offer(GATEWAY, number);
            world.run(1);
        }
        for end in [BOX, GATEWAY] {
            assert_eq!(world.sent_by_fast_and_slow(end), [1500, 0], "{mode:?}");
        }
        let now = world.now;
        world.ends[BOX].handle_uplink_detached(now, id(0), Reason::NoCarrier);
        world.stream(BOX, 1500..2500);
        world.run(200);
        assert!(world.sent_by_fast_and_slow(BOX)[1] >= 1000, "{mode:?}: it takes over");
        assert_eq!([world.missing(BOX), world.missing(GATEWAY)], [0, 0], "{mode:?}");
        world.attach_box();
        world.run(1500);
        let before = world.sent_by_fast_and_slow(BOX)[1];
        world.stream(BOX, 2500..3500);
        assert_eq!(world.sent_by_fast_and_slow(BOX)[1], before, "{mode:?}: it rests again");
        world.run(200);
        assert_eq!(world.missing(BOX), 0, "{mode:?}");
    }
}

#[test]
fn where_all_uplinks_are_spent_all_are_used_as_before() {
    let mut world = World::new(Mode::BalanceRr);
    world.set_spent(0, true);
    world.set_spent(1, true);
    world.stream(BOX, 0..1000);
    world.run(200);
    assert_eq!((world.sent_by_fast_and_slow(BOX), world.missing(BOX)), ([500, 500], 0));
}

#[test]
fn where_all_uplinks_are_spent_a_silent_one_is_noticed_as_soon_as_ever() {
    let mut world = World::new(Mode::BalanceRr);
    world.set_spent(0, true);
    world.set_spent(1, true);
    world.stream(BOX, 0..1000);
    world.links[0].towards_gateway = false;
    world.stream(BOX, 1000..2000);
    world.run(200);
    assert!(world.missing(BOX) < 200, "{} of 1,000 were lost", world.missing(BOX));
}

#[test]
fn a_new_month_has_the_uplink_used_again() {
    let mut world = World::new(Mode::BalanceRr);
    world.set_spent(1, true);
    world.stream(BOX, 0..1000);
    world.set_spent(1, false);
    world.stream(BOX, 1000..2000);
    world.run(200);
    assert_eq!((world.sent_by_fast_and_slow(BOX), world.missing(BOX)), ([1500, 500], 0));
    assert_eq!(world.ends[GATEWAY].spent(), UplinkSet::EMPTY);
    assert_eq!(world.states(BOX), [State::Up, State::Up]);
}

#[test]
fn a_spent_uplink_stays_known_by_few_datagrams() {
    for mode in Mode::ALL {
        let mut world = World::new(mode);
        world.set_spent(1, true);
        let mut by_slow = 0;
        for number in 0..20_000 {
            world.offer(BOX, number);
            let flown = world.flown;
            world.run(1);
            by_slow +=
                world.flying.iter().filter(|((_, sent), (_, uplink, _))| *sent > flown && *uplink == id(1)).count();
        }
        assert_eq!(world.states(BOX), [State::Up, State::Up], "{mode:?}");
        assert!((20..60).contains(&by_slow), "{mode:?}: {by_slow} datagrams in 20 s");
    }
}
