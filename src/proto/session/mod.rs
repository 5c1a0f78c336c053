//! Sealed tunnels: who the other end is, and that nobody else takes part.
//!
//! The box asks for a session ([`initiator`]), the gateway grants it to those it knows ([`responder`]), by messages
//! ([`handshake`]) of one round trip. A session ([`transport`]) is a key for each direction, and the name that either
//! end knows it by, which travels in front of each datagram. Its keys live two minutes; new ones take over while the
//! old ones still open what is on its way. Frames keep their numbers across sessions, and a frame's number is its nonce,
//! so that what restores order also refuses replays.
//!
//! Nothing here is counted or changed because of a datagram that has not been authenticated, but for the count of what
//! was dropped.

pub mod cipher;
pub mod handshake;
pub mod initiator;
pub mod keys;
pub mod limiter;
pub mod responder;
pub mod transport;

use std::time::Duration;

use cipher::Ciphers;
use keys::PrivateKey;

/// What the core cannot have by itself: it comes from the shell.
pub trait Host {
    /// Fills `bytes` with randomness that nobody can guess.
    fn fill_random(&mut self, bytes: &mut [u8]);
    /// The time of day, since 1970; it may be wrong, and may go back.
    fn time_of_day(&mut self) -> Duration;

    /// A number from 0 to `below` - 1; `below` must not be 0.
    fn draw(&mut self, below: u32) -> u32 {
        let mut bytes = [0; 8];
        self.fill_random(&mut bytes);
        (u64::from_be_bytes(bytes) % u64::from(below)) as u32
    }
}

/// What either end of a sealed tunnel is made with.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Who we are.
    pub private_key: PrivateKey,
    /// What we are willing to seal with.
    pub ciphers: Ciphers,
    /// Which start of this end it is: see [`super::tunnel::peer::epoch`].
    pub epoch: u64,
}

/// The names by which an end of a tunnel knows its sessions.
///
/// ```text
/// 31          18 17        8 7       0
/// ┌─────────────┬───────────┬─────────┐
/// │ generation  │  tunnel   │  share  │
/// └─────────────┴───────────┴─────────┘
/// ```
/// The generation counts the handshakes of a tunnel from a random number, and is not 0, so that no name is. The share
/// is that of the process, where several have one port.
#[derive(Clone, Copy, Debug)]
struct Names {
    share: u8,
    tunnel: u16,
    generation: u32,
}

const TUNNEL_BITS: u32 = 10;
const GENERATIONS: u32 = 1 << 14;

/// The most tunnels that names can tell apart.
pub const TUNNELS_MAX: usize = 1 << TUNNEL_BITS;

impl Names {
    fn new(host: &mut impl Host, share: u8, tunnel: usize) -> Self {
        assert!(tunnel < TUNNELS_MAX);
        Self { share, tunnel: tunnel as u16, generation: host.draw(GENERATIONS) }
    }

    const fn next(&mut self) -> u32 {
        self.generation = (self.generation + 1) % GENERATIONS;
        if self.generation == 0 {
            self.generation = 1;
        }
        (self.generation << (TUNNEL_BITS + 8)) | ((self.tunnel as u32) << 8) | self.share as u32
    }

    /// The tunnel that a name is of.
    const fn tunnel_of(name: u32) -> usize {
        ((name >> 8) & (TUNNELS_MAX as u32 - 1)) as usize
    }
}
