//! Requests about groups, while the coordinators of their groups answer.
//!
//! *Owns*: who is asked what, and when a request has all its answers. *Never*: decides about a group. *Runs on*: the
//! core whose client asked.

use crate::base::slab::Key;
use crate::broker::api::{
    delete_groups, describe_groups, group_membership, list_groups, offset_commit, offset_delete, offset_fetch,
};
use crate::broker::effect::Effects;
use crate::broker::groups::GroupAsk;
use crate::broker::job::{Job, Work};
use crate::broker::message::TopicPartition;
use crate::broker::shard::{Request, Shard};
use crate::group::ask::{Answer, Ask, Caller, Ticket};
use crate::wire::errors::ErrorCode;

#[derive(Debug)]
pub struct GroupWork {
    /// In the order of the questions.
    answers: Vec<Option<Answer>>,
    waiting: usize,
    reply: GroupReply,
}

/// Which reply the answers become, with what is in it already.
#[derive(Debug)]
pub enum GroupReply {
    /// JoinGroup, SyncGroup, Heartbeat, LeaveGroup or ConsumerGroupHeartbeat: the answer is the reply.
    Membership,
    OffsetCommit(offset_commit::Refused),
    OffsetFetch(offset_fetch::Refused),
    OffsetDelete(offset_delete::Refused),
    DescribeGroups {
        with_operations: bool,
    },
    DescribeConsumerGroups {
        with_operations: bool,
    },
    DeleteGroups(delete_groups::Names),
    ListGroups,
}

/// Asks the coordinator of each group.
pub(in crate::broker) fn ask(
    shard: &mut Shard,
    request: &Request,
    reply: GroupReply,
    asks: Vec<Ask>,
    effects: &mut Effects,
) {
    let asks = asks.into_iter().map(|ask| (ask.group().and_then(|group| shard.coordinator_of(group)), ask)).collect();
    ask_at(shard, request, reply, asks, effects);
}

/// Asks the coordinators on these partitions; where there is none, the answer is that this broker is none.
pub(in crate::broker) fn ask_at(
    shard: &mut Shard,
    request: &Request,
    reply: GroupReply,
    asks: Vec<(Option<TopicPartition>, Ask)>,
    effects: &mut Effects,
) {
    let asker = request.asker;
    let caller = Caller {
        version: asker.version,
        client_id: request.client_id.clone().unwrap_or_default(),
        client_host: format!("/{}", shard.sessions.host(asker.to.conn)).into(),
    };
    let work = GroupWork { answers: asks.iter().map(|_| None).collect(), waiting: asks.len(), reply };
    let job = shard.add_job(asker, Work::Group(Box::new(work)));
    if asks.is_empty() {
        return finish(shard, job, effects);
    }
    for (at, (to, ask)) in (0..).zip(asks) {
        let ticket = Ticket { core: shard.core(), job, at };
        match to.filter(|to| shard.leads(asker.listener, shard.owner(to.topic, to.partition))) {
            Some(to) => {
                let asked = GroupAsk { ticket, partition: to.partition, ask, caller: caller.clone() };
                shard.ask_coordinator(to, asked, request.now);
            }
            None => on_answer(shard, ticket, ask.refused(ErrorCode::NotCoordinator), effects),
        }
    }
}

pub(in crate::broker) fn on_answer(shard: &mut Shard, ticket: Ticket, answer: Answer, effects: &mut Effects) {
    let Some(Job { work: Work::Group(work), .. }) = shard.jobs.get_mut(ticket.job) else { return };
    let place = &mut work.answers[ticket.at as usize];
    assert!(place.is_none(), "a question is answered once");
    *place = Some(answer);
    work.waiting -= 1;
    if work.waiting == 0 {
        finish(shard, ticket.job, effects);
    }
}

fn finish(shard: &mut Shard, job: Key, effects: &mut Effects) {
    let Some(Job { asker, work: Work::Group(work), .. }) = shard.jobs.remove(job) else { return };
    let GroupWork { answers, reply, .. } = *work;
    let answers = answers.into_iter().flatten();
    match reply {
        GroupReply::Membership => answers.for_each(|answer| group_membership::reply(shard, asker, answer, effects)),
        GroupReply::OffsetCommit(refused) => offset_commit::reply(shard, asker, refused, answers, effects),
        GroupReply::OffsetFetch(refused) => offset_fetch::reply(shard, asker, refused, answers, effects),
        GroupReply::OffsetDelete(refused) => offset_delete::reply(shard, asker, refused, answers, effects),
        GroupReply::DescribeGroups { with_operations } => {
            describe_groups::reply(shard, asker, with_operations, answers, effects);
        }
        GroupReply::DescribeConsumerGroups { with_operations } => {
            describe_groups::reply_consumer(shard, asker, with_operations, answers, effects);
        }
        GroupReply::DeleteGroups(names) => delete_groups::reply(shard, asker, names, answers, effects),
        GroupReply::ListGroups => list_groups::reply(shard, asker, answers, effects),
    }
}

/// Notes an error of a reply in the metrics.
pub(in crate::broker) fn count_error(shard: &mut Shard, api_key: i16, code: i16) {
    if code != ErrorCode::None.code() {
        shard.counts.on_error(api_key, code);
    }
}
