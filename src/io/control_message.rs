//! Control messages (cmsg(3)) beside datagrams: from which address, and in segments of what size.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// struct cmsghdr { size_t cmsg_len; int cmsg_level; int cmsg_type; }
const HEADER_LENGTH: usize = 16;
const _: () = assert!(size_of::<libc::cmsghdr>() == HEADER_LENGTH, "laid out for 64-bit machines");
/// What messages are aligned to.
const ALIGNMENT: usize = 8;

/// Room for a message that holds an address: the larger of in_pktinfo (12 bytes) and in6_pktinfo (20).
const ADDRESS_LENGTH: usize = (HEADER_LENGTH + 20).next_multiple_of(ALIGNMENT);
/// Room for a message that holds a segment size: a u16 to send (UDP_SEGMENT), an int received (UDP_GRO); udp(7).
const SEGMENT_LENGTH: usize = (HEADER_LENGTH + 4).next_multiple_of(ALIGNMENT);

/// Room for all control messages that a datagram is received with, in bytes.
pub const RECEIVE_CONTROL_LENGTH: usize = ADDRESS_LENGTH + SEGMENT_LENGTH;

/// The control messages that a datagram is sent with.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(8))]
pub struct ControlBuffer {
    bytes: [u8; ADDRESS_LENGTH + SEGMENT_LENGTH],
    length: usize,
}

impl ControlBuffer {
    /// No message.
    #[must_use]
    pub const fn empty() -> Self {
        Self { bytes: [0; ADDRESS_LENGTH + SEGMENT_LENGTH], length: 0 }
    }

    /// Has the datagram leave from one of our addresses, by a socket that is IPv6 or not (ip(7), ipv6(7)).
    #[must_use]
    pub fn for_source(source: IpAddr, is_ipv6_socket: bool) -> Self {
        let mut buffer = Self::empty();
        match source {
            IpAddr::V4(v4) if is_ipv6_socket => buffer.push_ipv6(v4.to_ipv6_mapped()),
            IpAddr::V4(v4) => buffer.push_ipv4(v4),
            IpAddr::V6(v6) => buffer.push_ipv6(v6),
        }
        buffer
    }

    fn push_ipv4(&mut self, source: Ipv4Addr) {
        // struct in_pktinfo { int ipi_ifindex; in_addr ipi_spec_dst; in_addr ipi_addr; }
        let mut info = [0; 12];
        info[4..8].copy_from_slice(&source.octets());
        self.push(libc::IPPROTO_IP, libc::IP_PKTINFO, &info);
    }

    fn push_ipv6(&mut self, source: Ipv6Addr) {
        // struct in6_pktinfo { in6_addr ipi6_addr; unsigned ipi6_ifindex; }
        let mut info = [0; 20];
        info[..16].copy_from_slice(&source.octets());
        self.push(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &info);
    }

    /// Has the kernel cut what is sent into datagrams of `size` bytes each, but for the last.
    pub fn push_segment_size(&mut self, size: u16) {
        self.push(libc::SOL_UDP, libc::UDP_SEGMENT, &size.to_ne_bytes());
    }

    fn push(&mut self, level: i32, kind: i32, data: &[u8]) {
        let message = &mut self.bytes[self.length..];
        let length = HEADER_LENGTH + data.len();
        message[..8].copy_from_slice(&length.to_ne_bytes());
        message[8..12].copy_from_slice(&level.to_ne_bytes());
        message[12..16].copy_from_slice(&kind.to_ne_bytes());
        message[HEADER_LENGTH..length].copy_from_slice(data);
        self.length += length.next_multiple_of(ALIGNMENT);
    }

    /// How many bytes there are.
    #[must_use]
    pub const fn length(&self) -> usize {
        self.length
    }

    /// Where they are; aligned as the kernel wants them.
    pub const fn as_mut_ptr(&mut self) -> *mut u8 {
        self.bytes.as_mut_ptr()
    }
}

/// What the kernel tells of a datagram beside its bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Which of our addresses it came to.
    pub local: Option<IpAddr>,
    /// The size of each of the datagrams that were put together, but for the last.
    pub segment_size: Option<usize>,
}

/// Reads the control messages that came with a datagram.
#[must_use]
pub fn parse(mut control: &[u8]) -> Told {
    let mut told = Told::default();
    while let Some((level, kind, data, rest)) = split_first(control) {
        match (level, kind) {
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => told.local = ipv4(data),
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => told.local = ipv6(data),
            (libc::SOL_UDP, libc::UDP_GRO) => told.segment_size = segment_size(data),
            _ => {}
        }
        control = rest;
    }
    told
}

/// The first message's level, kind and data, and what follows it.
fn split_first(control: &[u8]) -> Option<(i32, i32, &[u8], &[u8])> {
    let length = usize::from_ne_bytes(control.get(..8)?.try_into().ok()?);
    let level = i32::from_ne_bytes(control.get(8..12)?.try_into().ok()?);
    let kind = i32::from_ne_bytes(control.get(12..16)?.try_into().ok()?);
    let data = control.get(HEADER_LENGTH..length)?;
    let rest = control.get(length.next_multiple_of(ALIGNMENT)..).unwrap_or_default();
    Some((level, kind, data, rest))
}

fn ipv4(data: &[u8]) -> Option<IpAddr> {
    let octets: [u8; 4] = data.get(4..8)?.try_into().ok()?;
    Some(IpAddr::from(octets))
}

fn ipv6(data: &[u8]) -> Option<IpAddr> {
    let octets: [u8; 16] = data.get(..16)?.try_into().ok()?;
    Some(IpAddr::from(octets).to_canonical())
}

fn segment_size(data: &[u8]) -> Option<usize> {
    let size = i32::from_ne_bytes(data.get(..4)?.try_into().ok()?);
    usize::try_from(size).ok().filter(|size| *size > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_they_are_written() {
        let v4 = IpAddr::from([203, 0, 113, 1]);
        let v6: IpAddr = "2001:db8::1".parse().expect("an address");
        for (is_ipv6, address) in [(false, v4), (true, v4), (true, v6)] {
            let mut buffer = ControlBuffer::for_source(address, is_ipv6);
            buffer.push_segment_size(1400);
            assert_eq!(parse(&buffer.bytes[..buffer.length]), Told { local: Some(address), segment_size: None });
        }
    }

    #[test]
    fn a_segment_size_is_read_behind_an_address() {
        let mut buffer = ControlBuffer::for_source(IpAddr::from([203, 0, 113, 1]), true);
        buffer.push(libc::SOL_UDP, libc::UDP_GRO, &1400_i32.to_ne_bytes());
        assert_eq!(parse(&buffer.bytes[..buffer.length]).segment_size, Some(1400));
        assert_eq!(buffer.length, RECEIVE_CONTROL_LENGTH, "both fit where they are received");
    }

    #[test]
    fn nonsense_tells_nothing() {
        let mut negative = ControlBuffer::empty();
        negative.push(libc::SOL_UDP, libc::UDP_GRO, &(-1_i32).to_ne_bytes());
        for control in [&[][..], &[0xff; 40], &[0; 40], &negative.bytes[..negative.length]] {
            assert_eq!(parse(control), Told::default());
        }
    }
}
