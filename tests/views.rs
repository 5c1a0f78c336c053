//! What an operator sees with `braidctl`: the program itself, beside an end that is made up.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::num::NonZeroU16;
use std::process::{Child, Command as Program, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use braid::control;
use control::{Answer, Command, Status};

#[allow(dead_code, missing_docs, reason = "the tests in the crate use more of it")]
#[path = "../src/braidctl/sample.rs"]
mod sample;

use sample::End;

const CONTROL: &str = env!("CARGO_BIN_EXE_braidctl");

/// An end that answers all that a view asks.
fn end_of(tunnels: Vec<Status>) -> End {
    End::start(answers(tunnels))
}

fn answers(tunnels: Vec<Status>) -> impl Fn(&Command) -> Vec<Answer> + Send + Sync {
    let started = Instant::now();
    move |command| match command {
        Command::Status => {
            let now = tunnels.iter().map(|status| sample::later(status, started.elapsed().as_secs_f64(), 8.0));
            now.map(|status| Answer::Status(Box::new(status))).collect()
        }
        Command::Events { after } => {
            (after + 1..=1).map(|number| Answer::Event(sample::event(number, "braid0", true, "it rains."))).collect()
        }
        Command::Histograms => {
            tunnels.iter().flat_map(|status| sample::histograms(status, 100)).map(Answer::Histogram).collect()
        }
        _ => vec![Answer::Error("a view changes nothing".to_owned())],
    }
}

fn run(end: &End, arguments: &str) -> Output {
    let mut program = Program::new(CONTROL);
    program.arg("--control").arg(end.path()).args(arguments.split_whitespace()).stdin(Stdio::null());
    program.env_remove("COLUMNS").output().expect("the program runs")
}

fn said(end: &End, arguments: &str) -> String {
    let output = run(end, arguments);
    assert!(output.status.success() && output.stderr.is_empty(), "{arguments}: {output:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn a_view_is_text_where_there_is_no_terminal() {
    let end = end_of(vec![sample::status("braid0", 3)]);
    let table = said(&end, "status");
    assert!(table.starts_with("braid0: well\n") && !table.contains('\x1b'), "{table}");
    let json: serde_json::Value = serde_json::from_str(&said(&end, "status --json")).expect("JSON");
    assert_eq!(json["uplinks"][2]["name"], "lte-b");
    let once = said(&end, "top --once --interval 100ms");
    assert!(once.starts_with("braid0: well ") && once.contains("it rains.") && once.contains("8.00"), "{once}");
    assert!(said(&end, "histogram").contains("delay-variation lte-b"));
    assert!(said(&end, "histogram --format hlog").contains("Tag=braid0.hold,"));
    assert!(said(&end, "metrics").contains("# TYPE braid_uplink_rtt_seconds gauge\n"));
    let top = run(&end, "top");
    assert!(String::from_utf8_lossy(&top.stderr).contains("--once"), "{top:?}");
    assert_eq!(top.status.code(), Some(1));
}

#[test]
fn pictures_go_to_a_file_and_nowhere_else() {
    let end = end_of(vec![sample::status("braid0", 2)]);
    for (format, begins) in [("svg", &b"<svg"[..]), ("png", b"\x89PNG")] {
        let refused = run(&end, &format!("histogram --format {format}"));
        assert_eq!(refused.status.code(), Some(2), "{refused:?}");
        assert!(String::from_utf8_lossy(&refused.stderr).contains("--output"), "{refused:?}");
        let file = end.path().with_extension("picture");
        said(&end, &format!("histogram --format {format} --output {}", file.display()));
        assert!(fs::read(file).expect("written").starts_with(begins), "{format}");
    }
}

#[test]
fn views_of_an_end_that_is_away_say_so_in_a_line() {
    let end = end_of(vec![]);
    end.vanish();
    for view in ["status", "top", "top --once", "histogram", "metrics"] {
        let output = run(&end, view);
        let said = String::from_utf8(output.stderr).expect("UTF-8");
        assert!(said.lines().count() == 1 && said.contains("does the end run"), "{view}: {said}");
        assert_eq!(output.status.code(), Some(1), "{view}");
    }
}

/// A program that is ended when it is not needed any more.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn prometheus_is_answered_and_told_when_the_end_is_away() {
    let end = end_of(vec![sample::status("braid0", 2)]);
    let mut program = Program::new(CONTROL);
    program.arg("--control").arg(end.path()).args(["metrics", "--listen", "127.0.0.1:0"]).stderr(Stdio::piped());
    let mut running = Running(program.spawn().expect("the program runs"));
    let mut line = String::new();
    BufReader::new(running.0.stderr.take().expect("a pipe")).read_line(&mut line).expect("it says where");
    let address = line.split("http://").nth(1).and_then(|rest| rest.split('/').next()).expect("an address");
    let ask = || {
        let mut stream = TcpStream::connect(address).expect("it listens");
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    };
    assert!(ask().contains("braid_uplinks_up{tap=\"braid0\"} 2"));
    end.vanish();
    let away = ask();
    assert!(away.starts_with("HTTP/1.0 503") || away.starts_with("HTTP/1.1 503"), "{away}");
    assert!(away.contains("does the end run"), "{away}");
    end.come(answers(vec![sample::status("braid0", 3)]));
    assert!(ask().contains("braid_uplinks_up{tap=\"braid0\"} 3"));
}

#[test]
fn colours_are_for_terminals_and_for_those_who_want_them() {
    let end = end_of(vec![sample::status("braid0", 2)]);
    let on_a_terminal = |name: &str, value: &str| {
        let command = format!("{CONTROL} --control {} status", end.path().display());
        let mut program = Program::new("script");
        program.args(["--quiet", "--return", "--command", &command, "/dev/null"]).stdin(Stdio::null());
        let output = program.env("TERM", "xterm").env_remove("NO_COLOR").env(name, value).output();
        String::from_utf8(output.expect("script(1) is there").stdout).expect("UTF-8")
    };
    assert!(on_a_terminal("NO_COLOR", "").contains("\x1b[32mwell"));
    for (name, value) in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        let text = on_a_terminal(name, value);
        assert!(text.contains("braid0: well") && !text.contains('\x1b'), "{name}: {text}");
    }
}

/// `braidctl top` on a terminal of its own, by script(1).
struct Top {
    running: Running,
    told: Receiver<Vec<u8>>,
    /// What the terminal was told, and what is to be seen on it.
    so_far: String,
    terminal: vt100::Parser,
}

impl Top {
    fn start(end: &End) -> Self {
        let path = end.path();
        let command = format!("stty rows 24 cols 80; exec {CONTROL} --control {} top --interval 100ms", path.display());
        let mut program = Program::new("script");
        program.args(["--quiet", "--return", "--command", &command, "/dev/null"]);
        program.env("TERM", "xterm").env("SHELL", "/bin/sh").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut running = Running(program.spawn().expect("script(1) is there"));
        let mut stdout = running.0.stdout.take().expect("a pipe");
        let (sender, told) = channel();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = stdout.read(&mut buffer) {
                let _ = sender.send(buffer[..length].to_vec());
            }
        });
        let [rows, columns] = [24, 80].map(|count| NonZeroU16::new(count).expect("not 0"));
        Self { running, told, so_far: String::new(), terminal: vt100::Parser::new(rows, columns, 0) }
    }

    fn wait_until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let patience = Instant::now() + Duration::from_secs(30);
        while !is_so(self) {
            let more = self.told.recv_timeout(patience.saturating_duration_since(Instant::now()));
            let more = more.unwrap_or_else(|_| panic!("no '{what}' in {}", self.terminal.screen().contents()));
            self.terminal.process(&more);
            self.so_far += &String::from_utf8_lossy(&more);
        }
    }

    fn wait_to_see(&mut self, text: &str) {
        self.wait_until(text, |top| top.terminal.screen().contents().contains(text));
    }

    /// The cursor is shown again after the screen that was there before.
    fn wait_until_restored(&mut self) {
        self.wait_until("restored", |top| {
            let screen = top.terminal.screen();
            top.so_far.contains(RESTORED) && !screen.alternate_screen() && !screen.hide_cursor()
        });
    }

    fn press(&mut self, keys: &str) {
        self.running.0.stdin.as_mut().expect("a pipe").write_all(keys.as_bytes()).expect("typed");
    }
}

/// What a terminal is told when a program leaves its own screen and goes back to what was there before.
const RESTORED: &str = "\x1b[?1049l";

#[test]
fn top_shows_an_end_that_comes_and_goes_and_leaves_the_terminal_as_it_was() {
    let end = end_of(vec![sample::status("braid0", 3)]);
    let mut top = Top::start(&end);
    top.wait_to_see("braid0: well");
    top.wait_to_see("it rains.");
    assert!(top.terminal.screen().alternate_screen());
    end.vanish();
    top.wait_to_see("the end is away: trying again");
    end.come(answers(vec![sample::status("braid0", 2)]));
    top.wait_to_see("braid0: well");
    top.press("p");
    top.wait_to_see("paused");
    assert!(!top.so_far.contains(RESTORED));
    top.press("q");
    top.wait_until_restored();
    assert!(top.running.0.wait().expect("it ends").success());
}

#[test]
fn top_restores_the_terminal_when_it_is_told_to_stop() {
    let end = end_of(vec![sample::status("braid0", 1)]);
    let mut top = Top::start(&end);
    top.wait_to_see("braid0: well");
    // Whom script(1) has started is its only child.
    let path = format!("/proc/{0}/task/{0}/children", top.running.0.id());
    let children = fs::read_to_string(path).expect("Linux");
    let killed = Program::new("kill").args(["-TERM", children.trim()]).status().expect("kill(1) is there");
    assert!(killed.success(), "{children}");
    top.wait_until_restored();
}
