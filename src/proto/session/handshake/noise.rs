//! Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s, by `snow`.
//!
//! The box knows the gateway's key, and sends its own, sealed, in its first message; the answer completes the
//! exchange. A pre-shared key is mixed in with the answer; where there is none, one of zeroes is, as in WireGuard.

use snow::params::{CipherChoice, DHChoice, HashChoice, NoiseParams};
use snow::resolvers::{CryptoResolver, DefaultResolver};
use snow::types::{Cipher, Dh, Hash, Random};
use snow::{Builder, HandshakeState};
use zeroize::Zeroizing;

use super::message::{INITIATION_PAYLOAD_LENGTH, RESPONSE_PAYLOAD_LENGTH, initiation, response};
use crate::proto::session::Host;
use crate::proto::session::keys::{KEY_LENGTH, PresharedKey, PrivateKey, PublicKey};
use crate::proto::stats::DropReason;

const PATTERN: &str = "Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s";
/// What both must have said before, so that nothing else that speaks this pattern is mistaken for us.
const PROLOGUE: &[u8] = b"braid v1";
/// Where in the pattern the pre-shared key is.
const PRESHARED_AT: u8 = 2;

/// What seals either direction, once both ends have spoken: from the initiator, and from the responder.
pub struct Split {
    /// From the initiator.
    pub from_initiator: Zeroizing<[u8; KEY_LENGTH]>,
    /// From the responder.
    pub from_responder: Zeroizing<[u8; KEY_LENGTH]>,
}

/// An exchange that has begun.
pub struct Exchange(HandshakeState);

impl Exchange {
    /// The box's side: writes `payload` into `noise`, the first message.
    pub fn initiate(
        host: &mut impl Host,
        own: &PrivateKey,
        peer: &PublicKey,
        preshared: &PresharedKey,
        payload: &[u8; INITIATION_PAYLOAD_LENGTH],
        noise: &mut [u8],
    ) -> Self {
        let builder = builder(host, own, preshared).and_then(|builder| builder.remote_public_key(peer.bytes()));
        let mut state = builder.and_then(Builder::build_initiator).expect("the pattern asks for these keys");
        let length = state.write_message(payload, noise).expect("a first message can be written to any key");
        assert_eq!(length, noise.len(), "the form has room for just this");
        Self(state)
    }

    /// The box's side: reads the second message.
    ///
    /// # Errors
    /// [`DropReason::HandshakeRejected`] if it is not an answer to ours, by whoever has the gateway's key. The exchange
    /// goes on waiting.
    pub fn conclude(&mut self, noise: &[u8]) -> Result<([u8; RESPONSE_PAYLOAD_LENGTH], Split), DropReason> {
        assert_eq!(noise.len(), response::NOISE.len());
        let mut payload = [0; RESPONSE_PAYLOAD_LENGTH];
        self.0.read_message(noise, &mut payload).map_err(|_| DropReason::HandshakeRejected)?;
        Ok((payload, split(&mut self.0)))
    }

    /// The gateway's side: reads the first message. Returns who it says it is, which is true of whoever can read the
    /// answer, and what it says.
    ///
    /// # Errors
    /// [`DropReason::HandshakeRejected`] if it was not made for our key.
    pub fn receive(
        host: &mut impl Host,
        own: &PrivateKey,
        noise: &[u8],
    ) -> Result<(Self, PublicKey, [u8; INITIATION_PAYLOAD_LENGTH]), DropReason> {
        assert_eq!(noise.len(), initiation::NOISE.len());
        let unknown_yet = PresharedKey::NONE;
        let builder = builder(host, own, &unknown_yet);
        let mut state = builder.and_then(Builder::build_responder).expect("the pattern asks for these keys");
        let mut payload = [0; INITIATION_PAYLOAD_LENGTH];
        state.read_message(noise, &mut payload).map_err(|_| DropReason::HandshakeRejected)?;
        let peer = state.get_remote_static().and_then(|key| key.try_into().ok());
        let peer = peer.expect("the first message of the pattern brings the key");
        Ok((Self(state), PublicKey::from_bytes(peer), payload))
    }

    /// The gateway's side: writes `payload` into `noise`, the second message.
    ///
    /// # Errors
    /// [`DropReason::HandshakeRejected`] if the initiator's key is one that no exchange can be had with.
    pub fn respond(
        mut self,
        preshared: &PresharedKey,
        payload: &[u8; RESPONSE_PAYLOAD_LENGTH],
        noise: &mut [u8],
    ) -> Result<Split, DropReason> {
        self.0.set_psk(PRESHARED_AT.into(), preshared.bytes()).expect("the pattern has a place for it");
        let length = self.0.write_message(payload, noise).map_err(|_| DropReason::HandshakeRejected)?;
        assert_eq!(length, noise.len(), "the form has room for just this");
        Ok(split(&mut self.0))
    }
}

fn split(state: &mut HandshakeState) -> Split {
    let (from_initiator, from_responder) = state.dangerously_get_raw_split();
    Split { from_initiator: Zeroizing::new(from_initiator), from_responder: Zeroizing::new(from_responder) }
}

fn builder<'a>(
    host: &mut impl Host,
    own: &'a PrivateKey,
    preshared: &'a PresharedKey,
) -> Result<Builder<'a>, snow::Error> {
    let pattern: NoiseParams = PATTERN.parse().expect("snow knows the pattern");
    let mut drawn = Zeroizing::new([0; KEY_LENGTH]);
    host.fill_random(&mut *drawn);
    let builder = Builder::with_resolver(pattern, Box::new(Primitives { drawn }));
    builder.prologue(PROLOGUE)?.local_private_key(own.bytes())?.psk(PRESHARED_AT, preshared.bytes())
}

/// snow's own primitives, with our randomness: just enough for one ephemeral key.
struct Primitives {
    drawn: Zeroizing<[u8; KEY_LENGTH]>,
}

impl CryptoResolver for Primitives {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(Drawn(Some(self.drawn.clone()))))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        DefaultResolver.resolve_dh(choice)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        DefaultResolver.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        DefaultResolver.resolve_cipher(choice)
    }
}

/// What was drawn for this exchange. Gives it once: a second key of the same randomness would be the same key.
struct Drawn(Option<Zeroizing<[u8; KEY_LENGTH]>>);

impl Random for Drawn {
    fn try_fill_bytes(&mut self, destination: &mut [u8]) -> Result<(), snow::Error> {
        let drawn = self.0.take().ok_or(snow::Error::Rng)?;
        let drawn = drawn.get(..destination.len()).ok_or(snow::Error::Rng)?;
        destination.copy_from_slice(drawn);
        Ok(())
    }
}
