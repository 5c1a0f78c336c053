//! One end of a tunnel: a process in its namespace, and what can be asked of it from outside.

use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde::Serialize;

use crate::daemon::Daemon;
use crate::namespaces::{BOX, GATEWAY_NAMESPACE, command_in};

/// How long an end may take to say that it is ready.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long an end may take to log its counters.
const COUNTERS_PATIENCE: Duration = Duration::from_secs(2);

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The box.
    Box,
    /// The gateway.
    Gateway,
}

impl Which {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::Box, Self::Gateway];

    /// Its program.
    #[must_use]
    pub const fn program(self) -> &'static str {
        match self {
            Self::Box => "braid-box",
            Self::Gateway => "braid-gateway",
        }
    }

    /// Its namespace.
    #[must_use]
    pub const fn namespace(self) -> &'static str {
        match self {
            Self::Box => BOX,
            Self::Gateway => GATEWAY_NAMESPACE,
        }
    }
}

/// Something of each end.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct PerEnd<T> {
    /// The box's.
    #[serde(rename = "box")]
    pub box_end: T,
    /// The gateway's.
    pub gateway: T,
}

impl<T> PerEnd<T> {
    /// That of one.
    pub const fn of(&self, which: Which) -> &T {
        match which {
            Which::Box => &self.box_end,
            Which::Gateway => &self.gateway,
        }
    }

    /// That of one, to be changed.
    pub const fn of_mut(&mut self, which: Which) -> &mut T {
        match which {
            Which::Box => &mut self.box_end,
            Which::Gateway => &mut self.gateway,
        }
    }
}

impl std::ops::Sub for PerEnd<f64> {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self { box_end: self.box_end - other.box_end, gateway: self.gateway - other.gateway }
    }
}

/// What an end holds of the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Resources {
    /// Open file descriptors.
    pub descriptors: usize,
    /// Memory resident now, in KiB.
    pub resident_kib: u64,
    /// Packet buffers that are neither free nor waiting for what may come.
    pub buffers_in_use: u64,
}

/// What an end has logged of itself when asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counters {
    /// Packet buffers that are neither free nor waiting for what may come.
    pub buffers_in_use: u64,
    /// How many uplinks are up.
    pub uplinks_up: usize,
}

/// An end that runs; stopped when dropped.
pub struct End(Daemon);

impl End {
    /// Starts it, its log in the file `log`, and waits until it is ready. The program is looked for in `folder`.
    ///
    /// # Errors
    /// What went wrong, with what it said last.
    pub fn start(which: Which, folder: &Path, arguments: &[String], log: PathBuf) -> Result<Self, String> {
        Self::start_in(which.namespace(), which, folder, arguments, log)
    }

    /// The same in another namespace than the lab's.
    ///
    /// # Errors
    /// What went wrong, with what it said last.
    pub fn start_in(
        namespace: &str,
        which: Which,
        folder: &Path,
        arguments: &[String],
        log: PathBuf,
    ) -> Result<Self, String> {
        let path = folder.join(which.program());
        if !path.exists() {
            return Err(format!("{} is missing: build it with 'cargo build --release --workspace'", path.display()));
        }
        let mut command = command_in(namespace, &path);
        let mut end = Self(Daemon::spawn(command.args(arguments), which.program(), log)?);
        end.await_ready()?;
        Ok(end)
    }

    fn await_ready(&mut self) -> Result<(), String> {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            self.check()?;
            if self.read_log().contains("ready: ") {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(5));
        }
        Err(format!("{} does not get ready: {}", self.0.program(), self.last_words()))
    }

    /// Whether it still runs.
    ///
    /// # Errors
    /// That it does not, and what it said last.
    pub fn check(&mut self) -> Result<(), String> {
        self.0.check()
    }

    /// All that it has said.
    #[must_use]
    pub fn read_log(&self) -> String {
        self.0.read_log()
    }

    /// What it said last.
    #[must_use]
    pub fn last_words(&self) -> String {
        self.0.last_words()
    }

    /// How often an uplink has come up so far.
    #[must_use]
    pub fn uplinks_come_up(&self) -> usize {
        self.read_log().matches(" -> up: ").count()
    }

    /// What it holds now, its counters having just been read.
    #[must_use]
    pub fn resources(&self, counters: &Counters) -> Resources {
        Resources {
            descriptors: self.0.descriptors(),
            resident_kib: self.0.resident_kib(),
            buffers_in_use: counters.buffers_in_use,
        }
    }

    /// Has it log its counters, and reads them.
    ///
    /// # Errors
    /// That it does not tell.
    pub fn counters(&mut self) -> Result<Counters, String> {
        self.check()?;
        let before = self.read_log().len();
        self.0.signal(Signal::USR1);
        let begun = Instant::now();
        while begun.elapsed() < COUNTERS_PATIENCE {
            thread::sleep(Duration::from_millis(20));
            if let Some(counters) = parse_counters(self.read_log().get(before..).unwrap_or_default()) {
                return Ok(counters);
            }
        }
        Err(format!("{} does not log its counters: {}", self.0.program(), self.last_words()))
    }

    /// Kills it.
    pub fn kill(self) {
        self.0.kill();
    }

    /// Has it stop.
    ///
    /// # Errors
    /// That it does not.
    pub fn stop(self) -> Result<ExitStatus, String> {
        self.0.stop()
    }

    /// The process by itself.
    #[must_use]
    pub fn into_daemon(self) -> Daemon {
        self.0
    }
}

/// The counters in what was logged since they were asked for: the line of the tunnel, and after it one for each uplink,
/// which are written one by one.
fn parse_counters(logged: &str) -> Option<Counters> {
    let (_, line) = logged.split_once("counters: ")?;
    let (line, uplinks) = line.split_once('\n')?;
    let in_use = line.split_whitespace().find_map(|word| word.strip_prefix("buffers_in_use="))?;
    // "uplink NAME: up for 3s ...", where a change of state says "uplink NAME: up -> suspect: ...".
    let is_up = |line: &&str| line.contains("uplink ") && line.contains(": up for ");
    Some(Counters { buffers_in_use: in_use.parse().ok()?, uplinks_up: uplinks.lines().filter(is_up).count() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_from_the_lines_that_an_end_logs() {
        let logged = "INFO counters: sent=5 held=0 buffers_in_use=3 dropped: nothing\n\
                      INFO uplink a: up for 3s rtt_ms=20.1\nINFO uplink b: suspect for 1s rtt_ms=-\n\
                      INFO uplink b: suspect -> up: the peer hears it again\n";
        assert_eq!(parse_counters(logged), Some(Counters { buffers_in_use: 3, uplinks_up: 1 }));
        assert_eq!(parse_counters("INFO counters: sent=5 buffers_in_"), None);
    }
}
