//! The TAP's MTU to begin with: what the uplinks' interfaces can carry, less what the tunnel puts in front. It is never
//! larger; what carries less on the way is found out while the tunnel runs (`crate::proto::tunnel`).

use std::net::{IpAddr, SocketAddr};

use super::uplink_socket::interface_mtu;
use crate::config::{BoxConfig, BoxSecurity, GatewayConfig, GatewaySecurity, Mtu, TAP_MTU_MAX, TAP_MTU_MIN};
use crate::proto::session::cipher::TAG_LENGTH;
use crate::proto::wire::{FRAME_HEADER_LENGTH, FRAME_LENGTH_MIN, KEYED_HEADER_LENGTH};

/// What an uplink is taken to carry when its interface cannot be asked.
const UPLINK_MTU_COMMON: u32 = 1500;

/// Bytes of UDP header.
const UDP_HEADER_LENGTH: u32 = 8;

/// Bytes of IP header in front of a packet to or from `remote`.
const fn ip_header_length(remote: IpAddr) -> u32 {
    if remote.is_ipv4() { 20 } else { 40 }
}

/// Bytes of IP and UDP header in front of a datagram to or from `remote`.
#[must_use]
pub const fn datagram_header_length(remote: IpAddr) -> u32 {
    ip_header_length(remote) + UDP_HEADER_LENGTH
}

/// Bytes that a packet of the TAP costs beside itself on the way to `gateway`.
#[must_use]
pub const fn overhead_towards(gateway: IpAddr, is_sealed: bool) -> u32 {
    Overhead::towards(gateway, is_sealed).total()
}

/// Bytes that one frame's packet costs beside itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Overhead {
    ip: u32,
    udp: u32,
    gre: u32,
    ethernet: u32,
    tag: u32,
}

impl Overhead {
    const fn towards(gateway: IpAddr, is_sealed: bool) -> Self {
        let ip = ip_header_length(gateway);
        let (gre, tag) = if is_sealed { (KEYED_HEADER_LENGTH, TAG_LENGTH) } else { (FRAME_HEADER_LENGTH, 0) };
        Self { ip, udp: UDP_HEADER_LENGTH, gre: gre as u32, ethernet: FRAME_LENGTH_MIN as u32, tag: tag as u32 }
    }

    const fn total(self) -> u32 {
        self.ip + self.udp + self.gre + self.ethernet + self.tag
    }

    fn log(self, what: &str, uplink_mtu: u32) {
        let Self { ip, udp, gre, ethernet, tag } = self;
        tracing::debug!(
            "MTU over {what}: {uplink_mtu} - IP {ip} - UDP {udp} - GRE {gre} - inner Ethernet {ethernet} - tag {tag} = {}",
            uplink_mtu.saturating_sub(self.total())
        );
    }
}

/// The MTU of the box's TAP.
#[must_use]
pub fn for_box(config: &BoxConfig, gateways: &[SocketAddr]) -> u16 {
    let is_sealed = matches!(config.security, BoxSecurity::Sealed { .. });
    let overheads = gateways.iter().map(|gateway| Overhead::towards(gateway.ip(), is_sealed));
    let overhead = overheads.max_by_key(|overhead| overhead.total());
    let overhead = overhead.unwrap_or(Overhead::towards(IpAddr::from([0; 16]), is_sealed));
    let mut smallest = None;
    for uplink in &config.uplinks {
        if let Ok(mtu) = interface_mtu(&uplink.device) {
            overhead.log(uplink.name.as_str(), mtu);
            smallest = Some(smallest.map_or(mtu, |smallest: u32| smallest.min(mtu)));
        }
    }
    choose(config.process.mtu, smallest.unwrap_or(UPLINK_MTU_COMMON), overhead)
}

/// The MTU of the gateway's TAP, which follows the box's downwards when that is known.
#[must_use]
pub fn for_gateway(config: &GatewayConfig) -> u16 {
    let overhead = Overhead::towards(config.listen.ip(), matches!(config.security, GatewaySecurity::Sealed { .. }));
    overhead.log("the Internet", UPLINK_MTU_COMMON);
    choose(config.process.mtu, UPLINK_MTU_COMMON, overhead)
}

/// How far the MTU may be raised again after it has followed the other end's downwards; `None` if it may not move.
#[must_use]
pub const fn bound(wanted: Mtu, chosen: u16) -> Option<u16> {
    match wanted {
        Mtu::Auto => Some(chosen),
        Mtu::Fixed(_) => None,
    }
}

fn choose(wanted: Mtu, uplink_mtu: u32, overhead: Overhead) -> u16 {
    let fits = uplink_mtu.saturating_sub(overhead.total()).clamp(TAP_MTU_MIN.into(), TAP_MTU_MAX.into()) as u16;
    match wanted {
        Mtu::Auto => fits,
        Mtu::Fixed(mtu) => {
            if mtu > fits {
                tracing::warn!("--mtu {mtu} is more than the uplinks can carry ({fits}): longer packets will be lost");
            }
            mtu
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IPV4: IpAddr = IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);
    const IPV6: IpAddr = IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED);

    #[test]
    fn the_overhead_is_fifty_bytes_over_ipv4_and_seventy_over_ipv6() {
        assert_eq!(choose(Mtu::Auto, 1500, Overhead::towards(IPV4, false)), 1450);
        assert_eq!(choose(Mtu::Auto, 1500, Overhead::towards(IPV6, false)), 1430);
    }

    #[test]
    fn a_sealed_frame_costs_twenty_more() {
        assert_eq!(choose(Mtu::Auto, 1500, Overhead::towards(IPV4, true)), 1430);
    }

    #[test]
    fn a_given_mtu_is_kept_and_an_absurd_one_of_an_interface_is_bounded() {
        assert_eq!(choose(Mtu::Fixed(1280), 1500, Overhead::towards(IPV4, false)), 1280);
        assert_eq!(choose(Mtu::Auto, 65_536, Overhead::towards(IPV4, false)), TAP_MTU_MAX);
        assert_eq!(choose(Mtu::Auto, 100, Overhead::towards(IPV4, false)), TAP_MTU_MIN);
    }
}
