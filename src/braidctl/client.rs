//! Talks to an end that runs, over its control socket.

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::SOCKET_FOLDER;
use crate::control::{Answer, Command, Line, Request, VERSION};

/// How long an end may take to say the next line.
const PATIENCE: Duration = Duration::from_secs(5);

/// A connection to an end.
pub(super) struct Client {
    stream: BufReader<UnixStream>,
    path: PathBuf,
    tap: Option<String>,
}

impl Client {
    /// To the end whose socket is at `path`, or, without one, the only one that runs here; of its tunnels to that of `tap`,
    /// if one is named.
    ///
    /// # Errors
    /// Why not, and what to do.
    pub(super) fn connect(path: Option<&Path>, tap: Option<&str>) -> Result<Self, String> {
        let path = path.map_or_else(|| find(Path::new(SOCKET_FOLDER)), |path| Ok(path.to_owned()))?;
        let stream = UnixStream::connect(&path).map_err(|error| explain(&path, &error))?;
        let timeouts = stream.set_read_timeout(Some(PATIENCE)).and_then(|()| stream.set_write_timeout(Some(PATIENCE)));
        timeouts.map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self { stream: BufReader::new(stream), path, tap: tap.map(str::to_owned) })
    }

    /// What answers `command`, but the last line; and what that says.
    ///
    /// # Errors
    /// What the end refuses, or why there is no answer.
    pub(super) fn ask(&mut self, command: Command) -> Result<(Vec<Answer>, String), String> {
        self.send(command)?;
        let mut answers = vec![];
        loop {
            match self.next_answer()? {
                Answer::Done(said) => return Ok((answers, said)),
                Answer::Error(why) => return Err(why),
                answer => answers.push(answer),
            }
        }
    }

    /// Asks; [`Self::next_answer`] answers.
    ///
    /// # Errors
    /// Why it cannot be asked.
    pub(super) fn send(&mut self, command: Command) -> Result<(), String> {
        let request = Request { version: VERSION, tap: self.tap.clone(), command };
        let mut line = serde_json::to_string(&request).map_err(|error| error.to_string())?;
        line.push('\n');
        self.stream.get_mut().write_all(line.as_bytes()).map_err(|error| explain(&self.path, &error))
    }

    /// The next line of the answer.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn next_answer(&mut self) -> Result<Answer, String> {
        let path = self.path.display().to_string();
        let mut line = String::new();
        match self.stream.read_line(&mut line) {
            Ok(0) => return Err(format!("{path}: the other end has hung up: does it still run?")),
            Ok(_) => {}
            Err(error) => return Err(explain(&self.path, &error)),
        }
        let line: Line = serde_json::from_str(&line).map_err(|error| {
            format!("{path}: cannot be understood: {error}: is this braidctl as old as the end that runs?")
        })?;
        if line.version != VERSION {
            return Err(format!(
                "{path}: speaks version {} of the control socket, and this braidctl version {VERSION}: use one of the same release",
                line.version
            ));
        }
        Ok(line.answer)
    }

    /// What comes after [`Answer::Trace`], for as long as it comes.
    ///
    /// # Errors
    /// That the connection cannot be had to wait for it.
    pub(super) fn into_stream(self) -> io::Result<BufReader<UnixStream>> {
        self.stream.get_ref().set_read_timeout(None)?;
        Ok(self.stream)
    }
}

/// The only control socket in `folder`.
fn find(folder: &Path) -> Result<PathBuf, String> {
    let entries = fs::read_dir(folder).map(Iterator::collect::<Result<Vec<_>, _>>).and_then(|entries| entries);
    let entries = match entries {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => vec![],
        Err(error) => return Err(format!("{}: {error}", folder.display())),
    };
    let mut sockets: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).collect();
    sockets.retain(|path| path.extension().is_some_and(|ending| ending == "sock"));
    sockets.sort();
    match sockets.as_slice() {
        [] => Err(format!(
            "no braid-box or braid-gateway runs here ({} has no socket): start one, or name its socket by --control",
            folder.display()
        )),
        [only] => Ok(only.clone()),
        several => {
            let names: Vec<String> = several.iter().map(|path| path.display().to_string()).collect();
            Err(format!("several ends run here: name one by --control: {}", names.join(" ")))
        }
    }
}

fn explain(path: &Path, error: &io::Error) -> String {
    let advice = match error.kind() {
        io::ErrorKind::NotFound => "no such socket: does the end run, and with this --control?",
        io::ErrorKind::ConnectionRefused => "nobody listens there any more: start the end anew",
        io::ErrorKind::PermissionDenied => "it is its owner's alone: run braidctl as root (sudo)",
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "the end does not answer: is it stopped, or very busy?",
        _ => "does the end still run?",
    };
    format!("{}: {error}: {advice}", path.display())
}
