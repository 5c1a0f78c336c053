//! The shell: the only place that touches the kernel.
//!
//! [`run_box`] and [`run_gateway`] open what the configuration names, put the core in the middle, and run the
//! reactor until a signal comes.
//!
//! ## Chosen by measurement
//!
//! Two cores of a virtual machine, Linux 6.18, both ends over two veth uplinks in `balance-rr`. CPU of both ends in
//! core-seconds per GB: of one TCP stream at full speed, and of single datagrams of 1,300 bytes at 800 Mbit/s. Medians of
//! three or four runs in turn; they differ by 10% among themselves.
//!
//! | | TCP | single datagrams | what else |
//! |---|--:|--:|---|
//! | **as it is**: super-frames, runs, one waiting read, registered buffers, 128 large slots provided | 0.86 | 2.99 | 45 MiB an end |
//! | without any offload (`--offload none`) | 5.4 | 4.4 | 18 MiB |
//! | buffers not registered: READ instead of READ_FIXED | 0.91 | 3.18 | 24 MiB; registering is worth it for single frames |
//! | READ_MULTISHOT into a ring of provided buffers | 0.82 | 3.35 | 57 MiB; not before Linux 6.7, so it would come beside, not instead |
//! | up to 64 reads that all wait | 0.95 | 3.06 | 3.7% of a core at 20 Mbit/s against 3.6%: each frame wakes them all |
//! | 32 large slots provided, or 512 | 0.88, 0.86 | 3.14, 3.00 | 39 or 71 MiB |
//! | 8 reads at a time instead of 64 | 0.86 | 3.05 | |
//!
//! Measured by themselves: SENDMSG_ZC takes 354 ns a datagram where SENDMSG takes 254 (44 to a run), and 5,050 against
//! 3,420 alone: what veth and most NICs' drivers copy anyway is not worth pinning. WRITE_FIXED is no faster than WRITE, so
//! writes to the TAP are all gathered (WRITEV). Busy polling that only spins had two ends and `ping` on two cores wait
//! 2,040 µs for one another, where 60 are enough if the spinning end yields.

mod buffers;
mod control_message;
mod datagram_port;
mod hardware_address;
mod links;
mod memory;
mod mtu;
mod netlink;
mod privileges;
mod provided;
mod reactor;
mod ring;
mod status;
mod steering;
mod sys;
mod tap;
mod tap_port;
mod token;
mod uplink_socket;

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

use buffers::Lease;
use links::Links;
use netlink::LinkWatcher;
use privileges::Needs;
use reactor::{Parts, Reactor, StopError};
use tap::Tap;
use tap_port::reading::OutboundFrame;
use uplink_socket::GatewaySocket;

use crate::config::{
    BoxConfig, BoxSecurity, GatewayConfig, GatewaySecurity, HostPort, Mtu, Offloads, ProcessConfig, TunnelConfig,
};
use crate::proto::tunnel::peer::epoch;
use crate::proto::tunnel::{Role, Settings, UplinkSettings};
use crate::proto::wire::FRAME_OVERHEAD_MAX;

/// The core, as it is driven here: it sends what the TAP has read, and receives what the sockets have.
type Tunnel = crate::proto::tunnel::Tunnel<Lease, OutboundFrame>;

/// Why a run ended, or never began: one line, with what to do.
#[derive(Debug)]
pub struct RunError(String);

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for RunError {}

impl RunError {
    fn from_display(error: impl fmt::Display) -> Self {
        Self(error.to_string())
    }
}

/// Runs a box until SIGTERM or SIGINT.
///
/// # Errors
/// Why it could not start, or had to stop.
pub fn run_box(config: &BoxConfig) -> Result<(), RunError> {
    if matches!(config.security, BoxSecurity::Sealed { .. }) {
        privileges::hide_memory().map_err(RunError::from_display)?;
    }
    let gateways = resolve(&config.gateway)?;
    let mtu = mtu::for_box(config, &gateways);
    let watcher =
        LinkWatcher::open().map_err(|error| RunError(format!("cannot listen for news of the interfaces: {error}")))?;
    let offloads = usable(config.process.offloads);
    let links = Links::for_box(&config.uplinks, gateways, watcher, mtu::bound(config.process.mtu, mtu), offloads.gro);
    let uplinks = config.uplinks.iter().map(|uplink| UplinkSettings { name: uplink.name, weight: uplink.weight });
    let (uplinks, links) = (uplinks.collect(), links.map_err(RunError::from_display)?);
    run(&config.process, &config.tunnel, Role::Box, mtu, offloads, uplinks, links)
}

/// Runs a gateway until SIGTERM or SIGINT.
///
/// # Errors
/// Why it could not start, or had to stop.
pub fn run_gateway(config: &GatewayConfig) -> Result<(), RunError> {
    if matches!(config.security, GatewaySecurity::Sealed { .. }) {
        privileges::hide_memory().map_err(RunError::from_display)?;
    }
    let GatewaySecurity::Plaintext(tunnel) = &config.security else {
        return Err(RunError("sealed tunnels are not built yet".to_owned()));
    };
    let mtu = mtu::for_gateway(config);
    let offloads = usable(config.process.offloads);
    let socket = sys::retry_while(libc::EADDRINUSE, || GatewaySocket::open(config.listen, offloads.gro, config.share))
        .map_err(|error| explain_listen(config, &error))?;
    let links = Links::for_gateway(socket, mtu::bound(config.process.mtu, mtu));
    run(&config.process, tunnel, Role::Gateway, mtu, offloads, vec![], links)
}

fn run(
    process: &ProcessConfig,
    config: &TunnelConfig,
    role: Role,
    tap_mtu: u16,
    offloads: Offloads,
    uplinks: Vec<UplinkSettings>,
    links: Links,
) -> Result<(), RunError> {
    // Signals first, so that one that comes while all is being set up is not lost.
    let signals = sys::signals().map_err(|error| RunError(format!("cannot catch signals: {error}")))?;
    pin(process.cpu)?;
    let tap = open_tap(process, config, role, tap_mtu)?;
    let needs = needs(process, role, &tap, &links);
    let settings = settings(process, config, role, tap_mtu, uplinks)?;
    let tunnel = Tunnel::new(sys::monotonic_now(), &settings);
    let frame_length_max = usize::from(tap_mtu) + FRAME_OVERHEAD_MAX;
    let parts = Parts { tunnel, tap, links, signals, frame_length_max, offloads, busy_poll: process.busy_poll };
    let mut reactor = Reactor::new(parts).map_err(RunError::from_display)?;
    reactor.set_tap_up().map_err(|error| RunError(format!("cannot set the TAP '{}' up: {error}", config.tap)))?;
    privileges::drop_all(needs, process.filters_system_calls).map_err(RunError::from_display)?;
    reactor.run(|| announce(config, tap_mtu)).map_err(|error| explain_stop(config, &error))
}

/// What will take privileges while it runs, and at the end.
fn needs(process: &ProcessConfig, role: Role, tap: &Tap, links: &Links) -> Needs {
    Needs {
        reopens_sockets: role == Role::Box,
        changes_mtu: process.mtu == Mtu::Auto,
        gives_back_addresses: tap.gives_back_addresses(),
        leaves_shared_port: links.shares_port(),
    }
}

fn settings(
    process: &ProcessConfig,
    config: &TunnelConfig,
    role: Role,
    tap_mtu: u16,
    uplinks: Vec<UplinkSettings>,
) -> Result<Settings, RunError> {
    let random = sys::random().map_err(|error| RunError(format!("cannot draw a random number: {error}")))?;
    Ok(Settings {
        role,
        epoch: epoch(sys::time_of_day_ms(), random),
        // As the kernel's gretap does.
        first_sequence: 0,
        scheduler: config.scheduler.clone(),
        window: config.window,
        probe_interval: process.probe_interval,
        tap_mtu,
        uplinks,
    })
}

fn open_tap(process: &ProcessConfig, config: &TunnelConfig, role: Role, mtu: u16) -> Result<Tap, RunError> {
    let mut tap = Tap::open(&config.tap, role, process.offloads.tap).map_err(RunError::from_display)?;
    tap.set_mtu(mtu).map_err(|error| RunError(format!("cannot set the MTU of '{}' to {mtu}: {error}", config.tap)))?;
    for cidr in &config.addresses {
        tap.add_address(*cidr).map_err(RunError::from_display)?;
    }
    Ok(tap)
}

/// What this kernel has of the offloads that are wanted for datagrams.
fn usable(wanted: Offloads) -> Offloads {
    let has = |name, wanted, option| {
        let refused = if wanted { uplink_socket::probe_option(option).err() } else { None };
        if let Some(error) = &refused {
            tracing::info!("the kernel has no {name} ({error}): each datagram goes through by itself");
        }
        wanted && refused.is_none()
    };
    Offloads {
        gso: has("UDP_SEGMENT", wanted.gso, libc::UDP_SEGMENT),
        gro: has("UDP_GRO", wanted.gro, libc::UDP_GRO),
        ..wanted
    }
}

fn pin(cpu: Option<usize>) -> Result<(), RunError> {
    let Some(cpu) = cpu else { return Ok(()) };
    sys::pin_to_cpu(cpu).map_err(|error| {
        RunError(format!("cannot pin to CPU {cpu} (--cpu): {error}: choose one that 'nproc' and 'taskset -p $$' allow"))
    })
}

/// Says that frames can flow: to the log, and to whoever started us.
fn announce(config: &TunnelConfig, mtu: u16) {
    tracing::info!(
        "ready: tap={} mtu={mtu} mode={} window={}",
        config.tap,
        config.scheduler.mode.name(),
        config.window.map_or("off".to_owned(), |window| format!("{window:?}")),
    );
    if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
        tracing::debug!("cannot notify the service manager: {error}");
    }
}

fn resolve(gateway: &HostPort) -> Result<Vec<SocketAddr>, RunError> {
    let found = (gateway.host.as_str(), gateway.port).to_socket_addrs().map(Iterator::collect::<Vec<_>>);
    match found {
        Ok(addresses) if !addresses.is_empty() => Ok(addresses),
        Ok(_) => Err(RunError(format!("the gateway '{gateway}' has no address (--gateway)"))),
        Err(error) => Err(RunError(format!(
            "cannot find the gateway '{gateway}' (--gateway): {error}: check the name, or give an address"
        ))),
    }
}

fn explain_listen(config: &GatewayConfig, error: &io::Error) -> RunError {
    let listen = config.listen;
    let advice = match error.raw_os_error() {
        None => return RunError(format!("cannot share {listen} (--listen, --share): {error}")),
        Some(libc::EADDRINUSE) if config.share.of > 1 => {
            "another process has it for itself, has this share, or sees another /sys/fs/bpf (a mount namespace): stop it, \
             give each process a share of its own, or have them see the same"
        }
        Some(libc::EADDRINUSE) => "another process listens there: stop it, or choose another port",
        Some(libc::EADDRNOTAVAIL) => {
            "no interface has that address: use one of 'ip address', or 0.0.0.0 or [::] for all"
        }
        Some(libc::EACCES | libc::EPERM) => "not permitted: ports below 1024 need CAP_NET_BIND_SERVICE",
        _ => "see udp(7)",
    };
    RunError(format!("cannot listen on {listen} (--listen): {error}: {advice}"))
}

fn explain_stop(config: &TunnelConfig, error: &StopError) -> RunError {
    match error {
        StopError::Ring(error) => RunError(format!("io_uring failed: {error}: please report this")),
        StopError::Tap(error) => {
            RunError(format!("the TAP '{}' cannot be read any more: {error}: was it deleted?", config.tap))
        }
    }
}
