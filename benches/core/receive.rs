//! Dedup and reorder.

use std::time::Duration;

use braid::proto::receive::Receiver;
use braid::proto::receive::dedup::{Dedup, Seen};
use braid::proto::time::Instant;
use braid::proto::uplink::UplinkId;
use divan::{Bencher, black_box};

use crate::packet::Packet;

const FIRST: u32 = 1000;
/// 4,000 frames a second.
const FRAME_EVERY: Duration = Duration::from_micros(250);
/// By how many frames the second uplink lags behind the first: 6 ms.
const SKEW: u32 = 24;
/// Enough for the second uplink to have come, too.
const WARM_UP: u32 = 1000;

#[divan::bench]
fn dedup_in_order(bencher: Bencher) {
    let (mut dedup, uplink) = (Dedup::new(0), UplinkId::new(0).expect("within range"));
    let mut sequence = 0;
    bencher.bench_local(|| {
        sequence += 1;
        assert_eq!(dedup.check(black_box(sequence), uplink), Seen::Fresh);
    });
}

#[divan::bench]
fn in_order_by_one_uplink(bencher: Bencher) {
    let arrivals = (FIRST..).map(|sequence| (0, sequence));
    receive(bencher, arrivals);
}

#[divan::bench]
fn in_order_by_two_uplinks(bencher: Bencher) {
    let arrivals = (FIRST..).map(|sequence| ((sequence % 2) as u8, sequence));
    receive(bencher, arrivals);
}

#[divan::bench]
fn skew(bencher: Bencher) {
    receive(bencher, skewed());
}

#[divan::bench]
fn skew_and_loss_of_1_percent(bencher: Bencher) {
    receive(bencher, skewed().filter(|(_, sequence)| sequence % 100 != 57));
}

#[divan::bench]
fn skew_and_each_frame_twice(bencher: Bencher) {
    let late = |sequence: u32| sequence.checked_sub(SKEW).filter(|sequence| *sequence >= FIRST);
    let arrivals = (FIRST..).flat_map(move |sequence| [Some((0, sequence)), late(sequence).map(|late| (1, late))]);
    receive(bencher, arrivals.flatten());
}

/// Frames in turn over two uplinks, the second of which is slower.
fn skewed() -> impl Iterator<Item = (u8, u32)> {
    let arrivals = (FIRST..).map(|sequence| ((sequence % 2) as u8, sequence - SKEW * (sequence % 2)));
    arrivals.filter(|(_, sequence)| *sequence >= FIRST)
}

/// Each iteration takes in the next frame, and out what can be delivered.
fn receive(bencher: Bencher, mut arrivals: impl Iterator<Item = (u8, u32)>) {
    let uplinks = [0, 1].map(|number| UplinkId::new(number).expect("within range"));
    let mut now = Instant::from_nanos(1_000_000_000);
    let mut receiver = Receiver::new(Some(Duration::from_millis(40)));
    receiver.set_live(now, uplinks.into_iter().collect());
    for uplink in uplinks {
        receiver.on_announcement(now, uplink, FIRST);
    }
    let (mut taken, mut delivered) = (0, 0);
    let mut step = || {
        now = now + FRAME_EVERY;
        let (uplink, sequence) = arrivals.next().expect("endless");
        taken += u64::from(receiver.on_frame(now, uplinks[usize::from(uplink)], sequence, Packet::FRAME).is_ok());
        while let Some(frame) = receiver.pop() {
            black_box(frame);
            delivered += 1;
        }
    };
    (0..WARM_UP).for_each(|_| step());
    bencher.bench_local(step);
    assert_eq!(taken, delivered + receiver.held() as u64);
}
