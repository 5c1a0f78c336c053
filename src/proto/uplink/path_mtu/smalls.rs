//! Short datagrams that are answered: how many of late were not tells what an uplink loses whatever the length.

use std::time::Duration;

use crate::proto::time::Instant;

/// So many are remembered.
const SMALLS: usize = 16;

/// The last of them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Smalls {
    sent: [Option<(Instant, bool)>; SMALLS],
    next: usize,
}

impl Smalls {
    pub fn on_sent(&mut self, now: Instant) {
        let newest = &self.sent[(self.next + SMALLS - 1) % SMALLS];
        if newest.is_some_and(|(sent_at, _)| sent_at == now) {
            return;
        }
        self.sent[self.next] = Some((now, false));
        self.next = (self.next + 1) % SMALLS;
    }

    pub fn on_answered(&mut self, sent_at: Instant) {
        for (_, is_answered) in self.sent.iter_mut().flatten().filter(|(at, _)| *at == sent_at) {
            *is_answered = true;
        }
    }

    /// How many of those whose answers should have come by now have not been answered.
    pub fn lost(&self, now: Instant, patience: Duration) -> usize {
        self.sent.iter().flatten().filter(|(at, is_answered)| !is_answered && *at + patience <= now).count()
    }
}
