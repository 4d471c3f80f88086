//! Putting a compacted segment in the place of those it was made of, so that a crash leaves the ones or the other.
//!
//! The file is complete and durable as `.cleaned`. Renamed to `.swap` it counts: its name says which offsets it spans,
//! and recovery finishes what follows. From then on reads go to it. The old files are deleted, then it gets its name.
//!
//! *Owns*: the order of these steps, and the reads that wait for them. *Never*: has a read on the old files and one on
//! the new at a time. *Runs on*: the core that owns the partition.

use crate::base::disk::{DiskOp, DiskResult, FileId};
use crate::base::ids::Offset;
use crate::base::time::Now;

use super::cache::TailCache;
use super::clean::{CleanStep, Cleaning, Group, Stage as CleanStage};
use super::index::SealedIndex;
use super::log::{Life, Log, LogOut, Step};
use super::output::Output;
use super::segment::{FileName, FileState, Segment};

#[derive(Debug)]
pub(super) struct Swap {
    pub(super) group: Group,
    output: Option<Output>,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Reads of the old segments come to their end, new ones wait.
    Holding,
    Renaming,
    /// So many old files are still to be deleted.
    Removing(usize),
    Placing,
    Indexing,
}

impl Swap {
    pub(super) fn new(group: Group, output: Output) -> Swap {
        Swap { group, output: Some(output), stage: Stage::Holding }
    }

    /// The new file, and of which group, while it is not part of the log.
    pub(super) fn output(&self) -> Option<(FileId, Group)> {
        self.output.as_ref().map(|output| (output.file, self.group))
    }

    /// Reads of the segment wait.
    fn holds(&self, base: Offset) -> bool {
        matches!(self.stage, Stage::Holding | Stage::Renaming) && self.group.holds(base)
    }
}

impl Log {
    /// The segment is about to be replaced.
    pub(super) fn is_held(&self, base: Offset) -> bool {
        self.cleaning.as_ref().is_some_and(|cleaning| match &cleaning.stage {
            CleanStage::Swapping(swap) => swap.holds(base),
            _ => false,
        })
    }

    /// Begins the swap once no read is on the old files.
    pub(super) fn drive_swap(&mut self, mut cleaning: Box<Cleaning>, out: &mut LogOut) {
        let CleanStage::Swapping(swap) = &mut cleaning.stage else { unreachable!("the caller looked") };
        if swap.stage == Stage::Holding && self.is_quiet(swap.group) {
            swap.stage = Stage::Renaming;
            let from = FileName::Cleaned(swap.group.base).path(&self.dir);
            let to = FileName::Swap(swap.group.base, swap.group.end).path(&self.dir);
            cleaning.in_flight += 1;
            self.ask(Step::Clean(CleanStep::Swap), DiskOp::Rename { from, to }, out);
        }
        self.cleaning = Some(cleaning);
    }

    /// No disk operation on a segment of the group is in flight.
    fn is_quiet(&self, group: Group) -> bool {
        let of_group = self.segments.iter().filter(|segment| group.holds(segment.base));
        of_group.into_iter().all(|segment| {
            segment.reads == 0
                && !segment.sealing
                && !matches!(segment.file, FileState::Opening(_))
                && !self.cold.is_indexing(segment.base)
        })
    }

    pub(super) fn on_swap(
        &mut self,
        mut cleaning: Box<Cleaning>,
        result: DiskResult,
        cache: &mut TailCache,
        now: Now,
        out: &mut LogOut,
    ) {
        let CleanStage::Swapping(swap) = &mut cleaning.stage else { unreachable!("the caller looked") };
        let goes_on = matches!(self.life, Life::Open) && self.offline.is_none();
        if let Err(error) = &result
            && swap.stage != Stage::Indexing
        {
            // Recovery knows what to make of it, whatever was done.
            self.uncleanable = true;
            let message = format!("a compacted segment could not be put in its place: {error}");
            return self.give_up_clean(cleaning, message, out);
        }
        if !goes_on {
            return self.give_up_clean(cleaning, "the log takes no more writes".to_owned(), out);
        }
        let group = swap.group;
        match swap.stage {
            Stage::Holding => unreachable!("nothing was asked for"),
            Stage::Renaming => {
                let output = swap.output.take().expect("it becomes part of the log now");
                let (removed, doomed) = self.switch(group, output, cache, out);
                swap.stage = Stage::Removing(doomed.len());
                cleaning.counts.removed += removed - 1;
                for name in doomed {
                    cleaning.in_flight += 1;
                    self.ask(Step::Clean(CleanStep::Swap), DiskOp::Delete { path: name.path(&self.dir) }, out);
                }
            }
            Stage::Removing(left) if left > 1 => swap.stage = Stage::Removing(left - 1),
            Stage::Removing(_) => {
                swap.stage = Stage::Placing;
                let from = FileName::Swap(group.base, group.end).path(&self.dir);
                let to = FileName::Segment(group.base).path(&self.dir);
                cleaning.in_flight += 1;
                self.ask(Step::Clean(CleanStep::Swap), DiskOp::Rename { from, to }, out);
            }
            Stage::Placing => {
                swap.stage = Stage::Indexing;
                let path = FileName::Index(group.base).path(&self.dir);
                let data = self.sealed_index(group.base);
                cleaning.in_flight += 1;
                self.ask(Step::Clean(CleanStep::Swap), DiskOp::WriteFile { path, data }, out);
            }
            // Without the file the index is made again when it is needed.
            Stage::Indexing => {
                let segment = self.segment_at(group.base).expect("it stays until it has its name");
                segment.sealing = false;
                self.cold.warm(group.base, now.mono);
                self.cool(out);
                return self.end_group(cleaning, group.end, now, out);
            }
        }
        self.cleaning = Some(cleaning);
    }

    fn sealed_index(&mut self, base: Offset) -> bytes::Bytes {
        let segment = self.segment_at(base).expect("it stays until it has its name");
        let index = segment.index.clone().expect("it came with its index");
        SealedIndex { index, len: segment.len, max_timestamp: segment.max_timestamp.unwrap_or(i64::MIN) }.to_file()
    }

    /// Reads go to the new file from now on. Gives how many segments it takes the place of, and the files to be deleted
    /// before it can have its name: the old index would be taken for its own.
    fn switch(
        &mut self,
        group: Group,
        output: Output,
        cache: &mut TailCache,
        out: &mut LogOut,
    ) -> (u64, Vec<FileName>) {
        let first = self.segments.partition_point(|segment| segment.base < group.base);
        let upto = self.segments.partition_point(|segment| segment.base < group.end);
        let old: Vec<Segment> = self.segments.drain(first..upto).collect();
        let mut doomed = vec![FileName::Index(group.base)];
        for segment in &old {
            self.cold.forget_warm(segment.base);
            if let Some(file) = segment.open_file() {
                self.ask(Step::Tidy, DiskOp::Close { file }, out);
            }
            if segment.base != group.base {
                self.seals.forget_snapshot(segment.base);
                let base = segment.base;
                doomed.extend([FileName::Index(base), FileName::Snapshot(base), FileName::Segment(base)]);
            }
        }
        let segment = Segment {
            base: group.base,
            len: output.len(),
            max_timestamp: Some(output.max_timestamp),
            file: FileState::Open(output.file),
            index: Some(output.index),
            reads: 0,
            // The name that the file would be opened by is not its own yet.
            sealing: true,
            sealed_ms: old.iter().map(|segment| segment.sealed_ms).max().unwrap_or(i64::MAX),
            first_timestamp: old.first().and_then(|segment| segment.first_timestamp),
            lookalike: Offset(0),
        };
        self.segments.insert(first, segment);
        if let Some(key) = self.tail {
            cache.forget_chunks(key);
        }
        self.cold.move_to(group);
        self.drive_reads(out);
        (old.len() as u64, doomed)
    }
}
