//! Redo: writes what a journal holds to its place in the segments, and makes it durable.
//!
//! The same bytes at the same place, so that it may be done twice or be cut short anywhere. A file never becomes
//! longer than it was, except by what is written.
//!
//! *Owns*: the order of these steps, one operation at a time. *Never*: makes a segment whose beginning is not in the
//! journal; leaves a gap. *Runs on*: core 0, before partitions are opened.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::replay::{Damage, Loss, remedies};
use crate::base::bounds::{BOUNDS_NAME, Bounds};
use crate::base::bug::{self, Bug};
use crate::base::disk::{BLOCK_BYTES, DiskDone, DiskError, DiskErrorKind, DiskOp, DiskResult, FileId};
use crate::base::ids::{Offset, PartitionIndex, TopicId};
use crate::base::layout::{segment_base, segment_name};
use crate::base::limits::DISK_WRITE_BYTES_MAX;

const BLOCK: u64 = BLOCK_BYTES as u64;

/// What is to be written, in the order of the commits.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    rows: BTreeMap<(TopicId, PartitionIndex), Row>,
}

#[derive(Debug)]
struct Row {
    dir: PathBuf,
    segments: BTreeMap<Offset, Vec<Run>>,
}

/// Bytes that follow one another in a segment.
#[derive(Debug)]
struct Run {
    start: u64,
    len: u64,
    slices: VecDeque<Bytes>,
    entries: u64,
}

#[derive(Debug)]
pub(super) enum Next {
    Ask(DiskOp),
    Done(Redone),
    /// Nothing can be redone, for now or at all.
    Failed(String),
}

#[derive(Debug, Default)]
pub(super) struct Redone {
    pub(super) entries: u64,
    pub(super) bytes: u64,
    /// Entries of segments that are gone, or not as they were, for good reason.
    pub(super) retired: u64,
    pub(super) damages: Vec<Damage>,
    /// The count in the ids of its files was used up to here.
    pub(super) files_opened: u32,
}

#[derive(Debug)]
pub(super) struct Redo {
    loss: Loss,
    rows: VecDeque<Row>,
    /// Segments of the partition at hand.
    found: Vec<Offset>,
    /// Of its log.
    bounds: Bounds,
    stage: Stage,
    /// The segment at hand; its directory is that of the first row.
    segment: Offset,
    runs: VecDeque<Run>,
    owner: u32,
    file: FileId,
    /// The file's length, without what pads the last write.
    len: u64,
    /// With it.
    padded_len: u64,
    /// Bytes before and behind the write at hand in its first and last block.
    before: Bytes,
    behind: Bytes,
    /// Where the write at hand ends.
    write_end: u64,
    redone: Redone,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Listing,
    ReadingBounds,
    Opening,
    ReadingBefore,
    ReadingBehind,
    Writing,
    Cutting,
    Syncing,
    Closing,
}

impl Pieces {
    pub(super) fn push(
        &mut self,
        name: (TopicId, PartitionIndex),
        dir: &Path,
        segment: Offset,
        position: u64,
        bytes: Bytes,
    ) {
        let row = self.rows.entry(name).or_insert_with(|| Row { dir: dir.to_path_buf(), segments: BTreeMap::new() });
        let runs = row.segments.entry(segment).or_default();
        let len = bytes.len() as u64;
        match runs.last_mut().filter(|run| run.start + run.len == position) {
            Some(run) => {
                run.len += len;
                run.entries += 1;
                run.slices.push_back(bytes);
            }
            None => runs.push(Run { start: position, len, slices: VecDeque::from([bytes]), entries: 1 }),
        }
    }
}

impl Redo {
    /// Its files' ids are of `owner`, and count on from `files_opened`.
    pub(super) fn start(pieces: Pieces, loss: Loss, owner: u32, files_opened: u32) -> (Redo, Next) {
        let mut redo = Redo {
            loss,
            rows: pieces.rows.into_values().collect(),
            found: Vec::new(),
            bounds: Bounds::default(),
            stage: Stage::Listing,
            segment: Offset(0),
            runs: VecDeque::new(),
            owner,
            file: FileId::new(owner, files_opened),
            len: 0,
            padded_len: 0,
            before: Bytes::new(),
            behind: Bytes::new(),
            write_end: 0,
            redone: Redone { files_opened, ..Redone::default() },
        };
        let first = redo.list();
        (redo, first)
    }

    pub(super) fn on_disk(&mut self, result: DiskResult) -> Next {
        let done = match result {
            Ok(done) => done,
            Err(error) => return self.on_error(&error),
        };
        match (self.stage, done) {
            (Stage::Listing, DiskDone::Listed(names)) => {
                self.found = names.iter().filter_map(|(name, _)| segment_base(name)).collect();
                self.bounds = Bounds::default();
                if names.iter().any(|(name, _)| name == BOUNDS_NAME) {
                    self.stage = Stage::ReadingBounds;
                    return Next::Ask(DiskOp::ReadFile { path: self.path() });
                }
                self.open()
            }
            (Stage::ReadingBounds, DiskDone::Read(bytes)) => {
                // When it is damaged, the log's recovery says so.
                self.bounds = Bounds::from_file(&bytes).unwrap_or_default();
                self.open()
            }
            (Stage::Opening, DiskDone::Opened { len }) => {
                (self.len, self.padded_len) = (len, len);
                self.write()
            }
            (Stage::ReadingBefore, DiskDone::Read(bytes)) => self.on_before(bytes),
            (Stage::ReadingBehind, DiskDone::Read(bytes)) => self.on_behind(bytes),
            (Stage::Writing, _) => {
                self.len = self.len.max(self.write_end);
                self.padded_len = self.padded_len.max(self.write_end.next_multiple_of(BLOCK));
                self.write()
            }
            (Stage::Cutting, _) => self.sync(),
            (Stage::Syncing, _) => self.close(),
            (Stage::Closing, _) => self.open(),
            (stage, done) => unreachable!("{done:?} is no answer while {stage:?}"),
        }
    }

    /// Where a loss is accepted, an error of one file is told and the others go on, unless all are going to have it.
    fn on_error(&mut self, error: &DiskError) -> Next {
        let path = self.path();
        let path = path.display();
        match (self.stage, error.kind) {
            (_, DiskErrorKind::Full | DiskErrorKind::TooManyFiles) => {
                let why = "nothing is lost; free some space, or raise the limit, and start again";
                Next::Failed(format!("{path} cannot be completed from the commit journal: {error}; {why}"))
            }
            (Stage::Syncing, _) => Next::Failed(format!("{path} cannot be synced: {error}; look at the device")),
            (Stage::Closing, _) => self.open(),
            _ if self.loss == Loss::Refused => {
                Next::Failed(format!("{path} cannot be completed from the commit journal: {error}. {}", remedies()))
            }
            (Stage::Listing | Stage::ReadingBounds | Stage::Opening, _) => {
                self.damage(format!("cannot be opened to be completed from the journal: {error}"));
                if self.stage != Stage::Opening {
                    self.rows.pop_front();
                    return self.list();
                }
                self.open()
            }
            (Stage::ReadingBefore | Stage::ReadingBehind | Stage::Writing | Stage::Cutting, _) => {
                self.damage(format!("cannot be completed from the journal: {error}"));
                self.close()
            }
        }
    }

    fn path(&self) -> PathBuf {
        let dir = self.rows.front().map(|row| row.dir.clone()).unwrap_or_default();
        match self.stage {
            Stage::Listing => dir,
            Stage::ReadingBounds => dir.join(BOUNDS_NAME),
            _ => dir.join(segment_name(self.segment)),
        }
    }

    fn damage(&mut self, message: String) {
        let position = self.runs.front().map_or(0, |run| run.start);
        self.redone.damages.push(Damage { path: self.path(), position, message });
    }

    fn list(&mut self) -> Next {
        match self.rows.front() {
            Some(row) => {
                self.stage = Stage::Listing;
                Next::Ask(DiskOp::List { dir: row.dir.clone() })
            }
            None => Next::Done(std::mem::take(&mut self.redone)),
        }
    }

    /// The partition's next segment, or the next partition.
    fn open(&mut self) -> Next {
        loop {
            let next = self.rows.front_mut().and_then(|row| row.segments.pop_first());
            let Some((segment, runs)) = next else {
                self.rows.pop_front();
                return self.list();
            };
            self.stage = Stage::Opening;
            self.segment = segment;
            self.runs = runs.into();
            let is_there = self.found.contains(&segment);
            let is_removed = segment < self.bounds.start || self.found.iter().any(|other| *other > segment);
            if segment < self.bounds.rewritten || (!is_there && is_removed) {
                // Retention removed it, and there is always a last segment; or compaction has rewritten it.
                self.redone.retired += self.runs.iter().map(|run| run.entries).sum::<u64>();
                continue;
            }
            let begins = self.runs.front().is_some_and(|run| run.start == 0);
            if !is_there && !begins {
                self.damage("is missing: the journal holds bytes that follow on others in it".into());
                continue;
            }
            self.redone.files_opened = self.redone.files_opened.wrapping_add(1);
            self.file = FileId::new(self.owner, self.redone.files_opened);
            return Next::Ask(DiskOp::Open { file: self.file, path: self.path(), create: !is_there });
        }
    }

    /// Plans the next write: a part of the first run, which ends at a block's end if it is not all of it.
    fn write(&mut self) -> Next {
        self.before = Bytes::new();
        self.behind = Bytes::new();
        while self.runs.front().is_some_and(|run| run.len == 0) {
            let run = self.runs.pop_front();
            self.redone.entries += run.map_or(0, |run| run.entries);
        }
        let Some(run) = self.runs.front() else { return self.cut() };
        let (start, end) = (run.start, run.start + run.len);
        if start > self.len {
            self.damage(format!("ends at byte {}, but what the journal holds begins at byte {start}", self.len));
            return self.cut();
        }
        self.write_end = end.min(start / BLOCK * BLOCK + DISK_WRITE_BYTES_MAX as u64);
        let len = (start % BLOCK) as usize;
        if len == 0 {
            return self.read_behind();
        }
        self.stage = Stage::ReadingBefore;
        Next::Ask(DiskOp::Read { file: self.file, position: start / BLOCK * BLOCK, len })
    }

    fn on_before(&mut self, bytes: Bytes) -> Next {
        let wanted = self.runs.front().map_or(0, |run| run.start % BLOCK);
        if bytes.len() as u64 != wanted {
            return self.became_shorter();
        }
        self.before = bytes;
        self.read_behind()
    }

    fn on_behind(&mut self, bytes: Bytes) -> Next {
        if self.write_end + bytes.len() as u64 != self.behind_end() {
            return self.became_shorter();
        }
        self.behind = bytes;
        self.send_write()
    }

    fn became_shorter(&mut self) -> Next {
        self.damage("became shorter while it was completed from the journal".into());
        self.close()
    }

    /// Up to here the last block of the write at hand has bytes of its own.
    fn behind_end(&self) -> u64 {
        self.write_end.next_multiple_of(BLOCK).min(self.len)
    }

    fn read_behind(&mut self) -> Next {
        let end = self.write_end;
        let upto = self.behind_end();
        if upto <= end {
            return self.send_write();
        }
        self.stage = Stage::ReadingBehind;
        Next::Ask(DiskOp::Read { file: self.file, position: end, len: (upto - end) as usize })
    }

    fn send_write(&mut self) -> Next {
        self.stage = Stage::Writing;
        let run = self.runs.front_mut().expect("a write was planned");
        let position = run.start / BLOCK * BLOCK;
        let mut left = (self.write_end - run.start) as usize;
        run.start += left as u64;
        run.len -= left as u64;
        self.redone.bytes += left as u64;
        let mut data = Vec::with_capacity(2 + run.slices.len());
        data.push(std::mem::take(&mut self.before));
        while left > 0 {
            let slice = run.slices.front_mut().expect("a run has the bytes it says");
            let part = slice.split_to(left.min(slice.len()));
            left -= part.len();
            data.push(part);
            if slice.is_empty() {
                run.slices.pop_front();
            }
        }
        data.push(std::mem::take(&mut self.behind));
        Next::Ask(DiskOp::Write { file: self.file, position, data })
    }

    fn cut(&mut self) -> Next {
        if self.padded_len == self.len {
            return self.sync();
        }
        self.stage = Stage::Cutting;
        Next::Ask(DiskOp::Truncate { file: self.file, len: self.len })
    }

    fn sync(&mut self) -> Next {
        if bug::on(Bug::SkipRedoSync) {
            return self.close();
        }
        self.stage = Stage::Syncing;
        Next::Ask(DiskOp::Sync { file: self.file })
    }

    fn close(&mut self) -> Next {
        self.stage = Stage::Closing;
        self.runs.clear();
        Next::Ask(DiskOp::Close { file: self.file })
    }
}
