//! Numbered traffic, of the lab's own: what was sent, and when, is written into each datagram, so that order, loss and
//! delay can be told without asking the tunnel.

pub mod analysis;
pub mod burst;
pub mod flood;
pub mod requests;
pub mod sink;
pub mod source;
pub mod tally;

/// What a datagram of ours begins with: a mark, its number, and when it was sent.
pub const HEADER_LENGTH: usize = 20;
const MARK: [u8; 4] = *b"BRDL";

/// Writes the header of datagram `number`, sent at `sent` nanoseconds.
pub fn write_header(datagram: &mut [u8], number: u64, sent: u64) {
    datagram[..4].copy_from_slice(&MARK);
    datagram[4..12].copy_from_slice(&number.to_be_bytes());
    datagram[12..20].copy_from_slice(&sent.to_be_bytes());
}

/// Reads a header: the number, and when it was sent; `None` if it is none of ours.
#[must_use]
pub fn read_header(datagram: &[u8]) -> Option<(u64, u64)> {
    let header = datagram.get(..HEADER_LENGTH).filter(|header| header[..4] == MARK)?;
    let word = |at: usize| header[at..at + 8].try_into().ok().map(u64::from_be_bytes);
    Some((word(4)?, word(12)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_as_they_are_written() {
        let mut datagram = [0; 64];
        write_header(&mut datagram, 7, 9_000_000_000);
        assert_eq!(read_header(&datagram), Some((7, 9_000_000_000)));
        assert_eq!(read_header(&datagram[..19]), None);
        assert_eq!(read_header(&[0; 64]), None);
    }
}
