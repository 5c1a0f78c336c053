//! A scenario as a course that the simulator can run.

use std::time::Duration;

use braid::proto::uplink::Limits;
use braid::proto::uplink::UplinkName;
use braid::sim::course::{Capacity, Course, CourseEvent, CourseUplink, Happening};
use braid::sim::draw::SECONDS_MAX;
use braid::sim::link::Loss;
use braid::sim::shaper::Shaper;
use braid::sim::{Nanoseconds, SECOND};

use super::repeat::RepeatOptions;
use crate::action::{Action, spell_action};
use crate::scenario::{Scenario, Traffic, TrafficKind, Uplink};

/// What a datagram of the stream has around its payload as an Ethernet frame: UDP, IPv4 and Ethernet headers.
const PAYLOAD_TO_FRAME: usize = 8 + 20 + 14;
/// The shortest time from one datagram to the next.
const INTERVAL_MIN: Nanoseconds = 1_000;

/// The course of `scenario`, run with these options.
///
/// # Errors
/// What the simulator cannot do, in one line.
pub fn course(scenario: &Scenario, options: &RepeatOptions) -> Result<Course, String> {
    let uplinks = scenario.uplinks.iter().map(|uplink| course_uplink(scenario, uplink)).collect::<Result<_, _>>()?;
    if scenario.duration > Duration::from_secs(SECONDS_MAX) {
        return Err(format!("the simulator remembers every frame, and runs scenarios of {SECONDS_MAX} s at most"));
    }
    let course = Course {
        mode: options.mode,
        window: options.window.longest,
        window_follows: options.window.follows,
        is_sealed: options.is_sealed,
        uplinks,
        events: course_events(scenario)?,
        frame_length: scenario.traffic.size + PAYLOAD_TO_FRAME,
        interval: interval(&scenario.traffic)?,
        burst: 1,
        duration: scenario.duration.as_nanos() as Nanoseconds,
    };
    let length = course.packet_length();
    match scenario.uplinks.iter().find(|uplink| usize::from(uplink.mtu) < length) {
        Some(Uplink { name, mtu, .. }) => Err(format!(
            "uplink '{name}' has an MTU of {mtu}, and the simulator does not cut packets of {length} bytes"
        )),
        None => Ok(course),
    }
}

fn course_uplink(scenario: &Scenario, uplink: &Uplink) -> Result<CourseUplink, String> {
    let up = match (scenario.trace(uplink).map_err(|error| error.to_string())?, uplink.rate) {
        (Some(opportunities), _) => Capacity::Trace { opportunities, start: uplink.trace_start },
        (None, Some(rate)) => Capacity::Rate(rate),
        (None, None) => Capacity::Unlimited,
    };
    let link = uplink.link_settings(Shaper::Unlimited);
    Ok(CourseUplink {
        name: UplinkName::new(&uplink.name)?,
        up,
        rate_down: uplink.downlink_rate.or(uplink.rate),
        link,
        limits: Limits::default(),
    })
}

/// What happens while the stream flows, in order of time.
fn course_events(scenario: &Scenario) -> Result<Vec<CourseEvent>, String> {
    let mut events = vec![];
    for event in scenario.events.iter().filter(|event| event.at <= scenario.duration) {
        let uplink = scenario.uplinks.iter().position(|uplink| uplink.name == event.uplink);
        let uplink = uplink.ok_or_else(|| format!("there is no uplink '{}'", event.uplink))?;
        // Without a translation there is nothing to forget.
        if event.action == Action::NatRebind && !scenario.uplinks[uplink].nat {
            continue;
        }
        let what = happening(event.action)
            .ok_or_else(|| format!("the simulator cannot do '{}': it has no interfaces", spell_action(event.action)))?;
        events.push(CourseEvent { at: event.at.as_nanos() as Nanoseconds, uplink, what });
    }
    events.sort_by_key(|event| event.at);
    Ok(events)
}

fn happening(action: Action) -> Option<Happening> {
    Some(match action {
        Action::Blackhole => Happening::Blackhole([true, true]),
        Action::BlackholeUp => Happening::Blackhole([true, false]),
        Action::BlackholeDown => Happening::Blackhole([false, true]),
        Action::Restore => Happening::Restore,
        Action::CarrierDown => Happening::Carrier(false),
        Action::CarrierUp => Happening::Carrier(true),
        Action::NatRebind => Happening::Rebind,
        Action::Delay(delay) => Happening::Delay(delay),
        Action::Rate(rate) => Happening::Rate(rate),
        Action::Jitter(jitter) => Happening::Jitter(jitter),
        Action::Loss(share) => Happening::Loss(Loss::Random(share)),
        Action::Reordering(reordering) => Happening::Reordering(reordering),
        Action::Duplication(share) => Happening::Duplication(share),
        Action::Corruption(share) => Happening::Corruption(share),
        Action::Mtu(mtu) => Happening::Mtu(mtu.into()),
        Action::InterfaceRemove | Action::InterfaceAdd => return None,
    })
}

/// From one datagram of the stream to the next.
fn interval(traffic: &Traffic) -> Result<Nanoseconds, String> {
    if traffic.kind != TrafficKind::Cbr {
        return Err("the simulator has traffic of kind \"cbr\" only".to_owned());
    }
    let bits = traffic.size as u128 * 8 * u128::from(SECOND);
    let interval = ((bits + u128::from(traffic.rate) / 2) / u128::from(traffic.rate)) as Nanoseconds;
    if interval < INTERVAL_MIN {
        return Err(format!(
            "a rate of {} bit/s is a datagram each {interval} ns: one each microsecond is the most",
            traffic.rate
        ));
    }
    Ok(interval)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use braid::proto::scheduler::Mode;

    use super::super::window::Window;
    use super::*;
    use crate::scenario::SHIPPED;

    fn options() -> RepeatOptions {
        RepeatOptions {
            seeds: (0, 1),
            mode: Mode::BalanceRr,
            window: Window::OFF,
            deadline: Duration::from_millis(300),
            is_sealed: false,
            is_told: false,
        }
    }

    fn course_of(text: &str) -> Result<Course, String> {
        let scenario = Scenario::parse("s.toml", text, Path::new("")).expect("a lawful scenario");
        course(&scenario, &options())
    }

    #[test]
    fn a_scenario_is_run_as_it_is_written() {
        let course = course_of(
            "name = \"x\"\nduration = \"10s\"\ntraffic = { kind = \"cbr\", rate = \"2mbit\", size = 1316 }\n\
             [[uplink]]\nname = \"a\"\nrate = \"3mbit\"\ndelay = \"20ms\"\n\
             [[uplink]]\nname = \"b\"\ntrace = \"made-lte-a.up\"\ntrace-start = \"2s\"\ndownlink-rate = \"9mbit\"\n\
             [[event]]\nat = \"5s\"\nuplink = \"b\"\ndo = \"blackhole-up\"\n\
             [[event]]\nat = \"1s\"\nuplink = \"a\"\ndo = \"loss 2%\"\n\
             [[event]]\nat = \"2s\"\nuplink = \"a\"\ndo = \"nat-rebind\"\n",
        )
        .expect("nothing to refuse");
        assert_eq!((course.interval, course.frame_length, course.packet_length()), (5_264_000, 1358, 1394));
        assert_eq!(course.uplinks[0].rate_down, Some(3_000_000));
        assert_eq!(course.uplinks[1].rate_down, Some(9_000_000));
        assert_eq!(course.trace_starts(0)[1], Duration::from_secs(2));
        let events: Vec<_> = course.events.iter().map(|event| (event.at / SECOND, event.uplink)).collect();
        assert_eq!(events, [(1, 0), (5, 1)], "in order of time, and no port of a translation that is not there");
    }

    #[test]
    fn what_the_simulator_cannot_do_is_refused_in_one_line() {
        let base = "name = \"x\"\nduration = \"1s\"\n[[uplink]]\nname = \"a\"\n";
        for (more, culprit) in [
            ("[[event]]\nat = \"1s\"\nuplink = \"a\"\ndo = \"interface-remove\"\n", "interface-remove"),
            ("[traffic]\nkind = \"tcp\"\n", "\"cbr\" only"),
            ("[traffic]\nkind = \"cbr\"\nrate = \"90gbit\"\n", "microsecond"),
            ("mtu = 1300\n", "MTU of 1300"),
        ] {
            let refusal = course_of(&format!("{base}{more}")).expect_err(more);
            assert!(refusal.contains(culprit) && !refusal.contains('\n'), "{refusal}");
        }
    }

    #[test]
    fn shipped_scenarios_with_constant_traffic_can_be_run() {
        for (name, _) in SHIPPED {
            let scenario = Scenario::load(name).expect("lawful");
            let has_interfaces = scenario.events.iter().any(|event| happening(event.action).is_none());
            let is_constant = scenario.traffic.kind == TrafficKind::Cbr;
            assert_eq!(course(&scenario, &options()).is_ok(), is_constant && !has_interfaces, "{name}");
        }
    }
}
