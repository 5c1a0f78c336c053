use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;

use super::super::finding::{Verdict, assert_says};
use super::*;
use crate::control::{Answer, Line, Peer, Process};

const PEER: &str = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=";

fn of_check<'a>(findings: &'a [Finding], check: &str) -> &'a Finding {
    let mut found = findings.iter().filter(|finding| finding.check == check);
    let first = found.next().unwrap_or_else(|| panic!("{check} is not in {findings:?}"));
    assert!(found.next().is_none(), "{check} is there twice");
    first
}

fn read(text: &str) -> (tempfile::TempDir, Subject) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("end.toml");
    fs::write(&path, text.replace("FOLDER", &folder.path().display().to_string())).expect("written");
    let mut subject = Subject::default();
    subject.read(&path);
    (folder, subject)
}

#[test]
fn a_configuration_is_known_by_its_keys() {
    for (text, program) in [
        ("gateway = 'gw.example'", BOX),
        ("listen = '0.0.0.0:4754'", GATEWAY),
        ("[[box]]\nname = 'van'", GATEWAY),
        ("", BOX),
        ("nonsense", BOX),
    ] {
        assert_eq!(program_of(text), program, "{text}");
    }
}

#[test]
fn a_configuration_that_is_wrong_is_told_with_its_line() {
    let (_folder, subject) = read("gateway = 'gw.example'\nuplnk = 3\n");
    assert_says(
        &subject.found[0],
        "configuration",
        Verdict::Fail,
        &["line 2", "did you mean 'uplink'", "braid-box --help"],
    );
    assert!(subject.configured.is_none());
    let mut subject = Subject::default();
    subject.read(Path::new("/nonexistent.toml"));
    assert_says(&subject.found[0], "configuration", Verdict::Fail, &["/nonexistent.toml"]);
}

#[test]
fn what_is_wrong_with_keys_does_not_hide_the_rest() {
    let text = format!(
        "gateway = '192.0.2.1'\ntap = 't0'\ncpu = 3\nkey-file = 'FOLDER/key'\npeer = '{PEER}'\nuplink = 'dev=nosuch0,budget=1gb'\nusage-file = 'FOLDER/end.toml/usage'\n"
    );
    let (_folder, subject) = read(&text);
    assert_says(of_check(&subject.found, "configuration"), "configuration", Verdict::Ok, &["braid-box"]);
    assert_says(
        of_check(&subject.found, "key file"),
        "key file",
        Verdict::Fail,
        &["cannot be read", "braidctl keygen"],
    );
    assert_eq!(subject.pinned_to(), Some(3));
    let findings = subject.findings();
    assert_says(of_check(&findings, "interface"), "interface", Verdict::Fail, &["no 'nosuch0'"]);
    assert_says(of_check(&findings, "usage file"), "usage file", Verdict::Fail, &["Not a directory"]);
    assert_says(of_check(&findings, "gateway name"), "gateway name", Verdict::Ok, &["is an address"]);
}

#[test]
fn a_gateways_port_is_tried() {
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let address = taken.local_addr().expect("bound");
    let text = format!("listen = '{address}'\ntap = 't0'\nkey-file = 'FOLDER/key'\npeer = '{PEER}'\n");
    let (folder, subject) = read(&text);
    assert_says(of_check(&subject.findings(), "listen"), "listen", Verdict::Fail, &["choose another port"]);
    drop(taken);
    assert_says(of_check(&subject.findings(), "listen"), "listen", Verdict::Ok, &["is free"]);
    drop(folder);
}

#[test]
fn a_key_that_is_well_is_said_to_be() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("key");
    fs::write(&path, "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=\n").expect("written");
    let files = Believing::default();
    for (mode, verdict) in [(0o600, Verdict::Ok), (0o640, Verdict::Fail)] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("ours");
        let believed = files.key(&path).expect("always");
        assert!(crate::cli::keys::key_in(&believed, &path, PrivateKey::parse).is_ok());
        assert_eq!(files.found.borrow_mut().pop().expect("judged").result, verdict);
    }
}

/// Answers one question at a socket in `folder` with these tunnels.
fn answering(folder: &Path, tunnels: Vec<Status>) -> (PathBuf, std::thread::JoinHandle<()>) {
    let path = folder.join("braid0.sock");
    let listener = UnixListener::bind(&path).expect("a socket");
    let answers = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("somebody asks");
        let mut question = String::new();
        BufReader::new(stream.try_clone().expect("ours")).read_line(&mut question).expect("a line");
        assert!(question.contains("\"status\""), "{question}");
        let tunnels = tunnels.into_iter().map(|tunnel| Answer::Status(Box::new(tunnel)));
        for answer in tunnels.chain([Answer::Done(String::new())]) {
            let line = serde_json::to_string(&Line::new(answer)).expect("JSON");
            writeln!(stream, "{line}").expect("said");
        }
    });
    (path, answers)
}

#[test]
fn an_end_that_runs_tells_of_its_uplinks() {
    let folder = tempfile::tempdir().expect("a folder");
    let uplink = UplinkStatus {
        name: "lte".to_owned(),
        device: Some("nosuch0".to_owned()),
        state: "down".to_owned(),
        remote: Some("192.0.2.1:4754".to_owned()),
        ..UplinkStatus::default()
    };
    let tunnel = Status {
        process: Process { program: BOX.to_owned(), pid: 77, ..Process::default() },
        tap: "braid0".to_owned(),
        peer: Peer { is_heard: true, ..Peer::default() },
        uplinks: vec![uplink],
        ..Status::default()
    };
    let (path, answers) = answering(folder.path(), vec![tunnel]);
    let end = EndArguments { control: Some(path), tap: None };
    let subject = Subject::find(&end, None);
    answers.join().expect("asked");
    let findings = subject.findings();
    assert_says(of_check(&findings, "running end"), "running end", Verdict::Ok, &["braid-box (process 77)"]);
    assert_says(of_check(&findings, "other end"), "other end", Verdict::Ok, &["gateway is heard"]);
    let state = of_check(&findings, "state");
    assert_says(state, "state", Verdict::Fail, &["down"]);
    assert_eq!(state.uplink.as_deref(), Some("lte"));
    assert_says(of_check(&findings, "interface"), "interface", Verdict::Fail, &["nosuch0"]);
}

#[test]
fn an_end_that_does_not_answer_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let end = EndArguments { control: Some(folder.path().join("gone.sock")), tap: None };
    let subject = Subject::find(&end, None);
    assert_says(of_check(&subject.found, "running end"), "running end", Verdict::Warn, &["gone.sock", "--control"]);
}
