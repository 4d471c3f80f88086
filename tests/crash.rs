//! kill -9 and damaged files against the real binary: what was acknowledged is there, once, in order, byte for byte.
#![cfg(feature = "shell")]

mod binary;
mod kafka;

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use binary::{Broker, PATIENCE, directory};
use corelog::base::rng::Rng;
use kafka::{Sent, consume, producer, producer_kept, send};
use rdkafka::producer::Producer;

const PARTITIONS: i32 = 4;

/// A value that shows its number and fills a length of its own, so that batches end anywhere within a block.
fn value(number: usize) -> Vec<u8> {
    let mut value = format!("{number} ").into_bytes();
    value.resize(value.len() + number % 311, b'a' + (number % 26) as u8);
    value
}

fn record(number: usize) -> Sent {
    Sent::plain((number % PARTITIONS as usize) as i32, value(number))
}

/// Every record from 0 to `count` is there exactly once, in the order of its partition.
fn assert_all_there(bootstrap: &str, count: usize) {
    let read = consume(bootstrap, "t", PARTITIONS, count);
    for partition in 0..PARTITIONS {
        let found = read.iter().filter(|one| one.partition == partition).map(|one| one.value.clone().expect("a value"));
        let expect = (0..count).filter(|number| *number as i32 % PARTITIONS == partition).map(value);
        assert!(found.eq(expect), "partition {partition}");
    }
}

/// A broker on a port that its successors take again, and a topic.
fn first(dir: &Path, arguments: &[&str]) -> (Broker, String) {
    let broker = Broker::start(dir, arguments);
    let bootstrap = broker.address.to_string();
    kafka::create_topic(&bootstrap, "t", PARTITIONS);
    (broker, bootstrap)
}

#[test]
fn a_producer_that_lives_through_kills_finds_each_record_stored_once() {
    let dir = directory();
    // The records say that they are years old.
    let arguments = ["--cores", "2", "--log-segment-bytes", "1048576", "--log-retention-ms=-1"];
    let (mut broker, bootstrap) = first(dir.path(), &arguments);
    let mut rng = Rng::new(20);
    let (producer, acked) =
        producer(&bootstrap, &[("enable.idempotence", "true"), ("linger.ms", "1"), ("batch.num.messages", "50")]);
    let mut sent = 0;
    let mut kills = 0;
    while kills < 10 {
        let more = 1000 + rng.below(3000) as usize;
        let records: Vec<Sent> = (sent..sent + more).map(record).collect();
        sent += more;
        send(&producer, "t", &records);
        // Some of it is acknowledged, the rest is on its way.
        acked.wait_for(sent - more / 2 - rng.below(more as u64 / 2) as usize);
        broker.kill();
        kills += 1;
        broker = Broker::start_on(dir.path(), &bootstrap, &arguments);
    }
    producer.flush(PATIENCE).expect("all acknowledged");
    assert_eq!(acked.take().len(), sent);
    assert_all_there(&bootstrap, sent);
    broker.stop();
    let broker = Broker::start_on(dir.path(), &bootstrap, &["--cores", "1"]);
    assert_all_there(&bootstrap, sent);
    broker.stop();
}

#[test]
fn acknowledged_records_of_producers_that_die_with_the_broker_are_kept() {
    let dir = directory();
    let (mut broker, bootstrap) = first(dir.path(), &["--cores", "1"]);
    let mut rng = Rng::new(21);
    let mut kept: Vec<(i32, i64, Vec<u8>)> = Vec::new();
    for round in 0..6 {
        // Not idempotent, and never sending twice: what is lost stays lost, and only the acknowledged counts.
        let settings = [("retries", "0"), ("acks", "1"), ("message.timeout.ms", "3000"), ("linger.ms", "0")];
        let (producer, acked) = producer_kept(&bootstrap, &settings);
        let records: Vec<Sent> = (0..2000).map(|i| record(round * 10_000 + i)).collect();
        send(&producer, "t", &records);
        acked.wait_for(200 + rng.below(1500) as usize);
        broker.kill();
        broker = Broker::start_on(dir.path(), &bootstrap, &["--cores", "1"]);
        producer.flush(PATIENCE).expect("all answered");
        acked.take_errors();
        kept.extend(acked.take_values());
    }
    assert!(kept.len() > 6 * 200);
    let read = kafka::consume_all(&bootstrap, "t", PARTITIONS);
    for (partition, offset, value) in kept {
        let found = read.iter().filter(|one| one.partition == partition).nth(offset as usize);
        assert_eq!(found.and_then(|one| one.value.as_ref()), Some(&value), "partition {partition}, offset {offset}");
    }
    broker.stop();
}

#[test]
fn a_damaged_tail_is_cut_and_everything_before_it_is_served() {
    let dir = directory();
    // With a journal, the end of a killed broker's segment would be written anew.
    let arguments = ["--cores", "1", "--durability", "write"];
    let (broker, bootstrap) = first(dir.path(), &arguments);
    let (producer, acked) = producer(&bootstrap, &[("linger.ms", "0"), ("batch.num.messages", "1")]);
    let count = 400;
    for number in 0..count {
        send(&producer, "t", &[record(number)]);
        acked.wait_for(number + 1);
    }
    drop(producer);
    broker.kill();
    let path = dir.path().join("t-3/00000000000000000000.log");
    let whole = fs::read(&path).expect("the segment");
    let ends = batch_ends(&whole);
    assert_eq!(ends.len(), count / PARTITIONS as usize);
    let (end, last_block) = (ends[ends.len() - 1], (ends[ends.len() - 1] - 1) / 4096 * 4096);
    let mut rng = Rng::new(22);
    for round in 0..12 {
        let cut = last_block + rng.below((end - last_block) as u64) as usize;
        damage(&path, &whole, cut, round % 3);
        forget_notes(dir.path());
        let broker = Broker::start_on(dir.path(), &bootstrap, &arguments);
        let kept = ends.iter().filter(|end| **end <= cut).count();
        let (low, high) = kafka::watermarks(&bootstrap, "t", 3);
        assert_eq!((low, high), (0, kept as i64), "cut at {cut} of {end}, way {}", round % 3);
        let (producer, acked) = kafka::producer(&bootstrap, &[]);
        send(&producer, "t", &[Sent::plain(3, b"next".to_vec())]);
        producer.flush(PATIENCE).expect("acknowledged");
        assert_eq!(acked.take(), [(3, kept as i64)]);
        drop(producer);
        broker.kill();
    }
}

/// Where each batch of a segment ends.
fn batch_ends(segment: &[u8]) -> Vec<usize> {
    let mut ends = Vec::new();
    let mut at = 0;
    while let Some(length) = segment.get(at + 8..at + 12) {
        let length = u32::from_be_bytes(length.try_into().expect("4 bytes")) as usize;
        if length == 0 {
            break;
        }
        at += 12 + length;
        ends.push(at);
    }
    ends
}

/// Takes away what the starts of earlier rounds noted: by that, what this round cuts was durable once, and is no torn
/// write.
fn forget_notes(data_dir: &Path) {
    for entry in fs::read_dir(data_dir.join("meta")).expect("the directory") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "noted") {
            fs::remove_file(path).expect("removed");
        }
    }
}

/// Puts the segment back with a tail that is missing, zero, or garbage from `cut` on, and takes away what a recovery
/// of an earlier round left.
fn damage(path: &Path, whole: &[u8], cut: usize, way: usize) {
    let dir: PathBuf = path.parent().expect("a directory").into();
    for entry in fs::read_dir(&dir).expect("the directory") {
        fs::remove_file(entry.expect("an entry").path()).expect("removed");
    }
    fs::write(path, whole).expect("written");
    let file = OpenOptions::new().write(true).open(path).expect("open");
    match way {
        0 => file.set_len(cut as u64).expect("cut"),
        1 => file.write_all_at(&vec![0; whole.len() - cut], cut as u64).expect("zeroed"),
        _ => {
            let garbage: Vec<u8> = whole[cut..].iter().map(|byte| byte ^ 0x5a).collect();
            file.write_all_at(&garbage, cut as u64).expect("garbled");
        }
    }
}
