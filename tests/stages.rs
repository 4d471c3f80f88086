//! The real binary, watched: what its stages say is held against what was sent, and HTTP against bad clients.
#![cfg(feature = "shell")]

mod binary;
mod raw;

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use binary::{Broker, PATIENCE, ask, directory};
use bytes::Bytes;
use corelog::base::histogram::Histogram;
use corelog::base::stage::{STAGES, Stage, Timed};
use corelog::bench::hlog;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
use raw::{Client, batch, produce_request};

const PRODUCES: usize = 600;
const FETCHES: usize = 200;

/// Samples by name and labels as they are written.
fn samples(text: &str) -> BTreeMap<String, f64> {
    assert!(text.ends_with("# EOF\n"), "the text is whole");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let split = lines.map(|line| line.rsplit_once(' ').expect("a name and a value"));
    split.map(|(name, value)| (name.to_owned(), value.parse().expect("a number"))).collect()
}

/// All samples of a name with a label, added up.
fn sum(samples: &BTreeMap<String, f64>, name: &str, label: &str) -> f64 {
    let of = samples.iter().filter(|(key, _)| key.starts_with(&format!("{name}{{")) && key.contains(label));
    of.map(|(_, value)| value).sum()
}

/// What Prometheus asks of histograms: each bucket holds those below it, and the last, without an end, is the count.
fn check_buckets(samples: &BTreeMap<String, f64>, api: &str) {
    for row in STAGES {
        let of = format!("api=\"{api}\",stage=\"{}\"}}", row.name);
        let mut buckets = Vec::new();
        for (key, count) in samples {
            let Some(end) = key.strip_prefix("corelog_request_stage_seconds_bucket{le=\"") else { continue };
            let Some(end) = end.strip_suffix(&of).and_then(|end| end.strip_suffix("\",")) else { continue };
            buckets.push((end.replace("+Inf", "inf").parse::<f64>().expect("a number"), *count));
        }
        buckets.sort_by(|(one, _), (other, _)| one.total_cmp(other));
        assert!(buckets.is_sorted_by_key(|(_, count)| *count), "{api} {}: {buckets:?}", row.name);
        let count = samples.get(&format!("corelog_request_stage_seconds_count{{{of}")).copied();
        assert_eq!(buckets.last().copied(), count.map(|count| (f64::INFINITY, count)), "{api} {}", row.name);
    }
}

/// The histograms of a log, all intervals together.
fn histograms(log: &str) -> BTreeMap<String, Histogram> {
    let ours = hlog::read(log.as_bytes(), "stages.hlog").expect("our own tools read it too");
    assert!(ours.started_wall_ms.is_some());
    let mut all: BTreeMap<String, Histogram> = BTreeMap::new();
    for entry in IntervalLogIterator::new(log.as_bytes()) {
        let LogEntry::Interval(interval) = entry.expect("a log") else { continue };
        let packed = STANDARD.decode(interval.encoded_histogram()).expect("base64");
        let histogram = Histogram::from_v2(&packed).expect("a histogram");
        let tag = interval.tag().expect("a tag").as_str().to_owned();
        all.entry(tag).or_insert_with(Histogram::of_stage).merge(&histogram);
    }
    all
}

/// Produces one after the other and many at once, and reads some of it back.
fn load(broker: &Broker) {
    let mut client = Client::connect(broker);
    client.create_topic("t", 4);
    let value = Bytes::from(vec![7; 500]);
    let partition = |i: usize| (i % 4) as i32;
    for i in 0..PRODUCES / 2 {
        assert_eq!(client.produce("t", partition(i), batch(&value)).error_code, 0);
    }
    for i in 0..PRODUCES / 2 {
        client.send(raw::PRODUCE_VERSION, &produce_request("t", partition(i), batch(&value)));
    }
    for _ in 0..PRODUCES / 2 {
        assert_eq!(client.receive_produced().error_code, 0);
    }
    for i in 0..FETCHES {
        let (error, _, bytes) = client.fetch("t", partition(i), 0);
        assert!(error == 0 && !bytes.is_empty());
    }
}

#[test]
fn what_the_stages_say_agrees_with_what_was_sent_and_with_itself() {
    let dir = directory();
    let arguments = ["--cores", "2", "--http", "127.0.0.1:0", "--metrics-interval-ms", "100"];
    let broker = Broker::start(dir.path(), &arguments);
    load(&broker);

    let samples = samples(&broker.get("/metrics"));
    let log = histograms(&broker.get("/stages.hlog"));
    for (timed, api, count) in [(Timed::Produce, "Produce", PRODUCES), (Timed::Fetch, "Fetch", FETCHES)] {
        let name = timed.name();
        assert_eq!(sum(&samples, "corelog_requests_total", &format!("api=\"{api}\"")), count as f64);
        let sample = |what: &str, stage: &str| {
            let key = format!("corelog_request_stage_seconds_{what}{{api=\"{name}\",stage=\"{stage}\"}}");
            *samples.get(&key).unwrap_or_else(|| panic!("no {key}"))
        };
        let mut stages = 0.0;
        check_buckets(&samples, name);
        for row in STAGES.iter().filter(|row| row.is_of(timed)) {
            assert_eq!(sample("count", row.name), count as f64, "{name} {}", row.name);
            assert_eq!(log[&format!("{name}.{}", row.name)].count(), count as u64, "{name} {}", row.name);
            if !matches!(row.stage, Stage::Total | Stage::Unaccounted) {
                stages += sample("sum", row.name);
            }
        }
        let (total, rest) = (sample("sum", "total"), sample("sum", "unaccounted"));
        assert!((total - stages).abs() <= rest + 1e-6, "{name}: {total} s, of which {stages} s in stages");
        let p99 = |stage: &str| log[&format!("{name}.{stage}")].value_at(0.99);
        let bound = (p99("total") / 20).max(50_000);
        assert!(p99("unaccounted") <= bound, "{name}: p99 of {} ns of {}", p99("unaccounted"), p99("total"));
        eprintln!("{name}: p99 {} ns, of which no stage claims {} ns", p99("total"), p99("unaccounted"));
    }
    let p99_write = log["produce.device_write"].value_at(0.5);
    assert!(p99_write > 5_000, "a direct write took {p99_write} ns");
    assert!(sum(&samples, "corelog_disk_write_bytes_total", "core") > (PRODUCES * 500) as f64);
    assert_eq!(sum(&samples, "corelog_disk_write_bytes_total", "core") % 4096.0, 0.0, "devices write whole blocks");
    let appended = sum(&samples, "corelog_appended_bytes_total", "core");
    assert!(appended > (PRODUCES * 500) as f64 && appended < (PRODUCES * 700) as f64, "{appended}");
    let of = |name| sum(&samples, name, "core");
    assert!(of("corelog_segment_write_bytes_total") + of("corelog_journal_write_bytes_total") > appended);
    assert_eq!(sum(&samples, "corelog_data_directory_offline", "core"), 0.0);
    assert!(sum(&samples, "corelog_received_bytes_total", "core") > (PRODUCES * 500) as f64);
    assert!(sum(&samples, "corelog_sent_bytes_total", "core") > (FETCHES * 500) as f64);
    assert_eq!(sum(&samples, "corelog_partitions", "core"), 4.0);
    broker.stop();

    // What was counted last is written at the end.
    let mut written: BTreeMap<String, u64> = BTreeMap::new();
    for entry in fs::read_dir(dir.path().join("metrics")).expect("a directory") {
        let text = fs::read_to_string(entry.expect("a file").path()).expect("text");
        assert!(text.starts_with("#[Histogram log format version 1.3]\n"), "{text:.100}");
        for (tag, histogram) in histograms(&text) {
            *written.entry(tag).or_default() += histogram.count();
        }
    }
    assert_eq!(written["produce.total"], PRODUCES as u64);
    assert_eq!(written["fetch.unaccounted"], FETCHES as u64);
}

#[test]
fn without_being_asked_nothing_is_served_and_with_0_nothing_is_written() {
    let dir = directory();
    let broker = Broker::start(dir.path(), &["--cores", "1", "--metrics-interval-ms", "0"]);
    assert!(broker.http.is_none());
    let mut client = Client::connect(&broker);
    client.create_topic("t", 1);
    assert_eq!(client.produce("t", 0, batch(b"x")).error_code, 0);
    broker.stop();
    assert!(!dir.path().join("metrics").exists());
}

#[test]
fn a_directory_that_cannot_be_written_is_a_warning_and_nothing_more() {
    let dir = directory();
    fs::write(dir.path().join("metrics"), b"in the way").expect("written");
    let broker = Broker::start(dir.path(), &["--cores", "1", "--metrics-interval-ms", "50"]);
    let mut client = Client::connect(&broker);
    client.create_topic("t", 1);
    assert_eq!(client.produce("t", 0, batch(b"x")).error_code, 0);
    broker.wait_for("the stage histograms cannot be written");
    assert_eq!(client.produce("t", 0, batch(b"y")).error_code, 0);
    broker.stop();
}

#[test]
fn bad_http_is_refused_in_good_order_and_slow_clients_hold_nobody_up() {
    let dir = directory();
    let broker = Broker::start(dir.path(), &["--cores", "1", "--http-listen", "127.0.0.1:0"]);
    let address = broker.http.expect("HTTP is served");
    assert!(broker.get("/").contains("/stages.hlog"));
    let long = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(100_000));
    for (request, status) in [
        ("GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n", "404"),
        ("POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi", "405"),
        ("DELETE / HTTP/1.1\r\nHost: x\r\n\r\n", "405"),
        ("HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n", "200"),
        ("GET  / HTTP/1.1\r\n\r\n", "400"),
        ("\0\0\0\x0e\0\x12\0\0\0\0\0\x07\0\x04test", "400"),
        (&long, "431"),
    ] {
        let (head, _) = ask(address, request.as_bytes());
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{request:.40?}: {head:?}");
    }
    let (head, body) = ask(address, b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(head.contains("content-length") && body.is_empty(), "{head}");

    // So many may be slow. The next is closed at once, and Kafka's clients do not notice.
    let slow: Vec<TcpStream> = (0..16).map(|_| TcpStream::connect(address).expect("connect")).collect();
    let start = Instant::now();
    let mut next = TcpStream::connect(address).expect("connect");
    next.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let _ = next.write_all(b"GET / HTTP/1.1\r\n");
    match next.read(&mut [0; 1]) {
        Ok(0) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        other => panic!("{other:?}"),
    }
    assert!(start.elapsed().as_secs() < 9, "it was not its time that was up");
    let mut client = Client::connect(&broker);
    client.probe();
    drop(slow);
    while ask(address, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").0.is_empty() {
        assert!(start.elapsed() < PATIENCE, "places of closed connections come free");
    }
    broker.stop();
}
