//! OpenVPN between two peers that know each other's address, over a TAP, without TLS and without a key: it warns that
//! nothing is encrypted or authenticated, and does as it says.

use super::{Running, Site, command};
use crate::bench::stage::{DEVICE, FAR, FAR_FIRST, NEAR, NEAR_FIRST, TUNNEL_MTU};
use crate::daemon::Daemon;

pub fn start(site: &Site<'_>) -> Result<Running, String> {
    let ends = [(FAR, FAR_FIRST, NEAR_FIRST), (NEAR, NEAR_FIRST, FAR_FIRST)];
    let daemons = ends.into_iter().map(|(namespace, local, remote)| {
        let flags = format!(
            "--dev {DEVICE} --dev-type tap --proto udp4 --local {local} --remote {remote} --port 1194 \
             --cipher none --auth none --tun-mtu {TUNNEL_MTU}"
        );
        let mut command = command("openvpn")?;
        command.extend(flags.split_whitespace().map(str::to_owned));
        Daemon::start(namespace, &command, site.folder.join(format!("openvpn-{local}.log")))
    });
    Running::configured(daemons.collect::<Result<_, _>>()?, site.stop)
}
