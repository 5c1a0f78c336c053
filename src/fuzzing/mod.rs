//! The bodies of the fuzz targets. They live here so that everyone compiles them, and the tests replay the corpus.
//!
//! The body for scenarios is in the lab, beside what it tries.

mod config;
mod control;
mod decapsulator;
mod handshake;
mod offload;
mod opener;
mod reorder;
pub mod sealed;
mod tunnel;

pub use config::config;
pub use control::control;
pub use decapsulator::decapsulator;
pub use handshake::handshake;
pub use offload::offload;
pub use opener::opener;
pub use reorder::reorder;
pub use tunnel::tunnel;

use std::time::Duration;

use bytes::Bytes;

use crate::proto::wire::{self, CONTROL_HEADER_LENGTH};

/// The datagram with the checksum that makes a control message of it, if it has the header of one: what a fuzzer would
/// have to guess, and a forger need not.
fn with_checksum(datagram: &[u8]) -> Bytes {
    let is_control = datagram.len() >= CONTROL_HEADER_LENGTH && datagram.starts_with(&wire::control_header(0)[..8]);
    let checksum = is_control.then(|| wire::control_checksum(datagram));
    [datagram, checksum.as_ref().map_or(&[], |checksum| &checksum[..])].concat().into()
}

/// Milliseconds, or for the highest values tenths of seconds, so that all that takes its time can happen.
fn pause(byte: u8) -> Duration {
    const MILLISECONDS_MAX: u8 = 200;
    let tenths = u64::from(byte.saturating_sub(MILLISECONDS_MAX));
    Duration::from_millis(u64::from(byte.min(MILLISECONDS_MAX)) + tenths * 100)
}

/// Gives `body` all that is committed for `target`, of which `seeds_min` at least must be seeds made by hand.
#[cfg(test)]
fn replay(target: &str, seeds_min: usize, body: fn(&[u8])) {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut seeds = 0;
    for file in std::fs::read_dir(folder).expect("the corpus is committed") {
        let file = file.expect("an entry");
        // Shown if it fails.
        println!("{}", file.path().display());
        body(&std::fs::read(file.path()).expect("readable"));
        seeds += usize::from(file.file_name().to_string_lossy().starts_with("seed-"));
    }
    assert!(seeds >= seeds_min, "{seeds} seeds for '{target}', where there should be {seeds_min}");
}
