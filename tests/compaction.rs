//! The real binary and librdkafka: a compacted topic keeps the last record of each key, through kills too, and so does
//! the topic of groups' offsets.
#![cfg(feature = "shell")]

mod binary;
mod kafka;

use std::collections::BTreeMap;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use binary::{Broker, PATIENCE, directory};
use corelog::base::rng::Rng;
use kafka::{Sent, admin, block_on, consumer_with, producer, send, watermarks};
use rdkafka::admin::{AdminOptions, NewTopic, TopicReplication};
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

const TOPIC: &str = "compacted";
const OFFSETS: &str = "__consumer_offsets";
const ARGUMENTS: [&str; 6] = ["--cores", "1", "--log-cleaner-backoff-ms", "50", "--tail-cache-bytes", "1MiB"];

fn start(dir: &Path) -> Broker {
    Broker::start(dir, &ARGUMENTS)
}

fn create_topic(broker: &Broker) {
    let new = NewTopic::new(TOPIC, 1, TopicReplication::Fixed(1))
        .set("cleanup.policy", "compact")
        .set("segment.bytes", "200000")
        .set("min.cleanable.dirty.ratio", "0.1");
    let made = block_on(admin(&broker.address.to_string()).create_topics(&[new], &AdminOptions::new()));
    made.expect("a reply")[0].as_ref().expect("created");
}

/// Records of a hundred keys; the value says the key and the number of the record.
fn fill(broker: &Broker, numbers: std::ops::Range<usize>, settings: &[(&str, &str)]) {
    let (producer, acked) = producer(&broker.address.to_string(), settings);
    let record = |number: usize| {
        let key = format!("key {}", number * 7 % 100);
        let mut value = format!("{key} {number:08} ").into_bytes();
        // Nothing that compression makes small.
        let mut seed = number as u64 + 1;
        value.resize_with(1000, || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            b' ' + (seed >> 58) as u8
        });
        Sent { key: Some(key.into_bytes()), ..Sent::plain(0, value) }
    };
    let sent: Vec<Sent> = numbers.map(record).collect();
    send(&producer, TOPIC, &sent);
    acked.wait_for(sent.len());
    assert_eq!(acked.take_errors().first(), None);
}

/// Offset and value of every record there is, as a consumer gets them.
fn consume(broker: &Broker, topic: &str) -> Vec<(i64, String)> {
    let eof = [("enable.partition.eof", "true"), ("fetch.wait.max.ms", "20")];
    let consumer = consumer_with(&broker.address.to_string(), &eof);
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, Offset::Beginning).expect("a row");
    consumer.assign(&list).expect("assigned");
    let mut found = Vec::new();
    loop {
        match consumer.poll(PATIENCE).expect("an answer in time") {
            Ok(message) => {
                let value = String::from_utf8_lossy(message.payload().expect("a value")).into_owned();
                found.push((message.offset(), value));
            }
            Err(KafkaError::PartitionEOF(_)) => return found,
            Err(error) => panic!("{error}"),
        }
    }
}

/// The offset of the last record of each key, which is its number.
fn latest(count: usize) -> BTreeMap<usize, i64> {
    (0..count).map(|number| (number * 7 % 100, number as i64)).collect()
}

fn check(broker: &Broker, count: usize) -> usize {
    assert_eq!(watermarks(&broker.address.to_string(), TOPIC, 0), (0, count as i64));
    let found = consume(broker, TOPIC);
    assert!(found.is_sorted_by(|a, b| a.0 < b.0), "offsets ascend");
    for (offset, value) in &found {
        let expect = format!("key {} {offset:08} ", offset * 7 % 100);
        assert!(value.starts_with(&expect), "offset {offset} has {value}");
    }
    let offsets: Vec<i64> = found.iter().map(|(offset, _)| *offset).collect();
    for (key, offset) in latest(count) {
        assert!(offsets.binary_search(&offset).is_ok(), "the last record of key {key}, {offset}, is gone");
    }
    found.len()
}

fn wait_until_small(broker: &Broker, count: usize) {
    let start = Instant::now();
    // What is in the segment that is written to stays, and what is in memory is served from there.
    while check(broker, count) > 100 + 300 + 1100 {
        assert!(start.elapsed() < PATIENCE, "it is not compacted");
        thread::sleep(Duration::from_millis(100));
    }
}

fn verify(dir: &Path) {
    let verify = std::process::Command::new(env!("CARGO_BIN_EXE_corelog")).args(["log", "verify"]).arg(dir).output();
    let verify = verify.expect("the tool runs");
    assert!(verify.status.success(), "{}", String::from_utf8_lossy(&verify.stdout));
}

#[test]
fn every_key_keeps_its_last_record() {
    let dir = directory();
    let broker = start(dir.path());
    create_topic(&broker);
    fill(
        &broker,
        0..3000,
        &[("batch.num.messages", "50"), ("enable.idempotence", "true"), ("compression.type", "lz4")],
    );
    fill(&broker, 3000..5000, &[("batch.num.messages", "3"), ("linger.ms", "0")]);
    wait_until_small(&broker, 5000);
    broker.stop();
    verify(dir.path());
    let broker = start(dir.path());
    fill(&broker, 5000..8000, &[("batch.num.messages", "20"), ("compression.type", "zstd")]);
    wait_until_small(&broker, 8000);
    let (producer, acked) = producer(&broker.address.to_string(), &[]);
    send(&producer, TOPIC, &[Sent::plain(0, b"no key".to_vec())]);
    let start = Instant::now();
    while acked.take_errors().is_empty() {
        assert!(start.elapsed() < PATIENCE, "a record without a key is refused");
        thread::sleep(Duration::from_millis(20));
    }
    check(&broker, 8000);
    broker.stop();
}

/// Names of files of the partition that end like this.
fn files(dir: &Path, partition: &str, end: &str) -> usize {
    let names = std::fs::read_dir(dir.join(partition)).expect("a directory").flatten();
    names.filter(|file| file.file_name().to_string_lossy().ends_with(end)).count()
}

/// Kills the broker while it compacts, if it does so soon: at such a file's sight and a while later.
fn kill_while_compacting(broker: Broker, dir: &Path, end: &str, later: Duration) {
    let start = Instant::now();
    while files(dir, "compacted-0", end) == 0 && start.elapsed() < Duration::from_secs(1) {
        thread::yield_now();
    }
    // The clock chooses the moment: what a test could wait for would always be the same one.
    thread::sleep(later);
    broker.kill();
}

#[test]
fn a_kill_at_any_time_loses_no_key() {
    let dir = directory();
    let mut rng = Rng::new(u64::from(std::process::id()));
    let (mut count, mut cut_short) = (0, 0);
    for round in 0..8 {
        let broker = start(dir.path());
        if round == 0 {
            create_topic(&broker);
        } else {
            check(&broker, count);
        }
        fill(&broker, count..count + 1000, &[("batch.num.messages", "50")]);
        count += 1000;
        let later = Duration::from_micros(rng.below([1, 3000, 50_000][round % 3]));
        kill_while_compacting(broker, dir.path(), [".cleaned", ".swap"][round % 2], later);
        cut_short += usize::from(files(dir.path(), "compacted-0", ".cleaned") > 0);
        cut_short += usize::from(files(dir.path(), "compacted-0", ".swap") > 0);
    }
    assert!(cut_short > 0, "a compaction is under way at some of the kills");
    let broker = start(dir.path());
    wait_until_small(&broker, count);
    assert_eq!(files(dir.path(), "compacted-0", ".swap"), 0, "what was cut short is finished");
    broker.stop();
    verify(dir.path());
}

/// Commits the offset for every partition.
fn commit(broker: &Broker, offsets: std::ops::Range<i64>) {
    let consumer = consumer_with(&broker.address.to_string(), &[("group.id", "g")]);
    for offset in offsets {
        let mut list = TopicPartitionList::new();
        for partition in 0..COMMITTED_PARTITIONS {
            list.add_partition_offset("t", partition, Offset::Offset(offset)).expect("a row");
        }
        consumer.commit(&list, CommitMode::Sync).expect("committed");
    }
}

fn committed(broker: &Broker) -> Vec<Offset> {
    let consumer = consumer_with(&broker.address.to_string(), &[("group.id", "g")]);
    let mut list = TopicPartitionList::new();
    list.add_partition_range("t", 0, COMMITTED_PARTITIONS - 1);
    let list = consumer.committed_offsets(list, PATIENCE).expect("an answer");
    list.elements().iter().map(|row| row.offset()).collect()
}

const COMMITTED_PARTITIONS: i32 = 100;

#[test]
fn the_offsets_of_groups_are_compacted_and_kept() {
    const COMMITS: i64 = 400;
    let dir = directory();
    let arguments = [&ARGUMENTS[..], &["--offsets-topic-num-partitions", "1"], &["--offsets-topic-segment-bytes=1MiB"]];
    let arguments = arguments.concat();
    let broker = Broker::start(dir.path(), &arguments);
    kafka::create_topic(&broker.address.to_string(), "t", COMMITTED_PARTITIONS);
    commit(&broker, 0..COMMITS);
    let (_, end) = watermarks(&broker.address.to_string(), OFFSETS, 0);
    assert!(end >= COMMITS * i64::from(COMMITTED_PARTITIONS));
    let start = Instant::now();
    // Those that became small are one, and one is written to.
    while files(dir.path(), "__consumer_offsets-0", ".log") > 2 {
        assert!(start.elapsed() < PATIENCE, "it is not compacted");
        thread::sleep(Duration::from_millis(50));
    }
    broker.kill();
    let broker = Broker::start(dir.path(), &arguments);
    let left = consume(&broker, OFFSETS).len() as i64;
    assert!(left >= i64::from(COMMITTED_PARTITIONS) && left < end / 2, "{left} of {end}");
    assert_eq!(committed(&broker), vec![Offset::Offset(COMMITS - 1); COMMITTED_PARTITIONS as usize]);
    commit(&broker, COMMITS..COMMITS + 1);
    assert_eq!(committed(&broker), vec![Offset::Offset(COMMITS); COMMITTED_PARTITIONS as usize]);
    broker.stop();
    verify(dir.path());
}
