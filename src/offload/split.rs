//! Cuts super-frames into frames, exactly as the kernel's software segmentation does: `tcp_gso_segment` in
//! `net/ipv4/tcp_offload.c`, `__udp_gso_segment` in `net/ipv4/udp_offload.c`, `inet_gso_segment` in
//! `net/ipv4/af_inet.c` and `ipv6_gso_segment` in `net/ipv6/ip6_offload.c`.
//!
//! The checksum that the kernel left in the frame is carried on rather than made anew, as the kernel does too: it knows
//! the final destination behind a routing header, and what it says is not ours to repair.

use std::ops::Range;

use crate::offload::checksum::Sum;
use crate::offload::headers::{Headers, IPV6_LENGTH, Transport, Version, field, put_word, word};
use crate::offload::vnet_header::{Checksum, Segmentation, VnetHeader};
use crate::proto::stats::DropReason;

/// The longest headers that a super-frame may have, in bytes, Ethernet to TCP. IPv4 comes to 142 at most, IPv6 to 122,
/// and the rest is for extension headers.
pub const SPLIT_HEADER_MAX: usize = 256;

/// What a length field of IP can say.
const IP_LENGTH_MAX: usize = 65_535;

const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const CWR: u8 = 0x80;

/// Finishes a partial checksum in place: the sum from `start` to the end of `frame` goes to `offset` bytes behind
/// `start`, 0 as 0xffff (`skb_checksum_help` in `net/core/dev.c`).
///
/// For a frame that is not to be cut.
///
/// # Errors
/// [`DropReason::SuperFrame`] if the checksum's place is not within the frame.
pub fn complete_checksum(start: u16, offset: u16, frame: &mut [u8]) -> Result<(), DropReason> {
    let summed = frame.get_mut(usize::from(start)..).ok_or(DropReason::SuperFrame)?;
    let offset = usize::from(offset);
    if offset + 2 > summed.len() {
        return Err(DropReason::SuperFrame);
    }
    put_word(summed, offset, Sum::of(summed).checksum_not_zero());
    Ok(())
}

/// How one super-frame is cut: made from it once, then asked for each segment.
#[derive(Clone, Debug)]
pub struct Split {
    headers: Headers,
    /// Of the whole super-frame.
    frame_length: usize,
    segment_size: usize,
    segments: usize,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    /// One segment, which is the frame as it is, up to its checksum.
    Whole { is_partial: bool },
    /// Many, and what does not depend on which.
    Cut { network: Network, transport: Layer4 },
}

#[derive(Clone, Debug)]
enum Network {
    V4 {
        identification: u16,
        /// Of the header without total length, identification and checksum.
        sum: Sum,
    },
    V6,
}

#[derive(Clone, Debug)]
enum Layer4 {
    Tcp {
        sequence: u32,
        /// Data offset and flags.
        flags: [u8; 2],
        /// Of pseudo-header and header without lengths, sequence number, flags and checksum.
        sum: Sum,
    },
    Udp {
        /// Of pseudo-header and header without lengths and checksum.
        sum: Sum,
    },
}

impl Split {
    /// Looks at a super-frame: `frame` is what stands behind the vnet header that says `header`.
    ///
    /// # Errors
    /// [`DropReason::SuperFrame`] if `header` does not say how to cut `frame`, or not so that the kernel would cut it.
    pub fn new(header: &VnetHeader, frame: &[u8]) -> Result<Self, DropReason> {
        let headers = Headers::find(frame).filter(|headers| fits(header, headers)).ok_or(DropReason::SuperFrame)?;
        let segment_size = usize::from(header.segment_size);
        let headers_fit_ip = headers.payload_at - headers.network_at + segment_size <= IP_LENGTH_MAX;
        if segment_size == 0 || headers.payload_at > SPLIT_HEADER_MAX || !headers_fit_ip {
            return Err(DropReason::SuperFrame);
        }
        let segments = (frame.len() - headers.payload_at).div_ceil(segment_size).max(1);
        let is_partial = matches!(header.checksum, Checksum::Partial { .. });
        let kind = match segments {
            1 => Kind::Whole { is_partial },
            _ => Kind::Cut { network: network(&headers, frame), transport: layer4(&headers, frame, is_partial) },
        };
        Ok(Self { headers, frame_length: frame.len(), segment_size, segments, kind })
    }

    /// The length of each segment's headers, Ethernet to TCP or UDP, in bytes: at most [`SPLIT_HEADER_MAX`].
    #[must_use]
    pub const fn header_length(&self) -> usize {
        self.headers.payload_at
    }

    /// How many segments it makes, at least 1.
    #[must_use]
    pub const fn segments(&self) -> usize {
        self.segments
    }

    /// Where in the super-frame the payload of segment `index` is.
    ///
    /// # Panics
    /// If there is no such segment.
    #[must_use]
    pub fn payload(&self, index: usize) -> Range<usize> {
        assert!(index < self.segments, "segment {index} of {}", self.segments);
        let start = self.headers.payload_at + index * self.segment_size;
        start..(start + self.segment_size).min(self.frame_length)
    }

    /// The length of the longest segment, headers and payload, in bytes.
    #[must_use]
    pub fn frame_length_max(&self) -> usize {
        self.header_length() + self.payload(0).len()
    }

    /// Writes the headers of segment `index` to the first [`Self::header_length`] bytes of `out`.
    ///
    /// # Panics
    /// If there is no such segment, `out` is too short, or `frame` is another than before.
    pub fn write_header(&self, index: usize, frame: &[u8], out: &mut [u8]) {
        assert_eq!(frame.len(), self.frame_length, "the frame that this was made from");
        let payload = self.payload(index);
        let out = &mut out[..self.header_length()];
        out.copy_from_slice(&frame[..out.len()]);
        match &self.kind {
            Kind::Whole { is_partial: false } => {}
            Kind::Whole { is_partial: true } => {
                let checksum = Sum::of(&frame[self.headers.transport_at..]).checksum_not_zero();
                put_word(out, self.headers.transport_at + self.headers.transport.checksum_at(), checksum);
            }
            Kind::Cut { network, transport } => {
                let (front, back) = out.split_at_mut(self.headers.transport_at);
                let length = back.len() + payload.len();
                self.write_network(network, index, length, &mut front[self.headers.network_at..]);
                self.write_transport(transport, index, length, Sum::of(&frame[payload]), back);
            }
        }
    }

    /// Writes IP, for a segment that has `length` bytes from its TCP or UDP header on.
    fn write_network(&self, network: &Network, index: usize, length: usize, out: &mut [u8]) {
        let total_length = (out.len() + length) as u16;
        match network {
            Network::V4 { identification, sum } => {
                let identification = identification.wrapping_add(index as u16);
                let sum = *sum + Sum::word(total_length) + Sum::word(identification);
                put_word(out, field::IPV4_TOTAL_LENGTH, total_length);
                put_word(out, field::IPV4_IDENTIFICATION, identification);
                put_word(out, field::IPV4_CHECKSUM, sum.checksum());
            }
            Network::V6 => {
                let payload_length = total_length - IPV6_LENGTH as u16;
                put_word(out, field::IPV6_PAYLOAD_LENGTH, payload_length);
            }
        }
    }

    /// Writes TCP or UDP, for a segment that has `length` bytes from there on.
    fn write_transport(&self, transport: &Layer4, index: usize, length: usize, payload: Sum, out: &mut [u8]) {
        let length = length as u16;
        match transport {
            Layer4::Tcp { sequence, flags, sum } => {
                let sequence = sequence.wrapping_add((index * self.segment_size) as u32);
                let flags = [flags[0], flags[1] & self.flags_allowed(index)];
                out[field::TCP_SEQUENCE..][..4].copy_from_slice(&sequence.to_be_bytes());
                out[field::TCP_FLAGS] = flags[1];
                let varying = Sum::word((sequence >> 16) as u16)
                    + Sum::word(sequence as u16)
                    + Sum::word(u16::from_be_bytes(flags))
                    + Sum::word(length);
                put_word(out, field::TCP_CHECKSUM, (*sum + varying + payload).checksum());
            }
            Layer4::Udp { sum } => {
                // In the pseudo-header and in the header.
                let lengths = Sum::word(length) + Sum::word(length);
                put_word(out, field::UDP_LENGTH, length);
                put_word(out, field::UDP_CHECKSUM, (*sum + lengths + payload).checksum_not_zero());
            }
        }
    }

    /// The flags that segment `index` may bear if the super-frame does.
    const fn flags_allowed(&self, index: usize) -> u8 {
        let first = if index == 0 { !0 } else { !CWR };
        let last = if index + 1 == self.segments { !0 } else { !(FIN | PSH) };
        first & last
    }
}

/// Whether the vnet header speaks of what the frame is (`virtio_net_hdr_to_skb` in `include/linux/virtio_net.h`).
fn fits(header: &VnetHeader, headers: &Headers) -> bool {
    let is_its_kind = match header.segmentation {
        Segmentation::None => false,
        Segmentation::Tcp4 => (headers.version, headers.transport) == (Version::V4, Transport::Tcp),
        Segmentation::Tcp6 => (headers.version, headers.transport) == (Version::V6, Transport::Tcp),
        Segmentation::Udp => headers.transport == Transport::Udp,
    };
    let has_checksum = match header.checksum {
        Checksum::Partial { start, offset } => {
            usize::from(start) == headers.transport_at && usize::from(offset) == headers.transport.checksum_at()
        }
        Checksum::None | Checksum::Valid => headers.transport == Transport::Tcp,
    };
    is_its_kind && has_checksum
}

fn network(headers: &Headers, frame: &[u8]) -> Network {
    let header = &frame[headers.network_at..headers.transport_at];
    match headers.version {
        Version::V4 => Network::V4 {
            identification: field_of(header, field::IPV4_IDENTIFICATION),
            sum: Sum::of(&header[..2]) + Sum::of(&header[6..10]) + Sum::of(&header[12..]),
        },
        Version::V6 => Network::V6,
    }
}

fn layer4(headers: &Headers, frame: &[u8], is_partial: bool) -> Layer4 {
    let header = &frame[headers.transport_at..headers.payload_at];
    match headers.transport {
        Transport::Tcp => {
            let length = (frame.len() - headers.transport_at) as u32;
            let pseudo_header = if is_partial {
                // The kernel has counted the whole length in.
                let counted = Sum::word(length as u16) + Sum::word((length >> 16) as u16);
                Sum::word(field_of(header, field::TCP_CHECKSUM)) + Sum::without(counted.fold())
            } else {
                Sum::pseudo_header(headers.addresses(frame), Transport::Tcp.number(), 0)
            };
            let words = Sum::of(&header[..4]) + Sum::of(&header[8..12]) + Sum::of(&header[14..16]);
            Layer4::Tcp {
                sequence: u32::from(field_of(header, field::TCP_SEQUENCE)) << 16
                    | u32::from(field_of(header, field::TCP_SEQUENCE + 2)),
                flags: [header[field::TCP_DATA_OFFSET], header[field::TCP_FLAGS]],
                sum: pseudo_header + words + Sum::of(&header[18..]),
            }
        }
        Transport::Udp => {
            let counted = Sum::without(field_of(header, field::UDP_LENGTH));
            let pseudo_header = Sum::word(field_of(header, field::UDP_CHECKSUM)) + counted;
            Layer4::Udp { sum: pseudo_header + Sum::of(&header[..4]) }
        }
    }
}

fn field_of(header: &[u8], at: usize) -> u16 {
    word(header, at).expect("headers were found whole")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::offload::headers::UDP_LENGTH;

    /// A super-frame of UDP over IPv6, with `extensions` bytes of destination options.
    fn super_frame(extensions: usize) -> (VnetHeader, Vec<u8>) {
        let mut frame = vec![0; 54 + extensions];
        frame[12..15].copy_from_slice(&[0x86, 0xdd, 0x60]);
        frame[20] = if extensions == 0 { 17 } else { 60 };
        if extensions > 0 {
            frame[54..56].copy_from_slice(&[17, (extensions / 8 - 1) as u8]);
        }
        frame.extend([0; UDP_LENGTH + 100]);
        let checksum = Checksum::Partial { start: 54 + extensions as u16, offset: 6 };
        (VnetHeader { checksum, segmentation: Segmentation::Udp, segment_size: 30, header_length: 0 }, frame)
    }

    fn segments(header: VnetHeader, frame: &[u8]) -> Result<usize, DropReason> {
        Split::new(&header, frame).map(|split| split.segments())
    }

    #[test]
    fn what_the_kernel_would_not_cut_is_refused() {
        let refused = Err(DropReason::SuperFrame);
        let (header, frame) = super_frame(0);
        assert_eq!(segments(header, &frame), Ok(4));
        assert_eq!(segments(VnetHeader { segment_size: 0, ..header }, &frame), refused);
        assert_eq!(segments(VnetHeader { segment_size: 65_535, ..header }, &frame), refused);
        assert_eq!(segments(VnetHeader { segmentation: Segmentation::Tcp6, ..header }, &frame), refused);
        assert_eq!(segments(VnetHeader { segmentation: Segmentation::None, ..header }, &frame), refused);
        // UDP without a checksum that has been begun.
        assert_eq!(segments(VnetHeader { checksum: Checksum::None, ..header }, &frame), refused);
        assert_eq!(segments(VnetHeader { checksum: Checksum::Valid, ..header }, &frame), refused);
        for (start, offset) in [(53, 6), (55, 6), (54, 16), (54, 7)] {
            assert_eq!(
                segments(VnetHeader { checksum: Checksum::Partial { start, offset }, ..header }, &frame),
                refused
            );
        }
        (0..54 + UDP_LENGTH).for_each(|length| assert_eq!(segments(header, &frame[..length]), refused));
        assert_eq!(segments(header, &frame[..54 + UDP_LENGTH]), Ok(1));
    }

    #[test]
    fn headers_have_a_greatest_length() {
        let longest = (SPLIT_HEADER_MAX - 54 - UDP_LENGTH) / 8 * 8;
        let (header, frame) = super_frame(longest);
        assert_eq!(segments(header, &frame), Ok(4));
        let (header, frame) = super_frame(longest + 8);
        assert_eq!(segments(header, &frame), Err(DropReason::SuperFrame));
    }

    #[test]
    fn two_vlan_tags_and_no_more() {
        let (header, frame) = super_frame(0);
        for tags in 0..4 {
            let tagged = [&frame[..12], &[0x81, 0, 0, 7].repeat(tags), &frame[12..]].concat();
            let checksum = Checksum::Partial { start: 54 + 4 * tags as u16, offset: 6 };
            assert_eq!(segments(VnetHeader { checksum, ..header }, &tagged).is_ok(), tags <= 2);
        }
    }

    #[test]
    fn a_checksum_is_completed_where_there_is_room_for_it() {
        // The sum of a pseudo-header is in its place, and what is in front of the start does not count.
        let frame = [0xff, 0xff, 0x12, 0x34, 0x00, 0x01, 0x80];
        let completed = |start, offset| {
            let mut frame = frame;
            complete_checksum(start, offset, &mut frame).map(|()| frame)
        };
        let sum: u16 = 0x1234 + 0x0001 + 0x8000;
        let [high, low] = (!sum).to_be_bytes();
        assert_eq!(completed(2, 2), Ok([0xff, 0xff, 0x12, 0x34, high, low, 0x80]));
        assert!(completed(2, 3).is_ok() && completed(5, 0).is_ok());
        for (start, offset) in [(2, 4), (6, 0), (7, 0), (8, 0), (0, u16::MAX), (u16::MAX, u16::MAX)] {
            assert_eq!(completed(start, offset), Err(DropReason::SuperFrame));
        }
        let mut zero = [0xff, 0xff, 0xff, 0xff];
        assert_eq!((complete_checksum(0, 0, &mut zero), zero), (Ok(()), [0xff; 4]));
    }
}
