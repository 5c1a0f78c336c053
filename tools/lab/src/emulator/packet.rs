//! As much of IP, UDP, TCP and ICMP echo as a translation needs: who from, who to, and checksums kept right (RFC 1624).
//! Other ICMP has no end of a flow here, so a translation drops it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const PROTOCOL_ICMP: u8 = 1;
const PROTOCOL_TCP: u8 = 6;
const PROTOCOL_UDP: u8 = 17;
const PROTOCOL_ICMPV6: u8 = 58;
/// Request and reply, of ICMP and of ICMPv6.
const ECHOES: [(u8, u8); 4] = [(PROTOCOL_ICMP, 8), (PROTOCOL_ICMP, 0), (PROTOCOL_ICMPV6, 128), (PROTOCOL_ICMPV6, 129)];
const IPV6_HEADER_LENGTH: usize = 40;

/// One end of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// Its address.
    pub address: IpAddr,
    /// Its port, or the identifier of its echo.
    pub port: u16,
    /// TCP, UDP or ICMP.
    pub protocol: u8,
}

/// An IP packet.
pub struct Packet<'a> {
    bytes: &'a mut [u8],
    is_ipv4: bool,
    transport: usize,
    protocol: u8,
}

impl<'a> Packet<'a> {
    /// Looks at an IPv4 or IPv6 packet; `None` if it is neither.
    pub fn parse(bytes: &'a mut [u8]) -> Option<Self> {
        let (is_ipv4, transport, protocol) = match bytes.first()? >> 4 {
            4 if bytes.len() >= 20 => (true, usize::from(bytes[0] & 0xf) * 4, bytes[9]),
            6 if bytes.len() >= IPV6_HEADER_LENGTH => (false, IPV6_HEADER_LENGTH, bytes[6]),
            _ => return None,
        };
        Some(Self { bytes, is_ipv4, transport, protocol })
    }

    /// The address it is from.
    #[must_use]
    pub fn source_address(&self) -> IpAddr {
        self.address(if self.is_ipv4 { 12 } else { 8 })
    }

    /// Who it is from, if it is TCP, UDP or an echo.
    #[must_use]
    pub fn source(&self) -> Option<Endpoint> {
        self.endpoint(self.source_address(), 0)
    }

    /// Who it is to, if it is TCP, UDP or an echo.
    #[must_use]
    pub fn destination(&self) -> Option<Endpoint> {
        self.endpoint(self.address(if self.is_ipv4 { 16 } else { 24 }), 2)
    }

    /// Makes it be from somebody else, of the same address family.
    pub fn set_source(&mut self, source: Endpoint) {
        self.set(if self.is_ipv4 { 12 } else { 8 }, 0, source);
    }

    /// Makes it be to somebody else, of the same address family.
    pub fn set_destination(&mut self, destination: Endpoint) {
        self.set(if self.is_ipv4 { 16 } else { 24 }, 2, destination);
    }

    fn address(&self, at: usize) -> IpAddr {
        if self.is_ipv4 {
            Ipv4Addr::from(<[u8; 4]>::try_from(&self.bytes[at..at + 4]).unwrap_or_default()).into()
        } else {
            Ipv6Addr::from(<[u8; 16]>::try_from(&self.bytes[at..at + 16]).unwrap_or_default()).into()
        }
    }

    fn endpoint(&self, address: IpAddr, port_at: usize) -> Option<Endpoint> {
        let has_ports =
            (matches!(self.protocol, PROTOCOL_TCP | PROTOCOL_UDP) || self.is_echo()) && !self.is_later_fragment();
        let at = self.port_at(port_at);
        let port = self.bytes.get(at..at + 2)?.try_into().ok().map(u16::from_be_bytes)?;
        has_ports.then_some(Endpoint { address, port, protocol: self.protocol })
    }

    fn is_echo(&self) -> bool {
        self.bytes.get(self.transport).is_some_and(|kind| ECHOES.contains(&(self.protocol, *kind)))
    }

    /// Where the port is, for TCP and UDP `offset` bytes into the header; an echo has one identifier for both ends.
    const fn port_at(&self, offset: usize) -> usize {
        let is_icmp = matches!(self.protocol, PROTOCOL_ICMP | PROTOCOL_ICMPV6);
        self.transport + if is_icmp { 4 } else { offset }
    }

    fn is_later_fragment(&self) -> bool {
        self.is_ipv4 && u16::from_be_bytes([self.bytes[6], self.bytes[7]]) & 0x1fff != 0
    }

    fn set(&mut self, address_at: usize, port_at: usize, to: Endpoint) {
        let port = self.port_at(port_at);
        let mut octets = [0; 16];
        let address: &[u8] = match to.address {
            IpAddr::V4(v4) => {
                octets[..4].copy_from_slice(&v4.octets());
                &octets[..4]
            }
            IpAddr::V6(v6) => {
                octets = v6.octets();
                &octets
            }
        };
        for (at, new) in (address_at..).step_by(2).zip(address.chunks(2)) {
            self.replace(at, [new[0], new[1]], true);
        }
        self.replace(port, to.port.to_be_bytes(), false);
    }

    /// Replaces two bytes, and mends the checksums that cover them.
    fn replace(&mut self, at: usize, new: [u8; 2], is_address: bool) {
        let old = [self.bytes[at], self.bytes[at + 1]];
        self.bytes[at..at + 2].copy_from_slice(&new);
        if is_address && self.is_ipv4 {
            self.mend(10, old, new);
        }
        let (checksum, may_be_absent) = match self.protocol {
            PROTOCOL_TCP => (self.transport + 16, false),
            // The only one that does not cover the addresses (RFC 792).
            PROTOCOL_ICMP if is_address => return,
            PROTOCOL_ICMP | PROTOCOL_ICMPV6 => (self.transport + 2, false),
            _ => (self.transport + 6, true),
        };
        let is_absent = may_be_absent && self.bytes.get(checksum..checksum + 2) == Some(&[0, 0]);
        if self.bytes.len() >= checksum + 2 && !is_absent {
            self.mend(checksum, old, new);
        }
    }

    /// RFC 1624 §3: HC' = ~(~HC + ~m + m').
    fn mend(&mut self, at: usize, old: [u8; 2], new: [u8; 2]) {
        let word = |bytes: [u8; 2]| u32::from(u16::from_be_bytes(bytes));
        let checksum = word([self.bytes[at], self.bytes[at + 1]]);
        let mut sum = (!checksum & 0xffff) + (!word(old) & 0xffff) + word(new);
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        self.bytes[at..at + 2].copy_from_slice(&(!sum as u16).to_be_bytes());
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use std::net::SocketAddr;

    fn sum(words: impl Iterator<Item = u16>) -> u16 {
        let mut sum: u32 = words.map(u32::from).sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }

    fn words(bytes: &[u8]) -> impl Iterator<Item = u16> + '_ {
        bytes.chunks(2).map(|pair| u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]))
    }

    fn pseudo_header(bytes: &[u8]) -> (usize, Vec<u16>) {
        let (transport, addresses) = if bytes[0] >> 4 == 4 { (20, &bytes[12..20]) } else { (40, &bytes[8..40]) };
        let mut header: Vec<u16> = words(addresses).collect();
        header.extend([u16::from(PROTOCOL_UDP), (bytes.len() - transport) as u16]);
        (transport, header)
    }

    /// Whether the checksums of a UDP packet are right.
    pub fn checksums_hold(bytes: &[u8]) -> bool {
        let (transport, header) = pseudo_header(bytes);
        let header = if bytes[9] == PROTOCOL_ICMP && transport == 20 { vec![] } else { header };
        let ip_ok = transport == 40 || sum(words(&bytes[..20])) == 0xffff;
        ip_ok && sum(header.into_iter().chain(words(&bytes[transport..]))) == 0xffff
    }

    /// An IPv4 echo with right checksums: a request is of kind 8, a reply of kind 0.
    pub fn icmp_echo(from: [u8; 4], to: [u8; 4], kind: u8, identifier: u16) -> Vec<u8> {
        let mut bytes = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, PROTOCOL_ICMP, 0, 0];
        bytes.extend([from, to].concat());
        bytes.extend([[kind, 0], [0, 0], identifier.to_be_bytes(), [0, 1]].concat());
        for (range, at) in [(0..20, 10), (20..28, 22)] {
            let checksum = !sum(words(&bytes[range]));
            bytes[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
        }
        bytes
    }

    /// A UDP packet with right checksums.
    pub fn udp(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Vec<u8> {
        let length = 8 + payload.len();
        let mut bytes = match (from.ip(), to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let mut header = vec![0x45, 0, 0, (20 + length) as u8, 0, 0, 0, 0, 64, PROTOCOL_UDP, 0, 0];
                header.extend([from.octets(), to.octets()].concat());
                let checksum = !sum(words(&header));
                header[10..12].copy_from_slice(&checksum.to_be_bytes());
                header
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                let mut header = vec![0x60, 0, 0, 0, 0, length as u8, PROTOCOL_UDP, 64];
                header.extend([from.octets(), to.octets()].concat());
                header
            }
            _ => panic!("one family"),
        };
        bytes.extend([from.port().to_be_bytes(), to.port().to_be_bytes(), [0, length as u8], [0, 0]].concat());
        bytes.extend(payload);
        let (transport, header) = pseudo_header(&bytes);
        let checksum = !sum(header.into_iter().chain(words(&bytes[transport..])));
        bytes[transport + 6..transport + 8].copy_from_slice(&checksum.to_be_bytes());
        bytes
    }

    #[test]
    fn what_is_no_packet_is_refused() {
        assert!(Packet::parse(&mut []).is_none());
        assert!(Packet::parse(&mut [0x45; 19]).is_none());
        assert!(Packet::parse(&mut [0x12; 60]).is_none());
    }
}
