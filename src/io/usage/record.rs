//! What an uplink has carried, as a line of a file: of one length, so that it is written in place, and with a checksum, so
//! that one that was half written is known.
//!
//! ```text
//! braid-usage=1 name=lte-a used=31415926535 from=2026-11-01 until=2026-12-01 serial=2718 crc=b0f1d6a2
//! ```
//! padded with spaces in front of the line's end. The checksum is the CRC-32 of what is before it.

use std::io::Write;

use super::period::Period;
use crate::proto::uplink::{UPLINK_NAME_MAX, UplinkName};

/// Bytes of a line.
pub const RECORD_LENGTH: usize = 128;

/// What every line begins with; the number is that of the form.
const BEGINNING: &str = "braid-usage=1";

const NUMBER_64_MAX: usize = 20;
const NUMBER_32_MAX: usize = 10;
const DATE_LENGTH: usize = 10;
const CHECKSUM_LENGTH: usize = 8;
const _: () = assert!(
    BEGINNING.len()
        + " name= used= from= until= serial= crc=\n".len()
        + UPLINK_NAME_MAX
        + NUMBER_64_MAX
        + 2 * DATE_LENGTH
        + NUMBER_32_MAX
        + CHECKSUM_LENGTH
        <= RECORD_LENGTH
);

/// What an uplink has carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Which.
    pub name: UplinkName,
    /// Bytes of IP packet, both ways, in this period.
    pub used: u64,
    /// The period.
    pub period: Period,
    /// Of two lines about an uplink the one that counts has the greater.
    pub serial: u32,
}

impl Record {
    /// The line.
    #[must_use]
    pub fn encode(&self) -> [u8; RECORD_LENGTH] {
        let Self { name, used, period: Period { from, until }, serial } = self;
        let mut bytes = [b' '; RECORD_LENGTH];
        let mut room = &mut bytes[..];
        let said = write!(room, "{BEGINNING} name={name} used={used} from={from} until={until} serial={serial} crc=");
        let checked = RECORD_LENGTH - room.len();
        let checksum = crc32fast::hash(&bytes[..checked]);
        let said = said.and_then(|()| write!(&mut bytes[checked..], "{checksum:08x}"));
        said.expect("the longest that there can be fits");
        bytes[RECORD_LENGTH - 1] = b'\n';
        bytes
    }

    /// What such a line says; `None` if it is none.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut words = std::str::from_utf8(bytes).ok()?.split(' ');
        if words.next()? != BEGINNING {
            return None;
        }
        let mut field = |key: &str| words.next()?.strip_prefix(key)?.strip_prefix('=');
        let record = Self {
            name: UplinkName::new(field("name")?).ok()?,
            used: field("used")?.parse().ok()?,
            period: Period { from: field("from")?.parse().ok()?, until: field("until")?.parse().ok()? },
            serial: field("serial")?.parse().ok()?,
        };
        (record.encode() == bytes).then_some(record)
    }
}

#[cfg(test)]
mod tests {
    use super::super::period::Day;
    use super::*;
    use proptest::prelude::*;

    fn any_record() -> impl Strategy<Value = Record> {
        ("[a-zA-Z0-9@._-]{1,15}", any::<u64>(), any::<[u64; 2]>(), any::<u32>()).prop_map(
            |(name, used, [from, until], serial)| Record {
                name: UplinkName::new(&name).expect("the pattern makes lawful names"),
                used,
                period: Period { from: Day::of_unix_time(from >> 27), until: Day::of_unix_time(until) },
                serial,
            },
        )
    }

    #[test]
    fn a_line_is_for_people_too() {
        let period =
            Period { from: "2026-11-01".parse().expect("a date"), until: "2026-12-01".parse().expect("a date") };
        let record = Record { name: UplinkName::new("lte-a").expect("lawful"), used: 31_415, period, serial: 7 };
        let line = String::from_utf8(record.encode().to_vec()).expect("text");
        assert!(
            line.starts_with("braid-usage=1 name=lte-a used=31415 from=2026-11-01 until=2026-12-01 serial=7 crc="),
            "{line}"
        );
        assert!(line.ends_with(" \n"), "{line:?}");
    }

    proptest! {
        #[test]
        fn decoding_undoes_encoding(record in any_record()) {
            prop_assert_eq!(Record::decode(&record.encode()), Some(record));
        }

        #[test]
        fn no_byte_can_be_another(record in any_record(), place in 0..RECORD_LENGTH, change in 1_u8..) {
            let mut bytes = record.encode();
            bytes[place] ^= change;
            prop_assert_eq!(Record::decode(&bytes), None);
        }

        #[test]
        fn half_of_one_line_and_half_of_another_are_none(one in any_record(), other in any_record(), cut in 1..RECORD_LENGTH) {
            let (one_line, other_line) = (one.encode(), other.encode());
            let torn = [&one_line[..cut], &other_line[cut..]].concat();
            let read = Record::decode(&torn);
            prop_assert!(read.is_none() || torn == one_line || torn == other_line);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(Record::decode(&bytes), None);
        }
    }
}
