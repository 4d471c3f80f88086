//! Envelope (API 58): a client's request that another broker passes on to the controller (KIP-590).
//!
//! *Owns*: taking it out. *Never*: serves it where this broker is not the controller. *Runs on*: core 0; others refuse.

use crate::broker::api;
use crate::broker::brokers;
use crate::broker::effect::Effects;
use crate::broker::forward::{self, Envelope};
use crate::broker::job::Asker;
use crate::broker::shard::{Request, Shard};
use crate::wire::errors::ErrorCode;
use crate::wire::messages::envelope::EnvelopeRequest;

pub(in crate::broker) fn handle(shard: &mut Shard, mut request: Request, effects: &mut Effects) {
    let (asker, now) = (request.asker, request.now);
    let Some(asked) = api::decode::<EnvelopeRequest>(shard, &mut request, "Envelope", effects) else { return };
    let (version, correlation_id) = (asker.version, asker.correlation_id);
    let envelope = Envelope { version, correlation_id };
    if !brokers::is_controller(shard) {
        return shard.refuse_envelope(asker, envelope, ErrorCode::NotController, effects);
    }
    let (listener, token) = (forward::listener_of(&asked), forward::token_of(&asked));
    let inner = Asker { listener, envelope: Some(envelope), token, ..asker };
    shard.serve_frame(inner, asked.request_data, now, effects);
}
