//! braid as the tunnel under test.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::{PATIENCE, Tunnel};
use crate::addresses::{GATEWAY, TUNNEL_BOX, TUNNEL_GATEWAY};
use crate::end::{End, Which};
use crate::namespaces::{BOX, command_in};
use crate::protection::Protection;
use crate::scenario::Scenario;

/// What the tunnel is run with.
#[derive(Clone, Debug)]
pub struct TunnelOptions {
    /// Where the two programs are.
    pub folder: PathBuf,
    /// Whether it is run without keys.
    pub is_plaintext: bool,
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

/// Starts both ends, and waits until every uplink is up. Their keys go to the folder `secrets`.
///
/// # Errors
/// What went wrong, with what the end in question said last.
pub fn start(scenario: &Scenario, options: &TunnelOptions, secrets: &Path) -> Result<Tunnel, String> {
    let protection = Protection::new(options.is_plaintext, secrets)?;
    let start = |which: Which| {
        let log = options.logs.join(format!("{}.log", which.program()));
        End::start(which, &options.folder, &arguments(which, scenario, options, &protection), log)
    };
    let mut gateway = start(Which::Gateway)?;
    let mut box_end = start(Which::Box)?;
    await_uplinks(scenario.uplinks.len(), &mut gateway, &mut box_end)?;
    resolve_neighbours()?;
    Ok(Tunnel { gateway: gateway.into_daemon(), box_end: box_end.into_daemon() })
}

fn await_uplinks(uplinks: usize, gateway: &mut End, box_end: &mut End) -> Result<(), String> {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        gateway.check()?;
        box_end.check()?;
        if box_end.uplinks_come_up() >= uplinks && gateway.uplinks_come_up() >= uplinks {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(20));
    }
    Err(format!("not all uplinks came up; the box says: {}", box_end.last_words()))
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

/// What an end is started with.
#[must_use]
pub fn arguments(which: Which, scenario: &Scenario, options: &TunnelOptions, protection: &Protection) -> Vec<String> {
    let mut arguments = protection.flags(which);
    // Both run on this machine, by the same names.
    arguments.push(format!("--control=/run/braid/{}.sock", which.program()));
    match which {
        Which::Gateway => {
            let any = if options.ipv6 { "[::]" } else { "0.0.0.0" };
            arguments.extend(["--listen".to_owned(), format!("{any}:4754")]);
            arguments.extend(common(options, &format!("{TUNNEL_GATEWAY}/24")));
            arguments.extend(options.extra_gateway.clone());
        }
        Which::Box => {
            let gateway = GATEWAY[usize::from(options.ipv6)];
            arguments.extend(["--gateway".to_owned(), std::net::SocketAddr::new(gateway, 4754).to_string()]);
            for uplink in &scenario.uplinks {
                arguments.extend(["--uplink".to_owned(), format!("dev={}", uplink.name)]);
            }
            arguments.extend(common(options, &format!("{TUNNEL_BOX}/24")));
            arguments.extend(options.extra_box.clone());
        }
    }
    arguments
}

fn common(options: &TunnelOptions, address: &str) -> Vec<String> {
    let mut arguments: Vec<String> = ["--tap", "braid0", "--address", address].map(str::to_owned).to_vec();
    for (flag, value) in [("--mode", &options.mode), ("--window", &options.window)] {
        if let Some(value) = value {
            arguments.extend([flag.to_owned(), value.clone()]);
        }
    }
    arguments
}
