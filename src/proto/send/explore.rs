//! Finds out what idle uplinks would carry: now and then some of the frames that have just gone by another uplink go by an
//! idle one, too, all at once. How close together they arrive shows what it can do, before it is needed.

use std::time::Duration;

use crate::proto::time::Instant;
use crate::proto::uplink::{UPLINKS_MAX, UplinkId, UplinkSet};

/// Frames sent at once: the first, and what makes a burst of the others.
pub const TRAIN: u64 = 9;
/// For each frame of a train so many must have been sent: 0.4% of what is sent, for each idle uplink.
const SHARE: u64 = 250;

/// So many must have been sent before an uplink is explored that never has carried anything.
const SENT_FIRST: u64 = 64;

/// A train that has been sent is told of within this.
const TOLD_WITHIN: Duration = Duration::from_secs(2);

/// Remembers when each uplink was last used.
#[derive(Clone, Copy, Debug, Default)]
pub struct Explorer {
    sent: u64,
    /// How many frames had been sent in all when something last went by it.
    used: [Option<u64>; UPLINKS_MAX],
    /// The uplink that is being explored, and how many frames of the train are left.
    train: Option<(UplinkId, u64)>,
    /// When a train last went by each.
    explored_at: [Option<Instant>; UPLINKS_MAX],
}

impl Explorer {
    /// A frame was sent by `uplink`.
    pub fn on_sent(&mut self, uplink: UplinkId) {
        self.sent += 1;
        self.used[uplink.index()] = Some(self.sent);
    }

    /// Whether a burst that is told of now can be a train by this uplink, and not what it has held back.
    #[must_use]
    pub fn is_explored(&self, now: Instant, uplink: UplinkId) -> bool {
        self.explored_at[uplink.index()].is_some_and(|at| now.since(at) < TOLD_WITHIN)
    }

    /// The uplink by which the next frame of a train is to go, and its place counted from the end, if one is due by any of
    /// `candidates`; `can_begin` if there are frames for a whole one.
    pub fn poll(&mut self, now: Instant, candidates: UplinkSet, can_begin: bool) -> Option<(UplinkId, u64)> {
        self.train.take_if(|(uplink, _)| !candidates.contains(*uplink));
        if self.train.is_none() && can_begin {
            let due_at = |uplink: UplinkId| self.used[uplink.index()].map_or(SENT_FIRST, |used| used + SHARE * TRAIN);
            let due = candidates.iter().find(|uplink| self.sent >= due_at(*uplink))?;
            self.used[due.index()] = Some(self.sent);
            self.explored_at[due.index()] = Some(now);
            self.train = Some((due, TRAIN));
        }
        let (uplink, left) = self.train?;
        self.train = (left > 1).then_some((uplink, left - 1));
        Some((uplink, left))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_uplink_is_explored_seldom_and_one_in_use_never() {
        let [used, idle] = [0, 1].map(|number| UplinkId::new(number).expect("within range"));
        let both: UplinkSet = [used, idle].into_iter().collect();
        let mut explorer = Explorer::default();
        let mut explored = vec![];
        for _ in 0..10_000 {
            explorer.on_sent(used);
            explored.extend(std::iter::from_fn(|| explorer.poll(Instant::ZERO, both, true)));
        }
        assert_eq!(explored.len() as u64, (1 + (10_000 - SENT_FIRST) / (SHARE * TRAIN)) * TRAIN);
        assert!(explored.iter().all(|(uplink, _)| *uplink == idle));
    }
}
