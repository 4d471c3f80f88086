//! Requests that are well formed, name topics that are there, and ask for nonsense: each has one reply with a code of
//! Kafka's, and what was acknowledged stays as it is.
#![cfg(feature = "shell")]

mod binary;
mod raw;

use std::collections::BTreeMap;
use std::path::Path;

use binary::{Broker, directory};
use bytes::Bytes;
use corelog::base::checksum::crc32c;
use corelog::base::ids::{LeaderEpoch, Offset, TopicId};
use corelog::base::rng::Rng;
use corelog::wire::batch::check_stored;
use corelog::wire::codec::{Message, Records};
use corelog::wire::compression::Compression;
use corelog::wire::errors::ErrorCode;
use corelog::wire::frame;
use corelog::wire::messages::*;
use corelog::wire::records::BatchBuilder;
use corelog::wire::text::Text;
use raw::{Client, Witness, batch};

/// Whatever may be done to it, it is still served.
const PREY: &str = "prey";
const PARTITIONS: i32 = 3;

/// A time that no record is refused for.
const TIME_MS: i64 = 1_700_000_000_000;

/// Names that are there, that could be, and that must not be.
const NAMES: [&str; 14] = [
    PREY,
    PREY,
    PREY,
    "witness",
    "other",
    "prey.1",
    "prey_1",
    "",
    ".",
    "..",
    "../../etc/passwd",
    "a/b",
    "a name with spaces",
    "naïve\0",
];

/// Of things with settings.
const RESOURCE_TYPES: [i8; 9] = [2, 2, 4, 4, 0, 8, 16, 32, -1];

struct Attacker<'a> {
    broker: &'a Broker,
    client: Client,
    rng: Rng,
    /// Of the topics, as Metadata gives them.
    ids: Vec<TopicId>,
    /// The last fetch session that was given.
    session: i32,
    /// Replies by API and error code.
    seen: BTreeMap<(&'static str, i16), usize>,
}

impl Attacker<'_> {
    fn new(broker: &Broker, seed: u64) -> Attacker<'_> {
        let client = Client::connect(broker);
        let rng = Rng::new(seed);
        let mut attacker = Attacker { broker, client, rng, ids: Vec::new(), session: 0, seen: BTreeMap::new() };
        attacker.refresh();
        attacker
    }

    fn refresh(&mut self) {
        let request = metadata::MetadataRequest { topics: None, ..Default::default() };
        let reply: metadata::MetadataResponse = self.client.call(12, &request);
        self.ids = reply.topics.iter().map(|topic| topic.topic_id).collect();
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.rng.below(from.len() as u64) as usize]
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.rng.below(count) == 0
    }

    /// Numbers at the edges, and some between.
    fn number(&mut self) -> i64 {
        let random = self.rng.next_u64() as i64;
        let small = self.rng.below(12) as i64;
        let edges = [0, 1, -1, -2, -3, -6, small, small, small, random, 1 << 31, i64::MIN, i64::MAX];
        self.pick(&edges)
    }

    fn small(&mut self) -> i32 {
        let small = self.rng.below(8) as i32;
        self.pick(&[small, small, small, -1, -2, i32::MAX, i32::MIN, 1 << 20])
    }

    fn partition(&mut self) -> i32 {
        let one = self.rng.below(PARTITIONS as u64) as i32;
        self.pick(&[one, one, one, one, PARTITIONS, -1, i32::MAX, i32::MIN])
    }

    fn epoch(&mut self) -> i32 {
        self.pick(&[-1, -1, -1, 0, 1, -2, i32::MAX, i32::MIN])
    }

    fn name(&mut self) -> Text {
        self.pick(&NAMES).into()
    }

    fn id(&mut self) -> TopicId {
        let random = TopicId::random(&mut self.rng);
        let index = self.rng.below(self.ids.len() as u64) as usize;
        let known = self.ids[index];
        self.pick(&[known, known, known, random, TopicId::default()])
    }

    /// Up to three things.
    fn some<T>(&mut self, mut make: impl FnMut(&mut Self) -> T) -> Vec<T> {
        let count = self.pick(&[0, 1, 1, 1, 2, 3]);
        (0..count).map(|_| make(self)).collect()
    }

    /// Sends a request in any version, and takes the one reply to it.
    fn ask<Q: Message, R: Message>(&mut self, request: &Q) -> (i16, R) {
        let api = Q::API;
        let span = i64::from(api.versions.last - api.versions.first) + 1;
        let version = api.versions.first + self.rng.below(span as u64) as i16;
        let sent = self.client.send(version, request);
        let reply = self.client.receive_frame();
        let reply = reply.unwrap_or_else(|| panic!("the connection ends on {} {version}", api.name));
        let (id, reply) = frame::decode_reply(api.key, version, reply).expect("a reply of that version");
        assert_eq!(id, sent);
        (version, reply)
    }

    fn note(&mut self, api: &'static str, code: i16) {
        assert!(ErrorCode::from_code(code).is_some(), "{api} answers {code}");
        assert_ne!(code, ErrorCode::UnknownServerError.code(), "{api}");
        *self.seen.entry((api, code)).or_default() += 1;
    }
}

/// A batch that is not what it says, with a checksum that is right.
fn crafted(attacker: &mut Attacker<'_>) -> Bytes {
    let (producer, epoch) = (attacker.small(), attacker.small() as i16);
    let sequence = if attacker.one_in(2) { 0 } else { attacker.small() };
    let attributes = attacker.pick(&[0, 0, 0, 0x08, 0x10, 0x20, 0x30, 0x40, 0x4000]);
    let mut builder = BatchBuilder::new(attacker.pick(&Compression::ALL)).attributes(attributes);
    if attacker.one_in(2) {
        builder = builder.producer(producer.into(), epoch, sequence);
    }
    for _ in 0..=attacker.rng.below(5) {
        let timestamp = attacker.pick(&[TIME_MS, TIME_MS, TIME_MS, TIME_MS - 5, 0, -1, -2, 1 << 60, -(1 << 60)]);
        let value = vec![b'x'; attacker.rng.below(2000) as usize];
        builder.push(timestamp, None, Some(&value));
    }
    let mut bytes = builder.build().bytes.to_vec();
    match attacker.rng.below(5) {
        0 | 1 => {}
        // Fields of the header, all behind the checksum: attributes, last offset delta, both timestamps, producer id
        // and epoch, sequence, count.
        2 | 3 => {
            for _ in 0..=attacker.rng.below(2) {
                let (at, width) =
                    attacker.pick(&[(21, 2), (23, 4), (27, 8), (35, 8), (43, 8), (51, 2), (53, 4), (57, 4)]);
                let number = attacker.number().to_be_bytes();
                bytes[at..at + width].copy_from_slice(&number[8 - width..]);
            }
        }
        _ => {
            for _ in 0..=attacker.rng.below(3) {
                let at = 61 + attacker.rng.below(bytes.len() as u64 - 61) as usize;
                bytes[at] = attacker.rng.next_u64() as u8;
            }
        }
    }
    let checksum = crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&checksum.to_be_bytes());
    bytes.into()
}

fn produce(attacker: &mut Attacker<'_>) {
    let topic_data = attacker.some(|attacker| {
        // Not the topic of the witness, who would find records there that are not its own.
        let topic_id = attacker.ids[0];
        let partition_data = attacker.some(|attacker| produce::PartitionProduceData {
            index: attacker.partition(),
            records: if attacker.one_in(20) { None } else { Some(crafted(attacker)) },
        });
        produce::TopicProduceData { name: PREY.into(), topic_id, partition_data }
    });
    let request = produce::ProduceRequest {
        transactional_id: if attacker.one_in(10) { Some("t".into()) } else { None },
        acks: attacker.pick(&[-1, -1, -1, -1, -1, -1, 1, 1, 1, 2, -2, i16::MAX]),
        timeout_ms: attacker.small(),
        topic_data,
    };
    let (_, reply): (_, produce::ProduceResponse) = attacker.ask(&request);
    for row in reply.responses.iter().flat_map(|topic| &topic.partition_responses) {
        attacker.note("Produce", row.error_code);
        assert_eq!(row.base_offset >= 0, row.error_code == 0, "{row:?}");
    }
}

fn fetch(attacker: &mut Attacker<'_>) {
    let topics = attacker.some(|attacker| {
        let (topic, topic_id) = (attacker.name(), attacker.id());
        let partitions = attacker.some(|attacker| fetch::FetchPartition {
            partition: attacker.partition(),
            current_leader_epoch: attacker.epoch(),
            fetch_offset: attacker.number(),
            last_fetched_epoch: attacker.epoch(),
            log_start_offset: attacker.number(),
            partition_max_bytes: attacker.small(),
            ..Default::default()
        });
        fetch::FetchTopic { topic, topic_id, partitions }
    });
    let forgotten_topics_data = attacker.some(|attacker| fetch::ForgottenTopic {
        topic: attacker.name(),
        topic_id: attacker.id(),
        partitions: attacker.some(Attacker::partition),
    });
    let (session, small) = (attacker.session, attacker.small());
    let request = fetch::FetchRequest {
        replica_id: attacker.pick(&[-1, -1, -1, 0, 1, -2]),
        max_wait_ms: attacker.pick(&[0, 0, 1, 5, -1, i32::MIN]),
        min_bytes: attacker.small(),
        max_bytes: attacker.small(),
        isolation_level: attacker.pick(&[0, 1, 2, -1]),
        session_id: attacker.pick(&[0, 0, session, session, small]),
        session_epoch: attacker.pick(&[-1, -1, 0, 0, 1, 1, 2, -2, i32::MAX]),
        topics,
        forgotten_topics_data,
        ..Default::default()
    };
    let (_, reply): (_, fetch::FetchResponse) = attacker.ask(&request);
    attacker.note("Fetch", reply.error_code);
    if reply.session_id != 0 {
        attacker.session = reply.session_id;
    }
    for row in reply.responses.iter().flat_map(|topic| &topic.partitions) {
        attacker.note("Fetch", row.error_code);
        let bytes = row.records.as_ref().map_or(0, Records::len);
        assert!(bytes == 0 || row.error_code == 0, "records with error {}", row.error_code);
    }
}

fn find(attacker: &mut Attacker<'_>) {
    let topics = attacker.some(|attacker| list_offsets::ListOffsetsTopic {
        name: attacker.name(),
        partitions: attacker.some(|attacker| {
            let times = [TIME_MS, TIME_MS + 1, -1, -2, -3, -4, -5, -6, -7];
            let (number, time) = (attacker.number(), attacker.pick(&times));
            list_offsets::ListOffsetsPartition {
                partition_index: attacker.partition(),
                current_leader_epoch: attacker.epoch(),
                timestamp: attacker.pick(&[number, time, time]),
            }
        }),
    });
    let replica_id = attacker.pick(&[-1, -1, -2, 0, 1]);
    let isolation_level = attacker.pick(&[0, 1, 2]);
    let request = list_offsets::ListOffsetsRequest { replica_id, isolation_level, topics, timeout_ms: 100 };
    let (_, reply): (_, list_offsets::ListOffsetsResponse) = attacker.ask(&request);
    for row in reply.topics.iter().flat_map(|topic| &topic.partitions) {
        attacker.note("ListOffsets", row.error_code);
    }

    let topics = attacker.some(|attacker| offset_for_leader_epoch::OffsetForLeaderTopic {
        topic: attacker.name(),
        partitions: attacker.some(|attacker| offset_for_leader_epoch::OffsetForLeaderPartition {
            partition: attacker.partition(),
            current_leader_epoch: attacker.epoch(),
            leader_epoch: attacker.epoch(),
        }),
    });
    let request = offset_for_leader_epoch::OffsetForLeaderEpochRequest { replica_id, topics };
    let (_, reply): (_, offset_for_leader_epoch::OffsetForLeaderEpochResponse) = attacker.ask(&request);
    for row in reply.topics.iter().flat_map(|topic| &topic.partitions) {
        attacker.note("OffsetForLeaderEpoch", row.error_code);
    }
}

fn describe(attacker: &mut Attacker<'_>) {
    let topics = attacker.some(|attacker| metadata::MetadataRequestTopic {
        topic_id: if attacker.one_in(2) { attacker.id() } else { TopicId::default() },
        name: if attacker.one_in(3) { None } else { Some(attacker.name()) },
    });
    let request = metadata::MetadataRequest {
        topics: if attacker.one_in(5) { None } else { Some(topics) },
        allow_auto_topic_creation: attacker.one_in(2),
        ..Default::default()
    };
    let (_, reply): (_, metadata::MetadataResponse) = attacker.ask(&request);
    for topic in &reply.topics {
        attacker.note("Metadata", topic.error_code);
    }

    let cursor = describe_topic_partitions::Cursor { topic_name: attacker.name(), partition_index: attacker.small() };
    let request = describe_topic_partitions::DescribeTopicPartitionsRequest {
        topics: attacker.some(|attacker| describe_topic_partitions::TopicRequest { name: attacker.name() }),
        response_partition_limit: attacker.small(),
        cursor: if attacker.one_in(2) { Some(cursor) } else { None },
    };
    let (_, reply): (_, describe_topic_partitions::DescribeTopicPartitionsResponse) = attacker.ask(&request);
    for topic in &reply.topics {
        attacker.note("DescribeTopicPartitions", topic.error_code);
    }

    let request = describe_configs::DescribeConfigsRequest {
        resources: attacker.some(|attacker| {
            let (topic, other) = (attacker.name(), attacker.pick(&["", "1", "2", "x", "1000", "1001"]));
            let keys = attacker.some(|attacker| attacker.pick(&["segment.bytes", "", "nothing"]).into());
            describe_configs::DescribeConfigsResource {
                resource_type: attacker.pick(&RESOURCE_TYPES),
                resource_name: if attacker.one_in(2) { topic } else { other.into() },
                configuration_keys: if attacker.one_in(2) { None } else { Some(keys) },
            }
        }),
        include_synonyms: attacker.one_in(2),
        include_documentation: attacker.one_in(2),
    };
    let (_, reply): (_, describe_configs::DescribeConfigsResponse) = attacker.ask(&request);
    for row in &reply.results {
        attacker.note("DescribeConfigs", row.error_code);
    }
}

/// Changes settings of what is served, in ways that it must bear, and many that are refused.
fn alter_configs(attacker: &mut Attacker<'_>) {
    use incremental_alter_configs::*;
    let settings = [
        ("durability", "sync"),
        ("durability", "write"),
        ("flush.messages", "1"),
        ("flush.messages", "100000"),
        ("flush.ms", "1"),
        ("segment.bytes", "65536"),
        ("segment.bytes", "262144"),
        ("segment.bytes", "-1"),
        ("log.flush.interval.ms", "5"),
        ("durability", "maybe"),
        ("node.id", "3"),
        ("", ""),
        ("consumer.session.timeout.ms", "50000"),
    ];
    let resources = attacker.some(|attacker| {
        let (topic, other) = (attacker.name(), attacker.pick(&["", "1", "2", "x", "1000", "1001"]));
        AlterConfigsResource {
            resource_type: attacker.pick(&RESOURCE_TYPES),
            resource_name: if attacker.one_in(2) { topic } else { other.into() },
            configs: attacker.some(|attacker| {
                let (name, value) = attacker.pick(&settings);
                AlterableConfig {
                    name: name.into(),
                    config_operation: attacker.pick(&[0, 0, 0, 1, 2, 3, 4, -1]),
                    value: if attacker.one_in(8) { None } else { Some(value.into()) },
                }
            }),
        }
    });
    let request = IncrementalAlterConfigsRequest { resources, validate_only: attacker.one_in(4) };
    let (_, reply): (_, IncrementalAlterConfigsResponse) = attacker.ask(&request);
    for row in &reply.responses {
        attacker.note("IncrementalAlterConfigs", row.error_code);
    }
    let request = list_config_resources::ListConfigResourcesRequest {
        resource_types: attacker.some(|attacker| attacker.pick(&RESOURCE_TYPES)),
    };
    let (_, reply): (_, list_config_resources::ListConfigResourcesResponse) = attacker.ask(&request);
    attacker.note("ListConfigResources", reply.error_code);
}

fn administer(attacker: &mut Attacker<'_>) {
    let settings =
        [("segment.bytes", "0"), ("segment.bytes", "99999999999"), ("retention.ms", "x"), ("", ""), ("a", "b")];
    let topics = attacker.some(|attacker| {
        let assignments = attacker.some(|attacker| create_topics::CreatableReplicaAssignment {
            partition_index: attacker.small(),
            broker_ids: attacker.some(Attacker::small),
        });
        let configs = attacker.some(|attacker| {
            let (name, value) = attacker.pick(&settings);
            let value = if attacker.one_in(4) { None } else { Some(value.into()) };
            create_topics::CreatableTopicConfig { name: name.into(), value }
        });
        create_topics::CreatableTopic {
            name: attacker.name(),
            num_partitions: attacker.small(),
            replication_factor: attacker.pick(&[1, 1, -1, 0, 2, i16::MIN]),
            assignments: if attacker.one_in(3) { assignments } else { Vec::new() },
            configs: if attacker.one_in(3) { configs } else { Vec::new() },
        }
    });
    let (timeout_ms, validate_only) = (attacker.small(), attacker.one_in(4));
    let request = create_topics::CreateTopicsRequest { topics, timeout_ms, validate_only };
    let (_, reply): (_, create_topics::CreateTopicsResponse) = attacker.ask(&request);
    for row in &reply.topics {
        attacker.note("CreateTopics", row.error_code);
    }

    let topics = attacker.some(|attacker| {
        let assignments = attacker.some(|attacker| create_partitions::CreatePartitionsAssignment {
            broker_ids: attacker.some(Attacker::small),
        });
        create_partitions::CreatePartitionsTopic {
            // More partitions are fine, but of a topic of which nobody counts them.
            name: attacker.pick(&["other", "prey.1", "", ".", "missing"]).into(),
            count: attacker.small(),
            assignments: if attacker.one_in(2) { None } else { Some(assignments) },
        }
    });
    let request = create_partitions::CreatePartitionsRequest { topics, timeout_ms, validate_only };
    let (_, reply): (_, create_partitions::CreatePartitionsResponse) = attacker.ask(&request);
    for row in &reply.results {
        attacker.note("CreatePartitions", row.error_code);
    }

    let doomed = ["other", "prey.1", "", "..", "missing"];
    let request = delete_topics::DeleteTopicsRequest {
        topics: attacker.some(|attacker| delete_topics::DeleteTopicState {
            name: if attacker.one_in(4) { None } else { Some(attacker.pick(&doomed).into()) },
            topic_id: if attacker.one_in(4) { TopicId::random(&mut attacker.rng) } else { TopicId::default() },
        }),
        topic_names: attacker.some(|attacker| attacker.pick(&doomed).into()),
        timeout_ms,
    };
    let (_, reply): (_, delete_topics::DeleteTopicsResponse) = attacker.ask(&request);
    for row in &reply.responses {
        attacker.note("DeleteTopics", row.error_code);
    }

    let request = init_producer_id::InitProducerIdRequest {
        transactional_id: if attacker.one_in(3) { Some(attacker.name()) } else { None },
        transaction_timeout_ms: attacker.small(),
        producer_id: attacker.number(),
        producer_epoch: attacker.small() as i16,
    };
    let (_, reply): (_, init_producer_id::InitProducerIdResponse) = attacker.ask(&request);
    attacker.note("InitProducerId", reply.error_code);
}

/// The prey is whole batches without a gap from 0 to its end, and takes more.
fn assert_served(client: &mut Client) {
    for partition in 0..PARTITIONS {
        let (mut next, mut end) = (0, i64::MAX);
        while next < end {
            let (error, high_watermark, mut bytes) = client.fetch(PREY, partition, next);
            assert_eq!(error, 0);
            assert!(
                next == high_watermark || !bytes.is_empty(),
                "{PREY}-{partition} ends at {next}, of {high_watermark}"
            );
            end = high_watermark;
            while !bytes.is_empty() {
                let header = check_stored(&bytes, Offset(next), LeaderEpoch(0)).expect("an undamaged batch");
                let _ = bytes.split_to(header.size_bytes());
                next = header.next_offset().0;
            }
        }
        let row = client.produce(PREY, partition, batch(b"in order"));
        assert_eq!((row.error_code, row.base_offset), (0, end), "{:?}", row.error_message);
    }
}

fn start(dir: &Path) -> Broker {
    // Small segments and few cached bytes, so that all ways to read are gone. The records say that they are years old.
    let arguments = ["--cores=2", "--log-segment-bytes=262144", "--tail-cache-bytes=1048576", "--log-retention-ms=-1"];
    Broker::start_quiet(dir, &arguments)
}

#[test]
fn nonsense_in_good_order_is_answered_with_a_code() {
    const ROUNDS: usize = 2000;
    let dir = directory();
    let broker = start(dir.path());
    // First, so that its id is the first.
    Client::connect(&broker).create_topic(PREY, PARTITIONS);
    let mut attacker = Attacker::new(&broker, 40);
    let mut witness = Witness::new(&broker, "witness", 2);
    witness.check();
    for round in 0..ROUNDS {
        match attacker.rng.below(12) {
            0..4 => produce(&mut attacker),
            4..7 => fetch(&mut attacker),
            7 | 8 => find(&mut attacker),
            9 => describe(&mut attacker),
            10 => alter_configs(&mut attacker),
            _ => administer(&mut attacker),
        }
        if round % 100 == 99 {
            // Waits that nobody is there for any more.
            let mut gone = Client::connect(attacker.broker);
            let wait =
                fetch::FetchRequest { max_wait_ms: i32::MAX, min_bytes: i32::MAX, ..raw::fetch_request(PREY, 0, 0) };
            gone.send(raw::FETCH_VERSION, &wait);
            drop(gone);
            assert_served(&mut attacker.client);
            witness.check();
            attacker.refresh();
        }
    }
    eprintln!("{:#?}", attacker.seen);
    for api in [
        "Produce",
        "Fetch",
        "ListOffsets",
        "OffsetForLeaderEpoch",
        "Metadata",
        "CreateTopics",
        "DeleteTopics",
        "IncrementalAlterConfigs",
    ] {
        let kinds = attacker.seen.keys().filter(|(name, _)| *name == api).count();
        assert!(kinds > 1 && attacker.seen.contains_key(&(api, 0)), "{api} succeeds and fails");
    }
    drop(attacker);
    broker.stop();
    let broker = start(dir.path());
    assert_served(&mut Client::connect(&broker));
    witness.reconnect(&broker);
    witness.check();
    broker.kill();
    let broker = start(dir.path());
    assert_served(&mut Client::connect(&broker));
    witness.reconnect(&broker);
    witness.check();
    broker.stop();
}
