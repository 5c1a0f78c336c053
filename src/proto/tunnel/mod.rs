//! The core's one entry: frames and datagrams go in, frames and datagrams come out.
//!
//! The contract of the loop around it: call any number of `handle_*` with one `now`, and after each drain
//! [`Tunnel::poll_frame`], then [`Tunnel::poll_resend`], [`Tunnel::poll_control`], [`Tunnel::poll_parity`] and
//! [`Tunnel::poll_sounding`] (which get their numbers only then), then [`Tunnel::poll_restored`] and [`Tunnel::poll_deliver`], until they are empty; then sleep until
//! [`Tunnel::poll_timeout`] at the latest. Frames must leave before the control messages made after them: a probe says "all
//! below this number has been sent", and an uplink is first-in, first-out. What goes again may have been sent for the first
//! time just before, to explore an idle uplink.
//!
//! `now` never goes back.

mod adaptive;
mod change;
mod control;
mod interface;
pub mod peer;
mod probe_clock;
mod sizes;
mod spent;
#[cfg(test)]
mod tests;
mod watch;

use std::collections::VecDeque;
use std::time::Duration;

pub use adaptive::WINDOW_MIN;
use adaptive::{Outbound, RESENDS_WAITING_MAX};
use change::Successor;
pub use interface::{
    Arrival, ControlTransmit, Counters, Event, Frame, FrameTransmit, ParityTransmit, Path, Payload, Role, Settings,
    SoundingTransmit, UplinkSettings,
};
use peer::Peer;
use probe_clock::ProbeClock;
use sizes::Sizes;
use watch::Watch;
pub use watch::Watched;

use super::histogram::TimeHistogram;
use super::receive::Receiver;
use super::receive::feedback::FeedbackClock;
use super::scheduler::Mode;
use super::scheduler::standing::Standing;
use super::send::Resend;
use super::send::Terms;
use super::send::classify::classify;
use super::seq::{self, Position};
use super::stats::{DropCounters, DropReason, Traffic};
use super::time::Instant;
use super::uplink::monitor::Uplink;
use super::uplink::state::{Reason, State, Transition};
use super::uplink::{Limits, UPLINKS_MAX, UplinkId, UplinkName, UplinkSet};
use super::wire::control::ProbeFlags;
use super::wire::{self, Datagram, FRAME_HEADER_LENGTH, FRAME_LENGTH_MIN, FRAME_OVERHEAD_MAX};

/// The most frames that wait for [`Tunnel::poll_frame`]; a caller that drains as it should needs one.
const FRAMES_WAITING_MAX: usize = 256;
/// The most control messages that wait: a probe, a reply, a report and feedback on each uplink.
const CONTROLS_WAITING_MAX: usize = 4 * UPLINKS_MAX;
/// The most events that wait to be read.
const EVENTS_WAITING_MAX: usize = 64;

/// One end of a tunnel: sends `F`s, and receives `T`s.
#[derive(Debug)]
pub struct Tunnel<T, F = T> {
    role: Role,
    /// Whether all that is handed in has been opened with keys.
    is_sealed: bool,
    tap_mtu: u16,
    peer: Peer,
    peer_mtu: Option<u16>,
    /// The peer's clock in its newest message: what it says of all uplinks counts only if it is no older.
    peer_word_at: u64,
    uplinks: [Uplink; UPLINKS_MAX],
    /// The uplinks that have ever had something to send by: most tunnels have few, and a wake-up should not have to
    /// look at all that there could be.
    known: UplinkSet,
    /// Those of them that are to be used no more.
    leaving: UplinkSet,
    paths: [Option<Path>; UPLINKS_MAX],
    /// The uplinks on which the peer is heard.
    heard: UplinkSet,
    /// Those whose data budgets are spent, and when a frame last came by one of them.
    spent: UplinkSet,
    /// Those of them that rest, since there are others.
    spared: UplinkSet,
    spent_used_at: Option<Instant>,
    /// When the peer was last told by these, too, that nothing comes any more.
    alarmed_at: Option<Instant>,
    probe_clock: ProbeClock,
    next_control: u64,
    next_sequence: u64,
    outbound: Outbound<F>,
    successor: Option<Successor>,
    mode: Mode,
    watch: Option<Box<Watch>>,
    receiver: Receiver<T>,
    sizes: Sizes,
    feedback_clock: FeedbackClock,
    /// What the peer's newest probe said of what it does.
    peer_flags: ProbeFlags,
    /// How far the window may follow what the uplinks are like; `None` if it does not follow.
    window_max: Option<Duration>,
    window_now: Duration,
    frames: VecDeque<FrameTransmit<F>>,
    resends: VecDeque<Resend>,
    controls: VecDeque<ControlTransmit>,
    events: VecDeque<Event>,
    events_lost: u64,
    sent: Traffic,
    delivered: Traffic,
    drops: DropCounters,
}

impl<T: Payload, F: Frame> Tunnel<T, F> {
    /// A tunnel that knows nothing of its peer.
    ///
    /// # Panics
    /// If `settings.epoch` is 0 or there are more than [`UPLINKS_MAX`] uplinks.
    #[must_use]
    pub fn new(now: Instant, settings: &Settings) -> Self {
        assert!(settings.epoch != 0, "0 means on the wire that no epoch is known");
        assert!(settings.uplinks.len() <= UPLINKS_MAX);
        let uplinks = std::array::from_fn(|index| {
            let named = settings.uplinks.get(index);
            let (name, weight) = named.map_or((UplinkName::default(), 1), |uplink| (uplink.name, uplink.weight));
            let limits = named.map_or(Limits::default(), |uplink| uplink.limits);
            let mut uplink = Uplink::new(now, name, weight, settings.probe_interval);
            uplink.limits = limits;
            uplink
        });
        let mut outbound = Outbound::new(now, &settings.scheduler, seq::begin(settings.first_sequence));
        for (uplink, named) in UplinkId::all().zip(&settings.uplinks) {
            outbound.set_terms(uplink, Terms { limits: named.limits, weight: named.weight });
        }
        Self {
            role: settings.role,
            is_sealed: false,
            tap_mtu: settings.tap_mtu,
            peer: Peer::new(settings.epoch),
            peer_mtu: None,
            peer_word_at: 0,
            uplinks,
            known: UplinkSet::EMPTY,
            leaving: UplinkSet::EMPTY,
            paths: [None; UPLINKS_MAX],
            heard: UplinkSet::EMPTY,
            spent: UplinkSet::EMPTY,
            spared: UplinkSet::EMPTY,
            spent_used_at: None,
            alarmed_at: None,
            probe_clock: ProbeClock::new(now, settings.probe_interval),
            next_control: 1,
            next_sequence: seq::begin(settings.first_sequence),
            outbound,
            successor: None,
            mode: settings.scheduler.mode,
            watch: None,
            receiver: Receiver::new(settings.window),
            sizes: Sizes::new(settings.tap_mtu),
            feedback_clock: FeedbackClock::new(now),
            peer_flags: ProbeFlags::default(),
            window_max: settings.window.filter(|_| settings.window_follows),
            window_now: Duration::ZERO,
            frames: VecDeque::with_capacity(FRAMES_WAITING_MAX),
            resends: VecDeque::with_capacity(RESENDS_WAITING_MAX),
            controls: VecDeque::with_capacity(CONTROLS_WAITING_MAX),
            events: VecDeque::with_capacity(EVENTS_WAITING_MAX),
            events_lost: 0,
            sent: Traffic::default(),
            delivered: Traffic::default(),
            drops: DropCounters::default(),
        }
    }

    /// All that is handed in from now on will have been opened with keys, and so is the peer's.
    pub(in crate::proto) fn expect_sealed(&mut self) {
        self.is_sealed = true;
        self.sizes.expect_sealed();
        self.receiver.expect_authentic();
    }

    /// A frame has been read from the TAP.
    #[inline]
    pub fn handle_frame(&mut self, now: Instant, frame: F) {
        if let Err(reason) = self.send(now, frame) {
            self.drops.add(reason);
        }
    }

    fn send(&mut self, now: Instant, frame: F) -> Result<(), DropReason> {
        let length = frame.length();
        self.check_length(length)?;
        self.probe_clock.on_frame(now);
        let scheduler = match &mut self.outbound {
            Outbound::AtOnce(scheduler) => scheduler,
            Outbound::Adaptive(sender) if sender.usable().is_empty() => return Err(DropReason::NoUplink),
            Outbound::Adaptive(sender) => {
                let is_one_dropped = {
                    let headers = classify(frame.head());
                    sender.handle_frame(now, frame, length as u32, &headers)
                };
                self.drops.add_many(DropReason::TooLate, is_one_dropped.into());
                self.pump(now);
                return Ok(());
            }
        };
        let narrow = self.sizes.too_narrow_for(length);
        let uplinks = if narrow.is_empty() { scheduler.schedule() } else { self.schedule_past(narrow)? };
        if uplinks.is_empty() {
            return Err(DropReason::NoUplink);
        }
        if self.frames.len() == FRAMES_WAITING_MAX {
            return Err(DropReason::NoBuffer);
        }
        self.send_at_once(uplinks, length, frame);
        Ok(())
    }

    /// Numbers a frame, which leaves by these uplinks.
    #[inline]
    fn send_at_once(&mut self, uplinks: UplinkSet, length: usize, payload: F) {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        self.sent.add(length);
        uplinks.iter().for_each(|uplink| self.uplinks[uplink.index()].sent.add(length));
        self.sizes.on_sent(uplinks, length);
        self.frames.push_back(FrameTransmit { uplinks, sequence, is_kept: false, payload });
    }

    fn check_length(&self, length: usize) -> Result<(), DropReason> {
        if length < FRAME_LENGTH_MIN {
            Err(DropReason::Runt)
        } else if length > usize::from(self.tap_mtu.max(self.sizes.bound())) + FRAME_OVERHEAD_MAX {
            // When the TAP's MTU falls there are frames under way that are longer.
            Err(DropReason::Oversize)
        } else {
            Ok(())
        }
    }

    /// A datagram has come, in a tunnel without keys.
    #[inline]
    pub fn handle_datagram(&mut self, now: Instant, arrival: Arrival, mut datagram: T) {
        match wire::parse(datagram.bytes()) {
            Ok(Datagram::Frame { sequence }) => {
                datagram.advance(FRAME_HEADER_LENGTH);
                self.handle_received_frame(now, arrival, sequence, datagram);
            }
            Ok(Datagram::Control { counter, body }) => self.handle_control(now, arrival, counter, body),
            Err(reason) => self.drops.add(reason),
        }
    }

    /// Frame number `sequence` has come, and is the peer's.
    #[inline]
    pub fn handle_received_frame(&mut self, now: Instant, arrival: Arrival, sequence: u32, frame: T) {
        if self.watch.is_some() {
            self.watch_begin(self.uplink_of(arrival), sequence, &frame);
        }
        let taken = self.on_frame(now, arrival, sequence, frame);
        self.watch_end(taken.err());
        if let Err(reason) = taken {
            self.drops.add(reason);
        }
    }

    /// Control message number `counter` has come, and is the peer's.
    pub fn handle_control(&mut self, now: Instant, arrival: Arrival, counter: u32, body: &[u8]) {
        if let Err(reason) = self.on_control(now, arrival, counter, body) {
            self.drops.add(reason);
        }
    }

    fn on_frame(&mut self, now: Instant, arrival: Arrival, sequence: u32, frame: T) -> Result<(), DropReason> {
        let uplink = self.uplink_of(arrival).ok_or(DropReason::UnknownSource)?;
        // Frames do not say which start of the peer has numbered them: that of the control messages before them.
        if !self.uplinks[uplink.index()].is_of_peer() {
            return Err(DropReason::UnknownSource);
        }
        let length = frame.bytes().len();
        self.check_length(length)?;
        let end = self.receiver.end();
        self.receiver.remember(uplink, sequence, frame.bytes());
        let taken = self.receiver.on_frame(now, uplink, sequence, frame);
        // Whoever has seen a frame can send it again, with the address of any uplink, or be faster by that. A control
        // message tells by which uplink it was sent, and nobody can change that if it is sealed: there it alone is a
        // sign of life.
        if !matches!(taken, Err(DropReason::FrameReplayed | DropReason::FarAhead)) {
            let received = &mut self.uplinks[uplink.index()].received;
            received.add(length);
            self.receiver.note_arrival(now, uplink, *received);
            self.note_frame_by(now, uplink);
            if !self.is_sealed {
                self.on_heard(now, uplink);
            }
        }
        if matches!(taken, Ok(()) | Err(DropReason::Late)) {
            self.probe_clock.on_frame(now);
            self.feedback_clock.on_frame(now, self.receiver.end() > end + 1);
        }
        taken
    }

    fn uplink_of(&self, arrival: Arrival) -> Option<UplinkId> {
        match arrival {
            Arrival::Uplink(uplink) => Some(uplink),
            Arrival::Path(path) => self
                .known
                .iter()
                .find(|uplink| self.paths[uplink.index()].is_some_and(|known| known.remote == path.remote)),
        }
    }

    fn on_heard(&mut self, now: Instant, uplink: UplinkId) {
        let was_silence_common = !self.uplinks[uplink.index()].is_heard(now) && self.excuse_common_silence(now);
        self.uplinks[uplink.index()].on_heard(now);
        if was_silence_common || !self.heard.contains(uplink) {
            self.refresh_heard(now);
        }
    }

    /// Whether all uplinks are silent, which says nothing of any one of them.
    fn excuse_common_silence(&mut self, now: Instant) -> bool {
        let silent_at = self.known.iter().filter_map(|known| self.uplinks[known.index()].silent_at()).max();
        let Some(all_silent_at) = silent_at.filter(|at| now >= *at) else { return false };
        self.known.iter().for_each(|known| self.uplinks[known.index()].excuse(now, all_silent_at));
        true
    }

    /// Time has passed: does all that is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.refresh_heard(now);
        self.receiver.on_timeout(now);
        self.evaluate_uplinks(now);
        if let Some(sender) = self.outbound.adaptive() {
            sender.handle_timeout(now);
            self.pump(now);
        }
        self.report_frames(now);
        self.sound(now);
        self.follow_sizes(now);
        if now >= self.probe_clock.next() {
            self.forget_silent_paths(now);
            self.follow_window(now);
            self.probe_all(now);
        }
    }

    /// When [`Self::handle_timeout`] must be called next, and what for.
    pub fn poll_timeout(&mut self, now: Instant) -> (Instant, &'static str) {
        let mut due = (self.probe_clock.next(), "probe");
        if let Some(at) = self.receiver.next_timeout(now) {
            due = earlier(due, (at, "window"));
        }
        if let Some(at) = self.feedback_clock.due() {
            due = earlier(due, (at, "feedback"));
        }
        if let Some(at) = self.outbound.adaptive().and_then(|sender| sender.next_timeout(now)) {
            due = earlier(due, (at, "frames waiting"));
        }
        for (uplink, (interval, since)) in self.known.iter().map(|id| (&self.uplinks[id.index()], self.pace(id))) {
            if let Some(at) = uplink.next_change(interval, since).filter(|_| uplink.is_attached()) {
                due = earlier(due, (at, "uplink state"));
            }
        }
        if let Some(at) = self.next_sounding() {
            due = earlier(due, (at, "sounding"));
        }
        for uplink in self.heard.iter() {
            if let Some(at) = self.uplinks[uplink.index()].silent_at() {
                due = earlier(due, (at, "uplink silence"));
            }
        }
        due
    }

    /// There are keys to talk with, or new ones: says so to the peer at once, which then knows that we have them.
    pub fn handle_session(&mut self, now: Instant) {
        self.probe_clock.hurry(now);
    }

    /// An uplink has a socket to send by (at the box).
    pub fn handle_uplink_attached(&mut self, now: Instant, uplink: UplinkId) {
        self.attach(uplink);
        self.probe_clock.hurry(now);
        self.refresh_scheduler(now);
    }

    fn attach(&mut self, uplink: UplinkId) {
        self.known.insert(uplink);
        self.uplinks[uplink.index()].attach();
    }

    /// Those of the known uplinks for which `is_so` holds.
    fn known_that(&self, is_so: impl Fn(&Uplink) -> bool) -> UplinkSet {
        self.known.iter().filter(|uplink| is_so(&self.uplinks[uplink.index()])).collect()
    }

    /// An uplink has lost its interface, carrier or socket (at the box).
    pub fn handle_uplink_detached(&mut self, now: Instant, uplink: UplinkId, reason: Reason) {
        let transition = self.uplinks[uplink.index()].detach(now, reason);
        self.on_transition(uplink, transition);
        self.refresh_scheduler(now);
        // The peer learns at once that nothing can reach us by this one.
        self.refresh_heard(now);
    }

    /// The kernel has refused to send by an uplink, with this errno; it will be tried again by probes.
    pub fn handle_send_error(&mut self, now: Instant, uplink: UplinkId, errno: i32) {
        let transition = self.uplinks[uplink.index()].fall(now, Reason::SocketError(errno));
        self.on_transition(uplink, transition);
        self.refresh_scheduler(now);
    }

    /// The process is about to stop: tells the peer so.
    pub fn handle_shutdown(&mut self, now: Instant) {
        self.say_bye(now);
    }

    /// So many packets were dropped outside the core.
    pub fn count_drops(&mut self, reason: DropReason, count: usize) {
        self.drops.add_many(reason, count as u64);
    }

    /// The next frame to send.
    #[inline]
    pub fn poll_frame(&mut self) -> Option<FrameTransmit<F>> {
        self.frames.pop_front()
    }

    /// The next control message to send.
    #[inline]
    pub fn poll_control(&mut self) -> Option<ControlTransmit> {
        self.controls.pop_front()
    }

    /// The next frame to write to the TAP.
    #[inline]
    pub fn poll_deliver(&mut self) -> Option<T> {
        self.poll_delivery().map(|(frame, _)| frame)
    }

    /// The next frame to write to the TAP, and when it came.
    #[inline]
    pub fn poll_delivery(&mut self) -> Option<(T, Instant)> {
        let (frame, came_at) = self.receiver.pop()?;
        self.delivered.add(frame.bytes().len());
        Some((frame, came_at))
    }

    /// The next event to log, and how many were lost before it because nobody asked.
    pub fn poll_event(&mut self) -> Option<(Event, u64)> {
        let event = self.events.pop_front()?;
        Some((event, std::mem::take(&mut self.events_lost)))
    }

    /// Where to send what goes by `uplink` (at the gateway).
    #[inline]
    #[must_use]
    pub fn path(&self, uplink: UplinkId) -> Option<Path> {
        self.paths[uplink.index()]
    }

    /// What is known of an uplink.
    #[must_use]
    pub fn uplink(&self, uplink: UplinkId) -> &Uplink {
        &self.uplinks[uplink.index()]
    }

    /// The uplinks that there is something to send by.
    #[must_use]
    pub fn attached(&self) -> UplinkSet {
        self.known_that(Uplink::is_attached)
    }

    /// Whether the peer is heard on any uplink.
    #[must_use]
    pub const fn is_peer_heard(&self) -> bool {
        !self.heard.is_empty()
    }

    /// Whether there is a peer that has not said good-bye.
    #[must_use]
    pub fn has_peer(&self) -> bool {
        self.peer.is_known()
    }

    /// How far we have counted.
    #[must_use]
    pub const fn position(&self) -> Position {
        Position { frame: self.next_sequence, control: self.next_control }
    }

    /// Which start of this end it is.
    #[must_use]
    pub const fn epoch(&self) -> u64 {
        self.peer.own()
    }

    /// How long received frames have been held to restore order.
    #[must_use]
    pub const fn holds(&self) -> &TimeHistogram {
        self.receiver.holds()
    }

    /// How many frames are held to restore order.
    #[must_use]
    pub const fn held(&self) -> usize {
        self.receiver.held()
    }

    /// The TAP's MTU has been changed.
    pub fn set_tap_mtu(&mut self, mtu: u16) {
        self.tap_mtu = mtu;
    }

    /// What has been counted.
    #[must_use]
    pub fn counters(&self) -> Counters {
        Counters {
            sent: self.sent,
            delivered: self.delivered,
            waiting: self.waiting() as u64,
            receive: self.receiver.counters(),
            drops: self.drops.clone(),
        }
    }

    /// What has been dropped so far, by reason.
    #[must_use]
    pub const fn drops(&self) -> &DropCounters {
        &self.drops
    }

    /// Has the receiver go wrong.
    #[cfg(test)]
    pub fn sabotage(&mut self, sabotage: super::receive::Sabotage) {
        self.receiver.sabotage = Some(sabotage);
    }

    fn evaluate_uplinks(&mut self, now: Instant) {
        let mut changed = false;
        for uplink in self.known.iter() {
            let (interval, since) = self.pace(uplink);
            let transition = self.uplinks[uplink.index()].evaluate(now, interval, since);
            changed |= transition.is_some();
            self.on_transition(uplink, transition);
        }
        if changed {
            self.refresh_scheduler(now);
        }
    }

    fn refresh_scheduler(&mut self, now: Instant) {
        let standing = Standing::of(&self.uplinks, self.in_use());
        self.outbound.refresh(&standing, self.spent);
        // Where they are all that is left, they are used as any others, and must be known as well.
        let spared = if standing.best.without(self.spent).is_empty() { UplinkSet::EMPTY } else { self.spent };
        if spared != self.spared {
            self.spared = spared;
            self.probe_clock.change_pace(now);
        }
    }

    fn on_transition(&mut self, uplink: UplinkId, transition: Option<Transition>) {
        if let Some(transition) = transition {
            self.push_event(Event::Uplink(uplink, transition));
        }
    }

    pub(in crate::proto) fn push_event(&mut self, event: Event) {
        if self.events.len() == EVENTS_WAITING_MAX {
            self.events.pop_front();
            self.events_lost += 1;
        }
        self.events.push_back(event);
    }
}

fn earlier(one: (Instant, &'static str), other: (Instant, &'static str)) -> (Instant, &'static str) {
    if other.0 < one.0 { other } else { one }
}
