use super::*;
use crate::config::{Mtu, Offloads};
use crate::proto::scheduler::Mode;
use std::io::Write;
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
    assert_eq!(config.tunnel.window, Some(Duration::from_millis(40)));
    assert_eq!((config.tunnel.scheduler.mode, config.process.mtu), (Mode::Broadcast, Mtu::Auto));
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
    assert_eq!(config.tunnel.window, None, "typed");
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
        ("mode = \"adaptive\"\n", "line 1", "modes are"),
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

#[test]
fn the_shipped_examples_are_valid() {
    let example = |name: &str| format!("{}/tools/examples/{name}", env!("CARGO_MANIFEST_DIR"));
    box_config(&format!("braid-box --config {}", example("box.toml"))).expect("valid");
    let gateway = parse_gateway(words(&format!("braid-gateway --config {}", example("gateway.toml"))));
    assert!(matches!(gateway, Ok(Request::Run(_))), "{gateway:?}");
}
