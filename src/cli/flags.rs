//! All flags that hold, wherever they were given: to compare, and to print as a configuration file.

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command};

use crate::config::Flag;

/// What is no part of a configuration.
const NO_SETTINGS: [&str; 4] = ["config", "print-config", "help", "version"];

/// The flags that were given, by their names; those of one name in the order in which they were.
pub(super) fn given(command: &Command, matches: &ArgMatches) -> Vec<Flag> {
    let is_given = |argument: &Arg| is_given(matches, argument);
    settings(command).filter(|argument| is_given(argument)).flat_map(|argument| flags_of(matches, argument)).collect()
}

/// The flags that hold, as a configuration file that says the same. Those that nobody has given are comments.
pub(super) fn print(command: &Command, matches: &ArgMatches) -> String {
    let mut text = format!("# {} --config FILE\n", command.get_name());
    for argument in settings(command) {
        let mut flags = flags_of(matches, argument);
        let comment = if is_given(matches, argument) { "" } else { "# " };
        let Some(name) = argument.get_long() else { continue };
        let value = match (flags.len(), takes_several(argument)) {
            (0, _) => {
                let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
                let usual = help.split_once("[default: ").and_then(|(_, usual)| usual.strip_suffix(']'));
                usual.map_or(String::new(), |usual| format!("   # {usual}"))
            }
            (_, false) => quote(&flags.remove(0).value),
            (_, true) => {
                let values: Vec<String> = flags.iter().map(|flag| quote(&flag.value)).collect();
                format!("[{}]", values.join(", "))
            }
        };
        text.push_str(&format!("{comment}{name} = {value}\n"));
    }
    text
}

fn settings(command: &Command) -> impl Iterator<Item = &Arg> {
    command.get_arguments().filter(|argument| argument.get_long().is_some_and(|name| !NO_SETTINGS.contains(&name)))
}

fn is_given(matches: &ArgMatches, argument: &Arg) -> bool {
    matches.value_source(argument.get_id().as_str()) == Some(ValueSource::CommandLine)
}

fn takes_several(argument: &Arg) -> bool {
    matches!(argument.get_action(), clap::ArgAction::Append) || argument.get_value_delimiter().is_some()
}

fn flags_of(matches: &ArgMatches, argument: &Arg) -> Vec<Flag> {
    let name = argument.get_long().unwrap_or_default();
    let raw = matches.get_raw(argument.get_id().as_str()).into_iter().flatten();
    raw.map(|value| Flag { name: name.to_owned(), value: value.to_string_lossy().into_owned() }).collect()
}

/// As TOML has it.
fn quote(value: &str) -> String {
    match value {
        "true" | "false" => value.to_owned(),
        _ => toml::Value::String(value.to_owned()).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::io::Write;

    use crate::cli::{Request, parse_box};
    use crate::config::BoxConfig;

    fn parse(line: &str) -> Request<BoxConfig> {
        parse_box(line.split_whitespace().map(OsString::from).collect()).expect("lawful")
    }

    fn config(line: &str) -> BoxConfig {
        match parse(line) {
            Request::Run(config) => config,
            Request::Show(text) => panic!("{text}"),
        }
    }

    #[test]
    fn a_printed_configuration_says_what_was_said() {
        for flags in [
            "--tap braid0 --uplink dev=a",
            "--tap braid0 --uplink dev=a,weight=3,metered --uplink dev=b,name=x,max-rate=5mbit --mode active-backup \
             --primary x --window auto:300ms --address 10.9.0.1/24 --address fd00::1/64 --mtu 1300 --log warn,io=debug,json",
            "--tap t --uplink dev=a --redundancy marked,port=22 --offload none --control off --cpu 1 --busy-poll 50us",
        ] {
            let line = format!("braid-box --plaintext --gateway gw.example {flags}");
            let Request::Show(text) = parse(&format!("{line} --print-config")) else { panic!("it does not run") };
            let mut file = tempfile::NamedTempFile::new().expect("a file");
            file.write_all(text.as_bytes()).expect("written");
            let mut again = config(&format!("braid-box --config {}", file.path().display())).process.flags;
            let mut before = config(&line).process.flags;
            again.sort();
            before.sort();
            assert_eq!(again, before, "{text}");
            assert!(text.lines().any(|line| line.starts_with("# probe-interval = ")), "what is not said is shown: {text}");
        }
    }
}
