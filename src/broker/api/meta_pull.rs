//! MetaPull (API 1002): another broker asks for metadata that it lacks.
//!
//! *Owns*: the form of the answer. *Never*: gives everything to a broker that has not registered this run of it.
//! *Runs on*: core 0; others refuse.

use bytes::Bytes;

use crate::broker::api::{self, key};
use crate::broker::effect::Effects;
use crate::broker::shard::{Request, Shard};
use crate::wire::errors::ErrorCode;
use crate::wire::messages::meta_pull::{MetaPullRequest, MetaPullResponse};

pub(in crate::broker) fn handle(shard: &mut Shard, mut request: Request, effects: &mut Effects) {
    let asker = request.asker;
    let Some(asked) = api::decode::<MetaPullRequest>(shard, &mut request, "MetaPull", effects) else { return };
    let version = u64::try_from(asked.version);
    let reply = match (shard.sessions.admitted(asker.to.conn), &shard.control, version) {
        (Some(peer), Some(control), Ok(version)) => {
            let answer = control.answer_pull(peer, version).map(Bytes::from);
            MetaPullResponse { error_code: ErrorCode::None.code(), answer: answer.unwrap_or_default() }
        }
        (_, _, Err(_)) => {
            MetaPullResponse { error_code: ErrorCode::InvalidRequest.code(), ..MetaPullResponse::default() }
        }
        _ => MetaPullResponse { error_code: ErrorCode::NotController.code(), ..MetaPullResponse::default() },
    };
    shard.reply(key::META_PULL, asker, &reply, effects);
}
