//! Receives numbered datagrams and keeps a record of each.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::analysis::{Arrival, Summary};
use super::source::until_stdin_ends;
use super::tally::Tally;
use super::{HEADER_LENGTH, read_header};
use crate::clock::monotonic_nanoseconds;

const LOOK: Duration = Duration::from_millis(50);
/// Enough for what comes while the lab's machine is busy with something else.
const BUFFER_LENGTH: usize = 32 << 20;
const LIVE_EVERY: u64 = 1_000_000_000;
/// Enough records for minutes, so that none waits for memory.
const RECORDS: usize = 1 << 20;

/// A line of what a sink tells.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Line {
    /// It can receive.
    Ready,
    /// What the last second brought.
    Live(Summary),
    /// All that it has received; the last line.
    Arrivals(Vec<Arrival>),
    /// How many it has received, in which order; the last line of one that only counts.
    Tally(Tally),
}

/// Receives until standard input ends, and tells of it on standard output, a line of JSON each. What follows the
/// header of each datagram is written to `payload`, in order of arrival.
///
/// # Errors
/// What the kernel says.
pub fn receive(listen: SocketAddr, payload: Option<&Path>) -> io::Result<()> {
    let socket = listening_socket(listen, BUFFER_LENGTH)?;
    let mut payload = payload.map(File::create).transpose()?.map(BufWriter::new);
    let stop = until_stdin_ends();
    tell(&Line::Ready)?;
    // Figures are worked out elsewhere, so that no datagram waits for them and seems to have come later.
    let (to_teller, sections) = channel();
    let teller = thread::spawn(move || tell_live(&sections));
    let mut arrivals: Vec<Arrival> = Vec::with_capacity(RECORDS);
    let (mut told, mut tell_at) = (0, monotonic_nanoseconds() + LIVE_EVERY);
    let mut datagram = [0; 4096];
    while !stop.load(Ordering::Relaxed) {
        if let Ok(length) = socket.recv(&mut datagram) {
            let received = monotonic_nanoseconds();
            if let Some((number, sent)) = read_header(&datagram[..length]) {
                arrivals.push(Arrival { number, sent, received, length: length as u16 });
                if let Some(payload) = &mut payload {
                    payload.write_all(&datagram[HEADER_LENGTH..length])?;
                }
            }
        }
        let now = monotonic_nanoseconds();
        if now >= tell_at {
            let _ = to_teller.send(arrivals[told..].to_vec());
            (told, tell_at) = (arrivals.len(), now + LIVE_EVERY);
        }
    }
    if let Some(payload) = &mut payload {
        payload.flush()?;
    }
    drop(to_teller);
    let _ = teller.join();
    tell(&Line::Arrivals(arrivals))
}

/// A socket that receives there, with so many bytes of buffer, and that is done waiting now and then.
///
/// # Errors
/// What the kernel says of it.
pub fn listening_socket(listen: SocketAddr, buffer_length: usize) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(listen)?;
    if let Err(error) = rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, buffer_length) {
        eprintln!("sink: small receive buffer: {error}");
    }
    socket.set_read_timeout(Some(LOOK))?;
    Ok(socket)
}

/// What a reader that has gone away does not hear is its own affair, until the last line.
fn tell_live(sections: &Receiver<Vec<Arrival>>) {
    sections.iter().for_each(|section| drop(tell(&Line::Live(Summary::of_section(&section)))));
}

/// Prints a line.
///
/// # Errors
/// That nobody reads it.
pub fn tell(line: &Line) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    serde_json::to_writer(&mut stdout, line)?;
    stdout.write_all(b"\n")?;
    stdout.flush()
}
