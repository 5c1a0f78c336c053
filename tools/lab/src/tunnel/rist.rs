//! librist as the tunnel under test: its ristsender takes datagrams up in the box's namespace and sends them to a peer by
//! each uplink, its ristreceiver hands them out in the gateway's. One way only, and without encryption.
//!
//! ristsender cannot bind a peer to an interface, so each peer is the gateway's address in the network of one provider,
//! to which the box has a route by that provider's uplink and by no other.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::thread;
use std::time::{Duration, Instant};

use braid::units::parse_duration;

use super::{PATIENCE, Tunnel};
use crate::addresses::{Addresses, TRAFFIC_PORT};
use crate::daemon::Daemon;
use crate::namespaces::{BOX, GATEWAY_NAMESPACE};
use crate::program::find;
use crate::scenario::Scenario;
use crate::stream::{Feed, Sink, Source};

/// The Debian package that has both programs.
const PACKAGE: &str = "rist-tools";
const SENDER: &str = "ristsender";
const RECEIVER: &str = "ristreceiver";
/// The gateway's port for all peers.
const PORT: u16 = 8194;
/// As long as librist holds a datagram unless told otherwise (RIST_DEFAULT_RECOVERY_LENGHT_MIN in its headers).
const BUFFER_COMMON: Duration = Duration::from_secs(1);
/// What librist accepts.
const BUFFER_MAX: Duration = Duration::from_secs(30);
/// The weight of each of several peers that share the load equally; 0 has every one of them get everything.
const WEIGHT_SHARED: u32 = 5;
/// What is sent before the traffic that counts, since a receiver begins a flow with the datagram that comes first, and
/// drops what was sent before that by a slower uplink.
const PRELUDE: Feed = Feed::Constant { rate: 1_000_000, size: 1316, duration: Duration::from_millis(300) };
/// How long a link may take to deliver a datagram of the prelude.
const PRELUDE_DELAY_MAX: Duration = Duration::from_secs(1);

/// Which datagrams go to which peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RistMode {
    /// All to every peer.
    Duplicate,
    /// To each its share.
    Share,
}

impl RistMode {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Duplicate => "duplicate",
            Self::Share => "share",
        }
    }

    const fn weight(self) -> u32 {
        match self {
            Self::Duplicate => 0,
            Self::Share => WEIGHT_SHARED,
        }
    }
}

impl FromStr for RistMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = [Self::Duplicate, Self::Share].into_iter().find(|mode| mode.name() == text);
        known.ok_or_else(|| format!("'{text}' is no mode of rist: choose duplicate or share"))
    }
}

/// What it is run with.
#[derive(Clone, Debug)]
pub struct RistOptions {
    /// Which datagrams go to which peers.
    pub mode: RistMode,
    /// How long the receiver holds every datagram, to ask for what is missing meanwhile.
    pub buffer: Duration,
    /// Further flags of the sender.
    pub extra_box: Vec<String>,
    /// Further flags of the receiver.
    pub extra_gateway: Vec<String>,
    /// Whether the uplinks speak IPv6.
    pub ipv6: bool,
    /// Where their logs go.
    pub logs: PathBuf,
}

impl RistOptions {
    /// Those of `--mode` and `--window`, where given; the rest is as it usually is.
    ///
    /// # Errors
    /// Which of them means nothing to rist.
    pub fn parse(mode: Option<&str>, window: Option<&str>, logs: &Path) -> Result<Self, String> {
        let mode =
            mode.map_or(Ok(RistMode::Duplicate), |text| text.parse().map_err(|error| format!("--mode: {error}")))?;
        let buffer = window.map_or(Ok(BUFFER_COMMON), parse_buffer).map_err(|error| format!("--window: {error}"))?;
        Ok(Self { mode, buffer, extra_box: vec![], extra_gateway: vec![], ipv6: false, logs: logs.to_owned() })
    }
}

fn parse_buffer(text: &str) -> Result<Duration, String> {
    let buffer = parse_duration(text)?;
    // A buffer of 0 would be librist's default.
    if buffer.as_millis() == 0 || buffer > BUFFER_MAX || buffer.subsec_nanos() % 1_000_000 != 0 {
        return Err(format!("'{text}' is no buffer of rist: it takes whole milliseconds from 1ms to 30s"));
    }
    Ok(buffer)
}

/// Starts both ends, and waits until every uplink is up and datagrams come out.
///
/// # Errors
/// What went wrong, with what the end in question said last.
pub fn start(scenario: &Scenario, options: &RistOptions) -> Result<Tunnel, String> {
    let uplinks = scenario.uplinks.len();
    let receiver = launch(GATEWAY_NAMESPACE, RECEIVER, receiver_arguments(options), &options.logs)?;
    let sender = launch(BOX, SENDER, sender_arguments(uplinks, options), &options.logs)?;
    let mut tunnel = Tunnel { gateway: receiver, box_end: sender };
    await_peers(&mut tunnel, uplinks)?;
    play_prelude(options)?;
    Ok(tunnel)
}

fn launch(namespace: &str, program: &str, arguments: Vec<String>, logs: &Path) -> Result<Daemon, String> {
    let path = find(program).ok_or_else(|| format!("{program} is not installed: install {PACKAGE}"))?;
    let command = [vec![path.display().to_string()], arguments].concat();
    Daemon::start(namespace, &command, logs.join(format!("{program}.log")))
}

/// One URL, which every peer of the sender finds.
fn receiver_arguments(options: &RistOptions) -> Vec<String> {
    let any = if options.ipv6 { "[::]" } else { "0.0.0.0" };
    let input = format!("rist://@{any}:{PORT}?buffer={}", options.buffer.as_millis());
    let output = format!("udp://{}", hatch());
    [vec!["-i".to_owned(), input, "-o".to_owned(), output], options.extra_gateway.clone()].concat()
}

/// A URL for each uplink, separated by commas.
fn sender_arguments(uplinks: usize, options: &RistOptions) -> Vec<String> {
    let peer = |index: usize| {
        let address = SocketAddr::new(Addresses::of(index).gateway_end[usize::from(options.ipv6)], PORT);
        format!("rist://{address}?buffer={}&weight={}", options.buffer.as_millis(), options.mode.weight())
    };
    let peers = (0..uplinks).map(peer).collect::<Vec<_>>().join(",");
    let input = format!("udp://@{}", hatch());
    [vec!["-i".to_owned(), input, "-o".to_owned(), peers], options.extra_box.clone()].concat()
}

/// Where datagrams go in, in the box's namespace, and where they come out, in the gateway's.
const fn hatch() -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), TRAFFIC_PORT)
}

fn await_peers(tunnel: &mut Tunnel, uplinks: usize) -> Result<(), String> {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        tunnel.check()?;
        if peers_answered(&tunnel.box_end.read_log()) >= uplinks && has_peers(&tunnel.gateway.read_log(), uplinks) {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(20));
    }
    Err(format!("not all uplinks came up; {SENDER} says: {}", tunnel.box_end.last_words()))
}

/// How many peers have answered the sender, by its log.
fn peers_answered(log: &str) -> usize {
    log.matches(" receiver name is now: ").count()
}

/// Whether the receiver has so many peers, by its log.
fn has_peers(log: &str, peers: usize) -> bool {
    log.contains(&format!("has now {peers} peers"))
}

/// Sends a few datagrams that do not count, and waits until all that may come of them has come.
fn play_prelude(options: &RistOptions) -> Result<(), String> {
    let mut sink = Sink::start(GATEWAY_NAMESPACE, hatch(), None)?;
    Source::start(BOX, hatch(), PRELUDE)?.finish()?;
    thread::sleep(options.buffer + PRELUDE_DELAY_MAX);
    match sink.finish()?.is_empty() {
        true => Err("rist's peers have found each other, but no datagram comes out".to_owned()),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(mode: Option<&str>, window: Option<&str>) -> Result<RistOptions, String> {
        RistOptions::parse(mode, window, Path::new("/logs"))
    }

    #[test]
    fn the_sender_has_a_peer_by_each_uplink() {
        let duplicate = options(Some("duplicate"), Some("150ms")).expect("valid");
        let peers = "rist://10.102.0.2:8194?buffer=150&weight=0,rist://10.102.1.2:8194?buffer=150&weight=0";
        assert_eq!(sender_arguments(2, &duplicate), ["-i", "udp://@127.0.0.1:5001", "-o", peers]);
        let share = RistOptions { ipv6: true, ..options(Some("share"), Some("1s")).expect("valid") };
        assert_eq!(sender_arguments(1, &share)[3], "rist://[fd00:66::2]:8194?buffer=1000&weight=5");
    }

    #[test]
    fn the_receiver_listens_once_and_further_flags_come_last() {
        let extra = ["-v", "7"].map(str::to_owned).to_vec();
        let more = RistOptions { extra_gateway: extra, ..options(None, None).expect("valid") };
        let wanted = ["-i", "rist://@0.0.0.0:8194?buffer=1000", "-o", "udp://127.0.0.1:5001", "-v", "7"];
        assert_eq!(receiver_arguments(&more), wanted);
    }

    #[test]
    fn what_means_nothing_to_rist_is_refused() {
        assert!(options(Some("broadcast"), None).is_err_and(|error| error.contains("duplicate or share")));
        for window in ["off", "150", "0ms", "31s", "1500us"] {
            assert!(options(None, Some(window)).is_err_and(|error| error.starts_with("--window: ")), "{window}");
        }
    }

    #[test]
    fn who_has_no_rist_is_told_what_to_install() {
        let missing = launch(GATEWAY_NAMESPACE, "ristpigeon", vec![], Path::new("/logs")).err();
        assert_eq!(missing.as_deref(), Some("ristpigeon is not installed: install rist-tools"));
    }

    #[test]
    fn peers_are_counted_in_what_the_programs_log() {
        let sender = "1.5|0|[INFO] Peer 1 receiver name is now: a\n1.6|0|[INFO] Peer 2 receiver name is now: a\n";
        assert_eq!(peers_answered(sender), 2);
        assert!(has_peers("1.5|0|[INFO] Flow #7 has now 2 peers.\n", 2));
        assert!(!has_peers("1.5|0|[INFO] Flow #7 has now 1 peers.\n", 2));
    }
}
