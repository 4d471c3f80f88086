//! The file's end at recovery: the last block is read again, what lies behind the log goes, and the file is synced.
//!
//! *Owns*: what of a file may stay behind the end of its log. *Never*: decides where a log ends. *Runs on*: the core
//! that owns the partition.

use super::{Next, Recovery, Stage};
use crate::base::bug::{self, Bug};
use crate::base::disk::{BLOCK_BYTES, DiskDone, DiskOp, DiskResult};
use crate::base::limits::DISK_READ_BYTES_MAX;

impl Recovery {
    pub(super) fn tail_bytes(&self) -> u64 {
        self.state.mark.position % BLOCK_BYTES as u64
    }

    pub(super) fn read_tail(&mut self) -> Next {
        let len = self.tail_bytes();
        if len == self.state.mark.tail.len() as u64 {
            return self.look_behind();
        }
        self.stage = Stage::ReadingTail;
        let position = self.state.mark.position - len;
        Next::Ask(DiskOp::Read { file: self.file(), position, len: len as usize })
    }

    /// What lies beyond the end may be batches that fit by chance once others were appended before them. Space that was
    /// only reserved is zeros, which cannot: little of it stays, since to look costs much less than to cut and to sync
    /// that, with thousands of logs.
    pub(super) fn look_behind(&mut self) -> Next {
        let behind = self.bytes_behind();
        if behind == 0 || bug::on(Bug::KeepStaleTail) {
            return self.sync();
        }
        if behind > DISK_READ_BYTES_MAX as u64 {
            return self.cut();
        }
        self.stage = Stage::LookingBehind;
        let position = self.state.mark.position;
        Next::Ask(DiskOp::Read { file: self.file(), position, len: behind as usize })
    }

    pub(super) fn on_looked_behind(&mut self, result: &DiskResult) -> Next {
        let behind = self.bytes_behind();
        let is_zeros = |bytes: &[u8]| bytes.len() as u64 == behind && bytes.iter().all(|byte| *byte == 0);
        match result {
            Ok(DiskDone::Read(bytes)) if is_zeros(bytes) => self.sync(),
            Ok(_) | Err(_) => self.cut(),
        }
    }

    /// Of the file, beyond the end of the log.
    fn bytes_behind(&self) -> u64 {
        self.found[self.at].1.saturating_sub(self.state.mark.position)
    }

    fn cut(&mut self) -> Next {
        let len = self.state.mark.position;
        self.stage = Stage::Cutting;
        Next::Ask(DiskOp::Truncate { file: self.file(), len })
    }

    pub(super) fn sync(&mut self) -> Next {
        if !self.sync {
            return self.done();
        }
        self.stage = Stage::Syncing;
        Next::Ask(DiskOp::Sync { file: self.file() })
    }
}
