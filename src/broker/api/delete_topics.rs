//! DeleteTopics (API 20, versions 1–6): by name, or by id from version 6; answered when every core has removed its
//! part.
//!
//! *Owns*: the form of order and answer. *Never*: decides. *Runs on*: the core whose client asked.

use crate::base::ids::{CoreId, TopicId};
use crate::broker::api::{self, key};
use crate::broker::effect::Effects;
use crate::broker::job::{Asker, Work};
use crate::broker::message::{ControlOrder, ControlOutcome, ShardMessage, TopicName, TopicOutcome};
use crate::broker::shard::{Request, Shard};
use crate::wire::errors::ErrorCode;
use crate::wire::messages::delete_topics::{DeletableTopicResult, DeleteTopicsRequest, DeleteTopicsResponse};

/// From this version topics may be named by id.
const TOPIC_ID_VERSION: i16 = 6;

/// From this version clients know THROTTLING_QUOTA_EXCEEDED.
const QUOTA_ERROR_VERSION: i16 = 5;

#[derive(Debug)]
pub struct DeleteTopicsWork {
    asked: Vec<TopicName>,
}

pub(in crate::broker) fn handle(shard: &mut Shard, mut request: Request, effects: &mut Effects) {
    let asker = request.asker;
    let Some(asked) = api::decode::<DeleteTopicsRequest>(shard, &mut request, "DeleteTopics", effects) else { return };
    let topics: Vec<TopicName> = if asker.version >= TOPIC_ID_VERSION {
        let topics = asked.topics.iter();
        topics
            .map(|topic| match &topic.name {
                Some(name) => TopicName::Name(name.to_string()),
                None => TopicName::Id(topic.topic_id),
            })
            .collect()
    } else {
        asked.topic_names.iter().map(|name| TopicName::Name(name.to_string())).collect()
    };
    let work = DeleteTopicsWork { asked: topics.clone() };
    let job = shard.add_job(asker, Work::DeleteTopics(work));
    let order = ControlOrder::DeleteTopics { topics, quota: shard.mutation_quota(asker, QUOTA_ERROR_VERSION) };
    shard.send(CoreId(0), ShardMessage::Control { job, order }, effects);
}

pub(in crate::broker) fn on_outcome(
    shard: &mut Shard,
    asker: Asker,
    work: DeleteTopicsWork,
    outcome: ControlOutcome,
    effects: &mut Effects,
) {
    let responses = match outcome.topics() {
        Ok(outcomes) => {
            shard.throttle_for(asker, &outcomes);
            outcomes.iter().map(result_row).collect()
        }
        Err(error) => work.asked.iter().map(|topic| refused_row(topic, error)).collect(),
    };
    let reply = DeleteTopicsResponse { responses, ..DeleteTopicsResponse::default() };
    shard.reply(key::DELETE_TOPICS, asker, &reply, effects);
}

fn result_row(outcome: &TopicOutcome) -> DeletableTopicResult {
    DeletableTopicResult {
        name: (!outcome.name.is_empty()).then(|| outcome.name.as_str().into()),
        topic_id: outcome.id,
        error_code: outcome.error.code(),
        error_message: outcome.message.as_deref().map(Into::into),
    }
}

fn refused_row(topic: &TopicName, error: ErrorCode) -> DeletableTopicResult {
    let (name, topic_id) = match topic {
        TopicName::Name(name) => (Some(name.as_str().into()), TopicId::ZERO),
        TopicName::Id(id) => (None, *id),
    };
    DeletableTopicResult { name, topic_id, error_code: error.code(), ..DeletableTopicResult::default() }
}
