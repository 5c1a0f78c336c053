//! Hears what passes by on every interface of a namespace, to tell whether a tunnel carries plain text: a mark that is in
//! pings through the tunnel must be found in UDP datagrams outside of it.

use std::io::{self, BufRead, BufReader, Read};
use std::process::{Child, Stdio};
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SocketType, eth, recv, socket};

use crate::lab::own_program;
use crate::namespaces::command_in;
use crate::say::say;
use crate::traffic::source::until_stdin_ends;

/// What pings are filled with, over and over: as many bytes as ping(8) takes.
pub const MARK: [u8; 16] = *b"braid-bench mark";
const LOOK: Duration = Duration::from_millis(50);
const ETHERNET_HEADER_LENGTH: usize = 14;
const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
const PROTOCOL_UDP: u8 = 17;

/// Listens until standard input ends, and then tells in how many UDP datagrams it has found the mark.
///
/// # Errors
/// What the kernel says.
pub fn listen() -> io::Result<()> {
    let socket = socket(AddressFamily::PACKET, SocketType::RAW, Some(eth::ALL))?;
    set_socket_timeout(&socket, Timeout::Recv, Some(LOOK))?;
    let stop = until_stdin_ends();
    say("ready\n");
    let (mut frame, mut marked) = (vec![0; 1 << 16], 0);
    while !stop.load(Ordering::Relaxed) {
        if let Ok((_, length)) = recv(&socket, &mut frame[..], RecvFlags::empty()) {
            marked += u64::from(carries_mark_in_udp(&frame[..length]));
        }
    }
    say(&format!("{marked}\n"));
    Ok(())
}

/// Whether a frame is a UDP datagram over IPv4 with the mark somewhere in it.
fn carries_mark_in_udp(frame: &[u8]) -> bool {
    let Some((header, packet)) = frame.split_at_checked(ETHERNET_HEADER_LENGTH) else { return false };
    let is_udp = header.ends_with(&ETHERTYPE_IPV4) && packet.get(9) == Some(&PROTOCOL_UDP);
    is_udp && packet.windows(MARK.len()).any(|bytes| bytes == MARK)
}

/// One that listens, in its own process and namespace.
pub struct Listener(Child);

impl Listener {
    /// Starts it, and waits until it hears.
    ///
    /// # Errors
    /// What went wrong.
    pub fn start(namespace: &str) -> Result<Self, String> {
        let mut command = command_in(namespace, own_program()?);
        let command = command.arg("overhear").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(|error| format!("cannot start to listen: {error}"))?;
        let mut line = String::new();
        let output = child.stdout.as_mut().ok_or("no output of the listener")?;
        // A byte at a time, so that nothing of what follows is taken.
        let read = BufReader::with_capacity(1, output).read_line(&mut line);
        let listener = Self(child);
        if read.is_ok() && line.trim() == "ready" { Ok(listener) } else { Err("the listener hears nothing".to_owned()) }
    }

    /// Ends it; in how many UDP datagrams it has found the mark.
    ///
    /// # Errors
    /// That it does not tell.
    pub fn finish(mut self) -> Result<u64, String> {
        drop(self.0.stdin.take());
        let mut text = String::new();
        let output = self.0.stdout.as_mut().ok_or("no output of the listener")?;
        output.read_to_string(&mut text).map_err(|error| format!("the listener says nothing: {error}"))?;
        text.trim().parse().map_err(|_| "the listener has not told what it has heard".to_owned())
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(ethertype: [u8; 2], protocol: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; 12];
        frame.extend(ethertype);
        frame.extend([0x45, 0, 0, 0, 0, 0, 0, 0, 64, protocol]);
        frame.extend([0; 18]);
        frame.extend(payload);
        frame
    }

    #[test]
    fn only_the_mark_in_udp_counts() {
        let text = [&[1, 2, 3][..], &MARK[..]].concat();
        assert!(carries_mark_in_udp(&frame(ETHERTYPE_IPV4, PROTOCOL_UDP, &text)));
        assert!(!carries_mark_in_udp(&frame(ETHERTYPE_IPV4, 1, &text)), "a ping by itself");
        assert!(!carries_mark_in_udp(&frame([0x08, 0x06], PROTOCOL_UDP, &text)));
        assert!(!carries_mark_in_udp(&frame(ETHERTYPE_IPV4, PROTOCOL_UDP, &text[..18])));
        assert!(!carries_mark_in_udp(&[0; 9]));
    }
}
