//! Where tunnels are compared: two namespaces, joined by two pairs of virtual Ethernet interfaces with all their offloads.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::addresses::{TUNNEL_BOX, TUNNEL_GATEWAY};
use crate::namespaces::{self, create_namespace, ip, join, sysctl};

/// The sender's namespace.
pub const NEAR: &str = "braid-bench-near";
/// The receiver's namespace.
pub const FAR: &str = "braid-bench-far";
/// Both, each with its address in the tunnel.
pub const ENDS: [(&str, Ipv4Addr); 2] = [(NEAR, TUNNEL_BOX), (FAR, TUNNEL_GATEWAY)];
/// The interface of every tunnel, at both ends.
pub const DEVICE: &str = "bench0";
/// Its MTU.
pub const TUNNEL_MTU: u16 = 1400;
/// The interfaces that join the namespaces, of the same names at both ends.
pub const UPLINKS: [&str; 2] = ["u0", "u1"];
/// An address of the receiver's that is reached by either uplink.
pub const FAR_ANY: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);

const UPLINK_MTU: u16 = 1500;
/// Held locked by the process that measures.
const LOCK: &str = "/run/braid-bench.lock";
/// Where keys, settings and logs of tunnels are, for root only.
const FOLDER: &str = "/run/braid-bench";
/// How long the kernel may take to remove the interface of a process that has ended.
const PATIENCE: Duration = Duration::from_secs(3);

/// The sender's address on the first uplink.
pub const NEAR_FIRST: Ipv4Addr = near(0);
/// The receiver's address on the first uplink.
pub const FAR_FIRST: Ipv4Addr = far(0);

const fn near(uplink: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 201, uplink, 1)
}

const fn far(uplink: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 201, uplink, 2)
}

/// The namespaces; removed when dropped.
pub struct Stage {
    _lock: File,
}

impl Stage {
    /// Makes them.
    ///
    /// # Errors
    /// What went wrong.
    pub fn up() -> Result<Self, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("network namespaces need root: run it with sudo".to_owned());
        }
        let stage = Self { _lock: lock()?.ok_or("another bench is running: wait for it, or end it")? };
        // Left by a process that was killed.
        clear()?;
        let made = DirBuilder::new().mode(0o700).create(FOLDER);
        made.map_err(|error| format!("cannot make the folder {FOLDER}: {error}"))?;
        create()?;
        Ok(stage)
    }

    /// Where keys, settings and logs of tunnels may go, until it is down.
    #[must_use]
    pub fn folder(&self) -> &Path {
        Path::new(FOLDER)
    }

    /// Waits until neither end has a tunnel any more, and removes what no process keeps.
    ///
    /// # Errors
    /// What is still there.
    pub fn sweep(&self) -> Result<(), String> {
        let begun = Instant::now();
        while let Some(namespace) = [NEAR, FAR].into_iter().find(|namespace| has_device(namespace)) {
            // One that a process is just letting go of may be gone before it can be removed.
            let _ = ip(&format!("-n {namespace} link del dev {DEVICE}"));
            if begun.elapsed() > PATIENCE {
                return Err(format!("the interface '{DEVICE}' in {namespace} does not go away"));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Err(error) = clear() {
            eprintln!("braid-lab: not all could be removed: {error}");
        }
    }
}

/// Removes what a bench has left that was killed, if none is running.
///
/// # Errors
/// What could not be removed.
pub fn clear_abandoned() -> Result<(), String> {
    lock()?.map_or(Ok(()), |_lock| clear())
}

/// Whether a namespace has the tunnel's interface.
#[must_use]
pub fn has_device(namespace: &str) -> bool {
    ip(&format!("-n {namespace} link show dev {DEVICE}")).is_ok()
}

fn create() -> Result<(), String> {
    for namespace in [NEAR, FAR] {
        create_namespace(namespace)?;
        // Nothing but what is measured is to be heard.
        for which in ["all", "default"] {
            sysctl(namespace, &format!("ipv6.conf.{which}.disable_ipv6=1"))?;
        }
    }
    ip(&format!("-n {FAR} addr add {FAR_ANY}/32 dev lo"))?;
    (0..).zip(UPLINKS).try_for_each(|(number, name)| {
        join((NEAR, name), (FAR, name), UPLINK_MTU)?;
        ip(&format!("-n {NEAR} addr add {}/24 dev {name}", near(number)))?;
        ip(&format!("-n {FAR} addr add {}/24 dev {name}", far(number)))?;
        ip(&format!("-n {NEAR} route add {FAR_ANY} via {} dev {name} metric {}", far(number), 100 + number))
    })
}

/// Ends every process in the namespaces, and removes them and what was written.
fn clear() -> Result<(), String> {
    let existing = namespaces::all()?;
    for namespace in [NEAR, FAR].iter().filter(|name| existing.iter().any(|existing| existing == *name)) {
        namespaces::end_all_in(namespace);
        ip(&format!("netns del {namespace}"))?;
    }
    match fs::remove_dir_all(FOLDER) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(format!("cannot remove {FOLDER}: {error}")),
        _ => Ok(()),
    }
}

/// The lock, if nobody else has it.
fn lock() -> Result<Option<File>, String> {
    let file = File::create(LOCK).map_err(|error| format!("cannot open {LOCK}: {error}"))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(format!("cannot lock {LOCK}: {error}")),
    }
}
