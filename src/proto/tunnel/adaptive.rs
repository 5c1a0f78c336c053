//! The mode `adaptive`, as a tunnel has it: what the sending half wants sent, and what the receiving half reports.

use std::collections::VecDeque;
use std::time::Duration;

use super::sizes::Sizes;
use super::{Frame, FrameTransmit, ParityTransmit, Payload, Tunnel};
use crate::proto::scheduler::standing::Standing;
use crate::proto::scheduler::{Mode, Scheduler, SchedulerConfig};
use crate::proto::send::estimate::CapacityEstimate;
use crate::proto::send::recovery::MISSED_WITHIN;
use crate::proto::send::{Resend, Sender, SenderCounters, Terms};
use crate::proto::stats::DropReason;
use crate::proto::time::Instant;
use crate::proto::uplink::monitor::Uplink;
use crate::proto::uplink::{UPLINKS_MAX, UplinkId, UplinkSet};
use crate::proto::wire::control::{Head, Message, ProbeFlags};
use crate::proto::wire::feedback::Feedback;
use crate::proto::wire::parity::{ADDRESSES_LENGTH, PARITY_HEAD_LENGTH, SHARE_OVERHEAD};
use crate::proto::wire::{CONTROL_CHECKSUM_LENGTH, FRAME_HEADER_LENGTH, FRAME_LENGTH_MIN, KEYED_HEADER_LENGTH};

/// The most frames that wait to be sent again.
pub(super) const RESENDS_WAITING_MAX: usize = 256;
/// The shortest that a window that follows becomes.
pub const WINDOW_MIN: Duration = Duration::from_millis(50);
/// Jitter allowed for, in units of what is measured.
const JITTERS: u32 = 4;
/// What it takes to notice that an uplink stands still whose frames come in bursts.
const STALLED_WITHIN: Duration = Duration::from_millis(70);
/// How often a lost frame may be lost again and still be in time.
const RECOVERIES: u32 = 2;

/// How frames leave.
#[derive(Debug)]
pub(super) enum Outbound<F> {
    /// At once, by the uplinks that the mode says.
    AtOnce(Scheduler),
    /// When, and by which uplink, they will arrive first.
    Adaptive(Box<Sender<F>>),
}

impl<F> Outbound<F> {
    pub(super) fn new(now: Instant, config: &SchedulerConfig, next_sequence: u64) -> Self {
        match config.mode {
            Mode::Adaptive => Self::Adaptive(Box::new(Sender::new(now, next_sequence, config.redundancy.clone()))),
            _ => Self::AtOnce(Scheduler::new(config)),
        }
    }

    /// The uplinks have changed, or which of them are `spent`.
    pub(super) fn refresh(&mut self, standing: &Standing, spent: UplinkSet) {
        match self {
            Self::AtOnce(scheduler) => scheduler.refresh(&standing.sparing(spent)),
            Self::Adaptive(sender) => {
                sender.set_spent(spent);
                sender.set_usable(standing.best);
            }
        }
    }

    pub(super) fn set_terms(&mut self, uplink: UplinkId, terms: Terms) {
        if let Self::Adaptive(sender) = self {
            sender.set_terms(uplink, terms);
        }
    }

    /// The terms that the user has set for an uplink, as far as they matter in this mode.
    pub(super) fn is_metered(&self, uplink: UplinkId) -> bool {
        matches!(self, Self::Adaptive(sender) if sender.route(uplink).limits.is_metered)
    }

    pub(super) fn adaptive(&mut self) -> Option<&mut Sender<F>> {
        match self {
            Self::AtOnce(_) => None,
            Self::Adaptive(sender) => Some(sender),
        }
    }
}

impl<T: Payload, F: Frame> Tunnel<T, F> {
    /// Whether frames wait for their uplink here, and may be sent again.
    #[inline]
    #[must_use]
    pub const fn is_adaptive(&self) -> bool {
        matches!(self.outbound, Outbound::Adaptive(_))
    }

    /// The next frame to send again, which the caller has kept.
    #[inline]
    pub fn poll_resend(&mut self) -> Option<Resend> {
        self.resends.pop_front()
    }

    /// A frame that [`Self::poll_resend`] has asked for has not been kept.
    pub fn on_not_kept(&mut self, sequence: u64) {
        if let Some(sender) = self.outbound.adaptive() {
            sender.on_not_kept(sequence);
        }
    }

    /// Frames with lower numbers than this will not be asked for again.
    #[must_use]
    pub const fn kept_from(&self) -> u64 {
        match &self.outbound {
            Outbound::AtOnce(_) => self.next_sequence,
            Outbound::Adaptive(sender) => sender.oldest(),
        }
    }

    /// What the sending half of `adaptive` has counted, in that mode.
    #[must_use]
    pub const fn sender_counters(&self) -> Option<SenderCounters> {
        match &self.outbound {
            Outbound::AtOnce(_) => None,
            Outbound::Adaptive(sender) => Some(sender.counters()),
        }
    }

    /// What the uplinks carry together, as far as is known: nothing but in `adaptive`.
    #[must_use]
    pub fn capacity(&self) -> CapacityEstimate {
        match &self.outbound {
            Outbound::AtOnce(_) => CapacityEstimate::default(),
            Outbound::Adaptive(sender) => sender.capacity(),
        }
    }

    /// What one carries, in bits of frame per second.
    #[must_use]
    pub fn uplink_capacity(&self, uplink: UplinkId) -> u64 {
        match &self.outbound {
            Outbound::AtOnce(_) => 0,
            Outbound::Adaptive(sender) => sender.uplink_capacity(uplink),
        }
    }

    /// Frames that wait here for an uplink.
    #[must_use]
    pub fn waiting(&self) -> usize {
        match &self.outbound {
            Outbound::AtOnce(_) => 0,
            Outbound::Adaptive(sender) => sender.waiting(),
        }
    }

    /// Takes out of the sending half what can be sent now.
    pub(super) fn pump(&mut self, now: Instant) {
        let longest = self.protected_max();
        let Outbound::Adaptive(sender) = &mut self.outbound else { return };
        let before = sender.counters();
        take_resends(&mut self.resends, (&mut self.uplinks, &mut self.sizes), || sender.poll_resend(now));
        while self.frames.len() < super::FRAMES_WAITING_MAX
            && let Some(dispatch) = sender.poll(now)
        {
            let length = dispatch.length as usize;
            self.next_sequence = dispatch.sequence + 1;
            sender.protect(now, &dispatch, longest, |frame, out| frame.copy_to(out));
            self.sent.add(length);
            self.sizes.on_sent(dispatch.uplinks, length);
            dispatch.uplinks.iter().for_each(|uplink| self.uplinks[uplink.index()].sent.add(length));
            self.frames.push_back(FrameTransmit {
                uplinks: dispatch.uplinks,
                sequence: dispatch.sequence,
                is_kept: true,
                payload: dispatch.frame,
            });
        }
        take_resends(&mut self.resends, (&mut self.uplinks, &mut self.sizes), || sender.poll_explore(now));
        let after = sender.counters();
        self.drops.add_many(DropReason::TooLate, after.too_late - before.too_late);
        self.drops.add_many(DropReason::PathMtu, after.too_long - before.too_long);
        self.succeed(now);
    }

    /// The peer says what has come of our frames.
    pub(super) fn on_feedback(&mut self, now: Instant, sent_at: u64, feedback: &Feedback) {
        if let Some(sender) = self.outbound.adaptive() {
            sender.on_feedback(now, sent_at, feedback);
            self.note_reported(now);
        }
    }

    /// A probe of ours, sent at `echo_sent_at`, has been answered.
    pub(super) fn on_probe_answered(&mut self, now: Instant, head: &Head, echo_sent_at: u64) {
        let sent_at = Instant::from_nanos(echo_sent_at);
        if let Some(sender) = self.outbound.adaptive().filter(|_| sent_at <= now) {
            sender.on_probe_answered(now, head.uplink, sent_at, head.sent_at);
        }
    }

    /// The longest frame whose parity is no longer on the wire than a frame may be. With keys it never is longer than that of
    /// the frame itself; without, its header and checksum are.
    fn protected_max(&self) -> usize {
        const MORE: usize = KEYED_HEADER_LENGTH + CONTROL_CHECKSUM_LENGTH - FRAME_HEADER_LENGTH;
        const LESS: usize = ADDRESSES_LENGTH - SHARE_OVERHEAD - PARITY_HEAD_LENGTH;
        let longest = usize::from(self.sizes.bound()) + FRAME_LENGTH_MIN;
        // A parity's length is even.
        if self.is_sealed { usize::MAX } else { (longest + LESS - MORE) & !1 }
    }

    /// The next parity to send, which is a control message that may be as long as a frame.
    pub fn poll_parity(&mut self) -> Option<ParityTransmit<'_>> {
        let parity = self.outbound.adaptive()?.poll_parity()?;
        self.uplinks[parity.uplink.index()].sent.add(parity.length);
        let counter = self.next_control;
        self.next_control += 1;
        Some(ParityTransmit { uplink: parity.uplink, counter, message: &mut parity.message })
    }

    /// The next frame that was made up from parities: by which uplink the last part of it came, its number, its bytes. To be
    /// copied, and handed in by [`Self::handle_restored`].
    #[inline]
    pub fn poll_restored(&mut self) -> Option<(UplinkId, u64, &[u8])> {
        self.receiver.poll_restored()
    }

    /// A frame that [`Self::poll_restored`] has given.
    pub fn handle_restored(&mut self, now: Instant, uplink: UplinkId, sequence: u64, frame: T) {
        let taken = self.check_length(frame.bytes().len());
        if let Err(reason) = taken.and_then(|()| self.receiver.on_restored(now, uplink, sequence, frame)) {
            self.drops.add(reason);
        }
    }

    /// Whether what is lost can be sent again in time; and if not, whether there are parities for it.
    pub(super) fn announce_recovery(&mut self, now: Instant) -> (bool, bool) {
        let Outbound::Adaptive(sender) = &mut self.outbound else { return (false, false) };
        for uplink in self.known.iter() {
            if let Some(lost) = self.uplinks[uplink.index()].measurements.loss_sending() {
                sender.note_loss(uplink, lost);
            }
        }
        (sender.announce_recovery(now), sender.announce_protection())
    }

    /// The peer's probe says whether it wants reports, and whether it sends again what is lost, or parities.
    pub(super) fn on_peer_mode(&mut self, flags: ProbeFlags) {
        self.feedback_clock.set_wanted(flags.wants_feedback);
        self.peer_flags = flags;
        let way = self.shortest_round_trip().unwrap_or_default() / 2;
        self.receiver.set_recovers(flags.recovers, flags.protects, way);
    }

    /// Reports what has come, if that is due.
    pub(super) fn report_frames(&mut self, now: Instant) {
        if self.feedback_clock.due().is_none_or(|due| due > now) {
            return;
        }
        let (feedback, has_gap) = self.receiver.feedback(now);
        let goes_twice = self.feedback_clock.on_report(now, has_gap);
        let standing = Standing::of(&self.uplinks, self.in_use()).sparing(self.resting(now));
        let [first, second] = standing.two_best_by_round_trip();
        let alarmed = self.alarmed(now, Duration::from_micros(feedback.hold_micros.into()));
        let by: UplinkSet = first.into_iter().chain(second.filter(|_| goes_twice)).chain(alarmed.iter()).collect();
        for uplink in by.iter() {
            self.say(now, uplink, &Message::Feedback(feedback));
        }
    }

    fn shortest_round_trip(&self) -> Option<Duration> {
        let round_trip = |uplink: UplinkId| self.uplinks[uplink.index()].measurements.round_trip();
        self.heard.iter().filter_map(|uplink| round_trip(uplink).map(|round_trip| round_trip.smoothed)).min()
    }

    /// Has the window follow what the uplinks are like, if it is to: the time between the fastest and the slowest way,
    /// their jitter, and what the peer needs to send again what is lost.
    pub(super) fn follow_window(&mut self, now: Instant) {
        let Some(longest) = self.window_max else { return };
        let measured = || self.heard.iter().map(|uplink| &self.uplinks[uplink.index()].measurements);
        let transits = || measured().filter_map(|measurements| measurements.transit());
        let skew = transits().max().unwrap_or(0).saturating_sub(transits().min().unwrap_or(0));
        let jitter = measured().map(|measurements| measurements.jitter()).max().unwrap_or_default();
        // A peer that could send again what is lost does so once the window leaves the time.
        let can_recover = self.feedback_clock.is_wanted();
        let recovery = self.shortest_round_trip().filter(|_| can_recover).unwrap_or_default();
        let missed = if can_recover { MISSED_WITHIN + STALLED_WITHIN } else { Duration::ZERO };
        let wanted = Duration::from_nanos(skew.unsigned_abs()) + jitter * JITTERS + recovery * RECOVERIES + missed;
        // Up at once, and down slowly: what was needed a moment ago may be needed again.
        let window = wanted.max(self.window_now - self.window_now / 64).clamp(WINDOW_MIN.min(longest), longest);
        self.window_now = window;
        self.receiver.set_window(now, Some(window));
        self.on_peer_mode(self.peer_flags);
    }
}

/// Takes as many of `next` as may wait, and counts them as sent.
fn take_resends(
    resends: &mut VecDeque<Resend>,
    (uplinks, sizes): (&mut [Uplink; UPLINKS_MAX], &mut Sizes),
    mut next: impl FnMut() -> Option<Resend>,
) {
    while resends.len() < RESENDS_WAITING_MAX
        && let Some(resend) = next()
    {
        uplinks[resend.uplink.index()].sent.add(resend.length as usize);
        sizes.on_sent(UplinkSet::only(resend.uplink), resend.length as usize);
        resends.push_back(resend);
    }
}
