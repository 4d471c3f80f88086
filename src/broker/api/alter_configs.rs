//! AlterConfigs (API 33, versions 0–2) and IncrementalAlterConfigs (API 44, versions 0–1): settings changed while the
//! broker runs; decided and committed by core 0, answered when every core has put them into effect.
//!
//! A broker is named by any id that the client's listener shows: each core that is shown as a broker has the settings
//! of the whole process.
//!
//! *Owns*: the form of orders and answers; who may not be named twice. *Never*: knows a setting. *Runs on*: the core
//! whose client asked.

use std::collections::BTreeMap;

use crate::base::ids::CoreId;
use crate::broker::api::wishes::Rows;
use crate::broker::api::{self, key};
use crate::broker::effect::{Effects, ListenerKind};
use crate::broker::job::{Asker, Work};
use crate::broker::message::{ControlOrder, ControlOutcome, ShardMessage};
use crate::broker::shard::{Request, Shard};
use crate::config::{ConfigOp, ConfigResource, OpKind};
use crate::meta::configs::{Change, ConfigChange};
use crate::meta::controller::MetaError;
use crate::wire::errors::ErrorCode;
use crate::wire::messages::{alter_configs, incremental_alter_configs};
use crate::wire::text::Text;

/// What the order was about, for an answer in its order.
#[derive(Debug)]
pub struct AlterConfigsWork {
    api_key: i16,
    /// Types and names of the resources.
    rows: Rows<(i8, Text)>,
}

pub(in crate::broker) fn handle(shard: &mut Shard, mut request: Request, effects: &mut Effects) {
    use alter_configs::{AlterConfigsRequest, AlterableConfig};
    let asker = request.asker;
    let Some(asked) = api::decode::<AlterConfigsRequest>(shard, &mut request, "AlterConfigs", effects) else { return };
    let op = |config: &AlterableConfig| match &config.value {
        Some(value) => Ok(ConfigOp { name: config.name.to_string(), kind: OpKind::Set, value: value.to_string() }),
        None => Err(no_value(&config.name)),
    };
    let wishes = asked.resources.iter().map(|resource| {
        let ops: Result<Vec<ConfigOp>, MetaError> = resource.configs.iter().map(op).collect();
        let change = ops.map(Change::Replace);
        (resource.resource_type, resource.resource_name.clone(), change)
    });
    order(shard, (key::ALTER_CONFIGS, asker), wishes.collect(), asked.validate_only, effects);
}

pub(in crate::broker) fn handle_incremental(shard: &mut Shard, mut request: Request, effects: &mut Effects) {
    use incremental_alter_configs::{AlterableConfig, IncrementalAlterConfigsRequest};
    let (asker, name) = (request.asker, "IncrementalAlterConfigs");
    let Some(asked) = api::decode::<IncrementalAlterConfigsRequest>(shard, &mut request, name, effects) else {
        return;
    };
    let op = |config: &AlterableConfig| {
        let Some(kind) = OpKind::from_code(config.config_operation) else {
            let message = format!("{} has operation {}: there are 0 to 3.", config.name, config.config_operation);
            return Err(MetaError { code: ErrorCode::InvalidRequest, message });
        };
        let value = match &config.value {
            Some(value) => value.to_string(),
            None if kind == OpKind::Delete => String::new(),
            None => return Err(no_value(&config.name)),
        };
        Ok(ConfigOp { name: config.name.to_string(), kind, value })
    };
    let wishes = asked.resources.iter().map(|resource| {
        let ops: Result<Vec<ConfigOp>, MetaError> = resource.configs.iter().map(op).collect();
        let change = ops.map(Change::Alter);
        (resource.resource_type, resource.resource_name.clone(), change)
    });
    order(shard, (key::INCREMENTAL_ALTER_CONFIGS, asker), wishes.collect(), asked.validate_only, effects);
}

pub(in crate::broker) fn on_outcome(
    shard: &mut Shard,
    asker: Asker,
    work: AlterConfigsWork,
    outcome: ControlOutcome,
    effects: &mut Effects,
) {
    reply(shard, (work.api_key, asker), work.rows.end(outcome), effects);
}

type Wish = (i8, Text, Result<Change, MetaError>);

/// Has core 0 decide on what is well formed.
fn order(
    shard: &mut Shard,
    (api_key, asker): (i16, Asker),
    asked: Vec<Wish>,
    validate_only: bool,
    effects: &mut Effects,
) {
    let mut named: BTreeMap<(i8, &str), usize> = BTreeMap::new();
    for (resource_type, name, _) in &asked {
        *named.entry((*resource_type, name.as_str())).or_default() += 1;
    }
    let repeated: Vec<bool> =
        asked.iter().map(|(resource_type, name, _)| named[&(*resource_type, name.as_str())] > 1).collect();
    let (rows, wishes) =
        Rows::part(asked.into_iter().zip(repeated).map(|((resource_type, name, change), repeated)| {
            let wish = if repeated {
                let message = "Each resource may be there once.".to_owned();
                Err(MetaError { code: ErrorCode::InvalidRequest, message })
            } else {
                resource(shard, asker.listener, resource_type, &name)
                    .and_then(|resource| change.map(|change| ConfigChange { resource, change }))
            };
            ((resource_type, name), wish)
        }));
    let job = shard.add_job(asker, Work::AlterConfigs(AlterConfigsWork { api_key, rows }));
    let order = ControlOrder::AlterConfigs { wishes, validate_only };
    shard.send(CoreId(0), ShardMessage::Control { job, order }, effects);
}

fn resource(shard: &Shard, listener: ListenerKind, resource_type: i8, name: &str) -> Result<ConfigResource, MetaError> {
    let refuse = |code, message: String| Err(MetaError { code, message });
    if resource_type == ConfigResource::BROKER_LOGGER {
        let message = "The level of log lines cannot change while the broker runs: start it with RUST_LOG.";
        return refuse(ErrorCode::InvalidConfig, message.into());
    }
    match ConfigResource::from_parts(resource_type, name) {
        Some(ConfigResource::Broker(_)) => match shard.broker_named(listener, name) {
            Ok(node) => Ok(ConfigResource::Broker(node.0)),
            Err(message) => refuse(ErrorCode::InvalidRequest, message),
        },
        Some(resource) => Ok(resource),
        None if resource_type == ConfigResource::BROKER => {
            refuse(ErrorCode::InvalidRequest, format!("A broker is named by its id, which is a number, not {name:?}."))
        }
        None => refuse(ErrorCode::InvalidRequest, format!("There are no resources of type {resource_type}.")),
    }
}

fn no_value(name: &Text) -> MetaError {
    MetaError { code: ErrorCode::InvalidRequest, message: format!("{name} has no value.") }
}

fn reply(
    shard: &mut Shard,
    (api_key, asker): (i16, Asker),
    rows: impl Iterator<Item = ((i8, Text), Option<MetaError>)>,
    effects: &mut Effects,
) {
    // The two replies have the same fields, in types of their own.
    macro_rules! reply {
        ($module:ident :: $message:ident) => {{
            let rows = rows.map(|((resource_type, resource_name), error)| {
                let (code, message) = match error {
                    Some(error) => (error.code, Some(error.message.into())),
                    None => (ErrorCode::None, None),
                };
                $module::AlterConfigsResourceResponse {
                    error_code: code.code(),
                    error_message: message,
                    resource_type,
                    resource_name,
                }
            });
            let reply = $module::$message { responses: rows.collect(), ..$module::$message::default() };
            shard.reply(api_key, asker, &reply, effects);
        }};
    }
    match api_key {
        key::ALTER_CONFIGS => reply!(alter_configs::AlterConfigsResponse),
        _ => reply!(incremental_alter_configs::IncrementalAlterConfigsResponse),
    }
}
