//! Who we are and whom we trust: the flags about keys, and the files that hold them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use zeroize::Zeroizing;

use super::values::{CipherChoice, REKEY_INTERVAL_MAX, parse_cipher};
use super::{ReadFiles, UsageError};
use crate::config::{BoxSecurity, SealConfig};
use crate::proto::session::keys::{PresharedKey, PrivateKey, PublicKey};

/// The largest file that is looked at for a key, in bytes.
pub const KEY_FILE_MAX: usize = 4096;

/// A file that may hold a key, as the system has it.
pub struct KeyFile {
    /// Whether it is a plain file, of which alone the contents are read.
    pub is_regular: bool,
    /// Who may do what with it, in the bits of chmod(2).
    pub mode: u32,
    /// What it begins with: up to one byte more than [`KEY_FILE_MAX`].
    pub contents: Zeroizing<Vec<u8>>,
}

#[derive(Debug, Args)]
pub(super) struct KeyArguments {
    /// The file with this end's private key, as 'braidctl keygen FILE' makes it
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// The far end's public key, as 'braidctl pubkey' prints it there
    #[arg(long, value_name = "PUBKEY", value_parser = PublicKey::parse)]
    peer: Option<PublicKey>,
    /// A file with a secret that both ends share beside their keys, as 'braidctl keygen --preshared FILE' makes it
    #[arg(long, value_name = "FILE")]
    preshared_key_file: Option<PathBuf>,
    /// What to seal with: aes-256-gcm, chacha20-poly1305, or auto for the faster on these CPUs [default: auto]
    #[arg(long, value_name = "CIPHER", value_parser = parse_cipher)]
    cipher: Option<CipherChoice>,
    /// Run without keys: whoever can send to this end can put frames on its TAP, and whoever is on the way can read
    /// them
    #[arg(long)]
    plaintext: bool,
}

impl KeyArguments {
    /// Whether the user chose to have no keys; refuses to have some nevertheless.
    pub(super) fn is_plaintext(&self) -> Result<bool, UsageError> {
        let given = [
            ("--key-file", self.key_file.is_some()),
            ("--peer", self.peer.is_some()),
            ("--preshared-key-file", self.preshared_key_file.is_some()),
            ("--cipher", self.cipher.is_some()),
        ];
        match given.iter().find(|(_, is_given)| *is_given) {
            Some((flag, _)) if self.plaintext => Err(plaintext_excludes(flag)),
            _ => Ok(self.plaintext),
        }
    }

    /// The box's side of it.
    pub(super) fn box_security(
        &self,
        rekey_interval: Option<Duration>,
        files: &impl ReadFiles,
    ) -> Result<BoxSecurity, UsageError> {
        if self.is_plaintext()? {
            return match rekey_interval {
                Some(_) => Err(plaintext_excludes("--rekey-interval")),
                None => Ok(BoxSecurity::Plaintext),
            };
        }
        let peer = self.peer("--peer PUBKEY")?;
        let seal = self.seal(files)?;
        check_peer(&seal, &peer, "--peer")?;
        let preshared = read_preshared_key(files, self.preshared_key_file.as_deref())?;
        let rekey_interval = rekey_interval.unwrap_or(REKEY_INTERVAL_MAX);
        Ok(BoxSecurity::Sealed { seal, peer, preshared, rekey_interval })
    }

    /// The one peer's key. `flags` are those that could have told it.
    pub(super) fn peer(&self, flags: &str) -> Result<PublicKey, UsageError> {
        let missing = match (&self.key_file, self.peer) {
            (Some(_), Some(peer)) => return Ok(peer),
            (None, None) => format!("--key-file FILE and {flags} are missing"),
            (None, _) => "--key-file FILE is missing".to_owned(),
            (_, None) => format!("{flags} is missing"),
        };
        Err(without_keys(&missing))
    }

    pub(super) fn seal(&self, files: &impl ReadFiles) -> Result<SealConfig, UsageError> {
        let path = self.key_file.as_ref().ok_or_else(|| without_keys("--key-file FILE is missing"))?;
        Ok(SealConfig {
            private_key: read_key(files, path, "--key-file", PrivateKey::parse)?,
            cipher: self.cipher.and_then(|choice| choice.0),
        })
    }

    /// The file of the one peer's shared secret, if it was given.
    pub(super) fn preshared_key_file(&self) -> Option<&Path> {
        self.preshared_key_file.as_deref()
    }

    /// A flag that tells of one peer only, if any was given.
    pub(super) const fn of_one_peer(&self) -> Option<&'static str> {
        match self {
            Self { peer: Some(_), .. } => Some("--peer"),
            Self { preshared_key_file: Some(_), .. } => Some("--preshared-key-file"),
            _ => None,
        }
    }
}

fn without_keys(missing: &str) -> UsageError {
    UsageError::new(format!(
        "{missing}: make keys with 'braidctl keygen FILE' at both ends, each of which needs the public key that this \
         prints at the other; or give --plaintext to run unsealed, on networks that you trust"
    ))
}

pub(super) fn plaintext_excludes(flag: &str) -> UsageError {
    UsageError::new(format!("{flag} is for sealed tunnels, and --plaintext asks for none: leave one of them out"))
}

/// `place` is where the user wrote the peer's key.
pub(super) fn check_peer(seal: &SealConfig, peer: &PublicKey, place: &str) -> Result<(), UsageError> {
    if seal.private_key.public() == *peer {
        return Err(UsageError::new(format!("{place} is this end's own public key: give the other end's")));
    }
    Ok(())
}

/// The secret in this file, or none.
pub(super) fn read_preshared_key(files: &impl ReadFiles, path: Option<&Path>) -> Result<PresharedKey, UsageError> {
    path.map_or(Ok(PresharedKey::NONE), |path| read_key(files, path, "--preshared-key-file", PresharedKey::parse))
}

/// The key in the file at `path`, which `flag` named.
fn read_key<K>(
    files: &impl ReadFiles,
    path: &Path,
    flag: &str,
    parse: fn(&str) -> Result<K, String>,
) -> Result<K, UsageError> {
    let refuse = |what: String| UsageError::new(format!("{} ({flag}): {what}", path.display()));
    let file = files.key(path).map_err(|error| refuse(format!("cannot be read: {error}")))?;
    key_in(&file, path, parse).map_err(refuse)
}

/// The key in `file`, which is at `path`, if nobody but its owner can get at it.
///
/// # Errors
/// What is wrong with the file, and what to do; never anything of its contents.
pub fn key_in<K>(file: &KeyFile, path: &Path, parse: fn(&str) -> Result<K, String>) -> Result<K, String> {
    if !file.is_regular {
        return Err("it is not a plain file: a key is kept in one that is its owner's alone".to_owned());
    }
    if file.mode & 0o077 != 0 {
        return Err(format!(
            "others than its owner can get at it (mode {:04o}): run 'chmod 600 {}'",
            file.mode & 0o7777,
            path.display()
        ));
    }
    parse_contents(&file.contents, parse)
}

/// The key in what a file or a pipe held.
///
/// # Errors
/// What is wrong with it; never anything of it.
pub fn parse_contents<K>(contents: &[u8], parse: fn(&str) -> Result<K, String>) -> Result<K, String> {
    if contents.len() > KEY_FILE_MAX {
        return Err(format!("it is longer than {KEY_FILE_MAX} bytes: a key is one line of 44 characters"));
    }
    let line = contents.strip_suffix(b"\n").unwrap_or(contents);
    if line.contains(&b'\n') {
        return Err("it has several lines: a key is one line of 44 characters".to_owned());
    }
    let text =
        std::str::from_utf8(line).map_err(|_| "it is not text: a key is one line of 44 characters".to_owned())?;
    parse(text)
}
