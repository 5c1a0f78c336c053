//! Merges frames into super-frames in front of the TAP, where the kernel would have to cut the result into exactly the
//! frames that came.
//!
//! Frames come in the order in which they are to be delivered, and only frames that follow each other directly are
//! merged, so order between flows is kept as well as within one. One run is open at a time:
//!
//! ```text
//!             ┌──────────────── begin(candidate) ◀───────────────┐
//!             ▼                                                  │
//!  frame ─▶ join ─┬─ Yes: its payload follows the run's          │
//!                 ├─ No(Some(candidate)): finish the run, then ──┘
//!                 └─ No(None): finish the run, then deliver the frame alone
//! ```
//!
//! The kernel's own merging is less strict (`tcp_gro_receive` in `net/ipv4/tcp_offload.c`, `inet_gro_receive` in
//! `net/ipv4/af_inet.c`): it drops padding and forgets identifications, which an Ethernet link would not.

use std::ops::Range;

use crate::offload::checksum::Sum;
use crate::offload::headers::{
    ETHERNET_LENGTH, Headers, IPV4_LENGTH_MIN, IPV6_LENGTH, TCP_LENGTH_MAX, Transport, VLAN_TAG_LENGTH, VLAN_TAGS_MAX,
    Version, field, put_word,
};
use crate::offload::vnet_header::{Checksum, Segmentation, VNET_HEADER_LENGTH, VnetHeader};

/// The most frames in one run: as many segments as every kernel takes in one UDP super-frame (`UDP_MAX_SEGMENTS` in
/// `include/linux/udp.h`, 128 in newer ones).
pub const RUN_FRAMES_MAX: usize = 64;

/// The longest headers of a frame that can be merged, in bytes.
const HEADER_MAX: usize = ETHERNET_LENGTH + VLAN_TAG_LENGTH * VLAN_TAGS_MAX + IPV6_LENGTH + TCP_LENGTH_MAX;

/// The longest vnet header and headers of a super-frame that [`Coalescer::finish`] writes, in bytes.
pub const SUPER_HEADER_MAX: usize = VNET_HEADER_LENGTH + HEADER_MAX;

/// What IPv4 can say of its length, and IPv6 of what is behind its header; IPv6 is held to the same.
const IP_LENGTH_MAX: usize = 65_535;

/// Flags that only the last frame of a run may have, for cutting takes them from all the others.
const FLAGS_LAST: u8 = 0x01 | 0x08;
/// Flags with which a frame stands alone: SYN, RST, URG, CWR.
const FLAGS_ALONE: u8 = 0x02 | 0x04 | 0x20 | 0x80;

/// What may be merged: what the TAP takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kinds {
    /// TCP over IPv4 and IPv6.
    pub tcp: bool,
    /// UDP over IPv4 and IPv6.
    pub udp: bool,
}

/// A frame that may begin a run: its headers are found, and its checksums right.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    headers: Headers,
    frame_length: usize,
    /// IPv4's; 0 for IPv6.
    identification: u16,
    /// TCP's; 0 for UDP.
    sequence: u32,
    /// TCP's; 0 for UDP.
    flags: u8,
}

/// What [`Coalescer::join`] says of a frame.
#[derive(Clone, Debug)]
pub enum Joined {
    /// It has joined the run, to which it gives that part of itself.
    Yes {
        /// Where in the frame its payload is.
        payload: Range<usize>,
    },
    /// It does not belong to the run, which has to be finished before the frame is delivered. With a candidate, it may
    /// begin a run; without, it stands alone.
    No(Option<Candidate>),
}

/// What a run has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finished {
    /// There was none.
    Nothing,
    /// One frame, to be delivered as it is behind this header, which says that its checksum has been verified. (A TAP
    /// takes that, and as of Linux 6.18 makes no use of it.)
    Single(VnetHeader),
    /// A super-frame: what was written, then the payloads in the order in which they came.
    Super {
        /// How much was written, in bytes: vnet header, then Ethernet to TCP or UDP.
        header_length: usize,
        /// Where in the first frame its payload is.
        first_payload: Range<usize>,
    },
}

/// Merges frames of one direction.
#[derive(Clone, Debug)]
pub struct Coalescer {
    kinds: Kinds,
    run: Option<Run>,
    /// The headers of the run's first frame.
    first: [u8; HEADER_MAX],
}

#[derive(Clone, Debug)]
struct Run {
    headers: Headers,
    /// Of every payload but the last.
    segment_size: usize,
    frames: usize,
    /// All payloads so far, in bytes.
    payload_length: usize,
    /// What the next frame must have.
    identification: u16,
    sequence: u32,
    /// All flags so far.
    flags: u8,
    is_closed: bool,
}

impl Coalescer {
    /// With no run yet.
    #[must_use]
    pub const fn new(kinds: Kinds) -> Self {
        Self { kinds, run: None, first: [0; HEADER_MAX] }
    }

    /// Offers the frame that is to be delivered next.
    #[must_use]
    pub fn join(&mut self, frame: &[u8]) -> Joined {
        let Some(candidate) = Candidate::find(frame, self.kinds) else { return Joined::No(None) };
        match &mut self.run {
            Some(run) if run.continues_with(&self.first, &candidate, frame) => {
                run.extend(&candidate);
                Joined::Yes { payload: candidate.payload() }
            }
            _ => Joined::No(Some(candidate)),
        }
    }

    /// Begins a run with the frame that `candidate` was made from.
    ///
    /// # Panics
    /// If there is an unfinished one, or `frame` is another.
    pub fn begin(&mut self, candidate: Candidate, frame: &[u8]) {
        assert!(self.run.is_none(), "the run before is unfinished");
        assert_eq!(frame.len(), candidate.frame_length, "the frame that the candidate was made from");
        let header_length = candidate.headers.payload_at;
        self.first[..header_length].copy_from_slice(&frame[..header_length]);
        self.run = Some(Run::new(&candidate));
    }

    /// Whether there is a run that nothing can join any more.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.run.as_ref().is_some_and(|run| run.is_closed)
    }

    /// Ends the run, and writes the headers of a super-frame to `out` if it is one.
    pub fn finish(&mut self, out: &mut [u8; SUPER_HEADER_MAX]) -> Finished {
        match self.run.take() {
            None => Finished::Nothing,
            Some(run) if run.frames == 1 => {
                Finished::Single(VnetHeader { checksum: Checksum::Valid, ..VnetHeader::default() })
            }
            Some(run) => {
                let frame_header_length = run.headers.payload_at;
                let (vnet, headers) = out.split_at_mut(VNET_HEADER_LENGTH);
                let headers = &mut headers[..frame_header_length];
                headers.copy_from_slice(&self.first[..frame_header_length]);
                vnet.copy_from_slice(&run.vnet_header().emit());
                run.write_network(headers);
                run.write_transport(headers);
                Finished::Super {
                    header_length: VNET_HEADER_LENGTH + frame_header_length,
                    first_payload: frame_header_length..frame_header_length + run.segment_size,
                }
            }
        }
    }
}

impl Candidate {
    /// Looks at a frame: whether it could be part of a run at all.
    fn find(frame: &[u8], kinds: Kinds) -> Option<Self> {
        let headers = Headers::find(frame)?;
        let network: &[u8] = &frame[headers.network_at..];
        let transport = &frame[headers.transport_at..];
        let is_allowed = match headers.transport {
            Transport::Tcp => kinds.tcp,
            Transport::Udp => kinds.udp,
        };
        let has_payload = headers.payload_at < frame.len();
        if !(is_allowed && has_payload && is_plain(&headers, network)) {
            return None;
        }
        let mut candidate = Self { headers, frame_length: frame.len(), identification: 0, sequence: 0, flags: 0 };
        if headers.version == Version::V4 {
            candidate.identification = u16::from_be_bytes(array(network, field::IPV4_IDENTIFICATION));
        }
        match headers.transport {
            Transport::Tcp => {
                candidate.sequence = u32::from_be_bytes(array(transport, field::TCP_SEQUENCE));
                candidate.flags = transport[field::TCP_FLAGS];
            }
            Transport::Udp => {
                let length = usize::from(u16::from_be_bytes(array(transport, field::UDP_LENGTH)));
                if length != transport.len() {
                    return None;
                }
            }
        }
        (candidate.flags & FLAGS_ALONE == 0 && is_right(&headers, frame)).then_some(candidate)
    }

    const fn payload(&self) -> Range<usize> {
        self.headers.payload_at..self.frame_length
    }
}

/// Whether the IP header has nothing between itself and TCP or UDP, and its length is that of all there is.
fn is_plain(headers: &Headers, network: &[u8]) -> bool {
    let header_length = headers.transport_at - headers.network_at;
    match headers.version {
        Version::V4 => {
            let total_length = u16::from_be_bytes(array(network, field::IPV4_TOTAL_LENGTH));
            header_length == IPV4_LENGTH_MIN && usize::from(total_length) == network.len()
        }
        Version::V6 => {
            let payload_length = u16::from_be_bytes(array(network, field::IPV6_PAYLOAD_LENGTH));
            header_length == IPV6_LENGTH && IPV6_LENGTH + usize::from(payload_length) == network.len()
        }
    }
}

/// Whether the checksums are right, and spelled as cutting would spell them.
fn is_right(headers: &Headers, frame: &[u8]) -> bool {
    let network = &frame[headers.network_at..headers.transport_at];
    let transport = &frame[headers.transport_at..];
    let checksum: [u8; 2] = array(transport, headers.transport.checksum_at());
    // UDP without a checksum, and TCP with the spelling of 0 that is UDP's.
    let is_spelled = match headers.transport {
        Transport::Tcp => checksum != [0xff; 2],
        Transport::Udp => checksum != [0; 2],
    };
    let network_is_right = headers.version == Version::V6
        || (array(network, field::IPV4_CHECKSUM) != [0xff; 2] && Sum::of(network).is_right());
    let pseudo_header =
        Sum::pseudo_header(headers.addresses(frame), headers.transport.number(), transport.len() as u32);
    is_spelled && network_is_right && (pseudo_header + Sum::of(transport)).is_right()
}

impl Run {
    fn new(candidate: &Candidate) -> Self {
        let segment_size = candidate.payload().len();
        Self {
            headers: candidate.headers,
            segment_size,
            frames: 1,
            payload_length: segment_size,
            identification: candidate.identification.wrapping_add(1),
            sequence: candidate.sequence.wrapping_add(segment_size as u32),
            flags: candidate.flags,
            is_closed: candidate.flags & FLAGS_LAST != 0,
        }
    }

    /// Whether cutting the run and the candidate together gives the candidate back.
    fn continues_with(&self, first: &[u8; HEADER_MAX], candidate: &Candidate, frame: &[u8]) -> bool {
        let payload_length = candidate.payload().len();
        let ip_length = self.ip_length() + payload_length;
        let is_next = candidate.headers == self.headers
            && candidate.sequence == self.sequence_expected()
            && (self.headers.version == Version::V6 || candidate.identification == self.identification);
        let fits = !self.is_closed && payload_length <= self.segment_size && ip_length <= IP_LENGTH_MAX;
        is_next && fits && self.is_same_flow(first, frame)
    }

    const fn sequence_expected(&self) -> u32 {
        match self.headers.transport {
            Transport::Tcp => self.sequence,
            Transport::Udp => 0,
        }
    }

    /// Whether what is the same in all headers of a run is the same in these.
    fn is_same_flow(&self, first: &[u8; HEADER_MAX], frame: &[u8]) -> bool {
        let Headers { network_at, transport_at, payload_at, .. } = self.headers;
        let is_same = |range: Range<usize>| first[range.clone()] == frame[range];
        let network_is_same = match self.headers.version {
            // Not total length, identification and checksum.
            Version::V4 => {
                is_same(0..network_at + 2)
                    && is_same_array::<4>(first, frame, network_at + 6)
                    && is_same_array::<8>(first, frame, network_at + 12)
            }
            // Not payload length.
            Version::V6 => is_same(0..network_at + 4) && is_same_array::<34>(first, frame, network_at + 6),
        };
        // The ports, then, for TCP, not sequence number, PSH, FIN and checksum.
        network_is_same
            && is_same_array::<4>(first, frame, transport_at)
            && (self.headers.transport == Transport::Udp
                || (is_same_array::<5>(first, frame, transport_at + 8)
                    && (first[transport_at + field::TCP_FLAGS] ^ frame[transport_at + field::TCP_FLAGS]) & !FLAGS_LAST
                        == 0
                    && is_same_array::<2>(first, frame, transport_at + 14)
                    && is_same(transport_at + 18..payload_at)))
    }

    fn extend(&mut self, candidate: &Candidate) {
        let payload_length = candidate.payload().len();
        self.frames += 1;
        self.payload_length += payload_length;
        self.identification = self.identification.wrapping_add(1);
        self.sequence = self.sequence.wrapping_add(payload_length as u32);
        self.flags |= candidate.flags;
        let is_last = payload_length < self.segment_size || candidate.flags & FLAGS_LAST != 0;
        self.is_closed = is_last || self.frames == RUN_FRAMES_MAX || self.ip_length() == IP_LENGTH_MAX;
    }

    /// The length of the super-frame's IP packet so far, in bytes.
    const fn ip_length(&self) -> usize {
        self.headers.payload_at - self.headers.network_at + self.payload_length
    }

    fn vnet_header(&self) -> VnetHeader {
        let segmentation = match (self.headers.transport, self.headers.version) {
            (Transport::Tcp, Version::V4) => Segmentation::Tcp4,
            (Transport::Tcp, Version::V6) => Segmentation::Tcp6,
            (Transport::Udp, _) => Segmentation::Udp,
        };
        let start = self.headers.transport_at as u16;
        VnetHeader {
            checksum: Checksum::Partial { start, offset: self.headers.transport.checksum_at() as u16 },
            segmentation,
            segment_size: self.segment_size as u16,
            header_length: self.headers.payload_at as u16,
        }
    }

    /// Changes the first frame's IP into the super-frame's.
    fn write_network(&self, headers: &mut [u8]) {
        let network = &mut headers[self.headers.network_at..self.headers.transport_at];
        let length = self.ip_length();
        match self.headers.version {
            Version::V4 => {
                put_word(network, field::IPV4_TOTAL_LENGTH, length as u16);
                put_word(network, field::IPV4_CHECKSUM, 0);
                put_word(network, field::IPV4_CHECKSUM, Sum::of(network).checksum());
            }
            Version::V6 => put_word(network, field::IPV6_PAYLOAD_LENGTH, (length - IPV6_LENGTH) as u16),
        }
    }

    /// Changes the first frame's TCP or UDP into the super-frame's, whose checksum is only begun.
    fn write_transport(&self, headers: &mut [u8]) {
        let transport_at = self.headers.transport_at;
        let length = self.headers.payload_at - transport_at + self.payload_length;
        let addresses = self.headers.addresses(headers);
        let begun = Sum::pseudo_header(addresses, self.headers.transport.number(), length as u32).fold();
        let transport = &mut headers[transport_at..];
        match self.headers.transport {
            Transport::Tcp => transport[field::TCP_FLAGS] = self.flags,
            Transport::Udp => put_word(transport, field::UDP_LENGTH, length as u16),
        }
        put_word(transport, self.headers.transport.checksum_at(), begun);
    }
}

/// The bytes at `at`, within headers that were found.
#[inline]
fn array<const LENGTH: usize>(bytes: &[u8], at: usize) -> [u8; LENGTH] {
    *bytes[at..].first_chunk().expect("headers were found whole")
}

#[inline]
fn is_same_array<const LENGTH: usize>(one: &[u8], other: &[u8], at: usize) -> bool {
    array::<LENGTH>(one, at) == array::<LENGTH>(other, at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::offload::split::Split;

    const BOTH: Kinds = Kinds { tcp: true, udp: true };

    /// A super-frame of TCP over IPv4 as the kernel hands it over, and its vnet header.
    fn super_frame(payload_length: usize) -> (VnetHeader, Vec<u8>) {
        let mut frame = vec![0; 54];
        frame[12..16].copy_from_slice(&[0x08, 0x00, 0x45, 0x00]);
        frame[20..24].copy_from_slice(&[0x40, 0x00, 64, 6]);
        frame[26..34].copy_from_slice(&[192, 0, 2, 1, 192, 0, 2, 2]);
        frame[46..48].copy_from_slice(&[0x50, 0x18]);
        let length = 20 + payload_length as u32;
        put_word(&mut frame, 50, Sum::pseudo_header(&[192, 0, 2, 1, 192, 0, 2, 2], 6, length).fold());
        frame.extend((0..payload_length).map(|byte| byte as u8));
        let checksum = Checksum::Partial { start: 34, offset: 16 };
        (VnetHeader { checksum, segmentation: Segmentation::Tcp4, segment_size: 1000, header_length: 54 }, frame)
    }

    fn cut(header: &VnetHeader, frame: &[u8]) -> Vec<Vec<u8>> {
        let split = Split::new(header, frame).expect("a super-frame");
        let segment = |index| {
            let mut segment = vec![0; split.header_length()];
            split.write_header(index, frame, &mut segment);
            segment.extend(&frame[split.payload(index)]);
            segment
        };
        (0..split.segments()).map(segment).collect()
    }

    #[test]
    fn what_was_cut_is_merged_and_cut_again() {
        let (header, frame) = super_frame(2500);
        let frames = cut(&header, &frame);
        assert_eq!(frames.len(), 3);
        let mut coalescer = Coalescer::new(BOTH);
        let Joined::No(Some(candidate)) = coalescer.join(&frames[0]) else { panic!("a candidate") };
        coalescer.begin(candidate, &frames[0]);
        let mut payload = vec![];
        for frame in &frames[1..] {
            let Joined::Yes { payload: range } = coalescer.join(frame) else { panic!("it follows") };
            payload.extend(&frame[range]);
        }
        assert!(coalescer.is_closed(), "the last was shorter");
        let mut out = [0; SUPER_HEADER_MAX];
        let Finished::Super { header_length, first_payload } = coalescer.finish(&mut out) else { panic!("three") };
        let merged = [&out[VNET_HEADER_LENGTH..header_length], &frames[0][first_payload], &payload].concat();
        assert_eq!(VnetHeader::parse(&out), Ok(header));
        assert_eq!(cut(&header, &merged), frames);
        assert_eq!(coalescer.finish(&mut out), Finished::Nothing);
    }
}
