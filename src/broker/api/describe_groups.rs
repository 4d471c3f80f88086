//! DescribeGroups (API 15, versions 0–6): each group by its coordinator.
//!
//! *Owns*: the form of the reply. *Never*: knows a group. *Runs on*: the core whose client asked.

use crate::broker::api::group_work::{self, GroupReply};
use crate::broker::api::{self, key, metadata};
use crate::broker::effect::Effects;
use crate::broker::job::Asker;
use crate::broker::shard::{Request, Shard};
use crate::group::ask::{Answer, Ask};
use crate::wire::messages::describe_groups::{DescribeGroupsRequest, DescribeGroupsResponse};

pub(in crate::broker) fn handle(shard: &mut Shard, mut request: Request, effects: &mut Effects) {
    let Some(asked) = api::decode::<DescribeGroupsRequest>(shard, &mut request, "DescribeGroups", effects) else {
        return;
    };
    let reply = GroupReply::DescribeGroups { with_operations: asked.include_authorized_operations };
    let asks = asked.groups.into_iter().map(Ask::DescribeGroup).collect();
    group_work::ask(shard, &request, reply, asks, effects);
}

pub(in crate::broker) fn reply(
    shard: &mut Shard,
    asker: Asker,
    with_operations: bool,
    answers: impl Iterator<Item = Answer>,
    effects: &mut Effects,
) {
    let mut reply = DescribeGroupsResponse::default();
    for answer in answers {
        let Answer::DescribeGroup(mut group) = answer else { unreachable!("a description was asked for") };
        if with_operations && group.error_code == 0 {
            group.authorized_operations = metadata::GROUP_OPERATIONS;
        }
        group_work::count_error(shard, key::DESCRIBE_GROUPS, group.error_code);
        reply.groups.push(group);
    }
    shard.reply(key::DESCRIBE_GROUPS, asker, &reply, effects);
}
