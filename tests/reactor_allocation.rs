//! Once both ends run, nothing of them allocates for a packet: not the core alone (`no_allocation.rs`) but the whole way,
//! ring, sockets and TAP among it.
//!
//! This program is its own two ends. It starts itself again in the lab's namespaces, with a counting allocator for the
//! whole process, and each of the two tells on request how often anything was allocated so far.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use braid::cli::Request;

use lab::{BOX, BOX_ADDRESS, GATEWAY, GATEWAY_ADDRESS, Lab, await_that};

#[allow(dead_code, reason = "a part of the lab is enough here")]
#[path = "end_to_end/lab.rs"]
mod lab;

/// Counts what all threads ask for.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: Every call is passed on to the system's allocator as it is; counting touches an atomic number only.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: The caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: The caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What tells a process of this program to be an end: its command line.
const COMMAND_LINE: &str = "BRAID_TEST_COMMAND_LINE";
/// What comes before a count that an end tells.
const ANSWER: &str = "allocations: ";

/// Links that lose, reorder and double.
const UNCLEAN: &str = r#"
name = "unclean"
duration = "1s"
[[uplink]]
name = "a"
delay = "5ms"
jitter = "2ms"
loss = "1%"
duplication = "1%"
[[uplink]]
name = "b"
delay = "25ms"
jitter = "5ms"
loss = "1%"
reordering = { share = "2%", by = "8ms" }
duplication = "1%"
"#;

/// How often is looked again when an end has had something to log, which allocates, and may.
const ATTEMPTS: usize = 6;

#[test]
#[ignore = "an end, which the other test starts"]
fn run_an_end() {
    let Ok(line) = std::env::var(COMMAND_LINE) else { return };
    let arguments: Vec<OsString> = line.split(' ').map(OsString::from).collect();
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
    thread::spawn(answer);
    let unread = || Err("nobody changes it".to_owned());
    let ended = if arguments[0] == "braid-box" {
        match braid::cli::parse_box(arguments) {
            Ok(Request::Run(config)) => braid::io::run_box(&config, &unread),
            _ => panic!("not the command line of a box: {line}"),
        }
    } else {
        match braid::cli::parse_gateway(arguments) {
            Ok(Request::Run(config)) => braid::io::run_gateway(&config, &unread),
            _ => panic!("not the command line of a gateway: {line}"),
        }
    };
    panic!("ended before it was told to: {ended:?}");
}

/// Tells the count for each byte on standard input, and ends the process with it. Allocates nothing itself once it has
/// answered for the first time.
fn answer() {
    let (mut stdin, mut stdout, mut byte) = (std::io::stdin().lock(), std::io::stdout(), [0]);
    while stdin.read_exact(&mut byte).is_ok() {
        let count = ALLOCATIONS.load(Ordering::Relaxed);
        writeln!(stdout, "{ANSWER}{count}").expect("the other test reads");
    }
    std::process::exit(0);
}

/// An end that counts.
struct CountingEnd {
    child: Child,
    answers: BufReader<ChildStdout>,
    log: PathBuf,
}

impl CountingEnd {
    fn start(lab: &Lab, folder: &Path, namespace: &str, command_line: &str) -> Self {
        let log = folder.join(format!("{namespace}.log"));
        let own = std::env::current_exe().expect("its own path");
        let mut child = lab
            .command(namespace, &format!("{} run_an_end --exact --ignored --nocapture", own.display()))
            .env(COMMAND_LINE, command_line)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&log).expect("a file"))
            .spawn()
            .expect("ip runs");
        let answers = BufReader::new(child.stdout.take().expect("piped"));
        Self { child, answers, log }
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// How often it has allocated so far, and how much it has logged.
    fn allocations(&mut self) -> (u64, usize) {
        self.child.stdin.as_mut().expect("piped").write_all(b"?").expect("it lives");
        let mut line = String::new();
        loop {
            line.clear();
            let length = self.answers.read_line(&mut line).expect("it tells");
            assert!(length > 0, "it has ended: {}", self.log());
            if let Some((_, count)) = line.split_once(ANSWER) {
                return (count.trim().parse().expect("a number"), self.log().len());
            }
        }
    }
}

impl Drop for CountingEnd {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- {} ---\n{}", self.log.display(), self.log());
        }
    }
}

/// Streams in both directions at once; some of it must arrive.
fn stream_both_ways(lab: &Lab, milliseconds: u64) {
    let mut down = None;
    let up = lab.stream(Lab::UP, milliseconds, || down = Some(lab.stream(Lab::DOWN, milliseconds, || {})));
    for (numbers, offered) in [up, down.expect("has streamed")] {
        assert!(numbers.len() as u64 > offered * 9 / 10, "{} of {offered} arrived", numbers.len());
    }
}

#[test]
fn the_reactor_allocates_nothing_for_a_packet() {
    let Some(lab) = Lab::up(UNCLEAN) else { return };
    for mode in ["broadcast", "balance-rr", "active-backup"] {
        let folder = tempfile::tempdir().expect("a folder");
        let common = format!("--tap braid0 --plaintext --mode {mode}");
        let far = format!("braid-gateway --listen 0.0.0.0:4754 --address {GATEWAY_ADDRESS}/24 {common}");
        let uplinks = "--uplink dev=a --uplink dev=b";
        let near = format!("braid-box --gateway 203.0.113.1 {uplinks} --address {BOX_ADDRESS}/24 {common}");
        let mut ends = [(GATEWAY, far), (BOX, near)]
            .map(|(namespace, line)| CountingEnd::start(&lab, folder.path(), namespace, &line));
        await_that("both uplinks are up at both ends", || {
            ends.iter().all(|end| end.log().matches("-> up: ").count() >= 2)
        });
        lab.await_answer();
        stream_both_ways(&lab, 1000);
        assert!(ends.iter_mut().all(|end| end.allocations().0 > 100), "starting up allocates, and is counted");
        let counts = (0..ATTEMPTS).find_map(|_| count_a_stream(&lab, &mut ends));
        let counts = counts.unwrap_or_else(|| panic!("{mode}: the uplinks do not keep still: {}", ends[1].log()));
        assert_eq!(counts, [0, 0], "{mode}: allocations of the gateway and the box");
    }
}

/// How often each end has allocated during a stream; `None` if one has logged something meanwhile.
fn count_a_stream(lab: &Lab, ends: &mut [CountingEnd; 2]) -> Option<[u64; 2]> {
    let before = ends.each_mut().map(CountingEnd::allocations);
    stream_both_ways(lab, 3000);
    let after = ends.each_mut().map(CountingEnd::allocations);
    let logged = before.iter().zip(&after).any(|((_, before), (_, after))| before != after);
    (!logged).then(|| [after[0].0 - before[0].0, after[1].0 - before[1].0])
}
