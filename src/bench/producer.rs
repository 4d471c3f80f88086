//! A Kafka producer as a state machine: records in, Produce requests out, replies in, finished batches out.
//!
//! Batching is that of Kafka's clients: a batch is ready when it is full or has lingered; while a broker has as many
//! requests in flight as it may, batches go on filling. A partition has at most one batch in a request.
//!
//! *Owns*: batches from their first record to their end, sequence numbers, what is tried again. *Never*: reads a
//! clock, touches a socket, asks for metadata (it says that it wants some). *Runs on*: one generator thread.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::bench::payload::{Keys, Payload, ValueHead, partition_of_key, stream_id};
use crate::bench::pending::{PendingBatch, Stamp, record_bytes_max};
use crate::bench::topics::Topics;
use crate::bench::workload::{Partitioner, Workload};
use crate::wire::batch::HEADER_BYTES;
use crate::wire::compression::Compression;
use crate::wire::errors::ErrorCode;
use crate::wire::frame::{RequestHeader, decode_reply, encode_request};
use crate::wire::messages::produce::{
    API, PartitionProduceData, PartitionProduceResponse, ProduceRequest, ProduceResponse, TopicProduceData,
};
use crate::wire::text::Text;

/// How long a batch rests before it is tried again (Kafka: `retry.backoff.ms`).
const RETRY_BACKOFF_NS: u64 = 100_000_000;

/// Batches kept for their memory.
const SPARE_MAX: usize = 64;

/// A broker, by its id.
pub type Node = i32;

/// What tells this producer from the others of a run.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Counted over the whole run.
    pub index: u32,
    pub client_id: Text,
    pub produce_version: i16,
}

/// A batch that is done with.
#[derive(Debug)]
pub struct Finished {
    pub batch: PendingBatch,
    pub at_ns: u64,
    pub outcome: Outcome,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    Acked,
    /// Refused for good, or nobody knows. Why, for people.
    Failed(String),
}

/// What a producer would like to have.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Wishes {
    /// Somebody else leads a partition.
    pub leaders: bool,
    /// A producer id: the first, or one after a hole in the sequences.
    pub producer_id: bool,
}

#[derive(Debug)]
pub struct Producer {
    identity: Identity,
    topics: Topics,
    acks: i16,
    linger_ns: u64,
    request_timeout_ns: u64,
    delivery_timeout_ns: u64,
    batch_bytes: usize,
    request_bytes_max: usize,
    buffer_bytes: usize,
    in_flight_max: usize,
    compression: Compression,
    partitioner: Partitioner,
    idempotence: Idempotence,
    payload: Payload,
    keys: Keys,
    /// By their indexes over all topics.
    partitions: Vec<Partition>,
    lanes: BTreeMap<Node, Lane>,
    /// Open batches that linger, the oldest first, with when they were opened.
    lingering: VecDeque<(u64, u32)>,
    /// Partitions that rest before they are tried again.
    resting: Vec<(u64, u32)>,
    /// Where the next record without a key goes, and to which topic the next one with a key.
    next_partition: u32,
    next_topic: usize,
    buffered_bytes: usize,
    correlation_id: i32,
    finished: VecDeque<Finished>,
    /// When requests were sent and answered, since it was last asked.
    answered: Vec<(u64, u64)>,
    spare: Vec<PendingBatch>,
    wishes: Wishes,
    /// Batches that were sent again.
    pub retries: u64,
    expiry_checked_ns: u64,
    unfinished: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Idempotence {
    Off,
    /// Nothing is sent until there is an id, and nothing is in flight under an old one.
    Wanted,
    On {
        id: i64,
        epoch: i16,
    },
}

#[derive(Debug)]
struct Partition {
    leader: Option<Node>,
    /// Of the next record in its stream.
    next_sequence: u64,
    /// Of the next batch, as the broker counts.
    base_sequence: i32,
    open: Option<PendingBatch>,
    /// Invariant: in the order of their sequences.
    closed: VecDeque<PendingBatch>,
    in_flight: usize,
    /// It stands in its leader's `ready`, or rests.
    queued: bool,
}

/// What goes to one broker.
#[derive(Debug, Default)]
struct Lane {
    ready: VecDeque<u32>,
    in_flight: VecDeque<InFlight>,
}

#[derive(Debug)]
struct InFlight {
    correlation_id: i32,
    sent_ns: u64,
    batches: Vec<PendingBatch>,
}

impl Producer {
    pub fn new(workload: &Workload, topics: Topics, identity: Identity, payload: Payload, keys: Keys) -> Producer {
        let partitions = (0..topics.count()).map(|_| Partition {
            leader: None,
            next_sequence: 0,
            base_sequence: 0,
            open: None,
            closed: VecDeque::new(),
            in_flight: 0,
            queued: false,
        });
        Producer {
            acks: workload.acks,
            linger_ns: workload.linger_ns,
            request_timeout_ns: workload.request_timeout_ns,
            delivery_timeout_ns: workload.delivery_timeout_ns,
            // A record larger than a batch is a batch of its own.
            batch_bytes: workload.batch_bytes.max(HEADER_BYTES + 1),
            request_bytes_max: workload.request_bytes_max,
            buffer_bytes: buffer_bytes(workload, topics.count()),
            in_flight_max: workload.in_flight,
            compression: workload.compression,
            partitioner: workload.partitioner,
            idempotence: if workload.idempotence { Idempotence::Wanted } else { Idempotence::Off },
            payload,
            keys,
            partitions: partitions.collect(),
            lanes: BTreeMap::new(),
            lingering: VecDeque::new(),
            resting: Vec::new(),
            // Producers begin at different partitions, or all would meet at the same one.
            next_partition: identity.index % topics.count(),
            next_topic: identity.index as usize % topics.names().len(),
            topics,
            buffered_bytes: 0,
            correlation_id: 0,
            finished: VecDeque::new(),
            answered: Vec::new(),
            spare: Vec::new(),
            wishes: Wishes { leaders: false, producer_id: workload.idempotence },
            retries: 0,
            expiry_checked_ns: 0,
            unfinished: 0,
            identity,
        }
    }

    /// Whether the memory has room for another record.
    #[inline]
    pub fn has_room(&self) -> bool {
        self.buffered_bytes < self.buffer_bytes
    }

    /// Adds a record that was due at `due_ns`. Only when there is room.
    #[inline]
    pub fn push(&mut self, due_ns: u64, now_ns: u64, wall_ms: i64) {
        let size = self.payload.next_size();
        let key = self.keys.next_key();
        let count = self.partitions.len() as u32;
        let index = match (&key, self.partitioner) {
            (Some(key), _) => {
                let partition = partition_of_key(key, self.topics.partitions());
                let topic = self.next_topic;
                self.next_topic = if topic + 1 == self.topics.names().len() { 0 } else { topic + 1 };
                self.topics.index(topic, partition as i32).expect("of the topic's partitions")
            }
            (None, Partitioner::Sticky) => self.next_partition,
            (None, Partitioner::RoundRobin) => {
                let index = self.next_partition;
                self.step_partition();
                index
            }
        };
        let bytes_max = record_bytes_max(size, key.as_ref());
        let partition = &mut self.partitions[index as usize];
        if partition.open.as_ref().is_none_or(|open| open.size_bytes() + bytes_max > self.batch_bytes) {
            self.open_batch(index, now_ns, wall_ms, bytes_max);
        }
        let partition = &mut self.partitions[index as usize];
        let open = partition.open.as_mut().expect("opened above, unless it was there");
        let stream = stream_id(self.identity.index, index, count);
        let head = ValueHead { stream, sequence: partition.next_sequence, intended_ns: due_ns };
        partition.next_sequence += 1;
        let before = open.size_bytes();
        open.push(&mut self.payload, key.as_ref(), size, head, wall_ms);
        self.buffered_bytes += open.size_bytes() - before;
    }

    /// The next request to that broker, if one may and can go out: its slices, in order.
    pub fn poll_request(&mut self, node: Node, now_ns: u64) -> Option<Vec<Bytes>> {
        if self.idempotence == Idempotence::Wanted {
            return None;
        }
        let lane = self.lanes.get_mut(&node)?;
        if lane.in_flight.len() >= self.in_flight_max || lane.ready.is_empty() {
            return None;
        }
        let mut batches: Vec<PendingBatch> = Vec::new();
        let mut request_bytes = 0;
        for _ in 0..self.lanes[&node].ready.len() {
            let index = *self.lanes[&node].ready.front()?;
            let partition = &mut self.partitions[index as usize];
            if partition.closed.is_empty() {
                self.close_batch(index);
            }
            let partition = &mut self.partitions[index as usize];
            let Some(first) = partition.closed.front() else {
                partition.queued = false;
                self.lanes.get_mut(&node)?.ready.pop_front();
                continue;
            };
            request_bytes += first.wire_bytes();
            if !batches.is_empty() && request_bytes > self.request_bytes_max {
                break;
            }
            batches.push(partition.closed.pop_front()?);
            partition.in_flight += 1;
            let lingered = |open: &PendingBatch| open.opened_ns.saturating_add(self.linger_ns) <= now_ns;
            let more = !partition.closed.is_empty() || partition.open.as_ref().is_some_and(lingered);
            partition.queued = more;
            let lane = self.lanes.get_mut(&node)?;
            lane.ready.pop_front();
            if more {
                lane.ready.push_back(index);
            }
        }
        (!batches.is_empty()).then(|| self.send(node, batches, now_ns))
    }

    fn send(&mut self, node: Node, mut batches: Vec<PendingBatch>, now_ns: u64) -> Vec<Bytes> {
        self.correlation_id = self.correlation_id.wrapping_add(1) & i32::MAX;
        let mut rows = Vec::with_capacity(batches.len());
        for batch in &mut batches {
            let stamp = self.stamp(batch);
            batch.attempts += 1;
            batch.sent_ns = now_ns;
            self.retries += u64::from(batch.attempts > 1);
            rows.push((batch.partition, batch.wire(stamp)));
        }
        let topic_data = self.topics.grouped(rows).into_iter().map(|(topic, rows)| TopicProduceData {
            name: self.topics.names()[topic].clone(),
            partition_data: rows
                .into_iter()
                .map(|(index, records)| PartitionProduceData { index, records: Some(records) })
                .collect(),
            ..Default::default()
        });
        let topic_data = topic_data.collect();
        let timeout_ms = i32::try_from(self.request_timeout_ns / 1_000_000).unwrap_or(i32::MAX);
        let request = ProduceRequest { acks: self.acks, timeout_ms, topic_data, ..Default::default() };
        let header = RequestHeader {
            api_key: API.key,
            version: self.identity.produce_version,
            correlation_id: self.correlation_id,
            client_id: Some(self.identity.client_id.clone()),
        };
        let frame = encode_request(&header, &request);
        if self.acks == 0 {
            for batch in batches {
                self.partitions[batch.partition as usize].in_flight -= 1;
                self.finish(batch, now_ns, Outcome::Acked);
            }
        } else {
            let in_flight = InFlight { correlation_id: self.correlation_id, sent_ns: now_ns, batches };
            self.lanes.entry(node).or_default().in_flight.push_back(in_flight);
        }
        frame
    }

    /// What the batch goes out with: the same each time, so that the broker knows it again.
    fn stamp(&mut self, batch: &PendingBatch) -> Option<Stamp> {
        let Idempotence::On { id, epoch } = self.idempotence else { return None };
        if batch.stamp.is_some_and(|stamp| (stamp.producer_id, stamp.producer_epoch) == (id, epoch)) {
            return batch.stamp;
        }
        let partition = &mut self.partitions[batch.partition as usize];
        let stamp = Stamp { producer_id: id, producer_epoch: epoch, base_sequence: partition.base_sequence };
        let next = i64::from(partition.base_sequence) + batch.records() as i64;
        partition.base_sequence = (next & i64::from(i32::MAX)) as i32;
        Some(stamp)
    }

    /// A frame from that broker. An error means that the connection is of no more use: close it, and say so with
    /// [`Producer::on_disconnect`].
    pub fn on_reply(&mut self, node: Node, frame: Bytes, now_ns: u64) -> Result<(), String> {
        let decoded = decode_reply::<ProduceResponse>(API.key, self.identity.produce_version, frame);
        let (correlation_id, reply) = decoded.map_err(|error| format!("sent a Produce reply that is none: {error}"))?;
        let lane = self.lanes.get_mut(&node).filter(|lane| !lane.in_flight.is_empty());
        let Some(lane) = lane else { return Err("sent a reply to nothing".into()) };
        let expect = lane.in_flight.front().map(|first| first.correlation_id);
        if expect != Some(correlation_id) {
            return Err(format!("answered request {correlation_id} when {} was next", expect.unwrap_or(-1)));
        }
        let batches = lane.in_flight.pop_front().map_or_else(Vec::new, |first| {
            self.answered.push((first.sent_ns, now_ns));
            first.batches
        });
        let mut rows = BTreeMap::new();
        for topic in reply.responses {
            let Some(number) = self.topics.number(&topic.name) else { continue };
            let indexed = topic.partition_responses.into_iter();
            rows.extend(indexed.filter_map(|row| Some((self.topics.index(number, row.index)?, row))));
        }
        for batch in batches {
            self.partitions[batch.partition as usize].in_flight -= 1;
            match rows.remove(&batch.partition) {
                Some(row) if row.error_code == 0 => self.finish(batch, now_ns, Outcome::Acked),
                Some(row) => self.on_error(batch, &row, now_ns),
                None => {
                    let why = format!("a Produce reply does not name {}", self.topics.shown(batch.partition));
                    self.finish(batch, now_ns, Outcome::Failed(why));
                }
            }
        }
        Ok(())
    }

    fn on_error(&mut self, batch: PendingBatch, row: &PartitionProduceResponse, now_ns: u64) {
        let code = ErrorCode::from_code(row.error_code);
        if code == Some(ErrorCode::DuplicateSequenceNumber) {
            return self.finish(batch, now_ns, Outcome::Acked);
        }
        let partition = &self.partitions[batch.partition as usize];
        let earlier = partition.closed.front().is_some_and(|first| first.first_sequence < batch.first_sequence);
        // It only came before one that is tried again.
        let out_of_turn = code == Some(ErrorCode::OutOfOrderSequenceNumber) && (earlier || partition.in_flight > 0);
        if out_of_turn || code.is_some_and(ErrorCode::retriable) {
            self.wishes.leaders |= code.is_some_and(|code| {
                matches!(
                    code,
                    ErrorCode::NotLeaderOrFollower | ErrorCode::UnknownTopicOrPartition | ErrorCode::LeaderNotAvailable
                )
            });
            return self.retry(batch, now_ns);
        }
        let name = code.map_or_else(|| format!("error {}", row.error_code), |code| code.to_string());
        let message = row.error_message.as_ref().map_or(String::new(), |message| format!(": {message}"));
        self.fail(batch, now_ns, format!("Produce was refused with {name}{message}"));
    }

    /// The connection to that broker is gone, or cannot be made.
    pub fn on_disconnect(&mut self, node: Node, now_ns: u64) {
        self.wishes.leaders = true;
        let Some(lane) = self.lanes.get_mut(&node) else { return };
        let lost = std::mem::take(&mut lane.in_flight);
        for batch in lost.into_iter().flat_map(|request| request.batches) {
            self.partitions[batch.partition as usize].in_flight -= 1;
            self.retry(batch, now_ns);
        }
    }

    /// Who leads each partition, by its index over all topics; `None`: nobody at the moment.
    pub fn on_leaders(&mut self, leaders: &[Option<Node>]) {
        self.wishes.leaders = false;
        self.lanes.values_mut().for_each(|lane| lane.ready.clear());
        let resting: Vec<u32> = self.resting.iter().map(|(_, index)| *index).collect();
        for (index, partition) in self.partitions.iter_mut().enumerate() {
            partition.leader = leaders.get(index).copied().flatten();
            self.wishes.leaders |= partition.leader.is_none();
            partition.queued = resting.contains(&(index as u32));
        }
        for index in 0..self.partitions.len() as u32 {
            let partition = &self.partitions[index as usize];
            let has_batch = !partition.closed.is_empty() || partition.open.is_some();
            if has_batch && !partition.queued {
                self.make_ready(index);
            }
        }
    }

    /// A producer id of the broker's.
    pub fn on_producer_id(&mut self, id: i64, epoch: i16) {
        self.wishes.producer_id = false;
        self.idempotence = Idempotence::On { id, epoch };
        self.partitions.iter_mut().for_each(|partition| partition.base_sequence = 0);
    }

    /// Time has passed: batches have lingered or rested enough, or are too old.
    pub fn on_time(&mut self, now_ns: u64) {
        while let Some(&(opened_ns, index)) = self.lingering.front() {
            if opened_ns.saturating_add(self.linger_ns) > now_ns {
                break;
            }
            self.lingering.pop_front();
            let open = self.partitions[index as usize].open.as_ref();
            if open.is_some_and(|open| open.opened_ns <= opened_ns) {
                self.make_ready(index);
            }
        }
        if !self.resting.is_empty() {
            let (over, rest) = std::mem::take(&mut self.resting).into_iter().partition(|(until, _)| *until <= now_ns);
            self.resting = rest;
            let over: Vec<(u64, u32)> = over;
            for (_, index) in over {
                self.partitions[index as usize].queued = false;
                self.make_ready(index);
            }
        }
        if now_ns.saturating_sub(self.expiry_checked_ns) >= RETRY_BACKOFF_NS {
            self.expiry_checked_ns = now_ns;
            self.expire(now_ns);
        }
    }

    /// Whether a reply from that broker is overdue.
    pub fn is_overdue(&self, node: Node, now_ns: u64) -> bool {
        let first = self.lanes.get(&node).and_then(|lane| lane.in_flight.front());
        first.is_some_and(|first| now_ns.saturating_sub(first.sent_ns) > self.request_timeout_ns)
    }

    /// When [`Producer::on_time`] has something to do next.
    pub fn next_time_ns(&self) -> Option<u64> {
        let linger = self.lingering.front().map(|(opened_ns, _)| opened_ns.saturating_add(self.linger_ns));
        let rest = self.resting.iter().map(|(until, _)| *until).min();
        linger.into_iter().chain(rest).min()
    }

    /// A batch that is done with. To be given back with [`Producer::recycle`].
    pub fn poll_finished(&mut self) -> Option<Finished> {
        self.finished.pop_front()
    }

    /// Requests that were answered since it was last asked: when each was sent, and when its reply came.
    pub fn take_answered(&mut self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.answered.drain(..)
    }

    pub fn recycle(&mut self, batch: PendingBatch) {
        if self.spare.len() < SPARE_MAX {
            self.spare.push(batch);
        }
    }

    pub fn wishes(&self) -> Wishes {
        let under_way = self.lanes.values().any(|lane| !lane.in_flight.is_empty());
        Wishes { producer_id: self.wishes.producer_id && !under_way, ..self.wishes }
    }

    /// The brokers that lead a partition, or have something in flight.
    pub fn nodes(&self) -> Vec<Node> {
        let mut nodes: Vec<Node> = self.partitions.iter().filter_map(|partition| partition.leader).collect();
        nodes.extend(self.lanes.iter().filter(|(_, lane)| !lane.in_flight.is_empty()).map(|(node, _)| *node));
        nodes.sort_unstable();
        nodes.dedup();
        nodes
    }

    /// Whether no batch is waiting or in flight.
    pub fn is_idle(&self) -> bool {
        self.unfinished == 0
    }

    /// Whether something waits for that broker or is in flight to it.
    pub fn needs(&self, node: Node) -> bool {
        self.lanes.get(&node).is_some_and(|lane| !lane.ready.is_empty() || !lane.in_flight.is_empty())
    }

    /// What each stream has been given, for those that compare it with what came. The failed ones are known only to
    /// whoever takes the finished batches.
    pub fn sequences(&self) -> impl Iterator<Item = (u32, u64)> + '_ {
        let (producer, count) = (self.identity.index, self.partitions.len() as u32);
        let used = self.partitions.iter().zip(0..).filter(|(partition, _)| partition.next_sequence > 0);
        used.map(move |(partition, index)| (stream_id(producer, index, count), partition.next_sequence))
    }

    /// The stream of its records in that partition.
    pub fn stream(&self, partition: u32) -> u32 {
        stream_id(self.identity.index, partition, self.partitions.len() as u32)
    }

    /// Everything not acknowledged is given up.
    pub fn give_up(&mut self, now_ns: u64, why: &str) {
        let mut left = Vec::new();
        for lane in self.lanes.values_mut() {
            left.extend(lane.in_flight.drain(..).flat_map(|request| request.batches));
            lane.ready.clear();
        }
        for index in 0..self.partitions.len() as u32 {
            self.close_batch(index);
            let partition = &mut self.partitions[index as usize];
            partition.in_flight = 0;
            partition.queued = false;
            left.extend(partition.closed.drain(..));
        }
        left.into_iter().for_each(|batch| self.finish(batch, now_ns, Outcome::Failed(why.to_owned())));
    }

    #[inline]
    fn step_partition(&mut self) {
        self.next_partition += 1;
        if self.next_partition as usize == self.partitions.len() {
            self.next_partition = 0;
        }
    }

    /// Gives the partition a new open batch, and closes the one it has.
    fn open_batch(&mut self, index: u32, now_ns: u64, wall_ms: i64, record_bytes_max: usize) {
        if self.partitions[index as usize].open.is_some() {
            // The record at hand stays with its partition; the next ones go on.
            self.close_batch(index);
            self.make_ready(index);
        }
        let mut batch = self.spare.pop().unwrap_or_default();
        let partition = &mut self.partitions[index as usize];
        // A byte more than it will ever need keeps the memory apart from its contents' length.
        let capacity = self.batch_bytes.max(HEADER_BYTES + record_bytes_max) + 1;
        batch.open(index, partition.next_sequence, now_ns, wall_ms, capacity);
        self.buffered_bytes += batch.size_bytes();
        self.unfinished += 1;
        partition.open = Some(batch);
        match self.linger_ns {
            0 => self.make_ready(index),
            _ => self.lingering.push_back((now_ns, index)),
        }
    }

    /// Takes the open batch to the closed ones. Records without a key then go to the next partition.
    fn close_batch(&mut self, index: u32) {
        let Some(mut batch) = self.partitions[index as usize].open.take() else { return };
        batch.close(self.compression);
        self.partitions[index as usize].closed.push_back(batch);
        if self.partitioner == Partitioner::Sticky && self.next_partition == index {
            self.step_partition();
        }
    }

    fn make_ready(&mut self, index: u32) {
        let partition = &mut self.partitions[index as usize];
        let Some(leader) = partition.leader.filter(|_| !partition.queued) else { return };
        partition.queued = true;
        self.lanes.entry(leader).or_default().ready.push_back(index);
    }

    /// Puts the batch back to its place, to be sent after a rest.
    fn retry(&mut self, batch: PendingBatch, now_ns: u64) {
        if self.is_expired(&batch, now_ns) {
            return self.fail(batch, now_ns, "not delivered within --delivery-timeout".into());
        }
        let index = batch.partition;
        let partition = &mut self.partitions[index as usize];
        let place = partition.closed.partition_point(|other| other.first_sequence < batch.first_sequence);
        partition.closed.insert(place, batch);
        if let Some(leader) = partition.leader.filter(|_| partition.queued)
            && let Some(lane) = self.lanes.get_mut(&leader)
        {
            lane.ready.retain(|other| *other != index);
        }
        self.partitions[index as usize].queued = true;
        self.resting.retain(|(_, other)| *other != index);
        self.resting.push((now_ns + RETRY_BACKOFF_NS, index));
    }

    fn is_expired(&self, batch: &PendingBatch, now_ns: u64) -> bool {
        now_ns.saturating_sub(batch.opened_ns) > self.delivery_timeout_ns
    }

    fn expire(&mut self, now_ns: u64) {
        for index in 0..self.partitions.len() {
            while let Some(first) = self.partitions[index].closed.front()
                && self.is_expired(first, now_ns)
                && let Some(batch) = self.partitions[index].closed.pop_front()
            {
                self.fail(batch, now_ns, "not delivered within --delivery-timeout".into());
            }
        }
    }

    /// An end that leaves a hole in the broker's sequences.
    fn fail(&mut self, batch: PendingBatch, now_ns: u64, why: String) {
        if let Idempotence::On { .. } = self.idempotence {
            self.idempotence = Idempotence::Wanted;
            self.wishes.producer_id = true;
        }
        self.finish(batch, now_ns, Outcome::Failed(why));
    }

    fn finish(&mut self, batch: PendingBatch, at_ns: u64, outcome: Outcome) {
        self.buffered_bytes = self.buffered_bytes.saturating_sub(batch.charge());
        self.unfinished -= 1;
        self.finished.push_back(Finished { batch, at_ns, outcome });
    }
}

/// In open loop what the workload says. In closed loop a producer would fill any memory and measure how long it waits
/// there: it gets what may be in flight, and as much again being built.
fn buffer_bytes(workload: &Workload, partitions: u32) -> usize {
    if workload.is_open_loop() {
        return workload.buffer_bytes;
    }
    let request = workload.batch_bytes.saturating_mul(partitions as usize).min(workload.request_bytes_max);
    let needed = request.max(workload.batch_bytes).saturating_mul(workload.in_flight + 1);
    needed.min(workload.buffer_bytes)
}
