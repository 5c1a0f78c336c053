//! The receiving half: each frame once ([`dedup`]), in order ([`reorder`]), and no later than it must be ([`passage`]).

pub mod burst;
pub mod dedup;
pub mod feedback;
mod once;
pub mod passage;
pub mod reorder;
pub mod repair;

use std::time::Duration;

use burst::BurstMeter;
use dedup::{Dedup, Seen};
use feedback::NewestByUplink;
use once::Once;
use passage::Passage;
use reorder::{Insertion, REORDER_CAPACITY, Reorder};
use repair::Repair;

use super::histogram::TimeHistogram;
use super::seq;
use super::stats::DropReason;
use super::time::Instant;
use super::uplink::{UPLINKS_MAX, UplinkId, UplinkSet};
use super::wire::parity::{GROUP_MAX, ParityHead};

/// A frame numbered further ahead than this of what the peer has announced is none of the peer's: it is more than
/// any sender can send between two probes.
const FAR_AHEAD: u64 = 1 << 20;

/// A window longer than this is a bound on the time from end to end, as far as it exceeds it.
const WINDOW_LONG: Duration = Duration::from_millis(100);

/// A frame may still be made up until every uplink has shown a number that is higher by so much, or has been past it for so
/// long, or a part of the window if that is less: by then its group has been closed, and its parities, which leave at once,
/// have come.
const REPAIRED_WITHIN: u64 = GROUP_MAX as u64 + 32;
const REPAIRED_AFTER: Duration = Duration::from_millis(90);
const REPAIRED_AFTER_PART: u32 = 2;

const _: () = assert!(dedup::DEDUP_WINDOW >= REORDER_CAPACITY as u64, "what is held must be remembered as seen");

/// What the receiving half has counted since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReceiveCounters {
    /// Frames that came after a frame with a higher number.
    pub reordered: u64,
    /// Frames that have not come, and were passed.
    pub lost: u64,
    /// Frames that were made up from parities.
    pub restored: u64,
}

/// A fault made on purpose, for the simulator's oracle to find: an alarm that never rings proves nothing.
#[cfg(test)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// What has come before is delivered again.
    DeliverDuplicates,
    /// Frames come out as they come in.
    IgnoreOrder,
    /// Frames are held until the missing one comes, whenever that is.
    HoldForever,
    /// A gap is given up as soon as it is there.
    GiveUpAtOnce,
    /// Every hundredth frame disappears, and nobody counts it.
    LoseSilently,
}

/// Restores the order of one direction.
#[derive(Debug)]
pub struct Receiver<T> {
    /// What is to go wrong.
    #[cfg(test)]
    pub sabotage: Option<Sabotage>,
    window: Option<Duration>,
    /// How long frames are held while the sender sends again what is lost. Then no uplink's having passed a number means
    /// that it will not come.
    recovery_hold: Option<Duration>,
    /// Whether the sender sends parities.
    protects: bool,
    /// What is made of these: nothing before the first are announced.
    repair: Option<Box<Repair>>,
    parities: Once,
    restored: u64,
    /// Whether nobody but the sender can have made a number up.
    is_authentic: bool,
    /// Whether the first number of the sender is known.
    begun: bool,
    dedup: Dedup,
    reorder: Reorder<T>,
    passages: [Option<Passage>; UPLINKS_MAX],
    newest: NewestByUplink,
    bursts: [BurstMeter; UPLINKS_MAX],
    /// The number of the frame that has just been taken.
    taken: Option<u64>,
    /// Frames with lower numbers were sent when there was no order to keep: they are not waited for, and wait for none.
    ordered_from: u64,
    live: UplinkSet,
    announced: Option<u64>,
    /// One past the highest number seen.
    end: u64,
    reordered: u64,
    late: u64,
    /// Without a window: numbers that have been passed without a frame and not been seen since.
    missing_unordered: u64,
    /// Of these, those from before order was not kept any more.
    missing_before: u64,
    /// What was lost while no order was kept, before it was.
    lost_unordered: u64,
}

impl<T> Receiver<T> {
    /// A receiver that holds frames for `window` at most, or not at all.
    #[must_use]
    pub fn new(window: Option<Duration>) -> Self {
        Self {
            #[cfg(test)]
            sabotage: None,
            window,
            recovery_hold: None,
            protects: false,
            repair: None,
            parities: Once::default(),
            restored: 0,
            is_authentic: false,
            begun: false,
            dedup: Dedup::new(0),
            reorder: Reorder::new(0),
            passages: [const { None }; UPLINKS_MAX],
            newest: [None; UPLINKS_MAX],
            bursts: [BurstMeter::default(); UPLINKS_MAX],
            taken: None,
            ordered_from: 0,
            live: UplinkSet::EMPTY,
            announced: None,
            end: 0,
            reordered: 0,
            late: 0,
            missing_unordered: 0,
            missing_before: 0,
            lost_unordered: 0,
        }
    }

    /// All numbers are the sender's own from now on, since nobody else could have sealed them. Then one that contradicts
    /// another has been held back on the way, and to begin anew with it would let what came meanwhile come again.
    pub const fn expect_authentic(&mut self) {
        self.is_authentic = true;
    }

    /// Releases what is held and awaits a sender that has started again.
    pub fn restart(&mut self, now: Instant) {
        self.reorder.restart(now, 0);
        self.begun = false;
        self.ordered_from = 0;
        self.announced = None;
        self.passages = [const { None }; UPLINKS_MAX];
        self.newest = [None; UPLINKS_MAX];
        (self.recovery_hold, self.protects) = (None, false);
        if let Some(repair) = &mut self.repair {
            repair.forget();
        }
        self.parities = Once::default();
    }

    /// Frames are held for so long from now on, or not at all.
    pub fn set_window(&mut self, now: Instant, window: Option<Duration>) {
        if self.window.is_some() == window.is_some() {
            self.window = window;
            return;
        }
        if window.is_some() {
            self.lost_unordered += self.missing_unordered.saturating_sub(self.missing_before);
        } else {
            // Of what is missing now some may still come.
            let under_way = (self.end - self.reorder.next()).saturating_sub(self.reorder.held() as u64);
            self.missing_before = self.missing_unordered.saturating_sub(under_way);
        }
        self.reorder.restart(now, self.end);
        // What is under way came out of order until now, and was not held; nothing of it is to be lost by that.
        self.ordered_from = self.end;
        self.window = window;
        self.recovery_hold = None;
    }

    /// How long frames are held at most; `None` if they are not.
    #[must_use]
    pub const fn window(&self) -> Option<Duration> {
        self.window
    }

    /// Whether the sender sends again what is lost, so that it must be waited for: for the window; of a long one, less the
    /// shortest `way` from the sender or a part of it, so that the window bounds the whole of it. Or whether it sends parities.
    pub fn set_recovers(&mut self, recovers: bool, protects: bool, way: Duration) {
        self.recovery_hold =
            self.window.filter(|_| recovers).map(|window| window - way.min(window.saturating_sub(WINDOW_LONG) / 4));
        self.protects = protects;
        if protects && self.repair.is_none() {
            self.repair = Some(Box::default());
        }
    }

    /// A frame is about to be handed in: copies it, if that may help to make up others.
    #[inline]
    pub fn remember(&mut self, uplink: UplinkId, sequence: u32, bytes: &[u8]) {
        if !self.protects || !self.begun {
            return;
        }
        let sequence = seq::extend(sequence, self.end);
        let is_news = !self.is_far_ahead(sequence) && !self.dedup.has_seen(sequence);
        if let Some(repair) = self.repair.as_mut().filter(|_| is_news) {
            repair.on_frame(uplink, sequence, bytes);
        }
    }

    /// A parity has come, as control message number `counter`.
    ///
    /// # Errors
    /// [`DropReason::ControlReplayed`] if it has come before, or long after others.
    pub fn on_parity(
        &mut self,
        uplink: UplinkId,
        counter: u32,
        head: ParityHead,
        parity: &[u8],
    ) -> Result<(), DropReason> {
        if !self.parities.admit(counter) {
            return Err(DropReason::ControlReplayed);
        }
        if let Some(repair) = self.repair.as_mut().filter(|_| self.protects && self.begun) {
            repair.on_parity(uplink, self.end, head, parity);
        }
        Ok(())
    }

    /// The next frame that has been made up: by which uplink the last part of it came, its number, its bytes. To be handed in
    /// by [`Self::on_restored`].
    #[inline]
    pub fn poll_restored(&mut self) -> Option<(UplinkId, u64, &[u8])> {
        self.repair.as_mut()?.poll()
    }

    /// A frame that has been made up.
    ///
    /// # Errors
    /// Why the frame was dropped: the original may have come meanwhile.
    pub fn on_restored(&mut self, now: Instant, uplink: UplinkId, sequence: u64, frame: T) -> Result<(), DropReason> {
        if self.is_far_ahead(sequence) {
            return Err(DropReason::FarAhead);
        }
        if self.dedup.check(sequence, uplink) != Seen::Fresh {
            return Err(DropReason::Duplicate);
        }
        self.note_order(sequence);
        self.insert(now, sequence, frame)?;
        self.restored += 1;
        self.settle(now);
        Ok(())
    }

    /// The highest number that has come, and one.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.end
    }

    /// The uplinks that can still bring frames. What only others could bring is given up.
    pub fn set_live(&mut self, now: Instant, live: UplinkSet) {
        self.live = live;
        self.settle(now);
    }

    /// The sender has said, by this uplink, which number its next frame will have.
    ///
    /// Returns whether that contradicted what the uplink had shown before, so that the receiver began anew.
    pub fn on_announcement(&mut self, now: Instant, uplink: UplinkId, next_sequence: u32) -> bool {
        if !self.begun {
            self.begin(seq::begin(next_sequence));
        }
        let next = seq::extend(next_sequence, self.end);
        let announced = self.announced.map_or(next, |announced| announced.max(next));
        let passage = self.passages[uplink.index()].as_mut();
        let contradicted = !self.is_authentic && passage.is_some_and(|passage| passage.contradicts(now, announced));
        if contradicted {
            self.restart(now);
            self.begin(seq::begin(next_sequence));
        }
        let next = seq::extend(next_sequence, self.end);
        self.announced = self.announced.max(Some(next));
        self.show(now, uplink, next);
        self.settle(now);
        contradicted
    }

    /// A frame has come. What can be delivered now is there for [`Self::pop`].
    ///
    /// # Errors
    /// Why the frame was dropped.
    #[inline]
    pub fn on_frame(&mut self, now: Instant, uplink: UplinkId, sequence: u32, frame: T) -> Result<(), DropReason> {
        if !self.begun {
            self.begin(seq::begin(sequence));
        }
        let sequence = seq::extend(sequence, self.end);
        if self.is_far_ahead(sequence) {
            return Err(DropReason::FarAhead);
        }
        #[cfg(test)]
        if self.sabotage == Some(Sabotage::LoseSilently) && sequence.is_multiple_of(100) {
            return Ok(());
        }
        let taken = match self.dedup.check(sequence, uplink) {
            #[cfg(test)]
            Seen::Copy | Seen::Repeated if self.sabotage == Some(Sabotage::DeliverDuplicates) => {
                self.reorder.bypass(now, frame);
                Ok(())
            }
            Seen::Fresh => self.take(now, uplink, sequence, frame),
            Seen::Copy => Err(DropReason::Duplicate),
            Seen::Repeated if self.repair.as_mut().is_some_and(|repair| repair.take_made_up(sequence)) => {
                Err(DropReason::Duplicate)
            }
            Seen::Repeated | Seen::TooOld => Err(DropReason::FrameReplayed),
        };
        // A copy says nothing of the uplink that it seems to come by: whoever has seen a frame, on any uplink, can send it
        // again as if by another, on which earlier ones may still be under way.
        if !matches!(taken, Err(DropReason::Duplicate | DropReason::FrameReplayed)) {
            self.show(now, uplink, sequence + 1);
        }
        self.settle(now);
        if matches!(taken, Ok(()) | Err(DropReason::Late)) {
            self.taken = Some(sequence);
        }
        taken
    }

    fn is_far_ahead(&self, sequence: u64) -> bool {
        self.announced.is_some_and(|announced| sequence > announced + FAR_AHEAD)
    }

    fn take(&mut self, now: Instant, uplink: UplinkId, sequence: u64, frame: T) -> Result<(), DropReason> {
        self.note_order(sequence);
        if let Some(passage) = &mut self.passages[uplink.index()]
            && passage.end() > sequence
        {
            passage.learn_late(now, sequence);
        }
        #[cfg(test)]
        if self.sabotage == Some(Sabotage::IgnoreOrder) {
            self.reorder.bypass(now, frame);
            return Ok(());
        }
        self.insert(now, sequence, frame)
    }

    #[inline]
    fn insert(&mut self, now: Instant, sequence: u64, frame: T) -> Result<(), DropReason> {
        if self.window.is_none() || sequence < self.ordered_from {
            if self.window.is_some() {
                self.lost_unordered = self.lost_unordered.saturating_sub(1);
            }
            self.reorder.bypass(now, frame);
            return Ok(());
        }
        match self.reorder.insert(now, sequence, frame) {
            Insertion::Released | Insertion::Held => Ok(()),
            Insertion::Late => {
                self.late += 1;
                Err(DropReason::Late)
            }
        }
    }

    fn note_order(&mut self, sequence: u64) {
        if sequence < self.end {
            self.reordered += 1;
            self.missing_unordered = self.missing_unordered.saturating_sub(1);
        } else {
            self.missing_unordered += sequence - self.end;
            self.end = sequence + 1;
        }
    }

    /// Time has passed.
    pub fn on_timeout(&mut self, now: Instant) {
        #[cfg(test)]
        if self.sabotage == Some(Sabotage::HoldForever) {
            return;
        }
        if let Some(hold) = self.hold() {
            self.reorder.expire(now, hold);
        }
        self.settle(now);
    }

    /// When [`Self::on_timeout`] will have something to do.
    pub fn next_timeout(&mut self, now: Instant) -> Option<Instant> {
        #[cfg(test)]
        if self.sabotage == Some(Sabotage::HoldForever) {
            return None;
        }
        let expiry = self.reorder.expires_at(self.hold()?)?;
        if self.recovery_hold.is_some() {
            return Some(expiry);
        }
        Some(self.gap_closes_at(now).map_or(expiry, |passed| passed.min(expiry)))
    }

    /// The next frame to deliver, and when it came.
    #[inline]
    pub fn pop(&mut self) -> Option<(T, Instant)> {
        self.reorder.pop()
    }

    /// How many frames are held.
    #[must_use]
    pub const fn held(&self) -> usize {
        self.reorder.held()
    }

    /// What has been counted.
    #[must_use]
    pub fn counters(&self) -> ReceiveCounters {
        let lost_in_order = self.reorder.given_up().saturating_sub(self.late) + self.lost_unordered;
        let missing =
            if self.window.is_some() { 0 } else { self.missing_unordered.saturating_sub(self.missing_before) };
        let lost = lost_in_order + missing;
        ReceiveCounters { reordered: self.reordered, lost, restored: self.restored }
    }

    /// How long frames have been held.
    #[must_use]
    pub const fn holds(&self) -> &TimeHistogram {
        self.reorder.holds()
    }

    /// How long a frame is held at most.
    fn hold(&self) -> Option<Duration> {
        self.recovery_hold.or(self.window)
    }

    fn begin(&mut self, first: u64) {
        self.begun = true;
        self.dedup.reset(first);
        self.reorder.restart(Instant::ZERO, first);
        self.end = first;
    }

    #[inline]
    fn show(&mut self, now: Instant, uplink: UplinkId, end: u64) {
        match &mut self.passages[uplink.index()] {
            Some(passage) => passage.show(now, end),
            none => *none = Some(Passage::new(now, end)),
        }
    }

    /// Gives up what no live uplink can bring any more, if frames wait for it. While none does, an uplink that has
    /// been silent may as well come back with what stood in its queue.
    #[inline]
    fn settle(&mut self, now: Instant) {
        #[cfg(test)]
        match self.sabotage {
            Some(Sabotage::HoldForever) => return,
            Some(Sabotage::GiveUpAtOnce) => self.reorder.give_up_below(now, self.end),
            _ => {}
        }
        let waits = self.window.is_some() && self.recovery_hold.is_none() && self.reorder.held() > 0;
        if !waits || self.live.is_empty() {
            return;
        }
        // Beyond the highest number seen nothing waits either.
        let floor = if self.protects {
            let by_number = self.floor(now, Duration::ZERO).saturating_sub(REPAIRED_WITHIN);
            by_number.max(self.floor(now, self.repair_patience()))
        } else {
            self.floor(now, Duration::ZERO)
        };
        if floor > self.reorder.next() {
            self.reorder.give_up_below(now, floor);
        }
    }

    /// What no live uplink has brought for `patience`, and no one will.
    fn floor(&self, now: Instant, patience: Duration) -> u64 {
        let floor =
            |uplink: UplinkId| self.passages[uplink.index()].as_ref().map_or(0, |passage| passage.floor(now, patience));
        self.live.iter().map(floor).min().unwrap_or(0).min(self.end)
    }

    /// How much longer than otherwise a frame is waited for that may be made up.
    fn repair_patience(&self) -> Duration {
        let part = self.window.unwrap_or_default() / REPAIRED_AFTER_PART;
        if self.protects { REPAIRED_AFTER.min(part) } else { Duration::ZERO }
    }

    /// When the gap before the first frame held will be known to be lost, if every live uplink has passed it but
    /// some are still allowed to be late.
    fn gap_closes_at(&self, now: Instant) -> Option<Instant> {
        let (missing, patience) = (self.reorder.next(), self.repair_patience());
        let mut closes_at = None;
        for uplink in self.live.iter() {
            let passage = self.passages[uplink.index()].as_ref()?;
            if passage.floor(now, patience) <= missing {
                closes_at = closes_at.max(Some(passage.passes_at(now, patience, missing)?));
            }
        }
        closes_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_millis(40);

    fn at(milliseconds: u64) -> Instant {
        Instant::from_nanos(milliseconds * 1_000_000)
    }

    fn uplink(number: u8) -> UplinkId {
        UplinkId::new(number).expect("within range")
    }

    fn receiver() -> Receiver<u32> {
        let mut receiver = Receiver::new(Some(WINDOW));
        receiver.set_live(at(0), [uplink(0), uplink(1)].into_iter().collect());
        receiver.on_announcement(at(0), uplink(0), 100);
        receiver.on_announcement(at(0), uplink(1), 100);
        receiver
    }

    fn feed(receiver: &mut Receiver<u32>, milliseconds: u64, by: u8, sequence: u32) -> Vec<u32> {
        let _ = receiver.on_frame(at(milliseconds), uplink(by), sequence, sequence);
        std::iter::from_fn(|| receiver.pop()).map(|(frame, _)| frame).collect()
    }

    #[test]
    fn a_gap_that_every_live_uplink_has_passed_is_given_up_at_once() {
        let mut receiver = receiver();
        assert_eq!(feed(&mut receiver, 1, 0, 101), [0_u32; 0]);
        assert_eq!(feed(&mut receiver, 2, 1, 102), [101, 102], "100 can come by neither uplink any more");
        assert_eq!(receiver.counters().lost, 1);
    }

    #[test]
    fn a_gap_is_held_while_an_uplink_may_still_bring_it() {
        let mut receiver = receiver();
        assert_eq!(feed(&mut receiver, 1, 0, 101), [0_u32; 0]);
        assert_eq!(feed(&mut receiver, 2, 0, 103), [0_u32; 0]);
        assert_eq!(feed(&mut receiver, 26, 1, 100), [100, 101]);
        assert_eq!(feed(&mut receiver, 27, 1, 102), [102, 103]);
        let longest = receiver.holds().max().as_secs_f64() * 1e3;
        assert!((24.7..25.3).contains(&longest), "{longest}");
    }

    #[test]
    fn an_announcement_frees_what_an_idle_uplink_holds_back() {
        let mut receiver = receiver();
        assert_eq!(feed(&mut receiver, 1, 0, 101), [0_u32; 0]);
        receiver.on_announcement(at(5), uplink(1), 102);
        assert_eq!(receiver.pop().map(|(frame, _)| frame), Some(101));
    }

    #[test]
    fn a_gap_that_nothing_waits_for_is_not_given_up() {
        let mut receiver = receiver();
        receiver.set_live(at(70), UplinkSet::only(uplink(1)));
        receiver.on_announcement(at(80), uplink(1), 102);
        assert_eq!(feed(&mut receiver, 90, 0, 100), [100], "an uplink that had been silent comes back with its queue");
        assert_eq!(feed(&mut receiver, 91, 1, 102), [102], "but no later frame waits for it");
        assert_eq!(feed(&mut receiver, 92, 0, 101), [0_u32; 0]);
        assert_eq!(receiver.counters().lost, 0, "it came, if late");
    }

    #[test]
    fn a_dead_uplink_holds_back_until_the_window_or_until_it_is_known_to_be_dead() {
        let mut receiver = receiver();
        assert_eq!(feed(&mut receiver, 1, 0, 101), [0_u32; 0]);
        assert_eq!(receiver.next_timeout(at(1)), Some(at(41)));
        receiver.on_timeout(at(41));
        assert_eq!(receiver.pop().map(|(frame, _)| frame), Some(101));
        assert_eq!(feed(&mut receiver, 42, 0, 103), [0_u32; 0]);
        receiver.set_live(at(60), UplinkSet::only(uplink(0)));
        assert_eq!(receiver.pop().map(|(frame, _)| frame), Some(103));
    }

    #[test]
    fn an_uplink_that_reorders_is_waited_for_once_that_is_known() {
        let mut receiver = receiver();
        receiver.set_live(at(0), UplinkSet::only(uplink(0)));
        assert_eq!(feed(&mut receiver, 1, 0, 101), [101], "nothing known yet: 100 is given up");
        assert_eq!(feed(&mut receiver, 5, 0, 100), [0_u32; 0], "and comes late");
        assert_eq!(feed(&mut receiver, 6, 0, 103), [0_u32; 0], "so now it waits");
        assert_eq!(feed(&mut receiver, 8, 0, 102), [102, 103]);
        assert_eq!(feed(&mut receiver, 10, 0, 105), [0_u32; 0]);
        assert_eq!(receiver.next_timeout(at(10)), Some(at(15)));
        receiver.on_timeout(at(15));
        assert_eq!(receiver.pop().map(|(frame, _)| frame), Some(105));
    }

    #[test]
    fn numbers_survive_the_wrap() {
        let mut receiver = Receiver::new(Some(WINDOW));
        receiver.set_live(at(0), UplinkSet::only(uplink(0)));
        receiver.on_announcement(at(0), uplink(0), u32::MAX - 1);
        let mut out = vec![];
        for step in 0..4_u32 {
            out.extend(feed(&mut receiver, 1, 0, (u32::MAX - 1).wrapping_add(step)));
        }
        assert_eq!(out, [u32::MAX - 1, u32::MAX, 0, 1]);
        assert_eq!(receiver.counters().lost, 0);
    }

    #[test]
    fn a_forged_jump_is_refused_or_mended_by_announcements() {
        for forged in [120, 500_000] {
            let mut receiver = receiver();
            assert_eq!(receiver.on_frame(at(1), uplink(0), 100 + (1 << 21), 0), Err(DropReason::FarAhead));
            feed(&mut receiver, 1, 0, forged);
            receiver.on_timeout(at(1 + 40));
            assert_eq!(receiver.pop().map(|(frame, _)| frame), Some(forged));
            let mended = (3..10).find(|probe| receiver.on_announcement(at(probe * 20), uplink(0), 110));
            assert_eq!(mended, Some(7), "the second probe that says so a tenth of a second later");
            assert_eq!(feed(&mut receiver, 141, 0, 110), [110]);
        }
    }

    #[test]
    fn an_announcement_that_was_overtaken_contradicts_nothing() {
        let mut receiver = receiver();
        receiver.set_live(at(0), UplinkSet::only(uplink(0)));
        for number in 100..200 {
            assert_eq!(feed(&mut receiver, u64::from(number), 0, number), [number]);
        }
        assert!(!receiver.on_announcement(at(200), uplink(0), 150), "overtaken by 50 ms");
        assert!(!receiver.on_announcement(at(350), uplink(0), 110), "and by much more, but once");
        assert!(!receiver.on_announcement(at(351), uplink(0), 200));
        assert!(!receiver.on_announcement(at(352), uplink(0), 110), "once again, but not twice in a row");
    }

    #[test]
    fn without_a_window_frames_pass_in_order_of_arrival_and_once() {
        let mut receiver = Receiver::new(None);
        receiver.set_live(at(0), UplinkSet::only(uplink(0)));
        assert_eq!(feed(&mut receiver, 0, 0, 7), [7]);
        assert_eq!(feed(&mut receiver, 1, 0, 9), [9]);
        assert_eq!(receiver.counters().lost, 1);
        assert_eq!(feed(&mut receiver, 2, 1, 8), [8]);
        assert_eq!(feed(&mut receiver, 3, 1, 8), [0_u32; 0]);
        assert_eq!(receiver.counters(), ReceiveCounters { reordered: 1, lost: 0, restored: 0 });
    }
}
