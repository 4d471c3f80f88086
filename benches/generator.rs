//! What the load generator does for every record: making one, and taking one apart.
//!
//! `cargo bench --bench generator`

use std::hint::black_box;
use std::time::Instant;

use bytes::Bytes;
use corelog::bench::consumer::{Consumer, ConsumerSettings, Received, StartAt, highest_common};
use corelog::bench::payload::{FillerPool, KeySpread, Keys, Payload, RecordPlace, RunTag, Sizes, ValueHead};
use corelog::bench::producer::{Identity, Producer};
use corelog::bench::tally::Tally;
use corelog::bench::topics::Topics;
use corelog::bench::workload::Workload;
use corelog::wire::compression::Compression;
use corelog::wire::frame::encode_reply;
use corelog::wire::messages::api_versions::{ApiVersion, ApiVersionsResponse};
use corelog::wire::messages::fetch::{self, FetchResponse, FetchableTopicResponse, PartitionData};
use corelog::wire::messages::list_offsets::{
    self, ListOffsetsPartitionResponse, ListOffsetsResponse, ListOffsetsTopicResponse,
};
use corelog::wire::messages::metadata::{MetadataResponse, MetadataResponsePartition, MetadataResponseTopic};
use corelog::wire::records::BatchBuilder;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

const RECORDS: u64 = 10_000;
const VERSION: i16 = 12;

criterion_group!(benches, stamping, making, batching, keys, counting, taking);
criterion_main!(benches);

fn payload(sizes: Sizes) -> Payload {
    let pool = FillerPool::new(1.0, sizes.bytes_max(), 1).expect("a good ratio");
    Payload::new(RunTag::new(1), sizes, pool, 1).expect("good sizes")
}

fn head(sequence: u64) -> ValueHead {
    ValueHead { stream: 3, sequence, intended_ns: sequence * 1000 }
}

/// What measuring adds to a record that would be sent anyway: a look at the clock, and the head of its value.
fn stamping(c: &mut Criterion) {
    let mut group = c.benchmark_group("stamp a record");
    group.throughput(Throughput::Elements(RECORDS));
    let zero = Instant::now();
    let mut payload = payload(Sizes::Fixed(24));
    let mut out = Vec::with_capacity(64 << 10);
    group.bench_function("clock and head", |b| {
        b.iter(|| {
            for sequence in 0..RECORDS {
                if out.len() > 60 << 10 {
                    out.clear();
                }
                let intended_ns = zero.elapsed().as_nanos() as u64;
                payload.append_value(&mut out, 24, ValueHead { stream: 3, sequence, intended_ns });
            }
        });
    });
}

fn making(c: &mut Criterion) {
    let mut group = c.benchmark_group("make a record");
    group.throughput(Throughput::Elements(RECORDS));
    for (name, sizes) in
        [("100 B", Sizes::Fixed(100)), ("1000 B", Sizes::Fixed(1000)), ("uniform 50-150 B", Sizes::Uniform(50, 150))]
    {
        let mut payload = payload(sizes);
        let mut out = Vec::with_capacity(64 << 10);
        group.bench_function(name, |b| {
            b.iter(|| {
                for sequence in 0..RECORDS {
                    if out.len() > 60 << 10 {
                        out.clear();
                    }
                    let size = payload.next_size();
                    let place = RecordPlace { offset_delta: sequence as u32, timestamp_delta_ms: 1 };
                    payload.append_record(&mut out, place, None, size, head(black_box(sequence)));
                }
            });
        });
    }
}

/// All that a record costs on its way out but the socket: the clock, the record, its batch, the checksum, the request,
/// and the end of the batch. With `acks=0`, since the reply is no part of it.
fn batching(c: &mut Criterion) {
    let mut group = c.benchmark_group("batch a record");
    group.throughput(Throughput::Elements(RECORDS));
    for (name, size, compression) in [
        ("100 B", 100, Compression::None),
        ("1000 B", 1000, Compression::None),
        ("100 B, lz4", 100, Compression::Lz4),
        ("100 B, zstd", 100, Compression::Zstd),
    ] {
        let linger_ns = 3600 * 1_000_000_000;
        let workload = Workload { partitions: 16, acks: 0, linger_ns, compression, ..Workload::default() };
        let identity = Identity { index: 0, client_id: "bench".into(), produce_version: 9 };
        let keys = Keys::new(KeySpread::None, 1).expect("a good spread");
        let mut producer = Producer::new(&workload, workload.topics(), identity, payload(Sizes::Fixed(size)), keys);
        producer.on_leaders(&[Some(1); 16]);
        let zero = Instant::now();
        group.bench_function(name, |b| {
            b.iter(|| {
                for _ in 0..RECORDS {
                    let now_ns = zero.elapsed().as_nanos() as u64;
                    producer.push(now_ns, now_ns, 1);
                    while let Some(request) = producer.poll_request(1, now_ns) {
                        black_box(request);
                    }
                    while let Some(finished) = producer.poll_finished() {
                        producer.recycle(finished.batch);
                    }
                }
            });
        });
    }
}

fn keys(c: &mut Criterion) {
    let mut group = c.benchmark_group("draw a key");
    group.throughput(Throughput::Elements(RECORDS));
    for (name, spread) in
        [("uniform of 1 M", KeySpread::Uniform(1_000_000)), ("zipf of 1 M", KeySpread::Zipf(1_000_000, 0.99))]
    {
        let mut keys = Keys::new(spread, 1).expect("a good spread");
        group.bench_function(name, |b| {
            b.iter(|| {
                for _ in 0..RECORDS {
                    black_box(keys.next_key());
                }
            });
        });
    }
}

fn counting(c: &mut Criterion) {
    let mut group = c.benchmark_group("tally a record");
    group.throughput(Throughput::Elements(RECORDS));
    for streams in [1, 1000] {
        let mut tally = Tally::new();
        let mut next = 0;
        group.bench_function(format!("of {streams} streams in turn"), |b| {
            b.iter(|| {
                for _ in 0..RECORDS {
                    black_box(tally.on_received((next % streams) as u32, next / streams));
                    next += 1;
                }
            });
        });
    }
}

/// A whole Fetch reply of 16 partitions, from its frame to the counts.
fn taking(c: &mut Criterion) {
    let mut group = c.benchmark_group("take a record");
    group.throughput(Throughput::Elements(RECORDS / 16 * 16));
    for (name, compression) in [("none", Compression::None), ("lz4", Compression::Lz4), ("zstd", Compression::Zstd)] {
        let records = batch(compression);
        let mut received = Received::default();
        group.bench_function(format!("100 B, {name}"), |b| {
            let setup = || placed_consumer(&records);
            b.iter_batched(
                setup,
                |(mut consumer, frame)| {
                    let reply = consumer.on_reply(1, frame, &mut received, &mut || 1 << 40);
                    reply.expect("a good reply");
                    black_box(&received.arrivals);
                    received.arrivals.clear();
                    consumer
                },
                BatchSize::LargeInput,
            );
        });
    }
}

fn batch(compression: Compression) -> Bytes {
    let mut payload = payload(Sizes::Fixed(100));
    let mut builder = BatchBuilder::new(compression);
    for sequence in 0..RECORDS / 16 {
        let mut value = Vec::new();
        payload.append_value(&mut value, 100, head(sequence));
        builder.push(1, None, Some(&value));
    }
    builder.build().bytes
}

/// A consumer that waits for the reply to its first fetch, and that reply.
fn placed_consumer(records: &Bytes) -> (Consumer, Bytes) {
    let settings = ConsumerSettings::new(RunTag::new(1), StartAt::Earliest);
    let mut consumer = Consumer::new(settings, &Topics::new(["t"], 16), &(0..16).collect::<Vec<_>>());
    let row = |api_key: i16| ApiVersion { api_key, min_version: 0, max_version: VERSION };
    let api_keys = vec![row(fetch::API.key), row(list_offsets::API.key)];
    let versions = ApiVersionsResponse { api_keys, ..Default::default() };
    let partitions = (0..16).map(|partition_index| MetadataResponsePartition {
        partition_index,
        leader_id: 1,
        ..Default::default()
    });
    let topic =
        MetadataResponseTopic { name: Some("t".into()), partitions: partitions.collect(), ..Default::default() };
    consumer.on_metadata(&MetadataResponse { topics: vec![topic], ..Default::default() }, 0);
    consumer.on_connected(1, &versions).expect("versions in common");

    consumer.poll_request(1, 0).expect("it asks where to begin");
    let rows = (0..16).map(|partition_index| ListOffsetsPartitionResponse {
        partition_index,
        offset: 0,
        ..Default::default()
    });
    let topics = vec![ListOffsetsTopicResponse { name: "t".into(), partitions: rows.collect() }];
    let version = highest_common(list_offsets::API, &versions).expect("it is there");
    let offsets = encode_reply(2, version, 1, &ListOffsetsResponse { topics, ..Default::default() });
    let offsets = Bytes::from(offsets.concat()).slice(4..);
    consumer.on_reply(1, offsets, &mut Received::default(), &mut || 0).expect("a good reply");

    consumer.poll_request(1, 0).expect("it fetches");
    let partitions = (0..16).map(|partition_index| PartitionData {
        partition_index,
        records: Some(records.clone().into()),
        ..Default::default()
    });
    let responses =
        vec![FetchableTopicResponse { topic: "t".into(), partitions: partitions.collect(), ..Default::default() }];
    let reply = encode_reply(1, VERSION, 2, &FetchResponse { responses, ..Default::default() });
    (consumer, Bytes::from(reply.concat()).slice(4..))
}
