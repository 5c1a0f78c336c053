//! One end of a tunnel: a process in its namespace, and what can be asked of it from outside.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;

use crate::namespaces::{BOX, GATEWAY_NAMESPACE, command_in};

/// How long an end may take to say that it is ready.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long an end may take to stop.
const STOP_PATIENCE: Duration = Duration::from_secs(3);
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
pub struct End {
    which: Which,
    child: Child,
    log: PathBuf,
}

impl End {
    /// Starts it, its log in the file `log`, and waits until it is ready. The program is looked for in `folder`.
    ///
    /// # Errors
    /// What went wrong, with what it said last.
    pub fn start(which: Which, folder: &Path, arguments: &[String], log: PathBuf) -> Result<Self, String> {
        let (path, program) = (folder.join(which.program()), which.program());
        if !path.exists() {
            return Err(format!("{} is missing: build it with 'cargo build --release --workspace'", path.display()));
        }
        let file = File::create(&log).map_err(|error| format!("cannot write {}: {error}", log.display()))?;
        let child = command_in(which.namespace(), &path)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .map_err(|error| format!("cannot start {program}: {error}"))?;
        let mut end = Self { which, child, log };
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
        Err(format!("{} does not get ready: {}", self.which.program(), self.last_words()))
    }

    /// Whether it still runs.
    ///
    /// # Errors
    /// That it does not, and what it said last.
    pub fn check(&mut self) -> Result<(), String> {
        let program = self.which.program();
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(format!("{program} has ended ({status}): {}", self.last_words())),
            Err(error) => Err(format!("{program}: {error}")),
        }
    }

    /// All that it has said.
    #[must_use]
    pub fn read_log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// What it said last.
    #[must_use]
    pub fn last_words(&self) -> String {
        self.read_log().lines().last().unwrap_or("nothing").to_owned()
    }

    /// CPU time used so far, in seconds.
    #[must_use]
    pub fn cpu_seconds(&self) -> f64 {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id()));
        let used = |task: std::fs::DirEntry| on_cpu_nanoseconds(&task.path().join("schedstat"));
        tasks.map(|tasks| tasks.flatten().map(used).sum::<u64>() as f64 / 1e9).unwrap_or_default()
    }

    /// Memory resident at most so far, in KiB.
    #[must_use]
    pub fn resident_kib_max(&self) -> u64 {
        self.memory_kib("VmHWM:")
    }

    fn memory_kib(&self, key: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with(key));
        line.and_then(|line| line.split_whitespace().nth(1)).and_then(|text| text.parse().ok()).unwrap_or_default()
    }

    /// What it holds now, its counters having just been read.
    #[must_use]
    pub fn resources(&self, counters: &Counters) -> Resources {
        let descriptors = std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).map_or(0, Iterator::count);
        Resources { descriptors, resident_kib: self.memory_kib("VmRSS:"), buffers_in_use: counters.buffers_in_use }
    }

    /// Has it log its counters, and reads them.
    ///
    /// # Errors
    /// That it does not tell.
    pub fn counters(&mut self) -> Result<Counters, String> {
        self.check()?;
        let before = self.read_log().len();
        let _ = kill_process(Pid::from_child(&self.child), Signal::USR1);
        let begun = Instant::now();
        while begun.elapsed() < COUNTERS_PATIENCE {
            thread::sleep(Duration::from_millis(20));
            if let Some(counters) = parse_counters(self.read_log().get(before..).unwrap_or_default()) {
                return Ok(counters);
            }
        }
        Err(format!("{} does not log its counters: {}", self.which.program(), self.last_words()))
    }

    /// Kills it.
    pub fn kill(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Has it stop.
    ///
    /// # Errors
    /// That it does not.
    pub fn stop(mut self) -> Result<ExitStatus, String> {
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        self.await_end().ok_or_else(|| format!("{} does not stop on SIGTERM", self.which.program()))
    }

    fn await_end(&mut self) -> Option<ExitStatus> {
        let begun = Instant::now();
        while begun.elapsed() < STOP_PATIENCE {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Some(status);
            }
            thread::sleep(Duration::from_millis(5));
        }
        None
    }
}

impl Drop for End {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        if self.await_end().is_none() {
            eprintln!("braid-lab: process {} does not stop on SIGTERM, and is killed", self.child.id());
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
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

/// The first figure of /proc/PID/task/TID/schedstat: time spent on a CPU (Documentation/scheduler/sched-stats.rst).
fn on_cpu_nanoseconds(path: &Path) -> u64 {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().next().and_then(|text| text.parse().ok()).unwrap_or_default()
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
