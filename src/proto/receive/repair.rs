//! Makes up lost frames from parities (forward error correction; see [`crate::proto::wire::parity`]).
//!
//! ```text
//!   frames that have come ─▶ ┌ recent ┐
//!                            └────┬───┘   as many shares and parities
//!   parities ─▶ ┌ groups ┐────────┴────▶  as the group has frames: ─▶ the code ─▶ the frames that have not come
//!               └────────┘
//! ```
//! A frame is copied when it comes, as long as the peer sends parities: kept where they are, frames would use up the
//! buffers that others need.

use std::collections::VecDeque;

use reed_solomon_simd::ReedSolomonDecoder;

use crate::proto::seq;
use crate::proto::uplink::UplinkId;
use crate::proto::wire::parity::{
    FrameCopy, GROUP_MAX, PARITIES_MAX, PROTECTED_MAX, ParityHead, SHARE_MAX, read_share, write_share,
};

/// So many frames are remembered; a power of two. At 1,316 bytes and 100 ms between the first way and the last this is
/// 100 Mbit/s.
const RECENT: usize = 1024;
const _: () = assert!(RECENT.is_power_of_two());
/// The parities of so many groups are remembered: of all groups that the frames make, if these are half full.
const GROUPS: usize = 2 * RECENT / GROUP_MAX;
/// The most frames that wait to be taken; a caller that takes them as it should needs those of one group.
const RESTORED_MAX: usize = 2 * PARITIES_MAX;

/// A frame, and its number.
struct Numbered {
    sequence: Option<u64>,
    is_made_up: bool,
    frame: FrameCopy,
}

/// A group of which a parity has come, and frames are missing.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Group {
    first: u64,
    frames: u8,
    parities: u8,
    share_length: usize,
    /// The parities that have come, a bit for each.
    come: u8,
}

impl Group {
    fn numbers(&self) -> std::ops::Range<u64> {
        self.first..self.first + u64::from(self.frames)
    }
}

/// What is remembered.
pub struct Repair {
    decoder: ReedSolomonDecoder,
    recent: Box<[Numbered]>,
    groups: [Option<Group>; GROUPS],
    parities: Box<[[[u8; SHARE_MAX]; PARITIES_MAX]]>,
    /// Where the next group goes.
    next: usize,
    /// The numbers of frames that were made up, and have yet to be taken; by which uplink the last part of each came.
    restored: VecDeque<(UplinkId, u64)>,
}

impl std::fmt::Debug for Repair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Repair").field("restored", &self.restored).finish_non_exhaustive()
    }
}

impl Default for Repair {
    fn default() -> Self {
        let decoder = ReedSolomonDecoder::new(GROUP_MAX, PARITIES_MAX, SHARE_MAX).expect("supported");
        let none = |_| Numbered { sequence: None, is_made_up: false, frame: FrameCopy::EMPTY };
        Self {
            decoder,
            recent: (0..RECENT).map(none).collect(),
            groups: [None; GROUPS],
            parities: vec![[[0; SHARE_MAX]; PARITIES_MAX]; GROUPS].into(),
            next: 0,
            restored: VecDeque::with_capacity(RESTORED_MAX),
        }
    }
}

impl Repair {
    /// The peer is another one: what came from the one before is nothing to its frames.
    pub fn forget(&mut self) {
        self.recent.iter_mut().for_each(|numbered| numbered.sequence = None);
        self.groups = [None; GROUPS];
        self.restored.clear();
    }

    /// Frame number `sequence` has come by an uplink by which it is taken to have come. Whether that is for the first time,
    /// since it was made up.
    pub fn take_made_up(&mut self, sequence: u64) -> bool {
        let recent = &mut self.recent[place(sequence)];
        recent.sequence == Some(sequence) && std::mem::take(&mut recent.is_made_up)
    }

    /// A frame has come by `uplink`.
    pub fn on_frame(&mut self, uplink: UplinkId, sequence: u64, bytes: &[u8]) {
        if bytes.len() > PROTECTED_MAX {
            return;
        }
        let numbered = &mut self.recent[place(sequence)];
        // What comes that late helps nothing any more, and nobody is to undo by it what has come.
        if numbered.sequence.is_some_and(|known| known > sequence) {
            return;
        }
        (numbered.sequence, numbered.is_made_up) = (Some(sequence), false);
        numbered.frame.room(bytes.len()).copy_from_slice(bytes);
        for at in 0..GROUPS {
            if self.groups[at].is_some_and(|group| group.numbers().contains(&sequence)) {
                self.restore(uplink, at);
            }
        }
    }

    /// A parity has come by `uplink`; `expected` is the number of a frame near it.
    pub fn on_parity(&mut self, uplink: UplinkId, expected: u64, head: ParityHead, parity: &[u8]) {
        let first = seq::extend(head.first, expected);
        let group = Group { first, frames: head.frames, parities: head.parities, share_length: parity.len(), come: 0 };
        let is_remembered = first.abs_diff(expected) < RECENT as u64;
        if !is_remembered || self.missing(&group).next().is_none() {
            return;
        }
        let known = self.groups.iter().position(|known| known.is_some_and(|known| known.first == first));
        let at = known.unwrap_or(self.next);
        if known.is_none() {
            self.next = (self.next + 1) % GROUPS;
        }
        let before = self.groups[at].filter(|before| Group { come: 0, ..*before } == group);
        let come = before.map_or(0, |before| before.come) | 1 << head.place;
        self.groups[at] = Some(Group { come, ..group });
        self.parities[at][usize::from(head.place)][..parity.len()].copy_from_slice(parity);
        self.restore(uplink, at);
    }

    /// The next frame that has been made up: by which uplink the last part of it came, its number, its bytes.
    pub fn poll(&mut self) -> Option<(UplinkId, u64, &[u8])> {
        loop {
            let (uplink, sequence) = self.restored.pop_front()?;
            // Unless a newer frame has taken its place meanwhile.
            if self.recent[place(sequence)].sequence == Some(sequence) {
                return Some((uplink, sequence, self.recent[place(sequence)].frame.bytes()));
            }
        }
    }

    fn missing(&self, group: &Group) -> impl Iterator<Item = u64> + use<'_> {
        group.numbers().filter(|sequence| self.recent[place(*sequence)].sequence != Some(*sequence))
    }

    /// Makes up what is missing of a group, if enough has come.
    fn restore(&mut self, uplink: UplinkId, at: usize) {
        let Some(group) = self.groups[at] else { return };
        let missing = self.missing(&group).count();
        if missing > group.come.count_ones() as usize {
            return;
        }
        self.groups[at] = None;
        if missing > 0 {
            // What does not fit together has been forged, in a tunnel without keys, or spoiled.
            let _ = self.decode(uplink, at, &group);
        }
    }

    fn decode(&mut self, uplink: UplinkId, at: usize, group: &Group) -> Result<(), reed_solomon_simd::Error> {
        let (frames, parities) = (usize::from(group.frames), usize::from(group.parities));
        self.decoder.reset(frames, parities, group.share_length)?;
        let mut share = [0; SHARE_MAX];
        let share = &mut share[..group.share_length];
        let mut addresses = None;
        for (index, sequence) in group.numbers().enumerate() {
            let numbered = &self.recent[place(sequence)];
            if numbered.sequence == Some(sequence) {
                if !write_share(share, numbered.frame.bytes()) {
                    return Ok(());
                }
                addresses = Some(numbered.frame.addresses());
                self.decoder.add_original_shard(index, &*share)?;
            }
        }
        for place in (0..parities).filter(|place| group.come & 1 << place != 0) {
            self.decoder.add_recovery_shard(place, &self.parities[at][place][..group.share_length])?;
        }
        // There are fewer parities than frames, so that at least one of these has come.
        let Some(addresses) = addresses else { return Ok(()) };
        let decoded = self.decoder.decode()?;
        for (index, share) in decoded.restored_original_iter() {
            let Some(text) = read_share(share) else { continue };
            // The oldest give way: nobody has taken them.
            if self.restored.len() == RESTORED_MAX {
                self.restored.pop_front();
            }
            let sequence = group.first + index as u64;
            self.restored.push_back((uplink, sequence));
            // Here it is not missing either when the group's other parities come.
            let recent = &mut self.recent[place(sequence)];
            (recent.sequence, recent.is_made_up) = (Some(sequence), true);
            let (head, rest) = recent.frame.room(addresses.len() + text.len()).split_at_mut(addresses.len());
            head.copy_from_slice(&addresses);
            rest.copy_from_slice(text);
        }
        Ok(())
    }
}

const fn place(sequence: u64) -> usize {
    sequence as usize & (RECENT - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::wire::parity::share_length;
    use proptest::prelude::*;
    use reed_solomon_simd::ReedSolomonEncoder;

    const FIRST: u64 = (7 << 32) | 0xffff_fff0;

    fn frame(number: usize, length: usize) -> Vec<u8> {
        let mut frame = vec![0xaa; length];
        frame.iter_mut().skip(12).enumerate().for_each(|(at, byte)| *byte = (at * 7 + number * 31) as u8);
        frame
    }

    fn parities_of(frames: &[Vec<u8>], parities: usize) -> Vec<(ParityHead, Vec<u8>)> {
        let longest = frames.iter().map(|frame| share_length(frame.len())).max().expect("there are some");
        let mut encoder = ReedSolomonEncoder::new(frames.len(), parities, longest).expect("supported");
        for frame in frames {
            let mut share = vec![0; longest];
            assert!(write_share(&mut share, frame));
            encoder.add_original_shard(share).expect("as long as the others");
        }
        let encoded = encoder.encode().expect("complete");
        let head = |place| ParityHead {
            frames: frames.len() as u8,
            parities: parities as u8,
            place,
            first: seq::truncate(FIRST),
        };
        encoded.recovery_iter().zip(0..).map(|(parity, place)| (head(place), parity.to_vec())).collect()
    }

    fn restored(repair: &mut Repair) -> Vec<(u64, Vec<u8>)> {
        std::iter::from_fn(|| repair.poll().map(|(_, sequence, bytes)| (sequence, bytes.to_vec()))).collect()
    }

    proptest! {
        /// Whatever comes, in whatever order: once as much has come as there are frames, the others are there, and not before.
        #[test]
        fn as_many_parities_as_frames_are_missing_make_up_for_them(
            lengths in proptest::collection::vec(14_usize..=PROTECTED_MAX, 2..=64),
            parities in 1_usize..=8,
            order in any::<u64>(),
            lost in 0_usize..16,
        ) {
            let parities = parities.min(lengths.len() - 1);
            let frames: Vec<_> = lengths.iter().enumerate().map(|(number, length)| frame(number, *length)).collect();
            let made = parities_of(&frames, parities);
            let mut parts: Vec<usize> = (0..frames.len() + parities).collect();
            // Fisher and Yates, with a generator of Knuth's.
            let mut state = order;
            for at in (1..parts.len()).rev() {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                parts.swap(at, (state >> 33) as usize % (at + 1));
            }
            parts.truncate(parts.len().saturating_sub(lost));
            let mut repair = Repair::default();
            let uplink = UplinkId::FIRST;
            for part in &parts {
                match part.checked_sub(frames.len()) {
                    None => repair.on_frame(uplink, FIRST + *part as u64, &frames[*part]),
                    Some(place) => repair.on_parity(uplink, FIRST + 40, made[place].0, &made[place].1),
                }
            }
            let restored = restored(&mut repair);
            if parts.len() < frames.len() {
                prop_assert!(restored.is_empty());
            } else {
                // Those that came after enough had come were made up, too.
                let early = &parts[..frames.len()];
                let missing = (0..frames.len()).filter(|number| !early.contains(number));
                let expected: Vec<_> = missing.map(|number| (FIRST + number as u64, frames[number].clone())).collect();
                prop_assert_eq!(restored, expected);
            }
        }

        /// A peer without keys can be anyone.
        #[test]
        fn parities_that_fit_nothing_do_no_harm(
            parts in proptest::collection::vec(
                (any::<bool>(), 0_u64..40, 2_u8..=64, 1_u8..=8, 0_u8..8, 1_usize..=768), 0..200),
        ) {
            let mut repair = Repair::default();
            for (is_frame, number, frames, parities, place, half) in parts {
                if is_frame {
                    repair.on_frame(UplinkId::FIRST, FIRST + number, &frame(number as usize, half.max(7) * 2));
                } else if parities < frames && place < parities {
                    let first = seq::truncate(FIRST + number);
                    repair.on_parity(UplinkId::FIRST, FIRST, ParityHead { frames, parities, place, first }, &vec![3; half * 2]);
                }
                for (_, bytes) in restored(&mut repair) {
                    prop_assert!(bytes.len() <= PROTECTED_MAX);
                }
            }
        }
    }

    #[test]
    fn what_came_from_another_peer_makes_up_nothing() {
        let frames = [frame(0, 100), frame(1, 200)];
        let made = parities_of(&frames, 1);
        let mut repair = Repair::default();
        repair.on_frame(UplinkId::FIRST, FIRST, &frames[0]);
        repair.forget();
        repair.on_parity(UplinkId::FIRST, FIRST, made[0].0, &made[0].1);
        assert_eq!(restored(&mut repair), []);
        repair.on_frame(UplinkId::FIRST, FIRST, &frames[0]);
        assert_eq!(restored(&mut repair), [(FIRST + 1, frames[1].clone())]);
    }
}
