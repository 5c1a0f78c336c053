//! The simulator: the second shell of the core. A virtual clock, model links, and an oracle that sees everything.
//!
//! A [`plan::Plan`] says what a world is made of and what befalls it; [`draw`] draws one from a seed, [`cases`] has
//! those of the committed table. A [`world::World`] drives two [`Tunnel`](crate::proto::tunnel::Tunnel)s through it,
//! the very code that runs in production, and asks the [`oracle`] about each thing that they do.
//!
//! All is whole numbers, and ties are broken by number, so a seed is the same run on every machine.
//!
//! ```text
//!   cases   draw
//!      └──┬──┘
//!       plan ──▶ world ──▶ end ──▶ oracle ──▶ frame, report
//!         └────────┴──▶ link ──▶ shaper, random
//! ```

pub mod cases;
pub mod draw;
mod end;
pub mod frame;
pub mod link;
pub mod oracle;
pub mod plan;
pub mod random;
pub mod report;
pub mod shaper;
#[cfg(test)]
mod tests;
pub mod world;

/// Time in a simulated world, in nanoseconds since it began.
pub type Nanoseconds = u64;

/// A millisecond of it.
pub const MILLISECOND: Nanoseconds = 1_000_000;
/// A second of it.
pub const SECOND: Nanoseconds = 1_000_000_000;
