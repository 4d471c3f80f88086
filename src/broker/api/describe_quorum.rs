//! DescribeQuorum (API 55, versions 0–2): who decides on metadata, and how far each is (KIP-595, KIP-836, KIP-853).
//!
//! *Owns*: the form of the answer. *Never*: decides. *Runs on*: the core whose client asked.

use crate::base::ids::{CoreId, NodeId};
use crate::base::time::Now;
use crate::broker::api::{self, key};
use crate::broker::effect::Effects;
use crate::broker::job::{Asker, Work};
use crate::broker::message::{ControlOrder, ControlOutcome, ShardMessage};
use crate::broker::route;
use crate::broker::shard::{Request, Shard};
use crate::meta::QuorumStatus;
use crate::wire::errors::ErrorCode;
use crate::wire::messages::describe_quorum::{
    DescribeQuorumRequest, DescribeQuorumResponse, Listener, Node, PartitionData, ReplicaState, TopicData,
};

/// The name Kafka has for the log of metadata, of one partition.
const METADATA_TOPIC: &str = "__cluster_metadata";

pub(in crate::broker) fn handle(shard: &mut Shard, mut request: Request, effects: &mut Effects) {
    let asker = request.asker;
    let Some(asked) = api::decode::<DescribeQuorumRequest>(shard, &mut request, "DescribeQuorum", effects) else {
        return;
    };
    let job = shard.add_job(asker, Work::DescribeQuorum(asked));
    let order = ControlOrder::DescribeQuorum;
    shard.send(CoreId(0), ShardMessage::Control { job, order }, effects);
}

pub(in crate::broker) fn on_outcome(
    shard: &mut Shard,
    asker: Asker,
    asked: &DescribeQuorumRequest,
    outcome: ControlOutcome,
    now: Now,
    effects: &mut Effects,
) {
    let status = match outcome.quorum() {
        Ok(status) => status,
        Err(error) => {
            let reply = DescribeQuorumResponse { error_code: error.code(), ..DescribeQuorumResponse::default() };
            return shard.reply(key::DESCRIBE_QUORUM, asker, &reply, effects);
        }
    };
    let id = |node: NodeId| route::core_0_of(asker.listener, node).0;
    let partition = |topic: &str, partition_index: i32| {
        if topic != METADATA_TOPIC || partition_index != 0 {
            let error_code = ErrorCode::UnknownTopicOrPartition.code();
            let error_message = Some(format!("Only partition 0 of {METADATA_TOPIC} has a quorum.").into());
            return PartitionData { partition_index, error_code, error_message, ..PartitionData::default() };
        }
        let member = |node: &NodeId| replica_state(&status, *node, id(*node), now);
        let brokers = shard.image.brokers().map(|broker| broker.id);
        let observers: Vec<NodeId> = brokers.filter(|node| !status.voters.contains(node)).collect();
        PartitionData {
            leader_id: status.leader.map_or(-1, id),
            leader_epoch: i32::try_from(status.term).unwrap_or(i32::MAX),
            high_watermark: offset(status.commit),
            current_voters: status.voters.iter().map(member).collect(),
            observers: observers.iter().map(member).collect(),
            ..PartitionData::default()
        }
    };
    let topics = asked.topics.iter().map(|topic| TopicData {
        topic_name: topic.topic_name.clone(),
        partitions: topic.partitions.iter().map(|row| partition(&topic.topic_name, row.partition_index)).collect(),
    });
    let topics = topics.collect();
    let voters: Vec<i32> = status.voters.iter().map(|node| id(*node)).collect();
    let shown = shard.registered_brokers(asker.listener).into_iter().filter(|broker| voters.contains(&broker.id.0));
    let nodes = shown.map(|broker| Node {
        node_id: broker.id.0,
        listeners: vec![Listener {
            name: "PLAINTEXT".into(),
            host: broker.address.host.as_str().into(),
            port: broker.address.port,
        }],
    });
    let reply = DescribeQuorumResponse { topics, nodes: nodes.collect(), ..DescribeQuorumResponse::default() };
    shard.reply(key::DESCRIBE_QUORUM, asker, &reply, effects);
}

/// How far a member is, as the leader knows it: of others when they were heard of is not kept. Nor is how far those are
/// who follow without the quorum.
fn replica_state(status: &QuorumStatus, node: NodeId, replica_id: i32, now: Now) -> ReplicaState {
    let is_leader = status.leader == Some(node);
    let matched = status.matched.iter().find(|(member, _)| *member == node).map(|(_, index)| *index);
    let end = if is_leader { Some(status.last) } else { matched };
    let seen = if is_leader || end == Some(status.last) { now.wall_ms } else { -1 };
    ReplicaState {
        replica_id,
        log_end_offset: end.map_or(-1, offset),
        last_fetch_timestamp: seen,
        last_caught_up_timestamp: seen,
        ..ReplicaState::default()
    }
}

fn offset(index: u64) -> i64 {
    i64::try_from(index).unwrap_or(i64::MAX)
}
