//! ListConfigResources (API 74, versions 0–1): what has settings of its own, or could (KIP-1142).
//!
//! *Owns*: the form of the answer. *Never*: changes anything. *Runs on*: the core whose client asked.

use crate::broker::api::{self, key};
use crate::broker::effect::{Effects, ListenerKind};
use crate::broker::shard::{Request, Shard};
use crate::config::ConfigResource as Resource;
use crate::wire::errors::ErrorCode;
use crate::wire::messages::list_config_resources::{
    ConfigResource, ListConfigResourcesRequest, ListConfigResourcesResponse,
};
use crate::wire::text::Text;

/// In the order of Kafka's `ConfigResource.Type`.
const TYPES: [i8; 5] =
    [Resource::TOPIC, Resource::BROKER, Resource::BROKER_LOGGER, Resource::CLIENT_METRICS, Resource::GROUP];

pub(in crate::broker) fn handle(shard: &mut Shard, mut request: Request, effects: &mut Effects) {
    let (asker, name) = (request.asker, "ListConfigResources");
    let Some(asked) = api::decode::<ListConfigResourcesRequest>(shard, &mut request, name, effects) else { return };
    let mut types = match (asker.version, asked.resource_types) {
        (0, _) => vec![Resource::CLIENT_METRICS],
        (_, types) if types.is_empty() => TYPES.to_vec(),
        (_, types) => types,
    };
    types.sort_unstable();
    types.dedup();
    let mut reply = ListConfigResourcesResponse::default();
    if types.iter().all(|resource_type| TYPES.contains(resource_type)) {
        for resource_type in types {
            let names = names(shard, asker.listener, resource_type).into_iter();
            let row = |resource_name| ConfigResource { resource_name, resource_type };
            reply.config_resources.extend(names.map(row));
        }
    } else {
        reply.error_code = ErrorCode::UnsupportedVersion.code();
    }
    shard.reply(key::LIST_CONFIG_RESOURCES, asker, &reply, effects);
}

/// Groups and client metrics that something was set of; all topics and brokers.
fn names(shard: &Shard, listener: ListenerKind, resource_type: i8) -> Vec<Text> {
    match resource_type {
        Resource::TOPIC => shard.image.topics().map(|topic| topic.name.as_str().into()).collect(),
        Resource::BROKER | Resource::BROKER_LOGGER => {
            shard.shown_brokers(listener).iter().map(|broker| broker.id.to_string().into()).collect()
        }
        other => {
            let configured = shard.image.configured().filter(|resource| resource.code() == other);
            configured.map(|resource| resource.name().into()).collect()
        }
    }
}
