//! Looks at this machine for `braidctl doctor`: what the kernel has and permits, and how its networks are.
//!
//! Here it is asked, and tried by what the ends themselves do; what it means is judged by [`crate::braidctl`]. What is made
//! to try goes again before the answer is given.

mod kernel;
mod machine;
mod network;
mod ports;
mod rtnetlink;

pub use kernel::{LockableMemory, RingFacts, ScratchTap, refused_offload, ring, scratch_tap, tun_device};
pub use machine::{Access, Clock, access, allowed_cpus, capabilities, clock, governors, kernel_release, setting};
pub use network::{
    Interface, Way, can_listen, has_route, interfaces, mtu_of_way, returns_by, reverse_path_filter, way,
};
pub use ports::{Holder, holder};

pub use super::mtu::overhead_towards;
pub use super::ring::RingError;
pub use super::tap::TapError;
pub use super::uplink_socket::receive_buffer;

/// CAP_NET_ADMIN, as a set of one (linux/capability.h).
pub const NET_ADMIN: u64 = 1 << 12;
