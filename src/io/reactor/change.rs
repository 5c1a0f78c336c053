//! What the user changes while it runs: by the control socket, or by a configuration that is read again.

use std::collections::BTreeMap;

use super::Reactor;
use crate::config::{
    Flag, Sending, UplinkChange, UplinkConfig, Window, parse_mode, parse_packets_per_uplink, parse_redundancy,
    parse_reselect,
};
use crate::control::Command;
use crate::io::kept::Kept;
use crate::proto::scheduler::{Mode, SchedulerConfig};
use crate::proto::time::Instant;
use crate::proto::tunnel::UplinkSettings;
use crate::proto::uplink::UplinkName;

/// Flags of which another value is taken while it runs; of a box, the keys of which it is.
const SENDING_FLAGS: [&str; 5] = ["mode", "packets-per-uplink", "primary", "primary-reselect", "redundancy"];
const LIVE_FLAGS: [&str; 3] = ["window", "uplink", "box"];
const LIVE_BOX_KEYS: [&str; 2] = ["mode", "window"];

/// What a configuration that was read again changes: nothing is done before all of it has been found good.
#[derive(Default)]
struct Plan {
    schedulers: Vec<(usize, SchedulerConfig)>,
    windows: Vec<(usize, Window)>,
    removed: Vec<UplinkName>,
    added: Vec<UplinkConfig>,
    changed: Vec<UplinkConfig>,
}

impl Reactor {
    /// Changes what `command` says of tunnel number `tunnel`, and says what has been done.
    ///
    /// # Errors
    /// Why nothing has.
    pub(super) fn change(&mut self, now: Instant, tunnel: usize, command: Command) -> Result<String, String> {
        let done = match command {
            Command::Mode { mode, packets_per_uplink, primary, primary_reselect, redundancy } => {
                let mode = parse_mode(&mode)?;
                let sending = Sending {
                    packets_per_uplink: packets_per_uplink.as_deref().map(parse_packets_per_uplink).transpose()?,
                    primary: primary.as_deref().map(UplinkName::new).transpose()?,
                    primary_reselect: primary_reselect.as_deref().map(parse_reselect).transpose()?,
                    redundancy: redundancy.iter().map(|rule| parse_redundancy(rule)).collect::<Result<_, _>>()?,
                };
                sending.check(&[mode])?;
                self.check_primary(&sending)?;
                Ok(self.set_mode(now, tunnel, sending.scheduler(mode)))
            }
            Command::Window { window } => Ok(self.set_window(now, tunnel, window.parse()?)),
            Command::UplinkAdd { uplink } => self.add_uplink(now, &uplink.parse()?),
            Command::UplinkRemove { name } => self.remove_uplink(now, UplinkName::new(&name)?),
            Command::UplinkSet { name, change } => self.set_uplink(now, UplinkName::new(&name)?, change.parse()?),
            other => Err(format!("{other:?} changes nothing")),
        }?;
        self.tell_changed(tunnel, &done);
        Ok(done)
    }

    fn tell_changed(&mut self, tunnel: usize, done: &str) {
        let _named = self.names.enter(tunnel);
        self.event_log.tell(&self.live[tunnel].tap, tracing::Level::INFO, done.to_owned());
    }

    fn set_mode(&mut self, now: Instant, tunnel: usize, scheduler: SchedulerConfig) -> String {
        let mode = scheduler.mode;
        let interval = self.live[tunnel].probe_interval.unwrap_or(mode.probe_interval());
        if mode == Mode::Adaptive && !self.endpoint.tunnels()[tunnel].is_adaptive() {
            self.kept[tunnel] = Kept::new(true);
        }
        self.endpoint.tunnel_mut(tunnel).change_mode(now, &scheduler, interval);
        self.live[tunnel].scheduler = scheduler;
        format!("mode={}", mode.name())
    }

    /// The box knows its uplinks' names; the gateway will learn them.
    fn check_primary(&self, sending: &Sending) -> Result<(), String> {
        match sending.primary {
            Some(primary) if !self.links.is_shared() && self.links.find(primary).is_none() => {
                Err(format!("there is no uplink '{primary}': {}", self.uplink_names()))
            }
            _ => Ok(()),
        }
    }

    fn set_window(&mut self, now: Instant, tunnel: usize, window: Window) -> String {
        self.live[tunnel].window = window;
        self.endpoint.tunnel_mut(tunnel).change_window(now, window.longest, window.follows);
        format!("window={window}")
    }

    fn add_uplink(&mut self, now: Instant, config: &UplinkConfig) -> Result<String, String> {
        self.check_is_box()?;
        let name = config.name;
        if self.links.find(name).is_some() {
            return Err(format!("there is an uplink '{name}' already: give this one another name, or remove that one"));
        }
        if self.links.is_leaving(name) {
            return Err(format!(
                "what is under way by the uplink '{name}' that was removed still comes: try again in two seconds"
            ));
        }
        if config.budget.is_some() && self.usage.is_none() {
            return Err(format!(
                "what uplink '{name}' carries cannot be counted, as no uplink had a budget at the start: start this end anew"
            ));
        }
        let settings = UplinkSettings { name, weight: config.weight, limits: config.limits };
        let uplink = self.endpoint.tunnel_mut(0).add_uplink(now, &settings).ok_or(
            "there are as many uplinks as there can be: remove one, and try again when it is gone, in two seconds",
        )?;
        if let Err(error) = self.start_uplink(now, uplink, config) {
            self.endpoint.tunnel_mut(0).remove_uplink(now, uplink);
            return Err(error);
        }
        let (_, addresses) = self.links.describe(uplink);
        Ok(match addresses {
            Some([local, _]) => format!("uplink {name}: added, by {} from {}", config.device, local.ip()),
            None => format!("uplink {name}: added, and used as soon as '{}' can be", config.device),
        })
    }

    fn start_uplink(
        &mut self,
        now: Instant,
        uplink: crate::proto::uplink::UplinkId,
        config: &UplinkConfig,
    ) -> Result<(), String> {
        if let Some(usage) = &mut self.usage {
            let names: Vec<UplinkName> = self.links.configs().map(|(_, config)| config.name).collect();
            usage.add(uplink, config, &names, &self.port)?;
        }
        if let Err(error) = self.links.add(now, uplink, config, &mut self.endpoint) {
            if let Some(usage) = &mut self.usage {
                usage.remove(uplink, &self.port, &self.links);
            }
            return Err(error);
        }
        if let Some(usage) = &self.usage {
            usage.tell(now, &mut self.endpoint);
        }
        Ok(())
    }

    fn remove_uplink(&mut self, now: Instant, name: UplinkName) -> Result<String, String> {
        self.check_is_box()?;
        let Some((uplink, _)) = self.links.find(name) else {
            return Err(format!("there is no uplink '{name}': {}", self.uplink_names()));
        };
        if self.links.configs().count() == 1 {
            return Err(format!("'{name}' is the only uplink: add another first"));
        }
        if let Some(usage) = &mut self.usage {
            usage.remove(uplink, &self.port, &self.links);
        }
        self.endpoint.tunnel_mut(0).retire_uplink(now, uplink);
        self.links.retire(now, uplink);
        Ok(format!("uplink {name}: removed"))
    }

    fn set_uplink(&mut self, now: Instant, name: UplinkName, change: UplinkChange) -> Result<String, String> {
        self.check_is_box()?;
        let Some((uplink, config)) = self.links.find(name) else {
            return Err(format!("there is no uplink '{name}': {}", self.uplink_names()));
        };
        let (weight, limits) = change.applied_to(config.weight, config.limits);
        self.endpoint.tunnel_mut(0).change_uplink(now, uplink, weight, limits);
        self.links.change(uplink, weight, limits);
        let rate = limits.rate_max.map_or("off".to_owned(), |rate| format!("{}kbit", rate * 8 / 1000));
        Ok(format!("uplink {name}: weight={weight} max-rate={rate} metered={}", limits.is_metered))
    }

    fn check_is_box(&self) -> Result<(), String> {
        if self.links.is_shared() {
            return Err("the uplinks are the box's: ask braid-box there".to_owned());
        }
        Ok(())
    }

    fn uplink_names(&self) -> String {
        let names: Vec<String> = self.links.configs().map(|(_, config)| config.name.to_string()).collect();
        if names.is_empty() {
            "this end has none of its own".to_owned()
        } else {
            format!("there are {}", names.join(", "))
        }
    }

    /// Takes a configuration that was read again, whole or not at all, and says what has changed.
    ///
    /// # Errors
    /// Why nothing has.
    pub(super) fn reconfigure(&mut self, now: Instant, flags: Vec<Flag>) -> Result<String, String> {
        let plan = self.plan(&flags)?;
        let mut done = vec![];
        for config in &plan.added {
            match self.add_uplink(now, config) {
                Ok(said) => done.push(said),
                Err(error) => {
                    // What has been added is taken away again, so that it is as it was.
                    for (config, _) in plan.added.iter().zip(&done) {
                        let _ = self.remove_uplink(now, config.name);
                    }
                    return Err(error);
                }
            }
        }
        for name in plan.removed {
            done.push(self.remove_uplink(now, name)?);
        }
        for config in plan.changed {
            let change = UplinkChange {
                weight: Some(config.weight),
                rate_max: Some(config.limits.rate_max),
                is_metered: Some(config.limits.is_metered),
            };
            done.push(self.set_uplink(now, config.name, change)?);
        }
        for (tunnel, window) in plan.windows {
            done.push(self.set_window(now, tunnel, window));
        }
        for (tunnel, scheduler) in plan.schedulers {
            done.push(self.set_mode(now, tunnel, scheduler));
        }
        self.flags = flags;
        let done = if done.is_empty() { "nothing has changed".to_owned() } else { done.join("; ") };
        self.tell_changed(0, &format!("configuration read again: {done}"));
        Ok(done)
    }

    fn plan(&self, flags: &[Flag]) -> Result<Plan, String> {
        check_unchangeable(&self.flags, flags)?;
        let mut plan = Plan::default();
        self.plan_sending(flags, &mut plan)?;
        if self.links.is_shared() {
            return Ok(plan);
        }
        let wanted = uplinks(flags)?;
        // What has been changed by the socket meanwhile is put back to what the configuration says.
        for (_, config) in self.links.configs() {
            match wanted.iter().find(|other| other.name == config.name) {
                None => plan.removed.push(config.name),
                Some(other) if needs_other_socket(config, other) => {
                    return Err(format!(
                        "uplink '{}' cannot have another interface, source or budget under the same name while it is used: \
                         give it another name",
                        config.name
                    ));
                }
                Some(other) if (other.weight, other.limits) != (config.weight, config.limits) => {
                    plan.changed.push(other.clone());
                }
                Some(_) => {}
            }
        }
        plan.added = wanted.into_iter().filter(|wanted| self.links.find(wanted.name).is_none()).collect();
        Ok(plan)
    }

    fn plan_sending(&self, flags: &[Flag], plan: &mut Plan) -> Result<(), String> {
        let sending = sending(flags)?;
        let common = of_tunnel(flags, &BTreeMap::new())?;
        for (number, live) in self.live.iter().enumerate() {
            let (mode, window) = match &live.name {
                Some(name) => of_tunnel(flags, &box_keys(flags, name))?,
                None => common,
            };
            let scheduler = sending.scheduler(mode);
            if scheduler != live.scheduler {
                plan.schedulers.push((number, scheduler));
            }
            let window = window.unwrap_or(Window::of(mode));
            if window != live.window {
                plan.windows.push((number, window));
            }
        }
        Ok(())
    }
}

/// What can only be taken at the start must be as it was.
fn check_unchangeable(before: &[Flag], after: &[Flag]) -> Result<(), String> {
    let is_fixed = |flag: &&Flag| {
        let name = flag.name.as_str();
        !SENDING_FLAGS.contains(&name) && !LIVE_FLAGS.contains(&name)
    };
    let fixed = |flags: &[Flag]| -> Vec<Flag> {
        let mut boxes: Vec<Flag> = flags.iter().filter(|flag| flag.name == "box").map(fixed_part_of_box).collect();
        boxes.extend(flags.iter().filter(is_fixed).cloned());
        boxes
    };
    let (before, after) = (fixed(before), fixed(after));
    let differs = |one: &[Flag], other: &[Flag]| one.iter().find(|flag| !other.contains(flag)).cloned();
    match differs(&after, &before).or_else(|| differs(&before, &after)) {
        Some(Flag { name, .. }) => {
            Err(format!("--{name} has changed, which takes a restart: nothing has been changed"))
        }
        None => Ok(()),
    }
}

/// A box, but what of it can change.
fn fixed_part_of_box(flag: &Flag) -> Flag {
    let keeps = |part: &&str| !LIVE_BOX_KEYS.iter().any(|key| part.starts_with(&format!("{key}=")));
    let mut parts: Vec<&str> = flag.value.split(',').filter(keeps).collect();
    parts.sort_unstable();
    Flag { name: flag.name.clone(), value: parts.join(",") }
}

fn needs_other_socket(one: &UplinkConfig, other: &UplinkConfig) -> bool {
    (&one.device, one.source, one.budget) != (&other.device, other.source, other.budget)
}

fn values<'a>(flags: &'a [Flag], name: &'static str) -> impl Iterator<Item = &'a str> {
    flags.iter().filter(move |flag| flag.name == name).map(|flag| flag.value.as_str())
}

fn uplinks(flags: &[Flag]) -> Result<Vec<UplinkConfig>, String> {
    values(flags, "uplink").map(str::parse).collect()
}

fn sending(flags: &[Flag]) -> Result<Sending, String> {
    let last = |name| values(flags, name).last();
    Ok(Sending {
        packets_per_uplink: last("packets-per-uplink").map(parse_packets_per_uplink).transpose()?,
        primary: last("primary").map(UplinkName::new).transpose()?,
        primary_reselect: last("primary-reselect").map(parse_reselect).transpose()?,
        redundancy: values(flags, "redundancy").map(parse_redundancy).collect::<Result<_, _>>()?,
    })
}

/// The mode and the window of a tunnel whose own keys are `own`.
fn of_tunnel(flags: &[Flag], own: &BTreeMap<&str, &str>) -> Result<(Mode, Option<Window>), String> {
    let own_or_common = |name| own.get(name).copied().or(values(flags, name).last());
    let mode = own_or_common("mode").map_or(Ok(Mode::Adaptive), parse_mode)?;
    let window = own_or_common("window").map(str::parse).transpose()?;
    Ok((mode, window))
}

/// What a box is told by keys of its own.
fn box_keys<'a>(flags: &'a [Flag], name: &str) -> BTreeMap<&'a str, &'a str> {
    let parts = |value: &'a str| value.split(',').filter_map(|part| part.split_once('=')).collect::<BTreeMap<_, _>>();
    values(flags, "box").map(parts).find(|keys| keys.get("name") == Some(&name)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(text: &str) -> Vec<Flag> {
        let flag = |word: &str| {
            let (name, value) = word.split_once(' ').expect("a name and a value");
            Flag { name: name.to_owned(), value: value.to_owned() }
        };
        text.split("; ").map(flag).collect()
    }

    #[test]
    fn what_can_only_be_taken_at_the_start_must_be_as_it_was() {
        let before = flags("tap braid0; mode adaptive; uplink dev=a; box name=x,tap=t,mode=broadcast");
        let fine = flags("mode broadcast; uplink dev=b; window 40ms; tap braid0; box window=1s,name=x,tap=t");
        assert_eq!(check_unchangeable(&before, &fine), Ok(()));
        for (other, name) in [
            ("tap braid1; uplink dev=a; box name=x,tap=t", "--tap"),
            ("tap braid0; cpu 1; box name=x,tap=t", "--cpu"),
            ("tap braid0; box name=x,tap=other", "--box"),
            ("box name=x,tap=t", "--tap"),
        ] {
            let error = check_unchangeable(&before, &flags(other)).expect_err(other);
            assert!(error.contains(name) && error.contains("restart"), "{error}");
        }
    }

    #[test]
    fn a_box_has_its_own_mode_and_window_or_those_of_the_flags() {
        let flags = flags("mode broadcast; window 40ms; box name=x,tap=t,mode=balance-rr; box name=y,window=off");
        let of = |name: &str| of_tunnel(&flags, &box_keys(&flags, name)).expect("lawful");
        let window = |text: &str| Some(text.parse::<Window>().expect("lawful"));
        assert_eq!(of("x"), (Mode::BalanceRr, window("40ms")));
        assert_eq!(of("y"), (Mode::Broadcast, window("off")));
    }
}
