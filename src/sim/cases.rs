//! The committed table: what each mode makes of each fault, on two uplinks of 20 and 45 ms.
//!
//! A change of behaviour shows as a change of the table.

use std::fmt::Write;
use std::time::Duration;

use super::draw;
use super::link::{LinkSettings, Loss, Reordering};
use super::oracle::Violation;
use super::plan::{BOX, DOWN, EndPlan, GATEWAY, Incident, Plan, TrafficPlan, UP, UplinkPlan};
use super::random::Random;
use super::report::{Report, milliseconds};
use super::shaper::Shaper;
use super::world::World;
use super::{MILLISECOND, Nanoseconds, SECOND};
use crate::proto::scheduler::{Mode, SchedulerConfig};
use crate::proto::uplink::Limits;
use crate::proto::uplink::UplinkName;
use crate::proto::uplink::measure::PartsPerMillion;

/// When the fault begins, and when it has been mended.
const FAULT: (Nanoseconds, Nanoseconds) = (5 * SECOND, 8 * SECOND);
/// A stream of 8 Mbit/s each way.
const FRAMES_PER_SECOND: Nanoseconds = 760;
const FRAME_LENGTH: usize = 1330;
/// The uplink that the faults befall: the nearer one, unless the name of the fault says otherwise.
const NEAR: usize = 0;
const FAR: usize = 1;

/// A fault: its name, and what it adds to a plan.
type Case = (&'static str, fn(&mut Plan));

const CASES: [Case; 22] = [
    ("none", |_| {}),
    ("blackhole", |plan| blackhole(plan, NEAR, [true, true])),
    ("blackhole of the far one", |plan| blackhole(plan, FAR, [true, true])),
    ("blackhole up", |plan| blackhole(plan, NEAR, [true, false])),
    ("blackhole down", |plan| blackhole(plan, NEAR, [false, true])),
    ("unplugged", unplug),
    ("flapping", flap),
    ("2% loss", |plan| change(plan, |link| link.loss = Loss::Random(PartsPerMillion(20_000)))),
    ("bursts of loss", |plan| {
        change(plan, |link| link.loss = Loss::Burst { p: PartsPerMillion(5_000), r: PartsPerMillion(100_000) });
    }),
    ("jitter of 10 ms", |plan| change(plan, |link| link.jitter = Duration::from_millis(10))),
    ("2% reordered by up to 10 ms", |plan| {
        let by = Duration::from_millis(10);
        change(plan, |link| link.reordering = Reordering { share: PartsPerMillion(20_000), by });
    }),
    ("2% duplicated", |plan| change(plan, |link| link.duplication = PartsPerMillion(20_000))),
    ("1% corrupted", |plan| change(plan, |link| link.corruption = PartsPerMillion(10_000))),
    ("delay of 60 ms", |plan| change(plan, |link| link.delay = Duration::from_millis(60))),
    ("rate of 3 Mbit/s", |plan| change(plan, |link| link.shaper = Shaper::Rate(3_000_000))),
    ("a mobile link's capacity", |plan| {
        let trace = draw::trace(&mut Random::new(1));
        change(plan, |link| link.shaper = Shaper::Trace(trace.clone()));
    }),
    ("NAT rebinding", |plan| plan.incidents.push((FAULT.0, Incident::Rebind { uplink: NEAR }))),
    ("gateway's clock steps by 1 s", |plan| {
        let by = Duration::from_secs(1);
        plan.incidents.push((FAULT.0, Incident::ClockStep { end: GATEWAY, by }));
    }),
    ("gateway stalls for 100 ms", |plan| {
        let lasting = Duration::from_millis(100);
        plan.incidents.push((FAULT.0, Incident::Stall { end: GATEWAY, lasting }));
    }),
    ("box killed for 100 ms", |plan| restart(plan, BOX, false)),
    ("gateway killed for 100 ms", |plan| restart(plan, GATEWAY, false)),
    ("gateway restarted in 100 ms", |plan| restart(plan, GATEWAY, true)),
];

/// Runs every case in every mode, and writes down what came of it, as a table in Markdown.
///
/// # Errors
/// What the oracle objected to first, and in which case.
pub fn table() -> Result<String, String> {
    let mut text = String::from(
        "| mode | fault | delivered % | lost up | lost down | out of order | p50 ms | p99 ms | max ms | gap ms | recovery ms |\n\
         |---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n",
    );
    for mode in Mode::ALL {
        for (name, add_fault) in CASES {
            let report = run(mode, add_fault).map_err(|violation| format!("{}, {name}: {violation}", mode.name()))?;
            write_row(&mut text, mode, name, &report);
        }
    }
    Ok(text)
}

fn run(mode: Mode, add_fault: fn(&mut Plan)) -> Result<Report, Violation> {
    let mut plan = base(mode);
    add_fault(&mut plan);
    plan.incidents.sort_by_key(|(at, _)| *at);
    World::new(plan, None).run()
}

fn write_row(text: &mut String, mode: Mode, name: &str, report: &Report) {
    let [up, down] = report.ways;
    let basis_points = up.delivered_basis_points();
    let since_fault = report.all_up_since.filter(|since| *since >= FAULT.0);
    let recovery = since_fault.map_or("-".to_owned(), |since| milliseconds(since.saturating_sub(FAULT.1)));
    let _ = writeln!(
        text,
        "| {} | {name} | {}.{:02} | {} | {} | {} | {} | {} | {} | {} | {recovery} |",
        mode.name(),
        basis_points / 100,
        basis_points % 100,
        up.lost(),
        down.lost(),
        up.out_of_order + down.out_of_order,
        milliseconds(up.p50),
        milliseconds(up.p99),
        milliseconds(up.max),
        milliseconds(up.gap),
    );
}

fn base(mode: Mode) -> Plan {
    let end = EndPlan {
        scheduler: SchedulerConfig::new(mode),
        window: Some(mode.window().0),
        window_follows: mode.window().1,
        probe_interval: mode.probe_interval(),
        first_sequence: u32::MAX - 1000,
        clock_origin: 0,
    };
    let traffic = TrafficPlan {
        interval: SECOND / FRAMES_PER_SECOND,
        burst: 1,
        lengths: (FRAME_LENGTH, FRAME_LENGTH),
        misfits: 0,
        pauses: vec![],
    };
    Plan {
        seed: 1,
        ends: [end.clone(), EndPlan { clock_origin: 1_000 * SECOND, ..end }],
        tap_mtu: 1450,
        uplinks: vec![uplink("near", 20), uplink("far", 45)],
        traffic: [traffic.clone(), traffic],
        incidents: vec![],
        clean_from: 18 * SECOND,
        quiet_from: 22 * SECOND,
        until: 24 * SECOND,
        rekey_interval: None,
    }
}

fn uplink(name: &str, delay_ms: u64) -> UplinkPlan {
    let link = LinkSettings { delay: Duration::from_millis(delay_ms), ..LinkSettings::default() };
    let ways = [link.clone(), link];
    let name = UplinkName::new(name).expect("lawful");
    UplinkPlan { name, weight: 1, limits: Limits::default(), healed: ways.clone(), ways }
}

fn blackhole(plan: &mut Plan, uplink: usize, ways: [bool; 2]) {
    plan.incidents.push((FAULT.0, Incident::Blackhole { uplink, ways }));
    plan.incidents.push((FAULT.1, Incident::Restore { uplink }));
}

fn unplug(plan: &mut Plan) {
    for (at, up) in [(FAULT.0, false), (FAULT.1, true)] {
        plan.incidents.push((at, Incident::Carrier { uplink: NEAR, up }));
        // What netlink takes to tell of it.
        plan.incidents.push((at + MILLISECOND, Incident::CarrierNews { uplink: NEAR }));
    }
}

/// Three blackholes of 400 ms, a second apart.
fn flap(plan: &mut Plan) {
    for begin in [FAULT.1 - 2400 * MILLISECOND, FAULT.1 - 1400 * MILLISECOND, FAULT.1 - 400 * MILLISECOND] {
        plan.incidents.push((begin, Incident::Blackhole { uplink: NEAR, ways: [true, true] }));
        plan.incidents.push((begin + 400 * MILLISECOND, Incident::Restore { uplink: NEAR }));
    }
}

/// The near uplink is another one, both ways, until it is mended.
fn change(plan: &mut Plan, alter: impl Fn(&mut LinkSettings)) {
    for way in [UP, DOWN] {
        let healed = plan.uplinks[NEAR].healed[way].clone();
        let mut altered = healed.clone();
        alter(&mut altered);
        for (at, settings) in [(FAULT.0, altered), (FAULT.1, healed)] {
            plan.incidents.push((at, Incident::Change { uplink: NEAR, way, settings: Box::new(settings) }));
        }
    }
}

fn restart(plan: &mut Plan, end: usize, says_bye: bool) {
    plan.incidents.push((FAULT.1 - 100 * MILLISECOND, Incident::Stop { end, says_bye }));
    plan.incidents.push((FAULT.1, Incident::Start { end }));
}
