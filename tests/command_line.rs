//! What the programs say to a command line that cannot be obeyed: one line, what is wrong, and how to mend it; and the
//! keys that one of them makes.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::{Command, Output, Stdio};

const BOX: &str = env!("CARGO_BIN_EXE_braid-box");
const GATEWAY: &str = env!("CARGO_BIN_EXE_braid-gateway");
const CONTROL: &str = env!("CARGO_BIN_EXE_braidctl");

/// Enough for a box to start, but for what a case adds or changes.
const BOX_MINIMUM: &str = "--gateway 192.0.2.1 --uplink dev=lo --tap braidtest0 --control off --plaintext";
const GATEWAY_MINIMUM: &str = "--listen 127.0.0.1:14754 --tap braidtest0 --control off --plaintext";

fn run(program: &str, arguments: &str) -> Output {
    Command::new(program).args(arguments.split_whitespace()).stdin(Stdio::null()).output().expect("the program runs")
}

/// The one line on standard error, after the program's name.
fn refusal(program: &str, arguments: &str, code: i32) -> String {
    let output = run(program, arguments);
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(output.status.code(), Some(code), "{arguments}: {said}");
    assert_eq!(said.lines().count(), 1, "{arguments}: {said}");
    assert!(output.stdout.is_empty(), "{arguments}");
    let name = program.rsplit('/').next().expect("a name");
    said.strip_prefix(&format!("{name}: ")).unwrap_or_else(|| panic!("{said} does not begin with {name}")).to_owned()
}

#[test]
fn a_box_command_line_that_cannot_be_obeyed_is_told_in_one_line() {
    for (arguments, culprits) in [
        ("", &["--gateway"][..]),
        ("--gateway 192.0.2.1 --tap t0 --plaintext", &["--uplink dev=IF"]),
        ("--gateway 192.0.2.1 --uplink dev=lo --plaintext", &["--tap"]),
        ("--gateway 192.0.2.1 --uplink dev=lo --tap t0", &["--key-file", "--peer", "braidctl keygen", "--plaintext"]),
        ("--gatway 192.0.2.1", &["--gatway", "--gateway"]),
        ("--gateway 192.0.2.1:0", &["port 0"]),
        ("--gateway 192.0.2.1:99999", &["99999"]),
        ("--gateway a/b", &["a/b"]),
        ("--mode balance-xor", &["balance-xor", "broadcast, balance-rr, active-backup, adaptive"]),
        ("--window 40", &["--window", "'40ms'"]),
        ("--window 5s", &["--window", "2s"]),
        ("--window fast", &["--window", "fast"]),
        ("--mtu 100", &["--mtu", "576", "9000"]),
        ("--cpu many", &["--cpu", "many"]),
        ("--log loud", &["--log", "loud", "debug"]),
        ("--tap seventeen-letters0", &["--tap", "15"]),
        ("--address 10.9.0.1", &["--address", "/24"]),
        ("--address 10.9.0.1/33", &["--address", "33"]),
        ("--uplink wwan0", &["--uplink", "dev=wwan0"]),
        ("--uplink dev=a,cost=3", &["cost", "weight"]),
        ("--uplink dev=a,weight=0", &["weight", "255"]),
        ("--uplink dev=a,source=x", &["source", "x"]),
        ("--uplink dev=a,dev=b", &["twice"]),
        ("--uplink dev=a,budget=50", &["'50'", "50gb"]),
        ("--uplink dev=a,budget=50gb,budget-day=31", &["budget-day", "31", "28"]),
        ("--uplink dev=a,budget-day=15", &["budget-day", "budget="]),
        ("--config /nonexistent.toml", &["/nonexistent.toml"]),
        ("--peer abc", &["--peer", "44 characters", "braidctl keygen"]),
        ("--cipher rot13", &["--cipher", "aes-256-gcm", "chacha20-poly1305", "auto"]),
        ("--rekey-interval 3m", &["--rekey-interval", "120s"]),
        ("--share 0/2", &["--share"]),
    ] {
        let said = refusal(BOX, arguments, 2);
        assert!(culprits.iter().all(|culprit| said.contains(culprit)), "{arguments}: {said}");
    }
}

#[test]
fn flags_that_would_do_nothing_or_contradict_are_refused() {
    for (more, culprits) in [
        ("--packets-per-uplink 2", &["--packets-per-uplink", "balance-rr"][..]),
        ("--primary lo", &["--primary", "active-backup"]),
        ("--mode active-backup --primary dsl", &["dsl", "none of the uplinks"]),
        ("--mode active-backup --primary-reselect always", &["--primary-reselect", "--primary"]),
        ("--uplink dev=lo", &["two uplinks", "name="]),
        ("--usage-file braid.usage", &["--usage-file", "budget="]),
    ] {
        let said = refusal(BOX, &format!("{BOX_MINIMUM} {more}"), 2);
        assert!(culprits.iter().all(|culprit| said.contains(culprit)), "{more}: {said}");
    }
    let many: String = (0..17).map(|number| format!(" --uplink dev=u{number}")).collect();
    assert!(refusal(BOX, &format!("--gateway 192.0.2.1 --tap t0 --plaintext{many}"), 2).contains("16"));
}

#[test]
fn a_gateway_command_line_that_cannot_be_obeyed_is_told_in_one_line() {
    for (arguments, culprits) in [
        ("", &["--listen"][..]),
        ("--listen 4754 --tap t0 --plaintext", &["--listen", "ADDRESS:PORT"]),
        ("--listen 0.0.0.0:0", &["port 0"]),
        ("--listen 0.0.0.0:4754 --tap t0", &["--key-file", "--peer", "--box", "braidctl keygen", "--plaintext"]),
        ("--share 2/2", &["--share", "counted from 0"]),
        ("--box name=a", &["--box", "'peer' is missing"]),
        ("--uplink dev=lo", &["--uplink"]),
    ] {
        let said = refusal(GATEWAY, arguments, 2);
        assert!(culprits.iter().all(|culprit| said.contains(culprit)), "{arguments}: {said}");
    }
}

/// RFC 7748 §6.1: Alice's keys, and Bob's public one.
const ALICE: &str = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=";
const ALICE_PUBLIC: &str = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=";
const BOB_PUBLIC: &str = "3p7bfXt9wbTTW2HC7OQ1Nz+DQ8hbeGdNrfx+FG+IK08=";

/// A folder with a file called `key` that holds Alice's, and that file's path.
fn key_file(mode: u32) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("key");
    fs::write(&path, format!("{ALICE}\n")).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("ours");
    let path = path.display().to_string();
    (folder, path)
}

#[test]
fn plaintext_and_keys_exclude_each_other() {
    let one_box = format!("--box name=a,peer={BOB_PUBLIC},tap=t1");
    for (program, minimum, more, flag) in [
        (BOX, BOX_MINIMUM, "--key-file k", "--key-file"),
        (BOX, BOX_MINIMUM, &format!("--peer {BOB_PUBLIC}"), "--peer"),
        (BOX, BOX_MINIMUM, "--preshared-key-file k", "--preshared-key-file"),
        (BOX, BOX_MINIMUM, "--cipher auto", "--cipher"),
        (BOX, BOX_MINIMUM, "--rekey-interval 1m", "--rekey-interval"),
        (GATEWAY, GATEWAY_MINIMUM, "--key-file k", "--key-file"),
        (GATEWAY, GATEWAY_MINIMUM, "--share 0/1", "--share"),
        (GATEWAY, GATEWAY_MINIMUM, &one_box, "--box"),
    ] {
        let said = refusal(program, &format!("{minimum} {more}"), 2);
        assert!(said.starts_with(flag) && said.contains("--plaintext"), "{more}: {said}");
    }
}

#[test]
fn keys_that_are_missing_or_not_fit_are_told_in_one_line() {
    let (_folder, key) = key_file(0o600);
    let (open_folder, open) = key_file(0o644);
    let folder = open_folder.path().display().to_string();
    let minimum = BOX_MINIMUM.replace("--plaintext", "");
    for (keys, culprits) in [
        (format!("--key-file {key}"), &["--peer PUBKEY is missing", "braidctl keygen", "--plaintext"][..]),
        (format!("--peer {BOB_PUBLIC}"), &["--key-file FILE is missing", "braidctl keygen", "--plaintext"]),
        (format!("--key-file {key} --peer {ALICE_PUBLIC}"), &["--peer", "own public key", "other end's"]),
        (format!("--key-file {open} --peer {BOB_PUBLIC}"), &["(--key-file)", "mode 0644", "chmod 600 ", &open]),
        (format!("--key-file {folder} --peer {BOB_PUBLIC}"), &["not a plain file", &folder]),
        (format!("--key-file {key}s --peer {BOB_PUBLIC}"), &["keys (--key-file)", "cannot be read"]),
        (
            format!("--key-file {key} --peer {BOB_PUBLIC} --preshared-key-file {open}"),
            &["(--preshared-key-file)", "chmod 600 "],
        ),
    ] {
        let said = refusal(BOX, &format!("{minimum} {keys}"), 2);
        assert!(culprits.iter().all(|culprit| said.contains(culprit)), "{keys}: {said}");
    }
}

#[test]
fn what_is_sealed_gets_past_the_command_line() {
    let (_folder, key) = key_file(0o600);
    let sealed = format!("--key-file {key} --peer {BOB_PUBLIC}");
    refusal(BOX, &BOX_MINIMUM.replace("--plaintext", &sealed).replace("dev=lo", "dev=nosuch0"), 1);
    refusal(GATEWAY, &GATEWAY_MINIMUM.replace("--plaintext", &sealed).replace("127.0.0.1", "192.0.2.77"), 1);
}

#[test]
fn what_fails_at_run_time_exits_with_one() {
    for (program, arguments, culprits) in [
        (BOX, BOX_MINIMUM.replace("dev=lo", "dev=nosuch0"), &["nosuch0", "ip link"][..]),
        (BOX, BOX_MINIMUM.replace("192.0.2.1", "no.such.name.invalid"), &["no.such.name.invalid", "--gateway"]),
        (GATEWAY, GATEWAY_MINIMUM.replace("127.0.0.1", "192.0.2.77"), &["192.0.2.77", "--listen"]),
        (GATEWAY, format!("{GATEWAY_MINIMUM} --cpu 1000"), &["1000", "--cpu"]),
    ] {
        let said = refusal(program, &arguments, 1);
        assert!(culprits.iter().all(|culprit| said.contains(culprit)), "{arguments}: {said}");
    }
}

#[test]
fn a_file_of_usage_that_cannot_be_had_or_understood_is_told_in_one_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let of = |name: &str| folder.path().join(name).display().to_string();
    fs::write(of("cut"), "braid-usage=1 name=lo").expect("written");
    for (path, culprits) in [
        (of("no/such/braid.usage"), &["cannot make", "make the folder"][..]),
        (of(""), &["cannot open", "directory"]),
        (of("cut"), &["cannot understand", "shorter", "delete it"]),
    ] {
        let budget = BOX_MINIMUM.replace("dev=lo", "dev=lo,budget=5gb");
        let said = refusal(BOX, &format!("{budget} --usage-file {path}"), 1);
        let is_told = said.contains(&path) && said.contains("--usage-file");
        assert!(is_told && culprits.iter().all(|culprit| said.contains(culprit)), "{path}: {said}");
    }
    assert_eq!(fs::read_to_string(of("cut")).expect("there"), "braid-usage=1 name=lo");
}

#[test]
fn help_and_version_are_for_standard_output() {
    for program in [BOX, GATEWAY] {
        let help = run(program, "--help");
        let text = String::from_utf8(help.stdout).expect("UTF-8");
        assert!(help.status.success() && text.contains("--window") && text.contains("Example:"), "{text}");
        assert!(text.contains("--key-file") && text.contains("braidctl keygen"), "{text}");
        let version = run(program, "--version");
        assert!(String::from_utf8(version.stdout).expect("UTF-8").contains(env!("CARGO_PKG_VERSION")));
    }
}

/// What `braidctl` prints when all is well, in one line.
fn answer(arguments: &str, input: &str) -> String {
    let mut command = Command::new(CONTROL);
    command.args(arguments.split_whitespace()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program runs");
    child.stdin.take().expect("piped").write_all(input.as_bytes()).expect("written");
    let output = child.wait_with_output().expect("it ends");
    let said = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(output.status.success() && output.stderr.is_empty(), "{arguments}: {said}");
    assert_eq!((said.lines().count(), said.ends_with('\n')), (1, true), "{arguments}: {said}");
    said.trim_end().to_owned()
}

#[test]
fn the_public_key_of_the_rfc_is_told_of_a_file_and_of_a_pipe() {
    let (_folder, key) = key_file(0o600);
    assert_eq!(answer(&format!("pubkey {key}"), ""), ALICE_PUBLIC);
    assert_eq!(answer("pubkey", &format!("{ALICE}\n")), ALICE_PUBLIC);
    assert_eq!(answer("pubkey", ALICE), ALICE_PUBLIC);
}

#[test]
fn a_key_is_made_in_a_file_of_its_owners_alone_and_never_overwritten() {
    let folder = tempfile::tempdir().expect("a folder");
    for (flags, is_private) in [("keygen", true), ("keygen --preshared", false)] {
        let path = folder.path().join(flags.replace(' ', "-"));
        let arguments = format!("{flags} {}", path.display());
        let output = run(CONTROL, &arguments);
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        let made = fs::read_to_string(&path).expect("made");
        assert_eq!(fs::metadata(&path).expect("made").permissions().mode() & 0o7777, 0o600);
        assert_eq!((made.len(), made.ends_with('\n')), (45, true));
        let told = String::from_utf8(output.stdout).expect("UTF-8");
        let public = if is_private { answer(&format!("pubkey {}", path.display()), "") + "\n" } else { String::new() };
        assert_eq!(told, public, "{flags}");
        let said = refusal(CONTROL, &arguments, 1);
        assert!(said.contains("there already") && said.contains(&path.display().to_string()), "{said}");
        assert_eq!(fs::read_to_string(&path).expect("left alone"), made);
    }
}

#[test]
fn a_key_is_not_made_where_a_link_points() {
    let folder = tempfile::tempdir().expect("a folder");
    let (link, target) = (folder.path().join("link"), folder.path().join("target"));
    symlink(&target, &link).expect("made");
    assert!(refusal(CONTROL, &format!("keygen {}", link.display()), 1).contains("there already"));
    assert!(!target.exists());
}

#[test]
fn keys_without_a_file_are_printed_and_no_two_are_alike() {
    let keys: Vec<String> = ["keygen", "keygen", "keygen --preshared"].map(|flags| answer(flags, "")).into();
    assert!(keys.iter().all(|key| key.len() == 44), "{keys:?}");
    assert!(keys[0] != keys[1] && keys[1] != keys[2] && keys[0] != keys[2]);
    assert_eq!(answer("pubkey", &keys[0]).len(), 44);
}

#[test]
fn braidctl_tells_what_is_wrong_in_one_line() {
    let (folder, open) = key_file(0o644);
    let folder = folder.path().display();
    for (arguments, code, culprits) in [
        (String::new(), 2, &["subcommand", "keygen", "pubkey"][..]),
        ("keygne".to_owned(), 2, &["keygne", "keygen"]),
        ("help".to_owned(), 2, &["help"]),
        ("keygen --private".to_owned(), 2, &["--private"]),
        ("pubkey a b".to_owned(), 2, &["b"]),
        (format!("pubkey {open}"), 1, &["mode 0644", "chmod 600 ", &open]),
        (format!("pubkey {folder}"), 1, &["not a plain file"]),
        (format!("pubkey {folder}/none"), 1, &["none cannot be read"]),
        (format!("keygen {folder}/none/key"), 1, &["none/key cannot be created"]),
        ("pubkey".to_owned(), 1, &["standard input", "44 characters"]),
    ] {
        let said = refusal(CONTROL, &arguments, code);
        assert!(culprits.iter().all(|culprit| said.contains(culprit)), "{arguments}: {said}");
    }
    let help = String::from_utf8(run(CONTROL, "--help").stdout).expect("UTF-8");
    assert!(help.contains("keygen") && help.contains("pubkey"), "{help}");
}

#[test]
fn a_key_that_goes_to_a_file_which_others_can_read_is_warned_of() {
    let folder = tempfile::tempdir().expect("a folder");
    for (mode, warns) in [(0o644, true), (0o600, false)] {
        let path = folder.path().join(format!("{mode:o}"));
        let file = std::fs::File::create(&path).expect("a file");
        file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(mode)).expect("ours");
        let output = Command::new(CONTROL).arg("keygen").stdout(file).output().expect("the program runs");
        let said = String::from_utf8(output.stderr).expect("UTF-8");
        assert!(output.status.success(), "{said}");
        assert_eq!(said.contains("chmod 600"), warns, "{mode:o}: {said}");
        assert_eq!(std::fs::read_to_string(&path).expect("written").trim_end().len(), 44);
    }
}
