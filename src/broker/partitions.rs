//! The partitions a core owns, and the traffic between them and the disk.
//!
//! *Owns*: which partition a disk completion belongs to, how many open at once. *Never*: looks inside a log.
//! *Runs on*: every core, for its own partitions.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::iter;
use std::mem;
use std::path::PathBuf;

use crate::base::bug::{self, Bug};
use crate::base::disk::{DiskDone, DiskError, DiskErrorKind, DiskOp, DiskResult};
use crate::base::ids::{CoreId, PartitionIndex, TopicId};
use crate::base::limits;
use crate::base::metric::Metric;
use crate::base::slab::{Key, Slab};
use crate::base::stage::Stage;
use crate::base::time::{Instant, Now};
use crate::broker::api::describe_log_dirs;
use crate::broker::control::Control;
use crate::broker::effect::{DiskToken, Effect, Effects};
use crate::broker::message::{AppendEntry, ShardMessage, TopicPartition, WatchEntry};
use crate::broker::replicas::Replicas;
use crate::broker::route;
use crate::broker::shard::{DeadlineKey, Shard, Todo};
use crate::broker::shutdown::Life;
use crate::config::{ConfigResource, TopicSettings};
use crate::journal::journal::JournalOp;
use crate::journal::replay::ReplayOp;
use crate::log::cache::TailCache;
use crate::log::log::LogOp;
use crate::meta::MetaOp;
use crate::meta::MetaRecord;
use crate::replica::partition::{
    AckResult, Acked, Follower, Kept, Partition, PartitionOut, Place, StateChange, Watch, Watching,
};

/// The partitions of one core, by a number that is never used twice: it also names their files and cache rows.
#[derive(Debug, Default)]
pub struct Partitions {
    rows: Vec<Option<Row>>,
    by_name: BTreeMap<TopicPartition, u32>,
    /// Waiting to be opened, so that a start with thousands does not open all their files at the same time.
    to_open: VecDeque<ToOpen>,
    /// The names in `to_open`.
    queued: BTreeSet<TopicPartition>,
    opening: usize,
    tokens: Slab<TokenOf>,
    out: PartitionOut,
    applying: Option<Applying>,
    /// Partitions that are closing or being deleted.
    leaving: usize,
}

#[derive(Debug)]
struct Row {
    name: TopicPartition,
    partition: Partition,
    deadline: Option<Instant>,
}

#[derive(Debug)]
struct ToOpen {
    name: TopicPartition,
    dir: PathBuf,
    settings: TopicSettings,
}

/// Who asked for a disk operation.
#[derive(Clone, Copy, Debug)]
enum TokenOf {
    Partition {
        owner: u32,
        op: LogOp,
    },
    Meta(MetaOp),
    Journal(JournalOp),
    Replay(ReplayOp),
    /// What the core notes.
    Note,
    /// How full the volume is, for gossip.
    GossipSpace,
    /// A job that wants to know how much space there is.
    Space(Key),
    /// The rest of a topic whose deletion a stop interrupted.
    Leftover,
}

/// Metadata records this core is putting into effect.
#[derive(Debug)]
struct Applying {
    sequence: u64,
    left: usize,
}

impl Partitions {
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    pub fn owner_number(&self, name: TopicPartition) -> Option<u32> {
        self.by_name.get(&name).copied()
    }

    pub fn get(&self, name: TopicPartition) -> Option<&Partition> {
        self.rows[*self.by_name.get(&name)? as usize].as_ref().map(|row| &row.partition)
    }

    pub fn get_mut(&mut self, name: TopicPartition) -> Option<&mut Partition> {
        self.rows[*self.by_name.get(&name)? as usize].as_mut().map(|row| &mut row.partition)
    }

    pub fn name_of(&self, owner: u32) -> Option<TopicPartition> {
        self.rows.get(owner as usize)?.as_ref().map(|row| row.name)
    }

    pub fn iter(&self) -> impl Iterator<Item = (TopicPartition, &Partition)> {
        self.rows.iter().flatten().map(|row| (row.name, &row.partition))
    }

    pub fn by_owner(&self, owner: u32) -> Option<&Partition> {
        self.rows.get(owner as usize)?.as_ref().map(|row| &row.partition)
    }

    /// A token for a disk operation of the quorum.
    pub fn meta_token(&mut self, op: MetaOp) -> DiskToken {
        self.tokens.insert(TokenOf::Meta(op))
    }

    /// A token for a disk operation of the commit journal.
    pub fn journal_token(&mut self, op: JournalOp) -> DiskToken {
        self.tokens.insert(TokenOf::Journal(op))
    }

    /// A token for a disk operation of the replay of journals.
    pub fn replay_token(&mut self, op: ReplayOp) -> DiskToken {
        self.tokens.insert(TokenOf::Replay(op))
    }

    /// A token for writing what the core notes.
    pub fn note_token(&mut self) -> DiskToken {
        self.tokens.insert(TokenOf::Note)
    }

    /// A token for asking how full the volume is, for gossip.
    pub fn gossip_space_token(&mut self) -> DiskToken {
        self.tokens.insert(TokenOf::GossipSpace)
    }

    /// A token for asking on behalf of a job how much space there is.
    pub fn space_token(&mut self, job: Key) -> DiskToken {
        self.tokens.insert(TokenOf::Space(job))
    }

    /// The numbers given so far; those of partitions that have left are among them.
    pub fn owner_numbers(&self) -> std::ops::Range<u32> {
        0..self.rows.len() as u32
    }

    /// Nothing is open, opening or leaving.
    pub fn is_closed(&self) -> bool {
        self.leaving == 0 && self.opening == 0
    }
}

impl Shard {
    /// Calls one partition and passes on what it leaves to be done.
    pub(in crate::broker) fn on_partition<R>(
        &mut self,
        owner: u32,
        now: Now,
        effects: &mut Effects,
        call: impl FnOnce(&mut Partition, &mut TailCache, &mut PartitionOut) -> R,
    ) -> Option<R> {
        let mut out = mem::take(&mut self.partitions.out);
        let row = self.partitions.rows.get_mut(owner as usize)?.as_mut()?;
        let answer = call(&mut row.partition, &mut self.cache, &mut out);
        self.settle_partition(owner, &mut out, now, effects);
        self.partitions.out = out;
        Some(answer)
    }

    pub(in crate::broker) fn append_here(&mut self, entry: AppendEntry, now: Now, effects: &mut Effects) {
        let AppendEntry { to, mut batch } = entry;
        let mut watch = effects.watch;
        watch.arrived(&mut batch.trace, Stage::MeshHop);
        watch.waited(&mut batch.trace, Stage::Queue);
        let Some(owner) = self.partitions.owner_number(to) else {
            let result = AckResult::Refused(self.absent(to));
            return self.ack(Acked { to: batch.to, result, trace: batch.trace });
        };
        self.on_partition(owner, now, effects, |partition, cache, out| {
            partition.append(batch, cache, now, &mut watch, out);
        });
        effects.watch = watch;
    }

    pub(in crate::broker) fn watch_here(&mut self, core: CoreId, entries: &[WatchEntry]) {
        for &WatchEntry { of, seen, reader, follower } in entries {
            let watch = Watch { core, follower };
            let partition = self.partitions.get_mut(of);
            match partition.map_or(Watching::Changed, |partition| partition.watch(reader, watch, seen)) {
                Watching::Changed => self.tell_changed(watch),
                Watching::Aside => self.tell_aside(watch),
                Watching::Waits => {}
            }
        }
    }

    pub(in crate::broker) fn unwatch_here(&mut self, core: CoreId, entries: &[(TopicPartition, Follower)]) {
        for &(of, follower) in entries {
            if let Some(partition) = self.partitions.get_mut(of) {
                partition.unwatch(Watch { core, follower });
            }
        }
    }

    pub(in crate::broker) fn on_disk(&mut self, token: DiskToken, result: DiskResult, now: Now, effects: &mut Effects) {
        let of = self.partitions.tokens.remove(token).expect("the shell answers each operation once");
        let failed = matches!(&result, Err(error) if error.kind == DiskErrorKind::NotSynced);
        let result = if failed && bug::on(Bug::IgnoreFailedSync) { Ok(DiskDone::Done) } else { result };
        if let Err(DiskError { kind: DiskErrorKind::NotSynced, message }) = &result {
            self.take_directory_offline(&format!("a sync failed: {message}"), now, effects);
        }
        match of {
            TokenOf::Partition { owner, op } => {
                let called = self.on_partition(owner, now, effects, |partition, cache, out| {
                    partition.on_disk(op, result, cache, now, out);
                });
                assert!(called.is_some(), "a partition outlives its disk operations");
            }
            TokenOf::Meta(op) => Control::on_disk(self, op, result, now, effects),
            TokenOf::Journal(op) => self.on_journal_disk(op, result, now, effects),
            TokenOf::Replay(op) => self.on_replay_disk(op, result, now, effects),
            TokenOf::Note => self.on_noted(&result, now, effects),
            TokenOf::Space(job) => describe_log_dirs::on_space(self, job, result, effects),
            TokenOf::GossipSpace => self.on_gossip_space(result),
            TokenOf::Leftover => {
                if let Err(error) = result {
                    tracing::error!("cannot remove the rest of a deleted topic, will try at the next start: {error}");
                }
                self.applied_one(effects);
            }
        }
    }

    pub(in crate::broker) fn on_partition_timeout(&mut self, owner: u32, now: Now, effects: &mut Effects) {
        if let Some(Some(row)) = self.partitions.rows.get_mut(owner as usize) {
            row.deadline = None;
        }
        self.on_partition(owner, now, effects, |partition, cache, out| partition.on_timeout(cache, now, out));
    }

    /// Committed metadata: takes it into the image, opens and deletes partitions, and tells core 0 when that is done.
    pub(in crate::broker) fn on_meta(
        &mut self,
        sequence: u64,
        records: &[MetaRecord],
        now: Now,
        effects: &mut Effects,
    ) {
        // What is opened now would not be closed, and nobody asks any more.
        if matches!(self.life, Life::Closing | Life::Stopped) {
            return;
        }
        assert!(self.partitions.applying.is_none(), "core 0 sends the next records when these are applied");
        // Held above zero until everything is counted.
        self.partitions.applying = Some(Applying { sequence, left: 1 });
        for record in records {
            self.image.apply(record).expect("committed records fit each other");
        }
        self.on_brokers_changed(records, now, effects);
        if records.iter().any(|record| matches!(record, MetaRecord::ConfigChanged { .. })) {
            self.refresh_settings(now, effects);
        }
        for record in records {
            if let MetaRecord::ConfigChanged { resource: ConfigResource::ClientMetrics(name), settings } = record {
                self.telemetry.on_subscription(name, settings);
            }
        }
        if records.iter().any(|record| matches!(record, MetaRecord::QuotaChanged { .. })) {
            self.forget_quota_use(effects);
        }
        let mut deleted = Vec::new();
        for record in records {
            match record {
                MetaRecord::TopicCreated { id, .. } | MetaRecord::PartitionsAdded { id, .. } => {
                    let all = self.image.topic_by_id(*id).map(route::partitions_of);
                    self.queue_opens(*id, all.into_iter().flatten());
                }
                MetaRecord::TopicDeleted { id } => {
                    deleted.extend(self.image.deleting().find(|topic| topic.id == *id).map(|topic| topic.name.clone()));
                    self.delete_topic_here(*id, effects);
                }
                MetaRecord::TopicSettingsChanged { id, .. } => self.refresh_topic(*id, now, effects),
                MetaRecord::PartitionChanged { topic, partition, .. } => {
                    self.put_in_place(TopicPartition { topic: *topic, partition: *partition }, now, effects);
                }
                MetaRecord::BrokerRegistered(broker) => {
                    self.on_broker_met(broker, now, effects);
                    self.on_broker_changed(broker.id, now, effects);
                }
                MetaRecord::BrokerFenced { id }
                | MetaRecord::BrokerUnfenced { id }
                | MetaRecord::BrokerShuttingDown { id } => self.on_broker_changed(*id, now, effects),
                MetaRecord::TopicRemoved { .. }
                | MetaRecord::ClusterCreated { .. }
                | MetaRecord::ConfigChanged { .. }
                | MetaRecord::QuotaChanged { .. }
                | MetaRecord::ProducerIdsTaken { .. }
                | MetaRecord::BrokerUnregistered { .. }
                | MetaRecord::BrokerEpochsTaken { .. }
                | MetaRecord::VoteTaken { .. }
                | MetaRecord::VoteGiven { .. } => {}
            }
        }
        if !deleted.is_empty() {
            self.on_group_topics_deleted(&deleted, now);
        }
        self.open_more(now, effects);
        self.applied_one(effects);
    }

    /// Closes every partition for the end of the process.
    pub(in crate::broker) fn close_partitions(&mut self, now: Now, effects: &mut Effects) {
        self.note_committed();
        self.partitions.to_open.clear();
        self.partitions.queued.clear();
        self.replicas = Replicas::default();
        // One that is being deleted leaves by itself.
        let rows = self.partitions.owner_numbers().zip(&self.partitions.rows);
        let stay = rows.filter(|(_, row)| row.as_ref().is_some_and(|row| !row.partition.is_leaving()));
        let owners: Vec<u32> = stay.map(|(owner, _)| owner).collect();
        // Some are closed at once: all are counted first. One that is opening says that it is closed, and no more that it
        // is open.
        self.partitions.leaving += owners.len();
        self.partitions.opening = 0;
        for owner in owners {
            self.on_partition(owner, now, effects, |partition, cache, out| partition.close(cache, now, out));
        }
    }

    /// Those of a topic that are on this node, belong to this core, and are not there yet.
    fn queue_opens(&mut self, id: TopicId, partitions: impl Iterator<Item = TopicPartition>) {
        // A topic that was deleted further on in the same records is in the image no more.
        let Some(topic) = self.image.topic_by_id(id) else { return };
        let settings = TopicSettings::in_force(&self.config.settings, &topic.settings);
        let title = topic.name.clone();
        for name in partitions {
            let state = self.image.partition(name.topic, name.partition);
            let is_here = state.is_some_and(|state| state.has_replica(self.node()));
            let is_mine = is_here && self.owner(name.topic, name.partition) == self.core();
            if !is_mine || self.partitions.by_name.contains_key(&name) || !self.partitions.queued.insert(name) {
                continue;
            }
            let dir = PathBuf::from(format!("{title}-{}", name.partition));
            self.partitions.to_open.push_back(ToOpen { name, dir, settings: settings.clone() });
            self.count_to_apply();
        }
    }

    /// The controller has decided on a partition: it comes to this node, stays in whatever role, or goes. Until this run
    /// is registered none goes: records that are not here yet may say that it is in sync after all.
    pub(in crate::broker) fn put_in_place(&mut self, of: TopicPartition, now: Now, effects: &mut Effects) {
        if self.owner(of.topic, of.partition) != self.core() {
            return;
        }
        // Of a topic that was deleted further on in the same records there is nothing.
        let Some(state) = self.image.partition(of.topic, of.partition) else { return };
        match self.partitions.owner_number(of) {
            None => self.queue_opens(of.topic, iter::once(of)),
            Some(_) if state.has_replica(self.node()) => self.assign_here(of, &state.clone(), now, effects),
            Some(owner) => {
                let is_leaving = self.partitions.by_owner(owner).is_some_and(Partition::is_leaving);
                if self.may_take_roles() && !is_leaving {
                    self.count_to_apply();
                    self.delete_partition(owner, now, effects);
                }
            }
        }
    }

    fn delete_partition(&mut self, owner: u32, now: Now, effects: &mut Effects) {
        self.partitions.leaving += 1;
        self.on_partition(owner, now, effects, |partition, cache, out| partition.delete(cache, out));
        if let Some(of) = self.partitions.name_of(owner) {
            self.replicas.forget(owner, of);
        }
    }

    /// Puts settings of a topic into effect, in the partitions of it that are open here or about to be.
    pub(in crate::broker) fn refresh_topic(&mut self, id: TopicId, now: Now, effects: &mut Effects) {
        let Some(topic) = self.image.topic_by_id(id) else { return };
        let settings = TopicSettings::in_force(&self.config.settings, &topic.settings);
        for to_open in self.partitions.to_open.iter_mut().filter(|to_open| to_open.name.topic == id) {
            to_open.settings = settings.clone();
        }
        let first = TopicPartition { topic: id, partition: PartitionIndex(0) };
        let last = TopicPartition { topic: id, partition: PartitionIndex(i32::MAX) };
        let owners: Vec<u32> = self.partitions.by_name.range(first..=last).map(|(_, owner)| *owner).collect();
        if !owners.is_empty() {
            self.prepare_commits(&settings);
        }
        let direct_bytes = self.commits.direct_bytes();
        for owner in owners {
            self.on_partition(owner, now, effects, |partition, _, out| {
                partition.set_settings(settings.clone(), now, out);
                if let Some(bytes) = direct_bytes {
                    partition.set_direct_bytes(bytes);
                }
            });
        }
    }

    fn delete_topic_here(&mut self, id: TopicId, effects: &mut Effects) {
        let Some(topic) = self.image.deleting().find(|topic| topic.id == id).cloned() else { return };
        for partition in 0..topic.partitions {
            let name = TopicPartition { topic: id, partition: PartitionIndex(partition) };
            if self.owner(id, name.partition) != self.core() {
                continue;
            }
            self.count_to_apply();
            let now = Now::default();
            match self.partitions.owner_number(name) {
                Some(owner) => self.delete_partition(owner, now, effects),
                None => {
                    let token = self.partitions.tokens.insert(TokenOf::Leftover);
                    let dir = PathBuf::from(format!("{}-{partition}", topic.name));
                    effects.push(Effect::Disk { token, op: DiskOp::DeleteDir { dir } });
                }
            }
        }
    }

    fn open_more(&mut self, now: Now, effects: &mut Effects) {
        while self.partitions.opening < limits::PARTITIONS_OPENING_MAX {
            let Some(ToOpen { name, dir, settings }) = self.partitions.to_open.pop_front() else { return };
            self.partitions.queued.remove(&name);
            let owner = u32::try_from(self.partitions.rows.len()).expect("fewer than 2^32 partitions in a run");
            let mut out = mem::take(&mut self.partitions.out);
            self.prepare_commits(&settings);
            let kept = Kept { must_reach: self.commits.take_must_reach(name), committed: self.noting.committed(name) };
            let node = self.node();
            let place = Place { node, lag_time_max_ms: self.config.settings.replica_lag_time_max_ms };
            let assigned = self.image.partition(name.topic, name.partition);
            let assigned = assigned.expect("records are applied when what the ones before ask for is open");
            let assigned = self.may_take_roles().then_some(assigned);
            let mut partition = Partition::open(owner, dir, settings, place, assigned, kept, now, &mut out);
            if let Some(bytes) = self.commits.direct_bytes() {
                partition.set_direct_bytes(bytes);
            }
            self.partitions.rows.push(Some(Row { name, partition, deadline: None }));
            self.partitions.by_name.insert(name, owner);
            self.partitions.opening += 1;
            self.settle_partition(owner, &mut out, now, effects);
            self.partitions.out = out;
        }
    }

    fn settle_partition(&mut self, owner: u32, out: &mut PartitionOut, now: Now, effects: &mut Effects) {
        self.metrics.add(Metric::AppendedBytes, mem::take(&mut out.appended_bytes));
        let (segments, bytes) = mem::take(&mut out.removed);
        self.metrics.add(Metric::SegmentsDeleted, segments);
        self.metrics.add(Metric::SegmentsDeletedBytes, bytes);
        for (op, disk_op) in out.disk.drain(..) {
            if matches!(disk_op, DiskOp::Write { .. }) {
                self.metrics.add(Metric::SegmentWriteBytes, disk_op.write_bytes());
            }
            let token = self.partitions.tokens.insert(TokenOf::Partition { owner, op });
            effects.push(Effect::Disk { token, op: disk_op });
        }
        if !out.journal.is_empty()
            && let Some(Some(Row { name, .. })) = self.partitions.rows.get(owner as usize)
        {
            let name = *name;
            for piece in out.journal.drain(..) {
                self.commit_later(owner, name, piece);
            }
        }
        if mem::take(&mut out.committed) {
            self.noting.on_committed();
        }
        if let Some(upto) = out.flushed.take() {
            let name = self.partitions.rows.get(owner as usize).and_then(|row| row.as_ref().map(|row| row.name));
            if name.is_some_and(|name| self.noting.on_durable(name, upto)) {
                self.commits.forget(owner);
            }
            self.commits.on_flushed(owner, upto.end);
        }
        for acked in out.acked.drain(..) {
            self.ack(acked);
        }
        for watch in out.woken.drain(..) {
            self.tell_changed(watch);
        }
        for watch in out.told_aside.drain(..) {
            self.tell_aside(watch);
        }
        for (ticket, result) in out.read.drain(..) {
            // Not now: whoever holds the ticket may have to be told its number first.
            self.todo.push_back(Todo::LateRead { owner, ticket, result });
        }
        for (ticket, result) in out.found.drain(..) {
            self.todo.push_back(Todo::LateFind { owner, ticket, result });
        }
        for (ticket, result) in out.deleted.drain(..) {
            self.todo.push_back(Todo::LateDeletion { owner, ticket, result });
        }
        if let Some(result) = out.cleaned.take() {
            self.on_cleaned(owner, result, now);
        }
        for note in out.notes.drain(..) {
            tracing::warn!("{}: {note}", self.partition_title(owner));
        }
        let (proposal, followed) = (out.isr_change.take(), out.followed.take());
        let established = mem::take(&mut out.established);
        if let Some((proposal, of)) = proposal.zip(self.partitions.name_of(owner)) {
            self.on_isr_change(of, proposal);
        }
        if let Some(followed) = followed {
            self.on_followed(owner, followed, now);
        }
        self.refresh_deadline(owner);
        if let Some(change) = out.changed.take() {
            self.on_state_change(owner, change, now, effects);
        }
        if established && let Some(of) = self.partitions.name_of(owner) {
            self.on_group_partition_established(owner, of, now, effects);
        }
    }

    fn refresh_deadline(&mut self, owner: u32) {
        let Some(Some(row)) = self.partitions.rows.get_mut(owner as usize) else { return };
        let next = row.partition.next_deadline();
        // One that comes too early does no harm, and to move it with each append costs more.
        if row.deadline.is_some_and(|set| next.is_none_or(|next| set <= next)) {
            return;
        }
        if let Some(old) = row.deadline {
            self.deadlines.clear(old, DeadlineKey::Partition(owner));
        }
        if let Some(new) = next {
            self.deadlines.set(new, DeadlineKey::Partition(owner));
        }
        row.deadline = next;
    }

    fn on_state_change(&mut self, owner: u32, change: StateChange, now: Now, effects: &mut Effects) {
        match change {
            StateChange::Opened => {
                self.prepare_cleaning(now);
                if let Some(message) = self.offline.clone() {
                    self.on_partition(owner, now, effects, |partition, cache, out| {
                        partition.take_offline(&message, cache, out);
                    });
                }
                self.on_opened_one(now, effects);
            }
            StateChange::OpenFailed { message, kept } => {
                let name = self.partition_title(owner);
                tracing::error!("{name} is offline, other partitions go on: {message}");
                if !kept {
                    let message = format!(
                        "{name} lacks what the commit journal knows of, which could not be written down: {message}. The \
                         journals are as they were and nothing is lost: put the disk right and start again"
                    );
                    return effects.push(Effect::Fatal { message });
                }
                self.on_opened_one(now, effects);
            }
            StateChange::Closed => {
                self.forget_partition(owner);
                self.check_stopped(now, effects);
            }
            StateChange::Deleted => {
                if let Some(Some(Row { name, .. })) = self.partitions.rows.get(owner as usize) {
                    self.noting.forget(*name);
                }
                // Of one that is closed the journal may have what its segment could not take.
                self.commits.forget(owner);
                self.forget_partition(owner);
                self.applied_one(effects);
                self.check_stopped(now, effects);
            }
        }
    }

    fn on_opened_one(&mut self, now: Now, effects: &mut Effects) {
        assert!(self.partitions.opening > 0);
        self.partitions.opening -= 1;
        self.applied_one(effects);
        self.open_more(now, effects);
    }

    fn forget_partition(&mut self, owner: u32) {
        assert!(self.partitions.leaving > 0);
        self.partitions.leaving -= 1;
        let row = self.partitions.rows[owner as usize].take().expect("a partition leaves once");
        if let Some(deadline) = row.deadline {
            self.deadlines.clear(deadline, DeadlineKey::Partition(owner));
        }
        self.partitions.by_name.remove(&row.name);
        self.reads.forget(owner);
        self.replicas.forget(owner, row.name);
        self.cleaning.forget(owner);
        self.forget_coordinator(owner);
    }

    pub(in crate::broker) fn partition_title(&self, owner: u32) -> String {
        let Some(Some(row)) = self.partitions.rows.get(owner as usize) else { return String::from("a partition") };
        let topic = self.image.topic_by_id(row.name.topic).map_or("?", |topic| topic.name.as_str());
        format!("{topic}-{}", row.name.partition)
    }

    fn count_to_apply(&mut self) {
        let applying = self.partitions.applying.as_mut().expect("partitions come and go by metadata records");
        applying.left += 1;
    }

    fn applied_one(&mut self, effects: &mut Effects) {
        let Some(applying) = self.partitions.applying.as_mut() else { return };
        applying.left -= 1;
        if applying.left == 0 {
            let sequence = applying.sequence;
            self.partitions.applying = None;
            self.send(CoreId(0), ShardMessage::MetaApplied { sequence }, effects);
        }
    }
}
