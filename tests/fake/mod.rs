//! A broker that does what a script says: the nodes of a cluster that clients can be tried with.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use corelog::base::ids::{LeaderEpoch, Offset};
use corelog::wire::batch::{BatchLimits, check_produce};
use corelog::wire::codec::Records;
use corelog::wire::frame::{decode_body, decode_header, encode_reply};
use corelog::wire::messages::api_versions::{ApiVersion, ApiVersionsRequest, ApiVersionsResponse};
use corelog::wire::messages::fetch::{FetchRequest, FetchResponse, FetchableTopicResponse, PartitionData};
use corelog::wire::messages::list_offsets::{
    ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopicResponse,
};
use corelog::wire::messages::metadata::{
    MetadataRequest, MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use corelog::wire::messages::produce::{
    PartitionProduceResponse, ProduceRequest, ProduceResponse, TopicProduceResponse,
};
use corelog::wire::messages::{api_versions, fetch, list_offsets, metadata, produce};
use corelog::wire::reader::Reader;

pub const STALL: Duration = Duration::from_millis(100);

/// How a scripted broker treats its Produce requests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Script {
    /// As it should.
    Good,
    /// Answers at once, but for the request of this number, which it holds for `STALL`.
    StallAt(u64),
    /// Ends all connections after this long, and takes no more.
    DieAfter(Duration),
    /// Answers everything with bytes that are no Kafka.
    Nonsense,
    /// Refuses the first requests with NOT_LEADER_OR_FOLLOWER.
    RefuseFirst(u64),
    /// Acknowledges the tenth batch and keeps nothing of it.
    Lose,
    /// Keeps the tenth batch twice.
    Repeat,
    /// Keeps the tenth batch after the eleventh.
    Swap,
}

/// A broker of one partition.
pub struct FakeBroker {
    pub address: SocketAddr,
    pub seen: Arc<Seen>,
}

#[derive(Default)]
pub struct Seen {
    /// How long the script held each request, and its records: what a client measures from the actual sending, but
    /// for what machine and network add.
    pub held: Mutex<Vec<(Duration, u64)>>,
    asked: AtomicU64,
    first: Mutex<Option<Instant>>,
    dead: AtomicBool,
    log: Mutex<Log>,
}

impl Seen {
    /// Records in the log.
    pub fn records(&self) -> i64 {
        self.log.lock().expect("no panic").end
    }
}

#[derive(Default)]
struct Log {
    /// Each with the offset after it.
    batches: Vec<(i64, Bytes)>,
    end: i64,
    /// Batches that came.
    came: u64,
    /// One that waits for the next.
    held_back: Option<Bytes>,
}

impl FakeBroker {
    pub fn start(script: Script) -> FakeBroker {
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
        if script == Script::Nonsense {
            return stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
        if seen.dead.load(Ordering::Relaxed) {
            return Ok(());
        }
        stream.write_all(&answer(frame.into(), address, script, seen)?.concat())?;
    }
}

fn answer(frame: Bytes, address: SocketAddr, script: Script, seen: &Seen) -> std::io::Result<Vec<Bytes>> {
    let mut reader = Reader::new(frame);
    let header = decode_header(&mut reader).expect("a request of ours");
    let (key, version, id) = (header.api_key, header.version, header.correlation_id);
    Ok(if key == api_versions::API.key {
        decode_body::<ApiVersionsRequest>(&mut reader, version).expect("a body of ours");
        encode_reply(key, version, id, &versions())
    } else if key == metadata::API.key {
        let asked = decode_body::<MetadataRequest>(&mut reader, version).expect("a body of ours");
        encode_reply(key, version, id, &cluster(&asked, address))
    } else if key == list_offsets::API.key {
        let asked = decode_body::<ListOffsetsRequest>(&mut reader, version).expect("a body of ours");
        encode_reply(key, version, id, &offsets(&asked, seen))
    } else if key == fetch::API.key {
        let asked = decode_body::<FetchRequest>(&mut reader, version).expect("a body of ours");
        encode_reply(key, version, id, &fetched(&asked, seen))
    } else {
        assert_eq!(key, produce::API.key, "nothing else was offered");
        let asked = decode_body::<ProduceRequest>(&mut reader, version).expect("a body of ours");
        let (code, held) = act(script, seen)?;
        let records = if code == 0 { append(&asked, script, seen) } else { 0 };
        seen.held.lock().expect("no panic").push((held, records));
        encode_reply(key, version, id, &produced(&asked, code))
    })
}

/// Does what the script says. Gives the error code to answer with, and how long it held the request.
fn act(script: Script, seen: &Seen) -> std::io::Result<(i16, Duration)> {
    let since = seen.first.lock().expect("no panic").get_or_insert_with(Instant::now).elapsed();
    let number = seen.asked.fetch_add(1, Ordering::Relaxed) + 1;
    match script {
        Script::StallAt(at) if number == at => {
            thread::sleep(STALL);
            return Ok((0, STALL));
        }
        Script::DieAfter(after) if since >= after => {
            seen.dead.store(true, Ordering::Relaxed);
            return Err(std::io::Error::other("dead"));
        }
        Script::RefuseFirst(count) if number <= count => return Ok((6, Duration::ZERO)),
        _ => {}
    }
    Ok((0, Duration::ZERO))
}

/// Takes the batches of a request into the log, and counts their records.
fn append(asked: &ProduceRequest, script: Script, seen: &Seen) -> u64 {
    let mut log = seen.log.lock().expect("no panic");
    let mut records = 0;
    for part in asked.topic_data.iter().flat_map(|topic| &topic.partition_data) {
        let bytes = part.records.as_ref().expect("records");
        let limits = BatchLimits {
            max_message_bytes: 100 << 20,
            timestamp_type: Default::default(),
            before_max_ms: i64::MAX,
            after_max_ms: i64::MAX,
        };
        records += check_produce(bytes, &limits, 0).expect("a good batch").header.records_count as u64;
        log.came += 1;
        match (script, log.came) {
            (Script::Lose, 10) => {}
            (Script::Swap, 10) => log.held_back = Some(bytes.clone()),
            (Script::Repeat, 10) => {
                log.append(bytes, &limits);
                log.append(bytes, &limits);
            }
            _ => {
                log.append(bytes, &limits);
                if let Some(held_back) = log.held_back.take() {
                    log.append(&held_back, &limits);
                }
            }
        }
    }
    records
}

impl Log {
    fn append(&mut self, bytes: &Bytes, limits: &BatchLimits) {
        let batch = check_produce(bytes, limits, 0).expect("a good batch");
        let stamped: Vec<Bytes> = batch.stamp(Offset(self.end), LeaderEpoch(0), None).slices().collect();
        self.end += i64::from(batch.header.records_count);
        self.batches.push((self.end, stamped.concat().into()));
    }
}

fn versions() -> ApiVersionsResponse {
    let row = |api_key, min_version, max_version| ApiVersion { api_key, min_version, max_version };
    let api_keys = vec![
        row(produce::API.key, 3, 9),
        row(fetch::API.key, 4, 6),
        row(list_offsets::API.key, 1, 3),
        row(metadata::API.key, 0, 9),
        row(api_versions::API.key, 0, 3),
    ];
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

fn produced(asked: &ProduceRequest, error_code: i16) -> ProduceResponse {
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

fn offsets(asked: &ListOffsetsRequest, seen: &Seen) -> ListOffsetsResponse {
    let end = seen.log.lock().expect("no panic").end;
    let topics = asked.topics.iter().map(|topic| {
        let rows = topic.partitions.iter().map(|row| ListOffsetsPartitionResponse {
            partition_index: row.partition_index,
            offset: if row.timestamp == -1 { end } else { 0 },
            ..Default::default()
        });
        ListOffsetsTopicResponse { name: topic.name.clone(), partitions: rows.collect() }
    });
    ListOffsetsResponse { topics: topics.collect(), ..Default::default() }
}

fn fetched(asked: &FetchRequest, seen: &Seen) -> FetchResponse {
    let topic = asked.topics.first().expect("one topic");
    let row = topic.partitions.first().expect("one partition");
    let until = Instant::now() + Duration::from_millis(asked.max_wait_ms as u64);
    loop {
        let log = seen.log.lock().expect("no panic");
        let new = log.batches.iter().filter(|(next, _)| *next > row.fetch_offset);
        let records: Vec<Bytes> = new.take(100).map(|(_, batch)| batch.clone()).collect();
        if records.is_empty() && Instant::now() < until {
            drop(log);
            thread::yield_now();
            continue;
        }
        let data = PartitionData {
            partition_index: row.partition,
            high_watermark: log.end,
            records: Some(Records(records)),
            ..Default::default()
        };
        let topic = FetchableTopicResponse { topic: topic.topic.clone(), partitions: vec![data], ..Default::default() };
        return FetchResponse { responses: vec![topic], ..Default::default() };
    }
}
