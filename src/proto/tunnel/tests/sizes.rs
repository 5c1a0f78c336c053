//! Links that carry less than the longest datagrams, and the addresses that these come from.

use super::*;

/// The longest datagram that can come to be: 1,450 bytes of MTU, Ethernet's header, and GRE's.
pub(super) const LONGEST: usize = 1450 + 14 + 8;

#[test]
fn no_sounding_is_longer_than_the_longest_frame_and_none_counts_as_sent_or_lost() {
    let mut world = World::new(Mode::BalanceRr);
    assert_eq!([0, 1].map(|number| world.ends[BOX].path_mtu(id(number))), [Some(LONGEST as u16 + 28); 2]);
    assert_eq!(world.ends[BOX].soundings(), 2);
    assert_eq!(world.ends[BOX].uplink(id(0)).sent.packets, 0);
    world.links[0].carries = LONGEST - 1;
    world.stream(BOX, 0..100);
    world.links[0].carries = 1200;
    world.stream(BOX, 100..1200);
    for end in [BOX, GATEWAY] {
        assert_eq!(world.states(end), [State::Up, State::Up], "it is no sign of an uplink's state");
    }
    assert!(world.ends[BOX].soundings() > 10, "{}", world.ends[BOX].soundings());
}

#[test]
fn frames_that_are_too_long_for_one_uplink_go_by_the_other_and_for_both_are_dropped_and_counted() {
    for mode in Mode::AT_ONCE {
        let mut world = World::new(mode);
        world.links[0].carries = 1200;
        world.stream(BOX, 0..2000);
        world.run(200);
        let known = world.ends[BOX].path_mtu(id(0)).expect("known");
        assert!((1220..=1228).contains(&known), "{mode:?}: {known}");
        let by_narrow = world.ends[BOX].uplink(id(0)).sent.packets;
        let missing = world.missing(BOX);
        world.stream(BOX, 2000..3000);
        world.run(200);
        assert_eq!(world.ends[BOX].uplink(id(0)).sent.packets, by_narrow, "{mode:?}");
        assert_eq!(world.missing(BOX), missing, "{mode:?}");
        world.links[1].carries = 1200;
        world.stream(BOX, 3000..5000);
        let dropped = |world: &World| world.ends[BOX].drops().get(DropReason::PathMtu);
        let before = dropped(&world);
        world.stream(BOX, 5000..5100);
        assert_eq!(dropped(&world), before + 100, "{mode:?}");
        // 1,192 to 1,200 bytes, less GRE's header and Ethernet's, which the other end heeds as well.
        for end in [BOX, GATEWAY] {
            let allowed = world.ends[end].tap_mtu_allowed();
            assert!((1170..=1178).contains(&allowed), "{mode:?}: {allowed}");
        }
    }
}

#[test]
fn an_uplink_that_carries_hardly_anything_does_not_have_the_tap_follow_as_long_as_another_carries_more() {
    let mut world = World::new(Mode::BalanceRr);
    world.links[0].carries = 900;
    world.stream(BOX, 0..2000);
    assert!(world.ends[BOX].path_mtu(id(0)).is_some_and(|known| known <= 928));
    assert_eq!(world.ends[BOX].tap_mtu_allowed(), 1450);
}

#[test]
fn the_box_learns_where_the_gateway_sees_it_and_when_that_changes() {
    let mut world = World::new(Mode::Broadcast);
    let seen = |world: &World| [0, 1].map(|number| world.ends[BOX].seen_as(id(number)));
    assert_eq!(seen(&world), [0, 1].map(|number| Some(world.path(id(number)).remote)));
    assert_eq!(world.ends[GATEWAY].seen_as(id(0)), None, "which is the box's affair");
    world.links[0].port = 7777;
    world.run(5000);
    assert_eq!(seen(&world), [0, 1].map(|number| Some(world.path(id(number)).remote)));
}
