//! Where the headers of a frame lie: Ethernet, up to two VLAN tags, IPv4 or IPv6, TCP or UDP.

pub const ETHERNET_LENGTH: usize = 14;
pub const VLAN_TAG_LENGTH: usize = 4;
pub const VLAN_TAGS_MAX: usize = 2;
pub const IPV4_LENGTH_MIN: usize = 20;
pub const IPV6_LENGTH: usize = 40;
pub const TCP_LENGTH_MIN: usize = 20;
pub const TCP_LENGTH_MAX: usize = 60;
pub const UDP_LENGTH: usize = 8;

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
/// IEEE 802.1Q and 802.1ad.
const ETHERTYPES_VLAN: [u16; 2] = [0x8100, 0x88a8];
const ETHERTYPE_AT: usize = 12;

/// Hop-by-hop options, routing, destination options: what the kernel steps over to find what it cuts
/// (`ipv6_gso_pull_exthdrs` in `net/ipv6/ip6_offload.c`).
const EXTENSION_HEADERS: [u8; 3] = [0, 43, 60];

/// Fields of IPv4, TCP and UDP, as offsets into the header.
pub mod field {
    use std::ops::Range;

    pub const IPV4_TOTAL_LENGTH: usize = 2;
    pub const IPV4_IDENTIFICATION: usize = 4;
    pub const IPV4_FRAGMENT: usize = 6;
    pub const IPV4_PROTOCOL: usize = 9;
    pub const IPV4_CHECKSUM: usize = 10;
    pub const IPV4_ADDRESSES: Range<usize> = 12..20;
    pub const IPV6_PAYLOAD_LENGTH: usize = 4;
    pub const IPV6_NEXT_HEADER: usize = 6;
    pub const IPV6_ADDRESSES: Range<usize> = 8..40;
    pub const TCP_SEQUENCE: usize = 4;
    pub const TCP_DATA_OFFSET: usize = 12;
    pub const TCP_FLAGS: usize = 13;
    pub const TCP_CHECKSUM: usize = 16;
    pub const UDP_LENGTH: usize = 4;
    pub const UDP_CHECKSUM: usize = 6;
}

/// Which IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    V4,
    V6,
}

/// What the IP packet carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Tcp,
    Udp,
}

impl Transport {
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }

    const fn from_number(number: u8) -> Option<Self> {
        match number {
            6 => Some(Self::Tcp),
            17 => Some(Self::Udp),
            _ => None,
        }
    }

    /// Where the checksum is in the header.
    pub const fn checksum_at(self) -> usize {
        match self {
            Self::Tcp => field::TCP_CHECKSUM,
            Self::Udp => field::UDP_CHECKSUM,
        }
    }
}

/// Where the headers of a frame lie. All of them lie within it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headers {
    pub version: Version,
    pub transport: Transport,
    /// Where IP begins, in bytes from the frame's start.
    pub network_at: usize,
    /// Where TCP or UDP begins.
    pub transport_at: usize,
    /// Where the payload begins, which is where the headers end.
    pub payload_at: usize,
}

impl Headers {
    /// Finds the headers of `frame`; `None` if it is not TCP or UDP over IP as a whole, with all its headers.
    #[inline]
    pub fn find(frame: &[u8]) -> Option<Self> {
        let (ethertype, network_at) = find_network(frame)?;
        let (version, protocol, transport_at) = match ethertype {
            ETHERTYPE_IPV4 => find_in_ipv4(frame, network_at)?,
            ETHERTYPE_IPV6 => find_in_ipv6(frame, network_at)?,
            _ => return None,
        };
        let transport = Transport::from_number(protocol)?;
        let payload_at = transport_at + transport_length(frame.get(transport_at..)?, transport)?;
        (payload_at <= frame.len()).then_some(Self { version, transport, network_at, transport_at, payload_at })
    }

    /// The addresses of the pseudo-header, with the source's first. A routing header is not looked at.
    pub fn addresses<'a>(&self, frame: &'a [u8]) -> &'a [u8] {
        let network = &frame[self.network_at..];
        match self.version {
            Version::V4 => &network[field::IPV4_ADDRESSES],
            Version::V6 => &network[field::IPV6_ADDRESSES],
        }
    }
}

#[inline]
fn find_network(frame: &[u8]) -> Option<(u16, usize)> {
    let mut at = ETHERTYPE_AT;
    for _ in 0..=VLAN_TAGS_MAX {
        let ethertype = word(frame, at)?;
        if !ETHERTYPES_VLAN.contains(&ethertype) {
            return Some((ethertype, at + 2));
        }
        at += VLAN_TAG_LENGTH;
    }
    None
}

#[inline]
fn find_in_ipv4(frame: &[u8], network_at: usize) -> Option<(Version, u8, usize)> {
    let header: &[u8; IPV4_LENGTH_MIN] = frame.get(network_at..)?.first_chunk()?;
    let length = usize::from(header[0] & 0xf) * 4;
    let fragment = u16::from_be_bytes([header[field::IPV4_FRAGMENT], header[field::IPV4_FRAGMENT + 1]]);
    // All but "don't fragment" and the reserved bit: more fragments, and this one's place.
    let is_whole = fragment & 0x3fff == 0;
    let is_valid = header[0] >> 4 == 4 && length >= IPV4_LENGTH_MIN && is_whole;
    is_valid.then_some((Version::V4, header[field::IPV4_PROTOCOL], network_at + length))
}

#[inline]
fn find_in_ipv6(frame: &[u8], network_at: usize) -> Option<(Version, u8, usize)> {
    let header: &[u8; IPV6_LENGTH] = frame.get(network_at..)?.first_chunk()?;
    let mut next_header = header[field::IPV6_NEXT_HEADER];
    let mut at = network_at + IPV6_LENGTH;
    while EXTENSION_HEADERS.contains(&next_header) {
        let [following, length] = *frame.get(at..)?.first_chunk()?;
        next_header = following;
        // In units of 8 bytes, not counting the first (RFC 8200 §4.3).
        at += (usize::from(length) + 1) * 8;
    }
    (header[0] >> 4 == 6).then_some((Version::V6, next_header, at))
}

#[inline]
fn transport_length(header: &[u8], transport: Transport) -> Option<usize> {
    match transport {
        Transport::Udp => Some(UDP_LENGTH),
        Transport::Tcp => {
            let length = usize::from(header.get(field::TCP_DATA_OFFSET)? >> 4) * 4;
            (length >= TCP_LENGTH_MIN).then_some(length)
        }
    }
}

/// The big-endian word at `at`, if all of it is there.
#[inline]
pub fn word(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
}

/// Writes a big-endian word.
///
/// # Panics
/// If it lies beyond the end.
#[inline]
pub fn put_word(bytes: &mut [u8], at: usize, word: u16) {
    bytes[at..at + 2].copy_from_slice(&word.to_be_bytes());
}
