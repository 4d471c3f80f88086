//! The end of a log: closing it so that the next start reads no batch, or deleting it.
//!
//! *Owns*: the order: writes, seals, sync, cut, checkpoint, files. *Never*: closes a file that has an operation in
//! flight. *Runs on*: the core that owns the partition.

use crate::base::disk::{DiskOp, DiskResult, FileId};
use crate::base::time::Now;

use super::cache::TailCache;
use super::log::{Life, Log, LogEvent, LogOut, Step};
use super::segment::{FileName, FileState};
use super::state::StateView;

#[derive(Debug)]
pub(super) struct Closing {
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Writes and seals come to their end.
    Draining,
    Syncing,
    Cutting,
    Checkpointing,
    /// Only files are left to be closed.
    Files,
}

impl Log {
    /// Finishes what was appended, syncs, and leaves a checkpoint; then [`LogEvent::Closed`]. Reads under way end
    /// with [`super::log::ReadError::Offline`]. Closing twice, or after a deletion began, does nothing.
    pub fn close(&mut self, cache: &mut TailCache, now: Now, out: &mut LogOut) {
        match &self.life {
            Life::Open | Life::Truncating(_) => self.begin_leaving(Life::Closing(Closing { stage: Stage::Draining })),
            Life::Opening(_) | Life::Failed => self.begin_leaving(Life::Closing(Closing { stage: Stage::Files })),
            Life::Closing(_) | Life::Closed | Life::Deleting | Life::Deleted => return,
        }
        self.fail_all_reads("the log is being closed", out);
        cache.release(&mut self.tail);
        self.writer.commits.retry_due = None;
        self.drive_clean(now, out);
        self.pump(now, out);
        self.leave(now, out);
    }

    /// Removes the log with its directory; then [`LogEvent::Deleted`]. Appends that were not safe yet are never
    /// answered. Works in every state, also after [`LogEvent::Closed`] or [`LogEvent::OpenFailed`].
    pub fn delete(&mut self, cache: &mut TailCache, out: &mut LogOut) {
        match &self.life {
            Life::Opening(_) | Life::Open | Life::Failed | Life::Closing(_) | Life::Truncating(_) | Life::Closed => {}
            Life::Deleting | Life::Deleted => return,
        }
        self.begin_leaving(Life::Deleting);
        self.abandon_seals();
        self.drive_clean(Now::default(), out);
        self.fail_all_reads("the log is being deleted", out);
        cache.release(&mut self.tail);
        self.leave(Now::default(), out);
    }

    fn begin_leaving(&mut self, to: Life) {
        if let Life::Opening(recovery) = std::mem::replace(&mut self.life, to) {
            self.abandoned = Some(recovery);
        }
    }

    /// The next step of closing or deleting, once nothing is in flight.
    pub(super) fn leave(&mut self, now: Now, out: &mut LogOut) {
        if self.in_flight > 0 {
            return;
        }
        match &self.life {
            Life::Opening(_) | Life::Open | Life::Failed | Life::Closed | Life::Deleted => {}
            Life::Truncating(_) => self.go_on_truncating(now, out),
            Life::Deleting => {
                if !self.close_files(out) {
                    self.ask(Step::Remove, DiskOp::DeleteDir { dir: self.dir.clone() }, out);
                }
            }
            Life::Closing(closing) => match closing.stage {
                Stage::Draining => self.drain(now, out),
                Stage::Files => {
                    if !self.close_files(out) {
                        self.life = Life::Closed;
                        out.events.push(LogEvent::Closed);
                    }
                }
                Stage::Syncing | Stage::Cutting | Stage::Checkpointing => unreachable!("these are in flight"),
            },
        }
    }

    fn drain(&mut self, now: Now, out: &mut LogOut) {
        self.pump(now, out);
        if self.in_flight > 0 || (self.writer.is_handing_over() && self.offline.is_none()) {
            return;
        }
        if self.writer.commits.retry_due.is_some() && self.offline.is_none() {
            // The journal keeps what the segment could not take.
            self.life = Life::Closing(Closing { stage: Stage::Files });
            return self.leave(now, out);
        }
        assert!(self.offline.is_some() || self.writer.is_idle(), "what is pending is written before closing");
        assert!(self.offline.is_some() || self.seals.is_empty());
        let active = self.segments.back().and_then(|segment| segment.open_file());
        match active.filter(|_| self.writer.is_dirty() && self.offline.is_none()) {
            Some(file) => {
                self.life = Life::Closing(Closing { stage: Stage::Syncing });
                self.ask(Step::Finish, DiskOp::Sync { file }, out);
            }
            None => {
                self.life = Life::Closing(Closing { stage: Stage::Files });
                self.leave(now, out);
            }
        }
    }

    pub(super) fn on_finish(&mut self, result: DiskResult, out: &mut LogOut) {
        let Life::Closing(closing) = &self.life else { return };
        if self.offline.is_some() {
            self.life = Life::Closing(Closing { stage: Stage::Files });
            return;
        }
        let active = self.segments.back().and_then(|segment| segment.open_file());
        let file = active.expect("the active segment stays open until the checkpoint is written");
        let len = self.writer.safe().position;
        let (stage, op) = match (closing.stage, result) {
            (Stage::Syncing, Ok(_)) => {
                self.writer.commits.synced = self.end;
                self.tell_flushed(out);
                (Stage::Cutting, DiskOp::Truncate { file, len })
            }
            (Stage::Cutting, Ok(_)) => {
                let path = FileName::Checkpoint.path(&self.dir);
                (Stage::Checkpointing, DiskOp::WriteFile { path, data: self.checkpoint() })
            }
            (stage, result) => {
                // Without a checkpoint the next start reads the last segment's batches again.
                if let (Stage::Syncing, Err(error)) = (stage, result) {
                    out.events.push(LogEvent::Failed { from: self.end, full: false, message: error.message });
                }
                self.life = Life::Closing(Closing { stage: Stage::Files });
                return;
            }
        };
        self.life = Life::Closing(Closing { stage });
        self.ask(Step::Finish, op, out);
    }

    pub(super) fn on_removed(&mut self, result: DiskResult, out: &mut LogOut) {
        if let Err(error) = result {
            tracing::warn!(dir = %self.dir.display(), %error, "a deleted partition's directory could not be removed");
        }
        self.life = Life::Deleted;
        out.events.push(LogEvent::Deleted);
    }

    fn checkpoint(&self) -> bytes::Bytes {
        let active = self.segments.back().expect("a checkpoint is of a segment");
        StateView {
            segment: active.base,
            mark: self.writer.safe(),
            first_timestamp: self.writer.first_timestamp(),
            index: active.index.as_ref().expect("the active segment has its index"),
            sealed: &self.sealed_rows(self.segments.len() - 1),
            epochs: &self.epochs,
            producers: &self.producers,
        }
        .to_file()
    }

    /// Asks for every open file to be closed; false when there was none.
    pub(super) fn close_files(&mut self, out: &mut LogOut) -> bool {
        let mut files: Vec<FileId> =
            self.abandoned.take().and_then(|recovery| recovery.open_file()).into_iter().collect();
        for segment in &mut self.segments {
            files.extend(segment.open_file());
            segment.file = FileState::Closed;
        }
        let any = !files.is_empty();
        for file in files {
            self.ask(Step::Tidy, DiskOp::Close { file }, out);
        }
        any
    }
}
