//! Tunnels made up for tests, and an end that tells of them over a control socket. Integration tests have this file, too.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::serialization::{Serializer, V2Serializer};

use crate::control::{
    Adaptive, Answer, BudgetStatus, Command, Event, Histogram, Line, Peer, Process, Quantiles, Quantity, Received,
    Request, Sent, Status, UplinkStatus,
};

/// Names of uplinks, as many as there may be.
const NAMES: [&str; 16] = [
    "dsl",
    "lte-a",
    "lte-b",
    "5g-north",
    "5g-south",
    "starlink",
    "geo-satellite",
    "cable",
    "fibre-0123456.0",
    "wwan9",
    "wwan10",
    "wwan11",
    "wwan12",
    "wwan13",
    "wwan14",
    "wwan15",
];

/// A tunnel that is well, with so many uplinks. Every number of it is another.
pub fn status(tap: &str, uplinks: usize) -> Status {
    Status {
        process: Process {
            program: "braid-box".to_owned(),
            version: "0.1.0".to_owned(),
            pid: 4_242,
            uptime_s: 11_525.5,
            public_key: Some("hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=".to_owned()),
            buffers_in_use: 17,
            wakeups: 9_876_543,
            loop_us: Quantiles { p50: 11.5, p99: 84.25, max: 1_203.5 },
            control_us: Quantiles { p50: 21.0, p99: 64.5, max: 93.5 },
        },
        name: None,
        tap: tap.to_owned(),
        mtu: 1_430,
        mode: "adaptive".to_owned(),
        window_ms: Some(83.5),
        window: "auto:250ms".to_owned(),
        peer: Peer { is_known: true, is_heard: true, cipher: Some("aes-256-gcm".to_owned()) },
        capacity_mbps: Some(42.25),
        safe_mbps: Some(24.125),
        tx: Sent { packets: 1_234_567, bytes: 1_624_691_234, waiting: 3 },
        rx: Received {
            delivered: 345_678,
            delivered_bytes: 98_765_432,
            duplicates: 1_201,
            reordered: 3_402,
            late: 13,
            lost: 29,
            restored: 8,
            malformed: 5,
            unauthenticated: 7,
            held: 2,
            hold_ms: Quantiles { p50: 0.75, p99: 12.5, max: 41.375 },
        },
        adaptive: Some(Adaptive {
            too_late: 61,
            resent: 331,
            duplicated: 127,
            given_up: 19,
            explored: 4_938,
            parities: 733,
        }),
        drops: BTreeMap::from([("duplicate".to_owned(), 1_202), ("frame_replayed".to_owned(), 23)]),
        uplinks: (0..uplinks).map(uplink).collect(),
        tap_to_wire_us: Quantiles { p50: 14.5, p99: 91.5, max: 2_507.5 },
        wire_to_tap_us: Quantiles { p50: 15.25, p99: 12_511.5, max: 41_407.5 },
    }
}

fn uplink(index: usize) -> UplinkStatus {
    let (number, share) = (index as u64, index as f64);
    UplinkStatus {
        number: index as u8,
        name: NAMES[index % NAMES.len()].to_owned(),
        state: "up".to_owned(),
        state_for_s: 11_520.25 + share,
        is_leaving: false,
        device: Some(format!("wwan{index}")),
        local: Some(format!("192.168.{index}.100:43210")),
        remote: Some("203.0.113.1:4754".to_owned()),
        seen_as: Some(format!("198.51.100.{index}:61001")),
        path_mtu: Some(1_492 + index as u16),
        rtt_ms: Some(23.125 + share),
        jitter_ms: 0.875 + share,
        queueing_ms: Some(3.0625 + share),
        loss: Some(0.00390625 + share / 512.0),
        loss_receiving: Some(0.0078125 + share / 512.0),
        tx_packets: 400_100 + number,
        rx_packets: 100_200 + number,
        tx_bytes: 520_000_300 + number,
        rx_bytes: 33_000_400 + number,
        capacity_mbps: Some(18.5 + share),
        delivered_mbps: Some(6.25 + share),
        weight: 31 + index as u8,
        max_rate_mbps: Some(51.5 + share),
        is_metered: index == 1,
        budget: Some(BudgetStatus {
            used_bytes: 41_200_000_500 + number,
            limit_bytes: 50_000_000_600 + number,
            is_spent: false,
        }),
    }
}

/// The same, `seconds` later: `megabits` Mbit/s more have gone by each uplink, and a quarter of that has come.
pub fn later(status: &Status, seconds: f64, megabits: f64) -> Status {
    let mut status = status.clone();
    let bytes = (seconds * megabits * 125_000.0) as u64;
    status.process.uptime_s += seconds;
    for uplink in &mut status.uplinks {
        uplink.tx_bytes += bytes;
        uplink.rx_bytes += bytes / 4;
        uplink.tx_packets += bytes / 1_250;
        uplink.rx_packets += bytes / 4 / 1_250;
        status.tx.bytes += bytes;
        status.tx.packets += bytes / 1_250;
        status.rx.delivered_bytes += bytes / 4;
        status.rx.delivered += bytes / 4 / 1_250;
    }
    status
}

/// A histogram of durations in nanoseconds.
pub fn histogram(
    of: Quantity,
    tap: Option<&str>,
    uplink: Option<&str>,
    durations: impl IntoIterator<Item = u64>,
) -> Histogram {
    let mut recorded = hdrhistogram::Histogram::<u64>::new_with_bounds(1_000, 60_000_000_000, 3).expect("bounds");
    durations.into_iter().for_each(|duration| recorded.record(duration).expect("within bounds"));
    let mut bytes = vec![];
    V2Serializer::new().serialize(&recorded, &mut bytes).expect("memory is written");
    Histogram { of, tap: tap.map(str::to_owned), uplink: uplink.map(str::to_owned), data: STANDARD.encode(bytes) }
}

/// One of each quantity for each uplink of a tunnel, with `count` durations around those that are usual.
pub fn histograms(status: &Status, count: u64) -> Vec<Histogram> {
    let spread = |usual: u64| (0..count).map(move |at| usual + usual * (at * at % 1_009) / 500);
    let tap = Some(status.tap.as_str());
    let by_uplink = |of, usual: u64| {
        let each = status
            .uplinks
            .iter()
            .map(move |uplink| (uplink.name.as_str(), usual + u64::from(uplink.number) * usual / 4));
        each.map(move |(uplink, usual)| histogram(of, tap, Some(uplink), spread(usual)))
    };
    let mut all: Vec<Histogram> = by_uplink(Quantity::Rtt, 23_000_000).collect();
    all.extend(by_uplink(Quantity::DelayVariation, 400_000));
    all.push(histogram(Quantity::Hold, tap, None, spread(700_000)));
    all.push(histogram(Quantity::TapToWire, tap, None, spread(14_000)));
    all.push(histogram(Quantity::WireToTap, tap, None, spread(15_000)));
    all.push(histogram(Quantity::Loop, None, None, spread(11_000)));
    all
}

/// Something that has happened.
pub fn event(number: u64, tap: &str, is_warning: bool, text: &str) -> Event {
    Event { number, at_ms: 1_790_000_000_000 + number * 1_000, tap: tap.to_owned(), is_warning, text: text.to_owned() }
}

/// An end that is not one: it answers over a socket what it is told to.
pub struct End {
    folder: tempfile::TempDir,
    /// Those who have connected.
    clients: Arc<Mutex<Vec<UnixStream>>>,
}

impl End {
    /// One that answers each command with what `answer` makes of it, and says then that this was all.
    pub fn start(answer: impl Fn(&Command) -> Vec<Answer> + Send + Sync + 'static) -> Self {
        let end = Self { folder: tempfile::tempdir().expect("a folder"), clients: Arc::default() };
        end.come(answer);
        end
    }

    /// Its socket.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("braid0.sock")
    }

    /// Has whoever connects from now on answered so.
    pub fn come(&self, answer: impl Fn(&Command) -> Vec<Answer> + Send + Sync + 'static) {
        let listener = UnixListener::bind(self.path()).expect("a socket");
        let (answer, clients) = (Arc::new(answer), Arc::clone(&self.clients));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                clients.lock().expect("no client panics").push(stream.try_clone().expect("a descriptor"));
                let answer = Arc::clone(&answer);
                thread::spawn(move || converse(stream, answer.as_ref()));
            }
        });
    }

    /// Hangs up on all, and from now on nobody can connect.
    pub fn vanish(&self) {
        let _ = std::fs::remove_file(self.path());
        for client in self.clients.lock().expect("no client panics").drain(..) {
            // It may have hung up before.
            let _ = client.shutdown(Shutdown::Both);
        }
    }
}

fn converse(mut stream: UnixStream, answer: &dyn Fn(&Command) -> Vec<Answer>) {
    let reader = BufReader::new(stream.try_clone().expect("a descriptor"));
    for line in reader.lines() {
        let Ok(line) = line else { return };
        let request: Request = serde_json::from_str(&line).expect("a request");
        let mut answers = answer(&request.command);
        if !matches!(answers.last(), Some(Answer::Error(_))) {
            answers.push(Answer::Done(String::new()));
        }
        for answer in answers {
            let line = serde_json::to_string(&Line::new(answer)).expect("JSON");
            if stream.write_all(format!("{line}\n").as_bytes()).is_err() {
                return;
            }
        }
    }
}
