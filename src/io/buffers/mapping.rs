//! Memory from the kernel, page-aligned and given back on drop.

use std::io;
use std::ptr::NonNull;

/// A mapping of zeroed memory, unmapped on drop.
#[derive(Debug)]
pub struct Mapping {
    base: NonNull<u8>,
    length: usize,
}

impl Mapping {
    /// Maps `length` bytes.
    ///
    /// # Errors
    /// What mmap(2) says.
    pub fn new(length: usize) -> io::Result<Self> {
        // SAFETY: An anonymous private mapping at an address of the kernel's choosing touches no memory of ours.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or_else(io::Error::last_os_error)?;
        Ok(Self { base, length })
    }

    /// Where it begins; page-aligned.
    #[must_use]
    pub const fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// How long it is, in bytes.
    #[must_use]
    pub const fn length(&self) -> usize {
        self.length
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: base and length are those of the mapping made in `new`, which nobody else unmaps; whoever holds a
        // pointer into it holds the arena or ring that owns it.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.length) };
    }
}
