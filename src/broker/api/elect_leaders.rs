//! ElectLeaders (API 43, versions 0–2): the one replica of a partition leads it already (KIP-183, KIP-460).
//!
//! *Owns*: the form of the answer. *Never*: elects. *Runs on*: the core whose client asked.

use crate::broker::api::{self, key};
use crate::broker::effect::Effects;
use crate::broker::shard::{Request, Shard};
use crate::wire::errors::ErrorCode;
use crate::wire::messages::elect_leaders::{
    ElectLeadersRequest, ElectLeadersResponse, PartitionResult, ReplicaElectionResult,
};

/// Kafka's `ElectionType`.
const PREFERRED: i8 = 0;
const UNCLEAN: i8 = 1;

pub(in crate::broker) fn handle(shard: &mut Shard, mut request: Request, effects: &mut Effects) {
    let asker = request.asker;
    let Some(asked) = api::decode::<ElectLeadersRequest>(shard, &mut request, "ElectLeaders", effects) else { return };
    let mut reply = ElectLeadersResponse::default();
    if !matches!(asked.election_type, PREFERRED | UNCLEAN) {
        reply.error_code = ErrorCode::InvalidRequest.code();
        return shard.reply(key::ELECT_LEADERS, asker, &reply, effects);
    }
    // Of all partitions only those are told of that got another leader.
    for topic in asked.topic_partitions.iter().flatten() {
        let count = shard.image.topic(&topic.topic).map_or(0, |topic| topic.partitions);
        let rows = topic.partitions.iter().map(|&partition_id| {
            let (error, message) = if (0..count).contains(&partition_id) {
                (ErrorCode::ElectionNotNeeded, "The partition's one replica leads it.")
            } else {
                (ErrorCode::UnknownTopicOrPartition, "There is no such partition.")
            };
            PartitionResult { partition_id, error_code: error.code(), error_message: Some(message.into()) }
        });
        let result = ReplicaElectionResult { topic: topic.topic.clone(), partition_result: rows.collect() };
        reply.replica_election_results.push(result);
    }
    shard.reply(key::ELECT_LEADERS, asker, &reply, effects);
}
