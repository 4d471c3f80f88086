//! librdkafka against the real binary, through both kinds of listener.
#![cfg(feature = "shell")]

mod binary;
mod command;
mod kafka;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use binary::{Broker, PATIENCE, directory, free_ports};
use command::{DONE, says};
use kafka::{Cutter, Sent, admin, block_on, consume, consumer, producer, send};
use rdkafka::admin::{AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::consumer::Consumer;
use rdkafka::producer::Producer;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];

/// A broker of two cores with both kinds of listener, and the bootstrap address of each.
fn two_cores(dir: &std::path::Path) -> (Broker, [String; 2]) {
    let base = free_ports(2);
    let broker = Broker::start(dir, &["--cores", "2", "--per-core-port", &base.to_string()]);
    let shared = broker.address.to_string();
    (broker, [shared, format!("127.0.0.1:{base}")])
}

fn create(bootstrap: &str, topic: &str, partitions: i32, settings: &[(&str, &str)]) {
    let mut new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
    for (name, value) in settings {
        new = new.set(name, value);
    }
    let results = block_on(admin(bootstrap).create_topics(&[new], &AdminOptions::new())).expect("a reply");
    results[0].as_ref().expect("created");
}

#[test]
fn every_codec_key_and_header_arrives_through_both_kinds_of_listener() {
    let dir = directory();
    let (broker, bootstraps) = two_cores(dir.path());
    for (listener, bootstrap) in bootstraps.iter().enumerate() {
        for codec in CODECS {
            let topic = format!("codec-{codec}-{listener}");
            create(bootstrap, &topic, 8, &[]);
            let (producer, acked) = producer(bootstrap, &[("compression.type", codec), ("linger.ms", "5")]);
            let sent: Vec<Sent> = (0..800)
                .map(|i| Sent {
                    partition: i % 8,
                    key: (i % 3 != 0).then(|| format!("key {i}").into_bytes()),
                    value: (i % 5 != 0).then(|| format!("{codec} {i} {}", "pad ".repeat(20)).into_bytes()),
                    timestamp_ms: 1_700_000_000_000 + i64::from(i),
                    headers: vec![("number".into(), Some(i.to_string().into_bytes())), ("none".into(), None)],
                })
                .collect();
            send(&producer, &topic, &sent);
            producer.flush(PATIENCE).expect("all acknowledged");
            assert_eq!(acked.take().len(), sent.len());
            let read = consume(bootstrap, &topic, 8, sent.len());
            for partition in 0..8 {
                let expect: Vec<&Sent> = sent.iter().filter(|sent| sent.partition == partition).collect();
                let found: Vec<&Sent> = read.iter().filter(|read| read.partition == partition).collect();
                assert_eq!(found, expect, "{topic} {partition}");
            }
        }
    }
    broker.stop();
}

#[test]
fn per_core_listeners_show_each_core_as_a_broker() {
    let dir = directory();
    let (broker, [shared, per_core]) = two_cores(dir.path());
    create(&shared, "t", 16, &[]);
    let show = |bootstrap: &str| -> (usize, BTreeSet<i32>) {
        let metadata = consumer(bootstrap).fetch_metadata(Some("t"), PATIENCE).expect("metadata");
        let leaders = metadata.topics()[0].partitions().iter().map(|partition| partition.leader()).collect();
        (metadata.brokers().len(), leaders)
    };
    assert_eq!(show(&shared), (1, BTreeSet::from([1])));
    assert_eq!(show(&per_core), (2, BTreeSet::from([1000, 1001])));
    broker.stop();
}

#[test]
fn records_of_a_megabyte_pass_and_larger_ones_are_refused() {
    let dir = directory();
    let (broker, [shared, _]) = two_cores(dir.path());
    create(&shared, "large", 2, &[]);
    let (producer, acked) = producer(&shared, &[("message.max.bytes", "4000000")]);
    let sent: Vec<Sent> = (0..10).map(|i| Sent::plain(i % 2, vec![b'a' + i as u8; 1_000_000])).collect();
    send(&producer, "large", &sent);
    producer.flush(PATIENCE).expect("all acknowledged");
    assert_eq!(acked.take().len(), sent.len());
    let read = consume(&shared, "large", 2, sent.len());
    for partition in 0..2 {
        let values = |list: &[Sent]| -> Vec<Vec<u8>> {
            list.iter().filter(|one| one.partition == partition).map(|one| one.value.clone().unwrap()).collect()
        };
        assert!(values(&read) == values(&sent));
    }
    send(&producer, "large", &[Sent::plain(0, vec![0; 2_000_000])]);
    producer.flush(PATIENCE).expect("answered");
    let refused = acked.take_errors();
    assert_eq!(refused.len(), 1);
    assert!(refused[0].contains("MessageSizeTooLarge"), "{refused:?}");
    broker.stop();
}

#[test]
fn an_idempotent_producer_stores_each_record_once_however_often_it_is_cut_off() {
    let dir = directory();
    // Clients are told the address of the proxy, which has the broker's port under another of the machine's own
    // addresses.
    let broker = Broker::start(dir.path(), &["--cores", "2", "--advertised-host", "127.0.0.2"]);
    let cutter = Cutter::start("127.0.0.2", broker.address);
    create(&cutter.address(), "once", 4, &[]);
    let (producer, acked) = producer(&cutter.address(), &[("enable.idempotence", "true"), ("linger.ms", "1")]);
    let count = 20_000;
    for i in 0..count {
        send(&producer, "once", &[Sent::plain(i % 4, i.to_string().into_bytes())]);
        if i % 500 == 499 {
            // In the middle of what is on its way, not before it has begun.
            acked.wait_for(i as usize - 400);
            cutter.cut_all();
        }
    }
    producer.flush(PATIENCE).expect("all acknowledged");
    assert_eq!(acked.take().len(), count as usize);
    assert!(cutter.cuts() > 10, "the proxy was in the way");
    let read = consume(&cutter.address(), "once", 4, count as usize);
    for partition in 0..4 {
        let values: Vec<i32> = read.iter().filter(|one| one.partition == partition).map(Sent::number).collect();
        let expect: Vec<i32> = (0..count).filter(|i| i % 4 == partition).collect();
        assert_eq!(values, expect);
    }
    broker.stop();
}

#[test]
fn offsets_are_found_by_time_also_inside_compressed_batches() {
    let dir = directory();
    let (broker, [shared, per_core]) = two_cores(dir.path());
    create(&shared, "times", 2, &[]);
    for codec in ["none", "lz4"] {
        let (producer, _acked) = producer(&shared, &[("compression.type", codec), ("linger.ms", "20")]);
        let begin = if codec == "none" { 0 } else { 1000 };
        let sent: Vec<Sent> = (begin..begin + 1000)
            .map(|i| Sent { timestamp_ms: 1_700_000_000_000 + i * 10, ..Sent::plain(1, i.to_string().into_bytes()) })
            .collect();
        send(&producer, "times", &sent);
        producer.flush(PATIENCE).expect("all acknowledged");
    }
    for bootstrap in [&shared, &per_core] {
        for (after_ms, expect) in [
            (-5, Offset::Offset(0)),
            (0, Offset::Offset(0)),
            (1, Offset::Offset(1)),
            (4_995, Offset::Offset(500)),
            (15_000, Offset::Offset(1500)),
            (15_001, Offset::Offset(1501)),
            (30_000, Offset::End),
        ] {
            let mut asked = TopicPartitionList::new();
            asked.add_partition_offset("times", 1, Offset::Offset(1_700_000_000_000 + after_ms)).expect("a row");
            let found = consumer(bootstrap).offsets_for_times(asked, PATIENCE).expect("an answer");
            assert_eq!(found.elements()[0].offset(), expect, "{after_ms} ms");
        }
    }
    let (low, high) = consumer(&shared).fetch_watermarks("times", 1, PATIENCE).expect("an answer");
    assert_eq!((low, high), (0, 2000));
    broker.stop();
}

#[test]
fn topics_are_made_on_first_use_grown_described_and_deleted() {
    let dir = directory();
    let (broker, [shared, _]) = two_cores(dir.path());
    let (producer, acked) = producer(&shared, &[]);
    send(&producer, "first-use", &[Sent::plain(0, b"hello".to_vec())]);
    producer.flush(PATIENCE).expect("acknowledged");
    assert_eq!(acked.take().len(), 1);
    create(&shared, "made", 1, &[("segment.bytes", "1048576")]);
    let (admin, options) = (admin(&shared), AdminOptions::new());
    let described = block_on(admin.describe_configs(&[ResourceSpecifier::Topic("made")], &options)).expect("a reply");
    let described = described[0].as_ref().expect("described");
    assert_eq!(described.get("segment.bytes").and_then(|entry| entry.value.clone()), Some("1048576".into()));
    let change = AlterConfig::new(ResourceSpecifier::Topic("made")).set("max.message.bytes", "1000");
    let changed = block_on(admin.alter_configs(&[change], &options)).expect("a reply");
    changed[0].as_ref().expect("changed");
    let (other, answers) = kafka::producer(&shared, &[]);
    send(&other, "made", &[Sent::plain(0, vec![b'x'; 2000])]);
    other.flush(PATIENCE).expect("answered");
    assert!(answers.take_errors()[0].contains("MessageSizeTooLarge"));
    // Or it would ask for the topic, and so make it, when it is deleted.
    drop(other);
    let broker_id = ResourceSpecifier::Broker(1);
    let described = block_on(admin.describe_configs(&[ResourceSpecifier::Topic("made"), broker_id], &options));
    let described = described.expect("a reply");
    let topic = described[0].as_ref().expect("described");
    assert_eq!(topic.get("max.message.bytes").and_then(|entry| entry.value.clone()), Some("1000".into()));
    // Of the older request, which replaces everything.
    assert_eq!(topic.get("segment.bytes").and_then(|entry| entry.value.clone()), Some("1073741824".into()));
    assert!(described[1].as_ref().expect("described").get("node.id").is_some_and(|entry| entry.is_read_only));
    let grown = block_on(admin.create_partitions(&[NewPartitions::new("made", 5)], &options)).expect("a reply");
    grown[0].as_ref().expect("grown");
    let metadata = consumer(&shared).fetch_metadata(Some("made"), PATIENCE).expect("metadata");
    assert_eq!(metadata.topics()[0].partitions().len(), 5);
    let again = NewTopic::new("made", 1, TopicReplication::Fixed(1));
    let refused = block_on(admin.create_topics(&[again], &options)).expect("a reply");
    assert!(refused[0].is_err());
    let deleted = block_on(admin.delete_topics(&["made", "first-use"], &options)).expect("a reply");
    assert!(deleted.iter().all(Result::is_ok), "{deleted:?}");
    let metadata = consumer(&shared).fetch_metadata(None, PATIENCE).expect("metadata");
    // A consumer's group has had the topic of offsets made.
    let left: Vec<&str> = metadata.topics().iter().map(|topic| topic.name()).collect();
    assert!(left.iter().all(|name| *name == "__consumer_offsets"), "{left:?}");
    broker.stop();
}

#[test]
fn everything_is_there_after_restarts_with_other_cores() {
    let dir = directory();
    let mut sent = Vec::new();
    for (round, cores) in ["1", "2", "1"].into_iter().enumerate() {
        // Small segments, so that some are sealed.
        let broker = Broker::start(dir.path(), &["--cores", cores, "--log-segment-bytes", "1048576"]);
        let bootstrap = broker.address.to_string();
        if round == 0 {
            // The records say that they are years old.
            create(&bootstrap, "kept", 4, &[("retention.ms", "-1")]);
        }
        let (producer, acked) = producer(&bootstrap, &[("enable.idempotence", "true")]);
        let new: Vec<Sent> =
            (0..4000).map(|i| Sent::plain(i % 4, format!("{round} {i} {}", "x".repeat(1500)).into_bytes())).collect();
        send(&producer, "kept", &new);
        producer.flush(PATIENCE).expect("all acknowledged");
        assert_eq!(acked.take().len(), new.len());
        sent.extend(new);
        let read = consume(&bootstrap, "kept", 4, sent.len());
        for partition in 0..4 {
            let values = |list: &[Sent]| -> Vec<Vec<u8>> {
                list.iter().filter(|one| one.partition == partition).map(|one| one.value.clone().unwrap()).collect()
            };
            assert!(values(&read) == values(&sent), "round {round}, partition {partition}");
        }
        drop(producer);
        broker.stop();
    }
}

#[test]
fn a_waiting_consumer_gets_a_record_as_soon_as_it_is_written() {
    let dir = directory();
    let (broker, bootstraps) = two_cores(dir.path());
    create(&bootstraps[0], "tail", 4, &[]);
    for (round, bootstrap) in (0..).zip(&bootstraps) {
        let (producer, _acked) = producer(bootstrap, &[("linger.ms", "0")]);
        let mut waited = Duration::ZERO;
        for partition in 0..4 {
            // Longer than the test may take, so that only a wake-up can explain the record.
            let consumer = kafka::consumer_with(bootstrap, &[("fetch.wait.max.ms", "60000")]);
            let mut list = TopicPartitionList::new();
            list.add_partition_offset("tail", partition, Offset::Offset(round)).expect("a row");
            consumer.assign(&list).expect("assigned");
            assert!(consumer.poll(Duration::from_millis(200)).is_none());
            let start = std::time::Instant::now();
            send(&producer, "tail", &[Sent::plain(partition, b"now".to_vec())]);
            let message = consumer.poll(PATIENCE).expect("a record").expect("no error");
            assert_eq!(rdkafka::message::Message::partition(&message), partition);
            waited += start.elapsed();
        }
        assert!(waited < PATIENCE / 2);
    }
    broker.stop();
}

#[test]
fn a_producer_is_slowed_to_its_quota_and_told_so() {
    let dir = directory();
    let broker = Broker::start(dir.path(), &["--cores", "1"]);
    let at = broker.address.to_string();
    create(&at, "t", 1, &[]);
    let set = ["quota", "set", "--client-id", "slow", "producer_byte_rate=200000"];
    says(&at, &set, DONE, &["client-id slow  set"]);
    let records = vec![Sent::plain(0, vec![b'v'; 10_000]); 50];
    for (client_id, is_slow) in [("slow", true), ("free", false)] {
        // One record a request, one request at a time: what is under way when the quota is used up is not slowed.
        let one_by_one = [("batch.num.messages", "1"), ("max.in.flight", "1"), ("statistics.interval.ms", "100")];
        let (producer, acked) = producer(&at, &[&one_by_one[..], &[("client.id", client_id)]].concat());
        let start = Instant::now();
        send(&producer, "t", &records);
        acked.wait_for(records.len());
        acked.take();
        // A second's worth is free. The rest takes 1.5 s, but for what follows the last record.
        assert!(!is_slow || start.elapsed() > Duration::from_millis(1_300), "{:?}", start.elapsed());
        while is_slow && acked.throttle_ms() == 0 {
            assert!(start.elapsed() < PATIENCE, "the client is not told");
            std::thread::yield_now();
        }
        assert_eq!(acked.throttle_ms() > 0, is_slow);
    }
}
