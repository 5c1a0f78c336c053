//! What a client may ask for.

use serde::{Deserialize, Serialize};

/// A line of the client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// [`super::VERSION`].
    pub version: u32,
    /// Of which tunnel, by its TAP: all, unless given, where something is asked, and the only one where something is to be
    /// changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tap: Option<String>,
    /// What.
    #[serde(flatten)]
    pub command: Command,
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case")]
pub enum Command {
    /// [`super::Status`] of tunnels.
    Status,
    /// [`super::Event`]s that are still known.
    Events {
        /// Those with higher numbers than this.
        after: u64,
    },
    /// All [`super::Histogram`]s.
    Histograms,
    /// Send in this mode from now on. What is not given is as if the program had been started without it.
    Mode {
        /// Its name.
        mode: String,
        /// As `--packets-per-uplink` has it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        packets_per_uplink: Option<String>,
        /// As `--primary` has it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        primary: Option<String>,
        /// As `--primary-reselect` has it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        primary_reselect: Option<String>,
        /// As `--redundancy` has them, each by itself.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        redundancy: Vec<String>,
    },
    /// Hold received frames for so long at most from now on.
    Window {
        /// As `--window` has it: `40ms`, `auto`, `auto:100ms`, `off`.
        window: String,
    },
    /// Use one more uplink (at the box).
    UplinkAdd {
        /// As `--uplink` has it: `dev=wwan2,name=lte-c`.
        uplink: String,
    },
    /// Use an uplink no more (at the box).
    UplinkRemove {
        /// Its name.
        name: String,
    },
    /// Use an uplink otherwise (at the box).
    UplinkSet {
        /// Its name.
        name: String,
        /// What is to change, as `--uplink` has it: `weight=2`, `max-rate=5mbit` or `off`, `metered=false`.
        change: String,
    },
    /// Take the configuration file as it is now.
    Reload,
    /// Tell of all frames that enter and leave, until the client hangs up.
    Trace {
        /// The most bytes of a frame that are wanted.
        snap_length: u32,
    },
}
