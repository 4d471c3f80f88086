//! AlterPartition (API 56): leaders on other brokers propose in-sync sets (KIP-497, KIP-903).
//!
//! *Owns*: the form of the request. *Never*: decides: `broker/brokers` does. *Runs on*: core 0; others refuse.

use crate::base::ids::{BrokerEpoch, LeaderEpoch, NodeId, PartitionEpoch, PartitionIndex, TopicId};
use crate::broker::api::{self, key};
use crate::broker::brokers::{self, IsrAsker};
use crate::broker::effect::Effects;
use crate::broker::shard::{Request, Shard};
use crate::meta::isr::IsrChange;
use crate::wire::messages::alter_partition::{AlterPartitionRequest, AlterPartitionResponse, PartitionRequest};

pub(in crate::broker) fn handle(shard: &mut Shard, mut request: Request, effects: &mut Effects) {
    let (asker, now) = (request.asker, request.now);
    let Some(asked) = api::decode::<AlterPartitionRequest>(shard, &mut request, "AlterPartition", effects) else {
        return;
    };
    let leader = NodeId(asked.broker_id);
    if let Err(error) = brokers::check_epoch(shard, leader, BrokerEpoch(asked.broker_epoch)) {
        let reply = AlterPartitionResponse { error_code: error.code.code(), ..AlterPartitionResponse::default() };
        return shard.reply(key::ALTER_PARTITION, asker, &reply, effects);
    }
    let rows = asked.topics.iter().flat_map(|topic| topic.partitions.iter().map(|row| (topic.topic_id, row)));
    let changes = rows.map(|(topic, row)| change(leader, topic, row)).collect();
    brokers::alter_isr(shard, changes, IsrAsker::Peer(asker), now, effects);
}

fn change(leader: NodeId, topic: TopicId, row: &PartitionRequest) -> IsrChange {
    let without_epochs = row.new_isr.iter().map(|id| (NodeId(*id), BrokerEpoch(-1)));
    let with_epochs = row.new_isr_with_epochs.iter().map(|row| (NodeId(row.broker_id), BrokerEpoch(row.broker_epoch)));
    IsrChange {
        topic,
        partition: PartitionIndex(row.partition_index),
        leader,
        leader_epoch: LeaderEpoch(row.leader_epoch),
        partition_epoch: PartitionEpoch(row.partition_epoch),
        isr: without_epochs.chain(with_epochs).collect(),
    }
}
