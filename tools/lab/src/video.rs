//! Real video: H.264 in MPEG-TS, encoded, sent and decoded by ffmpeg; numbered on its way by our relay.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde::Serialize;

use crate::namespaces::command_in;
use crate::scenario::Scenario;

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
    /// Complaints of the decoder and of the demultiplexer.
    pub decode_errors: u64,
}

/// ffmpeg, playing a file into the relay in real time.
pub struct Player {
    child: Child,
    frames: u64,
}

impl Player {
    /// Encodes the video, unless that was done before, and starts to play it in `namespace`.
    ///
    /// # Errors
    /// What went wrong.
    pub fn start(namespace: &str, folder: &Path, scenario: &Scenario) -> Result<Self, String> {
        let file = encode(folder, scenario)?;
        let to = format!("udp://{RELAY}?pkt_size={}", scenario.traffic.size / 188 * 188);
        let child = command_in(namespace, "ffmpeg")
            .args(["-hide_banner", "-loglevel", "error", "-nostdin", "-re", "-i"])
            .arg(&file)
            .args(["-map", "0", "-c", "copy", "-f", "mpegts", &to])
            .stdin(Stdio::null())
            .spawn()
            .map_err(|error| missing(&error))?;
        Ok(Self { child, frames: frames_in(&file)? })
    }

    /// Waits until all has been played.
    pub fn stop(&mut self) {
        let _ = self.child.wait();
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
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

/// Has ffmpeg decode what arrived, in the order in which it arrived.
///
/// # Errors
/// What went wrong.
pub fn judge(file: &Path, player: &Player) -> Result<VideoReport, String> {
    let (frames_decoded, decode_errors) = decode(file)?;
    Ok(VideoReport { frames_expected: player.frames, frames_decoded, decode_errors })
}

fn frames_in(file: &Path) -> Result<u64, String> {
    decode(file).map(|(frames, _)| frames)
}

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
