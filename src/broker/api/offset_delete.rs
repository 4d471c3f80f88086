//! OffsetDelete (API 47, version 0): forgets offsets of topics that a group does not read any more (KIP-496).
//!
//! *Owns*: the form of the reply. *Never*: keeps an offset. *Runs on*: the core whose client asked.

use crate::broker::api::group_work::{self, GroupReply};
use crate::broker::api::{self, key};
use crate::broker::effect::Effects;
use crate::broker::job::Asker;
use crate::broker::shard::{Request, Shard};
use crate::group::ask::{Answer, Ask};
use crate::wire::errors::ErrorCode;
use crate::wire::messages::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteRequestTopic, OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};

/// Rows of topics that are not there.
pub type Refused = Vec<OffsetDeleteResponseTopic>;

pub(in crate::broker) fn handle(shard: &mut Shard, mut request: Request, effects: &mut Effects) {
    let Some(mut asked) = api::decode::<OffsetDeleteRequest>(shard, &mut request, "OffsetDelete", effects) else {
        return;
    };
    let mut refused = Vec::new();
    asked.topics.retain(|topic| {
        let known = shard.image.topic(&topic.name).is_some();
        if !known {
            refused.push(refused_row(topic));
        }
        known
    });
    group_work::ask(shard, &request, GroupReply::OffsetDelete(refused), vec![Ask::OffsetDelete(asked)], effects);
}

pub(in crate::broker) fn reply(
    shard: &mut Shard,
    asker: Asker,
    refused: Refused,
    answers: impl Iterator<Item = Answer>,
    effects: &mut Effects,
) {
    for answer in answers {
        let Answer::OffsetDelete(mut reply) = answer else { unreachable!("a deletion was asked for") };
        group_work::count_error(shard, key::OFFSET_DELETE, reply.error_code);
        if reply.error_code == ErrorCode::None.code() {
            reply.topics.extend_from_slice(&refused);
        }
        shard.reply(key::OFFSET_DELETE, asker, &reply, effects);
    }
}

fn refused_row(topic: &OffsetDeleteRequestTopic) -> OffsetDeleteResponseTopic {
    let partitions = topic.partitions.iter().map(|partition| OffsetDeleteResponsePartition {
        partition_index: partition.partition_index,
        error_code: ErrorCode::UnknownTopicOrPartition.code(),
    });
    OffsetDeleteResponseTopic { name: topic.name.clone(), partitions: partitions.collect() }
}
