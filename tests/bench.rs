//! The load generator against brokers that behave and brokers that do not.
#![cfg(feature = "shell")]

mod binary;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use corelog::bench::packed::{Packed, Sum};
use corelog::bench::run::{self, Finished};
use corelog::bench::workload::Workload;
use corelog::wire::batch::BatchHeader;
use corelog::wire::frame::{decode_body, decode_header, encode_reply};
use corelog::wire::messages::api_versions::{ApiVersion, ApiVersionsRequest, ApiVersionsResponse};
use corelog::wire::messages::metadata::{
    MetadataRequest, MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use corelog::wire::messages::produce::{
    PartitionProduceResponse, ProduceRequest, ProduceResponse, TopicProduceResponse,
};
use corelog::wire::messages::{api_versions, metadata, produce};
use corelog::wire::reader::Reader;

const STALL: Duration = Duration::from_millis(100);

/// How a scripted broker treats its Produce requests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Script {
    /// Answers at once, but for one request after this long, which takes `STALL`.
    StallAfter(Duration),
    /// Ends all connections after this long, and takes no more.
    DieAfter(Duration),
    /// Answers everything with bytes that are no Kafka.
    Nonsense,
    /// Refuses the first requests with NOT_LEADER_OR_FOLLOWER.
    RefuseFirst(u64),
}

/// A broker that knows three APIs and keeps nothing.
struct FakeBroker {
    address: SocketAddr,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    /// How long each request was held, and its records: what a client measures from the actual sending.
    held: Mutex<Vec<(Duration, u64)>>,
    refused: AtomicU64,
    first: Mutex<Option<Instant>>,
    stalled: AtomicBool,
    dead: AtomicBool,
}

impl FakeBroker {
    fn start(script: Script) -> FakeBroker {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let seen = Arc::new(Seen::default());
        let shared = seen.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.dead.load(Ordering::Relaxed) {
                    return;
                }
                let (stream, seen) = (stream.expect("a connection"), shared.clone());
                thread::spawn(move || drop(serve(stream, address, script, &seen)));
            }
        });
        FakeBroker { address, seen }
    }
}

/// Serves one connection to its end.
fn serve(mut stream: TcpStream, address: SocketAddr, script: Script, seen: &Seen) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    loop {
        let mut length = [0; 4];
        stream.read_exact(&mut length)?;
        let mut frame = vec![0; i32::from_be_bytes(length) as usize];
        stream.read_exact(&mut frame)?;
        let arrived = Instant::now();
        if script == Script::Nonsense {
            return stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
        let mut reader = Reader::new(frame.into());
        let header = decode_header(&mut reader).expect("a request of ours");
        let (key, version, id) = (header.api_key, header.version, header.correlation_id);
        let slices = if key == api_versions::API.key {
            decode_body::<ApiVersionsRequest>(&mut reader, version).expect("a body of ours");
            encode_reply(key, version, id, &versions())
        } else if key == metadata::API.key {
            let asked = decode_body::<MetadataRequest>(&mut reader, version).expect("a body of ours");
            encode_reply(key, version, id, &cluster(&asked, address))
        } else {
            assert_eq!(key, produce::API.key, "nothing else was offered");
            let asked = decode_body::<ProduceRequest>(&mut reader, version).expect("a body of ours");
            let records = records(&asked);
            let code = act(script, seen)?;
            let slices = encode_reply(key, version, id, &answer(&asked, code));
            seen.held.lock().expect("no panic").push((arrived.elapsed(), records));
            slices
        };
        stream.write_all(&slices.concat())?;
    }
}

/// Does what the script says, and gives the error code to answer with.
fn act(script: Script, seen: &Seen) -> std::io::Result<i16> {
    let since = seen.first.lock().expect("no panic").get_or_insert_with(Instant::now).elapsed();
    match script {
        Script::StallAfter(after) if since >= after && !seen.stalled.swap(true, Ordering::Relaxed) => {
            thread::sleep(STALL);
        }
        Script::DieAfter(after) if since >= after => {
            seen.dead.store(true, Ordering::Relaxed);
            return Err(std::io::Error::other("dead"));
        }
        Script::RefuseFirst(count) if seen.refused.fetch_add(1, Ordering::Relaxed) < count => return Ok(6),
        _ => {}
    }
    Ok(0)
}

fn versions() -> ApiVersionsResponse {
    let row = |api_key, min_version, max_version| ApiVersion { api_key, min_version, max_version };
    let api_keys = vec![row(produce::API.key, 3, 9), row(metadata::API.key, 0, 9), row(api_versions::API.key, 0, 3)];
    ApiVersionsResponse { api_keys, ..Default::default() }
}

fn cluster(asked: &MetadataRequest, address: SocketAddr) -> MetadataResponse {
    let broker = MetadataResponseBroker {
        node_id: 7,
        host: address.ip().to_string().into(),
        port: i32::from(address.port()),
        rack: None,
    };
    let partition = MetadataResponsePartition { leader_id: 7, ..Default::default() };
    let topics = asked.topics.iter().flatten().map(|topic| MetadataResponseTopic {
        name: topic.name.clone(),
        partitions: vec![partition.clone()],
        ..Default::default()
    });
    MetadataResponse { brokers: vec![broker], controller_id: 7, topics: topics.collect(), ..Default::default() }
}

fn records(asked: &ProduceRequest) -> u64 {
    let parts = asked.topic_data.iter().flat_map(|topic| &topic.partition_data);
    let header = |records: &Bytes| BatchHeader::read(records).expect("a batch").records_count as u64;
    parts.map(|part| header(part.records.as_ref().expect("records"))).sum()
}

fn answer(asked: &ProduceRequest, error_code: i16) -> ProduceResponse {
    let responses = asked.topic_data.iter().map(|topic| {
        let rows = topic.partition_data.iter();
        let row = |index| PartitionProduceResponse { index, error_code, ..Default::default() };
        TopicProduceResponse {
            name: topic.name.clone(),
            partition_responses: rows.map(|part| row(part.index)).collect(),
            ..Default::default()
        }
    });
    ProduceResponse { responses: responses.collect(), ..Default::default() }
}

fn bench(address: SocketAddr, keys: &[(&str, &str)]) -> Result<Finished, String> {
    let mut workload = Workload::default();
    let bootstrap = address.to_string();
    let usual = [("bootstrap", &bootstrap[..]), ("warmup", "0s"), ("interval", "250ms"), ("late-max", "10s")];
    for (key, value) in usual.iter().chain(keys) {
        workload.set(key, value).expect("a good value");
    }
    workload.check().expect("a possible workload");
    run::run(&workload, &Arc::new(AtomicBool::new(false)), &mut |_| {}).map_err(|error| error.to_string())
}

fn produced(finished: &Finished) -> Packed {
    Sum::of(finished.result.intervals.iter().map(|interval| &interval.produce))
}

#[test]
fn a_stall_is_seen_in_full_in_open_loop_and_hardly_at_all_from_the_actual_sending() {
    let broker = FakeBroker::start(Script::StallAfter(Duration::from_millis(700)));
    let keys = [("rate", "2000"), ("duration", "2s"), ("in-flight", "1")];
    let finished = bench(broker.address, &keys).expect("it runs");
    let produce = produced(&finished);
    let totals = finished.result.totals;
    assert_eq!((totals.sent, totals.acked, totals.errors, produce.count()), (4000, 4000, 0, 4000));
    // 200 records were due during the stall, and waited 0 to 100 ms, evenly: 5 % of all, so the p99 is at 80 ms.
    assert!(produce.max_ns() >= 99_000_000, "max {} ns", produce.max_ns());
    assert!(produce.value_at(0.99) >= 70_000_000, "p99 {} ns", produce.value_at(0.99));
    assert!(produce.value_at(0.96) >= 10_000_000, "p96 {} ns", produce.value_at(0.96));
    // From the actual sending: one request was slow, with the records that happened to be in it.
    let held = broker.seen.held.lock().expect("no panic");
    let slow: u64 = held.iter().filter(|(held, _)| *held >= STALL).map(|(_, records)| records).sum();
    let all: u64 = held.iter().map(|(_, records)| records).sum();
    assert_eq!(all, 4000);
    assert!(slow > 0 && slow * 100 < all, "{slow} of {all} records: more than 1 %, so that a naive p99 sees it");
}

#[test]
fn closed_loop_hides_the_stall() {
    let broker = FakeBroker::start(Script::StallAfter(Duration::from_millis(200)));
    let finished = bench(broker.address, &[("rate", "0"), ("duration", "1s"), ("in-flight", "1")]).expect("it runs");
    let produce = produced(&finished);
    assert!(produce.max_ns() >= 99_000_000 && produce.value_at(0.99) < 50_000_000, "{produce:?}");
}

#[test]
fn refused_batches_are_tried_again_and_every_record_arrives() {
    let broker = FakeBroker::start(Script::RefuseFirst(3));
    let finished = bench(broker.address, &[("rate", "1000"), ("duration", "1s")]).expect("it runs");
    let totals = finished.result.totals;
    assert_eq!((totals.acked, totals.errors), (1000, 0));
    assert!(totals.retries >= 3, "{totals:?}");
}

#[test]
fn a_broker_that_dies_leaves_what_was_measured() {
    let broker = FakeBroker::start(Script::DieAfter(Duration::from_millis(1100)));
    let keys = [("rate", "1000"), ("duration", "30s"), ("request-timeout", "1s"), ("delivery-timeout", "2s")];
    let finished = bench(broker.address, &keys).expect("it began");
    let why = finished.cut_short.as_deref().expect("it ended early");
    assert!(why.contains(&broker.address.to_string()), "{why}");
    assert!(finished.result.totals.acked > 500, "{:?}", finished.result.totals);
    assert!(finished.result.totals.errors > 0);
    assert!(finished.result.intervals.len() >= 4);
}

#[test]
fn brokers_that_are_none_are_named() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let nonsense = FakeBroker::start(Script::Nonsense);
    let one = FakeBroker::start(Script::RefuseFirst(0));
    let check = |address: SocketAddr, keys: &[(&str, &str)], expect: &str| {
        let error = bench(address, keys).expect_err("no run");
        assert!(error.contains(expect), "{error}");
    };
    check(silent, &[], &format!("{silent} cannot be connected to"));
    check(nonsense.address, &[], "sent a frame of 1213486160 bytes, which is not Kafka's protocol");
    check(one.address, &[("partitions", "3")], "has 1 partitions, and the workload 3");
    check(one.address, &[("idempotence", "true")], "does not speak InitProducerId");
}

fn corelog(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corelog"));
    command.arg("bench").args(arguments).env_remove("RUST_LOG").output().expect("the binary runs")
}

#[test]
fn the_whole_product_in_one_command() {
    let dir = binary::directory();
    let parent = dir.path().to_str().expect("UTF-8");
    let usual = ["--embedded", "--embedded-dir", parent, "--rate", "2000", "--duration", "2s", "--warmup", "500ms"];
    let more = ["--partitions", "4", "--idempotence", "true", "--late-max", "10s"];
    let output = corelog(&[&usual[..], &more].concat());
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.starts_with("open loop, 2,000 records/s due; 2.0 s measured in 2 intervals"), "{text}");
    assert!(text.contains("5,000 sent, 5,000 acked, 0 errors") && text.contains("produce  "), "{text}");
    assert_eq!(std::fs::read_dir(dir.path()).expect("it is there").count(), 0, "the broker's files are gone");
}

#[test]
fn mistakes_end_the_command_with_what_is_wrong() {
    let dir = binary::directory();
    let path = dir.path().join("w.toml");
    std::fs::write(&path, "rate = 10\nrat = 5\n").expect("written");
    let path = path.to_str().expect("UTF-8");
    let output = corelog(&["--workload", path]);
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("w.toml: line 2: rat is no key"), "{text}");
}
