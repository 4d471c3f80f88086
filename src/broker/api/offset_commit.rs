//! OffsetCommit (API 8, versions 2–10): checked against the topics there are, then kept by the group's coordinator.
//!
//! *Owns*: the form of the reply. *Never*: keeps an offset. *Runs on*: the core whose client asked.

use crate::broker::api::group_work::{self, GroupReply};
use crate::broker::api::{self, key};
use crate::broker::effect::Effects;
use crate::broker::job::Asker;
use crate::broker::shard::{Request, Shard};
use crate::group::ask::{Answer, Ask};
use crate::wire::errors::ErrorCode;
use crate::wire::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestTopic, OffsetCommitResponse, OffsetCommitResponsePartition,
    OffsetCommitResponseTopic,
};

/// From this version topics are named by id.
const TOPIC_ID_VERSION: i16 = 10;

/// Rows of topics that are not there.
pub type Refused = Vec<OffsetCommitResponseTopic>;

pub(in crate::broker) fn handle(shard: &mut Shard, mut request: Request, effects: &mut Effects) {
    let Some(mut asked) = api::decode::<OffsetCommitRequest>(shard, &mut request, "OffsetCommit", effects) else {
        return;
    };
    let mut refused = Vec::new();
    let by_id = request.asker.version >= TOPIC_ID_VERSION;
    asked.topics.retain_mut(|topic| {
        let known = if by_id { shard.image.topic_by_id(topic.topic_id) } else { shard.image.topic(&topic.name) };
        match known {
            // A partition that is not there is no error: the topic may be about to grow.
            Some(_) if !by_id => true,
            Some(known) => {
                topic.name = known.name.as_str().into();
                true
            }
            None => {
                refused.push(refused_row(topic, by_id));
                false
            }
        }
    });
    let asks = if asked.topics.is_empty() && !refused.is_empty() { vec![] } else { vec![Ask::OffsetCommit(asked)] };
    group_work::ask(shard, &request, GroupReply::OffsetCommit(refused), asks, effects);
}

pub(in crate::broker) fn reply(
    shard: &mut Shard,
    asker: Asker,
    refused: Refused,
    answers: impl Iterator<Item = Answer>,
    effects: &mut Effects,
) {
    let mut topics = refused;
    for answer in answers {
        let Answer::OffsetCommit(answer) = answer else { unreachable!("a commit was asked for") };
        topics.extend(answer.topics);
    }
    for row in topics.iter().flat_map(|topic| &topic.partitions) {
        group_work::count_error(shard, key::OFFSET_COMMIT, row.error_code);
    }
    let reply = OffsetCommitResponse { topics, ..OffsetCommitResponse::default() };
    shard.reply(key::OFFSET_COMMIT, asker, &reply, effects);
}

fn refused_row(topic: &OffsetCommitRequestTopic, by_id: bool) -> OffsetCommitResponseTopic {
    let error = if by_id { ErrorCode::UnknownTopicId } else { ErrorCode::UnknownTopicOrPartition };
    let partitions = topic.partitions.iter().map(|partition| OffsetCommitResponsePartition {
        partition_index: partition.partition_index,
        error_code: error.code(),
    });
    OffsetCommitResponseTopic { name: topic.name.clone(), topic_id: topic.topic_id, partitions: partitions.collect() }
}
