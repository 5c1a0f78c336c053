//! The simulator: the second shell of the core. A virtual clock, model links, and an oracle that sees everything.

pub mod link;
pub mod random;
pub mod shaper;

/// Time in a simulated world, in nanoseconds since it began.
pub type Nanoseconds = u64;
