//! QuorumMessages (API 1001): what another node's quorum says to this one's.
//!
//! *Owns*: the form of the answer, which says only that they have come. *Never*: looks into them.
//! *Runs on*: core 0; others refuse.

use crate::broker::api::{self, key};
use crate::broker::control::Control;
use crate::broker::effect::Effects;
use crate::broker::shard::{Request, Shard};
use crate::config::Address;
use crate::wire::errors::ErrorCode;
use crate::wire::messages::quorum_messages::{QuorumMessagesRequest, QuorumMessagesResponse};

pub(in crate::broker) fn handle(shard: &mut Shard, mut request: Request, effects: &mut Effects) {
    let (asker, now) = (request.asker, request.now);
    let Some(asked) = api::decode::<QuorumMessagesRequest>(shard, &mut request, "QuorumMessages", effects) else {
        return;
    };
    let error = match shard.sessions.admitted(asker.to.conn) {
        Some(peer) if shard.control.is_some() => {
            // Who joins knows nobody yet.
            if shard.image.broker(peer.node).is_none() {
                let address = Address { host: asked.host.to_string(), port: asked.port };
                shard.meet_node(peer.node, address, now, effects);
            }
            Control::on_quorum_messages(shard, peer.node, &asked.messages, now, effects);
            ErrorCode::None
        }
        _ => ErrorCode::NotController,
    };
    let reply = QuorumMessagesResponse { error_code: error.code() };
    shard.reply(key::QUORUM_MESSAGES, asker, &reply, effects);
}
