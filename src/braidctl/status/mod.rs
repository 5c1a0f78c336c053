//! How an end is, for people and for programs.

pub(super) mod figures;
pub(super) mod paint;
mod table;
pub(super) mod verdict;

use clap::Args;

use super::{EndArguments, say};
use crate::control::{Answer, Command, Status};

/// How to tell it.
#[derive(Debug, Args)]
pub(super) struct StatusArguments {
    /// Tell it as JSON: one object, or a list of them at an end with several tunnels
    #[arg(long)]
    json: bool,
}

/// Tells how an end is.
///
/// # Errors
/// Why that cannot be told.
pub(super) fn run(end: &EndArguments, arguments: &StatusArguments) -> Result<(), String> {
    let tunnels = fetch(&mut end.connect()?)?;
    let text = if arguments.json { json(&tunnels)? } else { table::render(&tunnels, paint::Paint::of_stdout()) };
    say(&text)
}

/// All tunnels that are meant.
///
/// # Errors
/// Why they cannot be had.
pub(super) fn fetch(client: &mut super::Client) -> Result<Vec<Status>, String> {
    let (answers, _) = client.ask(Command::Status)?;
    let statuses = answers.into_iter().filter_map(|answer| match answer {
        Answer::Status(status) => Some(*status),
        _ => None,
    });
    Ok(statuses.collect())
}

fn json(tunnels: &[Status]) -> Result<String, String> {
    let text = match tunnels {
        [only] => serde_json::to_string_pretty(only),
        _ => serde_json::to_string_pretty(tunnels),
    };
    text.map(|text| text + "\n").map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::braidctl::sample;
    use serde_json::Value;

    #[test]
    fn one_tunnel_is_an_object_with_what_scripts_rely_on() {
        let value: Value = serde_json::from_str(&json(&[sample::status("braid0", 3)]).expect("JSON")).expect("JSON");
        for path in ["/mode", "/window_ms", "/rx/hold_ms/p50", "/rx/hold_ms/p99", "/rx/hold_ms/max"] {
            assert!(value.pointer(path).is_some_and(|value| !value.is_null()), "{path}");
        }
        for key in ["delivered", "duplicates", "reordered", "late", "lost", "malformed", "unauthenticated"] {
            assert!(value["rx"][key].is_u64(), "{key}");
        }
        let numbers =
            ["rtt_ms", "jitter_ms", "loss", "tx_packets", "rx_packets", "tx_bytes", "rx_bytes", "capacity_mbps"];
        for uplink in value["uplinks"].as_array().expect("a list") {
            assert!(["name", "state"].iter().all(|key| uplink[key].is_string()), "{uplink}");
            assert!(numbers.iter().all(|key| uplink[key].is_number()), "{uplink}");
        }
        assert_eq!(value["uplinks"][1]["name"], "lte-a");
    }

    #[test]
    fn several_tunnels_are_a_list_and_none_is_an_empty_one() {
        let two = [sample::status("van1", 1), sample::status("van2", 2)];
        let value: Value = serde_json::from_str(&json(&two).expect("JSON")).expect("JSON");
        assert_eq!((value[0]["tap"].as_str(), value[1]["tap"].as_str()), (Some("van1"), Some("van2")));
        assert_eq!(json(&[]).expect("JSON"), "[]\n");
    }
}
