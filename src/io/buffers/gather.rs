//! Bytes from several places, to be sent or written as one: the iovecs, and what keeps their bytes where they are.

use super::Lease;

/// Leases and the iovecs into them, made once and used again and again.
#[derive(Debug)]
pub struct Gather {
    leases: Vec<Lease>,
    segments: Vec<libc::iovec>,
}

impl Gather {
    /// Room for so many leases and segments.
    #[must_use]
    pub fn new(leases: usize, segments: usize) -> Self {
        Self { leases: Vec::with_capacity(leases), segments: Vec::with_capacity(segments) }
    }

    /// Adds all of a lease's bytes.
    #[inline]
    pub fn push(&mut self, lease: Lease) {
        self.push_segment(lease.address(), lease.length());
        self.leases.push(lease);
    }

    /// Keeps a lease of which only some bytes are to be added, by [`Self::push_segment`].
    #[inline]
    pub fn keep(&mut self, lease: Lease) {
        self.leases.push(lease);
    }

    /// Adds bytes that are a kept lease's, or that somebody else keeps.
    ///
    /// # Panics
    /// If there are as many segments as the gather was made for: the kernel may be reading them where they are.
    #[inline]
    pub fn push_segment(&mut self, address: *mut u8, length: usize) {
        assert!(self.segments.len() < self.segments.capacity(), "a gather does not grow");
        self.segments.push(libc::iovec { iov_base: address.cast(), iov_len: length });
    }

    /// Changes segment number `index`, whose bytes were not known yet when it was added.
    ///
    /// # Panics
    /// If there is none.
    pub fn set_segment(&mut self, index: usize, address: *mut u8, length: usize) {
        self.segments[index] = libc::iovec { iov_base: address.cast(), iov_len: length };
    }

    /// The leases, in the order they were added.
    #[must_use]
    pub fn leases(&self) -> &[Lease] {
        &self.leases
    }

    /// The iovecs. They stay where they are until [`Self::clear`].
    #[must_use]
    pub fn segments(&self) -> &[libc::iovec] {
        &self.segments
    }

    /// Lets go of everything.
    pub fn clear(&mut self) {
        self.leases.clear();
        self.segments.clear();
    }
}
