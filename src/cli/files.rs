//! How files are got at: the one thing here that asks the system for something.

use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use zeroize::Zeroizing;

use super::keys::{KEY_FILE_MAX, KeyFile};

/// Reads files, or makes believe.
pub(crate) trait ReadFiles {
    /// The text of a configuration file.
    fn config(&self, path: &Path) -> io::Result<String>;
    /// A file that may hold a key.
    fn key(&self, path: &Path) -> io::Result<KeyFile>;
}

/// The files that there are.
pub(crate) struct SystemFiles;

impl ReadFiles for SystemFiles {
    fn config(&self, path: &Path) -> io::Result<String> {
        fs::read_to_string(path)
    }

    fn key(&self, path: &Path) -> io::Result<KeyFile> {
        // A pipe that nobody writes to would have us wait, only to be refused.
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
        // Of what was opened, not of what has the name by now.
        let metadata = file.metadata()?;
        let contents = if metadata.is_file() { read_some(file)? } else { Zeroizing::default() };
        Ok(KeyFile { is_regular: metadata.is_file(), mode: metadata.mode(), contents })
    }
}

/// As much as tells a key from what is too long for one. In a buffer that never has to grow, which would leave a copy
/// behind.
pub(crate) fn read_some(mut source: impl Read) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut contents = Zeroizing::new(vec![0; KEY_FILE_MAX + 1]);
    let mut length = 0;
    loop {
        match source.read(&mut contents[length..]) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    contents.truncate(length);
    Ok(contents)
}
