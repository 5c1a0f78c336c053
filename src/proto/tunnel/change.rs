//! What can be changed while frames flow, without losing one: the mode, the window, and the uplinks.
//!
//! An uplink leaves in two steps. First nothing goes by it any more, either way, while what is under way still comes; then, when
//! the shell has waited for that, it is gone.

use std::time::Duration;

use super::adaptive::Outbound;
use super::{Event, Frame, Payload, Role, Tunnel, UplinkSettings};
use crate::proto::scheduler::standing::Standing;
use crate::proto::scheduler::{Mode, Scheduler, SchedulerConfig};
use crate::proto::send::{Sender, Terms};
use crate::proto::stats::DropReason;
use crate::proto::time::Instant;
use crate::proto::uplink::Limits;
use crate::proto::uplink::monitor::Uplink;
use crate::proto::uplink::state::{Reason, State};
use crate::proto::uplink::{UplinkId, UplinkName, UplinkSet};

/// For so long frames that wait in `adaptive` have the time to leave by its rules when the mode is another.
const LEAVE_WITHIN: Duration = Duration::from_millis(300);

/// An uplink that the box has removed is forgotten when it has been silent for so long.
const LEFT_AFTER: Duration = Duration::from_secs(1);

/// The mode that is to follow `adaptive`.
#[derive(Debug)]
pub(super) struct Successor {
    scheduler: Scheduler,
    /// From when on what still waits leaves at once.
    at: Instant,
}

impl<T: Payload, F: Frame> Tunnel<T, F> {
    /// Frames are spread like this from now on, and uplinks probed so often while frames flow. What waits in `adaptive`
    /// leaves first.
    pub fn change_mode(&mut self, now: Instant, config: &SchedulerConfig, probe_interval: Duration) {
        self.successor = None;
        self.mode = config.mode;
        match (&mut self.outbound, config.mode) {
            (Outbound::Adaptive(sender), Mode::Adaptive) => sender.set_redundancy(config.redundancy.clone()),
            (Outbound::Adaptive(_), _) => {
                self.successor = Some(Successor { scheduler: Scheduler::new(config), at: now + LEAVE_WITHIN });
                self.succeed(now);
            }
            (Outbound::AtOnce(_), _) => {
                self.outbound = Outbound::new(now, config, self.next_sequence);
                for uplink in UplinkId::all() {
                    let Uplink { limits, weight, .. } = self.uplinks[uplink.index()];
                    self.outbound.set_terms(uplink, Terms { limits, weight });
                    if let Some(sender) = self.outbound.adaptive() {
                        sender.set_frame_max(uplink, self.sizes.frame_max(uplink));
                    }
                }
            }
        }
        self.probe_clock.set_busy_interval(now, probe_interval);
        self.refresh_scheduler(now);
    }

    /// How frames are to be spread: where another mode than `adaptive` has just been asked for, some may leave by its rules yet.
    #[must_use]
    pub const fn mode(&self) -> Mode {
        self.mode
    }

    /// Has the next mode take over, if there is one, and nothing waits any more or has waited long enough.
    pub(super) fn succeed(&mut self, now: Instant) {
        if self.successor.as_ref().is_none_or(|successor| self.waiting() > 0 && now < successor.at) {
            return;
        }
        let Some(mut successor) = self.successor.take() else { return };
        successor.scheduler.refresh(&Standing::of(&self.uplinks, self.in_use()).sparing(self.spent));
        while self.frames.len() < super::FRAMES_WAITING_MAX
            && let Some((payload, length)) = self.outbound.adaptive().and_then(Sender::take_waiting)
        {
            let narrow = self.sizes.too_narrow_for(length as usize);
            let mut uplinks = if narrow.is_empty() {
                successor.scheduler.schedule()
            } else {
                successor.scheduler.schedule_past(narrow)
            };
            if uplinks.is_empty() {
                // Any that carries it will do, this once.
                uplinks = self.in_use().without(narrow);
                uplinks = uplinks.iter().next().map_or(UplinkSet::EMPTY, UplinkSet::only);
            }
            if uplinks.is_empty() {
                self.drops.add(if narrow.is_empty() { DropReason::NoUplink } else { DropReason::PathMtu });
                continue;
            }
            self.send_at_once(uplinks, length as usize, payload);
        }
        if self.waiting() > 0 {
            self.successor = Some(successor);
            return;
        }
        self.outbound = Outbound::AtOnce(successor.scheduler);
        // The peer is not to wait for what would have been sent again.
        self.probe_clock.hurry(now);
        self.refresh_scheduler(now);
    }

    /// Received frames are held for so long at most from now on, or not at all; with `follows`, for as long as the uplinks
    /// require, up to that.
    pub fn change_window(&mut self, now: Instant, window: Option<Duration>, follows: bool) {
        self.window_max = window.filter(|_| follows);
        self.window_now = Duration::ZERO;
        self.receiver.set_window(now, window);
        self.follow_window(now);
        self.on_peer_mode(self.peer_flags);
    }

    /// The longest that a received frame is held now; `None` if none is.
    #[must_use]
    pub const fn window(&self) -> Option<Duration> {
        self.receiver.window()
    }

    /// Uses one more uplink, as soon as it is attached (at the box); `None` if there are as many as there can be.
    pub fn add_uplink(&mut self, now: Instant, settings: &UplinkSettings) -> Option<UplinkId> {
        let uplink = UplinkId::all().find(|uplink| self.uplinks[uplink.index()].name == UplinkName::default())?;
        let interval = self.probe_clock.interval();
        self.uplinks[uplink.index()].replace(now, settings.name, settings.weight, interval);
        self.change_uplink(now, uplink, settings.weight, settings.limits);
        Some(uplink)
    }

    /// Uses an uplink otherwise from now on (at the box).
    pub fn change_uplink(&mut self, now: Instant, uplink: UplinkId, weight: u8, limits: Limits) {
        (self.uplinks[uplink.index()].weight, self.uplinks[uplink.index()].limits) = (weight, limits);
        self.outbound.set_terms(uplink, Terms { limits, weight });
        self.refresh_scheduler(now);
        // The peer's direction is to follow.
        self.probe_clock.hurry(now);
    }

    /// An uplink is to be used no more: nothing is sent by it from now on, and the peer is told to do the same (at the box).
    pub fn retire_uplink(&mut self, now: Instant, uplink: UplinkId) {
        self.leaving.insert(uplink);
        self.refresh_scheduler(now);
        self.probe_clock.hurry(now);
    }

    /// The uplinks that there has been something to send by, and that are not leaving.
    pub(super) const fn in_use(&self) -> UplinkSet {
        self.known.without(self.leaving)
    }

    /// The uplinks that are to be used no more.
    #[must_use]
    pub const fn leaving(&self) -> UplinkSet {
        self.leaving
    }

    /// An uplink is gone for good, and its number is free for another (at the box).
    pub fn remove_uplink(&mut self, now: Instant, uplink: UplinkId) {
        self.let_go(now, uplink);
    }

    fn forget_uplink(&mut self, now: Instant, uplink: UplinkId) {
        let only = UplinkSet::only(uplink);
        self.known = self.known.without(only);
        self.leaving = self.leaving.without(only);
        self.spent = self.spent.without(only);
        let interval = self.probe_clock.interval();
        self.uplinks[uplink.index()].replace(now, UplinkName::default(), 1, interval);
        if let Some(sender) = self.outbound.adaptive() {
            sender.forget_uplink(uplink);
        }
    }

    /// The uplinks that have a name: those of the box's user, or of which the box's probes have told.
    #[must_use]
    pub fn named(&self) -> UplinkSet {
        UplinkId::all().filter(|uplink| self.uplinks[uplink.index()].name != UplinkName::default()).collect()
    }

    /// The box says which of its uplinks are in use: all others are leaving (at the gateway).
    pub(super) fn on_uplinks_in_use(&mut self, now: Instant, used: UplinkSet) {
        let leaving = self.named().without(used);
        if self.role == Role::Gateway && leaving != self.leaving {
            self.leaving = leaving;
            self.refresh_scheduler(now);
        }
    }

    /// Forgets uplinks that the box has removed, once they are silent (at the gateway).
    pub(super) fn forget_left_uplinks(&mut self, now: Instant) {
        for uplink in self.leaving.iter() {
            let of_uplink = &self.uplinks[uplink.index()];
            // The box goes on probing for a while, so that what is under way still comes.
            let is_gone = of_uplink.state() == State::Down && of_uplink.is_silent_for(now, LEFT_AFTER);
            if self.role == Role::Gateway && is_gone {
                self.paths[uplink.index()] = None;
                self.let_go(now, uplink);
            }
        }
    }

    fn let_go(&mut self, now: Instant, uplink: UplinkId) {
        let name = self.uplinks[uplink.index()].name;
        self.uplinks[uplink.index()].detach(now, Reason::Removed);
        self.push_event(Event::Removed { name });
        self.forget_uplink(now, uplink);
        self.refresh_scheduler(now);
        // The peer learns at once that nothing can reach us by this one.
        self.refresh_heard(now);
    }
}
