//! The TAP's MTU: what the uplinks can carry, less what the tunnel puts in front.

use std::net::{IpAddr, SocketAddr};

use super::uplink_socket::interface_mtu;
use crate::config::{BoxConfig, GatewayConfig, Mtu, TAP_MTU_MAX, TAP_MTU_MIN};
use crate::proto::wire::{FRAME_HEADER_LENGTH, FRAME_LENGTH_MIN};

/// What an uplink is taken to carry when its interface cannot be asked.
const UPLINK_MTU_COMMON: u32 = 1500;

/// Bytes that one frame's packet costs beside itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Overhead {
    ip: u32,
    udp: u32,
    gre: u32,
    ethernet: u32,
}

impl Overhead {
    const fn towards(gateway: IpAddr) -> Self {
        let ip = if gateway.is_ipv4() { 20 } else { 40 };
        Self { ip, udp: 8, gre: FRAME_HEADER_LENGTH as u32, ethernet: FRAME_LENGTH_MIN as u32 }
    }

    const fn total(self) -> u32 {
        self.ip + self.udp + self.gre + self.ethernet
    }

    fn log(self, what: &str, uplink_mtu: u32) {
        let Self { ip, udp, gre, ethernet } = self;
        tracing::debug!(
            "MTU over {what}: {uplink_mtu} - IP {ip} - UDP {udp} - GRE {gre} - inner Ethernet {ethernet} = {}",
            uplink_mtu.saturating_sub(self.total())
        );
    }
}

/// The MTU of the box's TAP.
#[must_use]
pub fn for_box(config: &BoxConfig, gateways: &[SocketAddr]) -> u16 {
    let overhead = gateways.iter().map(|gateway| Overhead::towards(gateway.ip())).max_by_key(|o| o.total());
    let overhead = overhead.unwrap_or(Overhead::towards(IpAddr::from([0; 16])));
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
    let overhead = Overhead::towards(config.listen.ip());
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
        assert_eq!(choose(Mtu::Auto, 1500, Overhead::towards(IPV4)), 1450);
        assert_eq!(choose(Mtu::Auto, 1500, Overhead::towards(IPV6)), 1430);
    }

    #[test]
    fn a_given_mtu_is_kept_and_an_absurd_one_of_an_interface_is_bounded() {
        assert_eq!(choose(Mtu::Fixed(1280), 1500, Overhead::towards(IPV4)), 1280);
        assert_eq!(choose(Mtu::Auto, 65_536, Overhead::towards(IPV4)), TAP_MTU_MAX);
        assert_eq!(choose(Mtu::Auto, 100, Overhead::towards(IPV4)), TAP_MTU_MIN);
    }
}
