//! Makes keys, and tells what belongs to them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use zeroize::Zeroizing;

use super::{PROGRAM, say, write_to_stdout};
use crate::cli::keys::{key_in, parse_contents};
use crate::cli::{ReadFiles, SystemFiles, read_some};
use crate::proto::session::keys::{KEY_LENGTH, KEY_TEXT_LENGTH, PresharedKey, PrivateKey};

/// Makes a private key, or a secret to share, in a file or on standard output.
///
/// # Errors
/// Why not, and what to do.
pub(super) fn keygen(preshared: bool, file: Option<&Path>) -> Result<(), String> {
    if preshared {
        return keep(&PresharedKey::from_random(*random_bytes()?).to_text(), file);
    }
    let key = PrivateKey::from_random(*random_bytes()?);
    keep(&key.to_text(), file)?;
    if file.is_some() { say(&format!("{}\n", key.public())) } else { Ok(()) }
}

/// Prints the public key that belongs to a private one.
///
/// # Errors
/// What is wrong with that.
pub(super) fn pubkey(file: Option<&Path>) -> Result<(), String> {
    say(&format!("{}\n", private_key(file)?.public()))
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
