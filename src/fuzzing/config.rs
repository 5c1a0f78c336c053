//! Command lines and configuration files, of both ends.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::time::Duration;

use crate::cli::{Request, UsageError, parse_box_with, parse_gateway_with};
use crate::config::{BoxConfig, GatewayConfig, GatewaySecurity, Mtu, ProcessConfig, TunnelConfig, UplinkConfig};
use crate::proto::scheduler::{Mode, PrimaryReselect};

/// One command line, and the file that it may name.
///
/// The first byte of `input` says which end: `g` is the gateway's. Arguments follow, each with a zero byte behind it,
/// as in `/proc/PID/cmdline`. What is left is the file, whatever `--config` calls it; if nothing is, there is none.
///
/// # Panics
/// If what is accepted is not what the help promises, or what is refused is not told in one line.
pub fn config(input: &[u8]) {
    let Some((role, rest)) = input.split_first() else { return };
    let mut words: Vec<&[u8]> = rest.split(|byte| *byte == 0).collect();
    let text = words.pop().unwrap_or_default();
    let read = |_: &Path| match text {
        [] => Err(io::ErrorKind::NotFound.into()),
        _ => String::from_utf8(text.to_vec()).map_err(|_| io::ErrorKind::InvalidData.into()),
    };
    let program: OsString = if *role == b'g' { "braid-gateway" } else { "braid-box" }.into();
    let arguments = words.into_iter().map(|word| OsString::from_vec(word.to_vec()));
    let arguments = std::iter::once(program).chain(arguments).collect();
    if *role == b'g' {
        check(parse_gateway_with(arguments, read), check_gateway);
    } else {
        check(parse_box_with(arguments, read), check_box);
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
        GatewaySecurity::Plaintext(tunnel) => check_tunnel(tunnel),
        GatewaySecurity::Sealed { boxes, .. } => boxes.iter().for_each(|entry| check_tunnel(&entry.tunnel)),
    }
    assert_ne!(config.listen.port(), 0);
}

fn check_box(config: &BoxConfig) {
    check_process(&config.process);
    check_tunnel(&config.tunnel);
    assert_ne!(config.gateway.port, 0);
    assert!(!config.gateway.host.is_empty());
    assert!((1..=16).contains(&config.uplinks.len()));
    for (index, uplink) in config.uplinks.iter().enumerate() {
        check_uplink(uplink);
        assert!(config.uplinks[..index].iter().all(|other| other.name != uplink.name), "{} twice", uplink.name);
    }
    let primary = config.tunnel.scheduler.primary;
    assert!(primary.is_none_or(|primary| config.uplinks.iter().any(|uplink| uplink.name == primary)));
}

fn check_uplink(uplink: &UplinkConfig) {
    check_interface(uplink.device.as_str());
    assert!((1..=15).contains(&uplink.name.as_str().len()));
    assert!(uplink.name.as_str().bytes().all(|byte| byte.is_ascii_graphic()));
    assert!(uplink.weight >= 1);
}

fn check_process(config: &ProcessConfig) {
    let (millisecond, second) = (Duration::from_millis(1), Duration::from_secs(1));
    assert!(matches!(config.mtu, Mtu::Auto | Mtu::Fixed(576..=9000)));
    assert!((5 * millisecond..=second).contains(&config.probe_interval));
    assert!(config.busy_poll <= second);
}

fn check_tunnel(config: &TunnelConfig) {
    let (millisecond, second) = (Duration::from_millis(1), Duration::from_secs(1));
    check_interface(config.tap.as_str());
    for address in &config.addresses {
        assert!(address.prefix_length <= if address.address.is_ipv4() { 32 } else { 128 });
    }
    assert!(config.window.is_none_or(|window| (millisecond..=2 * second).contains(&window)));
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
        crate::fuzzing::replay("config", 20, config);
    }
}
