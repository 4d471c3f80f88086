//! DescribeQuorum (API 55, versions 0–2): who decides on metadata, which is this broker alone (KIP-595, KIP-836,
//! KIP-853).
//!
//! *Owns*: the form of the answer. *Never*: decides. *Runs on*: the core whose client asked.

use crate::broker::api::{self, key};
use crate::broker::effect::Effects;
use crate::broker::shard::{Request, Shard};
use crate::wire::errors::ErrorCode;
use crate::wire::messages::describe_quorum::{
    DescribeQuorumRequest, DescribeQuorumResponse, Listener, Node, PartitionData, ReplicaState, TopicData,
};

/// The name Kafka has for the log of metadata, of one partition.
const METADATA_TOPIC: &str = "__cluster_metadata";

pub(in crate::broker) fn handle(shard: &mut Shard, mut request: Request, effects: &mut Effects) {
    let (asker, now) = (request.asker, request.now);
    let Some(asked) = api::decode::<DescribeQuorumRequest>(shard, &mut request, "DescribeQuorum", effects) else {
        return;
    };
    let controller = shard.shown_controller(asker.listener);
    let end = i64::try_from(shard.image.offset()).unwrap_or(i64::MAX);
    let voter = ReplicaState {
        replica_id: controller.0,
        log_end_offset: end,
        last_fetch_timestamp: now.wall_ms,
        last_caught_up_timestamp: now.wall_ms,
        ..ReplicaState::default()
    };
    let partition = |topic: &str, partition_index: i32| {
        if topic != METADATA_TOPIC || partition_index != 0 {
            let error_code = ErrorCode::UnknownTopicOrPartition.code();
            let error_message = Some(format!("Only partition 0 of {METADATA_TOPIC} has a quorum.").into());
            return PartitionData { partition_index, error_code, error_message, ..PartitionData::default() };
        }
        PartitionData {
            leader_id: controller.0,
            high_watermark: end,
            current_voters: vec![voter.clone()],
            ..PartitionData::default()
        }
    };
    let topics = asked.topics.iter().map(|topic| TopicData {
        topic_name: topic.topic_name.clone(),
        partitions: topic.partitions.iter().map(|row| partition(&topic.topic_name, row.partition_index)).collect(),
    });
    let topics = topics.collect();
    let shown = shard.shown_brokers(asker.listener).into_iter().filter(|broker| broker.id == controller);
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
