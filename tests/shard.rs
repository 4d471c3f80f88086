//! The broker's decisions, driven through the seam: several shards, a disk in memory, time as a value.

mod support;

use bytes::Bytes;
use corelog::base::ids::TopicId;
use corelog::base::metric::Metric;
use corelog::broker::api::{APIS, key};
use corelog::broker::effect::ListenerKind::{self, PerCore, Shared};
use corelog::config::{Durability, Settings};
use corelog::wire::batch::BatchHeader;
use corelog::wire::compression::Compression;
use corelog::wire::errors::ErrorCode;
use corelog::wire::messages::create_partitions::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopic,
};
use corelog::wire::messages::create_topics::{CreatableTopic, CreateTopicsRequest, CreateTopicsResponse};
use corelog::wire::messages::delete_topics::{DeleteTopicState, DeleteTopicsRequest, DeleteTopicsResponse};
use corelog::wire::messages::describe_cluster::{DescribeClusterRequest, DescribeClusterResponse};
use corelog::wire::messages::fetch::{
    FetchPartition, FetchRequest, FetchResponse, FetchTopic, FetchableTopicResponse, PartitionData,
};
use corelog::wire::messages::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use corelog::wire::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopic,
};
use corelog::wire::messages::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponse};
use corelog::wire::messages::produce::{
    PartitionProduceData, PartitionProduceResponse, ProduceRequest, ProduceResponse, TopicProduceData,
};
use corelog::wire::records::{BatchBuilder, BatchRecords};
use support::{Client, Failing, MemDisk, NOW_MS, World, each_durability};

fn world(cores: u16) -> World {
    World::start(cores, Settings::default(), MemDisk::default())
}

fn batch(values: &[&str]) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    for value in values {
        builder.push(NOW_MS, None, Some(value.as_bytes()));
    }
    builder.build().bytes
}

fn produce_request(topic: &str, partition: i32, records: Bytes) -> ProduceRequest {
    let partition = PartitionProduceData { index: partition, records: Some(records) };
    ProduceRequest {
        acks: -1,
        timeout_ms: 1000,
        topic_data: vec![TopicProduceData {
            name: topic.into(),
            partition_data: vec![partition],
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn produce(world: &mut World, client: Client, topic: &str, partition: i32, values: &[&str]) -> i64 {
    let reply: ProduceResponse = world.call(client, key::PRODUCE, 9, &produce_request(topic, partition, batch(values)));
    let row = &reply.responses[0].partition_responses[0];
    assert_eq!(row.error_code, 0, "{reply:?}");
    row.base_offset
}

fn fetch_request(topic: &str, partitions: &[(i32, i64)], max_wait_ms: i32) -> FetchRequest {
    let partitions = partitions.iter().map(|&(partition, fetch_offset)| FetchPartition {
        partition,
        fetch_offset,
        partition_max_bytes: 1 << 20,
        ..Default::default()
    });
    FetchRequest {
        max_wait_ms,
        min_bytes: 1,
        max_bytes: 50 << 20,
        session_epoch: -1,
        topics: vec![FetchTopic { topic: topic.into(), partitions: partitions.collect(), ..Default::default() }],
        ..Default::default()
    }
}

fn bytes_of(row: &PartitionData) -> Vec<u8> {
    row.records.as_ref().map(|records| records.0.concat()).unwrap_or_default()
}

fn only_row(reply: &FetchResponse) -> &PartitionData {
    let [FetchableTopicResponse { partitions, .. }] = reply.responses.as_slice() else { panic!("{reply:?}") };
    let [row] = partitions.as_slice() else { panic!("{reply:?}") };
    row
}

/// The values of all records fetched, in order.
fn values(bytes: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = Bytes::copy_from_slice(bytes);
    while !rest.is_empty() {
        let batch = rest.split_to(BatchHeader::read(&rest).unwrap().size_bytes());
        for record in BatchRecords::open(&batch).unwrap().iter() {
            found.push(String::from_utf8(record.unwrap().record.value.unwrap().to_vec()).unwrap());
        }
    }
    found
}

#[test]
fn what_is_produced_is_fetched_on_one_core_and_on_several() {
    for cores in [1, 3] {
        let mut world = world(cores);
        let client = world.connect(0, Shared);
        world.create(client, "t", 6);
        for partition in 0..6 {
            assert_eq!(produce(&mut world, client, "t", partition, &["a", "b"]), 0);
            assert_eq!(produce(&mut world, client, "t", partition, &["c"]), 2);
        }
        let all: Vec<(i32, i64)> = (0..6).map(|partition| (partition, 0)).collect();
        let reply: FetchResponse = world.call(client, key::FETCH, 11, &fetch_request("t", &all, 0));
        let order: Vec<i32> = reply.responses[0].partitions.iter().map(|row| row.partition_index).collect();
        assert_eq!(order, [0, 1, 2, 3, 4, 5]);
        for row in &reply.responses[0].partitions {
            assert_eq!((row.error_code, row.high_watermark), (0, 3));
            assert_eq!(values(&bytes_of(row)), ["a", "b", "c"], "{cores} cores, {}", row.partition_index);
        }
    }
}

#[test]
fn everything_acknowledged_is_there_after_a_restart_with_other_cores() {
    each_durability().into_iter().for_each(restart_with_other_cores);
}

fn restart_with_other_cores(settings: Settings) {
    let mut world = World::start(2, settings.clone(), MemDisk::default());
    let client = world.connect(1, Shared);
    let id = world.create(client, "t", 4).topics[0].topic_id;
    for round in 0..10 {
        for partition in 0..4 {
            produce(&mut world, client, "t", partition, &[&format!("{partition}/{round}")]);
        }
    }
    let mut world = world.restart(3, settings);
    let client = world.connect(2, Shared);
    for partition in 0..4 {
        let mut request = fetch_request("", &[(partition, 0)], 0);
        request.topics[0].topic_id = id;
        let reply: FetchResponse = world.call(client, key::FETCH, 13, &request);
        let expect: Vec<String> = (0..10).map(|round| format!("{partition}/{round}")).collect();
        assert_eq!(values(&bytes_of(only_row(&reply))), expect);
        assert_eq!(produce(&mut world, client, "t", partition, &["next"]), 10);
    }
}

#[test]
fn a_clean_stop_closes_everything_and_loses_nothing() {
    let mut world = world(2);
    let client = world.connect(0, Shared);
    world.create(client, "t", 2);
    produce(&mut world, client, "t", 0, &["kept"]);
    world.send(client, key::FETCH, 11, &fetch_request("t", &[(0, 1)], 30_000));
    assert!(world.reply::<FetchResponse>(client, key::FETCH, 11).is_none());
    world.stop();
    assert!(world.reply::<FetchResponse>(client, key::FETCH, 11).is_some(), "the parked fetch is answered");
    assert_eq!(world.stopped.len(), 2);
    let mut world = world.restart(2, Settings::default());
    let client = world.connect(0, Shared);
    let reply: FetchResponse = world.call(client, key::FETCH, 11, &fetch_request("t", &[(0, 0)], 0));
    assert_eq!(values(&bytes_of(only_row(&reply))), ["kept"]);
}

#[test]
fn a_fetch_waits_for_records_and_not_longer_than_it_said() {
    for cores in [1, 2] {
        let mut world = world(cores);
        let (reader, writer) = (world.connect(0, Shared), world.connect(cores - 1, Shared));
        world.create(writer, "t", 2);
        let request = fetch_request("t", &[(0, 0), (1, 0)], 500);
        world.send(reader, key::FETCH, 11, &request);
        assert!(world.reply::<FetchResponse>(reader, key::FETCH, 11).is_none());
        produce(&mut world, writer, "t", 1, &["now"]);
        let reply: FetchResponse = world.reply(reader, key::FETCH, 11).expect("woken by the produce");
        assert_eq!(values(&bytes_of(&reply.responses[0].partitions[1])), ["now"]);

        world.send(reader, key::FETCH, 11, &fetch_request("t", &[(0, 0)], 500));
        world.advance_ms(499);
        assert!(world.reply::<FetchResponse>(reader, key::FETCH, 11).is_none());
        world.advance_ms(1);
        let reply: FetchResponse = world.reply(reader, key::FETCH, 11).expect("its time is up");
        assert_eq!(bytes_of(only_row(&reply)), b"");
    }
}

#[test]
fn min_bytes_holds_a_fetch_until_enough_has_come() {
    let mut world = world(1);
    let client = world.connect(0, Shared);
    let writer = world.connect(0, Shared);
    world.create(client, "t", 1);
    let mut request = fetch_request("t", &[(0, 0)], 10_000);
    request.min_bytes = (batch(&["x"]).len() * 3) as i32;
    world.send(client, key::FETCH, 11, &request);
    for _ in 0..2 {
        produce(&mut world, writer, "t", 0, &["x"]);
        assert!(world.reply::<FetchResponse>(client, key::FETCH, 11).is_none());
    }
    produce(&mut world, writer, "t", 0, &["x"]);
    let reply: FetchResponse = world.reply(client, key::FETCH, 11).expect("enough");
    assert_eq!(values(&bytes_of(only_row(&reply))), ["x", "x", "x"]);
}

#[test]
fn replies_keep_the_order_of_requests_while_the_disk_is_slow() {
    let mut world = world(2);
    let client = world.connect(0, Shared);
    world.create(client, "t", 2);
    world.disk_held = true;
    world.send(client, key::PRODUCE, 9, &produce_request("t", 0, batch(&["a"])));
    world.send(client, key::PRODUCE, 9, &produce_request("t", 1, batch(&["b"])));
    world.send(client, key::METADATA, 9, &MetadataRequest { topics: None, ..Default::default() });
    assert!(world.reply::<ProduceResponse>(client, key::PRODUCE, 9).is_none());
    world.release_disk();
    for _ in 0..2 {
        let reply: ProduceResponse = world.reply(client, key::PRODUCE, 9).unwrap();
        assert_eq!(reply.responses[0].partition_responses[0].error_code, 0);
    }
    assert!(world.reply::<MetadataResponse>(client, key::METADATA, 9).is_some());
}

#[test]
fn metadata_creates_a_topic_on_first_use_and_answers_with_it() {
    let mut world = world(2);
    let client = world.connect(1, Shared);
    let ask = |name: &str, create: bool| MetadataRequest {
        topics: Some(vec![MetadataRequestTopic { name: Some(name.into()), ..Default::default() }]),
        allow_auto_topic_creation: create,
        ..Default::default()
    };
    let reply: MetadataResponse = world.call(client, key::METADATA, 12, &ask("new", false));
    assert_eq!(reply.topics[0].error_code, ErrorCode::UnknownTopicOrPartition.code());
    let reply: MetadataResponse = world.call(client, key::METADATA, 12, &ask("new", true));
    assert_eq!((reply.topics[0].error_code, reply.topics[0].partitions.len()), (0, 1));
    assert_ne!(reply.topics[0].topic_id, TopicId::ZERO);
    assert_eq!(produce(&mut world, client, "new", 0, &["x"]), 0);
    let reply: MetadataResponse = world.call(client, key::METADATA, 12, &ask("not/valid", true));
    assert_eq!(reply.topics[0].error_code, ErrorCode::InvalidTopicException.code());
}

#[test]
fn each_listener_shows_its_own_brokers_and_per_core_ones_refuse_what_they_do_not_own() {
    let mut world = world(2);
    let shared = world.connect(0, Shared);
    let cores = [world.connect(0, PerCore), world.connect(1, PerCore)];
    world.create(shared, "t", 2);
    let ask = MetadataRequest { topics: None, ..Default::default() };
    let reply: MetadataResponse = world.call(shared, key::METADATA, 12, &ask);
    let ids: Vec<i32> = reply.brokers.iter().map(|broker| broker.node_id).collect();
    assert_eq!(ids, [1]);
    let reply: MetadataResponse = world.call(cores[0], key::METADATA, 12, &ask);
    let ids: Vec<i32> = reply.brokers.iter().map(|broker| broker.node_id).collect();
    assert_eq!(ids, [1000, 1001]);
    let leaders: Vec<i32> = reply.topics[0].partitions.iter().map(|partition| partition.leader_id).collect();
    assert_ne!(leaders[0], leaders[1]);
    for (partition, leader) in leaders.iter().enumerate() {
        let (right, wrong) = ((leader - 1000) as usize, (1001 - leader) as usize);
        let request = produce_request("t", partition as i32, batch(&["x"]));
        let row =
            |reply: &ProduceResponse| -> PartitionProduceResponse { reply.responses[0].partition_responses[0].clone() };
        let reply: ProduceResponse = world.call(cores[wrong], key::PRODUCE, 10, &request);
        assert_eq!(row(&reply).error_code, ErrorCode::NotLeaderOrFollower.code());
        assert_eq!(row(&reply).current_leader.leader_id, *leader);
        assert_eq!(reply.node_endpoints[0].port, 9100 + right as i32);
        let reply: ProduceResponse = world.call(cores[right], key::PRODUCE, 10, &request);
        assert_eq!(row(&reply).error_code, 0);
        let fetch = fetch_request("t", &[(partition as i32, 0)], 0);
        let reply: FetchResponse = world.call(cores[wrong], key::FETCH, 12, &fetch);
        assert_eq!(only_row(&reply).error_code, ErrorCode::NotLeaderOrFollower.code());
        let reply: FetchResponse = world.call(cores[right], key::FETCH, 12, &fetch);
        assert_eq!(values(&bytes_of(only_row(&reply))), ["x"]);
    }
    let cluster: DescribeClusterResponse = world.call(
        cores[1],
        key::DESCRIBE_CLUSTER,
        1,
        &DescribeClusterRequest { endpoint_type: 1, ..Default::default() },
    );
    assert_eq!(cluster.brokers.len(), 2);
}

#[test]
fn a_deleted_topic_is_gone_with_its_files_and_its_name_can_be_used_again() {
    each_durability().into_iter().for_each(delete_and_create_again);
}

fn delete_and_create_again(settings: Settings) {
    let mut world = World::start(2, settings.clone(), MemDisk::default());
    let client = world.connect(0, Shared);
    let first = world.create(client, "t", 3).topics[0].topic_id;
    for partition in 0..3 {
        produce(&mut world, client, "t", partition, &["old"]);
    }
    world.send(client, key::FETCH, 11, &fetch_request("t", &[(0, 1)], 30_000));
    let other = world.connect(1, Shared);
    let request = DeleteTopicsRequest {
        topics: vec![DeleteTopicState { name: Some("t".into()), ..Default::default() }],
        timeout_ms: 1000,
        ..Default::default()
    };
    let reply: DeleteTopicsResponse = world.call(other, key::DELETE_TOPICS, 6, &request);
    assert_eq!(reply.responses[0].error_code, 0);
    assert!(world.reply::<FetchResponse>(client, key::FETCH, 11).is_some(), "the parked fetch learns of it");
    assert!((0..3).all(|partition| !world.disk.has_dir(&format!("t-{partition}"))));
    let reply: DeleteTopicsResponse = world.call(other, key::DELETE_TOPICS, 6, &request);
    assert_eq!(reply.responses[0].error_code, ErrorCode::UnknownTopicOrPartition.code());
    let second = world.create(client, "t", 1).topics[0].topic_id;
    assert_ne!(first, second);
    assert_eq!(produce(&mut world, client, "t", 0, &["new"]), 0);
    let mut world = world.restart(1, settings);
    let client = world.connect(0, Shared);
    let reply: FetchResponse = world.call(client, key::FETCH, 11, &fetch_request("t", &[(0, 0)], 0));
    assert_eq!(values(&bytes_of(only_row(&reply))), ["new"]);
}

#[test]
fn partitions_can_be_added_and_topics_cannot_be_created_twice() {
    let mut world = world(2);
    let client = world.connect(0, Shared);
    world.create(client, "t", 1);
    let more = |count| CreatePartitionsRequest {
        topics: vec![CreatePartitionsTopic { name: "t".into(), count, assignments: None }],
        timeout_ms: 1000,
        ..Default::default()
    };
    let reply: CreatePartitionsResponse = world.call(client, key::CREATE_PARTITIONS, 3, &more(3));
    assert_eq!(reply.results[0].error_code, 0);
    assert_eq!(produce(&mut world, client, "t", 2, &["x"]), 0);
    let reply: CreatePartitionsResponse = world.call(client, key::CREATE_PARTITIONS, 3, &more(2));
    assert_eq!(reply.results[0].error_code, ErrorCode::InvalidPartitions.code());
    let topic = CreatableTopic { name: "t".into(), num_partitions: 1, replication_factor: 1, ..Default::default() };
    let request = CreateTopicsRequest { topics: vec![topic], ..Default::default() };
    let reply: CreateTopicsResponse = world.call(client, key::CREATE_TOPICS, 7, &request);
    assert_eq!(reply.topics[0].error_code, ErrorCode::TopicAlreadyExists.code());
}

#[test]
fn a_validated_topic_is_not_created() {
    let mut world = world(1);
    let client = world.connect(0, Shared);
    let topic = CreatableTopic { name: "t".into(), num_partitions: 2, replication_factor: 1, ..Default::default() };
    let request = CreateTopicsRequest { topics: vec![topic], validate_only: true, ..Default::default() };
    let reply: CreateTopicsResponse = world.call(client, key::CREATE_TOPICS, 7, &request);
    assert_eq!(reply.topics[0].error_code, 0);
    let reply: ProduceResponse = world.call(client, key::PRODUCE, 9, &produce_request("t", 0, batch(&["x"])));
    assert_eq!(reply.responses[0].partition_responses[0].error_code, ErrorCode::UnknownTopicOrPartition.code());
}

#[test]
fn offsets_are_listed_by_name_and_by_time() {
    for cores in [1, 2] {
        let mut world = world(cores);
        let client = world.connect(0, Shared);
        world.create(client, "t", 2);
        for partition in 0..2 {
            let mut builder = BatchBuilder::new(Compression::None);
            for delta_ms in [0, 1000, 500] {
                builder.push(NOW_MS + delta_ms, None, Some(b"v"));
            }
            let request = produce_request("t", partition, builder.build().bytes);
            let reply: ProduceResponse = world.call(client, key::PRODUCE, 9, &request);
            assert_eq!(reply.responses[0].partition_responses[0].error_code, 0);
        }
        let mut check = |timestamp: i64, expect: (i64, i64)| {
            for partition_index in 0..2 {
                let partition = ListOffsetsPartition { partition_index, timestamp, current_leader_epoch: -1 };
                let topic = ListOffsetsTopic { name: "t".into(), partitions: vec![partition] };
                let request = ListOffsetsRequest { replica_id: -1, topics: vec![topic], ..Default::default() };
                let reply: ListOffsetsResponse = world.call(client, key::LIST_OFFSETS, 7, &request);
                let row = &reply.topics[0].partitions[0];
                assert_eq!((row.error_code, row.offset, row.timestamp), (0, expect.0, expect.1), "{timestamp}");
            }
        };
        check(-2, (0, -1));
        check(-1, (3, -1));
        check(-3, (1, NOW_MS + 1000));
        check(NOW_MS, (0, NOW_MS));
        check(NOW_MS + 1, (1, NOW_MS + 1000));
        check(NOW_MS + 2000, (-1, -1));
    }
}

#[test]
fn an_idempotent_producer_may_send_twice_and_is_stored_once() {
    let mut world = world(2);
    let client = world.connect(1, Shared);
    world.create(client, "t", 1);
    let ask = InitProducerIdRequest { transaction_timeout_ms: 1000, ..Default::default() };
    let mut ids = std::collections::BTreeSet::new();
    for core in [0, 1, 0, 1] {
        let other = world.connect(core, Shared);
        let reply: InitProducerIdResponse = world.call(other, key::INIT_PRODUCER_ID, 4, &ask);
        assert_eq!(reply.error_code, 0);
        assert!(ids.insert(reply.producer_id), "ids are given once");
    }
    let producer = *ids.first().unwrap();
    let send = |world: &mut World, sequence: i32| -> (i16, i64) {
        let mut builder = BatchBuilder::new(Compression::None).producer(producer, 0, sequence);
        builder.push(NOW_MS, None, Some(b"v"));
        let reply: ProduceResponse =
            world.call(client, key::PRODUCE, 9, &produce_request("t", 0, builder.build().bytes));
        let row = &reply.responses[0].partition_responses[0];
        (row.error_code, row.base_offset)
    };
    assert_eq!(send(&mut world, 0), (0, 0));
    assert_eq!(send(&mut world, 1), (0, 1));
    assert_eq!(send(&mut world, 0), (0, 0), "a duplicate is acked with its first offset");
    assert_eq!(send(&mut world, 3).0, ErrorCode::OutOfOrderSequenceNumber.code());
    assert_eq!(send(&mut world, 2), (0, 2));
}

#[test]
fn a_full_disk_refuses_produces_serves_reads_and_recovers() {
    let mut world = world(1);
    let client = world.connect(0, Shared);
    world.create(client, "t", 1);
    let big = "x".repeat(900_000);
    produce(&mut world, client, "t", 0, &["kept"]);
    world.disk.space_bytes = Some(world.disk.files.values().map(Vec::len).sum());
    let mut refused = 0;
    for _ in 0..100 {
        let reply: ProduceResponse = world.call(client, key::PRODUCE, 9, &produce_request("t", 0, batch(&[&big])));
        if reply.responses[0].partition_responses[0].error_code == ErrorCode::KafkaStorageError.code() {
            refused += 1;
        }
    }
    assert!(refused > 0, "the space runs out");
    let reply: FetchResponse = world.call(client, key::FETCH, 11, &fetch_request("t", &[(0, 0)], 0));
    assert_eq!(values(&bytes_of(only_row(&reply)))[0], "kept");
    let end = only_row(&reply).high_watermark;
    world.disk.space_bytes = None;
    assert_eq!(produce(&mut world, client, "t", 0, &["again"]), end);
}

#[test]
fn what_a_segment_cannot_take_at_a_clean_stop_is_kept_in_the_journal() {
    let settings = Settings { durability: Durability::Sync, ..Settings::default() };
    let mut world = World::start(1, settings.clone(), MemDisk::default());
    let client = world.connect(0, Shared);
    world.create(client, "t", 1);
    produce(&mut world, client, "t", 0, &["kept"]);
    world.disk.failing = Some(Failing::SegmentWrites);
    world.stop();
    assert_eq!(world.stopped.len(), 1);
    world.disk.failing = None;
    let mut world = world.restart(1, settings);
    let client = world.connect(0, Shared);
    let reply: FetchResponse = world.call(client, key::FETCH, 11, &fetch_request("t", &[(0, 0)], 0));
    assert_eq!(values(&bytes_of(only_row(&reply))), ["kept"]);
}

/// Produces one batch of a segment's size, and gives the error.
fn produce_big(world: &mut World, client: Client, partition: i32) -> i16 {
    let request = produce_request("t", partition, batch(&[&"x".repeat(60_000)]));
    let reply: ProduceResponse = world.call(client, key::PRODUCE, 9, &request);
    reply.responses[0].partition_responses[0].error_code
}

/// A sync that fails, of a record or when a segment is full, ends writing on every core and nothing else.
#[test]
fn a_failed_sync_ends_writing_on_all_cores_and_what_is_safe_is_read_on() {
    let storage_error = ErrorCode::KafkaStorageError.code();
    let (write, sync) = (Durability::Write, Durability::Sync);
    for (failing, durability, log_flush_interval_messages, cores) in [
        (Failing::Syncs, write, 1, 1),
        (Failing::Syncs, write, 1, 3),
        (Failing::Syncs, write, u64::MAX, 1),
        (Failing::Syncs, write, u64::MAX, 3),
        (Failing::Syncs, sync, u64::MAX, 1),
        (Failing::Syncs, sync, u64::MAX, 3),
        (Failing::SmallFiles, write, u64::MAX, 3),
        (Failing::SmallFiles, sync, u64::MAX, 3),
    ] {
        let settings =
            Settings { durability, log_flush_interval_messages, log_segment_bytes: 64 << 10, ..Settings::default() };
        let mut world = World::start(cores, settings.clone(), MemDisk::default());
        let client = world.connect(0, Shared);
        world.create(client, "t", 6);
        for partition in 0..6 {
            produce(&mut world, client, "t", partition, &["kept"]);
        }
        world.disk.failing = Some(failing.clone());
        let fails = |world: &mut World| produce_big(world, client, 2) == storage_error;
        assert!((0..3).any(|_| fails(&mut world)), "{failing:?} is noticed");
        world.disk.failing = None;

        let changes = world.disk.changes;
        for partition in 0..6 {
            let request = produce_request("t", partition, batch(&["refused"]));
            let reply: ProduceResponse = world.call(client, key::PRODUCE, 9, &request);
            let row = &reply.responses[0].partition_responses[0];
            assert_eq!(row.error_code, storage_error, "{cores} cores, partition {partition}");
            let message = row.error_message.as_ref().expect("it says why").as_str();
            assert!(message.contains("takes no more writes: ") && message.contains("NotSynced"), "{message}");
            let reply: FetchResponse = world.call(client, key::FETCH, 11, &fetch_request("t", &[(partition, 0)], 0));
            assert_eq!(values(&bytes_of(only_row(&reply)))[0], "kept");
        }
        refuses_changes_of_metadata(&mut world, client);
        world.advance_ms(100_000);
        assert_eq!(world.disk.changes, changes, "nothing is written or synced any more");

        world.stop();
        assert_eq!(world.stopped.len(), usize::from(cores));
        assert!(world.shards.iter().all(|shard| shard.directory_failure().is_some()));
        assert_eq!(world.disk.changes, changes, "nor at the end");
        let mut world = world.restart(cores, settings);
        let client = world.connect(0, Shared);
        for partition in 0..6 {
            let reply: FetchResponse = world.call(client, key::FETCH, 11, &fetch_request("t", &[(partition, 0)], 0));
            assert_eq!(values(&bytes_of(only_row(&reply)))[0], "kept");
            produce(&mut world, client, "t", partition, &["again"]);
        }
    }
}

/// A device that gives some block of a partition back no more: at a start, and while that is read.
#[test]
fn a_read_error_takes_its_partition_offline_at_a_start_and_fails_the_read_later() {
    let storage_error = ErrorCode::KafkaStorageError.code();
    // Without a journal, whose replay would be the first to read.
    let settings = Settings { durability: Durability::Write, log_segment_bytes: 64 << 10, ..Settings::default() };
    for cores in [1, 2] {
        let mut world = World::start(cores, settings.clone(), MemDisk::default());
        let client = world.connect(0, Shared);
        world.create(client, "t", 3);
        for partition in 0..3 {
            produce(&mut world, client, "t", partition, &["kept"]);
            (0..4).for_each(|_| assert_eq!(produce_big(&mut world, client, partition), 0));
        }
        // What is read to recover is the newest segment; those before it are sealed.
        let segments: Vec<_> = world.disk.files.keys().filter(|path| path.starts_with("t-1")).cloned().collect();
        let segments: Vec<_> =
            segments.into_iter().filter(|path| path.extension().is_some_and(|e| e == "log")).collect();
        assert!(segments.len() > 3);
        world.disk.failing = Some(Failing::ReadsOf(segments.last().expect("some").clone()));
        let mut world = world.restart(cores, settings.clone());
        let client = world.connect(0, Shared);
        let fetched = |world: &mut World, partition: i32, from: i64| -> (i16, Vec<String>) {
            let reply: FetchResponse = world.call(client, key::FETCH, 11, &fetch_request("t", &[(partition, from)], 0));
            (only_row(&reply).error_code, values(&bytes_of(only_row(&reply))))
        };
        assert_eq!(produce_big(&mut world, client, 1), storage_error);
        assert_eq!(fetched(&mut world, 1, 0).0, storage_error);
        for partition in [0, 2] {
            assert_eq!(fetched(&mut world, partition, 0).1[0], "kept");
            assert_eq!(produce_big(&mut world, client, partition), 0);
        }

        world.disk.failing = Some(Failing::ReadsOf(segments[0].clone()));
        let mut world = world.restart(cores, settings.clone());
        let client = world.connect(0, Shared);
        let fetched = |world: &mut World, partition: i32, from: i64| -> (i16, usize) {
            let reply: FetchResponse = world.call(client, key::FETCH, 11, &fetch_request("t", &[(partition, from)], 0));
            (only_row(&reply).error_code, bytes_of(only_row(&reply)).len())
        };
        assert_eq!(fetched(&mut world, 1, 0), (storage_error, 0), "a sealed segment");
        assert!(fetched(&mut world, 1, 3).1 > 60_000, "the others are read");
        assert_eq!(produce_big(&mut world, client, 1), 0);
        world.disk.failing = None;
        assert!(fetched(&mut world, 1, 0).1 > 0, "nothing was given up");
    }
}

fn refuses_changes_of_metadata(world: &mut World, client: Client) {
    let storage_error = ErrorCode::KafkaStorageError.code();
    let topic = CreatableTopic { name: "new".into(), num_partitions: 1, replication_factor: 1, ..Default::default() };
    let request = CreateTopicsRequest { topics: vec![topic], ..Default::default() };
    let reply: CreateTopicsResponse = world.call(client, key::CREATE_TOPICS, 7, &request);
    assert_eq!(reply.topics[0].error_code, storage_error);
    let topics = vec![CreatePartitionsTopic { name: "t".into(), count: 9, assignments: None }];
    let request = CreatePartitionsRequest { topics, ..Default::default() };
    let reply: CreatePartitionsResponse = world.call(client, key::CREATE_PARTITIONS, 3, &request);
    assert_eq!(reply.results[0].error_code, storage_error);
    let topics = vec![DeleteTopicState { name: Some("t".into()), ..Default::default() }];
    let request = DeleteTopicsRequest { topics, ..Default::default() };
    let reply: DeleteTopicsResponse = world.call(client, key::DELETE_TOPICS, 6, &request);
    assert_eq!(reply.responses[0].error_code, storage_error);
    let request = InitProducerIdRequest { transaction_timeout_ms: 1000, ..Default::default() };
    let reply: InitProducerIdResponse = world.call(client, key::INIT_PRODUCER_ID, 4, &request);
    assert_eq!((reply.error_code, reply.producer_id), (storage_error, -1));
    let ask = |name: &str| MetadataRequest {
        topics: Some(vec![MetadataRequestTopic { name: Some(name.into()), ..Default::default() }]),
        allow_auto_topic_creation: true,
        ..Default::default()
    };
    let reply: MetadataResponse = world.call(client, key::METADATA, 12, &ask("new"));
    assert_eq!(reply.topics[0].error_code, ErrorCode::UnknownTopicOrPartition.code());
    let reply: MetadataResponse = world.call(client, key::METADATA, 12, &ask("t"));
    for row in &reply.topics[0].partitions {
        assert_eq!((row.error_code, row.leader_id), (0, 1), "consumers go on reading there");
        assert_eq!(row.offline_replicas, [1]);
    }
}

#[test]
fn incremental_fetch_sessions_tell_only_news() {
    let mut world = world(2);
    let client = world.connect(0, Shared);
    world.create(client, "t", 4);
    let mut request = fetch_request("t", &[(0, 0), (1, 0), (2, 0), (3, 0)], 0);
    request.session_epoch = 0;
    let reply: FetchResponse = world.call(client, key::FETCH, 12, &request);
    assert_ne!(reply.session_id, 0);
    assert_eq!(reply.responses[0].partitions.len(), 4);
    let next = |epoch| FetchRequest {
        session_id: reply.session_id,
        session_epoch: epoch,
        topics: Vec::new(),
        ..fetch_request("t", &[], 0)
    };
    let quiet: FetchResponse = world.call(client, key::FETCH, 12, &next(1));
    assert!(quiet.responses.is_empty(), "{quiet:?}");
    produce(&mut world, client, "t", 2, &["news"]);
    let news: FetchResponse = world.call(client, key::FETCH, 12, &next(2));
    assert_eq!(only_row(&news).partition_index, 2);
    assert_eq!(values(&bytes_of(only_row(&news))), ["news"]);
    let wrong: FetchResponse = world.call(client, key::FETCH, 12, &next(7));
    assert_eq!(wrong.error_code, ErrorCode::InvalidFetchSessionEpoch.code());
}

#[test]
fn an_offset_out_of_range_is_told_at_once() {
    let mut world = world(1);
    let client = world.connect(0, Shared);
    world.create(client, "t", 1);
    let reply: FetchResponse = world.call(client, key::FETCH, 11, &fetch_request("t", &[(0, 5)], 10_000));
    assert_eq!(only_row(&reply).error_code, ErrorCode::OffsetOutOfRange.code());
}

#[test]
fn acks_0_has_no_reply_and_an_error_closes_the_connection() {
    let mut world = world(1);
    let client = world.connect(0, Shared);
    world.create(client, "t", 1);
    let silent = |topic: &str| ProduceRequest { acks: 0, ..produce_request(topic, 0, batch(&["x"])) };
    world.send(client, key::PRODUCE, 9, &silent("t"));
    assert!(world.reply::<ProduceResponse>(client, key::PRODUCE, 9).is_none());
    let reply: FetchResponse = world.call(client, key::FETCH, 11, &fetch_request("t", &[(0, 0)], 0));
    assert_eq!(values(&bytes_of(only_row(&reply))), ["x"]);
    world.send(client, key::PRODUCE, 9, &silent("missing"));
    assert!(world.closed.contains(&client));
}

#[test]
fn bad_batches_are_refused_with_kafkas_codes_and_leave_no_trace() {
    let mut world = world(1);
    let client = world.connect(0, Shared);
    world.create(client, "t", 1);
    let good = batch(&["x"]);
    let mut flipped = good.to_vec();
    *flipped.last_mut().unwrap() ^= 1;
    for (records, expect) in [
        (Bytes::from(flipped), ErrorCode::CorruptMessage),
        (good.slice(..good.len() - 1), ErrorCode::CorruptMessage),
        (batch(&[&"x".repeat(1_100_000)]), ErrorCode::MessageTooLarge),
    ] {
        let reply: ProduceResponse = world.call(client, key::PRODUCE, 9, &produce_request("t", 0, records));
        assert_eq!(reply.responses[0].partition_responses[0].error_code, expect.code());
    }
    assert_eq!(produce(&mut world, client, "t", 0, &["first"]), 0);
}

#[test]
fn garbage_closes_the_connection_and_nothing_else() {
    let mut world = world(1);
    let mut rng = corelog::base::rng::Rng::new(5);
    let witness = world.connect(0, Shared);
    world.create(witness, "t", 1);
    for round in 0..3000 {
        let client = world.connect(0, if round % 2 == 0 { Shared } else { ListenerKind::PerCore });
        let api = &APIS[rng.below(APIS.len() as u64) as usize];
        let version = rng.below(api.versions.1 as u64 + 2) as i16;
        let mut frame = Vec::new();
        frame.extend(api.key.to_be_bytes());
        frame.extend(version.to_be_bytes());
        for _ in 0..rng.below(60) {
            // Small numbers make lengths that lead further into the message.
            frame.push(if rng.below(3) == 0 { rng.next_u64() as u8 } else { rng.below(4) as u8 });
        }
        world.send_frame(client, Bytes::from(frame));
        world.disconnect(client);
    }
    world.advance_ms(100_000);
    assert_eq!(produce(&mut world, witness, "t", 0, &["alive"]), 0);
    let (connections, request_bytes, _, _) = world.shards[0].gauges();
    assert_eq!((connections, request_bytes), (1, 0));
}

#[test]
fn bytes_after_a_request_are_ignored_as_librdkafka_sends_them() {
    let mut world = world(1);
    let client = world.connect(0, Shared);
    // Metadata version 12 for all topics, flexible header, as librdkafka 2.16 sends it.
    let mut frame = Vec::new();
    frame.extend([0, 3, 0, 12, 0, 0, 0, 9, 0xff, 0xff, 0]);
    frame.extend([0, 1, 0, 0]);
    frame.extend([0, 0, 0]);
    world.send_frame(client, Bytes::from(frame));
    let reply: MetadataResponse = world.reply(client, key::METADATA, 12).expect("an answer");
    assert_eq!(reply.brokers.len(), 1);
    assert!(!world.closed.contains(&client));
}

#[test]
fn a_stop_right_after_a_deletion_waits_for_what_the_metadata_log_still_writes() {
    let mut world = world(1);
    let client = world.connect(0, Shared);
    world.create(client, "t", 1);
    world.hold_disk_on_reply = true;
    let request = DeleteTopicsRequest {
        topics: vec![DeleteTopicState { name: Some("t".into()), ..Default::default() }],
        ..Default::default()
    };
    let reply: DeleteTopicsResponse = world.call(client, key::DELETE_TOPICS, 6, &request);
    assert_eq!(reply.responses[0].error_code, 0);
    world.stop();
    assert!(world.stopped.is_empty(), "the note that the files are gone is on its way");
    world.release_disk();
    assert_eq!(world.stopped.len(), 1);
}

#[test]
fn what_is_appended_and_what_the_journals_take_is_counted() {
    for (durability, journal_bytes) in
        [(Durability::Sync, 1 << 20), (Durability::Sync, 0), (Durability::Write, 1 << 20)]
    {
        let settings = Settings { durability, journal_bytes, ..Settings::default() };
        let mut world = World::start(2, settings, MemDisk::default());
        let client = world.connect(0, Shared);
        world.create(client, "t", 4);
        let mut appended = 0;
        for partition in 0..4 {
            let mut builder = BatchBuilder::new(Compression::None).producer(7, 0, 0);
            builder.push(NOW_MS, None, Some(&[b'v'; 1000]));
            let bytes = builder.build().bytes;
            appended += bytes.len() as u64;
            // The second time it is a duplicate.
            for _ in 0..2 {
                let request = produce_request("t", partition, bytes.clone());
                let reply: ProduceResponse = world.call(client, key::PRODUCE, 9, &request);
                assert_eq!(reply.responses[0].partition_responses[0].error_code, 0);
            }
        }
        let sum = |metric| world.shards.iter().map(|shard| shard.report().metrics.get(metric)).sum::<u64>();
        assert_eq!(sum(Metric::AppendedBytes), appended);
        let is_used = durability == Durability::Sync && journal_bytes > 0;
        for metric in [Metric::JournalCommits, Metric::JournalEntries] {
            assert_eq!(sum(metric), if is_used { 4 } else { 0 }, "{metric:?}");
        }
        let (written, used) = (sum(Metric::JournalWriteBytes), sum(Metric::JournalUsedBytes));
        assert_eq!((written >= appended, used >= appended), (is_used, is_used), "{written} written, {used} used");
        assert_eq!(sum(Metric::SegmentWriteBytes) >= appended, !is_used);
        assert_eq!(sum(Metric::JournalBytes), if is_used { 2 << 20 } else { 0 });
        assert_eq!(sum(Metric::JournalPrewrittenBytes) > 2 << 20, is_used);
        assert_eq!((sum(Metric::JournalWaits), sum(Metric::JournalWaitUs)), (0, 0));
        assert_eq!(written % 4096, 0);
    }
}
