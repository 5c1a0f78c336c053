//! What is said over the control socket, between an end that runs and [`crate::braidctl`], or whoever else asks.
//!
//! Lines of JSON over a Unix stream socket. A line of the client is a [`Request`]; what answers it is any number of
//! [`Line`]s, of which the last says `done` or `error`. A client that knows fewer fields than there are ignores the others,
//! and new ones may come at any time; a change that would mislead it has another [`VERSION`].
//!
//! ```text
//! > {"version":1,"command":"status"}
//! < {"version":1,"status":{"tap":"braid0","mode":"adaptive", ...}}
//! < {"version":1,"done":""}
//! ```

mod request;
mod status;
pub mod trace;

use serde::{Deserialize, Serialize};

pub use request::{Command, Request};
pub use status::{Adaptive, BudgetStatus, Peer, Process, Quantiles, Received, Sent, Status, UplinkStatus};

/// The form of all this.
pub const VERSION: u32 = 1;

/// The longest line that a client may send, in bytes.
pub const REQUEST_LENGTH_MAX: usize = 16 << 10;

/// One line of an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// [`VERSION`].
    pub version: u32,
    /// What it says.
    #[serde(flatten)]
    pub answer: Answer,
}

impl Line {
    /// A line of this version.
    #[must_use]
    pub const fn new(answer: Answer) -> Self {
        Self { version: VERSION, answer }
    }
}

/// What a line of an answer says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// A tunnel, one line for each.
    Status(Box<Status>),
    /// A histogram, one line for each.
    Histogram(Histogram),
    /// Something that has happened.
    Event(Event),
    /// What follows are no lines but the records of [`Command::Trace`], until the connection ends.
    Trace {
        /// The TAPs, in the order of their numbers in the records.
        taps: Vec<String>,
        /// What the verdicts of the records mean: taken, or why not.
        verdicts: Vec<String>,
    },
    /// That was all. What has been done, as far as there is anything to say of it.
    Done(String),
    /// It was not done, and why.
    Error(String),
}

/// What a histogram is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Quantity {
    /// Round trip of a probe, by one uplink.
    Rtt,
    /// How much the one-way delay of a probe differs from that of the one before, by one uplink (RFC 3393).
    DelayVariation,
    /// How long received frames were held to restore order.
    Hold,
    /// From the wake-up that has read a frame from the TAP until it is handed to the kernel for an uplink.
    TapToWire,
    /// From the wake-up that has received a frame until it is handed to the kernel for the TAP: what it was held for, too.
    WireToTap,
    /// From a wake-up of the reactor until all is done that it called for.
    Loop,
    /// A step for a client of the control socket, which comes when that is done, and may delay what comes meanwhile.
    ControlStep,
}

impl Quantity {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Rtt, Self::DelayVariation, Self::Hold, Self::TapToWire, Self::WireToTap, Self::Loop, Self::ControlStep];

    /// What the command line and JSON call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rtt => "rtt",
            Self::DelayVariation => "delay-variation",
            Self::Hold => "hold",
            Self::TapToWire => "tap-to-wire",
            Self::WireToTap => "wire-to-tap",
            Self::Loop => "loop",
            Self::ControlStep => "control-step",
        }
    }
}

/// All that has been recorded of one quantity since the start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Histogram {
    /// Of what.
    pub of: Quantity,
    /// The tunnel's TAP; none where it is the whole process's.
    pub tap: Option<String>,
    /// The uplink, where it is of one.
    pub uplink: Option<String>,
    /// An HdrHistogram of nanoseconds in its V2 form, in base 64.
    pub data: String,
}

/// Something that has happened, as the log tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Its number: each is one more than that of the one before.
    pub number: u64,
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// The tunnel's TAP.
    pub tap: String,
    /// Whether it is more than good to know.
    pub is_warning: bool,
    /// What.
    pub text: String,
}
