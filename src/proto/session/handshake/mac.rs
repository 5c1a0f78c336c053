//! Cheap proofs in front of the costly ones, as in WireGuard.
//!
//! mac1 shows that the sender knows our public key, which keeps out whoever just finds an open port. mac2 shows, if we
//! are busy, that it is where it says it is: it is made with a cookie, which we have sent to that address, and which
//! we need not remember, since it follows from the address and a secret of ours.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use blake2::digest::consts::U16;
use blake2::digest::{KeyInit, Mac};
use blake2::{Blake2s256, Blake2sMac, Digest};
use chacha20poly1305::aead::AeadInPlace;
use chacha20poly1305::{Tag, XChaCha20Poly1305, XNonce};
use zeroize::Zeroizing;

use super::message::{COOKIE_LENGTH, INITIATION_LENGTH, MAC_LENGTH, cookie, emit_head, initiation, sender};
use crate::proto::session::Host;
use crate::proto::session::keys::PublicKey;
use crate::proto::time::Instant;

const MAC1_LABEL: &[u8] = b"mac1----";
const COOKIE_LABEL: &[u8] = b"cookie--";
const HINT_LABEL: &[u8] = b"hint----";

/// How long a cookie is taken: WireGuard's two minutes.
pub const COOKIE_LIFETIME: Duration = Duration::from_secs(120);

/// A message authentication code.
pub type Code = [u8; MAC_LENGTH];

/// The keys that follow from the public key of whoever is to receive a message.
#[derive(Clone, Debug)]
pub struct ReceiverKeys {
    mac1: [u8; 32],
    cookie: [u8; 32],
}

impl ReceiverKeys {
    /// Those of `receiver`.
    #[must_use]
    pub fn of(receiver: &PublicKey) -> Self {
        Self { mac1: hash(MAC1_LABEL, receiver), cookie: hash(COOKIE_LABEL, receiver) }
    }

    /// Writes mac1 behind what it vouches for.
    pub fn write_mac1(&self, message: &mut [u8], at: usize) {
        let code = code(&self.mac1, &message[..at]);
        message[at..at + MAC_LENGTH].copy_from_slice(&code);
    }

    /// Whether mac1 is right.
    #[must_use]
    pub fn is_mac1(&self, message: &[u8], at: usize) -> bool {
        is_equal(&code(&self.mac1, &message[..at]), &message[at..at + MAC_LENGTH])
    }

    /// Wraps a cookie for whoever has sent `request`.
    pub fn wrap_cookie(
        &self,
        host: &mut impl Host,
        request: &[u8; INITIATION_LENGTH],
        given: Code,
    ) -> [u8; COOKIE_LENGTH] {
        let mut reply = [0; COOKIE_LENGTH];
        emit_head(&mut reply, 3, 0, sender(request));
        host.fill_random(&mut reply[cookie::NONCE]);
        reply[cookie::SEALED.start..cookie::SEALED.start + MAC_LENGTH].copy_from_slice(&given);
        let (head, sealed) = reply.split_at_mut(cookie::SEALED.start);
        let (text, tag) = sealed.split_at_mut(MAC_LENGTH);
        let nonce = XNonce::from_slice(&head[cookie::NONCE]);
        let made = self.cipher().encrypt_in_place_detached(nonce, &request[initiation::MAC1], text);
        tag.copy_from_slice(&made.expect("sixteen bytes can be sealed"));
        reply
    }

    /// Unwraps a cookie that was asked for by a message with this mac1.
    #[must_use]
    pub fn unwrap_cookie(&self, reply: &[u8; COOKIE_LENGTH], mac1: &[u8]) -> Option<Code> {
        let (text, tag) = reply[cookie::SEALED].split_at(MAC_LENGTH);
        let mut given: Code = text.try_into().ok()?;
        let nonce = XNonce::from_slice(&reply[cookie::NONCE]);
        self.cipher().decrypt_in_place_detached(nonce, mac1, &mut given, Tag::from_slice(tag)).ok()?;
        Some(given)
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new((&self.cookie).into())
    }
}

/// Writes mac2 behind what it vouches for.
pub fn write_mac2(message: &mut [u8; INITIATION_LENGTH], given: &Code) {
    let made = code(given, &message[..initiation::MAC2.start]);
    message[initiation::MAC2].copy_from_slice(&made);
}

/// See [`PublicKey::hint`].
#[must_use]
pub fn hint(key: &PublicKey) -> u32 {
    let [a, b, c, d, ..] = hash(HINT_LABEL, key);
    u32::from_be_bytes([a, b, c, d])
}

/// Makes cookies, and knows its own again.
#[derive(Default)]
pub struct CookieJar {
    secrets: [Zeroizing<[u8; 32]>; 2],
    renewed_at: Option<Instant>,
}

impl CookieJar {
    /// The cookie for whoever is at `source`.
    pub fn bake(&mut self, now: Instant, host: &mut impl Host, source: SocketAddr) -> Code {
        if self.renewed_at.is_none_or(|at| now >= at + COOKIE_LIFETIME) {
            // A cookie given just before this is good for one more lifetime.
            self.secrets.swap(0, 1);
            host.fill_random(&mut *self.secrets[0]);
            self.renewed_at = Some(now);
        }
        self.cookie(0, source)
    }

    /// Whether mac2 was made with a cookie that was sent to `source`.
    #[must_use]
    pub fn is_mac2(&self, now: Instant, source: SocketAddr, message: &[u8; INITIATION_LENGTH]) -> bool {
        let Some(renewed_at) = self.renewed_at else { return false };
        let age = now.since(renewed_at);
        // The second secret is all zeroes, and so everybody's, before there has been a first that was replaced.
        let is_known = |place: usize| *self.secrets[place] != [0; 32] && age < COOKIE_LIFETIME * (2 - place as u32);
        let (signed, mac2) = (&message[..initiation::MAC2.start], &message[initiation::MAC2]);
        (0..2).any(|place| is_known(place) && is_equal(&code(&self.cookie(place, source), signed), mac2))
    }

    fn cookie(&self, place: usize, source: SocketAddr) -> Code {
        let mut bytes = [0; 18];
        match source.ip() {
            IpAddr::V4(address) => bytes[..16].copy_from_slice(&address.to_ipv6_mapped().octets()),
            IpAddr::V6(address) => bytes[..16].copy_from_slice(&address.octets()),
        }
        bytes[16..].copy_from_slice(&source.port().to_be_bytes());
        code(&*self.secrets[place], &bytes)
    }
}

fn code(key: &[u8], bytes: &[u8]) -> Code {
    let mut mac = <Blake2sMac<U16> as KeyInit>::new_from_slice(key).expect("BLAKE2s takes keys of up to 32 bytes");
    mac.update(bytes);
    mac.finalize().into_bytes().into()
}

fn hash(label: &[u8], key: &PublicKey) -> [u8; 32] {
    Blake2s256::new().chain_update(label).chain_update(key.bytes()).finalize().into()
}

fn is_equal(one: &[u8], other: &[u8]) -> bool {
    verify_slices_are_equal(one, other).is_ok()
}
