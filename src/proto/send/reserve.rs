//! Uplinks whose data budget is spent are a reserve: frames go by them only while no other uplink brings any.
//!
//! That is so if the others have fallen, and before that already if they stand still: what is on its way by them goes again
//! while it can still be in time.

use super::Sender;
use super::peer_time::PeerTime;
use crate::proto::uplink::UplinkSet;

/// One part in so many of the time that frames have, and uplinks that have brought nothing for so long stand still. A short
/// pause, as radio links make them all the time, must not cost anything.
const STANDSTILL_PART: u32 = 4;

/// Which of the uplinks are kept back.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reserve {
    /// All that can be used.
    pub reachable: UplinkSet,
    /// Those that are kept back, whether they can be used or not.
    spent: UplinkSet,
    /// Whether all others stand still.
    is_called: bool,
}

impl Reserve {
    /// Those that are not kept back.
    const fn others(&self) -> UplinkSet {
        self.reachable.without(self.spent)
    }

    fn usable(&self) -> UplinkSet {
        let others = self.others();
        let kept_back = self.reachable.without(others);
        // What was called for may have fallen since, or be no reserve any more.
        let is_needed = others.is_empty() || (self.is_called && !kept_back.is_empty());
        if is_needed { kept_back } else { others }
    }
}

impl<F> Sender<F> {
    /// These uplinks are to be used only where no other can be.
    pub fn set_spent(&mut self, spent: UplinkSet) {
        self.reserve.spent = spent;
        self.usable = self.reserve.usable();
    }

    /// These uplinks can be used at all. Returns those that no longer can.
    pub(super) fn set_reachable(&mut self, reachable: UplinkSet) -> UplinkSet {
        let fallen = self.reserve.reachable.without(reachable);
        self.reserve.reachable = reachable;
        self.usable = self.reserve.usable();
        fallen
    }

    /// The peer has reported at `at`: looks whether any other uplink brings something.
    pub(super) fn review_reserve(&mut self, at: PeerTime) {
        let bearable = self.hold / STANDSTILL_PART;
        let mut others = self.reserve.others().iter().map(|uplink| &self.routes[uplink.index()]);
        self.call_reserve(others.all(|route| route.paused_for(at).is_some_and(|pause| pause >= bearable)));
    }

    /// The peer should have told of a frame by now, and does not tell of anything.
    pub(super) fn review_reserve_unheard(&mut self) {
        let mut others = self.reserve.others().iter().map(|uplink| &self.routes[uplink.index()]);
        self.call_reserve(others.all(|route| route.in_flight() > 0));
    }

    fn call_reserve(&mut self, is_called: bool) {
        let has_some = !self.reserve.reachable.without(self.reserve.others()).is_empty();
        self.reserve.is_called = is_called && has_some && !self.reserve.others().is_empty();
        self.usable = self.reserve.usable();
    }
}
