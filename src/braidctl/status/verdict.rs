//! Whether a tunnel is well, in a line.

use crate::control::{Status, UplinkStatus};

use super::figures::{percent, plain};

/// From this share of lost frames on, an uplink is not well, though it is up.
const LOSS_NOTED: f64 = 0.05;

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::braidctl) enum Level {
    /// As it should be.
    Good,
    /// Frames get through, but somebody should know.
    Warning,
    /// Frames do not get through, or soon will not.
    Bad,
}

/// What is to be said first of a tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::braidctl) struct Verdict {
    /// How bad it is.
    pub(in crate::braidctl) level: Level,
    /// A sentence without the tunnel's name: `well`, `1 of 3 uplinks is down (lte-b)`.
    pub(in crate::braidctl) text: String,
}

/// What an uplink's state is called: one that has been removed is leaving, whatever else it is.
pub(in crate::braidctl) fn state_of(uplink: &UplinkStatus) -> &str {
    if uplink.is_leaving { "leaving" } else { &uplink.state }
}

/// How that is.
pub(in crate::braidctl) fn level_of_state(state: &str) -> Level {
    match state {
        "up" => Level::Good,
        "down" => Level::Bad,
        _ => Level::Warning,
    }
}

/// Whether a tunnel is well. The worst comes first; what follows from that is not said.
pub(in crate::braidctl) fn judge(status: &Status) -> Verdict {
    // Those that leave are as somebody wants them.
    let uplinks: Vec<&UplinkStatus> = status.uplinks.iter().filter(|uplink| !uplink.is_leaving).collect();
    if !status.peer.is_known {
        return bad("no peer: the other end has not been heard yet, or has said good-bye");
    }
    if uplinks.is_empty() {
        return bad("no uplink");
    }
    if !status.peer.is_heard {
        return bad("the peer is not heard");
    }
    let is_up = |uplink: &&&UplinkStatus| uplink.state == "up";
    let mut troubles: Vec<String> = vec![];
    for state in ["down", "suspect", "probation"] {
        troubles.extend(count_in_state(&uplinks, state, troubles.is_empty()));
    }
    let level = match uplinks.iter().filter(is_up).count() {
        0 => Level::Bad,
        _ if troubles.is_empty() => Level::Good,
        _ => Level::Warning,
    };
    troubles.extend(uplinks.iter().filter(is_up).filter_map(|uplink| loss(uplink)));
    troubles.extend(uplinks.iter().filter_map(|uplink| budget(uplink)));
    match troubles.as_slice() {
        [] if level == Level::Good => Verdict { level, text: "well".to_owned() },
        [] => bad("no uplink is up"),
        _ => Verdict { level: level.max(Level::Warning), text: troubles.join(", ") },
    }
}

fn bad(text: &str) -> Verdict {
    Verdict { level: Level::Bad, text: text.to_owned() }
}

/// `2 of 3 uplinks are down (lte-a, lte-b)`, if any is; after another such, `2 are down (lte-a, lte-b)`.
fn count_in_state(uplinks: &[&UplinkStatus], state: &str, is_first: bool) -> Option<String> {
    let names: Vec<String> =
        uplinks.iter().filter(|uplink| uplink.state == state).map(|uplink| plain(&uplink.name)).collect();
    let all = uplinks.len();
    let such = match state {
        "probation" => "on probation",
        _ => state,
    };
    let of_all = if is_first { format!(" of {all} uplinks") } else { String::new() };
    match names.len() {
        0 => None,
        1 if all == 1 => Some(format!("the only uplink is {such} ({})", names[0])),
        many if many == all => Some(format!("all {all} uplinks are {such}")),
        1 => Some(format!("1{of_all} is {such} ({})", names[0])),
        many => Some(format!("{many}{of_all} are {such} ({})", names.join(", "))),
    }
}

fn loss(uplink: &UplinkStatus) -> Option<String> {
    let worst = [uplink.loss, uplink.loss_receiving].into_iter().flatten().fold(0.0, f64::max);
    (worst >= LOSS_NOTED).then(|| format!("{} loses {}", plain(&uplink.name), percent(Some(worst))))
}

fn budget(uplink: &UplinkStatus) -> Option<String> {
    let is_spent = uplink.budget.is_some_and(|budget| budget.is_spent);
    is_spent.then(|| format!("{} has spent its budget", plain(&uplink.name)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::braidctl::sample;
    use crate::control::BudgetStatus;

    fn of_states(states: &[&str]) -> Status {
        let mut status = sample::status("braid0", states.len());
        for (uplink, state) in status.uplinks.iter_mut().zip(states) {
            uplink.state = (*state).to_owned();
        }
        status
    }

    #[test]
    fn states_of_uplinks_are_counted() {
        for (states, level, text) in [
            (&["up"][..], Level::Good, "well"),
            (&["up", "up", "up"], Level::Good, "well"),
            (&["up", "down", "up"], Level::Warning, "1 of 3 uplinks is down (lte-a)"),
            (&["up", "down", "down"], Level::Warning, "2 of 3 uplinks are down (lte-a, lte-b)"),
            (
                &["up", "probation", "suspect"],
                Level::Warning,
                "1 of 3 uplinks is suspect (lte-b), 1 is on probation (lte-a)",
            ),
            (&["down", "down"], Level::Bad, "all 2 uplinks are down"),
            (&["down"], Level::Bad, "the only uplink is down (dsl)"),
            (&["asleep"], Level::Bad, "no uplink is up"),
            (&[], Level::Bad, "no uplink"),
        ] {
            assert_eq!(judge(&of_states(states)), Verdict { level, text: text.to_owned() }, "{states:?}");
        }
    }

    #[test]
    fn an_uplink_that_leaves_is_missed_by_nobody() {
        let mut status = of_states(&["up", "down"]);
        status.uplinks[1].is_leaving = true;
        assert_eq!(judge(&status).text, "well");
        assert_eq!([0, 1].map(|place| state_of(&status.uplinks[place])), ["up", "leaving"]);
        status.uplinks[0].is_leaving = true;
        assert_eq!(judge(&status), bad("no uplink"));
    }

    #[test]
    fn a_peer_that_is_away_is_told_before_all_else() {
        let mut status = of_states(&["down", "up"]);
        status.peer.is_heard = false;
        assert_eq!(judge(&status), bad("the peer is not heard"));
        status.peer.is_known = false;
        assert!(judge(&status).text.starts_with("no peer: "));
    }

    #[test]
    fn uplinks_that_are_up_and_yet_not_well_are_told() {
        let mut status = of_states(&["up", "up", "down"]);
        status.uplinks[0].loss = Some(LOSS_NOTED * 0.99);
        status.uplinks[1].loss_receiving = Some(0.12);
        status.uplinks[2].loss = Some(1.0);
        status.uplinks[0].budget = Some(BudgetStatus { used_bytes: 2, limit_bytes: 1, is_spent: true });
        let text = "1 of 3 uplinks is down (lte-b), lte-a loses 12%, dsl has spent its budget";
        assert_eq!(judge(&status), Verdict { level: Level::Warning, text: text.to_owned() });
    }
}
