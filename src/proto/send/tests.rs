//! The sending half by itself, told by hand what has come.

use super::classify::Headers;
use super::*;
use crate::proto::seq;
use crate::proto::wire::feedback::{Arrivals, Feedback};

const LENGTH: u32 = 1000;

fn at(milliseconds: u64) -> Instant {
    Instant::from_nanos(milliseconds * 1_000_000)
}

fn uplink(number: u8) -> UplinkId {
    UplinkId::new(number).expect("within range")
}

/// A sender with two uplinks whose ways take 20 and 40 ms, to a peer whose clock is a second ahead.
fn sender() -> Sender<u32> {
    let mut sender = Sender::new(at(0), 1 << 32, vec![]);
    sender.set_usable([uplink(0), uplink(1)].into_iter().collect());
    for (number, way) in [(0, 20), (1, 40)] {
        sender.on_probe_answered(at(2 * way), uplink(number), at(0), at(1000 + way).as_nanos());
    }
    sender.announce_recovery(at(100));
    sender
}

fn send(sender: &mut Sender<u32>, now: Instant, frame: u32) -> Option<Dispatch<u32>> {
    assert!(!sender.handle_frame(now, frame, LENGTH, &Headers::NONE));
    sender.poll(now)
}

/// The peer says at `now` by our clock that all below `next` has come, and these numbers by uplink 0, the last just then.
fn hear(sender: &mut Sender<u32>, now: u64, next: u64, seen: &[u64]) {
    let mut feedback = Feedback::new(150_000, seq::truncate(next));
    seen.iter().for_each(|sequence| feedback.set_seen(sequence - next));
    if let Some(highest) = seen.last() {
        let bytes = LENGTH * seen.len() as u32;
        let arrivals = Arrivals { highest: seq::truncate(*highest), age_micros: 0, bytes, burst_kilobytes: 0 };
        feedback.set_arrivals(uplink(0), arrivals);
    }
    sender.on_feedback(at(now), at(1000 + now - 20).as_nanos(), &feedback);
}

#[test]
fn a_frame_goes_where_it_arrives_first_and_elsewhere_when_that_is_full() {
    let mut sender = sender();
    let mut used = [0; 2];
    for frame in 0..40 {
        if let Some(dispatch) = send(&mut sender, at(100), frame) {
            dispatch.uplinks.iter().for_each(|uplink| used[uplink.index()] += 1);
        }
    }
    assert!(used[0] > used[1] && used[1] > 0, "{used:?}");
}

#[test]
fn what_later_frames_have_passed_goes_again() {
    let mut sender = sender();
    let numbers: Vec<u64> = (0..3)
        .filter_map(|frame| send(&mut sender, at(100 + u64::from(frame)), frame))
        .map(|sent| sent.sequence)
        .collect();
    hear(&mut sender, 143, numbers[0], &[numbers[0], numbers[2]]);
    let resend = sender.poll_resend(at(143)).expect("the second is missing");
    assert_eq!((resend.sequence, resend.length), (numbers[1], LENGTH));
    assert_eq!(sender.poll_resend(at(143)), None, "once");
    hear(&mut sender, 190, numbers[2] + 1, &[]);
    assert_eq!((sender.oldest(), sender.counters().resent), (numbers[2] + 1, 1));
}

#[test]
fn when_an_uplink_falls_all_that_was_on_it_goes_by_the_other_at_once() {
    let mut sender = sender();
    let sent: Vec<_> = (0..5).filter_map(|frame| send(&mut sender, at(100), frame)).collect();
    let on_first = sent.iter().filter(|dispatch| dispatch.uplinks.contains(uplink(0))).count();
    sender.set_usable(UplinkSet::only(uplink(1)));
    let again: Vec<_> = std::iter::from_fn(|| sender.poll_resend(at(101))).collect();
    assert_eq!(again.len(), on_first);
    assert!(again.iter().all(|resend| resend.uplink == uplink(1)));
    assert!(again.windows(2).all(|pair| pair[0].sequence < pair[1].sequence), "the oldest first");
}

#[test]
fn the_last_frame_is_missed_too() {
    let mut sender = sender();
    let sent = send(&mut sender, at(100), 1).expect("sent");
    let mut now = at(100);
    while let Some(due) = sender.next_timeout(now).filter(|due| *due < at(250)) {
        now = due;
        sender.handle_timeout(now);
        if let Some(resend) = sender.poll_resend(now) {
            assert_eq!(resend.sequence, sent.sequence);
            assert!(now < at(220), "{now:?}");
            return;
        }
    }
    panic!("nobody missed it");
}

#[test]
fn what_could_only_come_too_late_is_dropped_before_it_is_sent() {
    let mut sender = sender();
    hear(&mut sender, 100, 1 << 32, &[]);
    let mut sent = 0;
    for frame in 0..1000 {
        sent += u64::from(send(&mut sender, at(100), frame).is_some());
    }
    while sender.poll(at(400)).is_some() {
        sent += 1;
    }
    assert_eq!((sent + sender.counters().too_late, sender.waiting()), (1000, 0));
    assert!(sender.counters().too_late > 500);
}

#[test]
fn a_peer_that_talks_nonsense_stops_nothing_for_long() {
    let mut sender = sender();
    for (number, nonsense) in [0, 1, u64::MAX, 1 << 63, u64::MAX / 2].into_iter().enumerate() {
        let now = at(100 + number as u64);
        send(&mut sender, now, 1);
        let mut feedback = Feedback::new(nonsense as u32, nonsense as u32);
        (0..4096).for_each(|offset| feedback.set_seen(offset));
        let low = nonsense as u32;
        let arrivals = Arrivals { highest: low, age_micros: low, bytes: low, burst_kilobytes: low };
        feedback.set_arrivals(uplink(0), arrivals);
        sender.on_feedback(now, nonsense, &feedback);
        sender.on_probe_answered(now, uplink(1), at(99), nonsense);
    }
    sender.handle_timeout(at(10_000));
    let now = at(10_001);
    let sent = send(&mut sender, now, 7).is_some() || {
        let due = sender.next_timeout(now).expect("something waits");
        sender.poll(due.max(at(13_000))).is_some()
    };
    assert!(sent || sender.counters().too_late > 0);
}

#[test]
fn precious_frames_go_by_two_uplinks() {
    let mut sender = sender();
    sender.redundancy = vec![redundancy::Rule::Small(200)];
    assert!(!sender.handle_frame(at(100), 1, 100, &Headers::NONE));
    let small = sender.poll(at(100)).expect("sent");
    let large = send(&mut sender, at(100), 2).expect("sent");
    assert_eq!((small.uplinks.iter().count(), large.uplinks.iter().count()), (2, 1));
    assert_eq!(sender.counters().duplicated, 1);
}
