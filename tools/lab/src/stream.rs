//! A source and a sink of numbered datagrams, each a process in its namespace, ahead of all ordinary ones.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use crate::lab::own_program;
use crate::namespaces::{command_in, prompt_command_in};
use crate::traffic::analysis::{Arrival, Summary};
use crate::traffic::burst::Burst;
use crate::traffic::sink::Line;
use crate::traffic::source::SourceReport;
use crate::traffic::tally::Tally;

/// What a source sends.
#[derive(Clone, Copy, Debug)]
pub enum Feed {
    /// Its own.
    Constant {
        /// Bits of payload per second.
        rate: u64,
        /// Bytes of payload per datagram.
        size: usize,
        /// For how long.
        duration: Duration,
    },
    /// What another program sends to this address.
    Relay(SocketAddr),
    /// Its own, as a program does that shares the machine with all others.
    Burst(Burst),
}

impl Feed {
    fn flags(&self) -> Vec<String> {
        let paced = |rate: u64, size: usize, duration: Duration| {
            let (rate, duration) = (format!("--rate={rate}bit"), format!("--duration={}ms", duration.as_millis()));
            vec![rate, format!("--size={size}"), duration]
        };
        match *self {
            Self::Relay(from) => vec![format!("--relay={from}")],
            Self::Constant { rate, size, duration } => paced(rate, size, duration),
            Self::Burst(Burst { rate, size, segments, duration }) => {
                [paced(rate, size, duration), vec![format!("--gso={segments}")]].concat()
            }
        }
    }
}

/// A source in its own process and namespace.
pub struct Source {
    child: Child,
    output: BufReader<ChildStdout>,
    is_relay: bool,
}

impl Source {
    /// Starts it; it begins at once.
    ///
    /// # Errors
    /// What went wrong.
    pub fn start(namespace: &str, to: SocketAddr, feed: Feed) -> Result<Self, String> {
        let mut command = match feed {
            Feed::Burst(_) => command_in(namespace, own_program()?),
            Feed::Constant { .. } | Feed::Relay(_) => prompt_command_in(namespace, own_program()?),
        };
        command.args(["source", "--to", &to.to_string()]).args(feed.flags());
        let is_relay = matches!(feed, Feed::Relay(_));
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot start the source: {error}"))?;
        let mut output = BufReader::new(child.stdout.take().ok_or("no output of the source")?);
        if is_relay {
            output.read_line(&mut String::new()).map_err(|error| format!("the source has not started: {error}"))?;
        }
        Ok(Self { child, output, is_relay })
    }

    /// Whether it has sent all, or failed.
    pub fn is_done(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for its end, which a relay is told of.
    ///
    /// # Errors
    /// What went wrong.
    pub fn finish(&mut self) -> Result<SourceReport, String> {
        if self.is_relay {
            drop(self.child.stdin.take());
        }
        let mut text = String::new();
        let read = self.output.read_to_string(&mut text);
        read.map_err(|error| format!("the source says nothing: {error}"))?;
        let _ = self.child.wait();
        serde_json::from_str(text.trim()).map_err(|error| format!("the source has failed ({error}): {text}"))
    }
}

impl Drop for Source {
    /// Ends one that has not been waited for.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A sink in its own process and namespace.
pub struct Sink {
    child: Child,
    lines: Receiver<Line>,
}

impl Sink {
    /// Starts it, and waits until it can receive. Payloads are written to `payload`, if there is one.
    ///
    /// # Errors
    /// What went wrong.
    pub fn start(namespace: &str, listen: SocketAddr, payload: Option<&Path>) -> Result<Self, String> {
        let mut command = prompt_command_in(namespace, own_program()?);
        command.arg("sink");
        if let Some(payload) = payload {
            command.arg("--payload").arg(payload);
        }
        Self::spawn(command, listen)
    }

    /// Starts one that only counts, as a program does that shares the machine with all others. With `gro` the kernel may
    /// hand it several datagrams at once.
    ///
    /// # Errors
    /// What went wrong.
    pub fn start_counting(namespace: &str, listen: SocketAddr, gro: bool) -> Result<Self, String> {
        let mut command = command_in(namespace, own_program()?);
        command.arg("sink").args(if gro { &["--count", "--gro"][..] } else { &["--count"] });
        Self::spawn(command, listen)
    }

    fn spawn(mut command: Command, listen: SocketAddr) -> Result<Self, String> {
        let mut child = command
            .args(["--listen", &listen.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot start the sink: {error}"))?;
        let output = BufReader::new(child.stdout.take().ok_or("no output of the sink")?);
        let (sender, lines) = channel();
        thread::spawn(move || {
            let parsed = output.lines().map_while(Result::ok).filter_map(|line| serde_json::from_str(&line).ok());
            parsed.for_each(|line| drop(sender.send(line)));
        });
        match lines.recv_timeout(Duration::from_secs(5)) {
            Ok(Line::Ready) => Ok(Self { child, lines }),
            _ => Err(format!("the sink cannot listen on {listen}")),
        }
    }

    /// What a second has brought, if there is news.
    pub fn live(&self) -> Option<Summary> {
        match self.lines.try_recv() {
            Ok(Line::Live(summary)) => Some(summary),
            _ => None,
        }
    }

    /// Ends it; all that has come.
    ///
    /// # Errors
    /// That it does not tell.
    pub fn finish(&mut self) -> Result<Vec<Arrival>, String> {
        self.last(|line| if let Line::Arrivals(arrivals) = line { Some(arrivals) } else { None })
    }

    /// Ends one that only counts; what it has counted.
    ///
    /// # Errors
    /// That it does not tell.
    pub fn finish_counting(&mut self) -> Result<Tally, String> {
        self.last(|line| if let Line::Tally(tally) = line { Some(tally) } else { None })
    }

    fn last<T>(&mut self, pick: impl Fn(Line) -> Option<T>) -> Result<T, String> {
        drop(self.child.stdin.take());
        while let Ok(line) = self.lines.recv_timeout(Duration::from_secs(10)) {
            if let Some(found) = pick(line) {
                let _ = self.child.wait();
                return Ok(found);
            }
        }
        Err("the sink has said nothing at its end".to_owned())
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = std::io::stdout().flush();
    }
}
