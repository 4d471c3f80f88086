//! ElectLeaders (API 43, versions 0–2): the preferred replica leads, or anybody (KIP-183, KIP-460).
//!
//! *Owns*: the form of order and answer. *Never*: elects. *Runs on*: the core whose client asked.

use crate::base::ids::{CoreId, PartitionIndex};
use crate::broker::api::{self, key};
use crate::broker::effect::Effects;
use crate::broker::job::{Asker, Work};
use crate::broker::message::{ControlOrder, ControlOutcome, ShardMessage};
use crate::broker::shard::{Request, Shard};
use crate::meta::election::Election;
use crate::wire::errors::ErrorCode;
use crate::wire::messages::elect_leaders::{
    ElectLeadersRequest, ElectLeadersResponse, PartitionResult, ReplicaElectionResult,
};

/// What the order was about, for an answer in its order.
#[derive(Debug)]
pub struct ElectWork {
    partitions: Vec<(String, PartitionIndex)>,
    /// All partitions were asked for: only those are told of that have another leader, or should.
    is_all: bool,
}

pub(in crate::broker) fn handle(shard: &mut Shard, mut request: Request, effects: &mut Effects) {
    let asker = request.asker;
    let Some(asked) = api::decode::<ElectLeadersRequest>(shard, &mut request, "ElectLeaders", effects) else { return };
    let election = match asked.election_type {
        // Kafka's `ElectionType`.
        0 => Election::Preferred,
        1 => Election::Unclean,
        _ => {
            let error_code = ErrorCode::InvalidRequest.code();
            let reply = ElectLeadersResponse { error_code, ..ElectLeadersResponse::default() };
            return shard.reply(key::ELECT_LEADERS, asker, &reply, effects);
        }
    };
    let is_all = asked.topic_partitions.is_none();
    let partitions: Vec<(String, PartitionIndex)> = match asked.topic_partitions {
        None => {
            let all = shard.image.states().map(|(topic, partition, _)| (topic.name.clone(), partition));
            all.collect()
        }
        Some(topics) => {
            let of_topic = |topic: &str, indexes: &[i32]| {
                let name = topic.to_owned();
                indexes.iter().map(|index| (name.clone(), PartitionIndex(*index))).collect::<Vec<_>>()
            };
            topics.iter().flat_map(|wish| of_topic(&wish.topic, &wish.partitions)).collect()
        }
    };
    let job = shard.add_job(asker, Work::ElectLeaders(ElectWork { partitions: partitions.clone(), is_all }));
    let order = ControlOrder::ElectLeaders { election, partitions };
    shard.send(CoreId(0), ShardMessage::Control { job, order }, effects);
}

pub(in crate::broker) fn on_outcome(
    shard: &mut Shard,
    asker: Asker,
    work: ElectWork,
    outcome: ControlOutcome,
    effects: &mut Effects,
) {
    let mut reply = ElectLeadersResponse::default();
    let results = outcome.results().unwrap_or_else(|error| {
        reply.error_code = error.code();
        Vec::new()
    });
    for ((topic, partition), result) in work.partitions.iter().zip(results) {
        let (code, message) = match result {
            Ok(()) => (ErrorCode::None, None),
            Err(error) if work.is_all && error.code == ErrorCode::ElectionNotNeeded => continue,
            Err(error) => (error.code, Some(error.message.into())),
        };
        let row = PartitionResult { partition_id: partition.0, error_code: code.code(), error_message: message };
        match reply.replica_election_results.last_mut() {
            Some(last) if *last.topic == **topic => last.partition_result.push(row),
            _ => reply
                .replica_election_results
                .push(ReplicaElectionResult { topic: topic.as_str().into(), partition_result: vec![row] }),
        }
    }
    shard.reply(key::ELECT_LEADERS, asker, &reply, effects);
}
