//! vtun over a TAP: Ethernet frames by UDP, neither encrypted nor compressed. Its server forks for the connection.

use super::{PATIENCE, Running, Site, command, write};
use crate::bench::stage::{DEVICE, FAR, FAR_FIRST, NEAR};
use crate::bench::wait::wait_until;
use crate::daemon::Daemon;

/// vtund(8) insists on a folder for its locks, which the package does not make. ip(8) gives each program mounts of its
/// own, so one that nobody else sees does.
const WITH_LOCKS: &str = "mount -t tmpfs none /run/lock && mkdir /run/lock/vtund && exec \"$0\" \"$@\"";

pub fn start(site: &Site<'_>) -> Result<Running, String> {
    let settings = site.folder.join("vtund.conf");
    write(
        &settings,
        &format!(
            "bench {{\n  passwd bench;\n  type ether;\n  device {DEVICE};\n  proto udp;\n  encrypt no;\n  compress no;\n  \
             stat no;\n  up {{ }};\n  down {{ }};\n}}\n"
        ),
    )?;
    let daemon = |namespace: &str, flags: &str| {
        let mut line = ["sh", "-c", WITH_LOCKS].map(str::to_owned).to_vec();
        line.extend(command("vtund")?);
        line.extend(["-n".to_owned(), "-f".to_owned(), settings.display().to_string()]);
        line.extend(flags.split_whitespace().map(str::to_owned));
        Daemon::start(namespace, &line, site.folder.join(format!("vtund-{namespace}.log")))
    };
    let mut server = daemon(FAR, "-s")?;
    let listens = || {
        server.check()?;
        Ok(server.read_log().contains("VTUN server"))
    };
    wait_until(listens, PATIENCE, site.stop, || "its server does not start".to_owned())?;
    let client = daemon(NEAR, &format!("bench {FAR_FIRST}"))?;
    Running::configured(vec![server, client], site.stop)
}
