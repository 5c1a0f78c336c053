//! The values of flags, each read by itself.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::time::Duration;

use crate::config::{
    Budget, Cidr, GRE_IN_UDP_PORT, HostPort, InterfaceName, Mtu, Offloads, Share, TAP_MTU_MAX, TAP_MTU_MIN,
    UplinkConfig,
};
use crate::proto::scheduler::{Mode, PrimaryReselect};
use crate::proto::send::redundancy::Rule;
use crate::proto::session::cipher::Cipher;
use crate::proto::uplink::Limits;
use crate::proto::uplink::UplinkName;
use crate::units::{parse_amount, parse_duration, parse_rate};

const WINDOW_MIN: Duration = Duration::from_millis(1);
const WINDOW_MAX: Duration = Duration::from_secs(2);
/// 64 kbit/s, in bytes.
const RATE_MAX_MIN: u64 = 8_000;
/// The days of the month on which a budget may begin anew.
const BUDGET_DAYS: (u8, u8) = (1, 28);
const PROBE_INTERVAL_MIN: Duration = Duration::from_millis(5);
const PROBE_INTERVAL_MAX: Duration = Duration::from_secs(1);
const BUSY_POLL_MAX: Duration = Duration::from_secs(1);
const REKEY_INTERVAL_MIN: Duration = Duration::from_secs(1);
/// What keys are used for unless told otherwise, and the longest that they may be, as in WireGuard.
pub(super) const REKEY_INTERVAL_MAX: Duration = Duration::from_secs(120);

/// `--window`: the longest that a frame may be held, if order is to be restored, and whether the window follows what the
/// uplinks require.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    pub(super) longest: Option<Duration>,
    pub(super) follows: bool,
}

impl Window {
    /// What it is where nothing is said.
    pub(super) const fn of(mode: Mode) -> Self {
        let (longest, follows) = mode.window();
        Self { longest: Some(longest), follows }
    }
}

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

pub(super) fn parse_uplink(text: &str) -> Result<UplinkConfig, String> {
    let (mut device, mut name, mut source, mut weight) = (None, None, None, None);
    let (mut rate_max, mut metered) = (None, None);
    let (mut budget, mut budget_day) = (None, None);
    for part in text.split(',') {
        let (key, value) = match part.split_once('=') {
            Some(pair) => pair,
            None if part == "metered" => (part, "true"),
            None => return Err(format!("'{part}' has no '=': write dev={part}")),
        };
        let twice = match key {
            "dev" => device.replace(InterfaceName::new(value)?).is_some(),
            "name" => name.replace(UplinkName::new(value)?).is_some(),
            "source" => {
                let address = value.parse::<IpAddr>().map_err(|_| format!("source '{value}' is not an IP address"))?;
                source.replace(address).is_some()
            }
            "weight" => weight.replace(parse_weight(value)?).is_some(),
            "max-rate" => rate_max.replace(parse_rate_max(value)?).is_some(),
            "metered" => metered.replace(parse_metered(value)?).is_some(),
            "budget" => budget.replace(parse_amount(value)?).is_some(),
            "budget-day" => budget_day.replace(parse_budget_day(value)?).is_some(),
            _ => {
                return Err(format!(
                    "'{key}' is not known: dev, name, source, weight, max-rate, metered, budget and budget-day are"
                ));
            }
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
    let limits = Limits { rate_max, is_metered: metered.unwrap_or(false) };
    if budget.is_none() && budget_day.is_some() {
        return Err(
            "'budget-day' says when 'budget' begins anew, which is not given: add budget=..., such as 50gb".to_owned()
        );
    }
    let budget = budget.map(|bytes| Budget { bytes, day: budget_day.unwrap_or(BUDGET_DAYS.0) });
    Ok(UplinkConfig { device, name, source, weight: weight.unwrap_or(1), limits, budget })
}

fn parse_budget_day(text: &str) -> Result<u8, String> {
    let (first, last) = BUDGET_DAYS;
    let day = text.parse().ok().filter(|day| (first..=last).contains(day));
    day.ok_or_else(|| format!("budget-day '{text}' is not a day that every month has: {first} to {last}"))
}

/// In bytes per second.
fn parse_rate_max(text: &str) -> Result<u64, String> {
    let rate = parse_rate(text)? / 8;
    if rate < RATE_MAX_MIN { Err(format!("'{text}' is less than 64kbit")) } else { Ok(rate) }
}

fn parse_metered(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| format!("metered '{text}' is neither true nor false"))
}

fn parse_weight(text: &str) -> Result<u8, String> {
    text.parse()
        .ok()
        .filter(|weight| *weight > 0)
        .ok_or_else(|| format!("weight '{text}' is not a number from 1 to 255"))
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

pub(super) fn parse_mode(text: &str) -> Result<Mode, String> {
    let known = Mode::ALL.map(Mode::name).join(", ");
    Mode::ALL.into_iter().find(|mode| mode.name() == text).ok_or_else(|| format!("modes are {known}"))
}

pub(super) fn parse_reselect(text: &str) -> Result<PrimaryReselect, String> {
    let known = PrimaryReselect::ALL.map(PrimaryReselect::name).join(", ");
    let found = PrimaryReselect::ALL.into_iter().find(|reselect| reselect.name() == text);
    found.ok_or_else(|| format!("choices are {known}"))
}

pub(super) fn parse_packets_per_uplink(text: &str) -> Result<NonZeroU32, String> {
    text.parse().map_err(|_| "write a number from 1 up".to_owned())
}

pub(super) fn parse_redundancy(text: &str) -> Result<Rule, String> {
    let number = |value: &str, most: u16| {
        let number = value.parse().ok().filter(|number| (1..=most).contains(number));
        number.ok_or_else(|| format!("'{value}' is not a number from 1 to {most}"))
    };
    match text.split_once('=') {
        None if text == "marked" => Ok(Rule::Marked),
        Some(("dscp", value)) => number(value, 63).map(|dscp| Rule::Dscp(dscp as u8)),
        Some(("port", value)) => number(value, u16::MAX).map(Rule::Port),
        Some(("small", value)) => number(value, TAP_MTU_MAX).map(Rule::Small),
        _ => Err("kinds are marked, dscp=N, port=N and small=BYTES".to_owned()),
    }
}

pub(super) fn parse_window(text: &str) -> Result<Window, String> {
    let longest = match text {
        "off" => return Ok(Window { longest: None, follows: false }),
        "auto" => return Ok(Window::of(Mode::Adaptive)),
        text => text.strip_prefix("auto:").unwrap_or(text),
    };
    let longest = within(parse_duration(longest)?, WINDOW_MIN, WINDOW_MAX)?;
    Ok(Window { longest: Some(longest), follows: text.starts_with("auto:") })
}

pub(super) fn parse_probe_interval(text: &str) -> Result<Duration, String> {
    within(parse_duration(text)?, PROBE_INTERVAL_MIN, PROBE_INTERVAL_MAX)
}

pub(super) fn parse_busy_poll(text: &str) -> Result<Duration, String> {
    within(parse_duration(text)?, Duration::ZERO, BUSY_POLL_MAX)
}

fn within(duration: Duration, min: Duration, max: Duration) -> Result<Duration, String> {
    if (min..=max).contains(&duration) { Ok(duration) } else { Err(format!("it must be from {min:?} to {max:?}")) }
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

pub(super) fn parse_level(text: &str) -> Result<tracing::Level, String> {
    let is_name = ["error", "warn", "info", "debug", "trace"].contains(&text);
    text.parse().ok().filter(|_| is_name).ok_or_else(|| "levels are error, warn, info, debug and trace".to_owned())
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
