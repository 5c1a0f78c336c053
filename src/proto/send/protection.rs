//! Parities for what cannot be sent again in time: forward error correction across the uplinks.
//!
//! Frames sent one after the other make a group, which is closed when it is full or has taken long enough. Its parities
//! leave at once, by the uplinks that have carried least of it: as many as the loss that is measured calls for, as long as
//! that holds up no frame, and fewer if frames wait.

use std::time::Duration;

use reed_solomon_simd::ReedSolomonEncoder;

use super::{Dispatch, Sender};
use crate::proto::seq;
use crate::proto::time::Instant;
use crate::proto::uplink::measure::PartsPerMillion;
use crate::proto::uplink::{UPLINKS_MAX, UplinkId};
use crate::proto::wire::control::ParityBytes;
use crate::proto::wire::parity::{
    ADDRESSES_LENGTH, FrameCopy, GROUP_MAX, GROUP_MIN, PARITIES_MAX, PARITY_HEAD_LENGTH, PROTECTED_MAX, ParityHead,
    SHARE_MAX, share_length, write_share,
};
use crate::proto::wire::{CONTROL_CHECKSUM_LENGTH, FRAME_HEADER_LENGTH, KEYED_HEADER_LENGTH};

/// A group takes no longer than this, or a quarter of the time that frames have, if that is less: what is made up comes later
/// by so much.
const SPAN: Duration = Duration::from_millis(40);
/// The same, and a third, as long as hardly anything is lost: the more frames share a parity, the less it costs.
const SPAN_CALM: Duration = Duration::from_millis(80);
/// No more frames make a group, unless hardly anything is lost.
const GROUP_USUAL: usize = 32;
const _: () = assert!(GROUP_USUAL <= GROUP_MAX);
/// If frames are held for less than this, a group would be too short to be worth a parity.
const HOLD_MIN: Duration = Duration::from_millis(50);
/// The share of groups that may lose more than their parities make up.
const UNREPAIRED_MAX: f64 = 1e-5;
/// The same as long as hardly anything is lost: so much that one parity is enough for a group, and two frames need none.
const UNREPAIRED_CALM_MAX: f64 = 2.5e-3;
/// Loss that is taken for granted, since what was not yet measured may come.
const LOSS_MIN: f64 = 1e-3;
/// There is at most one parity for so many frames; and if frames wait for an uplink, for so many.
const FRAMES_PER_PARITY: usize = 2;
const FRAMES_PER_PARITY_BUSY: usize = 8;
/// After so many groups without parities, since there were too few frames or no room, the peer should not wait for any.
const BARE_MAX: u32 = 4;
/// What was lost counts less by this with each look, ten times a second.
const LOSS_FADES: f64 = 1.0 / 64.0;
/// What an uplink is taken to lose before anything is known of it.
const LOSS_UNKNOWN: f64 = 0.02;
/// An uplink that loses more is good for no parity.
const LOSS_BEARABLE: f64 = 0.25;
/// The most parities that wait to be sent; a caller that drains as it should needs those of one group.
const READY_MAX: usize = 32;
const _: () = assert!(READY_MAX > PARITIES_MAX);

/// A parity to send.
#[derive(Debug)]
pub struct Parity {
    /// By which uplink.
    pub uplink: UplinkId,
    /// Its bytes in the tunnel, as they are counted.
    pub length: usize,
    /// The message.
    pub message: ParityBytes,
}

/// Frames sent one after the other.
#[derive(Clone, Copy, Debug)]
struct Group {
    first: u64,
    frames: usize,
    /// Of the longest.
    share_length: usize,
    addresses: [u8; ADDRESSES_LENGTH],
    opened_at: Instant,
    sent_by: [u8; UPLINKS_MAX],
}

impl Group {
    fn continues(&self, sequence: u64, addresses: [u8; ADDRESSES_LENGTH]) -> bool {
        (self.first + self.frames as u64, self.addresses) == (sequence, addresses)
    }
}

/// What it takes to make parities: nothing is set aside for them before the first is needed.
struct Workshop {
    encoder: ReedSolomonEncoder,
    /// The group's frames in their order, and one that may begin the next.
    frames: Box<[FrameCopy]>,
    ready: Box<[Parity]>,
    /// How many have been made, and taken.
    made: usize,
    taken: usize,
}

/// What is protected.
#[derive(Default)]
pub struct Protection {
    is_on: bool,
    loss: [Option<f64>; UPLINKS_MAX],
    /// How many groups in a row got no parity.
    bare: u32,
    group: Option<Group>,
    workshop: Option<Box<Workshop>>,
}

impl std::fmt::Debug for Protection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Protection").field("is_on", &self.is_on).field("loss", &self.loss).finish_non_exhaustive()
    }
}

impl Protection {
    /// The peer is another one.
    pub fn forget_peer(&mut self) {
        (self.is_on, self.group, self.bare) = (false, None, 0);
        if let Some(workshop) = &mut self.workshop {
            workshop.taken = workshop.made;
        }
    }

    /// So much of what was sent by `uplink` has been lost of late. The most of late is what counts.
    pub fn note_loss(&mut self, uplink: UplinkId, PartsPerMillion(lost): PartsPerMillion) {
        let loss = &mut self.loss[uplink.index()];
        let remembered = loss.unwrap_or_default() * (1.0 - LOSS_FADES);
        *loss = Some(remembered.max(f64::from(lost) / 1e6));
    }

    fn loss_by(&self, uplink: UplinkId) -> f64 {
        self.loss[uplink.index()].unwrap_or(LOSS_UNKNOWN)
    }

    fn switch(&mut self, is_on: bool) {
        self.is_on = is_on;
        if is_on && self.workshop.is_none() {
            self.workshop = Some(Box::new(Workshop::new()));
        }
    }

    /// Whether hardly anything has been lost of late by any uplink that something is known of.
    fn is_calm(&self) -> bool {
        let mut known = self.loss.iter().flatten().peekable();
        known.peek().is_some() && known.all(|loss| *loss < LOSS_MIN)
    }

    /// What a group can be expected to lose.
    fn loss_of(&self, group: &Group) -> f64 {
        let sent_by = || UplinkId::all().map(|uplink| (uplink, f64::from(group.sent_by[uplink.index()])));
        let lost: f64 = sent_by().map(|(uplink, frames)| frames * self.loss_by(uplink)).sum();
        lost / sent_by().map(|(_, frames)| frames).sum::<f64>().max(1.0)
    }

    fn parities_for(&self, group: &Group, is_busy: bool) -> usize {
        let loss = self.loss_of(group);
        let unrepaired_max = if loss < LOSS_MIN { UNREPAIRED_CALM_MAX } else { UNREPAIRED_MAX };
        let frames_per_parity = if is_busy { FRAMES_PER_PARITY_BUSY } else { FRAMES_PER_PARITY };
        let most = (group.frames / frames_per_parity).min(PARITIES_MAX);
        if is_busy && loss < LOSS_MIN {
            return 0;
        }
        let loss = loss.max(LOSS_MIN);
        (0..most).find(|parities| more_lost(group.frames + parities, *parities, loss) < unrepaired_max).unwrap_or(most)
    }
}

/// How likely it is that of `sent` more than `repaired` are lost, when each is with the likelihood `loss`.
fn more_lost(sent: usize, repaired: usize, loss: f64) -> f64 {
    let mut exactly = (0..sent).fold(1.0, |kept, _| kept * (1.0 - loss));
    let mut at_most = exactly;
    for lost in 1..=repaired {
        exactly *= (sent + 1 - lost) as f64 / lost as f64 * loss / (1.0 - loss).max(f64::MIN_POSITIVE);
        at_most += exactly;
    }
    1.0 - at_most
}

impl Workshop {
    fn new() -> Self {
        let encoder = ReedSolomonEncoder::new(GROUP_MAX, PARITIES_MAX, SHARE_MAX).expect("supported");
        let empty = |_| Parity { uplink: UplinkId::FIRST, length: 0, message: ParityBytes::room() };
        Self {
            encoder,
            frames: vec![FrameCopy::EMPTY; GROUP_MAX + 1].into(),
            ready: (0..READY_MAX).map(empty).collect(),
            made: 0,
            taken: 0,
        }
    }

    /// Makes as many parities of `group` as `uplinks` gives one to.
    fn make(&mut self, group: &Group, uplinks: &[UplinkId]) -> Result<(), reed_solomon_simd::Error> {
        self.encoder.reset(group.frames, uplinks.len(), group.share_length)?;
        let mut share = [0; SHARE_MAX];
        let share = &mut share[..group.share_length];
        for frame in &self.frames[..group.frames] {
            assert!(write_share(share, frame.bytes()), "it is as long as the longest");
            self.encoder.add_original_shard(&*share)?;
        }
        let encoded = self.encoder.encode()?;
        for (place, (parity, uplink)) in encoded.recovery_iter().zip(uplinks).enumerate() {
            // The oldest give way: they have waited for too long.
            let ready = &mut self.ready[self.made % READY_MAX];
            let (frames, parities) = (group.frames as u8, uplinks.len() as u8);
            let head = ParityHead { frames, parities, place: place as u8, first: seq::truncate(group.first) };
            ready.message.put(head, parity);
            (ready.uplink, ready.length) = (*uplink, PARITY_HEAD_LENGTH + parity.len());
            self.made += 1;
            self.taken = self.taken.max(self.made.saturating_sub(READY_MAX));
        }
        Ok(())
    }
}

impl<F> Sender<F> {
    /// Whether parities are sent, since what is lost cannot be sent again in time, and a parity can. Holds until this is asked
    /// again, and the peer must be told, if any are made.
    pub fn announce_protection(&mut self) -> bool {
        let is_on = !self.recovers && self.shortest_round_trip().is_some() && self.hold >= HOLD_MIN;
        self.protection.switch(is_on);
        is_on && self.protection.bare < BARE_MAX
    }

    /// So much of what was sent by `uplink` has been lost of late.
    pub fn note_loss(&mut self, uplink: UplinkId, lost: PartsPerMillion) {
        self.protection.note_loss(uplink, lost);
    }

    /// A frame is being sent for the first time; `copy` writes it down. One longer than `longest` goes unprotected, since its
    /// parity would not fit the uplinks.
    pub fn protect(&mut self, now: Instant, dispatch: &Dispatch<F>, longest: usize, copy: impl FnOnce(&F, &mut [u8])) {
        let Protection { is_on, group, workshop, .. } = &mut self.protection;
        let length = dispatch.length as usize;
        let Some(workshop) = workshop.as_mut().filter(|_| *is_on && length <= longest.min(PROTECTED_MAX)) else {
            self.close_group(now);
            return;
        };
        let place = group.map_or(0, |group| group.frames);
        copy(&dispatch.frame, workshop.frames[place].room(length));
        let addresses = workshop.frames[place].addresses();
        if group.is_some_and(|group| !group.continues(dispatch.sequence, addresses)) {
            self.close_group(now);
            self.open_group(now, dispatch, place);
        } else if group.is_none() {
            self.open_group(now, dispatch, place);
        }
        let most = if self.protection.is_calm() { GROUP_MAX } else { GROUP_USUAL };
        let Some(group) = &mut self.protection.group else { return };
        group.frames += 1;
        group.share_length = group.share_length.max(share_length(length));
        dispatch.uplinks.iter().for_each(|uplink| group.sent_by[uplink.index()] += 1);
        if group.frames >= most {
            self.close_group(now);
        }
    }

    /// The frame in this place is the first of another group.
    fn open_group(&mut self, now: Instant, dispatch: &Dispatch<F>, place: usize) {
        let Some(workshop) = &mut self.protection.workshop else { return };
        workshop.frames.swap(0, place);
        self.protection.group = Some(Group {
            first: dispatch.sequence,
            frames: 0,
            share_length: 0,
            addresses: workshop.frames[0].addresses(),
            opened_at: now,
            sent_by: [0; UPLINKS_MAX],
        });
    }

    /// When the group that is open must be closed.
    pub(super) fn group_closes_at(&self) -> Option<Instant> {
        let span = if self.protection.is_calm() { SPAN_CALM.min(self.hold / 3) } else { SPAN.min(self.hold / 4) };
        self.protection.group.map(|group| group.opened_at + span)
    }

    /// Closes the group that is open if it has taken long enough.
    pub(super) fn close_group_in_time(&mut self, now: Instant) {
        if self.group_closes_at().is_some_and(|at| at <= now) {
            self.close_group(now);
        }
    }

    /// No other frame joins the group: its parities are made, and get their uplinks.
    fn close_group(&mut self, now: Instant) {
        let Some(group) = self.protection.group.take() else { return };
        self.protection.bare = self.protection.bare.saturating_add(1);
        if group.frames < GROUP_MIN {
            return;
        }
        let mut wanted = self.protection.parities_for(&group, self.queue.frames() > 0);
        let mut uplinks = [UplinkId::FIRST; PARITIES_MAX];
        let mut carried = group.sent_by;
        for (place, chosen) in uplinks.iter_mut().enumerate().take(wanted) {
            let length = (PARITY_HEAD_LENGTH + group.share_length) as u32;
            let Some(uplink) = self.uplink_for_parity(now, &group, &carried, length) else {
                wanted = place;
                break;
            };
            self.routes[uplink.index()].on_parity(now, length);
            carried[uplink.index()] += 1;
            *chosen = uplink;
        }
        let Some(workshop) = self.protection.workshop.as_mut().filter(|_| wanted > 0) else { return };
        if workshop.make(&group, &uplinks[..wanted]).is_ok() {
            self.counters.parities += wanted as u64;
            self.protection.bare = 0;
        }
    }

    /// Of the uplinks by which a parity would be in time without holding up anything, the one that has carried least.
    fn uplink_for_parity(&self, now: Instant, group: &Group, carried: &[u8], length: u32) -> Option<UplinkId> {
        let deadline = self.deadline(group.opened_at);
        let queue_max = self.queue_max();
        // Without keys a parity has more beside it than a frame of its length.
        const MORE: u32 = (KEYED_HEADER_LENGTH + CONTROL_CHECKSUM_LENGTH - FRAME_HEADER_LENGTH) as u32;
        let usable = self.usable_for(length + MORE);
        let is_good = |uplink: &UplinkId| {
            let route = &self.routes[uplink.index()];
            let is_in_time = deadline.zip(route.arrival(now, length)).is_none_or(|(deadline, at)| at <= deadline);
            is_in_time
                && route.has_room_for_parity(now, queue_max)
                && !route.is_paused()
                && self.protection.loss_by(*uplink) < LOSS_BEARABLE
        };
        // What costs money carries parities only if it carries frames of the group.
        let is_cheap =
            |uplink: &UplinkId| !self.routes[uplink.index()].limits.is_metered || group.sent_by[uplink.index()] > 0;
        let rank = |uplink: &UplinkId| (carried[uplink.index()], self.routes[uplink.index()].arrival(now, length));
        usable.iter().filter(is_cheap).filter(is_good).min_by_key(rank)
    }

    /// The next parity to send.
    pub fn poll_parity(&mut self) -> Option<&mut Parity> {
        let workshop = self.protection.workshop.as_mut().filter(|workshop| workshop.taken < workshop.made)?;
        let place = workshop.taken % READY_MAX;
        workshop.taken += 1;
        Some(&mut workshop.ready[place])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(frames: usize) -> Group {
        let mut sent_by = [0; UPLINKS_MAX];
        sent_by[0] = frames as u8;
        Group { first: 0, frames, share_length: 1000, addresses: [0; 12], opened_at: Instant::ZERO, sent_by }
    }

    fn parities(frames: usize, lost: u32, is_busy: bool) -> usize {
        let mut protection = Protection::default();
        protection.note_loss(UplinkId::FIRST, PartsPerMillion(lost));
        protection.parities_for(&group(frames), is_busy)
    }

    #[test]
    fn the_more_is_lost_the_more_parities_there_are_and_few_where_frames_wait() {
        assert_eq!([0, 5_000, 20_000, 50_000, 200_000].map(|lost| parities(32, lost, false)), [1, 4, 6, 8, 8]);
        assert_eq!([0, 5_000, 20_000, 50_000, 200_000].map(|lost| parities(32, lost, true)), [0, 4, 4, 4, 4]);
        assert_eq!([2, 3, 4, 8].map(|frames| parities(frames, 0, false)), [0, 1, 1, 1]);
        assert_eq!([2, 3, 4, 8].map(|frames| parities(frames, 20_000, false)), [1, 1, 2, 4]);
    }

    #[test]
    fn loss_is_remembered_for_some_seconds() {
        let mut protection = Protection::default();
        protection.note_loss(UplinkId::FIRST, PartsPerMillion(100_000));
        for _ in 0..40 {
            protection.note_loss(UplinkId::FIRST, PartsPerMillion(0));
        }
        assert!((0.04..0.06).contains(&protection.loss_of(&group(32))), "{protection:?}");
    }

    #[test]
    fn how_likely_it_is_that_more_are_lost_than_can_be_made_up() {
        let halves = [0, 1, 2, 3].map(|repaired| more_lost(3, repaired, 0.5));
        assert_eq!(halves, [0.875, 0.5, 0.125, 0.0]);
        assert!((more_lost(34, 1, 0.01) - 0.0453).abs() < 0.001);
    }
}
