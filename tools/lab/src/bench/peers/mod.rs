//! The tunnels that are compared, a file for each: what is started, and with what settings.

mod braid;
mod fastd;
mod openvpn;
mod raw;
mod tinc;
mod vtun;
mod vxlan;

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::overhear::Listener;
use super::ping::ping;
use super::stage::{DEVICE, ENDS, FAR, TUNNEL_MTU, has_device};
use super::wait::wait_until;
use crate::addresses::TUNNEL_GATEWAY;
use crate::daemon::Daemon;
use crate::namespaces::ip;
use crate::program::find;
use crate::stop::Stop;

/// How long a tunnel may take to come up.
const PATIENCE: Duration = Duration::from_secs(15);
/// Pings with a mark that is listened for outside of the tunnel.
const MARKED_PINGS: usize = 5;

/// What kind of tunnel one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// None at all: what the machine is capable of.
    Limit,
    /// One within the kernel.
    Kernel,
    /// Ours.
    Braid,
    /// Another one in user space.
    UserSpace,
}

/// The program of a tunnel that is not ours.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    /// What it is called.
    pub name: &'static str,
    /// The Debian package that has it.
    pub package: &'static str,
}

/// A tunnel to be measured.
pub struct Case {
    /// What it is called on the command line and in JSON.
    pub name: &'static str,
    /// What people call it.
    pub title: &'static str,
    /// What kind it is.
    pub kind: Kind,
    /// What must be installed for it.
    pub program: Option<Program>,
    /// Whether only its round-trip time is of interest.
    pub is_rtt_only: bool,
    /// Whether nothing may be read on the uplinks of what goes through it; or else, everything must be.
    pub is_sealed: bool,
    start: fn(&Site<'_>) -> Result<Running, String>,
}

const fn user_space(
    name: &'static str,
    title: &'static str,
    program: Program,
    start: fn(&Site<'_>) -> Result<Running, String>,
) -> Case {
    Case { name, title, kind: Kind::UserSpace, program: Some(program), is_rtt_only: false, is_sealed: false, start }
}

/// All of them, in the order in which they are measured.
pub const CASES: [Case; 11] = [
    Case {
        name: "raw",
        title: "raw veth, no tunnel",
        kind: Kind::Limit,
        program: None,
        is_rtt_only: false,
        is_sealed: false,
        start: raw::start,
    },
    Case {
        name: "vxlan",
        title: "kernel VXLAN",
        kind: Kind::Kernel,
        program: None,
        is_rtt_only: false,
        is_sealed: false,
        start: vxlan::start,
    },
    Case {
        name: "braid-balance-rr",
        title: "braid balance-rr",
        kind: Kind::Braid,
        program: None,
        is_rtt_only: false,
        is_sealed: false,
        start: braid::start_balance_rr,
    },
    Case {
        name: "braid-sealed",
        title: "braid balance-rr, sealed",
        kind: Kind::Braid,
        program: None,
        is_rtt_only: false,
        is_sealed: true,
        start: braid::start_sealed,
    },
    Case {
        name: "braid-rekey",
        title: "braid balance-rr, sealed, new keys each second",
        kind: Kind::Braid,
        program: None,
        is_rtt_only: false,
        is_sealed: true,
        start: braid::start_rekey,
    },
    Case {
        name: "braid-active-backup",
        title: "braid active-backup",
        kind: Kind::Braid,
        program: None,
        is_rtt_only: false,
        is_sealed: false,
        start: braid::start_active_backup,
    },
    Case {
        name: "braid-busy-poll",
        title: "braid, busy poll 20 ms",
        kind: Kind::Braid,
        program: None,
        is_rtt_only: true,
        is_sealed: false,
        start: braid::start_busy_poll,
    },
    user_space("fastd", "fastd, null", Program { name: "fastd", package: "fastd" }, fastd::start),
    user_space("openvpn", "OpenVPN, no cipher", Program { name: "openvpn", package: "openvpn" }, openvpn::start),
    user_space("tinc", "tinc, no cipher", Program { name: "tincd", package: "tinc" }, tinc::start),
    user_space("vtun", "vtun, no cipher", Program { name: "vtund", package: "vtun" }, vtun::start),
];

/// One that no machine has.
#[cfg(test)]
pub static MISSING: Case =
    user_space("missing", "missing", Program { name: "braid-no-such-program", package: "nowhere" }, raw::start);

/// What a tunnel is started with.
pub struct Site<'a> {
    /// Where braid's programs are.
    pub programs: &'a Path,
    /// Further flags of braid's box.
    pub extra_box: &'a [String],
    /// Further flags of braid's gateway.
    pub extra_gateway: &'a [String],
    /// Where keys, settings and logs go.
    pub folder: &'a Path,
    /// Whether to stop.
    pub stop: &'a Stop,
}

/// A tunnel that runs.
pub struct Running {
    /// The receiver's address in it.
    pub far: Ipv4Addr,
    daemons: Vec<Daemon>,
}

impl Case {
    /// Whether its program is there.
    #[must_use]
    pub fn is_installed(&self) -> bool {
        self.program.is_none_or(|program| find(program.name).is_some())
    }

    /// The version of its package, if Debian's package manager knows it.
    #[must_use]
    pub fn version(&self) -> Option<String> {
        let output =
            Command::new("dpkg-query").args(["-W", "-f", "${Version}", self.program?.package]).output().ok()?;
        let version = String::from_utf8(output.stdout).ok()?;
        (output.status.success() && !version.is_empty()).then_some(version)
    }

    /// Starts it, and waits until it carries frames, in the clear or sealed as it is said to.
    ///
    /// # Errors
    /// What went wrong.
    pub fn start(&self, site: &Site<'_>) -> Result<Running, String> {
        let tell = |error| format!("{}: {error}", self.name);
        let mut running = (self.start)(site).map_err(tell)?;
        await_answer(&mut running, site.stop).map_err(tell)?;
        if self.kind != Kind::Limit {
            check_protection(&running, self.is_sealed, site.stop).map_err(tell)?;
        }
        Ok(running)
    }
}

impl Running {
    /// One without processes.
    fn in_kernel(far: Ipv4Addr) -> Self {
        Self { far, daemons: vec![] }
    }

    /// One of these processes, which have made an interface at both ends and given it an address.
    fn ready(daemons: Vec<Daemon>) -> Self {
        Self { far: TUNNEL_GATEWAY, daemons }
    }

    /// One of these processes, which are about to make an interface at both ends, without an address.
    fn configured(mut daemons: Vec<Daemon>, stop: &Stop) -> Result<Self, String> {
        let have_devices = || {
            daemons.iter_mut().try_for_each(Daemon::check)?;
            Ok(ENDS.iter().all(|(namespace, _)| has_device(namespace)))
        };
        wait_until(have_devices, PATIENCE, stop, || format!("the interface '{DEVICE}' does not appear"))?;
        configure_devices()?;
        Ok(Self::ready(daemons))
    }

    /// CPU time used so far by its processes, in seconds, if it has some.
    #[must_use]
    pub fn cpu_seconds(&self) -> Option<f64> {
        (!self.daemons.is_empty()).then(|| self.daemons.iter().map(Daemon::cpu_seconds).sum())
    }

    /// The most memory that one of its processes has had resident, in MiB, if it has some.
    #[must_use]
    pub fn resident_mib_max(&self) -> Option<f64> {
        self.daemons.iter().map(Daemon::resident_kib_max).max().map(|kib| kib as f64 / 1024.0)
    }

    /// Whether all its processes still run.
    ///
    /// # Errors
    /// Which does not, and what it said last.
    pub fn check(&mut self) -> Result<(), String> {
        self.daemons.iter_mut().try_for_each(Daemon::check)
    }
}

/// Gives the interface at both ends its address and MTU, and sets it up.
fn configure_devices() -> Result<(), String> {
    ENDS.iter().try_for_each(|(namespace, address)| {
        ip(&format!("-n {namespace} addr add {address}/24 dev {DEVICE}"))?;
        ip(&format!("-n {namespace} link set dev {DEVICE} mtu {TUNNEL_MTU} up"))
    })
}

fn await_answer(running: &mut Running, stop: &Stop) -> Result<(), String> {
    let far = running.far;
    let is_answered = || {
        running.check()?;
        ping(far, 1, Duration::from_secs(1), stop).map(|times| !times.is_empty())
    };
    wait_until(is_answered, PATIENCE, stop, || format!("{far} does not answer a ping through the tunnel"))
}

/// Checks by what passes on the uplinks that frames go through the tunnel, by UDP, and are encrypted or not.
fn check_protection(running: &Running, is_sealed: bool, stop: &Stop) -> Result<(), String> {
    let listener = Listener::start(FAR)?;
    let answered = ping(running.far, MARKED_PINGS, Duration::from_millis(50), stop)?.len();
    let heard = listener.finish()?;
    if is_sealed && heard > 0 {
        return Err("what goes through it can be read on the uplinks: it is not sealed".to_owned());
    }
    // Requests and replies.
    if !is_sealed && heard < 2 * answered.max(1) as u64 {
        return Err(
            "what goes through it is not seen in the clear in UDP on the uplinks: it is not comparable".to_owned()
        );
    }
    Ok(())
}

/// The start of a command line: where the program is.
fn command(program: &str) -> Result<Vec<String>, String> {
    let path = find(program).ok_or_else(|| format!("{program} is not installed"))?;
    Ok(vec![path.display().to_string()])
}

/// Runs a program to its end; what it has said.
fn output(command: &[String]) -> Result<String, String> {
    let output = Command::new(&command[0]).args(&command[1..]).output();
    let output = output.map_err(|error| format!("cannot run {}: {error}", command[0]))?;
    if !output.status.success() {
        return Err(format!("{} failed: {}", command.join(" "), String::from_utf8_lossy(&output.stderr).trim()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Writes a file of settings.
fn write(path: &Path, text: &str) -> Result<(), String> {
    std::fs::write(path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))
}
