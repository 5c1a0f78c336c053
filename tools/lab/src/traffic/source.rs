//! Sends numbered datagrams: at a constant rate, or what another program sends to it.

use std::io::{self, Read};
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{HEADER_LENGTH, write_header};
use crate::clock::{monotonic_nanoseconds, sharpen_timers, sleep_until};
use crate::say::say;

/// How often a relay looks whether it is to stop.
const RELAY_LOOK: Duration = Duration::from_millis(50);
/// The longest datagram relayed.
const DATAGRAM_LENGTH_MAX: usize = 2048;

/// What a source tells at its end.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct SourceReport {
    /// Datagrams that the program meant to send.
    pub offered: u64,
    /// Those that its own kernel refused.
    pub refused: u64,
    /// When the first was sent, in nanoseconds since boot.
    pub began: u64,
    /// When all were sent.
    pub ended: u64,
}

/// Sends `size` bytes at a time, `rate` bits per second, for `duration`.
///
/// # Errors
/// What the kernel says of the socket.
pub fn send_constant(to: SocketAddr, rate: u64, size: usize, duration: Duration) -> io::Result<SourceReport> {
    sharpen_timers();
    let socket = socket_towards(to)?;
    let interval = size as u64 * 8 * 1_000_000_000 / rate;
    let mut datagram = vec![0; size];
    let began = monotonic_nanoseconds();
    let offered = duration.as_nanos() as u64 / interval.max(1);
    let mut refused = 0;
    for number in 0..offered {
        sleep_until(began + number * interval);
        write_header(&mut datagram, number, monotonic_nanoseconds());
        refused += u64::from(socket.send(&datagram).is_err());
    }
    Ok(SourceReport { offered, refused, began, ended: monotonic_nanoseconds() })
}

/// Numbers and sends on what comes to `from`, until standard input ends.
///
/// # Errors
/// What the kernel says of the sockets.
pub fn relay(from: SocketAddr, to: SocketAddr) -> io::Result<SourceReport> {
    let inlet = UdpSocket::bind(from)?;
    inlet.set_read_timeout(Some(RELAY_LOOK))?;
    let socket = socket_towards(to)?;
    let stop = until_stdin_ends();
    say("ready\n");
    let mut datagram = vec![0; HEADER_LENGTH + DATAGRAM_LENGTH_MAX];
    let mut report = SourceReport { offered: 0, refused: 0, began: 0, ended: 0 };
    while !stop.load(Ordering::Relaxed) {
        let Ok(length) = inlet.recv(&mut datagram[HEADER_LENGTH..]) else { continue };
        let now = monotonic_nanoseconds();
        if report.offered == 0 {
            report.began = now;
        }
        write_header(&mut datagram, report.offered, now);
        report.offered += 1;
        report.refused += u64::from(socket.send(&datagram[..HEADER_LENGTH + length]).is_err());
    }
    report.ended = monotonic_nanoseconds();
    Ok(report)
}

/// A socket that sends to there.
///
/// # Errors
/// What the kernel says of it.
pub fn socket_towards(to: SocketAddr) -> io::Result<UdpSocket> {
    let any: SocketAddr = if to.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0_u16; 8], 0).into() };
    let socket = UdpSocket::bind(any)?;
    socket.set_broadcast(true)?;
    socket.connect(to)?;
    Ok(socket)
}

/// A flag that is raised when standard input ends.
#[must_use]
pub fn until_stdin_ends() -> &'static AtomicBool {
    static ENDED: AtomicBool = AtomicBool::new(false);
    thread::spawn(|| {
        let _ = io::stdin().read_to_end(&mut vec![]);
        ENDED.store(true, Ordering::Relaxed);
    });
    &ENDED
}
