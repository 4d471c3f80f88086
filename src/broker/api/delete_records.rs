//! DeleteRecords (API 21, versions 0–2): lets partitions begin later. Answered when that is durable on all in-sync
//! replicas, so that no leader to come brings back what was deleted; for the others the client waits `timeout_ms`.
//!
//! *Owns*: the reply under construction. *Never*: looks into a log. *Runs on*: the core whose client asked.

use crate::base::names;
use crate::base::slab::Key;
use crate::broker::api::questions::{Awaited, Questions};
use crate::broker::api::{self, key};
use crate::broker::effect::Effects;
use crate::broker::job::{Job, Work};
use crate::broker::message::{Answer, Question};
use crate::broker::route;
use crate::broker::shard::{Request, Shard};
use crate::wire::errors::ErrorCode;
use crate::wire::messages::delete_records::{
    DeleteRecordsPartitionResult, DeleteRecordsRequest, DeleteRecordsResponse, DeleteRecordsTopicResult,
};

#[derive(Debug)]
pub struct DeleteRecordsWork {
    reply: DeleteRecordsResponse,
    awaited: Awaited,
}

pub(in crate::broker) fn handle(shard: &mut Shard, mut request: Request, effects: &mut Effects) {
    let asker = request.asker;
    let Some(asked) = api::decode::<DeleteRecordsRequest>(shard, &mut request, "DeleteRecords", effects) else {
        return;
    };
    let due = request.now.mono.after_ms(u64::try_from(asked.timeout_ms).unwrap_or(0));
    let mut reply = DeleteRecordsResponse::default();
    let mut questions = Questions::default();
    for topic in &asked.topics {
        let known = shard.image.topic(&topic.name);
        let at_topic = reply.topics.len();
        let mut rows = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            let partition_index = partition.partition_index;
            let mut row = DeleteRecordsPartitionResult { partition_index, low_watermark: -1, error_code: 0 };
            let of = known.and_then(|known| route::partition_of(known, partition_index));
            let refused = match of {
                _ if known.is_some() && names::is_internal(&topic.name) => Some(ErrorCode::InvalidTopicException),
                None => Some(ErrorCode::UnknownTopicOrPartition),
                Some(of) if !shard.leads(asker.listener, shard.owner(of.topic, of.partition)) => {
                    Some(ErrorCode::NotLeaderOrFollower)
                }
                Some(of) => {
                    questions.add((at_topic, rows.len()), of, Question::Delete { before: partition.offset, due });
                    None
                }
            };
            row.error_code = refused.unwrap_or(ErrorCode::None).code();
            rows.push(row);
        }
        reply.topics.push(DeleteRecordsTopicResult { name: topic.name.clone(), partitions: rows });
    }
    if questions.is_empty() {
        return shard.reply(key::DELETE_RECORDS, asker, &reply, effects);
    }
    questions.ask(shard, asker, |awaited| Work::DeleteRecords(DeleteRecordsWork { reply, awaited }), effects);
}

pub(in crate::broker) fn on_answer(shard: &mut Shard, job: Key, at: u32, answer: Answer, effects: &mut Effects) {
    let Some(Job { work: Work::DeleteRecords(work), .. }) = shard.jobs.get_mut(job) else { return };
    let (topic, place) = work.awaited.on_answer(at);
    let row = &mut work.reply.topics[topic].partitions[place];
    match answer {
        Answer::Error(error) => row.error_code = error.code(),
        Answer::LogStart { start } => row.low_watermark = start.0,
        Answer::Offset { .. } | Answer::EpochEnd { .. } => unreachable!("DeleteRecords asks for deletions"),
    }
    if !work.awaited.is_over() {
        return;
    }
    let Some(Job { asker, work: Work::DeleteRecords(work), .. }) = shard.jobs.remove(job) else { return };
    shard.reply(key::DELETE_RECORDS, asker, &work.reply, effects);
}
