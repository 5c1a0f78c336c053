//! A program that keeps running in a namespace: its log, and what can be asked of it from outside.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use crate::namespaces::command_in;

/// How long it may take to stop.
const STOP_PATIENCE: Duration = Duration::from_secs(3);
const LOOK: Duration = Duration::from_millis(5);

/// A program that runs; stopped when dropped, with all that it has started itself.
pub struct Daemon {
    program: String,
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts it in a namespace. Whatever it says goes to the file `log`.
    ///
    /// # Errors
    /// What went wrong.
    pub fn start(namespace: &str, command: &[String], log: PathBuf) -> Result<Self, String> {
        let (path, arguments) = command.split_first().ok_or("there is no program to start")?;
        Self::spawn(command_in(namespace, path).args(arguments), base_name(path), log)
    }

    /// The same of a command that knows its namespace; `program` is what messages call it.
    ///
    /// # Errors
    /// What went wrong.
    pub fn spawn(command: &mut Command, program: &str, log: PathBuf) -> Result<Self, String> {
        let cannot_write = |error| format!("cannot write {}: {error}", log.display());
        let file = File::create(&log).map_err(cannot_write)?;
        let other = file.try_clone().map_err(cannot_write)?;
        let child = command.stdin(Stdio::null()).stdout(other).stderr(file).spawn();
        let child = child.map_err(|error| format!("cannot start {program}: {error}"))?;
        Ok(Self { program: program.to_owned(), child, log })
    }

    /// What it is called.
    #[must_use]
    pub fn program(&self) -> &str {
        &self.program
    }

    /// The number of its process: the same as that of the program, since setpriv(1) and ip(8) replace themselves by it.
    #[must_use]
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Whether it still runs.
    ///
    /// # Errors
    /// That it does not, and what it said last.
    pub fn check(&mut self) -> Result<(), String> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(format!("{} has ended ({status}): {}", self.program, self.last_words())),
            Err(error) => Err(format!("{}: {error}", self.program)),
        }
    }

    /// All that it has said.
    #[must_use]
    pub fn read_log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// What it said last.
    #[must_use]
    pub fn last_words(&self) -> String {
        self.read_log().lines().last().unwrap_or("nothing").to_owned()
    }

    /// CPU time used so far by it and all that it has started, in seconds.
    #[must_use]
    pub fn cpu_seconds(&self) -> f64 {
        self.family().iter().map(|pid| on_cpu_nanoseconds(*pid)).sum::<u64>() as f64 / 1e9
    }

    /// Memory resident at most so far, in KiB; that of the largest process, if there are several.
    #[must_use]
    pub fn resident_kib_max(&self) -> u64 {
        self.family().iter().map(|pid| memory_kib(*pid, "VmHWM:")).max().unwrap_or_default()
    }

    /// Memory resident now, in KiB.
    #[must_use]
    pub fn resident_kib(&self) -> u64 {
        memory_kib(self.pid(), "VmRSS:")
    }

    /// Open file descriptors.
    #[must_use]
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).map_or(0, Iterator::count)
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let _ = kill_process(self.pid(), signal);
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
        self.signal(Signal::TERM);
        self.await_end().ok_or_else(|| format!("{} does not stop on SIGTERM", self.program))
    }

    fn await_end(&mut self) -> Option<ExitStatus> {
        let mut status = None;
        soon(|| {
            status = self.child.try_wait().ok().flatten();
            status.is_some()
        });
        status
    }

    /// Its process, and all that descend from it.
    fn family(&self) -> Vec<Pid> {
        let mut family = vec![self.pid()];
        let mut looked_at = 0;
        while let Some(pid) = family.get(looked_at) {
            family.extend(children_of(*pid));
            looked_at += 1;
        }
        family
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        // One that forks for each connection, as vtund(8) does, leaves them to themselves when it ends.
        let descendants = self.family().split_off(1);
        self.signal(Signal::TERM);
        send(&descendants, Signal::TERM);
        if self.await_end().is_none() {
            eprintln!("braid-lab: process {} does not stop on SIGTERM, and is killed", self.child.id());
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        let is_gone = |pid: &Pid| test_kill_process(*pid).is_err();
        if !soon(|| descendants.iter().all(is_gone)) {
            send(&descendants, Signal::KILL);
        }
    }
}

fn send(pids: &[Pid], signal: Signal) {
    for pid in pids {
        let _ = kill_process(*pid, signal);
    }
}

/// Whether something comes true before patience runs out.
fn soon(mut is_true: impl FnMut() -> bool) -> bool {
    let begun = Instant::now();
    while !is_true() {
        if begun.elapsed() > STOP_PATIENCE {
            return false;
        }
        thread::sleep(LOOK);
    }
    true
}

fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// The processes that a process has started, by any of its threads (proc(5), /proc/PID/task/TID/children).
fn children_of(pid: Pid) -> Vec<Pid> {
    let text: String = tasks(pid).filter_map(|task| std::fs::read_to_string(task.join("children")).ok()).collect();
    text.split_whitespace().filter_map(|number| Pid::from_raw(number.parse().ok()?)).collect()
}

/// The first figure of /proc/PID/task/TID/schedstat of all threads: time spent on a CPU
/// (Documentation/scheduler/sched-stats.rst).
fn on_cpu_nanoseconds(pid: Pid) -> u64 {
    let used = |task: PathBuf| {
        let text = std::fs::read_to_string(task.join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    };
    tasks(pid).filter_map(used).sum()
}

fn tasks(pid: Pid) -> impl Iterator<Item = PathBuf> {
    let listed = std::fs::read_dir(format!("/proc/{pid}/task"));
    listed.into_iter().flatten().flatten().map(|task| task.path())
}

/// A figure of /proc/PID/status.
fn memory_kib(pid: Pid, key: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(key));
    line.and_then(|line| line.split_whitespace().nth(1)).and_then(|text| text.parse().ok()).unwrap_or_default()
}
