//! How frames are sent and put in order, as the user writes it.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use super::{TAP_MTU_MAX, within};
use crate::proto::scheduler::{Mode, PrimaryReselect, SchedulerConfig};
use crate::proto::send::redundancy::Rule;
use crate::proto::uplink::UplinkName;
use crate::units::parse_duration;

const WINDOW_MIN: Duration = Duration::from_millis(1);
const WINDOW_MAX: Duration = Duration::from_secs(2);

/// `--window`: the longest that a frame may be held, if order is to be restored, and whether the window follows what the
/// uplinks require.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The longest that a frame may be held; `None` delivers in order of arrival.
    pub longest: Option<Duration>,
    /// Whether the window is as long as the uplinks require, and `longest` only a bound.
    pub follows: bool,
}

impl Window {
    /// What it is where nothing is said.
    #[must_use]
    pub const fn of(mode: Mode) -> Self {
        let (longest, follows) = mode.window();
        Self { longest: Some(longest), follows }
    }
}

impl FromStr for Window {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let longest = match text {
            "off" => return Ok(Self { longest: None, follows: false }),
            "auto" => return Ok(Self::of(Mode::Adaptive)),
            text => text.strip_prefix("auto:").unwrap_or(text),
        };
        let longest = within(parse_duration(longest)?, WINDOW_MIN, WINDOW_MAX)?;
        Ok(Self { longest: Some(longest), follows: text.starts_with("auto:") })
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.longest {
            None => f.write_str("off"),
            Some(longest) => {
                let prefix = if self.follows { "auto:" } else { "" };
                write!(f, "{prefix}{}", humantime::format_duration(longest).to_string().replace(' ', ""))
            }
        }
    }
}

/// What was said of how to send, whatever the mode.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sending {
    /// `balance-rr`: frames in a row.
    pub packets_per_uplink: Option<NonZeroU32>,
    /// `active-backup`: the uplink to prefer.
    pub primary: Option<UplinkName>,
    /// `active-backup`: when to go back to it.
    pub primary_reselect: Option<PrimaryReselect>,
    /// `adaptive`: which frames go by two uplinks.
    pub redundancy: Vec<Rule>,
}

impl Sending {
    /// What of it is about this mode.
    #[must_use]
    pub fn scheduler(&self, mode: Mode) -> SchedulerConfig {
        let primary = self.primary.filter(|_| mode == Mode::ActiveBackup);
        SchedulerConfig {
            mode,
            packets_per_uplink: self.packets_per_uplink.filter(|_| mode == Mode::BalanceRr).unwrap_or(NonZeroU32::MIN),
            primary,
            primary_reselect: primary.and(self.primary_reselect).unwrap_or(PrimaryReselect::Always),
            redundancy: if mode == Mode::Adaptive { self.redundancy.clone() } else { vec![] },
        }
    }

    /// No flag may be given that would do nothing: that is for a mode which no tunnel has.
    ///
    /// # Errors
    /// Which one would not, and what to do.
    pub fn check(&self, modes: &[Mode]) -> Result<(), String> {
        let of_mode = [
            ("--packets-per-uplink", self.packets_per_uplink.is_some(), Mode::BalanceRr),
            ("--primary", self.primary.is_some(), Mode::ActiveBackup),
            ("--primary-reselect", self.primary_reselect.is_some(), Mode::ActiveBackup),
            ("--redundancy", !self.redundancy.is_empty(), Mode::Adaptive),
        ];
        for (flag, is_given, mode) in of_mode {
            if is_given && !modes.contains(&mode) {
                return Err(misplaced(flag, mode, modes));
            }
        }
        if self.primary_reselect.is_some() && self.primary.is_none() {
            return Err("--primary-reselect says when to go back to --primary, which is not given".to_owned());
        }
        Ok(())
    }
}

/// Says that a flag is for another mode.
#[must_use]
pub fn misplaced(flag: &str, mode: Mode, modes: &[Mode]) -> String {
    let instead = match modes {
        [only] => format!("the mode is {}", only.name()),
        _ => "no box has it".to_owned(),
    };
    format!("{flag} is for --mode {} only, and {instead}: leave it out", mode.name())
}

pub(crate) fn parse_mode(text: &str) -> Result<Mode, String> {
    let known = Mode::ALL.map(Mode::name).join(", ");
    Mode::ALL.into_iter().find(|mode| mode.name() == text).ok_or_else(|| format!("modes are {known}"))
}

pub(crate) fn parse_reselect(text: &str) -> Result<PrimaryReselect, String> {
    let known = PrimaryReselect::ALL.map(PrimaryReselect::name).join(", ");
    let found = PrimaryReselect::ALL.into_iter().find(|reselect| reselect.name() == text);
    found.ok_or_else(|| format!("choices are {known}"))
}

pub(crate) fn parse_packets_per_uplink(text: &str) -> Result<NonZeroU32, String> {
    text.parse().map_err(|_| "write a number from 1 up".to_owned())
}

pub(crate) fn parse_redundancy(text: &str) -> Result<Rule, String> {
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
