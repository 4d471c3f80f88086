//! Sealing: what happens, beside further writes, to a segment that is full.
//!
//! It is synced and cut to its batches, its index is written, and then the snapshot that lets recovery begin after
//! it. In this order: the snapshot says that everything below it is durable.
//!
//! *Owns*: the segments being sealed and which snapshots exist. *Never*: holds up the next segment's writes, unless
//! several segments wait. *Runs on*: the core that owns the partition.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::base::disk::{DiskOp, DiskResult};
use crate::base::ids::Offset;
use crate::base::time::Now;

use super::cache::TailCache;
use super::index::SealedIndex;
use super::log::{Log, LogOut, Step};
use super::segment::FileName;
use super::state::{SealedRow, StateView};
use super::write::Mark;

/// Segments waiting to be sealed. At the bound a full segment waits before the next is begun.
pub(super) const SEALS_MAX: usize = 2;

/// Snapshots kept: the newest, and one to fall back to.
const SNAPSHOTS_MAX: usize = 2;

#[derive(Debug, Default)]
pub(super) struct Seals {
    queue: VecDeque<Seal>,
    /// First offsets of the segments that have a snapshot file, ascending.
    snapshots: VecDeque<Offset>,
}

#[derive(Debug)]
struct Seal {
    base: Offset,
    next: Offset,
    index: Bytes,
    snapshot: Bytes,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Waiting,
    Syncing,
    Cutting,
    WritingIndex,
    WritingSnapshot,
}

impl Seals {
    pub(super) fn recovered(snapshots: VecDeque<Offset>) -> Seals {
        Seals { queue: VecDeque::new(), snapshots }
    }

    pub(super) fn are_many(&self) -> bool {
        self.queue.len() >= SEALS_MAX
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// The segment with this first offset, and its snapshot, are removed.
    pub(super) fn forget_snapshot(&mut self, base: Offset) {
        self.snapshots.retain(|other| *other != base);
    }
}

impl Log {
    /// The first segment whose batches are not known to be durable in it, of those being sealed.
    pub(super) fn first_unsynced_seal(&self) -> Option<Offset> {
        let unsynced = |seal: &&Seal| matches!(seal.stage, Stage::Waiting | Stage::Syncing);
        self.seals.queue.iter().find(unsynced).map(|seal| seal.base)
    }

    /// Queues the active segment, all of whose batches are safe; the next one begins at `next`.
    pub(super) fn seal_active(&mut self, next: Offset, out: &mut LogOut) {
        let safe = self.writer.safe();
        let len = safe.position;
        let max_timestamp = safe.max_timestamp;
        let first_timestamp = self.writer.first_timestamp();
        let active = self.segments.back_mut().expect("there is a segment to seal");
        active.sealing = true;
        active.lookalike = self.spare.lookalikes.least();
        active.first_timestamp = first_timestamp;
        let base = active.base;
        let index = active.index.clone().expect("the active segment has its index");
        let index = SealedIndex { index, len, max_timestamp }.to_file();
        let sealed = self.sealed_rows(self.segments.len());
        let snapshot = StateView {
            segment: next,
            mark: &Mark::start_of(next),
            first_timestamp: None,
            index: &super::index::Index::new(next, self.settings.index_interval_bytes),
            sealed: &sealed,
            epochs: &self.epochs,
            producers: &self.producers,
        }
        .to_file();
        self.seals.queue.push_back(Seal { base, next, index, snapshot, stage: Stage::Waiting });
        self.start_seal(out);
    }

    /// The first `count` segments.
    pub(super) fn sealed_rows(&self, count: usize) -> Vec<SealedRow> {
        let row = |segment: &super::segment::Segment| SealedRow {
            base: segment.base,
            len: segment.len,
            max_timestamp: segment.max_timestamp,
        };
        self.segments.iter().take(count).map(row).collect()
    }

    fn start_seal(&mut self, out: &mut LogOut) {
        let Some(seal) = self.seals.queue.front_mut().filter(|seal| seal.stage == Stage::Waiting) else { return };
        seal.stage = Stage::Syncing;
        let base = seal.base;
        let file = self.segment_at(base).and_then(|segment| segment.open_file());
        let file = file.expect("a segment stays open until it is sealed");
        self.ask(Step::Seal, DiskOp::Sync { file }, out);
    }

    pub(super) fn on_seal(&mut self, result: DiskResult, cache: &mut TailCache, now: Now, out: &mut LogOut) {
        let Some(seal) = self.seals.queue.front_mut() else { return };
        let (base, next) = (seal.base, seal.next);
        match seal.stage {
            Stage::Waiting => unreachable!("nothing was asked for"),
            Stage::Syncing => {
                if let Err(error) = result {
                    return self.go_offline(&error, cache, out);
                }
                seal.stage = Stage::Cutting;
                self.tell_flushed(out);
                let segment = self.segment_at(base).expect("a segment stays while it is sealed");
                let len = segment.len;
                let file = segment.open_file().expect("a segment stays open until it is sealed");
                self.ask(Step::Seal, DiskOp::Truncate { file, len }, out);
            }
            // From here on a failure costs time at the next recovery, and no data.
            Stage::Cutting => {
                seal.stage = Stage::WritingIndex;
                let data = std::mem::take(&mut seal.index);
                let path = FileName::Index(base).path(&self.dir);
                self.ask(Step::Seal, DiskOp::WriteFile { path, data }, out);
            }
            Stage::WritingIndex => {
                seal.stage = Stage::WritingSnapshot;
                let data = std::mem::take(&mut seal.snapshot);
                let path = FileName::Snapshot(next).path(&self.dir);
                self.ask(Step::Seal, DiskOp::WriteFile { path, data }, out);
            }
            Stage::WritingSnapshot => {
                self.seals.queue.pop_front();
                let segment = self.segment_at(base).expect("a segment stays while it is sealed");
                segment.sealing = false;
                segment.sealed_ms = now.wall_ms;
                self.cold.warm(base, now.mono);
                if result.is_ok() {
                    self.keep_snapshot(next, out);
                }
                self.cool(out);
                self.start_seal(out);
                self.pump(now, out);
            }
        }
    }

    /// Sealing ends with writing; the files stay as they are, and recovery sees to them.
    pub(super) fn abandon_seals(&mut self) {
        while let Some(seal) = self.seals.queue.pop_front() {
            if let Some(segment) = self.segment_at(seal.base) {
                segment.sealing = false;
            }
        }
    }

    fn keep_snapshot(&mut self, base: Offset, out: &mut LogOut) {
        self.seals.snapshots.push_back(base);
        while self.seals.snapshots.len() > SNAPSHOTS_MAX {
            let Some(old) = self.seals.snapshots.pop_front() else { break };
            let path = FileName::Snapshot(old).path(&self.dir);
            self.ask(Step::Tidy, DiskOp::Delete { path }, out);
        }
    }
}
