//! The settings of a topic, a broker or a group, as a broker describes and changes them.
//!
//! *Owns*: the kinds of things that have settings, and the words for where a value comes from. *Never*: knows a
//! setting. *Runs on*: the main thread.

use clap::ArgMatches;
use serde_json::{Value, json};

use crate::admin::tool::Failure;
use crate::client::client::{Client, To};
use crate::client::error::{ClientError, Refusal};
use crate::wire::messages::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult, DescribeConfigsResponse,
};
use crate::wire::messages::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
};

/// Kafka's `ConfigSource.DEFAULT_CONFIG`.
pub const DEFAULT_SOURCE: i8 = 5;

/// Kafka's `AlterConfigOp.OpType`.
const SET: i8 = 0;
const UNSET: i8 = 1;

/// What has settings.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Resource {
    Topic(String),
    Broker(i32),
    /// What all brokers have that have nothing of their own.
    Brokers,
    Group(String),
    /// A subscription to what clients measure.
    ClientMetrics(String),
}

impl Resource {
    /// Kafka's `ConfigResource.Type`.
    pub fn kind(&self) -> i8 {
        match self {
            Resource::Topic(_) => 2,
            Resource::Broker(_) | Resource::Brokers => 4,
            Resource::ClientMetrics(_) => 16,
            Resource::Group(_) => 32,
        }
    }

    pub fn name(&self) -> String {
        match self {
            Resource::Topic(name) | Resource::Group(name) | Resource::ClientMetrics(name) => name.clone(),
            Resource::Broker(id) => id.to_string(),
            Resource::Brokers => String::new(),
        }
    }

    /// For people.
    pub fn words(&self) -> String {
        match self {
            Resource::Topic(name) => format!("topic {name}"),
            Resource::Broker(id) => format!("broker {id}"),
            Resource::Brokers => "all brokers".to_owned(),
            Resource::Group(name) => format!("group {name}"),
            Resource::ClientMetrics(name) => format!("client metrics {name}"),
        }
    }

    /// Who knows them: a broker knows its own alone.
    pub fn asked(&self) -> To<'static> {
        match self {
            Resource::Broker(id) => To::Node(*id),
            Resource::Topic(_) | Resource::Brokers | Resource::Group(_) | Resource::ClientMetrics(_) => To::Any,
        }
    }
}

/// What is to become of a setting.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    Set { name: String, value: String },
    Unset { name: String },
}

impl Change {
    fn row(&self) -> AlterableConfig {
        match self {
            Change::Set { name, value } => {
                AlterableConfig { name: name.into(), config_operation: SET, value: Some(value.into()) }
            }
            Change::Unset { name } => AlterableConfig { name: name.into(), config_operation: UNSET, value: None },
        }
    }
}

/// What `--set` and `--unset`, or names of their own, ask for.
pub fn changes(matches: &ArgMatches, set: &str, unset: &str) -> Vec<Change> {
    let sets = matches.try_get_many::<(String, String)>(set).ok().flatten().into_iter().flatten();
    let unsets = matches.try_get_many::<String>(unset).ok().flatten().into_iter().flatten();
    let sets = sets.map(|(name, value)| Change::Set { name: name.clone(), value: value.clone() });
    sets.chain(unsets.map(|name| Change::Unset { name: name.clone() })).collect()
}

/// Changes settings of each resource: all of its changes, or none.
pub fn change_settings(
    client: &mut Client,
    resources: &[Resource],
    changes: &[Change],
    dry: bool,
) -> Result<Vec<Result<(), Refusal>>, ClientError> {
    let mut outcomes = Vec::with_capacity(resources.len());
    for resource in resources {
        let row = AlterConfigsResource {
            resource_type: resource.kind(),
            resource_name: resource.name().into(),
            configs: changes.iter().map(Change::row).collect(),
        };
        let request = IncrementalAlterConfigsRequest { resources: vec![row], validate_only: dry };
        let codes =
            |reply: &IncrementalAlterConfigsResponse| reply.responses.iter().map(|row| row.error_code).collect();
        let reply: IncrementalAlterConfigsResponse = client.ask(resource.asked(), &request, codes)?;
        let refusal = reply.responses.first().and_then(|row| Refusal::of(row.error_code, row.error_message.as_deref()));
        outcomes.push(refusal.map_or(Ok(()), Err));
    }
    Ok(outcomes)
}

/// Reads NAME=VALUE.
pub fn parse_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => Ok((name.trim().to_owned(), value.to_owned())),
        _ => Err(format!("`{text}` is no NAME=VALUE, such as retention.ms=3600000")),
    }
}

/// The settings by name. With `explain`, each with its documentation and the values it hides.
pub fn settings(
    client: &mut Client,
    resource: &Resource,
    explain: bool,
) -> Result<Vec<DescribeConfigsResourceResult>, Failure> {
    let asked = DescribeConfigsResource {
        resource_type: resource.kind(),
        resource_name: resource.name().into(),
        configuration_keys: None,
    };
    let request =
        DescribeConfigsRequest { resources: vec![asked], include_synonyms: explain, include_documentation: explain };
    let reply: DescribeConfigsResponse = client.ask(resource.asked(), &request, |_| Vec::new())?;
    let Some(result) = reply.results.into_iter().next() else {
        return Err(Failure::NotDone(format!("the broker says nothing of {}", resource.words())));
    };
    if let Some(refusal) = Refusal::of(result.error_code, result.error_message.as_deref()) {
        return Err(ClientError::refused(&resource.words(), &refusal).into());
    }
    let mut settings = result.configs;
    settings.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(settings)
}

/// A value for people.
pub fn value_text(value: Option<&str>, is_sensitive: bool) -> String {
    match value {
        _ if is_sensitive => "(hidden)".to_owned(),
        Some("") => "(empty)".to_owned(),
        Some(value) => value.to_owned(),
        None => "(none)".to_owned(),
    }
}

/// Where a value comes from (Kafka's `DescribeConfigsResponse.ConfigSource`), for programs and for people.
pub fn source_words(source: i8) -> (&'static str, &'static str) {
    match source {
        1 => ("DYNAMIC_TOPIC_CONFIG", "topic"),
        2 => ("DYNAMIC_BROKER_CONFIG", "broker, dynamic"),
        3 => ("DYNAMIC_DEFAULT_BROKER_CONFIG", "all brokers, dynamic"),
        4 => ("STATIC_BROKER_CONFIG", "broker's start"),
        DEFAULT_SOURCE => ("DEFAULT_CONFIG", "default"),
        6 => ("DYNAMIC_BROKER_LOGGER_CONFIG", "broker's logger"),
        7 => ("CLIENT_METRICS_CONFIG", "client metrics"),
        8 => ("GROUP_CONFIG", "group"),
        _ => ("UNKNOWN", "unknown"),
    }
}

/// Kafka's `DescribeConfigsResponse.ConfigType`.
fn type_name(config_type: i8) -> &'static str {
    match config_type {
        1 => "boolean",
        2 => "string",
        3 => "int",
        4 => "short",
        5 => "long",
        6 => "double",
        7 => "list",
        8 => "class",
        9 => "password",
        _ => "unknown",
    }
}

/// A setting for programs. `explain` adds what it means.
pub fn setting_json(setting: &DescribeConfigsResourceResult, explain: bool) -> Value {
    let mut row = json!({
        "name": setting.name.as_str(),
        "value": setting.value.as_deref().filter(|_| !setting.is_sensitive),
        "source": source_words(setting.config_source).0,
        "readOnly": setting.read_only,
        "sensitive": setting.is_sensitive,
    });
    if explain {
        let synonyms = setting.synonyms.iter().map(|synonym| {
            let value = synonym.value.as_deref().filter(|_| !setting.is_sensitive);
            json!({ "name": synonym.name.as_str(), "value": value, "source": source_words(synonym.source).0 })
        });
        row["type"] = type_name(setting.config_type).into();
        row["documentation"] = setting.documentation.as_deref().into();
        row["synonyms"] = synonyms.collect();
    }
    row
}

/// A setting explained for people, as a paragraph.
pub fn setting_text(setting: &DescribeConfigsResourceResult) -> String {
    let value = value_text(setting.value.as_deref(), setting.is_sensitive);
    let read_only = if setting.read_only { ", cannot be changed while the broker runs" } else { "" };
    let mut text = format!("{} = {value}  ({})\n", setting.name.as_str(), source_words(setting.config_source).1);
    text += &format!("    {}{read_only}\n", type_name(setting.config_type));
    if let Some(doc) = setting.documentation.as_deref().filter(|doc| !doc.is_empty()) {
        text += &format!("    {doc}\n");
    }
    for synonym in &setting.synonyms {
        let value = value_text(synonym.value.as_deref(), setting.is_sensitive);
        text += &format!("    {} = {value}  ({})\n", synonym.name.as_str(), source_words(synonym.source).1);
    }
    text
}
