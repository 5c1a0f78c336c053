//! Where it happens: the lab, both ends, and what is pressed and broken at the moment.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use braid::proto::uplink::measure::PartsPerMillion;
use braid::sim::link::{Loss, Reordering};

use super::plan::{Deed, Step};
use super::pressure::{Pressure, Target};
use crate::action::Action;
use crate::clock::monotonic_nanoseconds;
use crate::end::{Counters, End, PerEnd, Resources, Which};
use crate::lab::Lab;
use crate::namespaces;
use crate::protection::Protection;
use crate::scenario::{Scenario, Uplink};
use crate::stop::Stop;
use crate::tunnel::{TunnelOptions, arguments};

/// How often is looked whether both ends still run.
const LOOK: Duration = Duration::from_millis(20);
/// How long all may take to be well again: an uplink that kept falling has to prove itself for 8 s.
const HEALING_PATIENCE: Duration = Duration::from_secs(40);
/// From one question whether all is well to the next.
const HEALING_LOOK: Duration = Duration::from_millis(300);
/// The TAP of either end.
const TAP: &str = "braid0";
const NOTHING: PartsPerMillion = PartsPerMillion(0);

/// A deed that was done, and when, in nanoseconds since boot.
#[derive(Clone, Copy, Debug)]
pub struct Done {
    /// When.
    pub at: u64,
    /// What.
    pub deed: Deed,
}

/// The lab and both ends in it.
pub struct Stage {
    ends: PerEnd<Option<End>>,
    lives: PerEnd<u64>,
    options: PerEnd<TunnelOptions>,
    protection: Protection,
    pressing: Vec<Pressure>,
    unplugged: Vec<bool>,
    removed: Vec<bool>,
    tap_down: PerEnd<bool>,
    done: Vec<Done>,
    /// Last, so that it is taken down when all that runs in it has been ended.
    lab: Lab,
}

impl Stage {
    /// Brings the lab up, and starts both ends.
    ///
    /// # Errors
    /// What went wrong.
    pub fn up(scenario: &Scenario, options: PerEnd<TunnelOptions>) -> Result<Self, String> {
        let lab = Lab::up(scenario, &scenario.name)?;
        namespaces::refuse_tunnel_network()?;
        let protection = Protection::new(options.gateway.is_plaintext, lab.secrets())?;
        let uplinks = scenario.uplinks.len();
        let mut stage = Self {
            ends: PerEnd::default(),
            lives: PerEnd::default(),
            options,
            protection,
            pressing: vec![],
            unplugged: vec![false; uplinks],
            removed: vec![false; uplinks],
            tap_down: PerEnd::default(),
            done: vec![],
            lab,
        };
        stage.start(Which::Gateway)?;
        stage.start(Which::Box)?;
        Ok(stage)
    }

    fn start(&mut self, which: Which) -> Result<(), String> {
        let options = self.options.of(which);
        let life = self.lives.of_mut(which);
        *life += 1;
        let log = options.logs.join(format!("{}-{life}.log", which.program()));
        let flags = arguments(which, self.lab.scenario(), options, &self.protection);
        let end = End::start(which, &options.folder, &flags, log)?;
        *self.ends.of_mut(which) = Some(end);
        Ok(())
    }

    /// Has a plan happen, and returns after `span`.
    ///
    /// # Errors
    /// What went wrong: an end that has died of itself, a command that failed, a signal.
    pub fn play(&mut self, plan: &[Step], span: Duration, stop: &Stop) -> Result<(), String> {
        let begun = Instant::now();
        let mut steps = plan.iter().peekable();
        while begun.elapsed() < span {
            stop.check()?;
            self.check()?;
            if let Some(step) = steps.next_if(|step| begun.elapsed() >= step.at) {
                self.perform(step.deed)?;
                continue;
            }
            let next = steps.peek().map_or(span, |step| step.at);
            thread::sleep(next.saturating_sub(begun.elapsed()).min(LOOK));
        }
        Ok(())
    }

    fn check(&mut self) -> Result<(), String> {
        self.pressing.retain_mut(|pressure| !pressure.is_over());
        Which::BOTH.into_iter().try_for_each(|which| self.ends.of_mut(which).as_mut().map_or(Ok(()), End::check))
    }

    fn perform(&mut self, deed: Deed) -> Result<(), String> {
        self.done.push(Done { at: monotonic_nanoseconds(), deed });
        match deed {
            Deed::Link(uplink, action) => self.apply(uplink, action),
            Deed::Kill(which) => {
                self.ends.of_mut(which).take().into_iter().for_each(End::kill);
                Ok(())
            }
            Deed::Start(which) => self.start(which),
            Deed::TapDown(which) => self.set_tap(which, false),
            Deed::TapUp(which) => self.set_tap(which, true),
            Deed::PressCpu(span) => self.press(Target::Cpu, span),
            Deed::PressMemory(span) => self.press(Target::Memory, span),
        }
    }

    fn uplink(&self, uplink: usize) -> &Uplink {
        &self.lab.scenario().uplinks[uplink]
    }

    fn apply(&mut self, uplink: usize, action: Action) -> Result<(), String> {
        match action {
            Action::CarrierDown => self.unplugged[uplink] = true,
            Action::CarrierUp => self.unplugged[uplink] = false,
            Action::InterfaceRemove => self.removed[uplink] = true,
            Action::InterfaceAdd => self.removed[uplink] = false,
            _ => {}
        }
        let name = self.uplink(uplink).name.clone();
        self.lab.apply(&name, action)
    }

    fn set_tap(&mut self, which: Which, up: bool) -> Result<(), String> {
        *self.tap_down.of_mut(which) = !up;
        namespaces::set_up(which.namespace(), TAP, up)
    }

    fn press(&mut self, target: Target, span: Duration) -> Result<(), String> {
        self.pressing.push(Pressure::start(target, span)?);
        Ok(())
    }

    /// Makes the links as unclean as the scenario has them.
    ///
    /// # Errors
    /// What went wrong.
    pub fn roughen(&mut self) -> Result<(), String> {
        for index in 0..self.unplugged.len() {
            let uplink = self.uplink(index).clone();
            // Bursts are not in the vocabulary of orders: as a share they are what is lost in the long run.
            let loss = match uplink.loss {
                Loss::None => NOTHING,
                Loss::Random(share) => share,
                Loss::Burst { p, r } => {
                    PartsPerMillion((u64::from(p.0) * 1_000_000 / u64::from(p.0 + r.0).max(1)) as u32)
                }
            };
            self.set_link(index, loss, uplink.reordering, uplink.duplication, uplink.corruption)?;
        }
        Ok(())
    }

    fn set_link(
        &mut self,
        uplink: usize,
        loss: PartsPerMillion,
        reordering: Reordering,
        duplication: PartsPerMillion,
        corruption: PartsPerMillion,
    ) -> Result<(), String> {
        [
            Action::Loss(loss),
            Action::Reordering(reordering),
            Action::Duplication(duplication),
            Action::Corruption(corruption),
        ]
        .into_iter()
        .try_for_each(|action| self.apply(uplink, action))
    }

    /// Mends all that is broken, and makes the links clean.
    ///
    /// # Errors
    /// What went wrong.
    pub fn heal(&mut self) -> Result<(), String> {
        self.pressing.clear();
        for which in Which::BOTH {
            if self.ends.of(which).is_none() {
                self.perform(Deed::Start(which))?;
                *self.tap_down.of_mut(which) = false;
            } else if *self.tap_down.of(which) {
                self.perform(Deed::TapUp(which))?;
            }
        }
        for index in 0..self.unplugged.len() {
            if self.removed[index] {
                self.perform(Deed::Link(index, Action::InterfaceAdd))?;
            }
            if self.unplugged[index] {
                self.perform(Deed::Link(index, Action::CarrierUp))?;
            }
            let Uplink { delay, jitter, .. } = *self.uplink(index);
            [Action::Restore, Action::Delay(delay), Action::Jitter(jitter)]
                .into_iter()
                .try_for_each(|action| self.apply(index, action))?;
            self.set_link(index, NOTHING, Reordering::default(), NOTHING, NOTHING)?;
        }
        Ok(())
    }

    /// Waits until every uplink is up at both ends, and no packet buffer in use; what both ends hold then.
    ///
    /// # Errors
    /// What does not come to be, or a signal.
    pub fn await_well(&mut self, stop: &Stop) -> Result<PerEnd<Resources>, String> {
        let begun = Instant::now();
        loop {
            stop.check()?;
            let [near, far] = [self.end(Which::Box)?.counters()?, self.end(Which::Gateway)?.counters()?];
            if [&near, &far].iter().all(|counters| self.is_well(counters)) {
                return Ok(PerEnd {
                    box_end: self.end(Which::Box)?.resources(&near),
                    gateway: self.end(Which::Gateway)?.resources(&far),
                });
            }
            if begun.elapsed() > HEALING_PATIENCE {
                return Err(format!(
                    "{HEALING_PATIENCE:?} after all was healed, of {} uplinks {} are up at the box and {} at the gateway, \
                     and {} and {} packet buffers are in use",
                    self.unplugged.len(),
                    near.uplinks_up,
                    far.uplinks_up,
                    near.buffers_in_use,
                    far.buffers_in_use
                ));
            }
            thread::sleep(HEALING_LOOK);
        }
    }

    fn is_well(&self, counters: &Counters) -> bool {
        counters.uplinks_up == self.unplugged.len() && counters.buffers_in_use == 0
    }

    fn end(&mut self, which: Which) -> Result<&mut End, String> {
        self.ends.of_mut(which).as_mut().ok_or_else(|| format!("{} does not run", which.program()))
    }

    /// All that was done so far.
    #[must_use]
    pub fn done(&self) -> &[Done] {
        &self.done
    }

    /// How often each kind of deed was done.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        let mut counts = BTreeMap::new();
        self.done.iter().for_each(|done| *counts.entry(done.deed.kind()).or_default() += 1);
        counts
    }

    /// How often each end was started after its first time.
    #[must_use]
    pub const fn restarts(&self) -> PerEnd<u64> {
        PerEnd { box_end: self.lives.box_end - 1, gateway: self.lives.gateway - 1 }
    }

    /// Stops both ends and takes the lab down; what was left that should not be.
    pub fn down(mut self) -> Vec<String> {
        let mut left = vec![];
        self.pressing.clear();
        for which in Which::BOTH {
            let Some(end) = self.ends.of_mut(which).take() else { continue };
            match end.stop() {
                Ok(status) if status.success() => {}
                Ok(status) => left.push(format!("{} ends with {status} on SIGTERM", which.program())),
                Err(error) => left.push(error),
            }
        }
        for which in Which::BOTH {
            left.extend(namespaces::leftovers(which.namespace(), TAP));
        }
        self.lab.down();
        match namespaces::existing() {
            Ok(existing) if existing.is_empty() => {}
            Ok(existing) => left.push(format!("namespaces are left: {}", existing.join(", "))),
            Err(error) => left.push(error),
        }
        left
    }
}
