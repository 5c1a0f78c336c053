//! What must hold when all is over.

use super::{Offer, Oracle, SUSPICION, Verdict};
use crate::proto::stats::DropReason;
use crate::proto::tunnel::Counters;
use crate::proto::uplink::UplinkId;
use crate::proto::wire::{FRAME_LENGTH_MIN, FRAME_OVERHEAD_MAX};
use crate::sim::plan::NEVER;
use crate::sim::{MILLISECOND, Nanoseconds};

impl Oracle {
    /// Nothing has disappeared in an end, which has dropped so many `outside` its tunnel.
    ///
    /// # Errors
    /// If something has.
    pub fn check_conservation(&self, end: usize, counters: &Counters, outside: u64, held: usize) -> Verdict {
        let receiver = &self.receivers[end];
        let came_to = counters.sent.packets
            + counters.delivered.packets
            + held as u64
            + counters.waiting
            + receiver.controls
            + counters.drops.total()
            + outside;
        let holds = receiver.handed + receiver.dropped_outside == came_to;
        self.check(holds, || {
            format!(
                "end {end} was handed {} and dropped {} outside, but accounts for {came_to}: {counters:?}, {held} held",
                receiver.handed, receiver.dropped_outside
            )
        })
    }

    /// All is over: nothing is held, and nothing that was taken has been lost, nor anything offered since `clean_from`.
    /// A world that never becomes clean may end in the middle of things: something may be held, and the last frames may
    /// be missing without a later one to tell so.
    ///
    /// # Errors
    /// If it is not so.
    pub fn check_end(&self, to: usize, counters: [&Counters; 2], held: usize, clean_from: Nanoseconds) -> Verdict {
        let is_clean = clean_from < NEVER;
        self.check(held == 0 || !is_clean, || format!("end {to} still holds {held} frames"))?;
        let receiver = &self.receivers[to];
        for (number, offer) in self.streams[1 - to].offers.iter().enumerate() {
            let is_of_deceived = receiver.deceived.is_some_and(|at| offer.at < at + SUSPICION);
            let was_taken = !is_of_deceived && offer.taken.is_some_and(|(_, life)| life == receiver.life);
            // Not even as too late is a frame dropped then.
            let was_offered_in_peace = offer.at >= clean_from && self.is_lawful(offer);
            let must_have_come = (offer.is_sent && was_taken && held == 0) || was_offered_in_peace;
            self.check(!must_have_come || offer.delivered_at.is_some(), || {
                format!(
                    "frame {number}, offered at {} ms, was never delivered at end {to}, though {}",
                    offer.at / MILLISECOND,
                    if was_taken { "it was taken" } else { "all was well" }
                )
            })?;
        }
        let (sender, own) = (counters[1 - to], counters[to]);
        let came_to = own.delivered.packets + own.receive.lost + own.drops.get(DropReason::Late);
        let is_countable = is_clean && !receiver.has_begun_anew && receiver.window.is_some();
        self.check(!is_countable || sender.sent.packets == came_to, || {
            format!("{} frames were sent, and {came_to} accounted for at end {to}: {own:?}", sender.sent.packets)
        })
    }

    fn is_lawful(&self, offer: &Offer) -> bool {
        let longest = usize::from(self.tap_mtu) + FRAME_OVERHEAD_MAX;
        (FRAME_LENGTH_MIN..=longest).contains(&usize::from(offer.length))
    }

    /// An uplink's state at a moment when all has long been well.
    ///
    /// # Errors
    /// If it is not up.
    pub fn check_up(&self, end: usize, uplink: UplinkId, is_up: bool, state: &str) -> Verdict {
        self.check(is_up, || format!("uplink {} is still {state} at end {end}", uplink.number()))
    }
}
