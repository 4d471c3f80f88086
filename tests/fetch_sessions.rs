//! Incremental fetch sessions, driven through the seam: what a fetch costs, whose turn it is, and that no change is
//! ever missed.

mod support;

use std::collections::BTreeMap;

use bytes::Bytes;
use corelog::base::metric::Metric;
use corelog::base::rng::Rng;
use corelog::broker::api::key;
use corelog::broker::effect::ListenerKind::Shared;
use corelog::config::Settings;
use corelog::wire::batch::BatchHeader;
use corelog::wire::compression::Compression;
use corelog::wire::errors::ErrorCode;
use corelog::wire::messages::create_partitions::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopic,
};
use corelog::wire::messages::delete_topics::{DeleteTopicState, DeleteTopicsRequest, DeleteTopicsResponse};
use corelog::wire::messages::fetch::{
    FetchPartition, FetchRequest, FetchResponse, FetchTopic, ForgottenTopic, PartitionData,
};
use corelog::wire::messages::produce::{PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData};
use corelog::wire::records::BatchBuilder;
use support::{Client, MemDisk, NOW_MS, World};

/// By name, without topic ids.
const FETCH_VERSION: i16 = 12;
const SEEDS: u64 = 40;

fn world(cores: u16, partitions: i32) -> (World, Client) {
    world_with(cores, partitions, Settings::default())
}

fn world_with(cores: u16, partitions: i32, settings: Settings) -> (World, Client) {
    let mut world = World::start(cores, settings, MemDisk::default());
    let client = world.connect(0, Shared);
    world.create(client, "t", partitions);
    (world, client)
}

fn delete(world: &mut World, client: Client) {
    let topics = vec![DeleteTopicState { name: Some("t".into()), ..Default::default() }];
    let request = DeleteTopicsRequest { topics, timeout_ms: 1000, ..Default::default() };
    let reply: DeleteTopicsResponse = world.call(client, key::DELETE_TOPICS, 6, &request);
    assert_eq!(reply.responses[0].error_code, 0, "{reply:?}");
}

fn batch() -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.push(NOW_MS, None, Some(b"value"));
    builder.build().bytes
}

/// Stores one record.
fn produce(world: &mut World, client: Client, partition: i32) {
    let row = PartitionProduceData { index: partition, records: Some(batch()) };
    let topic = TopicProduceData { name: "t".into(), partition_data: vec![row], ..Default::default() };
    let request = ProduceRequest { acks: -1, timeout_ms: 1000, topic_data: vec![topic], ..Default::default() };
    let reply: ProduceResponse = world.call(client, key::PRODUCE, 9, &request);
    assert_eq!(reply.responses[0].partition_responses[0].error_code, 0, "{reply:?}");
}

fn partitions_read(world: &World) -> u64 {
    world.shards.iter().map(|shard| shard.report().metrics.get(Metric::PartitionsRead)).sum()
}

/// A consumer as Kafka's: it keeps a session, and names only what it has moved in.
struct Consumer {
    client: Client,
    session_id: i32,
    epoch: i32,
    /// Where it is in the partitions it follows.
    positions: BTreeMap<i32, i64>,
    /// What the next request has to name.
    moved: Vec<i32>,
    forgotten: Vec<i32>,
    max_wait_ms: i32,
    min_bytes: i32,
    max_bytes: i32,
}

impl Consumer {
    fn new(world: &mut World, core: u16, partitions: std::ops::Range<i32>) -> Consumer {
        Consumer {
            client: world.connect(core, Shared),
            session_id: 0,
            epoch: 0,
            positions: partitions.clone().map(|partition| (partition, 0)).collect(),
            moved: partitions.collect(),
            forgotten: Vec::new(),
            max_wait_ms: 0,
            min_bytes: 1,
            max_bytes: 50 << 20,
        }
    }

    fn request(&mut self) -> FetchRequest {
        let row = |partition| FetchPartition {
            partition,
            fetch_offset: self.positions[&partition],
            current_leader_epoch: -1,
            last_fetched_epoch: -1,
            partition_max_bytes: 1 << 20,
            ..Default::default()
        };
        let partitions: Vec<_> = std::mem::take(&mut self.moved).into_iter().map(row).collect();
        let mut request = FetchRequest {
            max_wait_ms: self.max_wait_ms,
            min_bytes: self.min_bytes,
            max_bytes: self.max_bytes,
            session_id: self.session_id,
            session_epoch: self.epoch,
            ..Default::default()
        };
        if !partitions.is_empty() {
            request.topics.push(FetchTopic { topic: "t".into(), partitions, ..Default::default() });
        }
        let partitions = std::mem::take(&mut self.forgotten);
        if !partitions.is_empty() {
            let topic = ForgottenTopic { topic: "t".into(), partitions, ..Default::default() };
            request.forgotten_topics_data.push(topic);
        }
        self.epoch += 1;
        request
    }

    fn send(&mut self, world: &mut World) {
        let request = self.request();
        world.send(self.client, key::FETCH, FETCH_VERSION, &request);
    }

    /// Takes a reply: the partitions it tells of, with their errors and how many records it has of each.
    fn take(&mut self, world: &mut World) -> Option<Vec<(i32, i16, usize)>> {
        let reply: FetchResponse = world.reply(self.client, key::FETCH, FETCH_VERSION)?;
        assert_eq!(reply.error_code, 0);
        self.session_id = reply.session_id;
        let rows = reply.responses.iter().flat_map(|topic| &topic.partitions);
        Some(rows.map(|row| (row.partition_index, row.error_code, self.take_records(row))).collect())
    }

    fn take_records(&mut self, row: &PartitionData) -> usize {
        let mut rest = Bytes::from(row.records.as_ref().map(|records| records.0.concat()).unwrap_or_default());
        let mut count = 0;
        while !rest.is_empty() {
            let header = BatchHeader::read(&rest).unwrap();
            let batch = rest.split_to(header.size_bytes());
            let position = self.positions.get_mut(&row.partition_index).expect("a partition that is followed");
            assert_eq!(i64::from_be_bytes(batch[..8].try_into().unwrap()), *position, "nothing is left out");
            *position += 1;
            count += 1;
        }
        if count > 0 {
            self.moved.push(row.partition_index);
        }
        count
    }

    fn fetch(&mut self, world: &mut World) -> Vec<(i32, i16, usize)> {
        self.send(world);
        self.take(world).expect("an answer at once")
    }
}

#[test]
fn a_fetch_costs_what_has_changed_and_not_what_its_session_has() {
    for cores in [1, 3] {
        let (mut world, writer) = world(cores, 300);
        let mut consumer = Consumer::new(&mut world, 0, 0..300);
        let cost = |world: &mut World, act: &mut dyn FnMut(&mut World)| {
            let before = (partitions_read(world), world.mesh_messages);
            act(world);
            (partitions_read(world) - before.0, world.mesh_messages - before.1)
        };
        let (reads, _) = cost(&mut world, &mut |world| assert_eq!(consumer.fetch(world).len(), 300));
        assert_eq!(reads, 300);

        for _ in 0..10 {
            assert_eq!(cost(&mut world, &mut |world| assert!(consumer.fetch(world).is_empty())), (0, 0));
        }
        consumer.max_wait_ms = 500;
        for partition in 100..110 {
            // Only what gave data is read once more: it has come to its end, and is watched.
            let (reads, messages) = cost(&mut world, &mut |world| consumer.send(world));
            assert!(reads == u64::from(partition > 100) && messages <= 3 * reads, "{reads} reads, {messages} messages");
            produce(&mut world, writer, partition);
            assert_eq!(consumer.take(&mut world).expect("it wakes"), [(partition, 0, 1)]);
        }
        consumer.send(&mut world);
        world.advance_ms(500);
        assert_eq!(consumer.take(&mut world).expect("its time is up"), []);
        assert_eq!(cost(&mut world, &mut |world| (0..300).for_each(|_| world.advance_ms(500))), (0, 0));
    }
}

#[test]
fn partitions_take_turns_under_max_bytes_and_what_was_left_comes_without_a_change() {
    for cores in [1, 2] {
        let (mut world, writer) = world(cores, 4);
        let mut consumer = Consumer::new(&mut world, 0, 0..4);
        (0..8).for_each(|at| produce(&mut world, writer, at % 4));
        consumer.max_bytes = batch().len() as i32;
        let given: Vec<i32> = (0..8)
            .map(|_| {
                let rows = consumer.fetch(&mut world);
                let given: Vec<_> =
                    rows.into_iter().filter(|(_, error, records)| *error == 0 && *records > 0).collect();
                assert_eq!(given.len(), 1, "one batch is all that fits: {given:?}");
                given[0].0
            })
            .collect();
        for round in given.chunks(4) {
            let mut round = round.to_vec();
            round.sort_unstable();
            assert_eq!(round, [0, 1, 2, 3], "each has its turn: {given:?}");
        }
        assert_eq!(given[..4], given[4..]);
        assert_eq!(consumer.fetch(&mut world), []);
    }
}

#[test]
fn what_a_client_does_not_take_is_given_again() {
    let (mut world, writer) = world(2, 3);
    let mut consumer = Consumer::new(&mut world, 0, 0..3);
    consumer.fetch(&mut world);
    (0..3).for_each(|partition| produce(&mut world, writer, partition));
    for _ in 0..3 {
        let mut rows = consumer.fetch(&mut world);
        rows.sort_unstable();
        assert_eq!(rows, [(0, 0, 1), (1, 0, 1), (2, 0, 1)]);
        // As if it had not looked at them.
        consumer.moved.clear();
        consumer.positions.values_mut().for_each(|position| *position = 0);
    }
}

#[test]
fn a_waiting_fetch_has_its_least_before_it_is_answered() {
    for cores in [1, 3] {
        let (mut world, writer) = world(cores, 3);
        let mut consumer = Consumer::new(&mut world, 0, 0..3);
        consumer.fetch(&mut world);
        (consumer.max_wait_ms, consumer.min_bytes) = (500, 4 * batch().len() as i32);
        consumer.send(&mut world);
        for partition in [0, 1, 0] {
            produce(&mut world, writer, partition);
            assert!(consumer.take(&mut world).is_none());
        }
        produce(&mut world, writer, 2);
        let mut rows = consumer.take(&mut world).expect("enough");
        rows.sort_unstable();
        assert_eq!(rows, [(0, 0, 2), (1, 0, 1), (2, 0, 1)]);
        // Fewer come when its time is up.
        consumer.send(&mut world);
        produce(&mut world, writer, 1);
        assert!(consumer.take(&mut world).is_none());
        world.advance_ms(500);
        assert_eq!(consumer.take(&mut world).expect("its time is up"), [(1, 0, 1)]);
    }
}

#[test]
fn errors_are_told_until_they_are_gone() {
    for cores in [1, 2] {
        let (mut world, writer) = world(cores, 1);
        let mut consumer = Consumer::new(&mut world, 0, 0..2);
        let unknown = (1, ErrorCode::UnknownTopicOrPartition.code(), 0);
        assert_eq!(consumer.fetch(&mut world), [(0, 0, 0), unknown]);
        assert_eq!(consumer.fetch(&mut world), [unknown]);
        let topics = vec![CreatePartitionsTopic { name: "t".into(), count: 2, assignments: None }];
        let request = CreatePartitionsRequest { topics, timeout_ms: 1000, ..Default::default() };
        let reply: CreatePartitionsResponse = world.call(writer, key::CREATE_PARTITIONS, 3, &request);
        assert_eq!(reply.results[0].error_code, 0);
        assert_eq!(consumer.fetch(&mut world), [(1, 0, 0)], "it is there, and empty");
        assert_eq!(consumer.fetch(&mut world), []);

        // Beyond the end is an error, too; then it is corrected.
        consumer.positions.insert(0, 7);
        consumer.moved.push(0);
        let out_of_range = (0, ErrorCode::OffsetOutOfRange.code(), 0);
        assert_eq!(consumer.fetch(&mut world), [out_of_range]);
        assert_eq!(consumer.fetch(&mut world), [out_of_range]);
        consumer.positions.insert(0, 0);
        consumer.moved.push(0);
        assert_eq!(consumer.fetch(&mut world), [(0, 0, 0)]);
        assert_eq!(consumer.fetch(&mut world), []);

        // An epoch that this broker does not know yet.
        let mut request = consumer.request();
        request.topics = vec![FetchTopic {
            topic: "t".into(),
            partitions: vec![FetchPartition { partition: 1, current_leader_epoch: 5, ..Default::default() }],
            ..Default::default()
        }];
        let reply: FetchResponse = world.call(consumer.client, key::FETCH, FETCH_VERSION, &request);
        assert_eq!(reply.responses[0].partitions[0].error_code, ErrorCode::UnknownLeaderEpoch.code());
    }
}

#[test]
fn a_deleted_topic_is_told_to_who_waits_and_a_new_one_of_its_name_is_followed() {
    for cores in [1, 2] {
        let (mut world, writer) = world(cores, 2);
        let mut consumer = Consumer::new(&mut world, 0, 0..2);
        consumer.fetch(&mut world);
        consumer.max_wait_ms = 500;
        consumer.send(&mut world);
        delete(&mut world, writer);
        let rows = consumer.take(&mut world).expect("it is told");
        assert!(!rows.is_empty() && rows.iter().all(|(_, error, _)| *error != 0), "{rows:?}");
        let rows = consumer.fetch(&mut world);
        let unknown = ErrorCode::UnknownTopicOrPartition.code();
        assert_eq!(rows.iter().map(|(_, error, _)| *error).collect::<Vec<_>>(), [unknown, unknown]);
        world.create(writer, "t", 2);
        consumer.max_wait_ms = 0;
        assert_eq!(consumer.fetch(&mut world).len(), 2, "both are there again, and empty");
        consumer.max_wait_ms = 500;
        for partition in [1, 0, 1] {
            consumer.send(&mut world);
            assert!(consumer.take(&mut world).is_none());
            produce(&mut world, writer, partition);
            assert_eq!(consumer.take(&mut world).expect("it wakes"), [(partition, 0, 1)]);
        }
    }
}

#[test]
fn the_end_of_a_session_answers_who_waits_in_it_and_leaves_no_watches() {
    let evict = |world: &mut World, _: &Consumer| {
        // The one place is needed, and the session has not been used for long enough.
        world.advance_ms(130_000);
        let mut other = Consumer::new(world, 0, 0..1);
        other.fetch(world);
        assert_ne!(other.session_id, 0);
    };
    let close = |world: &mut World, consumer: &Consumer| {
        let client = world.connect(0, Shared);
        let request = FetchRequest { session_id: consumer.session_id, session_epoch: -1, ..Default::default() };
        let reply: FetchResponse = world.call(client, key::FETCH, FETCH_VERSION, &request);
        assert_eq!((reply.error_code, reply.session_id), (0, 0));
    };
    type End<'a> = &'a dyn Fn(&mut World, &Consumer);
    for (way, end) in [("evicted", &evict as End), ("closed", &close)] {
        let settings = Settings { max_incremental_fetch_session_cache_slots: 1, ..Settings::default() };
        let (mut world, writer) = world_with(2, 50, settings);
        let mut consumer = Consumer::new(&mut world, 0, 0..50);
        consumer.fetch(&mut world);
        consumer.max_wait_ms = 1_000_000;
        consumer.send(&mut world);
        assert!(consumer.take(&mut world).is_none());
        end(&mut world, &consumer);
        assert_eq!(consumer.take(&mut world).expect("it is answered"), [], "{way}");
        let refused: FetchResponse = world.call(consumer.client, key::FETCH, FETCH_VERSION, &consumer.request());
        assert_eq!(refused.error_code, ErrorCode::FetchSessionIdNotFound.code());
        // Partition 0 is followed by the session for which the other was evicted.
        let before = world.mesh_messages;
        let mut alone = 0;
        for partition in 1..50 {
            let start = world.mesh_messages;
            produce(&mut world, writer, partition);
            alone = alone.max(world.mesh_messages - start);
        }
        assert!(alone <= 2, "{way}: an append and its acknowledgement");
        assert!(world.mesh_messages > before, "some partitions are on the other core");
    }
}

#[test]
fn partitions_join_and_leave_a_session() {
    for cores in [1, 2] {
        let (mut world, writer) = world(cores, 20);
        let mut consumer = Consumer::new(&mut world, 0, 0..10);
        consumer.fetch(&mut world);
        (0..20).for_each(|partition| produce(&mut world, writer, partition));
        for partition in 0..5 {
            consumer.positions.remove(&partition);
            consumer.forgotten.push(partition);
        }
        for partition in 10..15 {
            consumer.positions.insert(partition, 0);
            consumer.moved.push(partition);
        }
        let mut rows = consumer.fetch(&mut world);
        rows.sort_unstable();
        assert_eq!(rows, (5..15).map(|partition| (partition, 0, 1)).collect::<Vec<_>>());
        // One that comes back begins anew.
        consumer.positions.insert(2, 0);
        consumer.moved.push(2);
        assert_eq!(consumer.fetch(&mut world), [(2, 0, 1)]);
        assert_eq!(consumer.fetch(&mut world), []);
        (0..5).for_each(|partition| produce(&mut world, writer, partition));
        assert_eq!(consumer.fetch(&mut world), [(2, 0, 1)]);
    }
}

#[test]
fn a_client_that_is_cut_off_and_one_that_does_not_wait_for_replies_miss_nothing() {
    for cores in [1, 2] {
        let (mut world, writer) = world(cores, 4);
        let mut consumer = Consumer::new(&mut world, 0, 0..4);
        consumer.fetch(&mut world);
        consumer.max_wait_ms = 500;
        consumer.send(&mut world);
        world.disconnect(consumer.client);
        produce(&mut world, writer, 3);
        consumer.client = world.connect(0, Shared);
        assert_eq!(consumer.fetch(&mut world), [(3, 0, 1)], "the session is still there");

        // Three at once, in one session: each ends the one before, and the change wakes the last.
        (0..3).for_each(|_| consumer.send(&mut world));
        assert_eq!([consumer.take(&mut world), consumer.take(&mut world)], [Some(vec![]), Some(vec![])]);
        assert!(consumer.take(&mut world).is_none());
        produce(&mut world, writer, 1);
        assert_eq!(consumer.take(&mut world).expect("it wakes"), [(1, 0, 1)]);
    }
}

/// Whatever happens, in whatever order: a waiting fetch wakes when there is something for it, without any time passing,
/// and in the end the consumer has everything.
fn follow(seed: u64) {
    let mut rng = Rng::new(seed);
    let cores = 1 + rng.below(3) as u16;
    let partitions = 1 + rng.below(12) as i32;
    // Without it every read waits for the disk.
    let tail_cache_bytes = [1, 1 << 20][rng.below(2) as usize];
    let settings = Settings { tail_cache_bytes, ..Settings::default() };
    let (mut world, writer) = world_with(cores, partitions, settings);
    let mut consumer = Consumer::new(&mut world, rng.below(u64::from(cores)) as u16, 0..partitions);
    consumer.max_wait_ms = 500;
    let mut ends = vec![0; partitions as usize];
    let mut in_flight = false;
    for _ in 0..300 {
        world.steps_per_run = Some(rng.below(6));
        if !in_flight {
            // As it changes its mind about partitions, or is slow.
            let partition = rng.below(partitions as u64) as i32;
            match rng.below(12) {
                0 if consumer.positions.len() > 1 && consumer.positions.remove(&partition).is_some() => {
                    consumer.moved.retain(|moved| *moved != partition);
                    consumer.forgotten.push(partition);
                }
                1 if !consumer.positions.contains_key(&partition) && !consumer.forgotten.contains(&partition) => {
                    consumer.positions.insert(partition, 0);
                    consumer.moved.push(partition);
                }
                _ => {}
            }
            consumer.max_bytes = batch().len() as i32 * (1 + rng.below(4) as i32);
            consumer.send(&mut world);
            in_flight = true;
        }
        match rng.below(8) {
            0 => world.disk_held = true,
            1 | 2 => world.release_disk(),
            3 => world.advance_ms(rng.below(300)),
            _ => {
                let partition = rng.below(partitions as u64) as i32;
                let row = PartitionProduceData { index: partition, records: Some(batch()) };
                let topic = TopicProduceData { name: "t".into(), partition_data: vec![row], ..Default::default() };
                let request =
                    ProduceRequest { acks: -1, timeout_ms: 1000, topic_data: vec![topic], ..Default::default() };
                world.send(writer, key::PRODUCE, 9, &request);
                ends[partition as usize] += 1;
            }
        }
        in_flight &= consumer.take(&mut world).is_none();
        if rng.below(4) > 0 {
            continue;
        }
        world.steps_per_run = None;
        world.run();
        in_flight &= consumer.take(&mut world).is_none();
        let behind = consumer.positions.iter().any(|(partition, at)| *at < ends[*partition as usize]);
        assert!(!(in_flight && behind && !world.disk_held), "seed {seed}: a fetch sleeps over records");
    }
    world.steps_per_run = None;
    world.release_disk();
    for _ in 0..300 {
        if in_flight {
            world.advance_ms(500);
            consumer.take(&mut world).expect("its time is up");
        }
        consumer.send(&mut world);
        in_flight = consumer.take(&mut world).is_none();
    }
    let has = |partition: &i32, at: &i64| *at == ends[*partition as usize];
    assert!(consumer.positions.iter().all(|(partition, at)| has(partition, at)), "seed {seed}: {ends:?}");
}

#[test]
fn no_change_is_ever_missed() {
    (0..SEEDS).for_each(follow);
}
