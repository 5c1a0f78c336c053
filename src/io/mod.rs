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

mod attendant;
mod buffers;
mod capacity_report;
mod control;
mod control_message;
mod datagram_port;
pub(crate) mod examine;
mod hardware_address;
mod host;
mod kept;
mod links;
mod memory;
mod mtu;
mod netlink;
mod privileges;
mod provided;
mod reactor;
mod ring;
mod sealing;
mod status;
mod steering;
mod sys;
mod tap;
mod tap_port;
mod times;
mod token;
mod uplink_socket;
mod usage;
mod watchdog;

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

pub use attendant::Reread;
use attendant::{Attendant, Removed};
use buffers::Lease;
use capacity_report::CapacityReport;
use control::BoundSocket;
use host::Machine;
use links::Links;
use netlink::LinkWatcher;
use privileges::Needs;
pub(crate) use privileges::hide_memory;
use reactor::{Identity as ProcessIdentity, LiveTunnel, Parts, Reactor, StopError};
use ring::Ring;
use status::TunnelNames;
use tap::Tap;
use tap_port::reading::OutboundFrame;
use uplink_socket::GatewaySocket;
use usage::Usage;

use crate::config::{
    BoxConfig, BoxEntry, BoxSecurity, GatewayConfig, GatewaySecurity, HostPort, Mtu, Offloads, ProcessConfig,
    SealConfig, Share, TunnelConfig,
};
use crate::proto::endpoint::Security;
use crate::proto::session::Identity;
use crate::proto::session::cipher::{Cipher, Ciphers};
use crate::proto::session::initiator::{Initiator, InitiatorSettings};
use crate::proto::session::keys::PublicKey;
use crate::proto::session::responder::{Admitted, Responder};
use crate::proto::tunnel::peer::epoch;
use crate::proto::tunnel::{Role, Settings, UplinkSettings};
use crate::proto::wire::FRAME_OVERHEAD_MAX;

/// The core, as it is driven here: it sends what the TAPs have read, and receives what the sockets have.
type Endpoint = crate::proto::endpoint::Endpoint<Lease, OutboundFrame>;
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
pub fn run_box(config: &BoxConfig, reread: &dyn Fn() -> Reread) -> Result<(), RunError> {
    let company = Company::gather(&config.process, reread)?;
    let gateways = resolve(&config.gateway)?;
    let usage = config.usage_file.as_ref().map(|path| Usage::open(path, &config.uplinks)).transpose();
    let usage = usage.map_err(RunError::from_display)?;
    let mtu = mtu::for_box(config, &gateways);
    let watcher =
        LinkWatcher::open().map_err(|error| RunError(format!("cannot listen for news of the interfaces: {error}")))?;
    let offloads = usable(config.process.offloads);
    let links = Links::for_box(&config.uplinks, gateways, watcher, mtu::bound(config.process.mtu, mtu), offloads.gro);
    let links = links.map_err(RunError::from_display)?;
    let uplinks = config.uplinks.iter().map(|uplink| UplinkSettings {
        name: uplink.name,
        weight: uplink.weight,
        limits: uplink.limits,
    });
    let public_key = match &config.security {
        BoxSecurity::Plaintext => None,
        BoxSecurity::Sealed { seal, .. } => Some(seal.private_key.public()),
    };
    let end = End { process: &config.process, role: Role::Box, mtu, offloads, epoch: draw_epoch()?, public_key };
    let tunnels = [Named { name: String::new(), config: &config.tunnel }];
    let security = match &config.security {
        BoxSecurity::Plaintext => Security::Plaintext,
        BoxSecurity::Sealed { seal, peer, preshared, rekey_interval } => {
            let settings = InitiatorSettings {
                identity: end.identity(seal),
                peer: *peer,
                preshared: preshared.clone(),
                rekey_interval: *rekey_interval,
            };
            Security::Box(Box::new(Initiator::new(&mut Machine, settings)))
        }
    };
    end.run(&tunnels, uplinks.collect(), links, security, usage, company)
}

/// Runs a gateway until SIGTERM or SIGINT.
///
/// # Errors
/// Why it could not start, or had to stop.
pub fn run_gateway(config: &GatewayConfig, reread: &dyn Fn() -> Reread) -> Result<(), RunError> {
    let company = Company::gather(&config.process, reread)?;
    let mtu = mtu::for_gateway(config);
    let offloads = usable(config.process.offloads);
    let public_key = match &config.security {
        GatewaySecurity::Plaintext(_) => None,
        GatewaySecurity::Sealed { seal, .. } => Some(seal.private_key.public()),
    };
    let end = End { process: &config.process, role: Role::Gateway, mtu, offloads, epoch: draw_epoch()?, public_key };
    let (tunnels, security) = match &config.security {
        GatewaySecurity::Plaintext(tunnel) => {
            (vec![Named { name: String::new(), config: tunnel }], Security::Plaintext)
        }
        GatewaySecurity::Sealed { seal, boxes } => {
            let ours: Vec<&BoxEntry> = boxes.iter().filter(|entry| config.share.has(entry.peer.hint())).collect();
            if ours.is_empty() {
                let Share { index, of } = config.share;
                return Err(RunError(format!(
                    "no box is this process's (--share {index}/{of}): leave it out, and have fewer processes share the port"
                )));
            }
            let named = |entry: &&'_ BoxEntry| entry.name.as_str().to_owned();
            let tunnels = ours.iter().map(|entry| Named { name: named(entry), config: &entry.tunnel }).collect();
            let admitted = ours.iter().map(|entry| Admitted { peer: entry.peer, preshared: entry.preshared.clone() });
            let (identity, share) = (end.identity(seal), config.share.index);
            let responder = Responder::new(&mut Machine, identity, share, admitted.collect());
            (tunnels, Security::Gateway(Box::new(responder)))
        }
    };
    let socket = sys::retry_while(libc::EADDRINUSE, || GatewaySocket::open(config.listen, offloads.gro, config.share))
        .map_err(|error| explain_listen(config, &error))?;
    let links = Links::for_gateway(socket, tunnels.len(), mtu::bound(config.process.mtu, mtu));
    end.run(&tunnels, vec![], links, security, None, company)
}

fn draw_epoch() -> Result<u64, RunError> {
    let random = sys::random().map_err(|error| RunError(format!("cannot draw a random number: {error}")))?;
    Ok(epoch(sys::time_of_day_ms(), random))
}

/// A tunnel to be, and what the logs call it.
struct Named<'a> {
    name: String,
    config: &'a TunnelConfig,
}

/// What the tunnels of an end have in common.
struct End<'a> {
    process: &'a ProcessConfig,
    role: Role,
    mtu: u16,
    offloads: Offloads,
    epoch: u64,
    /// Ours; `None` without keys.
    public_key: Option<PublicKey>,
}

impl End<'_> {
    fn identity(&self, seal: &SealConfig) -> Identity {
        let fast = if sys::has_aes() { Ciphers::ALL } else { Ciphers::only(Cipher::ChaCha20Poly1305) };
        let ciphers = seal.cipher.map_or(fast, Ciphers::only);
        Identity { private_key: seal.private_key.clone(), ciphers, epoch: self.epoch }
    }

    fn run(
        &self,
        tunnels: &[Named<'_>],
        uplinks: Vec<UplinkSettings>,
        links: Links,
        security: Security,
        usage: Option<Usage>,
        company: Company,
    ) -> Result<(), RunError> {
        // Before the TAPs, so that a signal that comes while they are being set up is not lost, nor they left behind.
        let signals = sys::signals().map_err(|error| RunError(format!("cannot catch signals: {error}")))?;
        pin(self.process.cpu)?;
        let taps = tunnels.iter().map(|tunnel| self.open_tap(tunnel.config)).collect::<Result<Vec<_>, _>>()?;
        let needs = Needs { is_controlled: company.control.is_some(), ..self.needs(&taps, &links, usage.as_ref()) };
        let now = sys::monotonic_now();
        let made = tunnels.iter().map(|tunnel| Tunnel::new(now, &self.settings(tunnel.config, &uplinks))).collect();
        let names: Vec<String> = tunnels.iter().map(|tunnel| tunnel.name.clone()).collect();
        let capacity_report = self.capacity_report(tunnels)?;
        let parts = Parts {
            endpoint: Endpoint::new(made, security),
            names: TunnelNames::new(&names),
            taps,
            links,
            signals,
            frame_length_max: usize::from(self.mtu) + FRAME_OVERHEAD_MAX,
            offloads: self.offloads,
            busy_poll: self.process.busy_poll,
            capacity_report,
            usage,
            live: tunnels.iter().map(|tunnel| self.live(tunnel, tunnels.len())).collect(),
            identity: ProcessIdentity {
                program: self.role.program(),
                public_key: self.public_key.map(|key| key.to_string()),
            },
            control: company.control,
            attendant: Some(company.attendant),
            flags: self.process.flags.clone(),
        };
        let mut reactor = Reactor::new(parts).map_err(RunError::from_display)?;
        reactor.set_taps_up().map_err(|(number, error)| {
            RunError(format!("cannot set the TAP '{}' up: {error}", tunnels[number].config.tap))
        })?;
        privileges::drop_all(needs, self.process.filters_system_calls).map_err(RunError::from_display)?;
        let announce = || {
            self.announce(tunnels);
            // Not before: what keeps an end from starting is told in one line.
            if let Some(complaint) = company.complaint {
                tracing::warn!("{complaint}: braidctl cannot ask this end");
            }
        };
        reactor.run(announce).map_err(|error| explain_stop(tunnels, &error))
    }

    /// What will take privileges while it runs, and at the end.
    fn needs(&self, taps: &[Tap], links: &Links, usage: Option<&Usage>) -> Needs {
        Needs {
            reopens_sockets: self.role == Role::Box,
            changes_mtu: self.process.mtu == Mtu::Auto,
            gives_back_addresses: taps.iter().any(Tap::gives_back_addresses),
            leaves_shared_port: links.shares_port(),
            is_controlled: false,
            writes_usage: usage.map(Usage::descriptor),
        }
    }

    fn live(&self, tunnel: &Named<'_>, of: usize) -> LiveTunnel {
        LiveTunnel {
            tap: tunnel.config.tap.as_str().to_owned(),
            name: (of > 1).then(|| tunnel.name.clone()),
            scheduler: tunnel.config.scheduler.clone(),
            window: tunnel.config.window,
            probe_interval: self.process.probe_interval,
            cipher: None,
        }
    }

    fn settings(&self, config: &TunnelConfig, uplinks: &[UplinkSettings]) -> Settings {
        Settings {
            role: self.role,
            epoch: self.epoch,
            // As the kernel's gretap does.
            first_sequence: 0,
            scheduler: config.scheduler.clone(),
            window: config.window.longest,
            window_follows: config.window.follows,
            probe_interval: self.process.probe_interval.unwrap_or(config.scheduler.mode.probe_interval()),
            tap_mtu: self.mtu,
            uplinks: uplinks.to_vec(),
        }
    }

    fn open_tap(&self, config: &TunnelConfig) -> Result<Tap, RunError> {
        let mut tap = Tap::open(&config.tap, self.role, self.process.offloads.tap).map_err(RunError::from_display)?;
        tap.set_mtu(self.mtu)
            .map_err(|error| RunError(format!("cannot set the MTU of '{}' to {}: {error}", config.tap, self.mtu)))?;
        for cidr in &config.addresses {
            tap.add_address(*cidr).map_err(RunError::from_display)?;
        }
        if let Some(bridge) = &config.bridge {
            tap.join_bridge(bridge).map_err(RunError::from_display)?;
        }
        Ok(tap)
    }

    fn capacity_report(&self, tunnels: &[Named<'_>]) -> Result<Option<CapacityReport>, RunError> {
        let Some(to) = self.process.capacity_to else { return Ok(None) };
        let taps = tunnels.iter().map(|Named { config, .. }| config.tap.as_str().to_owned()).collect();
        CapacityReport::new(to, taps).map(Some).map_err(|error| {
            RunError(format!(
                "cannot send to {to} (--capacity-to): {error}: give an address that this machine has a route to"
            ))
        })
    }

    /// Says that frames can flow: to the log, and to whoever started us.
    fn announce(&self, tunnels: &[Named<'_>]) {
        for Named { name, config } in tunnels {
            let of = if tunnels.len() > 1 { format!("box={name} ") } else { String::new() };
            tracing::info!(
                "ready: {of}tap={} mtu={} mode={} window={}",
                config.tap,
                self.mtu,
                config.scheduler.mode.name(),
                config.window,
            );
        }
        match self.public_key {
            Some(key) => tracing::info!("our public key is {key}"),
            None => tracing::warn!(
                "--plaintext: whoever can send to this end can put frames on its TAP, and whoever is on the way can read them"
            ),
        }
        if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
            tracing::debug!("cannot notify the service manager: {error}");
        }
    }
}

/// Who else is there while it runs.
struct Company {
    /// Where clients ask and tell.
    control: Option<BoundSocket>,
    /// Why they cannot, though nobody has said that they must not.
    complaint: Option<String>,
    /// Who reads the configuration again.
    attendant: Attendant,
}

impl Company {
    /// Before there is anything that the attendant should not have.
    fn gather(process: &ProcessConfig, reread: &dyn Fn() -> Reread) -> Result<Self, RunError> {
        let (mut control, mut complaint) = (None, None);
        if let Some(wanted) = &process.control {
            match BoundSocket::new(&wanted.path) {
                Ok(bound) => control = Some(bound),
                Err(error) if wanted.is_wanted => return Err(RunError(error)),
                Err(error) => complaint = Some(error),
            }
        }
        let removed_at_end = control.as_ref().and_then(|bound| Removed::at(bound.path.clone()).ok());
        let attendant = Attendant::start(removed_at_end, reread).map_err(|error| {
            RunError(format!("cannot start the process that reads the configuration again: {error}"))
        })?;
        Ok(Self { control, complaint, attendant })
    }
}

/// Has the ring say once when a file is ready for one of `events` (poll(2)).
fn poll(ring: &mut Ring, descriptor: i32, events: libc::c_short, token: token::Token) -> io::Result<()> {
    let entry = io_uring::opcode::PollAdd::new(io_uring::types::Fd(descriptor), events as u32).build();
    let entry = entry.user_data(token.pack());
    // SAFETY: The operation points to no memory.
    unsafe { ring.push(&entry) }
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

fn explain_stop(tunnels: &[Named<'_>], error: &StopError) -> RunError {
    match error {
        StopError::Ring(error) => RunError(format!("io_uring failed: {error}: please report this")),
        StopError::Tap(number, error) => {
            let tap = &tunnels[*number].config.tap;
            RunError(format!("the TAP '{tap}' cannot be read any more: {error}: was it deleted?"))
        }
    }
}
