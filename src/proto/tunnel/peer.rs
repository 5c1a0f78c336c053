//! Who is at the other end: one start of one process, known by the epoch that it drew.
//!
//! Epochs are ordered: a later start has the greater one (see [`epoch`]). What is still on its way from a start before
//! is told by that, and must never be taken for a restart: the tunnel would turn to a peer that is no more. A machine
//! that has lost its clock draws too low an epoch, and has to wait until its former life counts as gone.

use std::time::Duration;

use crate::proto::time::Instant;

/// After so much silence a peer counts as gone, and one with a lower epoch may take its place. Longer than any link
/// keeps a datagram, and than an idle peer is silent.
const GONE_AFTER: Duration = Duration::from_secs(5);
/// Low bits of an epoch that are random.
const RANDOM_BITS: u32 = 20;

/// The epoch of a process that starts at this time of day, in milliseconds since 1970; never 0. `random` tells two
/// starts apart that the clock cannot.
#[must_use]
pub const fn epoch(started_at_ms: u64, random: u64) -> u64 {
    let epoch = (started_at_ms << RANDOM_BITS) | (random & ((1 << RANDOM_BITS) - 1));
    if epoch == 0 { 1 } else { epoch }
}

/// What an epoch in a control message means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The peer we know.
    Known,
    /// A peer where there was none.
    First,
    /// A peer in place of the one before.
    Replacement,
    /// One that has been replaced or has said good-bye, or our own voice.
    Stale,
}

/// The peer, or the last one there was.
#[derive(Clone, Copy, Debug)]
struct Newest {
    epoch: u64,
    heard_at: Instant,
    is_present: bool,
}

/// The peer, and the one before it.
#[derive(Clone, Debug)]
pub struct Peer {
    own: u64,
    newest: Option<Newest>,
}

impl Peer {
    /// No peer yet; `own` is our own epoch, which must not be 0.
    #[must_use]
    pub const fn new(own: u64) -> Self {
        Self { own, newest: None }
    }

    /// Our own epoch.
    #[must_use]
    pub const fn own(&self) -> u64 {
        self.own
    }

    /// The peer's epoch, 0 if there is none.
    #[must_use]
    pub fn current(&self) -> u64 {
        self.newest.filter(|newest| newest.is_present).map_or(0, |newest| newest.epoch)
    }

    /// Whether there is a peer.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.newest.is_some_and(|newest| newest.is_present)
    }

    /// What a message of `epoch` means.
    #[must_use]
    pub fn judge(&self, now: Instant, epoch: u64) -> Verdict {
        if epoch == self.own {
            return Verdict::Stale;
        }
        match self.newest {
            None => Verdict::First,
            Some(newest) if newest.is_present && newest.epoch == epoch => Verdict::Known,
            Some(newest) if epoch <= newest.epoch && now < newest.heard_at + GONE_AFTER => Verdict::Stale,
            Some(newest) if newest.is_present => Verdict::Replacement,
            Some(_) => Verdict::First,
        }
    }

    /// From now on the peer is `epoch`.
    pub fn adopt(&mut self, now: Instant, epoch: u64) {
        self.newest = Some(Newest { epoch, heard_at: now, is_present: true });
    }

    /// The peer has said something.
    pub fn on_heard(&mut self, now: Instant) {
        if let Some(newest) = &mut self.newest {
            newest.heard_at = now;
        }
    }

    /// The peer is no more.
    pub fn retire(&mut self) {
        if let Some(newest) = &mut self.newest {
            newest.is_present = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> Instant {
        Instant::from_nanos(milliseconds * 1_000_000)
    }

    #[test]
    fn a_replaced_peer_does_not_come_back() {
        let mut peer = Peer::new(1);
        assert_eq!(peer.judge(at(0), 5), Verdict::First);
        peer.adopt(at(0), 5);
        assert_eq!(peer.judge(at(0), 5), Verdict::Known);
        assert_eq!(peer.judge(at(0), 6), Verdict::Replacement);
        peer.adopt(at(0), 6);
        assert_eq!(peer.judge(at(0), 5), Verdict::Stale);
        assert_eq!(peer.judge(at(0), 1), Verdict::Stale, "our own voice");
        peer.retire();
        assert_eq!(peer.judge(at(0), 6), Verdict::Stale);
        assert_eq!(peer.judge(at(0), 7), Verdict::First);
    }

    #[test]
    fn what_is_left_of_an_earlier_start_is_no_restart_whichever_comes_first() {
        let mut peer = Peer::new(1);
        peer.adopt(at(0), 8);
        assert_eq!(peer.judge(at(1), 7), Verdict::Stale, "the later start was heard first");
    }

    #[test]
    fn a_peer_that_has_lost_its_clock_is_let_in_when_its_former_life_is_gone() {
        let mut peer = Peer::new(1);
        peer.adopt(at(0), 100);
        peer.on_heard(at(2_000));
        assert_eq!(peer.judge(at(6_999), 50), Verdict::Stale);
        assert_eq!(peer.judge(at(7_000), 50), Verdict::Replacement);
    }

    #[test]
    fn epochs_follow_the_clock_and_are_never_none() {
        assert!(epoch(1000, u64::MAX) < epoch(1001, 0));
        assert_eq!(epoch(0, 0), 1);
    }
}
