//! Who belongs to the cluster: UnregisterBroker (API 64, version 0), AddRaftVoter (API 80, version 0) and
//! RemoveRaftVoter (API 81, version 0) (KIP-631, KIP-853).
//!
//! A voter is a node here, whatever data directory it has: the ids of directories do not count. What is said of a vote
//! holds until something else is said (`meta/voters`).
//!
//! *Owns*: the form of order and answer. *Never*: decides. *Runs on*: the core whose client asked.

use crate::base::ids::CoreId;
use crate::broker::api::{self, key};
use crate::broker::effect::Effects;
use crate::broker::job::{Asker, Work};
use crate::broker::message::{ControlOrder, ControlOutcome, ShardMessage, VoterChange};
use crate::broker::route;
use crate::broker::shard::{Request, Shard};
use crate::meta::controller::MetaError;
use crate::wire::errors::ErrorCode;
use crate::wire::messages::add_raft_voter::{AddRaftVoterRequest, AddRaftVoterResponse};
use crate::wire::messages::remove_raft_voter::{RemoveRaftVoterRequest, RemoveRaftVoterResponse};
use crate::wire::messages::unregister_broker::{UnregisterBrokerRequest, UnregisterBrokerResponse};
use crate::wire::text::Text;

/// Which of the three was asked for.
#[derive(Debug)]
pub struct MembersWork {
    api_key: i16,
}

pub(in crate::broker) fn handle_unregister(shard: &mut Shard, mut request: Request, effects: &mut Effects) {
    let asker = request.asker;
    let Some(asked) = api::decode::<UnregisterBrokerRequest>(shard, &mut request, "UnregisterBroker", effects) else {
        return;
    };
    let node = route::node_of(asker.listener, asked.broker_id);
    order(shard, asker, key::UNREGISTER_BROKER, ControlOrder::UnregisterBroker(node), effects);
}

pub(in crate::broker) fn handle_add_voter(shard: &mut Shard, mut request: Request, effects: &mut Effects) {
    let asker = request.asker;
    let Some(asked) = api::decode::<AddRaftVoterRequest>(shard, &mut request, "AddRaftVoter", effects) else { return };
    let change = VoterChange::Add(route::node_of(asker.listener, asked.voter_id));
    change_voters(shard, asker, key::ADD_RAFT_VOTER, asked.cluster_id.as_ref(), change, effects);
}

pub(in crate::broker) fn handle_remove_voter(shard: &mut Shard, mut request: Request, effects: &mut Effects) {
    let asker = request.asker;
    let Some(asked) = api::decode::<RemoveRaftVoterRequest>(shard, &mut request, "RemoveRaftVoter", effects) else {
        return;
    };
    let change = VoterChange::Remove(route::node_of(asker.listener, asked.voter_id));
    change_voters(shard, asker, key::REMOVE_RAFT_VOTER, asked.cluster_id.as_ref(), change, effects);
}

fn change_voters(
    shard: &mut Shard,
    asker: Asker,
    api_key: i16,
    cluster_id: Option<&Text>,
    change: VoterChange,
    effects: &mut Effects,
) {
    if cluster_id.is_some_and(|id| **id != *shard.image.cluster_id()) {
        let message = format!("This is cluster {}.", shard.image.cluster_id());
        let refused = Err(MetaError { code: ErrorCode::InconsistentClusterId, message });
        return reply(shard, asker, api_key, refused, effects);
    }
    order(shard, asker, api_key, ControlOrder::ChangeVoters(change), effects);
}

fn order(shard: &mut Shard, asker: Asker, api_key: i16, order: ControlOrder, effects: &mut Effects) {
    let job = shard.add_job(asker, Work::Members(MembersWork { api_key }));
    shard.send(CoreId(0), ShardMessage::Control { job, order }, effects);
}

pub(in crate::broker) fn on_outcome(
    shard: &mut Shard,
    asker: Asker,
    work: &MembersWork,
    outcome: ControlOutcome,
    effects: &mut Effects,
) {
    let result = match outcome.results() {
        Ok(results) => results.into_iter().collect(),
        Err(code) => Err(MetaError { code, message: code.message().into() }),
    };
    reply(shard, asker, work.api_key, result, effects);
}

fn reply(shard: &mut Shard, asker: Asker, api_key: i16, result: Result<(), MetaError>, effects: &mut Effects) {
    let (code, error_message) = match result {
        Ok(()) => (ErrorCode::None, None),
        Err(error) => (error.code, Some(error.message.into())),
    };
    let (throttle_time_ms, error_code) = (0, code.code());
    // The three replies have the same fields, in types of their own.
    match api_key {
        key::UNREGISTER_BROKER => {
            let reply = UnregisterBrokerResponse { throttle_time_ms, error_code, error_message };
            shard.reply(api_key, asker, &reply, effects);
        }
        key::ADD_RAFT_VOTER => {
            let reply = AddRaftVoterResponse { throttle_time_ms, error_code, error_message };
            shard.reply(api_key, asker, &reply, effects);
        }
        _ => {
            let reply = RemoveRaftVoterResponse { throttle_time_ms, error_code, error_message };
            shard.reply(api_key, asker, &reply, effects);
        }
    }
}
