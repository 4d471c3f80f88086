//! DeleteRecords (API 21, versions 0–2): lets partitions begin later. Answered when that is durable, with no wait for
//! replicas, since there are none; `timeout_ms` bounds nothing then.
//!
//! *Owns*: the reply under construction. *Never*: looks into a log. *Runs on*: the core whose client asked.

use crate::base::ids::PartitionIndex;
use crate::base::names;
use crate::base::slab::Key;
use crate::broker::api::{self, key};
use crate::broker::effect::Effects;
use crate::broker::job::{Job, Work};
use crate::broker::message::{Answer, Question, ShardMessage, TopicPartition};
use crate::broker::shard::{Request, Shard};
use crate::wire::errors::ErrorCode;
use crate::wire::messages::delete_records::{
    DeleteRecordsPartitionResult, DeleteRecordsRequest, DeleteRecordsResponse, DeleteRecordsTopicResult,
};

#[derive(Debug)]
pub struct DeleteRecordsWork {
    reply: DeleteRecordsResponse,
    /// For each asked partition, in order: its topic and place in the reply.
    places: Vec<(usize, usize)>,
    waiting: usize,
}

pub(in crate::broker) fn handle(shard: &mut Shard, mut request: Request, effects: &mut Effects) {
    let asker = request.asker;
    let Some(asked) = api::decode::<DeleteRecordsRequest>(shard, &mut request, "DeleteRecords", effects) else {
        return;
    };
    let mut work = DeleteRecordsWork { reply: DeleteRecordsResponse::default(), places: Vec::new(), waiting: 0 };
    let mut questions = Vec::new();
    for topic in &asked.topics {
        let known = shard.image.topic(&topic.name).map(|topic| (topic.id, topic.partitions));
        let at_topic = work.reply.topics.len();
        let mut rows = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            let partition_index = partition.partition_index;
            let mut row = DeleteRecordsPartitionResult { partition_index, low_watermark: -1, error_code: 0 };
            match known {
                Some(_) if names::is_internal(&topic.name) => {
                    row.error_code = ErrorCode::InvalidTopicException.code();
                }
                Some((id, count)) if (0..count).contains(&partition_index) => {
                    let of = TopicPartition { topic: id, partition: PartitionIndex(partition_index) };
                    if shard.leads(asker.listener, shard.owner(of.topic, of.partition)) {
                        questions.push((work.places.len() as u32, of, partition.offset));
                        work.places.push((at_topic, rows.len()));
                    } else {
                        row.error_code = ErrorCode::NotLeaderOrFollower.code();
                    }
                }
                _ => row.error_code = ErrorCode::UnknownTopicOrPartition.code(),
            }
            rows.push(row);
        }
        work.reply.topics.push(DeleteRecordsTopicResult { name: topic.name.clone(), partitions: rows });
    }
    if questions.is_empty() {
        return shard.reply(key::DELETE_RECORDS, asker, &work.reply, effects);
    }
    work.waiting = questions.len();
    let job = shard.add_job(asker, Work::DeleteRecords(work));
    for (at, to, before) in questions {
        let owner = shard.owner(to.topic, to.partition);
        shard.send(owner, ShardMessage::Ask { job, at, to, question: Question::Delete { before } }, effects);
    }
}

pub(in crate::broker) fn on_answer(shard: &mut Shard, job: Key, at: u32, answer: Answer, effects: &mut Effects) {
    let Some(Job { work: Work::DeleteRecords(work), .. }) = shard.jobs.get_mut(job) else { return };
    let (topic, place) = work.places[at as usize];
    let row = &mut work.reply.topics[topic].partitions[place];
    match answer {
        Answer::Error(error) => row.error_code = error.code(),
        Answer::LogStart { start } => row.low_watermark = start.0,
        Answer::Offset { .. } | Answer::EpochEnd { .. } => unreachable!("DeleteRecords asks for deletions"),
    }
    work.waiting -= 1;
    if work.waiting > 0 {
        return;
    }
    let Some(Job { asker, work: Work::DeleteRecords(work) }) = shard.jobs.remove(job) else { return };
    shard.reply(key::DELETE_RECORDS, asker, &work.reply, effects);
}
