//! AlterPartitionReassignments (API 45, versions 0–1) and ListPartitionReassignments (API 46, version 0): with one
//! broker every partition is where it can be, and none is on its way (KIP-455).
//!
//! *Owns*: the form of the answers. *Never*: moves a partition. *Runs on*: the core whose client asked.

use crate::broker::api::{self, key};
use crate::broker::effect::{Effects, ListenerKind};
use crate::broker::route;
use crate::broker::shard::{Request, Shard};
use crate::meta::Topic;
use crate::wire::errors::ErrorCode;
use crate::wire::messages::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse, ReassignablePartition,
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use crate::wire::messages::list_partition_reassignments::{
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse,
};

pub(in crate::broker) fn handle_alter(shard: &mut Shard, mut request: Request, effects: &mut Effects) {
    let (asker, name) = (request.asker, "AlterPartitionReassignments");
    let Some(asked) = api::decode::<AlterPartitionReassignmentsRequest>(shard, &mut request, name, effects) else {
        return;
    };
    let mut reply = AlterPartitionReassignmentsResponse {
        allow_replication_factor_change: asked.allow_replication_factor_change,
        ..AlterPartitionReassignmentsResponse::default()
    };
    for topic in &asked.topics {
        let known = shard.image.topic(&topic.name);
        let rows = topic.partitions.iter().map(|wish| {
            let refused = check(shard, asker.listener, known, wish).err();
            let (error, message) = refused.map_or((ErrorCode::None, None), |(error, message)| (error, Some(message)));
            ReassignablePartitionResponse {
                partition_index: wish.partition_index,
                error_code: error.code(),
                error_message: message.map(Into::into),
            }
        });
        reply.responses.push(ReassignableTopicResponse { name: topic.name.clone(), partitions: rows.collect() });
    }
    shard.reply(key::ALTER_PARTITION_REASSIGNMENTS, asker, &reply, effects);
}

pub(in crate::broker) fn handle_list(shard: &mut Shard, mut request: Request, effects: &mut Effects) {
    let (asker, name) = (request.asker, "ListPartitionReassignments");
    if api::decode::<ListPartitionReassignmentsRequest>(shard, &mut request, name, effects).is_none() {
        return;
    }
    let reply = ListPartitionReassignmentsResponse::default();
    shard.reply(key::LIST_PARTITION_REASSIGNMENTS, asker, &reply, effects);
}

/// Fine where the partition is to be where it is.
fn check(
    shard: &Shard,
    listener: ListenerKind,
    topic: Option<&Topic>,
    wish: &ReassignablePartition,
) -> Result<(), (ErrorCode, String)> {
    let Some(of) = topic.and_then(|topic| route::partition_of(topic, wish.partition_index)) else {
        return Err((ErrorCode::UnknownTopicOrPartition, "There is no such partition.".into()));
    };
    let Some(replicas) = &wish.replicas else {
        return Err((ErrorCode::NoReassignmentInProgress, "The partition is not being moved.".into()));
    };
    let here = shard.shown_leader(listener, of).unwrap_or_default();
    if *replicas == [here.0] {
        return Ok(());
    }
    let message = format!("The partition can be on broker {here} alone, not on {replicas:?}: there is no other.");
    Err((ErrorCode::InvalidReplicaAssignment, message))
}
