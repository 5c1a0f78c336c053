//! What befalls a world.

use std::time::Duration;

use super::{Step, World};
use crate::proto::scheduler::SchedulerConfig;
use crate::proto::tunnel::UplinkSettings;
use crate::proto::tunnel::peer::epoch;
use crate::proto::uplink::measure::PartsPerMillion;
use crate::proto::uplink::state::Reason;
use crate::sim::link::LinkSettings;
use crate::sim::plan::{BOX, DOWN, GATEWAY, Incident, Order, Plan, UP, UplinkPlan};
use crate::sim::{MILLISECOND, Nanoseconds};

/// Of a clock that works, when the world begins, in milliseconds since 1970.
const TIME_OF_DAY: u64 = 1_790_000_000_000;

impl World {
    pub(super) fn befall(&mut self, incident: Incident) -> Step {
        self.say(|| incident.to_string());
        match incident {
            Incident::Blackhole { uplink, ways } => self.set_blackholes(uplink, ways),
            Incident::Restore { uplink } => self.set_blackholes(uplink, [false; 2]),
            Incident::Change { uplink, way, settings } => self.change(uplink, way, *settings),
            Incident::Carrier { uplink, up } => self.lines[uplink].has_carrier = up,
            Incident::CarrierNews { uplink } => return self.learn_carrier(uplink),
            Incident::Spent { uplink, is_spent } => return self.spend(uplink, is_spent),
            Incident::Order { end, order } => return self.obey(end, order),
            Incident::Rebind { uplink } => self.lines[uplink].port += 1,
            Incident::ClockStep { end, by } => {
                self.ends[end].clock_ahead += by.as_nanos() as Nanoseconds;
                self.oracle.on_jumped(end, self.ends[end].clock(self.now));
                self.ends[end].refresh_due(self.now);
            }
            Incident::Stall { end, lasting } if self.ends[end].endpoint.is_some() => {
                self.ends[end].stalled_until = self.now + lasting.as_nanos() as Nanoseconds;
                self.ends[end].refresh_due(self.now);
            }
            Incident::Stall { .. } => {}
            Incident::Stop { end, says_bye } => return self.stop(end, says_bye),
            Incident::Start { end } => {
                if self.ends[end].endpoint.is_none() {
                    self.start(end);
                }
            }
            Incident::Heal => return self.heal(),
        }
        Ok(())
    }

    fn change(&mut self, uplink: usize, way: usize, settings: LinkSettings) {
        self.remember_reordering(uplink, way);
        self.lines[uplink].ways[way].settings = settings;
        self.remember_reordering(uplink, way);
    }

    pub(super) fn remember_reordering(&mut self, uplink: usize, way: usize) {
        let line = &mut self.lines[uplink];
        let settings = &line.ways[way].settings;
        if settings.reordering.share != PartsPerMillion(0) || settings.duplication != PartsPerMillion(0) {
            line.reordered[way] = Some(self.now);
        }
    }

    fn set_blackholes(&mut self, uplink: usize, ways: [bool; 2]) {
        for (link, is_hole) in self.lines[uplink].ways.iter_mut().zip(ways) {
            link.blackhole = is_hole;
        }
    }

    fn learn_carrier(&mut self, uplink: usize) -> Step {
        let (clock, has_carrier) = (self.ends[BOX].clock(self.now), self.lines[uplink].has_carrier);
        let Some(endpoint) = &mut self.ends[BOX].endpoint else { return Ok(()) };
        if has_carrier {
            endpoint.handle_uplink_attached(clock, Self::id(uplink));
        } else {
            endpoint.tunnel_mut(0).handle_uplink_detached(clock, Self::id(uplink), Reason::NoCarrier);
        }
        self.drain(BOX)
    }

    fn spend(&mut self, uplink: usize, is_spent: bool) -> Step {
        let clock = self.ends[BOX].clock(self.now);
        let Some(tunnel) = self.ends[BOX].tunnel_mut() else { return Ok(()) };
        tunnel.set_spent(clock, Self::id(uplink), is_spent);
        self.drain(BOX)
    }

    fn obey(&mut self, end: usize, order: Order) -> Step {
        let clock = self.ends[end].clock(self.now);
        if let Order::Window(window, _) = order {
            self.oracle.on_window(end, window);
        }
        let settings = |uplink: usize, plan: &Plan| {
            let UplinkPlan { name, weight, limits, .. } = plan.uplinks[uplink];
            UplinkSettings { name, weight, limits }
        };
        let Some(tunnel) = self.ends[end].tunnel_mut() else { return Ok(()) };
        match order {
            Order::Mode(mode) => tunnel.change_mode(clock, &SchedulerConfig::new(mode), mode.probe_interval()),
            Order::Window(window, follows) => tunnel.change_window(clock, Some(window), follows),
            // The shell has waited for what was under way when it says so for the second time.
            Order::Remove(uplink) if tunnel.leaving().contains(Self::id(uplink)) => {
                tunnel.remove_uplink(clock, Self::id(uplink));
            }
            Order::Remove(uplink) => tunnel.retire_uplink(clock, Self::id(uplink)),
            Order::Add(uplink) => {
                let added = tunnel.add_uplink(clock, &settings(uplink, &self.plan));
                assert_eq!(added, Some(Self::id(uplink)), "the world has one line for each number");
                tunnel.handle_uplink_attached(clock, Self::id(uplink));
            }
            Order::Weight(uplink, weight) => {
                tunnel.change_uplink(clock, Self::id(uplink), weight, self.plan.uplinks[uplink].limits);
            }
        }
        self.drain(end)
    }

    pub(super) fn start(&mut self, end: usize) {
        // Now and then a machine has lost its clock, and what it draws may be lower than before.
        let has_lost_clock = self.random.below(8) == 0;
        let time_of_day = self.now / MILLISECOND + if has_lost_clock { 0 } else { TIME_OF_DAY };
        let epoch = epoch(time_of_day, self.random.next());
        // What the gateway goes by is when a box asks, and by then its clock has been set.
        self.set_time_of_day(end);
        self.ends[end].start(self.now, epoch);
        self.say(|| format!("end {end} starts, epoch {epoch:x}"));
        if end == BOX {
            let clock = self.ends[BOX].clock(self.now);
            for (uplink, line) in self.lines.iter_mut().enumerate() {
                line.port += 1;
                if let (true, Some(endpoint)) = (line.has_carrier, &mut self.ends[BOX].endpoint) {
                    endpoint.handle_uplink_attached(clock, Self::id(uplink));
                }
            }
        }
    }

    pub(super) fn set_time_of_day(&mut self, end: usize) {
        self.ends[end].host.time_of_day = Duration::from_millis(TIME_OF_DAY) + Duration::from_nanos(self.now);
    }

    fn stop(&mut self, end: usize, says_bye: bool) -> Step {
        let clock = self.ends[end].clock(self.now);
        let Some(tunnel) = self.ends[end].tunnel_mut() else { return Ok(()) };
        if says_bye {
            tunnel.handle_shutdown(clock);
            self.drain(end)?;
        }
        self.ends[end].stop();
        self.oracle.on_stopped(end);
        self.all_up_since = None;
        Ok(())
    }

    fn heal(&mut self) -> Step {
        for uplink in 0..self.lines.len() {
            self.set_blackholes(uplink, [false; 2]);
            for way in [UP, DOWN] {
                self.change(uplink, way, self.plan.uplinks[uplink].healed[way].clone());
            }
            if !std::mem::replace(&mut self.lines[uplink].has_carrier, true) {
                self.learn_carrier(uplink)?;
            }
        }
        for end in [GATEWAY, BOX] {
            self.ends[end].stalled_until = self.now;
            if self.ends[end].endpoint.is_none() {
                self.start(end);
            }
            self.ends[end].refresh_due(self.now);
        }
        Ok(())
    }
}
