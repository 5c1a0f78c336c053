//! What the sender is told of its frames, and when.
//!
//! A report is made a while after the first frame that has not been told of, sooner if many have come or a gap has
//! opened, and a few times after the last frame, so that the sender learns from the reports that nothing comes any more.

use std::time::Duration;

use super::Receiver;
use crate::proto::seq;
use crate::proto::stats::Traffic;
use crate::proto::time::Instant;
use crate::proto::uplink::{UPLINKS_MAX, UplinkId};
use crate::proto::wire::feedback::{Arrivals, Feedback, SEEN_MAX};

/// The longest that a frame goes without being told of.
const INTERVAL: Duration = Duration::from_millis(10);
/// A gap is told of so long after the last report, or at once.
const INTERVAL_GAP: Duration = Duration::from_millis(4);
/// So many frames are told of at once, but not more often than this.
const FRAMES_MAX: u32 = 128;
const INTERVAL_MIN: Duration = Duration::from_micros(500);
/// So many reports tell of nothing new when nothing comes any more: as many as frames came last, up to this.
const NEWSLESS_MAX: u32 = 10;
/// What came by an uplink is told for so long.
const TOLD_FOR: Duration = Duration::from_millis(250);
/// One report in so many goes by the second best uplink, too, in case that the best does not carry it.
const SECOND_EVERY: u32 = 4;

/// When to report.
#[derive(Clone, Copy, Debug)]
pub struct FeedbackClock {
    is_wanted: bool,
    due: Option<Instant>,
    last: Instant,
    /// How many reports without news are left.
    newsless: u32,
    untold: u32,
    reports: u32,
}

impl FeedbackClock {
    /// Nobody has asked for reports.
    #[must_use]
    pub const fn new(now: Instant) -> Self {
        Self { is_wanted: false, due: None, last: now, newsless: 0, untold: 0, reports: 0 }
    }

    /// Whether the sender wants reports.
    pub fn set_wanted(&mut self, is_wanted: bool) {
        self.is_wanted = is_wanted;
        if !is_wanted {
            self.due = None;
        }
    }

    /// A frame has come; `opens_gap` if it left others out.
    #[inline]
    pub fn on_frame(&mut self, now: Instant, opens_gap: bool) {
        if !self.is_wanted {
            return;
        }
        self.newsless = (self.newsless + 1).min(NEWSLESS_MAX);
        self.untold += 1;
        let interval = if self.untold >= FRAMES_MAX {
            INTERVAL_MIN
        } else if opens_gap {
            INTERVAL_GAP
        } else {
            INTERVAL
        };
        let due = (self.last + interval).max(now);
        self.due = Some(self.due.map_or(due, |before| before.min(due)));
    }

    /// Whether the sender wants reports.
    #[must_use]
    pub const fn is_wanted(&self) -> bool {
        self.is_wanted
    }

    /// When a report is due.
    #[must_use]
    pub const fn due(&self) -> Option<Instant> {
        self.due
    }

    /// A report is made; `has_gap` if frames are missing. Returns whether it should go by a second uplink, too.
    pub fn on_report(&mut self, now: Instant, has_gap: bool) -> bool {
        let has_news = self.untold > 0;
        self.last = now;
        self.untold = 0;
        self.reports = self.reports.wrapping_add(1);
        if !has_news {
            self.newsless = self.newsless.saturating_sub(1);
        }
        self.due = (self.newsless > 0).then(|| now + INTERVAL);
        !has_news || has_gap || self.reports.is_multiple_of(SECOND_EVERY)
    }
}

/// The newest of what came by an uplink.
#[derive(Clone, Copy, Debug)]
pub(super) struct Newest {
    pub highest: u64,
    pub at: Instant,
    /// Bytes that had come by then.
    pub bytes: u64,
}

/// Of each uplink.
pub(super) type NewestByUplink = [Option<Newest>; UPLINKS_MAX];

impl<T> Receiver<T> {
    /// What has come, and whether frames are missing.
    pub fn feedback(&mut self, now: Instant) -> (Feedback, bool) {
        let hold = self.hold().unwrap_or_default();
        let next = if self.window.is_some() { self.reorder.next() } else { self.end.saturating_sub(SEEN_UNORDERED) };
        let hold_micros = u32::try_from(hold.as_micros()).unwrap_or(u32::MAX);
        let mut feedback = Feedback::new(hold_micros, seq::truncate(next));
        for uplink in UplinkId::all() {
            let fastest = self.bursts[uplink.index()].take_fastest();
            let newest = self.newest[uplink.index()].filter(|newest| now.since(newest.at) < TOLD_FOR);
            if newest.is_none() && fastest == 0 {
                continue;
            }
            let burst_kilobytes = u32::try_from(fastest / 1000).unwrap_or(u32::MAX);
            let arrivals = newest.map_or(Arrivals { burst_kilobytes, ..Arrivals::NONE }, |newest| Arrivals {
                highest: seq::truncate(newest.highest),
                age_micros: u32::try_from(now.since(newest.at).as_micros()).unwrap_or(Arrivals::NONE.age_micros - 1),
                bytes: seq::truncate(newest.bytes),
                burst_kilobytes,
            });
            feedback.set_arrivals(uplink, arrivals);
        }
        let mut has_gap = false;
        for sequence in next..self.end.min(next + SEEN_MAX) {
            if self.dedup.has_seen(sequence) {
                feedback.set_seen(sequence - next);
            } else {
                has_gap = true;
            }
        }
        (feedback, has_gap)
    }

    /// For how long no later frame has come; `None` if none ever has.
    #[must_use]
    pub fn silent_for(&self, now: Instant) -> Option<Duration> {
        self.newest.iter().flatten().map(|newest| now.since(newest.at)).min()
    }

    /// A frame has come by `uplink`, `received` being all that has.
    #[inline]
    pub fn note_arrival(&mut self, now: Instant, uplink: UplinkId, received: Traffic) {
        self.bursts[uplink.index()].on_frame(now, received.bytes);
        let newest = &mut self.newest[uplink.index()];
        if let Some(sequence) = self.taken.take()
            && newest.is_none_or(|newest| sequence > newest.highest)
        {
            *newest = Some(Newest { highest: sequence, at: now, bytes: received.bytes });
        }
    }
}

/// Without a window, so many of the newest numbers are told of.
const SEEN_UNORDERED: u64 = 512;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> Instant {
        Instant::from_nanos(milliseconds * 1_000_000)
    }

    #[test]
    fn reports_come_while_frames_do_and_some_after_that() {
        let mut clock = FeedbackClock::new(at(0));
        clock.on_frame(at(1), false);
        assert_eq!(clock.due(), None, "nobody has asked");
        clock.set_wanted(true);
        clock.on_frame(at(100), false);
        let mut reports = 0;
        while let Some(due) = clock.due() {
            clock.on_report(due, false);
            reports += 1;
        }
        assert_eq!(reports, 2, "one that tells of it, and one that tells of no more");
        (0..100).for_each(|_| clock.on_frame(at(1000), false));
        reports = 0;
        while let Some(due) = clock.due() {
            clock.on_report(due, false);
            reports += 1;
        }
        assert_eq!(reports, 11);
    }

    #[test]
    fn a_gap_is_told_of_soon_and_not_without_end() {
        let mut clock = FeedbackClock::new(at(0));
        clock.set_wanted(true);
        clock.on_frame(at(100), true);
        assert_eq!(clock.due(), Some(at(100)));
        assert!(clock.on_report(at(100), true), "it matters enough to go twice");
        clock.on_frame(at(101), true);
        assert_eq!(clock.due(), Some(at(104)));
    }
}
