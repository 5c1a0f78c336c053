//! The kernel's software segmentation written down plainly: copies, one byte after the other, arithmetic modulo 65,535.
//!
//! It shares nothing with what it judges but the parsed vnet header.

use crate::offload::vnet_header::{Checksum, Segmentation, VnetHeader};

/// The longest headers that may be cut: what is agreed, not what follows from anything.
const HEADER_MAX: usize = 256;

/// Where the parts of a packet begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// IP.
    pub network: usize,
    /// TCP or UDP.
    pub transport: usize,
    /// What is behind it.
    pub payload: usize,
    /// Whether IP is IPv6.
    pub is_ipv6: bool,
    /// Whether it carries TCP.
    pub is_tcp: bool,
}

/// Finds TCP or UDP in a frame that is not a fragment, and has all its headers.
pub fn layout(frame: &[u8]) -> Option<Layout> {
    let byte = |at: usize| frame.get(at).copied();
    let mut network = 14;
    let mut ethertype = [byte(12)?, byte(13)?];
    let mut tags = 0;
    while ethertype == [0x81, 0x00] || ethertype == [0x88, 0xa8] {
        tags += 1;
        ethertype = [byte(network + 2)?, byte(network + 3)?];
        network += 4;
    }
    let is_ipv6 = match ethertype {
        [0x08, 0x00] => false,
        [0x86, 0xdd] => true,
        _ => return None,
    };
    let version = byte(network)? >> 4;
    if tags > 2 || version != if is_ipv6 { 6 } else { 4 } {
        return None;
    }
    let (mut transport, mut protocol) = (network, 0);
    if is_ipv6 {
        protocol = byte(network + 6)?;
        transport += 40;
        while protocol == 0 || protocol == 43 || protocol == 60 {
            let length = byte(transport + 1)?;
            protocol = byte(transport)?;
            transport += 8 * (1 + usize::from(length));
        }
    } else {
        let words = byte(network)? % 16;
        let is_fragment = byte(network + 6)? % 64 != 0 || byte(network + 7)? != 0;
        if words < 5 || is_fragment {
            return None;
        }
        protocol += byte(network + 9)?;
        transport += 4 * usize::from(words);
    }
    let payload = match protocol {
        6 => transport + 4 * usize::from(byte(transport + 12)? / 16),
        17 => transport + 8,
        _ => return None,
    };
    let is_tcp = protocol == 6;
    let is_whole = payload <= frame.len() && (!is_tcp || payload >= transport + 20);
    is_whole.then_some(Layout { network, transport, payload, is_ipv6, is_tcp })
}

/// Cuts a super-frame into frames; `None` where the kernel would refuse it.
pub fn segment(header: &VnetHeader, frame: &[u8]) -> Option<Vec<Vec<u8>>> {
    let layout = layout(frame)?;
    let is_as_said = match header.segmentation {
        Segmentation::None => false,
        Segmentation::Tcp4 => layout.is_tcp && !layout.is_ipv6,
        Segmentation::Tcp6 => layout.is_tcp && layout.is_ipv6,
        Segmentation::Udp => !layout.is_tcp,
    };
    let checksum_at = layout.transport + if layout.is_tcp { 16 } else { 6 };
    let is_partial = match header.checksum {
        Checksum::None | Checksum::Valid if layout.is_tcp => false,
        Checksum::Partial { start, offset }
            if usize::from(start) == layout.transport && usize::from(start) + usize::from(offset) == checksum_at =>
        {
            true
        }
        _ => return None,
    };
    let size = usize::from(header.segment_size);
    let is_too_long = layout.payload - layout.network + size > 65_535 || layout.payload > HEADER_MAX;
    if !is_as_said || size == 0 || is_too_long {
        return None;
    }
    let (headers, payload) = frame.split_at(layout.payload);
    if payload.len() <= size {
        let mut only = frame.to_vec();
        if is_partial {
            let sum = modulo(&only[layout.transport..], 0);
            put(&mut only, checksum_at, if sum == 65_535 { 65_535 } else { 65_535 - sum });
        }
        return Some(vec![only]);
    }
    // What the kernel has summed up already, less the length that it took for the frame's.
    let begun = if is_partial {
        let length = if layout.is_tcp {
            (frame.len() - layout.transport) as u64
        } else {
            u64::from(get(frame, layout.transport + 4))
        };
        u64::from(get(frame, checksum_at)) + 65_535 * 2 - length
    } else {
        pseudo_header(frame, layout, 0)
    };
    let count = payload.chunks(size).count();
    let mut frames = vec![];
    for (number, chunk) in payload.chunks(size).enumerate() {
        let mut one = [headers, chunk].concat();
        let length = (one.len() - layout.transport) as u16;
        if layout.is_ipv6 {
            put(&mut one, layout.network + 4, (layout.transport - layout.network - 40) as u16 + length);
        } else {
            let identification = get(&one, layout.network + 4);
            put(&mut one, layout.network + 2, (layout.transport - layout.network) as u16 + length);
            put(&mut one, layout.network + 4, identification.wrapping_add(number as u16));
            finish_ipv4(&mut one, layout);
        }
        if layout.is_tcp {
            let before: usize = number * size;
            let sequence = get32(&one, layout.transport + 4).wrapping_add(before as u32);
            one[layout.transport + 4..layout.transport + 8].copy_from_slice(&sequence.to_be_bytes());
            if number > 0 {
                one[layout.transport + 13] &= 0b0111_1111;
            }
            if number + 1 < count {
                one[layout.transport + 13] &= 0b1111_0110;
            }
        } else {
            put(&mut one, layout.transport + 4, length);
        }
        put(&mut one, checksum_at, 0);
        let sum = modulo(&one[layout.transport..], begun + u64::from(length));
        let checksum = if !layout.is_tcp && sum == 65_535 { 65_535 } else { 65_535 - sum };
        put(&mut one, checksum_at, checksum);
        frames.push(one);
    }
    Some(frames)
}

/// Whether the checksums of IPv4, and of TCP or UDP, are right. A routing header may make `destination` another than
/// the address in the IP header.
pub fn is_right(frame: &[u8], destination: &[u8]) -> bool {
    let Some(layout) = layout(frame) else { return false };
    let mut frame = frame.to_vec();
    let ipv4_is_right = layout.is_ipv6 || modulo(&frame[layout.network..layout.transport], 0) == 65_535;
    let place = destination_at(layout);
    frame[place..place + destination.len()].copy_from_slice(destination);
    let length = frame.len() - layout.transport;
    let pseudo_header = pseudo_header(&frame, layout, length as u64);
    ipv4_is_right && modulo(&frame[layout.transport..], pseudo_header) == 65_535
}

/// Makes the lengths and checksums of a frame right as its sender would, if it is one that has any.
pub fn make_right(frame: &mut [u8]) {
    let Some(layout) = layout(frame) else { return };
    let length = frame.len() - layout.transport;
    if layout.is_ipv6 {
        put(frame, layout.network + 4, (frame.len() - layout.network - 40) as u16);
    } else {
        put(frame, layout.network + 2, (frame.len() - layout.network) as u16);
        finish_ipv4(frame, layout);
    }
    if !layout.is_tcp {
        put(frame, layout.transport + 4, length as u16);
    }
    let checksum_at = layout.transport + if layout.is_tcp { 16 } else { 6 };
    put(frame, checksum_at, 0);
    let sum = modulo(&frame[layout.transport..], pseudo_header(frame, layout, length as u64));
    put(frame, checksum_at, if !layout.is_tcp && sum == 65_535 { 65_535 } else { 65_535 - sum });
}

/// The sum of the pseudo-header for `length` bytes of TCP or UDP, not reduced.
pub fn pseudo_header(frame: &[u8], layout: Layout, length: u64) -> u64 {
    let addresses = if layout.is_ipv6 { 8..40 } else { 12..20 };
    let addresses = &frame[layout.network..][addresses];
    u64::from(modulo(addresses, 0)) + if layout.is_tcp { 6 } else { 17 } + length
}

/// Where in the frame IP says its destination.
pub fn destination_at(layout: Layout) -> usize {
    layout.network + if layout.is_ipv6 { 24 } else { 16 }
}

fn finish_ipv4(frame: &mut [u8], layout: Layout) {
    put(frame, layout.network + 10, 0);
    let sum = modulo(&frame[layout.network..layout.transport], 0);
    put(frame, layout.network + 10, 65_535 - sum);
}

/// The one's complement sum, which is the sum modulo 65,535 with 65,535 for 0 where there is anything to sum.
pub fn modulo(bytes: &[u8], begun: u64) -> u16 {
    let mut sum = begun;
    for (at, byte) in bytes.iter().enumerate() {
        sum += u64::from(*byte) * if at % 2 == 0 { 256 } else { 1 };
    }
    if sum == 0 { 0 } else { ((sum - 1) % 65_535 + 1) as u16 }
}

fn get(frame: &[u8], at: usize) -> u16 {
    u16::from(frame[at]) * 256 + u16::from(frame[at + 1])
}

fn get32(frame: &[u8], at: usize) -> u32 {
    u32::from(get(frame, at)) * 65_536 + u32::from(get(frame, at + 2))
}

fn put(frame: &mut [u8], at: usize, word: u16) {
    frame[at] = (word / 256) as u8;
    frame[at + 1] = (word % 256) as u8;
}
