//! What is logged, and how.

use std::str::FromStr;

use tracing::Level;

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// The least that a line must matter to be written.
    pub level: Level,
    /// The same for modules, by their paths such as `braid::io`.
    pub modules: Vec<(String, Level)>,
    /// Whether lines are JSON objects.
    pub is_json: bool,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { level: Level::INFO, modules: vec![], is_json: false }
    }
}

impl FromStr for LogConfig {
    type Err = String;

    /// Reads it as `--log` has it: `debug`, `info,io=trace`, `warn,json`.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut log = Self::default();
        let (mut level, mut form) = (None, None);
        for part in text.split(',') {
            let is_twice = match (part, part.split_once('=')) {
                ("json" | "text", _) => form.replace(part == "json").is_some(),
                (_, Some((module, of_module))) => {
                    let path = module_path(module)?;
                    let is_twice = log.modules.iter().any(|(known, _)| *known == path);
                    log.modules.push((path, parse_level(of_module)?));
                    is_twice
                }
                _ => level.replace(parse_level(part)?).is_some(),
            };
            if is_twice {
                return Err(format!("'{part}' says again what was said before"));
            }
        }
        log.level = level.unwrap_or(log.level);
        log.is_json = form.unwrap_or(log.is_json);
        Ok(log)
    }
}

/// The path of one of our modules, with or without the name of the crate in front.
fn module_path(module: &str) -> Result<String, String> {
    let is_path =
        !module.is_empty() && module.bytes().all(|byte| byte.is_ascii_alphanumeric() || b":_".contains(&byte));
    if !is_path {
        return Err(format!("'{module}' is not a module such as io or proto::tunnel"));
    }
    let is_whole = module == "braid" || module.starts_with("braid::");
    Ok(if is_whole { module.to_owned() } else { format!("braid::{module}") })
}

fn parse_level(text: &str) -> Result<Level, String> {
    let is_name = ["error", "warn", "info", "debug", "trace"].contains(&text);
    text.parse().ok().filter(|_| is_name).ok_or_else(|| {
        format!(
            "'{text}' is no level: error, warn, info, debug and trace are, and MODULE=LEVEL, json and text may follow"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_modules_and_the_form_come_in_any_order() {
        let log: LogConfig = "json,io=trace,warn,braid::proto::tunnel=debug".parse().expect("lawful");
        assert_eq!((log.level, log.is_json), (Level::WARN, true));
        let modules = [("braid::io".to_owned(), Level::TRACE), ("braid::proto::tunnel".to_owned(), Level::DEBUG)];
        assert_eq!(log.modules, modules);
        assert_eq!("info".parse(), Ok(LogConfig::default()));
        for wrong in ["", "loud", "debug,info", "json,text", "io=1", "io=debug,io=info", "=debug", "i o=debug", "INFO"]
        {
            assert!(wrong.parse::<LogConfig>().is_err(), "{wrong}");
        }
    }
}
