//! Every nanosecond of a request is some stage's: the broker's decisions under a clock that goes on with each reading.

mod support;

use bytes::Bytes;
use corelog::base::ids::{CoreId, PartitionIndex};
use corelog::base::rng::Rng;
use corelog::base::stage::{STAGES, Stage, Timed};
use corelog::base::stage_counts::Snapshot;
use corelog::broker::api::key;
use corelog::broker::effect::ListenerKind::Shared;
use corelog::broker::message::TopicPartition;
use corelog::broker::route;
use corelog::config::Settings;
use corelog::wire::compression::Compression;
use corelog::wire::messages::create_topics::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest, CreateTopicsResponse,
};
use corelog::wire::messages::fetch::{FetchPartition, FetchRequest, FetchResponse, FetchTopic};
use corelog::wire::messages::produce::{PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData};
use corelog::wire::records::BatchBuilder;
use support::{Client, MemDisk, NOW_MS, World};

const PARTITIONS: i32 = 8;

/// A world with a topic `t` and a clock that runs, a client of core 0, and the partitions to ask for: with several cores
/// those of the others, since the stages of a request are those of the partition that was last to answer.
fn world(cores: u16, settings: Settings, configs: &[(&str, &str)]) -> (World, Client, Vec<i32>) {
    let mut world = World::start(cores, settings, MemDisk::default());
    world.run_clock();
    let client = world.connect(0, Shared);
    let configs = configs
        .iter()
        .map(|(name, value)| CreatableTopicConfig { name: (*name).into(), value: Some((*value).into()) })
        .collect();
    let topic = CreatableTopic {
        name: "t".into(),
        num_partitions: PARTITIONS,
        replication_factor: 1,
        configs,
        ..Default::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 1000, ..Default::default() };
    let reply: CreateTopicsResponse = world.call(client, key::CREATE_TOPICS, 7, &request);
    assert_eq!(reply.topics[0].error_code, 0, "{reply:?}");
    let topic = reply.topics[0].topic_id;
    let owner = |index: &i32| route::owner(TopicPartition { topic, partition: PartitionIndex(*index) }, cores);
    let asked = (0..PARTITIONS).filter(|index| cores == 1 || owner(index) != CoreId(0)).collect();
    (world, client, asked)
}

fn batch(record_bytes: usize) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.push(NOW_MS, None, Some(&vec![7; record_bytes]));
    builder.build().bytes
}

fn produce(acks: i16, partitions: impl IntoIterator<Item = i32>, record_bytes: usize) -> ProduceRequest {
    let row = |index| PartitionProduceData { index, records: Some(batch(record_bytes)) };
    let partition_data = partitions.into_iter().map(row).collect();
    let topic = TopicProduceData { name: "t".into(), partition_data, ..Default::default() };
    ProduceRequest { acks, timeout_ms: 1000, topic_data: vec![topic], ..Default::default() }
}

fn fetch(partitions: impl IntoIterator<Item = (i32, i64)>, max_wait_ms: i32) -> FetchRequest {
    let row = |(partition, fetch_offset)| FetchPartition {
        partition,
        fetch_offset,
        partition_max_bytes: 1 << 20,
        ..Default::default()
    };
    let partitions = partitions.into_iter().map(row).collect();
    FetchRequest {
        max_wait_ms,
        min_bytes: 1,
        max_bytes: 50 << 20,
        session_epoch: -1,
        topics: vec![FetchTopic { topic: "t".into(), partitions, ..Default::default() }],
        ..Default::default()
    }
}

fn stages(world: &World) -> Snapshot {
    let mut all = Snapshot::default();
    world.shards.iter().for_each(|shard| all.add(&shard.report().stages));
    all
}

/// How many requests there were, and the names of the stages that took any time. Checks that all time is theirs.
fn account(stages: &Snapshot, timed: Timed) -> (u64, Vec<&'static str>) {
    let mut sum_ns = 0;
    let mut names = Vec::new();
    for row in STAGES.iter().filter(|row| row.is_of(timed)) {
        let histogram = stages.histogram(timed, row.stage as usize);
        assert_eq!(histogram.count(), stages.requests[timed as usize], "{}", row.name);
        let ns = stages.sum_ns(timed, row.stage as usize);
        match row.stage {
            Stage::Total => assert_eq!(ns, sum_ns),
            Stage::Unaccounted => assert_eq!(ns, 0),
            _ if ns > 0 => names.push(row.name),
            _ => {}
        }
        sum_ns += ns;
    }
    for row in STAGES.iter().filter(|row| !row.is_of(timed)) {
        assert_eq!(stages.sum_ns(timed, row.stage as usize), 0, "{} is not of {}", row.name, timed.name());
    }
    (stages.requests[timed as usize], names)
}

/// What every request goes through, besides `own`.
fn with(own: &[&'static str]) -> Vec<&'static str> {
    let always = ["queue", "reply_queue", "socket_write"];
    STAGES.iter().map(|row| row.name).filter(|name| always.contains(name) || own.contains(name)).collect()
}

#[test]
fn a_produce_is_accounted_for_on_its_way_through_cores_writes_and_syncs() {
    let small = ["append", "device_write"];
    let here = ["decode", "check", "append", "device_write"];
    let across = ["decode", "mesh_hop", "check", "append", "device_write"];
    let synced = ["decode", "check", "append", "device_write", "sync"];
    let written = &[("durability", "write")][..];
    let every = &[("durability", "write"), ("flush.messages", "1")][..];
    let all = PARTITIONS as usize;
    for (cores, configs, partitions_max, record_bytes, own) in [
        (1, &[][..], 1, 100, &small[..]),
        (1, &[], 1, 1000, &here),
        (1, &[], all, 1000, &here),
        (3, &[], all, 1000, &across),
        (1, written, all, 1000, &here),
        (3, written, all, 1000, &across),
        (1, every, 1, 1000, &synced),
    ] {
        let settings = Settings { journal_bytes: 1 << 20, ..Settings::default() };
        let (mut world, client, mut partitions) = world(cores, settings, configs);
        partitions.truncate(partitions_max);
        // The first write of a partition waits for its file to be given space.
        let _: ProduceResponse = world.call(client, key::PRODUCE, 9, &produce(-1, 0..PARTITIONS, 100));
        let before = stages(&world);
        let reply: ProduceResponse = world.call(client, key::PRODUCE, 9, &produce(-1, partitions, record_bytes));
        assert!(reply.responses[0].partition_responses.iter().all(|row| row.error_code == 0), "{reply:?}");
        let (count, names) = account(&stages(&world).since(&before), Timed::Produce);
        let mut expect = with(own);
        expect.retain(|name| *name != "queue" || names.contains(name));
        let names: Vec<_> = names.into_iter().filter(|name| *name != "ack_wait").collect();
        assert_eq!((count, names), (1, expect));
    }
}

#[test]
fn a_batch_that_comes_during_a_write_waits_for_its_turn() {
    let (mut world, client, _) = world(1, Settings::default(), &[]);
    world.disk_held = true;
    for _ in 0..2 {
        world.send(client, key::PRODUCE, 9, &produce(-1, [0], 100));
    }
    world.release_disk();
    let (count, names) = account(&stages(&world), Timed::Produce);
    assert_eq!(count, 2);
    assert!(names.contains(&"write_queue"), "{names:?}");
}

#[test]
fn a_request_without_a_reply_is_over_when_it_is_stored() {
    let (mut world, client, _) = world(1, Settings::default(), &[]);
    world.send(client, key::PRODUCE, 9, &produce(0, [0], 100));
    let (count, names) = account(&stages(&world), Timed::Produce);
    assert_eq!(count, 1);
    assert!(!names.contains(&"socket_write") && names.contains(&"device_write"), "{names:?}");
}

#[test]
fn a_fetch_is_accounted_for_from_memory_from_disk_and_while_it_waits() {
    for cores in [1, 3] {
        let settings = Settings { tail_cache_bytes: 1 << 20, ..Settings::default() };
        let (mut world, client, partitions) = world(cores, settings, &[]);
        let owned =
            |names: &[&'static str]| if cores == 1 { with(names) } else { with(&[names, &["mesh_hop"]].concat()) };
        let expect = |world: &mut World, before: &Snapshot, own: &[&'static str]| {
            let (count, names) = account(&stages(world).since(before), Timed::Fetch);
            let mut expect = owned(own);
            expect.retain(|name| *name != "queue" || names.contains(name));
            assert_eq!((count, names), (1, expect), "{cores} cores");
        };
        let all = || partitions.iter().map(|partition| (*partition, 0));

        let before = stages(&world);
        world.send(client, key::FETCH, 11, &fetch(all(), 500));
        world.advance_ms(500);
        assert!(world.reply::<FetchResponse>(client, key::FETCH, 11).is_some());
        expect(&mut world, &before, &["log_read", "fetch_wait"]);

        let _: ProduceResponse = world.call(client, key::PRODUCE, 9, &produce(-1, 0..PARTITIONS, 100));
        let before = stages(&world);
        let _: FetchResponse = world.call(client, key::FETCH, 11, &fetch(all(), 500));
        expect(&mut world, &before, &["log_read", "encode"]);

        for _ in 0..4 {
            let _: ProduceResponse = world.call(client, key::PRODUCE, 9, &produce(-1, 0..PARTITIONS, 300_000));
        }
        let before = stages(&world);
        let _: FetchResponse = world.call(client, key::FETCH, 11, &fetch(all(), 500));
        expect(&mut world, &before, &["log_read", "device_read", "encode"]);
    }
}

#[test]
fn no_mixture_of_requests_leaves_any_time_unaccounted() {
    for seed in 0..4 {
        let mut rng = Rng::new(seed);
        let settings = Settings { tail_cache_bytes: 1 << 20, ..Settings::default() };
        let durability = if seed < 2 { "write" } else { "sync" };
        let configs = [("durability", durability), ("flush.messages", if seed % 2 == 0 { "3" } else { "1" })];
        let (mut world, first, _) = world(1 + (seed % 3) as u16, settings, &configs);
        let cores = world.shards.len() as u64;
        let mut clients: Vec<Client> = (0..5).map(|_| world.connect(rng.below(cores) as u16, Shared)).collect();
        clients.push(first);
        let (mut produced, mut fetched) = (0, 0);
        for _ in 0..400 {
            let client = clients[rng.below(clients.len() as u64) as usize];
            let from = rng.below(PARTITIONS as u64) as i32;
            let to = from + 1 + rng.below((PARTITIONS - from) as u64) as i32;
            match rng.below(10) {
                0 => world.disk_held = true,
                1 | 2 => world.release_disk(),
                3 => world.advance_ms(rng.below(300)),
                4..7 => {
                    let acks = if rng.below(4) == 0 { 0 } else { -1 };
                    world.send(client, key::PRODUCE, 9, &produce(acks, from..to, rng.below(20_000) as usize));
                    produced += 1;
                }
                _ => {
                    let offset = rng.below(4) as i64 * 5;
                    world.send(client, key::FETCH, 11, &fetch((from..to).map(|at| (at, offset)), 200));
                    fetched += 1;
                }
            }
        }
        world.release_disk();
        world.advance_ms(1000);
        let all = stages(&world);
        assert!(world.closed.is_empty());
        assert_eq!(
            (account(&all, Timed::Produce).0, account(&all, Timed::Fetch).0),
            (produced, fetched),
            "seed {seed}"
        );
    }
}
