//! The machine's monotonic clock, the same in every namespace: what makes one-way delays measurable.

use rustix::thread::clock_nanosleep_absolute;
use rustix::time::{ClockId, Timespec, clock_gettime};

/// Nanoseconds since boot.
#[must_use]
pub fn monotonic_nanoseconds() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Sleeps until that many nanoseconds since boot.
pub fn sleep_until(nanoseconds: u64) {
    let until =
        Timespec { tv_sec: (nanoseconds / 1_000_000_000) as i64, tv_nsec: (nanoseconds % 1_000_000_000) as i64 };
    while clock_nanosleep_absolute(ClockId::Monotonic, &until).is_err() {}
}

/// Has this thread's timers go off when they are due, not up to 50 µs later (PR_SET_TIMERSLACK).
pub fn sharpen_timers() {
    if let Err(error) = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1)) {
        eprintln!("braid-lab: timers stay blunt: {error}");
    }
}
