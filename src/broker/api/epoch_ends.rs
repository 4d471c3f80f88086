//! OffsetForLeaderEpoch (API 23, versions 2–4): where an epoch ended, so that a client notices a truncated log
//! (KIP-320).
//!
//! *Owns*: the reply under construction. *Never*: looks into a log. *Runs on*: the core whose client asked.

use crate::base::ids::LeaderEpoch;
use crate::base::slab::Key;
use crate::broker::api::questions::{Awaited, Questions};
use crate::broker::api::{self, key};
use crate::broker::effect::Effects;
use crate::broker::job::{Job, Work};
use crate::broker::message::{Answer, Question};
use crate::broker::route;
use crate::broker::shard::{Request, Shard};
use crate::wire::errors::ErrorCode;
use crate::wire::messages::offset_for_leader_epoch::{
    EpochEndOffset, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, OffsetForLeaderTopicResult,
};

#[derive(Debug)]
pub struct EpochEndsWork {
    reply: OffsetForLeaderEpochResponse,
    awaited: Awaited,
}

pub(in crate::broker) fn handle(shard: &mut Shard, mut request: Request, effects: &mut Effects) {
    let asker = request.asker;
    let Some(asked) = api::decode::<OffsetForLeaderEpochRequest>(shard, &mut request, "OffsetForLeaderEpoch", effects)
    else {
        return;
    };
    let mut reply = OffsetForLeaderEpochResponse::default();
    let mut questions = Questions::default();
    for topic in &asked.topics {
        let known = shard.image.topic(&topic.topic);
        let at_topic = reply.topics.len();
        let mut rows = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            let mut row = EpochEndOffset { partition: partition.partition, ..EpochEndOffset::default() };
            row.leader_epoch = -1;
            row.end_offset = -1;
            match known.and_then(|known| route::partition_of(known, partition.partition)) {
                Some(of) => {
                    if shard.leads(asker.listener, shard.owner(of.topic, of.partition)) {
                        let question = Question::EpochEnd {
                            epoch: LeaderEpoch(partition.leader_epoch),
                            current_leader_epoch: LeaderEpoch(partition.current_leader_epoch),
                        };
                        questions.add((at_topic, rows.len()), of, question);
                    } else {
                        row.error_code = ErrorCode::NotLeaderOrFollower.code();
                    }
                }
                None => row.error_code = ErrorCode::UnknownTopicOrPartition.code(),
            }
            rows.push(row);
        }
        reply.topics.push(OffsetForLeaderTopicResult { topic: topic.topic.clone(), partitions: rows });
    }
    if questions.is_empty() {
        return shard.reply(key::OFFSET_FOR_LEADER_EPOCH, asker, &reply, effects);
    }
    questions.ask(shard, asker, |awaited| Work::EpochEnds(EpochEndsWork { reply, awaited }), effects);
}

pub(in crate::broker) fn on_answer(shard: &mut Shard, job: Key, at: u32, answer: Answer, effects: &mut Effects) {
    let Some(Job { work: Work::EpochEnds(work), .. }) = shard.jobs.get_mut(job) else { return };
    let (topic, place) = work.awaited.on_answer(at);
    let row = &mut work.reply.topics[topic].partitions[place];
    match answer {
        Answer::Error(error) => row.error_code = error.code(),
        Answer::EpochEnd { epoch, end } => {
            row.leader_epoch = epoch.0;
            row.end_offset = end.0;
        }
        Answer::Offset { .. } | Answer::LogStart { .. } => unreachable!("OffsetForLeaderEpoch asks for epoch ends"),
    }
    if !work.awaited.is_over() {
        return;
    }
    let Some(Job { asker, work: Work::EpochEnds(work), .. }) = shard.jobs.remove(job) else { return };
    shard.reply(key::OFFSET_FOR_LEADER_EPOCH, asker, &work.reply, effects);
}
