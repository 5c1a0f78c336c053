//! tinc as a switch, with neither cipher nor digest. Its nodes find each other by a TCP connection of their own, over
//! which they also send frames until probes have shown that UDP carries them.

use std::path::Path;

use rustix::process::Signal;

use super::{PATIENCE, Running, Site, await_answer, command, output, write};
use crate::bench::stage::{DEVICE, FAR, FAR_FIRST, NEAR, NEAR_FIRST, TUNNEL_MTU};
use crate::bench::wait::wait_until;
use crate::daemon::Daemon;

/// What must be known to pass by UDP: a whole frame.
const FRAME_LENGTH: u16 = TUNNEL_MTU + 14;
const NAMES: [&str; 2] = ["far", "near"];

pub fn start(site: &Site<'_>) -> Result<Running, String> {
    let folders = NAMES.map(|name| site.folder.join(format!("tinc-{name}")));
    prepare(&folders[0], "far", &FAR_FIRST.to_string(), "")?;
    prepare(&folders[1], "near", &NEAR_FIRST.to_string(), "ConnectTo = far\n")?;
    for (from, to, name) in [(0, 1, "far"), (1, 0, "near")] {
        let copied = std::fs::copy(folders[from].join("hosts").join(name), folders[to].join("hosts").join(name));
        copied.map_err(|error| format!("cannot copy the public key of '{name}': {error}"))?;
    }
    let daemons = [FAR, NEAR].into_iter().zip(&folders).map(|(namespace, folder)| {
        let flags = [format!("--pidfile={}", folder.join("pid").display()), "-D".to_owned()];
        Daemon::start(namespace, &[tincd(folder)?, flags.to_vec()].concat(), folder.with_extension("log"))
    });
    let mut running = Running::configured(daemons.collect::<Result<_, _>>()?, site.stop)?;
    // Probes begin with the first frame.
    await_answer(&mut running, site.stop)?;
    await_udp(&running.daemons, site)?;
    Ok(running)
}

/// Writes a node's settings, and has tinc make its keys.
fn prepare(folder: &Path, name: &str, address: &str, connect: &str) -> Result<(), String> {
    let hosts = folder.join("hosts");
    std::fs::create_dir_all(&hosts).map_err(|error| format!("cannot make {}: {error}", hosts.display()))?;
    let settings =
        format!("Name = {name}\nMode = switch\nDeviceType = tap\nInterface = {DEVICE}\nAddressFamily = ipv4\n");
    write(&folder.join("tinc.conf"), &(settings + connect))?;
    write(&hosts.join(name), &format!("Address = {address}\nCipher = none\nDigest = none\nCompression = 0\n"))?;
    output(&[tincd(folder)?, vec!["--generate-keys=2048".to_owned()]].concat()).map(drop)
}

fn tincd(folder: &Path) -> Result<Vec<String>, String> {
    Ok([command("tincd")?, vec![format!("--config={}", folder.display())]].concat())
}

/// Waits until both know that UDP carries whole frames, which they tell when asked by a signal.
fn await_udp(daemons: &[Daemon], site: &Site<'_>) -> Result<(), String> {
    let known = || {
        let known = daemons
            .iter()
            .zip(["near", "far"])
            .all(|(daemon, other)| udp_length(&daemon.read_log(), other).is_some_and(|length| length >= FRAME_LENGTH));
        daemons.iter().for_each(|daemon| daemon.signal(Signal::USR2));
        Ok(known)
    };
    wait_until(known, PATIENCE, site.stop, || "its nodes send by TCP, not by UDP".to_owned())
}

/// The longest frame that is known to reach a node by UDP, in a line such as `far at 10.0.0.2 port 655 ... pmtu 1518 (min
/// 1464 max 1469)` of what is logged on SIGUSR2; of several lines the last counts.
fn udp_length(log: &str, node: &str) -> Option<u16> {
    let line = log.lines().rev().find(|line| line.trim_start().starts_with(&format!("{node} at ")))?;
    line.split_once("(min ")?.1.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_udp_carries_is_read_from_the_last_dump() {
        let log = "Ready\n far at 10.0.0.2 port 655 cipher 0 pmtu 1518 (min 0 max 1518)\n\
                   \x20near at MYSELF cipher 0 pmtu 1518 (min 9 max 1518)\n\
                   \x20far at 10.0.0.2 port 655 cipher 0 pmtu 1518 (min 1464 max 1469)\n near at MYSELF\n";
        assert_eq!(udp_length(log, "far"), Some(1464));
        assert_eq!(udp_length(log, "elsewhere"), None);
        assert_eq!(udp_length(" far at 10.0.0.2 (min", "far"), None);
    }
}
