//! Who is at the other end: one start of one process, known by the epoch that it drew.

/// How many replaced epochs are remembered, so that their stragglers are not taken for yet another restart.
const RETIRED: usize = 8;

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

/// The peer, and the ones before it.
#[derive(Clone, Debug)]
pub struct Peer {
    own: u64,
    current: Option<u64>,
    retired: [u64; RETIRED],
    next_retired: usize,
}

impl Peer {
    /// No peer yet; `own` is our own epoch, which must not be 0.
    #[must_use]
    pub const fn new(own: u64) -> Self {
        Self { own, current: None, retired: [0; RETIRED], next_retired: 0 }
    }

    /// Our own epoch.
    #[must_use]
    pub const fn own(&self) -> u64 {
        self.own
    }

    /// The peer's epoch, 0 if there is none.
    #[must_use]
    pub fn current(&self) -> u64 {
        self.current.unwrap_or(0)
    }

    /// Whether there is a peer.
    #[must_use]
    pub const fn is_known(&self) -> bool {
        self.current.is_some()
    }

    /// What a message of `epoch` means.
    #[must_use]
    pub fn judge(&self, epoch: u64) -> Verdict {
        if self.current == Some(epoch) {
            Verdict::Known
        } else if epoch == self.own || self.retired.contains(&epoch) {
            Verdict::Stale
        } else if self.current.is_some() {
            Verdict::Replacement
        } else {
            Verdict::First
        }
    }

    /// From now on the peer is `epoch`.
    pub fn adopt(&mut self, epoch: u64) {
        self.retire();
        self.current = Some(epoch);
    }

    /// The peer is no more.
    pub fn retire(&mut self) {
        if let Some(epoch) = self.current.take() {
            self.retired[self.next_retired] = epoch;
            self.next_retired = (self.next_retired + 1) % RETIRED;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_peer_does_not_come_back() {
        let mut peer = Peer::new(1);
        assert_eq!(peer.judge(5), Verdict::First);
        peer.adopt(5);
        assert_eq!(peer.judge(5), Verdict::Known);
        assert_eq!(peer.judge(6), Verdict::Replacement);
        peer.adopt(6);
        assert_eq!(peer.judge(5), Verdict::Stale);
        assert_eq!(peer.judge(1), Verdict::Stale, "our own voice");
        peer.retire();
        assert_eq!(peer.judge(6), Verdict::Stale);
        assert_eq!(peer.judge(7), Verdict::First);
    }
}
