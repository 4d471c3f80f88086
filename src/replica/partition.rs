//! A partition replica: the log, its role, the high watermark, and who waits for what.
//!
//! What is *safe* is written here as durably as the topic demands: a leader's followers may read it. What is *committed*
//! is safe on all in-sync replicas, and lies below the high watermark: consumers may read it. Where the leader is the
//! only replica both are the same, and acks=1 and acks=all mean the same.
//!
//! *Owns*: when an append is acknowledged and who is told that records became visible. *Never*: reads a clock.
//! *Runs on*: the core that owns the partition.

use std::path::PathBuf;

use bytes::Bytes;

use crate::base::bounds::Reach;
use crate::base::bug::{self, Bug};
use crate::base::disk::{DiskOp, DiskResult};
use crate::base::ids::{CoreId, LeaderEpoch, NodeId, Offset, PartitionIndex};
use crate::base::slab::Key;
use crate::base::stage::{Stage, Stopwatch, Trace};
use crate::base::time::{Instant, Now};
use crate::config::TopicSettings;
use crate::log::cache::{ReadBy, TailCache};
use crate::log::clean::{CleanCounts, CleanOrder};
use crate::log::commit::ToJournal;
use crate::log::dirt::Dirt;
use crate::log::log::{
    ActiveProducer, AppendError, Find, FoundOffset, Log, LogEvent, LogOp, LogOut, LogSlices, Read, ReadError,
    ReadTicket, WriteTimes,
};
use crate::log::reach::MustReach;
use crate::log::read::ReadWish;
use crate::meta::PartitionState;
use crate::wire::batch::{self, BatchError, BatchLimits};
use crate::wire::records::check_keys;

use super::acks::Acks;
use super::deletion::{DeletionTicket, Deletions};
use super::follower::{Followed, Following};
use super::isr::{Isr, IsrProposal};
use super::watches::Watches;

/// Who is told how an append ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AckTo {
    /// A job of a core, and which part of it.
    Job { core: CoreId, job: Key, at: u32 },
    /// The coordinator on this partition of `__consumer_offsets`, if it is still the one of that load (counted on the
    /// core). Its batches are the broker's own: what topics allow of producers does not concern them.
    Coordinator { partition: PartitionIndex, load: u32 },
}

/// The end of an append, for whoever is to be told, with the stamps of its way.
#[derive(Debug)]
pub struct Acked {
    pub to: AckTo,
    pub result: AckResult,
    pub trace: Trace,
}

/// What an append waits for before it is acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AckWhen {
    /// It is safe on the leader (acks=1).
    Safe,
    /// It is committed (acks=all). Where that depends on other replicas the client waits until `due`, if it says so.
    Committed { due: Option<Instant> },
}

/// A batch that a Produce request brought for a partition.
#[derive(Debug)]
pub struct Brought {
    pub records: Bytes,
    /// Of the request: some checks depend on it.
    pub produce_version: i16,
    pub when: AckWhen,
    pub to: AckTo,
    pub trace: Trace,
}

/// How an append ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AckResult {
    /// Stored as the topic's durability demands. A duplicate is answered like the original.
    Stored {
        base: Offset,
        log_append_time_ms: i64,
        log_start: Offset,
    },
    Refused(Refusal),
}

/// Why an append was not stored. Nothing of the batch is in the log, and none of it will be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    Batch(BatchError),
    Append(AppendError),
    /// The write failed. With `full`, sending again later makes sense.
    NotWritten {
        full: bool,
        message: String,
    },
    /// Records of a topic that is only compacted are not deleted.
    NotDeletable,
    /// The offset is not one of the log's.
    OffsetOutOfRange,
    /// The partition is opening, closing, or its log cannot be read.
    Unavailable,
    /// The topic was deleted meanwhile.
    Deleted,
    /// The leader epoch the client believes in is older, or newer, than this replica's.
    FencedEpoch,
    UnknownEpoch,
    /// Another replica leads, or none does.
    NotLeader,
    /// Fewer replicas are in sync than `min.insync.replicas`.
    NotEnoughReplicas,
    /// The same, but the batch is in the log and may be committed yet.
    NotEnoughReplicasAfterAppend,
    /// Not all in-sync replicas had the batch when the client's time was over. It may be committed yet.
    TimedOut,
}

/// Who reads: consumers what is committed, replicas what is safe.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reader {
    Consumer,
    Replica,
}

/// What a replica knows of the node it is on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    pub node: NodeId,
    /// `replica.lag.time.max.ms`.
    pub lag_time_max_ms: u64,
}

/// What is known of a replica from before the start.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Kept {
    pub must_reach: MustReach,
    /// As [`Partition::committed`] has said.
    pub committed: Reach,
}

/// Who wants to be told, once, when what there is to read of a partition has changed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Follower {
    /// A fetch without a session, while it waits after this round.
    Fetch { job: Key, round: u32 },
    /// A partition of a fetch session, for as long as the session follows it.
    Session { id: i32, row: Key },
}

/// A follower, and the core that it is on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Watch {
    pub core: CoreId,
    pub follower: Follower,
}

/// What a follower knows of a partition that it wants to watch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Seen {
    /// See [`Partition::changes`].
    pub changes: u64,
    pub high_watermark: Offset,
}

/// What became of the wish to watch a partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Watching {
    /// It has changed meanwhile: nothing is kept.
    Changed,
    /// The watch is kept, but more is committed than the follower knows.
    Aside,
    /// The watch is kept.
    Waits,
}

/// What a call left to be done, filled by every `&mut` method and emptied by the caller.
#[derive(Debug, Default)]
pub struct PartitionOut {
    pub disk: Vec<(LogOp, DiskOp)>,
    pub journal: Vec<ToJournal>,
    /// The journal may let go of what lies below; after a truncation, of everything.
    pub flushed: Option<Reach>,
    pub acked: Vec<Acked>,
    pub woken: Vec<Watch>,
    /// Replicas whose next answer is to say how far records are committed. They wait on for records.
    pub told_aside: Vec<Watch>,
    pub read: Vec<(ReadTicket, Result<LogSlices, ReadError>)>,
    pub found: Vec<(ReadTicket, Result<Option<FoundOffset>, ReadError>)>,
    pub changed: Option<StateChange>,
    /// What was not as it should be in the files: for people.
    pub notes: Vec<String>,
    /// Bytes of record batches that were taken.
    pub appended_bytes: u64,
    /// A compaction ended.
    pub cleaned: Option<Result<CleanCounts, String>>,
    /// Segments that were removed, and bytes of batches in them.
    pub removed: (u64, u64),
    /// The ends of [`Partition::delete_records`]: below this no in-sync replica has anything.
    pub deleted: Vec<(DeletionTicket, Result<Offset, Refusal>)>,
    /// For the controller.
    pub isr_change: Option<IsrProposal>,
    /// All is committed that the log held when this node became its leader.
    pub established: bool,
    /// The high watermark of a partition with other replicas is another.
    pub committed: bool,
    /// What became of what was fetched from the leader.
    pub followed: Option<Followed>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StateChange {
    Opened,
    /// The replica is offline. Unless it is `kept`, only the journals know what the log must reach.
    OpenFailed {
        message: String,
        kept: bool,
    },
    Closed,
    Deleted,
}

#[derive(Debug)]
pub struct Partition {
    pub(super) log: Log,
    pub(super) state: State,
    pub(super) place: Place,
    pub(super) epoch: LeaderEpoch,
    pub(super) role: Role,
    pub(super) settings: TopicSettings,
    /// What the log has said to be safe.
    pub(super) safe_end: Offset,
    /// Invariant: log start ≤ high watermark ≤ safe end ≤ log end.
    pub(super) high_watermark: Offset,
    /// Before the log is open: what is known of the high watermark.
    committed_before: Reach,
    /// This leader has said that all it began with is committed.
    pub(super) is_established: bool,
    pub(super) acks: Acks,
    /// Of what consumers are told: high watermark, log start, whether it is online, who leads.
    committed: Watches,
    /// The same for replicas, with the safe end.
    safe: Watches,
    /// As of the last change.
    pub(super) log_start: Offset,
    pub(super) deletions: Deletions,
    /// Of the write that moved the safe end last.
    write_times: WriteTimes,
    pub(super) log_out: LogOut,
}

#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(super) enum State {
    Opening,
    Online,
    /// A follower's log is being cut: nothing can be said of it.
    Cutting,
    Offline,
    Leaving,
}

#[derive(Debug)]
pub(super) enum Role {
    Leader(Isr),
    Follower(Following),
}

impl Partition {
    /// Starts recovery; usable after [`StateChange::Opened`]. `owner` is unique on the core for ever. Without an
    /// assignment this replica neither leads nor follows before [`Partition::assign`].
    #[expect(clippy::too_many_arguments, reason = "what a replica is made of")]
    pub fn open(
        owner: u32,
        dir: PathBuf,
        settings: TopicSettings,
        place: Place,
        assigned: Option<&PartitionState>,
        kept: Kept,
        now: Now,
        out: &mut PartitionOut,
    ) -> Partition {
        let mut log_out = LogOut::default();
        let log = Log::open(owner, dir, settings.clone(), kept.must_reach, now, &mut log_out);
        let mut partition = Partition {
            log,
            state: State::Opening,
            place,
            epoch: assigned.map_or(LeaderEpoch::UNKNOWN, PartitionState::leader_epoch),
            role: assigned.map_or_else(Role::none, |state| Role::of(place, state, Offset(0), now)),
            settings,
            safe_end: Offset(0),
            high_watermark: Offset(0),
            committed_before: kept.committed,
            is_established: false,
            acks: Acks::default(),
            committed: Watches::default(),
            safe: Watches::default(),
            log_start: Offset(0),
            deletions: Deletions::default(),
            write_times: WriteTimes::default(),
            log_out,
        };
        partition.settle(out);
        partition
    }

    pub fn on_disk(&mut self, op: LogOp, result: DiskResult, cache: &mut TailCache, now: Now, out: &mut PartitionOut) {
        self.log.on_disk(op, result, cache, now, &mut self.log_out);
        self.take_log_out(out);
        self.follow_start(now);
        self.settle(out);
    }

    /// The journal has what was handed over up to `next`.
    pub fn on_committed(&mut self, next: Offset, times: WriteTimes, now: Now, out: &mut PartitionOut) {
        self.log.on_committed(next, times, now, &mut self.log_out);
        self.take_log_out(out);
        self.follow_start(now);
        self.settle(out);
    }

    /// The journal has no space for what was handed over last.
    pub fn on_handed_back(&mut self, now: Now, out: &mut PartitionOut) {
        self.log.on_handed_back(now, &mut self.log_out);
        self.settle(out);
    }

    /// With so many bytes pending the segment is written directly from now on, as far as the journal allows more.
    pub fn set_direct_bytes(&mut self, bytes: u64) {
        self.log.set_direct_bytes(bytes.min(self.settings.journal_direct_bytes));
    }

    /// What holds from the next append on.
    pub fn set_settings(&mut self, settings: TopicSettings, now: Now, out: &mut PartitionOut) {
        self.settings = settings.clone();
        self.log.set_settings(settings, now, &mut self.log_out);
        self.settle(out);
    }

    /// The journal wants its space back.
    pub fn flush(&mut self, now: Now, out: &mut PartitionOut) {
        self.log.flush(now, &mut self.log_out);
        self.settle(out);
    }

    /// Checks and appends what a Produce request brought for this partition. The answer comes through
    /// `out.acked`: at once when refused, otherwise when the batch is safe.
    pub fn append(
        &mut self,
        mut brought: Brought,
        cache: &mut TailCache,
        now: Now,
        watch: &mut Stopwatch,
        out: &mut PartitionOut,
    ) {
        match self.try_append(&mut brought, cache, now, watch) {
            Ok(appended_bytes) => {
                out.appended_bytes += appended_bytes;
                self.settle(out);
            }
            Err(refusal) => {
                self.settle(out);
                let Brought { to, trace, .. } = brought;
                out.acked.push(Acked { to, result: AckResult::Refused(refusal), trace });
            }
        }
    }

    /// Whole batches from the one that holds `from`, as far as the reader may see.
    pub fn read(
        &mut self,
        reader: Reader,
        from: Offset,
        bytes_max: usize,
        at_least_one: bool,
        cache: &mut TailCache,
        out: &mut PartitionOut,
    ) -> Result<Read, ReadError> {
        let by = match reader {
            Reader::Consumer => ReadBy::Consumer,
            Reader::Replica => ReadBy::Replica,
        };
        let wish = ReadWish { from, until: self.end_for(reader), bytes_max, at_least_one, by };
        let read = self.log.read(wish, cache, &mut self.log_out);
        self.settle(out);
        read
    }

    /// The first record at or after a time, below the high watermark.
    pub fn find_timestamp(&mut self, timestamp_ms: i64, now: Now, out: &mut PartitionOut) -> Result<Find, ReadError> {
        let found = self.log.find_timestamp(timestamp_ms, self.high_watermark, now, &mut self.log_out);
        self.settle(out);
        found
    }

    /// The record with the greatest timestamp, below the high watermark (KIP-734).
    pub fn find_max_timestamp(&mut self, now: Now, out: &mut PartitionOut) -> Result<Find, ReadError> {
        let found = self.log.max_timestamp(self.high_watermark, now, &mut self.log_out);
        self.settle(out);
        found
    }

    /// Of each key the last record is enough.
    pub fn is_compacted(&self) -> bool {
        self.settings.cleanup_policy.compact
    }

    /// What there is to compact, if it is enough. Nothing while something of it may still be given up: what superseded
    /// the records that compaction removes would be gone too.
    pub fn dirt(&mut self, now: Now, out: &mut PartitionOut) -> Option<Dirt> {
        if self.high_watermark < self.log.sealed_end() && !bug::on(Bug::CompactUncommitted) {
            return None;
        }
        let dirt = self.log.dirt(now, &mut self.log_out);
        self.settle(out);
        dirt
    }

    /// Begins to compact, if there is anything; then [`PartitionOut::cleaned`] says so. False when there is not.
    pub fn clean(&mut self, order: CleanOrder, now: Now, out: &mut PartitionOut) -> bool {
        let begun = self.log.clean(order, now, &mut self.log_out);
        self.settle(out);
        begun
    }

    /// The largest epoch ≤ `epoch` this log knows and where it ends (KIP-320); a leader's own has begun even where it
    /// holds nothing. None: nothing that old.
    pub fn epoch_end(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        self.epoch_end_below(self.safe_end, epoch)
    }

    fn epoch_end_below(&self, bound: Offset, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        let known = self.log.epoch_end(epoch);
        let is_past = epoch >= LeaderEpoch(0) && epoch < self.epoch;
        let known = known.or_else(|| match self.log.latest_epoch() {
            _ if epoch == self.epoch => Some((epoch, bound)),
            latest => is_past.then_some((latest.unwrap_or(epoch), bound)),
        });
        known.map(|(epoch, end)| (epoch, end.min(bound)))
    }

    /// Whether somebody who has `last` as the epoch of what lies before `from` (−1: nothing) has records that this log
    /// does not: the largest epoch that both may have, and its end here (KIP-595). What is not safe here yet a replica
    /// may have from the leader before, and is not to give it up for that.
    pub fn diverging(&self, reader: Reader, last: LeaderEpoch, from: Offset) -> Option<(LeaderEpoch, Offset)> {
        let bound = match reader {
            Reader::Consumer => self.safe_end,
            Reader::Replica => self.log.end(),
        };
        let (epoch, end) = self.epoch_end_below(bound, last)?;
        if bug::on(Bug::KeepDivergent) && epoch == last {
            return None;
        }
        (epoch < last || end < from).then_some((epoch, end))
    }

    /// Compares the epoch a client believes in (−1: none) with this replica's, which must lead.
    pub fn check_leader(&self, current: LeaderEpoch) -> Result<(), Refusal> {
        self.check_epoch(current)?;
        if self.is_leader() { Ok(()) } else { Err(Refusal::NotLeader) }
    }

    /// The same for a consumer that may read from any replica: this one must have a leader.
    pub fn check_replica(&self, current: LeaderEpoch) -> Result<(), Refusal> {
        self.check_epoch(current)?;
        if self.leader().is_some() { Ok(()) } else { Err(Refusal::NotLeader) }
    }

    fn check_epoch(&self, current: LeaderEpoch) -> Result<(), Refusal> {
        if current != LeaderEpoch::UNKNOWN && current < self.epoch {
            Err(Refusal::FencedEpoch)
        } else if current > self.epoch {
            Err(Refusal::UnknownEpoch)
        } else {
            Ok(())
        }
    }

    /// How often what this reader is told has changed: see [`Partition::watch`].
    pub fn changes(&self, reader: Reader) -> u64 {
        match reader {
            Reader::Consumer => self.committed.changes(),
            Reader::Replica => self.safe.changes(),
        }
    }

    /// Remembers who is to be told when there are more changes than `seen`.
    pub fn watch(&mut self, reader: Reader, watch: Watch, seen: Seen) -> Watching {
        if self.state != State::Online || self.watches(reader).watch(watch, seen.changes) {
            Watching::Changed
        } else if seen.high_watermark != self.high_watermark() {
            Watching::Aside
        } else {
            Watching::Waits
        }
    }

    pub fn unwatch(&mut self, watch: Watch) {
        self.committed.unwatch(watch);
        self.safe.unwatch(watch);
    }

    /// Bytes of all batches that the log holds.
    pub fn size_bytes(&self) -> u64 {
        self.log.size_bytes()
    }

    /// Producers that the log remembers, by id, at most so many.
    pub fn active_producers(&self, count_max: usize) -> Vec<ActiveProducer> {
        self.log.active_producers(count_max)
    }

    pub fn is_online(&self) -> bool {
        self.state == State::Online
    }

    /// Closing, or being deleted.
    pub fn is_leaving(&self) -> bool {
        self.state == State::Leaving
    }

    pub fn epoch(&self) -> LeaderEpoch {
        self.epoch
    }

    pub fn high_watermark(&self) -> Offset {
        if bug::on(Bug::ShowUnsafe) {
            return self.log.end();
        }
        if bug::on(Bug::ShowUncommitted) && self.is_leader() {
            return self.safe_end;
        }
        self.high_watermark
    }

    /// Nothing of what the log holds may be given up any more.
    pub fn is_all_committed(&self) -> bool {
        self.high_watermark == self.log.end()
    }

    /// How far all is committed, for the next start; none where that is what is safe here.
    pub fn committed(&self) -> Option<Reach> {
        let is_alone = matches!(&self.role, Role::Leader(isr) if isr.is_alone());
        let is_known = matches!(self.state, State::Online | State::Leaving) && !is_alone;
        is_known.then(|| Reach { truncations: self.log.truncations(), end: self.high_watermark })
    }

    pub fn log_end(&self) -> Offset {
        self.log.end()
    }

    /// What this reader may see ends here.
    pub fn end_for(&self, reader: Reader) -> Offset {
        match reader {
            Reader::Consumer => self.high_watermark(),
            Reader::Replica => self.safe_end,
        }
    }

    pub fn log_start(&self) -> Offset {
        self.log.start()
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        let isr = match &self.role {
            Role::Leader(isr) if self.state == State::Online => isr.next_deadline(),
            Role::Leader(_) | Role::Follower(_) => None,
        };
        Instant::first_of([self.log.next_deadline(), isr, self.acks.next_deadline(), self.next_deletion_due()])
    }

    pub fn on_timeout(&mut self, cache: &mut TailCache, now: Now, out: &mut PartitionOut) {
        self.log.on_timeout(now, cache, &mut self.log_out);
        self.acks.time_out(now.mono, &mut out.acked);
        self.time_deletions_out(now.mono, out);
        self.check_isr(now, out);
        self.settle(out);
    }

    /// Ends appending for good, with this reason; what was acknowledged stays readable.
    pub fn take_offline(&mut self, message: &str, cache: &mut TailCache, out: &mut PartitionOut) {
        self.log.take_offline(message, cache, &mut self.log_out);
        self.settle(out);
    }

    /// Flushes and closes the files; [`StateChange::Closed`] follows.
    pub fn close(&mut self, cache: &mut TailCache, now: Now, out: &mut PartitionOut) {
        self.state = State::Leaving;
        self.on_change(out);
        self.refuse_deletions(&Refusal::Unavailable, out);
        self.log.close(cache, now, &mut self.log_out);
        self.settle(out);
    }

    /// Removes everything; [`StateChange::Deleted`] follows.
    pub fn delete(&mut self, cache: &mut TailCache, out: &mut PartitionOut) {
        self.state = State::Leaving;
        self.acks.refuse_all(&Refusal::Deleted, &mut out.acked);
        self.refuse_deletions(&Refusal::Deleted, out);
        self.on_change(out);
        self.log.delete(cache, &mut self.log_out);
        self.settle(out);
    }

    /// Bytes that were not there before.
    fn try_append(
        &mut self,
        brought: &mut Brought,
        cache: &mut TailCache,
        now: Now,
        watch: &mut Stopwatch,
    ) -> Result<u64, Refusal> {
        if self.state != State::Online {
            return Err(Refusal::Unavailable);
        }
        let Role::Leader(isr) = &self.role else { return Err(Refusal::NotLeader) };
        let (is_under, is_alone) = (isr.is_under(self.min_isr()), isr.is_alone());
        if is_under && brought.when != AckWhen::Safe {
            return Err(Refusal::NotEnoughReplicas);
        }
        let limits = self.limits(brought.to);
        let checked = batch::check_produce(&brought.records, &limits, now.wall_ms);
        watch.worked_on(brought.records.len(), &mut brought.trace, Stage::Check);
        let batch = checked.map_err(Refusal::Batch)?;
        batch.check_version(brought.produce_version).map_err(Refusal::Batch)?;
        if self.settings.cleanup_policy.compact {
            check_keys(&batch).map_err(Refusal::Batch)?;
        }
        let bytes = batch.bytes.len() as u64;
        let appended = self.log.append(batch, self.epoch, now, cache, &mut self.log_out).map_err(Refusal::Append)?;
        assert!(appended.base <= appended.last);
        assert!(appended.last < self.log.end());
        watch.worked(&mut brought.trace, Stage::Append);
        let when = if is_alone { AckWhen::Safe } else { brought.when };
        self.acks.push(when, &appended, brought.to, brought.trace);
        Ok(if appended.duplicate { 0 } else { bytes })
    }

    fn limits(&self, from: AckTo) -> BatchLimits {
        let timestamp_type = self.settings.message_timestamp_type;
        match from {
            AckTo::Job { .. } => BatchLimits {
                max_message_bytes: self.settings.max_message_bytes as usize,
                timestamp_type,
                before_max_ms: self.settings.message_timestamp_before_max_ms,
                after_max_ms: self.settings.message_timestamp_after_max_ms,
            },
            AckTo::Coordinator { .. } => BatchLimits {
                max_message_bytes: usize::MAX,
                timestamp_type,
                before_max_ms: i64::MAX,
                after_max_ms: i64::MAX,
            },
        }
    }

    /// Turns what the log says into acks, wake-ups and answers.
    pub(super) fn settle(&mut self, out: &mut PartitionOut) {
        self.take_log_out(out);
        if self.log_start != self.log.start() {
            self.log_start = self.log.start();
            self.high_watermark = self.high_watermark.max(self.log_start);
            if let Role::Follower(following) = &mut self.role {
                following.ask_anew();
            }
            self.on_change(out);
        }
        self.end_deletions(out);
        if self.state == State::Online || self.state == State::Leaving {
            self.advance(out);
            self.acks.release(self.safe_end, self.high_watermark, self.log_start, &self.write_times, &mut out.acked);
            self.check_followed(out);
        }
    }

    fn take_log_out(&mut self, out: &mut PartitionOut) {
        out.disk.append(&mut self.log_out.disk);
        out.journal.append(&mut self.log_out.journal);
        for index in 0..self.log_out.events.len() {
            let event = std::mem::replace(&mut self.log_out.events[index], LogEvent::Opened);
            self.on_log_event(event, out);
        }
        self.log_out.events.clear();
    }

    /// The high watermark follows what is known of all in-sync replicas. It never goes back while this node leads.
    fn advance(&mut self, out: &mut PartitionOut) {
        let committed = match &self.role {
            Role::Leader(_) if bug::on(Bug::AckBeforeInSync) => Some(self.safe_end),
            Role::Leader(isr) => isr.committed(self.safe_end, self.min_isr()),
            Role::Follower(following) => Some(following.high_watermark().min(self.safe_end)),
        };
        let is_alone = matches!(&self.role, Role::Leader(isr) if isr.is_alone());
        if let Some(committed) = committed.filter(|committed| *committed > self.high_watermark) {
            self.high_watermark = committed;
            out.committed = !is_alone;
            self.committed.on_change(&mut out.woken);
            // Replicas need it less soon than it changes: with the next records, or when their fetch has waited enough.
            self.safe.on_aside(&mut out.told_aside);
        }
        self.log.hold_from(if is_alone { Offset(i64::MAX) } else { self.high_watermark });
        if !self.is_established
            && let Role::Leader(isr) = &self.role
            && self.high_watermark >= isr.began()
        {
            self.is_established = true;
            out.established = true;
        }
    }

    fn on_log_event(&mut self, event: LogEvent, out: &mut PartitionOut) {
        match event {
            LogEvent::Opened => {
                assert!(self.state == State::Opening);
                self.state = State::Online;
                self.safe_end = self.log.safe_end();
                self.high_watermark = self.log.start();
                // A log that ends before that has lost something, and may hold something else there.
                let before = self.committed_before;
                if before.truncations == self.log.truncations() && before.end <= self.safe_end {
                    self.high_watermark = self.high_watermark.max(before.end);
                }
                if let Role::Leader(isr) = &mut self.role {
                    isr.begin(self.log.end());
                }
                self.on_change(out);
                out.changed = Some(StateChange::Opened);
            }
            LogEvent::Noted { message } => out.notes.push(message),
            LogEvent::OpenFailed { message, kept } => {
                self.state = State::Offline;
                self.on_change(out);
                out.changed = Some(StateChange::OpenFailed { message, kept });
            }
            LogEvent::Safe { end, times } => {
                assert!(end >= self.safe_end, "what is safe stays safe");
                if let Role::Leader(isr) = &mut self.role {
                    isr.on_safe(self.safe_end, times.safe);
                }
                self.safe_end = end;
                self.write_times = times;
                self.safe.on_change(&mut out.woken);
            }
            LogEvent::Failed { from, full, message } => {
                assert!(from >= self.safe_end, "what was shown to others is never given up");
                self.on_write_failed();
                // What was safe before is acknowledged first.
                self.advance(out);
                self.acks.release(
                    self.safe_end,
                    self.high_watermark,
                    self.log_start,
                    &self.write_times,
                    &mut out.acked,
                );
                self.acks.refuse_from(from, &Refusal::NotWritten { full, message }, &mut out.acked);
            }
            LogEvent::Flushed { upto } => out.flushed = Some(upto),
            LogEvent::Truncated { end } => self.on_cut(Ok(end), out),
            LogEvent::TruncateFailed { message } => self.on_cut(Err(message), out),
            LogEvent::Removed { bytes } => {
                out.removed.0 += 1;
                out.removed.1 += bytes;
            }
            LogEvent::Cleaned { result } => out.cleaned = Some(result),
            LogEvent::StartFailed { message } => self.on_start_failed(message, out),
            LogEvent::Read { ticket, result } => out.read.push((ticket, result)),
            LogEvent::Found { ticket, result } => out.found.push((ticket, result)),
            LogEvent::Closed => out.changed = Some(StateChange::Closed),
            LogEvent::Deleted => out.changed = Some(StateChange::Deleted),
        }
    }

    pub(super) fn on_change(&mut self, out: &mut PartitionOut) {
        self.committed.on_change(&mut out.woken);
        self.safe.on_change(&mut out.woken);
    }

    fn watches(&mut self, reader: Reader) -> &mut Watches {
        match reader {
            Reader::Consumer => &mut self.committed,
            Reader::Replica => &mut self.safe,
        }
    }

    /// `min.insync.replicas`.
    pub(super) fn min_isr(&self) -> usize {
        usize::try_from(self.settings.min_insync_replicas).unwrap_or(1)
    }
}
