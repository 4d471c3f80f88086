//! Giving up the end of a log, durably, whatever is known of it elsewhere.
//!
//! First everything that was appended comes to rest in the segments and is synced: what stays is then not in need of a
//! journal. The decision is one small file (`bounds`): from then on the end is void, and so is whatever journals and
//! notes have from before. What is left to be done to the files recovery does (`recovery/truncate`), the same as after a
//! crash: the log is opened anew from them. Nothing is appended or read meanwhile.
//!
//! *Owns*: the order up to the decision. *Never*: goes back behind the decision; calls anything safe that is about to
//! be given up. *Runs on*: the core that owns the partition.

use crate::base::bounds::{Bounds, Reach};
use crate::base::disk::{DiskOp, DiskResult};
use crate::base::ids::Offset;
use crate::base::limits::TRUNCATIONS_MAX;
use crate::base::time::Now;

use super::cache::TailCache;
use super::log::{Life, Log, LogEvent, LogOut, Step};
use super::reach::MustReach;
use super::recovery::Recovery;
use super::segment::{FileIds, FileName};

#[derive(Debug)]
pub(super) struct Truncating {
    to: Offset,
    /// Nothing stays, wherever the log begins now: it is to begin at `to`.
    fully: bool,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Writes and seals come to their end.
    Draining,
    Syncing,
    /// The bounds are being written.
    Deciding,
    /// It is decided; the files are closed, to be opened again.
    Files,
    /// Something failed, and the caller was told.
    Halted,
}

impl Log {
    /// How often the end was given up.
    pub fn truncations(&self) -> u32 {
        self.bounding.held.truncations
    }

    /// Gives up everything from `end` on, the batch that it lies within included; then [`LogEvent::Truncated`]. Where
    /// nothing would be left, and below the log's start, the log becomes empty and begins at `end`. Reads under way end
    /// with [`super::log::ReadError::Offline`], and nothing beyond `end` is called safe any more.
    ///
    /// After [`LogEvent::TruncateFailed`] it may have happened or not: the log is of no use until this was called again
    /// and succeeded. Not to be called while another is under way.
    pub fn truncate(&mut self, end: Offset, cache: &mut TailCache, now: Now, out: &mut LogOut) {
        if matches!(self.life, Life::Open) && end >= self.end {
            out.events.push(LogEvent::Truncated { end: self.end });
            return;
        }
        self.begin_truncating(end, false, cache, now, out);
    }

    /// Gives up everything: the log begins anew at `start`, which may be anywhere. The rest as for [`Log::truncate`].
    pub fn truncate_fully(&mut self, start: Offset, cache: &mut TailCache, now: Now, out: &mut LogOut) {
        assert!(start >= Offset(0), "a log begins at an offset");
        self.begin_truncating(start, true, cache, now, out);
    }

    fn begin_truncating(&mut self, to: Offset, fully: bool, cache: &mut TailCache, now: Now, out: &mut LogOut) {
        match &self.life {
            Life::Open => {}
            Life::Truncating(before) if before.stage == Stage::Halted => {}
            // It was decided, and could not be carried out.
            Life::Failed if self.is_reopening => return self.reopen(now, out),
            _ => {
                let message = "the log is not open".to_owned();
                return out.events.push(LogEvent::TruncateFailed { message });
            }
        }
        self.life = Life::Truncating(Truncating { to, fully, stage: Stage::Draining });
        self.fail_all_reads("the log is being truncated", out);
        cache.release(&mut self.tail);
        self.writer.commits.retry_due = None;
        self.drive_clean(now, out);
        self.pump(now, out);
        self.leave(now, out);
    }

    /// Up to here what is safe may be told: a truncation gives up the rest.
    pub(super) fn may_tell_safe(&self, end: Offset) -> bool {
        match &self.life {
            Life::Truncating(truncating) => !truncating.fully && end <= truncating.to,
            _ => true,
        }
    }

    /// The next step, once nothing is in flight.
    pub(super) fn go_on_truncating(&mut self, now: Now, out: &mut LogOut) {
        let Life::Truncating(truncating) = &self.life else { unreachable!("the caller looked") };
        match truncating.stage {
            Stage::Draining => self.drain_for_truncation(now, out),
            Stage::Files => {
                if !self.close_files(out) {
                    self.reopen(now, out);
                }
            }
            Stage::Halted => {}
            Stage::Syncing | Stage::Deciding => unreachable!("these are in flight"),
        }
    }

    fn drain_for_truncation(&mut self, now: Now, out: &mut LogOut) {
        self.pump(now, out);
        if let Some(message) = self.offline.clone() {
            return self.halt_truncation(message, out);
        }
        if self.in_flight > 0 || self.writer.is_handing_over() {
            return;
        }
        if self.writer.commits.retry_due.is_some() {
            return self
                .halt_truncation("what only the journal has could not be written to its segment".to_owned(), out);
        }
        assert!(self.writer.is_idle() && self.seals.is_empty(), "nothing is in flight and nothing pending");
        let active = self.segments.back().and_then(|segment| segment.open_file());
        match active.filter(|_| self.writer.is_dirty()) {
            Some(file) => {
                self.set_truncating(Stage::Syncing);
                self.ask(Step::Truncate, DiskOp::Sync { file }, out);
            }
            None => self.decide(out),
        }
    }

    pub(super) fn on_truncate_step(&mut self, result: DiskResult, cache: &mut TailCache, out: &mut LogOut) {
        // The log may be closing or being deleted by now.
        let Life::Truncating(truncating) = &self.life else { return };
        match (truncating.stage, result) {
            (Stage::Syncing, Ok(_)) => self.decide(out),
            (Stage::Syncing, Err(error)) => {
                self.go_offline(&error, cache, out);
                self.halt_truncation(error.message, out);
            }
            (Stage::Deciding, Ok(_)) => {
                self.bounding.held = self.decision(truncating);
                self.set_truncating(Stage::Files);
                // Nothing of it is needed any more, even if the rest fails.
                let reach = Reach { truncations: self.bounding.held.truncations, end: Offset(0) };
                out.events.push(LogEvent::Flushed { upto: reach });
            }
            (Stage::Deciding, Err(error)) => self.halt_truncation(error.message, out),
            (Stage::Draining | Stage::Files | Stage::Halted, _) => unreachable!("nothing was asked for"),
        }
    }

    fn decide(&mut self, out: &mut LogOut) {
        let Life::Truncating(truncating) = &self.life else { unreachable!("the caller looked") };
        if let Some(message) = self.offline.clone() {
            return self.halt_truncation(message, out);
        }
        if self.bounding.held.truncations >= TRUNCATIONS_MAX {
            return self.halt_truncation("the log was truncated too often".to_owned(), out);
        }
        let data = self.decision(truncating).to_file();
        self.give_up_bounds("the log is being truncated", out);
        self.set_truncating(Stage::Deciding);
        self.ask(Step::Truncate, DiskOp::WriteFile { path: FileName::Bounds.path(&self.dir), data }, out);
    }

    fn decision(&self, truncating: &Truncating) -> Bounds {
        let held = self.bounding.held;
        // The start may have moved on meanwhile.
        let keeps_nothing = truncating.fully || truncating.to <= self.start;
        let start = if keeps_nothing { truncating.to } else { held.start };
        Bounds { start, truncations: held.truncations + 1, truncating: Some(truncating.to), ..held }
    }

    fn set_truncating(&mut self, to: Stage) {
        let Life::Truncating(truncating) = &mut self.life else { unreachable!("the caller looked") };
        truncating.stage = to;
    }

    fn halt_truncation(&mut self, message: String, out: &mut LogOut) {
        self.set_truncating(Stage::Halted);
        out.events.push(LogEvent::TruncateFailed { message });
    }

    /// Opens the log again from its files, which are all closed.
    fn reopen(&mut self, now: Now, out: &mut LogOut) {
        if let Some(message) = self.offline.clone() {
            return self.halt_truncation(message, out);
        }
        self.cold.forget_files();
        let files = std::mem::replace(&mut self.files, FileIds::new(0));
        let known = MustReach::default();
        let (recovery, first) = Recovery::start(files, self.dir.clone(), &self.settings, known, now);
        self.life = Life::Opening(Box::new(recovery));
        self.is_reopening = true;
        self.ask(Step::Recover, first, out);
    }

    /// What recovery left was taken over.
    pub(super) fn end_reopening(&mut self, out: &mut LogOut) {
        self.uncleanable = false;
        self.become_stricter();
        out.events.push(LogEvent::Truncated { end: self.end });
    }
}
