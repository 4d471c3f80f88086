//! A truncation that was decided, carried out on the files: at once, or at the next start after a crash.
//!
//! Files that lie beyond go first, and everything derived that may know of what lay there. Then the last segment is
//! scanned up to the end that was decided, cut and synced like any other. At last the bounds say that it is done: until
//! then all of it can be done again.
//!
//! *Owns*: these steps. *Never*: loses a batch below the end; takes one beyond it. *Runs on*: the core that owns the
//! partition.

use super::{Next, Recovery, Stage};
use crate::base::bounds::Bounds;
use crate::base::disk::{DiskOp, DiskResult};
use crate::base::ids::Offset;
use crate::log::segment::FileName;
use crate::log::state::State;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Truncation {
    Deleting,
    /// Its end lies within a batch, which is given up too.
    Narrowing,
    Closing,
    /// Writing that it is done.
    Ending,
}

impl Recovery {
    /// Where the log is to end, while that is not carried out.
    pub(super) fn truncating(&self) -> Option<Offset> {
        self.bounds.truncating
    }

    fn keeps_nothing(&self) -> bool {
        self.bounds.truncating == Some(self.bounds.start)
    }

    /// Leaves out what is given up, and deletes it, before anything is read of what stays.
    pub(super) fn begin_truncating(&mut self, to: Offset) -> Next {
        // Nobody else will say that what is found must stay.
        self.sync = true;
        let kept = if self.keeps_nothing() { 0 } else { self.found.partition_point(|(base, _)| *base < to) };
        if kept == 0 {
            self.state = State::nothing(self.bounds.start, self.index_interval_bytes);
        }
        let last = self.found[..kept].last().map_or(Offset(0), |(base, _)| *base);
        let stays = |base: &Offset| kept > 0 && *base < to;
        let segments = self.found.drain(kept..).rev().map(|(base, _)| FileName::Segment(base));
        let snapshots = self.snapshots.iter().filter(|base| !stays(base)).map(|base| FileName::Snapshot(*base));
        // The last segment will be written to again.
        let indexes = self.indexes.iter().filter(|base| kept == 0 || **base >= last);
        let indexes = indexes.map(|base| FileName::Index(*base));
        self.to_remove = segments.chain(snapshots).chain(indexes).chain(self.leftovers.drain(..)).collect();
        // It may be of a segment that was rewritten since.
        self.to_remove.extend(self.candidates.iter().copied().filter(|name| *name == FileName::Checkpoint));
        self.snapshots.retain(stays);
        self.candidates.retain(|name| matches!(name, FileName::Snapshot(base) if stays(base)));
        self.delete_truncated()
    }

    fn delete_truncated(&mut self) -> Next {
        match self.to_remove.pop() {
            Some(name) => {
                self.stage = Stage::Truncating(Truncation::Deleting);
                Next::Ask(DiskOp::Delete { path: name.path(&self.dir) })
            }
            None => self.read_state(),
        }
    }

    /// The last segment was scanned: `Some` unless it ends where it is to.
    pub(super) fn check_truncated(&mut self, end: Offset, crosses: bool) -> Option<Next> {
        let to = self.truncating().filter(|to| *to != end)?;
        if !crosses {
            return Some(self.is_damaged(end, &format!("it was truncated to offset {to}")));
        }
        let first = self.segments.front().map_or(self.found[self.at].0, |segment| segment.base);
        let start = self.bounds.start.max(first);
        if end <= start {
            self.bounds.start = start;
        }
        self.bounds.truncating = Some(end.max(start));
        Some(self.write_truncation(Truncation::Narrowing))
    }

    /// There is no segment: `Some` unless the log is to be empty.
    pub(super) fn check_emptied(&mut self) -> Option<Next> {
        let to = self.truncating().filter(|_| !self.keeps_nothing())?;
        Some(self.is_damaged(self.bounds.start, &format!("it was truncated to offset {to}")))
    }

    /// The files are as they are to be, and durable.
    pub(super) fn end_truncation(&mut self) -> Next {
        let Bounds { start, rewritten, cleaned, .. } = self.bounds;
        // What is written next goes to a segment that begins here or later: it must be believed.
        let last = self.found.last().map_or(start, |(base, _)| *base);
        let end = self.state.mark.next;
        let (rewritten, cleaned) = (rewritten.min(last), cleaned.min(end));
        self.bounds = Bounds { rewritten, cleaned, truncating: None, ..self.bounds };
        self.write_truncation(Truncation::Ending)
    }

    fn write_truncation(&mut self, step: Truncation) -> Next {
        self.stage = Stage::Truncating(step);
        Next::Ask(DiskOp::WriteFile { path: FileName::Bounds.path(&self.dir), data: self.bounds.to_file() })
    }

    pub(super) fn on_truncated(&mut self, step: Truncation, result: DiskResult) -> Next {
        if let Err(error) = result {
            return self.failed("cannot truncate the log", Err(error));
        }
        match step {
            Truncation::Deleting => self.delete_truncated(),
            Truncation::Narrowing => {
                self.stage = Stage::Truncating(Truncation::Closing);
                Next::Ask(DiskOp::Close { file: self.file() })
            }
            Truncation::Closing => {
                self.file = None;
                self.begin_again()
            }
            Truncation::Ending => self.done(),
        }
    }
}
