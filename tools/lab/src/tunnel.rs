//! The tunnel under test: a gateway and a box, each a process in its namespace.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;

use crate::addresses::{GATEWAY, TUNNEL_BOX, TUNNEL_GATEWAY};
use crate::namespaces::{BOX, GATEWAY_NAMESPACE, command_in};
use crate::scenario::Scenario;

/// How long an end may take to say that it is ready, and the uplinks to come up.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long an end may take to stop.
const STOP_PATIENCE: Duration = Duration::from_secs(3);

/// What the tunnel is run with.
#[derive(Clone, Debug)]
pub struct TunnelOptions {
    /// Where the two programs are.
    pub folder: PathBuf,
    /// `--mode` of both ends.
    pub mode: Option<String>,
    /// `--window` of both ends.
    pub window: Option<String>,
    /// Further flags of the box.
    pub extra_box: Vec<String>,
    /// Further flags of the gateway.
    pub extra_gateway: Vec<String>,
    /// Whether the uplinks speak IPv6.
    pub ipv6: bool,
    /// Where their logs go.
    pub logs: PathBuf,
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

impl std::ops::Sub for PerEnd<f64> {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self { box_end: self.box_end - other.box_end, gateway: self.gateway - other.gateway }
    }
}

/// A tunnel that runs; stopped when dropped.
pub struct Tunnel {
    gateway: End,
    box_end: End,
}

struct End {
    child: Child,
    log: PathBuf,
}

impl Tunnel {
    /// Starts both ends, and waits until every uplink is up.
    ///
    /// # Errors
    /// What went wrong, with what the end in question said last.
    pub fn start(scenario: &Scenario, options: &TunnelOptions) -> Result<Self, String> {
        std::fs::create_dir_all(&options.logs).map_err(|error| format!("{}: {error}", options.logs.display()))?;
        let gateway = start_gateway(options)?;
        let box_end = start_box(scenario, options)?;
        let mut tunnel = Self { gateway, box_end };
        tunnel.await_uplinks(scenario.uplinks.len())?;
        resolve_neighbours()?;
        Ok(tunnel)
    }

    fn await_uplinks(&mut self, uplinks: usize) -> Result<(), String> {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            self.check()?;
            let up = |end: &End| end.read_log().matches(" -> up: ").count();
            if up(&self.box_end) >= uplinks && up(&self.gateway) >= uplinks {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Err(format!("not all uplinks came up; the box says: {}", self.box_end.last_words()))
    }

    /// Whether both ends still run.
    ///
    /// # Errors
    /// Which does not, and what it said last.
    pub fn check(&mut self) -> Result<(), String> {
        self.gateway.check("braid-gateway")?;
        self.box_end.check("braid-box")
    }

    /// CPU time used so far, in seconds.
    #[must_use]
    pub fn cpu_seconds(&self) -> PerEnd<f64> {
        PerEnd { box_end: self.box_end.cpu_seconds(), gateway: self.gateway.cpu_seconds() }
    }

    /// Memory resident at most so far, in KiB.
    #[must_use]
    pub fn resident_kib(&self) -> PerEnd<u64> {
        PerEnd { box_end: self.box_end.resident_kib(), gateway: self.gateway.resident_kib() }
    }
}

/// Has the two ends of the tunnel's network find each other's hardware addresses, so that the first datagrams of the
/// traffic do not wait for that.
fn resolve_neighbours() -> Result<(), String> {
    let ping = ["-q", "-c", "3", "-i", "0.2", "-w", "5", &TUNNEL_GATEWAY.to_string()].map(str::to_owned);
    let output = command_in(BOX, "ping").args(ping).output();
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(_) => Err(format!("the tunnel is up, but {TUNNEL_GATEWAY} does not answer a ping through it")),
        Err(error) => Err(format!("cannot run ping ({error}): install iputils-ping")),
    }
}

fn start_gateway(options: &TunnelOptions) -> Result<End, String> {
    let any = if options.ipv6 { "[::]" } else { "0.0.0.0" };
    let mut arguments = vec!["--listen".to_owned(), format!("{any}:4754")];
    arguments.extend(common(options, &format!("{TUNNEL_GATEWAY}/24")));
    arguments.extend(options.extra_gateway.clone());
    End::start(GATEWAY_NAMESPACE, options, "braid-gateway", &arguments)
}

fn start_box(scenario: &Scenario, options: &TunnelOptions) -> Result<End, String> {
    let gateway = GATEWAY[usize::from(options.ipv6)];
    let mut arguments = vec!["--gateway".to_owned(), std::net::SocketAddr::new(gateway, 4754).to_string()];
    for uplink in &scenario.uplinks {
        arguments.extend(["--uplink".to_owned(), format!("dev={}", uplink.name)]);
    }
    arguments.extend(common(options, &format!("{TUNNEL_BOX}/24")));
    arguments.extend(options.extra_box.clone());
    End::start(BOX, options, "braid-box", &arguments)
}

fn common(options: &TunnelOptions, address: &str) -> Vec<String> {
    let mut arguments: Vec<String> =
        ["--tap", "braid0", "--address", address, "--plaintext"].map(str::to_owned).to_vec();
    for (flag, value) in [("--mode", &options.mode), ("--window", &options.window)] {
        if let Some(value) = value {
            arguments.extend([flag.to_owned(), value.clone()]);
        }
    }
    arguments
}

impl End {
    fn start(namespace: &str, options: &TunnelOptions, program: &str, arguments: &[String]) -> Result<Self, String> {
        let path = options.folder.join(program);
        if !path.exists() {
            return Err(format!("{} is missing: build it with 'cargo build --release --workspace'", path.display()));
        }
        let log = options.logs.join(format!("{program}.log"));
        let file = File::create(&log).map_err(|error| format!("cannot write {}: {error}", log.display()))?;
        let child = command_in(namespace, &path)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .map_err(|error| format!("cannot start {program}: {error}"))?;
        let mut end = Self { child, log };
        end.await_ready(program)?;
        Ok(end)
    }

    fn await_ready(&mut self, program: &str) -> Result<(), String> {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            self.check(program)?;
            if self.read_log().contains("ready: ") {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(5));
        }
        Err(format!("{program} does not get ready: {}", self.last_words()))
    }

    fn check(&mut self, program: &str) -> Result<(), String> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(format!("{program} has ended ({status}): {}", self.last_words())),
            Err(error) => Err(format!("{program}: {error}")),
        }
    }

    fn read_log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn last_words(&self) -> String {
        self.read_log().lines().last().unwrap_or("nothing").to_owned()
    }

    fn cpu_seconds(&self) -> f64 {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id()));
        let used = |task: std::fs::DirEntry| on_cpu_nanoseconds(&task.path().join("schedstat"));
        tasks.map(|tasks| tasks.flatten().map(used).sum::<u64>() as f64 / 1e9).unwrap_or_default()
    }

    fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with("VmHWM:"));
        line.and_then(|line| line.split_whitespace().nth(1)).and_then(|text| text.parse().ok()).unwrap_or_default()
    }
}

impl Drop for End {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let begun = Instant::now();
        while begun.elapsed() < STOP_PATIENCE {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
        eprintln!("braid-lab: process {} does not stop on SIGTERM, and is killed", self.child.id());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The first figure of /proc/PID/task/TID/schedstat: time spent on a CPU (Documentation/scheduler/sched-stats.rst).
fn on_cpu_nanoseconds(path: &Path) -> u64 {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().next().and_then(|text| text.parse().ok()).unwrap_or_default()
}
