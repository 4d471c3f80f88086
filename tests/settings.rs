//! Settings that are changed while the broker runs, through the seam: asked for, decided, in effect, kept, described.

mod support;

use bytes::Bytes;
use corelog::broker::api::key;
use corelog::broker::effect::ListenerKind::{PerCore, Shared};
use corelog::config::Settings;
use corelog::wire::compression::Compression;
use corelog::wire::errors::ErrorCode;
use corelog::wire::messages::create_topics::{CreatableTopic, CreateTopicsRequest, CreateTopicsResponse};
use corelog::wire::messages::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult, DescribeConfigsResponse,
};
use corelog::wire::messages::list_config_resources::{ListConfigResourcesRequest, ListConfigResourcesResponse};
use corelog::wire::messages::produce::{PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData};
use corelog::wire::messages::{alter_configs, incremental_alter_configs};
use corelog::wire::records::BatchBuilder;
use support::{Client, MemDisk, NOW_MS, World};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const LOGGER: i8 = 8;
const CLIENT_METRICS: i8 = 16;
const GROUP: i8 = 32;

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;

fn world(cores: u16) -> World {
    World::start(cores, Settings { node_id: 7, ..Settings::default() }, MemDisk::default())
}

/// Error code and message of each resource, in order.
type Answers = Vec<(i16, String)>;

/// A resource and what is to become of its settings: operation, name, value.
type Wish<'a> = (i8, &'a str, &'a [(i8, &'a str, Option<&'a str>)]);

fn alter_all(world: &mut World, client: Client, wishes: &[Wish<'_>], validate_only: bool) -> Answers {
    use incremental_alter_configs::*;
    let resources = wishes.iter().map(|&(resource_type, name, ops)| AlterConfigsResource {
        resource_type,
        resource_name: name.into(),
        configs: ops
            .iter()
            .map(|&(config_operation, name, value)| AlterableConfig {
                name: name.into(),
                config_operation,
                value: value.map(Into::into),
            })
            .collect(),
    });
    let request = IncrementalAlterConfigsRequest { resources: resources.collect(), validate_only };
    let reply: IncrementalAlterConfigsResponse = world.call(client, key::INCREMENTAL_ALTER_CONFIGS, 1, &request);
    assert_eq!(reply.responses.len(), wishes.len());
    for (row, wish) in reply.responses.iter().zip(wishes) {
        assert_eq!((row.resource_type, row.resource_name.as_str()), (wish.0, wish.1), "answers keep their order");
    }
    reply.responses.iter().map(|row| (row.error_code, row.error_message.as_deref().unwrap_or("").into())).collect()
}

fn alter(world: &mut World, client: Client, wish: Wish<'_>) {
    let answers = alter_all(world, client, &[wish], false);
    assert_eq!(answers, [(0, String::new())]);
}

fn describe(world: &mut World, client: Client, resource_type: i8, name: &str) -> Vec<DescribeConfigsResourceResult> {
    let resource = DescribeConfigsResource { resource_type, resource_name: name.into(), configuration_keys: None };
    let request =
        DescribeConfigsRequest { resources: vec![resource], include_synonyms: true, include_documentation: true };
    let reply: DescribeConfigsResponse = world.call(client, key::DESCRIBE_CONFIGS, 4, &request);
    assert_eq!(reply.results[0].error_code, 0, "{reply:?}");
    reply.results[0].configs.clone()
}

/// Value and source of one setting.
fn described(world: &mut World, client: Client, resource_type: i8, name: &str, setting: &str) -> (String, i8) {
    let rows = describe(world, client, resource_type, name);
    let row = rows.iter().find(|row| row.name.as_str() == setting).expect("described");
    (row.value.as_deref().expect("a value").into(), row.config_source)
}

fn produce(world: &mut World, client: Client, topic: &str, partition: i32, value_bytes: usize) -> i16 {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.push(NOW_MS, None, Some(&vec![b'v'; value_bytes]));
    let records: Option<Bytes> = Some(builder.build().bytes);
    let partition_data = vec![PartitionProduceData { index: partition, records }];
    let topic_data = vec![TopicProduceData { name: topic.into(), partition_data, ..Default::default() }];
    let request = ProduceRequest { acks: -1, timeout_ms: 1000, topic_data, ..Default::default() };
    let reply: ProduceResponse = world.call(client, key::PRODUCE, 9, &request);
    reply.responses[0].partition_responses[0].error_code
}

#[test]
fn a_topics_changes_are_in_effect_on_every_core_when_they_are_answered() {
    let mut world = world(3);
    let client = world.connect(1, Shared);
    world.create(client, "t", 6);
    let too_large = ErrorCode::MessageTooLarge.code();
    let produce_all = |world: &mut World, expect: i16| {
        for partition in 0..6 {
            assert_eq!(produce(world, client, "t", partition, 2000), expect, "partition {partition}");
        }
    };
    produce_all(&mut world, 0);
    alter(&mut world, client, (TOPIC, "t", &[(SET, "max.message.bytes", Some("1000"))]));
    produce_all(&mut world, too_large);
    assert_eq!(described(&mut world, client, TOPIC, "t", "max.message.bytes"), ("1000".into(), 1));
    alter(&mut world, client, (TOPIC, "t", &[(DELETE, "max.message.bytes", None)]));
    produce_all(&mut world, 0);
    assert_eq!(described(&mut world, client, TOPIC, "t", "max.message.bytes"), ("1048588".into(), 5));
}

#[test]
fn a_brokers_changes_hold_for_topics_that_say_nothing_themselves_and_are_kept() {
    let mut world = world(2);
    let client = world.connect(0, Shared);
    world.create(client, "own", 2);
    world.create(client, "plain", 2);
    alter(&mut world, client, (TOPIC, "own", &[(SET, "max.message.bytes", Some("5000"))]));
    alter(&mut world, client, (BROKER, "", &[(SET, "message.max.bytes", Some("500"))]));
    alter(&mut world, client, (BROKER, "7", &[(SET, "message.max.bytes", Some("1000"))]));
    let check = |world: &mut World, client: Client| {
        for partition in 0..2 {
            assert_eq!(produce(world, client, "own", partition, 2000), 0);
            assert_eq!(produce(world, client, "plain", partition, 2000), ErrorCode::MessageTooLarge.code());
            assert_eq!(produce(world, client, "plain", partition, 700), 0);
        }
        assert_eq!(described(world, client, BROKER, "7", "message.max.bytes"), ("1000".into(), 2));
        assert_eq!(described(world, client, BROKER, "", "message.max.bytes"), ("500".into(), 3));
        assert_eq!(describe(world, client, BROKER, "").len(), 1);
        let topic = describe(world, client, TOPIC, "own");
        let row = topic.iter().find(|row| row.name.as_str() == "max.message.bytes").expect("there");
        let sources: Vec<i8> = row.synonyms.iter().map(|synonym| synonym.source).collect();
        assert_eq!(sources, [1, 2, 3, 5]);
        assert!(row.documentation.as_ref().is_some_and(|text| text.contains("Largest")));
    };
    check(&mut world, client);
    let mut world = world.restart(3, Settings { node_id: 7, ..Settings::default() });
    let client = world.connect(2, Shared);
    check(&mut world, client);
    // A topic made later has them too; and what is taken back is gone.
    world.create(client, "later", 1);
    assert_eq!(produce(&mut world, client, "later", 0, 2000), ErrorCode::MessageTooLarge.code());
    alter(&mut world, client, (BROKER, "7", &[(DELETE, "message.max.bytes", None)]));
    assert_eq!(produce(&mut world, client, "later", 0, 700), ErrorCode::MessageTooLarge.code());
    alter(&mut world, client, (BROKER, "", &[(DELETE, "message.max.bytes", None)]));
    assert_eq!(produce(&mut world, client, "later", 0, 2000), 0);
}

#[test]
fn a_setting_that_counts_at_its_use_counts_at_the_next() {
    let mut world = world(2);
    let client = world.connect(1, Shared);
    alter(&mut world, client, (BROKER, "", &[(SET, "num.partitions", Some("5"))]));
    let topic = CreatableTopic { name: "t".into(), num_partitions: -1, replication_factor: -1, ..Default::default() };
    let request = CreateTopicsRequest { topics: vec![topic], ..Default::default() };
    let reply: CreateTopicsResponse = world.call(client, key::CREATE_TOPICS, 7, &request);
    assert_eq!(reply.topics[0].num_partitions, 5);
}

#[test]
fn a_topic_begins_to_sync_and_ends_it_while_it_is_written_to() {
    let mut world = world(2);
    let client = world.connect(0, Shared);
    world.create(client, "t", 4);
    for round in 0..6 {
        let durability = if round % 2 == 0 { "write" } else { "sync" };
        alter(&mut world, client, (TOPIC, "t", &[(SET, "durability", Some(durability))]));
        for partition in 0..4 {
            assert_eq!(produce(&mut world, client, "t", partition, 300), 0, "round {round}");
        }
    }
    let mut world = world.restart(2, Settings { node_id: 7, ..Settings::default() });
    let client = world.connect(0, Shared);
    assert_eq!(produce(&mut world, client, "t", 0, 300), 0);
}

#[test]
fn groups_have_settings_within_what_the_broker_allows() {
    let mut world = world(2);
    let client = world.connect(0, Shared);
    let session = "consumer.session.timeout.ms";
    alter(&mut world, client, (GROUP, "g", &[(SET, session, Some("50000"))]));
    for shard in &world.shards {
        assert_eq!(shard.group_settings("g").consumer_session_timeout_ms, 50_000);
        assert_eq!(shard.group_settings("other").consumer_session_timeout_ms, 45_000);
    }
    assert_eq!(described(&mut world, client, GROUP, "g", session), ("50000".into(), 8));
    assert_eq!(described(&mut world, client, GROUP, "other", session), ("45000".into(), 5));
    let answers = alter_all(&mut world, client, &[(GROUP, "g", &[(SET, session, Some("61000"))])], false);
    assert_eq!(answers[0].0, ErrorCode::InvalidConfig.code());
    assert!(answers[0].1.contains("must be 45000 to 60000"), "{answers:?}");
}

#[test]
fn the_older_request_replaces_everything() {
    use alter_configs::*;
    let mut world = world(1);
    let client = world.connect(0, Shared);
    world.create(client, "t", 1);
    alter(&mut world, client, (TOPIC, "t", &[(SET, "flush.ms", Some("5")), (SET, "segment.ms", Some("6"))]));
    let config = |name: &str, value: Option<&str>| AlterableConfig { name: name.into(), value: value.map(Into::into) };
    let mut replace = |configs: Vec<AlterableConfig>, validate_only: bool| {
        let resource = AlterConfigsResource { resource_type: TOPIC, resource_name: "t".into(), configs };
        let request = AlterConfigsRequest { resources: vec![resource], validate_only };
        let reply: AlterConfigsResponse = world.call(client, key::ALTER_CONFIGS, 2, &request);
        let rows = describe(&mut world, client, TOPIC, "t");
        let own = rows.iter().filter(|row| row.config_source == 1).map(|row| row.name.to_string()).collect();
        (reply.responses[0].error_code, own)
    };
    let own = |names: &[&str]| -> Vec<String> { names.iter().map(|name| name.to_string()).collect() };
    let before = own(&["segment.ms", "flush.ms"]);
    assert_eq!(replace(vec![config("segment.ms", Some("7"))], true), (0, before.clone()));
    assert_eq!(replace(vec![config("segment.ms", None)], false), (ErrorCode::InvalidRequest.code(), before));
    assert_eq!(replace(vec![config("segment.ms", Some("7"))], false), (0, own(&["segment.ms"])));
    assert_eq!(replace(vec![], false), (0, own(&[])));
}

#[test]
fn what_cannot_be_is_refused_and_changes_nothing() {
    let mut world = world(2);
    let client = world.connect(0, Shared);
    world.create(client, "t", 1);
    let before = describe(&mut world, client, TOPIC, "t");
    let one: &[(i8, &str, Option<&str>)] = &[(SET, "flush.ms", Some("5"))];
    use ErrorCode::{InvalidConfig, InvalidRequest, UnknownTopicOrPartition};
    let rows: &[(Wish<'_>, ErrorCode, &str)] = &[
        ((TOPIC, "t", &[(SET, "flush.mss", Some("5"))]), InvalidConfig, "did you mean `flush.ms`?"),
        ((TOPIC, "t", &[(SET, "flush.ms", Some("x"))]), InvalidConfig, "plain number of milliseconds"),
        ((TOPIC, "t", &[(SET, "flush.ms", None)]), InvalidRequest, "no value"),
        ((TOPIC, "t", &[(APPEND, "flush.ms", Some("5"))]), InvalidConfig, "is no list"),
        ((TOPIC, "t", &[(9, "flush.ms", Some("5"))]), InvalidRequest, "operation 9"),
        ((TOPIC, "t", &[one[0], one[0]]), InvalidRequest, "more than once"),
        ((TOPIC, "x", one), UnknownTopicOrPartition, "no topic 'x'"),
        ((TOPIC, "", one), InvalidRequest, "must be named"),
        ((BROKER, "7", one), InvalidConfig, "is not a setting"),
        ((BROKER, "7", &[(SET, "node.id", Some("8"))]), InvalidConfig, "cannot change while the broker runs"),
        ((BROKER, "8", one), InvalidRequest, "no broker \"8\" on this listener, only 7"),
        ((BROKER, "seven", one), InvalidRequest, "which is a number"),
        ((LOGGER, "7", &[(SET, "root", Some("DEBUG"))]), InvalidConfig, "RUST_LOG"),
        ((GROUP, "", one), InvalidRequest, "must be named"),
        ((0, "t", one), InvalidRequest, "no resources of type 0"),
    ];
    let wishes: Vec<Wish<'_>> = rows.iter().map(|(wish, _, _)| *wish).collect();
    for (wish, code, part) in rows {
        let answers = alter_all(&mut world, client, &[*wish], false);
        assert_eq!(answers[0].0, code.code(), "{wish:?}: {answers:?}");
        assert!(answers[0].1.contains(part), "{wish:?}: {answers:?}");
    }
    // All together: what is named twice is refused, and nobody else's answer moves.
    let answers = alter_all(&mut world, client, &wishes, false);
    for ((wish, code, _), (got, message)) in rows.iter().zip(&answers) {
        let twice = wishes.iter().filter(|other| (other.0, other.1) == (wish.0, wish.1)).count() > 1;
        let expect = if twice { InvalidRequest } else { *code };
        assert_eq!(*got, expect.code(), "{wish:?}: {message}");
    }
    assert_eq!(describe(&mut world, client, TOPIC, "t"), before);
    // One that is right beside one that is wrong is done.
    let answers = alter_all(&mut world, client, &[(TOPIC, "x", one), (TOPIC, "t", one)], true);
    assert_eq!((answers[0].0, answers[1].0), (UnknownTopicOrPartition.code(), 0));
    assert_eq!(describe(&mut world, client, TOPIC, "t"), before, "it was only to be checked");
    alter_all(&mut world, client, &[(TOPIC, "x", one), (TOPIC, "t", one)], false);
    assert_eq!(described(&mut world, client, TOPIC, "t", "flush.ms"), ("5".into(), 1));
}

#[test]
fn a_per_core_listener_names_the_broker_by_its_cores() {
    let mut world = world(2);
    let client = world.connect(1, PerCore);
    alter(&mut world, client, (BROKER, "7001", &[(SET, "log.roll.ms", Some("9"))]));
    for name in ["7000", "7001"] {
        assert_eq!(described(&mut world, client, BROKER, name, "log.roll.ms"), ("9".into(), 2));
    }
    let answers = alter_all(&mut world, client, &[(BROKER, "7", &[(DELETE, "log.roll.ms", None)])], false);
    assert_eq!(answers[0].0, ErrorCode::InvalidRequest.code());
}

#[test]
fn a_subscription_to_metrics_is_there_until_it_has_no_setting() {
    let mut world = world(2);
    let client = world.connect(1, Shared);
    let ops: &[_] = &[(APPEND, "metrics", Some("a.,b.")), (SET, "interval.ms", Some("100"))];
    alter(&mut world, client, (CLIENT_METRICS, "m", ops));
    let describe = |world: &mut World, client: Client| {
        ["metrics", "interval.ms", "match"].map(|name| described(world, client, CLIENT_METRICS, "m", name))
    };
    let kept = [("a.,b.".into(), 7), ("100".into(), 7), (String::new(), 5)];
    assert_eq!(describe(&mut world, client), kept);
    let mut world = world.restart(1, Settings { node_id: 7, ..Settings::default() });
    let client = world.connect(0, Shared);
    assert_eq!(describe(&mut world, client), kept);
    for (setting, value, code) in [
        ("match", "client_id=(", ErrorCode::InvalidConfig),
        ("interval.ms", "99", ErrorCode::InvalidConfig),
        ("name", "x", ErrorCode::InvalidConfig),
    ] {
        let answers = alter_all(&mut world, client, &[(CLIENT_METRICS, "m", &[(SET, setting, Some(value))])], false);
        assert_eq!(answers[0].0, code.code(), "{answers:?}");
    }
    assert_eq!(describe(&mut world, client), kept);
    let gone: &[_] = &[(DELETE, "metrics", None), (DELETE, "interval.ms", None)];
    alter(&mut world, client, (CLIENT_METRICS, "m", gone));
    let request = ListConfigResourcesRequest { resource_types: vec![CLIENT_METRICS] };
    let reply: ListConfigResourcesResponse = world.call(client, key::LIST_CONFIG_RESOURCES, 1, &request);
    assert_eq!(reply.config_resources, []);
}

#[test]
fn what_has_settings_is_listed() {
    let mut world = world(1);
    let client = world.connect(0, Shared);
    world.create(client, "t", 1);
    alter(&mut world, client, (GROUP, "g", &[(SET, "consumer.session.timeout.ms", Some("50000"))]));
    alter(&mut world, client, (CLIENT_METRICS, "m", &[(SET, "metrics", Some("*"))]));
    let mut list = |version: i16, resource_types: &[i8]| {
        let request = ListConfigResourcesRequest { resource_types: resource_types.to_vec() };
        let reply: ListConfigResourcesResponse = world.call(client, key::LIST_CONFIG_RESOURCES, version, &request);
        let rows = reply.config_resources.iter();
        let rows = rows.map(|row| (row.resource_type, row.resource_name.to_string())).collect();
        (reply.error_code, rows)
    };
    let rows = |rows: &[(i8, &str)]| -> Vec<(i8, String)> { rows.iter().map(|row| (row.0, row.1.into())).collect() };
    let all = rows(&[(TOPIC, "t"), (BROKER, "7"), (LOGGER, "7"), (CLIENT_METRICS, "m"), (GROUP, "g")]);
    assert_eq!(list(1, &[]), (0, all));
    assert_eq!(list(1, &[GROUP, TOPIC, GROUP]), (0, rows(&[(TOPIC, "t"), (GROUP, "g")])));
    assert_eq!(list(1, &[CLIENT_METRICS]), (0, rows(&[(CLIENT_METRICS, "m")])));
    assert_eq!(list(0, &[]), (0, rows(&[(CLIENT_METRICS, "m")])));
    assert_eq!(list(1, &[TOPIC, 3]), (ErrorCode::UnsupportedVersion.code(), Vec::new()));
}
