//! Metadata (API 3, versions 0–13): brokers, topics and who leads their partitions, as the client's listener shows
//! them.
//!
//! A topic that does not exist is created on first use where settings and client allow; the reply waits for it, so
//! that the client's next request finds it.
//!
//! *Owns*: the form of the answer. *Never*: changes the image. *Runs on*: the core whose client asked.

use crate::base::ids::{CoreId, TopicId};
use crate::base::names;
use crate::base::time::Now;
use crate::broker::api::{self, key};
use crate::broker::effect::{Effects, ListenerKind};
use crate::broker::job::{Asker, Work};
use crate::broker::message::{ControlOrder, ControlOutcome, ShardMessage, TopicOutcome};
use crate::broker::shard::{Request, Shard};
use crate::meta::Topic;
use crate::meta::controller::NewTopic;
use crate::wire::errors::ErrorCode;
use crate::wire::messages::metadata::{
    MetadataRequest, MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use crate::wire::text::Text;

/// No version knows THROTTLING_QUOTA_EXCEEDED: topics are made on first use, and the client is throttled.
const NO_QUOTA_ERROR: i16 = i16::MAX;

/// One bit per operation of Kafka's `AclOperation` that a client may do: without an authorizer, all that there are.
pub const TOPIC_OPERATIONS: i32 = bits(&[3, 4, 5, 6, 7, 8, 10, 11]);
pub const GROUP_OPERATIONS: i32 = bits(&[3, 6, 8]);
pub const CLUSTER_OPERATIONS: i32 = bits(&[5, 7, 8, 9, 10, 11, 12]);

pub(in crate::broker) fn handle(shard: &mut Shard, mut request: Request, effects: &mut Effects) {
    let asker = request.asker;
    let Some(asked) = api::decode::<MetadataRequest>(shard, &mut request, "Metadata", effects) else { return };
    let missing = missing_topics(shard, &asked);
    if missing.is_empty() || !asked.allow_auto_topic_creation || !shard.config.settings.auto_create_topics_enable {
        return answer(shard, asker, &asked, &[], effects);
    }
    let topics = missing.into_iter().map(default_topic).collect();
    let job = shard.add_job(asker, Work::Metadata(asked));
    let quota = shard.mutation_quota(asker, NO_QUOTA_ERROR);
    let order = ControlOrder::CreateTopics { topics, validate_only: false, quota };
    shard.send(CoreId(0), ShardMessage::Control { job, order }, effects);
}

/// The topics that were missing exist now, or cannot.
pub(in crate::broker) fn on_outcome(
    shard: &mut Shard,
    asker: Asker,
    asked: &MetadataRequest,
    outcome: ControlOutcome,
    _now: Now,
    effects: &mut Effects,
) {
    let outcomes = outcome.topics().unwrap_or_default();
    shard.throttle_for(asker, &outcomes);
    answer(shard, asker, asked, &outcomes, effects);
}

fn default_topic(name: String) -> NewTopic {
    NewTopic { name, partitions: -1, replication_factor: -1, assignments: Vec::new(), settings: Vec::new(), id: None }
}

fn missing_topics(shard: &Shard, asked: &MetadataRequest) -> Vec<String> {
    let names = asked.topics.iter().flatten().filter_map(|topic| topic.name.as_ref());
    let mut missing: Vec<String> = names
        .filter(|name| shard.image.topic(name).is_none() && !names::is_internal(name))
        .map(ToString::to_string)
        .collect();
    missing.sort_unstable();
    missing.dedup();
    missing
}

fn answer(shard: &mut Shard, asker: Asker, asked: &MetadataRequest, created: &[TopicOutcome], effects: &mut Effects) {
    let listener = asker.listener;
    let brokers = shard.shown_brokers(listener).into_iter();
    let mut reply = MetadataResponse {
        brokers: brokers
            .map(|broker| MetadataResponseBroker {
                node_id: broker.id.0,
                host: broker.address.host.as_str().into(),
                port: i32::from(broker.address.port),
                rack: broker.rack.as_deref().map(Into::into),
            })
            .collect(),
        cluster_id: Some(shard.image.cluster_id().into()),
        controller_id: shard.shown_controller(listener).0,
        ..MetadataResponse::default()
    };
    if asked.include_cluster_authorized_operations {
        reply.cluster_authorized_operations = CLUSTER_OPERATIONS;
    }
    let all = asked.topics.as_ref().is_none_or(|topics| asker.version == 0 && topics.is_empty());
    if all {
        reply.topics = shard.image.topics().map(|topic| topic_row(shard, listener, topic)).collect();
    }
    for wanted in asked.topics.iter().flatten() {
        let topic = match &wanted.name {
            Some(name) => shard.image.topic(name),
            None => shard.image.topic_by_id(wanted.topic_id),
        };
        let row = match topic {
            Some(topic) => topic_row(shard, listener, topic),
            None => unknown_row(wanted.name.as_ref(), wanted.topic_id, created),
        };
        reply.topics.push(row);
    }
    if asked.include_topic_authorized_operations {
        for row in &mut reply.topics {
            row.topic_authorized_operations = TOPIC_OPERATIONS;
        }
    }
    shard.reply(key::METADATA, asker, &reply, effects);
}

fn topic_row(shard: &Shard, listener: ListenerKind, topic: &Topic) -> MetadataResponseTopic {
    let partitions = topic.states().map(|(partition, state)| {
        let shown = shard.shown_partition(listener, topic.id, partition, state);
        MetadataResponsePartition {
            error_code: shown.error.code(),
            partition_index: partition.0,
            leader_id: shown.leader,
            leader_epoch: shown.leader_epoch,
            replica_nodes: shown.replicas,
            isr_nodes: shown.isr,
            offline_replicas: shown.offline,
        }
    });
    let partitions = partitions.collect();
    MetadataResponseTopic {
        name: Some(topic.name.as_str().into()),
        topic_id: topic.id,
        is_internal: names::is_internal(&topic.name),
        partitions,
        ..MetadataResponseTopic::default()
    }
}

fn unknown_row(name: Option<&Text>, id: TopicId, created: &[TopicOutcome]) -> MetadataResponseTopic {
    let error = match name {
        None => ErrorCode::UnknownTopicId,
        Some(name) => match created.iter().find(|outcome| outcome.name == name.as_str()) {
            Some(outcome) if outcome.error != ErrorCode::None => outcome.error,
            _ => ErrorCode::UnknownTopicOrPartition,
        },
    };
    MetadataResponseTopic {
        error_code: error.code(),
        name: name.cloned(),
        topic_id: id,
        ..MetadataResponseTopic::default()
    }
}

const fn bits(operations: &[u32]) -> i32 {
    let mut bits = 0;
    let mut index = 0;
    while index < operations.len() {
        bits |= 1 << operations[index];
        index += 1;
    }
    bits
}
