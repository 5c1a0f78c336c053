//! The values of flags, each read by itself.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::config::{Cidr, GRE_IN_UDP_PORT, HostPort, Mtu, Offloads, Share, TAP_MTU_MAX, TAP_MTU_MIN, within};
use crate::proto::session::cipher::Cipher;
use crate::units::parse_duration;

const PROBE_INTERVAL_MIN: Duration = Duration::from_millis(5);
const PROBE_INTERVAL_MAX: Duration = Duration::from_secs(1);
const BUSY_POLL_MAX: Duration = Duration::from_secs(1);
const REKEY_INTERVAL_MIN: Duration = Duration::from_secs(1);
/// What keys are used for unless told otherwise, and the longest that they may be, as in WireGuard.
pub(super) const REKEY_INTERVAL_MAX: Duration = Duration::from_secs(120);

/// `--control`, wrapped so that clap does not take `off` for "not given".
#[derive(Clone, Debug)]
pub(super) struct ControlChoice(pub(super) Option<PathBuf>);

/// `--cipher`, wrapped so that clap does not take `auto` for "not given".
#[derive(Clone, Copy, Debug)]
pub(super) struct CipherChoice(pub(super) Option<Cipher>);

pub(super) fn parse_host_port(text: &str) -> Result<HostPort, String> {
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

pub(super) fn parse_listen(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr =
        text.parse().map_err(|_| "write it as ADDRESS:PORT, such as 0.0.0.0:4754 or [::]:4754".to_owned())?;
    check_port(address.port())?;
    Ok(address)
}

pub(super) fn parse_cidr(text: &str) -> Result<Cidr, String> {
    let example = "write it as ADDRESS/LENGTH, such as 10.9.0.1/24";
    let (address, length) = text.split_once('/').ok_or_else(|| format!("the prefix length is missing: {example}"))?;
    let address: IpAddr = address.parse().map_err(|_| format!("'{address}' is not an IP address: {example}"))?;
    let longest = if address.is_ipv4() { 32 } else { 128 };
    let prefix_length = length.parse().ok().filter(|length| *length <= longest);
    let prefix_length = prefix_length.ok_or_else(|| format!("prefix length '{length}' is not from 0 to {longest}"))?;
    Ok(Cidr { address, prefix_length })
}

pub(super) fn parse_probe_interval(text: &str) -> Result<Duration, String> {
    within(parse_duration(text)?, PROBE_INTERVAL_MIN, PROBE_INTERVAL_MAX)
}

pub(super) fn parse_busy_poll(text: &str) -> Result<Duration, String> {
    within(parse_duration(text)?, Duration::ZERO, BUSY_POLL_MAX)
}

pub(super) fn parse_mtu(text: &str) -> Result<Mtu, String> {
    if text == "auto" {
        return Ok(Mtu::Auto);
    }
    let mtu = text.parse().ok().filter(|mtu| (TAP_MTU_MIN..=TAP_MTU_MAX).contains(mtu));
    mtu.map(Mtu::Fixed).ok_or_else(|| format!("write 'auto', or a number from {TAP_MTU_MIN} to {TAP_MTU_MAX}"))
}

pub(super) fn parse_offloads(text: &str) -> Result<Offloads, String> {
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

/// As sockaddr_un has room for, with its terminating zero.
const SOCKET_PATH_MAX: usize = 107;

pub(super) fn parse_control(text: &str) -> Result<ControlChoice, String> {
    match text {
        "off" => Ok(ControlChoice(None)),
        _ if text.is_empty() || text.len() > SOCKET_PATH_MAX => {
            Err(format!("write off, or a path of up to {SOCKET_PATH_MAX} bytes"))
        }
        _ => Ok(ControlChoice(Some(text.into()))),
    }
}

pub(super) fn parse_cipher(text: &str) -> Result<CipherChoice, String> {
    if text == "auto" {
        return Ok(CipherChoice(None));
    }
    let known = Cipher::ALL.map(Cipher::name).join(" and ");
    let found = Cipher::ALL.into_iter().find(|cipher| cipher.name() == text);
    found.map(|cipher| CipherChoice(Some(cipher))).ok_or_else(|| format!("ciphers are {known}; auto takes the faster"))
}

pub(super) fn parse_rekey_interval(text: &str) -> Result<Duration, String> {
    within(parse_duration(text)?, REKEY_INTERVAL_MIN, REKEY_INTERVAL_MAX)
}

pub(super) fn parse_share(text: &str) -> Result<Share, String> {
    let example = "write it as I/N, such as 0/2 and 1/2 for two processes";
    let (index, of) = text.split_once('/').ok_or_else(|| format!("'{text}' has no '/': {example}"))?;
    let number = |text: &str| text.parse::<u8>().map_err(|_| format!("'{text}' is not from 0 to 255: {example}"));
    let (index, of) = (number(index)?, number(of)?);
    if index >= of {
        return Err(format!("of {of} there is no number {index}, as they are counted from 0: {example}"));
    }
    Ok(Share { index, of })
}
