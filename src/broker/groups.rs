//! Hosting of group coordinators: one on each partition of `__consumer_offsets` that this core owns.
//!
//! A coordinator decides at once; what it decided is told when it is safe. Of each, one append is under way at a time:
//! what comes meanwhile is the next batch, so that many commits share one. Every answer remembers how many records were
//! decided before it, and leaves when so many are safe. When an append fails, what the coordinator knows is more than
//! what the log holds: it is dropped, those who wait are told to look for it again, and it is loaded from the log, once
//! nothing in that is uncommitted any more.
//!
//! *Owns*: which coordinators there are, how far they are loaded, and when an answer may leave. *Never*: decides about
//! a group. *Runs on*: every core, for its own partitions.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::mem;

use bytes::Bytes;

use crate::base::bug::{self, Bug};
use crate::base::ids::{Offset, PartitionIndex, TopicId};
use crate::base::names::CONSUMER_OFFSETS;
use crate::base::stage::Arrival;
use crate::base::time::{Instant, Now};
use crate::broker::api::{group_work, produce};
use crate::broker::effect::Effects;
use crate::broker::message::TopicPartition;
use crate::broker::shard::{DeadlineKey, Shard, Todo};
use crate::broker::shutdown::Life;
use crate::config::{ConfigResource, GroupSettings, Settings};
use crate::group::ask::{Answer, Ask, Caller, Ticket};
use crate::group::coordinator::{Context, Coordinator, GroupOut, record_bytes_max};
use crate::group::records::GroupRecord;
use crate::group::topics::{KnownTopic, Topics};
use crate::log::log::{LogSlices, Read, ReadError};
use crate::meta::Image;
use crate::replica::partition::{AckResult, AckTo, AckWhen, Acked, Brought, Reader, Refusal};
use crate::wire::batch::BatchHeader;
use crate::wire::compression::Compression;
use crate::wire::errors::ErrorCode;
use crate::wire::records::{BatchBuilder, BatchRecords};

/// What is read of the log between two turns of the other work of the core.
const LOAD_BYTES: usize = 256 << 10;

/// How soon a coordinator that could not write or be read is loaded again.
const RELOAD_MS: u64 = 1_000;

/// What the broker writes itself is in the newest form.
const PRODUCE_VERSION: i16 = 13;

/// A request on its way to the core of its coordinator.
#[derive(Debug)]
pub struct GroupAsk {
    pub ticket: Ticket,
    /// Of `__consumer_offsets`.
    pub partition: PartitionIndex,
    pub ask: Ask,
    pub caller: Caller,
}

#[derive(Debug, Default)]
pub struct Groups {
    /// By partition of `__consumer_offsets`.
    hosts: BTreeMap<PartitionIndex, Host>,
    /// Those that may have records to append at the end of the step.
    dirty: BTreeSet<PartitionIndex>,
    /// Loads since the start: an ack or a read that was meant for an earlier one is not taken for a later one's.
    loads: u32,
    out: GroupOut,
}

#[derive(Debug)]
struct Host {
    /// The partition's number on this core.
    owner: u32,
    load: u32,
    state: State,
    alarm_at: Option<Instant>,
}

#[derive(Debug)]
enum State {
    Loading {
        coordinator: Coordinator,
        next: Offset,
    },
    Running(Running),
    /// Waits to be loaded again.
    Failed,
}

#[derive(Debug)]
struct Running {
    coordinator: Coordinator,
    /// Decided and not appended.
    records: Vec<GroupRecord>,
    /// Records decided so far, those of `records` included.
    decided: u64,
    /// How many of them are safe.
    safe: u64,
    /// For each batch under way, how many records are safe when it is.
    under_way: VecDeque<u64>,
    /// Answers and how many records must be safe first. Invariant: in that order.
    waiting: VecDeque<(u64, Ticket, Answer)>,
}

/// The topics of the image, as a coordinator may know them.
struct ImageTopics<'a>(&'a Image);

impl Topics for ImageTopics<'_> {
    fn version(&self) -> u64 {
        self.0.offset()
    }

    fn by_name(&self, name: &str) -> Option<KnownTopic> {
        self.0.topic(name).map(|topic| KnownTopic { id: topic.id, partitions: topic.partitions })
    }

    fn name_of(&self, id: TopicId) -> Option<&str> {
        self.0.topic_by_id(id).map(|topic| topic.name.as_str())
    }

    fn names(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        Box::new(self.0.topics().map(|topic| topic.name.as_str()))
    }

    fn settings_of(&self, group: &str, settings: &Settings) -> GroupSettings {
        GroupSettings::in_force(settings, self.0.overrides(&ConfigResource::Group(group.to_owned())))
    }
}

/// The partition of `__consumer_offsets` that a group belongs to (Kafka: `GroupCoordinatorService.partitionFor`).
pub fn partition_of(group: &str, partitions: i32) -> PartitionIndex {
    assert!(partitions > 0);
    // Java's hash of a string.
    let hash = group.encode_utf16().fold(0i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    PartitionIndex(hash.checked_abs().unwrap_or(0) % partitions)
}

impl Shard {
    /// Where a group is coordinated, once `__consumer_offsets` is there.
    pub(in crate::broker) fn coordinator_of(&self, group: &str) -> Option<TopicPartition> {
        let topic = self.image.topic(CONSUMER_OFFSETS)?;
        Some(TopicPartition { topic: topic.id, partition: partition_of(group, topic.partitions) })
    }

    /// A request that has come to this core, from a client or another core.
    pub(in crate::broker) fn group_ask_here(&mut self, asked: GroupAsk, now: Now) {
        let GroupAsk { ticket, partition, ask, caller } = asked;
        let answer = match self.groups.hosts.get(&partition).map(|host| &host.state) {
            _ if self.life != Life::Serving => ask.refused(ErrorCode::CoordinatorNotAvailable),
            None => ask.refused(ErrorCode::NotCoordinator),
            Some(State::Failed) => ask.refused(ErrorCode::CoordinatorNotAvailable),
            Some(State::Loading { .. }) => ask.while_loading(),
            Some(State::Running(_)) => {
                return self.on_coordinator(partition, now, |coordinator, context| {
                    coordinator.on_ask(ticket, ask, &caller, context);
                });
            }
        };
        self.group_answer(ticket, answer);
    }

    /// This node leads a partition, and all that it held is committed. If it is one of `__consumer_offsets`, its
    /// coordinator is loaded, unless it is here already.
    pub(in crate::broker) fn on_group_partition_established(
        &mut self,
        owner: u32,
        name: TopicPartition,
        now: Now,
        effects: &mut Effects,
    ) {
        let is_of_groups = self.image.topic(CONSUMER_OFFSETS).is_some_and(|topic| topic.id == name.topic);
        if is_of_groups && !self.groups.hosts.contains_key(&name.partition) {
            let host = Host { owner, load: 0, state: State::Failed, alarm_at: None };
            self.groups.hosts.insert(name.partition, host);
            self.load_coordinator(name.partition, now, effects);
        }
    }

    /// A partition is gone, or led by another node, and its coordinator with it.
    pub(in crate::broker) fn forget_coordinator(&mut self, owner: u32) {
        let of = self.groups.hosts.iter().find(|(_, host)| host.owner == owner).map(|(partition, _)| *partition);
        let Some(partition) = of else { return };
        self.drop_coordinator(partition, ErrorCode::NotCoordinator);
        if let Some(Host { alarm_at: Some(at), .. }) = self.groups.hosts.remove(&partition) {
            self.deadlines.clear(at, DeadlineKey::Groups(partition));
        }
    }

    pub(in crate::broker) fn on_group_timeout(&mut self, partition: PartitionIndex, now: Now, effects: &mut Effects) {
        let Some(host) = self.groups.hosts.get_mut(&partition) else { return };
        host.alarm_at = None;
        match host.state {
            _ if self.life != Life::Serving && self.life != Life::Starting => {}
            State::Failed => self.load_coordinator(partition, now, effects),
            State::Loading { .. } => self.load_more(partition, now, effects),
            State::Running(_) => {
                self.on_coordinator(partition, now, |coordinator, context| coordinator.on_timeout(context));
            }
        }
    }

    /// Topics are deleted: what groups have read of them is forgotten.
    pub(in crate::broker) fn on_group_topics_deleted(&mut self, deleted: &[String], now: Now) {
        let partitions: Vec<PartitionIndex> = self.groups.hosts.keys().copied().collect();
        for partition in partitions {
            self.on_coordinator(partition, now, |coordinator, context| {
                coordinator.on_topics_deleted(deleted, context.out);
            });
        }
    }

    /// The broker stops: nobody waits for other members any more. What was decided is still written.
    pub(in crate::broker) fn release_group_waiters(&mut self, now: Now) {
        let partitions: Vec<PartitionIndex> = self.groups.hosts.keys().copied().collect();
        for partition in partitions {
            self.on_coordinator(partition, now, |coordinator, context| {
                coordinator.unload(ErrorCode::CoordinatorNotAvailable, context.out);
            });
        }
    }

    /// A batch of a coordinator of this core is safe, or will never be.
    pub(in crate::broker) fn on_group_acked(
        &mut self,
        (partition, load): (PartitionIndex, u32),
        result: AckResult,
        now: Now,
    ) {
        let Some(host) = self.groups.hosts.get_mut(&partition) else { return };
        let State::Running(running) = &mut host.state else { return };
        if host.load != load {
            return;
        }
        match result {
            AckResult::Stored { .. } => {
                let safe = running.under_way.pop_front().expect("each batch is acked once");
                running.safe = safe;
                self.groups.dirty.insert(partition);
                self.release_group_answers(partition);
            }
            AckResult::Refused(refusal) => self.on_group_append_failed(partition, &refusal, now),
        }
    }

    /// At the end of a step: appends what coordinators decided, where nothing of them is under way.
    pub(in crate::broker) fn append_group_records(&mut self, now: Now, effects: &mut Effects) {
        while let Some(partition) = self.groups.dirty.pop_first() {
            let record_bytes_max = record_bytes_max(&self.config.settings);
            let Some(host) = self.groups.hosts.get_mut(&partition) else { continue };
            let State::Running(running) = &mut host.state else { continue };
            if !running.under_way.is_empty() || running.records.is_empty() {
                continue;
            }
            let (owner, load) = (host.owner, host.load);
            let batches = running.take_batches(record_bytes_max, now.wall_ms);
            for records in batches {
                let to = AckTo::Coordinator { partition, load };
                let trace = Arrival::at(now.mono).trace();
                let when = match bug::on(Bug::AnswerGroupsAlone) {
                    true => AckWhen::Safe,
                    false => AckWhen::Committed { due: None },
                };
                let brought = Brought { records, produce_version: PRODUCE_VERSION, when, to, trace };
                let mut watch = effects.watch;
                self.on_partition(owner, now, effects, |replica, cache, out| {
                    replica.append(brought, cache, now, &mut watch, out);
                });
            }
        }
    }

    pub(in crate::broker) fn on_group_read(
        &mut self,
        (partition, load): (PartitionIndex, u32),
        read: Result<LogSlices, ReadError>,
        now: Now,
    ) {
        if self.groups.hosts.get(&partition).is_some_and(|host| host.load == load) {
            self.on_loaded_slices(partition, read, now);
        }
    }

    /// Calls one coordinator that is loaded, and passes on what it decided.
    fn on_coordinator(
        &mut self,
        partition: PartitionIndex,
        now: Now,
        call: impl FnOnce(&mut Coordinator, &mut Context<'_>),
    ) {
        let Some(host) = self.groups.hosts.get_mut(&partition) else { return };
        let State::Running(running) = &mut host.state else { return };
        let out = &mut self.groups.out;
        let topics = ImageTopics(&self.image);
        let settings: &Settings = &self.config.settings;
        call(&mut running.coordinator, &mut Context { settings, topics: &topics, now, rng: &mut self.rng, out });
        running.take(out);
        if !running.records.is_empty() {
            self.groups.dirty.insert(partition);
        }
        self.release_group_answers(partition);
        self.refresh_group_deadline(partition);
    }

    fn release_group_answers(&mut self, partition: PartitionIndex) {
        while let Some(Host { state: State::Running(running), .. }) = self.groups.hosts.get_mut(&partition) {
            let is_safe = |needs: u64| needs <= running.safe || bug::on(Bug::AnswerGroupsEarly);
            if running.waiting.front().is_none_or(|(needs, ..)| !is_safe(*needs)) {
                return;
            }
            let Some((_, ticket, answer)) = running.waiting.pop_front() else { return };
            self.group_answer(ticket, answer);
        }
    }

    fn on_group_append_failed(&mut self, partition: PartitionIndex, refusal: &Refusal, now: Now) {
        tracing::error!(
            "the coordinator of {CONSUMER_OFFSETS}-{partition} cannot write ({refusal:?}): its clients look for it \
             again, and it starts over from what is in the log"
        );
        self.drop_coordinator(partition, ErrorCode::NotCoordinator);
        self.set_group_alarm(partition, now.mono.after_ms(RELOAD_MS));
    }

    fn drop_coordinator(&mut self, partition: PartitionIndex, error: ErrorCode) {
        let Some(host) = self.groups.hosts.get_mut(&partition) else { return };
        let State::Running(mut running) = mem::replace(&mut host.state, State::Failed) else { return };
        let mut out = GroupOut::default();
        running.coordinator.unload(error, &mut out);
        let unsafe_yet = running.waiting.into_iter().map(|(_, ticket, answer)| (ticket, answer.refused(error)));
        for (ticket, answer) in unsafe_yet.chain(out.answers) {
            self.group_answer(ticket, answer);
        }
    }

    fn load_coordinator(&mut self, partition: PartitionIndex, now: Now, effects: &mut Effects) {
        let Some(host) = self.groups.hosts.get_mut(&partition) else { return };
        self.groups.loads += 1;
        host.load = self.groups.loads;
        host.state = State::Loading { coordinator: Coordinator::default(), next: Offset(0) };
        self.load_more(partition, now, effects);
    }

    fn load_more(&mut self, partition: PartitionIndex, now: Now, effects: &mut Effects) {
        let Some(Host { owner, load, state: State::Loading { next, .. }, .. }) = self.groups.hosts.get(&partition)
        else {
            return;
        };
        let (owner, load, next) = (*owner, *load, *next);
        let read = self.on_partition(owner, now, effects, |replica, cache, out| {
            let from = next.max(replica.log_start());
            if from >= replica.high_watermark() {
                return Ok(None);
            }
            replica.read(Reader::Consumer, from, LOAD_BYTES, true, cache, out).map(Some)
        });
        match read {
            // A batch that was not committed in time may be yet, and then counts.
            Some(Ok(None)) if !self.is_all_committed(owner) => {
                self.set_group_alarm(partition, now.mono.after_ms(RELOAD_MS));
            }
            Some(Ok(None)) => self.on_coordinator_loaded(partition, now),
            Some(Ok(Some(Read::Ready(slices)))) => self.on_loaded_slices(partition, Ok(slices), now),
            Some(Ok(Some(Read::Later(ticket)))) => self.read_for_group(owner, ticket, partition, load),
            Some(Err(error)) => self.on_loaded_slices(partition, Err(error), now),
            None => {}
        }
    }

    fn is_all_committed(&self, owner: u32) -> bool {
        bug::on(Bug::LoadGroupsEarly)
            || self.partitions.by_owner(owner).is_none_or(|replica| replica.is_all_committed())
    }

    fn on_loaded_slices(&mut self, partition: PartitionIndex, read: Result<LogSlices, ReadError>, now: Now) {
        let Some(host) = self.groups.hosts.get_mut(&partition) else { return };
        let State::Loading { coordinator, next } = &mut host.state else { return };
        match read {
            Ok(slices) if slices.next > *next => {
                *next = slices.next;
                load_batches(coordinator, partition, slices.slices.concat().into());
                // The rest at the next turn: others wait for this core too.
                self.set_group_alarm(partition, now.mono);
            }
            // Whatever was there is compacted away.
            Ok(_) => self.on_coordinator_loaded(partition, now),
            Err(error) => {
                tracing::error!("the coordinator of {CONSUMER_OFFSETS}-{partition} cannot be loaded: {error:?}");
                host.state = State::Failed;
                self.set_group_alarm(partition, now.mono.after_ms(RELOAD_MS));
            }
        }
    }

    fn on_coordinator_loaded(&mut self, partition: PartitionIndex, now: Now) {
        let Some(host) = self.groups.hosts.get_mut(&partition) else { return };
        let State::Loading { coordinator, .. } = &mut host.state else { return };
        host.state = State::Running(Running {
            coordinator: mem::take(coordinator),
            records: Vec::new(),
            decided: 0,
            safe: 0,
            under_way: VecDeque::new(),
            waiting: VecDeque::new(),
        });
        self.on_coordinator(partition, now, |coordinator, context| coordinator.on_loaded(context));
    }

    fn refresh_group_deadline(&mut self, partition: PartitionIndex) {
        let Some(Host { state: State::Running(running), alarm_at, .. }) = self.groups.hosts.get(&partition) else {
            return;
        };
        match (running.coordinator.next_deadline(), *alarm_at) {
            (Some(next), Some(at)) if next == at => {}
            (Some(next), _) => self.set_group_alarm(partition, next),
            (None, _) => {}
        }
    }

    fn set_group_alarm(&mut self, partition: PartitionIndex, at: Instant) {
        let Some(host) = self.groups.hosts.get_mut(&partition) else { return };
        if let Some(before) = host.alarm_at.replace(at) {
            self.deadlines.clear(before, DeadlineKey::Groups(partition));
        }
        self.deadlines.set(at, DeadlineKey::Groups(partition));
    }

    /// An answer may leave, to whichever core asked.
    fn group_answer(&mut self, ticket: Ticket, answer: Answer) {
        if ticket.core == self.config.core {
            self.todo.push_back(Todo::GroupAnswer(ticket, answer));
        } else {
            self.send_group_answer(ticket, answer);
        }
    }

    /// Sends a request to the coordinator of its group. What cannot be sent is answered at once.
    pub(in crate::broker) fn ask_coordinator(&mut self, of: TopicPartition, asked: GroupAsk, now: Now) {
        let owner = self.owner(of.topic, of.partition);
        if owner == self.config.core { self.group_ask_here(asked, now) } else { self.send_group_ask(owner, asked) }
    }

    /// The acks of a coordinator's batch and of clients' batches go different ways.
    pub(in crate::broker) fn on_acked(&mut self, acked: Acked, now: Now, effects: &mut Effects) {
        match acked.to {
            AckTo::Job { .. } => produce::on_acked(self, acked, effects),
            AckTo::Coordinator { partition, load } => self.on_group_acked((partition, load), acked.result, now),
        }
    }

    pub(in crate::broker) fn on_group_answer(&mut self, ticket: Ticket, answer: Answer, effects: &mut Effects) {
        group_work::on_answer(self, ticket, answer, effects);
    }
}

impl Running {
    fn take(&mut self, out: &mut GroupOut) {
        self.decided += out.records.len() as u64;
        self.records.append(&mut out.records);
        let answers = out.answers.drain(..).map(|(ticket, answer)| (self.decided, ticket, answer));
        self.waiting.extend(answers);
    }

    /// All that was decided, as batches that are about to be appended. Most of the time it is one.
    fn take_batches(&mut self, bytes_max: usize, wall_ms: i64) -> Vec<Bytes> {
        let mut batches = Vec::with_capacity(1);
        let mut appended = self.decided - self.records.len() as u64;
        let mut builder = BatchBuilder::new(Compression::None);
        let mut is_empty = true;
        for GroupRecord { key, value } in self.records.drain(..) {
            let bytes = key.len() + value.as_ref().map_or(0, Bytes::len);
            if !is_empty && builder.size_bytes() + bytes > bytes_max {
                batches.push(mem::replace(&mut builder, BatchBuilder::new(Compression::None)).build().bytes);
                self.under_way.push_back(appended);
            }
            builder.push(wall_ms, Some(&key), value.as_deref());
            is_empty = false;
            appended += 1;
        }
        batches.push(builder.build().bytes);
        self.under_way.push_back(appended);
        batches
    }
}

/// Gives a coordinator what whole batches hold. What cannot be read is told, and the rest counts.
fn load_batches(coordinator: &mut Coordinator, partition: PartitionIndex, mut bytes: Bytes) {
    while let Some(header) = BatchHeader::read(&bytes) {
        let batch = bytes.split_to(header.size_bytes().clamp(1, bytes.len()));
        if header.is_control() {
            continue;
        }
        let records = match BatchRecords::open(&batch) {
            Ok(records) => records,
            Err(error) => {
                tracing::error!("a batch of {CONSUMER_OFFSETS}-{partition} cannot be read, and is skipped: {error}");
                continue;
            }
        };
        for record in &records {
            let loaded = record.map_err(|error| error.to_string()).and_then(|placed| {
                let part = |part: &[u8]| Bytes::copy_from_slice(part);
                let key = part(placed.record.key.unwrap_or_default());
                let value = placed.record.value.map(part);
                coordinator.on_record(&key, value.as_ref()).map_err(|error| error.to_string())
            });
            if let Err(error) = loaded {
                tracing::error!("a record of {CONSUMER_OFFSETS}-{partition} cannot be read, and is skipped: {error}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_belong_where_kafka_has_them() {
        for (group, partitions, expect) in [
            ("", 50, 0),
            ("a", 50, 97 % 50),
            ("group", 50, 98_629_247 % 50),
            ("größe", 1000, 98_762_257 % 1000),
            // Its hash is the one number that has no absolute value.
            ("polygenelubricants", 50, 0),
        ] {
            assert_eq!(partition_of(group, partitions), PartitionIndex(expect), "{group}");
        }
    }
}
