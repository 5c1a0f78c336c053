//! What was found by a check.

use serde::Serialize;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    /// Not at all.
    Ok,
    /// It works, but could be better.
    Warn,
    /// It cannot work.
    Fail,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// What was looked at: always the same word or two, for programs.
    pub(super) check: &'static str,
    /// Of which uplink, if of one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) uplink: Option<String>,
    /// How bad it is.
    pub(super) result: Verdict,
    /// What is so, in a line.
    pub(super) found: String,
    /// What to do, in a line; none where nothing need be done.
    pub(super) advice: Option<String>,
}

impl Finding {
    /// All is well.
    pub(super) fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, uplink: None, result: Verdict::Ok, found: found.into(), advice: None }
    }

    /// It could be better.
    pub(super) fn warn(check: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { advice: Some(advice.into()), result: Verdict::Warn, ..Self::ok(check, found) }
    }

    /// It cannot work.
    pub(super) fn fail(check: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { advice: Some(advice.into()), result: Verdict::Fail, ..Self::ok(check, found) }
    }

    /// Of this uplink.
    pub(super) fn of(self, uplink: &str) -> Self {
        Self { uplink: Some(uplink.to_owned()), ..self }
    }

    /// What people call the check.
    pub(super) fn label(&self) -> String {
        match &self.uplink {
            Some(uplink) => format!("uplink {uplink}: {}", self.check),
            None => self.check.to_owned(),
        }
    }
}

/// For tests: that a finding is of this check and verdict, and says these words, be it found or advised.
#[cfg(test)]
#[track_caller]
pub(super) fn assert_says(finding: &Finding, check: &str, result: Verdict, words: &[&str]) {
    assert_eq!((finding.check, finding.result), (check, result), "{finding:?}");
    assert_eq!(finding.advice.is_some(), result != Verdict::Ok, "{finding:?}");
    let said = format!("{} {}", finding.found, finding.advice.as_deref().unwrap_or_default());
    assert!(words.iter().all(|word| said.contains(word)), "{words:?}: {finding:?}");
}
