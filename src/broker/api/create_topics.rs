//! CreateTopics (API 19, versions 2–7): decided and committed by core 0, answered when every core has opened its part.
//!
//! *Owns*: the form of order and answer. *Never*: decides whether a topic may exist. *Runs on*: the core whose client
//! asked.

use crate::base::ids::CoreId;
use crate::broker::api::{self, key};
use crate::broker::effect::Effects;
use crate::broker::forward;
use crate::broker::job::{Asker, Work};
use crate::broker::message::{ControlOrder, ControlOutcome, ShardMessage, TopicOutcome};
use crate::broker::route;
use crate::broker::shard::{Request, Shard};
use crate::config;
use crate::meta::controller::NewTopic;
use crate::wire::errors::ErrorCode;
use crate::wire::messages::create_topics::{
    CreatableTopic, CreatableTopicConfigs, CreatableTopicResult, CreateTopicsRequest, CreateTopicsResponse,
};

/// From this version clients know THROTTLING_QUOTA_EXCEEDED.
const QUOTA_ERROR_VERSION: i16 = 6;

/// What the order was about, for an answer in its order.
#[derive(Debug)]
pub struct CreateTopicsWork {
    names: Vec<String>,
    refused: Option<ErrorCode>,
}

pub(in crate::broker) fn handle(shard: &mut Shard, mut request: Request, effects: &mut Effects) {
    let asker = request.asker;
    let Some(asked) = api::decode::<CreateTopicsRequest>(shard, &mut request, "CreateTopics", effects) else { return };
    let topics: Vec<NewTopic> = asked.topics.iter().map(|topic| new_topic(asker, topic)).collect();
    let work = CreateTopicsWork { names: topics.iter().map(|topic| topic.name.clone()).collect(), refused: None };
    let job = shard.add_job(asker, Work::CreateTopics(work));
    let quota = shard.mutation_quota(asker, QUOTA_ERROR_VERSION);
    let order = ControlOrder::CreateTopics { topics, validate_only: asked.validate_only, quota };
    shard.send(CoreId(0), ShardMessage::Control { job, order }, effects);
}

pub(in crate::broker) fn on_outcome(
    shard: &mut Shard,
    asker: Asker,
    mut work: CreateTopicsWork,
    outcome: ControlOutcome,
    effects: &mut Effects,
) {
    let outcomes = outcome.topics().unwrap_or_else(|error| {
        work.refused = Some(error);
        Vec::new()
    });
    shard.throttle_for(asker, &outcomes);
    let rows = work.names.iter().enumerate().map(|(index, name)| match outcomes.get(index) {
        Some(outcome) => result_row(shard, outcome),
        None => CreatableTopicResult {
            name: name.as_str().into(),
            error_code: work.refused.unwrap_or(ErrorCode::UnknownServerError).code(),
            ..CreatableTopicResult::default()
        },
    });
    let reply = CreateTopicsResponse { topics: rows.collect(), ..CreateTopicsResponse::default() };
    shard.reply(key::CREATE_TOPICS, asker, &reply, effects);
}

fn new_topic(asker: Asker, topic: &CreatableTopic) -> NewTopic {
    let nodes = |ids: &[i32]| ids.iter().map(|id| route::node_of(asker.listener, *id)).collect();
    NewTopic {
        name: topic.name.to_string(),
        partitions: topic.num_partitions,
        replication_factor: topic.replication_factor,
        assignments: topic
            .assignments
            .iter()
            .map(|assignment| (assignment.partition_index, nodes(&assignment.broker_ids)))
            .collect(),
        settings: topic
            .configs
            .iter()
            .map(|config| (config.name.to_string(), config.value.as_ref().map(ToString::to_string)))
            .collect(),
        id: asker.token.map(|token| forward::topic_id(token, &topic.name)),
    }
}

fn result_row(shard: &Shard, outcome: &TopicOutcome) -> CreatableTopicResult {
    let mut row = CreatableTopicResult {
        name: outcome.name.as_str().into(),
        topic_id: outcome.id,
        error_code: outcome.error.code(),
        error_message: outcome.message.as_deref().map(Into::into),
        num_partitions: -1,
        replication_factor: -1,
        ..CreatableTopicResult::default()
    };
    let Some(topic) = shard.image.topic_by_id(outcome.id) else { return row };
    row.num_partitions = topic.partitions;
    row.replication_factor = topic.states().next().map_or(-1, |(_, first)| first.replicas().len() as i16);
    let described = config::describe_topic(shard.layers(), &topic.settings).into_iter();
    let configs = described.map(|row| CreatableTopicConfigs {
        name: row.name.into(),
        value: Some(row.value.into()),
        read_only: row.read_only,
        config_source: row.source.code(),
        is_sensitive: row.sensitive,
    });
    row.configs = Some(configs.collect());
    row
}
