//! The bodies of the fuzz targets. They live here so that everyone compiles them, and the tests replay the corpus.
//!
//! The body for scenarios is in the lab, beside what it tries.

mod config;
mod control;
mod decapsulator;
mod reorder;
mod tunnel;

pub use config::config;
pub use control::control;
pub use decapsulator::decapsulator;
pub use reorder::reorder;
pub use tunnel::tunnel;

use std::time::Duration;

use bytes::{Buf, Bytes};

use crate::proto::tunnel::Payload;

impl Payload for Bytes {
    fn bytes(&self) -> &[u8] {
        self
    }

    fn advance(&mut self, count: usize) {
        Buf::advance(self, count);
    }
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
