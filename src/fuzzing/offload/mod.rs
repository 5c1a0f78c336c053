//! Super-frames and frames, lawful and not, beside a naive segmenter.

mod naive;
mod recipe;

use std::ops::Range;

use bytes::{Buf, Bytes};

use crate::offload::coalesce::{Candidate, Coalescer, Finished, Joined, Kinds, RUN_FRAMES_MAX, SUPER_HEADER_MAX};
use crate::offload::split::{Split, complete_checksum};
use crate::offload::vnet_header::{Checksum, Segmentation, VNET_HEADER_LENGTH, VnetHeader};
use recipe::Recipe;

/// In front of each mutation: its kind, which frame, and two bytes of detail.
const MUTATION_LENGTH: usize = 4;

/// Super-frames and frames as the first byte says: bytes from the TAP as they are; frames from the network as they are,
/// each behind its length; or lawful super-frames, cut, and the frames then mutated.
///
/// # Panics
/// If cutting differs from what the naive segmenter does, or merging loses, changes or reorders anything.
pub fn offload(input: &[u8]) {
    let mut input = Bytes::copy_from_slice(input);
    match input.try_get_u8().unwrap_or(0) % 4 {
        0 => from_tap(&input),
        1 => from_network(input),
        _ => cut_and_merge(input),
    }
}

fn from_tap(input: &[u8]) {
    let Ok(header) = VnetHeader::parse(input) else { return };
    let frame = &input[VNET_HEADER_LENGTH..];
    compare_with_naive(&header, frame);
    if let Checksum::Partial { start, offset } = header.checksum {
        let mut completed = frame.to_vec();
        let place = usize::from(start) + usize::from(offset);
        let is_completed = complete_checksum(start, offset, &mut completed).is_ok();
        assert_eq!(is_completed, place + 2 <= frame.len());
        if is_completed {
            let sum = naive::modulo(&frame[start.into()..], 0);
            let checksum = if sum == 0xffff { sum } else { !sum };
            assert_eq!(completed, [&frame[..place], &checksum.to_be_bytes(), &frame[place + 2..]].concat());
        }
    }
}

fn from_network(mut input: Bytes) {
    let mut frames = vec![];
    while let Ok(length) = input.try_get_u16_le() {
        // The highest bit asks for checksums that a fuzzer could not guess.
        let mut frame = input.split_to(usize::from(length & 0x7fff).min(input.len())).to_vec();
        if length & 0x8000 != 0 {
            naive::make_right(&mut frame);
        }
        frames.push(frame);
    }
    merge_and_cut(&frames);
}

fn cut_and_merge(mut input: Bytes) {
    let mut frames = vec![];
    for _ in 0..=input.try_get_u8().unwrap_or(0) % 3 {
        frames.extend(cut_lawful(&Recipe::read(&mut input)));
    }
    while input.len() >= MUTATION_LENGTH && !frames.is_empty() {
        mutate(&mut frames, &input.split_to(MUTATION_LENGTH));
    }
    merge_and_cut(&frames);
}

/// Cuts a lawful super-frame, and merges what came of it again: into what it was, if it can be merged at all.
fn cut_lawful(recipe: &Recipe) -> Vec<Vec<u8>> {
    let made = recipe.make();
    let frames = compare_with_naive(&made.header, &made.frame).expect("a lawful super-frame");
    assert!(frames.iter().all(|frame| naive::is_right(frame, &made.destination)));
    let merged = merge_and_cut(&frames);
    if frames.len() > 1 && frames.len() <= RUN_FRAMES_MAX {
        assert_eq!(merged.len(), recipe.merged_count(frames.len()));
        // If the checksum had not been begun, now it is.
        assert!(merged.len() > 1 || !recipe.is_partial || merged[0] == (made.header, made.frame));
    }
    frames
}

/// What cutting makes, if it is what the naive segmenter makes.
fn compare_with_naive(header: &VnetHeader, frame: &[u8]) -> Option<Vec<Vec<u8>>> {
    let expected = naive::segment(header, frame);
    let cut = Split::new(header, frame).ok().map(|split| cut(&split, frame));
    assert!(cut == expected, "cut into {cut:02x?}, and not {expected:02x?}");
    cut
}

fn cut(split: &Split, frame: &[u8]) -> Vec<Vec<u8>> {
    let segment = |index| {
        // What is behind the header is not touched.
        let mut out = vec![0xee; split.header_length() + 1];
        split.write_header(index, frame, &mut out);
        assert_eq!(out.pop(), Some(0xee));
        [&out, &frame[split.payload(index)]].concat()
    };
    let segments: Vec<Vec<u8>> = (0..split.segments()).map(segment).collect();
    assert_eq!(segments.iter().map(Vec::len).max(), Some(split.frame_length_max()));
    segments
}

/// One change to one frame, or to the order of all.
fn mutate(frames: &mut Vec<Vec<u8>>, how: &[u8]) {
    let [kind, which, place, change] = [how[0] % 8, how[1], how[2], how[3]];
    let count = frames.len();
    let at = usize::from(which) % count;
    match kind {
        0 => drop(frames.remove(at)),
        1 => frames.swap(at, usize::from(place) % count),
        2 => frames.insert(at, frames[at].clone()),
        // Interleaved: the last comes in between.
        3 => {
            let last = frames.pop().expect("there is one");
            frames.insert(at.min(count - 1), last);
        }
        _ => mutate_bytes(&mut frames[at], kind, place.into(), change),
    }
}

fn mutate_bytes(frame: &mut Vec<u8>, kind: u8, place: usize, change: u8) {
    match kind {
        4 => frame.extend(vec![change; place]),
        5 => frame.truncate(frame.len().saturating_sub(place)),
        _ => frame.iter_mut().skip(place).take(1).for_each(|byte| *byte ^= change),
    }
    // Without this, checksums are wrong from here on.
    if kind == 7 {
        naive::make_right(frame);
    }
}

/// Merges frames with every choice of what may be merged, and cuts them again: nothing may have changed.
fn merge_and_cut(frames: &[Vec<u8>]) -> Vec<(VnetHeader, Vec<u8>)> {
    let merged_as = |tcp, udp| {
        let merged = merge(Kinds { tcp, udp }, frames);
        let cut: Vec<Vec<u8>> = merged.iter().flat_map(|(header, frame)| cut_as_kernel(header, frame)).collect();
        assert!(cut == frames, "{frames:02x?} became {cut:02x?} by way of {merged:02x?}");
        for (header, _) in &merged {
            assert!(tcp || !matches!(header.segmentation, Segmentation::Tcp4 | Segmentation::Tcp6));
            assert!(udp || header.segmentation != Segmentation::Udp);
        }
        merged
    };
    assert_eq!(merged_as(false, false).len(), frames.len());
    merged_as(true, false);
    merged_as(false, true);
    merged_as(true, true)
}

/// What the kernel makes of what is written to the TAP, which it must take.
fn cut_as_kernel(header: &VnetHeader, frame: &[u8]) -> Vec<Vec<u8>> {
    if header.segmentation == Segmentation::None {
        assert!(!matches!(header.checksum, Checksum::Partial { .. }));
        return vec![frame.to_vec()];
    }
    let layout = naive::layout(frame).expect("the headers of a super-frame");
    let payload_length = frame.len() - layout.payload;
    let size = usize::from(header.segment_size);
    assert!(frame.len() - layout.network <= 65_535, "longer than IP can say");
    assert!(payload_length > size && payload_length <= size * RUN_FRAMES_MAX);
    assert_eq!(usize::from(header.header_length), layout.payload);
    assert!(matches!(header.checksum, Checksum::Partial { .. }));
    // The checksum of IPv4, and what there is of the other one's, must be right.
    let mut completed = frame.to_vec();
    if let Checksum::Partial { start, offset } = header.checksum {
        complete_checksum(start, offset, &mut completed).expect("its place is in the frame");
    }
    let destination = naive::destination_at(layout);
    assert!(naive::is_right(&completed, &completed[destination..destination + if layout.is_ipv6 { 16 } else { 4 }]));
    naive::segment(header, frame).expect("what was merged can be cut")
}

/// Merges as the writer to the TAP does.
fn merge(kinds: Kinds, frames: &[Vec<u8>]) -> Vec<(VnetHeader, Vec<u8>)> {
    let mut writer = Writer { coalescer: Coalescer::new(kinds), first: vec![], payloads: vec![], written: vec![] };
    frames.iter().for_each(|frame| writer.write(frame));
    writer.finish();
    writer.written
}

struct Writer {
    coalescer: Coalescer,
    first: Vec<u8>,
    payloads: Vec<u8>,
    written: Vec<(VnetHeader, Vec<u8>)>,
}

impl Writer {
    fn write(&mut self, frame: &[u8]) {
        match self.coalescer.join(frame) {
            Joined::Yes { payload } => self.payloads.extend(&frame[payload]),
            Joined::No(None) => {
                self.finish();
                self.written.push((VnetHeader::default(), frame.to_vec()));
            }
            Joined::No(Some(candidate)) => self.begin(candidate, frame),
        }
        if self.coalescer.is_closed() {
            self.finish();
        }
    }

    fn begin(&mut self, candidate: Candidate, frame: &[u8]) {
        self.finish();
        self.coalescer.begin(candidate, frame);
        self.first = frame.to_vec();
    }

    fn finish(&mut self) {
        let mut out = [0; SUPER_HEADER_MAX];
        match self.coalescer.finish(&mut out) {
            Finished::Nothing => {}
            Finished::Single(header) => self.written.push((header, std::mem::take(&mut self.first))),
            Finished::Super { header_length, first_payload } => self.push_super(&out[..header_length], first_payload),
        }
        assert!(self.payloads.is_empty() && matches!(self.coalescer.finish(&mut out), Finished::Nothing));
    }

    fn push_super(&mut self, headers: &[u8], first_payload: Range<usize>) {
        let header = VnetHeader::parse(headers).expect("what was emitted");
        let payloads = std::mem::take(&mut self.payloads);
        let frame = [&headers[VNET_HEADER_LENGTH..], &self.first[first_payload], &payloads].concat();
        self.written.push((header, frame));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn lawful_super_frames_are_cut_as_naively_and_merged_again(input in proptest::collection::vec(any::<u8>(), 15)) {
            cut_lawful(&Recipe::read(&mut input.into()));
        }

        #[test]
        fn nothing_is_lost_changed_or_reordered(
            recipes in proptest::collection::vec(any::<u8>(), 1..46),
            mutations in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            cut_and_merge([recipes, mutations].concat().into());
        }

        #[test]
        fn no_bytes_make_it_panic(input in proptest::collection::vec(any::<u8>(), 0..300)) {
            offload(&input);
        }
    }

    #[test]
    fn the_corpus_passes() {
        crate::fuzzing::replay("offload", 20, offload);
    }

    #[test]
    fn the_greatest_run_is_64_frames_and_65_535_bytes() {
        let udp = Recipe { segment_size: 100, payload_length: 6450, is_partial: true, ..Recipe::default() };
        let merged = merge_and_cut(&cut_lawful(&udp));
        assert_eq!(merged.iter().map(|(_, frame)| frame.len() - 42).collect::<Vec<_>>(), [6400, 50]);
        // 40 bytes of headers, and 65,495 of payload at most.
        let tcp = Recipe { is_tcp: true, segment_size: 1400, payload_length: 46 * 1400, ..udp };
        let follows =
            |payload_length| Recipe { identification: 46, sequence: 46 * 1400, payload_length, ..tcp.clone() };
        for (payload_length, merged_count) in [(1095, 1), (1096, 2)] {
            let frames = [cut_lawful(&tcp), cut_lawful(&follows(payload_length))].concat();
            assert_eq!(merge_and_cut(&frames).len(), merged_count);
        }
    }

    /// Two frames cut from a super-frame, changed at `tuned` so that the checksum at `place` of the first comes to 0.
    fn with_checksum_of_zero(recipe: &Recipe, tuned: usize, place: usize) -> Vec<Vec<u8>> {
        let mut made = recipe.make();
        let before = &compare_with_naive(&made.header, &made.frame).expect("a lawful super-frame")[0];
        let sum = naive::modulo(&[before[tuned], before[tuned + 1], before[place], before[place + 1]], 0);
        made.frame[tuned..tuned + 2].copy_from_slice(&sum.to_be_bytes());
        compare_with_naive(&made.header, &made.frame).expect("a lawful super-frame")
    }

    fn with_bytes(frame: &[u8], place: usize, bytes: [u8; 2]) -> Vec<u8> {
        [&frame[..place], &bytes, &frame[place + 2..]].concat()
    }

    #[test]
    fn the_other_spelling_of_zero_stands_alone() {
        const IPV4_IDENTIFICATION: usize = 18;
        const IPV4_CHECKSUM: usize = 24;
        const TCP_WINDOW: usize = 48;
        const TCP_CHECKSUM: usize = 50;
        const UDP_SOURCE: usize = 34;
        const UDP_CHECKSUM: usize = 40;
        let udp = Recipe { segment_size: 100, payload_length: 200, is_partial: true, filler: 3, ..Recipe::default() };
        let tcp = Recipe { is_tcp: true, ..udp.clone() };
        let spelled_otherwise = [
            (&tcp, IPV4_IDENTIFICATION, IPV4_CHECKSUM, [0; 2], [0xff; 2]),
            (&tcp, TCP_WINDOW, TCP_CHECKSUM, [0; 2], [0xff; 2]),
            // UDP has no other, for 0 says that there is no checksum.
            (&udp, UDP_SOURCE, UDP_CHECKSUM, [0xff; 2], [0; 2]),
        ];
        for (recipe, tuned, place, spelling, other) in spelled_otherwise {
            let frames = with_checksum_of_zero(recipe, tuned, place);
            assert_eq!(frames[0][place..place + 2], spelling);
            assert_eq!(merge_and_cut(&frames).len(), 1);
            assert_eq!(merge_and_cut(&[with_bytes(&frames[0], place, other), frames[1].clone()]).len(), 2);
        }
        // A frame that is not cut gets the spelling that suits UDP, whatever it carries.
        let one = with_checksum_of_zero(&Recipe { payload_length: 100, ..tcp }, TCP_WINDOW, TCP_CHECKSUM);
        assert_eq!(one[0][TCP_CHECKSUM..TCP_CHECKSUM + 2], [0xff; 2]);
    }

    #[test]
    fn numbers_wrap() {
        let recipe = Recipe {
            is_tcp: true,
            is_partial: true,
            identification: u16::MAX - 1,
            sequence: u32::MAX - 250,
            segment_size: 100,
            payload_length: 450,
            ..Recipe::default()
        };
        assert_eq!(merge_and_cut(&cut_lawful(&recipe)).len(), 1);
    }

    #[test]
    fn any_other_byte_in_the_headers_ends_a_run() {
        for (is_tcp, is_ipv6) in [(false, false), (false, true), (true, false), (true, true)] {
            let options = 3;
            let lengths = Recipe { segment_size: 60, payload_length: 180, is_partial: true, ..Recipe::default() };
            let frames = cut_lawful(&Recipe { is_tcp, is_ipv6, options, tags: 2, filler: 9, ..lengths });
            let layout = naive::layout(&frames[0]).expect("what was made");
            for at in 0..layout.payload {
                let mut changed = frames.clone();
                changed[1][at] ^= 0x40;
                assert!(merge_and_cut(&changed).len() > 1, "byte {at} with the checksums as they were");
                naive::make_right(&mut changed[1]);
                let is_mended = changed[1] == frames[1];
                assert_eq!(merge_and_cut(&changed).len() == 1, is_mended, "byte {at} with checksums that are right");
            }
        }
    }

    /// Three frames of a run, of which each was changed.
    fn changed(recipe: &Recipe, change: impl Fn(usize, &mut Vec<u8>)) -> Vec<Vec<u8>> {
        let recipe = Recipe { segment_size: 60, payload_length: 180, is_partial: true, filler: 9, ..recipe.clone() };
        let mut frames = cut_lawful(&recipe);
        frames.iter_mut().enumerate().for_each(|(number, frame)| change(number, frame));
        frames
    }

    #[test]
    fn flags_join_where_cutting_would_put_them() {
        const FLAGS: usize = 47;
        // ECE and ACK may be anywhere if they are everywhere; PSH and FIN only at the end.
        let counts = [0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80].map(|flag| {
            let count = |is_flagged: fn(usize) -> bool| {
                let frames = changed(&Recipe { is_tcp: true, ..Recipe::default() }, |number, frame| {
                    frame[FLAGS] |= if is_flagged(number) { flag } else { 0 };
                    naive::make_right(frame);
                });
                merge_and_cut(&frames).len()
            };
            [count(|_| true), count(|number| number == 0), count(|number| number == 1), count(|number| number == 2)]
        });
        let (last, alone, same) = ([3, 2, 2, 1], [3, 2, 3, 2], [1, 2, 3, 2]);
        assert_eq!(counts, [last, alone, alone, last, same, alone, same, alone]);
    }

    #[test]
    fn an_acknowledgement_is_not_lost_in_a_run() {
        let recipe = Recipe { is_tcp: true, ..Recipe::default() };
        let frames = changed(&recipe, |number, frame| {
            frame.truncate(if number == 2 { 54 } else { frame.len() });
            naive::make_right(frame);
        });
        assert_eq!(merge_and_cut(&frames).len(), 2);
    }

    /// Takes 1 from a length, and keeps the checksum that counts it right by adding 1 elsewhere.
    fn shorten(frame: &mut [u8], length_at: usize, elsewhere: usize) {
        frame[length_at + 1] -= 1;
        frame[elsewhere + 1] += 1;
    }

    #[test]
    fn bytes_behind_the_packet_make_a_frame_stand_alone() {
        const IPV4_LENGTH: usize = 16;
        const IPV4_TYPE_OF_SERVICE: usize = 14;
        const IPV6_LENGTH: usize = 18;
        const UDP_LENGTH: usize = 38;
        const UDP_PAYLOAD: usize = 42;
        let ipv4 = Recipe::default();
        let ipv6 = Recipe { is_ipv6: true, is_tcp: true, ..Recipe::default() };
        let all = [
            changed(&ipv4, |_, frame| shorten(frame, IPV4_LENGTH, IPV4_TYPE_OF_SERVICE)),
            changed(&ipv4, |_, frame| shorten(frame, UDP_LENGTH, UDP_PAYLOAD)),
            changed(&ipv6, |_, frame| frame[IPV6_LENGTH + 1] -= 1),
            changed(&ipv4, |_, frame| frame.extend([0; 4])),
        ];
        for frames in all {
            assert_eq!(merge_and_cut(&frames).len(), 3);
        }
    }
}
