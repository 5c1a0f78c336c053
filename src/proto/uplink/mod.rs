//! What is known of one uplink: its name, how good it is ([`measure`]), whether it can be used ([`state`]), the two put
//! together ([`monitor`]), and how long datagrams may be that go by it ([`path_mtu`]).

pub mod measure;
pub mod monitor;
pub mod path_mtu;
pub mod recent;
pub mod state;

use std::fmt;

/// The most uplinks that a tunnel has.
pub const UPLINKS_MAX: usize = 16;

/// The longest uplink name, in bytes; as long as an interface name, so that the default always fits.
pub const UPLINK_NAME_MAX: usize = 15;

/// The limits that the user has set for an uplink.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of frame per second at most.
    pub rate_max: Option<u64>,
    /// Whether it is to be used only where the others do not suffice.
    pub is_metered: bool,
}

/// The name of an uplink: 1 to 15 ASCII letters, digits, `-`, `_`, `.` and `@`.
///
/// Held inline, because it travels in probes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct UplinkName {
    bytes: [u8; UPLINK_NAME_MAX],
    length: u8,
}

impl UplinkName {
    /// Checks `name`.
    ///
    /// # Errors
    /// A sentence that says which rule was broken.
    pub fn new(name: &str) -> Result<Self, String> {
        let characters_ok = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.@".contains(&byte));
        if !(1..=UPLINK_NAME_MAX).contains(&name.len()) || !characters_ok {
            return Err(format!(
                "'{name}' is not an uplink name: 1 to {UPLINK_NAME_MAX} letters, digits, '-', '_', '.' or '@'"
            ));
        }
        let mut bytes = [0; UPLINK_NAME_MAX];
        bytes[..name.len()].copy_from_slice(name.as_bytes());
        Ok(Self { bytes, length: name.len() as u8 })
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.length)]).unwrap_or_default()
    }
}

impl fmt::Display for UplinkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for UplinkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// An uplink's number: its place in the box's configuration, 0 to 15, the same at both ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UplinkId(u8);

impl UplinkId {
    /// Number 0.
    pub const FIRST: Self = Self(0);

    /// The uplink with this number, if there can be one.
    #[must_use]
    pub const fn new(number: u8) -> Option<Self> {
        if (number as usize) < UPLINKS_MAX { Some(Self(number)) } else { None }
    }

    /// The number, as on the wire.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }

    /// The number, as a place in an array of [`UPLINKS_MAX`].
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// Every uplink there can be, in order.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..UPLINKS_MAX as u8).map(Self)
    }
}

/// A set of uplinks, a bit each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct UplinkSet(u16);

impl UplinkSet {
    /// No uplink.
    pub const EMPTY: Self = Self(0);

    /// The set as bits, bit n for uplink n.
    #[must_use]
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// The set of these bits.
    #[must_use]
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits)
    }

    /// The set of one.
    #[must_use]
    pub const fn only(uplink: UplinkId) -> Self {
        Self(1 << uplink.0)
    }

    /// Whether no uplink is in it.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether `uplink` is in it.
    #[must_use]
    pub const fn contains(self, uplink: UplinkId) -> bool {
        self.0 & (1 << uplink.0) != 0
    }

    /// Those of its uplinks that are not in `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Puts `uplink` in.
    pub fn insert(&mut self, uplink: UplinkId) {
        self.0 |= 1 << uplink.0;
    }

    /// Its uplinks, lowest number first.
    pub fn iter(self) -> impl Iterator<Item = UplinkId> {
        let mut bits = self.0;
        std::iter::from_fn(move || {
            let number = bits.trailing_zeros() as u8;
            bits &= bits.wrapping_sub(1);
            UplinkId::new(number)
        })
    }
}

impl FromIterator<UplinkId> for UplinkSet {
    fn from_iter<I: IntoIterator<Item = UplinkId>>(uplinks: I) -> Self {
        let mut set = Self::EMPTY;
        uplinks.into_iter().for_each(|uplink| set.insert(uplink));
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_lists_what_was_put_in() {
        let set: UplinkSet = [15, 0, 3].into_iter().filter_map(UplinkId::new).collect();
        assert_eq!(set.iter().map(UplinkId::number).collect::<Vec<_>>(), [0, 3, 15]);
        assert_eq!(UplinkSet::EMPTY.iter().count(), 0);
    }

    #[test]
    fn names_are_checked() {
        assert_eq!(UplinkName::new("lte-a").expect("lawful").as_str(), "lte-a");
        for unlawful in ["", "sixteen-letters-", "with space", "ünïcode", "a/b"] {
            assert!(UplinkName::new(unlawful).is_err(), "{unlawful}");
        }
    }
}
