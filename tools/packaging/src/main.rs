//! Writes what is said about the programs' command lines, from those command lines themselves: `braid-package FOLDER` puts
//! manual pages into `FOLDER/man`, and completions for bash, zsh and fish into `FOLDER/completions`.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;

/// The manual's section of what administrators run (man-pages(7)).
const SECTION: &str = "8";

fn main() -> ExitCode {
    let folder = match env::args_os().skip(1).collect::<Vec<_>>().as_slice() {
        [folder] => PathBuf::from(folder),
        _ => {
            eprintln!(
                "braid-package: usage: braid-package FOLDER, where the manual pages and completions are to be written"
            );
            return ExitCode::from(2);
        }
    };
    match write_all(&folder) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("braid-package: {}: {error}", folder.display());
            ExitCode::FAILURE
        }
    }
}

/// Writes all of it, below `folder`, which is made if it is missing.
fn write_all(folder: &Path) -> io::Result<()> {
    let (man, completions) = (folder.join("man"), folder.join("completions"));
    fs::create_dir_all(&man)?;
    for command in programs() {
        write_completions(&command, &completions)?;
        write_manual(command, &man)?;
    }
    Ok(())
}

fn programs() -> Vec<Command> {
    let mut programs = Vec::from(braid::cli::commands());
    programs.push(braid::braidctl::command());
    programs
}

/// A file for each shell, in a folder called after it, by the name that the shell looks for.
fn write_completions(command: &Command, folder: &Path) -> io::Result<()> {
    let program = command.get_name();
    for (shell, name) in [
        (Shell::Bash, program.to_owned()),
        (Shell::Zsh, format!("_{program}")),
        (Shell::Fish, format!("{program}.fish")),
    ] {
        let folder = folder.join(shell.to_string());
        fs::create_dir_all(&folder)?;
        let mut text = vec![];
        clap_complete::generate(shell, &mut command.clone(), program, &mut text);
        fs::write(folder.join(name), text)?;
    }
    Ok(())
}

/// A page for the program, and one for each thing that it can be told to do.
fn write_manual(command: Command, folder: &Path) -> io::Result<()> {
    // What helps with subcommands needs no page of its own.
    let mut command = command.disable_help_subcommand(true);
    command.build();
    write_pages(&command, folder)
}

fn write_pages(command: &Command, folder: &Path) -> io::Result<()> {
    let version = format!("braid {}", env!("CARGO_PKG_VERSION"));
    Man::new(command.clone()).section(SECTION).source(version).generate_to(folder)?;
    command.get_subcommands().try_for_each(|subcommand| write_pages(subcommand, folder))
}

#[cfg(test)]
mod tests;
