//! The pure core: everything that braid decides, and nothing that it touches.
//!
//! Rules of the layer, each held by a test or a lint: no `unsafe`, no file descriptor, no clock (time comes in as
//! [`time::Instant`]), no randomness (it comes in with the configuration, and by [`session::Host`]), no hash order, and
//! no allocation for a packet once [`tunnel::Tunnel::new`] has returned (but once, what parities need, when the first are
//! sent or announced). The reactor and the simulator drive exactly
//! this code.
//!
//! Imports run one way:
//! ```text
//! endpoint ──▶ tunnel, session
//! session ──▶ wire, stats, time, seq, uplink (its names)
//! tunnel ──▶ scheduler ──▶ uplink ──▶ stats, time, seq
//!    │               └─────▶ send (its rules)
//!    ├─────▶ send, receive ──────────▶ stats, time, seq, uplink (its names), wire (the form of feedback)
//!    ├─────▶ wire ───────────────────▶ stats, uplink (its names)
//!    └─────▶ session (the names of its ciphers)
//! ```
#![forbid(unsafe_code)]

pub mod endpoint;
pub mod histogram;
pub mod receive;
pub mod scheduler;
pub mod send;
pub mod seq;
pub mod session;
pub mod stats;
pub mod time;
pub mod tunnel;
pub mod uplink;
pub mod wire;
