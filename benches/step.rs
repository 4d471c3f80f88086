//! What one request costs in `Shard::step`, from the frame to the reply, with a disk that answers at once.

#[path = "../tests/support/mod.rs"]
mod support;

use std::hint::black_box;

use bytes::Bytes;
use corelog::base::ids::ConnId;
use corelog::base::stage::Arrival;
use corelog::broker::api::key;
use corelog::broker::effect::{Effect, Effects, Input, ListenerKind};
use corelog::config::Settings;
use corelog::wire::compression::Compression;
use corelog::wire::frame::{self, RequestHeader};
use corelog::wire::messages::fetch::{FetchPartition, FetchRequest, FetchTopic};
use corelog::wire::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use corelog::wire::records::BatchBuilder;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use support::{Client, MemDisk, NOW_MS, World};

fn request_frame<M: corelog::wire::codec::Message>(api_key: i16, version: i16, request: &M) -> Bytes {
    let header = RequestHeader { api_key, version, correlation_id: 7, client_id: Some("bench".into()) };
    Bytes::from(frame::encode_request(&header, request).concat()).slice(4..)
}

fn produce_frame(record_bytes: usize) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.push(NOW_MS, None, Some(&vec![7; record_bytes]));
    let partition = PartitionProduceData { index: 0, records: Some(builder.build().bytes) };
    let topic = TopicProduceData { name: "t".into(), partition_data: vec![partition], ..Default::default() };
    let request = ProduceRequest { acks: -1, timeout_ms: 1000, topic_data: vec![topic], ..Default::default() };
    request_frame(key::PRODUCE, 9, &request)
}

fn world() -> (World, ConnId) {
    let settings = Settings { tail_cache_bytes: 16 << 20, log_segment_bytes: 1 << 40, ..Settings::default() };
    let mut world = World::start(1, settings, MemDisk::default());
    let client = world.connect(0, ListenerKind::Shared);
    world.create(client, "t", 1);
    let Client { conn, .. } = client;
    (world, conn)
}

/// One request through the shard; disk operations succeed without storing anything.
fn roundtrip(world: &mut World, conn: ConnId, frame: &Bytes, effects: &mut Effects) -> usize {
    let shard = &mut world.shards[0];
    shard.admit(conn, frame.len());
    shard.step(Input::Frame { conn, frame: frame.clone(), arrival: Arrival::at(world.now.mono) }, world.now, effects);
    let mut sent = 0;
    let mut list: Vec<Effect> = effects.drain().collect();
    while let Some(effect) = list.pop() {
        let input = match effect {
            Effect::Send { data, .. } => {
                let bytes = data.iter().map(Bytes::len).sum();
                sent += bytes;
                Input::Drained { conn, bytes, began: world.now.mono }
            }
            Effect::Disk { token, .. } => Input::Disk { token, result: Ok(corelog::base::disk::DiskDone::Done) },
            other => panic!("{other:?}"),
        };
        shard.step(input, world.now, effects);
        list.extend(effects.drain());
    }
    sent
}

fn steps(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("step");
    for (name, record_bytes) in [("produce 1 KB", 950), ("produce 256 KiB", 262_000)] {
        let frame = produce_frame(record_bytes);
        let (mut world, conn) = world();
        let mut effects = Effects::default();
        group.throughput(Throughput::Bytes(record_bytes as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| black_box(roundtrip(&mut world, conn, &frame, &mut effects)));
        });
    }
    let (mut world, conn) = world();
    let mut effects = Effects::default();
    let produce = produce_frame(950);
    for _ in 0..100 {
        roundtrip(&mut world, conn, &produce, &mut effects);
    }
    let partition = FetchPartition { partition_max_bytes: 1 << 20, ..Default::default() };
    let topic = FetchTopic { topic: "t".into(), partitions: vec![partition], ..Default::default() };
    let fetch = FetchRequest {
        min_bytes: 1,
        max_bytes: 50 << 20,
        session_epoch: -1,
        topics: vec![topic],
        ..Default::default()
    };
    let fetch = request_frame(key::FETCH, 11, &fetch);
    let bytes = roundtrip(&mut world, conn, &fetch, &mut effects);
    assert!(bytes > 90_000, "the fetch brings what was produced");
    group.throughput(Throughput::Bytes(bytes as u64));
    group.bench_function("fetch 100 batches of 1 KB from the tail", |bencher| {
        bencher.iter(|| black_box(roundtrip(&mut world, conn, &fetch, &mut effects)));
    });
    group.finish();
}

criterion_group!(benches, steps);
criterion_main!(benches);
