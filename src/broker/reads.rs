//! Reads on behalf of fetches and look-ups, of this core or another.
//!
//! *Owns*: what one core reads for one round of one fetch, and look-ups that wait for the disk. *Never*: knows when
//! a fetch is answered. *Runs on*: the core that owns the partitions read.

use std::collections::BTreeMap;

use crate::base::ids::{CoreId, LeaderEpoch, NodeId, Offset, PartitionIndex};
use crate::base::slab::{Key, Slab};
use crate::base::stage::{Stage, Trace};
use crate::base::time::{Instant, Now};
use crate::broker::deletions::AnswerTo;
use crate::broker::effect::Effects;
use crate::broker::errors;
use crate::broker::message::{
    Answer, Question, ReadEntry, ReadFor, ReadOrder, ReadResult, ShardMessage, TopicPartition,
};
use crate::broker::shard::Shard;
use crate::log::log::{Find, FoundOffset, LogSlices, Read, ReadError, ReadTicket};
use crate::replica::partition::{Reader, Refusal};
use crate::wire::errors::ErrorCode;
use crate::wire::text::Text;

/// ListOffsets' special timestamps (Kafka: `ListOffsetsRequest`, KIP-734, KIP-405, KIP-1005).
pub const LATEST_TIMESTAMP: i64 = -1;
pub const EARLIEST_TIMESTAMP: i64 = -2;
pub const MAX_TIMESTAMP: i64 = -3;
pub const EARLIEST_LOCAL_TIMESTAMP: i64 = -4;
pub const LATEST_TIERED_TIMESTAMP: i64 = -5;

/// Clients ask again and again for what cannot be read; it is said once in so long for each partition.
const SAID_MS: u64 = 60_000;

#[derive(Debug, Default)]
pub struct Reads {
    groups: Slab<Group>,
    /// Partitions that were looked at for fetches since the start.
    partitions_read: u64,
    late: BTreeMap<(u32, ReadTicket), Late>,
    /// Partitions by number, and when it was said last that reads of them fail.
    said: BTreeMap<u32, Instant>,
}

/// What is read here for one round of a fetch.
#[derive(Debug)]
struct Group {
    for_core: CoreId,
    job: Key,
    round: u32,
    results: Vec<(u32, ReadResult)>,
    /// Results still to come from the disk.
    pending: usize,
    trace: Trace,
}

#[derive(Debug)]
enum Late {
    Read {
        group: Key,
        index: usize,
    },
    Find {
        for_core: CoreId,
        job: Key,
        at: u32,
    },
    /// For the coordinator on this partition of `__consumer_offsets`, if it is still the one of that load.
    Group {
        partition: PartitionIndex,
        load: u32,
    },
}

impl Reads {
    pub fn partitions_read(&self) -> u64 {
        self.partitions_read
    }
}

impl Reads {
    /// The partition is gone.
    pub fn forget(&mut self, owner: u32) {
        self.said.remove(&owner);
    }
}

impl Shard {
    /// Reads partitions in the order given until `bytes_max` is used up; the first that has anything gives at least
    /// one batch, however large (KIP-74).
    pub(in crate::broker) fn read_here(&mut self, for_core: CoreId, order: ReadOrder, now: Now, effects: &mut Effects) {
        let mut room = order.bytes_max;
        let mut nothing_yet = order.at_least_one;
        let mut trace = order.trace;
        effects.watch.arrived(&mut trace, Stage::MeshHop);
        effects.watch.waited(&mut trace, Stage::Queue);
        let group = Group {
            for_core,
            job: order.job,
            round: order.round,
            results: Vec::with_capacity(order.entries.len()),
            pending: 0,
            trace,
        };
        let key = self.reads.groups.insert(group);
        self.reads.partitions_read += order.entries.len() as u64;
        for entry in &order.entries {
            let (result, expected) = self.read_one(key, &order, entry, (room, nothing_yet), now, effects);
            room = room.saturating_sub(expected);
            nothing_yet &= expected == 0;
            let group = self.reads.groups.get_mut(key).expect("a group lives until its last read is done");
            group.results.push((entry.at, result));
        }
        if let Some(group) = self.reads.groups.get_mut(key) {
            effects.watch.worked(&mut group.trace, Stage::LogRead);
        }
        self.finish_group(key, effects);
    }

    /// One partition of a fetch: its result, and the bytes it takes or may take once the disk answers.
    fn read_one(
        &mut self,
        group: Key,
        order: &ReadOrder,
        entry: &ReadEntry,
        (room, nothing_yet): (usize, bool),
        now: Now,
        effects: &mut Effects,
    ) -> (ReadResult, usize) {
        let Some(owner) = self.partitions.owner_number(entry.of) else {
            return (ReadResult::error(errors::of_refusal(&self.absent(entry.of))), 0);
        };
        let admitted = match order.whose {
            ReadFor::Consumer => self.admit_consumer(owner, entry, &order.rack),
            ReadFor::Replica(node, epoch) => self.admit_replica(owner, entry, (node, epoch), now, effects),
        };
        let Some(partition) = self.partitions.by_owner(owner) else {
            return (ReadResult::error(ErrorCode::UnknownTopicOrPartition), 0);
        };
        let reader = order.whose.reader();
        let mut result = ReadResult {
            high_watermark: partition.high_watermark(),
            log_start: partition.log_start(),
            end: partition.end_for(reader),
            changes: partition.changes(reader),
            ..ReadResult::error(ErrorCode::None)
        };
        match admitted {
            Ok(diverging) => result.diverging = diverging,
            // A follower begins anew where it can read on.
            Err(Refusal::OffsetOutOfRange) => {
                (result.error, result.log_start) = (ErrorCode::OffsetOutOfRange, partition.log_start_for(reader));
            }
            Err(refusal) => return (ReadResult::error(errors::of_refusal(&refusal)), 0),
        }
        if result.diverging.is_some() || result.error != ErrorCode::None {
            return (result, 0);
        }
        if !order.rack.is_empty() {
            result.nearer = self.nearer_replica(owner, entry.from, &order.rack);
            if result.nearer.is_some() {
                return (result, 0);
            }
        }
        if let ReadFor::Replica(follower, _) = order.whose {
            let leader = self.partitions.by_owner(owner);
            result.throttled = leader.is_some_and(|leader| leader.throttles(entry.of.partition, follower));
            if result.throttled && self.leader_throttle_opens(now).is_some() {
                return (result, 0);
            }
        }
        let bytes_max = entry.bytes_max.min(room);
        if bytes_max == 0 && !nothing_yet {
            return (result, 0);
        }
        let read = self.on_partition(owner, now, effects, |partition, cache, out| {
            partition.read(reader, entry.from, bytes_max, nothing_yet, cache, out)
        });
        match read {
            Some(Ok(Read::Ready(slices))) => {
                let bytes = slices.bytes;
                take_slices(&mut result, slices);
                (result, bytes)
            }
            Some(Ok(Read::Later(ticket))) => {
                let group_row = self.reads.groups.get_mut(group).expect("a group lives until its last read is done");
                group_row.pending += 1;
                let late = Late::Read { group, index: group_row.results.len() };
                self.reads.late.insert((owner, ticket), late);
                (result, bytes_max)
            }
            Some(Err(error)) => {
                result.error = errors::of_read(&error);
                (result, 0)
            }
            None => (ReadResult::error(ErrorCode::UnknownTopicOrPartition), 0),
        }
    }

    /// Only its leader serves a partition to a consumer that does not tell its rack: it may believe that this one is.
    fn admit_consumer(
        &self,
        owner: u32,
        entry: &ReadEntry,
        rack: &Text,
    ) -> Result<Option<(LeaderEpoch, Offset)>, Refusal> {
        let partition = self.partitions.by_owner(owner).ok_or(Refusal::Deleted)?;
        if !partition.is_online() {
            return Err(Refusal::Unavailable);
        }
        if rack.is_empty() {
            partition.check_leader(entry.current_leader_epoch)?;
        } else {
            partition.check_replica(entry.current_leader_epoch)?;
        }
        Ok(partition.diverging(Reader::Consumer, entry.last_fetched_epoch, entry.from))
    }

    /// A replica in sync in the consumer's rack, where the leader on this core is not (Kafka's
    /// RackAwareReplicaSelector).
    fn nearer_replica(&self, owner: u32, from: Offset, rack: &Text) -> Option<NodeId> {
        let is_near = |node: NodeId| {
            let broker = self.image.broker(node);
            broker.is_some_and(|broker| broker.is_active() && broker.rack.as_deref() == Some(rack.as_str()))
        };
        if !self.config.settings.is_rack_aware() || is_near(self.node()) {
            return None;
        }
        self.partitions.by_owner(owner)?.nearest(from, is_near)
    }

    pub(in crate::broker) fn on_late_read(
        &mut self,
        owner: u32,
        ticket: ReadTicket,
        read: Result<LogSlices, ReadError>,
        now: Now,
        effects: &mut Effects,
    ) {
        let (group, index) = match self.reads.late.remove(&(owner, ticket)) {
            Some(Late::Read { group, index }) => (group, index),
            Some(Late::Group { partition, load }) => return self.on_group_read((partition, load), read, now),
            Some(Late::Find { .. }) | None => return,
        };
        let row = self.reads.groups.get_mut(group).expect("a group lives until its last read is done");
        let result = &mut row.results[index].1;
        match read {
            Ok(slices) => take_slices(result, slices),
            Err(error) => {
                result.error = errors::of_read(&error);
                self.say_unreadable(owner, &error, now);
            }
        }
        let row = self.reads.groups.get_mut(group).expect("just seen");
        row.pending -= 1;
        effects.watch.arrived(&mut row.trace, Stage::DeviceRead);
        self.finish_group(group, effects);
    }

    /// Remembers that a read which waits for the disk is a coordinator's.
    pub(in crate::broker) fn read_for_group(
        &mut self,
        owner: u32,
        ticket: ReadTicket,
        partition: PartitionIndex,
        load: u32,
    ) {
        self.reads.late.insert((owner, ticket), Late::Group { partition, load });
    }

    fn say_unreadable(&mut self, owner: u32, error: &ReadError, now: Now) {
        let ReadError::Io { message } = error else { return };
        let before = self.reads.said.get(&owner);
        if before.is_none_or(|before| before.after_ms(SAID_MS) <= now.mono) {
            self.reads.said.insert(owner, now.mono);
            tracing::error!(
                "{}: a read fails, others go on ({message}): whoever asks for these records gets KAFKA_STORAGE_ERROR",
                self.partition_title(owner)
            );
        }
    }

    fn finish_group(&mut self, key: Key, effects: &mut Effects) {
        if self.reads.groups.get(key).is_none_or(|group| group.pending > 0) {
            return;
        }
        let Some(Group { for_core, job, round, results, trace, .. }) = self.reads.groups.remove(key) else { return };
        self.send(for_core, ShardMessage::ReadDone { job, round, results, trace }, effects);
    }

    /// Answers a question about a partition of this core.
    #[expect(clippy::too_many_arguments, reason = "the fields of one message")]
    pub(in crate::broker) fn answer_here(
        &mut self,
        for_core: CoreId,
        job: Key,
        at: u32,
        of: TopicPartition,
        question: Question,
        now: Now,
        effects: &mut Effects,
    ) {
        let answer = match question {
            Question::EpochEnd { epoch, current_leader_epoch } => {
                Some(self.epoch_end_here(of, epoch, current_leader_epoch))
            }
            Question::Offset { timestamp, current_leader_epoch } => {
                self.offset_here(for_core, job, at, of, timestamp, current_leader_epoch, now, effects)
            }
            Question::Delete { before, due } => {
                self.delete_records_here(AnswerTo { core: for_core, job, at }, of, (before, due), now, effects)
            }
        };
        if let Some(answer) = answer {
            self.send(for_core, ShardMessage::Answer { job, at, answer }, effects);
        }
    }

    fn epoch_end_here(&self, of: TopicPartition, epoch: LeaderEpoch, current: LeaderEpoch) -> Answer {
        let Some(partition) = self.partitions.get(of) else {
            return Answer::Error(errors::of_refusal(&self.absent(of)));
        };
        if !partition.is_online() {
            return Answer::Error(ErrorCode::KafkaStorageError);
        }
        if let Err(refusal) = partition.check_leader(current) {
            return Answer::Error(errors::of_refusal(&refusal));
        }
        match partition.epoch_end(epoch) {
            Some((epoch, end)) => Answer::EpochEnd { epoch, end },
            None => Answer::EpochEnd { epoch: LeaderEpoch::UNKNOWN, end: Offset(-1) },
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of one message")]
    fn offset_here(
        &mut self,
        for_core: CoreId,
        job: Key,
        at: u32,
        of: TopicPartition,
        timestamp: i64,
        current: LeaderEpoch,
        now: Now,
        effects: &mut Effects,
    ) -> Option<Answer> {
        let Some((owner, partition)) = self.partitions.owner_number(of).zip(self.partitions.get(of)) else {
            return Some(Answer::Error(errors::of_refusal(&self.absent(of))));
        };
        if !partition.is_online() {
            return Some(Answer::Error(ErrorCode::KafkaStorageError));
        }
        if let Err(refusal) = partition.check_leader(current) {
            return Some(Answer::Error(errors::of_refusal(&refusal)));
        }
        let leader_epoch = partition.epoch().0;
        if timestamp == LATEST_TIMESTAMP && !partition.is_established() {
            // What is committed may be more than this leader knows yet (KIP-207).
            return Some(Answer::Error(ErrorCode::OffsetNotAvailable));
        }
        match timestamp {
            LATEST_TIMESTAMP => {
                let offset = partition.high_watermark().0;
                return Some(Answer::Offset { offset, timestamp: -1, leader_epoch });
            }
            EARLIEST_TIMESTAMP | EARLIEST_LOCAL_TIMESTAMP => {
                let offset = partition.log_start().0;
                return Some(Answer::Offset { offset, timestamp: -1, leader_epoch });
            }
            LATEST_TIERED_TIMESTAMP => {
                return Some(Answer::Offset { offset: -1, timestamp: -1, leader_epoch: -1 });
            }
            _ => {}
        }
        let found = self.on_partition(owner, now, effects, |partition, _, out| match timestamp {
            MAX_TIMESTAMP => partition.find_max_timestamp(now, out),
            _ => partition.find_timestamp(timestamp, now, out),
        })?;
        match found {
            Ok(Find::Ready(found)) => Some(offset_answer(found)),
            Ok(Find::Later(ticket)) => {
                self.reads.late.insert((owner, ticket), Late::Find { for_core, job, at });
                None
            }
            Err(error) => Some(Answer::Error(errors::of_read(&error))),
        }
    }

    pub(in crate::broker) fn on_late_find(
        &mut self,
        owner: u32,
        ticket: ReadTicket,
        found: Result<Option<FoundOffset>, ReadError>,
        now: Now,
        effects: &mut Effects,
    ) {
        let Some(Late::Find { for_core, job, at }) = self.reads.late.remove(&(owner, ticket)) else { return };
        let answer = match found {
            Ok(found) => offset_answer(found),
            Err(error) => {
                self.say_unreadable(owner, &error, now);
                Answer::Error(errors::of_read(&error))
            }
        };
        self.send(for_core, ShardMessage::Answer { job, at, answer }, effects);
    }
}

fn take_slices(result: &mut ReadResult, slices: LogSlices) {
    result.bytes = slices.bytes;
    result.slices = slices.slices;
}

fn offset_answer(found: Option<FoundOffset>) -> Answer {
    match found {
        Some(FoundOffset { offset, timestamp_ms, leader_epoch }) => {
            Answer::Offset { offset: offset.0, timestamp: timestamp_ms, leader_epoch: leader_epoch.0 }
        }
        None => Answer::Offset { offset: -1, timestamp: -1, leader_epoch: -1 },
    }
}
