//! Client quotas through the seam: set, described, kept, and enforced by the reply and by not reading.

mod support;

use bytes::Bytes;
use corelog::base::metric::Metric;
use corelog::broker::api::key;
use corelog::broker::effect::Admission;
use corelog::broker::effect::ListenerKind::Shared;
use corelog::config::Settings;
use corelog::wire::codec::Float64;
use corelog::wire::compression::Compression;
use corelog::wire::errors::ErrorCode;
use corelog::wire::messages::alter_client_quotas::{
    AlterClientQuotasRequest, AlterClientQuotasResponse, EntityData, EntryData, OpData,
};
use corelog::wire::messages::create_partitions::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopic,
};
use corelog::wire::messages::create_topics::{CreatableTopic, CreateTopicsRequest, CreateTopicsResponse};
use corelog::wire::messages::delete_topics::{DeleteTopicState, DeleteTopicsRequest, DeleteTopicsResponse};
use corelog::wire::messages::describe_client_quotas::{
    ComponentData, DescribeClientQuotasRequest, DescribeClientQuotasResponse,
};
use corelog::wire::messages::fetch::{FetchPartition, FetchRequest, FetchResponse, FetchTopic};
use corelog::wire::messages::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponse};
use corelog::wire::messages::produce::{PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData};
use corelog::wire::records::BatchBuilder;
use support::{Client, MemDisk, NOW_MS, World};

fn world(cores: u16) -> World {
    World::start(cores, Settings::default(), MemDisk::default())
}

/// For how long the reply throttles.
fn create(world: &mut World, client: Client, name: &str, partitions: i32) -> i32 {
    world.create(client, name, partitions).throttle_time_ms
}

/// Code and throttle time of the reply, on a connection of its own.
fn try_create(world: &mut World, version: i16, name: &str, partitions: i32, validate_only: bool) -> (i16, i32) {
    let client = world.connect(0, Shared);
    let topic =
        CreatableTopic { name: name.into(), num_partitions: partitions, replication_factor: 1, ..Default::default() };
    let request = CreateTopicsRequest { topics: vec![topic], validate_only, ..Default::default() };
    let reply: CreateTopicsResponse = world.call(client, key::CREATE_TOPICS, version, &request);
    (reply.topics[0].error_code, reply.throttle_time_ms)
}

/// Sides of an entity: type, and name or the default.
type Entity<'a> = &'a [(&'a str, Option<&'a str>)];

/// A quota to set, or to take back.
type Op<'a> = (&'a str, Option<f64>);

fn alter(world: &mut World, client: Client, entity: Entity<'_>, ops: &[Op<'_>]) -> (i16, String) {
    let side = |(entity_type, entity_name): &(&str, Option<&str>)| EntityData {
        entity_type: (*entity_type).into(),
        entity_name: entity_name.map(Into::into),
    };
    let op = |(key, value): &Op<'_>| OpData {
        key: (*key).into(),
        value: Float64::new(value.unwrap_or_default()),
        remove: value.is_none(),
    };
    let entry = EntryData { entity: entity.iter().map(side).collect(), ops: ops.iter().map(op).collect() };
    let request = AlterClientQuotasRequest { entries: vec![entry], validate_only: false };
    let reply: AlterClientQuotasResponse = world.call(client, key::ALTER_CLIENT_QUOTAS, 1, &request);
    assert_eq!(reply.entries.len(), 1);
    (reply.entries[0].error_code, reply.entries[0].error_message.as_deref().unwrap_or("").into())
}

/// The client id of every client here.
const ME: Entity<'_> = &[("client-id", Some("test"))];

fn set(world: &mut World, client: Client, name: &str, value: f64) {
    assert_eq!(alter(world, client, ME, &[(name, Some(value))]), (0, String::new()));
}

/// For how long the reply to a record of so many bytes throttles.
fn produce(world: &mut World, client: Client, partition: i32, value_bytes: usize) -> i32 {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.push(NOW_MS, None, Some(&vec![b'v'; value_bytes]));
    let records: Option<Bytes> = Some(builder.build().bytes);
    let partition_data = vec![PartitionProduceData { index: partition, records }];
    let topic_data = vec![TopicProduceData { name: "t".into(), partition_data, ..Default::default() }];
    let request = ProduceRequest { acks: -1, timeout_ms: 1000, topic_data, ..Default::default() };
    let reply: ProduceResponse = world.call(client, key::PRODUCE, 9, &request);
    assert_eq!(reply.responses[0].partition_responses[0].error_code, 0, "{reply:?}");
    reply.throttle_time_ms
}

/// Record bytes, and for how long the reply throttles.
fn fetch(world: &mut World, client: Client, offset: i64) -> (usize, i32) {
    let partition =
        FetchPartition { partition: 0, fetch_offset: offset, partition_max_bytes: 1 << 20, ..Default::default() };
    let topics = vec![FetchTopic { topic: "t".into(), partitions: vec![partition], ..Default::default() }];
    let request = FetchRequest { max_bytes: 50 << 20, session_epoch: -1, topics, ..Default::default() };
    let reply: FetchResponse = world.call(client, key::FETCH, 12, &request);
    let records = reply.responses[0].partitions[0].records.as_ref().map_or(0, |records| records.len());
    (records, reply.throttle_time_ms)
}

fn is_read(world: &mut World, client: Client) -> bool {
    // A frame of no bytes holds no memory, so that asking does nothing.
    world.shards[usize::from(client.core)].admit(client.conn, 0) == Admission::Read
}

#[test]
fn a_producer_beyond_its_quota_is_told_to_wait_and_is_not_read_meanwhile() {
    let mut world = world(1);
    let admin = world.connect(0, Shared);
    create(&mut world, admin, "t", 1);
    assert_eq!(produce(&mut world, admin, 0, 100_000), 0);
    set(&mut world, admin, "producer_byte_rate", 10_000.0);
    let client = world.connect(0, Shared);
    // One second's worth is free; of the rest every 10 bytes take a millisecond.
    let throttle_ms = produce(&mut world, client, 0, 20_000);
    assert!((1_000..1_100).contains(&throttle_ms), "{throttle_ms}");
    assert!(!is_read(&mut world, client));
    let metrics = world.shards[0].report().metrics;
    assert_eq!((metrics.get(Metric::MutedConnections), metrics.get(Metric::ThrottledRequests)), (1, 1));
    world.advance_ms(throttle_ms as u64 - 1);
    assert!(!is_read(&mut world, client));
    world.advance_ms(1);
    assert!(is_read(&mut world, client));
    assert_eq!(world.shards[0].report().metrics.get(Metric::MutedConnections), 0);
}

#[test]
fn a_quota_that_is_taken_back_lets_go_at_once() {
    let mut world = world(1);
    let admin = world.connect(0, Shared);
    create(&mut world, admin, "t", 1);
    set(&mut world, admin, "producer_byte_rate", 10.0);
    let client = world.connect(0, Shared);
    let throttle_ms = produce(&mut world, client, 0, 1_000_000);
    assert_eq!(throttle_ms, 15_000, "no longer than clients wait for a reply");
    assert!(!is_read(&mut world, client));
    assert_eq!(alter(&mut world, admin, ME, &[("producer_byte_rate", None)]).0, 0);
    assert!(is_read(&mut world, client));
}

#[test]
fn a_consumer_gets_a_second_s_worth_at_a_time() {
    let mut world = world(1);
    let admin = world.connect(0, Shared);
    create(&mut world, admin, "t", 1);
    for _ in 0..10 {
        produce(&mut world, admin, 0, 10_000);
    }
    let (all, _) = fetch(&mut world, admin, 0);
    set(&mut world, admin, "consumer_byte_rate", 25_000.0);
    let client = world.connect(0, Shared);
    let (bytes, throttle_ms) = fetch(&mut world, client, 0);
    assert!((20_000..25_001).contains(&bytes) && bytes < all, "{bytes} bytes");
    assert_eq!(throttle_ms, 0);
    let (bytes, throttle_ms) = fetch(&mut world, client, 2);
    assert!((20_000..25_001).contains(&bytes) && (600..1_000).contains(&throttle_ms), "{bytes}, {throttle_ms} ms");
    assert!(!is_read(&mut world, client));
}

#[test]
fn a_client_has_one_quota_on_all_cores() {
    let mut world = world(2);
    let admin = world.connect(0, Shared);
    create(&mut world, admin, "t", 2);
    set(&mut world, admin, "producer_byte_rate", 10_000.0);
    let (first, second) = (world.connect(0, Shared), world.connect(1, Shared));
    // Known on both cores.
    assert_eq!((produce(&mut world, first, 0, 10), produce(&mut world, second, 1, 10)), (0, 0));
    assert_eq!(produce(&mut world, first, 0, 9_000), 0);
    world.advance_ms(100);
    let throttle_ms = produce(&mut world, second, 1, 9_000);
    assert!((600..1_000).contains(&throttle_ms), "{throttle_ms}");
}

#[test]
fn partitions_made_and_deleted_have_a_quota() {
    let mut world = world(1);
    let client = world.connect(0, Shared);
    set(&mut world, client, "controller_mutation_rate", 5.0);
    // Eleven seconds' worth may be used at once, and the last change may be larger.
    assert_eq!(create(&mut world, client, "a", 65), 0);
    let too_much = ErrorCode::ThrottlingQuotaExceeded.code();
    // Version, validate only, partitions, then code and time of the reply.
    let rows = [
        (7, false, 10, (too_much, 2_000)),
        (6, false, 10, (too_much, 2_000)),
        (7, true, 10, (0, 0)),
        (5, false, 10, (0, 4_000)),
    ];
    for (at, (version, validate_only, partitions, expect)) in rows.into_iter().enumerate() {
        let name = format!("b{at}");
        assert_eq!(try_create(&mut world, version, &name, partitions, validate_only), expect, "version {version}");
    }
    let grow = |world: &mut World, version: i16, count: i32| {
        let client = world.connect(0, Shared);
        let topics = vec![CreatePartitionsTopic { name: "a".into(), count, assignments: None }];
        let request = CreatePartitionsRequest { topics, ..Default::default() };
        let reply: CreatePartitionsResponse = world.call(client, key::CREATE_PARTITIONS, version, &request);
        (reply.results[0].error_code, reply.throttle_time_ms)
    };
    assert_eq!(grow(&mut world, 3, 70), (too_much, 4_000));
    assert_eq!(grow(&mut world, 2, 70), (0, 5_000));
    assert_eq!(grow(&mut world, 3, 70), (ErrorCode::InvalidPartitions.code(), 0), "what cannot be costs nothing");
    let delete = |world: &mut World, version: i16, name: &str| {
        let client = world.connect(0, Shared);
        let topics = vec![DeleteTopicState { name: Some(name.into()), ..Default::default() }];
        let request = DeleteTopicsRequest { topics, topic_names: vec![name.into()], ..Default::default() };
        let reply: DeleteTopicsResponse = world.call(client, key::DELETE_TOPICS, version, &request);
        (reply.responses[0].error_code, reply.throttle_time_ms)
    };
    assert_eq!(delete(&mut world, 6, "b3"), (too_much, 5_000));
    assert_eq!(delete(&mut world, 5, "b3"), (too_much, 5_000));
    assert_eq!(delete(&mut world, 4, "b3"), (0, 7_000));
    world.advance_ms(7_000);
    assert_eq!(delete(&mut world, 6, "a"), (0, 0));
}

#[test]
fn topics_made_on_first_use_count_and_are_made() {
    let mut world = world(2);
    let client = world.connect(1, Shared);
    set(&mut world, client, "controller_mutation_rate", 1.0);
    let topics = (0..21).map(|at| MetadataRequestTopic { name: Some(format!("t{at}").into()), ..Default::default() });
    let request =
        MetadataRequest { topics: Some(topics.collect()), allow_auto_topic_creation: true, ..Default::default() };
    let reply: MetadataResponse = world.call(client, key::METADATA, 9, &request);
    assert!(reply.topics.iter().all(|topic| topic.error_code == 0), "{reply:?}");
    assert_eq!(reply.throttle_time_ms, 10_000);
}

#[test]
fn an_address_may_make_so_many_connections() {
    let mut world = world(2);
    let admin = world.connect(0, Shared);
    const RATE: &str = "connection_creation_rate";
    assert_eq!(alter(&mut world, admin, &[("ip", None)], &[(RATE, Some(1000.0))]).0, 0);
    assert_eq!(alter(&mut world, admin, &[("ip", Some("10.0.0.1"))], &[(RATE, Some(2.0))]).0, 0);
    let served: Vec<Client> = (0..22).map(|_| world.connect(0, Shared)).collect();
    let refused = world.connect(0, Shared);
    assert!(served.iter().all(|client| is_read(&mut world, *client)));
    assert!(!is_read(&mut world, refused));
    assert_eq!(world.shards[0].report().metrics.get(Metric::ThrottledConnections), 1);
    // Another core does not know yet, and tells this one.
    let other = world.connect(1, Shared);
    assert!(is_read(&mut world, other));
    world.advance_ms(499);
    assert!(!world.closed.contains(&refused));
    world.advance_ms(1);
    assert!(world.closed.contains(&refused));
    world.advance_ms(450);
    let refused = world.connect(0, Shared);
    world.advance_ms(60);
    assert!(world.closed.contains(&refused));
    let next = world.connect(0, Shared);
    assert!(is_read(&mut world, next));
    // Whoever was refused when the quota goes is closed at once, and may connect again.
    let refused = world.connect(0, Shared);
    assert_eq!(alter(&mut world, admin, &[("ip", Some("10.0.0.1"))], &[(RATE, None)]).0, 0);
    assert!(world.closed.contains(&refused));
    let next = world.connect(0, Shared);
    assert!(is_read(&mut world, next));
}

#[test]
fn quotas_are_described_by_filters_and_kept() {
    let mut world = world(2);
    let client = world.connect(1, Shared);
    let entities: [Entity<'_>; 4] = [
        &[("user", Some("u"))],
        &[("user", None), ("client-id", Some("c"))],
        &[("client-id", Some("c"))],
        &[("client-id", None)],
    ];
    for (rate, entity) in (1..).zip(entities) {
        assert_eq!(alter(&mut world, client, entity, &[("producer_byte_rate", Some(f64::from(rate)))]).0, 0);
    }
    assert_eq!(alter(&mut world, client, &[("ip", Some("::1"))], &[("connection_creation_rate", Some(5.0))]).0, 0);
    let mut world = world.restart(1, Settings::default());
    let client = world.connect(0, Shared);
    let mut rates = |strict: bool, filter: &[(&str, i8, Option<&str>)]| -> Result<Vec<i32>, i16> {
        let component = |(entity_type, match_type, value): &(&str, i8, Option<&str>)| ComponentData {
            entity_type: (*entity_type).into(),
            match_type: *match_type,
            match_value: value.map(Into::into),
        };
        let request = DescribeClientQuotasRequest { components: filter.iter().map(component).collect(), strict };
        let reply: DescribeClientQuotasResponse = world.call(client, key::DESCRIBE_CLIENT_QUOTAS, 1, &request);
        let Some(entries) = reply.entries else { return Err(reply.error_code) };
        let mut rates: Vec<i32> = entries.iter().map(|entry| entry.values[0].value.get() as i32).collect();
        rates.sort_unstable();
        Ok(rates)
    };
    assert_eq!(rates(false, &[]), Ok(vec![1, 2, 3, 4, 5]));
    assert_eq!(rates(true, &[]), Ok(vec![]));
    assert_eq!(rates(false, &[("client-id", 0, Some("c"))]), Ok(vec![2, 3]));
    assert_eq!(rates(true, &[("client-id", 0, Some("c"))]), Ok(vec![3]));
    assert_eq!(rates(true, &[("client-id", 1, None)]), Ok(vec![4]));
    assert_eq!(rates(false, &[("client-id", 2, None)]), Ok(vec![2, 3, 4]));
    assert_eq!(rates(true, &[("user", 2, None), ("client-id", 2, None)]), Ok(vec![2]));
    assert_eq!(rates(false, &[("ip", 2, None)]), Ok(vec![5]));
    assert_eq!(rates(true, &[("ip", 0, Some("::1"))]), Ok(vec![5]));
    assert_eq!(rates(false, &[("ip", 1, None)]), Ok(vec![]));
    let invalid = Err(ErrorCode::InvalidRequest.code());
    assert_eq!(rates(false, &[("user", 2, None), ("user", 1, None)]), invalid);
    assert_eq!(rates(false, &[("user", 0, None)]), invalid);
    assert_eq!(rates(false, &[("ip", 2, None), ("user", 2, None)]), invalid);
    assert_eq!(rates(false, &[("user", 1, Some("u"))]), invalid);
    assert_eq!(rates(false, &[("user", 3, None)]), invalid);
    assert_eq!(rates(false, &[("", 1, None)]), invalid);
    assert_eq!(rates(false, &[("tenant", 1, None)]), Err(ErrorCode::UnsupportedVersion.code()));
}

#[test]
fn what_cannot_be_is_refused() {
    let mut world = world(1);
    let client = world.connect(0, Shared);
    let rate: &[Op<'_>] = &[("producer_byte_rate", Some(5.0))];
    let rows: &[(Entity<'_>, &[Op<'_>], &str)] = &[
        (&[], rate, "for a user, a client id, or both"),
        (&[("ip", Some("127.0.0.1"))], rate, "of an address, only connection_creation_rate"),
        (&[("ip", Some("localhost"))], &[("connection_creation_rate", Some(5.0))], "is no IP address"),
        (&[("tenant", Some("a"))], rate, "no entities of type"),
        (&[("user", Some("a")), ("user", Some("b"))], rate, "two parts of type user"),
        (&[("user", Some(""))], rate, "1 to 1024 bytes"),
        (ME, &[("producer_byte_rate", Some(0.0))], "greater than 0"),
        (ME, &[("speed", Some(1.0))], "There is no quota \"speed\""),
    ];
    for (entity, ops, part) in rows {
        let (code, message) = alter(&mut world, client, entity, ops);
        assert_eq!(code, ErrorCode::InvalidRequest.code(), "{message}");
        assert!(message.contains(part), "{message}");
    }
    let request = DescribeClientQuotasRequest::default();
    let reply: DescribeClientQuotasResponse = world.call(client, key::DESCRIBE_CLIENT_QUOTAS, 0, &request);
    assert_eq!(reply.entries, Some(Vec::new()));
}

#[test]
fn time_of_the_cores_has_a_quota() {
    let mut world = world(1);
    let client = world.connect(0, Shared);
    set(&mut world, client, "request_percentage", 0.0001);
    assert_eq!(create(&mut world, client, "t", 1), 0, "while time stands still, nothing takes any");
    world.run_clock();
    produce(&mut world, client, 0, 10);
    assert!(!is_read(&mut world, client));
    assert_eq!(world.shards[0].report().metrics.get(Metric::ThrottledRequests), 1);
}
