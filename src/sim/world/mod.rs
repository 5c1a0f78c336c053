//! A world: two ends, the links between them, and a clock that jumps from one event to the next.
//!
//! At one moment things happen in a fixed order: incidents, then what links let out (by uplink, up before down), then
//! frames offered, then what the ends have to do; so a plan has one course.

mod account;
mod incidents;
mod network;

use std::net::{Ipv4Addr, SocketAddr};

use bytes::Bytes;
use network::{Cargo, IP_AND_UDP, Line, Parcel};

use super::end::{End, Waiting, watch_drops};
use super::frame;
use super::link::Link;
use super::oracle::{Oracle, Violation};
use super::plan::{BOX, DOWN, GATEWAY, Plan, TrafficPlan, UP};
use super::random::Random;
use super::report::Report;
use super::{MILLISECOND, Nanoseconds, SECOND};
use crate::proto::endpoint::HandshakeDestination;
use crate::proto::scheduler::Mode;
use crate::proto::session::transport::OVERHEAD;
use crate::proto::tunnel::{Event, FrameTransmit, Path};
use crate::proto::uplink::measure::PartsPerMillion;
use crate::proto::uplink::state::State;
use crate::proto::uplink::{UplinkId, UplinkSet};
use crate::proto::wire::{FRAME_LENGTH_MIN, FRAME_OVERHEAD_MAX, KEYED_HEADER_LENGTH};

/// What an uplink carries is found out as exactly as this, in bytes.
const EXACT_TO: usize = 8;
/// How often conservation is checked.
const AUDIT_EVERY: Nanoseconds = SECOND;
/// More at one moment than a burst can bring about.
const STEPS_AT_ONCE_MAX: u32 = 10_000;

/// Is told what happens, a line at a time.
pub type Tell = fn(Nanoseconds, &str);

/// A world.
pub struct World {
    plan: Plan,
    now: Nanoseconds,
    ends: [End<Parcel>; 2],
    lines: Vec<Line>,
    next_offer: [Nanoseconds; 2],
    next_incident: usize,
    next_audit: Nanoseconds,
    oracle: Oracle,
    random: Random,
    all_up_since: Option<Nanoseconds>,
    tell: Option<Tell>,
}

/// What came of something: nothing to object to, or what.
pub type Step = Result<(), Violation>;

impl World {
    /// The world of `plan`, at its beginning. What happens is told to `tell`.
    #[must_use]
    pub fn new(plan: Plan, tell: Option<Tell>) -> Self {
        let mut random = Random::new(plan.seed);
        let lines = plan.uplinks.iter().map(|uplink| Line::new(&uplink.ways, &mut random)).collect();
        let ends = [End::new(&plan, BOX), End::new(&plan, GATEWAY)];
        let clocks = ends.each_ref().map(|end| end.clock(0));
        let mut world = Self {
            now: 0,
            next_offer: [SECOND; 2],
            next_incident: 0,
            next_audit: AUDIT_EVERY,
            oracle: Oracle::new(&plan.ends, clocks, plan.tap_mtu, plan.rekey_interval),
            random,
            all_up_since: None,
            tell,
            lines,
            ends,
            plan,
        };
        [GATEWAY, BOX].into_iter().for_each(|end| world.start(end));
        world
    }

    /// [`Self::new`], with something going wrong in both cores.
    #[cfg(test)]
    pub fn sabotaged(plan: Plan, sabotage: crate::proto::receive::Sabotage) -> Self {
        let mut world = Self::new(plan, None);
        for end in [GATEWAY, BOX] {
            world.ends[end].sabotage = Some(sabotage);
            world.start(end);
        }
        world
    }

    /// Runs to the end of the plan.
    ///
    /// # Errors
    /// The first thing that the oracle objects to.
    pub fn run(&mut self) -> Result<Report, Violation> {
        self.run_until(self.plan.until)?;
        self.finish()
    }

    /// Runs to just before `until`, or to the end of the plan if that is earlier: what happens then has not happened.
    ///
    /// # Errors
    /// The first thing that the oracle objects to.
    pub fn run_until(&mut self, until: Nanoseconds) -> Step {
        let mut steps_at_once = 0;
        while let Some(at) = self.next_moment().filter(|at| *at < until) {
            steps_at_once = if at > self.now { 0 } else { steps_at_once + 1 };
            if steps_at_once > STEPS_AT_ONCE_MAX {
                return Err(self.standstill());
            }
            self.now = at;
            self.oracle.set_now(at);
            self.step()?;
        }
        self.now = self.now.max(until.min(self.plan.until));
        self.oracle.set_now(self.now);
        Ok(())
    }

    fn next_moment(&self) -> Option<Nanoseconds> {
        let incident = self.plan.incidents.get(self.next_incident).map(|(at, _)| *at);
        let links = self.lines.iter().flat_map(|line| &line.ways).filter_map(Link::next_departure);
        let ends = self.ends.iter().map(|end| if end.waiting.is_empty() { end.due } else { end.stalled_until });
        let next = links.chain(ends).chain(self.next_offer).chain(incident).chain([self.next_audit]).min();
        next.map(|at| at.max(self.now)).filter(|at| *at < self.plan.until)
    }

    fn step(&mut self) -> Step {
        while let Some((_, incident)) = self.plan.incidents.get(self.next_incident).filter(|(at, _)| *at <= self.now) {
            let incident = incident.clone();
            self.next_incident += 1;
            self.befall(incident)?;
        }
        for uplink in 0..self.lines.len() {
            for way in [UP, DOWN] {
                while let Some(departure) = self.lines[uplink].ways[way].leave(self.now) {
                    self.arrive(1 - way, uplink, departure)?;
                }
            }
        }
        for end in [BOX, GATEWAY] {
            if self.next_offer[end] <= self.now {
                self.offer_burst(end)?;
            }
        }
        for end in [BOX, GATEWAY] {
            self.wake(end)?;
        }
        if self.next_audit <= self.now {
            self.audit()?;
        }
        Ok(())
    }

    fn say(&self, what: impl FnOnce() -> String) {
        if let Some(tell) = self.tell {
            tell(self.now, &what());
        }
    }

    fn id(uplink: usize) -> UplinkId {
        UplinkId::new(uplink as u8).expect("a plan has at most 16 uplinks")
    }

    fn path(uplink: usize, port: u16) -> Path {
        Path { remote: SocketAddr::from((Ipv4Addr::new(10, 0, 0, uplink as u8), port)), local: None }
    }

    fn offer_burst(&mut self, from: usize) -> Step {
        let traffic: &TrafficPlan = &self.plan.traffic[from];
        let (interval, burst, (shortest, longest)) = (traffic.interval, traffic.burst, traffic.lengths);
        let is_pause = traffic.pauses.iter().any(|(begin, end)| (*begin..*end).contains(&self.now));
        let misfits = PartsPerMillion(traffic.misfits);
        self.next_offer[from] = if self.now < self.plan.quiet_from { self.now + interval } else { Nanoseconds::MAX };
        if is_pause || self.now >= self.plan.quiet_from {
            return Ok(());
        }
        for _ in 0..burst {
            let mut length = self.random.between(shortest as u64, longest as u64) as usize;
            if self.random.chance(misfits) {
                let too_long = usize::from(self.plan.tap_mtu) + FRAME_OVERHEAD_MAX + 1;
                length = *self.random.pick(&[FRAME_LENGTH_MIN - 1, too_long]);
            }
            self.offer(from, length)?;
        }
        Ok(())
    }

    fn offer(&mut self, from: usize, length: usize) -> Step {
        let number = self.oracle.next_number(from);
        let frame = frame::make(from, number, length);
        self.oracle.on_offered(from, length);
        if self.ends[from].is_free(self.now) {
            self.hand_frame(from, number, frame)
        } else {
            self.ends[from].leave(Waiting::Frame(number, frame));
            Ok(())
        }
    }

    fn hand_frame(&mut self, from: usize, number: u64, frame: Bytes) -> Step {
        let clock = self.ends[from].clock(self.now);
        let [attached, _] = self.ends[from].uplinks();
        let Some(endpoint) = &mut self.ends[from].endpoint else { return Ok(()) };
        let dropped = watch_drops(endpoint, |endpoint| endpoint.tunnel_mut(0).handle_frame(clock, frame));
        self.oracle.on_handed(from, number, dropped, attached)?;
        self.drain(from)
    }

    /// Sends all that the core wants sent of frames, and remembers what it may want sent again.
    fn drain_frames(&mut self, from: usize) -> Step {
        while let Some(transmit) = self.ends[from].endpoint.as_mut().and_then(|endpoint| endpoint.poll_frame(0)) {
            let Some((_, number)) = frame::read(&transmit.payload) else {
                return Err(self.objection(format!("end {from} sends a frame that was never offered")));
            };
            let [attached, up] = self.ends[from].uplinks();
            // Those of `adaptive` alone are kept; when another mode is to follow, some of them leave yet.
            let wanted = self.ends[from].tunnel().map_or(Mode::Adaptive, |tunnel| tunnel.mode());
            let mode = if transmit.is_kept { Mode::Adaptive } else { wanted };
            let up = if mode == Mode::Adaptive { up } else { self.ends[from].affordable(up) };
            let narrow = self.narrow(from, transmit.payload.len())?;
            let up = up.without(narrow);
            self.oracle.on_sent(from, number, mode, transmit.uplinks, [attached, up])?;
            let Some(bytes) = self.encapsulate(from, number, &transmit)? else { continue };
            if transmit.is_kept {
                self.ends[from].kept.insert(transmit.sequence, (number, bytes.clone()));
            }
            for uplink in transmit.uplinks.iter() {
                self.transmit(from, uplink, bytes.clone(), Cargo::Frame(number));
            }
        }
        while let Some(resend) = self.ends[from].endpoint.as_mut().and_then(|endpoint| endpoint.poll_resend(0)) {
            let Some((number, bytes)) = self.ends[from].kept.get(&resend.sequence).cloned() else {
                // Without keys it was never sent.
                if self.plan.rekey_interval.is_some()
                    && let Some(tunnel) = self.ends[from].tunnel_mut()
                {
                    tunnel.on_not_kept(resend.sequence);
                    continue;
                }
                return Err(self.objection(format!("end {from} wants {resend:?}, which need not be kept")));
            };
            let [attached, _] = self.ends[from].uplinks();
            self.oracle.on_sent_again(from, number, resend.uplink, attached)?;
            self.transmit(from, resend.uplink, bytes, Cargo::Frame(number));
        }
        if let Some(kept_from) = self.ends[from].tunnel().map(|tunnel| tunnel.kept_from()) {
            self.ends[from].kept = self.ends[from].kept.split_off(&kept_from);
        }
        Ok(())
    }

    /// The uplinks that end `from` takes to be too narrow for a frame of `length`.
    fn narrow(&self, from: usize, length: usize) -> Result<UplinkSet, Violation> {
        let narrow = self.ends[from].tunnel().map_or(UplinkSet::EMPTY, |tunnel| tunnel.too_narrow_for(length));
        for uplink in narrow.iter() {
            let carries = self.lines[uplink.index()].ways[from].settings.longest.unwrap_or(usize::MAX);
            if self.now >= self.plan.clean_from && length + OVERHEAD + IP_AND_UDP + EXACT_TO <= carries {
                let what = format!("end {from} sends none of {length} bytes by uplink {}", uplink.number());
                return Err(self.objection(format!("{what}, which carries packets of {carries}")));
            }
        }
        Ok(narrow)
    }

    /// The datagram for a frame; none if there are no keys to seal it with.
    fn encapsulate(
        &mut self,
        from: usize,
        number: u64,
        transmit: &FrameTransmit<Bytes>,
    ) -> Result<Option<Bytes>, Violation> {
        if self.plan.rekey_interval.is_none() {
            return Ok(Some([&transmit.plaintext_header()[..], &transmit.payload].concat().into()));
        }
        let clock = self.ends[from].clock(self.now);
        let Some(endpoint) = &mut self.ends[from].endpoint else { return Ok(None) };
        let mut datagram = vec![0; transmit.payload.len() + OVERHEAD];
        datagram[KEYED_HEADER_LENGTH..][..transmit.payload.len()].copy_from_slice(&transmit.payload);
        if let Err(reason) = endpoint.seal_frame(clock, 0, transmit.sequence, &mut datagram) {
            endpoint.tunnel_mut(0).count_drops(reason, 1);
            self.oracle.on_without_session(from, number);
            let is_well = self.now >= self.plan.clean_from;
            return if is_well { Err(self.objection(format!("end {from} has no session"))) } else { Ok(None) };
        }
        Ok(Some(datagram.into()))
    }

    fn wake(&mut self, end: usize) -> Step {
        if !self.ends[end].is_awake(self.now) {
            return Ok(());
        }
        if self.ends[end].stalled_until == self.now {
            self.oracle.on_jumped(end, self.ends[end].clock(self.now));
        }
        while let Some(waiting) = self.ends[end].waiting.pop_front() {
            match waiting {
                Waiting::Frame(number, frame) => self.hand_frame(end, number, frame)?,
                Waiting::Datagram(uplink, parcel) => self.hand_datagram(end, uplink, parcel)?,
            }
        }
        if self.ends[end].due <= self.now {
            let clock = self.ends[end].clock(self.now);
            self.set_time_of_day(end);
            if let End { endpoint: Some(endpoint), host, .. } = &mut self.ends[end]
                && endpoint.poll_timeout(clock).0 <= clock
            {
                endpoint.handle_timeout(clock, host);
            }
            self.drain(end)?;
        }
        Ok(())
    }

    /// Takes out all that the core wants sent, delivered and told, in the order that its contract asks for.
    fn drain(&mut self, end: usize) -> Step {
        let clock = self.ends[end].clock(self.now);
        self.drain_frames(end)?;
        while let Some(endpoint) = &mut self.ends[end].endpoint {
            let mut made = None;
            let was_one = endpoint.poll_control(clock, 0, |uplink, bytes| {
                made = Some((uplink, Bytes::copy_from_slice(bytes)));
            });
            match made {
                Some((uplink, bytes)) => self.transmit(end, uplink, bytes, Cargo::Control),
                // Without keys: it will be said again when there are some.
                None if was_one => {}
                None => break,
            }
        }
        while let Some(transmit) = self.ends[end].endpoint.as_mut().and_then(|endpoint| endpoint.poll_handshake()) {
            let bytes = Bytes::copy_from_slice(transmit.bytes());
            match transmit.destination {
                HandshakeDestination::Uplink(uplink) => self.transmit(end, uplink, bytes, Cargo::Handshake),
                HandshakeDestination::Path(path) => self.transmit_to(path, bytes),
            }
        }
        while let Some(endpoint) = &mut self.ends[end].endpoint
            && let Some((uplink, sequence, bytes)) = endpoint.poll_restored(0)
        {
            let bytes = Bytes::copy_from_slice(bytes);
            self.oracle.on_restored(end, &bytes)?;
            endpoint.tunnel_mut(0).handle_restored(clock, uplink, sequence, bytes);
        }
        while let Some(delivered) = self.ends[end].tunnel_mut().and_then(|tunnel| tunnel.poll_deliver()) {
            self.oracle.on_delivered(end, clock, &delivered)?;
        }
        while let Some((event, _)) = self.ends[end].tunnel_mut().and_then(|tunnel| tunnel.poll_event()) {
            self.on_event(end, &event)?;
        }
        self.ends[end].refresh_due(self.now);
        Ok(())
    }

    fn on_event(&mut self, end: usize, event: &Event) -> Step {
        self.say(|| format!("end {end}: {event:?}"));
        let clock = self.ends[end].clock(self.now);
        match event {
            Event::PeerFound => self.oracle.on_begun_anew(end, clock, true),
            Event::PeerRestarted => {
                self.oracle.on_begun_anew(end, clock, false);
                self.oracle.on_peer_restarted(end)?;
            }
            Event::PeerLeft => self.oracle.on_begun_anew(end, clock, false),
            Event::Resynchronised(_) => {
                self.oracle.on_begun_anew(end, clock, false);
                self.oracle.on_resynchronised(end)?;
            }
            Event::Uplink(..) => {
                let is_up = self.are_all_up();
                self.all_up_since = if is_up { self.all_up_since.or(Some(self.now)) } else { None };
            }
            Event::Moved { .. }
            | Event::Removed { .. }
            | Event::PeerMtu(_)
            | Event::PathMtu { .. }
            | Event::TapMtu(_)
            | Event::Sealed { .. }
            | Event::Unanswered
            | Event::CipherRefused => {}
        }
        Ok(())
    }

    fn are_all_up(&self) -> bool {
        self.ends.iter().all(|end| end.uplinks()[1].iter().count() == self.lines.len())
    }

    fn objection(&self, what: String) -> Violation {
        Violation { at: self.now, what }
    }

    fn standstill(&mut self) -> Violation {
        let now = self.now;
        let wants = self.ends.each_mut().map(|end| {
            let clock = end.clock(now);
            end.endpoint.as_mut().map(|endpoint| endpoint.poll_timeout(clock)).map(|(at, why)| (at.since(clock), why))
        });
        self.objection(format!("time stands still: the ends want to be woken in, and for: {wants:?}"))
    }

    fn audit(&mut self) -> Step {
        self.next_audit = self.now + AUDIT_EVERY;
        for end in [BOX, GATEWAY] {
            if let Some(endpoint) = &self.ends[end].endpoint {
                let (tunnel, outside) = (&endpoint.tunnels()[0], endpoint.drops().total());
                self.oracle.check_conservation(end, &tunnel.counters(), outside, tunnel.held())?;
            }
        }
        for (uplink, line) in self.lines.iter().enumerate() {
            for link in &line.ways {
                let counters = link.counters();
                let went_in = counters.entered + counters.duplicated;
                let came_to =
                    counters.left + counters.lost + counters.overflowed + counters.swallowed + link.in_flight() as u64;
                if went_in != came_to {
                    return Err(self.objection(format!("uplink {uplink} carries {came_to} of {went_in}: {counters:?}")));
                }
            }
        }
        let has_just_become_clean = self.plan.clean_from <= self.now && self.now < self.plan.clean_from + AUDIT_EVERY;
        if has_just_become_clean { self.check_all_up() } else { Ok(()) }
    }

    fn check_all_up(&self) -> Step {
        for end in [BOX, GATEWAY] {
            let Some(tunnel) = self.ends[end].tunnel() else { continue };
            for uplink in (0..self.lines.len()).map(Self::id) {
                let state = tunnel.uplink(uplink).state();
                self.oracle.check_up(end, uplink, state == State::Up, state.name())?;
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<Report, Violation> {
        self.audit()?;
        let tunnels = self.ends.each_ref().map(End::tunnel);
        let [Some(box_end), Some(gateway)] = tunnels else {
            return Err(self.objection("an end does not run at the end".to_owned()));
        };
        let counters = [box_end.counters(), gateway.counters()];
        for (end, tunnel) in [box_end, gateway].into_iter().enumerate() {
            let counters = [&counters[0], &counters[1]];
            self.oracle.check_end(end, counters, tunnel.held(), self.plan.clean_from)?;
        }
        Ok(Report::of([UP, DOWN].map(|way| self.oracle.stream(way)), self.all_up_since))
    }
}

/// The world's clock, for people.
#[must_use]
pub fn clock_text(now: Nanoseconds) -> String {
    format!("{:>3}.{:06}", now / SECOND, now % SECOND / (MILLISECOND / 1000))
}
