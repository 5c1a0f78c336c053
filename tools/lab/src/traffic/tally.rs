//! Receives numbered datagrams and only counts them, which costs the machine less than a record of each.

use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::atomic::Ordering;

use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt::UdpGroSegment};
use serde::{Deserialize, Serialize};

use super::read_header;
use super::sink::{Line, listening_socket, tell};
use super::source::until_stdin_ends;

/// Holds what comes within some ten milliseconds at 2 Gbit/s.
const BUFFER_LENGTH: usize = 4 << 20;
/// What one receive may bring: a whole IP packet, of which the kernel has made one of several.
const RECEIVE_LENGTH_MAX: usize = 1 << 16;
/// Enough marks for some minutes without more memory, as many as there are bits.
const MARKS: usize = 1 << 20;
/// Numbers from here on are not believed, since each takes a bit of memory.
const NUMBERS_END: u64 = 1 << 32;

/// How many datagrams have come, and in which order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Different ones.
    pub delivered: u64,
    /// Those that came again.
    pub duplicated: u64,
    /// Those that came after one with a higher number, not counting those that came again.
    pub reordered: u64,
}

/// Receives until standard input ends, and then tells how many have come, as a line of JSON. With `gro` the kernel may
/// hand out several at once (UDP_GRO, udp(7)).
///
/// # Errors
/// What the kernel says.
pub fn receive(listen: SocketAddr, gro: bool) -> io::Result<()> {
    let socket = listening_socket(listen, BUFFER_LENGTH)?;
    if gro {
        setsockopt(&socket, UdpGroSegment, &true)?;
    }
    let stop = until_stdin_ends();
    tell(&Line::Ready)?;
    let mut counter = Counter::new();
    let mut received = vec![0; RECEIVE_LENGTH_MAX];
    while !stop.load(Ordering::Relaxed) {
        let (length, segment) =
            match if gro { receive_several(&socket, &mut received) } else { receive_one(&socket, &mut received) } {
                Ok(lengths) => lengths,
                Err(_) => continue,
            };
        received[..length].chunks(segment.max(1)).filter_map(read_header).for_each(|(number, _)| counter.count(number));
    }
    tell(&Line::Tally(counter.tally))
}

/// The length of a datagram, twice.
fn receive_one(socket: &UdpSocket, into: &mut [u8]) -> io::Result<(usize, usize)> {
    socket.recv(into).map(|length| (length, length))
}

/// How many bytes came, and the length of each datagram among them but the last, which may be shorter.
fn receive_several(socket: &UdpSocket, into: &mut [u8]) -> io::Result<(usize, usize)> {
    let mut control = [0; 64];
    let mut pieces = [IoSliceMut::new(into)];
    let message = recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut pieces, Some(&mut control), MsgFlags::empty())?;
    let segment = message.cmsgs()?.find_map(|control| match control {
        ControlMessageOwned::UdpGroSegments(length) => usize::try_from(length).ok(),
        _ => None,
    });
    Ok((message.bytes, segment.unwrap_or(message.bytes)))
}

/// Counts numbers, and knows which it has seen.
struct Counter {
    tally: Tally,
    highest: Option<u64>,
    seen: Vec<u64>,
}

impl Counter {
    fn new() -> Self {
        Self { tally: Tally::default(), highest: None, seen: vec![0; MARKS] }
    }

    fn count(&mut self, number: u64) {
        if number >= NUMBERS_END {
            return;
        }
        if !self.mark(number) {
            self.tally.duplicated += 1;
            return;
        }
        self.tally.delivered += 1;
        self.tally.reordered += u64::from(self.highest.is_some_and(|highest| number < highest));
        self.highest = self.highest.max(Some(number));
    }

    /// Whether it was not marked before.
    fn mark(&mut self, number: u64) -> bool {
        let (word, bit) = ((number / 64) as usize, 1 << (number % 64));
        if word >= self.seen.len() {
            self.seen.resize((word + 1).next_power_of_two(), 0);
        }
        let is_new = self.seen[word] & bit == 0;
        self.seen[word] |= bit;
        is_new
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::analysis::{Arrival, Summary};

    #[test]
    fn it_counts_what_a_record_of_each_comes_to() {
        let numbers = [0, 2, 1, 1, 3, 6, 5, 70_000_000, 64, 6];
        let mut counter = Counter::new();
        numbers.iter().for_each(|number| counter.count(*number));
        let arrivals = numbers.map(|number| Arrival { number, sent: 0, received: 0, length: 64 });
        let summary = Summary::of(&arrivals, 70_000_001);
        let Tally { delivered, duplicated, reordered } = counter.tally;
        assert_eq!((delivered, duplicated, reordered), (summary.delivered, summary.duplicated, summary.reordered));
    }

    #[test]
    fn a_number_that_cannot_be_takes_no_memory() {
        let mut counter = Counter::new();
        counter.count(u64::MAX);
        assert_eq!(counter.tally, Tally::default());
    }
}
