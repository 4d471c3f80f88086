//! DescribeProducers (API 61, version 0): which idempotent producers a partition remembers (KIP-664).
//!
//! *Owns*: the form of the answer. *Never*: looks into a log. *Runs on*: the core whose client asked.

use std::collections::BTreeMap;

use crate::base::slab::Key;
use crate::broker::api::{self, key};
use crate::broker::effect::Effects;
use crate::broker::job::{Job, Work};
use crate::broker::message::TopicPartition;
use crate::broker::route;
use crate::broker::shard::{Request, Shard};
use crate::broker::survey::{Survey, Surveyed};
use crate::log::log::ActiveProducer;
use crate::wire::errors::ErrorCode;
use crate::wire::messages::describe_producers::{
    DescribeProducersRequest, DescribeProducersResponse, PartitionResponse, ProducerState, TopicResponse,
};

#[derive(Debug)]
pub struct DescribeProducersWork {
    reply: DescribeProducersResponse,
    /// Where the rows of those asked about are: topic and place in the reply.
    places: BTreeMap<TopicPartition, (usize, usize)>,
    waiting: usize,
}

pub(in crate::broker) fn handle(shard: &mut Shard, mut request: Request, effects: &mut Effects) {
    let asker = request.asker;
    let Some(asked) = api::decode::<DescribeProducersRequest>(shard, &mut request, "DescribeProducers", effects) else {
        return;
    };
    let mut work =
        DescribeProducersWork { reply: DescribeProducersResponse::default(), places: BTreeMap::new(), waiting: 0 };
    for topic in &asked.topics {
        let known = shard.image.topic(&topic.name);
        let mut rows = Vec::with_capacity(topic.partition_indexes.len());
        for &partition_index in &topic.partition_indexes {
            let mut row = PartitionResponse { partition_index, ..PartitionResponse::default() };
            let of = known.and_then(|known| route::partition_of(known, partition_index));
            let refused = match of {
                None => Some(ErrorCode::UnknownTopicOrPartition),
                Some(of) if !shard.leads(asker.listener, shard.owner(of.topic, of.partition)) => {
                    Some(ErrorCode::NotLeaderOrFollower)
                }
                Some(of) => {
                    let place = (work.reply.topics.len(), rows.len());
                    work.places.insert(of, place).map(|_| ErrorCode::InvalidRequest)
                }
            };
            row.error_code = refused.unwrap_or_default().code();
            rows.push(row);
        }
        work.reply.topics.push(TopicResponse { name: topic.name.clone(), partitions: rows });
    }
    let wanted: Vec<TopicPartition> = work.places.keys().copied().collect();
    if wanted.is_empty() {
        return shard.reply(key::DESCRIBE_PRODUCERS, asker, &work.reply, effects);
    }
    let job = shard.add_job(asker, Work::DescribeProducers(work));
    let waiting = shard.survey(job, Survey::Producers, &wanted, effects);
    if let Some(Job { work: Work::DescribeProducers(work), .. }) = shard.jobs.get_mut(job) {
        work.waiting = waiting;
    }
}

pub(in crate::broker) fn on_surveyed(
    shard: &mut Shard,
    job: Key,
    found: Vec<(TopicPartition, Surveyed)>,
    effects: &mut Effects,
) {
    let Some(Job { work: Work::DescribeProducers(work), .. }) = shard.jobs.get_mut(job) else { return };
    for (of, surveyed) in found {
        let Some(&(topic, place)) = work.places.get(&of) else { continue };
        let row = &mut work.reply.topics[topic].partitions[place];
        match surveyed {
            Surveyed::Producers(producers) => row.active_producers = producers.into_iter().map(producer_row).collect(),
            Surveyed::Error(error) => row.error_code = error.code(),
            Surveyed::SizeBytes(_) => unreachable!("producers were asked for"),
        }
    }
    work.waiting -= 1;
    if work.waiting > 0 {
        return;
    }
    let Some(Job { asker, work: Work::DescribeProducers(work), .. }) = shard.jobs.remove(job) else { return };
    shard.reply(key::DESCRIBE_PRODUCERS, asker, &work.reply, effects);
}

fn producer_row(producer: ActiveProducer) -> ProducerState {
    ProducerState {
        producer_id: producer.id.0,
        producer_epoch: i32::from(producer.epoch.0),
        last_sequence: producer.last_sequence,
        last_timestamp: producer.last_timestamp_ms,
        // Of a transaction's coordinator: none has written here.
        coordinator_epoch: -1,
        current_txn_start_offset: -1,
    }
}
