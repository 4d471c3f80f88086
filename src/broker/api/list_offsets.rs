//! ListOffsets (API 2, versions 1–11): earliest, latest, by timestamp, and the offset of the greatest timestamp.
//!
//! *Owns*: the reply under construction. *Never*: looks into a log. *Runs on*: the core whose client asked.

use crate::base::ids::LeaderEpoch;
use crate::base::slab::Key;
use crate::broker::api::questions::{Awaited, Questions};
use crate::broker::api::{self, key};
use crate::broker::effect::{Effects, ListenerKind};
use crate::broker::job::{Job, Work};
use crate::broker::message::{Answer, Question, TopicPartition};
use crate::broker::reads;
use crate::broker::route;
use crate::broker::shard::{Request, Shard};
use crate::wire::errors::ErrorCode;
use crate::wire::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse,
    ListOffsetsTopicResponse,
};

/// Before this version clients are told that there is no leader yet.
const OFFSET_NOT_AVAILABLE_VERSION: i16 = 5;

#[derive(Debug)]
pub struct ListOffsetsWork {
    reply: ListOffsetsResponse,
    awaited: Awaited,
}

pub(in crate::broker) fn handle(shard: &mut Shard, mut request: Request, effects: &mut Effects) {
    let asker = request.asker;
    let Some(asked) = api::decode::<ListOffsetsRequest>(shard, &mut request, "ListOffsets", effects) else { return };
    let mut reply = ListOffsetsResponse::default();
    let mut questions = Questions::default();
    for topic in &asked.topics {
        let known = shard.image.topic(&topic.name);
        let at_topic = reply.topics.len();
        let mut rows = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            let mut row = empty_row(partition);
            match known.and_then(|known| route::partition_of(known, partition.partition_index)) {
                Some(of) => {
                    row.error_code = early_error(shard, asker.listener, asker.version, partition, of).code();
                    if row.error_code == ErrorCode::None.code() {
                        questions.add((at_topic, rows.len()), of, question(partition));
                    }
                }
                None => row.error_code = ErrorCode::UnknownTopicOrPartition.code(),
            }
            rows.push(row);
        }
        reply.topics.push(ListOffsetsTopicResponse { name: topic.name.clone(), partitions: rows });
    }
    if questions.is_empty() {
        return shard.reply(key::LIST_OFFSETS, asker, &reply, effects);
    }
    questions.ask(shard, asker, |awaited| Work::ListOffsets(ListOffsetsWork { reply, awaited }), effects);
}

pub(in crate::broker) fn on_answer(shard: &mut Shard, job: Key, at: u32, answer: Answer, effects: &mut Effects) {
    let Some(Job { asker, work: Work::ListOffsets(work), .. }) = shard.jobs.get_mut(job) else { return };
    let (topic, place) = work.awaited.on_answer(at);
    let row = &mut work.reply.topics[topic].partitions[place];
    match answer {
        Answer::Error(ErrorCode::OffsetNotAvailable) if asker.version < OFFSET_NOT_AVAILABLE_VERSION => {
            row.error_code = ErrorCode::LeaderNotAvailable.code();
        }
        Answer::Error(error) => row.error_code = error.code(),
        Answer::Offset { offset, timestamp, leader_epoch } => {
            row.offset = offset;
            row.timestamp = timestamp;
            row.leader_epoch = leader_epoch;
        }
        Answer::EpochEnd { .. } | Answer::LogStart { .. } => unreachable!("ListOffsets asks for offsets"),
    }
    if !work.awaited.is_over() {
        return;
    }
    let Some(Job { asker, work: Work::ListOffsets(work), .. }) = shard.jobs.remove(job) else { return };
    shard.reply(key::LIST_OFFSETS, asker, &work.reply, effects);
}

fn empty_row(partition: &ListOffsetsPartition) -> ListOffsetsPartitionResponse {
    ListOffsetsPartitionResponse {
        partition_index: partition.partition_index,
        timestamp: -1,
        offset: -1,
        leader_epoch: -1,
        ..ListOffsetsPartitionResponse::default()
    }
}

fn early_error(
    shard: &Shard,
    listener: ListenerKind,
    version: i16,
    partition: &ListOffsetsPartition,
    of: TopicPartition,
) -> ErrorCode {
    // Each special timestamp came with a version (KIP-734, KIP-405, KIP-1005, KIP-1023); below −5 nothing is defined.
    let known_since = match partition.timestamp {
        reads::MAX_TIMESTAMP => 7,
        reads::EARLIEST_LOCAL_TIMESTAMP => 8,
        reads::LATEST_TIERED_TIMESTAMP => 9,
        timestamp if timestamp < reads::LATEST_TIERED_TIMESTAMP => i16::MAX,
        _ => 0,
    };
    if version < known_since {
        return ErrorCode::UnsupportedVersion;
    }
    if !shard.leads(listener, shard.owner(of.topic, of.partition)) {
        return ErrorCode::NotLeaderOrFollower;
    }
    ErrorCode::None
}

fn question(partition: &ListOffsetsPartition) -> Question {
    Question::Offset {
        timestamp: partition.timestamp,
        current_leader_epoch: LeaderEpoch(partition.current_leader_epoch),
    }
}
