//! Everything that can be typed is in the manual and known to the shells.

use super::*;

fn text_of(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A manual page, with hyphens and apostrophes as they are read, not as roff writes them.
fn page_of(folder: &Path, name: &str) -> String {
    text_of(&folder.join(format!("man/{name}.8"))).replace(r"\*(Aq", "'").replace('\\', "")
}

/// The long flags of a command that can be seen.
fn flags(command: &Command) -> Vec<&str> {
    command.get_arguments().filter_map(clap::Arg::get_long).collect()
}

#[test]
fn every_flag_is_in_the_manual_and_known_to_the_shells() {
    let folder = tempfile::tempdir().expect("a folder");
    write_all(folder.path()).expect("written");
    for command in programs() {
        let name = command.get_name();
        let page = page_of(folder.path(), name);
        let completions = [("bash", name.to_owned()), ("zsh", format!("_{name}")), ("fish", format!("{name}.fish"))]
            .map(|(shell, file)| text_of(&folder.path().join("completions").join(shell).join(file)));
        assert!(!flags(&command).is_empty(), "{name}");
        for flag in flags(&command) {
            assert!(page.contains(&format!("--{flag}")), "{name} --{flag}");
            assert!(completions.iter().all(|text| text.contains(flag)), "{name} --{flag}");
        }
    }
}

#[test]
fn every_subcommand_has_a_page_of_its_own() {
    let folder = tempfile::tempdir().expect("a folder");
    write_all(folder.path()).expect("written");
    let [_, _, control] = <[Command; 3]>::try_from(programs()).expect("three programs");
    for subcommand in control.get_subcommands() {
        let page = page_of(folder.path(), &format!("braidctl-{}", subcommand.get_name()));
        assert!(page.contains(&subcommand.get_about().expect("an about").to_string()), "{}", subcommand.get_name());
    }
}
