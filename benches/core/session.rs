//! What sealing costs: a frame by a session, beside the library that does the work alone, and one handshake.

use std::net::{Ipv4Addr, SocketAddr};

use aws_lc_rs::aead::{AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use braid::fuzzing::sealed::{CountingHost, securities, tunnel};
use braid::proto::endpoint::{Endpoint, HandshakeDestination};
use braid::proto::session::cipher::{Cipher, Ciphers};
use braid::proto::session::transport::OVERHEAD;
use braid::proto::time::Instant;
use braid::proto::tunnel::{Arrival, Path, Role};
use braid::proto::uplink::UplinkId;
use braid::proto::wire::KEYED_HEADER_LENGTH;
use bytes::{Bytes, BytesMut};
use divan::{Bencher, black_box};

const FRAME_LENGTH: usize = 1_400;
const NOW: Instant = Instant::from_nanos(1_000_000_000);

const CIPHERS: [&str; 2] = [Cipher::Aes256Gcm.name(), Cipher::ChaCha20Poly1305.name()];

#[divan::bench(args = CIPHERS)]
fn seal(bencher: Bencher, cipher: &str) {
    let mut pair = Pair::established(cipher);
    let mut datagram = vec![0; FRAME_LENGTH + OVERHEAD];
    let mut sequence = 1 << 32;
    bencher.bench_local(|| {
        sequence += 1;
        pair.ends[BOX].seal_frame(NOW, 0, sequence, black_box(&mut datagram)).expect("there is a session");
    });
}

/// The same by the library alone.
#[divan::bench(args = CIPHERS)]
fn seal_by_the_library(bencher: Bencher, cipher: &str) {
    let key = library_key(cipher);
    let mut datagram = vec![0; FRAME_LENGTH + OVERHEAD];
    let mut sequence = 0_u64;
    bencher.bench_local(|| {
        sequence += 1;
        library_seal(&key, sequence, black_box(&mut datagram));
    });
}

/// Each iteration copies a sealed frame to a buffer and opens it there; the tunnel then drops it as one that it has.
#[divan::bench(args = CIPHERS)]
fn open(bencher: Bencher, cipher: &str) {
    let mut pair = Pair::established(cipher);
    let mut datagram = vec![0; FRAME_LENGTH + OVERHEAD];
    pair.ends[BOX].seal_frame(NOW, 0, (1 << 32) + 1, &mut datagram).expect("there is a session");
    let Pair { ends: [_, gateway], mut host } = pair;
    let mut gateway = gateway;
    bencher.with_inputs(|| BytesMut::from(&datagram[..])).bench_local_values(|datagram| {
        gateway.handle_datagram(NOW, &mut host, arrival(GATEWAY), datagram);
        while gateway.tunnel_mut(0).poll_deliver().is_some() {}
    });
    assert_eq!(gateway.drops().total(), 0, "all of them were authentic");
}

/// The same by the library alone.
#[divan::bench(args = CIPHERS)]
fn open_by_the_library(bencher: Bencher, cipher: &str) {
    let key = library_key(cipher);
    let mut datagram = vec![0; FRAME_LENGTH + OVERHEAD];
    library_seal(&key, 1, &mut datagram);
    bencher.with_inputs(|| BytesMut::from(&datagram[..])).bench_local_values(|mut datagram| {
        let (header, sealed) = datagram.split_at_mut(KEYED_HEADER_LENGTH);
        key.open_in_place(nonce(1), Aad::from(&*header), black_box(sealed)).expect("authentic").len()
    });
}

/// Both ends' work for one session, from question to first word under the new keys.
#[divan::bench]
fn handshake(bencher: Bencher) {
    bencher.with_inputs(|| Pair::new(CIPHERS[0])).bench_local_values(|mut pair| {
        pair.shake_hands();
        pair
    });
}

const BOX: usize = 0;
const GATEWAY: usize = 1;

struct Pair {
    ends: [Endpoint<Bytes>; 2],
    host: CountingHost,
}

impl Pair {
    fn new(cipher: &str) -> Self {
        let cipher = Cipher::ALL.into_iter().find(|known| known.name() == cipher).expect("one of them");
        let mut host = CountingHost::default();
        let [initiator, responder] = securities(&mut host, Ciphers::only(cipher));
        let mut ends = [
            Endpoint::new(vec![tunnel(NOW, Role::Box)], initiator),
            Endpoint::new(vec![tunnel(NOW, Role::Gateway)], responder),
        ];
        ends[BOX].handle_uplink_attached(NOW, uplink());
        Self { ends, host }
    }

    fn established(cipher: &str) -> Self {
        let mut pair = Self::new(cipher);
        pair.shake_hands();
        pair
    }

    /// Carries all that the ends have to say now to and fro.
    fn shake_hands(&mut self) {
        for _ in 0..4 {
            for from in [BOX, GATEWAY] {
                self.ends[from].handle_timeout(NOW, &mut self.host);
                let mut outbox: Vec<BytesMut> = vec![];
                while let Some(transmit) = self.ends[from].poll_handshake() {
                    assert!(matches!(transmit.destination, HandshakeDestination::Uplink(_)) == (from == BOX));
                    outbox.push(transmit.bytes().into());
                }
                while self.ends[from].poll_control(NOW, 0, |_, bytes| outbox.push(bytes.into())) {}
                for datagram in outbox {
                    self.ends[1 - from].handle_datagram(NOW, &mut self.host, arrival(1 - from), datagram);
                }
            }
        }
        assert!(self.ends[BOX].tunnels()[0].has_peer() && self.ends[GATEWAY].tunnels()[0].has_peer());
    }
}

fn uplink() -> UplinkId {
    UplinkId::new(0).expect("within range")
}

fn arrival(to: usize) -> Arrival {
    let remote = SocketAddr::from((Ipv4Addr::LOCALHOST, 1000));
    if to == BOX { Arrival::Uplink(uplink()) } else { Arrival::Path(Path { remote, local: None }) }
}

fn library_key(cipher: &str) -> LessSafeKey {
    let algorithm: &Algorithm = if cipher == CIPHERS[0] { &AES_256_GCM } else { &CHACHA20_POLY1305 };
    LessSafeKey::new(UnboundKey::new(algorithm, &[7; 32]).expect("32 bytes are a key"))
}

fn library_seal(key: &LessSafeKey, sequence: u64, datagram: &mut [u8]) {
    let (header, rest) = datagram.split_at_mut(KEYED_HEADER_LENGTH);
    let (text, tag) = rest.split_at_mut(FRAME_LENGTH);
    let made = key.seal_in_place_separate_tag(nonce(sequence), Aad::from(&*header), text).expect("short enough");
    tag.copy_from_slice(made.as_ref());
}

fn nonce(sequence: u64) -> Nonce {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&sequence.to_be_bytes());
    Nonce::assume_unique_for_key(nonce)
}
