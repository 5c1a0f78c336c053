//! The TAP: an Ethernet interface whose other end is a file.
//!
//! One that we make goes, with its addresses, when its file is closed. One that was made before, as by `ip tuntap
//! add`, is taken over as it is, and given back without the addresses that we have added; a bridge that it was put into keeps
//! it.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use tun_rs::{DeviceBuilder, Layer, SyncDevice};

use super::hardware_address;
use super::sys::{self, retry_while};
use super::uplink_socket::interface_index;
use crate::config::{Cidr, InterfaceName};
use crate::offload::coalesce::Kinds;
use crate::offload::vnet_header::VNET_HEADER_LENGTH;
use crate::proto::tunnel::Role;

/// Why there is no TAP, with what to do about it.
#[derive(Debug)]
pub struct TapError {
    /// What cannot be done, and what the kernel says.
    pub found: String,
    /// What to do.
    pub advice: Option<String>,
}

impl fmt::Display for TapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.advice {
            Some(advice) => write!(f, "{}: {advice}", self.found),
            None => f.write_str(&self.found),
        }
    }
}

impl std::error::Error for TapError {}

/// An open TAP.
pub struct Tap {
    device: SyncDevice,
    /// Which super-frames it hands out and takes; `None` if its frames are bare.
    pub offloads: Option<Kinds>,
    name: InterfaceName,
    is_persistent: bool,
    added: Vec<IpAddr>,
}

impl Tap {
    /// Makes the interface, down and without addresses, or takes over one that nobody uses; with super-frames, if
    /// wanted and the kernel can.
    ///
    /// # Errors
    /// Why not, and what to do.
    pub fn open(name: &InterfaceName, role: Role, wants_offloads: bool) -> Result<Self, TapError> {
        let device = create(name, wants_offloads).map_err(|error| explain(name, &error))?;
        let offloads = wants_offloads.then(|| Kinds { tcp: device.tcp_gso(), udp: device.udp_gso() });
        let offloads = offloads.filter(|kinds| kinds.tcp);
        let mut tap = Self { device, offloads, name: name.clone(), is_persistent: false, added: vec![] };
        if tap.offloads.is_some() {
            // One that was made before may have had a longer one.
            sys::set_vnet_header_length(tap.as_fd(), VNET_HEADER_LENGTH).map_err(|error| explain(name, &error))?;
        }
        tap.is_persistent = sys::is_persistent_tap(tap.as_fd()).map_err(|error| explain(name, &error))?;
        if !tap.is_persistent {
            tap.set_hardware_address(role);
        }
        Ok(tap)
    }

    fn set_hardware_address(&self, role: Role) {
        let Some(address) = hardware_address::of_this_machine(role, &self.name) else { return };
        if let Err(error) = self.device.set_mac_address(address) {
            tracing::info!("cannot set the hardware address of '{}' ({error}): it is a random one", self.name);
        }
    }

    /// The file.
    #[must_use]
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: The device owns the descriptor and keeps it open as long as it lives, which the borrow cannot
        // outlive.
        unsafe { BorrowedFd::borrow_raw(self.device.as_raw_fd()) }
    }

    /// Makes reads from the file return at once when there is no frame.
    ///
    /// # Errors
    /// What fcntl(2) says.
    pub fn set_nonblocking(&self) -> io::Result<()> {
        self.device.set_nonblocking(true)
    }

    /// The MTU, in bytes.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn mtu(&self) -> io::Result<u16> {
        self.device.mtu()
    }

    /// Sets the MTU, in bytes.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn set_mtu(&self, mtu: u16) -> io::Result<()> {
        self.device.set_mtu(mtu)
    }

    /// Gives the interface an address.
    ///
    /// # Errors
    /// Why not, and what to do.
    pub fn add_address(&mut self, cidr: Cidr) -> Result<(), TapError> {
        let Cidr { address, prefix_length } = cidr;
        let added = match address {
            IpAddr::V4(address) => self.device.add_address_v4(address, prefix_length),
            IpAddr::V6(address) => {
                self.skip_duplicate_address_detection();
                self.device.add_address_v6(address, prefix_length)
            }
        };
        match added {
            Ok(()) => self.added.push(address),
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {}
            Err(error) => {
                let name = &self.name;
                let found = format!("cannot give '{name}' the address {address}/{prefix_length}: {error}");
                return Err(TapError { found, advice: None });
            }
        }
        Ok(())
    }

    /// The far end of a tunnel is not up yet to answer, and a tentative address cannot be used for a second.
    fn skip_duplicate_address_detection(&self) {
        let setting = format!("/proc/sys/net/ipv6/conf/{}/accept_dad", self.name);
        if let Err(error) = std::fs::write(&setting, "0") {
            tracing::debug!("cannot write {setting} ({error}): IPv6 addresses will be tentative for a second");
        }
    }

    /// Whether there will be addresses to take away at the end.
    #[must_use]
    pub const fn gives_back_addresses(&self) -> bool {
        self.is_persistent && !self.added.is_empty()
    }

    /// Puts the interface into a bridge.
    ///
    /// # Errors
    /// Why not, and what to do.
    pub fn join_bridge(&self, bridge: &InterfaceName) -> Result<(), TapError> {
        let joined = interface_index(&self.name).and_then(|index| sys::join_bridge(bridge.as_str(), index));
        match joined {
            // It is there already, as one that was made before may be.
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) && self.is_in(bridge) => Ok(()),
            Err(error) => {
                let advice = match error.raw_os_error() {
                    Some(libc::EBUSY) => "it is in another one: take it out with 'ip link set NAME nomaster'",
                    Some(libc::ENODEV) => "there is no such interface: make it with 'ip link add NAME type bridge'",
                    Some(libc::EOPNOTSUPP) => "it is no bridge",
                    Some(libc::EPERM) => "this needs CAP_NET_ADMIN",
                    _ => "see the kernel's log",
                };
                Err(TapError {
                    found: format!("cannot put '{}' into the bridge '{bridge}' (--bridge): {error}", self.name),
                    advice: Some(advice.to_owned()),
                })
            }
            Ok(()) => Ok(()),
        }
    }

    fn is_in(&self, bridge: &InterfaceName) -> bool {
        let master = std::fs::read_link(format!("/sys/class/net/{}/master", self.name));
        master.is_ok_and(|path| path.file_name().is_some_and(|name| name == bridge.as_str()))
    }

    /// Sets the interface up.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn set_up(&self) -> io::Result<()> {
        self.device.enabled(true)
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        if !self.is_persistent {
            return;
        }
        for address in &self.added {
            if let Err(error) = self.device.remove_address(*address) {
                tracing::warn!("cannot take the address {address} from '{}': {error}", self.name);
            }
        }
    }
}

/// An old kernel, or a file that is no tun(4) after all, may refuse offloads: then without.
fn create(name: &InterfaceName, wants_offloads: bool) -> io::Result<SyncDevice> {
    let build = |offload| {
        let builder = DeviceBuilder::new().name(name.as_str()).layer(Layer::L2);
        builder.packet_information(false).offload(offload).enable(false).build_sync()
    };
    match retry_while(libc::EBUSY, || build(wants_offloads)) {
        Err(error) if wants_offloads && error.raw_os_error() == Some(libc::EINVAL) => {
            let bare = retry_while(libc::EBUSY, || build(false))?;
            tracing::info!("the kernel gives '{name}' no offloads ({error}): each frame goes through by itself");
            Ok(bare)
        }
        other => other,
    }
}

fn explain(name: &InterfaceName, error: &io::Error) -> TapError {
    let advice = match error.raw_os_error() {
        Some(libc::EBUSY) => {
            format!("an interface '{name}' is in use by another process: stop it, or choose another name with --tap")
        }
        Some(libc::EPERM | libc::EACCES) => {
            "this needs CAP_NET_ADMIN and access to /dev/net/tun: run as root, or grant both".to_owned()
        }
        Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => {
            "there is no /dev/net/tun: load the module 'tun', or pass the device into the container".to_owned()
        }
        Some(libc::EINVAL | libc::EEXIST) => {
            format!("'{name}' exists and is not a TAP that can be taken over: choose another name with --tap")
        }
        _ => "see the kernel's log".to_owned(),
    };
    TapError { found: format!("cannot open the TAP '{name}': {error}"), advice: Some(advice) }
}
