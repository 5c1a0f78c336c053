//! What is told of a process, a tunnel and an uplink: one number each, by name, in base units.
//!
//! A name that was published stays, and keeps its meaning: dashboards and alarms rely on it.

use prometheus::proto::MetricType::{self, COUNTER, GAUGE};

use crate::control::{Adaptive, BudgetStatus, Process, Status, UplinkStatus};

/// One number of a `T`.
pub(super) struct Figure<T> {
    /// `braid_...`, with its unit.
    pub(super) name: &'static str,
    /// What it means.
    pub(super) help: &'static str,
    /// A counter, or a gauge.
    pub(super) kind: MetricType,
    /// It; none where there is none.
    pub(super) of: fn(&T) -> Option<f64>,
}

const fn gauge<T>(name: &'static str, help: &'static str, of: fn(&T) -> Option<f64>) -> Figure<T> {
    Figure { name, help, kind: GAUGE, of }
}

const fn counter<T>(name: &'static str, help: &'static str, of: fn(&T) -> Option<f64>) -> Figure<T> {
    Figure { name, help, kind: COUNTER, of }
}

/// Of the process.
pub(super) const PROCESS: [Figure<Process>; 4] = [
    gauge("braid_process_id", "The number of the process.", |process| Some(f64::from(process.pid))),
    gauge("braid_uptime_seconds", "For how long the process has run.", |process| Some(process.uptime_s)),
    gauge("braid_buffers_in_use", "Packet buffers that are neither free nor waiting for what may come.", |process| {
        Some(process.buffers_in_use as f64)
    }),
    counter("braid_wakeups_total", "How often the reactor has woken up.", |process| Some(process.wakeups as f64)),
];

/// Of a tunnel.
pub(super) const TUNNEL: [Figure<Status>; 27] = [
    gauge("braid_mtu_bytes", "The MTU of the TAP.", |tunnel| Some(f64::from(tunnel.mtu))),
    gauge("braid_window_seconds", "The longest that received frames are held; none if they are not.", |tunnel| {
        tunnel.window_ms.map(seconds)
    }),
    gauge("braid_peer_known", "1 if there is another end that has not said good-bye.", |tunnel| {
        Some(truth(tunnel.peer.is_known))
    }),
    gauge("braid_peer_heard", "1 if the other end is heard by any uplink.", |tunnel| Some(truth(tunnel.peer.is_heard))),
    gauge(
        "braid_capacity_bytes_per_second",
        "What all uplinks are believed to carry together, in mode adaptive.",
        |tunnel| tunnel.capacity_mbps.map(bytes_per_second),
    ),
    gauge(
        "braid_safe_bytes_per_second",
        "What the uplinks carry even if the best of them fails, in mode adaptive.",
        |tunnel| tunnel.safe_mbps.map(bytes_per_second),
    ),
    counter("braid_sent_frames_total", "Frames from the TAP, sent by at least one uplink.", |tunnel| {
        Some(tunnel.tx.packets as f64)
    }),
    counter("braid_sent_bytes_total", "Bytes of frames from the TAP, sent by at least one uplink.", |tunnel| {
        Some(tunnel.tx.bytes as f64)
    }),
    gauge("braid_waiting_frames", "Frames from the TAP that wait for an uplink.", |tunnel| {
        Some(tunnel.tx.waiting as f64)
    }),
    counter("braid_delivered_frames_total", "Frames handed to the TAP.", |tunnel| Some(tunnel.rx.delivered as f64)),
    counter("braid_delivered_bytes_total", "Bytes of frames handed to the TAP.", |tunnel| {
        Some(tunnel.rx.delivered_bytes as f64)
    }),
    counter("braid_duplicate_frames_total", "Received copies of frames that had come before.", |tunnel| {
        Some(tunnel.rx.duplicates as f64)
    }),
    counter(
        "braid_reordered_frames_total",
        "Received frames that came out of order, and were put in order.",
        |tunnel| Some(tunnel.rx.reordered as f64),
    ),
    counter("braid_late_frames_total", "Received frames that came too late.", |tunnel| Some(tunnel.rx.late as f64)),
    counter("braid_lost_frames_total", "Frames that never came, as far as is known.", |tunnel| {
        Some(tunnel.rx.lost as f64)
    }),
    counter("braid_restored_frames_total", "Frames that were lost, and made up from parities.", |tunnel| {
        Some(tunnel.rx.restored as f64)
    }),
    counter("braid_malformed_datagrams_total", "Received datagrams that nobody could make sense of.", |tunnel| {
        Some(tunnel.rx.malformed as f64)
    }),
    counter("braid_unauthenticated_datagrams_total", "Received datagrams that are not the peer's.", |tunnel| {
        Some(tunnel.rx.unauthenticated as f64)
    }),
    gauge("braid_held_frames", "Received frames that are being held to restore order.", |tunnel| {
        Some(tunnel.rx.held as f64)
    }),
    counter(
        "braid_adaptive_too_late_frames_total",
        "Frames dropped unsent, since they could only have come too late.",
        |tunnel| adaptive(tunnel, |adaptive| adaptive.too_late),
    ),
    counter("braid_adaptive_resent_frames_total", "Frames sent again, since they seemed lost.", |tunnel| {
        adaptive(tunnel, |adaptive| adaptive.resent)
    }),
    counter("braid_adaptive_duplicated_frames_total", "Frames sent by two uplinks at once.", |tunnel| {
        adaptive(tunnel, |adaptive| adaptive.duplicated)
    }),
    counter("braid_adaptive_given_up_frames_total", "Lost frames not sent again, since it was too late.", |tunnel| {
        adaptive(tunnel, |adaptive| adaptive.given_up)
    }),
    counter("braid_adaptive_explored_frames_total", "Copies sent to learn of an idle uplink.", |tunnel| {
        adaptive(tunnel, |adaptive| adaptive.explored)
    }),
    counter("braid_adaptive_parities_total", "Parities sent.", |tunnel| adaptive(tunnel, |adaptive| adaptive.parities)),
    gauge("braid_uplinks", "How many uplinks there are, without those that leave.", |tunnel| {
        Some(staying(tunnel).count() as f64)
    }),
    gauge("braid_uplinks_up", "How many uplinks are up, without those that leave.", |tunnel| {
        Some(staying(tunnel).filter(|uplink| uplink.state == "up").count() as f64)
    }),
];

/// Of an uplink.
pub(super) const UPLINK: [Figure<UplinkStatus>; 21] = [
    gauge("braid_uplink_number", "The number of the uplink on the wire.", |uplink| Some(f64::from(uplink.number))),
    gauge("braid_uplink_state_seconds", "For how long the uplink has been in its state.", |uplink| {
        Some(uplink.state_for_s)
    }),
    gauge("braid_uplink_leaving", "1 if the uplink has been removed, and is waited for.", |uplink| {
        Some(truth(uplink.is_leaving))
    }),
    gauge("braid_uplink_path_mtu_bytes", "The longest IP packet that the path is known to carry.", |uplink| {
        uplink.path_mtu.map(f64::from)
    }),
    gauge("braid_uplink_rtt_seconds", "Round trip, smoothed.", |uplink| uplink.rtt_ms.map(seconds)),
    gauge("braid_uplink_jitter_seconds", "Jitter of the way here (RFC 3550).", |uplink| {
        Some(seconds(uplink.jitter_ms))
    }),
    gauge("braid_uplink_queueing_seconds", "What of the round trip is waiting in queues.", |uplink| {
        uplink.queueing_ms.map(seconds)
    }),
    gauge(
        "braid_uplink_sending_loss_ratio",
        "Share of frames lost on the way there, in the last second that there were any.",
        |uplink| uplink.loss,
    ),
    gauge(
        "braid_uplink_receiving_loss_ratio",
        "Share of frames lost on the way here, in the last second that there were any.",
        |uplink| uplink.loss_receiving,
    ),
    counter("braid_uplink_sent_frames_total", "Frames sent by the uplink.", |uplink| Some(uplink.tx_packets as f64)),
    counter("braid_uplink_received_frames_total", "Frames received by the uplink.", |uplink| {
        Some(uplink.rx_packets as f64)
    }),
    counter("braid_uplink_sent_bytes_total", "Bytes of frames sent by the uplink.", |uplink| {
        Some(uplink.tx_bytes as f64)
    }),
    counter("braid_uplink_received_bytes_total", "Bytes of frames received by the uplink.", |uplink| {
        Some(uplink.rx_bytes as f64)
    }),
    gauge(
        "braid_uplink_capacity_bytes_per_second",
        "What the uplink is believed to carry, in mode adaptive.",
        |uplink| uplink.capacity_mbps.map(bytes_per_second),
    ),
    gauge(
        "braid_uplink_delivered_bytes_per_second",
        "What has arrived by the uplink of late, at the far end.",
        |uplink| uplink.delivered_mbps.map(bytes_per_second),
    ),
    gauge("braid_uplink_weight", "The weight of the uplink.", |uplink| Some(f64::from(uplink.weight))),
    gauge(
        "braid_uplink_max_rate_bytes_per_second",
        "The most that is sent by the uplink, if there is a limit.",
        |uplink| uplink.max_rate_mbps.map(bytes_per_second),
    ),
    gauge("braid_uplink_metered", "1 if the uplink is used only where the others do not suffice.", |uplink| {
        Some(truth(uplink.is_metered))
    }),
    gauge("braid_uplink_budget_used_bytes", "Bytes of IP packets carried in this period, both ways.", |uplink| {
        budget(uplink, |budget| budget.used_bytes as f64)
    }),
    gauge("braid_uplink_budget_limit_bytes", "Bytes of IP packets that the uplink may carry in a period.", |uplink| {
        budget(uplink, |budget| budget.limit_bytes as f64)
    }),
    gauge(
        "braid_uplink_budget_spent",
        "1 if the budget is spent, and the uplink used only where no other can be.",
        |uplink| budget(uplink, |budget| truth(budget.is_spent)),
    ),
];

fn staying(tunnel: &Status) -> impl Iterator<Item = &UplinkStatus> {
    tunnel.uplinks.iter().filter(|uplink| !uplink.is_leaving)
}

fn adaptive(tunnel: &Status, count: impl Fn(&Adaptive) -> u64) -> Option<f64> {
    tunnel.adaptive.as_ref().map(|adaptive| count(adaptive) as f64)
}

fn budget(uplink: &UplinkStatus, of: impl Fn(&BudgetStatus) -> f64) -> Option<f64> {
    uplink.budget.as_ref().map(of)
}

fn seconds(milliseconds: f64) -> f64 {
    milliseconds / 1e3
}

fn bytes_per_second(megabits: f64) -> f64 {
    megabits * 125_000.0
}

fn truth(is_so: bool) -> f64 {
    f64::from(u8::from(is_so))
}
