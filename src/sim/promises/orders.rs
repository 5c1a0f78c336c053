//! What a user changes while frames flow.

use super::*;
use crate::sim::plan::Order;

/// From one order to the next.
const STEP_MS: u64 = 700;

impl Course {
    /// The box's user orders all of these, one after the other.
    fn ordered(self, orders: impl IntoIterator<Item = Order>) -> Self {
        orders
            .into_iter()
            .zip(1..)
            .fold(self, |course, (order, step)| course.when(step * STEP_MS, NEAR, Happening::Order(order)))
    }
}

fn assert_nothing_lost_or_out_of_order(course: &Course) {
    for run in runs(course) {
        let figures = run.figures();
        assert_eq!((figures.lost(), figures.out_of_order), (0, 0), "{run}");
    }
}

/// Both ends hold frames for long enough for links of 20 and 45 ms, whatever the mode.
fn course(mode: Mode, links: [CourseUplink; 2]) -> Course {
    Course { mode, ..stream(mbit(8)).over(links).window_fixed(ms(100)) }
}

#[test]
fn changing_the_mode_loses_nothing() {
    let to_and_fro = |others: [Mode; 3]| others.map(|mode| [mode, Mode::Adaptive]).concat();
    for links in [near_and_far(), near_and_far_of(mbit(16))] {
        let orders = to_and_fro(Mode::AT_ONCE).into_iter().map(Order::Mode);
        assert_nothing_lost_or_out_of_order(&course(Mode::Adaptive, links.clone()).ordered(orders));
        let orders = [Mode::BalanceRr, Mode::ActiveBackup, Mode::Broadcast].repeat(4).into_iter().map(Order::Mode);
        assert_nothing_lost_or_out_of_order(&course(Mode::Broadcast, links).ordered(orders));
    }
}

#[test]
fn changing_the_window_loses_nothing() {
    let windows = [(ms(60), false), (ms(250), true), (ms(2_000), false), (ms(80), false), (ms(100), true)];
    for mode in [Mode::Adaptive, Mode::BalanceRr] {
        let orders = windows.map(|(window, follows)| Happening::OrderAtGateway(Order::Window(window, follows)));
        let course = orders
            .into_iter()
            .zip(1..)
            .fold(course(mode, near_and_far()), |course, (order, step)| course.when(step * STEP_MS, NEAR, order));
        assert_nothing_lost_or_out_of_order(&course);
    }
}

#[test]
fn removing_and_adding_an_uplink_loses_nothing() {
    for mode in Mode::ALL {
        for uplink in [NEAR, FAR] {
            let removed = [4_000, 6_000].into_iter().fold(course(mode, near_and_far()), |course, at_ms| {
                course.when(at_ms, NEAR, Happening::Order(Order::Remove(uplink)))
            });
            let added = removed.clone().when(8_000, NEAR, Happening::Order(Order::Add(uplink)));
            assert_nothing_lost_or_out_of_order(&removed);
            assert_nothing_lost_or_out_of_order(&added);
        }
    }
}

#[test]
fn an_uplink_with_another_weight_loses_nothing() {
    for mode in [Mode::BalanceRr, Mode::Adaptive] {
        let orders = [(NEAR, 7), (FAR, 3), (NEAR, 1), (FAR, 255)].map(|(uplink, weight)| Order::Weight(uplink, weight));
        assert_nothing_lost_or_out_of_order(&course(mode, near_and_far()).ordered(orders));
    }
}
