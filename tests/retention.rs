//! The real binary and librdkafka: old records go by themselves and when they are told to, and stay gone.
#![cfg(feature = "shell")]

mod binary;
mod kafka;

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use binary::{Broker, PATIENCE, directory};
use kafka::{Sent, admin, block_on, consumer, producer, send, watermarks};
use rdkafka::admin::{AdminOptions, NewTopic, TopicReplication};
use rdkafka::consumer::Consumer;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

fn create_topic(broker: &Broker, topic: &str, settings: &[(&str, &str)]) {
    let mut new = NewTopic::new(topic, 1, TopicReplication::Fixed(1));
    for (name, value) in settings {
        new = new.set(name, value);
    }
    let made =
        block_on(admin(&broker.address.to_string()).create_topics(&[new], &AdminOptions::new())).expect("a reply");
    made[0].as_ref().expect("created");
}

/// So many records of 10 kB each, at this time; offsets and values count on.
fn fill(broker: &Broker, topic: &str, numbers: std::ops::Range<usize>, timestamp_ms: i64) {
    let (producer, acked) = producer(&broker.address.to_string(), &[("linger.ms", "0"), ("batch.num.messages", "1")]);
    let value = |number: usize| {
        let mut value = format!("{number:08}").into_bytes();
        value.resize(10_000, b'.');
        value
    };
    let sent: Vec<Sent> = numbers.map(|number| Sent { timestamp_ms, ..Sent::plain(0, value(number)) }).collect();
    send(&producer, topic, &sent);
    acked.wait_for(sent.len());
    assert_eq!(acked.take_errors(), [""; 0]);
}

fn delete_before(broker: &Broker, topic: &str, before: Offset) -> Result<i64, RDKafkaErrorCode> {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, before).expect("a row");
    let deleted =
        block_on(admin(&broker.address.to_string()).delete_records(&list, &AdminOptions::new())).expect("a reply");
    let row = deleted.find_partition(topic, 0).expect("the row");
    match row.error() {
        Ok(()) => Ok(row.offset().to_raw().expect("an offset")),
        Err(error) => Err(error.rdkafka_error_code().expect("a code")),
    }
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "{what}");
        thread::sleep(Duration::from_millis(20));
    }
}

fn segments(dir: &Path, topic: &str) -> usize {
    let files = std::fs::read_dir(dir.join(format!("{topic}-0"))).expect("a directory").flatten();
    files.filter(|file| file.file_name().to_string_lossy().ends_with(".log")).count()
}

/// The number in the first record of the topic.
fn first_value(broker: &Broker, topic: &str) -> usize {
    let consumer = consumer(&broker.address.to_string());
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, Offset::Beginning).expect("a row");
    consumer.assign(&list).expect("assigned");
    let first = consumer.poll(PATIENCE).expect("a record in time").expect("a record");
    std::str::from_utf8(&first.payload().expect("a value")[..8]).expect("text").parse().expect("a number")
}

fn verify(dir: &Path) {
    let verify = std::process::Command::new(env!("CARGO_BIN_EXE_corelog")).args(["log", "verify"]).arg(dir).output();
    let verify = verify.expect("the tool runs");
    assert!(verify.status.success(), "{}", String::from_utf8_lossy(&verify.stdout));
}

#[test]
fn old_segments_go_by_age_and_by_size() {
    let dir = directory();
    let broker = Broker::start(dir.path(), &["--cores", "1", "--log-retention-check-interval-ms", "50"]);
    let small = ("segment.bytes", "100000");
    create_topic(&broker, "aged", &[small, ("retention.ms", "3600000")]);
    create_topic(&broker, "sized", &[small, ("retention.bytes", "250000")]);
    let now_ms = i64::try_from(std::time::UNIX_EPOCH.elapsed().expect("after 1970").as_millis()).expect("fits");
    fill(&broker, "aged", 0..40, now_ms - 7_200_000);
    wait_until("all that is old goes", || watermarks(&broker.address.to_string(), "aged", 0) == (40, 40));
    wait_until("its files go", || segments(dir.path(), "aged") == 1);
    fill(&broker, "aged", 40..60, now_ms);
    assert_eq!(first_value(&broker, "aged"), 40);
    fill(&broker, "sized", 0..60, now_ms);
    wait_until("what is too much goes", || watermarks(&broker.address.to_string(), "sized", 0) == (27, 60));
    wait_until("its files go", || segments(dir.path(), "sized") == 4);
    assert_eq!(first_value(&broker, "sized"), 27);
    broker.kill();
    let broker = Broker::start(dir.path(), &["--cores", "2"]);
    assert_eq!(watermarks(&broker.address.to_string(), "aged", 0), (40, 60));
    assert_eq!(watermarks(&broker.address.to_string(), "sized", 0), (27, 60));
    broker.stop();
    verify(dir.path());
}

#[test]
fn records_are_deleted_up_to_an_offset_and_stay_deleted() {
    let dir = directory();
    let broker = Broker::start(dir.path(), &["--cores", "2"]);
    create_topic(&broker, "t", &[("segment.bytes", "100000"), ("retention.ms", "-1")]);
    create_topic(&broker, "compacted", &[("cleanup.policy", "compact")]);
    fill(&broker, "t", 0..40, 1_700_000_000_000);
    assert_eq!(delete_before(&broker, "t", Offset::Offset(25)), Ok(25));
    assert_eq!(watermarks(&broker.address.to_string(), "t", 0), (25, 40));
    assert_eq!(first_value(&broker, "t"), 25);
    wait_until("files below go", || segments(dir.path(), "t") == 3);
    assert_eq!(delete_before(&broker, "t", Offset::Offset(3)), Ok(25));
    assert_eq!(delete_before(&broker, "t", Offset::Offset(41)), Err(RDKafkaErrorCode::OffsetOutOfRange));
    assert_eq!(delete_before(&broker, "compacted", Offset::Offset(0)), Err(RDKafkaErrorCode::PolicyViolation));
    broker.kill();
    let broker = Broker::start(dir.path(), &["--cores", "1"]);
    assert_eq!(watermarks(&broker.address.to_string(), "t", 0), (25, 40));
    assert_eq!(delete_before(&broker, "t", Offset::End), Ok(40));
    assert_eq!(watermarks(&broker.address.to_string(), "t", 0), (40, 40));
    broker.stop();
    verify(dir.path());
    let broker = Broker::start(dir.path(), &["--cores", "1"]);
    assert_eq!(watermarks(&broker.address.to_string(), "t", 0), (40, 40));
    fill(&broker, "t", 40..41, 1_700_000_000_000);
    assert_eq!(first_value(&broker, "t"), 40);
    broker.stop();
}
