//! The commit journal of a core, between its partitions and the disk.
//!
//! What partitions hand over in a step is committed together at the end of it, or with what the next steps bring while
//! a commit is under way. The journal is there when the first partition may need it, and its file is opened when
//! nothing of what earlier runs left in it is needed any more.
//!
//! *Owns*: the core's journal, and how far each log must reach after a replay. *Never*: looks into a log.
//! *Runs on*: every core.

use std::collections::BTreeMap;
use std::mem;

use crate::base::disk::{DiskResult, FileId};
use crate::base::ids::Offset;
use crate::base::limits::JOURNAL_WAIT_MS;
use crate::base::time::{Instant, Now};
use crate::broker::effect::{Effect, Effects};
use crate::broker::message::TopicPartition;
use crate::broker::shard::{DeadlineKey, Shard};
use crate::config::{Durability, TopicSettings};
use crate::journal::format::{EntryHead, Identity};
use crate::journal::journal::{Entry, Gauges, Journal, JournalEvent, JournalOp, JournalOut};
use crate::log::commit::ToJournal;
use crate::log::log::WriteTimes;
use crate::log::reach::MustReach;

/// The owner number of the journal's file.
const JOURNAL_OWNER: u32 = u32::MAX - 1;

#[derive(Debug, Default)]
pub struct Commits {
    journal: Option<Journal>,
    /// Those of earlier runs are empty.
    may_open: bool,
    closing: bool,
    closed: bool,
    deadline: Option<Instant>,
    out: JournalOut,
    /// What the device has taught, where `journal.direct.bytes` leaves it to that.
    direct_bytes: Option<u64>,
    /// From the replay, for partitions that have not been opened yet.
    must_reach: BTreeMap<TopicPartition, MustReach>,
}

impl Commits {
    pub fn gauges(&self) -> Gauges {
        self.journal.as_ref().map(Journal::gauges).unwrap_or_default()
    }

    /// What the device has taught of when segments are better written directly.
    pub fn direct_bytes(&self) -> Option<u64> {
        self.direct_bytes
    }

    /// What the journals said of a log that is now opened.
    pub fn take_must_reach(&mut self, name: TopicPartition) -> MustReach {
        self.must_reach.remove(&name).unwrap_or_default()
    }

    pub fn on_replayed(&mut self, must_reach: Vec<(TopicPartition, MustReach)>) {
        assert!(self.journal.is_none(), "journals are replayed before partitions are opened");
        self.must_reach.extend(must_reach);
    }

    /// The journals of earlier runs are empty, and nobody reads any more what was noted then.
    pub fn may_open(&self) -> bool {
        self.may_open
    }

    /// The journal is noted.
    pub fn begin(&mut self) {
        if let Some(journal) = &mut self.journal {
            journal.begin();
        }
    }

    /// The journals of earlier runs are empty.
    pub fn open(&mut self) {
        assert!(!self.may_open, "said once");
        self.may_open = true;
        if let Some(journal) = &mut self.journal {
            journal.open(&mut self.out);
        }
    }

    /// The end of the step pumps the journal.
    pub fn on_timeout(&mut self) {
        self.deadline = None;
    }

    /// The segments of a partition are durable below `upto`.
    pub fn on_flushed(&mut self, owner: u32, upto: Offset) {
        if let Some(journal) = &mut self.journal {
            journal.on_flushed(owner, upto);
        }
    }

    pub fn forget(&mut self, owner: u32) {
        if let Some(journal) = &mut self.journal {
            journal.forget(owner);
        }
    }

    /// The data directory takes no more writes.
    pub fn end_writing(&mut self) {
        if let Some(journal) = &mut self.journal {
            journal.end_writing();
        }
    }

    /// Nothing is open.
    pub fn is_closed(&self) -> bool {
        self.journal.is_none() || self.closed
    }
}

impl Shard {
    /// Makes the journal if a partition with these settings may need it.
    pub(in crate::broker) fn prepare_commits(&mut self, settings: &TopicSettings) {
        if settings.durability == Durability::Write
            || settings.journal_direct_bytes == 0
            || self.commits.journal.is_some()
        {
            return;
        }
        let identity = Identity {
            cluster: self.image.cluster_id().to_owned(),
            node: self.config.settings.node_id,
            core: self.config.core,
            cores: self.config.cores,
        };
        let file = FileId::new(JOURNAL_OWNER, 1);
        let (bytes, key) = (self.config.settings.journal_bytes, self.rng.next_u64());
        let mut journal = Journal::new(identity, bytes, key, file);
        if self.commits.may_open {
            journal.open(&mut self.commits.out);
        }
        self.commits.journal = Some(journal);
    }

    pub(in crate::broker) fn commit_later(&mut self, owner: u32, name: TopicPartition, piece: ToJournal) {
        let ToJournal { segment, position, truncations, epoch, base, next, slices, len } = piece;
        let journal = self.commits.journal.as_mut().expect("a log that commits was opened after the journal was made");
        let TopicPartition { topic, partition } = name;
        let len = u32::try_from(len).expect("the log bounds what it hands over");
        let head = EntryHead { topic, partition, epoch, segment, position, truncations, base, next, len };
        journal.append(Entry { owner, head, slices });
    }

    pub(in crate::broker) fn on_journal_disk(
        &mut self,
        op: JournalOp,
        result: DiskResult,
        now: Now,
        effects: &mut Effects,
    ) {
        let journal = self.commits.journal.as_mut().expect("it asked for this");
        journal.on_disk(op, result, now, &mut self.commits.out);
        self.settle_commits(now, effects);
        self.learn(now, effects);
    }

    /// At the end of a step: commits what it left.
    pub(in crate::broker) fn commit(&mut self, now: Now, effects: &mut Effects) {
        let Some(journal) = &mut self.commits.journal else { return };
        journal.pump(now, &mut self.commits.out);
        let next = journal.next_deadline();
        let old = mem::replace(&mut self.commits.deadline, next);
        if old != next {
            old.into_iter().for_each(|old| self.deadlines.clear(old, DeadlineKey::Journal));
            next.into_iter().for_each(|next| self.deadlines.set(next, DeadlineKey::Journal));
        }
        self.settle_commits(now, effects);
    }

    /// Tells the partitions when the device turns out to be another than was thought.
    fn learn(&mut self, now: Now, effects: &mut Effects) {
        let Some(learned) = self.commits.journal.as_ref().and_then(Journal::direct_bytes) else { return };
        let near = |known: u64| learned.abs_diff(known) <= known / 4;
        if self.config.settings.journal_direct_bytes >= 0 || self.commits.direct_bytes.is_some_and(near) {
            return;
        }
        tracing::debug!(core = self.config.core.0, bytes = learned, "from so much on segments are written directly");
        self.commits.direct_bytes = Some(learned);
        for owner in self.partitions.owner_numbers() {
            self.on_partition(owner, now, effects, |partition, _, _| partition.set_direct_bytes(learned));
        }
    }

    /// Once all partitions are closed. Ends in `Shard::check_stopped`.
    pub(in crate::broker) fn close_commits(&mut self, now: Now, effects: &mut Effects) {
        let Some(journal) = self.commits.journal.as_mut().filter(|_| !self.commits.closing) else { return };
        self.commits.closing = true;
        journal.close(&mut self.commits.out);
        self.settle_commits(now, effects);
    }

    fn settle_commits(&mut self, now: Now, effects: &mut Effects) {
        while !(self.commits.out.disk.is_empty() && self.commits.out.events.is_empty()) {
            for (op, disk_op) in self.commits.out.disk.drain(..) {
                let token = self.partitions.journal_token(op);
                effects.push(Effect::Disk { token, op: disk_op });
            }
            let mut events = mem::take(&mut self.commits.out.events);
            for event in events.drain(..) {
                self.on_journal_event(event, now, effects);
            }
            if self.commits.out.events.is_empty() {
                self.commits.out.events = events;
            }
        }
    }

    fn on_journal_event(&mut self, event: JournalEvent, now: Now, effects: &mut Effects) {
        match event {
            JournalEvent::Made { key } => self.noting.set_journal(key),
            JournalEvent::Committed { owner, next, times } => {
                let times = WriteTimes { began: times.began, written: times.safe, safe: times.safe };
                self.on_partition(owner, now, effects, |partition, _, out| {
                    partition.on_committed(next, times, now, out);
                });
            }
            JournalEvent::FlushWanted { owner } => {
                self.on_partition(owner, now, effects, |partition, _, out| partition.flush(now, out));
            }
            JournalEvent::Overdue { holder } => {
                let holder = holder.map_or("nobody".to_owned(), |owner| self.partition_title(owner));
                tracing::error!(
                    "core {}: the commit journal has been full for {JOURNAL_WAIT_MS} ms, most of it kept for {holder}, \
                     whose segment does not get what it has there. Until there is space, appends are written to their \
                     segments and synced one by one: slower, and as safe",
                    self.core()
                );
            }
            JournalEvent::HandedBack { owner } => {
                self.on_partition(owner, now, effects, |partition, _, out| partition.on_handed_back(now, out));
            }
            JournalEvent::OpenFailed { message } => {
                let message = format!(
                    "{message}. Each core needs journal.bytes of space for its journal; nothing was lost. Make space, or \
                     set journal.bytes lower, or to 0 for no journal"
                );
                effects.push(Effect::Fatal { message });
            }
            JournalEvent::Failed { message } => self.take_directory_offline(&message, now, effects),
            JournalEvent::Closed => {
                self.commits.closed = true;
                if self.commits.journal.as_ref().is_some_and(Journal::is_empty) {
                    self.noting.set_journal(0);
                }
                self.check_stopped(now, effects);
            }
        }
    }
}
