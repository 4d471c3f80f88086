//! A partition replica as a follower: what it takes from its leader, and what it gives up for it.
//!
//! A follower asks for what comes after its log's end, and only when all of that is safe: so its leader knows by the
//! question what it has. Where its log ends otherwise than the leader's, it is cut before anything is taken (KIP-595).
//!
//! *Owns*: what a follower's log does with an answer. *Never*: decides when to ask. *Runs on*: the core that owns the
//! partition.

use bytes::Bytes;

use crate::base::bug::{self, Bug};
use crate::base::ids::{LeaderEpoch, NodeId, Offset, PartitionIndex};
use crate::base::time::Now;
use crate::log::cache::TailCache;
use crate::log::replicate::ReplicateError;
use crate::wire::batch::{BatchHeader, StoredError};

use super::partition::{Partition, PartitionOut, Role, State};

/// What a leader has answered, of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// Of the leader that was asked.
    pub epoch: LeaderEpoch,
    /// What was asked for.
    pub from: Offset,
    pub content: Content,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Whole batches from there on, or none; what is committed, and where the leader's log begins.
    Records { records: Bytes, high_watermark: Offset, log_start: Offset },
    /// The logs agree up to this end of this epoch at most.
    Diverging { epoch: LeaderEpoch, end: Offset },
    /// The leader has nothing of what the follower could go on with: what it has begins here.
    OutOfRange { log_start: Offset },
}

/// Where a follower stands after it has taken an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Followed {
    /// All it has is safe: it may ask on.
    Ready,
    /// It could not take it: to be tried again, later.
    Failed,
}

/// What a follower asks its leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FetchPosition {
    /// Of the leader, as the follower knows it.
    pub epoch: LeaderEpoch,
    pub from: Offset,
    /// Of the last batch; −1 of an empty log.
    pub last_epoch: LeaderEpoch,
    pub log_start: Offset,
}

impl FetchPosition {
    /// The next question may be this, when the answer was taken.
    pub(super) fn goes_on_with(self, next: FetchPosition) -> bool {
        self.epoch == next.epoch && self.log_start == next.log_start
    }
}

#[derive(Debug)]
pub(super) struct Following {
    leader: Option<NodeId>,
    /// What the leader has said last.
    high_watermark: Offset,
    /// The same: its log begins here. What is not safe here yet is not deleted yet.
    log_start: Offset,
    /// What was fetched last is not safe yet, or nobody was told that it is.
    is_busy: bool,
    has_failed: bool,
}

impl Following {
    pub(super) fn new(leader: Option<NodeId>) -> Following {
        Following { leader, high_watermark: Offset(0), log_start: Offset(0), is_busy: true, has_failed: false }
    }

    pub(super) fn set_leader(&mut self, leader: Option<NodeId>) {
        self.leader = leader;
    }

    pub(super) fn leader(&self) -> Option<NodeId> {
        self.leader
    }

    pub(super) fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// The leader is to be told what this replica has, though it has taken nothing.
    pub(super) fn ask_anew(&mut self) {
        self.is_busy = true;
    }
}

impl Partition {
    /// What to ask the leader; none while this replica is not ready for an answer.
    pub fn fetch_position(&self) -> Option<FetchPosition> {
        let Role::Follower(following) = &self.role else { return None };
        let is_ready = self.state == State::Online && !following.is_busy;
        is_ready.then(|| FetchPosition {
            epoch: self.epoch,
            from: self.log.end(),
            last_epoch: self.log.latest_epoch().unwrap_or(LeaderEpoch::UNKNOWN),
            log_start: self.log.start(),
        })
    }

    /// This replica is named as one that follows at a bounded rate.
    pub fn is_throttled(&self, partition: PartitionIndex) -> bool {
        self.settings.follower_replication_throttled_replicas.holds(partition, self.place.node)
    }

    /// The leader has answered. [`PartitionOut::followed`] says when this replica may ask again.
    pub fn on_fetched(&mut self, fetched: Fetched, cache: &mut TailCache, now: Now, out: &mut PartitionOut) {
        let Role::Follower(following) = &mut self.role else { return };
        let is_expected = fetched.epoch == self.epoch && fetched.from == self.log.end();
        if self.state != State::Online || following.is_busy || !is_expected {
            return;
        }
        following.is_busy = true;
        match fetched.content {
            Content::Records { records, high_watermark, log_start } => {
                following.high_watermark = following.high_watermark.max(high_watermark);
                following.log_start = following.log_start.max(log_start);
                self.take(&records, cache, now, out);
                self.follow_start(now);
            }
            Content::Diverging { epoch, end } => {
                let own = self.log.epoch_end(epoch).map_or(end, |(_, own)| own);
                let end = if bug::on(Bug::CutToHighWatermark) { self.high_watermark } else { end.min(own) };
                self.state = State::Cutting;
                self.log.truncate(end, cache, now, &mut self.log_out);
            }
            Content::OutOfRange { log_start } => {
                self.state = State::Cutting;
                self.log.truncate_fully(log_start, cache, now, &mut self.log_out);
            }
        }
        self.settle(out);
    }

    fn take(&mut self, records: &Bytes, cache: &mut TailCache, now: Now, out: &mut PartitionOut) {
        if records.is_empty() {
            return;
        }
        match self.log.append_replicated(records, now, cache, &mut self.log_out) {
            Ok(taken) => out.appended_bytes += taken.bytes as u64,
            Err(ReplicateError::Offline { .. }) => self.on_write_failed(),
            // Compaction there has let a batch reach over where this log ends: it comes in one piece.
            Err(ReplicateError::Batch(StoredError::Stale { base_offset, .. }))
                if reaches_over(records, base_offset, self.log.end()) =>
            {
                self.state = State::Cutting;
                // What is committed comes again.
                self.high_watermark = self.high_watermark.min(base_offset);
                self.log.truncate(base_offset, cache, now, &mut self.log_out);
            }
            Err(ReplicateError::Batch(error)) => {
                out.notes.push(format!("what its leader sent cannot be taken, and is asked for again: {error}"));
                self.on_write_failed();
            }
        }
    }

    /// The leader's log begins later: records are deleted here too, as far as they are safe by now. It had them
    /// committed, and says so only once.
    pub(super) fn follow_start(&mut self, now: Now) {
        let Role::Follower(following) = &self.role else { return };
        let start = following.log_start.min(self.log.safe_end());
        if self.state == State::Online && start > self.log.start() && !bug::on(Bug::KeepStart) {
            self.log.move_start(start, now, &mut self.log_out);
        }
    }

    /// The log is cut, or could not be and is to be cut again. Meanwhile this replica may have become the leader.
    pub(super) fn on_cut(&mut self, result: Result<Offset, String>, out: &mut PartitionOut) {
        if self.state != State::Cutting {
            return;
        }
        self.state = State::Online;
        match result {
            Ok(end) => {
                self.safe_end = self.log.safe_end();
                if self.high_watermark > end {
                    out.notes.push(format!("gave up committed records from {end} on, which its leader does not have"));
                    self.high_watermark = end;
                }
                if let Role::Leader(isr) = &mut self.role {
                    isr.begin(end);
                }
            }
            Err(message) => {
                out.notes.push(format!("could not be cut to what its leader has: {message}"));
                match &mut self.role {
                    Role::Leader(_) => self.state = State::Offline,
                    Role::Follower(following) => following.has_failed = true,
                }
            }
        }
        self.on_change(out);
    }

    /// What was to be written is not in the log.
    pub(super) fn on_write_failed(&mut self) {
        if let Role::Follower(following) = &mut self.role {
            following.has_failed = true;
        }
    }

    /// Says once that this replica is ready for another answer.
    pub(super) fn check_followed(&mut self, out: &mut PartitionOut) {
        // Its leader waits for what is deleted here, too.
        let is_safe = self.safe_end == self.log.end() && !self.log.is_moving_start();
        let Role::Follower(following) = &mut self.role else { return };
        if following.is_busy && is_safe && self.state == State::Online {
            following.is_busy = false;
            let has_failed = std::mem::take(&mut following.has_failed);
            out.followed = Some(if has_failed { Followed::Failed } else { Followed::Ready });
        }
    }
}

/// The first batch begins at `base`, and holds offsets from the end of this log on. One that lies below it is no reason to
/// give up what the leader was told to be safe here.
fn reaches_over(records: &[u8], base: Offset, end: Offset) -> bool {
    let first = BatchHeader::read(records).filter(|first| first.first_offset() == base);
    base < end && first.is_some_and(|first| first.next_offset() > end)
}
