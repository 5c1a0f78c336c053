//! What a run needs to know, validated: plain data between [`crate::cli`], which fills it, and [`crate::io`], which obeys it.

mod log;
mod sending;
mod uplink;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::proto::scheduler::SchedulerConfig;
use crate::proto::session::cipher::Cipher;
use crate::proto::session::keys::{PresharedKey, PrivateKey, PublicKey};
use crate::proto::uplink::UplinkName;

pub use log::LogConfig;
pub use sending::{Sending, Window, misplaced};
pub(crate) use sending::{parse_mode, parse_packets_per_uplink, parse_redundancy, parse_reselect};
pub use uplink::{Budget, UplinkChange, UplinkConfig};

/// The UDP port of GRE-in-UDP (RFC 8086 §8).
pub const GRE_IN_UDP_PORT: u16 = 4754;

/// The smallest and the largest MTU of the TAP, in bytes: what every IPv4 host takes (RFC 791), and what a jumbo frame
/// carries.
pub const TAP_MTU_MIN: u16 = crate::proto::uplink::path_mtu::TAP_MTU_MIN;
/// See [`TAP_MTU_MIN`].
pub const TAP_MTU_MAX: u16 = 9000;

/// The longest an interface name can be, in bytes (`IFNAMSIZ` less its terminating zero).
pub const INTERFACE_NAME_MAX: usize = 15;

/// The name of a network interface: 1 to 15 bytes, no `/`, no white space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceName(String);

impl InterfaceName {
    /// Checks `name` by the kernel's rules (`dev_valid_name` in net/core/dev.c).
    ///
    /// # Errors
    /// A sentence that says which rule was broken.
    pub fn new(name: &str) -> Result<Self, String> {
        let length_ok = (1..=INTERFACE_NAME_MAX).contains(&name.len());
        let characters_ok = name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/' && byte != b':');
        if !length_ok || !characters_ok || name == "." || name == ".." {
            return Err(format!(
                "'{name}' is not an interface name: 1 to {INTERFACE_NAME_MAX} printable characters without '/', ':' or spaces"
            ));
        }
        Ok(Self(name.to_owned()))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An address and the length of its network prefix, as in `10.9.0.1/24`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    /// The interface's own address, host bits included.
    pub address: IpAddr,
    /// 0 to 32 (IPv4) or 0 to 128 (IPv6).
    pub prefix_length: u8,
}

/// The MTU of the TAP, in bytes of IP packet (without the Ethernet header).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mtu {
    /// The smallest uplink MTU less the tunnel's overhead.
    Auto,
    /// 576 to 9,000.
    Fixed(u16),
}

/// Where the gateway is, as the user wrote it; resolved when the uplinks are opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// A name or an address (IPv6 without its brackets).
    pub host: String,
    /// The UDP port.
    pub port: u16,
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// What the kernel is asked to do for many packets at once instead of for each (`--offload`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offloads {
    /// The TAP hands out and takes super-frames, and leaves checksums to us (IFF_VNET_HDR, TUNSETOFFLOAD).
    pub tap: bool,
    /// Datagrams of one size for one uplink are sent as one (UDP_SEGMENT, udp(7)).
    pub gso: bool,
    /// Datagrams that come together are received as one (UDP_GRO, udp(7)).
    pub gro: bool,
}

impl Offloads {
    /// Everything.
    pub const ALL: Self = Self { tap: true, gso: true, gro: true };
    /// Nothing.
    pub const NONE: Self = Self { tap: false, gso: false, gro: false };
}

/// Where control sockets are unless told otherwise.
pub const SOCKET_FOLDER: &str = "/run/braid";

/// A control socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlConfig {
    /// Where it is.
    pub path: PathBuf,
    /// Whether the user has asked for it: then it must be there.
    pub is_wanted: bool,
}

/// A flag as it was given.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Flag {
    /// Its name, without dashes.
    pub name: String,
    /// Its value; of a switch `true`.
    pub value: String,
}

/// What a process runs with, whatever tunnels it has.
#[derive(Clone, Debug)]
pub struct ProcessConfig {
    /// The MTU of the TAPs.
    pub mtu: Mtu,
    /// Time between probes on an uplink while traffic flows; what belongs to the mode unless given.
    pub probe_interval: Option<Duration>,
    /// The CPU to pin the reactor to.
    pub cpu: Option<usize>,
    /// How long to spin for events before sleeping; zero sleeps at once.
    pub busy_poll: Duration,
    /// What to leave to the kernel, if it can.
    pub offloads: Offloads,
    /// Who is told what the uplinks carry, if anybody.
    pub capacity_to: Option<SocketAddr>,
    /// What to log, and how.
    pub log: LogConfig,
    /// Where it can be asked and told while it runs; `None` if it cannot.
    pub control: Option<ControlConfig>,
    /// All flags that were given, on the command line or in the file.
    pub flags: Vec<Flag>,
    /// Whether to give up the system calls that are not needed once all is set up. Off only where it is measured what
    /// that costs.
    pub filters_system_calls: bool,
}

/// One tunnel's end.
#[derive(Clone, Debug)]
pub struct TunnelConfig {
    /// The TAP to create.
    pub tap: InterfaceName,
    /// Addresses to give the TAP.
    pub addresses: Vec<Cidr>,
    /// The bridge to put the TAP into, which must be there.
    pub bridge: Option<InterfaceName>,
    /// How frames are spread over the uplinks in the direction that this end sends.
    pub scheduler: SchedulerConfig,
    /// How long received frames may be held.
    pub window: Window,
}

/// What both ends of sealed tunnels need.
#[derive(Clone, Debug)]
pub struct SealConfig {
    /// Who we are.
    pub private_key: PrivateKey,
    /// What frames may be sealed with; `None` takes what this CPU is fast at.
    pub cipher: Option<Cipher>,
}

/// How the box's tunnel is protected.
#[derive(Clone, Debug)]
pub enum BoxSecurity {
    /// Not at all: the user chose so.
    Plaintext,
    /// By keys.
    Sealed {
        /// Our side of it.
        seal: SealConfig,
        /// The gateway's key.
        peer: PublicKey,
        /// What is shared with it beside.
        preshared: PresharedKey,
        /// How long keys are used before new ones are asked for.
        rekey_interval: Duration,
    },
}

/// What `braid-box` runs with.
#[derive(Clone, Debug)]
pub struct BoxConfig {
    /// The process.
    pub process: ProcessConfig,
    /// The tunnel.
    pub tunnel: TunnelConfig,
    /// The far end.
    pub gateway: HostPort,
    /// 1 to [`crate::proto::uplink::UPLINKS_MAX`] uplinks; an uplink's place here is its number on the wire.
    pub uplinks: Vec<UplinkConfig>,
    /// Where it is kept what uplinks have carried, if any of them has a budget.
    pub usage_file: Option<PathBuf>,
    /// The keys, or the choice to have none.
    pub security: BoxSecurity,
}

/// A box that a gateway lets in.
#[derive(Clone, Debug)]
pub struct BoxEntry {
    /// What logs and status call it. Unique among the boxes.
    pub name: UplinkName,
    /// Its key. Unique among the boxes.
    pub peer: PublicKey,
    /// What is shared with it beside.
    pub preshared: PresharedKey,
    /// Its tunnel, with a TAP of its own.
    pub tunnel: TunnelConfig,
}

/// Which boxes a gateway lets in.
#[derive(Clone, Debug)]
pub enum GatewaySecurity {
    /// Whoever comes: the user chose so.
    Plaintext(TunnelConfig),
    /// Those that have keys.
    Sealed {
        /// Our side of it.
        seal: SealConfig,
        /// One or more boxes, of which up to [`BOXES_MAX`] are this process's.
        boxes: Vec<BoxEntry>,
    },
}

/// The most boxes that one gateway process serves.
pub const BOXES_MAX: usize = 64;

/// Which of the processes that share a port this is. [`Share::ALL`] if it has the port to itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Counted from 0.
    pub index: u8,
    /// How many there are, at least 1.
    pub of: u8,
}

impl Share {
    /// One process, and so everything.
    pub const ALL: Self = Self { index: 0, of: 1 };

    /// Whether the box whose key has this hint is in this share.
    #[must_use]
    pub const fn has(self, hint: u32) -> bool {
        hint % self.of as u32 == self.index as u32
    }
}

/// What `braid-gateway` runs with.
#[derive(Clone, Debug)]
pub struct GatewayConfig {
    /// The process.
    pub process: ProcessConfig,
    /// The UDP address to receive on; may be a wildcard.
    pub listen: SocketAddr,
    /// Which part of the boxes is this process's.
    pub share: Share,
    /// The boxes.
    pub security: GatewaySecurity,
}

pub(crate) fn within(duration: Duration, min: Duration, max: Duration) -> Result<Duration, String> {
    if (min..=max).contains(&duration) { Ok(duration) } else { Err(format!("it must be from {min:?} to {max:?}")) }
}
