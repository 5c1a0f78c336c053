use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;

use super::*;
use crate::control::{Line, UplinkStatus};

const AT: u64 = 1_790_000_000_123_456_789;

fn tunnel() -> Status {
    let uplink = |number, name: &str| UplinkStatus { number, name: name.to_owned(), ..UplinkStatus::default() };
    Status { tap: "braid0".to_owned(), uplinks: vec![uplink(0, "dsl"), uplink(1, "lte-a")], ..Status::default() }
}

fn head(passage: Passage, uplink: u8, verdict: u8, sequence: Option<u64>) -> RecordHead {
    RecordHead { at: AT, passage, tap: 0, uplink, verdict, length: 1514, captured: 60, lost: 0, sequence }
}

/// An ARP request, as long as records here say.
fn frame() -> [u8; 60] {
    let mut frame = [0; 60];
    frame[..6].fill(0xff);
    frame[12..14].copy_from_slice(&[8, 6]);
    frame[14..22].copy_from_slice(&[0, 1, 8, 0, 6, 4, 0, 1]);
    frame
}

/// One by the TAP, out by `dsl`, in by `lte-a` a second time, in by an uplink that nobody has told of, and to the TAP.
fn records() -> Vec<RecordHead> {
    vec![
        head(Passage::FromTap, NO_UPLINK, TAKEN, None),
        head(Passage::ToUplink, 0, TAKEN, Some(7)),
        head(Passage::FromUplink, 1, 1, Some(1234)),
        RecordHead { at: AT + 1, lost: 3, ..head(Passage::FromUplink, 4, 9, None) },
        head(Passage::ToTap, NO_UPLINK, TAKEN, Some(8)),
    ]
}

fn bytes_of(records: &[RecordHead]) -> Vec<u8> {
    records.iter().flat_map(|head| [&head.to_bytes()[..], &frame()[..head.captured as usize]].concat()).collect()
}

fn recorder() -> Recorder<Vec<u8>> {
    let interfaces = Interfaces::new(vec!["braid0".to_owned()], &[tunnel()], 60);
    let verdicts = ["taken", "duplicate"].map(str::to_owned).to_vec();
    Recorder { output: BufWriter::new(vec![]), interfaces, verdicts, frames: 0, lost: 0 }
}

/// An end that traces these at a socket in `folder`; it keeps the connection open until the client hangs up.
fn tracing_end(folder: &Path, records: &'static [u8]) -> (EndArguments, thread::JoinHandle<()>) {
    let path = folder.join("braid0.sock");
    let listener = UnixListener::bind(&path).expect("a socket");
    let end = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("somebody asks");
        let mut questions = BufReader::new(stream.try_clone().expect("ours"));
        let mut question = String::new();
        let mut say = |answer| writeln!(stream, "{}", serde_json::to_string(&Line::new(answer)).expect("JSON"));
        questions.read_line(&mut question).expect("a line");
        say(Answer::Status(Box::new(tunnel()))).expect("said");
        say(Answer::Done(String::new())).expect("said");
        questions.read_line(&mut question).expect("a line");
        assert!(question.contains("\"snap_length\":60"), "{question}");
        let verdicts = vec!["taken".to_owned(), "duplicate".to_owned()];
        say(Answer::Trace { taps: vec!["braid0".to_owned()], verdicts }).expect("said");
        stream.write_all(records).expect("told");
        // Nothing more comes; it is over when the client says so.
        let _ = questions.read_line(&mut question);
    });
    (EndArguments { control: Some(path), tap: None }, end)
}

fn trace(output: &Path, count: Option<u64>, duration: Option<Duration>) -> TraceArguments {
    TraceArguments { output: output.to_owned(), snap_length: 60, count, duration }
}

#[test]
fn tshark_reads_what_is_recorded() {
    let folder = tempfile::tempdir().expect("a folder");
    let (end, answers) = tracing_end(folder.path(), bytes_of(&records()).leak());
    let file = folder.path().join("trace.pcapng");
    run(&end, &trace(&file, Some(5), None)).expect("recorded");
    answers.join().expect("asked");
    let mode = file.metadata().expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "frames are not for others");
    let fields = [
        "frame.interface_name",
        "frame.time_epoch",
        "frame.packet_flags_direction",
        "frame.len",
        "frame.cap_len",
        "frame.comment",
        "frame.protocols",
    ];
    let mut command = std::process::Command::new("tshark");
    command.arg("-r").arg(&file).args(["-T", "fields", "-E", "separator=|"]);
    let Ok(output) = command.args(fields.iter().flat_map(|field| ["-e", field])).output() else {
        eprintln!("SKIPPED: tshark is not installed");
        assert!(std::env::var_os("CI").is_none(), "not to be skipped here");
        return;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("text");
    let expected = "\
braid0|1790000000.123456789|0x00000002|1514|60||eth:ethertype:arp
braid0 dsl|1790000000.123456789|0x00000002|1514|60|uplink dsl, number 7|eth:ethertype:arp
braid0 lte-a|1790000000.123456789|0x00000001|1514|60|uplink lte-a, number 1234, duplicate|eth:ethertype:arp
braid0 uplink-4|1790000000.123456790|0x00000001|1514|60|uplink uplink-4, verdict 9|eth:ethertype:arp
braid0|1790000000.123456789|0x00000001|1514|60|number 8|eth:ethertype:arp
";
    assert_eq!(text, expected);
}

#[test]
fn it_ends_in_time_though_nothing_comes() {
    let folder = tempfile::tempdir().expect("a folder");
    // The last record is not whole.
    let cut = bytes_of(&records());
    let (end, answers) = tracing_end(folder.path(), cut[..cut.len() - 1].to_vec().leak());
    let file = folder.path().join("trace.pcapng");
    run(&end, &trace(&file, None, Some(Duration::from_millis(200)))).expect("recorded");
    answers.join().expect("asked");
    let mut whole = recorder();
    whole.record(BufReader::new(&bytes_of(&records()[..4])[..]), None).expect("recorded");
    assert_eq!(std::fs::read(&file).expect("there"), *whole.output.get_ref(), "those that are whole");
}

#[test]
fn lost_records_are_counted_and_told_in_the_file() {
    let mut recorder = recorder();
    recorder.record(BufReader::new(&bytes_of(&records())[..]), None).expect("recorded");
    assert_eq!((recorder.frames, recorder.lost), (5, 3));
    // epb_dropcount: code 4, 8 bytes, 3.
    let option = [4, 0, 8, 0, 3, 0, 0, 0, 0, 0, 0, 0];
    let file = recorder.output.get_ref();
    assert_eq!(file.windows(option.len()).filter(|window| *window == option).count(), 1);
}

#[test]
fn only_so_many_are_recorded() {
    let mut recorder = recorder();
    recorder.record(BufReader::new(&bytes_of(&records())[..]), Some(2)).expect("recorded");
    assert_eq!(recorder.frames, 2);
}

#[test]
fn what_is_no_record_is_refused() {
    let mut records = bytes_of(&records());
    records[8] = 99;
    assert!(matches!(recorder().record(BufReader::new(&records[..]), None), Err(Failure::Nonsense)));
    let endless = RecordHead { captured: u32::MAX, ..head(Passage::ToTap, NO_UPLINK, TAKEN, None) }.to_bytes();
    assert!(matches!(recorder().record(BufReader::new(&endless[..]), None), Err(Failure::Nonsense)));
    let of_no_tap = bytes_of(&[RecordHead { tap: 3, ..head(Passage::ToTap, NO_UPLINK, TAKEN, None) }]);
    assert!(matches!(recorder().record(BufReader::new(&of_no_tap[..]), None), Err(Failure::Nonsense)));
}
