//! braid bonds several Internet uplinks into one Ethernet link that never stutters.
pub mod config;
pub mod io;
pub mod proto;
