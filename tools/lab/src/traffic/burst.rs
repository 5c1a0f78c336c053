//! Sends numbered datagrams as fast as programs do that mean to be fast: all that are due at once, and many by one
//! system call if that is wanted.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt::UdpGsoSegment};

use super::source::{SourceReport, socket_towards};
use super::write_header;
use crate::clock::{monotonic_nanoseconds, sharpen_timers, sleep_until};

/// The shortest sleep, in nanoseconds: a timer for each datagram would cost more than to send it.
const REST: u64 = 200_000;
/// The most bytes that one send may carry: what fits into an IPv4 packet with its own header and that of UDP.
pub const SEND_LENGTH_MAX: usize = 65_535 - 20 - 8;

/// What is sent.
#[derive(Clone, Copy, Debug)]
pub struct Burst {
    /// Bits of payload per second.
    pub rate: u64,
    /// Bytes of payload per datagram.
    pub size: usize,
    /// Datagrams by one send, from 1 to 64; more than one are cut apart by the kernel or the network card (UDP_SEGMENT,
    /// udp(7)).
    pub segments: usize,
    /// For how long.
    pub duration: Duration,
}

/// Sends, and stops when time is over, whether or not all that was due could be sent by then.
///
/// # Errors
/// What the kernel says of the socket.
pub fn send(to: SocketAddr, burst: &Burst) -> io::Result<SourceReport> {
    sharpen_timers();
    let socket = socket_towards(to)?;
    if burst.segments > 1 {
        setsockopt(&socket, UdpGsoSegment, &(burst.size as i32))?;
    }
    let mut datagrams = vec![0; burst.size * burst.segments];
    let pace = Pace { bits: datagrams.len() as u64 * 8, rate: burst.rate };
    let began = monotonic_nanoseconds();
    let end = began + burst.duration.as_nanos() as u64;
    let mut report = SourceReport { offered: 0, refused: 0, began, ended: began };
    let (mut sends, mut now) = (0, began);
    while now < end {
        let due = pace.sends_due(now - began);
        while sends < due && now < end {
            number(&mut datagrams, burst.size, report.offered, now);
            report.offered += burst.segments as u64;
            sends += 1;
            if socket.send(&datagrams).is_err() {
                report.refused += burst.segments as u64;
            }
            now = monotonic_nanoseconds();
        }
        sleep_until((began + pace.when_due(sends)).max(now + REST).min(end));
        now = monotonic_nanoseconds();
    }
    report.ended = now;
    Ok(report)
}

/// When what is due.
struct Pace {
    /// Bits by each send.
    bits: u64,
    /// Bits per second.
    rate: u64,
}

impl Pace {
    /// How many sends are due when so many nanoseconds have passed.
    fn sends_due(&self, passed: u64) -> u64 {
        (u128::from(passed) * u128::from(self.rate) / (u128::from(self.bits) * 1_000_000_000)) as u64 + 1
    }

    /// After how many nanoseconds the send is due that has so many before it.
    fn when_due(&self, sends: u64) -> u64 {
        (u128::from(sends) * u128::from(self.bits) * 1_000_000_000).div_ceil(u128::from(self.rate)) as u64
    }
}

/// Writes the header of each of the datagrams, of which the first has the number `first`.
fn number(datagrams: &mut [u8], size: usize, first: u64, now: u64) {
    datagrams.chunks_mut(size).zip(first..).for_each(|(datagram, number)| write_header(datagram, number, now));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_send_is_due_when_it_is_due_and_not_sooner() {
        for (bits, rate) in [(1316 * 8, 20_000_000), (52_000 * 8, 6_000_000_007), (64 * 8, 3)] {
            let pace = Pace { bits, rate };
            for sends in [0, 1, 2, 999, 1_000_000] {
                let due = pace.when_due(sends);
                assert_eq!(pace.sends_due(due), sends + 1, "{sends} of {bits} bits at {rate}");
                assert!(due == 0 || pace.sends_due(due - 1) == sends, "{sends} of {bits} bits at {rate}");
            }
        }
    }

    #[test]
    fn each_segment_has_a_number_of_its_own() {
        let mut datagrams = [0; 3 * 64];
        number(&mut datagrams, 64, 7, 9);
        let read: Vec<_> = datagrams.chunks(64).map(crate::traffic::read_header).collect();
        assert_eq!(read, [Some((7, 9)), Some((8, 9)), Some((9, 9))]);
    }
}
