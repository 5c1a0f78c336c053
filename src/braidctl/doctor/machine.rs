//! The clock and the CPUs.

use super::finding::Finding;
use crate::io::examine::Clock;

/// The first of January 2026, in seconds since 1970: braid was written later.
const PLAUSIBLE_SINCE: u64 = 1_767_225_600;
/// As the kernel calls what slows CPUs down as long as they seem idle, which one that wakes up for each frame does.
const SLOW_GOVERNORS: [&str; 3] = ["conservative", "ondemand", "powersave"];

/// Whether the clock can be believed.
pub(super) fn clock(clock: Clock) -> Finding {
    if clock.now < PLAUSIBLE_SINCE {
        return Finding::fail(
            "clock",
            format!("it says {} s since 1970, which is before braid was written", clock.now),
            "set it, and keep it right by NTP (chrony, systemd-timesyncd): a gateway takes a handshake that is dated before the \
             last one for a replay",
        );
    }
    match clock.is_synchronised {
        Some(true) => Finding::ok("clock", "something keeps it right"),
        Some(false) => Finding::warn(
            "clock",
            "nothing keeps it right",
            "run NTP (chrony, systemd-timesyncd): should it go back between two starts of a box, its gateway refuses it meanwhile",
        ),
        None => Finding::ok("clock", "plausible; the kernel does not tell whether something keeps it right"),
    }
}

/// Whether the CPUs are kept awake.
pub(super) fn governor(names: &[String]) -> Finding {
    let slow: Vec<&str> = names.iter().map(String::as_str).filter(|name| SLOW_GOVERNORS.contains(name)).collect();
    if slow.is_empty() {
        let found = if names.is_empty() { "none, as in virtual machines".to_owned() } else { names.join(", ") };
        return Finding::ok("CPU governor", found);
    }
    Finding::warn(
        "CPU governor",
        format!("{}: a CPU that has slowed down adds delay to the next frame", slow.join(", ")),
        "where CPU power is not scarce: 'cpupower frequency-set -g performance'",
    )
}

/// Whether there are CPUs enough, and the one that was asked for among them.
pub(super) fn cpus(allowed: &[usize], pinned_to: Option<usize>) -> Finding {
    let list = || allowed.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
    match pinned_to {
        Some(cpu) if !allowed.contains(&cpu) => Finding::fail(
            "CPUs",
            format!("the configuration asks for CPU {cpu} (cpu), and these may be used: {}", list()),
            "choose one of them, or leave it out",
        ),
        Some(cpu) => Finding::ok("CPUs", format!("{}, of which {cpu} is the end's", allowed.len())),
        None if allowed.len() == 1 => Finding::warn(
            "CPUs",
            "only one: what else runs here adds delay to frames",
            "give it two, or give the end a higher priority (Nice=, CPUWeight=)",
        ),
        None => Finding::ok("CPUs", format!("{}; an end uses one, and any, unless told by --cpu", allowed.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::{Verdict, assert_says};
    use super::*;

    #[test]
    fn a_clock_is_believed_if_something_keeps_it_right() {
        let at = |now, is_synchronised| clock(Clock { now, is_synchronised });
        assert_says(&at(PLAUSIBLE_SINCE, Some(true)), "clock", Verdict::Ok, &["right"]);
        assert_says(&at(PLAUSIBLE_SINCE, None), "clock", Verdict::Ok, &["does not tell"]);
        assert_says(&at(PLAUSIBLE_SINCE, Some(false)), "clock", Verdict::Warn, &["NTP", "refuses"]);
        assert_says(&at(86_400, Some(true)), "clock", Verdict::Fail, &["86400", "replay"]);
    }

    #[test]
    fn governors_that_slow_down_are_told() {
        let of = |names: &[&str]| governor(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        assert_says(&of(&[]), "CPU governor", Verdict::Ok, &["virtual"]);
        assert_says(&of(&["performance", "schedutil"]), "CPU governor", Verdict::Ok, &["performance, schedutil"]);
        let mixed = of(&["performance", "powersave"]);
        assert_says(&mixed, "CPU governor", Verdict::Warn, &["powersave:", "-g performance"]);
    }

    #[test]
    fn a_cpu_that_may_not_be_used_cannot_be_asked_for() {
        assert_says(&cpus(&[0, 1], None), "CPUs", Verdict::Ok, &["2;"]);
        assert_says(&cpus(&[0, 1], Some(1)), "CPUs", Verdict::Ok, &["of which 1"]);
        assert_says(&cpus(&[0, 2], Some(1)), "CPUs", Verdict::Fail, &["CPU 1", "0, 2"]);
        assert_says(&cpus(&[3], None), "CPUs", Verdict::Warn, &["only one"]);
    }
}
