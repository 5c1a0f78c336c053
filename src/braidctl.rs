//! `braidctl`, the operator's tool: makes keys, and tells what belongs to them.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use zeroize::Zeroizing;

use crate::cli::keys::{key_in, parse_contents};
use crate::cli::{ReadFiles, Request, SystemFiles, parse_alone, read_some};
use crate::io::hide_memory;
use crate::proto::session::keys::{KEY_LENGTH, KEY_TEXT_LENGTH, PresharedKey, PrivateKey};
use crate::run::{EXIT_RUNTIME, EXIT_USAGE, fail};

const PROGRAM: &str = "braidctl";

/// Makes keys for braid-box and braid-gateway, and tells what belongs to them
#[derive(Debug, Parser)]
#[command(name = PROGRAM, version, disable_help_subcommand = true, arg_required_else_help = false)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a private key: on standard output, or in a file of its owner's alone, and then print the public key
    Keygen {
        /// Make a secret that two ends share beside their keys, instead; there is no public key to it
        #[arg(long)]
        preshared: bool,
        /// The file to make, which must not be there
        file: Option<PathBuf>,
    },
    /// Print the public key that belongs to a private key
    Pubkey {
        /// The file with the private key; standard input unless given
        file: Option<PathBuf>,
    },
}

/// Does what the command line asks for; errors go to standard error, one line each.
#[must_use]
pub fn run(arguments: Vec<OsString>) -> ExitCode {
    if let Err(error) = hide_memory() {
        return fail(PROGRAM, &error, EXIT_RUNTIME);
    }
    let outcome = match parse_alone(arguments) {
        Ok(Request::Run(Arguments { command })) => obey(&command),
        Ok(Request::Show(text)) => say(&text),
        Err(error) => return fail(PROGRAM, &error, EXIT_USAGE),
    };
    outcome.map_or_else(|error| fail(PROGRAM, &error, EXIT_RUNTIME), |()| ExitCode::SUCCESS)
}

fn obey(command: &Command) -> Result<(), String> {
    match command {
        Command::Keygen { preshared: true, file } => {
            keep(&PresharedKey::from_random(*random_bytes()?).to_text(), file.as_deref())
        }
        Command::Keygen { preshared: false, file } => {
            let key = PrivateKey::from_random(*random_bytes()?);
            keep(&key.to_text(), file.as_deref())?;
            if file.is_some() { say(&format!("{}\n", key.public())) } else { Ok(()) }
        }
        Command::Pubkey { file } => say(&format!("{}\n", private_key(file.as_deref())?.public())),
    }
}

fn random_bytes() -> Result<Zeroizing<[u8; KEY_LENGTH]>, String> {
    let mut bytes = Zeroizing::new([0; KEY_LENGTH]);
    getrandom::getrandom(&mut *bytes).map_err(|error| format!("the system has no randomness for a key: {error}"))?;
    Ok(bytes)
}

/// Writes a key to where it is wanted.
fn keep(key: &str, path: Option<&Path>) -> Result<(), String> {
    let mut line = Zeroizing::new(Vec::with_capacity(KEY_TEXT_LENGTH + 1));
    line.extend_from_slice(key.as_bytes());
    line.push(b'\n');
    match path {
        Some(path) => create(path, &line),
        None => {
            warn_if_exposed();
            write_to_stdout(&line)
        }
    }
}

/// Redirected output is a file that others may read, unless the umask is strict.
fn warn_if_exposed() {
    let stdout = io::stdout().as_fd().try_clone_to_owned().map(File::from);
    let is_exposed = stdout
        .and_then(|stdout| stdout.metadata())
        .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o077 != 0);
    if is_exposed {
        let advice = format!("'chmod 600' it, or use '{PROGRAM} keygen FILE'");
        let _ = writeln!(io::stderr(), "{PROGRAM}: others can read the file that this key goes to: {advice}");
    }
}

fn create(path: &Path, line: &[u8]) -> Result<(), String> {
    let path_text = path.display();
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let mut file = file.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            format!("{path_text} is there already, and keys are never overwritten: name another file, or remove it")
        }
        _ => format!("{path_text} cannot be created: {error}"),
    })?;
    // The public key is told to others next, so the key should be there after a power cut, too.
    file.write_all(line).and_then(|()| file.sync_all()).map_err(|error| {
        // Half a key would be in the way of the next attempt. That it cannot be removed is not the error to tell of.
        let _ = fs::remove_file(path);
        format!("{path_text} cannot be written: {error}")
    })
}

fn private_key(path: Option<&Path>) -> Result<PrivateKey, String> {
    match path {
        Some(path) => {
            let file = SystemFiles.key(path).map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
            key_in(&file, path, PrivateKey::parse).map_err(|error| format!("{}: {error}", path.display()))
        }
        None => {
            let contents =
                read_some(io::stdin().lock()).map_err(|error| format!("standard input cannot be read: {error}"))?;
            parse_contents(&contents, PrivateKey::parse).map_err(|error| format!("standard input: {error}"))
        }
    }
}

fn say(text: &str) -> Result<(), String> {
    write_to_stdout(text.as_bytes())
}

/// Past the standard library's buffers, which would keep a copy.
fn write_to_stdout(bytes: &[u8]) -> Result<(), String> {
    let stdout = io::stdout().as_fd().try_clone_to_owned().map(File::from);
    let written = stdout.and_then(|mut stdout| stdout.write_all(bytes));
    written.map_err(|error| format!("standard output cannot be written: {error}"))
}
