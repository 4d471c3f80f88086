//! Three brokers' cores, wired to each other and to test disks; what core 0 does, the test does.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use super::*;
use crate::base::ids::{ConnId, DirectoryId, Incarnation, PartitionIndex, PeerId, TopicId};
use crate::base::limits::JOURNAL_BYTES_MIN;
use crate::base::names::CONSUMER_OFFSETS;
use crate::base::stage::Arrival;
use crate::base::testdisk::TestDisk;
use crate::broker::effect::{Admission, DiskToken, Effect, Input, ListenerKind};
use crate::broker::shard::{Listeners, ShardConfig};
use crate::config::{Address, Notation, Origin, RACK_AWARE_SELECTOR, Settings};
use crate::meta::{MetaRecord, PartitionParts};
use crate::replica::partition::Partition;
use crate::wire::codec::Message;
use crate::wire::compression::Compression;
use crate::wire::frame::{self, RequestHeader};
use crate::wire::messages::delete_records::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsResponse, DeleteRecordsTopic,
};
use crate::wire::messages::fetch::{FetchPartition, FetchRequest, FetchTopic};
use crate::wire::messages::list_groups::{ListGroupsRequest, ListGroupsResponse};
use crate::wire::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopic,
};
use crate::wire::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic, OffsetCommitResponse,
};
use crate::wire::messages::offset_fetch::{OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchResponse};
use crate::wire::messages::produce::{PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData};
use crate::wire::records::BatchBuilder;

/// The core that owns the one partition there is; core 0 is the test.
const CORE: CoreId = CoreId(1);
const CORES: u16 = 2;
const CLIENT: ConnId = ConnId(1_000_000);

struct World {
    nodes: Vec<Node>,
    now: Now,
    topic: TopicId,
    name: &'static str,
    state: PartitionParts,
    /// From the node that connected, by its id for the connection, to the node it reached.
    links: BTreeMap<(usize, PeerId), (usize, ConnId)>,
    conns: u64,
}

struct Node {
    shard: Shard,
    disk: TestDisk<DiskToken>,
    inputs: VecDeque<Input>,
    /// What its client has received.
    replies: Vec<u8>,
    proposals: Vec<(TopicPartition, IsrProposal)>,
    applied: u64,
    is_cut_off: bool,
}

fn node_ids() -> Vec<NodeId> {
    (1..=3).map(NodeId).collect()
}

fn address(port: u16) -> Address {
    Address { host: "h".into(), port }
}

fn broker(node: NodeId) -> Broker {
    let id = node.0 as u16;
    Broker {
        id: node,
        incarnation: [id as u8; 16],
        epoch: BrokerEpoch(i64::from(id)),
        directory: DirectoryId::UNKNOWN,
        shared: address(id),
        per_core: Vec::new(),
        peer: address(100 * id),
        cores: CORES,
        rack: Some(format!("rack {id}")),
        fenced: false,
        shutting_down: false,
    }
}

impl World {
    /// Three brokers with one partition of this topic, all in sync; the first leads.
    fn new(name: &'static str) -> World {
        World::with(name, Settings::default())
    }

    fn with(name: &'static str, settings: Settings) -> World {
        let on_core = |topic: &TopicId| {
            route::owner(TopicPartition { topic: *topic, partition: PartitionIndex(0) }, CORES) == CORE
        };
        let topic = (1..).map(|byte| TopicId([byte; 16])).find(on_core).unwrap();
        let state = PartitionState::initial(&node_ids()).unwrap().parts();
        let nodes = node_ids().into_iter().map(|node| Node::new(node, settings.clone())).collect();
        let now = Now { mono: Instant(1), wall_ms: 1_000_000 };
        let mut world = World { nodes, now, topic, name, state, links: BTreeMap::new(), conns: 0 };
        let mut records: Vec<MetaRecord> = vec![MetaRecord::ClusterCreated { cluster_id: "c".into() }];
        records.extend(node_ids().into_iter().map(|node| MetaRecord::BrokerRegistered(broker(node))));
        records.push(MetaRecord::TopicCreated {
            name: name.into(),
            id: topic,
            partitions: 1,
            placed: vec![node_ids()],
            settings: BTreeMap::from([("min.insync.replicas".into(), "2".into())]),
        });
        for at in 0..3 {
            for other in node_ids() {
                let mut effects = Effects::default();
                let now = world.now;
                world.nodes[at].shard.meet_node(other, broker(other).peer, now, &mut effects);
            }
            world.tell(at, records.clone());
            world.input(at, Input::FromShard { from: CoreId(0), message: ShardMessage::AllReady });
            world.input(at, Input::Opened { conn: CLIENT, listener: ListenerKind::Shared, host: "x".into(), port: 1 });
        }
        world.run();
        world
    }

    fn of(&self) -> TopicPartition {
        TopicPartition { topic: self.topic, partition: PartitionIndex(0) }
    }

    fn partition(&self, at: usize) -> &Partition {
        self.nodes[at].shard.partitions.get(self.of()).expect("the node has it")
    }

    fn ends(&self) -> Vec<i64> {
        (0..3).map(|at| self.partition(at).high_watermark().0).collect()
    }

    fn tell(&mut self, at: usize, records: Vec<MetaRecord>) {
        self.nodes[at].applied += 1;
        let sequence = self.nodes[at].applied;
        let message = ShardMessage::Meta { sequence, records };
        self.nodes[at].inputs.push_back(Input::FromShard { from: CoreId(0), message });
    }

    fn state_record(&self) -> MetaRecord {
        let TopicPartition { topic, partition } = self.of();
        MetaRecord::PartitionChanged { topic, partition, state: PartitionState::new(&self.state).unwrap() }
    }

    /// The controller decides; those among `told` hear of it.
    fn decide(&mut self, told: &[usize], change: impl FnOnce(&mut PartitionParts)) {
        change(&mut self.state);
        self.state.partition_epoch.0 += 1;
        for &at in told {
            let record = self.state_record();
            self.tell(at, vec![record]);
        }
    }

    /// Takes the in-sync sets that were proposed for the state as it is.
    fn grant(&mut self) {
        for at in 0..3 {
            for (_, proposal) in mem::take(&mut self.nodes[at].proposals) {
                if proposal.partition_epoch == self.state.partition_epoch {
                    self.decide(&[0, 1, 2], |state| {
                        state.isr = proposal.isr.iter().map(|(node, _)| *node).collect();
                    });
                }
            }
        }
        self.run();
    }

    fn input(&mut self, at: usize, input: Input) {
        self.nodes[at].inputs.push_back(input);
    }

    fn pass_ms(&mut self, ms: u64) {
        self.now = Now { mono: self.now.mono.after_ms(ms), wall_ms: self.now.wall_ms + ms as i64 };
        (0..3).for_each(|at| self.input(at, Input::Timeout));
        self.run();
    }

    /// A second goes by, in which everybody has done what there was to do.
    fn settle(&mut self) {
        (0..20).for_each(|_| self.pass_ms(50));
    }

    fn run(&mut self) {
        let mut steps = 0;
        while let Some(at) = (0..3).find(|at| self.nodes[*at].is_busy()) {
            steps += 1;
            assert!(steps < 100_000, "they never come to rest");
            let node = &mut self.nodes[at];
            let input = match node.inputs.pop_front() {
                Some(input) => input,
                None => {
                    let (token, result) = node.disk.step().expect("it is busy");
                    Input::Disk { token, result }
                }
            };
            let mut effects = Effects::default();
            if let Input::Frame { conn, frame, .. } = &input {
                assert_eq!(node.shard.admit(*conn, frame.len()), Admission::Read);
            }
            node.shard.step(input, self.now, &mut effects);
            let effects: Vec<Effect> = effects.drain().collect();
            effects.into_iter().for_each(|effect| self.carry_out(at, effect));
        }
    }

    fn carry_out(&mut self, at: usize, effect: Effect) {
        match effect {
            Effect::Disk { token, op } => self.nodes[at].disk.send(token, op),
            Effect::PeerOpen { peer, to } => self.connect(at, peer, &to),
            Effect::PeerSend { peer, data } => {
                let Some(&(other, conn)) = self.links.get(&(at, peer)) else { return };
                for frame in frames(data.concat()) {
                    let arrival = Arrival::at(self.now.mono);
                    self.input(other, Input::Frame { conn, frame, arrival });
                }
            }
            Effect::PeerClose { peer } => {
                if let Some((other, conn)) = self.links.remove(&(at, peer)) {
                    self.input(other, Input::Closed { conn });
                }
            }
            Effect::Send { conn, data } => {
                let bytes = data.concat();
                let began = self.now.mono;
                self.input(at, Input::Drained { conn, bytes: bytes.len(), began });
                if conn == CLIENT {
                    return self.nodes[at].replies.extend(bytes);
                }
                let link = self.links.iter().find(|(_, to)| **to == (at, conn)).map(|(from, _)| *from);
                let Some((asker, peer)) = link else { return };
                for frame in frames(bytes) {
                    let arrival = Arrival::at(self.now.mono);
                    self.input(asker, Input::PeerFrame { peer, frame, arrival });
                }
            }
            Effect::ToShard { to: CoreId(0), message: ShardMessage::IsrProposed(proposals) } => {
                self.nodes[at].proposals.extend(proposals);
            }
            Effect::Fatal { message } => panic!("{message}"),
            Effect::Close { .. } | Effect::Abort { .. } => panic!("nobody is sent away here"),
            _ => {}
        }
    }

    fn connect(&mut self, at: usize, peer: PeerId, to: &Address) {
        let other = usize::from(to.port / 100) - 1;
        assert_eq!(to.port % 100, CORE.0, "the core that has the partition is asked");
        if self.nodes[other].is_cut_off || self.nodes[at].is_cut_off {
            return self.input(at, Input::PeerClosed { peer, why: "cut off".into() });
        }
        self.conns += 1;
        let conn = ConnId(self.conns);
        self.links.insert((at, peer), (other, conn));
        self.input(other, Input::Opened { conn, listener: ListenerKind::Peer, host: "h".into(), port: 1 });
        self.input(at, Input::PeerOpened { peer });
    }

    /// Nobody reaches the node, and it reaches nobody.
    fn cut_off(&mut self, at: usize) {
        self.nodes[at].is_cut_off = true;
        let broken: Vec<_> = self.links.iter().filter(|((from, _), (to, _))| *from == at || *to == at).collect();
        let broken: Vec<_> = broken.into_iter().map(|(from, to)| (*from, *to)).collect();
        for ((from, peer), (to, conn)) in broken {
            self.links.remove(&(from, peer));
            self.input(from, Input::PeerClosed { peer, why: "cut off".into() });
            self.input(to, Input::Closed { conn });
        }
        self.run();
    }

    fn send<M: Message>(&mut self, at: usize, version: i16, body: &M) {
        let header = RequestHeader { api_key: M::API.key, version, correlation_id: 1, client_id: None };
        let bytes = frame::encode_request(&header, body).concat();
        let frame = frames(bytes).remove(0);
        let arrival = Arrival::at(self.now.mono);
        self.input(at, Input::Frame { conn: CLIENT, frame, arrival });
        self.run();
    }

    /// The reply, if it has come.
    fn reply<M: Message>(&mut self, at: usize, version: i16) -> Option<M> {
        let frames = frames(mem::take(&mut self.nodes[at].replies));
        assert!(frames.len() < 2);
        let (_, reply) = frame::decode_reply(M::API.key, version, frames.into_iter().next()?).unwrap();
        Some(reply)
    }

    fn ask<Q: Message, A: Message>(&mut self, at: usize, version: i16, body: &Q) -> A {
        self.send(at, version, body);
        self.reply(at, version).expect("an answer at once")
    }

    fn produce(&mut self, at: usize, acks: i16) {
        let mut builder = BatchBuilder::new(Compression::None);
        builder.push(self.now.wall_ms, None, Some(b"value"));
        let records = Some(builder.build().bytes);
        let body = ProduceRequest {
            acks,
            timeout_ms: 300_000,
            topic_data: vec![TopicProduceData {
                topic_id: self.topic,
                partition_data: vec![PartitionProduceData { index: 0, records }],
                ..TopicProduceData::default()
            }],
            ..ProduceRequest::default()
        };
        self.send(at, 13, &body);
    }

    /// The error code, the base offset and the leader that is named; none while the client waits.
    fn produced(&mut self, at: usize) -> Option<(i16, i64, i32)> {
        let reply: ProduceResponse = self.reply(at, 13)?;
        let row = &reply.responses[0].partition_responses[0];
        Some((row.error_code, row.base_offset, row.current_leader.leader_id))
    }

    fn latest(&mut self, at: usize) -> (i16, i64) {
        let partition = ListOffsetsPartition { current_leader_epoch: -1, timestamp: -1, ..Default::default() };
        let topic = ListOffsetsTopic { name: self.name.into(), partitions: vec![partition] };
        let body = ListOffsetsRequest { replica_id: -1, topics: vec![topic], ..Default::default() };
        let reply: ListOffsetsResponse = self.ask(at, 7, &body);
        let row = &reply.topics[0].partitions[0];
        (row.error_code, row.offset)
    }
}

impl Node {
    fn new(node: NodeId, settings: Settings) -> Node {
        let settings = Arc::new(Settings { node_id: node.0, journal_bytes: JOURNAL_BYTES_MIN, ..settings });
        let peer = broker(node).peer;
        let config = ShardConfig {
            core: CORE,
            cores: CORES,
            settings,
            listeners: Listeners { shared: broker(node).shared, per_core: Vec::new(), peer: Some(peer) },
            seed: node.0 as u64,
            incarnation: Incarnation(broker(node).incarnation),
            peer_key: None,
        };
        Node {
            shard: Shard::new(config),
            disk: TestDisk::new(node.0 as u64),
            inputs: VecDeque::new(),
            replies: Vec::new(),
            proposals: Vec::new(),
            applied: 0,
            is_cut_off: false,
        }
    }

    fn is_busy(&self) -> bool {
        !self.inputs.is_empty() || !self.disk.is_idle()
    }
}

/// Without their lengths.
fn frames(bytes: Vec<u8>) -> Vec<Bytes> {
    let mut rest = Bytes::from(bytes);
    let mut frames = Vec::new();
    while let Some(length) = rest.first_chunk().map(|bytes| i32::from_be_bytes(*bytes) as usize) {
        let frame = rest.split_to(4 + length);
        frames.push(frame.slice(4..));
    }
    frames
}

const NOT_LEADER: i16 = ErrorCode::NotLeaderOrFollower.code();

#[test]
fn acks_of_all_are_given_when_the_followers_have_fetched() {
    let mut world = World::new("t");
    world.settle();
    world.produce(0, -1);
    world.settle();
    assert_eq!(world.produced(0), Some((0, 0, -1)));
    assert_eq!((world.ends(), world.latest(0)), (vec![1, 1, 1], (0, 1)));
}

#[test]
fn followers_are_told_what_is_committed_without_being_woken_for_it() {
    let mut world = World::new("t");
    world.settle();
    let read = |world: &World| world.nodes[0].shard.reads.partitions_read();
    let before = read(&world);
    world.produce(0, -1);
    assert_eq!(world.produced(0), Some((0, 0, -1)));
    // Of each follower the fetch that the records ended, and the one that says that it has them.
    assert_eq!((read(&world) - before, world.ends()), (4, vec![1, 0, 0]));
    world.settle();
    assert_eq!(world.ends(), [1, 1, 1]);
}

#[test]
fn only_the_leader_is_asked_and_others_name_it() {
    let mut world = World::new("t");
    world.settle();
    world.produce(1, 1);
    assert_eq!(world.produced(1), Some((NOT_LEADER, -1, 1)));
    assert_eq!(world.latest(2), (NOT_LEADER, -1));
    let version = 13;
    let fetch = |replica_id: i32, topic_id| FetchRequest {
        replica_id,
        topics: vec![FetchTopic {
            topic_id,
            partitions: vec![FetchPartition { partition_max_bytes: 100, ..FetchPartition::default() }],
            ..FetchTopic::default()
        }],
        ..FetchRequest::default()
    };
    let topic = world.topic;
    let reply: FetchResponse = world.ask(2, version, &fetch(-1, topic));
    assert_eq!(reply.responses[0].partitions[0].error_code, NOT_LEADER);
    let reply: FetchResponse = world.ask(0, version, &fetch(2, topic));
    assert_eq!(reply.error_code, ErrorCode::ClusterAuthorizationFailed.code(), "no client is a broker");
}

#[test]
fn another_leader_goes_on_where_the_first_was_committed() {
    let mut world = World::new("t");
    world.settle();
    world.produce(0, -1);
    world.settle();
    assert_eq!(world.produced(0), Some((0, 0, -1)));
    world.cut_off(0);
    world.produce(0, -1);
    world.decide(&[1, 2], |state| {
        state.isr = vec![NodeId(2), NodeId(3)];
        state.leader = Some(NodeId(2));
        state.leader_epoch = LeaderEpoch(1);
    });
    world.settle();
    world.produce(1, -1);
    world.settle();
    assert_eq!(world.produced(1), Some((0, 1, -1)));
    assert_eq!(world.produced(0), None);
    world.nodes[0].is_cut_off = false;
    let record = world.state_record();
    world.tell(0, vec![record]);
    world.run();
    assert_eq!(world.produced(0), Some((NOT_LEADER, -1, 2)));
    world.settle();
    assert_eq!(world.ends(), [2, 2, 2]);
    world.grant();
    assert_eq!(world.state.isr, node_ids(), "whoever has caught up is proposed, and in sync again");
}

/// The controller moves leadership.
fn lead(world: &mut World, leader: NodeId) {
    world.decide(&[0, 1, 2], |state| {
        state.leader = Some(leader);
        state.leader_epoch.0 += 1;
    });
    world.run();
}

#[test]
fn a_follower_asks_at_once_whom_it_asked_before() {
    let mut world = World::new("t");
    world.settle();
    lead(&mut world, NodeId(2));
    lead(&mut world, NodeId(1));
    world.produce(0, -1);
    assert_eq!(world.produced(0), Some((0, 0, -1)), "no time goes by");
}

#[test]
fn who_waits_for_records_is_told_at_once_that_another_leads() {
    let mut world = World::new("t");
    world.settle();
    let version = 16;
    let partitions = vec![FetchPartition { partition_max_bytes: 100, ..FetchPartition::default() }];
    let topics = vec![FetchTopic { topic_id: world.topic, partitions, ..FetchTopic::default() }];
    world.send(0, version, &FetchRequest { max_wait_ms: 60_000, min_bytes: 1, topics, ..FetchRequest::default() });
    assert!(world.reply::<FetchResponse>(0, version).is_none());
    lead(&mut world, NodeId(3));
    let reply: FetchResponse = world.reply(0, version).expect("at once");
    let row = &reply.responses[0].partitions[0];
    assert_eq!((row.error_code, row.current_leader.leader_id), (NOT_LEADER, 3));
}

/// Deletes what is below the offset. The error and the low watermark, or nothing while the client waits.
fn delete_records(world: &mut World, offset: i64, timeout_ms: i32) -> Option<(i16, i64)> {
    let partitions = vec![DeleteRecordsPartition { partition_index: 0, offset }];
    let topics = vec![DeleteRecordsTopic { name: world.name.into(), partitions }];
    world.send(0, 2, &DeleteRecordsRequest { topics, timeout_ms });
    deleted(world)
}

fn deleted(world: &mut World) -> Option<(i16, i64)> {
    let reply: DeleteRecordsResponse = world.reply(0, 2)?;
    let row = &reply.topics[0].partitions[0];
    Some((row.error_code, row.low_watermark))
}

#[test]
fn deleted_records_are_gone_everywhere_before_the_answer() {
    let mut world = World::new("t");
    (0..3).for_each(|_| world.produce(0, -1));
    world.settle();
    world.nodes[0].replies.clear();
    assert_eq!(delete_records(&mut world, 2, 60_000), Some((0, 2)), "no time goes by");
    let starts: Vec<i64> = (0..3).map(|at| world.partition(at).log_start().0).collect();
    assert_eq!(starts, [2, 2, 2]);
    world.cut_off(2);
    assert_eq!(delete_records(&mut world, 3, 1_000), None);
    world.pass_ms(1_000);
    assert_eq!(deleted(&mut world), Some((ErrorCode::RequestTimedOut.code(), -1)));
    assert_eq!(delete_records(&mut world, 3, 60_000), None);
    (0..2).for_each(|at| world.tell(at, vec![MetaRecord::BrokerFenced { id: NodeId(3) }]));
    world.decide(&[0, 1], |state| state.isr = vec![NodeId(1), NodeId(2)]);
    world.run();
    assert_eq!(deleted(&mut world), Some((0, 3)), "who is away is not waited for");
}

/// A consumer's fetch of this version.
const NEAR_VERSION: i16 = 13;

fn send_fetch(world: &mut World, at: usize, rack: &str, from: i64) {
    let wanted = FetchPartition { fetch_offset: from, partition_max_bytes: 1 << 20, ..FetchPartition::default() };
    let topics = vec![FetchTopic { topic_id: world.topic, partitions: vec![wanted], ..FetchTopic::default() }];
    let wait = FetchRequest { max_wait_ms: 60_000, min_bytes: 1, max_bytes: 1 << 20, ..FetchRequest::default() };
    world.send(at, NEAR_VERSION, &FetchRequest { topics, rack_id: rack.into(), ..wait });
}

/// The error, the replica to be asked instead, and whether there are records; nothing while the fetch waits.
fn fetched(world: &mut World, at: usize) -> Option<(i16, i32, bool)> {
    let reply: FetchResponse = world.reply(at, NEAR_VERSION)?;
    let row = &reply.responses[0].partitions[0];
    let bytes = row.records.iter().flat_map(|records| &records.0).map(Bytes::len).sum::<usize>();
    Some((row.error_code, row.preferred_read_replica, bytes > 0))
}

fn fetch_at(world: &mut World, at: usize, rack: &str, from: i64) -> Option<(i16, i32, bool)> {
    send_fetch(world, at, rack, from);
    fetched(world, at)
}

#[test]
fn a_consumer_that_tells_its_rack_reads_from_the_replica_there() {
    let rack_aware = Settings { replica_selector_class: RACK_AWARE_SELECTOR.into(), ..Settings::default() };
    let mut world = World::with("t", rack_aware);
    (0..3).for_each(|_| world.produce(0, -1));
    world.settle();
    world.nodes[0].replies.clear();
    assert_eq!(fetch_at(&mut world, 0, "rack 3", 0), Some((0, 3, false)));
    assert_eq!(fetch_at(&mut world, 2, "rack 3", 0), Some((0, -1, true)));
    for rack in ["rack 1", "rack 9", ""] {
        assert_eq!(fetch_at(&mut world, 0, rack, 0), Some((0, -1, true)), "{rack:?}");
    }
    assert_eq!(fetch_at(&mut world, 2, "", 0), Some((NOT_LEADER, -1, false)));
    // What comes is there as soon as it is committed, without any time passing.
    assert_eq!(fetch_at(&mut world, 2, "rack 3", 3), None);
    world.produce(0, -1);
    assert_eq!(fetched(&mut world, 2), Some((0, -1, true)));
    assert_eq!(world.produced(0), Some((0, 3, -1)));
    // Who has less than the consumer serves it no more.
    world.cut_off(2);
    world.produce(0, 1);
    assert_eq!(world.produced(0), Some((0, 4, -1)));
    let out_of_range = ErrorCode::OffsetOutOfRange.code();
    assert_eq!(fetch_at(&mut world, 2, "rack 3", 5), Some((out_of_range, -1, false)));
    assert_eq!(fetch_at(&mut world, 0, "rack 3", 5), None, "the leader itself serves it");
}

#[test]
fn a_leader_sends_nobody_elsewhere_unless_it_is_told_to() {
    let mut world = World::new("t");
    world.produce(0, -1);
    world.settle();
    world.nodes[0].replies.clear();
    assert_eq!(fetch_at(&mut world, 0, "rack 3", 0), Some((0, -1, true)));
}

/// A follower that is not in sync comes back, and the bytes that it gets in a second are bounded.
fn check_throttle(rate_name: &str, replicas_name: &str) {
    // Each core has half of it, which is less than a batch.
    let mut settings = Settings { replica_fetch_max_bytes: 1, ..Settings::default() };
    settings.set(rate_name, "100", Notation::Kafka, Origin::Flag).unwrap();
    let mut world = World::with("t", settings);
    let min_isr = ("min.insync.replicas".to_owned(), "2".to_owned());
    for (replicas, is_bounded) in [("0:1,0:3", true), ("1:1,1:3", false)] {
        let settings = BTreeMap::from([min_isr.clone(), (replicas_name.to_owned(), replicas.to_owned())]);
        let id = world.topic;
        (0..3).for_each(|at| world.tell(at, vec![MetaRecord::TopicSettingsChanged { id, settings: settings.clone() }]));
        world.cut_off(2);
        (0..3).for_each(|at| world.tell(at, vec![MetaRecord::BrokerFenced { id: NodeId(3) }]));
        world.decide(&[0, 1], |state| state.isr = vec![NodeId(1), NodeId(2)]);
        let before = world.ends()[0];
        (0..10).for_each(|_| world.produce(0, -1));
        world.settle();
        assert_eq!(world.ends()[..2], [before + 10; 2], "who is in sync is not bounded");
        world.nodes[0].replies.clear();
        world.nodes[2].is_cut_off = false;
        let record = world.state_record();
        world.tell(2, vec![record]);
        (0..3).for_each(|at| world.tell(at, vec![MetaRecord::BrokerUnfenced { id: NodeId(3) }]));
        (0..60).for_each(|_| world.pass_ms(50));
        let has = world.partition(2).log_end().0 - before;
        assert_eq!((1..9).contains(&has), is_bounded, "{replicas}: {has} records in three seconds");
        (0..400).for_each(|_| world.pass_ms(50));
        assert_eq!(world.partition(2).log_end().0 - before, 10, "in the end it has them all");
        world.grant();
        assert_eq!(world.state.isr, node_ids());
    }
}

#[test]
fn leaders_send_what_is_throttled_at_the_rate_that_is_set() {
    check_throttle("leader.replication.throttled.rate", "leader.replication.throttled.replicas");
}

#[test]
fn followers_fetch_what_is_throttled_at_the_rate_that_is_set() {
    check_throttle("follower.replication.throttled.rate", "follower.replication.throttled.replicas");
}

#[test]
fn who_does_not_fetch_leaves_the_set() {
    let mut world = World::new("t");
    world.settle();
    world.cut_off(2);
    world.produce(0, -1);
    world.settle();
    assert_eq!(world.produced(0), None);
    world.pass_ms(2 * Settings::default().replica_lag_time_max_ms);
    world.settle();
    world.grant();
    assert_eq!((world.produced(0), world.state.isr.len()), (Some((0, 0, -1)), 2));
}

#[test]
fn a_replica_that_is_moved_goes_and_comes() {
    let mut world = World::new("t");
    world.produce(0, -1);
    world.settle();
    world.decide(&[0, 1, 2], |state| {
        state.replicas = vec![NodeId(1), NodeId(2)];
        state.isr = state.replicas.clone();
    });
    world.run();
    let of = world.of();
    assert!(world.nodes[2].shard.partitions.get(of).is_none() && !world.nodes[2].disk.has_dir("t-0".as_ref()));
    world.decide(&[0, 1, 2], |state| state.replicas = node_ids());
    world.settle();
    world.grant();
    world.settle();
    assert_eq!((world.ends(), world.state.isr.len()), (vec![1, 1, 1], 3));
}

#[test]
fn a_replica_goes_once_however_often_its_broker_is_told() {
    let mut world = World::new("t");
    world.settle();
    world.decide(&[], |state| {
        state.replicas = vec![NodeId(1), NodeId(2)];
        state.isr = state.replicas.clone();
    });
    let first = world.state_record();
    world.decide(&[], |state| state.isr = vec![NodeId(1)]);
    let second = world.state_record();
    world.tell(2, vec![first, second]);
    world.settle();
    assert!(world.nodes[2].shard.partitions.is_empty() && world.nodes[2].shard.partitions.is_closed());
}

#[test]
fn no_replica_goes_before_this_run_is_registered() {
    let mut world = World::new("t");
    world.settle();
    let before = Broker { incarnation: [9; 16], epoch: BrokerEpoch(4), ..broker(NodeId(3)) };
    world.tell(2, vec![MetaRecord::BrokerRegistered(before)]);
    world.decide(&[2], |state| {
        state.replicas = vec![NodeId(1), NodeId(2)];
        state.isr = state.replicas.clone();
    });
    world.settle();
    let of = world.of();
    assert!(world.nodes[2].shard.partitions.get(of).is_some());
    let this_run = Broker { epoch: BrokerEpoch(5), ..broker(NodeId(3)) };
    world.tell(2, vec![MetaRecord::BrokerRegistered(this_run)]);
    world.settle();
    assert!(world.nodes[2].shard.partitions.get(of).is_none());
}

#[test]
fn a_deleted_topic_goes_everywhere() {
    let mut world = World::new("t");
    world.produce(0, -1);
    world.settle();
    for at in 0..3 {
        let id = world.topic;
        world.tell(at, vec![MetaRecord::TopicDeleted { id }]);
    }
    world.settle();
    for node in &world.nodes {
        assert!(node.shard.partitions.is_empty() && !node.disk.has_dir("t-0".as_ref()));
    }
}

#[test]
fn groups_are_coordinated_where_their_partition_is_led() {
    let mut world = World::new(CONSUMER_OFFSETS);
    world.settle();
    let commit = OffsetCommitRequest {
        group_id: "g".into(),
        topics: vec![OffsetCommitRequestTopic {
            name: CONSUMER_OFFSETS.into(),
            partitions: vec![OffsetCommitRequestPartition { committed_offset: 7, ..Default::default() }],
            ..Default::default()
        }],
        ..OffsetCommitRequest::default()
    };
    let code = |reply: &OffsetCommitResponse| reply.topics[0].partitions[0].error_code;
    assert_eq!(code(&world.ask(1, 8, &commit)), ErrorCode::NotCoordinator.code());
    world.send(0, 8, &commit);
    world.settle();
    assert_eq!(code(&world.reply(0, 8).expect("committed")), 0);
    world.decide(&[0, 1, 2], |state| {
        state.leader = Some(NodeId(3));
        state.leader_epoch = LeaderEpoch(1);
    });
    world.settle();
    assert_eq!(code(&world.ask(0, 8, &commit)), ErrorCode::NotCoordinator.code());
    let fetch = OffsetFetchRequest {
        groups: vec![OffsetFetchRequestGroup { group_id: "g".into(), topics: None, ..Default::default() }],
        ..OffsetFetchRequest::default()
    };
    let reply: OffsetFetchResponse = world.ask(2, 8, &fetch);
    assert_eq!(reply.groups[0].error_code, 0);
    assert_eq!(reply.groups[0].topics[0].partitions[0].committed_offset, 7);
    for (at, groups) in [(0, 0), (1, 0), (2, 1)] {
        let reply: ListGroupsResponse = world.ask(at, 4, &ListGroupsRequest::default());
        assert_eq!((reply.error_code, reply.groups.len()), (0, groups), "each lists its own");
    }
}
