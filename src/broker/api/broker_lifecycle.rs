//! BrokerRegistration (API 62) and BrokerHeartbeat (API 63): brokers tell the controller that they are there (KIP-631).
//!
//! A registration that comes to another broker is passed on, since who joins knows only its seeds.
//!
//! *Owns*: the form of the answers. *Never*: decides: `broker/brokers` does. *Runs on*: core 0; others refuse.

use crate::base::ids::{BrokerEpoch, CoreId, NodeId};
use crate::base::slab::Key;
use crate::broker::api::{self, key};
use crate::broker::brokers;
use crate::broker::cluster::{self, ControllerAt};
use crate::broker::effect::Effects;
use crate::broker::job::{Asker, Job, Work};
use crate::broker::peers::{PeerAnswer, PeerCall, PeerError, PeerTo};
use crate::broker::shard::{Request, Shard};
use crate::meta::brokers::Heartbeat;
use crate::meta::controller::MetaError;
use crate::wire::errors::ErrorCode;
use crate::wire::messages::broker_heartbeat::{BrokerHeartbeatRequest, BrokerHeartbeatResponse};
use crate::wire::messages::broker_registration::{BrokerRegistrationRequest, BrokerRegistrationResponse};

pub(in crate::broker) fn handle_registration(shard: &mut Shard, mut request: Request, effects: &mut Effects) {
    let (asker, now) = (request.asker, request.now);
    let Some(asked) = api::decode::<BrokerRegistrationRequest>(shard, &mut request, "BrokerRegistration", effects)
    else {
        return;
    };
    let from = shard.sessions.admitted(asker.to.conn).map(|peer| peer.node);
    if let (ControllerAt::Node(controller), Some(from)) = (shard.cluster.controller(), from)
        && from == NodeId(asked.broker_id)
        && from != controller
    {
        let job = shard.add_job(asker, Work::Registration);
        let to = PeerTo::Node(controller, CoreId(0));
        return shard.ask_peer(to, PeerCall::PassOn(job), asker.version, &asked, now, effects);
    }
    let known = shard.image.cluster_id();
    let is_other = !asked.cluster_id.as_str().is_empty() && asked.cluster_id.as_str() != known;
    let answer = if is_other {
        let message = format!("This is cluster {known}, not {}.", asked.cluster_id);
        Err(MetaError { code: ErrorCode::InconsistentClusterId, message })
    } else {
        let is_new = asked.cluster_id.as_str().is_empty();
        cluster::registration_of(&asked).and_then(|wish| brokers::register(shard, &wish, is_new, now, effects))
    };
    if let Err(error) = &answer {
        tracing::warn!("node {} is not registered: {error}", asked.broker_id);
    }
    reply_registration(shard, asker, answer.map_err(|error| error.code), effects);
}

/// What the controller says to a registration that was passed on.
pub(in crate::broker) fn on_passed_on(
    shard: &mut Shard,
    job: Key,
    answer: Result<PeerAnswer, PeerError>,
    effects: &mut Effects,
) {
    let Some(Job { asker, .. }) = shard.jobs.remove(job) else { return };
    let answer = match answer.and_then(PeerAnswer::decode::<BrokerRegistrationResponse>) {
        Ok(reply) if reply.error_code == 0 => Ok(BrokerEpoch(reply.broker_epoch)),
        Ok(reply) => Err(ErrorCode::from_code(reply.error_code).unwrap_or(ErrorCode::UnknownServerError)),
        Err(_) => Err(ErrorCode::NotController),
    };
    reply_registration(shard, asker, answer, effects);
}

fn reply_registration(shard: &mut Shard, asker: Asker, answer: Result<BrokerEpoch, ErrorCode>, effects: &mut Effects) {
    let reply = BrokerRegistrationResponse {
        error_code: answer.err().unwrap_or(ErrorCode::None).code(),
        broker_epoch: answer.map_or(-1, |epoch| epoch.0),
        ..BrokerRegistrationResponse::default()
    };
    shard.reply(key::BROKER_REGISTRATION, asker, &reply, effects);
}

pub(in crate::broker) fn handle_heartbeat(shard: &mut Shard, mut request: Request, effects: &mut Effects) {
    let (asker, now) = (request.asker, request.now);
    let Some(asked) = api::decode::<BrokerHeartbeatRequest>(shard, &mut request, "BrokerHeartbeat", effects) else {
        return;
    };
    let beat = Heartbeat {
        id: NodeId(asked.broker_id),
        epoch: BrokerEpoch(asked.broker_epoch),
        // Who knows its epoch from the metadata has applied them up to there.
        caught_up: true,
        wants_fence: asked.want_fence,
        wants_shut_down: asked.want_shut_down,
    };
    let reply = match brokers::heartbeat(shard, &beat, now, effects) {
        Ok(answer) => BrokerHeartbeatResponse {
            is_caught_up: true,
            is_fenced: answer.fenced,
            should_shut_down: answer.should_shut_down,
            ..BrokerHeartbeatResponse::default()
        },
        Err(error) => BrokerHeartbeatResponse { error_code: error.code.code(), ..BrokerHeartbeatResponse::default() },
    };
    shard.reply(key::BROKER_HEARTBEAT, asker, &reply, effects);
}
