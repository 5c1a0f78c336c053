//! Scenarios: which links there are, what happens to them, and what is sent over them.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use braid::proto::uplink::measure::PartsPerMillion;
use braid::sim::link::{LinkSettings, Loss, Queue, Reordering};
use braid::sim::shaper::{Shaper, parse_opportunities};
use braid::units::{parse_duration, parse_rate};
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use toml::Spanned;

use crate::action::{Action, parse_action, parse_percent, parts_per_million};

/// The longest uplink name: it names an interface and, after a prefix, a namespace.
const UPLINK_NAME_MAX: usize = 15;
/// Interfaces that the box has beside its uplinks.
const NAMES_TAKEN: [&str; 2] = ["lo", "braid0"];
/// The most uplinks that a box can have.
pub const UPLINKS_MAX: usize = 16;
/// One packet may wait this long in a link's queue, unless the scenario says otherwise.
const QUEUE_COMMON: Queue = Queue::Time(Duration::from_millis(200));

/// A scenario, as its file says it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// What it is called.
    pub name: String,
    /// How long traffic flows.
    #[serde(deserialize_with = "duration")]
    pub duration: Duration,
    /// What random numbers begin with.
    #[serde(default = "default_seed")]
    pub seed: u64,
    /// The links.
    #[serde(rename = "uplink")]
    pub uplinks: Vec<Uplink>,
    /// What happens to them.
    #[serde(default, rename = "event")]
    pub events: Vec<Event>,
    /// What is sent.
    #[serde(default)]
    pub traffic: Traffic,
    /// Where its traces are looked for.
    #[serde(skip)]
    pub folder: PathBuf,
}

/// A link.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Uplink {
    /// The name of the box's interface.
    pub name: String,
    /// What it carries from the box, in bits per second of IP packet; unlimited if neither this nor a trace is given.
    #[serde(default, deserialize_with = "optional_rate")]
    pub rate: Option<u64>,
    /// What it carries towards the box; as `rate` unless given. A trace shapes the way from the box only.
    #[serde(default, rename = "downlink-rate", deserialize_with = "optional_rate")]
    pub downlink_rate: Option<u64>,
    /// What it carries, as a file of Mahimahi's: each line a millisecond at which 1,500 bytes may leave.
    #[serde(default)]
    pub trace: Option<String>,
    /// Where in the trace to begin.
    #[serde(default, rename = "trace-start", deserialize_with = "duration")]
    pub trace_start: Duration,
    /// One-way delay.
    #[serde(default, deserialize_with = "duration")]
    pub delay: Duration,
    /// Up to this much more delay, at random; packets stay in order.
    #[serde(default, deserialize_with = "duration")]
    pub jitter: Duration,
    /// What is lost at random.
    #[serde(default, deserialize_with = "loss")]
    pub loss: Loss,
    /// Packets that others overtake.
    #[serde(default, deserialize_with = "reordering")]
    pub reordering: Reordering,
    /// What comes out twice.
    #[serde(default, deserialize_with = "share")]
    pub duplication: PartsPerMillion,
    /// What comes out with a byte changed.
    #[serde(default, deserialize_with = "share")]
    pub corruption: PartsPerMillion,
    /// What may wait when packets come faster than they leave.
    #[serde(default = "default_queue", deserialize_with = "queue")]
    pub queue: Queue,
    /// Whether the box is behind an address and port translation.
    #[serde(default)]
    pub nat: bool,
    /// The MTU of its interfaces, in bytes.
    #[serde(default = "default_mtu")]
    pub mtu: u16,
}

/// Something that happens to a link.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// When, after traffic has begun.
    #[serde(deserialize_with = "duration")]
    pub at: Duration,
    /// To which.
    pub uplink: String,
    /// What.
    #[serde(rename = "do", deserialize_with = "action")]
    pub action: Action,
}

/// What is sent.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Traffic {
    /// Of which kind.
    pub kind: TrafficKind,
    /// How much, in bits of payload per second.
    #[serde(default = "default_rate", deserialize_with = "rate")]
    pub rate: u64,
    /// Bytes of payload per datagram.
    #[serde(default = "default_size")]
    pub size: usize,
}

/// Kinds of traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TrafficKind {
    /// Numbered datagrams at a constant rate.
    Cbr,
    /// An H.264 stream in MPEG-TS, made, sent and decoded by ffmpeg.
    Video,
    /// One TCP stream, by iperf3.
    Tcp,
}

impl Default for Traffic {
    fn default() -> Self {
        Self { kind: TrafficKind::Cbr, rate: default_rate(), size: default_size() }
    }
}

const fn default_seed() -> u64 {
    1
}

const fn default_queue() -> Queue {
    QUEUE_COMMON
}

const fn default_mtu() -> u16 {
    1500
}

const fn default_rate() -> u64 {
    8_000_000
}

const fn default_size() -> usize {
    1316
}

/// What is wrong with a scenario, in one line.
#[derive(Debug)]
pub struct ScenarioError(String);

impl ScenarioError {
    /// What the message quotes may hold line breaks.
    fn new(message: impl Into<String>) -> Self {
        Self(message.into().replace(char::is_control, "\u{fffd}"))
    }
}

impl fmt::Display for ScenarioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is wrong with a value, and where it is: the table, its number among those of that name, and the key.
struct Complaint {
    table: &'static str,
    index: usize,
    key: &'static str,
    message: String,
}

/// Where the values of a scenario's tables are in its text.
#[derive(Deserialize)]
struct Places {
    #[serde(default)]
    uplink: Vec<BTreeMap<String, Spanned<IgnoredAny>>>,
    #[serde(default)]
    event: Vec<BTreeMap<String, Spanned<IgnoredAny>>>,
    #[serde(default)]
    traffic: BTreeMap<String, Spanned<IgnoredAny>>,
}

impl Complaint {
    /// The complaint in one line, with the number of the line in `text` that it is about, if there is one.
    fn locate(&self, text: &str) -> String {
        let Self { table, index, key, message } = self;
        let place = toml::from_str::<Places>(text).ok().and_then(|places| {
            let keys = match *table {
                "uplink" => places.uplink.into_iter().nth(*index)?,
                "event" => places.event.into_iter().nth(*index)?,
                _ => places.traffic,
            };
            keys.get(*key).map(Spanned::span)
        });
        match place {
            Some(span) => format!("line {}: {key}: {message}", line_at(text, span.start)),
            None => message.clone(),
        }
    }
}

fn line_at(text: &str, position: usize) -> usize {
    1 + text[..position].matches('\n').count()
}

impl Scenario {
    /// The scenario of that name or in that file.
    ///
    /// # Errors
    /// What is wrong, and where.
    pub fn load(name: &str) -> Result<Self, ScenarioError> {
        if let Some((_, text)) = SHIPPED.iter().find(|(shipped, _)| *shipped == name) {
            return Self::parse(name, text, Path::new(""));
        }
        let path = Path::new(name);
        let text = std::fs::read_to_string(path).map_err(|error| {
            let shipped = SHIPPED.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
            ScenarioError::new(format!("cannot read the scenario '{name}': {error}: give a file, or one of {shipped}"))
        })?;
        Self::parse(name, &text, path.parent().unwrap_or(Path::new("")))
    }

    /// The scenario that `text` says, whose traces are looked for in `folder`; `origin` is what errors call it.
    ///
    /// # Errors
    /// What is wrong, and where.
    pub fn parse(origin: &str, text: &str, folder: &Path) -> Result<Self, ScenarioError> {
        let mut scenario: Self = toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(1, |span| line_at(text, span.start));
            let message = error.message().replace('\n', " ");
            ScenarioError::new(format!("{origin}: line {line}: {message}"))
        })?;
        scenario.folder = folder.to_owned();
        let complain = |message| ScenarioError::new(format!("{origin}: {message}"));
        scenario.check().map_err(|complaint| complain(complaint.locate(text)))?;
        Ok(scenario)
    }

    fn check(&self) -> Result<(), Complaint> {
        let complaint = |table, index, key, message| Complaint { table, index, key, message };
        if self.uplinks.is_empty() || self.uplinks.len() > UPLINKS_MAX {
            let message = format!("{} uplinks: there must be 1 to {UPLINKS_MAX}", self.uplinks.len());
            return Err(complaint("uplink", UPLINKS_MAX, "name", message));
        }
        for (index, uplink) in self.uplinks.iter().enumerate() {
            uplink.check().map_err(|(key, message)| complaint("uplink", index, key, message))?;
            self.trace(uplink).map_err(|error| complaint("uplink", index, "trace", error.0))?;
            if self.uplinks[..index].iter().any(|other| other.name == uplink.name) {
                return Err(complaint("uplink", index, "name", format!("two uplinks are called '{}'", uplink.name)));
            }
        }
        let is_known = |name: &str| self.uplinks.iter().any(|uplink| uplink.name == name);
        if let Some((index, event)) = self.events.iter().enumerate().find(|(_, event)| !is_known(&event.uplink)) {
            return Err(complaint("event", index, "uplink", format!("there is no uplink '{}'", event.uplink)));
        }
        if !(64..=1400).contains(&self.traffic.size) {
            let message = format!("{} bytes are not from 64 to 1400", self.traffic.size);
            return Err(complaint("traffic", 0, "size", message));
        }
        Ok(())
    }

    /// Every packet opportunity of an uplink's trace, in milliseconds; `None` if it has no trace.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn trace(&self, uplink: &Uplink) -> Result<Option<Arc<[u64]>>, ScenarioError> {
        let Some(name) = &uplink.trace else { return Ok(None) };
        let text = match SHIPPED_TRACES.iter().find(|(shipped, _)| shipped == name) {
            Some((_, text)) => (*text).to_owned(),
            None => std::fs::read_to_string(self.folder.join(name))
                .map_err(|error| ScenarioError::new(format!("cannot read the trace '{name}': {error}")))?,
        };
        parse_opportunities(&text).map(Some).map_err(|message| ScenarioError::new(format!("trace '{name}': {message}")))
    }
}

impl Uplink {
    /// What it is like, both ways, with what limits its rate in one.
    #[must_use]
    pub const fn link_settings(&self, shaper: Shaper) -> LinkSettings {
        LinkSettings {
            shaper,
            queue: self.queue,
            delay: self.delay,
            jitter: self.jitter,
            reordering: self.reordering,
            loss: self.loss,
            duplication: self.duplication,
            corruption: self.corruption,
            longest: None,
        }
    }

    /// The key that is wrong, and how.
    fn check(&self) -> Result<(), (&'static str, String)> {
        let name = &self.name;
        let characters_ok = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if !characters_ok || name.starts_with('-') || !(1..=UPLINK_NAME_MAX).contains(&name.len()) {
            let wanted = format!("1 to {UPLINK_NAME_MAX} letters, digits and '-'");
            return Err(("name", format!("'{name}' cannot name an uplink: {wanted}")));
        }
        if NAMES_TAKEN.contains(&name.as_str()) {
            return Err(("name", format!("'{name}' is an interface that the box has anyway: choose another name")));
        }
        if self.rate.is_some() && self.trace.is_some() {
            return Err(("trace", format!("uplink '{name}' has both a rate and a trace: one is enough")));
        }
        if !(576..=9000).contains(&self.mtu) {
            return Err(("mtu", format!("{} bytes are not from 576 to 9000", self.mtu)));
        }
        Ok(())
    }
}

fn parsed<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Result<T, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse(&text).map_err(serde::de::Error::custom)
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    parsed(deserializer, parse_duration)
}

fn rate<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    parsed(deserializer, parse_rate)
}

fn optional_rate<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    rate(deserializer).map(Some)
}

fn action<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Action, D::Error> {
    parsed(deserializer, parse_action)
}

fn loss<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Loss, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "loss is a share such as \"1%\", or { p = 0.01, r = 0.3 }")]
    enum Spelling {
        Percent(String),
        Burst { p: f64, r: f64 },
    }
    match Spelling::deserialize(deserializer)? {
        Spelling::Percent(text) => parse_percent(&text).map(Loss::Random).map_err(serde::de::Error::custom),
        Spelling::Burst { p, r } => match (parts_per_million(p), parts_per_million(r)) {
            (Some(p), Some(r)) => Ok(Loss::Burst { p, r }),
            _ => Err(serde::de::Error::custom("p and r are probabilities from 0 to 1")),
        },
    }
}

fn share<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PartsPerMillion, D::Error> {
    parsed(deserializer, parse_percent)
}

fn reordering<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Reordering, D::Error> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Spelling {
        #[serde(deserialize_with = "share")]
        share: PartsPerMillion,
        #[serde(deserialize_with = "duration")]
        by: Duration,
    }
    Spelling::deserialize(deserializer).map(|Spelling { share, by }| Reordering { share, by })
}

fn queue<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Queue, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "queue is a time such as \"200ms\", or a number of packets")]
    enum Spelling {
        Packets(usize),
        Time(String),
    }
    match Spelling::deserialize(deserializer)? {
        Spelling::Packets(packets) => Ok(Queue::Packets(packets)),
        Spelling::Time(text) => parse_duration(&text).map(Queue::Time).map_err(serde::de::Error::custom),
    }
}

/// Declares the shipped scenarios, by name.
macro_rules! shipped {
    ($($name:literal),+ $(,)?) => { &[$(($name, include_str!(concat!("../scenarios/", $name, ".toml")))),+] };
}

/// The scenarios that come with the lab.
pub const SHIPPED: &[(&str, &str)] = shipped![
    "two-dsl",
    "dsl-lte",
    "starlink-lte",
    "three-lte",
    "blackhole",
    "flap",
    "unlike-delays",
    "loss-one-uplink",
    "loss-every-uplink",
    "satellites",
    "cut-no-delay",
    "unplug-no-delay",
    "chaos",
    "demo",
];

/// The traces that come with the lab, by the names that scenarios use.
const SHIPPED_TRACES: &[(&str, &str)] = &[
    ("made-lte-a.up", include_str!("../traces/made-lte-a.up")),
    ("made-lte-b.up", include_str!("../traces/made-lte-b.up")),
    ("made-lte-c.up", include_str!("../traces/made-lte-c.up")),
    ("made-starlink.up", include_str!("../traces/made-starlink.up")),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shipped_scenario_is_valid_and_says_what_it_shows() {
        for (name, text) in SHIPPED {
            let scenario = Scenario::load(name).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(scenario.name, *name);
            assert!(text.starts_with("# "), "{name} does not say what it shows");
            for uplink in &scenario.uplinks {
                scenario.trace(uplink).unwrap_or_else(|error| panic!("{name}: {error}"));
            }
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let base = "name = \"x\"\nduration = \"1s\"\n[[uplink]]\nname = \"a\"\n";
        for (more, line, culprit) in [
            ("rat = \"1mbit\"\n", "line 5", "rat"),
            ("rate = \"1\"\n", "line 5", "no unit"),
            ("loss = \"200%\"\n", "line 5", "200%"),
            ("[[event]]\nat = \"1s\"\nuplink = \"a\"\ndo = \"explode\"\n", "line 8", "explode"),
            ("[[event]]\nat = \"1s\"\nuplink = \"b\"\ndo = \"restore\"\n", "line 7: uplink", "no uplink 'b'"),
            ("trace = \"t\"\nrate = \"1mbit\"\n", "line 5: trace", "one is enough"),
            ("mtu = 100\ntrace = \"t\"\n", "line 5: mtu", "100"),
            ("nat = true\ntrace = \"t\"\n", "line 6: trace", "cannot read"),
            ("[[uplink]]\nname = \"a\"\n", "line 6: name", "two uplinks"),
            ("[[uplink]]\nname = \"lo\"\n", "line 6: name", "another name"),
            ("[[uplink]]\nname = \"-x\"\n", "line 6: name", "-x"),
            ("queue = -1\n", "line 5", "\"200ms\""),
            ("loss = 5\n", "line 5", "\"1%\""),
            ("reordering = { share = \"2\", by = \"5ms\" }\n", "line 5", "'2' is not a share"),
            ("[[event]]\nat = \"1s\"\nuplink = \"a\"\ndo = \"reordering 1%\"\n", "line 8", "'1% 5ms'"),
            ("[traffic]\nkind = \"cbr\"\nsize = 9000\n", "line 7: size", "9000"),
            ("[traffic]\nkind = \"cbd\"\n", "line 6", "cbd"),
        ] {
            let error = Scenario::parse("s.toml", &format!("{base}{more}"), Path::new("")).expect_err(more).to_string();
            assert!(error.contains(line) && error.contains(culprit) && error.starts_with("s.toml"), "{error}");
        }
    }
}
