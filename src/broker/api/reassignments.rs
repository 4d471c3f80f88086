//! AlterPartitionReassignments (API 45, versions 0–1) and ListPartitionReassignments (API 46, version 0): moving
//! partitions to other brokers (KIP-455).
//!
//! *Owns*: the form of order and answers. *Never*: decides where a partition may go. *Runs on*: the core whose client
//! asked.

use crate::base::ids::{CoreId, PartitionIndex};
use crate::broker::api::{self, key};
use crate::broker::effect::{Effects, ListenerKind};
use crate::broker::job::{Asker, Work};
use crate::broker::message::{ControlOrder, ControlOutcome, ShardMessage};
use crate::broker::route;
use crate::broker::shard::{Request, Shard};
use crate::meta::reassign::MoveWish;
use crate::meta::{PartitionState, Topic};
use crate::wire::messages::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse, ReassignablePartitionResponse,
    ReassignableTopicResponse,
};
use crate::wire::messages::list_partition_reassignments::{
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse, OngoingPartitionReassignment,
    OngoingTopicReassignment,
};

/// The answer, with a row for each wish in the order of the request.
#[derive(Debug)]
pub struct MoveWork {
    reply: AlterPartitionReassignmentsResponse,
}

pub(in crate::broker) fn handle_alter(shard: &mut Shard, mut request: Request, effects: &mut Effects) {
    let (asker, name) = (request.asker, "AlterPartitionReassignments");
    let Some(asked) = api::decode::<AlterPartitionReassignmentsRequest>(shard, &mut request, name, effects) else {
        return;
    };
    let may_change_count = asked.allow_replication_factor_change;
    let mut reply = AlterPartitionReassignmentsResponse {
        allow_replication_factor_change: may_change_count,
        ..AlterPartitionReassignmentsResponse::default()
    };
    let mut wishes = Vec::new();
    for topic in asked.topics {
        let row = |partition_index| ReassignablePartitionResponse {
            partition_index,
            ..ReassignablePartitionResponse::default()
        };
        let partitions = topic.partitions.iter().map(|wish| row(wish.partition_index)).collect();
        let nodes = |ids: Vec<i32>| ids.into_iter().map(|id| route::node_of(asker.listener, id)).collect();
        wishes.extend(topic.partitions.into_iter().map(|wish| MoveWish {
            topic: topic.name.to_string(),
            partition: PartitionIndex(wish.partition_index),
            replicas: wish.replicas.map(nodes),
            may_change_count,
        }));
        reply.responses.push(ReassignableTopicResponse { name: topic.name, partitions });
    }
    let job = shard.add_job(asker, Work::MovePartitions(MoveWork { reply }));
    let order = ControlOrder::MovePartitions(wishes);
    shard.send(CoreId(0), ShardMessage::Control { job, order }, effects);
}

pub(in crate::broker) fn on_outcome(
    shard: &mut Shard,
    asker: Asker,
    MoveWork { mut reply }: MoveWork,
    outcome: ControlOutcome,
    effects: &mut Effects,
) {
    match outcome.results() {
        Ok(results) => {
            let rows = reply.responses.iter_mut().flat_map(|topic| &mut topic.partitions);
            for (row, result) in rows.zip(results) {
                if let Err(error) = result {
                    row.error_code = error.code.code();
                    row.error_message = Some(error.message.into());
                }
            }
        }
        Err(error) => {
            reply.error_code = error.code();
            reply.responses.clear();
        }
    }
    shard.reply(key::ALTER_PARTITION_REASSIGNMENTS, asker, &reply, effects);
}

pub(in crate::broker) fn handle_list(shard: &mut Shard, mut request: Request, effects: &mut Effects) {
    let (asker, name) = (request.asker, "ListPartitionReassignments");
    let Some(asked) = api::decode::<ListPartitionReassignmentsRequest>(shard, &mut request, name, effects) else {
        return;
    };
    let mut reply = ListPartitionReassignmentsResponse::default();
    match asked.topics {
        None => {
            let moving = shard.image.topics().map(|topic| moving(shard, asker.listener, topic, |_| true));
            reply.topics = moving.filter(|topic| !topic.partitions.is_empty()).collect();
        }
        Some(wanted) => {
            for wish in wanted {
                let Some(topic) = shard.image.topic(&wish.name) else { continue };
                let row = moving(shard, asker.listener, topic, |index| wish.partition_indexes.contains(&index));
                reply.topics.extend(Some(row).filter(|row| !row.partitions.is_empty()));
            }
        }
    }
    shard.reply(key::LIST_PARTITION_REASSIGNMENTS, asker, &reply, effects);
}

fn moving(
    shard: &Shard,
    listener: ListenerKind,
    topic: &Topic,
    wanted: impl Fn(i32) -> bool,
) -> OngoingTopicReassignment {
    let moving = |(partition, state): &(PartitionIndex, &PartitionState)| state.is_moving() && wanted(partition.0);
    let partitions = topic.states().filter(moving).map(|(partition, state)| {
        let shown = shard.shown_partition(listener, topic.id, partition, state);
        OngoingPartitionReassignment {
            partition_index: partition.0,
            replicas: shown.replicas,
            adding_replicas: shown.adding,
            removing_replicas: shown.removing,
        }
    });
    OngoingTopicReassignment { name: topic.name.as_str().into(), partitions: partitions.collect() }
}
