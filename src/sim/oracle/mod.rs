//! The oracle: knows what was offered, sees what comes of it, and says at once when the tunnel does what it must not.
//!
//! What it holds the core to:
//! - A frame that is delivered was offered, byte for byte; it is delivered once, and never after a later one. (Once, and
//!   in order, in each life of the receiver: a process that has been started again cannot know what the one before it
//!   delivered, and what was on its way meanwhile may come out again.)
//! - A frame is held no longer than the window: latency is at most that of the path it came by, and the window.
//! - A frame that comes in time is delivered. "In time" means within the window of the first later frame that came,
//!   by an uplink that keeps order and has not been silent meanwhile. So in `broadcast` a frame is lost only if every
//!   uplink has lost it.
//! - Each drop has its reason, and the reason is true.
//! - Nothing disappears: what was handed to an end was sent, delivered, is held, or was counted as dropped.
//! - What goes by a mode goes where the mode says.
//! - With keys nothing that was spoiled is ever taken, and new keys take over from old ones without a frame lost.
//! - Once all is well again, every uplink is up at both ends within a bound, nothing is lost any more, and when traffic
//!   ends nothing is left in any queue.
//!
//! Where a spoiled datagram has passed the checksum that UDP has, or a frame of a former life of the peer was overtaken
//! by what the next one said, plaintext has nothing to tell it by; for a moment after that only what must never happen
//! at all is held against the core.

mod ending;
mod records;

use std::time::Duration;

use bytes::Bytes;

use super::plan::EndPlan;
use super::{Nanoseconds, SECOND, frame};
use crate::proto::scheduler::Mode;
use crate::proto::stats::DropReason;
use crate::proto::time::{Instant, nanos};
use crate::proto::uplink::{UPLINKS_MAX, UplinkId, UplinkSet};
use crate::proto::wire::{FRAME_LENGTH_MIN, FRAME_OVERHEAD_MAX};
use records::Receiver;
pub use records::{Arrived, Offer, Stream, Violation};

/// For how long after a spoiled datagram got through its consequences are borne with.
const SUSPICION: Nanoseconds = 3 * SECOND;
/// For how long after a link stopped reordering it may be allowed for.
const REORDERING_REMEMBERED: Nanoseconds = 5 * SECOND;

/// Sees everything.
#[derive(Debug)]
pub struct Oracle {
    now: Nanoseconds,
    tap_mtu: u16,
    streams: [Stream; 2],
    receivers: [Receiver; 2],
    /// How often an end has been stopped.
    stops: u32,
    /// After how long keys are replaced, where there are some.
    rekey_interval: Option<Duration>,
    /// Payloads spoiled beyond what UDP notices.
    spoiled: Vec<Bytes>,
}

type Verdict = Result<(), Violation>;

impl Oracle {
    /// For ends such as these, TAPs with this MTU, and keys that are replaced so often, if there are any.
    #[must_use]
    pub fn new(ends: &[EndPlan; 2], clocks: [Instant; 2], tap_mtu: u16, rekey_interval: Option<Duration>) -> Self {
        let receiver = |end: usize| Receiver {
            window: ends[end].window,
            window_least: ends[end].window,
            window_follows: ends[end].window_follows,
            peer_mode: ends[1 - end].scheduler.mode,
            life: 0,
            known_life: None,
            began: (0, clocks[end]),
            highs: vec![],
            silent: [None; UPLINKS_MAX],
            jumped: clocks[end],
            deceived: None,
            has_begun_anew: false,
            handed: 0,
            controls: 0,
            dropped_outside: 0,
        };
        Self {
            now: 0,
            tap_mtu,
            streams: Default::default(),
            receivers: [receiver(0), receiver(1)],
            stops: 0,
            rekey_interval,
            spoiled: vec![],
        }
    }

    /// The time is now this.
    pub fn set_now(&mut self, now: Nanoseconds) {
        assert!(now >= self.now, "time goes back");
        self.now = now;
    }

    /// What was offered to end `from`.
    #[must_use]
    pub const fn stream(&self, from: usize) -> &Stream {
        &self.streams[from]
    }

    fn check(&self, holds: bool, what: impl FnOnce() -> String) -> Verdict {
        if holds { Ok(()) } else { Err(Violation { at: self.now, what: what() }) }
    }

    fn is_deceived(&self, end: usize) -> bool {
        self.receivers[end].deceived.is_some_and(|at| self.now < at + SUSPICION)
    }

    /// The number of the next frame offered to end `from`.
    #[must_use]
    pub fn next_number(&self, from: usize) -> u64 {
        self.streams[from].offers.len() as u64
    }

    /// A frame of `length` bytes has been offered to the TAP of `from`, whether anybody is there to read it or not.
    pub fn on_offered(&mut self, from: usize, length: usize) {
        self.streams[from].offers.push(Offer {
            at: self.now,
            delivered_at: None,
            delivered_in: None,
            length: length as u16,
            is_sent: false,
            is_resent: false,
            is_restored: false,
            came_by: UplinkSet::EMPTY,
            taken: None,
        });
    }

    /// Frame `number` has been handed to the core of `from`, which has taken it on, or dropped one for this reason.
    /// `attached` are the uplinks that could be used.
    ///
    /// # Errors
    /// If that is not as it must be.
    pub fn on_handed(&mut self, from: usize, number: u64, dropped: Option<DropReason>, attached: UplinkSet) -> Verdict {
        let offer = &self.streams[from].offers[number as usize];
        let length = usize::from(offer.length);
        self.receivers[from].handed += 1;
        let longest = usize::from(self.tap_mtu) + FRAME_OVERHEAD_MAX;
        match dropped {
            None => Ok(()),
            Some(DropReason::Runt) => self.check(length < FRAME_LENGTH_MIN, || format!("{length} bytes are no runt")),
            Some(DropReason::Oversize) => self.check(length > longest, || format!("{length} bytes are not too many")),
            Some(DropReason::NoUplink) => {
                self.check(attached.is_empty(), || format!("no uplink for a frame, though there are {attached:?}"))
            }
            Some(reason) => self.check(false, || format!("a frame of the TAP was dropped as {}", reason.name())),
        }
    }

    /// Frame `number` leaves end `from` by these uplinks. `attached` are those that could be used, `up` those that should
    /// be.
    ///
    /// # Errors
    /// If that is not as the mode says.
    pub fn on_sent(
        &mut self,
        from: usize,
        number: u64,
        mode: Mode,
        uplinks: UplinkSet,
        [attached, up]: [UplinkSet; 2],
    ) -> Verdict {
        self.streams[from].offers[number as usize].is_sent = true;
        self.check_choice(mode, uplinks, attached, up)
    }

    /// Frame `number` leaves end `from` again, by `uplink`. `attached` are the uplinks that can be used.
    ///
    /// # Errors
    /// If that one cannot.
    pub fn on_sent_again(&mut self, from: usize, number: u64, uplink: UplinkId, attached: UplinkSet) -> Verdict {
        self.streams[from].offers[number as usize].is_resent = true;
        self.check(attached.contains(uplink), || {
            format!("frame {number} goes again by uplink {}, which is not there", uplink.number())
        })
    }

    fn check_choice(&self, mode: Mode, chosen: UplinkSet, attached: UplinkSet, up: UplinkSet) -> Verdict {
        let is_within = |inner: UplinkSet, outer: UplinkSet| inner.without(outer).is_empty();
        let is_lawful = match mode {
            Mode::Broadcast => is_within(up, chosen),
            Mode::BalanceRr | Mode::ActiveBackup | Mode::Adaptive => {
                let most = if mode == Mode::Adaptive { 2 } else { 1 };
                chosen.iter().count() <= most && (up.is_empty() || is_within(chosen, up))
            }
        };
        self.check(is_lawful && !chosen.is_empty() && is_within(chosen, attached), || {
            format!("{} sends by {chosen:?}, where {attached:?} are attached and {up:?} are up", mode.name())
        })
    }

    /// An end holds frames for so long at most from now on.
    pub fn on_window(&mut self, end: usize, window: Duration) {
        let receiver = &mut self.receivers[end];
        receiver.window = receiver.window.max(Some(window));
        // It may follow what the uplinks require.
        receiver.window_least = receiver.window_least.map(|least| least.min(window));
    }

    /// A datagram is about to be handed to an end.
    pub fn on_arriving(&mut self, arrived: &Arrived) {
        let receiver = &mut self.receivers[arrived.to];
        receiver.handed += 1;
        // Also of others: where all were silent, one that is heard again excuses them.
        for uplink in arrived.silent.iter() {
            receiver.silent[uplink.index()] = Some(arrived.clock);
        }
    }

    /// A frame was made up at an end.
    ///
    /// # Errors
    /// If there never was such a one.
    pub fn on_restored(&mut self, to: usize, frame: &Bytes) -> Verdict {
        self.receivers[to].handed += 1;
        match frame::read(frame) {
            Some((from, number)) if from != to && number < self.next_number(from) => {
                self.streams[from].offers[number as usize].is_restored = true;
                Ok(())
            }
            _ => {
                // Without keys: of what was spoiled on its way.
                self.spoiled.push(frame.clone());
                self.check(self.is_deceived(to), || format!("end {to} made up {frame:02x?}, which was never sent"))
            }
        }
    }

    /// A datagram that was spoiled, and passed UDP's checksum all the same, was handed to an end, which took it for a
    /// control message or not.
    pub fn on_deceived(&mut self, to: usize, datagram: Bytes, is_taken_control: bool) {
        self.on_led_astray();
        self.receivers[to].controls += u64::from(is_taken_control);
        self.spoiled.push(datagram);
    }

    /// What leads one end astray can lead the other, too.
    fn on_led_astray(&mut self) {
        for receiver in &mut self.receivers {
            receiver.deceived = Some(self.now);
            receiver.has_begun_anew = true;
        }
    }

    /// A control message has been taken, or dropped for this reason.
    ///
    /// # Errors
    /// If it must not have been dropped.
    pub fn on_control(&mut self, arrived: &Arrived, dropped: Option<DropReason>) -> Verdict {
        let Some(reason) = dropped else {
            let receiver = &mut self.receivers[arrived.to];
            receiver.controls += 1;
            receiver.known_life = Some(arrived.sender_life);
            return Ok(());
        };
        let is_true = self.is_deceived(arrived.to)
            || match reason {
                DropReason::ControlReplayed => self.may_reorder(arrived),
                DropReason::StaleEpoch => self.stops > 0,
                DropReason::UnknownSource => !arrived.is_known_source,
                DropReason::UnknownSession => self.may_be_of_former_keys(arrived),
                _ => false,
            };
        self.check(is_true, || format!("end {} dropped a control message as {}", arrived.to, reason.name()))
    }

    /// Whether a datagram may be sealed with keys that its receiver has given up: those of a start before, or those
    /// before the ones before.
    fn may_be_of_former_keys(&self, arrived: &Arrived) -> bool {
        let of_another_start = arrived.sender_life != self.life(1 - arrived.to) || !self.is_of_known_life(arrived);
        let has_met_since = arrived.sent_at <= self.receivers[arrived.to].began.0;
        let has_taken_long = |interval: Duration| self.now - arrived.sent_at >= nanos(interval) / 2;
        self.rekey_interval.is_some_and(|interval| of_another_start || has_met_since || has_taken_long(interval))
    }

    /// A handshake message has been taken, or dropped for this reason.
    ///
    /// # Errors
    /// If it must not have been dropped.
    pub fn on_handshake(&mut self, arrived: &Arrived, dropped: Option<DropReason>) -> Verdict {
        self.receivers[arrived.to].controls += u64::from(dropped.is_none());
        // A copy that comes late or is spoiled may be dropped as whatever it looks like, but as nothing of the shell's.
        let is_true = !matches!(dropped, Some(DropReason::NoSession | DropReason::Runt | DropReason::NoBuffer));
        self.check(is_true, || format!("end {} dropped a handshake message as {dropped:?}", arrived.to))
    }

    /// A sealed datagram that was spoiled has been handed to an end.
    ///
    /// # Errors
    /// If it was taken.
    pub fn on_spoiled_sealed(&self, to: usize, dropped: Option<DropReason>) -> Verdict {
        self.check(dropped.is_some(), || format!("end {to} took what was spoiled for what was sealed"))
    }

    /// There were no keys to seal frame `number` with, which end `from` had taken on.
    pub fn on_without_session(&mut self, from: usize, number: u64) {
        self.receivers[from].dropped_outside += 1;
        self.receivers[1 - from].has_begun_anew = true;
        self.streams[from].offers[number as usize].is_sent = false;
    }

    fn may_reorder(&self, arrived: &Arrived) -> bool {
        arrived.reordered.is_some_and(|at| self.now < at + REORDERING_REMEMBERED)
    }

    /// Frame `number` has been taken, or dropped for this reason.
    ///
    /// # Errors
    /// If it must not have been dropped.
    pub fn on_frame(&mut self, arrived: &Arrived, number: u64, dropped: Option<DropReason>) -> Verdict {
        let offer = self.streams[1 - arrived.to].offers[number as usize];
        let is_true = self.is_deceived(arrived.to)
            || match dropped {
                None => offer.is_sent,
                // Of a peer that it does not know yet, or no more, it cannot know the numbers.
                Some(DropReason::Duplicate | DropReason::FrameReplayed | DropReason::Late)
                    if !self.is_of_known_life(arrived) =>
                {
                    true
                }
                Some(DropReason::Duplicate) => {
                    offer.is_restored || !offer.came_by.without(UplinkSet::only(arrived.uplink)).is_empty()
                }
                Some(DropReason::FrameReplayed) => offer.came_by.contains(arrived.uplink),
                Some(DropReason::Late) => self.is_late(arrived, number, &offer),
                Some(DropReason::UnknownSource) => !arrived.is_known_source,
                // What goes again is sealed as it was.
                Some(DropReason::UnknownSession) => offer.is_resent || self.may_be_of_former_keys(arrived),
                Some(_) => false,
            };
        let verdict = self.check(is_true, || {
            let fate = dropped.map_or("taken", DropReason::name);
            let receiver = &self.receivers[arrived.to];
            format!(
                "frame {number} came to end {} by uplink {} and was {fate}, wrongly: its clock is {:?}, the frame was \
                 overtaken at {:?}, the uplink last silent at {:?}, and the window is {:?}",
                arrived.to,
                arrived.uplink.number(),
                arrived.clock,
                receiver.overtaken_at(number),
                receiver.silent[arrived.uplink.index()],
                receiver.window,
            )
        });
        self.remember_frame(arrived, number, dropped);
        verdict
    }

    fn remember_frame(&mut self, arrived: &Arrived, number: u64, dropped: Option<DropReason>) {
        // A frame of the peer's former life that was overtaken by what its next one said: nothing tells it.
        let is_straggler = dropped.is_none() && !self.is_of_known_life(arrived) && self.may_reorder(arrived);
        if is_straggler {
            self.on_led_astray();
        }
        let receiver = &mut self.receivers[arrived.to];
        let offer = &mut self.streams[1 - arrived.to].offers[number as usize];
        if matches!(dropped, None | Some(DropReason::Late | DropReason::Duplicate)) {
            offer.came_by.insert(arrived.uplink);
        }
        if dropped.is_none() {
            if offer.taken.is_none_or(|(_, life)| life != receiver.life) {
                offer.taken = Some((arrived.clock, receiver.life));
            }
            if receiver.highs.last().is_none_or(|(highest, _)| number > *highest) {
                receiver.highs.push((number, arrived.clock));
            }
        }
    }

    fn is_of_known_life(&self, arrived: &Arrived) -> bool {
        self.receivers[arrived.to].known_life == Some(arrived.sender_life)
    }

    /// In which life end `end` is, counted from 0.
    #[must_use]
    pub const fn life(&self, end: usize) -> u32 {
        self.receivers[end].life
    }

    /// Whether a frame may be called late.
    fn is_late(&self, arrived: &Arrived, number: u64, offer: &Offer) -> bool {
        let receiver = &self.receivers[arrived.to];
        let overtaken = receiver.overtaken_at(number);
        let has_waited = overtaken.zip(receiver.hold()).is_some_and(|(since, hold)| arrived.clock >= since + hold);
        let has_been_silent =
            overtaken.zip(receiver.silent[arrived.uplink.index()]).is_some_and(|(since, silent)| silent >= since);
        let is_of_another_time = offer.at <= receiver.began.0;
        // A receiver that has not heard yet that it is to wait for what is sent again does not.
        has_waited || has_been_silent || is_of_another_time || offer.is_resent || self.may_reorder(arrived)
    }

    /// A frame has come out at end `to`.
    ///
    /// # Errors
    /// If it must not have.
    pub fn on_delivered(&mut self, to: usize, clock: Instant, delivered: &Bytes) -> Verdict {
        let number = match frame::read(delivered) {
            Some((from, number)) if from != to && number < self.next_number(from) => number,
            _ => return self.on_spoiled_delivered(to, delivered),
        };
        let offer = self.streams[1 - to].offers[number as usize];
        self.check(usize::from(offer.length) == delivered.len(), || {
            format!("frame {number} came out of end {to} with {} bytes, not {}", delivered.len(), offer.length)
        })?;
        let receiver = &self.receivers[to];
        let was_on_its_way = offer.at <= receiver.began.0;
        let is_first = match offer.delivered_in {
            None => true,
            Some(life) => (life != receiver.life && was_on_its_way) || self.is_deceived(to),
        };
        self.check(is_first, || format!("frame {number} was delivered twice at end {to}"))?;
        let window = self.receivers[to].window;
        let held = offer.taken.map_or(Duration::ZERO, |(since, _)| clock.since(since));
        let has_jumped = clock == self.receivers[to].jumped;
        self.check(held <= window.unwrap_or_default() || has_jumped || self.is_deceived(to), || {
            format!("frame {number} was held for {held:?} at end {to}, beyond the window of {window:?}")
        })?;
        let stream = &mut self.streams[1 - to];
        let offer = &mut stream.offers[number as usize];
        offer.delivered_at.get_or_insert(self.now);
        offer.delivered_in = Some(self.receivers[to].life);
        let is_backwards = stream.highest_delivered.is_some_and(|highest| number < highest);
        stream.out_of_order += u64::from(is_backwards);
        let before = stream.highest_delivered.replace(number.max(stream.highest_delivered.unwrap_or(0)));
        self.check(!is_backwards || window.is_none() || self.is_deceived(to), || {
            format!("frame {number} was delivered after {before:?} at end {to}")
        })
    }

    /// The clock of an end has jumped to this: it has slept, or the clock has been set.
    pub fn on_jumped(&mut self, end: usize, clock: Instant) {
        self.receivers[end].jumped = clock;
    }

    /// What was never offered may come out only if it is what was spoiled on the way.
    fn on_spoiled_delivered(&self, to: usize, delivered: &Bytes) -> Verdict {
        let is_spoiled = self.spoiled.iter().any(|datagram| datagram.ends_with(delivered));
        self.check(is_spoiled, || format!("end {to} delivered a frame that was never offered: {delivered:02x?}"))
    }

    /// An end has begun anew with its peer: met it, lost it, or found its numbers contradicted.
    pub fn on_begun_anew(&mut self, end: usize, clock: Instant, is_first: bool) {
        let has_missed_some = !self.streams[1 - end].offers.is_empty();
        let receiver = &mut self.receivers[end];
        receiver.began = (self.now, clock);
        receiver.highs.clear();
        receiver.has_begun_anew |= !is_first || has_missed_some;
    }

    /// An end calls the peer's numbers contradicted.
    ///
    /// # Errors
    /// If nothing has led it astray.
    pub fn on_resynchronised(&self, end: usize) -> Verdict {
        self.check(self.is_deceived(end), || format!("end {end} found its peer's count contradicted"))
    }

    /// An end believes that its peer has started anew.
    ///
    /// # Errors
    /// If no end has ever been stopped.
    pub fn on_peer_restarted(&self, end: usize) -> Verdict {
        let is_true = self.stops > 0 || self.is_deceived(end);
        self.check(is_true, || format!("end {end} believes that its peer has started anew"))
    }

    /// An end's process has ended, with all that it held.
    pub fn on_stopped(&mut self, end: usize) {
        self.stops += 1;
        let receiver = &mut self.receivers[end];
        receiver.life += 1;
        receiver.known_life = None;
        receiver.highs.clear();
        receiver.has_begun_anew = true;
        (receiver.handed, receiver.controls, receiver.dropped_outside) = (0, 0, 0);
        self.receivers[1 - end].has_begun_anew = true;
        self.streams[1 - end].highest_delivered = None;
    }

    /// The shell has counted a drop.
    pub fn on_dropped_outside(&mut self, end: usize) {
        self.receivers[end].dropped_outside += 1;
    }
}
