//! Uplinks whose data budget is spent: what goes by them costs money, so as little does as can be.
//!
//! No frame does while another uplink works, hardly any report, and few probes. As soon as the peer sends frames by one, it
//! is an uplink as any other.

use std::time::Duration;

use super::{Frame, Payload, Tunnel};
use crate::proto::scheduler::standing::Standing;
use crate::proto::time::Instant;
use crate::proto::uplink::{UplinkId, UplinkSet};

/// For so long after a frame has come by such an uplink, more will.
const USED_FOR: Duration = Duration::from_secs(1);
/// Where nothing has come for one part in so many of the window, the way that frames took may have failed.
const SILENCE_PART: u32 = 3;
/// For so long the peer is told of it by such uplinks, too, which are all that may be left; and not again before so long.
const ALARM_FOR: Duration = Duration::from_millis(60);
const ALARM_EVERY: Duration = Duration::from_secs(2);

impl<T: Payload, F: Frame> Tunnel<T, F> {
    /// The data budget of an uplink is spent, or begins anew: at the box, which tells the gateway.
    pub fn set_spent(&mut self, now: Instant, uplink: UplinkId, is_spent: bool) {
        if self.spent.contains(uplink) == is_spent {
            return;
        }
        if is_spent {
            self.spent.insert(uplink);
        } else {
            self.spent = self.spent.without(UplinkSet::only(uplink));
        }
        self.refresh_scheduler(now);
    }

    /// The uplinks whose budgets are spent.
    #[must_use]
    pub const fn spent(&self) -> UplinkSet {
        self.spent
    }

    /// A frame has come by `uplink`.
    #[inline]
    pub(super) fn note_frame_by(&mut self, now: Instant, uplink: UplinkId) {
        if self.spent.contains(uplink) {
            self.spent_used_at = Some(now);
        }
    }

    /// The uplinks by which the peer sends no frames because of what they cost.
    pub(super) fn resting(&self, now: Instant) -> UplinkSet {
        let is_used = self.spent_used_at.is_some_and(|at| now.since(at) < USED_FOR);
        if is_used { UplinkSet::EMPTY } else { self.spared }
    }

    /// The uplinks by which a report goes only because nothing comes any more. Frames are held for up to `hold`.
    pub(super) fn alarmed(&mut self, now: Instant, hold: Duration) -> UplinkSet {
        let resting = self.resting(now);
        let is_silent = self.receiver.silent_for(now).is_some_and(|silence| silence >= hold / SILENCE_PART);
        if resting.is_empty() || !is_silent {
            return UplinkSet::EMPTY;
        }
        let began_at = *self.alarmed_at.get_or_insert(now);
        if now.since(began_at) >= ALARM_EVERY {
            self.alarmed_at = Some(now);
        }
        let is_told = self.alarmed_at.is_some_and(|at| now.since(at) < ALARM_FOR);
        let reachable = Standing::of(&self.uplinks, self.in_use()).any;
        if is_told { resting.without(resting.without(reachable)) } else { UplinkSet::EMPTY }
    }

    /// How often an uplink is probed, and since when at least so often.
    pub(super) fn pace(&self, uplink: UplinkId) -> (Duration, Instant) {
        let clock = &self.probe_clock;
        let interval = if self.spared.contains(uplink) { clock.spared_interval() } else { clock.interval() };
        (interval, clock.interval_since())
    }
}
