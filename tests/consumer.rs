//! The load generator's consumer against the broker's decisions, over a disk in memory.
#![cfg(feature = "shell")]

mod support;

use std::collections::BTreeMap;

use bytes::Bytes;
use corelog::bench::consumer::{Consumer, ConsumerSettings, Received, StartAt, Until, Verdict};
use corelog::bench::payload::{FillerPool, Payload, RunTag, Sizes, ValueHead, stream_id};
use corelog::bench::tally::{SentStream, Settled};
use corelog::bench::topics::Topics;
use corelog::broker::api::key;
use corelog::broker::effect::ListenerKind::PerCore;
use corelog::config::Settings;
use corelog::wire::compression::Compression;
use corelog::wire::messages::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use corelog::wire::messages::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponse};
use corelog::wire::messages::produce::{PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData};
use corelog::wire::records::BatchBuilder;
use support::{Client, MemDisk, NOW_MS, World};

const PARTITIONS: i32 = 6;
const PRODUCERS: u32 = 2;

/// A broker of two cores, its clients, and what was sent to it.
struct Scene {
    world: World,
    /// Connections to each core's listener, by the broker id it shows: of the producers, and of the consumer.
    clients: BTreeMap<i32, Client>,
    readers: BTreeMap<i32, Client>,
    payload: Payload,
    sent: BTreeMap<u32, SentStream>,
}

impl Scene {
    fn new() -> Scene {
        let mut world = World::start(2, Settings::default(), MemDisk::default());
        let mut connect = |core: u16| (1000 + i32::from(core), world.connect(core, PerCore));
        let clients: BTreeMap<_, _> = (0..2).map(&mut connect).collect();
        let readers: BTreeMap<_, _> = (0..2).map(&mut connect).collect();
        world.create(clients[&1000], "t", PARTITIONS);
        let pool = FillerPool::new(3.0, 200, 1).expect("a good ratio");
        let payload = Payload::new(RunTag::new(1), Sizes::Uniform(24, 200), pool, 1).expect("good sizes");
        Scene { world, clients, readers, payload, sent: BTreeMap::new() }
    }

    fn metadata(&mut self) -> MetadataResponse {
        let topic = MetadataRequestTopic { name: Some("t".into()), ..Default::default() };
        let request = MetadataRequest { topics: Some(vec![topic]), ..Default::default() };
        self.world.call(self.clients[&1000], key::METADATA, 12, &request)
    }

    /// A batch of one producer, in every partition.
    fn produce(&mut self, producer: u32, compression: Compression, records: u64) {
        let leaders = self.metadata();
        for row in &leaders.topics[0].partitions {
            let stream = stream_id(producer, row.partition_index as u32, PARTITIONS as u32);
            let sent = self.sent.entry(stream).or_default();
            let mut builder = BatchBuilder::new(compression);
            for _ in 0..records {
                let mut value = Vec::new();
                let head = ValueHead { stream, sequence: sent.next, intended_ns: 1_000_000 };
                let size = self.payload.next_size();
                self.payload.append_value(&mut value, size, head);
                builder.push(NOW_MS, None, Some(&value));
                sent.next += 1;
            }
            let data = PartitionProduceData { index: row.partition_index, records: Some(builder.build().bytes) };
            let topic = TopicProduceData { name: "t".into(), partition_data: vec![data], ..Default::default() };
            let request = ProduceRequest { acks: -1, timeout_ms: 1000, topic_data: vec![topic], ..Default::default() };
            let reply: ProduceResponse = self.world.call(self.clients[&row.leader_id], key::PRODUCE, 9, &request);
            assert_eq!(reply.responses[0].partition_responses[0].error_code, 0, "{reply:?}");
        }
    }

    /// Everything that happens within a second.
    fn turn(&mut self, consumer: &mut Consumer, received: &mut Received) {
        let now_ns = |world: &World| world.now.mono.0;
        if consumer.poll_metadata(now_ns(&self.world)) {
            let metadata = self.metadata();
            consumer.on_metadata(&metadata, now_ns(&self.world));
            for broker in consumer.brokers().collect::<Vec<_>>() {
                let request = ApiVersionsRequest::default();
                let versions: ApiVersionsResponse =
                    self.world.call(self.readers[&broker], key::API_VERSIONS, 3, &request);
                consumer.on_connected(broker, &versions).expect("versions in common");
            }
        }
        for _ in 0..10 {
            for (&broker, &client) in &self.readers {
                if let Some(frame) = consumer.poll_request(broker, now_ns(&self.world)) {
                    self.world.send_frame(client, Bytes::from(frame.concat()).slice(4..));
                }
            }
            self.world.advance_ms(100);
            for (&broker, &client) in &self.readers {
                if let Some(frame) = self.world.reply_frame(client) {
                    let now_ns = now_ns(&self.world);
                    consumer.on_reply(broker, frame, received, &mut || now_ns).expect("a good reply");
                }
            }
        }
    }

    fn verdict(&self, consumer: &Consumer) -> Verdict {
        consumer.settle(PRODUCERS, |stream| self.sent.get(&stream))
    }
}

fn topics() -> Topics {
    Topics::new(["t"], PARTITIONS as u32)
}

#[test]
fn a_backlog_is_read_whole() {
    for sessions in [true, false] {
        let mut scene = Scene::new();
        for compression in Compression::ALL {
            (0..PRODUCERS).for_each(|producer| scene.produce(producer, compression, 20));
        }
        let mut settings = ConsumerSettings::new(RunTag::new(1), StartAt::Earliest);
        settings.until = Until::EndOfLog;
        settings.sessions = sessions;
        settings.max_partition_fetch_bytes = 3000;
        let mut consumer = Consumer::new(settings, &topics(), &(0..PARTITIONS as u32).collect::<Vec<_>>());
        let mut received = Received::default();
        for _ in 0..100 {
            scene.turn(&mut consumer, &mut received);
        }
        assert!(consumer.is_drained(), "{:?}", consumer.complaints());
        let all = 5 * 20 * u64::from(PRODUCERS) * PARTITIONS as u64;
        assert_eq!((received.records, received.duplicates, received.reordered), (all, 0, 0));
        assert_eq!((received.arrivals.len() as u64, received.foreign, received.faults), (all, 0, 0));
        assert_eq!(scene.verdict(&consumer).sum, Settled::default());
        assert!(consumer.complaints().is_empty(), "{:?}", consumer.complaints());
    }
}

#[test]
fn a_live_consumer_keeps_up_and_drains() {
    let mut scene = Scene::new();
    scene.produce(0, Compression::None, 5);
    let before = std::mem::take(&mut scene.sent);
    let settings = ConsumerSettings::new(RunTag::new(1), StartAt::Latest);
    let mut consumer = Consumer::new(settings, &topics(), &(0..PARTITIONS as u32).collect::<Vec<_>>());
    let mut received = Received::default();
    scene.turn(&mut consumer, &mut received);
    assert!(consumer.is_placed());
    for round in 0..10 {
        scene.produce(1, Compression::ALL[round % 5], 3);
        scene.turn(&mut consumer, &mut received);
    }
    consumer.drain();
    scene.turn(&mut consumer, &mut received);
    assert!(consumer.is_drained(), "{:?}", consumer.complaints());
    assert_eq!((received.records, received.arrivals.len()), (180, 180));
    assert_eq!(scene.verdict(&consumer).sum, Settled::default());
    // What was there before is missing from its tally, as it should be.
    scene.sent = before;
    assert_eq!(scene.verdict(&consumer).sum.lost, 30);
}
