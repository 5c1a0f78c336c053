//! What happens to the links of a lab that is up, on demand: `braid-lab event UPLINK ACTION` tells the process that
//! holds the lab, over a socket.

use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use crate::action::{Action, parse_action};

/// Where the lab listens.
const SOCKET: &str = "/run/braid-lab.sock";
/// How long either side waits for the other.
const PATIENCE: Duration = Duration::from_secs(5);
const DONE: &str = "done";

/// Listens for orders; the socket is removed when dropped.
pub struct Orders(UnixListener);

impl Orders {
    /// Begins to listen. The caller holds the lab, so a socket that is there is left from a crash.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn listen() -> Result<Self, String> {
        let describe = |error: io::Error| format!("cannot listen on {SOCKET}: {error}");
        remove_socket();
        let listener = UnixListener::bind(SOCKET).map_err(describe)?;
        std::fs::set_permissions(SOCKET, std::fs::Permissions::from_mode(0o600)).map_err(describe)?;
        listener.set_nonblocking(true).map_err(describe)?;
        Ok(Self(listener))
    }

    /// Obeys whoever has called since the last time, by having `apply` do it to the uplink named.
    pub fn obey(&self, mut apply: impl FnMut(&str, Action) -> Result<(), String>) {
        while let Ok((stream, _)) = self.0.accept() {
            if let Err(error) = answer(stream, &mut apply) {
                eprintln!("braid-lab: an order came to nothing: {error}");
            }
        }
    }
}

impl Drop for Orders {
    fn drop(&mut self) {
        remove_socket();
    }
}

/// Removes the socket, if there is one.
pub fn remove_socket() {
    match std::fs::remove_file(SOCKET) {
        Err(error) if error.kind() != ErrorKind::NotFound => eprintln!("braid-lab: cannot remove {SOCKET}: {error}"),
        _ => {}
    }
}

fn answer(mut stream: UnixStream, apply: &mut impl FnMut(&str, Action) -> Result<(), String>) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut line = String::new();
    BufReader::new(&stream).read_line(&mut line)?;
    let (uplink, action) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
    let done = parse_action(action).and_then(|action| apply(uplink, action));
    writeln!(stream, "{}", done.err().unwrap_or(DONE.to_owned()))
}

/// Has `action` happen to `uplink` in the lab that is up.
///
/// # Errors
/// Why it cannot.
pub fn give(uplink: &str, action: &str) -> Result<(), String> {
    let mut stream = UnixStream::connect(SOCKET)
        .map_err(|error| format!("no lab is up ({SOCKET}: {error}): start one with 'braid-lab up'"))?;
    let mut reply = String::new();
    let exchange = (|| {
        stream.set_read_timeout(Some(PATIENCE))?;
        writeln!(stream, "{uplink} {action}")?;
        BufReader::new(&stream).read_line(&mut reply)
    })();
    exchange.map_err(|error| format!("the lab does not answer: {error}"))?;
    if reply.trim() == DONE { Ok(()) } else { Err(reply.trim().to_owned()) }
}
