//! DescribeConfigs (API 32, versions 1–4): the settings table as it applies to a topic or to this broker.
//!
//! *Owns*: the form of the answer. *Never*: knows a setting by name. *Runs on*: the core whose client asked.

use crate::broker::api::{self, key};
use crate::broker::effect::{Effects, ListenerKind};
use crate::broker::shard::{Request, Shard};
use crate::config::{self, Described};
use crate::wire::errors::ErrorCode;
use crate::wire::messages::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult, DescribeConfigsResponse,
    DescribeConfigsResult, DescribeConfigsSynonym,
};

/// Kafka's `ConfigResource.Type`.
const TOPIC: i8 = 2;
const BROKER: i8 = 4;

pub(in crate::broker) fn handle(shard: &mut Shard, mut request: Request, effects: &mut Effects) {
    let asker = request.asker;
    let Some(asked) = api::decode::<DescribeConfigsRequest>(shard, &mut request, "DescribeConfigs", effects) else {
        return;
    };
    let mut reply = DescribeConfigsResponse::default();
    for resource in &asked.resources {
        let mut result = DescribeConfigsResult {
            resource_type: resource.resource_type,
            resource_name: resource.resource_name.clone(),
            ..DescribeConfigsResult::default()
        };
        match describe(shard, asker.listener, resource) {
            Ok(rows) => {
                let wanted = rows.into_iter().filter(|row| is_wanted(resource, row.name));
                let show = |row| config_row(row, asked.include_synonyms, asked.include_documentation);
                result.configs = wanted.map(show).collect();
            }
            Err((error, message)) => {
                result.error_code = error.code();
                result.error_message = Some(message.into());
            }
        }
        reply.results.push(result);
    }
    shard.reply(key::DESCRIBE_CONFIGS, asker, &reply, effects);
}

fn describe(
    shard: &Shard,
    listener: ListenerKind,
    resource: &DescribeConfigsResource,
) -> Result<Vec<Described>, (ErrorCode, String)> {
    let (settings, name) = (&shard.config.settings, resource.resource_name.as_str());
    match resource.resource_type {
        TOPIC => match shard.image.topic(name) {
            Some(topic) => Ok(config::describe_topic(settings, &topic.settings)),
            None => Err((ErrorCode::UnknownTopicOrPartition, format!("there is no topic {name:?}"))),
        },
        BROKER => {
            let shown = shard.shown_brokers(listener);
            // The empty name asks for the defaults of all brokers.
            if name.is_empty() || shown.iter().any(|broker| broker.id.to_string() == name) {
                return Ok(config::describe_broker(settings));
            }
            let ids: Vec<String> = shown.iter().map(|broker| broker.id.to_string()).collect();
            let message = format!("there is no broker {name:?} on this listener, only {}", ids.join(", "));
            Err((ErrorCode::InvalidRequest, message))
        }
        other => {
            let message = format!("resource type {other} has no settings here: 2 (topic) and 4 (broker) have");
            Err((ErrorCode::InvalidRequest, message))
        }
    }
}

fn is_wanted(resource: &DescribeConfigsResource, name: &str) -> bool {
    // Null asks for all; so does an empty list, as some clients send it.
    match &resource.configuration_keys {
        Some(keys) if !keys.is_empty() => keys.iter().any(|key| key.as_str() == name),
        _ => true,
    }
}

fn config_row(row: Described, with_synonyms: bool, with_doc: bool) -> DescribeConfigsResourceResult {
    let synonyms = row.synonyms.into_iter().filter(|_| with_synonyms);
    DescribeConfigsResourceResult {
        name: row.name.into(),
        value: Some(row.value.into()),
        read_only: row.read_only,
        config_source: row.source.code(),
        is_sensitive: row.sensitive,
        synonyms: synonyms
            .map(|synonym| DescribeConfigsSynonym {
                name: synonym.name.into(),
                value: Some(synonym.value.into()),
                source: synonym.source.code(),
            })
            .collect(),
        config_type: row.config_type.code(),
        documentation: with_doc.then(|| row.doc.into()),
    }
}
