//! What sealing costs: a frame by a session, beside the library that does the work alone, and one handshake.

use std::net::{Ipv4Addr, SocketAddr};

use aws_lc_rs::aead::{AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use braid::fuzzing::sealed::{CountingHost, securities, tunnel};
use braid::proto::endpoint::{Endpoint, HandshakeDestination, Security};
use braid::proto::seq::Position;
use braid::proto::session::cipher::{Cipher, Ciphers, Space};
use braid::proto::session::initiator::Initiator;
use braid::proto::session::responder::Responder;
use braid::proto::session::transport::{OVERHEAD, Sessions};
use braid::proto::time::Instant;
use braid::proto::tunnel::{Arrival, Path, Role};
use braid::proto::uplink::{UplinkId, UplinkSet};
use braid::proto::wire::{KEYED_HEADER_LENGTH, KeyedDatagram, parse_keyed};
use bytes::{Bytes, BytesMut};
use divan::{Bencher, black_box};

const FRAME_LENGTH: usize = 1_400;
/// A frame's number.
const FIRST: u64 = 1 << 32;
const NOW: Instant = Instant::from_nanos(1_000_000_000);

const CIPHERS: [&str; 2] = [Cipher::Aes256Gcm.name(), Cipher::ChaCha20Poly1305.name()];

/// A datagram, always placed alike: how fast a cipher is depends on that.
#[derive(Clone)]
#[repr(align(64))]
struct Place([u8; FRAME_LENGTH + OVERHEAD]);

impl Place {
    fn empty() -> Box<Self> {
        Box::new(Self([0; FRAME_LENGTH + OVERHEAD]))
    }
}

#[divan::bench(args = CIPHERS)]
fn seal(bencher: Bencher, cipher: &str) {
    let [mut near, _] = sessions(cipher);
    let mut datagram = Place::empty();
    let mut sequence = FIRST;
    bencher.bench_local(|| {
        sequence += 1;
        let session = near.sessions().sealing(NOW).expect("there is one");
        session.seal_frame(sequence, black_box(&mut datagram.0));
    });
}

/// The same by the library alone.
#[divan::bench(args = CIPHERS)]
fn seal_by_the_library(bencher: Bencher, cipher: &str) {
    let key = library_key(cipher);
    let mut datagram = Place::empty();
    let mut sequence = FIRST;
    bencher.bench_local(|| {
        sequence += 1;
        library_seal(&key, sequence, black_box(&mut datagram.0));
    });
}

#[divan::bench(args = CIPHERS)]
fn open(bencher: Bencher, cipher: &str) {
    let [mut near, mut far] = sessions(cipher);
    let mut sealed = Place::empty();
    near.sessions().sealing(NOW).expect("there is one").seal_frame(FIRST, &mut sealed.0);
    let Ok(KeyedDatagram::Frame { key, counter }) = parse_keyed(&sealed.0) else { panic!("it is a frame") };
    bencher.with_inputs(|| sealed.clone()).bench_local_values(|mut datagram| {
        let opened = far.sessions().open(NOW, key, Space::Frame, counter, black_box(&mut datagram.0));
        opened.expect("authentic").text.len()
    });
}

/// The same by the library alone.
#[divan::bench(args = CIPHERS)]
fn open_by_the_library(bencher: Bencher, cipher: &str) {
    let key = library_key(cipher);
    let mut sealed = Place::empty();
    library_seal(&key, FIRST, &mut sealed.0);
    bencher.with_inputs(|| sealed.clone()).bench_local_values(|mut datagram| {
        let (header, sealed) = datagram.0.split_at_mut(KEYED_HEADER_LENGTH);
        key.open_in_place(nonce(FIRST), Aad::from(&*header), black_box(sealed)).expect("authentic").len()
    });
}

/// One end's side of the keys.
enum Side {
    Box(Box<Initiator>),
    Gateway(Box<Responder>),
}

impl Side {
    fn sessions(&mut self) -> &mut Sessions {
        match self {
            Self::Box(initiator) => initiator.sessions(),
            Self::Gateway(responder) => responder.sessions(0),
        }
    }
}

/// The box's and the gateway's, agreed upon.
fn sessions(cipher: &str) -> [Side; 2] {
    let mut host = CountingHost::default();
    let [Security::Box(mut initiator), Security::Gateway(mut responder)] =
        securities(&mut host, Ciphers::only(known(cipher)))
    else {
        panic!("a box and a gateway")
    };
    let position = Position { frame: FIRST, control: 1 };
    initiator.on_timeout(NOW, &mut host, UplinkSet::only(uplink()), position);
    let question = initiator.poll_transmit().expect("it asks at once").bytes;
    let source = (Ipv4Addr::LOCALHOST, 1000).into();
    let granted = responder.on_initiation(NOW, &mut host, source, &question, |_| position).expect("it is let in");
    initiator.on_response(NOW, &mut host, uplink(), &granted.answer).expect("it is the answer");
    responder.sessions(0).confirm();
    [Side::Box(initiator), Side::Gateway(responder)]
}

fn known(cipher: &str) -> Cipher {
    Cipher::ALL.into_iter().find(|known| known.name() == cipher).expect("one of them")
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
        let mut host = CountingHost::default();
        let [initiator, responder] = securities(&mut host, Ciphers::only(known(cipher)));
        let mut ends = [
            Endpoint::new(vec![tunnel(NOW, Role::Box)], initiator),
            Endpoint::new(vec![tunnel(NOW, Role::Gateway)], responder),
        ];
        ends[BOX].handle_uplink_attached(NOW, uplink());
        Self { ends, host }
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
