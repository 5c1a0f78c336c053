//! An end that runs, asked and changed by braidctl and by others who speak its language.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::lab::{BOX, End, Lab, PATIENT, TWO, await_that, missing};

/// A third uplink beside the two.
const THREE: &str = r#"
name = "three"
duration = "1s"
[[uplink]]
name = "a"
delay = "5ms"
[[uplink]]
name = "b"
delay = "15ms"
[[uplink]]
name = "c"
delay = "10ms"
"#;

/// The uplinks of a status, by name and state.
fn uplinks(status: &Value) -> Vec<(&str, &str)> {
    fn text<'a>(uplink: &'a Value, key: &str) -> &'a str {
        uplink[key].as_str().expect("a text")
    }
    let uplinks = status["uplinks"].as_array().expect("a list");
    uplinks.iter().map(|uplink| (text(uplink, "name"), text(uplink, "state"))).collect()
}

fn await_uplinks(end: &End, expected: &[(&str, &str)]) {
    await_that(&format!("uplinks are {expected:?}"), || uplinks(&end.status()) == expected);
}

#[test]
fn status_tells_of_both_ends_what_the_contract_says() {
    let Some(lab) = Lab::up(TWO) else { return };
    let (far, near) = lab.start_both(PATIENT);
    assert_eq!(missing(&lab.stream(Lab::UP, 1_000, || {})), 0);
    await_that("the path's length is known, and where the gateway sees it come from", || {
        let uplinks = &near.status()["uplinks"];
        uplinks[0]["path_mtu"] == 1500 && uplinks[1]["seen_as"].as_str().is_some_and(|address| address.contains(':'))
    });
    let (near, far) = (near.status(), far.status());
    for (status, program) in [(&near, "braid-box"), (&far, "braid-gateway")] {
        assert_eq!(status["process"]["program"], program);
        assert_eq!((status["mode"].as_str(), status["window_ms"].as_f64()), (Some("adaptive"), Some(200.0)));
        assert_eq!(uplinks(status), [("a", "up"), ("b", "up")]);
        for uplink in status["uplinks"].as_array().expect("a list") {
            let rtt = uplink["rtt_ms"].as_f64().expect("measured");
            assert!((9.0..200.0).contains(&rtt), "{uplink}");
            for key in ["jitter_ms", "tx_packets", "rx_packets", "tx_bytes", "rx_bytes"] {
                assert!(uplink[key].is_number(), "{key}: {uplink}");
            }
            // Of what has not been used nothing is known.
            for key in ["loss", "capacity_mbps"] {
                let is_unknown = uplink[key].is_null() && uplink["tx_packets"].as_u64() < Some(50);
                assert!(uplink[key].is_number() || is_unknown, "{key}: {uplink}");
            }
        }
        for key in ["delivered", "duplicates", "reordered", "late", "lost", "malformed", "unauthenticated"] {
            assert!(status["rx"][key].is_u64(), "{key}: {status}");
        }
        for key in ["p50", "p99", "max"] {
            assert!(status["rx"]["hold_ms"][key].is_number(), "{key}: {status}");
        }
    }
    let (sent, delivered) = (near["tx"]["packets"].as_u64(), far["rx"]["delivered"].as_u64());
    assert!(delivered >= Some(490) && delivered <= sent, "{delivered:?} of {sent:?}");
    let received = |uplink: &Value| uplink["rx_packets"].as_u64().expect("a number");
    let by_uplinks: u64 = far["uplinks"].as_array().expect("a list").iter().map(received).sum();
    assert!(Some(by_uplinks) >= delivered, "{far}");
    assert!(near["uplinks"][0]["remote"].as_str().is_some_and(|remote| remote.starts_with("203.0.113.1:")), "{near}");
    assert_eq!(near["peer"]["cipher"], far["peer"]["cipher"]);
}

#[test]
fn modes_windows_and_uplinks_change_under_load_and_nothing_is_lost() {
    let Some(lab) = Lab::up(THREE) else { return };
    let (far, near) = lab.start_both(PATIENT);
    near.await_well(2);
    let changed = lab.stream(Lab::UP, 9_000, || {
        for step in [
            "mode balance-rr",
            "uplink add dev=c",
            "mode broadcast",
            "uplink set b weight=3",
            "mode active-backup --primary b",
            "mode adaptive",
            "uplink remove a",
            "mode balance-rr --packets-per-uplink 2",
            "uplink set c max-rate=20mbit,metered",
            "mode adaptive --redundancy marked",
        ] {
            near.ask(step);
            thread::sleep(Duration::from_millis(600));
            far.ask(if step.contains("uplink") { "window auto:300ms" } else { "window 200ms" });
            thread::sleep(Duration::from_millis(200));
        }
    });
    assert_eq!(missing(&changed), 0, "{}", near.log());
    assert_eq!(near.status()["mode"], "adaptive");
    await_uplinks(&near, &[("b", "up"), ("c", "up")]);
    await_uplinks(&far, &[("b", "up"), ("c", "up")]);
    // The number of the one that has gone is free for another, and the gateway takes it for what it is.
    near.ask("uplink add dev=a,name=a-again");
    await_uplinks(&near, &[("a-again", "up"), ("b", "up"), ("c", "up")]);
    await_uplinks(&far, &[("a-again", "up"), ("b", "up"), ("c", "up")]);
    assert_eq!(missing(&lab.stream(Lab::DOWN, 1_000, || {})), 0);
}

#[test]
fn what_cannot_be_done_is_refused_in_a_line_and_nothing_changes() {
    let Some(lab) = Lab::up(TWO) else { return };
    let (far, near) = lab.start_both("");
    let before = near.status()["mode"].clone();
    for (line, complaint) in [
        ("mode fastest", "modes are"),
        ("mode adaptive --primary a", "--primary"),
        ("mode active-backup --primary c", "no uplink 'c'"),
        ("window 40", "no unit"),
        ("uplink add dev=a", "already"),
        ("uplink add name=x", "'dev' is missing"),
        ("uplink add dev=b,name=x,budget=1gb", "budget"),
        ("uplink remove c", "no uplink 'c'"),
        ("uplink set a dev=b", "cannot be changed"),
        ("--tap other status", "no tunnel"),
    ] {
        let refused = near.refuse(line);
        assert!(refused.contains(complaint), "{line}: {refused}");
    }
    assert!(far.refuse("uplink remove a").contains("braid-box"));
    near.ask("uplink remove a");
    assert!(near.refuse("uplink remove b").contains("only uplink"));
    assert_eq!(near.status()["mode"], before);
    lab.await_answer();
}

#[test]
fn the_socket_is_for_its_owner_alone_and_gone_at_the_end() {
    let Some(lab) = Lab::up(TWO) else { return };
    let (mut far, mut near) = lab.start_both("");
    let mode = fs::metadata(near.control()).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    let line = format!(
        "setpriv --reuid=65534 --regid=65534 --clear-groups {} --control {} status",
        lab.copy_for_all("braidctl").display(),
        near.control().display()
    );
    let refused = lab.command(BOX, &line).output().expect("ip runs");
    let complaint = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(1) && complaint.contains("run braidctl as root"), "{complaint}");
    assert_eq!(near.stop(), Some(0));
    assert!(!near.control().exists(), "after SIGTERM");
    far.kill();
    await_that("the socket is removed after a crash, too", || !far.control().exists());
    assert!(near.refuse("status").contains("no such socket"));
}

#[test]
fn clients_that_hang_hold_up_nobody() {
    let Some(lab) = Lab::up(TWO) else { return };
    let (_far, near) = lab.start_both(PATIENT);
    let connect = || UnixStream::connect(near.control()).expect("connected");
    // One says nothing, one half a line, one reads nothing of all that it asks for, and many more do nothing at all.
    let silent = connect();
    let mut half = connect();
    half.write_all(b"{\"version\":1,").expect("written");
    let mut greedy = connect();
    greedy.set_nonblocking(true).expect("set");
    let request = b"{\"version\":1,\"command\":\"histograms\"}\n";
    let asked = (0..20_000).take_while(|_| greedy.write(request).is_ok_and(|written| written == request.len())).count();
    assert!(asked < 20_000, "it is read no further than it reads");
    let idle: Vec<UnixStream> = (0..40).map(|_| connect()).collect();
    let memory = near.holds().0;
    let streamed = lab.stream(Lab::UP, 2_000, || {
        for _ in 0..50 {
            assert_eq!(near.status()["process"]["program"], "braid-box");
        }
    });
    assert_eq!(missing(&streamed), 0);
    assert!(near.holds().0 < memory + 4096, "no more memory is taken for who does not read");
    drop((silent, half, greedy, idle));
    // One that is slow gets all that it has asked for, which is more than a socket holds.
    let mut slow = connect();
    const ASKED: usize = 400;
    slow.write_all(&request.repeat(ASKED)).expect("written");
    thread::sleep(Duration::from_millis(300));
    slow.shutdown(std::net::Shutdown::Write).expect("it says no more");
    let mut told = String::new();
    slow.read_to_string(&mut told).expect("and is told all, and hung up on");
    assert_eq!(told.lines().filter(|line| line.contains("\"done\"")).count(), ASKED);
    assert!(told.len() > 1 << 19, "{} bytes", told.len());
    assert_eq!(uplinks(&near.status()).len(), 2);
}

#[test]
fn whoever_speaks_nonsense_is_told_so() {
    let Some(lab) = Lab::up(TWO) else { return };
    let (_far, near) = lab.start_both("");
    let mut client = UnixStream::connect(near.control()).expect("connected");
    let mut answers = BufReader::new(client.try_clone().expect("cloned")).lines();
    for (request, complaint) in [
        ("nonsense", "not a request"),
        ("{\"version\":1,\"command\":\"explode\"}", "not a request"),
        ("{\"version\":2,\"command\":\"status\"}", "version 2"),
        ("{}", "not a request"),
        ("[[[[[[[[", "not a request"),
    ] {
        writeln!(client, "{request}").expect("written");
        let answer: Value = serde_json::from_str(&answers.next().expect("answered").expect("read")).expect("JSON");
        let error = answer["error"].as_str().expect("an error");
        assert!(error.contains(complaint) && answer["version"] == 1, "{request}: {answer}");
    }
    // What comes in pieces is a request all the same.
    for piece in ["{\"version\":1,", "\"command\":", "\"status\"}\n"] {
        client.write_all(piece.as_bytes()).expect("written");
        thread::sleep(Duration::from_millis(30));
    }
    let answer = answers.next().expect("answered").expect("read");
    assert!(answer.contains("\"status\""), "{answer}");
    // More than any request has, and no end of line.
    let mut flood = UnixStream::connect(near.control()).expect("connected");
    let flooded = (0..100).map(|_| flood.write_all(&[b'x'; 1 << 12])).any(|written| written.is_err());
    assert!(flooded || flood.read(&mut [0]).is_ok_and(|length| length == 0), "hung up on");
    lab.await_answer();
}

#[test]
fn a_configuration_is_read_again_whole_or_not_at_all() {
    let Some(lab) = Lab::up(THREE) else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("box.toml");
    let write = |mode: &str, rest: &str| {
        let text = format!("mode = \"{mode}\"\nwindow = \"200ms\"\n{rest}\n");
        fs::write(&file, text).expect("written");
    };
    let uplinks_of = |names: &[&str]| -> String {
        names.iter().map(|name| format!("[[uplink]]\ndev = \"{name}\"\nweight = 2\n")).collect()
    };
    write("balance-rr", &uplinks_of(&["a", "b"]));
    let _far = lab.start_gateway(PATIENT);
    let flags = format!("--gateway 203.0.113.1 --address 10.9.0.1/24 --config {}", file.display());
    let near = lab.start_named_box(&flags);
    lab.await_answer();
    near.await_well(2);
    let streamed = lab.stream(Lab::UP, 5_000, || {
        write("adaptive", &uplinks_of(&["a", "b", "c"]));
        near.ask("reload");
        await_uplinks(&near, &[("a", "up"), ("b", "up"), ("c", "up")]);
        assert_eq!(near.status()["mode"], "adaptive");
        // What was changed meanwhile is put back to what the file says.
        near.ask("mode active-backup --primary b");
        near.ask("uplink set b weight=9");
        near.ask("reload");
        assert_eq!(
            (near.status()["mode"].as_str(), near.status()["uplinks"][1]["weight"].as_u64()),
            (Some("adaptive"), Some(2))
        );
        // What is wrong is told with its line, and nothing is changed by what else the file says.
        write("broadcast", "windwo = \"40ms\"\n[[uplink]]\ndev = \"a\"\n");
        let complaint = near.refuse("reload");
        assert!(complaint.contains("line 3") && complaint.contains("did you mean 'window'"), "{complaint}");
        write("broadcast", &format!("mtu = 1400\n{}", uplinks_of(&["a"])));
        assert!(near.refuse("reload").contains("--mtu has changed, which takes a restart"));
        assert_eq!((near.status()["mode"].as_str(), uplinks(&near.status()).len()), (Some("adaptive"), 3));
        // The same by a signal.
        write("balance-rr", &uplinks_of(&["b", "c"]));
        near.signal("HUP");
        await_uplinks(&near, &[("b", "up"), ("c", "up")]);
        assert_eq!(near.status()["mode"], "balance-rr");
    });
    assert_eq!(missing(&streamed), 0, "{}", near.log());
    fs::remove_file(&file).expect("removed");
    near.signal("HUP");
    near.await_log("the configuration is not taken: cannot read");
}

#[test]
fn of_a_gateway_of_several_boxes_each_is_asked_and_changed_by_itself() {
    let Some(lab) = Lab::up(TWO) else { return };
    let peers = ["one", "two"].map(|name| crate::lab::private_key(name).public());
    let far = lab.start_gateway_of_boxes(&format!(
        "--box name=one,peer={},tap=t1 --box name=two,peer={},tap=t2,mode=broadcast",
        peers[0], peers[1]
    ));
    let all = far.status();
    let taps: Vec<_> = all.as_array().expect("a list").iter().map(|one| one["tap"].as_str()).collect();
    assert_eq!(taps, [Some("t1"), Some("t2")]);
    assert!(far.refuse("mode balance-rr").contains("which tunnel"));
    far.ask("--tap t1 mode balance-rr");
    let mode_of = |tap: &str| -> String {
        let status: Value = serde_json::from_str(&far.ask(&format!("--tap {tap} status --json"))).expect("JSON");
        status["mode"].as_str().expect("a text").to_owned()
    };
    assert_eq!([mode_of("t1"), mode_of("two")], ["balance-rr", "broadcast"]);
}

#[test]
fn every_view_shows_a_pair_that_runs() {
    let Some(lab) = Lab::up(TWO) else { return };
    let (far, near) = lab.start_both(PATIENT);
    near.await_well(2);
    assert_eq!(missing(&lab.stream(Lab::UP, 1_000, || {})), 0);
    for end in [&near, &far] {
        let status = end.ask("status");
        assert!(status.lines().next().is_some_and(|verdict| verdict.contains("braid0: well")), "{status}");
        let top = end.ask("top --once");
        let shown = |name: &str| top.lines().any(|line| line.starts_with(name) && line.contains("up"));
        assert!(shown("a ") && shown("b "), "{top}");
        let metrics = end.ask("metrics");
        assert!(metrics.contains("# TYPE braid_uplink_rtt_seconds") && metrics.contains("uplink=\"b\""), "{metrics}");
        let table = end.ask("histogram");
        assert!(["rtt", "hold", "tap-to-wire", "loop"].iter().all(|of| table.contains(of)), "{table}");
        for (format, sign) in [("hlog", "Tag="), ("json", "\"rtt\"")] {
            let said = end.ask(&format!("histogram --format {format}"));
            assert!(said.contains(sign), "{format}: {said}");
        }
        assert!(end.ask("histogram --of rtt --uplink a --format hgrm").contains("Percentile"));
    }
    let folder = tempfile::tempdir().expect("a folder");
    for ending in ["svg", "png"] {
        let picture = folder.path().join(format!("rtt.{ending}"));
        near.ask(&format!("histogram --of rtt --format {ending} --output {}", picture.display()));
        assert!(fs::metadata(&picture).is_ok_and(|file| file.len() > 1_000), "{ending}");
    }
    // Of an interval only what happened in it is shown.
    let shown = near.ask("histogram --of tap-to-wire --for 300ms --format json");
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    assert!(shown.to_string().contains("tap-to-wire"), "{shown}");
}

#[test]
fn a_scrape_by_http_asks_the_end_anew() {
    let Some(lab) = Lab::up(TWO) else { return };
    let (_far, mut near) = lab.start_both("");
    let line = format!("--control {} metrics --listen 127.0.0.1:9754", near.control().display());
    let mut exporter = lab.command(BOX, &format!("{} {line}", crate::lab::program("braidctl").display()));
    let mut exporter = exporter.stderr(std::process::Stdio::null()).spawn().expect("ip runs");
    let scrape = || {
        let fetch = "import urllib.request as u,urllib.error as e\ntry:\n r=u.urlopen('http://127.0.0.1:9754/metrics',timeout=5);\
                     print(r.status,r.read().decode())\nexcept e.HTTPError as x:\n print(x.code)\nexcept OSError:\n print(0)";
        let output = lab.command(BOX, "python3 -c").arg(fetch).output().expect("ip runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    await_that("it answers", || scrape().starts_with("200"));
    let first = scrape();
    let wakeups = |text: &str| -> Option<f64> {
        let line = text.lines().find(|line| line.starts_with("braid_wakeups_total"))?;
        line.rsplit(' ').next()?.parse().ok()
    };
    await_that("the next scrape has newer numbers", || wakeups(&scrape()) > wakeups(&first));
    assert_eq!(near.stop(), Some(0));
    assert!(scrape().starts_with("503"), "{}", scrape());
    exporter.kill().expect("it runs");
    exporter.wait().expect("it ends");
}
