//! What can happen to a link, as scenarios, orders and emulators spell it.

use std::time::Duration;

use braid::proto::uplink::measure::PartsPerMillion;
use braid::sim::link::Reordering;
use braid::units::{parse_duration, parse_rate};

/// What can happen to a link.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Action {
    /// It swallows everything, both ways, also what is on its way.
    Blackhole,
    /// It swallows what comes from the box.
    BlackholeUp,
    /// It swallows what goes to the box.
    BlackholeDown,
    /// It swallows no more.
    Restore,
    /// The box's interface loses its carrier.
    CarrierDown,
    /// The carrier is back.
    CarrierUp,
    /// The box's interface is removed.
    InterfaceRemove,
    /// It is there again: another one, of the same name.
    InterfaceAdd,
    /// The one-way delay is now this.
    Delay(Duration),
    /// The rate from the box is now this, in bits per second.
    Rate(u64),
    /// The jitter is now this.
    Jitter(Duration),
    /// The loss is now this.
    Loss(PartsPerMillion),
    /// What others overtake is now this.
    Reordering(Reordering),
    /// What comes out twice is now this.
    Duplication(PartsPerMillion),
    /// What comes out with a byte changed is now this.
    Corruption(PartsPerMillion),
    /// IP packets of more than so many bytes are swallowed, both ways.
    Mtu(u16),
    /// The translation forgets its mappings, and makes new ones with other ports.
    NatRebind,
}

/// Reads what can happen to a link, as in `delay 80ms`.
///
/// # Errors
/// What is wrong with it.
pub fn parse_action(text: &str) -> Result<Action, String> {
    let (verb, operand) = text.split_once(' ').map_or((text, None), |(verb, rest)| (verb, Some(rest.trim())));
    match (verb, operand) {
        ("blackhole", None) => Ok(Action::Blackhole),
        ("blackhole-up", None) => Ok(Action::BlackholeUp),
        ("blackhole-down", None) => Ok(Action::BlackholeDown),
        ("restore", None) => Ok(Action::Restore),
        ("carrier-down", None) => Ok(Action::CarrierDown),
        ("carrier-up", None) => Ok(Action::CarrierUp),
        ("interface-remove", None) => Ok(Action::InterfaceRemove),
        ("interface-add", None) => Ok(Action::InterfaceAdd),
        ("nat-rebind", None) => Ok(Action::NatRebind),
        ("delay", Some(delay)) => parse_duration(delay).map(Action::Delay),
        ("rate", Some(rate)) => parse_rate(rate).map(Action::Rate),
        ("jitter", Some(jitter)) => parse_duration(jitter).map(Action::Jitter),
        ("loss", Some(loss)) => parse_percent(loss).map(Action::Loss),
        ("reordering", Some(reordering)) => parse_reordering(reordering).map(Action::Reordering),
        ("duplication", Some(share)) => parse_percent(share).map(Action::Duplication),
        ("corruption", Some(share)) => parse_percent(share).map(Action::Corruption),
        ("mtu", Some(mtu)) => {
            mtu.parse().map(Action::Mtu).map_err(|_| format!("'{mtu}' is not a number of bytes such as '1300'"))
        }
        _ => Err(format!(
            "'{text}' cannot be done: blackhole, blackhole-up, blackhole-down, restore, carrier-down, carrier-up, \
             interface-remove, interface-add, nat-rebind, 'delay 80ms', 'jitter 5ms', 'rate 2mbit', 'loss 5%', 'reordering 1% 5ms', 'duplication 1%', \
             'corruption 1%' and 'mtu 1300' can"
        )),
    }
}

fn parse_reordering(text: &str) -> Result<Reordering, String> {
    let (share, by) = text.split_once(' ').ok_or_else(|| format!("'{text}' is not a reordering such as '1% 5ms'"))?;
    Ok(Reordering { share: parse_percent(share)?, by: parse_duration(by)? })
}

/// Reads a share, as in `5%`.
///
/// # Errors
/// What is wrong with it.
pub fn parse_percent(text: &str) -> Result<PartsPerMillion, String> {
    let number = text.strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok());
    let share = number.and_then(|percent| parts_per_million(percent / 100.0));
    share.ok_or_else(|| format!("'{text}' is not a share such as '1%'"))
}

/// A share of 0 to 1 in millionths; `None` if it is not within.
pub fn parts_per_million(share: f64) -> Option<PartsPerMillion> {
    (0.0..=1.0).contains(&share).then(|| PartsPerMillion((share * 1e6).round() as u32))
}

/// Spells what can happen to a link, so that [`parse_action`] reads it.
#[must_use]
pub fn spell_action(action: Action) -> String {
    match action {
        Action::Blackhole => "blackhole".to_owned(),
        Action::BlackholeUp => "blackhole-up".to_owned(),
        Action::BlackholeDown => "blackhole-down".to_owned(),
        Action::Restore => "restore".to_owned(),
        Action::CarrierDown => "carrier-down".to_owned(),
        Action::CarrierUp => "carrier-up".to_owned(),
        Action::InterfaceRemove => "interface-remove".to_owned(),
        Action::InterfaceAdd => "interface-add".to_owned(),
        Action::NatRebind => "nat-rebind".to_owned(),
        Action::Delay(delay) => format!("delay {}us", delay.as_micros()),
        Action::Rate(rate) => format!("rate {rate}bit"),
        Action::Jitter(jitter) => format!("jitter {}us", jitter.as_micros()),
        Action::Loss(share) => format!("loss {}", spell_share(share)),
        Action::Reordering(Reordering { share, by }) => {
            format!("reordering {} {}us", spell_share(share), by.as_micros())
        }
        Action::Duplication(share) => format!("duplication {}", spell_share(share)),
        Action::Corruption(share) => format!("corruption {}", spell_share(share)),
        Action::Mtu(mtu) => format!("mtu {mtu}"),
    }
}

fn spell_share(PartsPerMillion(share): PartsPerMillion) -> String {
    format!("{}%", f64::from(share) / 1e4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_spelled_is_read_again() {
        let (time, share) = (Duration::from_micros(1_500), PartsPerMillion(12_345));
        for action in [
            Action::Blackhole,
            Action::BlackholeUp,
            Action::BlackholeDown,
            Action::Restore,
            Action::CarrierDown,
            Action::CarrierUp,
            Action::InterfaceRemove,
            Action::InterfaceAdd,
            Action::NatRebind,
            Action::Delay(time),
            Action::Jitter(time),
            Action::Rate(2_500_000),
            Action::Loss(share),
            Action::Reordering(Reordering { share, by: time }),
            Action::Duplication(share),
            Action::Corruption(share),
            Action::Mtu(1300),
        ] {
            assert_eq!(parse_action(&spell_action(action)), Ok(action));
        }
    }
}
