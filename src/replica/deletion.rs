//! Deletions of records (DeleteRecords): the log begins later, durably, here and on the other in-sync replicas.
//!
//! *Owns*: which deletions wait, and for what. *Never*: removes a segment; the log does. *Runs on*: the core that owns
//! the partition.

use crate::base::bug::{self, Bug};
use crate::base::ids::Offset;
use crate::base::time::{Instant, Now};

use super::partition::{Partition, PartitionOut, Refusal, Role, State};

/// DeleteRecords' offset for everything that consumers can see.
const HIGH_WATERMARK: i64 = -1;

/// Ties a deletion of records to its end. Unique within a partition.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct DeletionTicket(u64);

/// Where a deletion of records stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Deletion {
    /// No in-sync replica has anything below this. The log here may begin later.
    Done(Offset),
    /// It will; then [`PartitionOut::deleted`] says so.
    Later(DeletionTicket),
}

#[derive(Debug, Default)]
pub(super) struct Deletions {
    pending: Vec<Pending>,
    /// So many there were.
    count: u64,
}

/// Waits for the log to begin at `before`, durably, on all in-sync replicas.
#[derive(Debug)]
struct Pending {
    ticket: DeletionTicket,
    before: Offset,
    /// Other replicas are waited for no longer.
    due: Instant,
}

impl Partition {
    /// Lets the log begin at `before`, or at the high watermark for −1, unless it begins there already (DeleteRecords;
    /// Kafka's Partition.deleteRecordsOnLeader). Neither a crash nor another leader bring back what was deleted: in-sync
    /// replicas are waited for until `due`, and of what some of them still have the answer says nothing.
    pub fn delete_records(
        &mut self,
        before: i64,
        due: Instant,
        now: Now,
        out: &mut PartitionOut,
    ) -> Result<Deletion, Refusal> {
        if self.state != State::Online {
            return Err(Refusal::Unavailable);
        }
        if !self.is_leader() {
            return Err(Refusal::NotLeader);
        }
        let policy = self.settings.cleanup_policy;
        if policy.compact && !policy.delete {
            return Err(Refusal::NotDeletable);
        }
        let before = if before == HIGH_WATERMARK { self.high_watermark } else { Offset(before) };
        if before < Offset(0) || before > self.high_watermark {
            return Err(Refusal::OffsetOutOfRange);
        }
        if let Some(deleted) = self.deleted().filter(|deleted| before <= *deleted) {
            return Ok(Deletion::Done(deleted));
        }
        self.deletions.count += 1;
        let ticket = DeletionTicket(self.deletions.count);
        self.deletions.pending.push(Pending { ticket, before, due });
        if before > self.log.start() {
            self.log.move_start(before, now, &mut self.log_out);
        }
        self.settle(out);
        if bug::on(Bug::AnswerDeletionsEarly) {
            return Ok(Deletion::Done(before));
        }
        Ok(Deletion::Later(ticket))
    }

    /// No leader to come has anything below this; none while that is not known.
    fn deleted(&self) -> Option<Offset> {
        match &self.role {
            Role::Leader(_) if bug::on(Bug::AnswerDeletionsAlone) => Some(self.log_start),
            Role::Leader(isr) => isr.deleted(self.log_start, self.min_isr()),
            Role::Follower(_) => None,
        }
    }

    /// Those that are made wherever they have to be.
    pub(super) fn end_deletions(&mut self, out: &mut PartitionOut) {
        if self.deletions.pending.is_empty() {
            return;
        }
        let Some(deleted) = self.deleted() else { return };
        let ended = self.deletions.pending.extract_if(.., |deletion| deletion.before <= deleted);
        out.deleted.extend(ended.map(|deletion| (deletion.ticket, Ok(deleted))));
    }

    /// Those that wait for other replicas, and no longer. What was to be deleted is deleted here.
    pub(super) fn time_deletions_out(&mut self, now: Instant, out: &mut PartitionOut) {
        let start = self.log_start;
        let is_over = |deletion: &mut Pending| deletion.before <= start && deletion.due <= now;
        let over = self.deletions.pending.extract_if(.., is_over);
        out.deleted.extend(over.map(|deletion| (deletion.ticket, Err(Refusal::TimedOut))));
    }

    /// When a client waits for other replicas no longer.
    pub(super) fn next_deletion_due(&self) -> Option<Instant> {
        let wait_for_others = self.deletions.pending.iter().filter(|deletion| deletion.before <= self.log_start);
        wait_for_others.map(|deletion| deletion.due).min()
    }

    /// The log does not come to begin later.
    pub(super) fn on_start_failed(&mut self, message: String, out: &mut PartitionOut) {
        let (start, refusal) = (self.log_start, Refusal::NotWritten { full: false, message });
        let failed = self.deletions.pending.extract_if(.., |deletion| deletion.before > start);
        out.deleted.extend(failed.map(|deletion| (deletion.ticket, Err(refusal.clone()))));
    }

    pub(super) fn refuse_deletions(&mut self, refusal: &Refusal, out: &mut PartitionOut) {
        out.deleted.extend(self.deletions.pending.drain(..).map(|deletion| (deletion.ticket, Err(refusal.clone()))));
    }
}
