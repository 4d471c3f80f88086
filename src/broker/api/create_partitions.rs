//! CreatePartitions (API 37, versions 0–3): more partitions for a topic; answered when every core has opened its part.
//!
//! *Owns*: the form of order and answer. *Never*: decides. *Runs on*: the core whose client asked.

use crate::base::ids::CoreId;
use crate::broker::api::{self, key};
use crate::broker::effect::Effects;
use crate::broker::job::{Asker, Work};
use crate::broker::message::{ControlOrder, ControlOutcome, NewPartitions, ShardMessage};
use crate::broker::route;
use crate::broker::shard::{Request, Shard};
use crate::wire::messages::create_partitions::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopicResult,
};

/// From this version clients know THROTTLING_QUOTA_EXCEEDED.
const QUOTA_ERROR_VERSION: i16 = 3;

#[derive(Debug)]
pub struct CreatePartitionsWork {
    names: Vec<String>,
}

pub(in crate::broker) fn handle(shard: &mut Shard, mut request: Request, effects: &mut Effects) {
    let asker = request.asker;
    let Some(asked) = api::decode::<CreatePartitionsRequest>(shard, &mut request, "CreatePartitions", effects) else {
        return;
    };
    let nodes = |ids: &[i32]| ids.iter().map(|id| route::node_of(asker.listener, *id)).collect();
    let topics: Vec<NewPartitions> = asked
        .topics
        .iter()
        .map(|topic| NewPartitions {
            name: topic.name.to_string(),
            count: topic.count,
            assignments: topic.assignments.as_ref().map(|list| list.iter().map(|new| nodes(&new.broker_ids)).collect()),
        })
        .collect();
    let work = CreatePartitionsWork { names: topics.iter().map(|topic| topic.name.clone()).collect() };
    let job = shard.add_job(asker, Work::CreatePartitions(work));
    let quota = shard.mutation_quota(asker, QUOTA_ERROR_VERSION);
    let order = ControlOrder::CreatePartitions { topics, validate_only: asked.validate_only, quota };
    shard.send(CoreId(0), ShardMessage::Control { job, order }, effects);
}

pub(in crate::broker) fn on_outcome(
    shard: &mut Shard,
    asker: Asker,
    work: CreatePartitionsWork,
    outcome: ControlOutcome,
    effects: &mut Effects,
) {
    let row = |name: &str, error_code, message: Option<&str>| CreatePartitionsTopicResult {
        name: name.into(),
        error_code,
        error_message: message.map(Into::into),
    };
    let results = match outcome.topics() {
        Ok(outcomes) => {
            shard.throttle_for(asker, &outcomes);
            let rows = outcomes.iter();
            rows.map(|outcome| row(&outcome.name, outcome.error.code(), outcome.message.as_deref())).collect()
        }
        Err(error) => work.names.iter().map(|name| row(name, error.code(), None)).collect(),
    };
    let reply = CreatePartitionsResponse { results, ..CreatePartitionsResponse::default() };
    shard.reply(key::CREATE_PARTITIONS, asker, &reply, effects);
}
