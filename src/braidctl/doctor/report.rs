//! What was found, for people and for programs.

use super::finding::{Finding, Verdict};

const RED: &str = "\x1b[31m";
const YELLOW: &str = "\x1b[33m";
const GREEN: &str = "\x1b[32m";
const PLAIN: &str = "\x1b[0m";

/// As JSON: a list.
///
/// # Errors
/// That it cannot be written so.
pub(super) fn json(findings: &[Finding]) -> Result<String, String> {
    serde_json::to_string_pretty(findings).map(|text| text + "\n").map_err(|error| error.to_string())
}

/// A line for each, below it what to do, and at the end what it all comes to.
pub(super) fn text(findings: &[Finding], is_colourful: bool) -> String {
    let labels: Vec<String> = findings.iter().map(Finding::label).collect();
    let width = labels.iter().map(|label| label.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for (finding, label) in findings.iter().zip(labels) {
        let (word, colour) = verdict(finding.result);
        text += &format!("{}  {label:width$}  {}\n", paint(word, colour, is_colourful), clean(&finding.found));
        if let Some(advice) = &finding.advice {
            text += &format!("{:6}{:width$}  -> {}\n", "", "", clean(advice));
        }
    }
    let (summary, colour) = summary(findings);
    text + &paint(&summary, colour, is_colourful) + "\n"
}

const fn verdict(result: Verdict) -> (&'static str, &'static str) {
    match result {
        Verdict::Ok => ("ok  ", GREEN),
        Verdict::Warn => ("warn", YELLOW),
        Verdict::Fail => ("FAIL", RED),
    }
}

fn summary(findings: &[Finding]) -> (String, &'static str) {
    let count = |result| findings.iter().filter(|finding| finding.result == result).count();
    let (failures, warnings) = (count(Verdict::Fail), count(Verdict::Warn));
    let all = findings.len();
    match (failures, warnings) {
        (0, 0) => (format!("all is well: {all} checks"), GREEN),
        (0, _) => (format!("it works, and could be better: {warnings} of {all} checks warn"), YELLOW),
        _ => (format!("not well: {failures} of {all} checks fail, and {warnings} warn"), RED),
    }
}

fn paint(text: &str, colour: &str, is_colourful: bool) -> String {
    if is_colourful { format!("{colour}{text}{PLAIN}") } else { text.to_owned() }
}

/// Paths, names and what an end has said may hold worse things to say to a terminal.
fn clean(text: &str) -> String {
    text.replace(char::is_control, "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings() -> [Finding; 3] {
        [
            Finding::ok("kernel", "Linux 6.12"),
            Finding::warn("clock", "nothing keeps it right", "start chrony"),
            Finding::fail("carrier", "there is none", "plug it in\x1b[2J").of("lte-a"),
        ]
    }

    #[test]
    fn columns_are_aligned_and_the_last_line_is_the_verdict() {
        let expected = "\
ok    kernel                 Linux 6.12
warn  clock                  nothing keeps it right
                             -> start chrony
FAIL  uplink lte-a: carrier  there is none
                             -> plug it in\u{fffd}[2J
not well: 1 of 3 checks fail, and 1 warn
";
        assert_eq!(text(&findings(), false), expected);
        assert!(text(&findings()[..2], false).ends_with("could be better: 1 of 2 checks warn\n"));
        assert!(text(&findings()[..1], false).ends_with("all is well: 1 checks\n"));
    }

    #[test]
    fn colours_are_there_only_if_they_are_wanted() {
        assert!(text(&findings(), true).starts_with("\x1b[32mok  \x1b[0m  kernel"));
        assert!(!text(&findings(), false).contains('\x1b'));
    }

    #[test]
    fn programs_get_a_list() {
        let list: serde_json::Value = serde_json::from_str(&json(&findings()).expect("written")).expect("JSON");
        assert_eq!(
            list[1],
            serde_json::json!({"check": "clock", "result": "warn", "found": "nothing keeps it right", "advice": "start chrony"})
        );
        assert_eq!((&list[2]["uplink"], &list[0]["advice"]), (&"lte-a".into(), &serde_json::Value::Null));
    }
}
