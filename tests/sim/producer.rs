//! A producer: makes records, sends them in batches, and when it is idempotent sends again what was not acknowledged.

use std::collections::VecDeque;

use bytes::Bytes;
use corelog::broker::api::key;
use corelog::wire::compression::Compression;
use corelog::wire::errors::ErrorCode;
use corelog::wire::messages::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use corelog::wire::messages::produce::{PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData};
use corelog::wire::records::BatchBuilder;

use crate::check::{Made, Part, RecordId, value};
use crate::client::{Context, Wire, decode};
use crate::plan::{MS, ProducerPlan};

const PRODUCE: (i16, i16) = (key::PRODUCE, 9);
const INIT_PRODUCER_ID: (i16, i16) = (key::INIT_PRODUCER_ID, 4);
/// As many as a broker tells duplicates of.
const BATCHES_MAX: usize = 5;
const RETRY_NS: u64 = 40 * MS;
/// Of a batch with one record of 64 to some 8,000 bytes.
const BATCH_OVERHEAD_BYTES: usize = 70;

pub struct Producer {
    plan: ProducerPlan,
    wire: Wire<Sent>,
    identity: Option<(i64, i16)>,
    asked_for_identity: bool,
    stream: u32,
    next_number: u64,
    targets: Vec<Target>,
    next_batch_at: u64,
    pub batches_acked: u64,
}

struct Target {
    part: Part,
    next_sequence: i32,
    /// The partition has a batch of this producer. Before that any sequence will do for the first: where several are
    /// on their way and the first is refused, the second would be taken.
    is_known: bool,
    /// Not acknowledged, in order.
    batches: VecDeque<Batch>,
    retry_at: u64,
}

struct Batch {
    ids: Vec<RecordId>,
    bytes: Bytes,
    state: State,
    /// In which its leader led when it was sent, where that alone acknowledges.
    epoch: Option<i32>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    New,
    InFlight,
    /// Answered with an error, or with nothing.
    Failed,
    /// Acknowledged, but one before it isn't.
    Acked,
}

/// What a producer remembers of a request: which batch of which target, by its first record.
enum Sent {
    Identity,
    Produce(Vec<(usize, RecordId)>),
}

impl Producer {
    pub fn new(plan: ProducerPlan) -> Producer {
        let targets = plan.targets.iter();
        let targets = targets.map(|&part| Target {
            part,
            next_sequence: 0,
            is_known: false,
            batches: VecDeque::new(),
            retry_at: 0,
        });
        Producer {
            targets: targets.collect(),
            wire: Wire::to_leader(plan.targets[0]),
            plan,
            identity: None,
            asked_for_identity: false,
            stream: 0,
            next_number: 0,
            next_batch_at: 0,
            batches_acked: 0,
        }
    }

    /// Nothing waits to be acknowledged.
    pub fn is_idle(&self) -> bool {
        self.targets.iter().all(|target| target.batches.is_empty())
    }

    pub fn on_connected(&mut self, context: &mut Context) {
        self.wire.on_connected();
        if !self.plan.idempotent {
            self.stream = context.model.new_stream();
        }
        self.on_time(context);
    }

    pub fn on_closed(&mut self, context: &mut Context) {
        for sent in self.wire.on_closed(context) {
            match sent {
                Sent::Identity => self.asked_for_identity = false,
                Sent::Produce(rows) => rows.into_iter().for_each(|row| self.set_failed(row)),
            }
        }
        if !self.plan.idempotent {
            // Whatever was sent may have been stored, and is never sent again.
            self.targets.iter_mut().for_each(|target| target.batches.clear());
        }
        self.retry(context);
    }

    pub fn on_time(&mut self, context: &mut Context) {
        if !self.wire.is_up(context) {
            return;
        }
        if self.plan.idempotent && self.identity.is_none() {
            if !self.asked_for_identity {
                self.asked_for_identity = true;
                let ask = InitProducerIdRequest { transaction_timeout_ms: 1000, ..Default::default() };
                self.wire.send(INIT_PRODUCER_ID, &ask, Sent::Identity, context);
            }
            return;
        }
        if context.load && context.now >= self.next_batch_at {
            self.make_batches(context);
            let pause = 1 + context.rng.below(self.plan.pause_ms * MS);
            self.next_batch_at = context.now + pause;
            context.wake_in(pause);
        }
        self.retry(context);
        self.pump(context);
    }

    pub fn on_bytes(&mut self, bytes: &[u8], context: &mut Context) {
        self.wire.on_bytes(bytes);
        while let Some((sent, frame)) = self.wire.next_reply() {
            match sent {
                Sent::Identity => {
                    self.asked_for_identity = false;
                    let reply: InitProducerIdResponse = decode(INIT_PRODUCER_ID, frame);
                    if reply.error_code == 0 {
                        context.model.on_identity(reply.producer_id);
                        self.identity = Some((reply.producer_id, reply.producer_epoch));
                        self.stream = context.model.new_stream();
                    } else {
                        context.wake_in(RETRY_NS);
                    }
                }
                Sent::Produce(rows) => self.on_produced(rows, decode(PRODUCE, frame), context),
            }
        }
        self.on_time(context);
    }

    fn make_batches(&mut self, context: &mut Context) {
        for target in 0..self.targets.len() {
            if self.targets[target].batches.len() >= BATCHES_MAX || context.rng.below(3) == 0 {
                continue;
            }
            let records =
                if self.plan.batch_bytes.is_some() { 1 } else { 1 + context.rng.below(self.plan.records_max) };
            let timestamp_ms = context.wall_ms;
            let target = &mut self.targets[target];
            let compacted = context.plan.topics[target.part.0].compacted;
            let compression = match compacted {
                Some(_) if context.rng.below(4) == 0 => Compression::ALL[1 + context.rng.below(4) as usize],
                _ => Compression::None,
            };
            let mut builder = BatchBuilder::new(compression);
            if let Some((id, epoch)) = self.identity {
                builder = builder.producer(id, epoch, target.next_sequence);
                target.next_sequence += records as i32;
            }
            let mut ids = Vec::new();
            for _ in 0..records {
                let id = RecordId { stream: self.stream, number: self.next_number };
                self.next_number += 1;
                let key = compacted.map(|compacted| context.rng.below(compacted.keys));
                let is_tombstone = key.is_some() && context.rng.below(5) == 0;
                context.model.on_sent(target.part, id, Made { timestamp_ms, key, is_tombstone });
                let bytes = match self.plan.batch_bytes {
                    Some(bytes) => bytes - BATCH_OVERHEAD_BYTES,
                    None => context.rng.below(self.plan.record_bytes_max) as usize,
                };
                push(&mut builder, timestamp_ms, key, is_tombstone, &value(id, bytes));
                ids.push(id);
            }
            let bytes = builder.build().bytes;
            assert!(self.plan.batch_bytes.is_none_or(|wanted| wanted == bytes.len()), "a batch is {}", bytes.len());
            target.batches.push_back(Batch { ids, bytes, state: State::New, epoch: None });
        }
    }

    /// Sends the next batch of each target, as often as requests may be in flight.
    fn pump(&mut self, context: &mut Context) {
        let is_loose = self.plan.is_loose(context.plan);
        while self.wire.in_flight() < self.plan.requests_in_flight_max {
            let mut rows = Vec::new();
            let mut topics: Vec<TopicProduceData> = Vec::new();
            for (index, target) in self.targets.iter_mut().enumerate() {
                if target.batches.iter().any(|batch| batch.state == State::Failed) {
                    continue;
                }
                let is_first = self.plan.idempotent && !target.is_known && context.plan.nodes > 1;
                if is_first && target.batches.iter().any(|batch| batch.state == State::InFlight) {
                    continue;
                }
                let Some(batch) = target.batches.iter_mut().find(|batch| batch.state == State::New) else { continue };
                batch.state = State::InFlight;
                batch.epoch = if is_loose { context.epoch_led(target.part) } else { None };
                rows.push((index, batch.ids[0]));
                let (topic, partition) = target.part;
                let name = context.plan.topics[topic].name.as_str();
                if topics.last().is_none_or(|last| last.name.as_str() != name) {
                    topics.push(TopicProduceData { name: name.into(), ..Default::default() });
                }
                let row = PartitionProduceData { index: partition, records: Some(batch.bytes.clone()) };
                topics.last_mut().expect("just seen").partition_data.push(row);
            }
            if rows.is_empty() {
                return;
            }
            let acks = self.plan.acks;
            let request = ProduceRequest { acks, timeout_ms: 5000, topic_data: topics, ..Default::default() };
            if acks == 0 {
                self.wire.send_unanswered(PRODUCE, &request, context);
                for (target, first) in rows {
                    self.targets[target].batches.retain(|batch| batch.ids[0] != first);
                }
            } else {
                self.wire.send(PRODUCE, &request, Sent::Produce(rows), context);
            }
        }
    }

    fn on_produced(&mut self, rows: Vec<(usize, RecordId)>, reply: ProduceResponse, context: &mut Context) {
        let answers: Vec<_> = reply.responses.iter().flat_map(|topic| &topic.partition_responses).collect();
        assert_eq!(answers.len(), rows.len(), "every partition is answered");
        for ((target, first), answer) in rows.into_iter().zip(answers) {
            let part = self.targets[target].part;
            assert_eq!(answer.index, part.1, "partitions are answered in order");
            // After a reset nobody waits for it any more.
            let Some(at) = self.targets[target].batches.iter().position(|batch| batch.ids[0] == first) else {
                continue;
            };
            if answer.error_code == 0 {
                let target = &mut self.targets[target];
                target.is_known = true;
                let batch = &mut target.batches[at];
                batch.state = State::Acked;
                let ids = batch.ids.iter().copied();
                if !self.plan.is_loose(context.plan) {
                    context.model.on_acked(part, ids, answer.base_offset, answer.log_start_offset);
                } else if let Some(epoch) = batch.epoch.filter(|epoch| context.epoch_led(part) == Some(*epoch)) {
                    context.model.on_acked_by_leader(part, ids, answer.base_offset, epoch);
                }
                self.batches_acked += 1;
            } else {
                self.on_refused(target, at, answer.error_code, context);
            }
        }
        for target in &mut self.targets {
            while target.batches.front().is_some_and(|batch| batch.state == State::Acked) {
                target.batches.pop_front();
            }
        }
    }

    fn on_refused(&mut self, target: usize, at: usize, error: i16, context: &mut Context) {
        let part = self.targets[target].part;
        let refusal = ErrorCode::OutOfOrderSequenceNumber.code();
        if error == refusal && at == 0 {
            let lossy = context.plan.may_lose(part.0);
            assert!(lossy, "{part:?}: a sequence is missing before a batch, and all before it were acknowledged");
            // The broker lost what it had acknowledged, as it may: a new identity, and what was sent is nobody's.
            self.identity = None;
            self.targets.iter_mut().for_each(|target| {
                target.batches.clear();
                (target.next_sequence, target.is_known) = (0, false);
            });
            return;
        }
        let expected = [
            ErrorCode::OutOfOrderSequenceNumber,
            ErrorCode::KafkaStorageError,
            ErrorCode::NotLeaderOrFollower,
            ErrorCode::UnknownTopicOrPartition,
            ErrorCode::RequestTimedOut,
            ErrorCode::NotEnoughReplicas,
            ErrorCode::NotEnoughReplicasAfterAppend,
        ];
        assert!(expected.iter().any(|code| code.code() == error), "{part:?}: a batch is refused with error {error}");
        self.wire.lose_leader(context);
        let batches = &mut self.targets[target].batches;
        if self.plan.idempotent {
            batches[at].state = State::Failed;
            self.targets[target].retry_at = context.now + RETRY_NS;
            context.wake_in(RETRY_NS);
        } else {
            batches.remove(at);
        }
    }

    fn set_failed(&mut self, (target, first): (usize, RecordId)) {
        if let Some(batch) = self.targets[target].batches.iter_mut().find(|batch| batch.ids[0] == first) {
            batch.state = State::Failed;
        }
    }

    /// Once nothing of a target is in flight, what failed is sent again from the first on.
    fn retry(&mut self, context: &mut Context) {
        for target in &mut self.targets {
            let quiet = target.batches.iter().all(|batch| batch.state != State::InFlight);
            if quiet && context.now >= target.retry_at {
                for batch in target.batches.iter_mut().filter(|batch| batch.state == State::Failed) {
                    batch.state = State::New;
                }
            }
        }
    }
}

/// A tombstone has its value in a header, for the checkers.
fn push(builder: &mut BatchBuilder, timestamp_ms: i64, key: Option<u64>, is_tombstone: bool, value: &[u8]) {
    let key = key.map(|key| format!("key {key}").into_bytes());
    let header: &[(&[u8], Option<&[u8]>)] = if is_tombstone { &[(b"id", Some(value))] } else { &[] };
    builder.push_with_headers(timestamp_ms, key.as_deref(), (!is_tombstone).then_some(value), header);
}
