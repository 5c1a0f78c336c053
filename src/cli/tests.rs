use super::keys::KeyFile;
use super::*;
use crate::config::Window;
use crate::config::{BOXES_MAX, BoxEntry, BoxSecurity, Budget, GatewaySecurity, InterfaceName, Mtu, Offloads, Share};
use crate::proto::scheduler::Mode;
use crate::proto::send::redundancy::Rule;
use crate::proto::session::cipher::Cipher;
use crate::proto::session::keys::{PresharedKey, PrivateKey};
use crate::proto::uplink::Limits;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

fn words(text: &str) -> Vec<OsString> {
    text.split_whitespace().map(OsString::from).collect()
}

fn box_config(text: &str) -> Result<BoxConfig, String> {
    match parse_box(words(text)) {
        Ok(Request::Run(config)) => Ok(config),
        Ok(Request::Show(text)) => panic!("{text}"),
        Err(error) => Err(error.to_string()),
    }
}

const MINIMAL: &str = "braid-box --gateway gw.example --uplink dev=wwan0 --tap braid0 --plaintext";

fn file(contents: &str) -> (tempfile::NamedTempFile, String) {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(contents.as_bytes()).expect("written");
    let path = file.path().display().to_string();
    (file, path)
}

#[test]
fn little_is_needed_and_the_rest_has_defaults() {
    let config = box_config(MINIMAL).expect("valid");
    assert_eq!((config.gateway.host.as_str(), config.gateway.port), ("gw.example", 4754));
    assert_eq!(config.uplinks[0].name.as_str(), "wwan0");
    let window = Window { longest: Some(Duration::from_millis(250)), follows: true };
    assert_eq!(config.tunnel.window, window);
    assert_eq!((config.tunnel.scheduler.mode, config.process.mtu), (Mode::Adaptive, Mtu::Auto));
}

#[test]
fn offloads_are_those_that_are_named_and_all_if_none_are() {
    let offloads = |flag: &str| box_config(&format!("{MINIMAL} {flag}")).map(|config| config.process.offloads);
    assert_eq!(offloads(""), Ok(Offloads::ALL));
    assert_eq!(offloads("--offload gro,tap"), Ok(Offloads { gso: false, ..Offloads::ALL }));
    assert_eq!(offloads("--offload none"), Ok(Offloads::NONE));
    for (wrong, culprit) in
        [("tap,none", "'none' is no offload"), ("tap,tap", "'tap' is given twice"), ("GSO", "'GSO'")]
    {
        let error = offloads(&format!("--offload {wrong}")).expect_err(wrong);
        assert!(error.contains(culprit) && error.contains("--offload") && !error.contains('\n'), "{error}");
    }
    let (_file, path) = file("offload = \"gso,gro\"\n");
    let config = box_config(&format!("{MINIMAL} --config {path}")).expect("valid");
    assert_eq!(config.process.offloads, Offloads { tap: false, ..Offloads::ALL });
}

#[test]
fn gateways_are_names_or_addresses_with_or_without_a_port() {
    for (text, host, port) in [
        ("203.0.113.1", "203.0.113.1", 4754),
        ("203.0.113.1:99", "203.0.113.1", 99),
        ("2001:db8::1", "2001:db8::1", 4754),
        ("[2001:db8::1]", "2001:db8::1", 4754),
        ("[2001:db8::1]:99", "2001:db8::1", 99),
        ("gw.example:99", "gw.example", 99),
    ] {
        let config = box_config(&MINIMAL.replace("gw.example", text)).expect(text);
        assert_eq!((config.gateway.host.as_str(), config.gateway.port), (host, port), "{text}");
    }
}

#[test]
fn a_file_says_the_same_and_the_command_line_wins() {
    let (_file, path) = file(
        "gateway = \"gw.example:99\"\ntap = \"braid0\"\nplaintext = true\nwindow = \"80ms\"\nmode = \"balance-rr\"\n\
         mtu = 1400\naddress = [\"10.9.0.1/24\", \"fd00::1/64\"]\n\
         [[uplink]]\ndev = \"wwan0\"\nname = \"lte-a\"\nweight = 3\n[[uplink]]\ndev = \"wwan1\"\n",
    );
    let config = box_config(&format!("braid-box --window off --config {path}")).expect("valid");
    assert_eq!(config.tunnel.window.longest, None, "typed");
    assert_eq!((config.gateway.port, config.process.mtu), (99, Mtu::Fixed(1400)));
    assert_eq!(config.tunnel.addresses.len(), 2);
    assert_eq!((config.uplinks.len(), config.uplinks[0].weight), (2, 3));
    let config = box_config(&format!("braid-box --config {path} --uplink dev=eth9")).expect("valid");
    assert_eq!(config.uplinks.len(), 1, "typed uplinks replace those of the file");
}

#[test]
fn what_is_wrong_in_a_file_is_told_with_its_line() {
    for (contents, line, culprit) in [
        ("tap = \"braid0\"\nwindwo = \"40ms\"\n", "line 2", "did you mean 'window'"),
        ("\n\nwindow = \"40\"\n", "line 3", "no unit"),
        ("mode = \"bonded\"\n", "line 1", "modes are"),
        ("[[uplink]]\ndev = \"a\"\ncost = 3\n", "line 1", "'cost' is not known"),
        ("tap = \n", "line 1", ""),
        ("cpu = 1.5\n", "line 1", "whole number"),
        ("window = \"\"\n", "line 1", "empty"),
        ("\"a\\nb\\u001b\" = 1\n", "line 1", "unknown key 'a\u{fffd}b\u{fffd}'"),
    ] {
        let (_file, path) = file(contents);
        let error = box_config(&format!("braid-box --config {path}")).expect_err(contents);
        assert!(error.contains(line) && error.contains(culprit) && error.contains(&path), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }
}

#[test]
fn a_file_whose_name_has_a_line_break_is_told_in_one_line() {
    let arguments = ["braid-box", "--config", "no\nfile"].map(OsString::from).to_vec();
    let error = parse_box(arguments).expect_err("there is no such file").to_string();
    assert!(error.contains("no\u{fffd}file (--config)") && !error.contains('\n'), "{error}");
}

/// Keys as they should be, and other files as they are.
struct FakeKeys {
    mode: u32,
    is_regular: bool,
    contents: &'static str,
}

/// RFC 7748 §6.1: Alice's and Bob's keys.
const ALICE: &str = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=";
const ALICE_PUBLIC: &str = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=";
const BOB_PUBLIC: &str = "3p7bfXt9wbTTW2HC7OQ1Nz+DQ8hbeGdNrfx+FG+IK08=";

const SECRET: FakeKeys = FakeKeys { mode: 0o100_600, is_regular: true, contents: ALICE };

impl ReadFiles for FakeKeys {
    fn config(&self, path: &Path) -> io::Result<String> {
        SystemFiles.config(path)
    }

    fn key(&self, path: &Path) -> io::Result<KeyFile> {
        if path.starts_with("none") {
            return Err(io::ErrorKind::NotFound.into());
        }
        let contents = self.contents.as_bytes().to_vec().into();
        Ok(KeyFile { is_regular: self.is_regular, mode: self.mode, contents })
    }
}

fn sealed_box(files: &FakeKeys, more: &str) -> Result<BoxConfig, String> {
    let text = format!("braid-box --gateway gw.example --uplink dev=wwan0 --tap braid0 {more}");
    match parse_box_with(words(&text), files) {
        Ok(Request::Run(config)) => Ok(config),
        Ok(Request::Show(text)) => panic!("{text}"),
        Err(error) => Err(error.to_string()),
    }
}

fn sealed_gateway(more: &str) -> Result<GatewayConfig, String> {
    match parse_gateway_with(words(&format!("braid-gateway --listen 0.0.0.0:4754 {more}")), &SECRET) {
        Ok(Request::Run(config)) => Ok(config),
        Ok(Request::Show(text)) => panic!("{text}"),
        Err(error) => Err(error.to_string()),
    }
}

fn boxes_of(config: GatewayConfig) -> Vec<BoxEntry> {
    match config.security {
        GatewaySecurity::Sealed { boxes, .. } => boxes,
        GatewaySecurity::Plaintext(_) => panic!("not sealed"),
    }
}

/// As many keys as are wanted, none of them Alice's.
fn peer(number: u8) -> String {
    PrivateKey::from_random([number; 32]).public().to_string()
}

#[test]
fn a_box_is_sealed_unless_told_otherwise() {
    let keys = format!("--key-file k --peer {BOB_PUBLIC}");
    let security = |more: &str| sealed_box(&SECRET, &format!("{keys} {more}")).expect(more).security;
    let BoxSecurity::Sealed { seal, peer, preshared, rekey_interval } = security("") else { panic!("not sealed") };
    assert_eq!((peer.to_string().as_str(), seal.private_key.to_text().as_str()), (BOB_PUBLIC, ALICE));
    assert_eq!((seal.cipher, rekey_interval), (None, Duration::from_secs(120)));
    assert_eq!(*preshared.to_text(), *PresharedKey::NONE.to_text());
    let BoxSecurity::Sealed { seal, preshared, rekey_interval, .. } =
        security("--cipher chacha20-poly1305 --rekey-interval 1s --preshared-key-file p")
    else {
        panic!("not sealed")
    };
    assert_eq!((seal.cipher, rekey_interval), (Some(Cipher::ChaCha20Poly1305), Duration::from_secs(1)));
    assert_eq!(preshared.to_text().as_str(), ALICE);
    assert!(sealed_box(&SECRET, &format!("{keys} --cipher auto --bridge br0")).is_ok());
}

#[test]
fn key_files_that_are_not_fit_are_told_without_being_quoted() {
    let long: &'static str = Box::leak(format!("{ALICE}{}", " ".repeat(4096)).into_boxed_str());
    for (files, culprit) in [
        (FakeKeys { mode: 0o100_644, ..SECRET }, "chmod 600 k"),
        (FakeKeys { mode: 0o100_601, ..SECRET }, "mode 0601"),
        (FakeKeys { is_regular: false, ..SECRET }, "not a plain file"),
        (FakeKeys { contents: "", ..SECRET }, "44 characters"),
        (FakeKeys { contents: &ALICE[1..], ..SECRET }, "44 characters"),
        (FakeKeys { contents: "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LC!=", ..SECRET }, "not base64"),
        (FakeKeys { contents: "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=\n\n", ..SECRET }, "several lines"),
        (FakeKeys { contents: long, ..SECRET }, "longer than 4096"),
    ] {
        let error = sealed_box(&files, &format!("--key-file k --peer {BOB_PUBLIC}")).expect_err(culprit);
        assert!(error.starts_with("k (--key-file): ") && error.contains(culprit), "{error}");
        assert!(!error.contains("dwdtC") && !error.contains('\n'), "{error}");
    }
    let with_line_break = FakeKeys { contents: "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=\n", ..SECRET };
    sealed_box(&with_line_break, &format!("--key-file k --peer {BOB_PUBLIC}")).expect("a line has an end");
    let error = sealed_box(&SECRET, &format!("--key-file k --peer {BOB_PUBLIC} --preshared-key-file none"));
    assert!(error.expect_err("missing").starts_with("none (--preshared-key-file): cannot be read"));
}

#[test]
fn a_gateway_with_one_box_needs_no_name_for_it() {
    let config = sealed_gateway(&format!(
        "--key-file k --peer {BOB_PUBLIC} --tap braid0 --address 10.9.0.2/24 --bridge br0 --share 3/4"
    ))
    .expect("valid");
    assert_eq!(config.share, Share { index: 3, of: 4 });
    let boxes = boxes_of(config);
    let tunnel = &boxes[0].tunnel;
    assert_eq!((boxes.len(), boxes[0].name.as_str(), tunnel.tap.as_str()), (1, "box", "braid0"));
    assert_eq!((tunnel.addresses.len(), tunnel.bridge.as_ref().map(InterfaceName::as_str)), (1, Some("br0")));
}

#[test]
fn a_gateway_with_many_boxes_has_the_flags_for_what_they_do_not_say() {
    let (one, two) = (peer(1), peer(2));
    let config = sealed_gateway(&format!(
        "--key-file k --mode active-backup --primary dsl --window 80ms --share 0/2 \
         --box name=one,peer={one},tap=t1,address=10.0.0.1/24,address=fd00::1/64,preshared-key-file=/a=b \
         --box name=two,peer={two},tap=t2,bridge=br0,mode=broadcast,window=off"
    ))
    .expect("valid");
    let boxes = boxes_of(config);
    assert_eq!(boxes.iter().map(|entry| entry.peer.to_string()).collect::<Vec<_>>(), [one, two]);
    let (first, second) = (&boxes[0].tunnel, &boxes[1].tunnel);
    assert_eq!((first.addresses.len(), first.window.longest), (2, Some(Duration::from_millis(80))));
    assert_eq!((first.scheduler.mode, first.scheduler.primary.is_some()), (Mode::ActiveBackup, true));
    assert_eq!((second.addresses.len(), second.window.longest), (0, None));
    assert_eq!((second.scheduler.mode, second.scheduler.primary), (Mode::Broadcast, None));
    assert_eq!(boxes[0].preshared.to_text().as_str(), ALICE);
}

#[test]
fn boxes_that_cannot_be_told_apart_or_say_too_little_are_refused() {
    let (one, two) = (peer(1), peer(2));
    for (boxes, culprits) in [
        (format!("--box name=a,peer={one},tap=t1 --box name=a,peer={two},tap=t2"), &["called 'a'", "--box"][..]),
        (format!("--box name=a,peer={one},tap=t1 --box name=b,peer={one},tap=t2"), &["'a' and 'b'", "same key"]),
        (format!("--box name=a,peer={one},tap=t1 --box name=b,peer={two},tap=t1"), &["'a' and 'b'", "same TAP, t1"]),
        (format!("--box name=a,peer={ALICE_PUBLIC},tap=t1"), &["box 'a'", "own public key"]),
        (format!("--box name=a,peer={one}"), &["--box", "'tap' is missing"]),
        (format!("--box peer={one},tap=t1"), &["--box", "'name' is missing"]),
        ("--box name=a,tap=t1".to_owned(), &["--box", "'peer' is missing", "braidctl pubkey"]),
        ("--box name=a,peer=abc".to_owned(), &["--box", "peer: 3 characters are no key"]),
        ("--box name=a,cost=3".to_owned(), &["--box", "'cost' is not known", "window"]),
        ("--box name=a,name=b".to_owned(), &["'name' is given twice"]),
        ("--box name=a/b".to_owned(), &["a name for a box"]),
        (format!("--box name=a,peer={one},tap=t1 --packets-per-uplink 2"), &["balance-rr", "the mode is adaptive"]),
        (
            format!("--box name=a,peer={one},tap=t1 --box name=b,peer={two},tap=t2,mode=balance-rr --primary x"),
            &["--primary", "active-backup", "no box has it"],
        ),
        (format!("--tap t0 --box name=a,peer={one},tap=t1"), &["--tap", "tap=", "[[box]]"]),
        (format!("--address 10.0.0.1/8 --box name=a,peer={one},tap=t1"), &["--address", "[[box]]"]),
        (format!("--bridge br0 --box name=a,peer={one},tap=t1"), &["--bridge", "[[box]]"]),
        (format!("--peer {two} --box name=a,peer={one},tap=t1"), &["--peer", "[[box]]"]),
        (format!("--preshared-key-file p --box name=a,peer={one},tap=t1"), &["--preshared-key-file", "[[box]]"]),
    ] {
        let error = sealed_gateway(&format!("--key-file k {boxes}")).expect_err(&boxes);
        assert!(culprits.iter().all(|culprit| error.contains(culprit)), "{boxes}: {error}");
    }
    let many = |count: u8| -> String {
        (0..count).map(|number| format!(" --box name=b{number},peer={},tap=t{number}", peer(number * 2))).collect()
    };
    assert_eq!(boxes_of(sealed_gateway(&format!("--key-file k{}", many(64))).expect("valid")).len(), BOXES_MAX);
    assert!(sealed_gateway(&format!("--key-file k{}", many(65))).expect_err("too many").contains("up to 64"));
    assert_eq!(boxes_of(sealed_gateway(&format!("--key-file k --share 1/2{}", many(65))).expect("valid")).len(), 65);
}

#[test]
fn shares_are_counted_from_zero() {
    let share = |text: &str| {
        sealed_gateway(&format!("--key-file k --peer {BOB_PUBLIC} --tap t0 --share={text}")).map(|config| config.share)
    };
    assert_eq!((share("0/1"), share("254/255")), (Ok(Share::ALL), Ok(Share { index: 254, of: 255 })));
    for wrong in ["1/1", "0/0", "2", "a/2", "0/256", "-1/2", "1/2/3"] {
        let error = share(wrong).expect_err(wrong);
        assert!(error.contains("--share") && error.contains("0/2"), "{error}");
    }
}

#[test]
fn boxes_in_a_file_are_tables_whose_keys_may_have_several_values() {
    let (_file, path) = file(&format!(
        "key-file = \"k\"\n[[box]]\nname = \"a\"\npeer = \"{}\"\ntap = \"t1\"\n\
         address = [\"10.0.0.1/24\", \"fd00::1/64\"]\n[[box]]\nname = \"b\"\npeer = \"{}\"\ntap = \"t2\"\n",
        peer(1),
        BOB_PUBLIC,
    ));
    let boxes = boxes_of(sealed_gateway(&format!("--config {path}")).expect("valid"));
    assert_eq!(boxes[0].tunnel.addresses.len(), 2);
    assert_eq!(boxes[1].peer.to_string(), BOB_PUBLIC);
    let typed = format!("--config {path} --box name=c,peer={},tap=t3", peer(3));
    assert_eq!(boxes_of(sealed_gateway(&typed).expect("valid")).len(), 1, "typed boxes replace those of the file");
    for (contents, line, culprit) in [
        ("[[box]]\nname = \"a\"\ntap = \"t1,mode=broadcast\"\n", "line 3", "comma"),
        ("\n[[box]]\nname = \"a\"\ntap = [\"t1\", \"t2\"]\n", "line 2", "'tap' is given twice"),
        ("[[box]]\nname = \"a\"\naddress = [[\"10.0.0.1/8\"]]\n", "line 3", "text"),
    ] {
        let (_file, path) = file(contents);
        let error = sealed_gateway(&format!("--config {path}")).expect_err(contents);
        assert!(error.contains(line) && error.contains(culprit), "{error}");
    }
}

#[test]
fn the_shipped_examples_are_valid() {
    let example = |name: &str| format!("{}/tools/examples/{name}", env!("CARGO_MANIFEST_DIR"));
    let of_box = parse_box_with(words(&format!("braid-box --config {}", example("box.toml"))), &SECRET);
    let Ok(Request::Run(of_box)) = of_box else { panic!("{of_box:?}") };
    assert!(matches!(of_box.security, BoxSecurity::Sealed { .. }), "sealed is what is shown");
    for (name, count) in [("gateway.toml", 1), ("gateway-many.toml", 2)] {
        let gateway = parse_gateway_with(words(&format!("braid-gateway --config {}", example(name))), &SECRET);
        let Ok(Request::Run(gateway)) = gateway else { panic!("{gateway:?}") };
        assert_eq!(boxes_of(gateway).len(), count, "{name}");
    }
}

#[test]
fn windows_are_fixed_or_follow_or_are_off_and_come_with_the_mode_unless_given() {
    let window = |flags: &str| {
        let config = box_config(&format!("braid-box --gateway a --uplink dev=lo --tap t0 --plaintext {flags}"));
        let tunnel = config.expect("valid").tunnel;
        (tunnel.window.longest.map(|window| window.as_millis()), tunnel.window.follows)
    };
    assert_eq!(window(""), (Some(250), true));
    assert_eq!(window("--mode balance-rr"), (Some(40), false));
    assert_eq!(window("--window 80ms"), (Some(80), false));
    assert_eq!(window("--mode balance-rr --window auto"), (Some(250), true));
    assert_eq!(window("--window auto:400ms"), (Some(400), true));
    assert_eq!(window("--window off"), (None, false));
}

#[test]
fn uplinks_have_caps_and_costs_in_adaptive() {
    let uplink = |text: &str| {
        let line = format!("braid-box --gateway a --tap t0 --plaintext --uplink dev=lo,{text}");
        box_config(&line).map(|config| config.uplinks[0].limits)
    };
    let limits = |rate_max, is_metered| Limits { rate_max, is_metered };
    assert_eq!(uplink("name=a").expect("valid"), limits(None, false));
    assert_eq!(uplink("max-rate=4mbit,metered").expect("valid"), limits(Some(500_000), true));
    assert_eq!(uplink("metered=false").expect("valid"), limits(None, false));
    for (text, culprits) in
        [("max-rate=1kbit", ["1kbit", "64kbit"]), ("metered=maybe", ["maybe", "true"]), ("cost=3", ["cost", "metered"])]
    {
        let error = uplink(text).expect_err(text);
        assert!(culprits.iter().all(|culprit| error.contains(culprit)), "{error}");
    }
    let (_file, path) = file(
        "gateway = \"a\"\ntap = \"t0\"\nplaintext = true\nredundancy = [\"marked\", \"port=5004\"]\n\
         [[uplink]]\ndev = \"lo\"\nmetered = true\nmax-rate = \"4mbit\"\n",
    );
    let config = box_config(&format!("braid-box --config {path}")).expect("valid");
    assert_eq!(config.uplinks[0].limits, limits(Some(500_000), true));
    assert_eq!(config.tunnel.scheduler.redundancy, [Rule::Marked, Rule::Port(5004)]);
}

#[test]
fn uplinks_have_monthly_budgets_and_a_file_that_keeps_their_use() {
    let config = |text: &str| box_config(&format!("braid-box --gateway a --tap t0 --plaintext --uplink dev=lo,{text}"));
    let budget = |text: &str| config(text).map(|config| config.uplinks[0].budget);
    assert_eq!(budget("name=a").expect("valid"), None);
    assert_eq!(budget("budget=50gb").expect("valid"), Some(Budget { bytes: 50_000_000_000, day: 1 }));
    assert_eq!(
        budget("budget-day=28,budget=1.5tb").expect("valid"),
        Some(Budget { bytes: 1_500_000_000_000, day: 28 })
    );
    for (text, culprits) in [
        ("budget=50", ["'50'", "50gb"]),
        ("budget=50gb,budget=5gb", ["budget", "twice"]),
        ("budget-day=3", ["'budget-day'", "'budget'"]),
        ("budget=5gb,budget-day=29", ["29", "1 to 28"]),
        ("budget=5gb,budget-day=0", ["'0'", "1 to 28"]),
        ("name=a --usage-file u", ["--usage-file", "budget"]),
    ] {
        let error = config(text).expect_err(text);
        assert!(culprits.iter().all(|culprit| error.contains(culprit)), "{error}");
    }
    let file_of = |text: &str| config(text).expect("valid").usage_file.map(|path| path.display().to_string());
    assert_eq!(file_of("name=a"), None);
    assert_eq!(file_of("budget=1mb").as_deref(), Some("/var/lib/braid/t0.usage"));
    assert_eq!(file_of("budget=1mb --mode broadcast --usage-file u").as_deref(), Some("u"));
    let (_file, path) = file(
        "gateway = \"a\"\ntap = \"t0\"\nplaintext = true\nusage-file = \"u\"\n\
         [[uplink]]\ndev = \"lo\"\nbudget = \"500mb\"\nbudget-day = 15\n",
    );
    let config = box_config(&format!("braid-box --config {path}")).expect("valid");
    assert_eq!(config.uplinks[0].budget, Some(Budget { bytes: 500_000_000, day: 15 }));
}

#[test]
fn what_is_sent_twice_is_named_by_its_kind() {
    let redundancy = |flags: &str| {
        let config = box_config(&format!("braid-box --gateway a --uplink dev=lo --tap t0 --plaintext {flags}"));
        config.map(|config| config.tunnel.scheduler.redundancy)
    };
    assert_eq!(redundancy("").expect("valid"), []);
    let all = redundancy("--redundancy marked,dscp=46,port=5004,small=200").expect("valid");
    assert_eq!(all, [Rule::Marked, Rule::Dscp(46), Rule::Port(5004), Rule::Small(200)]);
    for (flags, culprits) in [
        ("--redundancy everything", ["--redundancy", "small=BYTES"]),
        ("--redundancy dscp=64", ["64", "1 to 63"]),
        ("--mode broadcast --redundancy marked", ["--redundancy", "adaptive"]),
        ("--mode broadcast --capacity-to 127.0.0.1:9", ["--capacity-to", "adaptive"]),
    ] {
        let error = redundancy(flags).expect_err(flags);
        assert!(culprits.iter().all(|culprit| error.contains(culprit)), "{error}");
    }
}
