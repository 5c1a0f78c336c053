//! What the guides advise, done as they say: the commands are taken from there.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::lab::{BOX, End, GATEWAY, Lab, PATIENT, await_that};

const GATEWAY_GUIDE: &str = include_str!("../../tools/guides/gateway.md");
const BOX_GUIDE: &str = include_str!("../../tools/guides/box.md");

/// The namespace of what is behind the gateway.
const WORLD: &str = "braid-world";
/// A server there.
const SERVER: &str = "198.51.100.7";
/// The gateway's address that is the box's alone.
const OWN_ADDRESS: &str = "203.0.113.10";
/// Takes a connection, and tells whose it is and how much it takes at once.
const ANSWER: &str = "import socket,sys
with socket.create_server((sys.argv[1], 9100)) as server:
    print('ready', flush=True)
    connection, peer = server.accept()
    print(peer[0], connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG))
    connection.sendall(b'.')";
const CALL: &str = "import socket,sys
source = (sys.argv[2], 0) if len(sys.argv) > 2 else None
socket.create_connection((sys.argv[1], 9100), 3, source).recv(1)";

/// The block of a guide that is marked so.
fn block<'a>(guide: &'a str, mark: &str) -> &'a str {
    let begin = format!("\n```{mark}\n");
    let at = guide.find(&begin).unwrap_or_else(|| panic!("no block is marked '{mark}'")) + begin.len();
    &guide[at..at + guide[at..].find("\n```").expect("it ends") + 1]
}

/// Runs the commands of a block in a namespace, all of which must succeed.
fn follow(namespace: &str, commands: &str) {
    let line = ["netns", "exec", namespace, "bash", "-euo", "pipefail", "-c", commands];
    let output = Command::new("ip").args(line).output().expect("ip runs");
    assert!(output.status.success(), "{commands}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Loads the rules of a block into a namespace.
fn load_rules(namespace: &str, rules: &str) {
    let mut nft = Command::new("ip")
        .args(["netns", "exec", namespace, "nft", "-f", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("ip runs");
    nft.stdin.take().expect("piped").write_all(rules.as_bytes()).expect("written");
    assert!(nft.wait().expect("nft ends").success(), "{rules}");
}

/// Plain uplinks, and something behind the gateway's interface of this name.
struct World {
    lab: Lab,
}

impl World {
    fn behind(interface: &str) -> Option<Self> {
        let world = Self { lab: Lab::plain()? };
        let run = |line: &str| {
            let done = Command::new("ip").args(line.split_whitespace()).status();
            assert!(done.is_ok_and(|status| status.success()), "ip {line}");
        };
        run(&format!("netns add {WORLD}"));
        run(&format!("-n {WORLD} link set dev lo up"));
        run(&format!("link add name {interface} netns {GATEWAY} type veth peer name eth0 netns {WORLD}"));
        run(&format!("-n {GATEWAY} link set dev {interface} up"));
        run(&format!("-n {WORLD} link set dev eth0 up"));
        Some(world)
    }

    /// As on the Internet, with a server somewhere.
    fn internet() -> Option<Self> {
        let world = Self::behind("eth0")?;
        world.lab.run(GATEWAY, "ip address add 203.0.113.1/24 dev eth0");
        world.lab.run(WORLD, "ip address add 203.0.113.254/24 dev eth0");
        world.lab.run(WORLD, &format!("ip address add {SERVER}/32 dev lo"));
        // It has two addresses, and answers from the one that is asked.
        world.lab.run(WORLD, &format!("ip route replace 203.0.113.0/24 dev eth0 src {SERVER}"));
        world.lab.run(GATEWAY, "ip route add default via 203.0.113.254");
        Some(world)
    }

    /// The same, with an address of the box's own; and both ends, up.
    fn routed() -> Option<(Self, [End; 2])> {
        let world = Self::internet()?;
        follow(GATEWAY, block(GATEWAY_GUIDE, "sh routed"));
        load_rules(GATEWAY, block(GATEWAY_GUIDE, "nft routed"));
        let (far, near) = world.lab.start_both(PATIENT);
        // All that has no other way goes by an uplink.
        world.lab.run(BOX, "ip route add default via 10.77.0.2 dev a");
        Some((world, [far, near]))
    }

    /// Has one namespace call another at `address`, as `user` if that is told; returns whom the called one takes for the
    /// caller, and how much it may send at once.
    fn call(
        &self,
        (caller, source): (&str, Option<&str>),
        (called, at): (&str, &str),
        address: &str,
        user: Option<u32>,
    ) -> (String, u32) {
        let mut server = self.lab.command(called, "python3 -c");
        let mut server = server.args([ANSWER, at]).stdout(Stdio::piped()).spawn().expect("ip runs");
        let mut said = BufReader::new(server.stdout.take().expect("piped")).lines().map_while(Result::ok);
        assert_eq!(said.next().as_deref(), Some("ready"));
        let mut command = match user {
            // Other users may not get at a machine's python.
            Some(user) => self.lab.command(caller, &format!("setpriv --reuid={user} --clear-groups bash -c")),
            None => self.lab.command(caller, "python3 -c"),
        };
        let has_called = match user {
            Some(_) => command.arg(format!("read -r -N 1 -t 3 </dev/tcp/{address}/9100")),
            None => command.arg(CALL).arg(address).args(source),
        };
        let has_called = has_called.status().expect("ip runs");
        if !has_called.success() {
            let _ = server.kill();
        }
        server.wait().expect("it ends");
        assert!(has_called.success(), "{caller} does not reach {called} at {address}");
        let line = said.next().expect("what the server says");
        let (peer, at_once) = line.split_once(' ').expect("two words");
        (peer.to_owned(), at_once.parse().expect("a number"))
    }

    /// Whom the server takes the box for.
    fn seen_by_server(&self, source: Option<&str>, user: Option<u32>) -> String {
        self.call((BOX, source), (WORLD, SERVER), SERVER, user).0
    }

    /// By which interface the box sends what `what` says.
    fn interface_for(&self, what: &str) -> String {
        let said = self.lab.run(BOX, &format!("ip route get {SERVER} {what}")).stdout;
        let said = String::from_utf8_lossy(&said);
        said.split_whitespace().skip_while(|word| *word != "dev").nth(1).expect("an interface").to_owned()
    }

    fn forget_rules(&self) {
        while self
            .lab
            .command(BOX, "ip rule del table 4754")
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|done| done.success())
        {}
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "delete", WORLD]).status();
    }
}

#[test]
fn every_block_of_the_guides_is_tried() {
    // Those of packages and units are tried by tools/test-package.
    let tried = [
        (
            GATEWAY_GUIDE,
            &[
                "sh install",
                "nft firewall",
                "sh routed",
                "nft routed",
                "nft shared",
                "sh bridged",
                "toml bridged",
                "sh bridged-host",
            ][..],
        ),
        (
            BOX_GUIDE,
            &[
                "sh install",
                "sh one-destination",
                "ini route",
                "sh by-address",
                "sh by-port",
                "sh by-user",
                "sh srt",
                "sh srt-receiver",
                "sh udp",
                "sh udp-receiver",
            ],
        ),
    ];
    for (guide, marks) in tried {
        let found: Vec<&str> =
            guide.lines().filter_map(|line| line.strip_prefix("```")).filter(|mark| !mark.is_empty()).collect();
        assert_eq!(found, marks);
    }
}

#[test]
fn the_firewall_lets_the_tunnel_through_and_nothing_else() {
    let Some(world) = World::internet() else { return };
    load_rules(GATEWAY, block(GATEWAY_GUIDE, "nft firewall"));
    let (_far, _near) = world.lab.start_both(PATIENT);
    world.lab.run(GATEWAY, "ping -q -c 1 -W 2 10.9.0.1");
    // By the tunnel the box reaches what the world does not.
    let seen = world.call((BOX, None), (GATEWAY, "0.0.0.0"), "10.9.0.2", None).0;
    assert_eq!(seen, "10.9.0.1");
    let refused = world.lab.command(WORLD, "python3 -c").args([CALL, "203.0.113.1"]).output().expect("ip runs");
    let why = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && why.contains("timed out"), "{why}");
}

#[test]
fn the_box_has_an_address_of_its_own() {
    let Some((world, _ends)) = World::routed() else { return };
    follow(BOX, block(BOX_GUIDE, "sh one-destination"));
    assert_eq!(world.seen_by_server(None, None), OWN_ADDRESS);
    let (seen, _) = world.call((WORLD, Some(SERVER)), (BOX, "10.9.0.1"), OWN_ADDRESS, None);
    assert_eq!(seen, SERVER);
    // As somebody behind the box, who does not know of the tunnel's MTU of 1430: 1390 are left for TCP.
    world.lab.run(BOX, "ip link set dev braid0 mtu 1500");
    let (_, at_once) = world.call((BOX, None), (WORLD, SERVER), SERVER, None);
    assert!(at_once <= 1390, "{at_once}");
}

#[test]
fn the_box_shares_the_gateways_address() {
    let Some(world) = World::internet() else { return };
    world.lab.run(GATEWAY, "sysctl -q -w net.ipv4.ip_forward=1");
    load_rules(GATEWAY, block(GATEWAY_GUIDE, "nft shared"));
    let (_far, _near) = world.lab.start_both(PATIENT);
    follow(BOX, block(BOX_GUIDE, "sh one-destination"));
    assert_eq!(world.seen_by_server(None, None), "203.0.113.1");
    let take = "import socket
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taker:
    taker.bind(('10.9.0.1', 9000))
    taker.settimeout(5)
    print('ready', flush=True)
    print(taker.recvfrom(100)[1][0])";
    let mut taker = world.lab.command(BOX, "python3 -c").arg(take).stdout(Stdio::piped()).spawn().expect("ip runs");
    let mut said = BufReader::new(taker.stdout.take().expect("piped")).lines().map_while(Result::ok);
    assert_eq!(said.next().as_deref(), Some("ready"));
    let give = format!(
        "import socket
giver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
giver.bind(('{SERVER}', 0))
giver.sendto(b'.', ('203.0.113.1', 9000))"
    );
    follow(WORLD, &format!("python3 -c \"{give}\""));
    assert_eq!(said.next().as_deref(), Some(SERVER));
    taker.wait().expect("it ends");
}

#[test]
fn the_box_is_in_the_gateways_network() {
    let Some(world) = World::behind("eth1") else { return };
    let lab = &world.lab;
    lab.run(WORLD, "ip address add 192.168.7.2/24 dev eth0");
    follow(GATEWAY, block(GATEWAY_GUIDE, "sh bridged"));
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("gateway.toml");
    fs::write(&config, block(GATEWAY_GUIDE, "toml bridged")).expect("written");
    let _far = lab.start_gateway_of_boxes(&format!("{PATIENT} --config {}", config.display()));
    let _near = lab.start_box(&format!("{PATIENT} --address 192.168.7.50/24"));
    let ping = |size: &str| {
        let line = format!("ping -q -c 1 -W 1 -s {size} 192.168.7.50");
        lab.command(WORLD, &line).output().is_ok_and(|output| output.status.success())
    };
    await_that("a ping is answered", || ping("56"));
    carry_by_tcp(&world);
    assert!(!ping("1450"), "that is more than the tunnel carries");
    follow(WORLD, block(GATEWAY_GUIDE, "sh bridged-host"));
    assert!(ping("1450"), "the host knows what the tunnel carries, and sends it in parts");
}

/// Some megabytes to the box from a machine whose MTU is larger than the tunnel's.
fn carry_by_tcp(world: &World) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/end_to_end/sockets.py");
    let mut taker = world
        .lab
        .command(BOX, &format!("python3 {script} take tcp 192.168.7.50"))
        .stdout(Stdio::piped())
        .spawn()
        .expect("ip runs");
    let mut said = BufReader::new(taker.stdout.take().expect("piped")).lines().map_while(Result::ok);
    assert_eq!(said.next().as_deref(), Some("ready"));
    let given = world.lab.run(WORLD, &format!("python3 {script} give tcp 192.168.7.50 4")).stdout;
    taker.wait().expect("it ends");
    assert_eq!(said.next().as_deref(), Some(String::from_utf8_lossy(&given).trim()));
}

#[test]
fn only_what_should_goes_by_the_tunnel() {
    let Some((world, _ends)) = World::routed() else { return };
    assert_eq!(world.interface_for(""), "a");
    follow(BOX, block(BOX_GUIDE, "sh by-address"));
    assert_eq!(world.seen_by_server(Some("10.9.0.1"), None), OWN_ADDRESS);
    assert_eq!(world.interface_for(""), "a");
    world.forget_rules();

    follow(BOX, block(BOX_GUIDE, "sh by-port"));
    let of = ["ipproto tcp dport 1935", "ipproto udp dport 9000", "ipproto tcp dport 9000"];
    assert_eq!(of.map(|what| world.interface_for(what)), ["braid0", "braid0", "a"]);
    world.forget_rules();

    follow(BOX, block(BOX_GUIDE, "sh by-user"));
    assert_eq!(world.seen_by_server(None, Some(1001)), OWN_ADDRESS);
    assert_eq!(world.interface_for(""), "a");
}

#[test]
fn a_stream_by_srt_is_decoded_behind_the_gateway() {
    let Some((world, _ends)) = World::routed() else { return };
    follow(BOX, block(BOX_GUIDE, "sh by-port"));
    stream_and_decode(&world, "srt");
}

#[test]
fn a_stream_by_udp_is_decoded_behind_the_gateway() {
    let Some((world, _ends)) = World::routed() else { return };
    follow(BOX, block(BOX_GUIDE, "sh one-destination"));
    stream_and_decode(&world, "udp");
}

/// Streams for some seconds as the guide says, and has what was received decoded.
fn stream_and_decode(world: &World, protocol: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut receiver = Ffmpeg::start(WORLD, folder.path(), &format!("sh {protocol}-receiver"));
    await_that("the receiver listens", || {
        let sockets = world.lab.run(WORLD, "ss --udp --all --numeric").stdout;
        let sockets = String::from_utf8_lossy(&sockets);
        [":9000 ", ":5004 "].iter().any(|port| sockets.contains(port))
    });
    let _sender = Ffmpeg::start(BOX, folder.path(), &format!("sh {protocol}"));
    let received = folder.path().join("received.ts");
    await_that("a stream is received", || fs::metadata(&received).is_ok_and(|file| file.len() > 0));
    thread::sleep(Duration::from_secs(2));
    // As long as something comes it heeds what it is told.
    receiver.end();
    let line = "-v error -count_frames -select_streams v -show_entries stream=nb_read_frames -of default=nw=1:nk=1";
    let output = Command::new("ffprobe").args(line.split_whitespace()).arg(&received).output().expect("ffprobe runs");
    let (frames, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    // It may tell of the stream twice: by itself and in its program.
    let frames: u32 = frames.lines().next().and_then(|line| line.trim().parse().ok()).expect("a number");
    assert!(errors.is_empty() && frames >= 45, "{frames} frames: {errors}");
}

/// A command line of the box's guide, running.
struct Ffmpeg(Child);

impl Ffmpeg {
    /// In a namespace, and a folder.
    fn start(namespace: &str, folder: &Path, mark: &str) -> Self {
        let said = block(BOX_GUIDE, mark);
        let command = format!("exec {}", said.replace("ffmpeg ", "ffmpeg -nostdin -hide_banner -v fatal "));
        let mut ip = Command::new("ip");
        ip.args(["netns", "exec", namespace, "bash", "-c", &command]).current_dir(folder).stdin(Stdio::null());
        Self(ip.spawn().expect("ip runs"))
    }

    /// As with Ctrl-C.
    fn end(&mut self) {
        let told = Command::new("kill").args(["-INT", &self.0.id().to_string()]).status();
        assert!(told.is_ok_and(|status| status.success()));
        self.0.wait().expect("it ends");
    }
}

impl Drop for Ffmpeg {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
