//! Super-frames of every lawful kind, made from a few bytes of input.

use bytes::{Buf, Bytes};

use super::naive;
use crate::offload::vnet_header::{Checksum, Segmentation, VnetHeader};

/// What a super-frame is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recipe {
    /// 0 to 2 VLAN tags.
    pub tags: u8,
    /// Over IPv6 rather than IPv4.
    pub is_ipv6: bool,
    /// TCP rather than UDP.
    pub is_tcp: bool,
    /// Whether the kernel has begun the checksum; it always has for UDP.
    pub is_partial: bool,
    /// Words of IPv4 options, 0 to 10, or number of IPv6 extension headers, 0 to 3.
    pub extras: u8,
    /// Words of TCP options, 0 to 10.
    pub options: u8,
    /// The second byte of TCP's data offset and flags.
    pub flags: u8,
    /// IPv4's.
    pub identification: u16,
    /// TCP's.
    pub sequence: u32,
    /// What all other fields and the payload follow from.
    pub filler: u8,
    /// Bytes of payload in a segment, from 1.
    pub segment_size: u16,
    /// Bytes of payload.
    pub payload_length: usize,
}

/// A super-frame as the kernel hands it over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SuperFrame {
    /// What is in front of it.
    pub header: VnetHeader,
    /// The frame.
    pub frame: Vec<u8>,
    /// The address that checksums count as the destination.
    pub destination: Vec<u8>,
}

/// ECE, ACK, PSH, FIN.
const FLAGS_MERGEABLE: u8 = 0x59;
const SEGMENTS_MAX: u8 = 70;
/// What fits into an IP packet with the longest headers of a recipe.
const PAYLOAD_MAX: usize = 65_535 - 40 - 3 * 24 - 60;

impl Recipe {
    /// Reads a recipe, with whatever is missing as 0.
    pub fn read(input: &mut Bytes) -> Self {
        let mut byte = || input.try_get_u8().unwrap_or(0);
        let kind = byte();
        let lengths = byte();
        let is_ipv6 = kind & 1 != 0;
        let is_tcp = kind & 2 != 0;
        let words = |nibble: u8| if nibble > 10 { 0 } else { nibble };
        // Most flags are of those with which a frame stands alone.
        let flags = byte() & if kind & 0x40 == 0 { !0 } else { FLAGS_MERGEABLE };
        let identification = u16::from_be_bytes([byte(), byte()]);
        let sequence = u32::from_be_bytes([byte(), byte(), byte(), byte()]);
        let filler = byte();
        // Often small, so that there are many; seldom up to what an uplink carries.
        let segment_size = 1 + u16::from(byte()) * if kind & 4 == 0 { 1 } else { 6 };
        let segments = usize::from(byte() % SEGMENTS_MAX);
        let last = usize::from(byte()) % usize::from(segment_size);
        Self {
            tags: kind >> 4 & 3,
            is_ipv6,
            is_tcp,
            is_partial: kind & 8 == 0,
            extras: if is_ipv6 { lengths >> 4 & 3 } else { words(lengths >> 4) },
            options: words(lengths & 0xf),
            flags,
            identification,
            sequence,
            filler,
            segment_size,
            payload_length: (segments * usize::from(segment_size) + last).min(PAYLOAD_MAX),
        }
        .normal()
    }

    fn normal(mut self) -> Self {
        self.tags = self.tags.min(2);
        self.is_partial |= !self.is_tcp;
        self
    }

    /// How many there are when the `count` frames cut from it have been merged again.
    pub fn merged_count(&self, count: usize) -> usize {
        const SYN_RST_URG: u8 = 0x26;
        const CWR: u8 = 0x80;
        match self.flags {
            _ if self.extras > 0 => count,
            flags if self.is_tcp && flags & SYN_RST_URG != 0 => count,
            // Only the first bears it, and stands alone for that.
            flags if self.is_tcp && flags & CWR != 0 => 2,
            _ => 1,
        }
    }

    /// Makes the super-frame.
    pub fn make(&self) -> SuperFrame {
        let mut frame = vec![self.filler; 12];
        for tag in 0..self.tags {
            frame.extend([if tag == 0 { [0x88, 0xa8] } else { [0x81, 0x00] }, [0x20, self.filler]].concat());
        }
        let ip = if self.is_ipv6 { self.ipv6() } else { self.ipv4() };
        frame.extend(ip);
        frame.extend(if self.is_tcp { self.tcp() } else { self.udp() });
        // Mostly different bytes, but for some fillers all zeros or ones: sums are special then.
        let step = if self.filler.is_multiple_of(0xff) { 0 } else { 37 };
        frame.extend((0..self.payload_length).map(|at| self.filler.wrapping_add((at * step) as u8)));
        naive::make_right(&mut frame);
        self.with_vnet_header(frame)
    }

    fn with_vnet_header(&self, mut frame: Vec<u8>) -> SuperFrame {
        let layout = naive::layout(&frame).expect("what was made");
        let at = naive::destination_at(layout);
        let address_length = if self.is_ipv6 { 16 } else { 4 };
        let mut addressed = frame.clone();
        if self.is_ipv6 && self.extras > 0 && self.is_partial {
            // A routing header: the destination is another in the end.
            addressed[at + address_length - 1] ^= 0x55;
        }
        let destination = addressed[at..at + address_length].to_vec();
        let offset = if self.is_tcp { 16 } else { 6 };
        let mut checksum = Checksum::None;
        if self.is_partial {
            let length = frame.len() - layout.transport;
            let begun = naive::modulo(&[], naive::pseudo_header(&addressed, layout, length as u64));
            frame[layout.transport + offset..][..2].copy_from_slice(&begun.to_be_bytes());
            checksum = Checksum::Partial { start: layout.transport as u16, offset: offset as u16 };
        }
        let segmentation = match (self.is_tcp, self.is_ipv6) {
            (true, false) => Segmentation::Tcp4,
            (true, true) => Segmentation::Tcp6,
            (false, _) => Segmentation::Udp,
        };
        let header_length = layout.payload as u16;
        let header = VnetHeader { checksum, segmentation, segment_size: self.segment_size, header_length };
        SuperFrame { header, frame, destination }
    }

    fn protocol(&self) -> u8 {
        if self.is_tcp { 6 } else { 17 }
    }

    fn ipv4(&self) -> Vec<u8> {
        let [high, low] = self.identification.to_be_bytes();
        let dont_fragment = self.filler & 0x40;
        let mut bytes = vec![0x08, 0x00, 0x45 + self.extras, self.filler, 0, 0, high, low, dont_fragment, 0];
        bytes.extend([64, self.protocol(), 0, 0, 192, 0, 2, self.filler, 198, 51, 100, self.filler]);
        bytes.extend((0..self.extras * 4).map(|at| at + 1));
        bytes
    }

    fn ipv6(&self) -> Vec<u8> {
        const EXTENSION_HEADERS: [u8; 3] = [0, 43, 60];
        let extensions = &EXTENSION_HEADERS[..self.extras.into()];
        let next_headers: Vec<u8> = extensions.iter().copied().chain([self.protocol()]).collect();
        let mut bytes = vec![0x86, 0xdd, 0x60, self.filler, self.filler, 1, 0, 0, next_headers[0], 64];
        bytes.extend([0x20, 0x01, 0x0d, 0xb8].into_iter().chain([self.filler; 12]));
        bytes.extend([0x20, 0x01, 0x0d, 0xb8].into_iter().chain([self.filler ^ 1; 12]));
        for (number, next_header) in next_headers[1..].iter().enumerate() {
            bytes.extend([*next_header, number as u8]);
            bytes.extend((0..6 + 8 * number).map(|at| at as u8));
        }
        bytes
    }

    fn tcp(&self) -> Vec<u8> {
        let mut bytes = vec![self.filler, 80, 0x1f, 0x90];
        bytes.extend(self.sequence.to_be_bytes());
        bytes.extend([1, 2, 3, self.filler, (5 + self.options) << 4 | self.filler & 0xf, self.flags]);
        bytes.extend([self.filler, 7, 0, 0, 0, self.filler & 1]);
        bytes.extend((0..self.options * 4).map(|at| at ^ self.filler));
        bytes
    }

    fn udp(&self) -> Vec<u8> {
        vec![self.filler, 53, 0x12, 0x34, 0, 0, 0, 0]
    }
}
