//! Where processes that share a port find each other: a folder of the BPF file system.

use std::ffi::{CString, OsStr};
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::bpf::SocketArray;
use super::{Doing, doing};

/// The magic number of the BPF file system (linux/magic.h).
const BPF_FS_MAGIC: u64 = 0xcafe_4a11;
/// Our folder there.
const FOLDER: &str = "braid";

/// The folder.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    file: File,
}

impl Folder {
    /// Opens ours in the BPF file system at `root`; makes either if it is not there.
    ///
    /// # Errors
    /// What could not be done, why, and what to do.
    pub fn open(root: &Path) -> io::Result<Self> {
        mount(root).map_err(doing(Doing::Mount))?;
        let path = root.join(FOLDER);
        match DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(doing(Doing::Folder)(error)),
            _ => {}
        }
        let file = File::open(&path).map_err(doing(Doing::Folder))?;
        // Where anyone may make folders, somebody else's would decide where our datagrams go.
        let owner = file.metadata().map_err(doing(Doing::Folder))?.uid();
        // SAFETY: geteuid(2) touches no memory of ours.
        if owner != unsafe { libc::geteuid() } {
            return Err(doing(Doing::Folder)(io::Error::from_raw_os_error(libc::EACCES)));
        }
        Ok(Self { path, file })
    }

    /// Waits until no other process changes anything here.
    ///
    /// # Errors
    /// What flock(2) says.
    pub fn lock(&self) -> io::Result<()> {
        self.file.lock()
    }

    /// Lets the others go on.
    ///
    /// # Errors
    /// What flock(2) says.
    pub fn unlock(&self) -> io::Result<()> {
        self.file.unlock()
    }

    /// The sockets that `name` stands for, if it is there.
    ///
    /// # Errors
    /// What bpf(2) says.
    pub fn sockets(&self, name: &str) -> io::Result<Option<SocketArray>> {
        match SocketArray::open(&self.path_of(name)?) {
            Ok(sockets) => Ok(Some(sockets)),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Has `name` stand for new sockets, with so many slots, instead of those that it may have stood for.
    ///
    /// # Errors
    /// What bpf(2) says.
    pub fn renew(&self, name: &str, slots: u32) -> io::Result<SocketArray> {
        let sockets = SocketArray::new(slots)?;
        match self.remove(name) {
            Err(error) if error.raw_os_error() != Some(libc::ENOENT) => return Err(error),
            _ => {}
        }
        sockets.pin(&self.path_of(name)?)?;
        Ok(sockets)
    }

    /// Takes `name` away if none of its `sockets` is left, unless somebody is about to join them.
    ///
    /// # Errors
    /// What bpf(2), flock(2) or unlinkat(2) say.
    pub fn tidy(&self, name: &str, sockets: &SocketArray) -> io::Result<()> {
        match self.file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(()),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        if sockets.is_vacant()? {
            self.remove(name)?;
        }
        self.unlock()
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let name = CString::new(name)?;
        // SAFETY: The name is terminated by a zero and outlives the call.
        let result = unsafe { libc::unlinkat(self.file.as_raw_fd(), name.as_ptr(), 0) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    fn path_of(&self, name: &str) -> io::Result<CString> {
        path_to_c(self.path.join(name).as_os_str())
    }
}

/// Mounts the BPF file system if there is none, as service managers do.
fn mount(root: &Path) -> io::Result<()> {
    if is_bpf(root)? {
        return Ok(());
    }
    // Of two that mount at once each would have a file system of its own, and one would hide the other.
    let turn = File::open(root)?;
    turn.lock()?;
    if is_bpf(root)? {
        return Ok(());
    }
    let (target, kind, options) = (path_to_c(root.as_os_str())?, c"bpf", c"mode=0700");
    let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
    // SAFETY: All four strings are terminated by a zero and outlive the call.
    let result = unsafe { libc::mount(kind.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, options.as_ptr().cast()) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    tracing::info!("mounted the BPF file system at {}", root.display());
    Ok(())
}

fn is_bpf(root: &Path) -> io::Result<bool> {
    fs::metadata(root)?;
    let root = path_to_c(root.as_os_str())?;
    // SAFETY: A statfs is plain numbers.
    let mut status: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: The path is terminated by a zero, the kernel writes one statfs to `status`, and both outlive the call.
    let result = unsafe { libc::statfs(root.as_ptr(), &raw mut status) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(status.f_type as u64 & 0xffff_ffff == BPF_FS_MAGIC)
}

fn path_to_c(path: &OsStr) -> io::Result<CString> {
    Ok(CString::new(path.as_bytes())?)
}
