//! AllocateProducerIds (API 67): another broker takes a block of producer ids (KIP-730).
//!
//! *Owns*: the form of the answer. *Never*: gives a block twice. *Runs on*: core 0; others refuse.

use crate::base::ids::{BrokerEpoch, CoreId, NodeId, ProducerId};
use crate::broker::api::{self, key};
use crate::broker::brokers;
use crate::broker::effect::Effects;
use crate::broker::job::{Asker, Work};
use crate::broker::message::{ControlOrder, ShardMessage};
use crate::broker::shard::{Request, Shard};
use crate::wire::errors::ErrorCode;
use crate::wire::messages::allocate_producer_ids::{AllocateProducerIdsRequest, AllocateProducerIdsResponse};

pub(in crate::broker) fn handle(shard: &mut Shard, mut request: Request, effects: &mut Effects) {
    let asker = request.asker;
    let Some(asked) = api::decode::<AllocateProducerIdsRequest>(shard, &mut request, "AllocateProducerIds", effects)
    else {
        return;
    };
    if let Err(error) = brokers::check_epoch(shard, NodeId(asked.broker_id), BrokerEpoch(asked.broker_epoch)) {
        return on_outcome(shard, asker, Err(error.code), effects);
    }
    let job = shard.add_job(asker, Work::AllocateProducerIds);
    shard.send(CoreId(0), ShardMessage::Control { job, order: ControlOrder::TakeProducerIds }, effects);
}

pub(in crate::broker) fn on_outcome(
    shard: &mut Shard,
    asker: Asker,
    taken: Result<(ProducerId, i64), ErrorCode>,
    effects: &mut Effects,
) {
    let reply = match taken {
        Ok((first, count)) => AllocateProducerIdsResponse {
            producer_id_start: first.0,
            producer_id_len: i32::try_from(count).unwrap_or(i32::MAX),
            ..AllocateProducerIdsResponse::default()
        },
        Err(error) => {
            AllocateProducerIdsResponse { error_code: error.code(), ..AllocateProducerIdsResponse::default() }
        }
    };
    shard.reply(key::ALLOCATE_PRODUCER_IDS, asker, &reply, effects);
}
