//! The file that keeps what uplinks have carried: pairs of lines ([`record`](super::record)), written in turn.
//!
//! ```text
//!  place 0          place 1          …  PLACES
//!  ┌───────┬───────┬───────┬───────┐
//!  │ older │ newer │ newer │ older │    a line is RECORD_LENGTH bytes, and blank if it was never written
//!  └───────┴───────┴───────┴───────┘
//! ```
//! A line that is torn, by a crash or a power cut while it was written, leaves the other of its pair. The file is made
//! whole, and then only written in place: that takes no other system call, no room on the disk, and is not waited for.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::period::Day;
use super::record::{RECORD_LENGTH, Record};
use crate::io::sys;
use crate::proto::uplink::{UPLINKS_MAX, UplinkName};

/// How many uplinks a file has room for: those there can be, and as many that have had other names.
const PLACES: usize = 2 * UPLINKS_MAX;
const PAIR_LENGTH: usize = 2 * RECORD_LENGTH;
const FILE_LENGTH: usize = PLACES * PAIR_LENGTH;

const BLANK: [u8; RECORD_LENGTH] = {
    let mut line = [b' '; RECORD_LENGTH];
    line[RECORD_LENGTH - 1] = b'\n';
    line
};

/// Why there is no such file: one line, with what to do.
#[derive(Debug)]
pub struct UsageFileError(String);

impl fmt::Display for UsageFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UsageFileError {}

/// What is known of a place.
#[derive(Clone, Copy, Debug, Default)]
struct Pair {
    newest: Option<Record>,
    /// Which of its lines is written next.
    next: usize,
}

impl Pair {
    /// `None` if nothing can be made of it.
    fn read(lines: &[u8]) -> Option<Self> {
        let (first, second) = lines.split_at(RECORD_LENGTH);
        match [first, second].map(Record::decode) {
            [Some(one), Some(other)] if one.serial < other.serial => Some(Self { newest: Some(other), next: 0 }),
            [Some(newest), _] => Some(Self { newest: Some(newest), next: 1 }),
            [None, Some(newest)] => Some(Self { newest: Some(newest), next: 0 }),
            // The first of all lines is written to a blank pair, and may be torn.
            [None, None] => (first == BLANK || second == BLANK).then(Self::default),
        }
    }
}

/// The file.
#[derive(Debug)]
pub struct UsageFile {
    file: File,
    pairs: [Pair; PLACES],
}

impl UsageFile {
    /// Opens it, or makes it, with the folder that it is in.
    ///
    /// # Errors
    /// Why not, and what to do; in particular if there is one that cannot be understood.
    pub fn open(path: &Path) -> Result<Self, UsageFileError> {
        let shown = path.display();
        let failed = |what: &str, error: io::Error| {
            let advice = match error.kind() {
                io::ErrorKind::NotFound => ": make the folder that it is to be in",
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                    ": give a place where this user may write"
                }
                _ => "",
            };
            UsageFileError(format!(
                "cannot {what} {shown} (--usage-file), which keeps what uplinks have carried: {error}{advice}"
            ))
        };
        if !path.exists() {
            make(path).map_err(|error| failed("make", error))?;
        }
        let mut file = OpenOptions::new().read(true).write(true).open(path).map_err(|error| failed("open", error))?;
        // One that has just been stopped may take a moment.
        sys::retry_while(libc::EWOULDBLOCK, || lock(&file)).map_err(|error| match error.raw_os_error() {
            Some(libc::EWOULDBLOCK) => {
                UsageFileError(format!("another process counts in {shown} (--usage-file): give each a file of its own"))
            }
            _ => failed("lock", error),
        })?;
        let mut bytes = vec![];
        // One byte more than there should be shows that there is more.
        let read = Read::take(&mut file, FILE_LENGTH as u64 + 1).read_to_end(&mut bytes);
        read.map_err(|error| failed("read", error))?;
        let pairs = parse(&bytes).map_err(|what| {
            UsageFileError(format!(
                "cannot understand {shown} (--usage-file): {what}: put back what it was, or delete it to count from zero"
            ))
        })?;
        Ok(Self { file, pairs })
    }

    /// What is written to by [`Self::write`].
    #[must_use]
    pub fn descriptor(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    /// The place for an uplink, and what is kept there of it. One that has none yet gets one that is free, or that of an
    /// uplink none of `others` whose period was over before `today`.
    ///
    /// # Errors
    /// If there is none.
    pub fn place(
        &mut self,
        name: UplinkName,
        others: &[UplinkName],
        today: Day,
    ) -> Result<(usize, Option<Record>), UsageFileError> {
        let of = |pair: &Pair| pair.newest.map(|record| record.name);
        if let Some(place) = self.pairs.iter().position(|pair| of(pair) == Some(name)) {
            return Ok((place, self.pairs[place].newest));
        }
        let is_over = |record: &Record| record.period.until <= today && !others.contains(&record.name);
        let free = self.pairs.iter().position(|pair| pair.newest.is_none());
        let free = free.or_else(|| self.pairs.iter().position(|pair| pair.newest.as_ref().is_some_and(is_over)));
        let place = free.ok_or_else(|| {
            UsageFileError(format!(
                "there is no room for uplink {name} in the file of --usage-file, which counts {PLACES} others: give another file"
            ))
        })?;
        Ok((place, None))
    }

    /// The serial number that makes a record newer than what is in its place.
    #[must_use]
    pub fn next_serial(&self, place: usize) -> u32 {
        self.pairs[place].newest.map_or(1, |newest| newest.serial.saturating_add(1))
    }

    /// Writes a record, newer than all before, to a place.
    ///
    /// # Errors
    /// What pwrite(2) says.
    pub fn write(&mut self, place: usize, record: Record) -> io::Result<()> {
        let pair = &mut self.pairs[place];
        let at = place * PAIR_LENGTH + pair.next * RECORD_LENGTH;
        self.file.write_all_at(&record.encode(), at as u64)?;
        *pair = Pair { newest: Some(record), next: 1 - pair.next };
        Ok(())
    }
}

/// What to say of one that was opened, and cannot be written.
pub fn unwritable(path: &Path, error: &io::Error) -> UsageFileError {
    UsageFileError(format!("cannot write {} (--usage-file): {error}", path.display()))
}

fn lock(file: &File) -> io::Result<()> {
    file.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => io::Error::from_raw_os_error(libc::EWOULDBLOCK),
        TryLockError::Error(error) => error,
    })
}

/// Makes it, all of it or nothing: what is there after a power cut must not be a part.
fn make(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !folder.exists() {
        DirBuilder::new().mode(0o755).create(folder)?;
    }
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".new");
    let unfinished = PathBuf::from(unfinished);
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(&unfinished)?;
    file.write_all(&BLANK.repeat(2 * PLACES))?;
    file.sync_all()?;
    fs::rename(&unfinished, path)?;
    File::open(folder)?.sync_all()
}

fn parse(bytes: &[u8]) -> Result<[Pair; PLACES], String> {
    if bytes.len() != FILE_LENGTH {
        let than = if bytes.len() < FILE_LENGTH { "shorter" } else { "longer" };
        return Err(format!("it is {than} than the {FILE_LENGTH} bytes that it had"));
    }
    let mut pairs = [Pair::default(); PLACES];
    for (place, (pair, lines)) in pairs.iter_mut().zip(bytes.chunks(PAIR_LENGTH)).enumerate() {
        let line = 2 * place + 1;
        *pair = Pair::read(lines).ok_or_else(|| format!("neither line {line} nor line {} is whole", line + 1))?;
    }
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    use super::super::period::Period;
    use super::*;

    fn day(text: &str) -> Day {
        text.parse().expect("a date")
    }

    fn name(text: &str) -> UplinkName {
        UplinkName::new(text).expect("lawful")
    }

    fn record(of: &str, used: u64, serial: u32) -> Record {
        Record { name: name(of), used, period: Period::at(day("2026-11-30"), 1), serial }
    }

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().expect("a folder")
    }

    fn kept(path: &Path, of: &str) -> Option<u64> {
        let mut file = UsageFile::open(path).expect("understood");
        let (_, record) = file.place(name(of), &[], day("2026-11-30")).expect("room");
        record.map(|record| record.used)
    }

    fn write(path: &Path, of: &str, used: u64) {
        let mut file = UsageFile::open(path).expect("understood");
        let (place, _) = file.place(name(of), &[], day("2026-11-30")).expect("room");
        let serial = file.next_serial(place);
        file.write(place, record(of, used, serial)).expect("written");
    }

    #[test]
    fn what_was_written_last_is_kept_of_each() {
        let folder = folder();
        let path = folder.path().join("made").join("braid0.usage");
        assert_eq!(kept(&path, "a"), None);
        for used in 1..=5 {
            write(&path, "a", used);
            write(&path, "b", used * 10);
        }
        assert_eq!((kept(&path, "a"), kept(&path, "b"), kept(&path, "c")), (Some(5), Some(50), None));
    }

    #[test]
    fn a_torn_line_leaves_the_one_before_and_two_are_refused() {
        let folder = folder();
        let path = folder.path().join("braid0.usage");
        write(&path, "a", 1);
        write(&path, "a", 2);
        let whole = fs::read(&path).expect("there");
        let tear = |lines: &[usize]| {
            let mut bytes = whole.clone();
            lines.iter().for_each(|line| bytes[line * RECORD_LENGTH + 20] ^= 1);
            fs::write(&path, bytes).expect("written");
        };
        tear(&[1]);
        assert_eq!(kept(&path, "a"), Some(1));
        write(&path, "a", 3);
        assert_eq!(kept(&path, "a"), Some(3), "the torn line is written next");
        tear(&[0]);
        assert_eq!(kept(&path, "a"), Some(2));
        tear(&[0, 1]);
        let error = UsageFile::open(&path).expect_err("nothing is left").to_string();
        assert!(error.contains("line 1 nor line 2") && error.contains("delete it"), "{error}");
    }

    #[test]
    fn the_first_line_of_all_may_be_torn() {
        let folder = folder();
        let path = folder.path().join("braid0.usage");
        write(&path, "a", 1);
        let mut bytes = fs::read(&path).expect("there");
        bytes[64..RECORD_LENGTH].fill(b' ');
        fs::write(&path, bytes).expect("written");
        assert_eq!(kept(&path, "a"), None);
    }

    #[test]
    fn what_is_no_such_file_is_told_in_a_line_and_left_as_it_is() {
        let folder = folder();
        let path = folder.path().join("braid0.usage");
        for (contents, culprit) in
            [(vec![], "shorter"), (vec![b' '; FILE_LENGTH + 1], "longer"), (vec![0; FILE_LENGTH], "line 1 nor line 2")]
        {
            fs::write(&path, &contents).expect("written");
            let error = UsageFile::open(&path).expect_err(culprit).to_string();
            assert!(error.contains(culprit) && error.contains("delete it") && !error.contains('\n'), "{error}");
            assert_eq!(fs::read(&path).expect("there"), contents);
        }
        let nowhere = folder.path().join("no").join("such").join("braid0.usage");
        let error = UsageFile::open(&nowhere).expect_err("two folders are missing").to_string();
        assert!(error.contains("make the folder"), "{error}");
        let error = UsageFile::open(folder.path()).expect_err("a folder").to_string();
        assert!(error.contains("cannot open"), "{error}");
    }

    #[test]
    fn two_processes_do_not_count_in_one_file() {
        let folder = folder();
        let path = folder.path().join("braid0.usage");
        let _first = UsageFile::open(&path).expect("made");
        let error = UsageFile::open(&path).expect_err("it is in use").to_string();
        assert!(error.contains("another process"), "{error}");
    }

    #[test]
    fn uplinks_of_former_names_make_room_when_their_months_are_over() {
        let folder = folder();
        let path = folder.path().join("braid0.usage");
        (0..PLACES).for_each(|number| write(&path, &format!("u{number}"), 7));
        let mut file = UsageFile::open(&path).expect("understood");
        let error = file.place(name("new"), &[], day("2026-11-30")).expect_err("full").to_string();
        assert!(error.contains("uplink new"), "{error}");
        let (place, record) = file.place(name("new"), &[name("u0")], day("2026-12-01")).expect("room");
        assert_eq!((place, record), (1, None));
        assert_eq!(file.next_serial(place), 2, "newer than what is there");
    }
}
