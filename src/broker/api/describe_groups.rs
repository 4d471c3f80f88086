//! DescribeGroups (API 15, versions 0–6) and ConsumerGroupDescribe (API 69, versions 0–1): each group by its
//! coordinator, the latter for groups of the consumer protocol alone.
//!
//! *Owns*: the form of the replies. *Never*: knows a group. *Runs on*: the core whose client asked.

use crate::broker::api::group_work::{self, GroupReply};
use crate::broker::api::{self, key, metadata};
use crate::broker::effect::Effects;
use crate::broker::job::Asker;
use crate::broker::shard::{Request, Shard};
use crate::group::ask::{Answer, Ask};
use crate::wire::messages::consumer_group_describe::{ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse};
use crate::wire::messages::describe_groups::{DescribeGroupsRequest, DescribeGroupsResponse};

pub(in crate::broker) fn handle(shard: &mut Shard, mut request: Request, effects: &mut Effects) {
    let Some(asked) = api::decode::<DescribeGroupsRequest>(shard, &mut request, "DescribeGroups", effects) else {
        return;
    };
    let reply = GroupReply::DescribeGroups { with_operations: asked.include_authorized_operations };
    let asks = asked.groups.into_iter().map(Ask::DescribeGroup).collect();
    group_work::ask(shard, &request, reply, asks, effects);
}

pub(in crate::broker) fn handle_consumer(shard: &mut Shard, mut request: Request, effects: &mut Effects) {
    let name = "ConsumerGroupDescribe";
    let Some(asked) = api::decode::<ConsumerGroupDescribeRequest>(shard, &mut request, name, effects) else { return };
    let reply = GroupReply::DescribeConsumerGroups { with_operations: asked.include_authorized_operations };
    let asks = asked.group_ids.into_iter().map(Ask::DescribeConsumerGroup).collect();
    group_work::ask(shard, &request, reply, asks, effects);
}

pub(in crate::broker) fn reply(
    shard: &mut Shard,
    asker: Asker,
    with_operations: bool,
    answers: impl Iterator<Item = Answer>,
    effects: &mut Effects,
) {
    let described = answers.map(|answer| {
        let Answer::DescribeGroup(mut group) = answer else { unreachable!("a description was asked for") };
        group_work::count_error(shard, key::DESCRIBE_GROUPS, group.error_code);
        add_operations(with_operations, group.error_code, &mut group.authorized_operations);
        group
    });
    let reply = DescribeGroupsResponse { groups: described.collect(), ..Default::default() };
    shard.reply(key::DESCRIBE_GROUPS, asker, &reply, effects);
}

pub(in crate::broker) fn reply_consumer(
    shard: &mut Shard,
    asker: Asker,
    with_operations: bool,
    answers: impl Iterator<Item = Answer>,
    effects: &mut Effects,
) {
    let described = answers.map(|answer| {
        let Answer::DescribeConsumerGroup(mut group) = answer else { unreachable!("a description was asked for") };
        group_work::count_error(shard, key::CONSUMER_GROUP_DESCRIBE, group.error_code);
        add_operations(with_operations, group.error_code, &mut group.authorized_operations);
        group
    });
    let reply = ConsumerGroupDescribeResponse { groups: described.collect(), ..Default::default() };
    shard.reply(key::CONSUMER_GROUP_DESCRIBE, asker, &reply, effects);
}

/// What the client may do with a group that is there.
fn add_operations(wanted: bool, error_code: i16, operations: &mut i32) {
    if wanted && error_code == 0 {
        *operations = metadata::GROUP_OPERATIONS;
    }
}
