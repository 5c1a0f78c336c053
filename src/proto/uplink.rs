//! What is known of one uplink.

use std::fmt;

/// The most uplinks that a tunnel has.
pub const UPLINKS_MAX: usize = 16;

/// The longest uplink name, in bytes; as long as an interface name, so that the default always fits.
pub const UPLINK_NAME_MAX: usize = 15;

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
