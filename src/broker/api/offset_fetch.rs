//! OffsetFetch (API 9, versions 1–10): one group, or from version 8 several, each answered by its coordinator.
//!
//! `require_stable` asks for a retry where a transaction may still change an offset. There are none, so every offset
//! is stable.
//!
//! *Owns*: the form of the reply, and topic ids in it. *Never*: keeps an offset. *Runs on*: the core whose client
//! asked.

use crate::broker::api::group_work::{self, GroupReply};
use crate::broker::api::{self, key};
use crate::broker::effect::Effects;
use crate::broker::job::Asker;
use crate::broker::shard::{Request, Shard};
use crate::group::ask::{Answer, Ask};
use crate::wire::errors::ErrorCode;
use crate::wire::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics, OffsetFetchResponse,
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use crate::wire::text::Text;

/// From this version a request has several groups (KIP-709).
const GROUPS_VERSION: i16 = 8;
/// From this version topics are named by id.
const TOPIC_ID_VERSION: i16 = 10;
/// From this version the reply has a place for an error of the whole group; before, it stands in every row.
const GROUP_ERROR_VERSION: i16 = 2;

/// What was asked for, to be said again in rows that only tell an error.
#[derive(Debug)]
pub struct Refused {
    /// By group: rows of topics that are not there.
    unknown: Vec<Vec<OffsetFetchResponseTopics>>,
    asked: Vec<OffsetFetchRequestTopics>,
}

pub(in crate::broker) fn handle(shard: &mut Shard, mut request: Request, effects: &mut Effects) {
    let Some(asked) = api::decode::<OffsetFetchRequest>(shard, &mut request, "OffsetFetch", effects) else { return };
    let version = request.asker.version;
    let mut refused = Refused { unknown: Vec::new(), asked: Vec::new() };
    let mut groups = asked.groups;
    if version < GROUPS_VERSION {
        let topics = asked.topics.map(|topics| {
            let topics = topics.into_iter().map(|topic| OffsetFetchRequestTopics {
                name: topic.name,
                partition_indexes: topic.partition_indexes,
                ..OffsetFetchRequestTopics::default()
            });
            topics.collect()
        });
        if version < GROUP_ERROR_VERSION {
            refused.asked = Option::<Vec<_>>::clone(&topics).unwrap_or_default();
        }
        let group_id = asked.group_id;
        groups = vec![OffsetFetchRequestGroup { group_id, topics, ..OffsetFetchRequestGroup::default() }];
    }
    for group in &mut groups {
        let unknown = if version >= TOPIC_ID_VERSION { name_topics(shard, group) } else { Vec::new() };
        refused.unknown.push(unknown);
    }
    let asks = groups.into_iter().map(Ask::OffsetFetch).collect();
    group_work::ask(shard, &request, GroupReply::OffsetFetch(refused), asks, effects);
}

pub(in crate::broker) fn reply(
    shard: &mut Shard,
    asker: Asker,
    refused: Refused,
    answers: impl Iterator<Item = Answer>,
    effects: &mut Effects,
) {
    let mut reply = OffsetFetchResponse::default();
    for (answer, unknown) in answers.zip(refused.unknown) {
        let Answer::OffsetFetch(mut group) = answer else { unreachable!("offsets were asked for") };
        if asker.version >= TOPIC_ID_VERSION {
            add_topic_ids(shard, &mut group);
            if group.error_code == ErrorCode::None.code() {
                group.topics.extend(unknown);
            }
        }
        group_work::count_error(shard, key::OFFSET_FETCH, group.error_code);
        reply.groups.push(group);
    }
    if asker.version < GROUPS_VERSION {
        let group = reply.groups.pop().unwrap_or_default();
        reply.error_code = group.error_code;
        let refused_rows = refused.asked.iter().map(|topic| refused_row(topic, group.error_code));
        reply.topics = if group.error_code == ErrorCode::None.code() {
            group.topics.into_iter().map(single_row).collect()
        } else {
            refused_rows.collect()
        };
    }
    shard.reply(key::OFFSET_FETCH, asker, &reply, effects);
}

/// Coordinators know topics by name. Gives the rows of ids that no topic has.
fn name_topics(shard: &Shard, group: &mut OffsetFetchRequestGroup) -> Vec<OffsetFetchResponseTopics> {
    let mut unknown = Vec::new();
    let Some(topics) = &mut group.topics else { return unknown };
    topics.retain_mut(|topic| match shard.image.topic_by_id(topic.topic_id) {
        Some(known) => {
            topic.name = known.name.as_str().into();
            true
        }
        None => {
            let rows = topic.partition_indexes.iter().map(|index| OffsetFetchResponsePartitions {
                partition_index: *index,
                committed_offset: -1,
                error_code: ErrorCode::UnknownTopicId.code(),
                metadata: Some(Text::default()),
                ..OffsetFetchResponsePartitions::default()
            });
            let partitions = rows.collect();
            let topic_id = topic.topic_id;
            unknown.push(OffsetFetchResponseTopics { topic_id, partitions, ..OffsetFetchResponseTopics::default() });
            false
        }
    });
    unknown
}

/// Topics that are gone by now have no id, and are left out.
fn add_topic_ids(shard: &Shard, group: &mut OffsetFetchResponseGroup) {
    group.topics.retain_mut(|topic| match shard.image.topic(&topic.name) {
        Some(known) => {
            topic.topic_id = known.id;
            true
        }
        None => false,
    });
}

fn single_row(topic: OffsetFetchResponseTopics) -> OffsetFetchResponseTopic {
    let partitions = topic.partitions.into_iter().map(|row| OffsetFetchResponsePartition {
        partition_index: row.partition_index,
        committed_offset: row.committed_offset,
        committed_leader_epoch: row.committed_leader_epoch,
        metadata: row.metadata,
        error_code: row.error_code,
    });
    OffsetFetchResponseTopic { name: topic.name, partitions: partitions.collect() }
}

fn refused_row(topic: &OffsetFetchRequestTopics, error_code: i16) -> OffsetFetchResponseTopic {
    let partitions = topic.partition_indexes.iter().map(|index| OffsetFetchResponsePartition {
        partition_index: *index,
        committed_offset: -1,
        metadata: Some(Text::default()),
        error_code,
        ..OffsetFetchResponsePartition::default()
    });
    OffsetFetchResponseTopic { name: topic.name.clone(), partitions: partitions.collect() }
}
