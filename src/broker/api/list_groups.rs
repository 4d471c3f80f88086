//! ListGroups (API 16, versions 0–5): the groups of every coordinator that the client's listener shows as this broker.
//!
//! *Owns*: the form of the reply. *Never*: knows a group. *Runs on*: the core whose client asked.

use crate::base::names::CONSUMER_OFFSETS;
use crate::broker::api::group_work::{self, GroupReply};
use crate::broker::api::{self, key};
use crate::broker::effect::Effects;
use crate::broker::job::Asker;
use crate::broker::route;
use crate::broker::shard::{Request, Shard};
use crate::group::ask::{Answer, Ask, ListFilter};
use crate::wire::messages::list_groups::{ListGroupsRequest, ListGroupsResponse};

pub(in crate::broker) fn handle(shard: &mut Shard, mut request: Request, effects: &mut Effects) {
    let Some(asked) = api::decode::<ListGroupsRequest>(shard, &mut request, "ListGroups", effects) else { return };
    let filter = ListFilter {
        states: asked.states_filter.iter().map(ToString::to_string).collect(),
        types: asked.types_filter.iter().map(ToString::to_string).collect(),
    };
    let of = shard.image.topic(CONSUMER_OFFSETS).into_iter().flat_map(route::partitions_of);
    let led = of.filter(|of| shard.leader_of(*of) == Some(shard.node()));
    let shown = led.filter(|of| shard.leads(request.asker.listener, shard.owner(of.topic, of.partition)));
    let asks = shown.map(|of| (Some(of), Ask::ListGroups(filter.clone()))).collect();
    group_work::ask_at(shard, &request, GroupReply::ListGroups, asks, effects);
}

pub(in crate::broker) fn reply(
    shard: &mut Shard,
    asker: Asker,
    answers: impl Iterator<Item = Answer>,
    effects: &mut Effects,
) {
    let mut reply = ListGroupsResponse::default();
    for answer in answers {
        let Answer::ListGroups(answer) = answer else { unreachable!("a list was asked for") };
        match answer {
            Ok(groups) => reply.groups.extend(groups),
            Err(error) => reply.error_code = error.code(),
        }
    }
    if reply.error_code != 0 {
        // A part of the groups would look like all of them.
        reply.groups.clear();
    }
    group_work::count_error(shard, key::LIST_GROUPS, reply.error_code);
    shard.reply(key::LIST_GROUPS, asker, &reply, effects);
}
