//! DescribeConfigs (API 32, versions 1–4): the settings table as it applies to a topic, a group or
//! this broker, and the settings of subscriptions to metrics.
//!
//! *Owns*: the form of the answer. *Never*: knows a setting by name. *Runs on*: the core whose client asked.

use tracing::Level;
use tracing::level_filters::LevelFilter;

use crate::broker::api::{self, key};
use crate::broker::effect::{Effects, ListenerKind};
use crate::broker::shard::{Request, Shard};
use crate::config::{self, ConfigResource, ConfigSource, Described, Kind};
use crate::wire::errors::ErrorCode;
use crate::wire::messages::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult, DescribeConfigsResponse,
    DescribeConfigsResult, DescribeConfigsSynonym,
};

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
    let (layers, name) = (shard.layers(), resource.resource_name.as_str());
    let check_broker = || shard.check_broker(listener, name).map_err(|message| (ErrorCode::InvalidRequest, message));
    match resource.resource_type {
        ConfigResource::TOPIC => match shard.image.topic(name) {
            Some(topic) => Ok(config::describe_topic(layers, &topic.settings)),
            None => Err((ErrorCode::UnknownTopicOrPartition, format!("there is no topic {name:?}"))),
        },
        ConfigResource::BROKER if name.is_empty() => Ok(config::describe_cluster_default(layers)),
        ConfigResource::BROKER => check_broker().map(|()| config::describe_broker(layers)),
        ConfigResource::BROKER_LOGGER => check_broker().map(|()| vec![root_logger()]),
        ConfigResource::GROUP if name.is_empty() => {
            Err((ErrorCode::InvalidRequest, "a group must be named: there are no settings of all groups".into()))
        }
        ConfigResource::GROUP => {
            let own = shard.image.overrides(&ConfigResource::Group(name.to_owned()));
            Ok(config::describe_group(layers, own))
        }
        ConfigResource::CLIENT_METRICS if name.is_empty() => {
            Err((ErrorCode::InvalidRequest, "a subscription to the metrics of clients must be named".into()))
        }
        ConfigResource::CLIENT_METRICS => {
            let own = shard.image.overrides(&ConfigResource::ClientMetrics(name.to_owned()));
            Ok(config::describe_client_metrics(own))
        }
        other => Err((ErrorCode::InvalidRequest, format!("there are no resources of type {other}"))),
    }
}

/// What goes to the log, as the level that the root logger has in Kafka.
fn root_logger() -> Described {
    let level = match LevelFilter::current().into_level() {
        Some(Level::ERROR) => "ERROR",
        Some(Level::WARN) => "WARN",
        Some(Level::INFO) => "INFO",
        Some(Level::DEBUG) => "DEBUG",
        Some(Level::TRACE) => "TRACE",
        None => "OFF",
    };
    Described {
        name: "root",
        value: level.to_owned(),
        read_only: true,
        source: ConfigSource::DynamicBrokerLoggerConfig,
        sensitive: false,
        config_type: Kind::String,
        doc: "The level that some lines of the log have at the least. RUST_LOG sets it at the start.".into(),
        synonyms: Vec::new(),
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
