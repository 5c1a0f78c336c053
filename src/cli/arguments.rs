//! The flags, and what they are checked for.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{ArgAction, Args, Parser};

use super::boxes::{BoxDescription, check_boxes, parse_box};
use super::keys::{KeyArguments, check_peer, plaintext_excludes, read_preshared_key};
use super::values::{
    ControlChoice, parse_busy_poll, parse_cidr, parse_control, parse_host_port, parse_listen, parse_mtu,
    parse_offloads, parse_probe_interval, parse_rekey_interval, parse_share,
};
use super::{ReadFiles, UsageError};
use crate::config::{
    BoxConfig, BoxEntry, Cidr, ControlConfig, Flag, GatewayConfig, GatewaySecurity, HostPort, InterfaceName, LogConfig,
    Mtu, Offloads, ProcessConfig, SOCKET_FOLDER, SealConfig, Sending, Share, TunnelConfig, UplinkConfig, Window,
    misplaced, parse_mode, parse_packets_per_uplink, parse_redundancy, parse_reselect,
};
use crate::proto::scheduler::{Mode, PrimaryReselect};
use crate::proto::send::redundancy::Rule;
use crate::proto::uplink::{UPLINKS_MAX, UplinkName};

/// Bonds several uplinks into one Ethernet link to a gateway: the end with the uplinks.
#[derive(Debug, Parser)]
#[command(name = "braid-box", version, args_override_self = true, after_help = BOX_EXAMPLE)]
pub(super) struct BoxArguments {
    /// The gateway; the port is 4754 unless given
    #[arg(long, value_name = "HOST[:PORT]", value_parser = parse_host_port)]
    gateway: Option<HostPort>,
    /// An uplink, by its interface; repeat it for each, up to 16. `name` (the interface's unless given) is for logs
    /// and --primary, `source` picks one of several addresses, `weight` (1 to 255) is its share in
    /// balance-rr, and among equally good ones in adaptive. In adaptive, `max-rate` (such as 5mbit) is the most that is
    /// sent by it, and one that is `metered` is used only where the others do not suffice. One that has carried its
    /// `budget` (such as 50gb) is used only where no other can be, until the next `budget-day` of a month (1 to 28, the
    /// 1st unless given; UTC)
    #[arg(
        long,
        value_name = "dev=IF[,name=N][,source=IP][,weight=W][,max-rate=R][,metered][,budget=AMOUNT[,budget-day=N]]",
        value_parser = str::parse::<UplinkConfig>
    )]
    #[arg(action = ArgAction::Append)]
    uplink: Vec<UplinkConfig>,
    /// Where it is kept what uplinks with a `budget` have carried, also when this end does not run; made if it is
    /// missing [default: /var/lib/braid/TAP.usage]
    #[arg(long, value_name = "FILE")]
    usage_file: Option<PathBuf>,
    /// How long keys are used before new ones take their place, 1s to 2m [default: 2m]
    #[arg(long, value_name = "DURATION", value_parser = parse_rekey_interval)]
    rekey_interval: Option<Duration>,
    #[command(flatten)]
    tunnel: TunnelArguments,
}

/// Where it is kept what uplinks have carried, unless told otherwise.
const USAGE_FOLDER: &str = "/var/lib/braid";

/// What logs call the box that has no name.
const ONLY_BOX: &str = "box";

// Not a comment, in which [::] would be a link.
const LISTEN_HELP: &str = "The UDP address to receive on, such as 0.0.0.0:4754, or [::]:4754 for IPv4 and IPv6";

/// Bonds several uplinks into one Ethernet link to a gateway: the gateway's end.
#[derive(Debug, Parser)]
#[command(name = "braid-gateway", version, args_override_self = true, after_help = GATEWAY_EXAMPLE)]
pub(super) struct GatewayArguments {
    /// The UDP address to receive on.
    #[arg(long, help = LISTEN_HELP, value_name = "ADDR:PORT", value_parser = parse_listen)]
    listen: Option<SocketAddr>,
    /// A box to let in, instead of --peer and --tap; repeat it for each, up to 64 a process. More may follow: `address` (may be
    /// repeated), `bridge`, `preshared-key-file`, and `mode` and `window`, which are those of the flags unless given
    #[arg(id = "box", long = "box", value_name = "name=N,peer=PUBKEY,tap=NAME[,KEY=VALUE]...", value_parser = parse_box)]
    #[arg(action = ArgAction::Append)]
    boxes: Vec<BoxDescription>,
    /// Of N processes on the same address, be the I-th, counted from 0: each serves its part of the boxes, so give all
    /// of them the same boxes [default: 0/1]
    #[arg(long, value_name = "I/N", value_parser = parse_share)]
    share: Option<Share>,
    #[command(flatten)]
    tunnel: TunnelArguments,
}

const BOX_EXAMPLE: &str = "Example:\n  \
    braidctl keygen /etc/braid/key    # prints the public key, which the gateway needs as --peer\n  \
    braid-box --gateway 203.0.113.1 --uplink dev=wwan0 --uplink dev=wwan1,name=lte-b \\\n            \
    --tap braid0 --address 10.9.0.1/24 --key-file /etc/braid/key --peer PUBKEY --mode balance-rr";
const GATEWAY_EXAMPLE: &str = "Example:\n  \
    braidctl keygen /etc/braid/key    # prints the public key, which the box needs as --peer\n  \
    braid-gateway --listen 0.0.0.0:4754 --tap braid0 --address 10.9.0.2/24 \\\n                \
    --key-file /etc/braid/key --peer PUBKEY";

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
    /// The bridge to put the TAP into, which must be there
    #[arg(long, value_name = "IF", value_parser = InterfaceName::new)]
    bridge: Option<InterfaceName>,
    #[command(flatten)]
    keys: KeyArguments,
    /// How this end spreads the frames it sends: adaptive, broadcast, balance-rr or active-backup
    #[arg(long, value_name = "MODE", value_parser = parse_mode, default_value = "adaptive")]
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
    /// adaptive: which frames go by two uplinks at once, separated by commas: marked (DSCP CS4 and above), dscp=N, port=N
    /// (TCP or UDP, from or to), small=BYTES (Ethernet frames of up to so many)
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = parse_redundancy)]
    redundancy: Vec<Rule>,
    /// The longest that a received frame may be held to restore order, 1ms to 2s; auto is as long as the uplinks require,
    /// up to 250ms (auto:DURATION up to that); off delivers in order of arrival [default: auto in adaptive, else 40ms]
    #[arg(long, value_name = "DURATION|auto|off", value_parser = str::parse::<Window>)]
    window: Option<Window>,
    /// Time between probes on each uplink while traffic flows, 5ms to 1s [default: 100ms in adaptive, else 20ms]
    #[arg(long, value_name = "DURATION", value_parser = parse_probe_interval)]
    probe_interval: Option<Duration>,
    /// adaptive: tell encoders that adapt their bit rate what the uplinks carry, by UDP to this address, five times a second,
    /// a line of JSON each: capacity_bps, safe_bps, and of each uplink
    #[arg(long, value_name = "ADDR:PORT", value_parser = parse_listen)]
    capacity_to: Option<SocketAddr>,
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
    /// Where braidctl can ask and change this end while it runs: a Unix socket, or off [default: /run/braid/TAP.sock; at a
    /// gateway of several boxes /run/braid/gateway.sock]
    #[arg(long, value_name = "PATH|off", value_parser = parse_control)]
    control: Option<ControlChoice>,
    /// What to log, separated by commas: error, warn, info, debug or trace; the same for a module, such as io=debug; and json
    /// for lines of JSON
    #[arg(long, value_name = "LEVEL[,MODULE=LEVEL]...[,json|text]", value_parser = str::parse::<LogConfig>)]
    #[arg(default_value = "info")]
    log: LogConfig,
    /// Print all flags that hold, as a configuration file, and do nothing else
    #[arg(long)]
    print_config: bool,
}

impl BoxArguments {
    pub(super) fn into_config(self, flags: Vec<Flag>, files: &impl ReadFiles) -> Result<BoxConfig, UsageError> {
        let gateway = self.gateway.ok_or_else(|| missing("--gateway HOST:PORT", "where the gateway is"))?;
        check_uplinks(&self.uplink)?;
        if let Some(primary) = self.tunnel.primary
            && !self.uplink.iter().any(|uplink| uplink.name == primary)
        {
            return Err(UsageError::new(format!(
                "--primary {primary} is none of the uplinks: give one of their names"
            )));
        }
        let tunnel = self.tunnel.tunnel()?;
        let control = self.tunnel.control(tunnel.tap.as_str());
        let process = self.tunnel.process(flags, control);
        let usage_file = usage_file(self.usage_file, &self.uplink, &tunnel)?;
        let security = self.tunnel.keys.box_security(self.rekey_interval, files)?;
        Ok(BoxConfig { process, tunnel, gateway, uplinks: self.uplink, usage_file, security })
    }
}

impl GatewayArguments {
    pub(super) fn into_config(self, flags: Vec<Flag>, files: &impl ReadFiles) -> Result<GatewayConfig, UsageError> {
        let listen =
            self.listen.ok_or_else(|| missing("--listen ADDR:PORT", "where to receive, such as 0.0.0.0:4754"))?;
        let share = self.share.unwrap_or(Share::ALL);
        let control = self.tunnel.control(&self.control_name(share));
        let process = self.tunnel.process(flags, control);
        Ok(GatewayConfig { process, listen, share, security: self.security(files)? })
    }

    /// What the control socket is called unless told otherwise.
    fn control_name(&self, share: Share) -> String {
        match &self.tunnel.tap {
            Some(tap) => tap.as_str().to_owned(),
            None if share == Share::ALL => "gateway".to_owned(),
            None => format!("gateway-{}", share.index),
        }
    }

    fn security(self, files: &impl ReadFiles) -> Result<GatewaySecurity, UsageError> {
        if self.tunnel.keys.is_plaintext()? {
            return match &self {
                Self { share: Some(_), .. } => Err(plaintext_excludes("--share")),
                Self { boxes, .. } if !boxes.is_empty() => Err(plaintext_excludes("--box")),
                _ => Ok(GatewaySecurity::Plaintext(self.tunnel.tunnel()?)),
            };
        }
        if self.boxes.is_empty() {
            return self.tunnel.only_box(files);
        }
        self.tunnel.check_is_for_many()?;
        check_boxes(&self.boxes, self.share.unwrap_or(Share::ALL))?;
        let modes: Vec<Mode> = self.boxes.iter().map(|one| one.mode.unwrap_or(self.tunnel.mode)).collect();
        self.tunnel.check_modes(&modes)?;
        let seal = self.tunnel.keys.seal(files)?;
        let boxes = self.boxes.into_iter().map(|one| self.tunnel.entry(one, &seal, files)).collect::<Result<_, _>>()?;
        Ok(GatewaySecurity::Sealed { seal, boxes })
    }
}

impl TunnelArguments {
    fn process(&self, flags: Vec<Flag>, control: Option<ControlConfig>) -> ProcessConfig {
        ProcessConfig {
            mtu: self.mtu,
            probe_interval: self.probe_interval,
            cpu: self.cpu,
            busy_poll: self.busy_poll,
            capacity_to: self.capacity_to,
            offloads: self.offload,
            log: self.log.clone(),
            control,
            flags,
            filters_system_calls: true,
        }
    }

    /// Where it listens; `name` is for the socket that nobody has named.
    fn control(&self, name: &str) -> Option<ControlConfig> {
        match &self.control {
            Some(ControlChoice(None)) => None,
            Some(ControlChoice(Some(path))) => Some(ControlConfig { path: path.clone(), is_wanted: true }),
            None => {
                Some(ControlConfig { path: Path::new(SOCKET_FOLDER).join(format!("{name}.sock")), is_wanted: false })
            }
        }
    }

    fn sending(&self) -> Sending {
        Sending {
            packets_per_uplink: self.packets_per_uplink,
            primary: self.primary,
            primary_reselect: self.primary_reselect,
            redundancy: self.redundancy.clone(),
        }
    }

    /// The one tunnel.
    fn tunnel(&self) -> Result<TunnelConfig, UsageError> {
        self.check_modes(&[self.mode])?;
        Ok(TunnelConfig {
            tap: self.tap.clone().ok_or_else(|| missing("--tap NAME", "the TAP interface to create"))?,
            addresses: self.address.clone(),
            bridge: self.bridge.clone(),
            scheduler: self.sending().scheduler(self.mode),
            window: self.window(self.mode),
        })
    }

    fn window(&self, mode: Mode) -> Window {
        self.window.unwrap_or(Window::of(mode))
    }

    /// What a gateway has that was told of one box by flags of its own.
    fn only_box(&self, files: &impl ReadFiles) -> Result<GatewaySecurity, UsageError> {
        let peer = self.keys.peer("--peer PUBKEY (or --box)")?;
        let tunnel = self.tunnel()?;
        let seal = self.keys.seal(files)?;
        check_peer(&seal, &peer, "--peer")?;
        let preshared = read_preshared_key(files, self.keys.preshared_key_file())?;
        let name = UplinkName::new(ONLY_BOX).expect("a lawful name");
        Ok(GatewaySecurity::Sealed { seal, boxes: vec![BoxEntry { name, peer, preshared, tunnel }] })
    }

    fn entry(&self, one: BoxDescription, seal: &SealConfig, files: &impl ReadFiles) -> Result<BoxEntry, UsageError> {
        check_peer(seal, &one.peer, &format!("the key of box '{}'", one.name))?;
        let mode = one.mode.unwrap_or(self.mode);
        let window = one.window.unwrap_or(self.window(mode));
        let tunnel = TunnelConfig {
            tap: one.tap,
            addresses: one.addresses,
            bridge: one.bridge,
            scheduler: self.sending().scheduler(mode),
            window,
        };
        let preshared = read_preshared_key(files, one.preshared_key_file.as_deref())?;
        Ok(BoxEntry { name: one.name, peer: one.peer, preshared, tunnel })
    }

    /// What only one box can have must be told with it.
    fn check_is_for_many(&self) -> Result<(), UsageError> {
        let misplaced = match self {
            Self { tap: Some(_), .. } => Some("--tap"),
            Self { bridge: Some(_), .. } => Some("--bridge"),
            Self { address, .. } if !address.is_empty() => Some("--address"),
            _ => self.keys.of_one_peer(),
        };
        misplaced.map_or(Ok(()), |flag| {
            let key = flag.trim_start_matches('-');
            Err(UsageError::new(format!(
                "{flag} is for one box, and boxes are given by --box: write it there, as {key}=... (or in its [[box]])"
            )))
        })
    }

    /// No flag may be given that would do nothing: that is for a mode which no tunnel has.
    fn check_modes(&self, modes: &[Mode]) -> Result<(), UsageError> {
        if self.capacity_to.is_some() && !modes.contains(&Mode::Adaptive) {
            return Err(UsageError::new(misplaced("--capacity-to", Mode::Adaptive, modes)));
        }
        self.sending().check(modes).map_err(UsageError::new)
    }
}

fn missing(flag: &str, what: &str) -> UsageError {
    UsageError::new(format!("{flag} is missing: {what} (see --help)"))
}

fn usage_file(
    given: Option<PathBuf>,
    uplinks: &[UplinkConfig],
    tunnel: &TunnelConfig,
) -> Result<Option<PathBuf>, UsageError> {
    let is_needed = uplinks.iter().any(|uplink| uplink.budget.is_some());
    if given.is_some() && !is_needed {
        return Err(UsageError::new(
            "--usage-file is for uplinks that have a budget, and none has: leave it out, or add budget=... to an --uplink",
        ));
    }
    let usual = || Path::new(USAGE_FOLDER).join(format!("{}.usage", tunnel.tap));
    Ok(is_needed.then(|| given.unwrap_or_else(usual)))
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
