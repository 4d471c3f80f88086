//! DescribeCluster (API 60, versions 0–2): the brokers, as the client's listener shows them (KIP-700, KIP-919).
//!
//! Whoever wants to join knows where clients connect, and asks there where the listener for brokers is.
//!
//! *Owns*: the form of the answer. *Never*: changes anything. *Runs on*: the core whose client asked.

use crate::broker::api::{self, key, metadata};
use crate::broker::effect::Effects;
use crate::broker::shard::{Request, Shard};
use crate::wire::errors::ErrorCode;
use crate::wire::messages::describe_cluster::{
    DescribeClusterBroker, DescribeClusterRequest, DescribeClusterResponse, ENDPOINT_BROKERS, ENDPOINT_CONTROLLERS,
    ENDPOINT_PEER,
};

pub(in crate::broker) fn handle(shard: &mut Shard, mut request: Request, effects: &mut Effects) {
    let asker = request.asker;
    let Some(asked) = api::decode::<DescribeClusterRequest>(shard, &mut request, "DescribeCluster", effects) else {
        return;
    };
    let mut reply =
        DescribeClusterResponse { endpoint_type: asked.endpoint_type, ..DescribeClusterResponse::default() };
    let found = match asked.endpoint_type {
        ENDPOINT_BROKERS if asked.include_fenced_brokers => Ok(shard.registered_brokers(asker.listener)),
        ENDPOINT_BROKERS => Ok(shard.shown_brokers(asker.listener)),
        ENDPOINT_PEER => Ok(Vec::new()),
        ENDPOINT_CONTROLLERS => Err((ErrorCode::MismatchedEndpointType, "this listener is for brokers")),
        _ => Err((ErrorCode::UnsupportedEndpointType, "endpoint types are 1 (brokers) and 2 (controllers)")),
    };
    let brokers = match found {
        Ok(brokers) => brokers,
        Err((error, message)) => {
            reply.error_code = error.code();
            reply.error_message = Some(message.into());
            return shard.reply(key::DESCRIBE_CLUSTER, asker, &reply, effects);
        }
    };
    reply.cluster_id = shard.image.cluster_id().into();
    reply.controller_id = shard.shown_controller(asker.listener).0;
    let shown = brokers.into_iter().map(|broker| DescribeClusterBroker {
        broker_id: broker.id.0,
        host: broker.address.host.as_str().into(),
        port: i32::from(broker.address.port),
        rack: broker.rack.as_deref().map(Into::into),
        is_fenced: broker.is_fenced,
    });
    reply.brokers = shown.collect();
    if asked.endpoint_type == ENDPOINT_PEER {
        reply.brokers.extend(listener_for_brokers(shard));
    }
    if asked.include_cluster_authorized_operations {
        reply.cluster_authorized_operations = metadata::CLUSTER_OPERATIONS;
    }
    shard.reply(key::DESCRIBE_CLUSTER, asker, &reply, effects);
}

/// Nobody can join through a broker that has none.
fn listener_for_brokers(shard: &Shard) -> Option<DescribeClusterBroker> {
    let address = shard.config.listeners.peer.as_ref()?;
    Some(DescribeClusterBroker {
        broker_id: shard.node().0,
        host: address.host.as_str().into(),
        port: i32::from(address.port),
        ..DescribeClusterBroker::default()
    })
}
