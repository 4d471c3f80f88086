//! OffsetForLeaderEpoch (API 23, versions 2–4): where an epoch ended, so that a client notices a truncated log
//! (KIP-320).
//!
//! *Owns*: the reply under construction. *Never*: looks into a log. *Runs on*: the core whose client asked.

use crate::base::ids::{LeaderEpoch, PartitionIndex};
use crate::base::slab::Key;
use crate::broker::api::{self, key};
use crate::broker::effect::Effects;
use crate::broker::job::{Job, Work};
use crate::broker::message::{Answer, Question, ShardMessage, TopicPartition};
use crate::broker::shard::{Request, Shard};
use crate::wire::errors::ErrorCode;
use crate::wire::messages::offset_for_leader_epoch::{
    EpochEndOffset, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, OffsetForLeaderTopicResult,
};

#[derive(Debug)]
pub struct EpochEndsWork {
    reply: OffsetForLeaderEpochResponse,
    /// For each asked partition, in order: its topic and place in the reply.
    places: Vec<(usize, usize)>,
    waiting: usize,
}

pub(in crate::broker) fn handle(shard: &mut Shard, mut request: Request, effects: &mut Effects) {
    let asker = request.asker;
    let Some(asked) = api::decode::<OffsetForLeaderEpochRequest>(shard, &mut request, "OffsetForLeaderEpoch", effects)
    else {
        return;
    };
    let mut work = EpochEndsWork { reply: OffsetForLeaderEpochResponse::default(), places: Vec::new(), waiting: 0 };
    let mut questions = Vec::new();
    for topic in &asked.topics {
        let known = shard.image.topic(&topic.topic).map(|topic| (topic.id, topic.partitions));
        let at_topic = work.reply.topics.len();
        let mut rows = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            let mut row = EpochEndOffset { partition: partition.partition, ..EpochEndOffset::default() };
            row.leader_epoch = -1;
            row.end_offset = -1;
            match known {
                Some((id, count)) if (0..count).contains(&partition.partition) => {
                    let of = TopicPartition { topic: id, partition: PartitionIndex(partition.partition) };
                    if shard.leads(asker.listener, shard.owner(of.topic, of.partition)) {
                        let question = Question::EpochEnd {
                            epoch: LeaderEpoch(partition.leader_epoch),
                            current_leader_epoch: LeaderEpoch(partition.current_leader_epoch),
                        };
                        questions.push((work.places.len() as u32, of, question));
                        work.places.push((at_topic, rows.len()));
                    } else {
                        row.error_code = ErrorCode::NotLeaderOrFollower.code();
                    }
                }
                _ => row.error_code = ErrorCode::UnknownTopicOrPartition.code(),
            }
            rows.push(row);
        }
        work.reply.topics.push(OffsetForLeaderTopicResult { topic: topic.topic.clone(), partitions: rows });
    }
    if questions.is_empty() {
        return shard.reply(key::OFFSET_FOR_LEADER_EPOCH, asker, &work.reply, effects);
    }
    work.waiting = questions.len();
    let job = shard.add_job(asker, Work::EpochEnds(work));
    for (at, to, question) in questions {
        let owner = shard.owner(to.topic, to.partition);
        shard.send(owner, ShardMessage::Ask { job, at, to, question }, effects);
    }
}

pub(in crate::broker) fn on_answer(shard: &mut Shard, job: Key, at: u32, answer: Answer, effects: &mut Effects) {
    let Some(Job { work: Work::EpochEnds(work), .. }) = shard.jobs.get_mut(job) else { return };
    let (topic, place) = work.places[at as usize];
    let row = &mut work.reply.topics[topic].partitions[place];
    match answer {
        Answer::Error(error) => row.error_code = error.code(),
        Answer::EpochEnd { epoch, end } => {
            row.leader_epoch = epoch.0;
            row.end_offset = end.0;
        }
        Answer::Offset { .. } | Answer::LogStart { .. } => unreachable!("OffsetForLeaderEpoch asks for epoch ends"),
    }
    work.waiting -= 1;
    if work.waiting > 0 {
        return;
    }
    let Some(Job { asker, work: Work::EpochEnds(work) }) = shard.jobs.remove(job) else { return };
    shard.reply(key::OFFSET_FOR_LEADER_EPOCH, asker, &work.reply, effects);
}
