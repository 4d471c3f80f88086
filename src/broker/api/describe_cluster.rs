//! DescribeCluster (API 60, versions 0–2): the brokers, as the client's listener shows them (KIP-700, KIP-919).
//!
//! *Owns*: the form of the answer. *Never*: changes anything. *Runs on*: the core whose client asked.

use crate::broker::api::{self, key, metadata};
use crate::broker::effect::Effects;
use crate::broker::shard::{Request, Shard};
use crate::wire::errors::ErrorCode;
use crate::wire::messages::describe_cluster::{DescribeClusterBroker, DescribeClusterRequest, DescribeClusterResponse};

const ENDPOINT_BROKERS: i8 = 1;
const ENDPOINT_CONTROLLERS: i8 = 2;

pub(in crate::broker) fn handle(shard: &mut Shard, mut request: Request, effects: &mut Effects) {
    let asker = request.asker;
    let Some(asked) = api::decode::<DescribeClusterRequest>(shard, &mut request, "DescribeCluster", effects) else {
        return;
    };
    let mut reply =
        DescribeClusterResponse { endpoint_type: asked.endpoint_type, ..DescribeClusterResponse::default() };
    let refused = match asked.endpoint_type {
        ENDPOINT_BROKERS => None,
        ENDPOINT_CONTROLLERS => Some((ErrorCode::MismatchedEndpointType, "this listener is for brokers")),
        _ => Some((ErrorCode::UnsupportedEndpointType, "endpoint types are 1 (brokers) and 2 (controllers)")),
    };
    if let Some((error, message)) = refused {
        reply.error_code = error.code();
        reply.error_message = Some(message.into());
        return shard.reply(key::DESCRIBE_CLUSTER, asker, &reply, effects);
    }
    reply.cluster_id = shard.image.cluster_id().into();
    reply.controller_id = shard.shown_controller(asker.listener).0;
    let brokers = match asked.include_fenced_brokers {
        true => shard.registered_brokers(asker.listener),
        false => shard.shown_brokers(asker.listener),
    };
    reply.brokers = brokers
        .into_iter()
        .map(|broker| DescribeClusterBroker {
            broker_id: broker.id.0,
            host: broker.address.host.as_str().into(),
            port: i32::from(broker.address.port),
            rack: broker.rack.as_deref().map(Into::into),
            is_fenced: broker.is_fenced,
        })
        .collect();
    if asked.include_cluster_authorized_operations {
        reply.cluster_authorized_operations = metadata::CLUSTER_OPERATIONS;
    }
    shard.reply(key::DESCRIBE_CLUSTER, asker, &reply, effects);
}
