//! Draws a plan from a seed. Each seed has some kinds of trouble and is spared the others: what all seeds had would
//! hide what only shows without it.

use std::num::NonZeroU32;
use std::time::Duration;

use super::link::{LinkSettings, Loss, Queue, Reordering};
use super::plan::{BOX, EndPlan, GATEWAY, Incident, Plan, TrafficPlan, UplinkPlan};
use super::random::Random;
use super::shaper::{Shaper, Trace};
use super::{MILLISECOND, Nanoseconds, SECOND};
use crate::proto::scheduler::{Mode, PrimaryReselect, SchedulerConfig};
use crate::proto::send::redundancy::Rule;
use crate::proto::uplink::Limits;
use crate::proto::uplink::measure::PartsPerMillion;
use crate::proto::uplink::{UPLINKS_MAX, UplinkName};

/// The shortest world: it needs time to go wrong, and time to be well again.
pub const SECONDS_MIN: u64 = 40;
/// The longest: the oracle remembers every frame.
pub const SECONDS_MAX: u64 = 3600;
/// The time in which a world is drawn its share of incidents, so that longer ones have more.
const SHARE_OF_TROUBLE: Nanoseconds = 40 * SECOND;
/// How long every uplink may take to be up again once all is well: the longest proof is 8 s, a tunnel that had gone
/// idle probes once a second, and a path that was only lost to the gateway has to be noticed first.
const RECOVERY_MAX: Nanoseconds = 12 * SECOND;
/// For how long nothing may be lost after that.
const CLEAN_FOR: Nanoseconds = 8 * SECOND;
/// How long nothing is offered at the end.
const QUIET_FOR: Nanoseconds = 3 * SECOND;
/// Frames offered before this find nobody.
const CALM_UNTIL: Nanoseconds = 2 * SECOND;

/// Kinds of trouble.
#[derive(Clone, Copy, Debug)]
struct Troubles {
    jitter: bool,
    reordering: bool,
    loss: bool,
    bursts: bool,
    duplication: bool,
    corruption: bool,
    rate: bool,
    trace: bool,
    blackholes: bool,
    changes: bool,
    carrier: bool,
    rebinding: bool,
    clock_steps: bool,
    stalls: bool,
    restarts: bool,
    pauses: bool,
}

impl Troubles {
    fn draw(random: &mut Random) -> Self {
        let mut one_in_three = || random.below(3) == 0;
        Self {
            jitter: one_in_three(),
            reordering: one_in_three(),
            loss: one_in_three(),
            bursts: one_in_three(),
            duplication: one_in_three(),
            corruption: one_in_three(),
            rate: one_in_three(),
            trace: one_in_three(),
            blackholes: one_in_three(),
            changes: one_in_three(),
            carrier: one_in_three(),
            rebinding: one_in_three(),
            clock_steps: one_in_three(),
            stalls: one_in_three(),
            restarts: one_in_three(),
            pauses: one_in_three(),
        }
    }
}

/// The plan of `seed`, for a world of so many seconds.
///
/// # Panics
/// If it is shorter than [`SECONDS_MIN`] or longer than [`SECONDS_MAX`].
#[must_use]
pub fn plan(seed: u64, seconds: u64) -> Plan {
    assert!((SECONDS_MIN..=SECONDS_MAX).contains(&seconds), "a world has {SECONDS_MIN} to {SECONDS_MAX} seconds");
    let random = &mut Random::new(seed ^ 0x006b_7261_6964);
    let until = seconds * SECOND;
    let quiet_from = until - QUIET_FOR;
    let clean_from = quiet_from - CLEAN_FOR;
    let heal_at = clean_from - RECOVERY_MAX;
    let troubles = Troubles::draw(random);
    let count = if random.below(20) == 0 { UPLINKS_MAX as u64 } else { random.between(1, 4) };
    let ends = [draw_end(random), draw_end(random)];
    let window = ends.iter().filter_map(|end| end.window).min();
    let uplinks: Vec<_> = (0..count).map(|number| draw_uplink(random, number, &troubles, window)).collect();
    let mut incidents = draw_incidents(random, &troubles, &uplinks, heal_at);
    incidents.push((heal_at, Incident::Heal));
    incidents.extend(draw_spent_budgets(seed, count as usize, heal_at));
    incidents.sort_by_key(|(at, _)| *at);
    let mut uplinks = uplinks;
    narrow_some(seed, &mut uplinks, &mut incidents);
    let pauses = if troubles.pauses { draw_pauses(random, heal_at) } else { vec![] };
    let traffic = [draw_traffic(random, &pauses), draw_traffic(random, &pauses)];
    let is_sealed = random.below(3) == 0;
    let rekey_interval = Duration::from_millis(random.between(1_000, 20_000));
    Plan {
        seed,
        traffic,
        ends,
        tap_mtu: 1450,
        uplinks,
        incidents,
        clean_from,
        quiet_from,
        until,
        rekey_interval: is_sealed.then_some(rekey_interval),
    }
}

/// From randomness of its own, so that all else of a seed is what it was before there were budgets.
fn draw_spent_budgets(seed: u64, uplinks: usize, heal_at: Nanoseconds) -> Incidents {
    let random = &mut Random::new(seed ^ 0x0073_7065_6e74);
    if random.below(3) > 0 {
        return vec![];
    }
    let drawn = (0..random.between(1, 6)).map(|_| {
        let at = random.between(CALM_UNTIL, heal_at - 1);
        let (uplink, is_spent) = (random.below(uplinks as u64) as usize, random.below(3) > 0);
        (at, Incident::Spent { uplink, is_spent })
    });
    let drawn: Incidents = drawn.collect();
    let begun_anew = (0..uplinks).map(|uplink| (heal_at, Incident::Spent { uplink, is_spent: false }));
    drawn.into_iter().chain(begun_anew).collect()
}

/// All uplinks but the first may carry packets that are shorter than the longest. From randomness of its own, so that all else
/// of a seed is what it was before there were such.
fn narrow_some(seed: u64, uplinks: &mut [UplinkPlan], incidents: &mut Incidents) {
    let random = &mut Random::new(seed ^ 0x0000_006d_7475);
    if random.below(3) > 0 {
        return;
    }
    for (number, uplink) in uplinks.iter_mut().enumerate().skip(1) {
        let longest = match random.below(2) {
            0 => continue,
            _ => Some(random.between(1_000, 1_500) as usize),
        };
        uplink.ways.iter_mut().chain(&mut uplink.healed).for_each(|link| link.longest = longest);
        for (_, incident) in incidents.iter_mut() {
            if let Incident::Change { uplink, settings, .. } = incident
                && *uplink == number
            {
                settings.longest = longest;
            }
        }
    }
}

fn draw_end(random: &mut Random) -> EndPlan {
    let windows = [20, 40, 40, 40, 100, 200].map(|ms| Some(Duration::from_millis(ms)));
    let window = if random.below(8) == 0 { None } else { *random.pick(&windows) };
    let number = random.next() as u32;
    let almost_wrapped = u32::MAX - random.below(5_000) as u32;
    EndPlan {
        scheduler: SchedulerConfig {
            mode: *random.pick(&Mode::ALL),
            packets_per_uplink: NonZeroU32::new(*random.pick(&[1, 1, 2, 8])).unwrap_or(NonZeroU32::MIN),
            primary: if random.below(2) == 0 { Some(name(random.below(3))) } else { None },
            primary_reselect: *random.pick(&PrimaryReselect::ALL),
            redundancy: if random.below(4) == 0 { vec![Rule::Small(700)] } else { vec![] },
        },
        window,
        window_follows: random.below(4) == 0 && window.is_some(),
        probe_interval: Duration::from_millis(*random.pick(&[20, 20, 20, 10, 50, 100])),
        first_sequence: *random.pick(&[0, almost_wrapped, number]),
        clock_origin: random.below(1 << 50),
    }
}

fn name(number: u64) -> UplinkName {
    UplinkName::new(&format!("u{number}")).expect("a letter and a number")
}

fn draw_uplink(random: &mut Random, number: u64, troubles: &Troubles, window: Option<Duration>) -> UplinkPlan {
    let ways = [draw_link(random, troubles), draw_link(random, troubles)];
    // Once all is well, skew is within the smallest window.
    let spread = window.unwrap_or(Duration::from_millis(40)).as_nanos() as u64 * 3 / 4;
    let healed = [(); 2].map(|()| LinkSettings {
        delay: Duration::from_nanos(5 * MILLISECOND + random.below(spread)),
        ..LinkSettings::default()
    });
    UplinkPlan { name: name(number), weight: *random.pick(&[1, 1, 1, 2, 5]), limits: Limits::default(), ways, healed }
}

fn draw_link(random: &mut Random, troubles: &Troubles) -> LinkSettings {
    let longest = *random.pick(&[1, 30, 30, 80, 80, 300]);
    let mut share = |has_it: bool, most: u64| {
        let is_spared = !has_it || random.below(2) == 0;
        PartsPerMillion(if is_spared { 0 } else { random.below(most) as u32 })
    };
    let (reordering, duplication, corruption) =
        (share(troubles.reordering, 50_000), share(troubles.duplication, 50_000), share(troubles.corruption, 10_000));
    LinkSettings {
        shaper: draw_shaper(random, troubles),
        queue: *random.pick(&[
            Queue::Time(Duration::from_millis(200)),
            Queue::Time(Duration::from_millis(30)),
            Queue::Packets(20),
            Queue::Packets(200),
        ]),
        delay: Duration::from_micros(random.below(longest * 1000)),
        jitter: Duration::from_micros(if troubles.jitter { random.below(30_000) } else { 0 }),
        reordering: Reordering { share: reordering, by: Duration::from_micros(random.below(25_000)) },
        loss: draw_loss(random, troubles),
        duplication,
        corruption,
        longest: None,
    }
}

fn draw_loss(random: &mut Random, troubles: &Troubles) -> Loss {
    match random.below(3) {
        0 if troubles.loss => Loss::Random(PartsPerMillion(random.below(100_000) as u32)),
        1 if troubles.bursts => Loss::Burst {
            p: PartsPerMillion(random.below(20_000) as u32),
            r: PartsPerMillion(random.between(20_000, 500_000) as u32),
        },
        _ => Loss::None,
    }
}

fn draw_shaper(random: &mut Random, troubles: &Troubles) -> Shaper {
    match random.below(3) {
        0 if troubles.rate => Shaper::Rate(random.between(500_000, 50_000_000)),
        1 if troubles.trace => Shaper::Trace(trace(random)),
        _ => Shaper::Unlimited,
    }
}

/// A capacity that wanders, as a mobile link's does, with moments in which nothing leaves.
#[must_use]
pub fn trace(random: &mut Random) -> Trace {
    let (mut opportunities, mut at, mut gap_micros) = (vec![], 0, random.between(300, 5_000));
    while at < 10_000_000 {
        at += gap_micros;
        opportunities.push(at / 1000);
        gap_micros = match random.below(200) {
            0 => 200_000,
            1..=20 => (gap_micros * 2).min(20_000),
            21..=40 => (gap_micros / 2).max(200),
            _ => gap_micros.min(20_000),
        };
    }
    Trace::new(opportunities.into(), 0, Duration::from_millis(random.below(10_000)))
}

fn draw_traffic(random: &mut Random, pauses: &[(Nanoseconds, Nanoseconds)]) -> TrafficPlan {
    let (per_second, burst) = *random.pick(&[(50, 1), (200, 1), (760, 1), (760, 8), (400, 20), (1500, 3)]);
    TrafficPlan {
        interval: SECOND * burst / per_second,
        burst,
        lengths: *random.pick(&[(14, 100), (60, 60), (100, 100), (1330, 1330), (60, 1468)]),
        misfits: *random.pick(&[0, 0, 1_000]),
        pauses: pauses.to_vec(),
    }
}

fn draw_pauses(random: &mut Random, heal_at: Nanoseconds) -> Vec<(Nanoseconds, Nanoseconds)> {
    let pause = |random: &mut Random| {
        let begin = random.between(CALM_UNTIL, heal_at);
        (begin, begin + random.below(8 * SECOND))
    };
    (0..random.between(1, 3)).map(|_| pause(random)).collect()
}

/// Incidents of each kind that the seed has, each with its end.
fn draw_incidents(
    random: &mut Random,
    troubles: &Troubles,
    uplinks: &[UplinkPlan],
    heal_at: Nanoseconds,
) -> Vec<(Nanoseconds, Incident)> {
    let mut incidents = vec![];
    let kinds: [(bool, u64, Drawer); 7] = [
        (troubles.blackholes, 8, draw_blackhole),
        (troubles.carrier, 6, draw_carrier),
        (troubles.rebinding, 5, draw_rebinding),
        (troubles.clock_steps, 3, draw_clock_step),
        (troubles.stalls, 8, draw_stall),
        (troubles.restarts, 4, draw_restart),
        (troubles.changes, 8, draw_change),
    ];
    for (_, most, draw) in kinds.into_iter().filter(|(has_it, ..)| *has_it) {
        for _ in 0..random.between(1, most) * heal_at.div_ceil(SHARE_OF_TROUBLE) {
            let begin = random.between(CALM_UNTIL, heal_at - 1);
            // Often short, now and then long.
            let longest = *random.pick(&[50 * MILLISECOND, 500 * MILLISECOND, 2 * SECOND, 8 * SECOND]);
            let end = (begin + random.below(longest)).min(heal_at - 1);
            let uplink = random.below(uplinks.len() as u64) as usize;
            draw(random, &mut incidents, Span { begin, end, uplink }, troubles);
        }
    }
    incidents
}

/// When something begins and ends, and which uplink it is about, if it is about one.
#[derive(Clone, Copy)]
struct Span {
    begin: Nanoseconds,
    end: Nanoseconds,
    uplink: usize,
}

type Incidents = Vec<(Nanoseconds, Incident)>;
type Drawer = fn(&mut Random, &mut Incidents, Span, &Troubles);

fn draw_blackhole(random: &mut Random, incidents: &mut Incidents, Span { begin, end, uplink }: Span, _: &Troubles) {
    let ways = *random.pick(&[[true, true], [true, true], [true, false], [false, true]]);
    incidents.push((begin, Incident::Blackhole { uplink, ways }));
    incidents.push((end, Incident::Restore { uplink }));
}

fn draw_carrier(random: &mut Random, incidents: &mut Incidents, Span { begin, end, uplink }: Span, _: &Troubles) {
    for (at, up) in [(begin, false), (end, true)] {
        incidents.push((at, Incident::Carrier { uplink, up }));
        incidents.push((at + random.below(5 * MILLISECOND), Incident::CarrierNews { uplink }));
    }
}

fn draw_rebinding(_: &mut Random, incidents: &mut Incidents, span: Span, _: &Troubles) {
    incidents.push((span.begin, Incident::Rebind { uplink: span.uplink }));
}

fn draw_clock_step(random: &mut Random, incidents: &mut Incidents, span: Span, _: &Troubles) {
    let by = Duration::from_nanos(span.end - span.begin + 1);
    incidents.push((span.begin, Incident::ClockStep { end: *random.pick(&[BOX, GATEWAY]), by }));
}

fn draw_stall(random: &mut Random, incidents: &mut Incidents, span: Span, _: &Troubles) {
    let lasting = Duration::from_nanos((span.end - span.begin) / 8);
    incidents.push((span.begin, Incident::Stall { end: *random.pick(&[BOX, GATEWAY]), lasting }));
}

fn draw_restart(random: &mut Random, incidents: &mut Incidents, span: Span, _: &Troubles) {
    let end = *random.pick(&[BOX, GATEWAY]);
    incidents.push((span.begin, Incident::Stop { end, says_bye: random.below(3) == 0 }));
    incidents.push((span.end, Incident::Start { end }));
}

fn draw_change(random: &mut Random, incidents: &mut Incidents, span: Span, troubles: &Troubles) {
    let way = *random.pick(&[BOX, GATEWAY]);
    let settings = Box::new(draw_link(random, troubles));
    incidents.push((span.begin, Incident::Change { uplink: span.uplink, way, settings }));
}
