//! Machines and set-ups that something is wrong with, made so on purpose: `braidctl doctor` must say of each what it is, and
//! nothing of the kind before and after.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;

use serde_json::Value;

use crate::lab::{BOX, GATEWAY, Lab, await_that, program};

/// Two uplinks that are well, where a gateway would be.
const UPLINKS: &str = "uplink = ['dev=a', 'dev=b']\n";
const BOX_CONFIG: &str = "gateway = '203.0.113.1'\nplaintext = true\ntap = 'braid0'\n";
const PEER: &str = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=";

/// What was found, and the exit code.
struct Report {
    findings: Vec<Value>,
    code: Option<i32>,
}

impl Report {
    fn of(mut command: Command) -> Self {
        let output = command.stdin(Stdio::null()).output().expect("the doctor comes");
        let said = String::from_utf8_lossy(&output.stderr);
        let findings = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}"));
        Self { findings, code: output.status.code() }
    }

    /// What was found by a check, of uplink `b` where it is of uplinks.
    fn found(&self, check: &str) -> &Value {
        let is_meant = |finding: &&Value| finding["check"] == check && finding["uplink"] != "a";
        self.findings.iter().find(is_meant).unwrap_or_else(|| panic!("no word of '{check}': {:?}", self.findings))
    }

    /// That a check has found this, says these words, and nothing of it is wrong with uplink `a`.
    #[track_caller]
    fn assert(&self, check: &str, result: &str, words: &[&str]) {
        let finding = self.found(check);
        let text = finding.to_string();
        assert_eq!(finding["result"], result, "{text}");
        assert_eq!(finding["advice"].is_null(), result == "ok", "{text}");
        assert!(words.iter().all(|word| text.contains(word)), "{words:?}: {text}");
        let is_other = |finding: &&Value| finding["check"] == check && finding["uplink"] == "a";
        assert!(self.findings.iter().filter(is_other).all(|finding| finding["result"] == "ok"), "{:?}", self.findings);
        let fails = self.findings.iter().any(|finding| finding["result"] == "fail");
        assert_eq!(self.code, Some(i32::from(fails)), "{:?}", self.findings);
    }
}

/// A machine to be examined.
struct Ward {
    lab: Lab,
    folder: tempfile::TempDir,
}

impl Ward {
    fn open() -> Option<Self> {
        Some(Self { lab: Lab::plain()?, folder: tempfile::tempdir().expect("a folder") })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The examination of a configuration in a namespace, by a command that may be given another to run (`$@`).
    fn examination(&self, namespace: &str, script: &str, config: &str) -> Command {
        let file = self.path("end.toml");
        fs::write(&file, config.replace("FOLDER", &self.folder.path().display().to_string())).expect("written");
        let mut command = self.lab.command(namespace, "sh -e -c");
        command.arg(script).arg("sh").arg(program("braidctl")).args(["doctor", "--json", "--config"]).arg(file);
        command
    }

    /// Examines the box with more in its configuration, by a script.
    fn examine_by(&self, script: &str, more: &str) -> Report {
        Report::of(self.examination(BOX, script, &format!("{BOX_CONFIG}{more}")))
    }

    fn examine(&self, more: &str) -> Report {
        self.examine_by("exec \"$@\"", more)
    }

    fn ip(&self, namespace: &str, lines: &[&str]) {
        for line in lines {
            self.lab.run(namespace, &format!("ip {line}"));
        }
    }

    /// Has something happen to uplink `b`, and undone; the check must find it, and be well before and after.
    #[track_caller]
    fn ill_and_well(&self, ill: (&str, &[&str]), well: (&str, &[&str]), check: &str, result: &str, words: &[&str]) {
        self.examine(UPLINKS).assert(check, "ok", &[]);
        self.ip(ill.0, ill.1);
        self.examine(UPLINKS).assert(check, result, words);
        self.ip(well.0, well.1);
        self.examine(UPLINKS).assert(check, "ok", &[]);
    }
}

const ROUTE: &str = "route add 203.0.113.1 via 10.77.1.2 dev b metric 2";

#[test]
fn what_is_wrong_with_an_interface_is_found() {
    let Some(ward) = Ward::open() else { return };
    let missing = ward.examine("uplink = ['dev=a', 'dev=nosuch0,name=b']\n");
    missing.assert("interface", "fail", &["no 'nosuch0'", "plug it in"]);
    let (down, up) = (&["link set dev b down"][..], &["link set dev b up"][..]);
    ward.ill_and_well((GATEWAY, down), (GATEWAY, up), "interface", "fail", &["no carrier", "cable"]);
    let again = &["link set dev b up", ROUTE][..];
    ward.ill_and_well((BOX, down), (BOX, again), "interface", "fail", &["set down", "ip link set dev b up"]);
    let (small, whole) = (&["link set dev b mtu 1300"][..], &["link set dev b mtu 1500"][..]);
    ward.ill_and_well((BOX, small), (BOX, whole), "MTU", "warn", &["1300", "1250", "1280"]);
    ward.examine(&format!("mtu = 1450\n{UPLINKS}")).assert("MTU", "ok", &["1500"]);
    ward.ip(BOX, &["link set dev b mtu 1400"]);
    ward.examine(&format!("mtu = 1450\n{UPLINKS}")).assert("MTU", "fail", &["1450 + 50", "1350"]);
}

#[test]
fn what_is_wrong_with_the_way_to_the_gateway_is_found() {
    let Some(ward) = Ward::open() else { return };
    let none = &["address del 10.77.1.1/24 dev b"][..];
    let address = &["address add 10.77.1.1/24 dev b", ROUTE][..];
    ward.ill_and_well((BOX, none), (BOX, address), "address", "fail", &["it has none", "DHCP"]);
    let other = &["address del 10.77.1.1/24 dev b", "address add fd00:77::1/64 dev b nodad"][..];
    ward.ill_and_well((BOX, other), (BOX, address), "address", "fail", &["fd00:77::1", "an IPv4 address"]);
    let source = "uplink = ['dev=a', 'dev=b,source=10.77.1.9']\n";
    ward.examine(source).assert("address", "fail", &["10.77.1.9", "source"]);
    let no_route = &["route del 203.0.113.1 dev b"][..];
    ward.ill_and_well((BOX, no_route), (BOX, &[ROUTE]), "route", "fail", &["no route to 203.0.113.1", "dev b"]);
    let narrow = &["route change 203.0.113.1 via 10.77.1.2 dev b metric 2 mtu 1400"][..];
    let wide = &["route change 203.0.113.1 via 10.77.1.2 dev b metric 2"][..];
    ward.ill_and_well((BOX, narrow), (BOX, wide), "path MTU", "warn", &["1400", "the kernel", "1350"]);
}

/// Whether the gateway's answers come in by uplink `b`.
fn is_answered_by_b(ward: &Ward) -> bool {
    let ping = ward.lab.command(BOX, "ping -q -c 1 -W 1 -I b 203.0.113.1").output();
    ping.is_ok_and(|output| output.status.success())
}

#[test]
fn a_strict_reverse_path_filter_is_found_where_it_drops_what_comes() {
    let Some(ward) = Ward::open() else { return };
    let set = |value: u8| {
        ward.lab.run(BOX, &format!("sysctl -q -w net.ipv4.conf.b.rp_filter={value}"));
    };
    set(0);
    ward.examine(UPLINKS).assert("reverse path", "ok", &["not filtered"]);
    set(1);
    assert!(!is_answered_by_b(&ward), "it is dropped indeed");
    ward.examine(UPLINKS).assert("reverse path", "fail", &["strict", "'a'", "net.ipv4.conf.b.rp_filter=2"]);
    // A rule for the address is as good.
    ward.ip(BOX, &["route add default via 10.77.1.2 dev b table 77", "rule add from 10.77.1.1 lookup 77"]);
    assert!(is_answered_by_b(&ward));
    ward.examine(UPLINKS).assert("reverse path", "ok", &["too"]);
    ward.ip(BOX, &["rule del from 10.77.1.1 lookup 77"]);
    // As advised.
    set(2);
    assert!(is_answered_by_b(&ward));
    ward.examine(UPLINKS).assert("reverse path", "ok", &["loose"]);
}

#[test]
fn uplinks_that_fail_together_are_found() {
    let Some(ward) = Ward::open() else { return };
    ward.examine(UPLINKS).assert("uplinks apart", "ok", &[]);
    let same = ward.examine("uplink = ['dev=a', 'dev=a,name=b']\n");
    same.assert("uplinks apart", "warn", &["a and b", "'a'"]);
    ward.ip(BOX, &["address del 10.77.1.1/24 dev b", "address add 10.77.0.9/24 dev b"]);
    ward.ip(BOX, &["route add 203.0.113.1 via 10.77.0.2 dev b metric 2"]);
    ward.examine(UPLINKS).assert("uplinks apart", "warn", &["10.77.0.0/24", "one router"]);
}

#[test]
fn what_is_not_permitted_is_found() {
    let Some(ward) = Ward::open() else { return };
    let well = ward.examine(UPLINKS);
    for check in ["permissions", "receive buffer", "TAP", "/dev/net/tun", "locked memory", "io_uring"] {
        well.assert(check, "ok", &[]);
    }
    let weak = ward.examine_by("exec setpriv --bounding-set=-net_admin --inh-caps=-net_admin \"$@\"", UPLINKS);
    weak.assert("permissions", "fail", &["CAP_NET_ADMIN", "root"]);
    weak.assert("receive buffer", "warn", &["net.core.rmem_max"]);
    // Root is not bound by the limit, but by what it may.
    let tight = |limit: u32| {
        let bound = "exec setpriv --bounding-set=-ipc_lock --inh-caps=-ipc_lock";
        ward.examine_by(&format!("{bound} prlimit --memlock={limit}:{limit} \"$@\""), UPLINKS)
    };
    // Too little for the packet buffers, and then even for the ring.
    tight(1 << 20).assert("locked memory", "warn", &["1024 KiB", "LimitMEMLOCK"]);
    tight(1 << 16).assert("io_uring", "fail", &["RLIMIT_MEMLOCK", "CAP_IPC_LOCK"]);
    let hidden = ward.examine_by("mount -t tmpfs none /dev/net; exec \"$@\"", UPLINKS);
    hidden.assert("/dev/net/tun", "fail", &["No such file", "modprobe tun"]);
    Report::of_without_rings(ward.examination(BOX, "exec \"$@\"", &format!("{BOX_CONFIG}{UPLINKS}"))).assert(
        "io_uring",
        "fail",
        &["seccomp", "allow the io_uring system calls"],
    );
}

impl Report {
    /// Where a seccomp filter forbids io_uring, as containers have one.
    fn of_without_rings(command: Command) -> Self {
        // A filter is the thread's own, and its children's.
        let examined = thread::spawn(move || {
            let refused = seccompiler::SeccompAction::Errno(libc::EPERM as u32);
            let allowed = seccompiler::SeccompAction::Allow;
            let architecture = std::env::consts::ARCH.try_into().expect("a known one");
            let calls = [(libc::SYS_io_uring_setup, vec![])].into_iter().collect();
            let filter = seccompiler::SeccompFilter::new(calls, allowed, refused, architecture).expect("lawful");
            let filter: seccompiler::BpfProgram = filter.try_into().expect("lawful");
            seccompiler::apply_filter(&filter).expect("installed");
            Self::of(command)
        });
        examined.join().expect("the thread ends")
    }
}

#[test]
fn what_is_wrong_with_the_machine_is_found() {
    let Some(ward) = Ward::open() else { return };
    let well = ward.examine(UPLINKS);
    well.assert("CPU governor", "ok", &[]);
    well.assert("control socket", "ok", &["/run/braid"]);
    let old = "echo 5.10.0-21-amd64 >FOLDER/old; mount --bind FOLDER/old /proc/sys/kernel/osrelease; exec \"$@\"";
    let old = old.replace("FOLDER", &ward.folder.path().display().to_string());
    ward.examine_by(&old, UPLINKS).assert("kernel", "fail", &["5.10", "6.1"]);
    let slow = "mount -t tmpfs none /sys/devices/system/cpu; mkdir -p /sys/devices/system/cpu/cpu0/cpufreq; \
                echo ondemand >/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor; exec \"$@\"";
    ward.examine_by(slow, UPLINKS).assert("CPU governor", "warn", &["ondemand", "performance"]);
    let alone = "exec taskset -c 0 \"$@\"";
    ward.examine_by(alone, UPLINKS).assert("CPUs", "warn", &["only one"]);
    ward.examine_by(alone, &format!("cpu = 0\n{UPLINKS}")).assert("CPUs", "ok", &[]);
    ward.examine_by(alone, &format!("cpu = 1\n{UPLINKS}")).assert("CPUs", "fail", &["CPU 1", "choose"]);
    let kept = "mount -t tmpfs -o ro none /run; exec \"$@\"";
    ward.examine_by(kept, UPLINKS).assert("control socket", "warn", &["Read-only", "RuntimeDirectory"]);
}

#[test]
fn what_is_wrong_with_the_configuration_and_its_files_is_found() {
    let Some(ward) = Ward::open() else { return };
    let sealed = format!("gateway = '203.0.113.1'\ntap = 't0'\nkey-file = 'FOLDER/key'\npeer = '{PEER}'\n{UPLINKS}");
    let examine = |script: &str, config: &str| Report::of(ward.examination(BOX, script, config));
    let (plainly, key) = ("exec \"$@\"", ward.path("key"));
    examine(plainly, &sealed).assert("key file", "fail", &["cannot be read", "braidctl keygen"]);
    fs::write(&key, "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=\n").expect("written");
    for (mode, result, word) in [(0o644, "fail", "chmod 600"), (0o600, "ok", "alone")] {
        fs::set_permissions(&key, fs::Permissions::from_mode(mode)).expect("ours");
        examine(plainly, &sealed).assert("key file", result, &[word]);
    }
    ward.examine(&format!("uplnk = 'dev=a'\n{UPLINKS}")).assert("configuration", "fail", &["line 4", "'uplink'"]);
    let counted = format!(
        "uplink = ['dev=a', 'dev=b,budget=1gb']\nusage-file = '{}/counts/usage'\n",
        ward.folder.path().display()
    );
    ward.examine(&counted).assert("usage file", "ok", &["can be made"]);
    let folder = ward.path("counts");
    fs::create_dir(&folder).expect("made");
    let kept = format!("mount -t tmpfs -o ro none {}; exec \"$@\"", folder.display());
    ward.examine_by(&kept, &counted).assert("usage file", "fail", &["Read-only", "usage-file"]);
}

#[test]
fn a_gateway_that_is_not_found_or_cannot_have_its_port_is_found() {
    let Some(ward) = Ward::open() else { return };
    ward.examine(UPLINKS).assert("gateway name", "ok", &[]);
    let servers = ward.path("resolv.conf");
    // Nobody answers there, and at once.
    fs::write(&servers, "nameserver 127.0.0.1\n").expect("written");
    let script = format!("mount --bind {} /etc/resolv.conf; exec \"$@\"", servers.display());
    let named = format!("gateway = 'gateway.invalid'\nplaintext = true\ntap = 'braid0'\n{UPLINKS}");
    let lost = Report::of(ward.examination(BOX, &script, &named));
    lost.assert("gateway name", "fail", &["gateway.invalid", "/etc/resolv.conf"]);
    // What does not need its address is looked at all the same.
    lost.assert("interface", "ok", &[]);

    let config = "listen = '0.0.0.0:4754'\nplaintext = true\ntap = 'braid0'\n";
    let examine = || Report::of(ward.examination(GATEWAY, "exec \"$@\"", config));
    examine().assert("listen", "ok", &["is free"]);
    let line = "import socket, sys; s = socket.socket(type=socket.SOCK_DGRAM); s.bind(('', 4754)); sys.stdin.read()";
    let mut taker = ward.lab.command(GATEWAY, "python3 -c");
    let mut taker = taker.arg(line).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("python runs");
    await_that("the port is taken", || examine().found("listen")["result"] != "ok");
    examine().assert("listen", "fail", &["python3", &taker.id().to_string(), "choose another port"]);
    drop(taker.stdin.take());
    taker.wait().expect("it ends");
    let gateway = ward.lab.start_gateway("--plaintext");
    examine().assert("listen", "ok", &["braid-gateway", &gateway.pid().to_string()]);
}

#[test]
fn ends_that_run_tell_of_one_another() {
    let Some(ward) = Ward::open() else { return };
    let (mut far, near) = ward.lab.start_both("--plaintext");
    near.await_well(2);
    let config = format!("control = '{}'\n{UPLINKS}", near.control().display());
    let well = ward.examine(&config);
    for (check, word) in [("running end", "braid-box"), ("other end", "is heard"), ("state", "up for"), ("MTU", "1500")]
    {
        well.assert(check, "ok", &[word]);
    }
    far.kill();
    await_that("the gateway is missed", || ward.examine(&config).found("other end")["result"] == "fail");
    ward.examine(&config).assert("other end", "fail", &["not heard by any uplink", "firewall"]);
    // Of the machine and its uplinks themselves all is well.
    ward.examine(&config).assert("route", "ok", &[]);
}
