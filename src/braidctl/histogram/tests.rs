use std::io::Cursor;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Parser;
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

use super::*;
use crate::braidctl::sample::{self, End};
use crate::control::{Answer, Command};

const SPAN: Span = Span { began: Duration::from_millis(1_790_000_000_500), length: Duration::from_secs(10) };

fn all_of(status: &Status, count: u64) -> Vec<Recorded> {
    decode(sample::histograms(status, count)).expect("histograms")
}

fn one(durations: impl IntoIterator<Item = u64>) -> Recorded {
    let histogram = sample::histogram(Quantity::Rtt, Some("braid0"), Some("dsl"), durations);
    decode(vec![histogram]).expect("a histogram").remove(0)
}

#[test]
fn what_is_no_histogram_is_refused() {
    let mut wrong = sample::histogram(Quantity::Hold, None, None, [1_000_000]);
    for data in ["", "!", "aGVsbG8="] {
        wrong.data = data.to_owned();
        let said = decode(vec![wrong.clone()]).expect_err("it is none");
        assert!(said.contains("hold") && said.contains("as old as"), "{said}");
    }
}

#[test]
fn what_was_there_before_is_subtracted() {
    let before = [one([1_000_000, 2_000_000])];
    let after = vec![one([1_000_000, 2_000_000, 2_000_000, 50_000_000])];
    let counts = |after: Vec<Recorded>, before: &[Recorded]| {
        let values = record::subtract(after, before)?.remove(0).values;
        Ok::<_, String>([1_000_000, 2_000_000, 50_000_000].map(|value| values.count_at(value)))
    };
    assert_eq!(counts(after.clone(), &before), Ok([0, 1, 1]));
    assert!(counts(before.to_vec(), &after).expect_err("less than before").contains("started anew"));
    let mut other = before.to_vec();
    other[0].uplink = Some("lte-a".to_owned());
    assert_eq!(counts(before.to_vec(), &other), Ok([1, 1, 0]));
    let between = record::subtract(after, &before).expect("more than before").remove(0).values;
    assert!(between.equivalent(between.min(), 2_000_000) && between.equivalent(between.max(), 50_000_000));
}

#[test]
fn those_of_an_uplink_are_found_by_its_name_or_number() {
    let mut status = sample::status("braid0", 3);
    status.uplinks[2].name = "1".to_owned();
    let all = all_of(&status, 10);
    let chosen = |uplink, of: &[Quantity]| choose(all.clone(), std::slice::from_ref(&status), uplink, of);
    let names = |chosen: Vec<Recorded>| chosen.iter().map(|recorded| recorded.title(&all)).collect::<Vec<_>>();
    assert_eq!(chosen(None, &[]).expect("all").len(), 10);
    assert_eq!(names(chosen(Some("lte-a"), &[]).expect("two")), ["rtt lte-a", "delay-variation lte-a"]);
    assert_eq!(names(chosen(Some("0"), &[Quantity::Rtt]).expect("one")), ["rtt dsl"]);
    // What is a name is not a number.
    assert_eq!(names(chosen(Some("1"), &[Quantity::Rtt]).expect("one")), ["rtt 1"]);
    assert!(chosen(Some("lte-c"), &[]).expect_err("none").contains("there are: dsl lte-a 1"));
    assert!(chosen(Some("dsl"), &[Quantity::Hold]).expect_err("none").contains("only rtt and delay-variation"));
}

#[test]
fn a_table_has_a_row_for_each_and_bars_for_a_few() {
    let all = all_of(&sample::status("braid0", 3), 10_000);
    let text = table::render(&all, SPAN.length);
    let rows: Vec<&str> = text.lines().collect();
    assert!(rows[0].starts_with("quantity") && rows[0].ends_with("mean"), "{text}");
    assert!(rows[1].starts_with("rtt dsl") && rows[10].starts_with("loop"), "{text}");
    assert!(rows.iter().all(|row| row.chars().count() <= 80) && text.contains("at most 4"), "{text}");
    let text = table::render(&[one((1..=1_000).map(|at| at * 100_000))], SPAN.length);
    assert!(text.contains("rtt dsl") && text.contains("50.0ms") && text.contains("99.0ms"), "{text}");
    let shares = text
        .lines()
        .filter(|line| line.contains('–'))
        .filter_map(|line| line.split('%').next()?.split(' ').next_back());
    let sum: f64 = shares.map(|share| share.trim_start_matches('<').parse::<f64>().expect("a share")).sum();
    assert!((sum - 100.0).abs() < 2.0, "{sum}: {text}");
}

#[test]
fn a_table_copes_with_none_and_with_one_value() {
    let text = table::render(&[one([]), one([7_000_000])], SPAN.length);
    assert!(text.contains("0\n") && text.contains("100%"), "{text}");
}

#[test]
fn percentiles_are_in_the_form_of_hdrhistogram() {
    let text = percentiles::render(&[one((1..=10_000).map(|at| at * 10_000))]).expect("one");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "       Value     Percentile TotalCount 1/(1-Percentile)");
    assert_eq!(lines[1], "");
    let body: Vec<Vec<f64>> = lines[2..]
        .iter()
        .take_while(|line| !line.starts_with('#'))
        .map(|line| line.split_whitespace().map(|field| field.parse().expect("a number")).collect())
        .collect();
    for pair in body.windows(2) {
        assert!(pair[0][..3].iter().zip(&pair[1]).all(|(one, next)| one <= next), "{pair:?}");
    }
    let median = body.iter().find(|row| row[1] == 0.5).expect("the median");
    assert!((median[0] - 50.0).abs() < 0.1 && (median[2] - 5_000.0).abs() < 10.0 && median[3] == 2.0, "{median:?}");
    let last = body.last().expect("rows");
    assert!((last[0] - 100.0).abs() < 0.1 && last[1..] == [1.0, 10_000.0], "{last:?}");
    assert!(text.contains("#[Max     =") && text.contains("Total count    =        10000]"), "{text}");
    assert!(text.contains("SubBuckets     =         2048]"), "{text}");
}

#[test]
fn percentiles_are_of_one_histogram() {
    let said = percentiles::render(&all_of(&sample::status("braid0", 1), 1)).expect_err("several");
    assert!(said.contains("rtt dsl") && said.contains("--of"), "{said}");
}

#[test]
fn a_log_reads_back_as_it_was() {
    let all = all_of(&sample::status("braid0", 2), 1_000);
    let bytes = log::render(&all, SPAN).expect("a log");
    let text = String::from_utf8(bytes.clone()).expect("text");
    for told in
        ["#[Histogram log format version 1.3]\n", "#[StartTime: 1790000000.500", "\"Interval_Compressed_Histogram\"\n"]
    {
        assert!(text.contains(told), "{told}: {text}");
    }
    let mut read = vec![];
    for entry in IntervalLogIterator::new(&bytes) {
        if let LogEntry::Interval(interval) = entry.expect("a log") {
            let encoded = STANDARD.decode(interval.encoded_histogram()).expect("base 64");
            let values: hdrhistogram::Histogram<u64> =
                Deserializer::new().deserialize(&mut Cursor::new(encoded)).expect("a histogram");
            assert_eq!((interval.start_timestamp(), interval.duration()), (SPAN.began, SPAN.length));
            assert!((interval.max() - values.max() as f64 / 1e6).abs() < 0.001);
            read.push((interval.tag().expect("a tag").as_str().to_owned(), values));
        }
    }
    let tags: Vec<&str> = read.iter().map(|(tag, _)| tag.as_str()).collect();
    assert_eq!(tags[..3], ["braid0.rtt.dsl", "braid0.rtt.lte-a", "braid0.delay-variation.dsl"]);
    assert_eq!(tags.last(), Some(&"loop"));
    assert!(read.iter().map(|(_, values)| values).eq(all.iter().map(|recorded| &recorded.values)));
}

#[test]
fn json_has_all_values() {
    let text = record::json(&[one([1_000_000, 1_000_000, 9_000_000])], SPAN).expect("JSON");
    let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let one = &value[0];
    assert_eq!(
        (one["of"].as_str(), one["uplink"].as_str(), one["count"].as_u64()),
        (Some("rtt"), Some("dsl"), Some(3))
    );
    let counts: Vec<_> = one["values_ns"].as_array().expect("a list").iter().map(|pair| pair[1].as_u64()).collect();
    assert_eq!(counts, [Some(2), Some(1)]);
}

#[test]
fn pictures_have_a_panel_for_each_quantity_and_a_line_for_each_uplink() {
    let all = all_of(&sample::status("braid0", 2), 100_000);
    let svg = picture::svg(&all).expect("a picture");
    for told in ["rtt, ms", "loop, µs", "lte-a", "hold", "99%", "99.99%"] {
        assert!(svg.contains(told), "{told}");
    }
    let png = picture::png(&all).expect("a picture");
    let decoder = png::Decoder::new(Cursor::new(&png));
    let mut reader = decoder.read_info().expect("a PNG");
    let mut pixels = vec![0; reader.output_buffer_size()];
    let info = reader.next_frame(&mut pixels).expect("a PNG");
    assert_eq!((info.width, info.height), (1_000, 6 * 340));
    assert!(pixels.chunks(3).any(|pixel| pixel == [0, 114, 178]), "no line is drawn");
    assert!(picture::svg(&[one([])]).expect_err("nothing").contains("nothing to draw"));
}

#[test]
fn what_happens_meanwhile_is_told_and_no_more() {
    let asked = std::sync::atomic::AtomicU64::new(0);
    let end = End::start(move |command| match command {
        Command::Status => vec![Answer::Status(Box::new(sample::status("braid0", 1)))],
        Command::Histograms => {
            let times = asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            vec![Answer::Histogram(sample::histogram(
                Quantity::Rtt,
                Some("braid0"),
                Some("dsl"),
                (0..=times).map(|_| 1_000_000),
            ))]
        }
        _ => vec![Answer::Error("what?".to_owned())],
    });
    let output = end.path().with_extension("json");
    let line = format!("t --control {} --for 10ms --format json --output {}", end.path().display(), output.display());
    let Line { end: which, arguments } = Line::parse_from(line.split(' '));
    run(&which, &arguments).expect("an end answers");
    let value: serde_json::Value = serde_json::from_slice(&fs::read(output).expect("written")).expect("JSON");
    assert_eq!(value[0]["count"], 1);
    assert!(value[0]["length_s"].as_f64().is_some_and(|length| length >= 0.01), "{value}");
}

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    end: EndArguments,
    #[command(flatten)]
    arguments: HistogramArguments,
}

#[test]
fn pictures_need_a_file() {
    for format in ["svg", "png"] {
        let said = Line::try_parse_from(["t", "--format", format]).expect_err("no file").to_string();
        assert!(said.contains("--output"), "{said}");
    }
    assert!(Line::try_parse_from(["t", "--of", "hold,rtt", "--format", "hlog"]).is_ok());
    let said = Line::try_parse_from(["t", "--of", "sleep"]).expect_err("none").to_string();
    assert!(said.contains("delay-variation"), "{said}");
}
