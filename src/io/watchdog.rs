//! Tells the service manager that the reactor still goes round (sd_watchdog_enabled(3)).

use std::time::Duration;

use crate::proto::time::Instant;

/// Tells it twice as often as it wants to be told.
pub struct Watchdog {
    interval: Duration,
    next: Instant,
}

impl Watchdog {
    /// `None` if nobody wants to be told.
    #[must_use]
    pub fn wanted() -> Option<Self> {
        let interval = sd_notify::watchdog_enabled()? / 2;
        (!interval.is_zero()).then_some(Self { interval, next: Instant::ZERO })
    }

    /// When it is to be told next.
    #[must_use]
    pub const fn next(&self) -> Instant {
        self.next
    }

    /// Tells it, if that is due.
    pub fn on_tick(&mut self, now: Instant) {
        if now >= self.next {
            self.next = now + self.interval;
            if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Watchdog]) {
                tracing::debug!("cannot notify the service manager: {error}");
            }
        }
    }
}
