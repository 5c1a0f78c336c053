//! The trial of one length: pairs of soundings, until it is known whether those that long come through.

use std::time::Duration;

use crate::proto::time::Instant;

/// So many pairs of which only the short one was answered prove a length too long, where nothing else is lost (RFC 8899
/// §5.1.2: MAX_PROBES); where some is; and where much is. Where a tenth is lost each way, a pair that tells anything is such a
/// one with a likelihood of 0.19 × 0.81 / (0.19 × 0.81 + 0.81) = 0.16, and six in a row come with one trial in 60,000.
const MISSES: [u8; 3] = [3, 6, 12];
/// Of the last 16 short datagrams so many unanswered are some; and more are much.
const SOME: usize = 3;
/// After so many pairs of which nothing was answered in time there will be no result.
const BLANKS_MAX: u8 = 12;
/// No trial needs more pairs than this.
#[cfg(test)]
pub(super) const PAIRS_MAX: u8 = MISSES[2] + BLANKS_MAX;
/// So many go at once where frames may be being lost for their length, and hardly for anything else.
const AT_ONCE: u8 = 3;
/// From one pair to the next at least.
const SPACING_MIN: Duration = Duration::from_millis(10);
/// The same as a part of the time that an answer takes.
const SPACING_PART: u32 = 8;

/// A long and a short sounding sent at once.
#[derive(Clone, Copy, Debug)]
struct Pair {
    sent_at: Instant,
    is_small_answered: bool,
    is_refused: bool,
}

/// What a trial wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Course {
    /// Another pair sent now.
    Send,
    /// Nothing yet.
    Wait,
    /// It is too long.
    Failed,
    /// It cannot be told: too much is lost.
    Undecided,
}

/// The trial of a length.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trial {
    pub length: u16,
    /// Whether frames may be being lost: several pairs go at once.
    pub is_urgent: bool,
    pairs: [Option<Pair>; MISSES[2] as usize],
    misses: u8,
    blanks: u8,
    /// Whether nothing was lost of late but what may be too long.
    is_clear: bool,
    last_sent_at: Option<Instant>,
}

impl Trial {
    pub const fn new(length: u16, is_urgent: bool) -> Self {
        Self {
            length,
            is_urgent,
            pairs: [None; MISSES[2] as usize],
            misses: 0,
            blanks: 0,
            is_clear: true,
            last_sent_at: None,
        }
    }

    /// What to do now, when so many short datagrams of late were lost. If it is to send, that counts as done.
    pub fn advance(&mut self, now: Instant, patience: Duration, smalls_lost: usize) -> Course {
        self.judge(now, patience);
        self.is_clear = self.blanks == 0 && smalls_lost == 0;
        let needed = MISSES[usize::from(smalls_lost > 0) + usize::from(smalls_lost > SOME)];
        if self.misses >= needed {
            Course::Failed
        } else if self.blanks >= BLANKS_MAX {
            Course::Undecided
        } else if self.wants_more() && self.last_sent_at.is_none_or(|at| now >= at + spacing(patience)) {
            self.send(now);
            Course::Send
        } else {
            Course::Wait
        }
    }

    /// Whether another pair may go as soon as the last one is far enough back. What is slow, or loses much, is not to be filled
    /// with soundings: there they go one by one.
    fn wants_more(&self) -> bool {
        let under_way = self.pairs.iter().flatten().count() as u8;
        let at_once =
            if self.is_clear && (self.is_urgent || self.misses > 0) { AT_ONCE.saturating_sub(self.misses) } else { 1 };
        under_way < at_once.max(1)
    }

    fn send(&mut self, now: Instant) {
        let pair = Pair { sent_at: now, is_small_answered: false, is_refused: false };
        if let Some(place) = self.pairs.iter_mut().find(|place| place.is_none()) {
            *place = Some(pair);
        }
        self.last_sent_at = Some(now);
    }

    /// Counts the pairs of which it is known what came of them.
    fn judge(&mut self, now: Instant, patience: Duration) {
        for place in &mut self.pairs {
            let Some(pair) = place.take_if(|pair| pair.is_refused || pair.sent_at + patience <= now) else { continue };
            let is_miss = pair.is_refused || pair.is_small_answered;
            *(if is_miss { &mut self.misses } else { &mut self.blanks }) += 1;
        }
    }

    /// When to look again.
    pub fn next_timeout(&self, patience: Duration) -> Option<Instant> {
        let judged_at = self
            .pairs
            .iter()
            .flatten()
            .map(|pair| if pair.is_refused { pair.sent_at } else { pair.sent_at + patience });
        let sent_at = self.last_sent_at.map(|at| at + spacing(patience)).filter(|_| self.wants_more());
        judged_at.chain(sent_at).min()
    }

    pub fn on_small_answered(&mut self, sent_at: Instant) {
        for pair in self.pairs.iter_mut().flatten().filter(|pair| pair.sent_at == sent_at) {
            pair.is_small_answered = true;
        }
    }

    /// The kernel has refused to send a datagram of this length. Returns whether it can have been one of ours.
    pub fn on_refused(&mut self, length: u16) -> bool {
        let newest = self.pairs.iter_mut().flatten().filter(|pair| !pair.is_refused).max_by_key(|pair| pair.sent_at);
        match newest.filter(|_| length == self.length) {
            Some(pair) => {
                pair.is_refused = true;
                true
            }
            None => false,
        }
    }
}

fn spacing(patience: Duration) -> Duration {
    SPACING_MIN.max(patience / SPACING_PART)
}
