//! A world: two ends, the links between them, and a clock that jumps from one event to the next.
//!
//! At one moment things happen in a fixed order: incidents, then what links let out (by uplink, up before down), then
//! frames offered, then what the ends have to do; so a plan has one course.

use std::net::{Ipv4Addr, SocketAddr};

use bytes::{Bytes, BytesMut};

use super::end::{End, Waiting, arrival, watch_drops};
use super::frame;
use super::link::{Departure, Link, LinkSettings};
use super::oracle::{Arrived, Oracle, Violation};
use super::plan::{BOX, DOWN, GATEWAY, Incident, Plan, TrafficPlan, UP};
use super::random::Random;
use super::report::Report;
use super::{MILLISECOND, Nanoseconds, SECOND};
use crate::proto::stats::DropReason;
use crate::proto::tunnel::peer::epoch;
use crate::proto::tunnel::{Event, Path};
use crate::proto::uplink::UplinkId;
use crate::proto::uplink::measure::PartsPerMillion;
use crate::proto::uplink::state::{Reason, State};
use crate::proto::wire::{self, Datagram, FRAME_LENGTH_MIN, FRAME_OVERHEAD_MAX};

/// IP and UDP headers of a datagram.
const IP_AND_UDP: usize = 28;
/// How often conservation is checked.
const AUDIT_EVERY: Nanoseconds = SECOND;
/// The port that a box's uplink begins with; each rebinding and each restart makes another.
const FIRST_PORT: u16 = 10_000;
/// Of a clock that works, when the world begins, in milliseconds since 1970.
const TIME_OF_DAY: u64 = 1_790_000_000_000;
const ENETDOWN: i32 = 100;
const ECONNREFUSED: i32 = 111;

/// Is told what happens, a line at a time.
pub type Tell = fn(Nanoseconds, &str);

/// What a datagram carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cargo {
    Frame(u64),
    Control,
    /// The answer of a host where nobody listens (ICMP).
    Refusal,
}

/// A datagram under way.
#[derive(Clone, Debug)]
struct Parcel {
    bytes: Bytes,
    cargo: Cargo,
    /// The box's port as the gateway sees it: whence it comes, or where it goes.
    port: u16,
    /// In which of its lives its sender has sent it.
    sender_life: u32,
    is_deceptive: bool,
}

/// An uplink's links, and what stands between them and the box.
struct Line {
    ways: [Link<Parcel>; 2],
    has_carrier: bool,
    port: u16,
    /// When each way last reordered or duplicated.
    reordered: [Option<Nanoseconds>; 2],
}

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

type Step = Result<(), Violation>;

impl World {
    /// The world of `plan`, at its beginning. What happens is told to `tell`.
    #[must_use]
    pub fn new(plan: Plan, tell: Option<Tell>) -> Self {
        let mut random = Random::new(plan.seed);
        let lines = plan.uplinks.iter().map(|uplink| Line {
            ways: uplink.ways.each_ref().map(|settings| Link::new(settings.clone(), random.fork())),
            has_carrier: true,
            port: FIRST_PORT,
            reordered: [None; 2],
        });
        let lines = lines.collect();
        let ends = [End::new(&plan, BOX), End::new(&plan, GATEWAY)];
        let windows = plan.ends.each_ref().map(|end| end.window);
        let clocks = ends.each_ref().map(|end| end.clock(0));
        let mut world = Self {
            now: 0,
            next_offer: [SECOND; 2],
            next_incident: 0,
            next_audit: AUDIT_EVERY,
            oracle: Oracle::new(windows, clocks, plan.tap_mtu),
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

    /// Runs to the end of the plan.
    ///
    /// # Errors
    /// The first thing that the oracle objects to.
    pub fn run(mut self) -> Result<Report, Violation> {
        while let Some(at) = self.next_moment() {
            self.now = at;
            self.oracle.set_now(at);
            self.step()?;
        }
        self.finish()
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

    // ── what befalls it ──

    fn befall(&mut self, incident: Incident) -> Step {
        self.say(|| incident.to_string());
        match incident {
            Incident::Blackhole { uplink, ways } => self.set_blackholes(uplink, ways),
            Incident::Restore { uplink } => self.set_blackholes(uplink, [false; 2]),
            Incident::Change { uplink, way, settings } => self.change(uplink, way, *settings),
            Incident::Carrier { uplink, up } => self.lines[uplink].has_carrier = up,
            Incident::CarrierNews { uplink } => return self.learn_carrier(uplink),
            Incident::Rebind { uplink } => self.lines[uplink].port += 1,
            Incident::ClockStep { end, by } => {
                self.ends[end].clock_ahead += by.as_nanos() as Nanoseconds;
                self.oracle.on_jumped(end, self.ends[end].clock(self.now));
                self.ends[end].refresh_due(self.now);
            }
            Incident::Stall { end, lasting } => {
                self.ends[end].stalled_until = self.now + lasting.as_nanos() as Nanoseconds;
                self.ends[end].refresh_due(self.now);
            }
            Incident::Stop { end, says_bye } => return self.stop(end, says_bye),
            Incident::Start { end } => {
                if self.ends[end].tunnel.is_none() {
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

    fn remember_reordering(&mut self, uplink: usize, way: usize) {
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
        let Some(tunnel) = &mut self.ends[BOX].tunnel else { return Ok(()) };
        if has_carrier {
            tunnel.handle_uplink_attached(clock, Self::id(uplink));
        } else {
            tunnel.handle_uplink_detached(clock, Self::id(uplink), Reason::NoCarrier);
        }
        self.drain(BOX)
    }

    fn start(&mut self, end: usize) {
        // Now and then a machine has lost its clock, and what it draws may be lower than before.
        let has_lost_clock = self.random.below(8) == 0;
        let time_of_day = self.now / MILLISECOND + if has_lost_clock { 0 } else { TIME_OF_DAY };
        let epoch = epoch(time_of_day, self.random.next());
        self.ends[end].start(self.now, epoch);
        self.say(|| format!("end {end} starts, epoch {epoch:x}"));
        if end == BOX {
            let clock = self.ends[BOX].clock(self.now);
            for (uplink, line) in self.lines.iter_mut().enumerate() {
                line.port += 1;
                if let (true, Some(tunnel)) = (line.has_carrier, &mut self.ends[BOX].tunnel) {
                    tunnel.handle_uplink_attached(clock, Self::id(uplink));
                }
            }
        }
    }

    fn stop(&mut self, end: usize, says_bye: bool) -> Step {
        let clock = self.ends[end].clock(self.now);
        let Some(tunnel) = &mut self.ends[end].tunnel else { return Ok(()) };
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
            if self.ends[end].tunnel.is_none() {
                self.start(end);
            }
            self.ends[end].refresh_due(self.now);
        }
        Ok(())
    }

    // ── what arrives ──

    fn arrive(&mut self, to: usize, uplink: usize, departure: Departure<Parcel>) -> Step {
        let Departure { packet: mut parcel, spoiled, .. } = departure;
        self.remember_reordering(uplink, 1 - to);
        let line = &self.lines[uplink];
        // A translation lets in only what is for a port that it knows; without a carrier nothing comes.
        let is_for_nobody = to == BOX && (parcel.port != line.port || !line.has_carrier);
        if is_for_nobody {
            return Ok(());
        }
        if let Some(how) = spoiled {
            let bytes = frame::spoil(&parcel.bytes, how);
            if frame::checksum(&bytes) != frame::checksum(&parcel.bytes) {
                return Ok(());
            }
            parcel.is_deceptive = bytes != parcel.bytes;
            parcel.bytes = bytes;
        }
        if self.ends[to].is_free(self.now) {
            self.hand_datagram(to, Self::id(uplink), parcel)
        } else {
            let (port, is_refusal) = (parcel.port, parcel.cargo == Cargo::Refusal);
            let is_left = self.ends[to].leave(Waiting::Datagram(Self::id(uplink), parcel));
            if !is_left && to == GATEWAY && !is_refusal {
                self.enter(GATEWAY, uplink, (Bytes::new(), Cargo::Refusal), port);
            }
            Ok(())
        }
    }

    fn hand_datagram(&mut self, to: usize, uplink: UplinkId, parcel: Parcel) -> Step {
        let clock = self.ends[to].clock(self.now);
        let reordered = self.lines[uplink.index()].reordered[1 - to];
        let Some(tunnel) = &mut self.ends[to].tunnel else { return Ok(()) };
        if parcel.cargo == Cargo::Refusal {
            tunnel.handle_send_error(clock, uplink, ECONNREFUSED);
            return self.drain(to);
        }
        let path = Self::path(uplink.index(), parcel.port);
        let arrived = Arrived {
            to,
            uplink,
            sender_life: parcel.sender_life,
            clock,
            is_heard: tunnel.uplink(uplink).is_heard(clock),
            is_known_source: tunnel.uplink(uplink).is_of_peer() && (to == BOX || tunnel.path(uplink) == Some(path)),
            reordered,
        };
        self.oracle.on_arriving(&arrived);
        let bytes = parcel.bytes.clone();
        let dropped = watch_drops(tunnel, |tunnel| {
            tunnel.handle_datagram(clock, arrival(to, uplink, path), parcel.bytes);
        });
        match parcel.cargo {
            _ if parcel.is_deceptive => {
                let is_control = matches!(wire::parse(&bytes), Ok(Datagram::Control { .. }));
                self.say(|| format!("end {to} is handed what was spoiled: {bytes:02x?}: {dropped:?}"));
                self.oracle.on_deceived(to, bytes, is_control && dropped.is_none());
            }
            Cargo::Frame(number) => self.oracle.on_frame(&arrived, number, dropped)?,
            Cargo::Control | Cargo::Refusal => self.oracle.on_control(&arrived, dropped)?,
        }
        self.drain(to)
    }

    // ── what is offered ──

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
        let (clock, length) = (self.ends[from].clock(self.now), frame.len());
        let uplinks = self.ends[from].uplinks();
        let mode = self.plan.ends[from].scheduler.mode;
        let Some(tunnel) = &mut self.ends[from].tunnel else { return Ok(()) };
        let dropped = watch_drops(tunnel, |tunnel| tunnel.handle_frame(clock, frame));
        let transmit = tunnel.poll_frame();
        let outcome = match (dropped, &transmit) {
            (Some(reason), _) => Err(reason),
            (None, Some(transmit)) => Ok(transmit.uplinks),
            (None, None) => return Err(self.objection(format!("frame {number} has disappeared at end {from}"))),
        };
        self.oracle.on_handed(from, number, mode, outcome, uplinks)?;
        if let Some(transmit) = transmit {
            let mut bytes = BytesMut::with_capacity(transmit.header.len() + length);
            bytes.extend_from_slice(&transmit.header);
            bytes.extend_from_slice(&transmit.payload);
            let bytes = bytes.freeze();
            for uplink in transmit.uplinks.iter() {
                self.transmit(from, uplink, bytes.clone(), Cargo::Frame(number));
            }
        }
        self.drain(from)
    }

    // ── what the ends do ──

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
            if let Some(tunnel) = &mut self.ends[end].tunnel
                && tunnel.poll_timeout(clock).0 <= clock
            {
                tunnel.handle_timeout(clock);
            }
            self.drain(end)?;
        }
        Ok(())
    }

    /// Takes out all that the core wants sent, delivered and told, in the order that its contract asks for.
    fn drain(&mut self, end: usize) -> Step {
        let clock = self.ends[end].clock(self.now);
        while let Some(control) = self.ends[end].tunnel.as_mut().and_then(|tunnel| tunnel.poll_control()) {
            let bytes = Bytes::copy_from_slice(control.bytes.as_slice());
            self.transmit(end, control.uplink, bytes, Cargo::Control);
        }
        while let Some(delivered) = self.ends[end].tunnel.as_mut().and_then(|tunnel| tunnel.poll_deliver()) {
            self.oracle.on_delivered(end, clock, &delivered)?;
        }
        while let Some((event, _)) = self.ends[end].tunnel.as_mut().and_then(|tunnel| tunnel.poll_event()) {
            self.on_event(end, &event)?;
        }
        self.ends[end].refresh_due(self.now);
        Ok(())
    }

    fn transmit(&mut self, from: usize, uplink: UplinkId, bytes: Bytes, cargo: Cargo) {
        let line = &mut self.lines[uplink.index()];
        if from == BOX && !line.has_carrier {
            let clock = self.ends[BOX].clock(self.now);
            if let Some(tunnel) = &mut self.ends[BOX].tunnel {
                tunnel.count_drop(DropReason::SendFailed);
                tunnel.handle_send_error(clock, uplink, ENETDOWN);
                self.oracle.on_dropped_outside(BOX);
            }
            return;
        }
        let port = match from {
            BOX => line.port,
            _ => match self.ends[GATEWAY].tunnel.as_ref().and_then(|tunnel| tunnel.path(uplink)) {
                Some(path) => path.remote.port(),
                None => return,
            },
        };
        self.enter(from, uplink.index(), (bytes, cargo), port);
    }

    fn enter(&mut self, from: usize, uplink: usize, (bytes, cargo): (Bytes, Cargo), port: u16) {
        let (length, sender_life) = (bytes.len() + IP_AND_UDP, self.oracle.life(from));
        let parcel = Parcel { bytes, cargo, port, sender_life, is_deceptive: false };
        self.lines[uplink].ways[from].enter(self.now, length, parcel);
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
            Event::Moved { .. } | Event::PeerMtu(_) => {}
        }
        Ok(())
    }

    fn are_all_up(&self) -> bool {
        self.ends.iter().all(|end| end.uplinks()[1].iter().count() == self.lines.len())
    }

    // ── what must hold ──

    fn objection(&self, what: String) -> Violation {
        Violation { at: self.now, what }
    }

    fn audit(&mut self) -> Step {
        self.next_audit = self.now + AUDIT_EVERY;
        for end in [BOX, GATEWAY] {
            if let Some(tunnel) = &self.ends[end].tunnel {
                self.oracle.check_conservation(end, &tunnel.counters(), tunnel.held())?;
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
            let Some(tunnel) = &self.ends[end].tunnel else { continue };
            for uplink in (0..self.lines.len()).map(Self::id) {
                let state = tunnel.uplink(uplink).state();
                self.oracle.check_up(end, uplink, state == State::Up, state.name())?;
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Report, Violation> {
        self.now = self.plan.until;
        self.oracle.set_now(self.now);
        self.audit()?;
        let tunnels = self.ends.each_ref().map(|end| end.tunnel.as_ref());
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
