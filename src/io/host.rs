//! What the core asks of the machine.

use std::time::Duration;

use super::sys;
use crate::proto::session::Host;

/// This machine.
#[derive(Clone, Copy, Debug)]
pub struct Machine;

impl Host for Machine {
    fn fill_random(&mut self, bytes: &mut [u8]) {
        // It fails only while the kernel has no randomness yet, which it waits for, and on kernels older than ours.
        sys::fill_random(bytes).expect("getrandom(2) fills what it is given");
    }

    fn time_of_day(&mut self) -> Duration {
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default()
    }
}
