//! braid bonds several Internet uplinks into one Ethernet link that never stutters.
//!
//! The house, from the bottom up; each layer imports only what stands below it, which `tests/layers.rs` proves:
//!
//! - [`proto`], the pure core: wire format, order, schedulers, uplink states, and the tunnel that composes them. It
//!   does no I/O, reads no clock, and allocates nothing for a packet.
//! - [`offload`], beside it and as pure: cuts super-frames from the TAP into frames, and merges frames into super-frames.
//! - [`units`] and [`config`]: what a run needs to know, as plain validated data.
//! - [`io`], the shell: one io_uring reactor, the TAP, the sockets. The only place with `unsafe`.
//! - [`cli`]: what the user typed, made into a `config`.
//! - [`sim`], the second shell of the core: a virtual clock, model links, and an oracle that sees everything.
//! - [`fuzzing`]: what the fuzzer does to the core and to the parsers, and the tests repeat.
//! - [`run`]: parse, log, run, tell. The binaries of both ends are one call to it.
//! - [`braidctl`]: the operator's tool beside them, which makes keys.
//!
//! ```text
//!   bin/braid-box   bin/braid-gateway     bin/braidctl ──▶ braidctl ──▶ run, cli, proto
//!          └──────┬──────┘
//!                run ──────────┐    fuzzing
//!          ┌──────┴──────┐     │    │     └──▶ sim
//!         cli           io     │    └──▶ cli    │
//!          │ └────┬──────┘│    │                │
//!        units  config ◀──┼────┘                │
//!                 │       ▼                     │
//!                 │    offload                  │
//!                 └─────┬─┘                     │
//!                     proto ◀───────────────────┘
//! ```

pub mod braidctl;
pub mod cli;
pub mod config;
pub mod control;
pub mod fuzzing;
pub mod io;
mod logging;
pub mod offload;
pub mod proto;
pub mod run;
pub mod sim;
pub mod units;
