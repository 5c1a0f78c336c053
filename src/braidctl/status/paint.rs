//! Colours, where there is somebody to see them.

use std::io::{self, IsTerminal};

use anstyle::{AnsiColor, Style};

use super::verdict::Level;

/// Whether to use colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::braidctl) enum Paint {
    /// Text goes to where it is no more than text.
    Plain,
    /// It goes to a terminal.
    Coloured,
}

impl Paint {
    /// Coloured, if standard output is a terminal that can be, and `NO_COLOR` does not forbid it (no-color.org).
    pub(super) fn of_stdout() -> Self {
        let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_dumb = std::env::var_os("TERM").is_none_or(|terminal| terminal == "dumb");
        if io::stdout().is_terminal() && !is_set("NO_COLOR") && !is_dumb { Self::Coloured } else { Self::Plain }
    }

    /// A text in the colour of how bad it is. It takes no more room than without.
    pub(super) fn level(self, level: Level, text: &str) -> String {
        self.style(AnsiColor::from(level).on_default(), text)
    }

    /// A text that stands out.
    pub(super) fn bold(self, text: &str) -> String {
        self.style(Style::new().bold(), text)
    }

    /// A text that does not.
    pub(super) fn faint(self, text: &str) -> String {
        self.style(Style::new().dimmed(), text)
    }

    fn style(self, style: Style, text: &str) -> String {
        match self {
            Self::Plain => text.to_owned(),
            Self::Coloured => format!("{style}{text}{style:#}"),
        }
    }
}

impl From<Level> for AnsiColor {
    fn from(level: Level) -> Self {
        match level {
            Level::Good => Self::Green,
            Level::Warning => Self::Yellow,
            Level::Bad => Self::Red,
        }
    }
}
