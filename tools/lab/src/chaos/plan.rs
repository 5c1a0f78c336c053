//! What happens when: drawn from a seed before it begins, so that the seed alone repeats it. Pure.

use std::time::Duration;

use braid::proto::uplink::measure::PartsPerMillion;
use braid::sim::random::Random;

use crate::action::Action;
use crate::end::Which;

/// From one trouble to the next, in milliseconds.
const PAUSE_MS: (u64, u64) = (50, 450);
/// How long an uplink stays broken, in milliseconds.
const BROKEN_MS: (u64, u64) = (50, 3_000);
/// How long a killed end stays dead, in milliseconds.
const DEAD_MS: (u64, u64) = (20, 2_000);
/// How long a TAP stays down, in milliseconds.
const TAP_DOWN_MS: (u64, u64) = (20, 1_000);
/// One-way delays, in milliseconds: what links have, and what they have when their queues are long, so that what a killed
/// end has sent comes long after it was started again.
const DELAY_MS: (u64, u64) = (1, 80);
const DELAY_LONG_MS: (u64, u64) = (80, 500);
/// How long the machine is pressed, in milliseconds.
const PRESSED_MS: (u64, u64) = (300, 2_500);

/// What can be done to the tunnel and its world.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Deed {
    /// Something to the uplink of that number.
    Link(usize, Action),
    /// An end is killed.
    Kill(Which),
    /// It is started again.
    Start(Which),
    /// An end's TAP is set down.
    TapDown(Which),
    /// It is set up again.
    TapUp(Which),
    /// Every CPU is kept busy for so long.
    PressCpu(Duration),
    /// Memory is taken, touched and given back, over and over, for so long.
    PressMemory(Duration),
}

/// A deed and its time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// When, after the plan has begun.
    pub at: Duration,
    /// What.
    pub deed: Deed,
}

/// Kinds of trouble, each as likely as any other line.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trouble {
    Blackhole,
    BlackholeUp,
    BlackholeDown,
    Carrier,
    Interface,
    Delay,
    Jitter,
    Loss,
    Rebind,
    Tap,
    Cpu,
    Memory,
    Kill,
}

const TROUBLES: [Trouble; 14] = [
    Trouble::Blackhole,
    Trouble::BlackholeUp,
    Trouble::BlackholeDown,
    Trouble::Carrier,
    Trouble::Interface,
    Trouble::Delay,
    Trouble::Delay,
    Trouble::Jitter,
    Trouble::Loss,
    Trouble::Rebind,
    Trouble::Tap,
    Trouble::Cpu,
    Trouble::Memory,
    Trouble::Kill,
];

impl Deed {
    /// What it is counted as.
    #[must_use]
    pub const fn kind(self) -> &'static str {
        match self {
            Self::Link(_, action) => match action {
                Action::Blackhole => "blackhole",
                Action::BlackholeUp => "blackhole up",
                Action::BlackholeDown => "blackhole down",
                Action::Restore => "restore",
                Action::CarrierDown => "carrier down",
                Action::CarrierUp => "carrier up",
                Action::InterfaceRemove => "interface removed",
                Action::InterfaceAdd => "interface added",
                Action::NatRebind => "NAT rebinding",
                Action::Delay(_) => "delay change",
                Action::Jitter(_) => "jitter change",
                _ => "loss change",
            },
            Self::Kill(Which::Box) => "box killed",
            Self::Kill(Which::Gateway) => "gateway killed",
            Self::Start(Which::Box) => "box started",
            Self::Start(Which::Gateway) => "gateway started",
            Self::TapDown(_) => "TAP down",
            Self::TapUp(_) => "TAP up",
            Self::PressCpu(_) => "CPU pressure",
            Self::PressMemory(_) => "memory pressure",
        }
    }
}

/// Draws what happens within `span` to `uplinks` uplinks, of which `behind_nat` are behind a translation. What is still
/// broken at its end is left to be healed.
#[must_use]
pub fn draw(random: &mut Random, span: Duration, uplinks: usize, behind_nat: &[usize], kills: bool) -> Vec<Step> {
    let mut drawing = Drawing::new(random, uplinks);
    let mut at = drawing.time(PAUSE_MS);
    while at < span {
        let trouble = *drawing.random.pick(&TROUBLES);
        if kills || trouble != Trouble::Kill {
            drawing.add(at, trouble, behind_nat);
        }
        at += drawing.time(PAUSE_MS);
    }
    let mut steps = drawing.steps;
    steps.retain(|step| step.at < span);
    steps.sort_by_key(|step| step.at);
    steps
}

struct Drawing<'a> {
    random: &'a mut Random,
    steps: Vec<Step>,
    /// Until when each uplink is broken, and whether its interface is gone meanwhile.
    broken: Vec<(Duration, bool)>,
    /// Until when each end is dead, or its TAP down.
    troubled: [Duration; 2],
    pressed: Duration,
}

impl<'a> Drawing<'a> {
    fn new(random: &'a mut Random, uplinks: usize) -> Self {
        let broken = vec![(Duration::ZERO, false); uplinks];
        Self { random, steps: vec![], broken, troubled: [Duration::ZERO; 2], pressed: Duration::ZERO }
    }

    fn time(&mut self, (low, high): (u64, u64)) -> Duration {
        Duration::from_millis(self.random.between(low, high))
    }

    fn push(&mut self, at: Duration, deed: Deed) {
        self.steps.push(Step { at, deed });
    }

    fn add(&mut self, at: Duration, trouble: Trouble, behind_nat: &[usize]) {
        let uplink = self.random.below(self.broken.len() as u64) as usize;
        match trouble {
            Trouble::Blackhole => self.break_uplink(at, uplink, Action::Blackhole, Action::Restore),
            Trouble::BlackholeUp => self.break_uplink(at, uplink, Action::BlackholeUp, Action::Restore),
            Trouble::BlackholeDown => self.break_uplink(at, uplink, Action::BlackholeDown, Action::Restore),
            Trouble::Carrier => self.break_uplink(at, uplink, Action::CarrierDown, Action::CarrierUp),
            Trouble::Interface => self.remove_interface(at, uplink),
            Trouble::Delay => {
                let is_long = self.random.below(4) == 0;
                let delay = self.time(if is_long { DELAY_LONG_MS } else { DELAY_MS });
                self.push(at, Deed::Link(uplink, Action::Delay(delay)));
            }
            Trouble::Jitter => {
                let jitter = self.time((0, 12));
                self.push(at, Deed::Link(uplink, Action::Jitter(jitter)));
            }
            Trouble::Loss => {
                let share = PartsPerMillion(self.random.between(0, 100_000) as u32);
                self.push(at, Deed::Link(uplink, Action::Loss(share)));
            }
            Trouble::Rebind if behind_nat.is_empty() => {}
            Trouble::Rebind => {
                let uplink = *self.random.pick(behind_nat);
                self.push(at, Deed::Link(uplink, Action::NatRebind));
            }
            Trouble::Tap => self.trouble_end(at, TAP_DOWN_MS, Deed::TapDown, Deed::TapUp),
            Trouble::Kill => self.trouble_end(at, DEAD_MS, Deed::Kill, Deed::Start),
            Trouble::Cpu => self.press(at, Deed::PressCpu),
            Trouble::Memory => self.press(at, Deed::PressMemory),
        }
    }

    fn break_uplink(&mut self, at: Duration, uplink: usize, breaks: Action, mends: Action) {
        if self.broken[uplink].0 > at {
            return;
        }
        let until = at + self.time(BROKEN_MS);
        self.broken[uplink] = (until, false);
        self.push(at, Deed::Link(uplink, breaks));
        self.push(until, Deed::Link(uplink, mends));
    }

    /// One interface is always left: a box that has none at all when it is started says so, and ends.
    fn remove_interface(&mut self, at: Duration, uplink: usize) {
        let gone = self.broken.iter().filter(|(until, is_gone)| *is_gone && *until > at).count();
        if self.broken[uplink].0 > at || gone + 1 >= self.broken.len() {
            return;
        }
        let until = at + self.time(BROKEN_MS);
        self.broken[uplink] = (until, true);
        self.push(at, Deed::Link(uplink, Action::InterfaceRemove));
        self.push(until, Deed::Link(uplink, Action::InterfaceAdd));
    }

    fn trouble_end(&mut self, at: Duration, span: (u64, u64), breaks: fn(Which) -> Deed, mends: fn(Which) -> Deed) {
        let number = self.random.below(2) as usize;
        if self.troubled[number] > at {
            return;
        }
        let until = at + self.time(span);
        self.troubled[number] = until;
        self.push(at, breaks(Which::BOTH[number]));
        self.push(until, mends(Which::BOTH[number]));
    }

    fn press(&mut self, at: Duration, deed: fn(Duration) -> Deed) {
        if self.pressed > at {
            return;
        }
        let span = self.time(PRESSED_MS);
        self.pressed = at + span;
        self.push(at, deed(span));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn plan(seed: u64, kills: bool) -> Vec<Step> {
        draw(&mut Random::new(seed), MINUTE, 3, &[1], kills)
    }

    #[test]
    fn a_seed_repeats_its_plan_and_another_has_another() {
        assert_eq!(plan(7, true), plan(7, true));
        assert_ne!(plan(7, true), plan(8, true));
        assert!(plan(7, true).windows(2).all(|pair| pair[0].at <= pair[1].at), "in the order of time");
    }

    #[test]
    fn a_few_minutes_bring_every_kind_of_trouble() {
        let kinds: std::collections::BTreeSet<_> =
            (0..3).flat_map(|seed| plan(seed, true)).map(|step| step.deed.kind()).collect();
        assert_eq!(kinds.len(), 20, "{kinds:?}");
    }

    #[test]
    fn nobody_is_killed_where_nobody_is_to_be() {
        assert!(plan(7, false).iter().all(|step| !matches!(step.deed, Deed::Kill(_) | Deed::Start(_))));
    }

    #[test]
    fn what_is_broken_is_mended_before_it_is_broken_again_and_an_interface_is_left() {
        for seed in 0..20 {
            let (mut broken, mut gone, mut troubled) = ([false; 3], [false; 3], [false; 2]);
            for Step { deed, .. } in plan(seed, true) {
                match deed {
                    Deed::Link(uplink, Action::Restore | Action::CarrierUp | Action::InterfaceAdd) => {
                        assert!(std::mem::take(&mut broken[uplink]), "seed {seed}");
                        gone[uplink] = false;
                    }
                    Deed::Link(uplink, action) => {
                        let breaks = !matches!(
                            action,
                            Action::Delay(_) | Action::Jitter(_) | Action::Loss(_) | Action::NatRebind
                        );
                        assert!(!breaks || !std::mem::replace(&mut broken[uplink], true), "seed {seed}");
                        gone[uplink] |= action == Action::InterfaceRemove;
                    }
                    Deed::Kill(which) | Deed::TapDown(which) => {
                        assert!(!std::mem::replace(&mut troubled[which as usize], true), "seed {seed}");
                    }
                    Deed::Start(which) | Deed::TapUp(which) => assert!(std::mem::take(&mut troubled[which as usize])),
                    Deed::PressCpu(_) | Deed::PressMemory(_) => {}
                }
                assert!(gone.iter().any(|gone| !gone), "seed {seed}");
            }
        }
    }
}
