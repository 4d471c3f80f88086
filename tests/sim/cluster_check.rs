//! What must be true of several nodes at all times, from what they hold in memory: one leader an epoch, the same
//! metadata at the same place of their log, and what goes on and never back. And in peace, what must come true.

use std::collections::BTreeMap;

use bytes::Bytes;
use corelog::base::ids::{LeaderEpoch, NodeId, Offset, PartitionEpoch};
use corelog::broker::message::TopicPartition;
use corelog::broker::shard::Shard;
use corelog::meta::{Image, MetaRecord, PartitionState};
use corelog::replica::partition::Partition;
use corelog::wire::batch::BatchHeader;

use crate::world::World;

/// What was seen so far.
#[derive(Default)]
pub struct Witness {
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
            for (core, shard) in here.shards.iter().enumerate() {
                self.look_at_metadata(world, (node, core as u16), here.life, shard.image());
                for (name, replica) in shard.replicas().filter(|(_, replica)| replica.is_online()) {
                    self.look_at_replica(node, here.life, name, replica);
                }
            }
        }
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

/// What other metadata any core of any node has than the first.
pub fn changes_between(world: &World) -> Vec<MetaRecord> {
    let shards: Vec<&Shard> = world.nodes.iter().flat_map(|node| &node.shards).collect();
    shards.iter().flat_map(|shard| shards[0].image().changes_to(shard.image())).collect()
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

/// How far they have come.
pub fn describe(world: &World) -> String {
    let mut text = String::new();
    for (node, here) in world.nodes.iter().enumerate() {
        text.push_str(&format!("\n  node {}: {:?}", node + 1, here.process));
        let Some(shard) = here.shards.first() else { continue };
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

/// The replicas of each partition hold the same bytes up to the least of their ends, which is the high watermark.
pub fn check_replicas(world: &World) {
    let image = world.nodes[0].shards[0].image();
    for (topic, partition, state) in image.states() {
        let dir = format!("{}-{partition}", topic.name);
        let logs: Vec<(NodeId, BTreeMap<i64, Bytes>)> =
            state.replicas().iter().map(|node| (*node, batches(world, *node, &dir))).collect();
        let ends = logs.iter().map(|(_, log)| log.last_key_value().map_or(0, |(_, last)| end_of(last)));
        let end = ends.min().unwrap_or(0);
        let (first, expect) = &logs[0];
        for (node, log) in &logs[1..] {
            for (base, batch) in expect.iter().filter(|(base, _)| **base < end) {
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
    let mut next = 0;
    let is_segment =
        |path: &std::path::Path| path.starts_with(dir) && path.extension().is_some_and(|kind| kind == "log");
    for (path, _) in disk.files(is_segment) {
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
