//! Records what enters and leaves an end, as a capture file for Wireshark: an interface for each TAP, and one for each of its
//! uplinks, on which the frames are seen as they are before they are sealed, and after they are opened.

mod pcapng;

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, BufRead, BufReader, BufWriter, IsTerminal, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use clap::Args;

use super::{EndArguments, PROGRAM, status};
use crate::control::trace::{NO_UPLINK, Passage, RECORD_HEAD_LENGTH, RecordHead};
use crate::control::{Answer, Command, Status};
use crate::units::parse_duration;
use pcapng::{Direction, Packet};

/// Longer than any frame, in bytes: a super-frame of 64 KiB and what is in front of it.
const SNAP_LENGTH_MAX: u32 = 1 << 17;
/// The verdict that says nothing.
const TAKEN: u8 = 0;

/// What, and for how long.
#[derive(Debug, Args)]
pub(super) struct TraceArguments {
    /// The capture file to write, in which frames are readable by whoever can read it; - for standard output
    #[arg(long, value_name = "FILE.pcapng", default_value = "-")]
    output: PathBuf,
    /// The most bytes of each frame to record [default: all]
    #[arg(long, value_name = "N", default_value_t = SNAP_LENGTH_MAX, hide_default_value = true)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=i64::from(SNAP_LENGTH_MAX)))]
    snap_length: u32,
    /// Stop after so many frames [default: when interrupted]
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Stop after so long, such as 30s [default: when interrupted]
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_duration)]
    duration: Option<Duration>,
}

/// Records until enough has been, the end stops, or nobody reads any more.
///
/// # Errors
/// Why it cannot be recorded.
pub(super) fn run(end: &EndArguments, arguments: &TraceArguments) -> Result<(), String> {
    let mut client = end.connect()?;
    let tunnels = status::fetch(&mut client)?;
    client.send(Command::Trace { snap_length: arguments.snap_length })?;
    let (taps, verdicts) = match client.next_answer()? {
        Answer::Trace { taps, verdicts } => (taps, verdicts),
        Answer::Error(why) => return Err(why),
        _ => return Err("the end does not trace, but says something else: is it of another release?".to_owned()),
    };
    let stream = client.into_stream().map_err(|error| format!("cannot read from the end: {error}"))?;
    let is_over = hang_up_after(&stream, arguments.duration)?;
    let output = open(&arguments.output)?;
    let interfaces = Interfaces::new(taps, &tunnels, arguments.snap_length);
    let mut recorder = Recorder { output: BufWriter::new(output), interfaces, verdicts, frames: 0, lost: 0 };
    let recorded = recorder.record(stream, arguments.count);
    recorder.tell();
    match recorded {
        // Who reads has read enough.
        Err(Failure::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(Failure::Write(error)) => Err(format!("{} cannot be written: {error}", arguments.output.display())),
        // What we have cut may be cut anywhere.
        Err(_) if is_over.load(Ordering::Acquire) => Ok(()),
        Err(Failure::Read(error)) => Err(format!("the end cannot be read from any more: {error}")),
        Err(Failure::Nonsense) => Err("what the end tells cannot be understood: is it of another release?".to_owned()),
        Ok(()) => Ok(()),
    }
}

/// Ends the connection after so long, if at all; tells whether that has been.
fn hang_up_after(stream: &BufReader<UnixStream>, duration: Option<Duration>) -> Result<Arc<AtomicBool>, String> {
    let is_over = Arc::new(AtomicBool::new(false));
    if let Some(duration) = duration {
        let connection = stream.get_ref().try_clone().map_err(|error| error.to_string())?;
        let says_so = Arc::clone(&is_over);
        thread::spawn(move || {
            thread::sleep(duration);
            says_so.store(true, Ordering::Release);
            // Should the end have done so before, all the better.
            let _ = connection.shutdown(Shutdown::Both);
        });
    }
    Ok(is_over)
}

/// Frames are what the tunnel is sealed for: a file of them is its owner's alone.
fn open(path: &Path) -> Result<Box<dyn Write>, String> {
    let failed = |error| format!("{} cannot be written: {error}", path.display());
    if path != Path::new("-") {
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
        return Ok(Box::new(file.map_err(failed)?));
    }
    if io::stdout().is_terminal() {
        return Err(format!(
            "a capture is not for terminals: give --output FILE.pcapng, or '{PROGRAM} trace | wireshark -k -i -'"
        ));
    }
    let stdout = io::stdout().as_fd().try_clone_to_owned().map_err(failed)?;
    Ok(Box::new(std::fs::File::from(stdout)))
}

/// Why no more can be recorded.
#[derive(Debug)]
enum Failure {
    Read(io::Error),
    Write(io::Error),
    Nonsense,
}

/// Makes a capture file of records.
struct Recorder<W: Write> {
    output: BufWriter<W>,
    interfaces: Interfaces,
    verdicts: Vec<String>,
    frames: u64,
    lost: u64,
}

impl<W: Write> Recorder<W> {
    /// Up to so many, or until there are no more.
    fn record(&mut self, mut stream: BufReader<impl Read>, count: Option<u64>) -> Result<(), Failure> {
        self.write(&pcapng::section(&format!("{PROGRAM} {}", env!("CARGO_PKG_VERSION"))))?;
        self.describe_interfaces()?;
        let mut bytes = vec![];
        while count.is_none_or(|count| self.frames < count) {
            if stream.buffer().is_empty() {
                // What has come may be all for a while, and somebody may be looking on.
                self.output.flush().map_err(Failure::Write)?;
            }
            if stream.fill_buf().map_err(Failure::Read)?.is_empty() {
                break;
            }
            let head = read_record(&mut stream, &mut bytes)?;
            self.take(head, &bytes)?;
        }
        self.output.flush().map_err(Failure::Write)
    }

    fn take(&mut self, head: RecordHead, bytes: &[u8]) -> Result<(), Failure> {
        let interface = self.interfaces.of(head).ok_or(Failure::Nonsense)?;
        // One that has come to be since we asked.
        self.describe_interfaces()?;
        let (lost, comment) = (head.lost.into(), self.comment(head));
        let direction = match head.passage {
            Passage::FromTap | Passage::ToUplink => Direction::Outbound,
            Passage::FromUplink | Passage::ToTap => Direction::Inbound,
        };
        let packet = Packet { interface, at: head.at, length: head.length, bytes, comment, direction, lost };
        self.write(&pcapng::packet(&packet))?;
        self.frames += 1;
        self.lost += lost;
        Ok(())
    }

    fn describe_interfaces(&mut self) -> Result<(), Failure> {
        while let Some(block) = self.interfaces.next_description() {
            self.write(&block)?;
        }
        Ok(())
    }

    fn comment(&self, head: RecordHead) -> Option<String> {
        let uplink = self.interfaces.uplink_name(head).map(|name| format!("uplink {name}"));
        let number = head.sequence.map(|number| format!("number {number}"));
        let verdict = match self.verdicts.get(usize::from(head.verdict)) {
            _ if head.verdict == TAKEN => None,
            Some(verdict) => Some(verdict.clone()),
            None => Some(format!("verdict {}", head.verdict)),
        };
        let parts: Vec<String> = [uplink, number, verdict].into_iter().flatten().collect();
        (!parts.is_empty()).then(|| parts.join(", "))
    }

    /// A block at a time, so that a file that is cut off is cut between blocks.
    fn write(&mut self, block: &[u8]) -> Result<(), Failure> {
        self.output.write_all(block).map_err(Failure::Write)
    }

    fn tell(&self) {
        let lost =
            if self.lost > 0 { format!(", and {} lost: more came than was read", self.lost) } else { String::new() };
        let plural = if self.frames == 1 { "" } else { "s" };
        // Where nobody listens there is nobody to tell.
        let _ = writeln!(io::stderr(), "{PROGRAM}: {} frame{plural} recorded{lost}", self.frames);
    }
}

/// The next record, of whose frame as much as there is goes to `bytes`.
fn read_record(stream: &mut impl Read, bytes: &mut Vec<u8>) -> Result<RecordHead, Failure> {
    let mut head = [0; RECORD_HEAD_LENGTH];
    stream.read_exact(&mut head).map_err(Failure::Read)?;
    let head = RecordHead::parse(&head).filter(|head| head.captured <= SNAP_LENGTH_MAX).ok_or(Failure::Nonsense)?;
    bytes.resize(head.captured as usize, 0);
    stream.read_exact(bytes).map_err(Failure::Read)?;
    Ok(head)
}

/// The interfaces of the file: each TAP, and each uplink of it.
struct Interfaces {
    taps: Vec<String>,
    /// By the number of the TAP and that of the uplink.
    uplink_names: BTreeMap<(u8, u8), String>,
    /// Places in the file, by the same; the TAP itself has [`NO_UPLINK`].
    places: BTreeMap<(u8, u8), u32>,
    /// Those of which the file does not say yet what they are called.
    undescribed: std::collections::VecDeque<String>,
    snap_length: u32,
}

impl Interfaces {
    fn new(taps: Vec<String>, tunnels: &[Status], snap_length: u32) -> Self {
        let mut uplink_names = BTreeMap::new();
        for (tap, name) in (0..).zip(&taps) {
            let of_tap = tunnels.iter().filter(|tunnel| tunnel.tap == *name);
            for uplink in of_tap.flat_map(|tunnel| &tunnel.uplinks) {
                uplink_names.insert((tap, uplink.number), uplink.name.clone());
            }
        }
        let mut interfaces =
            Self { taps, uplink_names, places: BTreeMap::new(), undescribed: Default::default(), snap_length };
        interfaces.place_all();
        interfaces
    }

    /// Each TAP, and after it its uplinks.
    fn place_all(&mut self) {
        for tap in 0..u8::try_from(self.taps.len()).unwrap_or(u8::MAX) {
            let of_tap = self.uplink_names.keys().filter(|(of, _)| *of == tap).map(|(_, uplink)| *uplink);
            for uplink in [NO_UPLINK].into_iter().chain(of_tap.collect::<Vec<_>>()) {
                self.place(tap, uplink);
            }
        }
    }

    /// Where a record belongs; `None` if there is no such TAP.
    fn of(&mut self, head: RecordHead) -> Option<u32> {
        let uplink = match head.passage {
            Passage::FromTap | Passage::ToTap => NO_UPLINK,
            Passage::ToUplink | Passage::FromUplink => head.uplink,
        };
        self.place(head.tap, uplink)
    }

    fn place(&mut self, tap: u8, uplink: u8) -> Option<u32> {
        let tap_name = self.taps.get(usize::from(tap))?;
        let next = self.places.len() as u32;
        if let Some(place) = self.places.get(&(tap, uplink)) {
            return Some(*place);
        }
        let name =
            if uplink == NO_UPLINK { tap_name.clone() } else { format!("{tap_name} {}", self.name_of(tap, uplink)) };
        self.undescribed.push_back(name);
        self.places.insert((tap, uplink), next);
        Some(next)
    }

    fn name_of(&self, tap: u8, uplink: u8) -> String {
        self.uplink_names.get(&(tap, uplink)).cloned().unwrap_or_else(|| format!("uplink-{uplink}"))
    }

    fn uplink_name(&self, head: RecordHead) -> Option<String> {
        (head.uplink != NO_UPLINK).then(|| self.name_of(head.tap, head.uplink))
    }

    fn next_description(&mut self) -> Option<Vec<u8>> {
        self.undescribed.pop_front().map(|name| pcapng::interface(&name, self.snap_length))
    }
}

#[cfg(test)]
mod tests;
