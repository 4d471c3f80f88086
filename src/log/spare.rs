//! The file of a removed segment, kept to become a later segment of the same log.
//!
//! A sync of what lies in space that was written before costs the device's flush. Where space was only reserved, the
//! file system has to make durable besides that it is written now, and the device is slower at what is new to it
//! (figures: tuning.md). So a log whose segments are synced while somebody waits keeps one file that it would delete.
//!
//! Behind the newest batches of such a segment lie whole batches of the earlier one. Their offsets are below those that
//! belong there, and recovery takes a batch only if it goes on where the one before ended. That is all that tells them
//! apart, so a file never goes to another partition, and its name says below which offset its batches are: when a log
//! has come to end before that, the file goes. And a file is not kept when it holds what looks like a batch with an
//! offset that the log may come to meanwhile (`lookalike`), or when not all of it was looked through since the start.
//!
//! *Owns*: which file is kept, and what becomes of it. *Never*: keeps more than one; removes a segment. *Runs on*: the
//! core that owns the partition.

use crate::base::disk::{DiskErrorKind, DiskOp, DiskResult};
use crate::base::ids::Offset;
use crate::base::time::Now;
use crate::config::{Durability, TopicSettings};

use super::cache::TailCache;
use super::log::{Log, LogOut, Step};
use super::lookalike::{Lookalikes, horizon};
use super::segment::{FileName, FileState};
use super::write::Pending;

#[derive(Debug, Default)]
pub(super) struct Spare {
    /// There is a file whose batches are below this.
    end: Option<Offset>,
    /// A file is on its way to be that.
    keeping: bool,
    /// Somebody waited for a sync of the segment that is written to, and of the one before.
    synced: [bool; 2],
    /// In the segment that is written to.
    pub(super) lookalikes: Lookalikes,
}

impl Spare {
    pub(super) fn recovered(end: Option<Offset>) -> Spare {
        // It was worth keeping before.
        Spare { end, keeping: false, synced: [false, end.is_some()], lookalikes: Lookalikes::unknown() }
    }

    /// Somebody waits for a sync of the segment that is written to.
    pub(super) fn on_awaited_sync(&mut self) {
        self.synced[0] = true;
    }

    /// Another segment begins.
    pub(super) fn on_roll(&mut self) {
        self.synced = [false, self.synced[0]];
        self.lookalikes = Lookalikes::default();
    }

    /// A batch is written to the segment. Where nobody waits for syncs, no file is kept.
    pub(super) fn look(&mut self, batch: &Pending, settings: &TopicSettings) {
        if settings.durability == Durability::Sync || settings.flush_messages < i64::MAX as u64 {
            self.lookalikes.look(batch.base, &batch.slices);
        } else {
            self.lookalikes = Lookalikes::unknown();
        }
    }

    /// The next file that is not needed is worth keeping.
    pub(super) fn is_wanted(&self) -> bool {
        self.end.is_none() && !self.keeping && self.synced != [false; 2]
    }
}

impl Log {
    /// Keeps or removes the file of a segment whose batches are all below `end`, and what looks like others is not
    /// below `lookalike`.
    pub(super) fn spare_or_delete(&mut self, segment: Offset, end: Offset, lookalike: Offset, out: &mut LogOut) {
        let path = FileName::Segment(segment).path(&self.dir);
        let reusable = lookalike >= horizon(end);
        if reusable && self.spare.is_wanted() {
            self.spare.keeping = true;
            let to = FileName::Spare(end).path(&self.dir);
            self.ask(Step::KeepSpare(end), DiskOp::Rename { from: path, to }, out);
        } else {
            self.ask(Step::RemoveSegment, DiskOp::Delete { path }, out);
        }
    }

    pub(super) fn on_spare_kept(&mut self, end: Offset, result: &DiskResult) {
        self.spare.keeping = false;
        if result.is_ok() {
            self.spare.end = Some(end);
        }
    }

    /// Makes the file that is kept the segment from `base` on, then opens it; false when there is none for it.
    pub(super) fn use_spare(&mut self, base: Offset, out: &mut LogOut) -> bool {
        let first = self.writer.pending.front();
        let below = |end: Offset| end <= base && first.is_some_and(|first| first.next <= horizon(end));
        let Some(end) = self.spare.end.filter(|end| below(*end)) else { return false };
        self.spare.end = None;
        self.writer.horizon = horizon(end);
        let (from, to) = (FileName::Spare(end).path(&self.dir), FileName::Segment(base).path(&self.dir));
        self.ask(Step::UseSpare(base), DiskOp::Rename { from, to }, out);
        true
    }

    pub(super) fn on_spare_used(
        &mut self,
        base: Offset,
        result: DiskResult,
        cache: &mut TailCache,
        now: Now,
        out: &mut LogOut,
    ) {
        match result {
            Err(error) if error.kind != DiskErrorKind::NotFound => {
                self.on_segment_open(base, Err(error), cache, now, out);
            }
            // Whoever has removed it: a new file will do.
            Ok(_) | Err(_) => {
                let segment = self.segment_at(base).expect("a segment stays while its file is on its way");
                let FileState::Opening(file) = segment.file else { panic!("nobody else opens it meanwhile") };
                let path = FileName::Segment(base).path(&self.dir);
                self.ask(Step::OpenSegment(base), DiskOp::Open { file, path, create: true }, out);
            }
        }
    }

    /// Gives the space back, when there is no other.
    pub(super) fn give_up_spare(&mut self, out: &mut LogOut) {
        if let Some(end) = self.spare.end.take() {
            self.ask(Step::Tidy, DiskOp::Delete { path: FileName::Spare(end).path(&self.dir) }, out);
        }
    }
}
