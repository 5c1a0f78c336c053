//! The lab's address plan: for each uplink a network between box and provider, one between provider and gateway, and
//! a public address for its translation; one fixed address for the gateway; and the tunnel's own network.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The gateway's fixed addresses.
pub const GATEWAY: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 1))];
/// The box's address on the TAP.
pub const TUNNEL_BOX: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
/// The gateway's address on the TAP.
pub const TUNNEL_GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);
/// Everybody on the TAPs' network.
pub const TUNNEL_ALL: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 255);

/// The port that numbered datagrams go to.
pub const TRAFFIC_PORT: u16 = 5001;

/// The addresses of one uplink: IPv4, then IPv6.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// The box's interface.
    pub box_end: [IpAddr; 2],
    /// The provider's interface towards the box.
    pub provider_to_box: [IpAddr; 2],
    /// The provider's interface towards the gateway.
    pub provider_to_gateway: [IpAddr; 2],
    /// The gateway's interface towards the provider.
    pub gateway_end: [IpAddr; 2],
    /// What the box is seen as behind a translation.
    pub public: [IpAddr; 2],
}

impl Addresses {
    /// Those of uplink number `index`.
    #[must_use]
    pub fn of(index: usize) -> Self {
        let number = index as u8;
        let pair = |network: u8, host: u8| {
            [
                IpAddr::V4(Ipv4Addr::new(10, network, number, host)),
                IpAddr::V6(Ipv6Addr::new(0xfd00, network.into(), number.into(), 0, 0, 0, 0, host.into())),
            ]
        };
        Self {
            box_end: pair(101, 2),
            provider_to_box: pair(101, 1),
            provider_to_gateway: pair(102, 1),
            gateway_end: pair(102, 2),
            public: pair(103, 1),
        }
    }
}
