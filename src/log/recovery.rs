//! Recovery: from the files of a log to its state, reading batches only where no checkpoint or snapshot vouches.
//!
//! One operation at a time: list the directory; read the newest of checkpoint and snapshots that is whole; from its
//! place on, scan. The first batch that does not fit ends the log: the rest of its file is cut, later segments are
//! put aside (their batches followed on some that are gone). Every step can be interrupted and done again.
//!
//! What lies below the log's start (`bounds`) is none of it: a missing file is no damage, and one that is left goes.
//! When the batches end before the start, as they may after a power loss, the log is empty and begins there.
//!
//! A crash takes only what was not synced, and a checkpoint, a snapshot, the journal or what its core has noted tells
//! what was. Where more is missing the files are damaged, and the log does not open: nothing of it is cut, and no offset
//! given twice. What was asked for is then written down (`reach`), since the journal is about to be emptied.
//!
//! *Owns*: the order of these steps. *Never*: drops a batch that lies before the first bad one, or anything at all
//! without saying so; trusts a file's length. *Runs on*: the core that owns the partition.

mod behind;
mod sealing;
mod truncate;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use crate::base::bounds::Bounds;
use crate::base::bug::{self, Bug};
use crate::base::disk::{DiskDone, DiskOp, DiskResult, FileId};
use crate::base::ids::{LeaderEpoch, Offset};
use crate::base::time::Now;
use crate::config::{Durability, TopicSettings};

use super::epochs::Epochs;
use super::finish::Unfinished;
use super::producer::Producers;
use super::reach::MustReach;
use super::scan::Scan;
use super::seal::SEALS_MAX;
use super::segment::{FileIds, FileName, FileState, Segment};
use super::state::{SealedRow, State};
use super::write::{Mark, Writer};
use sealing::Seal;
use truncate::Truncation;

/// What recovery asks for next, or how it ended.
#[derive(Debug)]
pub(super) enum Next {
    Ask(DiskOp),
    Done(Box<Recovered>),
    Failed { message: String, close: Option<FileId>, kept: bool },
}

#[derive(Debug)]
pub(super) struct Recovered {
    pub(super) end: Offset,
    /// Everything below is durable.
    pub(super) durable: Offset,
    pub(super) segments: VecDeque<Segment>,
    pub(super) epochs: Epochs,
    pub(super) producers: Producers,
    pub(super) files: FileIds,
    pub(super) writer: Writer,
    pub(super) snapshots: VecDeque<Offset>,
    pub(super) bounds: Bounds,
    /// The file to begin a segment with.
    pub(super) spare: Option<Offset>,
    /// Files of what lies below the start, and others that nobody needs: to be deleted.
    pub(super) leftovers: Vec<FileName>,
    /// Open, and not of any segment that is left.
    pub(super) close: Option<FileId>,
    /// What was not as it should be, and what became of it.
    pub(super) notes: Vec<String>,
}

#[derive(Debug)]
pub(super) struct Recovery {
    dir: PathBuf,
    files: FileIds,
    index_interval_bytes: u32,
    /// Somebody counts on what is written being synced.
    sync: bool,
    /// The log ends here or later, or has lost something; and who knows.
    must_reach: (Offset, &'static str),
    /// What is asked for now, and what was at an earlier start.
    asked: MustReach,
    kept: Kept,
    /// Why the log does not open, and the file to be closed then.
    refusal: Option<(String, Option<FileId>)>,
    now: Now,
    stage: Stage,
    has_bounds: bool,
    bounds: Bounds,
    leftovers: Vec<FileName>,
    /// First offset and file length of each segment, ascending.
    found: Vec<(Offset, u64)>,
    snapshots: VecDeque<Offset>,
    unfinished: Unfinished,
    /// What is still to be done to finish it.
    to_finish: VecDeque<DiskOp>,
    /// Of index files.
    indexes: Vec<Offset>,
    spares: Vec<Offset>,
    /// Where to look for a state, best last.
    candidates: Vec<FileName>,
    state: State,
    /// `state` was read from a file.
    resumed: bool,
    /// Everything that was found is durable.
    synced: bool,
    segments: VecDeque<Segment>,
    /// The segment being scanned, in `found`.
    at: usize,
    scan: Option<Scan>,
    file: Option<FileId>,
    /// Files of segments that follow on something lost.
    to_remove: Vec<FileName>,
    notes: Vec<String>,
}

/// What is known of the file of [`MustReach`].
#[derive(Debug, Clone, PartialEq, Eq)]
enum Kept {
    Nothing,
    /// It is there, and was not read or does not read back.
    Unknown,
    Known(MustReach),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Listing,
    ReadingReach,
    ReadingBounds,
    Finishing,
    ReadingState,
    Opening,
    Scanning,
    /// Of a segment that others follow on.
    Sealing(Seal),
    Removing,
    ReadingTail,
    LookingBehind,
    Cutting,
    Syncing,
    /// What is asked for is there: the file that keeps it goes.
    Forgetting,
    /// It is not, and must be kept.
    Keeping,
    Truncating(Truncation),
}

impl Recovery {
    pub(super) fn start(
        files: FileIds,
        dir: PathBuf,
        settings: &TopicSettings,
        must_reach: MustReach,
        now: Now,
    ) -> (Recovery, DiskOp) {
        let first = DiskOp::List { dir: dir.clone() };
        let sync = settings.durability == Durability::Sync || settings.flush_messages < i64::MAX as u64;
        (Recovery::begin(files, dir, settings.index_interval_bytes, sync, must_reach, now), first)
    }

    fn begin(
        files: FileIds,
        dir: PathBuf,
        index_interval_bytes: u32,
        sync: bool,
        asked: MustReach,
        now: Now,
    ) -> Recovery {
        Recovery {
            dir,
            files,
            index_interval_bytes,
            sync,
            must_reach: (Offset(0), ""),
            asked,
            kept: Kept::Nothing,
            refusal: None,
            now,
            stage: Stage::Listing,
            has_bounds: false,
            bounds: Bounds::default(),
            leftovers: Vec::new(),
            found: Vec::new(),
            snapshots: VecDeque::new(),
            unfinished: Unfinished::default(),
            to_finish: VecDeque::new(),
            indexes: Vec::new(),
            spares: Vec::new(),
            candidates: Vec::new(),
            state: State::nothing(Offset(0), index_interval_bytes),
            resumed: false,
            synced: false,
            segments: VecDeque::new(),
            at: 0,
            scan: None,
            file: None,
            to_remove: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// All over, with what the bounds say now.
    fn begin_again(&mut self) -> Next {
        let files = std::mem::replace(&mut self.files, FileIds::new(0));
        let (dir, asked) = (self.dir.clone(), self.asked.clone());
        let notes = std::mem::take(&mut self.notes);
        let recovery = Recovery::begin(files, dir, self.index_interval_bytes, self.sync, asked, self.now);
        *self = Recovery { notes, ..recovery };
        Next::Ask(DiskOp::List { dir: self.dir.clone() })
    }

    pub(super) fn on_disk(&mut self, result: DiskResult) -> Next {
        match self.stage {
            Stage::Listing => match result {
                Ok(DiskDone::Listed(names)) => self.on_listed(&names),
                other => self.failed("cannot list", other),
            },
            Stage::ReadingReach => self.on_reach(result),
            Stage::ReadingBounds => self.on_bounds(result),
            Stage::Finishing => match result {
                Ok(_) => self.finish(),
                other => self.failed("cannot finish a compaction", other),
            },
            Stage::ReadingState => self.on_state(result),
            Stage::Opening => match result {
                Ok(DiskDone::Opened { len }) => self.on_opened(len),
                other => {
                    self.file = None;
                    self.failed("cannot open a segment", other)
                }
            },
            Stage::Scanning => match result {
                Ok(DiskDone::Read(bytes)) => self.on_scanned(&bytes),
                other => self.failed("cannot read a segment", other),
            },
            Stage::Sealing(seal) => self.on_sealed(seal, result),
            Stage::Removing => match result {
                Ok(_) => self.remove(),
                other => self.failed("cannot remove a segment", other),
            },
            Stage::ReadingTail => match result {
                Ok(DiskDone::Read(bytes)) if bytes.len() as u64 == self.tail_bytes() => {
                    self.state.mark.tail = bytes;
                    self.look_behind()
                }
                other => self.failed("cannot read a segment's end", other),
            },
            Stage::LookingBehind => self.on_looked_behind(&result),
            Stage::Cutting => match result {
                Ok(_) => {
                    // Else a power loss could bring back what was cut, behind batches that are written meanwhile.
                    self.sync = true;
                    self.found[self.at].1 = self.state.mark.position;
                    self.sync()
                }
                other => self.failed("cannot cut a segment", other),
            },
            Stage::Syncing => match result {
                Ok(_) => {
                    self.synced = true;
                    self.done()
                }
                other => self.failed("cannot sync a segment", other),
            },
            // One that is still there is read again, and its log has what it asks for.
            Stage::Forgetting => self.done(),
            Stage::Keeping => self.on_kept(result),
            Stage::Truncating(step) => self.on_truncated(step, result),
        }
    }

    /// The result of the operation in flight when recovery was given up.
    pub(super) fn settle(&mut self, result: &DiskResult) {
        let closed = self.stage == Stage::Sealing(Seal::Closing);
        let not_opened = self.stage == Stage::Opening && result.is_err();
        if closed || not_opened {
            self.file = None;
        }
    }

    pub(super) fn open_file(&self) -> Option<FileId> {
        self.file.or(self.refusal.as_ref().and_then(|(_, close)| *close))
    }

    fn failed(&mut self, what: &str, result: DiskResult) -> Next {
        let why = match result {
            Ok(done) => format!("unexpected answer {done:?}"),
            Err(error) => error.message,
        };
        self.refuse(format!("{what} of {}: {why}", self.dir.display()))
    }

    /// The log does not open. What the journal asked for is kept before anybody is told.
    fn refuse(&mut self, message: String) -> Next {
        let close = self.file.take();
        let nothing = MustReach::default();
        let keep = match &self.kept {
            Kept::Known(kept) => (!self.asked.is_within(kept)).then(|| self.asked.clone().join(kept.clone())),
            Kept::Nothing => (!self.asked.is_within(&nothing)).then(|| self.asked.clone()),
            Kept::Unknown => return Next::Failed { message, close, kept: self.asked.is_within(&nothing) },
        };
        let Some(keep) = keep.filter(|_| !bug::on(Bug::ForgetMustReach)) else {
            return Next::Failed { message, close, kept: true };
        };
        self.refusal = Some((message, close));
        self.stage = Stage::Keeping;
        Next::Ask(DiskOp::WriteFile { path: FileName::MustReach.path(&self.dir), data: keep.to_file() })
    }

    fn on_kept(&mut self, result: DiskResult) -> Next {
        let (mut message, close) = self.refusal.take().expect("the log was refused before");
        if let Err(error) = &result {
            message.push_str(&format!(
                "; and {} cannot be written: {error}",
                FileName::MustReach.path(&self.dir).display()
            ));
        }
        Next::Failed { message, close, kept: result.is_ok() }
    }

    /// Nothing is cut: what lies behind the damage may be all there is of it.
    fn falls_short(&mut self, end: Offset) -> Next {
        let (reach, witness) = self.must_reach;
        self.is_damaged(end, &format!("{witness} knows of some up to {reach}"))
    }

    fn is_damaged(&mut self, end: Offset, but: &str) -> Next {
        let message = format!(
            "{} holds whole batches up to offset {end} only, and {but}; nothing was cut: put back what is missing and \
             start again, or see the damage with `corelog log verify` and give up what lies behind it with \
             `corelog log repair`",
            self.dir.display(),
        );
        self.refuse(message)
    }

    /// It may have lost its last batches, and nothing in it could tell.
    fn is_doubtful(&mut self, doubt: &str) -> Next {
        let message = format!(
            "{} may lack batches that were acknowledged, which only the journal had: {doubt}; nothing was changed: see \
             what is there with `corelog log verify`, and take it as it is with `corelog log repair`",
            self.dir.display(),
        );
        self.refuse(message)
    }

    fn on_listed(&mut self, names: &[(String, u64)]) -> Next {
        let mut has_checkpoint = false;
        for (name, len) in names {
            match FileName::parse(name) {
                Some(FileName::Segment(base)) => self.found.push((base, *len)),
                Some(FileName::Snapshot(base)) => self.snapshots.push_back(base),
                Some(FileName::Checkpoint) => has_checkpoint = true,
                Some(FileName::MustReach) => self.kept = Kept::Unknown,
                Some(FileName::Bounds) => self.has_bounds = true,
                Some(FileName::Index(base)) => self.indexes.push(base),
                Some(FileName::Spare(end)) => self.spares.push(end),
                Some(FileName::Cleaned(base)) => self.unfinished.cleaned.push(base),
                Some(FileName::Swap(base, end)) => self.unfinished.swaps.push((base, end, *len)),
                None => {}
            }
        }
        self.found.sort_unstable();
        self.snapshots.make_contiguous().sort_unstable();
        // The checkpoint first: it may be older than a snapshot, which is found out when it is read.
        self.candidates = self.snapshots.iter().map(|base| FileName::Snapshot(*base)).collect();
        if has_checkpoint {
            self.candidates.push(FileName::Checkpoint);
        }
        if self.kept == Kept::Unknown {
            self.stage = Stage::ReadingReach;
            return Next::Ask(DiskOp::ReadFile { path: FileName::MustReach.path(&self.dir) });
        }
        self.check_doubt()
    }

    fn on_reach(&mut self, result: DiskResult) -> Next {
        let bytes = match result {
            Ok(DiskDone::Read(bytes)) => bytes,
            other => return self.failed("cannot read what was asked for", other),
        };
        let Some(kept) = MustReach::from_file(&bytes) else {
            let message = format!(
                "{} is damaged: it says up to which offset batches must be here. `corelog log repair` takes the log as it is",
                FileName::MustReach.path(&self.dir).display()
            );
            return self.refuse(message);
        };
        self.kept = Kept::Known(kept);
        // Nobody else will say again that what is found now must stay.
        self.sync = true;
        self.check_doubt()
    }

    fn check_doubt(&mut self) -> Next {
        let before = if let Kept::Known(kept) = &self.kept { kept.doubt.clone() } else { None };
        match self.asked.doubt.clone().or(before) {
            Some(doubt) => self.is_doubtful(&doubt),
            None => self.read_bounds(),
        }
    }

    fn read_bounds(&mut self) -> Next {
        if !self.has_bounds {
            return self.begin_finish();
        }
        self.stage = Stage::ReadingBounds;
        Next::Ask(DiskOp::ReadFile { path: FileName::Bounds.path(&self.dir) })
    }

    fn on_bounds(&mut self, result: DiskResult) -> Next {
        let path = FileName::Bounds.path(&self.dir);
        match result {
            Ok(DiskDone::Read(bytes)) => match Bounds::from_file(&bytes) {
                Some(bounds) => self.bounds = bounds,
                None => self.notes.push(format!(
                    "{} is damaged: the log begins with its first segment, and what was deleted of that is there again",
                    path.display()
                )),
            },
            other => return self.failed("cannot read the bounds", other),
        }
        self.begin_finish()
    }

    fn begin_finish(&mut self) -> Next {
        self.must_reach = (self.bounds.reach(self.asked.reach), "the last run");
        let mut truncations = self.bounds.truncations.max(self.asked.reach.truncations);
        if let Kept::Known(kept) = &self.kept {
            truncations = truncations.max(kept.reach.truncations);
            let end = self.bounds.reach(kept.reach);
            if end > self.must_reach.0 {
                self.must_reach = (end, "an earlier run");
            }
        }
        // Where the bounds themselves were lost, what is known now must not pass for void later.
        self.bounds.truncations = truncations;
        self.to_finish = self.unfinished.plan(&mut self.found, self.bounds.start, &self.dir);
        self.finish()
    }

    fn finish(&mut self) -> Next {
        match self.to_finish.pop_front() {
            Some(op) => {
                self.stage = Stage::Finishing;
                Next::Ask(op)
            }
            None => self.begin_at_start(),
        }
    }

    /// Leaves out the segments that lie wholly below the start.
    fn begin_at_start(&mut self) -> Next {
        let start = self.bounds.start;
        let below = self.found.partition_point(|(base, _)| *base <= start).saturating_sub(1);
        self.leftovers = self.found.drain(..below).map(|(base, _)| FileName::Segment(base)).collect();
        let first = self.found.first().map_or(start, |(base, _)| *base);
        let gone = |base: &Offset| *base < first;
        self.leftovers.extend(self.indexes.iter().copied().filter(gone).map(FileName::Index));
        self.leftovers.extend(self.snapshots.iter().copied().filter(gone).map(FileName::Snapshot));
        self.snapshots.retain(|base| !gone(base));
        self.state = State::nothing(first, self.index_interval_bytes);
        match self.truncating() {
            Some(to) => self.begin_truncating(to),
            None => self.read_state(),
        }
    }

    fn read_state(&mut self) -> Next {
        match self.candidates.last() {
            Some(name) => {
                self.stage = Stage::ReadingState;
                Next::Ask(DiskOp::ReadFile { path: name.path(&self.dir) })
            }
            None => self.begin_scans(),
        }
    }

    fn on_state(&mut self, result: DiskResult) -> Next {
        let name = self.candidates.pop();
        assert!(name.is_some(), "a state file was being read");
        let state = match result {
            Ok(DiskDone::Read(bytes)) => State::from_file(&bytes),
            // Batches say the same, and more slowly.
            Ok(_) | Err(_) => None,
        };
        // It was written when everything below was synced.
        if let Some(state) = state.as_ref().filter(|state| state.mark.next > self.must_reach.0) {
            self.must_reach =
                (state.mark.next, if name == Some(FileName::Checkpoint) { "its checkpoint" } else { "a snapshot" });
        }
        let reaches = self.resumed.then_some(self.state.mark.next);
        let newer = |next: Offset| reaches.is_none_or(|reaches| next > reaches);
        if let Some(state) = state.filter(|state| self.vouches(state) && newer(state.mark.next)) {
            self.state = state;
            self.resumed = true;
            // Only snapshots beyond it, which were written after it, can know more.
            let reaches = self.state.mark.next;
            self.candidates.retain(|name| matches!(name, FileName::Snapshot(base) if *base > reaches));
        }
        self.read_state()
    }

    /// The state belongs to a segment that is there, as it was then, and as long as it says.
    fn vouches(&self, state: &State) -> bool {
        if state.is_outdated(self.bounds) {
            return false;
        }
        let at = self.found.binary_search_by_key(&state.segment, |(base, _)| *base);
        at.is_ok_and(|at| {
            let next = self.found.get(at + 1).map_or(i64::MAX, |(base, _)| base.0);
            self.found[at].1 >= state.mark.position && state.mark.next.0 <= next
        })
    }

    /// Everything before the state's segment is taken as it is.
    fn begin_scans(&mut self) -> Next {
        if self.found.is_empty() {
            let start = self.bounds.start;
            if let Some(next) = self.check_emptied() {
                return next;
            }
            return if self.must_reach.0 > start { self.falls_short(start) } else { self.done() };
        }
        self.take_sealed();
        self.at = self.found.binary_search_by_key(&self.state.segment, |(base, _)| *base).unwrap_or(0);
        let last = self.at + 1 == self.found.len();
        let next = self.state.mark.next;
        let reaches = next >= self.must_reach.0 && next >= self.bounds.start;
        if last && self.found[self.at].1 == self.state.mark.position && reaches && self.truncating().is_none() {
            // A clean stop: the checkpoint even holds the tail block's bytes.
            self.synced = true;
            return self.done();
        }
        self.open()
    }

    /// The segments before the state's, which lists them. They stay in the list when their files are not whole: reads
    /// of what is gone fail, and it is told at every start.
    fn take_sealed(&mut self) {
        let sealed = std::mem::take(&mut self.state.sealed);
        let path = |base: Offset| FileName::Segment(base).path(&self.dir).display().to_string();
        let before = self.found.partition_point(|(base, _)| *base < self.state.segment);
        let rewritten = self.found[..before].partition_point(|(base, _)| *base < self.bounds.rewritten);
        for &(base, len) in &self.found[..rewritten] {
            // A row tells of the segment as it is now only if even its length is the same.
            let row = sealed.iter().find(|row| row.base == base && row.len == len);
            let max_timestamp = row.and_then(|row| row.max_timestamp);
            self.segments.push_back(Segment::sealed(base, len, max_timestamp, self.now.wall_ms));
        }
        for (base, _) in
            self.found[rewritten..before].iter().filter(|(base, _)| sealed.iter().all(|row| row.base != *base))
        {
            self.notes.push(format!("{} is no segment of this log: it is left alone, and not read", path(*base)));
        }
        let ends = sealed.iter().skip(1).map(|row| row.base).chain([self.state.segment]);
        let Bounds { start, rewritten, .. } = self.bounds;
        let counts = |(row, end): &(&SealedRow, Offset)| *end > start && row.base >= rewritten;
        for (row, end) in sealed.iter().zip(ends).filter(counts) {
            let found = self.found.binary_search_by_key(&row.base, |(base, _)| *base);
            let what = match found.map(|at| self.found[at].1) {
                Ok(len) if len >= row.len => None,
                Ok(len) => Some(format!("has {len} of its {} bytes", row.len)),
                Err(_) => Some("is missing".to_owned()),
            };
            self.notes.extend(what.map(|what| {
                format!(
                    "{} {what}: of the records from offset {} to before {end} those in it can be read, and all others \
                     of the log. Put the whole file back",
                    path(row.base),
                    row.base
                )
            }));
            self.segments.push_back(Segment::sealed(row.base, row.len, row.max_timestamp, self.now.wall_ms));
        }
        self.found.drain(..before);
    }

    fn open(&mut self) -> Next {
        let file = self.files.next();
        self.file = Some(file);
        self.stage = Stage::Opening;
        let path = FileName::Segment(self.found[self.at].0).path(&self.dir);
        Next::Ask(DiskOp::Open { file, path, create: false })
    }

    fn on_opened(&mut self, len: u64) -> Next {
        self.found[self.at].1 = len;
        let next = self.found.get(self.at + 1).map(|(next, _)| *next);
        let until = next.or(self.truncating()).unwrap_or(Offset(i64::MAX));
        let state = &mut self.state;
        let index = std::mem::replace(&mut state.index, super::index::Index::new(state.segment, 1));
        let timestamps = (state.first_timestamp, state.mark.max_timestamp);
        let latest = state.epochs.latest();
        self.scan = Some(Scan::new(state.mark.position, state.mark.next, index, timestamps, latest, len, until));
        self.scan_on()
    }

    fn file(&self) -> FileId {
        self.file.expect("a segment is open while it is recovered")
    }

    fn scan_on(&mut self) -> Next {
        let scan = self.scan.as_ref().expect("a scan is under way");
        if let Some((position, len)) = scan.next_read() {
            self.stage = Stage::Scanning;
            return Next::Ask(DiskOp::Read { file: self.file(), position, len });
        }
        self.on_scan_ended()
    }

    fn on_scanned(&mut self, bytes: &bytes::Bytes) -> Next {
        let scan = self.scan.as_mut().expect("a scan is under way");
        let (epochs, producers, now_ms) = (&mut self.state.epochs, &mut self.state.producers, self.now.wall_ms);
        scan.on_read(bytes, |header| {
            let base = Offset(header.base_offset);
            epochs.on_batch(LeaderEpoch(header.partition_leader_epoch), base);
            if bug::on(Bug::ForgetProducers) {
                return;
            }
            producers.on_batch(header, base, header.max_timestamp, base, now_ms);
        });
        self.scan_on()
    }

    fn on_scan_ended(&mut self) -> Next {
        let scan = self.scan.take().expect("a scan is under way");
        let (torn, crosses) = (scan.is_torn, scan.crosses);
        let state = &mut self.state;
        state.first_timestamp = scan.first_timestamp;
        state.index = scan.index;
        state.mark.next = scan.next;
        state.mark.max_timestamp = scan.max_timestamp;
        if scan.position > state.mark.position {
            state.mark.tail = bytes::Bytes::new();
        }
        state.mark.position = scan.position;
        let end = scan.next;
        let follow = self.found.len() - self.at - 1;
        let goes_on = self.found.get(self.at + 1).is_some_and(|(next, _)| *next == end);
        if !goes_on && let Some(next) = self.check_truncated(end, crosses && follow == 0) {
            return next;
        }
        match self.found.get(self.at + 1) {
            Some((next, _)) if *next == end => return self.seal(),
            Some(_) | None if end < self.must_reach.0 && self.must_reach.0 > self.bounds.start => {
                return self.falls_short(end);
            }
            // No crash leaves so many segments that were not synced.
            Some((next, _)) if follow > SEALS_MAX => {
                let but = format!("{follow} more segments follow, from offset {next} on");
                return self.is_damaged(end, &but);
            }
            Some(_) | None => {}
        }
        if torn && self.truncating().is_none() {
            self.notes.push(format!(
                "{} is cut at byte {}, behind the batch before offset {end}: what lies there is no whole batch that \
                 follows on it. A crash leaves such when it interrupts a write",
                FileName::Segment(self.found[self.at].0).path(&self.dir).display(),
                self.state.mark.position
            ));
        }
        if follow == 0 { self.finish_scan() } else { self.put_aside(end) }
    }

    fn finish_scan(&mut self) -> Next {
        if self.state.mark.next < self.bounds.start { self.start_anew() } else { self.read_tail() }
    }

    /// All that is left lies below the start, and some of it is lost: no matter, it was deleted.
    fn start_anew(&mut self) -> Next {
        let start = self.bounds.start;
        let bases = self.segments.drain(..).map(|segment| segment.base).chain([self.found[self.at].0]);
        let names = |base| [FileName::Segment(base), FileName::Index(base), FileName::Snapshot(base)];
        self.leftovers.extend(bases.flat_map(names));
        self.snapshots.clear();
        self.found.clear();
        self.state.mark = Mark::start_of(start);
        self.state.segment = start;
        self.done()
    }

    /// The later segments, since the log ends at `end`.
    fn put_aside(&mut self, end: Offset) -> Next {
        for (base, len) in self.found.drain(self.at + 1..).rev() {
            self.to_remove.extend([FileName::Segment(base), FileName::Index(base), FileName::Snapshot(base)]);
            self.notes.push(format!(
                "the log ends at offset {end}, before {} ({len} bytes): the file is kept as {}",
                FileName::Segment(base).path(&self.dir).display(),
                aside(&FileName::Segment(base).path(&self.dir)).display()
            ));
        }
        self.snapshots.retain(|base| *base <= end);
        // Taken from the back of the list.
        self.to_remove.reverse();
        self.remove()
    }

    fn remove(&mut self) -> Next {
        match self.to_remove.pop() {
            Some(name) => {
                self.stage = Stage::Removing;
                let path = name.path(&self.dir);
                Next::Ask(match name {
                    FileName::Segment(_) => DiskOp::Rename { to: aside(&path), from: path },
                    _ => DiskOp::Delete { path },
                })
            }
            None => self.finish_scan(),
        }
    }

    fn done(&mut self) -> Next {
        if self.truncating().is_some() {
            return self.end_truncation();
        }
        if let Kept::Known(_) = std::mem::replace(&mut self.kept, Kept::Nothing) {
            self.notes.push("what was missing here at an earlier start is here again".to_owned());
            self.stage = Stage::Forgetting;
            return Next::Ask(DiskOp::Delete { path: FileName::MustReach.path(&self.dir) });
        }
        let nothing = State::nothing(Offset(0), 1);
        let state = std::mem::replace(&mut self.state, nothing);
        let mut writer = Writer::recovered(Mark::start_of(state.mark.next), 0, None, false);
        if let Some(&(base, len)) = self.found.get(self.at) {
            let file = self.file.take();
            self.segments.push_back(Segment {
                base,
                len: state.mark.position,
                max_timestamp: Some(state.mark.max_timestamp),
                index: Some(state.index),
                file: file.map_or(FileState::Closed, FileState::Open),
                reads: 0,
                sealing: false,
                sealed_ms: i64::MAX,
                first_timestamp: None,
                lookalike: Offset(0),
            });
            // A file left open was scanned: there is no checkpoint of what it holds.
            writer = Writer::recovered(state.mark.clone(), len, state.first_timestamp, file.is_some());
        }
        let end = state.mark.next;
        // Batches in the others may fit where the log goes on.
        let spare = self.spares.iter().copied().filter(|below| *below <= end).max();
        let others = self.spares.drain(..).filter(|below| Some(*below) != spare);
        self.leftovers.extend(others.map(FileName::Spare));
        Next::Done(Box::new(Recovered {
            end,
            durable: if self.synced { end } else { self.must_reach.0.min(end) },
            segments: std::mem::take(&mut self.segments),
            epochs: state.epochs,
            producers: state.producers,
            files: std::mem::replace(&mut self.files, FileIds::new(0)),
            writer,
            snapshots: std::mem::take(&mut self.snapshots),
            bounds: self.bounds,
            spare,
            leftovers: std::mem::take(&mut self.leftovers),
            close: self.file.take(),
            notes: std::mem::take(&mut self.notes),
        }))
    }
}

/// Where a segment goes that is not part of the log any more. Not the name of a segment.
fn aside(path: &Path) -> PathBuf {
    path.with_extension("log.aside")
}
