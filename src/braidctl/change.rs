//! Changes an end while it runs.

use clap::{Args, Subcommand};

use super::{EndArguments, say};
use crate::control::Command;

/// The mode, and what belongs to it.
#[derive(Debug, Args)]
pub(super) struct ModeArguments {
    /// adaptive, broadcast, balance-rr or active-backup
    mode: String,
    /// balance-rr: frames in a row on one uplink, per unit of its weight [default: 1]
    #[arg(long, value_name = "N")]
    packets_per_uplink: Option<String>,
    /// active-backup: the uplink to prefer [default: the one with the shortest round trip]
    #[arg(long, value_name = "UPLINK")]
    primary: Option<String>,
    /// active-backup: when to go back to the primary: always, better or failure [default: always]
    #[arg(long, value_name = "WHEN")]
    primary_reselect: Option<String>,
    /// adaptive: which frames go by two uplinks at once, separated by commas: marked, dscp=N, port=N, small=BYTES
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    redundancy: Vec<String>,
}

/// The window.
#[derive(Debug, Args)]
pub(super) struct WindowArguments {
    /// 1ms to 2s, or auto, or auto:DURATION, or off
    window: String,
}

/// What is to become of an uplink.
#[derive(Debug, Args)]
pub(super) struct UplinkArguments {
    #[command(subcommand)]
    action: UplinkAction,
}

#[derive(Debug, Subcommand)]
enum UplinkAction {
    /// Use one more
    Add {
        /// As --uplink of braid-box has it: dev=IF[,name=N][,source=IP][,weight=W][,max-rate=R][,metered]
        uplink: String,
    },
    /// Use one no more
    Remove {
        /// Its name
        name: String,
    },
    /// Use one otherwise
    Set {
        /// Its name
        name: String,
        /// Any of weight=W, max-rate=R (or off), metered=true (or false), separated by commas
        change: String,
    },
}

pub(super) fn mode(end: &EndArguments, arguments: &ModeArguments) -> Result<(), String> {
    let ModeArguments { mode, packets_per_uplink, primary, primary_reselect, redundancy } = arguments;
    obey(
        end,
        Command::Mode {
            mode: mode.clone(),
            packets_per_uplink: packets_per_uplink.clone(),
            primary: primary.clone(),
            primary_reselect: primary_reselect.clone(),
            redundancy: redundancy.clone(),
        },
    )
}

pub(super) fn window(end: &EndArguments, arguments: &WindowArguments) -> Result<(), String> {
    obey(end, Command::Window { window: arguments.window.clone() })
}

pub(super) fn uplink(end: &EndArguments, arguments: &UplinkArguments) -> Result<(), String> {
    let command = match &arguments.action {
        UplinkAction::Add { uplink } => Command::UplinkAdd { uplink: uplink.clone() },
        UplinkAction::Remove { name } => Command::UplinkRemove { name: name.clone() },
        UplinkAction::Set { name, change } => Command::UplinkSet { name: name.clone(), change: change.clone() },
    };
    obey(end, command)
}

pub(super) fn reload(end: &EndArguments) -> Result<(), String> {
    obey(end, Command::Reload)
}

/// Has an end do it, and says what it has done.
fn obey(end: &EndArguments, command: Command) -> Result<(), String> {
    let (_, done) = end.connect()?.ask(command)?;
    say(&format!("{done}\n"))
}
