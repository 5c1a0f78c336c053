//! Frames from and to the TAP, by the ring: [`reading`] and [`writing`].
//!
//! With offloads each read may bring a super-frame, which is cut into frames, and each write may take one, made of
//! frames: see [`crate::offload`].

pub mod reading;
pub mod writing;

/// The TAP's place among the registered files.
pub const FILE_PLACE: u32 = 0;
