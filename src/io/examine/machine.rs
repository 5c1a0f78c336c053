//! What there is besides networks: who we are, the clock, the CPUs, files.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::io::sys;

/// The kernel's release, such as `6.1.0-25-amd64`.
#[must_use]
pub fn kernel_release() -> String {
    read_line("/proc/sys/kernel/osrelease").unwrap_or_default()
}

/// A setting of sysctl(8), by its path below /proc/sys; none where it cannot be read, or this kernel has none.
#[must_use]
pub fn setting(path: &str) -> Option<String> {
    read_line(&format!("/proc/sys/{path}"))
}

fn read_line(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

/// The effective capabilities of this process, a bit each.
#[must_use]
pub fn capabilities() -> u64 {
    own_status("CapEff:").and_then(|text| u64::from_str_radix(&text, 16).ok()).unwrap_or(0)
}

/// The CPUs that this process may run on, in their order.
#[must_use]
pub fn allowed_cpus() -> Vec<usize> {
    let list = own_status("Cpus_allowed_list:").unwrap_or_default();
    list.split(',').filter_map(range).flatten().collect()
}

/// `3` or `0-7`.
fn range(text: &str) -> Option<std::ops::RangeInclusive<usize>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    Some(first.parse().ok()?..=last.parse().ok()?)
}

fn own_status(field: &str) -> Option<String> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|line| line.strip_prefix(field)).map(|value| value.trim().to_owned())
}

/// What the governors of the CPUs are called, each once; none where nothing governs them, as in virtual machines.
#[must_use]
pub fn governors() -> Vec<String> {
    let cpus = fs::read_dir("/sys/devices/system/cpu").into_iter().flatten().flatten();
    let files = cpus.map(|cpu| cpu.path().join("cpufreq/scaling_governor"));
    let mut names: Vec<String> = files.filter_map(|file| read_line(&file.display().to_string())).collect();
    names.sort();
    names.dedup();
    names
}

/// The time of day, and what the kernel thinks of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// In seconds since 1970.
    pub now: u64,
    /// Whether something keeps it right (adjtimex(2)); none if the kernel does not tell.
    pub is_synchronised: Option<bool>,
}

/// Reads the clock.
#[must_use]
pub fn clock() -> Clock {
    // SAFETY: A timex is plain numbers; no modes are set, so it asks and changes nothing.
    let mut state: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: The kernel writes one timex to `state`.
    let result = unsafe { libc::adjtimex(&raw mut state) };
    let is_synchronised = (result >= 0).then_some(result != libc::TIME_ERROR && state.status & libc::STA_UNSYNC == 0);
    Clock { now: sys::time_of_day_ms() / 1000, is_synchronised }
}

/// Whether a file can be written, or made.
#[derive(Debug)]
pub struct Access {
    /// It, or the nearest folder above it that is there.
    pub place: PathBuf,
    /// Why it cannot be written to.
    pub refused: Option<io::Error>,
}

/// Looks whether the file at `path` could be written, or made with the folders that it is in.
#[must_use]
pub fn access(path: &Path) -> Access {
    let nearest = path.ancestors().find(|place| place.as_os_str().is_empty() || place.symlink_metadata().is_ok());
    let place = match nearest {
        Some(place) if !place.as_os_str().is_empty() => place.to_owned(),
        _ => PathBuf::from("."),
    };
    let is_folder = place.is_dir();
    if place != path && !is_folder {
        return Access { place, refused: Some(io::Error::from_raw_os_error(libc::ENOTDIR)) };
    }
    // What is in a folder can be changed only by who may enter it, too.
    let mode = if is_folder { libc::W_OK | libc::X_OK } else { libc::R_OK | libc::W_OK };
    let refused = effective_access(&place, mode).err();
    Access { place, refused }
}

fn effective_access(path: &Path, mode: i32) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: The path is terminated by a zero and outlives the call.
    let result = unsafe { libc::faccessat(libc::AT_FDCWD, path.as_ptr(), mode, libc::AT_EACCESS) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_are_read_as_the_kernel_lists_them() {
        let cpus = |list: &str| list.split(',').filter_map(range).flatten().collect::<Vec<_>>();
        assert_eq!(cpus("0-2,5,7-8"), [0, 1, 2, 5, 7, 8]);
        assert!(cpus("").is_empty());
        assert!(!allowed_cpus().is_empty(), "we run on one");
    }

    #[test]
    fn what_is_not_there_is_made_in_the_nearest_folder_that_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let found = access(&folder.path().join("a/b/c"));
        assert_eq!((found.place.as_path(), found.refused.is_none()), (folder.path(), true));
        let file = folder.path().join("file");
        fs::write(&file, "").expect("written");
        assert!(access(&file).refused.is_none());
        let below = access(&file.join("c")).refused.expect("not a folder");
        assert_eq!(below.raw_os_error(), Some(libc::ENOTDIR));
    }

    #[test]
    fn the_clock_says_what_day_it_is() {
        assert!(clock().now > 1_700_000_000, "{:?}", clock());
    }
}
