//! ConsumerGroupDescribe (API 69, versions 0–1): each group of the consumer protocol by its coordinator.
//!
//! *Owns*: the form of the reply. *Never*: knows a group. *Runs on*: the core whose client asked.

use crate::broker::api::group_work::{self, GroupReply};
use crate::broker::api::{self, key, metadata};
use crate::broker::effect::Effects;
use crate::broker::job::Asker;
use crate::broker::shard::{Request, Shard};
use crate::group::ask::{Answer, Ask};
use crate::wire::messages::consumer_group_describe::{ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse};

pub(in crate::broker) fn handle(shard: &mut Shard, mut request: Request, effects: &mut Effects) {
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
    let mut reply = ConsumerGroupDescribeResponse::default();
    for answer in answers {
        let Answer::DescribeConsumerGroup(mut group) = answer else { unreachable!("a description was asked for") };
        if with_operations && group.error_code == 0 {
            group.authorized_operations = metadata::GROUP_OPERATIONS;
        }
        group_work::count_error(shard, key::CONSUMER_GROUP_DESCRIBE, group.error_code);
        reply.groups.push(group);
    }
    shard.reply(key::CONSUMER_GROUP_DESCRIBE, asker, &reply, effects);
}
