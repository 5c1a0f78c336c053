//! Sealed tunnels: who the other end is, and that nobody else takes part.

pub mod cipher;
pub mod keys;
