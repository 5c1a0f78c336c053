//! The kernel's own VXLAN over the first uplink.

use super::{Running, Site, configure_devices};
use crate::addresses::TUNNEL_GATEWAY;
use crate::bench::stage::{DEVICE, FAR, FAR_FIRST, NEAR, NEAR_FIRST, UPLINKS};
use crate::namespaces::ip;

pub fn start(_site: &Site<'_>) -> Result<Running, String> {
    for (namespace, local, remote) in [(NEAR, NEAR_FIRST, FAR_FIRST), (FAR, FAR_FIRST, NEAR_FIRST)] {
        let uplink = UPLINKS[0];
        ip(&format!(
            "-n {namespace} link add {DEVICE} type vxlan id 42 local {local} remote {remote} dstport 4789 dev {uplink}"
        ))?;
    }
    configure_devices()?;
    Ok(Running::in_kernel(TUNNEL_GATEWAY))
}
