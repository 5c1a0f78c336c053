//! Starting, stopping, being killed, and what is left then.

use std::process::{Command, Stdio};
use std::time::Duration;

use crate::lab::{BOX, BOX_ADDRESS, GATEWAY, Lab, PATIENT, TWO, may_run, missing, program};

#[test]
fn after_sigterm_nothing_is_left() {
    let Some(lab) = Lab::up(TWO) else { return };
    let (mut far, mut near) = lab.start_both("");
    assert_eq!((near.stop(), far.stop()), (Some(0), Some(0)));
    for namespace in [BOX, GATEWAY] {
        let links = lab.run(namespace, "ip link").stdout;
        assert!(!String::from_utf8_lossy(&links).contains("braid0"), "the TAP is gone");
        let sockets = lab.run(namespace, "cat /proc/net/udp /proc/net/udp6").stdout;
        assert_eq!(String::from_utf8_lossy(&sockets).lines().count(), 2, "no socket is left");
    }
    assert!(far.log().contains("the peer has stopped"), "{}", far.log());
}

#[test]
fn a_tap_made_before_is_taken_over_and_given_back_as_it_was() {
    let Some(lab) = Lab::up(TWO) else { return };
    lab.run(BOX, "ip tuntap add dev braid0 mode tap");
    lab.run(BOX, "ip link set dev braid0 address 02:00:5e:00:53:01");
    lab.run(BOX, "ip addr add 192.0.2.1/24 dev braid0");
    let (_far, mut near) = lab.start_both("");
    assert_eq!(near.stop(), Some(0));
    let left = lab.run(BOX, "ip addr show dev braid0").stdout;
    let left = String::from_utf8_lossy(&left);
    assert!(left.contains("02:00:5e:00:53:01") && left.contains("192.0.2.1"), "{left}");
    assert!(!left.contains(BOX_ADDRESS), "{left}");
}

#[test]
fn either_end_may_be_killed_and_comes_back() {
    let Some(lab) = Lab::up(TWO) else { return };
    for mode in ["broadcast", "balance-rr"] {
        let flags = format!("--mode {mode} {PATIENT}");
        let (mut far, mut near) = lab.start_both(&flags);
        // Long enough for a receiver to be far ahead of where a restarted sender begins.
        assert_eq!(missing(&lab.stream(Lab::UP, 1000, || {})), 0);
        near.kill();
        near = lab.start_box(&flags);
        lab.await_answer();
        far.await_log("the peer has restarted");
        near.await_log_times("-> up: ", 2);
        assert_eq!(missing(&lab.stream(Lab::UP, 700, || {})), 0, "{mode}: after the box was killed");
        far.kill();
        far = lab.start_gateway(&flags);
        near.await_log("the peer has restarted");
        lab.await_answer();
        far.await_log_times("-> up: ", 2);
        near.await_log_times("-> up: ", 4);
        assert_eq!(missing(&lab.stream(Lab::DOWN, 700, || {})), 0, "{mode}: after the gateway was killed");
        assert_eq!((near.stop(), far.stop()), (Some(0), Some(0)));
    }
}

#[test]
fn a_tap_in_use_is_told_and_one_that_is_let_go_is_waited_for() {
    let Some(lab) = Lab::up(TWO) else { return };
    let mut far = lab.start_gateway("");
    let flags = "--listen 0.0.0.0:4999 --tap braid0 --plaintext";
    let second = lab.command(GATEWAY, &format!("{} {flags}", program("braid-gateway").display())).output();
    let second = second.expect("ip runs");
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(second.status.code() == Some(1) && said.contains("'braid0' is in use"), "{said}");
    far.kill();
    lab.start_gateway("");
}

#[test]
fn without_permission_it_says_what_is_needed() {
    if !may_run() {
        return;
    }
    // The folder of the build may be closed to others; a copy is not.
    let folder = tempfile::tempdir().expect("a folder");
    let copy = folder.path().join("braid-gateway");
    std::fs::copy(program("braid-gateway"), &copy).expect("copied");
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder.path(), open).expect("opened");
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"])
        .arg(&copy)
        .args(["--listen", "127.0.0.1:14755", "--tap", "braidtest1", "--plaintext"])
        .output()
        .expect("setpriv runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && said.contains("CAP_NET_ADMIN") && said.contains("braidtest1"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

/// Becomes a command that is given an errno for each io_uring_setup(2), which has number 425 on every architecture.
const WITHOUT_IO_URING: &str = r#"
import ctypes, os, struct, sys
errno = int(sys.argv[1])
code = lambda operation, yes, no, value: struct.pack("HBBI", operation, yes, no, value)
filter = code(0x20, 0, 0, 0) + code(0x15, 0, 1, 425) + code(0x06, 0, 0, 0x00050000 | errno) + code(0x06, 0, 0, 0x7fff0000)
memory = ctypes.create_string_buffer(filter)
program = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", 4, ctypes.addressof(memory)))
libc = ctypes.CDLL(None)
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, ctypes.byref(program)) == 0
os.execv(sys.argv[2], sys.argv[2:])
"#;

#[test]
fn without_io_uring_it_says_why_and_what_to_do() {
    let Some(lab) = Lab::up(TWO) else { return };
    for (errno, advice) in [(1, "seccomp"), (38, "use Linux 6.1 or later")] {
        let gateway = program("braid-gateway");
        let line = format!("{errno} {} --listen 0.0.0.0:4754 --tap braid0 --plaintext", gateway.display());
        let output = lab.command(GATEWAY, "python3 -c").arg(WITHOUT_IO_URING).args(line.split(' ')).output();
        let output = output.expect("python3 runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(1) && said.contains("io_uring") && said.contains(advice), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

#[test]
fn a_tap_that_is_deleted_ends_the_run_and_says_so() {
    let Some(lab) = Lab::up(TWO) else { return };
    let (mut far, _near) = lab.start_both("");
    lab.run(GATEWAY, "ip link del dev braid0");
    assert_eq!(far.wait(), Some(1));
    assert!(far.log().contains("'braid0' cannot be read any more"), "{}", far.log());
}

#[test]
fn readiness_is_notified_to_the_service_manager() {
    let Some(lab) = Lab::up(TWO) else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("notify");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).expect("bound");
    socket.set_read_timeout(Some(Duration::from_secs(5))).expect("set");
    let line = format!("{} --listen 0.0.0.0:4754 --tap braid0 --plaintext", program("braid-gateway").display());
    let mut child =
        lab.command(GATEWAY, &line).env("NOTIFY_SOCKET", &path).stderr(Stdio::null()).spawn().expect("ip runs");
    let mut message = [0; 64];
    let length = socket.recv(&mut message).expect("a notification");
    assert_eq!(String::from_utf8_lossy(&message[..length]).trim(), "READY=1");
    child.kill().expect("killed");
    child.wait().expect("it ends");
}
