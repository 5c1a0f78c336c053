//! A lab for tests: the links of a scenario, with both ends of a tunnel started, killed and asked at will.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use braid::proto::session::keys::{KEY_LENGTH, PrivateKey};
use serde_json::Value;

/// The box's namespace.
pub const BOX: &str = "braid-box";
/// The gateway's namespace.
pub const GATEWAY: &str = "braid-gw";
/// The box's address in the tunnel.
pub const BOX_ADDRESS: &str = "10.9.0.1";
/// The gateway's address in the tunnel.
pub const GATEWAY_ADDRESS: &str = "10.9.0.2";

/// Two uplinks of 5 and 15 ms.
pub const TWO: &str = r#"
name = "two"
duration = "1s"
[[uplink]]
name = "a"
delay = "5ms"
[[uplink]]
name = "b"
delay = "15ms"
"#;

/// Where a stream must come whole, and the window is not what is tested: a machine that runs tests may stall an emulated
/// link for longer than the usual window.
pub const PATIENT: &str = "--window 200ms";

const PATIENCE: Duration = Duration::from_secs(10);

/// There is one lab on a machine, and tests take turns.
static TURN: Mutex<()> = Mutex::new(());

/// Whether a test that needs root may run; says loudly if not, and fails where tests are not to be skipped.
pub fn may_run() -> bool {
    let is_root = fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
    let has_tun = Path::new("/dev/net/tun").exists();
    if is_root && has_tun {
        return true;
    }
    eprintln!("SKIPPED: this test makes network namespaces and TAPs, and needs root and /dev/net/tun");
    assert!(std::env::var_os("CI").is_none(), "with CI=true no end-to-end test may be skipped");
    false
}

/// A program of the workspace.
pub fn program(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_braid-box")).with_file_name(name);
    assert!(path.exists(), "{} is missing: run 'cargo build --workspace' first", path.display());
    path
}

/// Waits until `is_so`, and fails if it does not come to be.
pub fn await_that(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "has not come to be: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Runs a scenario by `braid-lab run`, and returns its report.
pub fn run_scenario(scenario: &str, flags: &str) -> Value {
    let turn = take_turn();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("scenario.toml");
    fs::write(&file, scenario).expect("written");
    let output = Command::new(program("braid-lab"))
        .arg("run")
        .arg(&file)
        .args(["--json", "-", "--output"])
        .arg(folder.path())
        .args(flags.split_whitespace())
        .output()
        .expect("the lab runs");
    let logs: String = ["braid-box.log", "braid-gateway.log"]
        .iter()
        .map(|name| fs::read_to_string(folder.path().join(name)).unwrap_or_default())
        .collect();
    assert!(output.status.success(), "{}\n{logs}", String::from_utf8_lossy(&output.stderr));
    drop(turn);
    eprintln!("{logs}");
    serde_json::from_slice(&output.stdout).expect("a report")
}

/// The key of whoever is called so: always the same, and another for each name.
pub fn private_key(name: &str) -> PrivateKey {
    let mut bytes = [7; KEY_LENGTH];
    bytes.iter_mut().zip(name.bytes()).for_each(|(place, byte)| *place = byte);
    PrivateKey::from_random(bytes)
}

/// Waits until tshark says that it captures.
fn await_capture(tshark: &mut Child) {
    let mut lines = BufReader::new(tshark.stderr.take().expect("piped")).lines();
    let begun = lines.by_ref().map_while(Result::ok).any(|line| line.contains("Capturing on"));
    assert!(begun, "tshark is needed: 'tools/test' installs it");
    // The rest is read, so that tshark never waits for a reader.
    thread::spawn(move || lines.for_each(drop));
}

/// Waits for the lab, of which there is one on a machine.
pub fn take_turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The links of a scenario, up; or plain ones.
pub struct Lab {
    /// Emulates the links; `None` if they are plain.
    lab: Option<Child>,
    folder: tempfile::TempDir,
    _turn: MutexGuard<'static, ()>,
}

/// Mounts of their own for programs that have to see the same ones, which `ip netns exec` keeps from them.
pub struct Mounts(Child);

impl Mounts {
    /// A copy of ours, in which nothing that is mounted is seen outside.
    pub fn new() -> Self {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sleep", "infinity"]);
        let mounts = Self(command.spawn().expect("unshare runs"));
        let of = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/mnt")).expect("it runs");
        await_that("it has mounts of its own", || of(&mounts.0.id().to_string()) != of("self"));
        mounts
    }
}

impl Drop for Mounts {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// One end of a tunnel, running.
pub struct End {
    child: Child,
    log: PathBuf,
    control: PathBuf,
}

impl Lab {
    /// Brings the links up; `None` where the test cannot run, which has been said then.
    pub fn up(scenario: &str) -> Option<Self> {
        if !may_run() {
            return None;
        }
        let turn = take_turn();
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("scenario.toml");
        fs::write(&file, scenario).expect("written");
        let log = folder.path().join("lab.log");
        let lab = Command::new(program("braid-lab"))
            .arg("up")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(File::create(&log).expect("a file"))
            .spawn()
            .expect("the lab runs");
        await_that("the lab is up", || fs::read_to_string(&log).is_ok_and(|text| text.starts_with("up")));
        Some(Self { lab: Some(lab), folder, _turn: turn })
    }

    /// Two links that nothing emulates: pairs of virtual interfaces, which carry many datagrams as one where they can.
    pub fn plain() -> Option<Self> {
        if !may_run() {
            return None;
        }
        let lab = Self { lab: None, folder: tempfile::tempdir().expect("a folder"), _turn: take_turn() };
        let run = |line: &str| {
            let done = Command::new("ip").args(line.split_whitespace()).status();
            assert!(done.is_ok_and(|status| status.success()), "ip {line}");
        };
        for namespace in [BOX, GATEWAY] {
            run(&format!("netns add {namespace}"));
            run(&format!("-n {namespace} link set dev lo up"));
        }
        run(&format!("-n {GATEWAY} address add 203.0.113.1/32 dev lo"));
        for (number, uplink) in ["a", "b"].into_iter().enumerate() {
            run(&format!("link add name {uplink} netns {BOX} type veth peer name {uplink} netns {GATEWAY}"));
            for (namespace, host) in [(BOX, 1), (GATEWAY, 2)] {
                run(&format!("-n {namespace} address add 10.77.{number}.{host}/24 dev {uplink}"));
                run(&format!("-n {namespace} link set dev {uplink} up"));
            }
            run(&format!("-n {BOX} route add 203.0.113.1 via 10.77.{number}.2 dev {uplink} metric {}", number + 1));
        }
        Some(lab)
    }

    /// Starts a gateway and a box with these flags added, and waits until frames pass.
    pub fn start_both(&self, flags: &str) -> (End, End) {
        let both = (self.start_gateway(flags), self.start_box(flags));
        self.await_answer();
        both
    }

    /// Waits until a ping through the tunnel is answered.
    pub fn await_answer(&self) {
        await_that("a ping is answered", || self.answers());
    }

    /// A command in a namespace.
    pub fn command(&self, namespace: &str, line: &str) -> Command {
        let mut command = enter(namespace);
        command.args(line.split_whitespace());
        command
    }

    /// Runs a command in a namespace, which must succeed.
    pub fn run(&self, namespace: &str, line: &str) -> Output {
        let output = self.command(namespace, line).output().expect("ip runs");
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        output
    }

    /// What passes by on the gateway's end of uplink `a` while `meanwhile` runs, up to what `limits` say.
    pub fn capture(&self, limits: &str, meanwhile: impl FnOnce()) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let line = format!("tshark -q -i a {limits} -a duration:20 -w {}", file.path().display());
        let mut capture = self.command(GATEWAY, &line).stderr(Stdio::piped()).spawn().expect("ip runs");
        await_capture(&mut capture);
        meanwhile();
        capture.wait().expect("tshark ends");
        file
    }

    /// Has something happen to an uplink, as in `braid-lab event`.
    pub fn happen(&self, uplink: &str, action: &str) {
        let told = Command::new(program("braid-lab")).args(["event", uplink, action]).output().expect("the lab runs");
        assert!(told.status.success(), "{uplink} {action}: {}", String::from_utf8_lossy(&told.stderr));
    }

    /// Starts a gateway with these flags added, and waits until it is ready.
    pub fn start_gateway(&self, flags: &str) -> End {
        let listen = if flags.contains("--listen") { "" } else { "--listen 0.0.0.0:4754" };
        self.start(GATEWAY, "braid-gateway", &format!("{listen} --address {GATEWAY_ADDRESS}/24 {flags}"))
    }

    /// Starts a box with uplinks `a` and `b` and these flags added, and waits until it is ready. One that is given another
    /// TAP is given its addresses, too.
    pub fn start_box(&self, flags: &str) -> End {
        let gateway = if flags.contains("--gateway") { "" } else { "--gateway 203.0.113.1" };
        let uplinks = if flags.contains("--uplink") { "" } else { "--uplink dev=a --uplink dev=b" };
        let address = if flags.contains("--tap") { "" } else { &format!("--address {BOX_ADDRESS}/24") };
        self.start(BOX, "braid-box", &format!("{gateway} {uplinks} {address} {flags}"))
    }

    /// Starts a gateway of several boxes, which these flags name, and waits until it is ready.
    pub fn start_gateway_of_boxes(&self, flags: &str) -> End {
        self.start(GATEWAY, "braid-gateway", &format!("--listen 0.0.0.0:4754 {flags}"))
    }

    /// Starts one of several gateways of the same boxes, and waits until it is ready.
    pub fn start_gateway_among(&self, mounts: &Mounts, flags: &str) -> End {
        let mut command = Command::new("nsenter");
        command.args(["--target", &mounts.0.id().to_string(), "--mount", &format!("--net=/run/netns/{GATEWAY}")]);
        let program = program("braid-gateway").display().to_string();
        let end = self.spawn(command, "braid-gateway", &program, &format!("--listen 0.0.0.0:4754 {flags}"));
        end.await_log("ready: ");
        end
    }

    /// Starts a box that these flags say everything of but where the gateway is, and waits until it is ready.
    pub fn start_named_box(&self, flags: &str) -> End {
        self.start(BOX, "braid-box", &format!("--gateway 203.0.113.1 {flags}"))
    }

    /// Starts an end as a user who may administer the network, and nothing else, and waits until it is ready.
    pub fn start_as_nobody(&self, namespace: &str, name: &str, flags: &str) -> End {
        let copy = self.copy_for_all(name);
        let tap_for_all = self.tap_for_all();
        let own = self.folder.path().join(format!("{name}-own"));
        if !own.exists() {
            fs::create_dir(&own).expect("made");
            std::os::unix::fs::chown(&own, Some(65534), Some(65534)).expect("given away");
        }
        let flags = &format!("--control {}/control.sock {flags}", own.display());
        let user = "setpriv --reuid=65534 --regid=65534 --clear-groups";
        let right = "--inh-caps=-all,+net_admin --ambient-caps=-all,+net_admin";
        let end = self.spawn(
            enter(namespace),
            name,
            &format!("{} {user} {right} {}", tap_for_all.display(), copy.display()),
            flags,
        );
        end.await_log("ready: ");
        end
    }

    /// A script that runs what follows where anyone may open /dev/net/tun, which a machine may keep to root. The mounts are
    /// the process's own: ip(8) has seen to that.
    fn tap_for_all(&self) -> PathBuf {
        let folder = self.folder.path();
        let (devices, script) = (folder.join("devices"), folder.join("tap-for-all"));
        let text = format!(
            "#!/bin/sh -e\nmount -t tmpfs braid {0}\nmknod -m 666 {0}/tun c 10 200\nmount --bind {0}/tun /dev/net/tun\n\
             umount -l {0}\nexec \"$@\"\n",
            devices.display()
        );
        fs::create_dir_all(devices).expect("made");
        fs::write(&script, text).expect("written");
        let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(&script, executable).expect("made executable");
        script
    }

    /// A copy of a program that anyone may run, which the folder of the build may not allow.
    pub fn copy_for_all(&self, name: &str) -> PathBuf {
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(self.folder.path(), open).expect("opened");
        let copy = self.folder.path().join(name);
        if !copy.exists() {
            fs::copy(program(name), &copy).expect("copied");
        }
        copy
    }

    fn start(&self, namespace: &str, name: &str, flags: &str) -> End {
        let end = self.spawn(enter(namespace), name, &program(name).display().to_string(), flags);
        end.await_log("ready: ");
        end
    }

    /// `entered` is a command that runs what follows in a namespace.
    fn spawn(&self, mut entered: Command, name: &str, program: &str, flags: &str) -> End {
        static STARTED: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = STARTED.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let log = self.folder.path().join(format!("{name}-{number}.log"));
        let keys = self.keys(name, flags);
        let tap = if flags.contains("--box") || flags.contains("--tap") { "" } else { "--tap braid0" };
        let control = self.folder.path().join(format!("{name}-{number}.sock"));
        let line = format!("{program} {tap} {keys} --log debug --control {} {flags}", control.display());
        let child = entered
            .args(line.split_whitespace())
            .stdin(Stdio::null())
            .stderr(File::create(&log).expect("a file"))
            .spawn()
            .expect("ip runs");
        End { child, log, control }
    }

    /// The flags that give an end its keys, if it is not told otherwise.
    fn keys(&self, name: &str, flags: &str) -> String {
        if flags.contains("--plaintext") {
            return String::new();
        }
        let mut keys = String::new();
        if !flags.contains("--key-file") {
            keys += &format!("--key-file {}", self.key_file(name).display());
        }
        if !flags.contains("--peer") && !flags.contains("--box") {
            let peer = if name == "braid-box" { "braid-gateway" } else { "braid-box" };
            keys += &format!(" --peer {}", private_key(peer).public());
        }
        keys
    }

    /// The file with the private key of whoever is called so.
    pub fn key_file(&self, name: &str) -> PathBuf {
        let path = self.folder.path().join(format!("{name}.key"));
        if !path.exists() {
            let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
            writeln!(file.expect("a file"), "{}", private_key(name).to_text().as_str()).expect("written");
        }
        path
    }

    /// Whether a ping through the tunnel is answered within a second.
    pub fn answers(&self) -> bool {
        let ping = self.command(BOX, &format!("ping -q -c 1 -W 1 {GATEWAY_ADDRESS}")).output();
        ping.is_ok_and(|output| output.status.success())
    }

    /// Sends numbered datagrams from one namespace to an address in the other for `milliseconds`, does `meanwhile`,
    /// and returns the numbers that came, in order of arrival, and how many were sent.
    pub fn stream(
        &self,
        (from, to, address): (&str, &str, &str),
        milliseconds: u64,
        meanwhile: impl FnOnce(),
    ) -> (Vec<u64>, u64) {
        let lab = program("braid-lab");
        let lab = lab.display();
        let received = self.folder.path().join(format!("received-{to}.json"));
        let mut sink = self
            .command(to, &format!("{lab} sink --listen {address}:5001"))
            .stdin(Stdio::piped())
            .stdout(File::create(&received).expect("a file"))
            .spawn()
            .expect("ip runs");
        await_that("the sink listens", || fs::metadata(&received).is_ok_and(|file| file.len() > 0));
        let line = format!("{lab} source --to {address}:5001 --rate 4mbit --size 1000 --duration {milliseconds}ms");
        let source = self.command(from, &line).stdout(Stdio::piped()).spawn().expect("ip runs");
        meanwhile();
        let sent = source.wait_with_output().expect("a source");
        let sent: Value = serde_json::from_slice(&sent.stdout).expect("the source's report");
        thread::sleep(Duration::from_millis(500));
        drop(sink.stdin.take());
        sink.wait().expect("the sink ends");
        let text = fs::read_to_string(&received).expect("the sink's report");
        let last: Value = serde_json::from_str(text.lines().last().expect("a line")).expect("JSON");
        let arrivals = last["arrivals"].as_array().expect("arrivals");
        let numbers = arrivals.iter().map(|arrival| arrival[0].as_u64().expect("a number")).collect();
        (numbers, sent["offered"].as_u64().expect("a count"))
    }

    /// From the box to the gateway.
    pub const UP: (&'static str, &'static str, &'static str) = (BOX, GATEWAY, GATEWAY_ADDRESS);
    /// From the gateway to the box.
    pub const DOWN: (&'static str, &'static str, &'static str) = (GATEWAY, BOX, BOX_ADDRESS);
}

/// A command that runs what follows in a namespace.
fn enter(namespace: &str) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", namespace]);
    command
}

/// What came must be in order, each once; returns how many of `offered` are missing.
pub fn missing((numbers, offered): &(Vec<u64>, u64)) -> u64 {
    assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "in order, and once");
    offered - numbers.len() as u64
}

impl Drop for Lab {
    fn drop(&mut self) {
        let Some(lab) = &mut self.lab else {
            for namespace in [BOX, GATEWAY] {
                let _ = Command::new("ip").args(["netns", "delete", namespace]).status();
            }
            return;
        };
        let down = Command::new(program("braid-lab")).arg("down").status();
        let _ = lab.wait();
        if !thread::panicking() {
            assert!(down.is_ok_and(|status| status.success()), "the lab goes down");
        }
    }
}

impl End {
    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has said so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until it has said this.
    pub fn await_log(&self, text: &str) {
        let begun = Instant::now();
        while !self.log().contains(text) {
            assert!(begun.elapsed() < PATIENCE, "'{text}' was not said:\n{}", self.log());
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until it has said this so many times.
    pub fn await_log_times(&self, text: &str, times: usize) {
        await_that(text, || self.log().matches(text).count() >= times);
    }

    /// Its control socket.
    pub fn control(&self) -> &Path {
        &self.control
    }

    /// What braidctl comes to that is told this of it.
    pub fn braidctl(&self, line: &str) -> Output {
        let mut command = Command::new(program("braidctl"));
        command.arg("--control").arg(&self.control).args(line.split_whitespace());
        command.stdin(Stdio::null()).output().expect("braidctl runs")
    }

    /// What braidctl says that is told this of it, and must succeed.
    pub fn ask(&self, line: &str) -> String {
        let output = self.braidctl(line);
        let [said, complained] = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        assert!(output.status.success(), "{line}: {said}{complained}");
        said
    }

    /// What braidctl complains of that is told this of it, and must fail.
    pub fn refuse(&self, line: &str) -> String {
        let output = self.braidctl(line);
        let complained = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(1) && complained.lines().count() == 1, "{line}: {complained}");
        complained
    }

    /// How it is.
    pub fn status(&self) -> Value {
        serde_json::from_str(&self.ask("status --json")).expect("JSON")
    }

    /// Sends it a signal, by its name.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args([&format!("-{name}"), &self.pid().to_string()]).status();
        assert!(status.is_ok_and(|status| status.success()), "kill -{name}");
    }

    /// Memory resident now, in KiB, and how many files it has open.
    pub fn holds(&self) -> (u64, usize) {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("it runs");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("every process has memory");
        let resident = line.split_whitespace().nth(1).and_then(|text| text.parse().ok()).expect("a number");
        let files = fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("it runs");
        (resident, files.count())
    }

    /// Waits until it says of so many uplinks that they are up.
    pub fn await_well(&self, uplinks: usize) {
        await_that("all uplinks are up", || {
            let asked = self.log().len();
            self.counters();
            // The lines of the uplinks follow that of the counters.
            thread::sleep(Duration::from_millis(20));
            self.log().get(asked..).unwrap_or_default().matches(": up for ").count() == uplinks
        });
    }

    /// Checks that it has dropped nothing, but for copies of handshake messages, which go by every uplink.
    pub fn assert_nothing_dropped(&self) {
        let counters = self.counters();
        let (_, dropped) = counters.split_once("dropped: ").expect("the line ends so");
        let is_copy = |word: &str| word == "nothing" || word.starts_with("handshake_over=");
        assert!(dropped.split_whitespace().all(is_copy), "{counters}");
    }

    /// Waits until it ends, and returns its exit code.
    pub fn wait(&mut self) -> Option<i32> {
        self.child.wait().expect("it ends").code()
    }

    /// Has it stop, and returns its exit code.
    pub fn stop(&mut self) -> Option<i32> {
        self.signal("TERM");
        self.wait()
    }

    /// Kills it.
    pub fn kill(&mut self) {
        self.signal("KILL");
        self.wait();
    }

    /// Has it log its counters, and returns the line.
    pub fn counters(&self) -> String {
        let before = self.log().matches("counters: ").count();
        self.signal("USR1");
        await_that("counters", || {
            let log = self.log();
            log.matches("counters: ").count() > before && log.ends_with('\n')
        });
        self.log().lines().rfind(|line| line.contains("counters: ")).expect("just logged").to_owned()
    }
}

impl Drop for End {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let _ = writeln!(std::io::stderr(), "--- {} ---\n{}", self.log.display(), self.log());
        }
    }
}
