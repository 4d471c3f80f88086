//! A producer with time and brokers made up.

use super::*;
use crate::bench::payload::{FillerPool, RunTag};
use crate::wire::batch::BatchHeader;
use crate::wire::frame::{decode_body, decode_header, encode_reply};
use crate::wire::messages::produce::TopicProduceResponse;
use crate::wire::reader::Reader;

const MS: u64 = 1_000_000;
const REST: u64 = RETRY_BACKOFF_NS;

/// A request as a broker sees it: correlation id, and index over all topics, records, base sequence of each batch.
type Seen = (i32, Vec<(u32, i32, i32)>);

fn producer(keys: &[(&str, &str)]) -> Producer {
    let mut workload = Workload::default();
    keys.iter().for_each(|(key, value)| workload.set(key, value).expect("a good value"));
    let pool = FillerPool::new(1.0, 100, 1).expect("a ratio");
    let payload = Payload::new(RunTag::new(1), workload.sizes.clone(), pool, 1).expect("sizes");
    let identity = Identity { index: 0, client_id: "me".into(), produce_version: 9 };
    let keys = Keys::new(workload.keys, 1).expect("keys");
    let topics = workload.topics();
    let leaders = vec![Some(1); topics.count() as usize];
    let mut producer = Producer::new(&workload, topics, identity, payload, keys);
    producer.on_leaders(&leaders);
    producer
}

fn poll(producer: &mut Producer, now_ns: u64) -> Option<Seen> {
    let frame = Bytes::from(producer.poll_request(1, now_ns)?.concat());
    let mut reader = Reader::new(frame.slice(4..));
    let header = decode_header(&mut reader).expect("a header");
    let request: ProduceRequest = decode_body(&mut reader, 9).expect("a body");
    let mut rows = Vec::new();
    for topic in &request.topic_data {
        let number = producer.topics.number(&topic.name).expect("a topic of ours");
        for part in &topic.partition_data {
            let header = part.records.as_ref().and_then(|records| BatchHeader::read(records)).expect("a batch");
            let index = producer.topics.index(number, part.index).expect("a partition of ours");
            rows.push((index, header.records_count, header.base_sequence));
        }
    }
    Some((header.correlation_id, rows))
}

fn reply(producer: &mut Producer, correlation_id: i32, rows: &[(u32, i16)], now_ns: u64) -> Result<(), String> {
    let row = |(index, error_code): (i32, i16)| PartitionProduceResponse { index, error_code, ..Default::default() };
    let topic = |(number, rows): (usize, Vec<(i32, i16)>)| TopicProduceResponse {
        name: producer.topics.names()[number].clone(),
        partition_responses: rows.into_iter().map(row).collect(),
        ..Default::default()
    };
    let responses = producer.topics.grouped(rows.iter().copied()).into_iter().map(topic).collect();
    let reply = ProduceResponse { responses, ..Default::default() };
    let frame = Bytes::from(encode_reply(API.key, 9, correlation_id, &reply).concat());
    producer.on_reply(1, frame.slice(4..), now_ns)
}

fn finished(producer: &mut Producer) -> Vec<(u64, Outcome)> {
    std::iter::from_fn(|| producer.poll_finished()).map(|done| (done.batch.first_sequence, done.outcome)).collect()
}

fn push(producer: &mut Producer, count: u64, now_ns: u64) {
    (0..count).for_each(|_| producer.push(now_ns, now_ns, 0));
}

#[test]
fn without_linger_a_record_goes_at_once_and_others_gather_behind_it() {
    let mut producer = producer(&[("in-flight", "1")]);
    push(&mut producer, 1, 5);
    assert_eq!(poll(&mut producer, 5), Some((1, vec![(0, 1, -1)])));
    push(&mut producer, 3, 6);
    assert_eq!(poll(&mut producer, 6), None, "one in flight is all");
    reply(&mut producer, 1, &[(0, 0)], 9).expect("a good reply");
    assert_eq!(poll(&mut producer, 9), Some((2, vec![(0, 3, -1)])));
    assert!(!producer.is_idle());
    reply(&mut producer, 2, &[(0, 0)], 10).expect("a good reply");
    assert_eq!(finished(&mut producer), [(0, Outcome::Acked), (1, Outcome::Acked)]);
    assert!(producer.is_idle() && producer.buffered_bytes == 0);
}

#[test]
fn a_batch_goes_when_it_is_full_or_has_lingered() {
    let mut producer = producer(&[("linger-ms", "5"), ("batch-size", "1000")]);
    push(&mut producer, 3, 0);
    assert_eq!((poll(&mut producer, 0), producer.next_time_ns()), (None, Some(5 * MS)));
    producer.on_time(5 * MS - 1);
    assert_eq!(poll(&mut producer, 5 * MS - 1), None);
    producer.on_time(5 * MS);
    assert_eq!(poll(&mut producer, 5 * MS), Some((1, vec![(0, 3, -1)])));
    // Eight records of 100 bytes are nearly 1000 bytes with what is around them.
    push(&mut producer, 9, 6 * MS);
    let (_, rows) = poll(&mut producer, 6 * MS).expect("one is full");
    assert!(rows[0].1 >= 7 && rows.len() == 1, "{rows:?}");
    assert_eq!(poll(&mut producer, 6 * MS), None, "the rest lingers");
    producer.on_time(11 * MS);
    assert!(poll(&mut producer, 11 * MS).is_some());
}

#[test]
fn records_without_keys_go_round_and_requests_take_a_batch_of_each_partition() {
    let mut sticky = producer(&[("partitions", "3"), ("in-flight", "5")]);
    for partition in 0..4 {
        push(&mut sticky, 2, 0);
        assert_eq!(poll(&mut sticky, 0).expect("ready").1, [(partition % 3, 2, -1)]);
    }
    let mut round = producer(&[("partitions", "3"), ("partitioner", "round-robin")]);
    push(&mut round, 5, 0);
    assert_eq!(poll(&mut round, 0).expect("ready").1, [(0, 2, -1), (1, 2, -1), (2, 1, -1)]);
    let mut bounded = producer(&[("partitions", "3"), ("partitioner", "round-robin"), ("max-request-size", "300")]);
    push(&mut bounded, 3, 0);
    assert_eq!(poll(&mut bounded, 0).expect("ready").1, [(0, 1, -1)]);
    assert_eq!(poll(&mut bounded, 0).expect("ready").1, [(1, 1, -1)]);
}

#[test]
fn what_may_succeed_later_is_tried_again_in_order() {
    let mut producer = producer(&[]);
    push(&mut producer, 1, 0);
    poll(&mut producer, 0).expect("ready");
    push(&mut producer, 2, 0);
    poll(&mut producer, 0).expect("ready");
    push(&mut producer, 4, 0);
    reply(&mut producer, 1, &[(0, 6)], 10).expect("a good reply");
    reply(&mut producer, 2, &[(0, 6)], 20).expect("a good reply");
    assert!(producer.wishes().leaders);
    producer.on_time(20 + REST - 1);
    assert_eq!(poll(&mut producer, 20 + REST - 1), None, "it rests");
    producer.on_time(20 + REST);
    let rows: Vec<_> = (0..3).map(|_| poll(&mut producer, 20 + REST).expect("ready").1[0].1).collect();
    assert_eq!((rows, producer.retries), (vec![1, 2, 4], 2));
    producer.on_disconnect(1, 30 + REST);
    producer.on_time(30 + 2 * REST);
    assert_eq!(poll(&mut producer, 30 + 2 * REST).expect("ready").1[0].1, 1);
}

#[test]
fn what_cannot_succeed_fails_and_says_why() {
    let mut producer = producer(&[("delivery-timeout", "1s")]);
    push(&mut producer, 1, 0);
    poll(&mut producer, 0).expect("ready");
    reply(&mut producer, 1, &[(0, 10)], 10).expect("a good reply");
    let refused = Outcome::Failed("Produce was refused with MESSAGE_TOO_LARGE".into());
    assert_eq!(finished(&mut producer), [(0, refused)]);
    push(&mut producer, 1, 10);
    poll(&mut producer, 10).expect("ready");
    producer.on_disconnect(1, 2_000 * MS);
    assert!(matches!(&finished(&mut producer)[..], [(1, Outcome::Failed(why))] if why.contains("--delivery-timeout")));
    push(&mut producer, 1, 3_000 * MS);
    poll(&mut producer, 3_000 * MS).expect("ready");
    reply(&mut producer, 3, &[], 3_000 * MS).expect("a reply");
    let expect = "does not name corelog-bench-0";
    assert!(matches!(&finished(&mut producer)[..], [(2, Outcome::Failed(why))] if why.contains(expect)));
    push(&mut producer, 2, 3_000 * MS);
    producer.give_up(3_001 * MS, "over");
    assert_eq!(finished(&mut producer), [(3, Outcome::Failed("over".into()))]);
    assert!(producer.is_idle() && producer.buffered_bytes == 0);
    assert!(reply(&mut producer, 9, &[(0, 0)], 0).is_err(), "an answer to nothing");
    assert!(producer.on_reply(1, Bytes::from_static(b"\0\0\0\x01junk"), 0).is_err());
}

#[test]
fn an_idempotent_producer_keeps_its_sequences_and_starts_anew_after_a_hole() {
    let mut producer = producer(&[("idempotence", "true")]);
    push(&mut producer, 3, 0);
    assert_eq!((poll(&mut producer, 0), producer.wishes().producer_id), (None, true));
    producer.on_producer_id(9, 0);
    assert_eq!(poll(&mut producer, 0).expect("ready").1, [(0, 3, 0)]);
    push(&mut producer, 2, 0);
    assert_eq!(poll(&mut producer, 0).expect("ready").1, [(0, 2, 3)]);
    // The first one is tried again, the second only came before it.
    reply(&mut producer, 1, &[(0, 6)], 0).expect("a reply");
    reply(&mut producer, 2, &[(0, 45)], 0).expect("a reply");
    producer.on_time(REST);
    assert_eq!(poll(&mut producer, REST).expect("ready").1, [(0, 3, 0)]);
    assert_eq!(poll(&mut producer, REST).expect("ready").1, [(0, 2, 3)]);
    reply(&mut producer, 3, &[(0, 46)], REST).expect("a reply");
    assert_eq!(finished(&mut producer), [(0, Outcome::Acked)]);
    push(&mut producer, 1, REST);
    reply(&mut producer, 4, &[(0, 87)], REST).expect("a reply");
    assert_eq!((poll(&mut producer, REST), producer.wishes().producer_id), (None, true));
    producer.on_producer_id(10, 0);
    assert_eq!(poll(&mut producer, REST).expect("ready").1, [(0, 1, 0)]);
}

#[test]
fn leaders_move_and_memory_has_an_end() {
    let mut producer = producer(&[("buffer-memory", "2000"), ("partitions", "2"), ("partitioner", "round-robin")]);
    push(&mut producer, 2, 0);
    producer.on_leaders(&[Some(2), None]);
    assert_eq!((poll(&mut producer, 0), producer.wishes().leaders), (None, true));
    assert_eq!((producer.nodes(), producer.needs(2)), (vec![2], true));
    assert!(producer.poll_request(2, 0).is_some());
    producer.on_leaders(&[Some(2), Some(1)]);
    assert_eq!(poll(&mut producer, 0).expect("ready").1, [(1, 1, -1)]);
    let mut count = 0;
    while producer.has_room() {
        push(&mut producer, 1, 0);
        count += 1;
    }
    assert!((10..20).contains(&count), "{count}");
    assert!(!producer.is_overdue(1, 30_000 * MS) && producer.is_overdue(1, 30_001 * MS));
}

#[test]
fn without_acks_a_batch_is_done_when_it_is_sent() {
    let mut producer = producer(&[("acks", "0")]);
    push(&mut producer, 2, 0);
    poll(&mut producer, 3).expect("ready");
    assert_eq!(finished(&mut producer), [(0, Outcome::Acked)]);
    assert!(producer.is_idle());
}

#[test]
fn records_go_to_all_topics_and_each_keeps_its_count() {
    let topics = [("topic", "t"), ("topics", "3"), ("partitions", "2"), ("in-flight", "1"), ("linger-ms", "1")];
    // Without keys they go round the partitions of all topics.
    let mut sender = producer(&[&topics[..], &[("partitioner", "round-robin")]].concat());
    (0..12).for_each(|_| sender.push(0, 0, 0));
    sender.on_time(MS);
    let (id, rows) = poll(&mut sender, MS).expect("they have lingered");
    // By topic: each has its partitions together.
    assert_eq!(rows, [(0, 2, -1), (3, 2, -1), (1, 2, -1), (4, 2, -1), (2, 2, -1), (5, 2, -1)]);
    // One of them is to be tried again, and no other.
    let not_leader = ErrorCode::NotLeaderOrFollower.code();
    reply(&mut sender, id, &[(5, 0), (4, not_leader), (3, 0), (2, 0), (1, 0), (0, 0)], 2 * MS).expect("good");
    assert_eq!(finished(&mut sender).len(), 5);
    sender.on_leaders(&[Some(1); 6]);
    sender.on_time(2 * MS + REST);
    assert_eq!(poll(&mut sender, 2 * MS + REST).expect("it has rested").1, [(4, 2, -1)]);
    // A key decides the partition, and the topics take turns.
    let mut keyed = producer(&[&topics[..], &[("keys", "uniform:1")]].concat());
    (0..12).for_each(|_| keyed.push(0, 0, 0));
    let sequences: Vec<u64> = keyed.sequences().map(|(_, next)| next).collect();
    assert_eq!(sequences, [4, 4, 4], "of the one partition of each topic");
}
