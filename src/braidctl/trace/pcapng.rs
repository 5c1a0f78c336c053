//! Capture files: pcapng, as far as it is needed here (draft-ietf-opsawg-pcapng).
//!
//! A file is a row of blocks: one of the section, one for each interface before its first packet, one for each packet. All
//! numbers are little-endian, which the section says; all parts are padded to four bytes.
//!
//! ```text
//! ┌──────┬────────┬──────────────┬───────────────────────────────────────────────┬────────┐
//! │ type │ length │ fixed fields │ options: (code, length, bytes)*, end          │ length │
//! └──────┴────────┴──────────────┴───────────────────────────────────────────────┴────────┘
//! ```

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
const ENHANCED_PACKET: u32 = 6;

const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;
const VERSION: [u16; 2] = [1, 0];
/// How long the section is: not known.
const SECTION_LENGTH: u64 = u64::MAX;
const LINKTYPE_ETHERNET: u16 = 1;
/// Times are in units of 10^-9 s.
const NANOSECONDS: u8 = 9;

/// Codes of options; those of one kind of block are not those of another.
const OPTION_END: u16 = 0;
const OPTION_COMMENT: u16 = 1;
const SECTION_APPLICATION: u16 = 4;
const INTERFACE_NAME: u16 = 2;
const INTERFACE_RESOLUTION: u16 = 9;
const PACKET_FLAGS: u16 = 2;
const PACKET_DROP_COUNT: u16 = 4;

/// Which way a packet went, seen from the machine: bits 0 and 1 of `epb_flags`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Direction {
    /// Into it.
    Inbound = 1,
    /// Out of it.
    Outbound = 2,
}

/// What there is to say of a packet.
#[derive(Clone, Debug)]
pub(super) struct Packet<'a> {
    /// The interface's place among those that were described.
    pub(super) interface: u32,
    /// In nanoseconds since 1970.
    pub(super) at: u64,
    /// The whole packet's, in bytes.
    pub(super) length: u32,
    /// As much of it as there is.
    pub(super) bytes: &'a [u8],
    /// In words.
    pub(super) comment: Option<String>,
    /// Which way it went.
    pub(super) direction: Direction,
    /// Packets lost between the one before and this.
    pub(super) lost: u64,
}

/// What begins a file, made by this application.
pub(super) fn section(application: &str) -> Vec<u8> {
    let mut block = Block::begin(SECTION_HEADER);
    block.put(&BYTE_ORDER_MAGIC.to_le_bytes());
    VERSION.iter().for_each(|number| block.put(&number.to_le_bytes()));
    block.put(&SECTION_LENGTH.to_le_bytes());
    block.put_option(SECTION_APPLICATION, application.as_bytes());
    block.end()
}

/// Describes an interface, of whose packets at most so many bytes are there.
pub(super) fn interface(name: &str, snap_length: u32) -> Vec<u8> {
    let mut block = Block::begin(INTERFACE_DESCRIPTION);
    block.put(&LINKTYPE_ETHERNET.to_le_bytes());
    block.put(&[0; 2]);
    block.put(&snap_length.to_le_bytes());
    block.put_option(INTERFACE_NAME, name.as_bytes());
    block.put_option(INTERFACE_RESOLUTION, &[NANOSECONDS]);
    block.end()
}

/// A packet.
pub(super) fn packet(packet: &Packet<'_>) -> Vec<u8> {
    let mut block = Block::begin(ENHANCED_PACKET);
    let captured = u32::try_from(packet.bytes.len()).expect("a packet is short");
    for number in [packet.interface, (packet.at >> 32) as u32, packet.at as u32, captured, packet.length] {
        block.put(&number.to_le_bytes());
    }
    block.put(packet.bytes);
    block.pad();
    if let Some(comment) = &packet.comment {
        block.put_option(OPTION_COMMENT, comment.as_bytes());
    }
    block.put_option(PACKET_FLAGS, &(packet.direction as u32).to_le_bytes());
    if packet.lost > 0 {
        block.put_option(PACKET_DROP_COUNT, &packet.lost.to_le_bytes());
    }
    block.end()
}

/// A block that is being written.
struct Block(Vec<u8>);

impl Block {
    fn begin(kind: u32) -> Self {
        // The length is known at the end.
        Self([kind.to_le_bytes(), [0; 4]].concat())
    }

    fn put(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn pad(&mut self) {
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    /// What is longer than an option can be is cut.
    fn put_option(&mut self, code: u16, value: &[u8]) {
        let value = &value[..value.len().min(usize::from(u16::MAX))];
        self.put(&code.to_le_bytes());
        self.put(&(value.len() as u16).to_le_bytes());
        self.put(value);
        self.pad();
    }

    /// Every block here has options, and so an end of them.
    fn end(mut self) -> Vec<u8> {
        self.put_option(OPTION_END, &[]);
        let length = u32::try_from(self.0.len() + 4).expect("a block is short").to_le_bytes();
        self.put(&length);
        self.0[4..8].copy_from_slice(&length);
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_say_at_both_ends_how_long_they_are_and_are_whole_words() {
        for bytes in [0, 1, 2, 3, 4] {
            let one = Packet {
                interface: 1,
                at: 1,
                length: 60,
                bytes: &[7; 4][..bytes],
                comment: Some("number 1".to_owned()),
                direction: Direction::Inbound,
                lost: 3,
            };
            for block in [section("braidctl"), interface("braid0", 65_535), packet(&one)] {
                let length = (block.len() as u32).to_le_bytes();
                assert_eq!(block.len() % 4, 0);
                assert_eq!((&block[4..8], &block[block.len() - 4..]), (&length[..], &length[..]));
            }
        }
    }

    #[test]
    fn a_section_begins_as_every_reader_expects() {
        let block = section("x");
        assert_eq!(block[..4], [0x0a, 0x0d, 0x0d, 0x0a]);
        assert_eq!(block[8..16], [0x4d, 0x3c, 0x2b, 0x1a, 1, 0, 0, 0]);
        assert_eq!(block[16..24], [0xff; 8]);
    }
}
