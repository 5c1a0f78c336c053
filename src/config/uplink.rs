//! The box's uplinks, as the user writes them.

use std::net::IpAddr;
use std::str::FromStr;

use super::InterfaceName;
use crate::proto::uplink::{Limits, UplinkName};
use crate::units::{parse_amount, parse_rate};

/// 64 kbit/s, in bytes.
const RATE_MAX_MIN: u64 = 8_000;
/// The days of the month on which a budget may begin anew.
const BUDGET_DAYS: (u8, u8) = (1, 28);

/// One uplink of the box.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UplinkConfig {
    /// The interface the socket is bound to.
    pub device: InterfaceName,
    /// What logs and status call it; the device's name unless given. Unique among the uplinks.
    pub name: UplinkName,
    /// The source address, if the interface has several.
    pub source: Option<IpAddr>,
    /// Its share in `balance-rr`, 1 to 255.
    pub weight: u8,
    /// How far it may be used in `adaptive`.
    pub limits: Limits,
    /// How much it may carry in a month, if that is limited.
    pub budget: Option<Budget>,
}

/// How much an uplink may carry in a month.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Bytes of IP packet, both ways together.
    pub bytes: u64,
    /// The day of the month on which it begins anew, in UTC: 1 to 28.
    pub day: u8,
}

impl FromStr for UplinkConfig {
    type Err = String;

    /// Reads it as `--uplink` has it.
    fn from_str(text: &str) -> Result<Self, String> {
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
                    let address =
                        value.parse::<IpAddr>().map_err(|_| format!("source '{value}' is not an IP address"))?;
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
                "'budget-day' says when 'budget' begins anew, which is not given: add budget=..., such as 50gb"
                    .to_owned(),
            );
        }
        let budget = budget.map(|bytes| Budget { bytes, day: budget_day.unwrap_or(BUDGET_DAYS.0) });
        Ok(Self { device, name, source, weight: weight.unwrap_or(1), limits, budget })
    }
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

/// What is to change of an uplink while it is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UplinkChange {
    /// Another weight.
    pub weight: Option<u8>,
    /// Another limit of what is sent by it, in bytes of frame per second; `Some(None)` is none.
    pub rate_max: Option<Option<u64>>,
    /// Whether it is to be used only where the others do not suffice.
    pub is_metered: Option<bool>,
}

impl FromStr for UplinkChange {
    type Err = String;

    /// Reads it as `--uplink` has it, of what can change.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut change = Self::default();
        for part in text.split(',') {
            let pair = if part == "metered" { Some((part, "true")) } else { part.split_once('=') };
            let (key, value) = pair.ok_or_else(|| format!("'{part}' has no '=': write weight={part}"))?;
            let is_twice = match key {
                "weight" => change.weight.replace(parse_weight(value)?).is_some(),
                "max-rate" if value == "off" => change.rate_max.replace(None).is_some(),
                "max-rate" => change.rate_max.replace(Some(parse_rate_max(value)?)).is_some(),
                "metered" => change.is_metered.replace(parse_metered(value)?).is_some(),
                "dev" | "source" | "name" | "budget" | "budget-day" => {
                    return Err(format!("'{key}' cannot be changed: remove the uplink, and add it anew"));
                }
                _ => return Err(format!("'{key}' is not known: weight, max-rate and metered can be changed")),
            };
            if is_twice {
                return Err(format!("'{key}' is given twice"));
            }
        }
        Ok(change)
    }
}

impl UplinkChange {
    /// What it makes of these.
    #[must_use]
    pub fn applied_to(self, weight: u8, limits: Limits) -> (u8, Limits) {
        let rate_max = self.rate_max.unwrap_or(limits.rate_max);
        let is_metered = self.is_metered.unwrap_or(limits.is_metered);
        (self.weight.unwrap_or(weight), Limits { rate_max, is_metered })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_says_only_what_is_to_change() {
        let limits = Limits { rate_max: Some(1_000_000), is_metered: false };
        let applied = |text: &str| text.parse().map(|change: UplinkChange| change.applied_to(3, limits));
        assert_eq!(applied("weight=7"), Ok((7, limits)));
        assert_eq!(applied("max-rate=off,metered"), Ok((3, Limits { rate_max: None, is_metered: true })));
        assert_eq!(applied("max-rate=8mbit,metered=false"), Ok((3, limits)));
        for wrong in ["", "weight", "weight=0", "weight=1,weight=2", "max-rate=1bit", "dev=eth0", "speed=1"] {
            assert!(applied(wrong).is_err(), "{wrong}");
        }
    }
}
