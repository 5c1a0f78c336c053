//! Authenticated encryption of what travels: AES-256-GCM where the CPU has it, ChaCha20-Poly1305 (RFC 8439) elsewhere.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

use super::keys::KEY_LENGTH;

/// Bytes behind what was sealed.
pub const TAG_LENGTH: usize = 16;

/// What frames and control messages are sealed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Cipher {
    /// AES-256-GCM (NIST SP 800-38D): several times as fast where the CPU has instructions for it.
    Aes256Gcm = 1,
    /// ChaCha20-Poly1305 (RFC 8439): fast everywhere, and always constant in time.
    ChaCha20Poly1305 = 2,
}

impl Cipher {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Aes256Gcm, Self::ChaCha20Poly1305];

    /// The name in flags and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Aes256Gcm => "aes-256-gcm",
            Self::ChaCha20Poly1305 => "chacha20-poly1305",
        }
    }

    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// Reads the number on the wire.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|cipher| cipher.number() == number)
    }
}

/// Some of the ciphers: those that an end is willing to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ciphers(u8);

impl Ciphers {
    /// All of them.
    pub const ALL: Self = Self(0b110);

    /// Only this one.
    #[must_use]
    pub const fn only(cipher: Cipher) -> Self {
        Self(1 << cipher.number())
    }

    /// Reads what the wire says; what is not known is left out.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Self {
        Self(bits & Self::ALL.0)
    }

    /// What the wire says.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Whether `cipher` is among them.
    #[must_use]
    pub const fn contains(self, cipher: Cipher) -> bool {
        self.0 & (1 << cipher.number()) != 0
    }

    /// The one that both this end and `other` are willing to use and that comes first in [`Cipher::ALL`].
    #[must_use]
    pub fn choose(self, other: Self) -> Option<Cipher> {
        Cipher::ALL.into_iter().find(|cipher| self.contains(*cipher) && other.contains(*cipher))
    }
}

/// Which of a key's two spaces of counters a nonce is of: both have their own 2^64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// Frames, counted by their sequence numbers.
    Frame,
    /// Control messages.
    Control,
}

/// One direction of a session's keys.
pub struct Key(LessSafeKey);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(secret)")
    }
}

impl Key {
    /// Makes `bytes` ready for use. The library wipes its copy when the key is dropped.
    #[must_use]
    pub fn new(cipher: Cipher, bytes: &[u8; KEY_LENGTH]) -> Self {
        let algorithm = match cipher {
            Cipher::Aes256Gcm => &AES_256_GCM,
            Cipher::ChaCha20Poly1305 => &CHACHA20_POLY1305,
        };
        Self(LessSafeKey::new(UnboundKey::new(algorithm, bytes).expect("both ciphers take keys of 32 bytes")))
    }

    /// Encrypts `text` in place, and returns the tag, which vouches for it and for `header`.
    ///
    /// Never twice with the same `space` and `counter`: that would give both texts away.
    #[inline]
    #[must_use]
    pub fn seal(&self, space: Space, counter: u64, header: &[u8], text: &mut [u8]) -> [u8; TAG_LENGTH] {
        let tag = self.0.seal_in_place_separate_tag(nonce(space, counter), Aad::from(header), text);
        let tag = tag.expect("a datagram is shorter than what the ciphers can seal");
        tag.as_ref().try_into().expect("both ciphers have tags of 16 bytes")
    }

    /// Decrypts in place what [`Self::seal`] has made of a text, with its tag behind it. Returns the length of the text,
    /// or `None` if it, the tag, `header` or the counter is not what it was.
    #[inline]
    #[must_use]
    pub fn open(&self, space: Space, counter: u64, header: &[u8], sealed: &mut [u8]) -> Option<usize> {
        let text = self.0.open_in_place(nonce(space, counter), Aad::from(header), sealed).ok()?;
        Some(text.len())
    }
}

/// The space in four bytes, then the counter.
fn nonce(space: Space, counter: u64) -> Nonce {
    let mut nonce = [0; 12];
    nonce[3] = match space {
        Space::Frame => 0,
        Space::Control => 1,
    };
    nonce[4..].copy_from_slice(&counter.to_be_bytes());
    Nonce::assume_unique_for_key(nonce)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_cipher() -> impl Strategy<Value = Cipher> {
        prop_oneof![Just(Cipher::Aes256Gcm), Just(Cipher::ChaCha20Poly1305)]
    }

    proptest! {
        #[test]
        fn opening_undoes_sealing_and_any_change_is_noticed(
            cipher in any_cipher(),
            bytes: [u8; KEY_LENGTH],
            counter: u64,
            header: [u8; 12],
            text in proptest::collection::vec(any::<u8>(), 0..200),
            at: prop::sample::Index,
            bit in 0..8_u32,
        ) {
            let key = Key::new(cipher, &bytes);
            let mut sealed = text.clone();
            let tag = key.seal(Space::Frame, counter, &header, &mut sealed);
            sealed.extend_from_slice(&tag);
            prop_assert_eq!(key.open(Space::Control, counter, &header, &mut sealed.clone()), None);
            prop_assert_eq!(key.open(Space::Frame, counter.wrapping_add(1 << 32), &header, &mut sealed.clone()), None);
            let mut changed = [&header[..], &sealed].concat();
            let at = at.index(changed.len());
            changed[at] ^= 1 << bit;
            let (changed_header, changed_sealed) = changed.split_at_mut(header.len());
            prop_assert_eq!(key.open(Space::Frame, counter, changed_header, changed_sealed), None);
            let length = key.open(Space::Frame, counter, &header, &mut sealed);
            prop_assert_eq!((length, &sealed[..text.len()]), (Some(text.len()), &text[..]));
        }
    }

    #[test]
    fn the_first_that_both_want_is_chosen() {
        let (aes, chacha) = (Ciphers::only(Cipher::Aes256Gcm), Ciphers::only(Cipher::ChaCha20Poly1305));
        assert_eq!(Ciphers::ALL.choose(Ciphers::ALL), Some(Cipher::Aes256Gcm));
        assert_eq!(Ciphers::ALL.choose(chacha), Some(Cipher::ChaCha20Poly1305));
        assert_eq!(aes.choose(chacha), None);
        assert_eq!(Ciphers::from_bits(0xff), Ciphers::ALL);
    }
}
