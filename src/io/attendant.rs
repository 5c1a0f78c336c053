//! A process beside the reactor's that may still open files: it reads the configuration again when it is asked to, and removes
//! the control socket at the end, also after a crash.
//!
//! The reactor's process parses what strangers send, and so gives up opening files for good; nor could it wait for a disk. The
//! attendant gets nothing from it but single bytes.

use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use super::control::owner_of_folder;
use super::{privileges, sys};
use crate::config::Flag;

/// Asks it to read the configuration.
const READ: u8 = b'r';
/// Asks it to end.
const END: u8 = b'e';
/// The longest answer, in bytes.
const ANSWER_MAX: usize = 1 << 20;
/// How long it may take to end.
const END_WITHIN: Duration = Duration::from_secs(1);

/// The flags that the configuration has now, or what is wrong with it.
pub type Reread = Result<Vec<Flag>, String>;

/// A file that is to be removed, and no other that has taken its place meanwhile.
pub struct Removed {
    path: PathBuf,
    /// Its number, by which the file system knows it.
    inode: u64,
    /// Whether the folder is another user's, so that it takes a capability.
    is_in_anothers_folder: bool,
}

impl Removed {
    /// The file that is at `path` now.
    ///
    /// # Errors
    /// What stat(2) says.
    pub fn at(path: PathBuf) -> io::Result<Self> {
        let inode = std::fs::symlink_metadata(&path)?.ino();
        let is_in_anothers_folder = owner_of_folder(&path).is_some();
        Ok(Self { path, inode, is_in_anothers_folder })
    }

    fn remove(&self) {
        if std::fs::symlink_metadata(&self.path).is_ok_and(|metadata| metadata.ino() == self.inode) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// The reactor's side of it.
pub struct Attendant {
    socket: UnixStream,
    /// What has come of the answer.
    answer: Vec<u8>,
    is_asked: bool,
    is_asked_again: bool,
}

impl Attendant {
    /// Starts it. `reread` reads the configuration; the file at `removed_at_end` is removed.
    ///
    /// To be called before there are descriptors that it should not have, and by the only thread.
    ///
    /// # Errors
    /// What socketpair(2), setsockopt(2) or fork(2) says.
    pub fn start(removed_at_end: Option<Removed>, reread: &dyn Fn() -> Reread) -> io::Result<Self> {
        let (socket, of_attendant) = UnixStream::pair()?;
        // While it works nothing waits; this is for the end, when another socket's time limit could not be set any more.
        socket.set_read_timeout(Some(END_WITHIN))?;
        if sys::fork_is_child()? {
            drop(socket);
            attend(of_attendant, removed_at_end, reread);
        }
        Ok(Self { socket, answer: vec![], is_asked: false, is_asked_again: false })
    }

    /// What to wait for.
    #[must_use]
    pub fn descriptor(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// Asks it to read the configuration; again, if it is just doing so.
    ///
    /// # Errors
    /// If it is no more.
    pub fn ask(&mut self) -> io::Result<()> {
        if std::mem::replace(&mut self.is_asked, true) {
            // What it is reading may have changed since.
            self.is_asked_again = true;
            return Ok(());
        }
        self.answer.clear();
        sys::send_now(&self.socket, &[READ]).map(drop)
    }

    /// Its answer, once that has come.
    ///
    /// # Errors
    /// If it is no more.
    pub fn take_answer(&mut self) -> io::Result<Option<Reread>> {
        let mut bytes = [0; 4096];
        loop {
            match sys::receive_now(&self.socket, &mut bytes) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(length) => self.answer.extend_from_slice(&bytes[..length]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        if self.answer.last() != Some(&b'\n') || !self.is_asked {
            return Ok(None);
        }
        self.is_asked = false;
        if std::mem::take(&mut self.is_asked_again) {
            self.ask()?;
            return Ok(None);
        }
        let answer = serde_json::from_slice(&self.answer);
        Ok(Some(answer.unwrap_or_else(|error| Err(format!("the configuration cannot be read again: {error}")))))
    }
}

impl Drop for Attendant {
    /// Waits until it has removed what it is to remove.
    fn drop(&mut self) {
        if sys::send_now(&self.socket, &[END]).is_ok() {
            while self.socket.read(&mut [0; 64]).is_ok_and(|length| length > 0) {}
        }
    }
}

/// The attendant's whole life.
fn attend(mut socket: UnixStream, removed_at_end: Option<Removed>, reread: &dyn Fn() -> Reread) -> ! {
    // It goes when the reactor's process goes, whoever else is told to.
    sys::ignore_signals();
    sys::set_process_name(c"braid-attendant");
    sys::close_all_but(&[libc::STDERR_FILENO, socket.as_raw_fd()]);
    let _ = privileges::keep_files(removed_at_end.as_ref().is_some_and(|removed| removed.is_in_anothers_folder));
    let mut order = [0];
    while socket.read(&mut order).is_ok_and(|length| length == 1) && order == [READ] {
        let mut answer = serde_json::to_vec(&reread()).unwrap_or_default();
        answer.truncate(ANSWER_MAX);
        answer.push(b'\n');
        if socket.write_all(&answer).is_err() {
            break;
        }
    }
    if let Some(removed) = removed_at_end {
        removed.remove();
    }
    sys::exit_now();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer_of(attendant: &mut Attendant) -> Reread {
        attendant.ask().expect("it lives");
        loop {
            if let Some(answer) = attendant.take_answer().expect("it lives") {
                return answer;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn it_reads_what_is_there_now_and_removes_its_file_at_the_end() {
        let folder = tempfile::tempdir().expect("a folder");
        let [config, socket] = ["config", "socket"].map(|name| folder.path().join(name));
        std::fs::write(&socket, "").expect("written");
        let removed = Removed::at(socket.clone()).expect("there");
        let read = config.clone();
        let reread = move || match std::fs::read_to_string(&read) {
            Ok(value) => Ok(vec![Flag { name: "mode".to_owned(), value }]),
            Err(error) => Err(error.to_string()),
        };
        let mut attendant = Attendant::start(Some(removed), &reread).expect("started");
        assert!(answer_of(&mut attendant).expect_err("no file yet").contains("No such file"));
        for value in ["adaptive", "broadcast", &"long ".repeat(10_000)] {
            std::fs::write(&config, value).expect("written");
            let flags = answer_of(&mut attendant).expect("read");
            assert_eq!(flags, [Flag { name: "mode".to_owned(), value: value.to_owned() }]);
        }
        assert!(socket.exists());
        drop(attendant);
        assert!(!socket.exists());
    }

    #[test]
    fn a_file_that_has_taken_the_place_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let [path, other] = ["socket", "other"].map(|name| folder.path().join(name));
        std::fs::write(&path, "").expect("written");
        std::fs::write(&other, "").expect("written");
        let removed = Removed::at(path.clone()).expect("there");
        std::fs::rename(&other, &path).expect("renamed");
        removed.remove();
        assert!(path.exists());
    }
}
