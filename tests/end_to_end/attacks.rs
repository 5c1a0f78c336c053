//! Attacks on a sealed tunnel that carries a stream in each direction, by real packets: nothing gets in, and nothing is
//! lost.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::hostile::{PROVIDER, counted, port_of_uplink_a};
use crate::lab::{BOX, End, GATEWAY, Lab, TWO, missing, private_key};
use crate::offload::python;

/// The attacks; see there.
const ATTACK: &str = include_str!("attack.py");
/// What an end may have more after an attack than before it, in KiB.
const GROWTH_KIB_MAX: u64 = 1024;
/// How long the stream to the box is shorter than that to the gateway, which goes around it.
const MARGIN_MS: u64 = 700;

/// Something that is watched in the background until it is asked what was seen.
struct Watch(Child);

impl Watch {
    fn start(lab: &Lab, namespace: &str, arguments: &[&str]) -> Self {
        let mut command = python(lab, namespace, ATTACK, arguments);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("python3 runs");
        // A byte at a time, so that nothing of what follows is taken.
        let mut line = Vec::new();
        let out = child.stdout.as_mut().expect("piped");
        out.by_ref().take(6).read_to_end(&mut line).expect("read");
        assert_eq!(line, b"ready\n");
        Self(child)
    }

    fn end(mut self) -> Vec<String> {
        drop(self.0.stdin.take());
        let lines = BufReader::new(self.0.stdout.take().expect("piped")).lines();
        let lines = lines.map(|line| line.expect("text")).collect();
        assert!(self.0.wait().is_ok_and(|status| status.success()));
        lines
    }
}

/// Attackers take CPU from the emulated links, too, and may have them stall: what counts is that nothing is lost.
pub const WINDOW: &str = "--window 1s";

/// A sealed tunnel over two uplinks, and what was captured of it.
pub struct Scene {
    /// The links.
    pub lab: Lab,
    /// The gateway.
    pub far: End,
    /// The box.
    pub near: End,
    flags: String,
}

/// What the gateway and the box have counted at the end of an attack beyond what they had at its beginning.
pub struct Drops {
    before: [String; 2],
    after: [String; 2],
}

impl Drops {
    fn grown(&self, end: usize, reasons: &[&str]) -> u64 {
        let sum = |line: &str| reasons.iter().map(|reason| counted(line, reason)).sum::<u64>();
        sum(&self.after[end]) - sum(&self.before[end])
    }

    fn all(line: &str) -> u64 {
        let words = line.split_once("dropped: ").expect("the line lists drops").1.split_whitespace();
        words.filter_map(|word| word.split_once('=')?.1.parse::<u64>().ok()).sum()
    }

    /// The gateway's counters at the end.
    pub fn gateway(&self) -> &str {
        &self.after[0]
    }

    /// At least so many of these reasons at the gateway.
    pub fn assert_gateway(&self, reasons: &[&str], least: u64) {
        assert!(self.grown(0, reasons) >= least.max(1), "{reasons:?} fewer than {least}: {}", self.after[0]);
    }

    /// The same at the box.
    fn assert_box(&self, reasons: &[&str], least: u64) {
        assert!(self.grown(1, reasons) >= least.max(1), "{reasons:?} fewer than {least}: {}", self.after[1]);
    }

    /// Nearly all that was sent was dropped for one reason or another; a little may be lost on its way.
    fn assert_all_dropped(&self, sent: &Value) {
        for (end, name) in ["gateway", "box"].into_iter().enumerate() {
            let dropped = Self::all(&self.after[end]) - Self::all(&self.before[end]);
            assert!(dropped >= most_of(sent, name), "{name}: {sent} were sent: {}", self.after[end]);
        }
    }
}

/// Nine in ten of what was sent to an end.
fn most_of(sent: &Value, end: &str) -> u64 {
    let sent = sent[end].as_u64().expect("a count");
    assert!(sent > 0, "nothing was sent to the {end}");
    sent * 9 / 10
}

impl Scene {
    /// Up, over two uplinks, with these flags added for the box; `None` where the test cannot run.
    pub fn up(box_flags: &str) -> Option<Self> {
        Some(Self::in_lab(Lab::up(TWO)?, box_flags))
    }

    fn in_lab(lab: Lab, box_flags: &str) -> Self {
        let flags = format!("--mode balance-rr {WINDOW}");
        let (far, near) = (lab.start_gateway(&flags), lab.start_box(&format!("{flags} {box_flags}")));
        lab.await_answer();
        let scene = Self { lab, far, near, flags };
        scene.await_well();
        scene
    }

    fn await_well(&self) {
        self.near.await_well(2);
        self.far.await_well(2);
    }

    /// Everything on the uplinks from the start of the ends, and of a second of streams in both directions.
    fn captured() -> Option<(Self, tempfile::TempDir, PathBuf)> {
        let lab = Lab::up(TWO)?;
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("capture");
        let watch = Watch::start(&lab, GATEWAY, &["capture", &file.display().to_string(), "a", "b"]);
        let scene = Self::in_lab(lab, "");
        scene.lab.stream(Lab::UP, 1_000, || drop(scene.lab.stream(Lab::DOWN, 1_000, || {})));
        watch.end();
        Some((scene, folder, file))
    }

    /// Runs an attack, and returns how much it has sent to each end.
    fn attack(&self, namespace: &str, arguments: &[&str]) -> Value {
        let output = python(&self.lab, namespace, ATTACK, arguments).output().expect("python3 runs");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        eprintln!("{}: {}", arguments[0], text.trim());
        serde_json::from_str(text.lines().last().expect("a line")).expect("JSON")
    }

    fn attack_by(&self, kind: &str, file: &Path) -> Value {
        self.attack(PROVIDER, &[kind, &file.display().to_string()])
    }

    /// Has streams run in both directions around an attack: they arrive whole, once and in order, nothing else does, and
    /// neither end takes more memory.
    pub fn assert_unharmed(&self, milliseconds: u64, attack: impl FnOnce()) -> Drops {
        let ends = [&self.far, &self.near];
        let watches = [GATEWAY, BOX].map(|namespace| Watch::start(&self.lab, namespace, &["watch", "braid0"]));
        let resident = ends.map(|end| end.holds().0);
        let before = ends.map(End::counters);
        let attack = || {
            let begun = Instant::now();
            attack();
            let within = Duration::from_millis(milliseconds);
            assert!(begun.elapsed() < within, "the attack took {:?}: longer than the streams", begun.elapsed());
        };
        let mut down = None;
        let inner = || down = Some(self.lab.stream(Lab::DOWN, milliseconds, attack));
        let up = self.lab.stream(Lab::UP, milliseconds + MARGIN_MS, inner);
        let drops = Drops { before, after: ends.map(End::counters) };
        let lost = [missing(&up), missing(&down.expect("streamed"))];
        assert_eq!(lost, [0, 0], "{:#?}", drops.after);
        for watch in watches {
            assert_eq!(watch.end(), Vec::<String>::new(), "foreign frames");
        }
        for (before, end) in resident.into_iter().zip(ends) {
            let after = end.holds().0;
            eprintln!("memory: {before} KiB, {after} KiB after the attack");
            assert!(after <= before + GROWTH_KIB_MAX, "{before} KiB grew to {after}");
        }
        drops
    }
}

#[test]
fn forged_frames_and_control_messages_are_not_let_in() {
    let Some((scene, _folder, file)) = Scene::captured() else { return };
    let mut sent = Value::Null;
    let drops = scene.assert_unharmed(3_000, || sent = scene.attack_by("forge", &file));
    drops.assert_gateway(&["unauthenticated"], most_of(&sent, "gateway"));
    drops.assert_box(&["unauthenticated"], most_of(&sent, "box"));
}

#[test]
fn replayed_frames_control_messages_and_handshakes_change_nothing() {
    let Some((scene, _folder, file)) = Scene::captured() else { return };
    let mut sent = Value::Null;
    let drops = scene.assert_unharmed(5_000, || sent = scene.attack_by("replay", &file));
    drops.assert_all_dropped(&sent);
    for reason in ["frame_replayed", "duplicate", "unknown_source", "control_replayed", "handshake_over"] {
        drops.assert_gateway(&[reason], 1);
    }
    for reason in ["frame_replayed", "control_replayed", "handshake_over"] {
        drops.assert_box(&[reason], 1);
    }
    let log = scene.far.log();
    assert!(!log.contains("has moved") && !log.contains("order begun anew"), "{log}");
}

#[test]
fn what_was_captured_before_both_ends_were_started_again_is_of_no_use() {
    let Some((mut scene, _folder, file)) = Scene::captured() else { return };
    // A gateway that has not heard from the box yet knows no stamp of it.
    assert_eq!((scene.near.stop(), scene.far.stop()), (Some(0), Some(0)));
    scene.far = scene.lab.start_gateway(&scene.flags);
    scene.attack_by("replay", &file);
    let log = scene.far.log();
    assert!(!log.contains("the peer has been found") && !log.contains("is at"), "{log}");
    scene.near = scene.lab.start_box(&scene.flags);
    scene.lab.await_answer();
    scene.await_well();
    let mut sent = Value::Null;
    let (path, port) = (file.display().to_string(), port_of_uplink_a(&scene.far).to_string());
    let drops = scene.assert_unharmed(5_000, || sent = scene.attack(PROVIDER, &["replay", &path, &port]));
    drops.assert_all_dropped(&sent);
    drops.assert_gateway(&["unknown_session", "unauthenticated"], most_of(&sent, "gateway") * 8 / 10);
    drops.assert_gateway(&["handshake_replayed"], 1);
    drops.assert_box(&["unknown_session", "unauthenticated"], most_of(&sent, "box") * 8 / 10);
    assert!(!scene.far.log().contains("has moved"), "{}", scene.far.log());
}

#[test]
fn a_flipped_bit_anywhere_in_the_first_bytes_is_noticed() {
    let Some((scene, _folder, file)) = Scene::captured() else { return };
    let mut sent = Value::Null;
    let drops = scene.assert_unharmed(2_000, || sent = scene.attack_by("flip", &file));
    drops.assert_all_dropped(&sent);
    for reason in ["version", "protocol_type", "unknown_session", "unauthenticated", "handshake_malformed"] {
        drops.assert_gateway(&[reason], 1);
        drops.assert_box(&[reason], 1);
    }
    drops.assert_gateway(&["handshake_mac"], 32);
}

#[test]
fn a_datagram_that_ends_early_is_noticed() {
    let Some((scene, _folder, file)) = Scene::captured() else { return };
    let mut sent = Value::Null;
    let drops = scene.assert_unharmed(2_000, || sent = scene.attack_by("cut", &file));
    drops.assert_all_dropped(&sent);
    for reason in ["truncated", "unauthenticated", "handshake_malformed"] {
        drops.assert_gateway(&[reason], 1);
        drops.assert_box(&[reason], 1);
    }
}

#[test]
fn a_datagram_that_comes_once_more_from_elsewhere_moves_no_uplink() {
    let Some(scene) = Scene::up("") else { return };
    let drops = scene.assert_unharmed(4_000, || drop(scene.attack(GATEWAY, &["hijack", "nowhere", "2", "a", "b"])));
    drops.assert_gateway(&["unknown_source"], 500);
    drops.assert_gateway(&["control_replayed"], 10);
    let log = scene.far.log();
    assert!(!log.contains("has moved") && !log.contains("order begun anew"), "{log}");
}

#[test]
fn a_datagram_that_comes_once_more_from_the_address_of_another_uplink_costs_nothing() {
    let Some(scene) = Scene::up("") else { return };
    let drops = scene.assert_unharmed(4_000, || drop(scene.attack(GATEWAY, &["hijack", "uplinks", "2", "a", "b"])));
    drops.assert_gateway(&["duplicate", "late"], 500);
    drops.assert_gateway(&["control_replayed"], 10);
}

#[test]
fn word_that_the_gateway_cannot_be_reached_is_not_believed() {
    let Some(scene) = Scene::up("") else { return };
    let port = port_of_uplink_a(&scene.far).to_string();
    let told = || kernel_count(&scene.lab, "IcmpInDestUnreachs");
    let before = told();
    let mut sent = Value::Null;
    scene.assert_unharmed(4_000, || sent = scene.attack(PROVIDER, &["unreachable", "2", &port]));
    let told = told() - before;
    assert!(told > 1_000, "{told} came of {sent}");
    let log = scene.near.log();
    assert!(!log.contains("-> down") && !log.contains("-> suspect"), "{log}");
}

/// What the box's kernel has counted.
fn kernel_count(lab: &Lab, name: &str) -> u64 {
    let output = lab.run(BOX, &format!("nstat --noupdate --zeros --json {name}")).stdout;
    let counts: Value = serde_json::from_slice(&output).expect("JSON");
    counts["kernel"][name].as_u64().unwrap_or_else(|| panic!("no {name} in {counts}"))
}

#[test]
fn boxes_with_a_wrong_key_or_a_wrong_idea_of_the_gateways_do_not_get_in() {
    let Some(scene) = Scene::up("") else { return };
    let stranger = |tap: &str, address: &str, flags: &str| {
        let end = scene.lab.start_box(&format!("--tap {tap} --address {address}/24 {flags}"));
        let far = "10.8.0.99 lladdr 02:00:00:00:00:99";
        scene.lab.run(BOX, &format!("ip neigh replace {far} dev {tap}"));
        end
    };
    let wrong_key = format!("--key-file {}", scene.lab.key_file("stranger").display());
    let wrong_peer = format!("--peer {}", private_key("stranger").public());
    // Each end waits some seconds before it says that nobody answers.
    let drops = scene.assert_unharmed(15_000, || {
        let strangers = [stranger("braid1", "10.8.0.1", &wrong_key), stranger("braid2", "10.8.0.2", &wrong_peer)];
        for (end, tap) in strangers.iter().zip(["braid1", "braid2"]) {
            let _ = scene.lab.command(BOX, &format!("ping -q -c 3 -i 0.1 -W 1 -I {tap} 10.8.0.99")).output();
            end.await_log("does not answer");
            let counters = end.counters();
            assert!(counters.contains(" delivered=0 "), "{counters}");
            assert!(counted(&counters, "no_session") + counted(&counters, "no_uplink") > 0, "{counters}");
        }
    });
    drops.assert_gateway(&["handshake_rejected"], 2);
    drops.assert_gateway(&["handshake_mac"], 2);
}
