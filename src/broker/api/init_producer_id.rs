//! InitProducerId (API 22, versions 0–5) without a transactional id: a number for an idempotent producer.
//!
//! Numbers are taken from core 0 in blocks and committed before any is handed out, so none is ever given twice.
//!
//! *Owns*: this core's block of producer ids and who waits for one. *Never*: reuses an id. *Runs on*: every core.

use std::collections::VecDeque;

use crate::base::ids::{CoreId, ProducerId};
use crate::base::slab::Key;
use crate::broker::api::{self, key};
use crate::broker::effect::Effects;
use crate::broker::job::{Asker, Job, Work};
use crate::broker::message::{ControlOrder, ControlOutcome, ShardMessage};
use crate::broker::shard::{Request, Shard};
use crate::wire::errors::ErrorCode;
use crate::wire::messages::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};

#[derive(Debug, Default)]
pub struct ProducerIds {
    next: i64,
    left: i64,
    /// Jobs that wait for a block. The first one's key names the order given to core 0.
    waiting: VecDeque<Key>,
    ordered_as: Option<Key>,
}

impl ProducerIds {
    pub fn is_waiting_as(&self, order: Key) -> bool {
        self.ordered_as == Some(order)
    }

    fn take(&mut self) -> Option<ProducerId> {
        if self.left == 0 {
            return None;
        }
        self.left -= 1;
        self.next += 1;
        Some(ProducerId(self.next - 1))
    }
}

pub(in crate::broker) fn handle(shard: &mut Shard, mut request: Request, effects: &mut Effects) {
    let asker = request.asker;
    let Some(asked) = api::decode::<InitProducerIdRequest>(shard, &mut request, "InitProducerId", effects) else {
        return;
    };
    if asked.transactional_id.is_some() {
        // Transactions are not served; a client must not believe that it has a coordinator.
        return reply(shard, asker, Err(ErrorCode::TransactionalIdAuthorizationFailed), effects);
    }
    if let Some(id) = shard.producer_ids.take() {
        return reply(shard, asker, Ok(id), effects);
    }
    let job = shard.add_job(asker, Work::InitProducerId);
    shard.producer_ids.waiting.push_back(job);
    if shard.producer_ids.ordered_as.is_none() {
        order_block(shard, job, effects);
    }
}

/// Core 0 has given a block, or could not.
pub(in crate::broker) fn on_block(shard: &mut Shard, outcome: ControlOutcome, effects: &mut Effects) {
    shard.producer_ids.ordered_as = None;
    let mut refused = None;
    match outcome.producer_ids() {
        Ok((first, count)) => {
            assert!(shard.producer_ids.left == 0, "a block is ordered when the last is used up");
            shard.producer_ids.next = first.0;
            shard.producer_ids.left = count;
        }
        Err(error) => refused = Some(error),
    }
    while let Some(job) = shard.producer_ids.waiting.pop_front() {
        let answer = match (refused, shard.jobs.get(job)) {
            // The client is gone.
            (_, None) => continue,
            (Some(error), Some(_)) => Err(error),
            (None, Some(_)) => match shard.producer_ids.take() {
                Some(id) => Ok(id),
                None => {
                    shard.producer_ids.waiting.push_front(job);
                    return order_block(shard, job, effects);
                }
            },
        };
        let Some(Job { asker, .. }) = shard.jobs.remove(job) else { continue };
        reply(shard, asker, answer, effects);
    }
}

fn order_block(shard: &mut Shard, job: Key, effects: &mut Effects) {
    shard.producer_ids.ordered_as = Some(job);
    shard.send(CoreId(0), ShardMessage::Control { job, order: ControlOrder::TakeProducerIds }, effects);
}

fn reply(shard: &mut Shard, asker: Asker, answer: Result<ProducerId, ErrorCode>, effects: &mut Effects) {
    let reply = match answer {
        Ok(id) => InitProducerIdResponse { producer_id: id.0, producer_epoch: 0, ..InitProducerIdResponse::default() },
        Err(error) => InitProducerIdResponse {
            error_code: error.code(),
            producer_id: -1,
            producer_epoch: -1,
            ..InitProducerIdResponse::default()
        },
    };
    shard.reply(key::INIT_PRODUCER_ID, asker, &reply, effects);
}
