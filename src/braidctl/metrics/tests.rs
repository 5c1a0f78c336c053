use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command as Program, Stdio};

use serde_json::Value;

use super::exposition::exposition;
use super::*;
use crate::braidctl::sample;
use crate::control::Status;

fn told(tunnels: &[Status]) -> String {
    let histograms = tunnels.iter().flat_map(|tunnel| sample::histograms(tunnel, 1_000)).collect::<Vec<_>>();
    // That of the process is there once.
    let mut histograms = histogram::decode(histograms).expect("histograms");
    histograms.dedup_by(|one, other| one.tap.is_none() && other.tap.is_none());
    exposition(tunnels, &histograms).expect("metrics")
}

fn two_tunnels() -> [Status; 2] {
    let [mut one, mut two] = [sample::status("van1", 2), sample::status("van2", 3)];
    (one.name, two.name) = (Some("van-1".to_owned()), Some("the \"other\"\\van\n2".to_owned()));
    two.uplinks[1].state = "probation".to_owned();
    [one, two]
}

/// Samples by name and labels.
fn samples(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let pairs = lines.map(|line| line.rsplit_once(' ').expect("a name and a value"));
    pairs.map(|(name, value)| (name.to_owned(), value.parse().expect("a number"))).collect()
}

#[test]
fn promtool_finds_no_fault() {
    for tunnels in [&two_tunnels()[..], &[sample::status("braid0", 1)], &[sample::status("braid0", 0)], &[]] {
        let text = told(tunnels);
        if let Some((is_well, said)) = promtool(&["check", "metrics"], &text) {
            assert!(is_well, "{said}\n{text}");
        }
    }
}

/// Whether Prometheus' own tool finds it well, and what it says. None where the tool cannot be had, but in CI.
fn promtool(arguments: &[&str], input: &str) -> Option<(bool, String)> {
    let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/promtool");
    let program = Program::new(tool).args(arguments).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut program = program.expect("tools/promtool is there");
    // A tool that is not there does not read.
    let _ = program.stdin.take().expect("a pipe").write_all(input.as_bytes());
    let output = program.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if said.contains("cannot be downloaded") && std::env::var_os("CI").is_none() {
        eprintln!("skipped: {said}");
        return None;
    }
    Some((output.status.success(), said))
}

#[test]
fn every_number_of_a_status_is_told() {
    let mut status = sample::status("braid0", 3);
    // Otherwise 0 and 1, which are told of many things.
    status.uplinks.iter_mut().for_each(|uplink| uplink.number += 200);
    let text = told(std::slice::from_ref(&status));
    let values: BTreeSet<String> = samples(&text).into_values().map(|value| format!("{value:.9e}")).collect();
    let mut checked = 0;
    each_number(&serde_json::to_value(&status).expect("JSON"), "", &mut |path, number| {
        // Quantiles are told from the histograms that they are of.
        if ["loop_us", "control_us", "hold_ms", "to_wire_us", "to_tap_us"]
            .iter()
            .any(|quantiles| path.contains(quantiles))
        {
            return;
        }
        let unit = match path {
            _ if path.ends_with("_ms") => 1e-3,
            _ if path.ends_with("_mbps") => 125_000.0,
            _ => 1.0,
        };
        assert!(values.contains(&format!("{:.9e}", number * unit)), "{path} {number} is not told:\n{text}");
        checked += 1;
    });
    assert!(checked > 3 * 15 + 25, "{checked}");
    for quantile in ["braid_hold_seconds{tap=\"braid0\",quantile=\"0.99\"}", "braid_loop_seconds{quantile=\"1\"}"] {
        assert!(samples(&text).get(quantile).is_some_and(|value| *value > 0.0), "{quantile}:\n{text}");
    }
}

fn each_number(value: &Value, path: &str, check: &mut impl FnMut(&str, f64)) {
    match value {
        Value::Number(number) => check(path, number.as_f64().expect("a number")),
        Value::Array(list) => list.iter().for_each(|value| each_number(value, path, check)),
        Value::Object(fields) => {
            fields.iter().for_each(|(key, value)| each_number(value, &format!("{path}.{key}"), check))
        }
        _ => {}
    }
}

#[test]
fn words_are_labels() {
    let samples = samples(&told(&two_tunnels()));
    for (name, value) in [
        (r#"braid_uplink_state{tap="van2",box="the \"other\"\\van\n2",uplink="lte-a",state="probation"}"#, 1.0),
        (r#"braid_uplink_state{tap="van2",box="the \"other\"\\van\n2",uplink="lte-a",state="up"}"#, 0.0),
        (r#"braid_uplink_state{tap="van1",box="van-1",uplink="dsl",state="up"}"#, 1.0),
        (r#"braid_tunnel_info{tap="van1",box="van-1",mode="adaptive",window="auto:250ms",cipher="aes-256-gcm"}"#, 1.0),
        (r#"braid_dropped_packets_total{tap="van1",box="van-1",reason="duplicate"}"#, 1_202.0),
        (r#"braid_uplink_rtt_distribution_seconds_bucket{tap="van1",box="van-1",uplink="dsl",le="+Inf"}"#, 1_000.0),
        (r#"braid_uplinks_up{tap="van2",box="the \"other\"\\van\n2"}"#, 2.0),
    ] {
        assert_eq!(samples.get(name), Some(&value), "{name}: {samples:#?}");
    }
    assert_eq!(samples.keys().filter(|name| name.starts_with("braid_uptime_seconds")).count(), 1);
}

#[test]
fn the_dashboard_asks_for_nothing_that_is_not_told() {
    let known: BTreeSet<String> = samples(&told(&two_tunnels()))
        .into_keys()
        .map(|name| name.split('{').next().unwrap_or_default().to_owned())
        .collect();
    let mut asked = BTreeSet::new();
    each_query(&dashboard(), &mut |query| {
        let words = query.split(|character: char| !character.is_ascii_alphanumeric() && character != '_');
        asked.extend(words.filter(|word| word.starts_with("braid_")).map(str::to_owned));
    });
    assert!(asked.len() > 15, "{asked:?}");
    assert!(asked.is_subset(&known), "unknown: {:?}", asked.difference(&known));
}

/// What Prometheus would refuse to answer is found by making a rule of each query.
#[test]
fn prometheus_understands_what_the_dashboard_asks() {
    let mut rules = vec![];
    each_query(&dashboard(), &mut |query| {
        let expression = query.replace("$__rate_interval", "1m").replace("$job", ".*").replace("$tap", ".*");
        if query.contains("braid_") && !query.starts_with("label_values(") {
            rules.push(serde_json::json!({"record": format!("query:{}", rules.len()), "expr": expression}));
        }
    });
    assert!(rules.len() > 20, "{rules:?}");
    let file = tempfile::NamedTempFile::new().expect("a file");
    let groups = serde_json::json!({"groups": [{"name": "dashboard", "rules": rules}]});
    fs::write(file.path(), groups.to_string()).expect("written");
    if let Some((is_well, said)) = promtool(&["check", "rules", &file.path().display().to_string()], "") {
        assert!(is_well, "{said}");
    }
}

fn dashboard() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/examples/grafana.json");
    serde_json::from_slice(&fs::read(path).expect("the dashboard")).expect("JSON")
}

/// What a dashboard asks Prometheus: in panels, and for its variables.
fn each_query(value: &Value, check: &mut impl FnMut(&str)) {
    match value {
        Value::Array(list) => list.iter().for_each(|value| each_query(value, check)),
        Value::Object(fields) => fields.iter().for_each(|(key, value)| match value {
            Value::String(query) if ["expr", "query", "definition"].contains(&key.as_str()) => check(query),
            value => each_query(value, check),
        }),
        _ => {}
    }
}

/// Serves as long as the tests run, and says where.
fn serve(ask: impl Fn() -> Result<String, String> + Send + Sync + 'static) -> SocketAddr {
    // A port that was free just now.
    let address = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    std::thread::spawn(move || server::serve(address, ask));
    for _ in 0..200 {
        if TcpStream::connect(address).is_ok() {
            return address;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("nobody listens at {address}")
}

/// The first line of the answer, and its body.
fn request(address: SocketAddr, head: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).expect("somebody listens");
    write!(stream, "{head} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    (head.lines().next().unwrap_or_default().to_owned(), body.to_owned())
}

#[test]
fn who_asks_is_answered_anew_each_time() {
    let asked = std::sync::atomic::AtomicU32::new(0);
    let address = serve(move || match asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
        1 => Err("the end is away\nfor now".to_owned()),
        times => Ok(format!("braid_times {times}\n")),
    });
    assert_eq!(request(address, "GET /metrics"), ("HTTP/1.1 200 OK".to_owned(), "braid_times 0\n".to_owned()));
    let (status, body) = request(address, "GET /metrics");
    assert_eq!(
        (status.as_str(), body.as_str()),
        ("HTTP/1.1 503 Service Unavailable", "the end is away\u{fffd}for now\n")
    );
    assert_eq!(request(address, "GET /metrics?x=1").1, "braid_times 2\n");
    assert_eq!(request(address, "GET /").0, "HTTP/1.1 404 Not Found");
    assert_eq!(request(address, "GET /metrics/../../etc/passwd").0, "HTTP/1.1 404 Not Found");
    assert_eq!(request(address, "POST /metrics").0, "HTTP/1.1 405 Method Not Allowed");
    assert_eq!(request(address, "HEAD /metrics"), ("HTTP/1.1 200 OK".to_owned(), String::new()));
}

#[test]
fn several_are_answered_at_once() {
    let barrier = std::sync::Barrier::new(2);
    let address = serve(move || {
        // Neither is answered before the other has asked.
        barrier.wait();
        Ok("braid_up 1\n".to_owned())
    });
    let clients: Vec<_> = (0..2).map(|_| std::thread::spawn(move || request(address, "GET /metrics").0)).collect();
    assert!(clients.into_iter().all(|client| client.join().expect("an answer") == "HTTP/1.1 200 OK"));
}

#[test]
fn an_address_that_cannot_be_had_is_told() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address");
    let said = server::serve(address, || Ok(String::new())).expect_err("it is taken");
    assert!(said.contains("--listen") && said.contains("another port"), "{said}");
}
