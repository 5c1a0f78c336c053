//! Keys: that they change without a frame noticing, that starts are survived, and many boxes at one gateway.

use std::thread;
use std::time::Duration;

use braid::config::Share;

use crate::hostile::counted;
use crate::lab::{BOX, End, GATEWAY, Lab, Mounts, PATIENT, TWO, await_that, missing, private_key, program};

fn keys_changed(end: &End) -> usize {
    end.log().matches("new keys").count()
}

#[test]
fn keys_change_under_way_and_no_frame_is_lost_or_late() {
    let Some(lab) = Lab::up(TWO) else { return };
    let flags = format!("--mode balance-rr {PATIENT}");
    let (far, near) = (lab.start_gateway(&flags), lab.start_box(&format!("{flags} --rekey-interval 1s")));
    lab.await_answer();
    far.await_log_times("-> up: ", 2);
    let (before, stream) = (keys_changed(&far), lab.stream(Lab::UP, 6_000, || ()));
    assert_eq!(missing(&stream), 0, "{}", far.counters());
    assert!(keys_changed(&far) >= before + 4, "{}", far.log());
    assert_eq!(missing(&lab.stream(Lab::DOWN, 3_000, || ())), 0, "{}", near.counters());
}

#[test]
fn either_end_starts_again_and_is_known_again() {
    let Some(lab) = Lab::up(TWO) else { return };
    let (mut far, mut near) = lab.start_both("");
    far.kill();
    let mut far = lab.start_gateway("");
    lab.await_answer();
    near.kill();
    let near = lab.start_box("");
    lab.await_answer();
    assert!(near.log().contains("sealed with "), "{}", near.log());
    assert_eq!(far.stop(), Some(0));
    near.await_log("the peer has stopped");
}

#[test]
fn both_ciphers_carry_frames_and_ends_that_agree_on_none_say_so() {
    let Some(lab) = Lab::up(TWO) else { return };
    for cipher in ["aes-256-gcm", "chacha20-poly1305"] {
        let far = lab.start_gateway("");
        let near = lab.start_box(&format!("--cipher {cipher}"));
        lab.await_answer();
        near.await_log(&format!("sealed with {cipher}"));
        drop((far, near));
    }
    let (far, _near) = (lab.start_gateway("--cipher aes-256-gcm"), lab.start_box("--cipher chacha20-poly1305"));
    far.await_log("--cipher");
    assert!(!lab.answers());
}

#[test]
fn a_shared_secret_must_be_shared() {
    let Some(lab) = Lab::up(TWO) else { return };
    let (secret, other) = (lab.key_file("secret"), lab.key_file("another"));
    let secret = format!("--preshared-key-file {}", secret.display());
    let (_far, near) = lab.start_both(&secret);
    drop(near);
    let near = lab.start_box(&format!("--preshared-key-file {}", other.display()));
    near.await_log("does not answer");
    assert!(!lab.answers());
    drop(near);
    let _near = lab.start_box(&secret);
    lab.await_answer();
}

/// What a gateway is told of two boxes.
fn entries(names: [&str; 2]) -> String {
    let entry = |name: &str, number: u8| {
        let peer = private_key(name).public();
        format!("--box name={name},peer={peer},tap=braid{number},address=10.9.{number}.2/24")
    };
    format!("--mode balance-rr {PATIENT} {} {}", entry(names[0], 1), entry(names[1], 2))
}

/// The boxes, each of which has one of the uplinks.
fn start_boxes(lab: &Lab, names: [&str; 2]) -> [End; 2] {
    let start = |name: &str, uplink: &str, number: u8| {
        lab.start_named_box(&format!(
            "--key-file {} --uplink dev={uplink} --tap tap-{name} --address 10.9.{number}.1/24 {PATIENT}",
            lab.key_file(name).display()
        ))
    };
    [start(names[0], "a", 1), start(names[1], "b", 2)]
}

fn pings(lab: &Lab, address: &str) -> bool {
    let ping = lab.command(BOX, &format!("ping -q -c 1 -W 1 {address}")).output();
    ping.is_ok_and(|output| output.status.success())
}

#[test]
fn two_boxes_at_one_gateway_do_not_hurt_or_hear_each_other() {
    let Some(lab) = Lab::up(TWO) else { return };
    let far = lab.start_gateway_of_boxes(&entries(["one", "two"]));
    let [mut one, two] = start_boxes(&lab, ["one", "two"]);
    await_that("both boxes are answered", || pings(&lab, "10.9.1.2") && pings(&lab, "10.9.2.2"));
    let stream = lab.stream((BOX, GATEWAY, "10.9.2.2"), 5_000, || {
        // As fast as it goes, whatever becomes of it.
        let _ = lab.command(BOX, "ping -q -f -c 100000 -w 2 -s 1000 10.9.1.2").output();
        one.kill();
    });
    assert_eq!(missing(&stream), 0, "{}", far.log());
    assert!(far.log().contains("box{name=\"one\"}"), "{}", far.log());
    assert!(!pings(&lab, "10.9.1.2") && pings(&lab, "10.9.2.2"));
    let received = |tap: &str| -> u64 {
        let path = format!("cat /sys/class/net/{tap}/statistics/rx_packets");
        String::from_utf8_lossy(&lab.run(GATEWAY, &path).stdout).trim().parse().expect("a number")
    };
    let before = received("braid1");
    lab.run(BOX, "ping -q -c 20 -i 0.02 10.9.2.2");
    assert_eq!(received("braid1"), before, "what the one box sends is the other's affair");
    drop(two);
}

/// A name whose key is that share's.
fn name_in(share: Share) -> String {
    let mut names = (0..).map(|number| format!("van-{number}"));
    names.find(|name| share.has(private_key(name).public().hint())).expect("there are many")
}

#[test]
fn processes_share_a_port_and_each_serves_its_boxes_whichever_is_restarted() {
    let Some(lab) = Lab::up(TWO) else { return };
    let mounts = Mounts::new();
    let names = [0, 1].map(|index| name_in(Share { index, of: 2 }));
    let names = [names[0].as_str(), names[1].as_str()];
    let start = |index: usize| lab.start_gateway_among(&mounts, &format!("{} --share {index}/2", entries(names)));
    let [mut first, second] = [start(0), start(1)];
    let boxes = start_boxes(&lab, names);
    await_that("both boxes are answered", || pings(&lab, "10.9.1.2") && pings(&lab, "10.9.2.2"));
    let stream = lab.stream((BOX, GATEWAY, "10.9.2.2"), 4_000, || {
        first.kill();
        first = start(0);
        await_that("the box of the one that was restarted is answered", || pings(&lab, "10.9.1.2"));
    });
    assert_eq!(missing(&stream), 0, "{}", second.log());
    for (end, own, other) in [(&first, "tap=braid1 ", "braid2"), (&second, "tap=braid2 ", "braid1")] {
        let log = end.log();
        assert!(log.contains(own) && !log.contains(other), "{log}");
    }
    // Nothing has come to the wrong process.
    for reason in ["unknown_session", "handshake_rejected"] {
        assert_eq!(counted(&second.counters(), reason), 0, "{}", second.log());
    }
    drop(boxes);
}

#[test]
fn frames_held_together_are_all_written_however_many_taps_share_the_writes() {
    let Some(lab) = Lab::up(TWO) else { return };
    let entry = |number: usize| {
        let peer = private_key(&if number == 0 { "braid-box".to_owned() } else { format!("absent-{number}") }).public();
        format!("--box name=b{number},peer={peer},tap=braid{number},address=10.{}.0.2/24", 9 + number)
    };
    let entries: Vec<_> = (0..32).map(entry).collect();
    // Nothing is merged, so each frame takes a write of its own.
    let flags = "--mode balance-rr --window 200ms --offload none";
    let far = lab.start_gateway_of_boxes(&format!("{flags} {}", entries.join(" ")));
    let _near = lab.start_named_box(&format!(
        "{flags} --key-file {} --uplink dev=a --uplink dev=b --tap braid0 --address 10.9.0.1/24",
        lab.key_file("braid-box").display()
    ));
    await_that("the box is answered", || pings(&lab, "10.9.0.2"));
    far.await_log_times("-> up: ", 2);
    let source = format!("{} source --to 10.9.0.2:5001 --rate 64mbit --size 1000", program("braid-lab").display());
    let mut source = lab.command(BOX, &format!("{source} --duration 2s")).spawn().expect("ip runs");
    thread::sleep(Duration::from_millis(500));
    lab.happen("b", "blackhole");
    assert!(source.wait().is_ok_and(|status| status.success()));
    far.counters();
    let log = far.log();
    let counters = log.lines().rfind(|line| line.contains("box{name=\"b0\"}: counters")).expect("just logged");
    let held = counters.split_whitespace().find_map(|word| word.strip_prefix("hold_max_ms=")?.parse::<f64>().ok());
    assert!(held > Some(20.0), "frames had to wait for those that were lost: {counters}");
    assert!(!counters.contains("no_buffer"), "{counters}");
}
