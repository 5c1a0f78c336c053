//! `--window`, as the programs have it.

use std::fmt;
use std::time::Duration;

use braid::proto::scheduler::Mode;

use super::command_line::within;

/// The longest that a frame may be held, if order is to be restored, and whether the window follows what the uplinks
/// require, up to that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// `None` where frames come out as they arrive.
    pub longest: Option<Duration>,
    /// Whether it follows.
    pub follows: bool,
}

impl Window {
    /// Frames come out as they arrive.
    pub const OFF: Self = Self { longest: None, follows: false };

    /// What it is where nothing is said.
    #[must_use]
    pub const fn of(mode: Mode) -> Self {
        let (longest, follows) = mode.window();
        Self { longest: Some(longest), follows }
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self { longest: None, .. } => f.write_str("off"),
            Self { longest: Some(longest), follows: true } => write!(f, "auto:{longest:?}"),
            Self { longest: Some(longest), follows: false } => write!(f, "{longest:?}"),
        }
    }
}

/// `off`, `auto`, `auto:DURATION` or `DURATION`.
pub fn parse_window(text: &str) -> Result<Window, String> {
    let longest = match text {
        "off" => return Ok(Window::OFF),
        "auto" => return Ok(Window::of(Mode::Adaptive)),
        text => text.strip_prefix("auto:").unwrap_or(text),
    };
    let longest = within(longest, Duration::from_millis(1), Duration::from_secs(2))?;
    Ok(Window { longest: Some(longest), follows: text.starts_with("auto:") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_what_is_read() {
        for text in ["off", "40ms", "auto:250ms", "auto:1.5s"] {
            assert_eq!(parse_window(text).map(|window| window.to_string()), Ok(text.to_owned()));
        }
        assert_eq!(parse_window("auto"), Ok(Window::of(Mode::Adaptive)));
        assert!(parse_window("auto:3s").is_err() && parse_window("auto:").is_err());
    }
}
