//! Super-frames, per 1,400 bytes of payload: one segment cut off, one frame merged.

use braid::offload::checksum::Sum;
use braid::offload::coalesce::{Coalescer, Finished, Joined, Kinds, SUPER_HEADER_MAX};
use braid::offload::split::{SPLIT_HEADER_MAX, Split};
use braid::offload::vnet_header::{Checksum, Segmentation, VnetHeader};
use divan::{Bencher, black_box};

const PAYLOAD_LENGTH: usize = 1400;
/// As many as an IP packet holds.
const SEGMENTS: usize = 46;
const NETWORK_AT: usize = 14;
const TRANSPORT_AT: usize = 34;
/// TCP with time stamps, as nearly all of it has.
const TCP_LENGTH: usize = 32;
const UDP_LENGTH: usize = 8;

#[divan::bench]
fn checksum_of_1400_bytes(bencher: Bencher) {
    let bytes: Vec<u8> = (0..PAYLOAD_LENGTH).map(|at| at as u8).collect();
    bencher.bench_local(|| Sum::of(black_box(&bytes)).fold());
}

#[divan::bench]
fn split_a_segment_of_tcp(bencher: Bencher) {
    split(bencher, &super_frame(Segmentation::Tcp4));
}

#[divan::bench]
fn split_a_segment_of_udp(bencher: Bencher) {
    split(bencher, &super_frame(Segmentation::Udp));
}

#[divan::bench]
fn join_a_frame_of_tcp(bencher: Bencher) {
    join(bencher, &super_frame(Segmentation::Tcp4));
}

#[divan::bench]
fn join_a_frame_of_udp(bencher: Bencher) {
    join(bencher, &super_frame(Segmentation::Udp));
}

#[divan::bench]
fn begin_and_finish_a_super_frame(bencher: Bencher) {
    let frames = cut(&super_frame(Segmentation::Tcp4));
    let mut coalescer = Coalescer::new(Kinds { tcp: true, udp: true });
    let mut out = [0; SUPER_HEADER_MAX];
    let Joined::No(Some(candidate)) = coalescer.join(&frames[0]) else { panic!("a candidate") };
    bencher.bench_local(|| {
        coalescer.begin(black_box(candidate), &frames[0]);
        coalescer.finish(black_box(&mut out))
    });
}

fn split(bencher: Bencher, (header, frame): &(VnetHeader, Vec<u8>)) {
    let split = Split::new(header, frame).expect("a super-frame");
    let mut index = 0;
    bencher.bench_local(|| {
        index = (index + 1) % SEGMENTS;
        let mut out = [0; SPLIT_HEADER_MAX];
        split.write_header(index, black_box(frame), &mut out);
        black_box(&out);
    });
}

fn join(bencher: Bencher, super_frame: &(VnetHeader, Vec<u8>)) {
    let frames = cut(super_frame);
    let mut coalescer = Coalescer::new(Kinds { tcp: true, udp: true });
    let mut out = [0; SUPER_HEADER_MAX];
    let mut index = 0;
    bencher.bench_local(|| {
        let frame = black_box(&frames[index]);
        if let Joined::No(candidate) = coalescer.join(frame) {
            assert!(index == 0, "all of them merge");
            coalescer.begin(candidate.expect("a candidate"), frame);
        }
        index = (index + 1) % SEGMENTS;
        if index == 0 {
            assert!(matches!(coalescer.finish(&mut out), Finished::Super { .. }));
        }
    });
}

fn cut((header, frame): &(VnetHeader, Vec<u8>)) -> Vec<Vec<u8>> {
    let split = Split::new(header, frame).expect("a super-frame");
    let segment = |index| {
        let mut segment = vec![0; split.header_length()];
        split.write_header(index, frame, &mut segment);
        segment.extend(&frame[split.payload(index)]);
        segment
    };
    (0..split.segments()).map(segment).collect()
}

fn super_frame(segmentation: Segmentation) -> (VnetHeader, Vec<u8>) {
    let (protocol, transport_length, checksum_at) =
        if segmentation == Segmentation::Udp { (17, UDP_LENGTH, 6) } else { (6, TCP_LENGTH, 16) };
    let addresses = [192, 0, 2, 1, 192, 0, 2, 2];
    let length = transport_length + SEGMENTS * PAYLOAD_LENGTH;
    let mut frame = vec![0; TRANSPORT_AT];
    frame[12..NETWORK_AT].copy_from_slice(&[0x08, 0x00]);
    frame[NETWORK_AT..][..10].copy_from_slice(&[0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, protocol]);
    frame[NETWORK_AT + 12..].copy_from_slice(&addresses);
    frame.extend((0..length).map(|at| at as u8));
    let transport = &mut frame[TRANSPORT_AT..];
    // Four bytes at 4: a sequence number, or what begins with a length.
    transport[4..8].copy_from_slice(&u32::to_be_bytes((length as u32) << 16));
    transport[12..14].copy_from_slice(&[(TCP_LENGTH as u8 / 4) << 4, 0x10]);
    let begun = Sum::pseudo_header(&addresses, protocol, length as u32).fold();
    transport[checksum_at..][..2].copy_from_slice(&begun.to_be_bytes());
    let checksum = Checksum::Partial { start: TRANSPORT_AT as u16, offset: checksum_at as u16 };
    (VnetHeader { checksum, segmentation, segment_size: PAYLOAD_LENGTH as u16, header_length: 0 }, frame)
}
