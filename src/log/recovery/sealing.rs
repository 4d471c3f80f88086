//! A segment that recovery has read to its end and that others follow on: what a roll would have done with it.
//!
//! *Owns*: the order of sync, cut, index and close. *Never*: goes on behind a segment that may not be durable. *Runs on*:
//! the core that owns the partition.

use super::{Next, Recovery, Stage};
use crate::base::bug::{self, Bug};
use crate::base::disk::{DiskDone, DiskOp, DiskResult};
use crate::log::index::{Index, SealedIndex};
use crate::log::segment::{FileName, Segment};
use crate::log::write::Mark;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seal {
    Syncing,
    Cutting,
    WritingIndex,
    Closing,
}

impl Recovery {
    /// The scanned segment is whole: finish what a roll would have done, then go on with the next. A snapshot of a
    /// later one will say that this is durable, and nobody knows whether it ever was synced.
    pub(super) fn seal(&mut self) -> Next {
        if bug::on(Bug::SkipSealSync) {
            self.stage = Stage::Sealing(Seal::Syncing);
            return self.on_disk(Ok(DiskDone::Done));
        }
        self.stage = Stage::Sealing(Seal::Syncing);
        Next::Ask(DiskOp::Sync { file: self.file() })
    }

    pub(super) fn on_sealed(&mut self, seal: Seal, result: DiskResult) -> Next {
        let base = self.found[self.at].0;
        match seal {
            Seal::Syncing => match result {
                Ok(_) => {
                    self.stage = Stage::Sealing(Seal::Cutting);
                    Next::Ask(DiskOp::Truncate { file: self.file(), len: self.state.mark.position })
                }
                other => self.failed("cannot sync a segment", other),
            },
            // From here on failures cost time later and no data.
            Seal::Cutting => {
                self.stage = Stage::Sealing(Seal::WritingIndex);
                let sealed = SealedIndex {
                    index: self.state.index.clone(),
                    len: self.state.mark.position,
                    max_timestamp: self.state.mark.max_timestamp,
                };
                Next::Ask(DiskOp::WriteFile { path: FileName::Index(base).path(&self.dir), data: sealed.to_file() })
            }
            Seal::WritingIndex => {
                self.stage = Stage::Sealing(Seal::Closing);
                Next::Ask(DiskOp::Close { file: self.file() })
            }
            Seal::Closing => {
                self.file = None;
                let mark = &self.state.mark;
                let timestamp = Some(mark.max_timestamp);
                self.segments.push_back(Segment::sealed(base, mark.position, timestamp, self.now.wall_ms));
                self.at += 1;
                let next = self.found[self.at].0;
                self.state.segment = next;
                self.state.mark = Mark::start_of(next);
                self.state.first_timestamp = None;
                self.state.index = Index::new(next, self.index_interval_bytes);
                self.open()
            }
        }
    }
}
