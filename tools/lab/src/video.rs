//! Real video: H.264 in MPEG-TS, encoded, sent and decoded by ffmpeg; numbered on its way by our relay.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde::Serialize;

use crate::namespaces::command_in;
use crate::scenario::Scenario;
use crate::traffic::HEADER_LENGTH;
use crate::traffic::analysis::Arrival;

/// Where ffmpeg sends to and the relay listens, in the sender's namespace.
pub const RELAY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 5004);
/// Pictures per second.
const FRAME_RATE: u64 = 25;
/// How much of the traffic's rate the pictures get; the rest is what MPEG-TS adds.
const VIDEO_SHARE: f64 = 0.9;

/// What a decoder made of the video that arrived.
#[derive(Clone, Debug, Serialize)]
pub struct VideoReport {
    /// Pictures that were sent.
    pub frames_expected: u64,
    /// Pictures that the decoder made.
    pub frames_decoded: u64,
    /// Complaints of the decoder and of the demultiplexer about what arrived, as it arrived.
    pub decode_errors: u64,
    /// Their complaints about the same datagrams, each once and in order: what was lost is to blame for these.
    pub decode_errors_loss: u64,
    /// The rest: wrong order and duplicates are to blame for these.
    pub decode_errors_order: u64,
}

/// The video that is sent.
pub struct Video {
    file: PathBuf,
    frames: u64,
}

/// ffmpeg, playing a video into the relay in real time.
pub struct Player(Child);

impl Video {
    /// Makes the video, unless that was done before.
    ///
    /// # Errors
    /// What went wrong.
    pub fn encode(folder: &Path, scenario: &Scenario) -> Result<Self, String> {
        let file = encode(folder, scenario)?;
        let (frames, errors) = decode(&file)?;
        // Whatever the decoder says of the arrived video is blamed on the way, so there must be nothing to say before.
        if errors > 0 {
            return Err(format!("{} is broken: remove it, so that it is made again", file.display()));
        }
        Ok(Self { file, frames })
    }

    /// Has ffmpeg decode the datagrams in `received`: in the order of `arrivals`, in which they lie there, and then
    /// as if only loss had befallen them.
    ///
    /// # Errors
    /// What went wrong.
    pub fn judge(&self, received: &Path, arrivals: &[Arrival]) -> Result<VideoReport, String> {
        let (frames_decoded, decode_errors) = decode(received)?;
        let describe = |error: std::io::Error| format!("cannot put {} in order: {error}", received.display());
        let bytes = std::fs::read(received).map_err(describe)?;
        let ordered = received.with_extension("ordered.ts");
        std::fs::write(&ordered, in_order(&bytes, arrivals)).map_err(describe)?;
        let (_, decode_errors_loss) = decode(&ordered)?;
        Ok(VideoReport {
            frames_expected: self.frames,
            frames_decoded,
            decode_errors,
            decode_errors_loss,
            decode_errors_order: decode_errors.saturating_sub(decode_errors_loss),
        })
    }
}

/// The payloads of `arrivals`, which lie in `bytes` as they came, each once and in the order of their numbers.
fn in_order(bytes: &[u8], arrivals: &[Arrival]) -> Vec<u8> {
    let mut at = 0;
    let mut by_number = BTreeMap::new();
    for arrival in arrivals {
        let length = usize::from(arrival.length).saturating_sub(HEADER_LENGTH);
        by_number.entry(arrival.number).or_insert(bytes.get(at..at + length).unwrap_or_default());
        at += length;
    }
    by_number.into_values().flatten().copied().collect()
}

impl Player {
    /// Starts to play a video in `namespace`.
    ///
    /// # Errors
    /// What went wrong.
    pub fn start(namespace: &str, video: &Video, scenario: &Scenario) -> Result<Self, String> {
        let to = format!("udp://{RELAY}?pkt_size={}", scenario.traffic.size / 188 * 188);
        let child = command_in(namespace, "ffmpeg")
            .args(["-hide_banner", "-loglevel", "error", "-nostdin", "-re", "-i"])
            .arg(&video.file)
            .args(["-map", "0", "-c", "copy", "-f", "mpegts", &to])
            .stdin(Stdio::null())
            .spawn()
            .map_err(|error| missing(&error))?;
        Ok(Self(child))
    }

    /// Waits until all has been played.
    pub fn stop(&mut self) {
        let _ = self.0.wait();
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Makes the video: a moving test picture, with a key picture each second.
fn encode(folder: &Path, scenario: &Scenario) -> Result<PathBuf, String> {
    // Playing ends a little before the run does, so that nothing is cut off.
    let seconds = scenario.duration.as_secs().saturating_sub(1).max(1);
    let kilobits = (scenario.traffic.rate as f64 * VIDEO_SHARE / 1000.0) as u64;
    let file = folder.join(format!("sent-{seconds}s-{kilobits}k.ts"));
    if file.exists() {
        return Ok(file);
    }
    let (rate, buffer) = (format!("{kilobits}k"), format!("{}k", kilobits / 5));
    let picture = format!("testsrc2=size=1280x720:rate={FRAME_RATE}:duration={seconds},noise=alls=20:allf=t");
    let partial = file.with_extension("partial");
    let status = Command::new("ffmpeg")
        .args(["-hide_banner", "-loglevel", "error", "-nostdin", "-y", "-f", "lavfi", "-i", &picture])
        .args(["-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-pix_fmt", "yuv420p"])
        .args(["-g", &FRAME_RATE.to_string(), "-b:v", &rate, "-minrate", &rate, "-maxrate", &rate, "-bufsize", &buffer])
        .args(["-f", "mpegts"])
        .arg(&partial)
        .status()
        .map_err(|error| missing(&error))?;
    if !status.success() {
        return Err(format!("ffmpeg could not encode the video ({status})"));
    }
    std::fs::rename(&partial, &file).map_err(|error| error.to_string())?;
    Ok(file)
}

/// How many pictures a decoder makes of a file, and how often it complains.
fn decode(file: &Path) -> Result<(u64, u64), String> {
    let output = Command::new("ffmpeg")
        // "repeat" has it write every complaint out instead of counting those that are alike.
        .args(["-hide_banner", "-loglevel", "repeat+warning", "-nostdin", "-i"])
        .arg(file)
        .args(["-map", "0:v?", "-fps_mode", "passthrough", "-progress", "-", "-f", "null", "-"])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| missing(&error))?;
    let progress = String::from_utf8_lossy(&output.stdout).into_owned();
    let frames = progress.lines().filter_map(|line| line.strip_prefix("frame=")).next_back();
    let frames = frames.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
    Ok((frames, String::from_utf8_lossy(&output.stderr).lines().filter(|line| !line.trim().is_empty()).count() as u64))
}

fn missing(error: &std::io::Error) -> String {
    format!("cannot run ffmpeg ({error}): install it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_are_put_in_order_each_once() {
        let arrival =
            |number, payload: u16| Arrival { number, sent: 0, received: 0, length: payload + HEADER_LENGTH as u16 };
        let arrivals = [arrival(0, 2), arrival(2, 1), arrival(1, 3), arrival(2, 1), arrival(4, 1)];
        assert_eq!(in_order(b"aacbbbce", &arrivals), b"aabbbce");
    }
}
