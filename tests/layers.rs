//! The house's rules, proved: the core compiles alone, imports run one way, and `unsafe` stays in the shell.

use std::fs;
use std::path::{Path, PathBuf};

/// The core by itself, with none of the other layers there to be imported. That this test compiles is the proof.
#[allow(dead_code, unused_imports, missing_docs, reason = "only what it imports matters here")]
#[path = "../src/proto/mod.rs"]
mod proto;

#[test]
fn the_core_compiles_alone() {
    assert_eq!(proto::seq::truncate(proto::seq::begin(7)), 7);
}

/// Each layer, and what it may import of the crate beside itself.
const LAYERS: [(&str, &[&str]); 12] = [
    ("src/proto", &["proto"]),
    ("src/offload", &["proto", "offload"]),
    ("src/config", &["proto", "units", "config"]),
    ("src/control", &[]),
    ("src/units.rs", &[]),
    ("src/io", &["proto", "offload", "config", "control", "io"]),
    ("src/cli", &["proto", "config", "units"]),
    ("src/sim", &["proto", "sim"]),
    ("src/fuzzing", &["proto", "offload", "cli", "config", "fuzzing", "sim", "units"]),
    ("src/logging.rs", &["config"]),
    ("src/run.rs", &["cli", "config", "io", "logging"]),
    ("src/braidctl", &["proto", "cli", "config", "control", "io", "run", "units", "braidctl"]),
];

#[test]
fn imports_run_one_way() {
    for (layer, allowed) in LAYERS {
        for (path, text) in sources(layer) {
            for import in imports(&text) {
                assert!(allowed.contains(&import.as_str()), "{} imports crate::{import}", path.display());
            }
        }
    }
}

#[test]
fn of_the_core_super_frames_know_only_why_a_frame_is_dropped() {
    for (path, text) in sources("src/offload") {
        for (at, _) in text.match_indices("crate::proto::") {
            assert!(text[at..].starts_with("crate::proto::stats::DropReason"), "{}", path.display());
        }
    }
}

#[test]
fn within_the_core_arrows_point_downwards() {
    // Each room, and those that it may look into.
    let rooms: [(&str, &[&str]); 11] = [
        ("time", &[]),
        ("seq", &[]),
        ("stats", &[]),
        ("uplink", &["time", "seq", "stats"]),
        ("receive", &["time", "seq", "stats", "uplink", "wire"]),
        ("send", &["time", "seq", "stats", "uplink", "wire"]),
        ("scheduler", &["time", "stats", "uplink", "send"]),
        ("wire", &["stats", "uplink"]),
        ("session", &["time", "seq", "stats", "uplink", "wire"]),
        ("tunnel", &["time", "seq", "stats", "uplink", "receive", "scheduler", "send", "wire", "session"]),
        ("endpoint", &["time", "seq", "stats", "uplink", "receive", "scheduler", "send", "wire", "session", "tunnel"]),
    ];
    for (room, allowed) in rooms {
        let mut files = sources(&format!("src/proto/{room}"));
        files.extend(sources(&format!("src/proto/{room}.rs")));
        assert!(!files.is_empty(), "the core has no room '{room}'");
        for (path, text) in files {
            for other in rooms.iter().map(|(other, _)| *other).filter(|other| *other != room) {
                // A room's first file says it shorter than the others.
                let is_first = path.ends_with(format!("{room}/mod.rs")) || path.ends_with(format!("{room}.rs"));
                let looks = text.contains(&format!("crate::proto::{other}"))
                    || text.contains(&format!("proto::{other}::"))
                    || (is_first && text.contains(&format!("use super::{other}")));
                assert!(!looks || allowed.contains(&other), "{} looks into '{other}'", path.display());
            }
        }
    }
}

#[test]
fn of_sessions_tunnels_know_only_what_seals_them() {
    for (path, text) in sources("src/proto/tunnel") {
        for (at, _) in text.match_indices("session::") {
            assert!(text[at..].starts_with("session::cipher::Cipher;"), "{}", path.display());
        }
    }
}

#[test]
fn only_the_shell_is_unsafe_and_the_core_reads_no_clock() {
    for (path, text) in sources("src") {
        let code: String = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        let is_shell = path.starts_with(root().join("src/io"));
        assert!(is_shell || !code.contains("unsafe {"), "{} is unsafe", path.display());
        let is_core = ["src/proto", "src/offload"].iter().any(|layer| path.starts_with(root().join(layer)));
        for clock in ["Instant::now", "SystemTime", "HashMap", "HashSet", "std::env", "std::fs", "libc::"] {
            assert!(!is_core || !code.contains(clock), "{} uses {clock}", path.display());
        }
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All Rust files below a path, or the one that it is.
fn sources(path: &str) -> Vec<(PathBuf, String)> {
    let mut found = vec![];
    collect(&root().join(path), &mut found);
    found
}

fn collect(path: &Path, found: &mut Vec<(PathBuf, String)>) {
    if path.is_dir() {
        for entry in fs::read_dir(path).expect("a folder") {
            collect(&entry.expect("an entry").path(), found);
        }
    } else if path.is_file() && path.extension().is_some_and(|ending| ending == "rs") {
        found.push((path.to_owned(), fs::read_to_string(path).expect("readable")));
    }
}

/// What follows `crate::` anywhere but in a comment.
fn imports(text: &str) -> Vec<String> {
    let code: String = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    code.split("crate::")
        .skip(1)
        .map(|rest| rest.chars().take_while(|character| character.is_alphanumeric() || *character == '_').collect())
        .collect()
}
