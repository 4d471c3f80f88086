//! Produce (API 0, versions 3–13; 0–2 are advertised for librdkafka's sake and refused, KAFKA-18659).
//!
//! Each partition of a request is appended by the core that owns it; the reply leaves when the last of them is
//! answered. acks=1 waits for the leader's write, acks=all for those of all in-sync replicas.
//!
//! *Owns*: what a Produce request and its reply say. *Never*: looks into a batch. *Runs on*: the core whose client
//! asked.

use bytes::Bytes;

use crate::base::ids::{PartitionIndex, TopicId};
use crate::base::names;
use crate::base::slab::Key;
use crate::base::stage::{Stage, Timed, Trace};
use crate::broker::api::{self, key};
use crate::broker::effect::Effects;
use crate::broker::errors;
use crate::broker::job::{Asker, Job, Work};
use crate::broker::message::{AppendEntry, TopicPartition};
use crate::broker::session::Reply;
use crate::broker::shard::{Request, Shard};
use crate::meta::quota::QuotaKey;
use crate::replica::partition::{AckResult, AckTo, AckWhen, Acked, Brought, Refusal};
use crate::wire::errors::ErrorCode;
use crate::wire::messages::produce::{
    NodeEndpoint, PartitionProduceResponse, ProduceRequest, ProduceResponse, TopicProduceData, TopicProduceResponse,
};

/// From this version a wrong leader is answered with the right one (KIP-951).
const LEADER_HINT_VERSION: i16 = 10;
/// From this version topics are named by id (KIP-516).
const TOPIC_ID_VERSION: i16 = 13;
/// A reply slot inside a request is topic × this + partition.
const PARTS_MAX: usize = 1 << 16;

#[derive(Debug)]
pub struct ProduceWork {
    reply: ProduceResponse,
    /// acks=0: nothing is sent, and an error closes the connection.
    silent: bool,
    waiting: usize,
    trace: Trace,
}

pub(in crate::broker) fn handle(shard: &mut Shard, mut request: Request, effects: &mut Effects) {
    let asker = request.asker;
    let bytes = request.body.remaining();
    let Some(produce) = api::decode::<ProduceRequest>(shard, &mut request, "Produce", effects) else { return };
    shard.charge(asker.to, QuotaKey::ProducerByteRate, bytes as f64);
    if !is_addressable(&produce) {
        return shard.close_connection(asker, "Produce request with over 65,535 topics or partitions", effects);
    }
    let whole_error = whole_request_error(&produce);
    let responses = produce.topic_data.iter().map(empty_topic_reply).collect();
    let reply = ProduceResponse { responses, ..ProduceResponse::default() };
    effects.watch.worked_on(bytes, &mut request.trace, Stage::Decode);
    let work = ProduceWork { reply, silent: produce.acks == 0, waiting: 1, trace: request.trace };
    let job = shard.add_job(asker, Work::Produce(work));
    let when = match produce.acks {
        -1 => {
            let timeout_ms = u64::try_from(produce.timeout_ms).unwrap_or(0);
            AckWhen::Committed { due: Some(request.now.mono.after_ms(timeout_ms)) }
        }
        _ => AckWhen::Safe,
    };
    for (at_topic, topic) in produce.topic_data.into_iter().enumerate() {
        let known = find_topic(shard, asker, &topic);
        for (at_part, partition) in topic.partition_data.into_iter().enumerate() {
            let at = (at_topic * PARTS_MAX + at_part) as u32;
            let refused = whole_error.or(known.err()).or(match known {
                Ok((_, count)) if !(0..count).contains(&partition.index) => Some(ErrorCode::UnknownTopicOrPartition),
                _ => None,
            });
            let (Ok((topic, _)), None) = (known, refused) else {
                refuse(shard, job, at, refused.unwrap_or(ErrorCode::UnknownServerError));
                continue;
            };
            let of = TopicPartition { topic, partition: PartitionIndex(partition.index) };
            let records = partition.records.unwrap_or_default();
            append(shard, asker, (job, at), of, (records, when), &request, effects);
        }
    }
    // The request held its own reply back until all of its partitions were counted.
    release(shard, job, effects);
}

/// One partition of a Produce request is answered.
pub(in crate::broker) fn on_acked(shard: &mut Shard, acked: Acked, effects: &mut Effects) {
    let Acked { to: AckTo::Job { job, at, .. }, result, trace } = acked else { return };
    let Some(Job { work: Work::Produce(work), .. }) = shard.jobs.get_mut(job) else { return };
    let (at_topic, at_part) = (at as usize / PARTS_MAX, at as usize % PARTS_MAX);
    let answer = &mut work.reply.responses[at_topic];
    let row = &mut answer.partition_responses[at_part];
    let mut moved = None;
    match result {
        AckResult::Stored { base, log_append_time_ms, log_start } => {
            row.error_code = ErrorCode::None.code();
            row.base_offset = base.0;
            row.log_append_time_ms = log_append_time_ms;
            row.log_start_offset = log_start.0;
        }
        AckResult::Refused(refusal) => {
            row.error_code = errors::of_refusal(&refusal).code();
            row.error_message = errors::refusal_message(&refusal).map(Into::into);
            if refusal == Refusal::NotLeader {
                moved = Some((answer.name.clone(), answer.topic_id, row.index));
            }
        }
    }
    if work.waiting == 1 {
        work.trace.join(&trace);
        effects.watch.waited(&mut work.trace, Stage::AckWait);
    }
    if let Some((name, id, index)) = moved
        && let Some(asker) = shard.jobs.get(job).map(|job| job.asker)
    {
        let topic =
            if asker.version >= TOPIC_ID_VERSION { Some(id) } else { shard.image.topic(&name).map(|topic| topic.id) };
        if let Some(topic) = topic {
            hint_leader(shard, asker, job, at, TopicPartition { topic, partition: PartitionIndex(index) });
        }
    }
    release(shard, job, effects);
}

fn append(
    shard: &mut Shard,
    asker: Asker,
    (job, at): (Key, u32),
    of: TopicPartition,
    (records, when): (Bytes, AckWhen),
    request: &Request,
    effects: &mut Effects,
) {
    let owner = shard.owner(of.topic, of.partition);
    if !shard.leads(asker.listener, owner) {
        hint_leader(shard, asker, job, at, of);
        return refuse(shard, job, at, ErrorCode::NotLeaderOrFollower);
    }
    if let Some(Job { work: Work::Produce(work), .. }) = shard.jobs.get_mut(job) {
        work.waiting += 1;
    }
    let to = AckTo::Job { core: shard.core(), job, at };
    let batch = Brought { records, produce_version: asker.version, when, to, trace: request.trace.fork() };
    let entry = AppendEntry { to: of, batch };
    if owner == shard.core() {
        shard.append_here(entry, request.now, effects);
    } else {
        shard.send_append(owner, entry);
    }
}

fn refuse(shard: &mut Shard, job: Key, at: u32, error: ErrorCode) {
    let Some(Job { work: Work::Produce(work), .. }) = shard.jobs.get_mut(job) else { return };
    let (at_topic, at_part) = (at as usize / PARTS_MAX, at as usize % PARTS_MAX);
    work.reply.responses[at_topic].partition_responses[at_part].error_code = error.code();
}

/// One thing fewer to wait for; the last one sends the reply.
fn release(shard: &mut Shard, job: Key, effects: &mut Effects) {
    let Some(Job { work: Work::Produce(work), .. }) = shard.jobs.get_mut(job) else { return };
    work.waiting -= 1;
    if work.waiting > 0 {
        return;
    }
    let Some(Job { asker, work: Work::Produce(work), .. }) = shard.jobs.remove(job) else { return };
    let rows = work.reply.responses.iter().flat_map(|topic| &topic.partition_responses);
    for row in rows.filter(|row| row.error_code != ErrorCode::None.code()) {
        shard.counts.on_error(key::PRODUCE, row.error_code);
    }
    if !work.silent {
        return shard.reply_timed((Timed::Produce, work.trace), key::PRODUCE, asker, &work.reply, effects);
    }
    let mut rows = work.reply.responses.iter().flat_map(|topic| &topic.partition_responses);
    match rows.find(|row| row.error_code != ErrorCode::None.code()) {
        // The only way left to tell a client that expects no reply.
        Some(row) => {
            let why = format!("acks=0 produce failed with error {}", row.error_code);
            shard.close_connection(asker, &why, effects);
        }
        None => shard.sessions.fill(asker.to, Reply::Nothing, Some((Timed::Produce, work.trace)), effects),
    }
}

fn is_addressable(produce: &ProduceRequest) -> bool {
    produce.topic_data.len() < PARTS_MAX
        && produce.topic_data.iter().all(|topic| topic.partition_data.len() < PARTS_MAX)
}

fn whole_request_error(produce: &ProduceRequest) -> Option<ErrorCode> {
    if !matches!(produce.acks, -1..=1) {
        return Some(ErrorCode::InvalidRequiredAcks);
    }
    // Transactions are not served: nothing of such a request may be stored as if it were committed.
    produce.transactional_id.is_some().then_some(ErrorCode::TransactionalIdAuthorizationFailed)
}

fn empty_topic_reply(topic: &TopicProduceData) -> TopicProduceResponse {
    let partition_responses = topic
        .partition_data
        .iter()
        .map(|partition| PartitionProduceResponse {
            index: partition.index,
            base_offset: -1,
            log_append_time_ms: -1,
            log_start_offset: -1,
            ..PartitionProduceResponse::default()
        })
        .collect();
    TopicProduceResponse { name: topic.name.clone(), topic_id: topic.topic_id, partition_responses }
}

/// The topic's id and number of partitions.
fn find_topic(shard: &Shard, asker: Asker, topic: &TopicProduceData) -> Result<(TopicId, i32), ErrorCode> {
    let found = if asker.version >= TOPIC_ID_VERSION {
        shard.image.topic_by_id(topic.topic_id).ok_or(ErrorCode::UnknownTopicId)
    } else {
        shard.image.topic(&topic.name).ok_or(ErrorCode::UnknownTopicOrPartition)
    };
    let topic = found?;
    // Only the broker itself knows what may stand there.
    if names::is_internal(&topic.name) {
        return Err(ErrorCode::InvalidTopicException);
    }
    Ok((topic.id, topic.partitions))
}

fn hint_leader(shard: &mut Shard, asker: Asker, job: Key, at: u32, of: TopicPartition) {
    if asker.version < LEADER_HINT_VERSION {
        return;
    }
    let Some(leader) = shard.shown_leader(asker.listener, of) else { return };
    let leader_epoch = shard.leader_epoch(of).0;
    let endpoints = shard.shown_brokers(asker.listener);
    let Some(Job { work: Work::Produce(work), .. }) = shard.jobs.get_mut(job) else { return };
    let (at_topic, at_part) = (at as usize / PARTS_MAX, at as usize % PARTS_MAX);
    let row = &mut work.reply.responses[at_topic].partition_responses[at_part];
    row.current_leader.leader_id = leader.0;
    row.current_leader.leader_epoch = leader_epoch;
    for endpoint in endpoints {
        if endpoint.id == leader && !work.reply.node_endpoints.iter().any(|known| known.node_id == leader.0) {
            work.reply.node_endpoints.push(NodeEndpoint {
                node_id: leader.0,
                host: endpoint.address.host.as_str().into(),
                port: i32::from(endpoint.address.port),
                ..NodeEndpoint::default()
            });
        }
    }
}
