//! What must be true of several nodes at all times, from what they hold in memory: one controller a term and one leader
//! an epoch, the same metadata at the same place of their log, and what goes on and never back. And in peace, what must
//! come true.

use std::collections::BTreeMap;

use bytes::Bytes;
use corelog::base::ids::{LeaderEpoch, NodeId, Offset, PartitionEpoch, PartitionIndex};
use corelog::base::names::CONSUMER_OFFSETS;
use corelog::broker::message::TopicPartition;
use corelog::broker::shard::Shard;
use corelog::meta::{Image, MetaRecord, PartitionState, QuorumStatus};
use corelog::replica::partition::Partition;
use corelog::wire::batch::BatchHeader;

use crate::workload::Client;
use crate::world::World;

/// So many nodes of a cluster decide on metadata, where there are so many.
const VOTERS: usize = 3;

/// What was seen so far.
#[derive(Default)]
pub struct Witness {
    /// Who decided on metadata in a term of the quorum.
    controllers: BTreeMap<u64, NodeId>,
    /// Who led in an epoch.
    leaders: BTreeMap<(TopicPartition, LeaderEpoch), usize>,
    /// Of each core of a node in a life of its process: how many records of metadata it has applied.
    applied: BTreeMap<(usize, u16), (u32, u64)>,
    /// What a partition was with each of its epochs.
    states: BTreeMap<(TopicPartition, PartitionEpoch), PartitionState>,
    /// The last of them that each core of a node has.
    newest: BTreeMap<(usize, u16, TopicPartition), (u32, PartitionEpoch)>,
    /// Of each replica in a life of its process: its epoch, and the high watermark it had then.
    marks: BTreeMap<(usize, TopicPartition), (u32, LeaderEpoch, Offset)>,
}

impl Witness {
    pub fn look(&mut self, world: &World) {
        for (node, here) in world.nodes.iter().enumerate() {
            if world.is_serving(node) {
                self.look_at_quorum(node, &here.shards[0]);
            }
            for (core, shard) in here.shards.iter().enumerate() {
                self.look_at_metadata(world, (node, core as u16), here.life, shard.image());
                for (name, replica) in shard.replicas().filter(|(_, replica)| replica.is_online()) {
                    self.look_at_replica(node, here.life, name, replica);
                }
            }
        }
    }

    fn look_at_quorum(&mut self, node: usize, shard: &Shard) {
        let Some(QuorumStatus { term, leader: Some(leader), .. }) = shard.quorum() else { return };
        let known = *self.controllers.entry(term).or_insert(leader);
        assert_eq!(known, leader, "two controllers in term {term}: node {node} follows {leader}, and others {known}");
    }

    fn look_at_metadata(&mut self, world: &World, (node, core): (usize, u16), life: u32, image: &Image) {
        let applied = (life, image.offset());
        if self.applied.insert((node, core), applied) == Some(applied) {
            return;
        }
        for (topic, partition, state) in image.states() {
            let (name, epoch) = (TopicPartition { topic: topic.id, partition }, state.partition_epoch());
            let known = self.states.entry((name, epoch)).or_insert_with(|| {
                world.trace.say(world.now, || format!("{}-{partition} is {state:?}{}", topic.name, ends(world, name)));
                state.clone()
            });
            assert!(known == state, "{name:?} at epoch {epoch} is {state:?} on node {node} and {known:?} on another");
            let before = self.newest.insert((node, core, name), (life, epoch));
            let goes_on = before.is_none_or(|before| before.0 < life || before.1 <= epoch);
            assert!(goes_on, "{name:?} on node {node} goes back from {before:?} to {epoch}");
        }
    }

    fn look_at_replica(&mut self, node: usize, life: u32, name: TopicPartition, replica: &Partition) {
        let (epoch, mark) = (replica.epoch(), replica.high_watermark());
        if replica.is_leader() {
            let leader = *self.leaders.entry((name, epoch)).or_insert(node);
            assert_eq!(leader, node, "{name:?}: nodes {leader} and {node} both lead in epoch {epoch}");
        }
        let now = (life, epoch, mark);
        if let Some(before) = self.marks.insert((node, name), now).filter(|before| before.0 == life) {
            assert!(before.1 <= epoch, "{name:?} on node {node}: epoch {epoch} after {}", before.1);
            assert!(before.1 < epoch || before.2 <= mark, "{name:?} on node {node}: {mark} after {}", before.2);
        }
    }
}

/// What a leader alone has acknowledged is there for good once it is committed in the same epoch.
pub fn settle_acks(world: &mut World) {
    for part in world.model.unsettled() {
        let name = world.plan.topics[part.0].name.as_str();
        let shards: Vec<&Shard> = world.nodes.iter().flat_map(|node| &node.shards).collect();
        let Some(id) = shards.iter().find_map(|shard| shard.image().topic(name)).map(|topic| topic.id) else {
            continue;
        };
        let of = TopicPartition { topic: id, partition: PartitionIndex(part.1) };
        let replicas = shards.iter().flat_map(|shard| shard.replicas());
        let leaders: Vec<(LeaderEpoch, Offset)> = replicas
            .filter(|(name, replica)| *name == of && replica.is_leader() && replica.is_online())
            .map(|(_, replica)| (replica.epoch(), replica.high_watermark()))
            .collect();
        for (epoch, mark) in leaders {
            world.model.on_committed(part, epoch.0, mark.0);
        }
    }
}

/// What other metadata any core of any node has than the first.
pub fn changes_between(world: &World) -> Vec<MetaRecord> {
    let shards: Vec<&Shard> = world.nodes.iter().flat_map(|node| &node.shards).collect();
    shards.iter().flat_map(|shard| shards[0].image().changes_to(shard.image())).collect()
}

/// Every core of every node knows of the changes that were acknowledged.
pub fn check_changes(world: &World) {
    for client in &world.clients {
        if let Client::Changer(changer) = client {
            world.nodes.iter().flat_map(|node| &node.shards).for_each(|shard| changer.check(shard.image()));
        }
    }
}

/// How far each node has a partition, where it runs.
fn ends(world: &World, name: TopicPartition) -> String {
    let shards = world.nodes.iter().enumerate().flat_map(|(node, here)| here.shards.iter().map(move |of| (node, of)));
    let replicas = shards.flat_map(|(node, shard)| shard.replicas().map(move |replica| (node, replica)));
    let of_partition = replicas.filter(|(_, (other, _))| *other == name);
    of_partition
        .map(|(node, (_, replica))| {
            format!("; node {} has {} of {}", node + 1, replica.high_watermark(), replica.log_end())
        })
        .collect()
}

/// Every node serves, and every partition has a leader and all of its replicas in sync, as all nodes know.
pub fn is_in_sync(world: &World) -> bool {
    (0..world.nodes.len()).all(|node| world.is_serving(node))
        && world.nodes.iter().flat_map(|node| &node.shards).all(|shard| {
            let mut states = shard.image().states();
            states.all(|(_, _, state)| state.leader().is_some() && state.isr().count() == state.replicas().len())
        })
}

/// No replica holds what its leader has deleted.
fn begin_alike(world: &World) -> bool {
    let replicas = || world.nodes.iter().flat_map(|node| &node.shards).flat_map(|shard| shard.replicas());
    let leaders = replicas().filter(|(_, replica)| replica.is_leader());
    let starts: BTreeMap<TopicPartition, Offset> = leaders.map(|(name, replica)| (name, replica.log_start())).collect();
    replicas().all(|(name, replica)| starts.get(&name).is_none_or(|start| replica.log_start() >= *start))
}

/// What clients have written is committed.
fn is_committed(world: &World) -> bool {
    let shards = world.nodes.iter().flat_map(|node| &node.shards);
    shards.flat_map(|shard| shard.replicas().map(move |of| (shard, of))).all(|(shard, (name, replica))| {
        let topic = shard.image().topic_by_id(name.topic);
        let is_written = topic.is_some_and(|topic| world.plan.topics.iter().any(|plan| plan.name == topic.name));
        !is_written || !replica.is_leader() || replica.is_all_committed()
    })
}

/// The same, and all nodes have the same metadata.
pub fn is_whole(world: &World) -> bool {
    let brokers = |shard: &Shard| shard.image().brokers().cloned().collect::<Vec<_>>();
    let mut shards = world.nodes.iter().flat_map(|node| &node.shards);
    let Some(first) = shards.next().map(brokers) else { return false };
    // Before they agree on the brokers one is behind, and there may be no way from what is newer to what is older.
    is_in_sync(world)
        && shards.all(|shard| brokers(shard) == first)
        && changes_between(world).is_empty()
        && begin_alike(world)
}

/// The same, and nothing that clients see changes any more.
pub fn is_settled(world: &World) -> bool {
    is_whole(world) && is_committed(world)
}

/// The same, and so many nodes decide on metadata that one of them may be lost for good.
pub fn may_lose_one(world: &World) -> bool {
    let voters = VOTERS.min(world.nodes.len());
    let has_voters = |status: QuorumStatus| status.voters.len() >= voters && status.commit == status.last;
    is_whole(world) && world.nodes.iter().all(|node| node.shards[0].quorum().is_some_and(has_voters))
}

/// How far they have come.
pub fn describe(world: &World) -> String {
    let mut text = String::new();
    for (node, here) in world.nodes.iter().enumerate() {
        text.push_str(&format!("\n  node {}: {:?}", node + 1, here.process));
        let Some(shard) = here.shards.first() else { continue };
        if let Some(QuorumStatus { leader, term, voters, learners, commit, last, .. }) = shard.quorum() {
            text.push_str(&format!("; follows {leader:?} in term {term}, {voters:?} vote and {learners:?} do not"));
            text.push_str(&format!(", {commit} of {last} committed"));
        }
        for broker in shard.image().brokers() {
            let fenced = if broker.fenced { "fenced" } else { "there" };
            text.push_str(&format!("; broker {} is {fenced} in epoch {}", broker.id, broker.epoch));
        }
        for (topic, partition, state) in shard.image().states() {
            let (leader, isr, replicas) = (state.leader(), state.isr().collect::<Vec<_>>(), state.replicas());
            text.push_str(&format!("; {}-{partition} led by {leader:?}, {isr:?} of {replicas:?}", topic.name));
        }
        for (name, replica) in here.shards.iter().flat_map(|shard| shard.replicas()) {
            let (epoch, mark, end) = (replica.epoch(), replica.high_watermark(), replica.log_end());
            let role = if replica.is_leader() { "leads" } else { "follows" };
            let online = if replica.is_online() { "" } else { ", offline" };
            text.push_str(&format!("\n    {name:?} {role} in epoch {epoch}, {mark} of {end}{online}"));
        }
    }
    text
}

/// The replicas of each partition hold the same bytes up to the least of their ends, which is the high watermark, as far
/// as each keeps them. Compaction leaves different records on each.
pub fn check_replicas(world: &World) {
    let image = world.nodes[0].shards[0].image();
    let is_compacted = |name: &str| {
        name == CONSUMER_OFFSETS
            || world.plan.topics.iter().any(|topic| topic.name == name && topic.compacted.is_some())
    };
    for (topic, partition, state) in image.states().filter(|(topic, ..)| !is_compacted(&topic.name)) {
        let dir = format!("{}-{partition}", topic.name);
        let logs: Vec<(NodeId, BTreeMap<i64, Bytes>)> =
            state.replicas().iter().map(|node| (*node, batches(world, *node, &dir))).collect();
        let ends = logs.iter().map(|(_, log)| log.last_key_value().map_or(0, |(_, last)| end_of(last)));
        let end = ends.min().unwrap_or(0);
        let (first, expect) = &logs[0];
        for (node, log) in &logs[1..] {
            let start = log.first_key_value().max(expect.first_key_value()).map_or(end, |(base, _)| *base);
            for (base, batch) in expect.iter().filter(|(base, _)| (start..end).contains(*base)) {
                assert!(log.get(base) == Some(batch), "{dir}: nodes {first} and {node} differ at offset {base}");
            }
        }
    }
}

fn end_of(batch: &Bytes) -> i64 {
    BatchHeader::read(batch).map_or(0, |header| header.next_offset().0)
}

/// What a node's segments hold of a partition, as far as it was written there.
fn batches(world: &World, node: NodeId, dir: &str) -> BTreeMap<i64, Bytes> {
    let disk = &world.nodes[node.0 as usize - 1].disk;
    let mut batches = BTreeMap::new();
    let is_segment =
        |path: &std::path::Path| path.starts_with(dir) && path.extension().is_some_and(|kind| kind == "log");
    for (path, _) in disk.files(is_segment) {
        let name = path.file_stem().and_then(|name| name.to_str());
        let mut next = name.and_then(|base| base.parse().ok()).expect("a segment's name is where it begins");
        let mut rest = disk.contents(&path);
        while let Some(header) = BatchHeader::read(&rest).filter(|header| header.base_offset == next) {
            if header.magic != 2 || header.size_bytes() > rest.len() {
                break;
            }
            next = header.next_offset().0;
            batches.insert(header.base_offset, rest.split_to(header.size_bytes()));
        }
    }
    batches
}
