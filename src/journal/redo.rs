//! Redo: writes what a journal holds to its place in the segments, and makes it durable.
//!
//! The same bytes at the same place, so that it may be done twice or be cut short anywhere. A file never becomes
//! longer than it was, except by what is written.
//!
//! *Owns*: the order of these steps in a partition, and how many are under way. *Never*: makes a segment whose
//! beginning is not in the journal; leaves a gap. *Runs on*: core 0, before partitions are opened.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::format::EntryHead;
use super::replay::{Asked, Damage, Loss, ReplayOp, remedies};
use crate::base::bounds::{BOUNDS_NAME, Bounds};
use crate::base::disk::{BLOCK_BYTES, DiskDone, DiskError, DiskErrorKind, DiskOp, DiskResult, FileId};
use crate::base::ids::{Offset, PartitionIndex, TopicId};
use crate::base::layout::{segment_base, segment_name};
use crate::base::limits::{DISK_WRITE_BYTES_MAX, JOURNAL_REDO_PARTITIONS_MAX};

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
    /// How often the log had been truncated by then.
    truncations: u32,
    slices: VecDeque<Bytes>,
    entries: u64,
}

/// How a redo ended.
#[derive(Debug)]
pub(super) enum Ended {
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

/// Some partitions at a time: a device does many syncs in the time of a few.
#[derive(Debug)]
pub(super) struct Redo {
    loss: Loss,
    owner: u32,
    waiting: VecDeque<Row>,
    /// Those under way, by the number their operations have.
    rows: Vec<Option<RowRedo>>,
    redone: Redone,
}

/// One partition, one operation at a time.
#[derive(Debug)]
struct RowRedo {
    loss: Loss,
    row: Row,
    /// Segments that are there.
    found: Vec<Offset>,
    /// Of the log.
    bounds: Bounds,
    stage: Stage,
    /// The segment at hand.
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

#[derive(Debug)]
enum Step {
    Ask(DiskOp),
    Done,
    Failed(String),
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
    pub(super) fn push(&mut self, name: (TopicId, PartitionIndex), dir: &Path, entry: &EntryHead, bytes: Bytes) {
        let &EntryHead { segment, position, truncations, .. } = entry;
        let row = self.rows.entry(name).or_insert_with(|| Row { dir: dir.to_path_buf(), segments: BTreeMap::new() });
        let runs = row.segments.entry(segment).or_default();
        let len = bytes.len() as u64;
        let follows = |run: &&mut Run| run.start + run.len == position && run.truncations == truncations;
        match runs.last_mut().filter(follows) {
            Some(run) => {
                run.len += len;
                run.entries += 1;
                run.slices.push_back(bytes);
            }
            None => runs.push(Run { start: position, len, truncations, slices: VecDeque::from([bytes]), entries: 1 }),
        }
    }
}

impl Redo {
    /// Its files' ids are of `owner`, and count on from `files_opened`.
    pub(super) fn start(pieces: Pieces, loss: Loss, owner: u32, files_opened: u32, out: &mut Asked) -> Redo {
        let mut redo = Redo {
            loss,
            owner,
            waiting: pieces.rows.into_values().collect(),
            rows: Vec::new(),
            redone: Redone { files_opened, ..Redone::default() },
        };
        for number in 0..JOURNAL_REDO_PARTITIONS_MAX.min(redo.waiting.len()) {
            redo.rows.push(None);
            redo.begin(number, out);
        }
        redo
    }

    /// Takes the end of an operation of a partition, by its number.
    pub(super) fn on_disk(&mut self, number: usize, result: DiskResult, out: &mut Asked) -> Option<Ended> {
        let row = self.rows[number].as_mut().expect("a partition asked for this");
        match row.on_disk(result) {
            Step::Ask(op) => out.push((ReplayOp(number as u32), op)),
            Step::Failed(message) => return Some(Ended::Failed(message)),
            Step::Done => {
                let Redone { entries, bytes, retired, damages, .. } = std::mem::take(&mut row.redone);
                self.redone.entries += entries;
                self.redone.bytes += bytes;
                self.redone.retired += retired;
                self.redone.damages.extend(damages);
                self.rows[number] = None;
                self.begin(number, out);
            }
        }
        self.ended()
    }

    /// Once nothing is under way.
    pub(super) fn ended(&mut self) -> Option<Ended> {
        let over = self.rows.iter().all(Option::is_none);
        over.then(|| Ended::Done(std::mem::take(&mut self.redone)))
    }

    fn begin(&mut self, number: usize, out: &mut Asked) {
        let Some(row) = self.waiting.pop_front() else { return };
        let dir = row.dir.clone();
        let files_opened = self.redone.files_opened;
        self.redone.files_opened = files_opened.wrapping_add(row.segments.len() as u32);
        self.rows[number] = Some(RowRedo::new(row, self.loss, self.owner, files_opened));
        out.push((ReplayOp(number as u32), DiskOp::List { dir }));
    }
}

impl RowRedo {
    fn new(row: Row, loss: Loss, owner: u32, files_opened: u32) -> RowRedo {
        RowRedo {
            loss,
            row,
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
        }
    }

    fn on_disk(&mut self, result: DiskResult) -> Step {
        let done = match result {
            Ok(done) => done,
            Err(error) => return self.on_error(&error),
        };
        match (self.stage, done) {
            (Stage::Listing, DiskDone::Listed(names)) => {
                self.found = names.iter().filter_map(|(name, _)| segment_base(name)).collect();
                if names.iter().any(|(name, _)| name == BOUNDS_NAME) {
                    self.stage = Stage::ReadingBounds;
                    return Step::Ask(DiskOp::ReadFile { path: self.path() });
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
    fn on_error(&mut self, error: &DiskError) -> Step {
        let path = self.path();
        let path = path.display();
        match (self.stage, error.kind) {
            (_, DiskErrorKind::Full | DiskErrorKind::TooManyFiles) => {
                let why = "nothing is lost; free some space, or raise the limit, and start again";
                Step::Failed(format!("{path} cannot be completed from the commit journal: {error}; {why}"))
            }
            (Stage::Syncing, _) => Step::Failed(format!("{path} cannot be synced: {error}; look at the device")),
            (Stage::Closing, _) => self.open(),
            _ if self.loss == Loss::Refused => {
                Step::Failed(format!("{path} cannot be completed from the commit journal: {error}. {}", remedies()))
            }
            (Stage::Listing | Stage::ReadingBounds | Stage::Opening, _) => {
                self.damage(format!("cannot be opened to be completed from the journal: {error}"));
                if self.stage == Stage::Opening { self.open() } else { Step::Done }
            }
            (Stage::ReadingBefore | Stage::ReadingBehind | Stage::Writing | Stage::Cutting, _) => {
                self.damage(format!("cannot be completed from the journal: {error}"));
                self.close()
            }
        }
    }

    fn path(&self) -> PathBuf {
        let dir = &self.row.dir;
        match self.stage {
            Stage::Listing => dir.clone(),
            Stage::ReadingBounds => dir.join(BOUNDS_NAME),
            _ => dir.join(segment_name(self.segment)),
        }
    }

    fn damage(&mut self, message: String) {
        let position = self.runs.front().map_or(0, |run| run.start);
        self.redone.damages.push(Damage { path: self.path(), position, message });
    }

    /// The partition's next segment.
    fn open(&mut self) -> Step {
        loop {
            let Some((segment, mut runs)) = self.row.segments.pop_first() else { return Step::Done };
            let void = runs.extract_if(.., |run| self.bounds.voids(run.truncations));
            self.redone.retired += void.map(|run| run.entries).sum::<u64>();
            if runs.is_empty() {
                continue;
            }
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
            return Step::Ask(DiskOp::Open { file: self.file, path: self.path(), create: !is_there });
        }
    }

    /// Plans the next write: a part of the first run, which ends at a block's end if it is not all of it.
    fn write(&mut self) -> Step {
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
        Step::Ask(DiskOp::Read { file: self.file, position: start / BLOCK * BLOCK, len })
    }

    fn on_before(&mut self, bytes: Bytes) -> Step {
        let wanted = self.runs.front().map_or(0, |run| run.start % BLOCK);
        if bytes.len() as u64 != wanted {
            return self.became_shorter();
        }
        self.before = bytes;
        self.read_behind()
    }

    fn on_behind(&mut self, bytes: Bytes) -> Step {
        if self.write_end + bytes.len() as u64 != self.behind_end() {
            return self.became_shorter();
        }
        self.behind = bytes;
        self.send_write()
    }

    fn became_shorter(&mut self) -> Step {
        self.damage("became shorter while it was completed from the journal".into());
        self.close()
    }

    /// Up to here the last block of the write at hand has bytes of its own.
    fn behind_end(&self) -> u64 {
        self.write_end.next_multiple_of(BLOCK).min(self.len)
    }

    fn read_behind(&mut self) -> Step {
        let end = self.write_end;
        let upto = self.behind_end();
        if upto <= end {
            return self.send_write();
        }
        self.stage = Stage::ReadingBehind;
        Step::Ask(DiskOp::Read { file: self.file, position: end, len: (upto - end) as usize })
    }

    fn send_write(&mut self) -> Step {
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
        Step::Ask(DiskOp::Write { file: self.file, position, data })
    }

    fn cut(&mut self) -> Step {
        if self.padded_len == self.len {
            return self.sync();
        }
        self.stage = Stage::Cutting;
        Step::Ask(DiskOp::Truncate { file: self.file, len: self.len })
    }

    fn sync(&mut self) -> Step {
        self.stage = Stage::Syncing;
        Step::Ask(DiskOp::Sync { file: self.file })
    }

    fn close(&mut self) -> Step {
        self.stage = Stage::Closing;
        self.runs.clear();
        Step::Ask(DiskOp::Close { file: self.file })
    }
}
