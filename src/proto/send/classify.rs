//! Which frames belong together, and which are in a hurry: read from an Ethernet frame's headers.

use super::redundancy::DSCP_MARKED_MIN;

/// What a frame wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Marked by its sender (real-time video, voice, network control), or neither IPv4 nor IPv6: before all others.
    Expedited,
    /// Datagrams: live media is among them.
    Datagram,
    /// Streams, which make room for others by themselves.
    Stream,
}

/// What is read from a frame's headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headers {
    /// Frames of one flow have one hash.
    pub flow: u32,
    /// What it wants.
    pub class: Class,
    /// The differentiated services code point (RFC 2474), of an IP packet.
    pub dscp: Option<u8>,
    /// The ports, from and to, of a TCP segment or a UDP datagram that is no fragment.
    pub ports: Option<[u16; 2]>,
}

impl Headers {
    /// Of a frame that nothing can be read from.
    pub const NONE: Self = Self { flow: 0, class: Class::Expedited, dscp: None, ports: None };
}

const ETHERNET_HEADER: usize = 14;
const VLAN_TAG: usize = 4;
const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const ETHERTYPE_VLAN: [u16; 2] = [0x8100, 0x88a8];
const PROTOCOL_TCP: u8 = 6;
const PROTOCOL_UDP: u8 = 17;

/// Reads the headers of the frame that begins with `head`: its headers, at least as far as it has any.
#[must_use]
pub fn classify(head: &[u8]) -> Headers {
    let (mut ethertype, mut offset) = (read_u16(head, 12).unwrap_or(0), ETHERNET_HEADER);
    for _ in 0..2 {
        if ETHERTYPE_VLAN.contains(&ethertype) {
            ethertype = read_u16(head, offset + 2).unwrap_or(0);
            offset += VLAN_TAG;
        }
    }
    let packet = head.get(offset..).unwrap_or_default();
    let described = match ethertype {
        ETHERTYPE_IPV4 => describe_ipv4(packet),
        ETHERTYPE_IPV6 => describe_ipv6(packet),
        _ => None,
    };
    // ARP and the like: rare, short, and all wait for them.
    let Some(packet) = described else {
        return Headers { flow: hash(head.get(..12).unwrap_or_default(), 0), ..Headers::NONE };
    };
    let class = match packet.protocol {
        _ if packet.dscp >= DSCP_MARKED_MIN => Class::Expedited,
        PROTOCOL_TCP => Class::Stream,
        _ => Class::Datagram,
    };
    let [from, to] = packet.ports.unwrap_or_default();
    let flow = hash(packet.addresses, (u32::from(from) << 16 | u32::from(to)) ^ u32::from(packet.protocol));
    Headers { flow, class, dscp: Some(packet.dscp), ports: packet.ports }
}

struct Packet<'a> {
    dscp: u8,
    protocol: u8,
    addresses: &'a [u8],
    ports: Option<[u16; 2]>,
}

fn describe_ipv4(packet: &[u8]) -> Option<Packet<'_>> {
    let header_length = usize::from(packet.first()? & 0x0f) * 4;
    let protocol = *packet.get(9)?;
    // Later fragments have no ports: all fragments of a flow go by its addresses.
    let is_fragment = read_u16(packet, 6)? & 0x3fff != 0;
    let ports = if is_fragment { None } else { ports(protocol, packet.get(header_length..)) };
    Some(Packet { dscp: packet.get(1)? >> 2, protocol, addresses: packet.get(12..20)?, ports })
}

fn describe_ipv6(packet: &[u8]) -> Option<Packet<'_>> {
    let (protocol, dscp) = (*packet.get(6)?, (read_u16(packet, 0)? >> 6) as u8 & 0x3f);
    Some(Packet { dscp, protocol, addresses: packet.get(8..40)?, ports: ports(protocol, packet.get(40..)) })
}

fn ports(protocol: u8, transport: Option<&[u8]>) -> Option<[u16; 2]> {
    let transport = transport.filter(|_| matches!(protocol, PROTOCOL_TCP | PROTOCOL_UDP))?;
    Some([read_u16(transport, 0)?, read_u16(transport, 2)?])
}

fn read_u16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
}

/// FNV-1a: spreads, and does not have to do more, since whoever sends into our TAP harms only himself.
fn hash(bytes: &[u8], more: u32) -> u32 {
    let step = |hash: u32, byte: &u8| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
    more.to_be_bytes().iter().fold(bytes.iter().fold(0x811c_9dc5, step), step)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ipv4(dscp: u8, protocol: u8, source_port: u16) -> Vec<u8> {
        let mut frame = vec![0; 14 + 20 + 8];
        frame[12..14].copy_from_slice(&[0x08, 0x00]);
        frame[14..16].copy_from_slice(&[0x45, dscp << 2]);
        frame[23] = protocol;
        frame[34..36].copy_from_slice(&source_port.to_be_bytes());
        frame
    }

    #[test]
    fn frames_of_a_flow_belong_together_and_are_told_from_others() {
        let headers = classify(&ipv4(0, 17, 5000));
        assert_eq!((headers, headers.class), (classify(&ipv4(0, 17, 5000)), Class::Datagram));
        assert_ne!(headers.flow, classify(&ipv4(0, 17, 5001)).flow);
        assert_eq!(classify(&ipv4(0, 6, 5000)).class, Class::Stream);
        assert_eq!(classify(&ipv4(46, 17, 5000)).class, Class::Expedited);
    }

    #[test]
    fn marks_and_ports_are_read_where_there_are_any() {
        let headers = classify(&ipv4(46, 17, 5000));
        assert_eq!((headers.dscp, headers.ports), (Some(46), Some([5000, 0])));
        assert_eq!(classify(&ipv4(0, 1, 5000)).ports, None, "ICMP has none");
        let mut fragment = ipv4(0, 17, 5000);
        fragment[20] = 0x20;
        assert_eq!(classify(&fragment).ports, None);
        assert_eq!(classify(&[0xff; 14]), Headers { flow: classify(&[0xff; 14]).flow, ..Headers::NONE });
    }

    #[test]
    fn a_tag_does_not_hide_what_is_behind_it() {
        let mut tagged = ipv4(0, 6, 5000);
        tagged.splice(12..12, [0x81, 0x00, 0x00, 0x07]);
        assert_eq!(classify(&tagged), classify(&ipv4(0, 6, 5000)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_of_some_flow(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            prop_assert_eq!(classify(&bytes), classify(&bytes));
        }
    }
}
