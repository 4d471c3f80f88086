//! FindCoordinator (API 10, versions 0–6): which broker coordinates a group, as the client's listener shows it.
//!
//! The first such request makes `__consumer_offsets`, and waits for it.
//!
//! *Owns*: the form of the answer, and how `__consumer_offsets` is made. *Never*: coordinates. *Runs on*: the core
//! whose client asked.

use crate::base::ids::CoreId;
use crate::base::names::CONSUMER_OFFSETS;
use crate::broker::api::{self, key};
use crate::broker::effect::{Effects, ListenerKind};
use crate::broker::job::{Asker, Work};
use crate::broker::message::{ControlOrder, ShardMessage};
use crate::broker::shard::{Request, Shard};
use crate::config::Settings;
use crate::meta::controller::NewTopic;
use crate::wire::errors::ErrorCode;
use crate::wire::messages::find_coordinator::{Coordinator, FindCoordinatorRequest, FindCoordinatorResponse};
use crate::wire::text::Text;

/// From this version a request has several keys (KIP-699).
const KEYS_VERSION: i16 = 4;

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;

pub(in crate::broker) fn handle(shard: &mut Shard, mut request: Request, effects: &mut Effects) {
    let asker = request.asker;
    let Some(asked) = api::decode::<FindCoordinatorRequest>(shard, &mut request, "FindCoordinator", effects) else {
        return;
    };
    if asked.key_type != GROUP || shard.image.topic(CONSUMER_OFFSETS).is_some() {
        return answer(shard, asker, asked, effects);
    }
    let topics = vec![offsets_topic(&shard.config.settings)];
    let job = shard.add_job(asker, Work::FindCoordinator(asked));
    let order = ControlOrder::CreateTopics { topics, validate_only: false, quota: None };
    shard.send(CoreId(0), ShardMessage::Control { job, order }, effects);
}

/// `__consumer_offsets` is there now, or cannot be made: then the next request tries again.
pub(in crate::broker) fn on_outcome(
    shard: &mut Shard,
    asker: Asker,
    asked: FindCoordinatorRequest,
    effects: &mut Effects,
) {
    answer(shard, asker, asked, effects);
}

fn answer(shard: &mut Shard, asker: Asker, asked: FindCoordinatorRequest, effects: &mut Effects) {
    let mut reply = FindCoordinatorResponse::default();
    if asker.version >= KEYS_VERSION {
        let keys = asked.coordinator_keys;
        reply.coordinators = keys.into_iter().map(|key| row(shard, asker.listener, asked.key_type, key)).collect();
    } else {
        let found = row(shard, asker.listener, asked.key_type, asked.key);
        reply.error_code = found.error_code;
        reply.error_message = found.error_message;
        reply.node_id = found.node_id;
        reply.host = found.host;
        reply.port = found.port;
    }
    shard.reply(key::FIND_COORDINATOR, asker, &reply, effects);
}

fn row(shard: &Shard, listener: ListenerKind, key_type: i8, key: Text) -> Coordinator {
    let refused = |key: Text, error: ErrorCode| Coordinator {
        key,
        node_id: -1,
        port: -1,
        error_code: error.code(),
        error_message: Some(error.message().into()),
        ..Coordinator::default()
    };
    match key_type {
        GROUP => {}
        // Transactions are not served; a client must not believe that it has a coordinator.
        TRANSACTION => return refused(key, ErrorCode::TransactionalIdAuthorizationFailed),
        _ => return refused(key, ErrorCode::InvalidRequest),
    }
    let Some(of) = shard.coordinator_of(&key) else { return refused(key, ErrorCode::CoordinatorNotAvailable) };
    let leader = shard.shown_leader(listener, of);
    let Some(broker) = shard.shown_brokers(listener).into_iter().find(|broker| Some(broker.id) == leader) else {
        return refused(key, ErrorCode::CoordinatorNotAvailable);
    };
    Coordinator {
        key,
        node_id: broker.id.0,
        host: broker.address.host.as_str().into(),
        port: i32::from(broker.address.port),
        error_code: ErrorCode::None.code(),
        error_message: None,
    }
}

fn offsets_topic(settings: &Settings) -> NewTopic {
    let setting = |name: &str, value: String| (name.to_owned(), Some(value));
    NewTopic {
        name: CONSUMER_OFFSETS.to_owned(),
        partitions: settings.offsets_topic_num_partitions,
        replication_factor: settings.offsets_topic_replication_factor,
        assignments: Vec::new(),
        settings: vec![
            setting("cleanup.policy", "compact".to_owned()),
            setting("compression.type", "producer".to_owned()),
            setting("segment.bytes", settings.offsets_topic_segment_bytes.to_string()),
        ],
        id: None,
    }
}
