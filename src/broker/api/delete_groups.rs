//! DeleteGroups (API 42, versions 0–2): each group by its coordinator.
//!
//! *Owns*: the form of the reply. *Never*: knows a group. *Runs on*: the core whose client asked.

use crate::broker::api::group_work::{self, GroupReply};
use crate::broker::api::{self, key};
use crate::broker::effect::Effects;
use crate::broker::job::Asker;
use crate::broker::shard::{Request, Shard};
use crate::group::ask::{Answer, Ask};
use crate::wire::messages::delete_groups::{DeletableGroupResult, DeleteGroupsRequest, DeleteGroupsResponse};
use crate::wire::text::Text;

/// Of the groups, in the order of the questions.
pub type Names = Vec<Text>;

pub(in crate::broker) fn handle(shard: &mut Shard, mut request: Request, effects: &mut Effects) {
    let Some(asked) = api::decode::<DeleteGroupsRequest>(shard, &mut request, "DeleteGroups", effects) else { return };
    let names = asked.groups_names;
    let asks = names.iter().cloned().map(Ask::DeleteGroup).collect();
    group_work::ask(shard, &request, GroupReply::DeleteGroups(names), asks, effects);
}

pub(in crate::broker) fn reply(
    shard: &mut Shard,
    asker: Asker,
    names: Names,
    answers: impl Iterator<Item = Answer>,
    effects: &mut Effects,
) {
    let mut reply = DeleteGroupsResponse::default();
    for (group_id, answer) in names.into_iter().zip(answers) {
        let Answer::DeleteGroup(error) = answer else { unreachable!("a deletion was asked for") };
        group_work::count_error(shard, key::DELETE_GROUPS, error.code());
        reply.results.push(DeletableGroupResult { group_id, error_code: error.code() });
    }
    shard.reply(key::DELETE_GROUPS, asker, &reply, effects);
}
