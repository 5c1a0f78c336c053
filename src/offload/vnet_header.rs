//! The header that stands in front of every frame of a TAP with IFF_VNET_HDR: `struct virtio_net_hdr` of
//! `include/uapi/linux/virtio_net.h`, in the machine's byte order.
//!
//! ```text
//! offset  0 flags   1 segmentation (gso_type)   2 header length (2)   4 segment size (2)
//!         6 checksum start (2)                  8 checksum offset (2)
//! ```

use crate::proto::stats::DropReason;

/// Bytes of a vnet header.
pub const VNET_HEADER_LENGTH: usize = 10;

const NEEDS_CHECKSUM: u8 = 1;
const DATA_VALID: u8 = 2;
const SEGMENTATION_NONE: u8 = 0;
const SEGMENTATION_TCP4: u8 = 1;
const SEGMENTATION_TCP6: u8 = 4;
const SEGMENTATION_UDP: u8 = 5;
const SEGMENTATION_ECN: u8 = 0x80;

/// What the header says of the frame behind it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VnetHeader {
    /// How far the checksum of TCP, UDP or the like has come.
    pub checksum: Checksum,
    /// How the frame is to be cut.
    pub segmentation: Segmentation,
    /// Bytes of payload in each segment but the last.
    pub segment_size: u16,
    /// From the frame's start, in bytes, what the kernel should keep in one piece: the headers, or more. A hint.
    pub header_length: u16,
}

/// How far a checksum has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Checksum {
    /// It is in the frame, and nobody has looked at it.
    #[default]
    None,
    /// It is in the frame, and right.
    Valid,
    /// The frame has the pseudo-header's sum in its place: the sum of everything behind `start` is still to be made.
    Partial {
        /// Where what is summed begins, in bytes from the frame's start.
        start: u16,
        /// Where the checksum's place is, in bytes from `start`.
        offset: u16,
    },
}

/// How a super-frame is to be cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Segmentation {
    /// It is a frame as it is.
    #[default]
    None,
    /// TCP over IPv4.
    Tcp4,
    /// TCP over IPv6.
    Tcp6,
    /// UDP, each segment a datagram (`VIRTIO_NET_HDR_GSO_UDP_L4`).
    Udp,
}

impl VnetHeader {
    /// Reads the header at the start of `bytes`.
    ///
    /// # Errors
    /// [`DropReason::SuperFrame`] if there is no room for one, or it asks for a way of cutting that braid has not asked
    /// the kernel for, such as IP fragments (`VIRTIO_NET_HDR_GSO_UDP`).
    pub fn parse(bytes: &[u8]) -> Result<Self, DropReason> {
        let bytes: &[u8; VNET_HEADER_LENGTH] = bytes.first_chunk().ok_or(DropReason::SuperFrame)?;
        let [flags, segmentation, words @ ..] = *bytes;
        let word = |at: usize| u16::from_ne_bytes([words[at], words[at + 1]]);
        let checksum = match flags {
            _ if flags & NEEDS_CHECKSUM != 0 => Checksum::Partial { start: word(4), offset: word(6) },
            _ if flags & DATA_VALID != 0 => Checksum::Valid,
            _ => Checksum::None,
        };
        let segmentation = parse_segmentation(segmentation)?;
        Ok(Self { checksum, segmentation, segment_size: word(2), header_length: word(0) })
    }

    /// Writes the header.
    #[must_use]
    pub fn emit(&self) -> [u8; VNET_HEADER_LENGTH] {
        let (flags, start, offset) = match self.checksum {
            Checksum::None => (0, 0, 0),
            Checksum::Valid => (DATA_VALID, 0, 0),
            Checksum::Partial { start, offset } => (NEEDS_CHECKSUM, start, offset),
        };
        let segmentation = match self.segmentation {
            Segmentation::None => SEGMENTATION_NONE,
            Segmentation::Tcp4 => SEGMENTATION_TCP4,
            Segmentation::Tcp6 => SEGMENTATION_TCP6,
            Segmentation::Udp => SEGMENTATION_UDP,
        };
        let mut bytes = [flags, segmentation, 0, 0, 0, 0, 0, 0, 0, 0];
        for (place, word) in bytes[2..].chunks_mut(2).zip([self.header_length, self.segment_size, start, offset]) {
            place.copy_from_slice(&word.to_ne_bytes());
        }
        bytes
    }
}

const fn parse_segmentation(byte: u8) -> Result<Segmentation, DropReason> {
    match byte {
        SEGMENTATION_NONE => Ok(Segmentation::None),
        SEGMENTATION_UDP => Ok(Segmentation::Udp),
        // That the first segment alone bears CWR goes for all TCP here, so ECN says nothing new.
        _ => match byte & !SEGMENTATION_ECN {
            SEGMENTATION_TCP4 => Ok(Segmentation::Tcp4),
            SEGMENTATION_TCP6 => Ok(Segmentation::Tcp6),
            _ => Err(DropReason::SuperFrame),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_emitted_is_parsed_again() {
        let checksums = [Checksum::None, Checksum::Valid, Checksum::Partial { start: 34, offset: 16 }];
        let segmentations = [Segmentation::None, Segmentation::Tcp4, Segmentation::Tcp6, Segmentation::Udp];
        for checksum in checksums {
            for segmentation in segmentations {
                let header = VnetHeader { checksum, segmentation, segment_size: 1448, header_length: 66 };
                assert_eq!(VnetHeader::parse(&header.emit()), Ok(header));
            }
        }
    }

    #[test]
    fn the_layout_is_the_kernels() {
        let header = VnetHeader {
            checksum: Checksum::Partial { start: 0x2203, offset: 0x1004 },
            segmentation: Segmentation::Tcp6,
            segment_size: 0x0506,
            header_length: 0x4207,
        };
        let words = [0x4207_u16, 0x0506, 0x2203, 0x1004].map(u16::to_ne_bytes).concat();
        assert_eq!(header.emit().as_slice(), [&[1, 4][..], &words].concat());
    }

    #[test]
    fn ecn_comes_with_tcp_only_and_the_unknown_is_refused() {
        let parse = |segmentation: u8| VnetHeader::parse(&[0, segmentation, 0, 0, 0, 0, 0, 0, 0, 0]);
        let accepted = (0..=u8::MAX).filter(|segmentation| parse(*segmentation).is_ok());
        assert_eq!(accepted.collect::<Vec<_>>(), [0, 1, 4, 5, 0x81, 0x84]);
        assert_eq!(parse(0x81).map(|header| header.segmentation), Ok(Segmentation::Tcp4));
        assert_eq!(VnetHeader::parse(&[0; VNET_HEADER_LENGTH - 1]), Err(DropReason::SuperFrame));
    }
}
