//! The calling thread's capabilities, capabilities(7).

use std::io;

use super::check;

/// CAP_NET_ADMIN, as a set of one (linux/capability.h).
pub const NET_ADMIN: u64 = 1 << 12;
/// CAP_DAC_READ_SEARCH.
pub const READ_FILES: u64 = 1 << 2;
/// CAP_DAC_OVERRIDE.
pub const WRITE_FILES: u64 = 1 << 1;
/// No capability.
pub const NONE: u64 = 0;

/// Sets of 64 bits (_LINUX_CAPABILITY_VERSION_3).
const VERSION: u32 = 0x2008_0522;
/// Bits in a set.
const CAPABILITIES_MAX: libc::c_ulong = 64;

/// `struct __user_cap_header_struct`.
#[repr(C)]
struct Header {
    version: u32,
    /// 0 is the calling thread.
    thread: i32,
}

/// `struct __user_cap_data_struct`: 32 bits of each set.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Half {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Keeps those of `wanted` that there are, for this program alone, and no others.
///
/// # Errors
/// What prctl(2), capget(2) and capset(2) say.
pub fn keep_only(wanted: u64) -> io::Result<()> {
    empty_bounding()?;
    // SAFETY: PR_CAP_AMBIENT takes numbers and touches no memory of ours.
    check(unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) })?;
    let mut halves = held()?;
    for (half, wanted) in halves.iter_mut().zip([wanted as u32, (wanted >> 32) as u32]) {
        half.permitted &= wanted;
        half.effective = half.permitted;
        half.inheritable = 0;
    }
    let mut header = Header { version: VERSION, thread: 0 };
    // SAFETY: The kernel reads one header and two halves, and writes to the header at most.
    let result = unsafe { libc::syscall(libc::SYS_capset, &raw mut header, halves.as_ptr()) };
    check(result as libc::c_int)
}

/// No program that this one might become may have any. Without CAP_SETPCAP that cannot be done, but then
/// no_new_privs comes to the same.
fn empty_bounding() -> io::Result<()> {
    for capability in 0..CAPABILITIES_MAX {
        // SAFETY: PR_CAPBSET_DROP takes a number and touches no memory of ours.
        let dropped = check(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) });
        match dropped.map_err(|error| (error.raw_os_error(), error)) {
            Ok(()) => {}
            // EINVAL: the kernel knows no more of them.
            Err((Some(libc::EPERM | libc::EINVAL), _)) => break,
            Err((_, error)) => return Err(error),
        }
    }
    Ok(())
}

fn held() -> io::Result<[Half; 2]> {
    let mut header = Header { version: VERSION, thread: 0 };
    let mut halves = [Half::default(); 2];
    // SAFETY: The kernel reads one header, and writes two halves.
    let result = unsafe { libc::syscall(libc::SYS_capget, &raw mut header, halves.as_mut_ptr()) };
    check(result as libc::c_int)?;
    Ok(halves)
}
