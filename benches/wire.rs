//! The hot paths of the codec: reading Produce requests, writing Produce and Fetch replies.
//!
//! `cargo bench --no-default-features --bench wire`

use std::hint::black_box;

use bytes::Bytes;
use corelog::wire::codec::{Message, Records};
use corelog::wire::frame::{self, RequestHeader};
use corelog::wire::messages::fetch::{FetchResponse, FetchableTopicResponse, PartitionData};
use corelog::wire::messages::metadata::{MetadataRequest, MetadataRequestTopic};
use corelog::wire::messages::produce::{
    PartitionProduceData, PartitionProduceResponse, ProduceRequest, ProduceResponse, TopicProduceData,
    TopicProduceResponse,
};
use corelog::wire::reader::Reader;
use corelog::wire::text::Text;
use criterion::{Criterion, criterion_group, criterion_main};

const BATCH_BYTES: usize = 1024;

criterion_group!(benches, produce_requests, produce_replies, fetch_replies, metadata_requests);
criterion_main!(benches);

fn produce_requests(c: &mut Criterion) {
    for version in [8, 9, 12] {
        for partitions in [1, 16] {
            let request = produce_request(partitions);
            let frame = request_frame(version, &request);
            c.bench_function(&format!("produce request decode, v{version}, {partitions} partitions"), |b| {
                b.iter(|| decode::<ProduceRequest>(black_box(&frame)));
            });
        }
    }
}

fn produce_replies(c: &mut Criterion) {
    for partitions in [1, 16] {
        let reply = produce_reply(partitions);
        c.bench_function(&format!("produce reply encode, v12, {partitions} partitions"), |b| {
            b.iter(|| frame::encode_reply(0, 12, 7, black_box(&reply)));
        });
    }
}

fn fetch_replies(c: &mut Criterion) {
    for partitions in [1, 16] {
        for slices in [1, 8] {
            let reply = fetch_reply(partitions, slices);
            c.bench_function(&format!("fetch reply encode, v12, {partitions} partitions of {slices} batches"), |b| {
                b.iter(|| frame::encode_reply(1, 12, 7, black_box(&reply)));
            });
        }
    }
}

fn metadata_requests(c: &mut Criterion) {
    let topic = |i| MetadataRequestTopic { name: Some(Text::from(format!("topic-{i}"))), ..Default::default() };
    let request = MetadataRequest { topics: Some((0..10).map(topic).collect()), ..Default::default() };
    let frame = request_frame(12, &request);
    c.bench_function("metadata request decode, v12, 10 topics", |b| {
        b.iter(|| decode::<MetadataRequest>(black_box(&frame)));
    });
}

fn decode<M: Message>(frame: &Bytes) -> (RequestHeader, M) {
    let mut reader = Reader::new(frame.clone());
    let header = frame::decode_header(&mut reader).expect("ours");
    let message = frame::decode_body(&mut reader, header.version).expect("ours");
    (header, message)
}

fn request_frame<M: Message>(version: i16, request: &M) -> Bytes {
    let client_id = Some(Text::from_static("bench"));
    let header = RequestHeader { api_key: M::API.key, version, correlation_id: 7, client_id };
    Bytes::from(frame::encode_request(&header, request).concat()).slice(4..)
}

fn batch() -> Bytes {
    Bytes::from(vec![7; BATCH_BYTES])
}

fn produce_request(partitions: i32) -> ProduceRequest {
    let partition = |index| PartitionProduceData { index, records: Some(batch()) };
    ProduceRequest {
        acks: -1,
        timeout_ms: 30_000,
        topic_data: vec![TopicProduceData {
            name: "orders".into(),
            partition_data: (0..partitions).map(partition).collect(),
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn produce_reply(partitions: i32) -> ProduceResponse {
    let partition = |index| PartitionProduceResponse { index, base_offset: 1 << 40, ..Default::default() };
    ProduceResponse {
        responses: vec![TopicProduceResponse {
            name: "orders".into(),
            partition_responses: (0..partitions).map(partition).collect(),
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn fetch_reply(partitions: i32, slices: usize) -> FetchResponse {
    let partition = |partition_index| PartitionData {
        partition_index,
        high_watermark: 1 << 40,
        records: Some(Records(vec![batch(); slices])),
        ..Default::default()
    };
    FetchResponse {
        responses: vec![FetchableTopicResponse {
            topic: "orders".into(),
            partitions: (0..partitions).map(partition).collect(),
            ..Default::default()
        }],
        ..Default::default()
    }
}
