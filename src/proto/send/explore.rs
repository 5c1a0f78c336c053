//! Finds out what idle uplinks would carry: now and then some of the frames that have just gone by another uplink go by an
//! idle one, too, all at once. How close together they arrive shows what it can do, before it is needed.

use crate::proto::uplink::{UPLINKS_MAX, UplinkId, UplinkSet};

/// Frames sent at once: the first, and what makes a burst of the others.
pub const TRAIN: u64 = 9;
/// For each frame of a train so many must have been sent: 0.4% of what is sent, for each idle uplink.
const SHARE: u64 = 250;

/// So many must have been sent before an uplink is explored that never has carried anything.
const SENT_FIRST: u64 = 64;

/// Remembers when each uplink was last used.
#[derive(Clone, Copy, Debug, Default)]
pub struct Explorer {
    sent: u64,
    /// How many frames had been sent in all when something last went by it.
    used: [Option<u64>; UPLINKS_MAX],
    /// The uplink that is being explored, and how many frames of the train are left.
    train: Option<(UplinkId, u64)>,
}

impl Explorer {
    /// A frame was sent by `uplink`.
    pub fn on_sent(&mut self, uplink: UplinkId) {
        self.sent += 1;
        self.used[uplink.index()] = Some(self.sent);
    }

    /// The uplink by which the next frame of a train is to go, and its place counted from the end, if one is due by any of
    /// `candidates`.
    pub fn poll(&mut self, candidates: UplinkSet) -> Option<(UplinkId, u64)> {
        if self.train.is_none() {
            let due_at = |uplink: UplinkId| self.used[uplink.index()].map_or(SENT_FIRST, |used| used + SHARE * TRAIN);
            let due = candidates.iter().find(|uplink| self.sent >= due_at(*uplink))?;
            self.used[due.index()] = Some(self.sent);
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
            explored.extend(std::iter::from_fn(|| explorer.poll(both)));
        }
        assert_eq!(explored.len() as u64, (1 + (10_000 - SENT_FIRST) / (SHARE * TRAIN)) * TRAIN);
        assert!(explored.iter().all(|(uplink, _)| *uplink == idle));
    }
}
