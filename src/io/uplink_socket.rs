//! UDP sockets: the box's, one per uplink, bound to its interface; and the gateway's.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::Path;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::control_message::ControlBuffer;
use super::steering::{self, Steering};
use crate::config::{InterfaceName, Share, UplinkConfig};

/// Room for datagrams that come while the reactor is away. The kernel takes twice that, and counts its own bookkeeping:
/// it is a sixth of a second of 1 Gbit/s, or nearly half a second of 100,000 small ones a second (socket(7)).
const RECEIVE_BUFFER: usize = 16 << 20;
/// Room for datagrams on their way out: more would only be a longer queue on a slow uplink.
const SEND_BUFFER: usize = 1 << 20;

/// An uplink's socket. It is not connected: a connected one would be told of every error that ICMP brings, which anybody
/// can forge, by failing to send (RFC 5927; ICMP says nothing to one that is not, udp(7)).
#[derive(Debug)]
pub struct UplinkSocket {
    socket: Socket,
    /// The address it sends from.
    pub local: SocketAddr,
    /// The gateway's address.
    pub remote: SocketAddr,
    /// The same, as the kernel wants it.
    pub destination: SockAddr,
    /// The number of the interface it is bound to.
    pub interface_index: u32,
}

impl UplinkSocket {
    /// The file.
    #[must_use]
    pub fn descriptor(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// Whether `other` sends from the same address of the same interface, so that nothing is gained by taking it
    /// instead.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        (self.interface_index, self.local.ip(), self.remote) == (other.interface_index, other.local.ip(), other.remote)
    }
}

/// Why an uplink has no socket, with what to do about it.
#[derive(Debug)]
pub struct UplinkError {
    message: String,
    /// The errno behind it.
    pub errno: i32,
    /// Whether no time will mend it.
    pub is_final: bool,
}

impl UplinkError {
    /// Several errors in one line.
    #[must_use]
    pub fn all_of(errors: impl Iterator<Item = Self>) -> Self {
        let messages: Vec<String> = errors.map(|error| error.message).collect();
        Self { message: messages.join("; "), errno: libc::ENODEV, is_final: false }
    }
}

impl fmt::Display for UplinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for UplinkError {}

/// Opens an uplink's socket: bound to its interface, so that no policy routing is needed, for the first of `gateways` that
/// can be reached by it.
///
/// # Errors
/// Why not, and what to do.
pub fn open_uplink(config: &UplinkConfig, gateways: &[SocketAddr], gro: bool) -> Result<UplinkSocket, UplinkError> {
    let interface_index = interface_index(&config.device).map_err(|error| {
        let advice = if error.raw_os_error() == Some(libc::ENODEV) {
            "there is no such interface: check the name with 'ip link', or plug it in".to_owned()
        } else {
            format!("cannot find it: {error}")
        };
        UplinkError {
            message: format!("uplink {}: interface '{}': {advice}", config.name, config.device),
            errno: error.raw_os_error().unwrap_or(libc::ENODEV),
            is_final: false,
        }
    })?;
    let fits = |gateway: &SocketAddr| config.source.is_none_or(|source| source.is_ipv4() == gateway.is_ipv4());
    let mut failures = vec![];
    for gateway in gateways.iter().copied().filter(fits) {
        match open_towards(config, gateway, gro) {
            Ok((socket, local)) => {
                let destination = gateway.into();
                return Ok(UplinkSocket { socket, local, remote: gateway, destination, interface_index });
            }
            Err(error) => failures.push(error),
        }
    }
    // That there is no IPv6 here says less than what there is against IPv4.
    let is_telling = |error: &io::Error| error.raw_os_error() != Some(libc::EAFNOSUPPORT);
    let told = failures.iter().position(is_telling).unwrap_or(0);
    Err(explain(config, gateways, failures.get(told)))
}

/// A socket that sends to `gateway`, and the address that it does so from.
fn open_towards(config: &UplinkConfig, gateway: SocketAddr, gro: bool) -> io::Result<(Socket, SocketAddr)> {
    let any: IpAddr = if gateway.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let bound = || {
        let socket = new_socket(gateway, gro)?;
        socket.bind_device(Some(config.device.as_str().as_bytes()))?;
        socket.bind(&SocketAddr::new(config.source.unwrap_or(any), 0).into())?;
        io::Result::Ok(socket)
    };
    let socket = bound()?;
    // Only one that is connected is told where it sends from, and whether there is a way at all.
    let connected = bound()?;
    connected.connect(&gateway.into())?;
    let from = local_address(&connected)?.ip();
    let port = local_address(&socket)?.port();
    Ok((socket, SocketAddr::new(from, port)))
}

/// `error` is `None` if none of `gateways` is of the family of the source address.
fn explain(config: &UplinkConfig, gateways: &[SocketAddr], error: Option<&io::Error>) -> UplinkError {
    let gateways = gateways.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(" or ");
    let Some(error) = error else {
        return UplinkError {
            message: format!("uplink {}: {gateways} is of another address family than its source", config.name),
            errno: libc::EAFNOSUPPORT,
            is_final: true,
        };
    };
    let errno = error.raw_os_error().unwrap_or(libc::EIO);
    let (advice, is_final) = match errno {
        libc::EPERM => ("something forbids it: a sandbox, or a BPF program".to_owned(), true),
        libc::EACCES => (format!("{gateways} is a broadcast address, or a security policy forbids it"), true),
        libc::ENETUNREACH | libc::EHOSTUNREACH => {
            (format!("no route to {gateways} by it: it needs an address and a default route"), false)
        }
        libc::EADDRNOTAVAIL => ("the interface does not have the source address".to_owned(), false),
        libc::EAFNOSUPPORT => (format!("this kernel does not have the address family of {gateways}"), true),
        _ => ("will be tried again".to_owned(), false),
    };
    let message = format!("uplink {}: cannot use interface '{}': {error}: {advice}", config.name, config.device);
    UplinkError { message, errno, is_final }
}

/// The gateway's socket.
#[derive(Debug)]
pub struct GatewaySocket {
    socket: Socket,
    /// Whether it is an IPv6 socket, which spells IPv4 addresses as v4-mapped.
    is_ipv6: bool,
    /// Our place among the processes that share the port, if it is shared.
    steering: Option<Steering>,
}

impl GatewaySocket {
    /// Opens it, and has the kernel tell for each datagram which of our addresses it came to, so that the answer
    /// leaves from there. With others of a `share` it gets what is for this process.
    ///
    /// # Errors
    /// What the kernel says; or, if a port cannot be shared, a line that says why and what to do.
    pub fn open(listen: SocketAddr, gro: bool, share: Share) -> io::Result<Self> {
        let socket = new_socket(listen, gro)?;
        if listen.is_ipv6() {
            socket.set_only_v6(false)?;
            set_flag(&socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO)?;
        } else {
            set_flag(&socket, libc::IPPROTO_IP, libc::IP_PKTINFO)?;
        }
        let steering = if share.of > 1 {
            Some(Steering::join(&socket, listen, share, Path::new(steering::BPF_FILE_SYSTEM))?)
        } else {
            socket.bind(&listen.into())?;
            None
        };
        Ok(Self { socket, is_ipv6: listen.is_ipv6(), steering })
    }

    /// Whether other processes have the same port.
    #[must_use]
    pub const fn shares_port(&self) -> bool {
        self.steering.is_some()
    }

    /// The file.
    #[must_use]
    pub fn descriptor(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// `address` as this socket spells it.
    #[must_use]
    pub fn spell(&self, address: SocketAddr) -> SockAddr {
        match address {
            SocketAddr::V4(v4) if self.is_ipv6 => SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0).into(),
            other => other.into(),
        }
    }

    /// The control message that has a datagram leave from `source`.
    #[must_use]
    pub fn source(&self, source: IpAddr) -> ControlBuffer {
        ControlBuffer::for_source(source, self.is_ipv6)
    }
}

/// `gro` has the kernel put together what comes together.
fn new_socket(address: SocketAddr, gro: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    // The forced variant exceeds net.core.rmem_max, but needs CAP_NET_ADMIN; the other is clamped silently.
    if set_value(&socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, RECEIVE_BUFFER as i32).is_err() {
        socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    }
    socket.set_send_buffer_size(SEND_BUFFER)?;
    // Don't fragment, and do not believe ICMP's word on the path's MTU, which anyone on the way can forge: what is
    // too long for the interface itself is refused with EMSGSIZE, the rest is found out by soundings
    // (`crate::proto::uplink::path_mtu`).
    set_value(&socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE)?;
    if gro {
        set_flag(&socket, libc::SOL_UDP, libc::UDP_GRO)?;
    }
    if address.is_ipv6() {
        set_value(&socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_PROBE)?;
    }
    Ok(socket)
}

/// How much room for datagrams that come a socket wants, and how much it gets, in bytes: all of it with CAP_NET_ADMIN, else
/// no more than net.core.rmem_max.
///
/// # Errors
/// Why there is no socket.
pub fn receive_buffer() -> io::Result<(usize, usize)> {
    let socket = new_socket(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0), false)?;
    // The kernel tells twice what it was asked for.
    Ok((RECEIVE_BUFFER, socket.recv_buffer_size()? / 2))
}

/// Whether the kernel knows an option of UDP sockets that takes a number (udp(7)).
///
/// # Errors
/// What it says if not.
pub fn probe_option(option: i32) -> io::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    set_flag(&socket, libc::SOL_UDP, option)
}

fn set_flag(socket: &Socket, level: i32, option: i32) -> io::Result<()> {
    set_value(socket, level, option, 1)
}

fn set_value(socket: &Socket, level: i32, option: i32, value: i32) -> io::Result<()> {
    let length = size_of::<i32>() as u32;
    // SAFETY: The kernel reads one int from `value`, which outlives the call.
    let result =
        unsafe { libc::setsockopt(socket.as_fd().as_raw_fd(), level, option, (&raw const value).cast(), length) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn local_address(socket: &Socket) -> io::Result<SocketAddr> {
    socket.local_addr()?.as_socket().ok_or_else(|| io::Error::from_raw_os_error(libc::EAFNOSUPPORT))
}

/// The number of an interface.
///
/// # Errors
/// ENODEV if there is none of that name.
pub fn interface_index(name: &InterfaceName) -> io::Result<u32> {
    let name = std::ffi::CString::new(name.as_str())?;
    // SAFETY: The name is terminated by a zero and outlives the call.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(io::Error::last_os_error()),
        index => Ok(index),
    }
}

/// The MTU of an interface, in bytes.
///
/// # Errors
/// What reading it from sysfs says.
pub fn interface_mtu(name: &InterfaceName) -> io::Result<u32> {
    let text = std::fs::read_to_string(format!("/sys/class/net/{name}/mtu"))?;
    text.trim().parse().map_err(|_| io::Error::from(io::ErrorKind::InvalidData))
}

/// The address in the bytes of a sockaddr_in or sockaddr_in6; a v4-mapped one as the IPv4 address it is.
#[must_use]
pub fn socket_address_from_name(name: &[u8]) -> Option<SocketAddr> {
    let family = i32::from(u16::from_ne_bytes(name.get(..2)?.try_into().ok()?));
    let port = u16::from_be_bytes(name.get(2..4)?.try_into().ok()?);
    match family {
        libc::AF_INET => {
            let octets: [u8; 4] = name.get(4..8)?.try_into().ok()?;
            Some(SocketAddrV4::new(octets.into(), port).into())
        }
        libc::AF_INET6 => {
            let octets: [u8; 16] = name.get(8..24)?.try_into().ok()?;
            let scope = u32::from_ne_bytes(name.get(24..28)?.try_into().ok()?);
            Some(match IpAddr::from(octets).to_canonical() {
                IpAddr::V4(v4) => SocketAddrV4::new(v4, port).into(),
                IpAddr::V6(v6) => SocketAddrV6::new(v6, port, 0, scope).into(),
            })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::uplink::Limits;
    use crate::proto::uplink::UplinkName;

    fn loopback(device: &str) -> UplinkConfig {
        UplinkConfig {
            device: InterfaceName::new(device).expect("lawful"),
            name: UplinkName::new("test").expect("lawful"),
            source: None,
            weight: 1,
            limits: Limits::default(),
            budget: None,
        }
    }

    #[test]
    fn addresses_are_read_as_the_kernel_writes_them() {
        for address in ["192.0.2.1:4754", "[2001:db8::1]:99"] {
            let address: SocketAddr = address.parse().expect("an address");
            let spelled = SockAddr::from(address);
            // SAFETY: A SockAddr has as many initialised bytes as it says.
            let bytes = unsafe { std::slice::from_raw_parts(spelled.as_ptr().cast::<u8>(), spelled.len() as usize) };
            assert_eq!(socket_address_from_name(bytes), Some(address));
            for length in 0..bytes.len().min(8) {
                assert_eq!(socket_address_from_name(&bytes[..length]), None);
            }
        }
    }

    #[test]
    fn an_uplink_by_the_loopback_interface_reaches_a_gateway_there() {
        let gateway =
            GatewaySocket::open("127.0.0.1:0".parse().expect("an address"), true, Share::ALL).expect("a socket");
        let address = local_address(&gateway.socket).expect("bound");
        let uplink = match open_uplink(&loopback("lo"), &[address], true) {
            Ok(uplink) => uplink,
            Err(error) if error.is_final => {
                eprintln!("SKIPPED: {error}");
                assert!(std::env::var_os("CI").is_none(), "not to be skipped here");
                return;
            }
            Err(error) => panic!("{error}"),
        };
        assert_eq!((uplink.remote, uplink.local.ip()), (address, address.ip()));
    }

    #[test]
    fn a_missing_interface_is_named() {
        let error = open_uplink(&loopback("nosuch0"), &[], true).expect_err("no such interface");
        assert!(error.to_string().contains("nosuch0"));
        assert!(!error.is_final, "it may be plugged in yet");
    }
}
