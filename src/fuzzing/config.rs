//! Command lines and configuration files, of both ends.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::time::Duration;

use crate::cli::keys::KeyFile;
use crate::cli::{ReadFiles, Request, UsageError, parse_box_with, parse_gateway_with};
use crate::config::{
    BOXES_MAX, BoxConfig, BoxEntry, BoxSecurity, GatewayConfig, GatewaySecurity, Mtu, ProcessConfig, SealConfig, Share,
    TunnelConfig, UplinkConfig,
};
use crate::proto::scheduler::{Mode, PrimaryReselect};

/// One command line, and the file that it may name.
///
/// The first byte of `input` says which end: `g` is the gateway's. Arguments follow, each with a zero byte behind it,
/// as in `/proc/PID/cmdline`. What is left is the file, whatever `--config` calls it; if nothing is, there is none.
/// Files with keys hold what they are called, save for a letter in front.
///
/// # Panics
/// If what is accepted is not what the help promises, or what is refused is not told in one line.
pub fn config(input: &[u8]) {
    let Some((role, rest)) = input.split_first() else { return };
    let mut words: Vec<&[u8]> = rest.split(|byte| *byte == 0).collect();
    let text = words.pop().unwrap_or_default();
    let files = FakeFiles { text };
    let program: OsString = if *role == b'g' { "braid-gateway" } else { "braid-box" }.into();
    let arguments = words.into_iter().map(|word| OsString::from_vec(word.to_vec()));
    let arguments = std::iter::once(program).chain(arguments).collect();
    if *role == b'g' {
        check(parse_gateway_with(arguments, &files), check_gateway);
    } else {
        check(parse_box_with(arguments, &files), check_box);
    }
}

struct FakeFiles<'a> {
    text: &'a [u8],
}

impl ReadFiles for FakeFiles<'_> {
    fn config(&self, _path: &Path) -> io::Result<String> {
        match self.text {
            [] => Err(io::ErrorKind::NotFound.into()),
            text => String::from_utf8(text.to_vec()).map_err(|_| io::ErrorKind::InvalidData.into()),
        }
    }

    /// The first letter of its name says what it is: `k` a file as it should be, `o` one that is open to others, `d` a
    /// folder, `n` one with a line break behind the key.
    fn key(&self, path: &Path) -> io::Result<KeyFile> {
        let (kind, contents) = path.as_os_str().as_bytes().split_first().ok_or(io::ErrorKind::NotFound)?;
        let end: &[u8] = if *kind == b'n' { b"\n" } else { b"" };
        let mode = match kind {
            b'k' | b'd' | b'n' => 0o600,
            b'o' => 0o640,
            _ => return Err(io::ErrorKind::PermissionDenied.into()),
        };
        Ok(KeyFile { is_regular: *kind != b'd', mode, contents: [contents, end].concat().into() })
    }
}

fn check<C>(outcome: Result<Request<C>, UsageError>, check_config: impl FnOnce(&C)) {
    match outcome {
        Ok(Request::Run(config)) => check_config(&config),
        Ok(Request::Show(text)) => assert!(text.starts_with("braid-") || text.contains("Usage:"), "{text}"),
        Err(error) => check_line(&error.to_string()),
    }
}

/// Says something, and fits in one line of a log.
fn check_line(line: &str) {
    assert!(!line.trim().is_empty());
    assert!(!line.contains(char::is_control), "{line:?}");
}

fn check_gateway(config: &GatewayConfig) {
    check_process(&config.process);
    match &config.security {
        GatewaySecurity::Plaintext(tunnel) => {
            assert_eq!(config.share, Share::ALL);
            check_tunnel(tunnel);
        }
        GatewaySecurity::Sealed { seal, boxes } => check_boxes(seal, boxes, config.share),
    }
    assert!(config.share.index < config.share.of);
    assert_ne!(config.listen.port(), 0);
}

fn check_boxes(seal: &SealConfig, boxes: &[BoxEntry], share: Share) {
    assert!(!boxes.is_empty());
    assert!(boxes.iter().filter(|entry| share.has(entry.peer.hint())).count() <= BOXES_MAX);
    for (index, entry) in boxes.iter().enumerate() {
        check_tunnel(&entry.tunnel);
        assert_ne!(entry.peer, seal.private_key.public());
        for other in &boxes[..index] {
            assert!(other.name != entry.name && other.peer != entry.peer && other.tunnel.tap != entry.tunnel.tap);
        }
    }
}

fn check_box(config: &BoxConfig) {
    check_process(&config.process);
    check_tunnel(&config.tunnel);
    if let BoxSecurity::Sealed { seal, peer, rekey_interval, .. } = &config.security {
        assert!((Duration::from_secs(1)..=Duration::from_secs(120)).contains(rekey_interval));
        assert_ne!(*peer, seal.private_key.public());
    }
    assert_ne!(config.gateway.port, 0);
    assert!(!config.gateway.host.is_empty());
    assert!((1..=16).contains(&config.uplinks.len()));
    for (index, uplink) in config.uplinks.iter().enumerate() {
        check_uplink(uplink);
        assert!(config.uplinks[..index].iter().all(|other| other.name != uplink.name), "{} twice", uplink.name);
    }
    assert_eq!(config.usage_file.is_some(), config.uplinks.iter().any(|uplink| uplink.budget.is_some()));
    let primary = config.tunnel.scheduler.primary;
    assert!(primary.is_none_or(|primary| config.uplinks.iter().any(|uplink| uplink.name == primary)));
}

fn check_uplink(uplink: &UplinkConfig) {
    check_interface(uplink.device.as_str());
    assert!((1..=15).contains(&uplink.name.as_str().len()));
    assert!(uplink.name.as_str().bytes().all(|byte| byte.is_ascii_graphic()));
    assert!(uplink.weight >= 1);
    assert!(uplink.budget.is_none_or(|budget| budget.bytes >= 1_000_000 && (1..=28).contains(&budget.day)));
}

fn check_process(config: &ProcessConfig) {
    let (millisecond, second) = (Duration::from_millis(1), Duration::from_secs(1));
    assert!(matches!(config.mtu, Mtu::Auto | Mtu::Fixed(576..=9000)));
    assert!((5 * millisecond..=second).contains(&config.probe_interval.unwrap_or(second)));
    assert!(config.busy_poll <= second);
}

fn check_tunnel(config: &TunnelConfig) {
    let (millisecond, second) = (Duration::from_millis(1), Duration::from_secs(1));
    check_interface(config.tap.as_str());
    for address in &config.addresses {
        assert!(address.prefix_length <= if address.address.is_ipv4() { 32 } else { 128 });
    }
    assert!(config.window.longest.is_none_or(|window| (millisecond..=2 * second).contains(&window)));
    let scheduler = &config.scheduler;
    assert!(scheduler.packets_per_uplink.get() == 1 || scheduler.mode == Mode::BalanceRr);
    assert!(scheduler.primary.is_none() || scheduler.mode == Mode::ActiveBackup);
    assert!(scheduler.primary_reselect == PrimaryReselect::Always || scheduler.primary.is_some());
}

fn check_interface(name: &str) {
    assert!((1..=15).contains(&name.len()) && name != "." && name != "..");
    assert!(name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/' && byte != b':'), "{name}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_corpus_passes() {
        crate::fuzzing::replay("config", 29, config);
    }
}
