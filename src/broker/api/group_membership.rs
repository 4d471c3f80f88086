//! JoinGroup, SyncGroup, Heartbeat and LeaveGroup (APIs 11, 14, 12, 13), and ConsumerGroupHeartbeat (68): what members
//! of groups send. Each goes to the coordinator of its group, and its answer is the reply.
//!
//! *Owns*: the form of asking and answering. *Never*: decides about a group. *Runs on*: the core whose client asked.

use crate::broker::api::group_work::{self, GroupReply};
use crate::broker::api::{self, key};
use crate::broker::effect::Effects;
use crate::broker::job::Asker;
use crate::broker::shard::{Request, Shard};
use crate::group::ask::{Answer, Ask};
use crate::wire::codec::Message;

pub(in crate::broker) fn handle_join(shard: &mut Shard, request: Request, effects: &mut Effects) {
    handle(shard, request, "JoinGroup", Ask::JoinGroup, effects);
}

pub(in crate::broker) fn handle_sync(shard: &mut Shard, request: Request, effects: &mut Effects) {
    handle(shard, request, "SyncGroup", Ask::SyncGroup, effects);
}

pub(in crate::broker) fn handle_heartbeat(shard: &mut Shard, request: Request, effects: &mut Effects) {
    handle(shard, request, "Heartbeat", Ask::Heartbeat, effects);
}

pub(in crate::broker) fn handle_leave(shard: &mut Shard, request: Request, effects: &mut Effects) {
    handle(shard, request, "LeaveGroup", Ask::LeaveGroup, effects);
}

pub(in crate::broker) fn handle_consumer_heartbeat(shard: &mut Shard, request: Request, effects: &mut Effects) {
    handle(shard, request, "ConsumerGroupHeartbeat", Ask::ConsumerGroupHeartbeat, effects);
}

pub(in crate::broker) fn reply(shard: &mut Shard, asker: Asker, answer: Answer, effects: &mut Effects) {
    match answer {
        Answer::JoinGroup(body) => send(shard, key::JOIN_GROUP, asker, body.error_code, &body, effects),
        Answer::SyncGroup(body) => send(shard, key::SYNC_GROUP, asker, body.error_code, &body, effects),
        Answer::Heartbeat(body) => send(shard, key::HEARTBEAT, asker, body.error_code, &body, effects),
        Answer::LeaveGroup(body) => send(shard, key::LEAVE_GROUP, asker, body.error_code, &body, effects),
        Answer::ConsumerGroupHeartbeat(body) => {
            send(shard, key::CONSUMER_GROUP_HEARTBEAT, asker, body.error_code, &body, effects);
        }
        other => unreachable!("members do not ask for {other:?}"),
    }
}

fn handle<M: Message>(
    shard: &mut Shard,
    mut request: Request,
    name: &str,
    ask: impl FnOnce(M) -> Ask,
    effects: &mut Effects,
) {
    let Some(asked) = api::decode::<M>(shard, &mut request, name, effects) else { return };
    group_work::ask(shard, &request, GroupReply::Membership, vec![ask(asked)], effects);
}

fn send<M: Message>(shard: &mut Shard, api_key: i16, asker: Asker, error: i16, body: &M, effects: &mut Effects) {
    group_work::count_error(shard, api_key, error);
    shard.reply(api_key, asker, body, effects);
}
