//! PeerHello: another broker says who it is, before anything else on its connection.
//!
//! *Owns*: nothing; `broker/greeting` decides. *Never*: is served to clients. *Runs on*: every core.

use crate::broker::api::{decode, key};
use crate::broker::effect::Effects;
use crate::broker::shard::{Request, Shard};
use crate::wire::messages::peer_hello::PeerHelloRequest;

pub(in crate::broker) fn handle(shard: &mut Shard, mut request: Request, effects: &mut Effects) {
    let Some(hello) = decode::<PeerHelloRequest>(shard, &mut request, "PeerHello", effects) else { return };
    let conn = request.asker.to.conn;
    let mut guest = shard.sessions.take_guest(conn);
    let mut rng = shard.rng.clone();
    let answer = guest.on_hello(shard.myself(), &hello, &mut rng);
    shard.rng = rng;
    if answer.error_code != 0 {
        let why = answer.error_message.as_ref().map_or("", |why| why.as_str());
        tracing::warn!(from = shard.sessions.host(conn), node = hello.node_id, "refusing a broker: {why}");
    }
    shard.sessions.set_guest(conn, guest);
    shard.reply(key::PEER_HELLO, request.asker, &answer, effects);
}
