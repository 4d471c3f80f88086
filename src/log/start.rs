//! Where a log begins, and how it comes to begin later: segments that lie wholly below are removed.
//!
//! The new start is made durable first (`bounds`), then it counts, then segments go, one at a time, each as soon as
//! no read uses it. A crash in between leaves segments below the start; the next recovery removes them.
//!
//! *Owns*: the bounds in force and the removal of segments, which happens nowhere else. *Never*: moves a bound back;
//! removes a segment that something waits for, or the one that is written to. *Runs on*: the core that owns the
//! partition.

use crate::base::bounds::Bounds;
use crate::base::disk::{DiskOp, DiskResult};
use crate::base::ids::Offset;
use crate::base::time::{Instant, Now};

use super::log::{Life, Log, LogEvent, LogOut, Step};
use super::segment::{FileName, FileState, Segment};

/// After a write of the bounds failed, the next is not tried sooner.
const RETRY_MS: u64 = 5000;

#[derive(Debug, Default)]
pub(super) struct Bounding {
    /// As the file has them, or a missing file.
    pub(super) held: Bounds,
    /// What they are to become.
    wanted: Bounds,
    writing: Option<Bounds>,
    retry_due: Option<Instant>,
    /// A segment's file is being removed.
    removing: bool,
}

impl Bounding {
    pub(super) fn recovered(held: Bounds) -> Bounding {
        Bounding { held, wanted: held, writing: None, retry_due: None, removing: false }
    }

    pub(super) fn retry_due(&self) -> Option<Instant> {
        self.retry_due
    }
}

impl Log {
    /// Where the log begins.
    pub fn start(&self) -> Offset {
        self.start
    }

    /// Other replicas may read from here on. The log may begin within a batch, and a replica takes none in part: of the
    /// segment that holds the start they take all.
    pub fn start_for_replicas(&self) -> Offset {
        self.segments.get(self.segment_of(self.start)).map_or(self.start, |segment| segment.base.min(self.start))
    }

    /// The log is to begin at `to`, which is safe, or where it begins if that is later. [`Log::start`] says so when it
    /// is durable; else [`LogEvent::StartFailed`] follows.
    pub fn move_start(&mut self, to: Offset, now: Now, out: &mut LogOut) {
        assert!(to <= self.safe_end(), "only what is safe is deleted");
        self.want_bounds(Bounds { start: to, ..Bounds::default() }, now, out);
    }

    /// Where the log begins is on its way to the disk.
    pub fn is_moving_start(&self) -> bool {
        self.bounding.writing.is_some_and(|writing| writing.start > self.start)
    }

    /// Moves the bounds to these where they are smaller.
    pub(super) fn want_bounds(&mut self, bounds: Bounds, now: Now, out: &mut LogOut) {
        self.bounding.wanted = self.bounding.wanted.max(bounds);
        self.write_bounds(now, out);
    }

    pub(super) fn write_bounds(&mut self, now: Now, out: &mut LogOut) {
        let bounding = &mut self.bounding;
        let waits = bounding.retry_due.is_some_and(|due| due > now.mono);
        let is_open = matches!(self.life, Life::Open);
        if !is_open || waits || bounding.writing.is_some() || bounding.wanted == bounding.held {
            return;
        }
        if let Some(message) = self.offline.clone() {
            bounding.wanted = bounding.held;
            out.events.push(LogEvent::StartFailed { message });
            return;
        }
        bounding.retry_due = None;
        bounding.writing = Some(bounding.wanted);
        let data = bounding.wanted.to_file();
        let path = FileName::Bounds.path(&self.dir);
        self.ask(Step::Bounds, DiskOp::WriteFile { path, data }, out);
    }

    pub(super) fn on_bounds(&mut self, result: DiskResult, now: Now, out: &mut LogOut) {
        let written = self.bounding.writing.take().expect("bounds were being written");
        match result {
            Ok(_) => {
                self.bounding.held = written;
                self.start = self.start.max(written.start);
                self.write_bounds(now, out);
            }
            Err(error) => {
                let message = format!("{} was not written: {error}", FileName::Bounds.path(&self.dir).display());
                tracing::warn!("{message}; nothing was deleted, and it is tried again");
                self.bounding.retry_due = Some(now.mono.after_ms(RETRY_MS));
                out.events.push(LogEvent::StartFailed { message });
            }
        }
    }

    /// What the bounds were to become will not be.
    pub(super) fn give_up_bounds(&mut self, why: &str, out: &mut LogOut) {
        let bounding = &mut self.bounding;
        assert!(bounding.writing.is_none());
        if std::mem::replace(&mut bounding.wanted, bounding.held) != bounding.held {
            out.events.push(LogEvent::StartFailed { message: why.to_owned() });
        }
    }

    /// Tries again what failed, when it is time.
    pub(super) fn retry_bounds(&mut self, now: Now, out: &mut LogOut) {
        if self.bounding.retry_due.is_some_and(|due| due <= now.mono) {
            self.write_bounds(now, out);
        }
    }

    /// Begins to remove the first segment if all of it lies below the start and nothing uses it.
    pub(super) fn remove_first(&mut self, out: &mut LogOut) {
        if self.bounding.removing || !matches!(self.life, Life::Open) {
            return;
        }
        let below = self.segments.get(1).is_some_and(|second| second.base <= self.start);
        if !below || !self.is_unused(0) {
            return;
        }
        // A replay of the journal knows by a later segment's file that an earlier one was removed.
        let second = &self.segments[1];
        if second.len == 0 && second.open_file().is_none() {
            self.open_segment(1, out);
            return;
        }
        self.bounding.removing = true;
        if let Some(first) = self.segments.pop_front() {
            self.remove_files(first, out);
        }
    }

    /// No read, look-up or seal has to do with the segment, nor will one that is under way.
    pub(super) fn is_unused(&self, at: usize) -> bool {
        let segment = &self.segments[at];
        segment.reads == 0
            && !segment.sealing
            && !matches!(segment.file, FileState::Opening(_))
            && !self.cold.uses(segment.base)
            && !self.cleaning.as_ref().is_some_and(|cleaning| cleaning.uses(segment.base))
    }

    fn remove_files(&mut self, segment: Segment, out: &mut LogOut) {
        self.cold.forget_warm(segment.base);
        self.seals.forget_snapshot(segment.base);
        if let Some(file) = segment.open_file() {
            self.ask(Step::Tidy, DiskOp::Close { file }, out);
        }
        for name in [FileName::Index(segment.base), FileName::Snapshot(segment.base)] {
            self.ask(Step::Tidy, DiskOp::Delete { path: name.path(&self.dir) }, out);
        }
        let end = self.segments.front().map_or(self.end, |next| next.base);
        self.spare_or_delete(segment.base, end, segment.lookalike, out);
        out.events.push(LogEvent::Removed { bytes: segment.len });
    }

    pub(super) fn on_segment_removed(&mut self, result: DiskResult) {
        self.bounding.removing = false;
        if let Err(error) = result {
            tracing::warn!(
                dir = %self.dir.display(), %error,
                "the file of a segment below the log's start could not be removed; the next start tries again"
            );
        }
    }
}
