//! The flags, and what they are checked for.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, Parser};

use super::UsageError;
use crate::config::{
    BoxConfig, BoxSecurity, Cidr, GRE_IN_UDP_PORT, GatewayConfig, GatewaySecurity, HostPort, InterfaceName, Mtu,
    Offloads, ProcessConfig, Share, TAP_MTU_MAX, TAP_MTU_MIN, TunnelConfig, UplinkConfig,
};
use crate::proto::scheduler::{Mode, PrimaryReselect, SchedulerConfig};
use crate::proto::uplink::{UPLINKS_MAX, UplinkName};
use crate::units::parse_duration;

const WINDOW_MIN: Duration = Duration::from_millis(1);
const WINDOW_MAX: Duration = Duration::from_secs(2);
const PROBE_INTERVAL_MIN: Duration = Duration::from_millis(5);
const PROBE_INTERVAL_MAX: Duration = Duration::from_secs(1);
const BUSY_POLL_MAX: Duration = Duration::from_secs(1);

/// Bonds several uplinks into one Ethernet link to a gateway: the end with the uplinks.
#[derive(Debug, Parser)]
#[command(name = "braid-box", version, args_override_self = true, after_help = BOX_EXAMPLE)]
pub(super) struct BoxArguments {
    /// The gateway; the port is 4754 unless given
    #[arg(long, value_name = "HOST[:PORT]", value_parser = parse_host_port)]
    gateway: Option<HostPort>,
    /// An uplink, by its interface; repeat it for each, up to 16. `name` (the interface's unless given) is for logs
    /// and --primary, `source` picks one of several addresses, `weight` (1 to 255) is for balance-rr
    #[arg(long, value_name = "dev=IF[,name=N][,source=IP][,weight=W]", value_parser = parse_uplink)]
    #[arg(action = ArgAction::Append)]
    uplink: Vec<UplinkConfig>,
    #[command(flatten)]
    tunnel: TunnelArguments,
}

// Not a comment, in which [::] would be a link.
const LISTEN_HELP: &str = "The UDP address to receive on, such as 0.0.0.0:4754, or [::]:4754 for IPv4 and IPv6";

/// Bonds several uplinks into one Ethernet link to a gateway: the gateway's end.
#[derive(Debug, Parser)]
#[command(name = "braid-gateway", version, args_override_self = true, after_help = GATEWAY_EXAMPLE)]
pub(super) struct GatewayArguments {
    /// The UDP address to receive on.
    #[arg(long, help = LISTEN_HELP, value_name = "ADDR:PORT", value_parser = parse_listen)]
    listen: Option<SocketAddr>,
    #[command(flatten)]
    tunnel: TunnelArguments,
}

const BOX_EXAMPLE: &str = "Example:\n  \
    braid-box --gateway 203.0.113.1 --uplink dev=wwan0 --uplink dev=wwan1,name=lte-b \\\n            \
    --tap braid0 --address 10.9.0.1/24 --plaintext --mode balance-rr";
const GATEWAY_EXAMPLE: &str = "Example:\n  \
    braid-gateway --listen 0.0.0.0:4754 --tap braid0 --address 10.9.0.2/24 --plaintext";

#[derive(Debug, Args)]
struct TunnelArguments {
    /// Read flags from this TOML file, too; those on the command line win
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The TAP interface to create
    #[arg(long, value_name = "NAME", value_parser = InterfaceName::new)]
    tap: Option<InterfaceName>,
    /// An address to give the TAP; may be repeated
    #[arg(long, value_name = "CIDR", value_parser = parse_cidr, action = ArgAction::Append)]
    address: Vec<Cidr>,
    /// Run without keys: whoever can send to this end can put frames on its TAP, and whoever is on the way can read
    /// them
    #[arg(long)]
    plaintext: bool,
    /// How this end spreads the frames it sends: broadcast, balance-rr or active-backup
    #[arg(long, value_name = "MODE", value_parser = parse_mode, default_value = "broadcast")]
    mode: Mode,
    /// balance-rr: frames in a row on one uplink, per unit of its weight [default: 1]
    #[arg(long, value_name = "N", value_parser = parse_packets_per_uplink)]
    packets_per_uplink: Option<NonZeroU32>,
    /// active-backup: the uplink to prefer [default: the one with the shortest round trip]
    #[arg(long, value_name = "UPLINK", value_parser = UplinkName::new)]
    primary: Option<UplinkName>,
    /// active-backup: when to go back to the primary: always, better (if its round trip is the shorter) or failure
    /// (only when the active uplink fails) [default: always]
    #[arg(long, value_name = "WHEN", value_parser = parse_reselect)]
    primary_reselect: Option<PrimaryReselect>,
    /// The longest that a received frame may be held to restore order, 1ms to 2s; off delivers in order of arrival
    #[arg(long, value_name = "DURATION|off", value_parser = parse_window, default_value = "40ms")]
    window: Window,
    /// Time between probes on each uplink while traffic flows, 5ms to 1s
    #[arg(long, value_name = "DURATION", value_parser = parse_probe_interval, default_value = "20ms")]
    probe_interval: Duration,
    /// MTU of the TAP, 576 to 9000; auto takes it from the uplinks, and the smaller of both ends'
    #[arg(long, value_name = "auto|N", value_parser = parse_mtu, default_value = "auto")]
    mtu: Mtu,
    /// Run on this CPU only
    #[arg(long, value_name = "N")]
    cpu: Option<usize>,
    /// Spin for this long before sleeping, up to 1s: less latency for more CPU
    #[arg(long, value_name = "DURATION", value_parser = parse_busy_poll, default_value = "0s")]
    busy_poll: Duration,
    /// What to have the kernel do for many packets at once, if it can: tap (super-frames on the TAP), gso (on the way
    /// out to the uplinks), gro (on the way in), separated by commas; or none
    #[arg(long, value_name = "LIST|none", value_parser = parse_offloads, default_value = "tap,gso,gro")]
    offload: Offloads,
    /// What to log: error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL", value_parser = parse_level, default_value = "info")]
    log: tracing::Level,
}

/// `--window`, wrapped so that clap does not take `off` for "not given".
#[derive(Clone, Copy, Debug)]
struct Window(Option<Duration>);

impl BoxArguments {
    pub(super) fn into_config(self) -> Result<BoxConfig, UsageError> {
        let gateway = self.gateway.ok_or_else(|| missing("--gateway HOST:PORT", "where the gateway is"))?;
        check_uplinks(&self.uplink)?;
        if let Some(primary) = self.tunnel.primary
            && !self.uplink.iter().any(|uplink| uplink.name == primary)
        {
            return Err(UsageError::new(format!(
                "--primary {primary} is none of the uplinks: give one of their names"
            )));
        }
        let process = self.tunnel.process();
        let (tunnel, security) = (self.tunnel.into_config()?, BoxSecurity::Plaintext);
        Ok(BoxConfig { process, tunnel, gateway, uplinks: self.uplink, security })
    }
}

impl GatewayArguments {
    pub(super) fn into_config(self) -> Result<GatewayConfig, UsageError> {
        let listen =
            self.listen.ok_or_else(|| missing("--listen ADDR:PORT", "where to receive, such as 0.0.0.0:4754"))?;
        let process = self.tunnel.process();
        let security = GatewaySecurity::Plaintext(self.tunnel.into_config()?);
        Ok(GatewayConfig { process, listen, share: Share::ALL, security })
    }
}

impl TunnelArguments {
    const fn process(&self) -> ProcessConfig {
        ProcessConfig {
            mtu: self.mtu,
            probe_interval: self.probe_interval,
            cpu: self.cpu,
            busy_poll: self.busy_poll,
            offloads: self.offload,
            log: self.log,
            filters_system_calls: true,
        }
    }

    fn into_config(self) -> Result<TunnelConfig, UsageError> {
        self.check_mode()?;
        if !self.plaintext {
            return Err(UsageError::new(
                "a sealed tunnel needs keys, which this version does not have yet: \
                 give --plaintext to run unsealed, on networks that you trust",
            ));
        }
        Ok(TunnelConfig {
            tap: self.tap.ok_or_else(|| missing("--tap NAME", "the TAP interface to create"))?,
            addresses: self.address,
            bridge: None,
            scheduler: SchedulerConfig {
                mode: self.mode,
                packets_per_uplink: self.packets_per_uplink.unwrap_or(NonZeroU32::MIN),
                primary: self.primary,
                primary_reselect: self.primary_reselect.unwrap_or(PrimaryReselect::Always),
            },
            window: self.window.0,
        })
    }

    /// No flag may be given that would do nothing.
    fn check_mode(&self) -> Result<(), UsageError> {
        let misplaced = |flag: &str, mode: Mode| {
            Err(UsageError::new(format!(
                "{flag} is for --mode {} only, and the mode is {}: leave it out",
                mode.name(),
                self.mode.name()
            )))
        };
        let mode = self.mode;
        match self {
            Self { packets_per_uplink: Some(_), .. } if mode != Mode::BalanceRr => {
                misplaced("--packets-per-uplink", Mode::BalanceRr)
            }
            Self { primary: Some(_), .. } if mode != Mode::ActiveBackup => misplaced("--primary", Mode::ActiveBackup),
            Self { primary_reselect: Some(_), .. } if mode != Mode::ActiveBackup => {
                misplaced("--primary-reselect", Mode::ActiveBackup)
            }
            Self { primary_reselect: Some(_), primary: None, .. } => {
                Err(UsageError::new("--primary-reselect says when to go back to --primary, which is not given"))
            }
            _ => Ok(()),
        }
    }
}

fn missing(flag: &str, what: &str) -> UsageError {
    UsageError::new(format!("{flag} is missing: {what} (see --help)"))
}

fn check_uplinks(uplinks: &[UplinkConfig]) -> Result<(), UsageError> {
    if uplinks.is_empty() {
        return Err(missing("--uplink dev=IF", "an interface to send by"));
    }
    if uplinks.len() > UPLINKS_MAX {
        return Err(UsageError::new(format!(
            "{} uplinks are too many: up to {UPLINKS_MAX} can be bonded",
            uplinks.len()
        )));
    }
    for (index, uplink) in uplinks.iter().enumerate() {
        if uplinks[..index].iter().any(|other| other.name == uplink.name) {
            return Err(UsageError::new(format!(
                "two uplinks are called '{}': give each a name of its own (--uplink dev={},name=...)",
                uplink.name, uplink.device
            )));
        }
    }
    Ok(())
}

fn parse_host_port(text: &str) -> Result<HostPort, String> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(HostPort { host: address.ip().to_string(), port: check_port(address.port())? });
    }
    let unbracketed = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    if let Ok(address) = unbracketed.parse::<IpAddr>() {
        return Ok(HostPort { host: address.to_string(), port: GRE_IN_UDP_PORT });
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().map_err(|_| format!("'{port}' is not a port: 1 to 65535"))?),
        None => (text, GRE_IN_UDP_PORT),
    };
    let is_name = !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
    if !is_name {
        return Err(format!("'{host}' is neither a host name nor an address (IPv6 with a port: [2001:db8::1]:4754)"));
    }
    Ok(HostPort { host: host.to_owned(), port: check_port(port)? })
}

fn check_port(port: u16) -> Result<u16, String> {
    if port == 0 { Err("port 0 cannot be sent to: 1 to 65535".to_owned()) } else { Ok(port) }
}

fn parse_listen(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr =
        text.parse().map_err(|_| "write it as ADDRESS:PORT, such as 0.0.0.0:4754 or [::]:4754".to_owned())?;
    check_port(address.port())?;
    Ok(address)
}

fn parse_uplink(text: &str) -> Result<UplinkConfig, String> {
    let (mut device, mut name, mut source, mut weight) = (None, None, None, None);
    for part in text.split(',') {
        let (key, value) = part.split_once('=').ok_or_else(|| format!("'{part}' has no '=': write dev={part}"))?;
        let twice = match key {
            "dev" => device.replace(InterfaceName::new(value)?).is_some(),
            "name" => name.replace(UplinkName::new(value)?).is_some(),
            "source" => {
                let address = value.parse::<IpAddr>().map_err(|_| format!("source '{value}' is not an IP address"))?;
                source.replace(address).is_some()
            }
            "weight" => weight.replace(parse_weight(value)?).is_some(),
            _ => return Err(format!("'{key}' is not known: dev, name, source and weight are")),
        };
        if twice {
            return Err(format!("'{key}' is given twice"));
        }
    }
    let device = device.ok_or("'dev' is missing: which interface?")?;
    let name = match name {
        Some(name) => name,
        None => UplinkName::new(device.as_str()).map_err(|error| format!("{error}: add name=..."))?,
    };
    Ok(UplinkConfig { device, name, source, weight: weight.unwrap_or(1) })
}

fn parse_weight(text: &str) -> Result<u8, String> {
    text.parse()
        .ok()
        .filter(|weight| *weight > 0)
        .ok_or_else(|| format!("weight '{text}' is not a number from 1 to 255"))
}

fn parse_cidr(text: &str) -> Result<Cidr, String> {
    let example = "write it as ADDRESS/LENGTH, such as 10.9.0.1/24";
    let (address, length) = text.split_once('/').ok_or_else(|| format!("the prefix length is missing: {example}"))?;
    let address: IpAddr = address.parse().map_err(|_| format!("'{address}' is not an IP address: {example}"))?;
    let longest = if address.is_ipv4() { 32 } else { 128 };
    let prefix_length = length.parse().ok().filter(|length| *length <= longest);
    let prefix_length = prefix_length.ok_or_else(|| format!("prefix length '{length}' is not from 0 to {longest}"))?;
    Ok(Cidr { address, prefix_length })
}

fn parse_mode(text: &str) -> Result<Mode, String> {
    let known = Mode::ALL.map(Mode::name).join(", ");
    Mode::ALL.into_iter().find(|mode| mode.name() == text).ok_or_else(|| format!("modes are {known}"))
}

fn parse_reselect(text: &str) -> Result<PrimaryReselect, String> {
    let known = PrimaryReselect::ALL.map(PrimaryReselect::name).join(", ");
    let found = PrimaryReselect::ALL.into_iter().find(|reselect| reselect.name() == text);
    found.ok_or_else(|| format!("choices are {known}"))
}

fn parse_packets_per_uplink(text: &str) -> Result<NonZeroU32, String> {
    text.parse().map_err(|_| "write a number from 1 up".to_owned())
}

fn parse_window(text: &str) -> Result<Window, String> {
    if text == "off" {
        return Ok(Window(None));
    }
    within(parse_duration(text)?, WINDOW_MIN, WINDOW_MAX).map(|window| Window(Some(window)))
}

fn parse_probe_interval(text: &str) -> Result<Duration, String> {
    within(parse_duration(text)?, PROBE_INTERVAL_MIN, PROBE_INTERVAL_MAX)
}

fn parse_busy_poll(text: &str) -> Result<Duration, String> {
    within(parse_duration(text)?, Duration::ZERO, BUSY_POLL_MAX)
}

fn within(duration: Duration, min: Duration, max: Duration) -> Result<Duration, String> {
    if (min..=max).contains(&duration) { Ok(duration) } else { Err(format!("it must be from {min:?} to {max:?}")) }
}

fn parse_mtu(text: &str) -> Result<Mtu, String> {
    if text == "auto" {
        return Ok(Mtu::Auto);
    }
    let mtu = text.parse().ok().filter(|mtu| (TAP_MTU_MIN..=TAP_MTU_MAX).contains(mtu));
    mtu.map(Mtu::Fixed).ok_or_else(|| format!("write 'auto', or a number from {TAP_MTU_MIN} to {TAP_MTU_MAX}"))
}

fn parse_offloads(text: &str) -> Result<Offloads, String> {
    let mut offloads = Offloads::NONE;
    if text == "none" {
        return Ok(offloads);
    }
    for name in text.split(',') {
        let offload = match name {
            "tap" => &mut offloads.tap,
            "gso" => &mut offloads.gso,
            "gro" => &mut offloads.gro,
            _ => return Err(format!("'{name}' is no offload: tap, gso and gro are, separated by commas; or none")),
        };
        if std::mem::replace(offload, true) {
            return Err(format!("'{name}' is given twice"));
        }
    }
    Ok(offloads)
}

fn parse_level(text: &str) -> Result<tracing::Level, String> {
    let is_name = ["error", "warn", "info", "debug", "trace"].contains(&text);
    text.parse().ok().filter(|_| is_name).ok_or_else(|| "levels are error, warn, info, debug and trace".to_owned())
}
