//! The tunnel under test: at each end a process in its namespace, ours or another's.

mod braid;
mod rist;

use std::path::Path;
use std::time::Duration;

use crate::daemon::Daemon;
use crate::end::PerEnd;
use crate::scenario::Scenario;

pub use braid::{TunnelOptions, arguments};
pub use rist::RistOptions;

/// How long the uplinks may take to come up.
const PATIENCE: Duration = Duration::from_secs(5);

/// Which tunnel is run, and with what.
#[derive(Clone, Debug)]
pub enum Contender {
    /// Ours.
    Braid(TunnelOptions),
    /// librist's ristsender and ristreceiver.
    Rist(RistOptions),
}

impl Contender {
    /// Starts both ends, and waits until every uplink is up. Keys, if there are some, go to the folder `secrets`.
    ///
    /// # Errors
    /// What went wrong, with what the end in question said last.
    pub fn start(&self, scenario: &Scenario, secrets: &Path) -> Result<Tunnel, String> {
        let logs = match self {
            Self::Braid(options) => &options.logs,
            Self::Rist(options) => &options.logs,
        };
        std::fs::create_dir_all(logs).map_err(|error| format!("{}: {error}", logs.display()))?;
        match self {
            Self::Braid(options) => braid::start(scenario, options, secrets),
            Self::Rist(options) => rist::start(scenario, options),
        }
    }

    /// What reports call it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Braid(_) => "braid",
            Self::Rist(_) => "rist",
        }
    }

    /// Its mode.
    #[must_use]
    pub fn mode(&self) -> &str {
        match self {
            Self::Braid(options) => options.mode.as_deref().unwrap_or("default"),
            Self::Rist(options) => options.mode.name(),
        }
    }

    /// How long it holds every datagram, whether one is missing or not.
    #[must_use]
    pub const fn delay(&self) -> Duration {
        match self {
            Self::Braid(_) => Duration::ZERO,
            Self::Rist(options) => options.buffer,
        }
    }

    /// How long it may hold a datagram.
    #[must_use]
    pub fn window(&self) -> String {
        match self {
            Self::Braid(options) => options.window.clone().unwrap_or("default".to_owned()),
            Self::Rist(options) => format!("{}ms", options.buffer.as_millis()),
        }
    }
}

/// A tunnel that runs; stopped when dropped.
pub struct Tunnel {
    gateway: Daemon,
    box_end: Daemon,
}

impl Tunnel {
    /// Whether both ends still run.
    ///
    /// # Errors
    /// Which does not, and what it said last.
    pub fn check(&mut self) -> Result<(), String> {
        self.gateway.check()?;
        self.box_end.check()
    }

    /// CPU time used so far, in seconds.
    #[must_use]
    pub fn cpu_seconds(&self) -> PerEnd<f64> {
        PerEnd { box_end: self.box_end.cpu_seconds(), gateway: self.gateway.cpu_seconds() }
    }

    /// Memory resident at most so far, in KiB.
    #[must_use]
    pub fn resident_kib(&self) -> PerEnd<u64> {
        PerEnd { box_end: self.box_end.resident_kib_max(), gateway: self.gateway.resident_kib_max() }
    }
}
