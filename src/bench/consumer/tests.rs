//! A consumer against brokers that are a few maps.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::*;
use crate::base::checksum::crc32c;
use crate::base::ids::{LeaderEpoch, Offset, TopicId};
use crate::base::rng::Rng;
use crate::bench::payload::{FillerPool, Payload, Sizes, ValueHead};
use crate::bench::tally::{SentStream, Settled};
use crate::wire::compression::Compression;
use crate::wire::frame::{decode_body, decode_header, encode_reply};
use crate::wire::messages::api_versions::ApiVersion;
use crate::wire::messages::fetch::{FetchPartition, FetchRequest, FetchableTopicResponse};
use crate::wire::messages::list_offsets::{ListOffsetsRequest, ListOffsetsTopicResponse};
use crate::wire::messages::metadata::{MetadataResponsePartition, MetadataResponseTopic};
use crate::wire::reader::Reader;
use crate::wire::records::BatchBuilder;
use crate::wire::text::Text;

const TAG: u64 = 5;
const CONTROL_BIT: i16 = 0x20;

/// A partition's log: batches with the offset after each.
#[derive(Clone, Default)]
struct Log {
    start: i64,
    batches: Vec<(i64, Bytes)>,
}

impl Log {
    fn end(&self) -> i64 {
        self.batches.last().map_or(self.start, |batch| batch.0)
    }

    fn append(&mut self, builder: BatchBuilder) {
        let batch = builder.build().stamp(Offset(self.end()), LeaderEpoch(0), None);
        let next = batch.header.next_offset().0;
        self.batches.push((next, batch.slices().collect::<Vec<_>>().concat().into()));
    }

    /// A batch of records of one stream, with these sequences, to be sent at the millisecond of their sequence.
    fn append_records(&mut self, compression: Compression, stream: u32, sequences: &[u64]) {
        let mut payload = payload();
        let mut builder = BatchBuilder::new(compression);
        for &sequence in sequences {
            let mut value = Vec::new();
            payload.append_value(&mut value, 60, ValueHead { stream, sequence, intended_ns: sequence * 1_000_000 });
            builder.push(7, None, Some(&value));
        }
        self.append(builder);
    }

    fn read(&self, offset: i64, bytes_max: usize) -> Result<Vec<u8>, ErrorCode> {
        if !(self.start..=self.end()).contains(&offset) {
            return Err(ErrorCode::OffsetOutOfRange);
        }
        let wanted: Vec<_> =
            self.batches.iter().filter(|batch| batch.0 > offset).map(|batch| batch.1.clone()).collect();
        let first = wanted.first().map_or(0, Bytes::len);
        let mut bytes = wanted.concat();
        bytes.truncate(bytes_max.max(first));
        Ok(bytes)
    }
}

fn payload() -> Payload {
    let pool = FillerPool::new(2.0, 60, 1).expect("a good ratio");
    Payload::new(RunTag::new(TAG), Sizes::Fixed(60), pool, 1).expect("a good size")
}

/// Brokers that share a disk: whoever leads a partition has its log. Partitions are known by their indexes.
struct Cluster {
    fetch: i16,
    list_offsets: i16,
    topics: Topics,
    ids: Vec<TopicId>,
    logs: BTreeMap<u32, Log>,
    leaders: BTreeMap<u32, i32>,
    epoch: i32,
    /// Per broker: the session's epoch and offsets.
    sessions: BTreeMap<i32, (i32, BTreeMap<u32, i64>)>,
    /// Per partition: what the next request about it is answered with.
    errors: BTreeMap<u32, i16>,
    /// Rows of all fetch requests.
    asked: usize,
}

impl Cluster {
    /// Of so many partitions, in two topics where they come out even.
    fn new(fetch: i16, list_offsets: i16, partitions: u32) -> Cluster {
        let topics = match partitions % 2 {
            0 => Topics::new(["t", "u"], partitions / 2),
            _ => Topics::new(["t"], partitions),
        };
        let id = |number: u8| if fetch > 12 { TopicId([3 + number; 16]) } else { TopicId::ZERO };
        Cluster {
            fetch,
            list_offsets,
            ids: (0..2).map(id).collect(),
            topics,
            logs: (0..partitions).map(|index| (index, Log::default())).collect(),
            leaders: (0..partitions).map(|index| (index, (index / 2 % 2) as i32)).collect(),
            epoch: 0,
            sessions: BTreeMap::new(),
            errors: BTreeMap::new(),
            asked: 0,
        }
    }

    fn versions(&self) -> ApiVersionsResponse {
        let row = |api: Api, max_version: i16| ApiVersion { api_key: api.key, min_version: 0, max_version };
        let api_keys = vec![row(fetch::API, self.fetch), row(list_offsets::API, self.list_offsets)];
        ApiVersionsResponse { api_keys, ..Default::default() }
    }

    fn metadata(&self) -> MetadataResponse {
        let topics = self.topics.grouped(self.leaders.iter().map(|(&index, &leader_id)| (index, leader_id)));
        let topics = topics.into_iter().map(|(number, rows)| MetadataResponseTopic {
            name: Some(self.topics.names()[number].clone()),
            topic_id: self.ids[number],
            partitions: (rows.into_iter())
                .map(|(partition_index, leader_id)| MetadataResponsePartition {
                    partition_index,
                    leader_id,
                    leader_epoch: self.epoch,
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        });
        MetadataResponse { topics: topics.collect(), ..Default::default() }
    }

    /// The index of a topic's partition, as a request names both.
    fn index(&self, name: &Text, id: TopicId, partition: i32) -> u32 {
        let number = match self.fetch > 12 && id != TopicId::ZERO {
            true => self.ids.iter().position(|other| *other == id),
            false => self.topics.number(name),
        };
        self.topics.index(number.expect("a topic of ours"), partition).expect("a partition of ours")
    }

    fn answer(&mut self, broker: i32, frame: Vec<Bytes>) -> Bytes {
        let mut reader = Reader::new(Bytes::from(frame.concat()).slice(4..));
        let header = decode_header(&mut reader).expect("a header");
        let slices = if header.api_key == fetch::API.key {
            assert_eq!(header.version, self.fetch);
            let request: FetchRequest = decode_body(&mut reader, header.version).expect("a fetch");
            let reply = self.fetch(broker, &request);
            encode_reply(header.api_key, header.version, header.correlation_id, &reply)
        } else {
            assert_eq!(header.version, self.list_offsets);
            let request: ListOffsetsRequest = decode_body(&mut reader, header.version).expect("a question");
            let reply = self.list_offsets(broker, &request);
            encode_reply(header.api_key, header.version, header.correlation_id, &reply)
        };
        Bytes::from(slices.concat()).slice(4..)
    }

    fn check_leader(&mut self, broker: i32, index: u32) -> i16 {
        if let Some(error) = self.errors.remove(&index) {
            return error;
        }
        if self.leaders[&index] == broker { 0 } else { ErrorCode::NotLeaderOrFollower as i16 }
    }

    fn list_offsets(&mut self, broker: i32, request: &ListOffsetsRequest) -> ListOffsetsResponse {
        let mut topics = Vec::new();
        for topic in &request.topics {
            let mut partitions = Vec::new();
            for row in &topic.partitions {
                let index = self.index(&topic.name, TopicId::ZERO, row.partition_index);
                let log = self.logs[&index].clone();
                partitions.push(ListOffsetsPartitionResponse {
                    partition_index: row.partition_index,
                    error_code: self.check_leader(broker, index),
                    offset: if row.timestamp == -2 { log.start } else { log.end() },
                    ..Default::default()
                });
            }
            topics.push(ListOffsetsTopicResponse { name: topic.name.clone(), partitions });
        }
        ListOffsetsResponse { topics, ..Default::default() }
    }

    fn fetch(&mut self, broker: i32, request: &FetchRequest) -> FetchResponse {
        let mut session_id = 0;
        let mut rows = BTreeMap::new();
        for topic in &request.topics {
            let index = |row: &FetchPartition| self.index(&topic.topic, topic.topic_id, row.partition);
            rows.extend(topic.partitions.iter().map(|row| (index(row), row.fetch_offset)));
        }
        self.asked += rows.len();
        let mut forgotten = Vec::new();
        for topic in &request.forgotten_topics_data {
            let index = |partition: &i32| self.index(&topic.topic, topic.topic_id, *partition);
            forgotten.extend(topic.partitions.iter().map(index));
        }
        let wanted = match request.session_epoch {
            -1 => rows,
            0 => {
                session_id = broker + 100;
                self.sessions.insert(broker, (1, rows.clone()));
                rows
            }
            epoch => {
                session_id = broker + 100;
                let session = self.sessions.get_mut(&broker).filter(|_| request.session_id == session_id);
                let Some(session) = session else {
                    return FetchResponse {
                        error_code: ErrorCode::FetchSessionIdNotFound as i16,
                        ..Default::default()
                    };
                };
                assert_eq!(session.0, epoch, "epochs follow each other");
                session.0 += 1;
                session.1.extend(rows);
                for gone in forgotten {
                    assert!(session.1.remove(&gone).is_some(), "only what was there is forgotten");
                }
                session.1.clone()
            }
        };
        let mut replies = Vec::new();
        for (index, offset) in wanted {
            let bytes_max =
                request.topics.iter().flat_map(|topic| &topic.partitions).map(|row| row.partition_max_bytes);
            let bytes_max = bytes_max.max().unwrap_or(1 << 20) as usize;
            let (error_code, bytes) = match self.check_leader(broker, index) {
                0 => match self.logs[&index].read(offset, bytes_max) {
                    Ok(bytes) => (0, bytes),
                    Err(code) => (code as i16, Vec::new()),
                },
                error => (error, Vec::new()),
            };
            let row = PartitionData {
                error_code,
                high_watermark: self.logs[&index].end(),
                records: Some(Bytes::from(bytes).into()),
                ..Default::default()
            };
            replies.push((index, row));
        }
        let topics = self.topics.grouped(replies).into_iter().map(|(number, rows)| FetchableTopicResponse {
            topic: self.topics.names()[number].clone(),
            topic_id: self.ids[number],
            partitions: (rows.into_iter())
                .map(|(partition_index, row)| PartitionData { partition_index, ..row })
                .collect(),
        });
        FetchResponse { session_id, responses: topics.collect(), ..Default::default() }
    }
}

struct Run {
    cluster: Cluster,
    consumer: Consumer,
    received: Received,
    now_ns: u64,
}

impl Run {
    fn new(cluster: Cluster, change: impl FnOnce(&mut ConsumerSettings)) -> Run {
        let mut settings = ConsumerSettings::new(RunTag::new(TAG), StartAt::Earliest);
        change(&mut settings);
        let partitions: Vec<_> = cluster.logs.keys().copied().collect();
        let consumer = Consumer::new(settings, &cluster.topics, &partitions);
        Run { cluster, consumer, received: Received::default(), now_ns: 3_000_000_000 }
    }

    /// Everything that can happen now, and a while passes.
    fn turn(&mut self) {
        if self.consumer.poll_metadata(self.now_ns) {
            let metadata = self.cluster.metadata();
            self.consumer.on_metadata(&metadata, self.now_ns);
            for broker in self.consumer.brokers().collect::<Vec<_>>() {
                let at = self.consumer.link_of(broker).expect("it was named");
                if self.consumer.links[at].versions.is_none() {
                    self.consumer.on_connected(broker, &self.cluster.versions()).expect("versions in common");
                }
            }
        }
        for broker in [0, 1] {
            if let Some(frame) = self.consumer.poll_request(broker, self.now_ns) {
                assert!(self.consumer.poll_request(broker, self.now_ns).is_none(), "one is in flight at most");
                let reply = self.cluster.answer(broker, frame);
                let now_ns = self.now_ns;
                let taken = self.consumer.on_reply(broker, reply, &mut self.received, &mut || now_ns);
                taken.expect("a good reply");
            }
        }
        self.now_ns += 10_000_000;
        self.check();
    }

    fn check(&self) {
        for (at, link) in self.consumer.links.iter().enumerate() {
            let here = || self.consumer.partitions.iter().filter(|partition| partition.link == Some(at));
            assert_eq!(link.partitions, here().count());
            assert_eq!(link.fetched, here().filter(|partition| partition.is_fetched).count());
        }
        let done = self.consumer.partitions.iter().filter(|partition| partition.is_done()).count();
        assert_eq!(self.consumer.done, done);
        assert_eq!(self.consumer.owned, self.consumer.owned_partitions().count());
    }

    fn until(&mut self, what: impl Fn(&Run) -> bool) {
        for _ in 0..500 {
            if what(self) {
                return;
            }
            self.turn();
        }
        panic!("nothing more happens; complaints: {:?}", self.consumer.complaints);
    }

    fn records(&self) -> u64 {
        self.received.records
    }

    /// With one producer of `sent` records in each partition.
    fn verdict(&self, sent: u64) -> Verdict {
        let sent = SentStream { next: sent, ..Default::default() };
        self.consumer.settle(1, |_| Some(&sent))
    }
}

#[test]
fn every_version_and_compression_is_read() {
    for (fetch, list_offsets) in [(4, 1), (6, 3), (7, 5), (11, 5), (12, 6), (13, 7), (18, 11)] {
        for compression in Compression::ALL {
            for sessions in [true, false] {
                let mut cluster = Cluster::new(fetch, list_offsets, 5);
                for (&index, log) in &mut cluster.logs {
                    log.append_records(compression, index, &[0, 1, 2]);
                    log.append_records(compression, index, &[3]);
                }
                let mut run = Run::new(cluster, |settings| {
                    settings.sessions = sessions;
                    settings.until = Until::EndOfLog;
                });
                run.until(|run| run.consumer.is_drained());
                let name = format!("Fetch {fetch}, {}", compression.name());
                assert_eq!((run.records(), run.received.value_bytes), (20, 20 * 60), "{name}");
                assert_eq!(run.verdict(4).sum, Settled::default(), "{name}");
                assert_eq!(run.verdict(5).sum.lost, 5, "{name}");
                assert_eq!(run.received.arrivals.len(), 20, "{name}");
                assert!(run.received.arrivals.iter().all(|arrival| arrival.at_ns >= 3_000_000_000), "{name}");
                assert_eq!((run.consumer.complaints.len(), run.consumer.lag_records()), (0, 0), "{name}");
            }
        }
    }
}

#[test]
fn replies_that_are_cut_off_lose_nothing() {
    for max_bytes in [1, 200, 300, 1000, 5000] {
        let mut cluster = Cluster::new(12, 6, 2);
        for (&index, log) in &mut cluster.logs {
            (0..20).for_each(|n| log.append_records(Compression::None, index, &[2 * n, 2 * n + 1]));
        }
        let mut run = Run::new(cluster, |settings| {
            settings.max_partition_fetch_bytes = max_bytes;
            settings.until = Until::EndOfLog;
        });
        run.until(|run| run.consumer.is_drained());
        assert_eq!((run.records(), run.received.duplicates, run.verdict(40).sum), (80, 0, Settled::default()));
    }
}

#[test]
fn a_live_consumer_sees_what_comes_after_it_and_drains() {
    let mut cluster = Cluster::new(18, 11, 3);
    cluster.logs.get_mut(&1).expect("it is there").append_records(Compression::None, 1, &[0, 1]);
    let mut run = Run::new(cluster, |settings| settings.start = StartAt::Latest);
    run.until(|run| run.consumer.is_placed());
    for sequence in 2..30 {
        let log = run.cluster.logs.get_mut(&1).expect("it is there");
        log.append_records(Compression::None, 1, &[sequence]);
        run.turn();
    }
    run.turn();
    assert_eq!(run.records(), 28);
    // In a session idle partitions are not named again.
    assert!(run.cluster.asked < 28 + 3 + 10, "{} rows", run.cluster.asked);
    run.consumer.drain();
    assert!(!run.consumer.is_drained());
    run.until(|run| run.consumer.is_drained());
    assert_eq!(run.verdict(30).sum, Settled { lost: 62, first_lost: Some(0), ..Default::default() });
    let lost = |index: u32| {
        let fate = run.verdict(30).partitions[&index];
        (fate.received, fate.lost, fate.first_lost)
    };
    assert_eq!((lost(0), lost(1)), ((0, 30, Some((0, Some(0)))), (28, 2, Some((0, Some(0))))));
}

#[test]
fn leaders_come_and_go() {
    for (fetch, code) in [(12, 6), (18, 6), (18, 3), (18, 74), (18, 5), (7, 56)] {
        let mut run = Run::new(Cluster::new(fetch, fetch.min(11), 6), |_| {});
        let mut rng = Rng::new(9);
        let mut sent = [0; 6];
        for step in 0..200 {
            let index = rng.below(6) as u32;
            let log = run.cluster.logs.get_mut(&index).expect("it is there");
            log.append_records(Compression::None, index, &[sent[index as usize]]);
            sent[index as usize] += 1;
            match rng.below(6) {
                0 => {
                    run.cluster.epoch += 1;
                    let leader = run.cluster.leaders.get_mut(&(rng.below(6) as u32)).expect("it is there");
                    *leader = 1 - *leader;
                }
                1 => {
                    run.cluster.errors.insert(index, code);
                }
                2 => {
                    run.cluster.sessions.remove(&(rng.below(2) as i32));
                }
                3 if step % 3 == 0 => {
                    let broker = rng.below(2) as i32;
                    run.consumer.on_closed(broker, run.now_ns);
                    if run.consumer.link_of(broker).is_some() {
                        run.consumer.on_connected(broker, &run.cluster.versions()).expect("versions in common");
                    }
                }
                _ => {}
            }
            run.turn();
        }
        run.consumer.drain();
        run.until(|run| run.consumer.is_drained());
        assert_eq!((run.records(), run.received.duplicates, run.received.reordered), (200, 0, 0), "{fetch}, {code}");
        let streams: Vec<_> = sent.iter().map(|&next| SentStream { next, ..Default::default() }).collect();
        let verdict = run.consumer.settle(1, |stream| streams.get(stream as usize));
        assert_eq!((verdict.sum, verdict.partitions.len()), (Settled::default(), 6));
        let received = |index: u32| verdict.partitions[&index].received;
        assert!((0..6).all(|index| received(index) == sent[index as usize]), "each under its own topic: {verdict:?}");
        assert!(!run.consumer.complaints.is_empty());
    }
}

#[test]
fn logs_that_are_deleted_from_either_end() {
    let filled = || {
        let mut cluster = Cluster::new(13, 7, 1);
        let log = cluster.logs.get_mut(&0).expect("it is there");
        (0..10).for_each(|sequence| log.append_records(Compression::None, 0, &[sequence]));
        cluster
    };
    // The start: what was deleted is not lost.
    let mut run = Run::new(filled(), |_| {});
    run.until(|run| run.records() == 10);
    let log = run.cluster.logs.get_mut(&0).expect("it is there");
    (10..20).for_each(|sequence| log.append_records(Compression::None, 0, &[sequence]));
    log.batches.drain(..15);
    log.start = 15;
    run.until(|run| run.records() == 15);
    let found = run.verdict(20);
    assert_eq!((found.deleted, found.sum.lost, found.partitions[&0].first_lost), (5, 0, None));

    // The end: it is.
    let mut run = Run::new(filled(), |_| {});
    run.until(|run| run.records() == 10);
    let log = run.cluster.logs.get_mut(&0).expect("it is there");
    log.batches.truncate(5);
    run.until(|run| run.consumer.complaints.keys().any(|text| text.contains("ends before")));
    let log = run.cluster.logs.get_mut(&0).expect("it is there");
    log.append_records(Compression::None, 0, &[11]);
    run.until(|run| run.records() == 11);
    assert_eq!((run.verdict(12).sum.lost, run.verdict(12).sum.first_lost), (1, Some(10)));
}

#[test]
fn repeated_reordered_foreign_and_control_records_are_told_apart() {
    let mut cluster = Cluster::new(18, 11, 1);
    let log = cluster.logs.get_mut(&0).expect("it is there");
    log.append_records(Compression::Lz4, 0, &[0, 1]);
    log.append_records(Compression::Lz4, 0, &[3, 4]);
    log.append_records(Compression::Lz4, 0, &[2]);
    log.append_records(Compression::Lz4, 0, &[0, 1]);
    for value in [None, Some(&b"somebody else's"[..])] {
        let mut foreign = BatchBuilder::new(Compression::Zstd);
        foreign.push(1, Some(b"key"), value);
        log.append(foreign);
    }
    let mut control = BatchBuilder::new(Compression::None).attributes(CONTROL_BIT);
    control.push(1, Some(&[0, 0, 0, 1]), Some(&[0; 6]));
    log.append(control);
    let mut run = Run::new(cluster, |settings| settings.until = Until::EndOfLog);
    run.until(|run| run.consumer.is_drained());
    let received = &run.received;
    assert_eq!((received.records, received.duplicates, received.reordered), (7, 2, 1));
    assert_eq!((received.foreign, received.foreign_bytes, received.arrivals.len()), (2, 15, 5));
    let verdict = run.verdict(5);
    let fate = Fate { received: 7, duplicates: 2, reordered: 1, ..Default::default() };
    assert_eq!((verdict.sum, verdict.partitions[&0]), (Settled::default(), fate));
}

#[test]
fn a_damaged_batch_stops_its_partition_and_no_other() {
    let check = |damage: &dyn Fn(&mut Vec<u8>), expect: &str| {
        let mut cluster = Cluster::new(12, 6, 2);
        for (&index, log) in &mut cluster.logs {
            (0..3).for_each(|sequence| log.append_records(Compression::Gzip, index, &[sequence]));
        }
        let log = cluster.logs.get_mut(&0).expect("it is there");
        let mut bytes = log.batches[1].1.to_vec();
        damage(&mut bytes);
        log.batches[1].1 = bytes.into();
        let mut run = Run::new(cluster, |_| {});
        (0..100).for_each(|_| run.turn());
        assert_eq!(run.records(), 4, "{expect}");
        let told = run.consumer.complaints.keys().any(|text| text.starts_with("t-0: ") && text.contains(expect));
        assert!(told, "{expect}: {:?}", run.consumer.complaints);
        assert!(run.received.faults < 20, "it waits between the tries");
    };
    check(&|bytes| bytes[70] ^= 1, "whose checksum is wrong");
    check(&|bytes| bytes[16] = 1, "records in format 1");
    check(&|bytes| bytes[8..12].copy_from_slice(&(-1i32).to_be_bytes()), "that says it is -1 bytes long");
    check(&|bytes| bytes[8..12].copy_from_slice(&(1i32 << 30).to_be_bytes()), "of a first batch of 1073741836");
    let unreadable = |bytes: &mut Vec<u8>| {
        bytes[22] = 7;
        let crc = crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    };
    check(&unreadable, "that cannot be read");
}

#[test]
fn nonsense_ends_the_connection_and_nothing_else() {
    let mut rng = Rng::new(4);
    for round in 0..500 {
        let mut cluster = Cluster::new([4, 12, 18][round % 3], 6, 2);
        for (&index, log) in &mut cluster.logs {
            log.append_records(Compression::ALL[round % 5], index, &[0, 1, 2]);
        }
        let mut run = Run::new(cluster, |settings| settings.check_crcs = round % 2 == 0);
        run.consumer.on_metadata(&run.cluster.metadata(), 0);
        run.consumer.on_connected(0, &run.cluster.versions()).expect("versions in common");
        for _ in 0..rng.below(4) {
            let Some(frame) = run.consumer.poll_request(0, run.now_ns) else { break };
            let mut reply = run.cluster.answer(0, frame).to_vec();
            match rng.below(4) {
                0 => reply.truncate(rng.below(reply.len() as u64 + 1) as usize),
                1 => reply.push(0),
                2 => {
                    let at = rng.below(reply.len() as u64) as usize;
                    reply[at] = rng.next_u64() as u8;
                }
                _ => {}
            }
            if run.consumer.on_reply(0, reply.into(), &mut run.received, &mut || 0).is_err() {
                run.consumer.on_closed(0, run.now_ns);
            }
            run.now_ns += 200_000_000;
            run.check();
        }
    }
    let mut run = Run::new(Cluster::new(12, 6, 1), |_| {});
    run.consumer.on_metadata(&run.cluster.metadata(), 0);
    let error = run.consumer.on_reply(0, Bytes::from_static(&[0; 8]), &mut run.received, &mut || 0);
    assert_eq!(error.expect_err("nothing was asked").to_string(), "broker 0: a reply to nothing");
    let old = Cluster::new(3, 6, 1).versions();
    let error = run.consumer.on_connected(0, &old).expect_err("nothing in common");
    assert_eq!(error.to_string(), "broker 0 has no version of Fetch from 4 to 18");
}

#[test]
fn a_topic_that_is_not_there_is_asked_for_again_after_a_while() {
    let mut run = Run::new(Cluster::new(12, 6, 1), |_| {});
    assert!(run.consumer.poll_metadata(0));
    run.consumer.on_metadata(&MetadataResponse::default(), 0);
    assert!(!run.consumer.poll_metadata(BACKOFF_NS - 1));
    assert_eq!(run.consumer.next_wake_ns(), Some(BACKOFF_NS));
    assert!(run.consumer.poll_metadata(BACKOFF_NS));
    run.consumer.on_metadata_failed(BACKOFF_NS);
    assert_eq!(run.consumer.next_wake_ns(), Some(2 * BACKOFF_NS));
    assert_eq!(run.consumer.complaints.values().sum::<u64>(), 1);
}

#[test]
fn partitions_go_from_one_consumer_to_another_and_back() {
    for (fetch, seed) in [(4, 1), (11, 2), (18, 3), (18, 4), (18, 5)] {
        let mut rng = Rng::new(seed);
        let mut runs = [0, 1].map(|_| {
            let mut run = Run::new(Cluster::new(fetch, fetch.min(11), 4), |_| {});
            run.consumer.revoke(0..4);
            run
        });
        let mut owners = [None; 4];
        let (mut sent, mut redelivered) = ([0u64; 4], 0);
        for step in 0..300u64 {
            let index = rng.below(4) as u32;
            for run in &mut runs {
                let log = run.cluster.logs.get_mut(&index).expect("it is there");
                log.append_records(Compression::None, index, &[sent[index as usize]]);
            }
            sent[index as usize] += 1;
            if rng.below(4) == 0 {
                let to = rng.below(2) as usize;
                let position = owners[index as usize].map_or(0, |from: usize| {
                    let at = runs[from].consumer.positions().find(|row| row.0 == index).expect("it has it").1;
                    runs[from].consumer.revoke([index]);
                    at
                });
                // Now and then what was committed is older.
                let back = if step % 5 == 0 { rng.below(3).min(position as u64) } else { 0 };
                redelivered += back;
                let now_ns = runs[to].now_ns;
                runs[to].consumer.assign(&[(index, position - back as i64)], now_ns);
                owners[index as usize] = Some(to);
            }
            runs.iter_mut().for_each(Run::turn);
        }
        for (index, owner) in owners.iter().enumerate() {
            assert!(owner.is_some(), "{index} has an owner by now");
        }
        for run in &mut runs {
            run.consumer.drain();
            run.until(|run| run.consumer.is_drained());
        }
        let streams: Vec<_> = sent.iter().map(|&next| SentStream { next, ..Default::default() }).collect();
        let verdict = settle_group(&runs.each_ref().map(|run| &run.consumer), 1, |stream| streams.get(stream as usize));
        assert_eq!(verdict.sum, Settled::default(), "{fetch}, {seed}");
        assert!(verdict.redelivered <= redelivered, "{fetch}, {seed}: {verdict:?} of {redelivered}");
    }
}
