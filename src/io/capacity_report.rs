//! What the uplinks are believed to carry, told by UDP to encoders that adapt their bit rate (`--capacity-to`): a line of
//! JSON in each datagram, five a second.

use std::fs::File;
use std::io::Write;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::Duration;

use serde_json::json;

use super::{Endpoint, Tunnel};
use crate::proto::time::Instant;
use crate::proto::uplink::UplinkId;

/// How often.
const INTERVAL: Duration = Duration::from_millis(200);
/// The form of the line.
const VERSION: u32 = 1;

/// Tells it.
pub struct CapacityReport {
    /// A connected socket, which is written to like a file: that needs no other system call than logging does.
    socket: File,
    /// What the lines call the tunnels.
    taps: Vec<String>,
    next: Instant,
}

impl CapacityReport {
    /// To whoever listens at `to`, on tunnels with these TAPs.
    ///
    /// # Errors
    /// What socket(2) or connect(2) says.
    pub fn new(to: SocketAddr, taps: Vec<String>) -> std::io::Result<Self> {
        let any: SocketAddr = if to.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0_u16; 8], 0).into() };
        let socket = UdpSocket::bind(any)?;
        socket.set_nonblocking(true)?;
        socket.connect(to)?;
        Ok(Self { socket: OwnedFd::from(socket).into(), taps, next: Instant::ZERO })
    }

    /// When the next line is due.
    #[must_use]
    pub const fn next(&self) -> Instant {
        self.next
    }

    /// Tells it, if that is due. Nobody need be listening.
    pub fn on_tick(&mut self, now: Instant, endpoint: &Endpoint) {
        if now < self.next {
            return;
        }
        self.next = now + INTERVAL;
        for (tap, tunnel) in self.taps.iter().zip(endpoint.tunnels()) {
            let _ = self.socket.write(line(tap, tunnel).as_bytes());
        }
    }
}

fn line(tap: &str, tunnel: &Tunnel) -> String {
    let estimate = tunnel.capacity();
    let uplinks: Vec<_> = tunnel.named().iter().map(|uplink| describe(tunnel, uplink)).collect();
    let report = json!({
        "version": VERSION,
        "tap": tap,
        "capacity_bps": estimate.now,
        "safe_bps": estimate.safe,
        "uplinks": uplinks,
    });
    format!("{report}\n")
}

fn describe(tunnel: &Tunnel, uplink: UplinkId) -> serde_json::Value {
    let known = tunnel.uplink(uplink);
    json!({
        "name": known.name.as_str(),
        "state": known.state().name(),
        "capacity_bps": tunnel.uplink_capacity(uplink),
    })
}
