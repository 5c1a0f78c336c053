//! SIGINT and SIGTERM, as a question to ask now and then, so that whatever is up is taken down on the way out.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether somebody has asked to stop.
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Catches the signals.
    ///
    /// # Errors
    /// If they cannot be caught.
    pub fn on_signals() -> Result<Self, String> {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            signal_hook::flag::register(signal, Arc::clone(&flag))
                .map_err(|error| format!("cannot catch signals: {error}"))?;
        }
        Ok(Self(flag))
    }

    /// Whether to stop now.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// An error if it is time to stop.
    ///
    /// # Errors
    /// That it is.
    pub fn check(&self) -> Result<(), String> {
        if self.is_wanted() { Err("stopped by a signal".to_owned()) } else { Ok(()) }
    }
}
