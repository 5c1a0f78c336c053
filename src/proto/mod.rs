//! The pure core.
#![forbid(unsafe_code)]

pub mod scheduler;
pub mod time;
pub mod uplink;
