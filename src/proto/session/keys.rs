//! Keys as the user has them: Curve25519, 32 bytes, written in base64 as WireGuard writes them.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use snow::params::DHChoice;
use snow::resolvers::{CryptoResolver, DefaultResolver};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Bytes in a key of any kind.
pub const KEY_LENGTH: usize = 32;
/// Characters of a key in base64.
pub const KEY_TEXT_LENGTH: usize = 44;

/// A machine's secret. Never printed, and wiped when dropped.
#[derive(Clone, ZeroizeOnDrop)]
pub struct PrivateKey([u8; KEY_LENGTH]);

/// What others know a machine by.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; KEY_LENGTH]);

/// A secret that two machines share beside their key pairs, against what may once break those. All zeroes if there is
/// none, as in WireGuard. Never printed, and wiped when dropped.
#[derive(Clone, ZeroizeOnDrop)]
pub struct PresharedKey([u8; KEY_LENGTH]);

impl PrivateKey {
    /// The key whose randomness is `random`, which must be from a good source. Clamped as RFC 7748 §5 has it.
    #[must_use]
    pub fn from_random(mut random: [u8; KEY_LENGTH]) -> Self {
        random[0] &= 248;
        random[31] = (random[31] & 127) | 64;
        let key = Self(random);
        random.zeroize();
        key
    }

    /// Reads a key in base64.
    ///
    /// # Errors
    /// What is wrong with it; never the text itself.
    pub fn parse(text: &str) -> Result<Self, String> {
        decode(text).map(|bytes| Self(*bytes))
    }

    /// The key in base64, wiped when dropped.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        Zeroizing::new(STANDARD.encode(self.0))
    }

    /// The public key that belongs to it.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        let mut curve = DefaultResolver.resolve_dh(&DHChoice::Curve25519).expect("snow is built with Curve25519");
        curve.set(&self.0);
        PublicKey(curve.pubkey().try_into().expect("a public key has 32 bytes"))
    }

    pub(super) const fn bytes(&self) -> &[u8; KEY_LENGTH] {
        &self.0
    }
}

impl PublicKey {
    /// Reads a key in base64.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let key = Self(*decode(text)?);
        if key.0 == [0; KEY_LENGTH] {
            return Err("a key of zeroes is nobody's".to_owned());
        }
        Ok(key)
    }

    /// Says by a number which of several processes that share a port is to serve the box of this key. It tells no more of
    /// the key than a hash of 32 bits does, but that is enough to know a box again.
    #[must_use]
    pub fn hint(&self) -> u32 {
        super::handshake::mac::hint(self)
    }

    pub(super) const fn from_bytes(bytes: [u8; KEY_LENGTH]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub const fn bytes(&self) -> &[u8; KEY_LENGTH] {
        &self.0
    }
}

impl PresharedKey {
    /// No secret.
    pub const NONE: Self = Self([0; KEY_LENGTH]);

    /// The key whose randomness is `random`, which must be from a good source.
    #[must_use]
    pub const fn from_random(random: [u8; KEY_LENGTH]) -> Self {
        Self(random)
    }

    /// Reads a key in base64.
    ///
    /// # Errors
    /// What is wrong with it; never the text itself.
    pub fn parse(text: &str) -> Result<Self, String> {
        decode(text).map(|bytes| Self(*bytes))
    }

    /// The key in base64, wiped when dropped.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        Zeroizing::new(STANDARD.encode(self.0))
    }

    pub(super) const fn bytes(&self) -> &[u8; KEY_LENGTH] {
        &self.0
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(secret)")
    }
}

impl fmt::Debug for PresharedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PresharedKey(secret)")
    }
}

fn decode(text: &str) -> Result<Zeroizing<[u8; KEY_LENGTH]>, String> {
    let example = "a key is 44 characters of base64, as 'braidctl keygen' and 'wg genkey' write it";
    if text.len() != KEY_TEXT_LENGTH {
        return Err(format!("{} characters are no key: {example}", text.chars().count()));
    }
    let bytes = STANDARD.decode(text).map(Zeroizing::new).map_err(|_| format!("not base64: {example}"))?;
    let key = <[u8; KEY_LENGTH]>::try_from(bytes.as_slice()).map_err(|_| format!("not 32 bytes: {example}"))?;
    Ok(Zeroizing::new(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7748 §6.1: Alice's keys.
    const PRIVATE: &str = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=";
    const PUBLIC: &str = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=";

    #[test]
    fn the_public_key_is_that_of_the_rfc() {
        let key = PrivateKey::parse(PRIVATE).expect("a key");
        assert_eq!(key.public().to_string(), PUBLIC);
        assert_eq!(key.to_text().as_str(), PRIVATE);
    }

    #[test]
    fn what_is_no_key_is_refused_without_being_quoted() {
        for text in ["", "short", &PRIVATE[1..], &PRIVATE.replace('d', "!"), &PRIVATE.replace("Co=", "Cp=")] {
            let error = PrivateKey::parse(text).expect_err(text);
            assert!(text.is_empty() || !error.contains(text), "{error}");
        }
        assert!(PublicKey::parse(&STANDARD.encode([0; KEY_LENGTH])).is_err());
    }

    #[test]
    fn secrets_are_not_printed() {
        let key = PrivateKey::parse(PRIVATE).expect("a key");
        let shared = PresharedKey::parse(PRIVATE).expect("a key");
        assert!(!format!("{key:?} {shared:?}").contains("dwdtC"));
    }

    #[test]
    fn a_drawn_key_is_clamped() {
        let key = PrivateKey::from_random([0xff; KEY_LENGTH]);
        assert_eq!((key.0[0], key.0[31]), (248, 127));
    }
}
