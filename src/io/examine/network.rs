//! The interfaces, and the ways by them to a gateway.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;

use netlink_packet_core::NLM_F_DUMP;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::route::{RouteAttribute, RouteFlags, RouteMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use socket2::{Domain, Protocol, Socket, Type};

use super::rtnetlink::ask;
use super::setting;
use crate::config::{Cidr, InterfaceName, Share, UplinkConfig};
use crate::io::uplink_socket::{GatewaySocket, open_uplink};

/// An interface, as the kernel has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Whether it is set up.
    pub is_up: bool,
    /// Whether it is connected to something.
    pub has_carrier: bool,
    /// In bytes.
    pub mtu: u32,
    /// Its addresses.
    pub addresses: Vec<Cidr>,
}

/// All interfaces of this network namespace, by their numbers.
///
/// # Errors
/// Why the kernel does not tell.
pub fn interfaces() -> io::Result<BTreeMap<u32, Interface>> {
    let mut found = BTreeMap::new();
    for answer in ask(RouteNetlinkMessage::GetLink(LinkMessage::default()), NLM_F_DUMP)? {
        if let RouteNetlinkMessage::NewLink(link) = answer {
            found.insert(link.header.index, interface(&link));
        }
    }
    for answer in ask(RouteNetlinkMessage::GetAddress(AddressMessage::default()), NLM_F_DUMP)? {
        if let RouteNetlinkMessage::NewAddress(address) = answer
            && let (Some(cidr), Some(interface)) = (cidr(&address), found.get_mut(&address.header.index))
        {
            interface.addresses.push(cidr);
        }
    }
    Ok(found)
}

fn interface(link: &LinkMessage) -> Interface {
    let flags = link.header.flags;
    let mut interface = Interface {
        is_up: flags.contains(LinkFlags::Up),
        has_carrier: flags.contains(LinkFlags::LowerUp),
        ..Interface::default()
    };
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::IfName(name) => interface.name = name.clone(),
            LinkAttribute::Mtu(mtu) => interface.mtu = *mtu,
            _ => {}
        }
    }
    interface
}

/// Of a point-to-point link the address at this end, which is the local one where both are told.
fn cidr(message: &AddressMessage) -> Option<Cidr> {
    let find = |wants_local| {
        message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Local(address) if wants_local => Some(*address),
            AddressAttribute::Address(address) if !wants_local => Some(*address),
            _ => None,
        })
    };
    find(true).or_else(|| find(false)).map(|address| Cidr { address, prefix_length: message.header.prefix_len })
}

/// A way by an uplink to a gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// The address that datagrams leave from.
    pub local: IpAddr,
    /// Where they go.
    pub gateway: SocketAddr,
}

/// The way that the box would take by this uplink: found as it does.
///
/// # Errors
/// Why there is none.
pub fn way(config: &UplinkConfig, gateways: &[SocketAddr]) -> io::Result<Way> {
    match open_uplink(config, gateways, false) {
        Ok(socket) => Ok(Way { local: socket.local.ip(), gateway: socket.remote }),
        Err(error) => Err(io::Error::from_raw_os_error(error.errno)),
    }
}

/// The longest IP packet that the kernel believes the way to carry, in bytes: the interface's MTU, the route's, or what a
/// router has said.
///
/// # Errors
/// What the kernel says.
pub fn mtu_of_way(device: &InterfaceName, way: Way) -> io::Result<u32> {
    let socket = Socket::new(Domain::for_address(way.gateway), Type::DGRAM, Some(Protocol::UDP))?;
    socket.bind_device(Some(device.as_str().as_bytes()))?;
    socket.bind(&SocketAddr::new(way.local, 0).into())?;
    socket.connect(&way.gateway.into())?;
    let (level, option) = match way.gateway {
        SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_MTU),
        SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_MTU),
    };
    let mut mtu: libc::c_int = 0;
    let mut length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: The kernel writes at most one int to `mtu`, and how much it was to `length`; both outlive the call.
    let result = unsafe { libc::getsockopt(socket.as_raw_fd(), level, option, (&raw mut mtu).cast(), &raw mut length) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(mtu.unsigned_abs()) }
}

/// Whether a route leads along a way by the interface of this number. A socket that is bound to an interface is not told: where
/// there is none, the kernel takes it that any IPv4 address is right there, on the network of that interface.
///
/// # Errors
/// What the kernel says, if not.
pub fn has_route(way: Way, interface_index: u32) -> io::Result<()> {
    let mut question = question(way);
    question.header.flags = RouteFlags::FibMatch;
    question.attributes.push(RouteAttribute::Oif(interface_index));
    ask(RouteNetlinkMessage::GetRoute(question), 0).map(drop)
}

/// The number of the interface by which the kernel would send along a way, if no socket were bound to one: the one by
/// which strict reverse path filtering wants what comes from the gateway to come.
///
/// # Errors
/// What the kernel says; that there is no such way, most likely.
pub fn returns_by(way: Way) -> io::Result<u32> {
    let answers = ask(RouteNetlinkMessage::GetRoute(question(way)), 0)?;
    let device = answers.iter().find_map(|answer| match answer {
        RouteNetlinkMessage::NewRoute(route) => route.attributes.iter().find_map(|attribute| match attribute {
            RouteAttribute::Oif(index) => Some(*index),
            _ => None,
        }),
        _ => None,
    });
    device.ok_or_else(|| io::Error::from_raw_os_error(libc::ENETUNREACH))
}

/// For the route along a way.
fn question(way: Way) -> RouteMessage {
    let mut question = RouteMessage::default();
    let (family, bits) = if way.local.is_ipv4() { (AddressFamily::Inet, 32) } else { (AddressFamily::Inet6, 128) };
    question.header.address_family = family;
    question.header.destination_prefix_length = bits;
    question.header.source_prefix_length = bits;
    question.attributes =
        vec![RouteAttribute::Destination(way.gateway.ip().into()), RouteAttribute::Source(way.local.into())];
    question
}

/// How strictly the kernel filters by reverse path what comes by this interface: 0, 1 (strict) or 2 (loose); the larger of
/// two settings counts (the kernel's ip-sysctl.rst).
#[must_use]
pub fn reverse_path_filter(device: &InterfaceName) -> Option<u8> {
    let read = |name: &str| setting(&format!("net/ipv4/conf/{name}/rp_filter"))?.parse().ok();
    read("all").max(read(device.as_str()))
}

/// Opens the socket that a gateway would, and closes it again.
///
/// # Errors
/// What the kernel says.
pub fn can_listen(address: SocketAddr) -> io::Result<()> {
    GatewaySocket::open(address, false, Share::ALL).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an IPv4 header can say (RFC 791).
    const IP_LENGTH_MAX: u32 = 65_535;

    #[test]
    fn the_loopback_interface_is_up_and_the_way_by_it_returns_by_it() {
        let interfaces = interfaces().expect("anyone may ask");
        let (index, loopback) = interfaces.iter().find(|(_, one)| one.name == "lo").expect("every machine has it");
        assert!(loopback.mtu > 1500, "{loopback:?}");
        let address: SocketAddr = "127.0.0.1:4754".parse().expect("an address");
        if !loopback.addresses.iter().any(|cidr| cidr.address == address.ip()) {
            return; // It is set down, as in a fresh network namespace.
        }
        let way = Way { local: address.ip(), gateway: address };
        assert_eq!(returns_by(way).expect("a way"), *index);
        has_route(way, *index).expect("of the local ones");
        let device = InterfaceName::new("lo").expect("lawful");
        assert_eq!(mtu_of_way(&device, way).ok(), Some(loopback.mtu.min(IP_LENGTH_MAX)));
        assert!(reverse_path_filter(&device).is_some());
    }

    #[test]
    fn a_port_that_is_taken_cannot_be_listened_on() {
        let taken = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let error = can_listen(taken.local_addr().expect("bound")).expect_err("taken");
        assert_eq!(error.raw_os_error(), Some(libc::EADDRINUSE));
    }
}
