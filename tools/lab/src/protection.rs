//! How the ends of a tunnel are protected: by keys that are made for the run, unless plaintext is asked for.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use braid::proto::session::keys::{KEY_LENGTH, PrivateKey, PublicKey};

use crate::end::{PerEnd, Which};

/// What both ends of a tunnel are given.
#[derive(Clone, Debug)]
pub enum Protection {
    /// None.
    Plaintext,
    /// A key pair each.
    Sealed(PerEnd<KeyPair>),
}

/// A key pair, of which the private half is in a file.
#[derive(Clone, Debug)]
pub struct KeyPair {
    /// The file with the private half.
    pub file: PathBuf,
    /// The public half.
    pub public: PublicKey,
}

impl Protection {
    /// What a tunnel is given that is sealed unless `is_plaintext`. Private keys go to `folder`, readable by their owner
    /// alone, and replace those of an earlier tunnel.
    ///
    /// # Errors
    /// What went wrong.
    pub fn new(is_plaintext: bool, folder: &Path) -> Result<Self, String> {
        if is_plaintext {
            return Ok(Self::Plaintext);
        }
        let pair = |which: Which| KeyPair::make(folder.join(format!("{}.key", which.program())));
        Ok(Self::Sealed(PerEnd { box_end: pair(Which::Box)?, gateway: pair(Which::Gateway)? }))
    }

    /// The flags that give it to an end.
    #[must_use]
    pub fn flags(&self, which: Which) -> Vec<String> {
        let Self::Sealed(pairs) = self else { return vec!["--plaintext".to_owned()] };
        let (own, peer) = match which {
            Which::Box => (&pairs.box_end, &pairs.gateway),
            Which::Gateway => (&pairs.gateway, &pairs.box_end),
        };
        vec![format!("--key-file={}", own.file.display()), format!("--peer={}", peer.public)]
    }
}

impl KeyPair {
    /// Makes one, and writes the private half to this file, readable by its owner alone, instead of what was there.
    ///
    /// # Errors
    /// What went wrong.
    pub fn make(file: PathBuf) -> Result<Self, String> {
        let cannot = |error: io::Error| format!("cannot make the key {}: {error}", file.display());
        let mut random = [0; KEY_LENGTH];
        File::open("/dev/urandom").and_then(|mut source| source.read_exact(&mut random)).map_err(cannot)?;
        let private = PrivateKey::from_random(random);
        match std::fs::remove_file(&file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(cannot(error)),
            _ => {}
        }
        let mut created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&file).map_err(cannot)?;
        writeln!(created, "{}", private.to_text().as_str()).map_err(cannot)?;
        Ok(Self { public: private.public(), file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn value<'a>(flags: &'a [String], flag: &str) -> &'a str {
        flags.iter().find_map(|word| word.strip_prefix(flag)).expect("it is given")
    }

    #[test]
    fn each_end_has_a_secret_of_its_own_and_knows_the_others_public_key() {
        let folder = tempfile::tempdir().expect("a folder");
        for _ in 0..2 {
            let protection = Protection::new(false, folder.path()).expect("keys");
            let [near, far] = Which::BOTH.map(|which| protection.flags(which));
            for (own, other) in [(&near, &far), (&far, &near)] {
                let file = Path::new(value(own, "--key-file="));
                let text = std::fs::read_to_string(file).expect("written");
                let private = PrivateKey::parse(text.trim_end()).expect("a key");
                assert_eq!(private.public().to_string(), value(other, "--peer="));
                let mode = std::fs::metadata(file).expect("there").permissions().mode();
                assert_eq!(mode & 0o777, 0o600, "{}", file.display());
            }
        }
    }

    #[test]
    fn plaintext_is_what_was_asked_for_and_needs_no_key() {
        let protection = Protection::new(true, Path::new("/nowhere")).expect("nothing to make");
        assert_eq!(Which::BOTH.map(|which| protection.flags(which)), [["--plaintext"], ["--plaintext"]]);
    }
}
