//! How a tunnel is, at one moment.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How a tunnel is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// The process that it is in.
    pub process: Process,
    /// The box's name, at a gateway of several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The TAP.
    pub tap: String,
    /// The TAP's MTU, in bytes.
    pub mtu: u16,
    /// How this end sends: a mode's name.
    pub mode: String,
    /// The longest that received frames are held now, in milliseconds; none if they are not.
    pub window_ms: Option<f64>,
    /// The window as it was asked for: `40ms`, `auto:250ms`, `off`.
    pub window: String,
    /// The other end.
    pub peer: Peer,
    /// What all uplinks are believed to carry together, in Mbit/s of frames; none but in `adaptive`, once something is known.
    pub capacity_mbps: Option<f64>,
    /// What they carry even if the best of them fails, the same.
    pub safe_mbps: Option<f64>,
    /// Frames from the TAP.
    pub tx: Sent,
    /// Frames for the TAP.
    pub rx: Received,
    /// What the mode `adaptive` has done, where it is the mode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adaptive: Option<Adaptive>,
    /// All packets that went no further, by reason; those that never did are left out.
    pub drops: BTreeMap<String, u64>,
    /// The uplinks.
    pub uplinks: Vec<UplinkStatus>,
    /// From the TAP to the kernel for an uplink, in microseconds.
    pub tap_to_wire_us: Quantiles,
    /// From an uplink to the kernel for the TAP, in microseconds.
    pub wire_to_tap_us: Quantiles,
}

/// How a process is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Process {
    /// `braid-box` or `braid-gateway`.
    pub program: String,
    /// Its version.
    pub version: String,
    /// Its number.
    pub pid: u32,
    /// For how long it has run, in seconds.
    pub uptime_s: f64,
    /// Its public key; none without keys.
    pub public_key: Option<String>,
    /// Packet buffers that are neither free nor waiting for what may come.
    pub buffers_in_use: u64,
    /// How often the reactor has woken up.
    pub wakeups: u64,
    /// How long it took each time until all was done that it called for, in microseconds.
    pub loop_us: Quantiles,
}

/// The other end.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Peer {
    /// Whether there is one that has not said good-bye.
    pub is_known: bool,
    /// Whether it is heard by any uplink.
    pub is_heard: bool,
    /// What frames are sealed with; none without keys, or before there are any.
    pub cipher: Option<String>,
}

/// What quantiles of a histogram are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Quantiles {
    /// Half are no more.
    pub p50: f64,
    /// 99 of 100 are no more.
    pub p99: f64,
    /// None is more.
    pub max: f64,
}

/// Frames from the TAP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sent {
    /// Sent by at least one uplink.
    pub packets: u64,
    /// The same, in bytes of frame.
    pub bytes: u64,
    /// That wait for an uplink.
    pub waiting: u64,
}

/// Frames for the TAP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Received {
    /// Handed to the TAP.
    pub delivered: u64,
    /// The same, in bytes of frame.
    pub delivered_bytes: u64,
    /// Copies of those that had come before.
    pub duplicates: u64,
    /// That came out of order, and were put in order.
    pub reordered: u64,
    /// That came too late.
    pub late: u64,
    /// That never came, as far as is known.
    pub lost: u64,
    /// Lost, and made up from parities.
    pub restored: u64,
    /// Datagrams that nobody could make sense of.
    pub malformed: u64,
    /// Datagrams that are not the peer's.
    pub unauthenticated: u64,
    /// That are being held now.
    pub held: u64,
    /// How long they were held, in milliseconds.
    pub hold_ms: Quantiles,
}

/// What the mode `adaptive` has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Adaptive {
    /// Frames dropped before they were sent, since they could only have come too late.
    pub too_late: u64,
    /// Frames sent again, since they seemed lost.
    pub resent: u64,
    /// Frames sent by two uplinks at once.
    pub duplicated: u64,
    /// Lost frames not sent again, since it was too late.
    pub given_up: u64,
    /// Copies sent to learn of an idle uplink.
    pub explored: u64,
    /// Parities sent.
    pub parities: u64,
}

/// How an uplink is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct UplinkStatus {
    /// Its number on the wire.
    pub number: u8,
    /// Its name.
    pub name: String,
    /// `up`, `suspect`, `down`, `probation`.
    pub state: String,
    /// For how long, in seconds.
    pub state_for_s: f64,
    /// Whether it has been removed, and what is under way by it is being waited for.
    pub is_leaving: bool,
    /// Its interface (at the box).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// The address that datagrams leave from (at the box).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local: Option<String>,
    /// The address that they go to: at the gateway the box's, as the NAT before it has made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote: Option<String>,
    /// The address that the gateway sees datagrams come from (at the box): another than `local` behind a NAT.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seen_as: Option<String>,
    /// The longest IP packet that its path is known to carry, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_mtu: Option<u16>,
    /// Round trip, smoothed; none before there is one.
    pub rtt_ms: Option<f64>,
    /// Of the way here (RFC 3550).
    pub jitter_ms: f64,
    /// What of the round trip is waiting in queues.
    pub queueing_ms: Option<f64>,
    /// Share of frames lost on the way there, 0 to 1, in the last second that there were any.
    pub loss: Option<f64>,
    /// Share lost on the way here.
    pub loss_receiving: Option<f64>,
    /// Frames sent by it.
    pub tx_packets: u64,
    /// Frames received by it.
    pub rx_packets: u64,
    /// Bytes of frame sent by it.
    pub tx_bytes: u64,
    /// Bytes of frame received by it.
    pub rx_bytes: u64,
    /// What it is believed to carry, in Mbit/s of frames; none but in `adaptive`, once it has been used.
    pub capacity_mbps: Option<f64>,
    /// What has arrived by it of late, at the far end, in Mbit/s of frames.
    pub delivered_mbps: Option<f64>,
    /// Its weight.
    pub weight: u8,
    /// The most that is sent by it, in Mbit/s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_rate_mbps: Option<f64>,
    /// Whether it is used only where the others do not suffice.
    pub is_metered: bool,
    /// What it has carried of its budget, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<BudgetStatus>,
}

/// What an uplink has carried of its budget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BudgetStatus {
    /// Bytes of IP packet carried in this period, both ways.
    pub used_bytes: u64,
    /// How many it may.
    pub limit_bytes: u64,
    /// Whether it is used only where no other can be.
    pub is_spent: bool,
}
