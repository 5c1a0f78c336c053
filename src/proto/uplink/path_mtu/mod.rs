//! The longest datagram that gets through by an uplink, one way, found out by datagrams of many lengths (RFC 8899).
//!
//! Each trial of a length is made by pairs of soundings sent together, one that long and one that is short. A long one that
//! is not answered counts only if the short one beside it was: else the uplink has lost both, which says nothing of their
//! lengths. Three such pairs are enough where nothing else is lost, and more are needed where something is.
//!
//! ```text
//!             wanted comes through
//!   start ──▶ wanted ─────────────────────────────────▶ at rest ◀──── nothing between the two is left to be tried
//!               │ does not                               │    ▲
//!               ▼                                        │    └─ still comes through
//!              base ──▶ between what comes through       ├─ long frames, and a second has passed: the same again
//!               │       and what does not, halving       ├─ frames are lost: the same again at once, thrice
//!               ▼ does not                               │    └─ does not come through any more: as if wanted did not
//!             floor                                      └─ now and then, where it is less than is wanted: wanted, and between
//! ```
//!
//! Nothing is held back before a length has been found wanting: most uplinks carry all that the TAP makes, and the first
//! second of a tunnel should not be worse for the few that do not. From then on what has been answered is what counts, and
//! nothing else: not what anybody on the way says by ICMP, which is easily forged.
//!
//! All lengths here are of datagrams, without IP and UDP headers, unless it says otherwise.

mod smalls;
#[cfg(test)]
mod tests;
mod trial;

use std::time::Duration;

use smalls::Smalls;
use trial::{Course, Trial};

use crate::proto::stats::Traffic;
use crate::proto::time::Instant;

/// The smallest MTU of a TAP, in bytes: what every IPv4 host takes (RFC 791 §3.2).
pub const TAP_MTU_MIN: u16 = 576;
/// An IP packet that every uplink can be expected to carry, in bytes: what QUIC asks for (RFC 9000 §14), and IPv6 less what
/// tunnels on the way may need (RFC 8899 §5.1.2).
pub const PACKET_BASE: u16 = 1200;
/// Lengths of IP packet that are common, in bytes: Ethernet, PPPoE, tunnels of several kinds, mobile networks, the least of
/// IPv6. Where one of these is the limit, it is found sooner.
const PACKETS_COMMON: [u16; 14] = [1280, 1300, 1340, 1358, 1380, 1400, 1420, 1428, 1440, 1460, 1472, 1480, 1492, 1500];
/// The search ends when it is known as exactly as this.
const GRANULARITY: u16 = 8;

/// As long as long frames are sent, and nothing else shows that they come through, one sounding does this often.
const CONFIRMED_EVERY: Duration = Duration::from_secs(1);
/// After a loss that was none of long datagrams the next one is looked into after this, and twice as long each time.
const DOUBT_PAUSE_MIN: Duration = Duration::from_millis(100);
const DOUBT_PAUSE_MAX: Duration = Duration::from_secs(1);
/// For so long without doubts they have been forgotten.
const DOUBTS_FORGOTTEN_AFTER: Duration = Duration::from_secs(10);
/// More is tried after this, and twice as long each time (RFC 8899 §5.1.1: PMTU_RAISE_TIMER). What was taken for too long
/// because of heavy loss is so corrected soon.
const RAISED_AFTER_MIN: Duration = Duration::from_secs(5);
const RAISED_AFTER_MAX: Duration = Duration::from_secs(600);
/// A trial that came to nothing is made again after this.
const RETRIED_AFTER: Duration = Duration::from_secs(1);
/// A search that takes longer than this is not waited for.
const SEARCHED_FOR: Duration = Duration::from_secs(5);

/// Between which lengths the limit is sought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of IP and UDP header in front of a datagram.
    pub header: u16,
    /// The shortest that is of any use.
    pub floor: u16,
    /// The longest that is ever sent.
    pub wanted: u16,
}

impl Bounds {
    fn base(&self) -> u16 {
        PACKET_BASE.saturating_sub(self.header).clamp(self.floor, self.wanted)
    }

    fn common(&self) -> impl Iterator<Item = u16> {
        let header = self.header;
        PACKETS_COMMON.into_iter().map(move |packet| packet - header)
    }

    /// What to try next, where `low` comes through and `high` does not; `None` if it is known well enough.
    fn between(&self, low: u16, high: u16) -> Option<u16> {
        if high <= low + GRANULARITY {
            return None;
        }
        let middle = low + (high - low) / 2;
        let is_worth_it = |length: &u16| (low + GRANULARITY / 2..high).contains(length);
        let common = self.common().filter(is_worth_it).min_by_key(|length| length.abs_diff(middle));
        let is_common = self.common().any(|length| length == low);
        // Just above a common one there is hardly ever anything.
        Some(common.unwrap_or(if is_common { low + GRANULARITY } else { middle }))
    }
}

/// What is known of one uplink.
#[derive(Clone, Copy, Debug)]
pub struct PathMtu {
    bounds: Bounds,
    /// The longest that has been answered, and the shortest that has not been though it should have.
    known: Option<u16>,
    failing: Option<u16>,
    /// Whether anything is too long for it, and since when that is known.
    is_limited: bool,
    limited_since: Instant,
    /// Answers to what was sent before are void.
    void_before: Instant,
    trial: Option<Trial>,
    /// When the next trial begins that nothing else calls for.
    next_at: Option<Instant>,
    /// No trial begins before, since the last one could not tell.
    not_before: Instant,
    raised_after: Duration,
    smalls: Smalls,
    /// The longest that was sent since it was last shown that such come through.
    longest_sent: u16,
    /// Since when longer ones than the base have been sent without that.
    unshown_since: Option<Instant>,
    doubted_at: Option<Instant>,
    doubt_pause: Duration,
    /// What had been sent and received when that was last told.
    counted: Option<(u64, Traffic)>,
}

impl PathMtu {
    /// Nothing is known, and nothing tried.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            known: None,
            failing: None,
            is_limited: false,
            limited_since: Instant::ZERO,
            void_before: Instant::ZERO,
            trial: None,
            next_at: None,
            not_before: Instant::ZERO,
            raised_after: RAISED_AFTER_MIN,
            smalls: Smalls::default(),
            longest_sent: 0,
            unshown_since: None,
            doubted_at: None,
            doubt_pause: DOUBT_PAUSE_MIN,
            counted: None,
        }
    }

    /// Between which lengths it is sought.
    #[must_use]
    pub const fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// The longest datagram that may be sent; `None` if there is no limit.
    #[must_use]
    pub fn limit(&self) -> Option<u16> {
        let unproved = if self.failing.is_some_and(|failing| failing <= self.bounds.base()) {
            self.bounds.floor
        } else {
            self.bounds.base()
        };
        self.is_limited.then(|| self.known.unwrap_or(unproved))
    }

    /// The longest datagram that is known to come through.
    #[must_use]
    pub const fn known(&self) -> Option<u16> {
        self.known
    }

    /// Whether the limit is about to change, since it is being sought after a longer one has failed.
    #[must_use]
    pub fn is_searching(&self, now: Instant) -> bool {
        self.is_limited && self.aim().is_some() && now < self.limited_since + SEARCHED_FOR
    }

    /// It can be used, and could not before; `is_new` if its way is another one, of which nothing is known.
    pub fn start(&mut self, now: Instant, is_new: bool) {
        let before = *self;
        *self = Self { smalls: before.smalls, void_before: now, next_at: Some(now), ..Self::new(self.bounds) };
        if !is_new {
            (self.known, self.is_limited) = (before.known.filter(|_| before.is_limited), before.is_limited);
        }
    }

    /// It cannot be used any more.
    pub fn stop(&mut self) {
        (self.trial, self.next_at, self.counted) = (None, None, None);
        (self.longest_sent, self.unshown_since) = (0, None);
    }

    /// Its bounds are these from now on: nothing is known of it.
    pub fn set_bounds(&mut self, now: Instant, bounds: Bounds) {
        if bounds != self.bounds {
            let was_started = self.next_at.is_some() || self.trial.is_some() || self.known.is_some();
            self.bounds = bounds;
            self.start(now, true);
            self.next_at = was_started.then_some(now);
        }
    }

    /// What to try next, if anything is left to be found out.
    fn aim(&self) -> Option<u16> {
        let (base, floor) = (self.bounds.base(), self.bounds.floor);
        match (self.known, self.failing) {
            (Some(known), _) if known >= self.bounds.wanted => None,
            (_, None) => Some(self.bounds.wanted),
            (Some(known), Some(failing)) => self.bounds.between(known, failing),
            (None, Some(failing)) => [base, floor].into_iter().find(|length| *length < failing),
        }
    }

    /// The length that is in use.
    fn current(&self) -> u16 {
        self.limit().unwrap_or(self.bounds.wanted)
    }

    /// The length of the next sounding, which goes together with a short one. An answer that has not come `patience` after it
    /// was sent will not.
    pub fn poll(&mut self, now: Instant, patience: Duration) -> Option<u16> {
        loop {
            if self.trial.is_none() {
                self.trial = Some(Trial::new(self.due(now)?, false));
            }
            let trial = self.trial.as_mut()?;
            match trial.advance(now, patience, self.smalls.lost(now, patience)) {
                Course::Send => {
                    let length = trial.length;
                    self.smalls.on_sent(now);
                    return Some(length);
                }
                Course::Wait => return None,
                Course::Failed => self.on_failed(now),
                Course::Undecided => {
                    self.trial = None;
                    self.not_before = now + RETRIED_AFTER;
                    self.next_at = self.next_at.or(self.aim().map(|_| now));
                }
            }
        }
    }

    /// The length whose trial is due.
    fn due(&mut self, now: Instant) -> Option<u16> {
        if now < self.not_before {
            return None;
        }
        if self.next_at.is_some_and(|at| at <= now) {
            if self.aim().is_none() {
                self.failing = None;
            }
            if let Some(length) = self.aim() {
                self.next_at = None;
                return Some(length);
            }
            self.next_at = None;
        }
        if self.longest_sent <= self.bounds.base() {
            return None;
        }
        let since = *self.unshown_since.get_or_insert(now);
        (now >= since + CONFIRMED_EVERY).then(|| self.current())
    }

    /// When [`Self::poll`] has to be asked again.
    #[must_use]
    pub fn next_timeout(&self, patience: Duration) -> Option<Instant> {
        self.trial.as_ref().and_then(|trial| trial.next_timeout(patience))
    }

    fn on_failed(&mut self, now: Instant) {
        let Some(trial) = self.trial.take() else { return };
        if self.known.is_some_and(|known| known >= trial.length) {
            // It was known to come through: the way has changed.
            (self.known, self.failing, self.void_before) = (None, None, now);
            self.raised_after = RAISED_AFTER_MIN;
        }
        self.failing = Some(self.failing.map_or(trial.length, |failing| failing.min(trial.length)));
        if !self.is_limited {
            (self.is_limited, self.limited_since) = (true, now);
        }
        self.go_on(now);
    }

    /// A trial is over: the next one follows, or all is known for now.
    fn go_on(&mut self, now: Instant) {
        self.next_at = match self.aim() {
            Some(_) => Some(now),
            None if !self.is_limited => None,
            None => {
                let after = self.raised_after;
                self.raised_after = (after * 2).min(RAISED_AFTER_MAX);
                Some(now + after)
            }
        };
    }

    /// A sounding of `length`, sent at `sent_at`, has come through; `is_small` if it was the short one of a pair.
    pub fn on_answered(&mut self, now: Instant, sent_at: Instant, length: u16, is_small: bool) {
        if is_small {
            self.on_small_answered(sent_at);
            return;
        }
        if sent_at < self.void_before || length > self.bounds.wanted {
            return;
        }
        self.known = self.known.max(Some(length));
        self.failing = self.failing.filter(|failing| *failing > length);
        if length >= self.bounds.wanted {
            self.is_limited = false;
        }
        let is_shown = length >= self.current();
        if is_shown {
            self.on_shown(now);
        }
        if self.trial.as_ref().is_some_and(|trial| trial.length <= length) {
            if self.trial.as_ref().is_some_and(|trial| trial.is_urgent) {
                self.doubt_pause = (self.doubt_pause * 2).min(DOUBT_PAUSE_MAX);
            }
            self.trial = None;
            // A confirmation leaves alone what is to be next.
            if self.next_at.is_none() {
                self.go_on(now);
            }
        }
    }

    /// A short datagram has been sent that will be answered.
    pub fn on_small_sent(&mut self, now: Instant) {
        self.smalls.on_sent(now);
    }

    /// It has been.
    pub fn on_small_answered(&mut self, sent_at: Instant) {
        self.smalls.on_answered(sent_at);
        if let Some(trial) = &mut self.trial {
            trial.on_small_answered(sent_at);
        }
    }

    /// A datagram of `length` has been sent, beside soundings.
    #[inline]
    pub fn on_sent(&mut self, length: u16) {
        self.longest_sent = self.longest_sent.max(length);
    }

    /// A datagram of `length` has come through, beside soundings.
    pub fn on_carried(&mut self, now: Instant, length: u16) {
        if self.longest_sent > 0 && length >= self.longest_sent {
            self.on_shown(now);
        }
    }

    fn on_shown(&mut self, now: Instant) {
        (self.longest_sent, self.unshown_since) = (0, None);
        self.doubted_at = self.doubted_at.filter(|at| now < *at + DOUBTS_FORGOTTEN_AFTER);
        if self.doubted_at.is_none() {
            self.doubt_pause = DOUBT_PAUSE_MIN;
        }
    }

    /// Something that was sent has been lost, and may have been for its length.
    pub fn on_lost(&mut self, now: Instant) {
        let is_in_use = self.longest_sent > self.bounds.base();
        let has_just_been_looked_into = self.doubted_at.is_some_and(|at| now < at + self.doubt_pause);
        let is_tried = self.trial.as_ref().is_some_and(|trial| trial.is_urgent || trial.length > self.current());
        if is_in_use && !is_tried && !has_just_been_looked_into {
            self.doubt(now);
        }
    }

    fn doubt(&mut self, now: Instant) {
        self.doubted_at = Some(now);
        let current = self.current();
        match &mut self.trial {
            Some(trial) if trial.length == current => trial.is_urgent = true,
            trial => {
                // What was being tried goes on after that.
                if trial.is_some() {
                    self.next_at = Some(now);
                }
                *trial = Some(Trial::new(current, true));
            }
        }
    }

    /// When `sent` datagrams of frames had been sent, the peer had `received` these, each of which had `overhead` bytes beside.
    pub fn on_counted(&mut self, now: Instant, sent: u64, received: Traffic, overhead: u16) {
        let Some((sent_before, before)) = self.counted.replace((sent, received)) else { return };
        let came = received.packets.saturating_sub(before.packets);
        let average = received.bytes.saturating_sub(before.bytes).checked_div(came);
        // If on average they are as long as the longest, those that long come through.
        if let Some(length) = average.and_then(|average| u16::try_from(average).ok()).filter(|_| came > 0) {
            self.on_carried(now, length.saturating_add(overhead));
        }
        if sent.saturating_sub(sent_before) > came {
            self.on_lost(now);
        }
    }

    /// The kernel has refused to send a datagram of this length. That may be an interface's word or, by ICMP, anybody's: it is
    /// looked into at once. Returns whether it was a sounding.
    pub fn on_refused(&mut self, now: Instant, length: u16) -> bool {
        let is_sounding = self.trial.as_mut().is_some_and(|trial| trial.on_refused(length));
        let is_tried = self.trial.as_ref().is_some_and(|trial| trial.length <= length);
        if !is_sounding && !is_tried && self.doubted_at.is_none_or(|at| now >= at + DOUBT_PAUSE_MIN) {
            self.doubt(now);
        }
        is_sounding
    }
}
