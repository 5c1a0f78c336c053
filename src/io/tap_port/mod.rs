//! Frames from and to the TAP, by the ring: [`reading`] and [`writing`].
//!
//! With offloads each read may bring a super-frame, which is cut into frames, and each write may take one, made of
//! frames: see [`crate::offload`].

pub mod reading;
pub mod writing;

/// A TAP's place among the registered files.
#[must_use]
pub const fn file_place(tap: u8) -> u32 {
    tap as u32
}
