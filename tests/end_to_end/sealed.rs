//! Keys: that they change without a frame noticing, that starts are survived, and many boxes at one gateway.

use crate::lab::{BOX, End, GATEWAY, Lab, PATIENT, TWO, await_that, missing, private_key};

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

/// A gateway with two boxes, each of which has one of the uplinks.
fn two_boxes(lab: &Lab) -> [End; 3] {
    let entry = |name: &str, tap: &str, host: u8| {
        format!("--box name={name},peer={},tap={tap},address=10.9.{host}.2/24", private_key(name).public())
    };
    let entries = format!("{} {}", entry("one", "braid1", 1), entry("two", "braid2", 2));
    let far = lab.start_gateway_of_boxes(&format!("--mode balance-rr {PATIENT} {entries}"));
    let near = |name: &str, uplink: &str, host: u8| {
        lab.start_named_box(&format!(
            "--key-file {} --uplink dev={uplink} --tap tap-{name} --address 10.9.{host}.1/24 {PATIENT}",
            lab.key_file(name).display()
        ))
    };
    [far, near("one", "a", 1), near("two", "b", 2)]
}

fn pings(lab: &Lab, address: &str) -> bool {
    let ping = lab.command(BOX, &format!("ping -q -c 1 -W 1 {address}")).output();
    ping.is_ok_and(|output| output.status.success())
}

#[test]
fn two_boxes_at_one_gateway_do_not_hurt_or_hear_each_other() {
    let Some(lab) = Lab::up(TWO) else { return };
    let [far, mut one, two] = two_boxes(&lab);
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
