//! The file of the metadata's log: a snapshot and frames behind it, as a state machine over disk operations.
//!
//! One file a generation, `<20 digits>.meta`. A new generation is put in place whole (written beside, synced,
//! renamed) when the log part has grown, when a leader sent a snapshot, and at every start, so that what was read is
//! known to be durable and the file ends where the broker thinks it does. One write is under way at a time; whoever
//! gives the next one has gathered meanwhile.
//!
//! *Owns*: the file. *Never*: repeats a failed sync, writes to a block that holds an earlier frame, or knows what the
//! frames say. *Runs on*: core 0.

use std::path::PathBuf;

use bytes::Bytes;

use super::frame::{FRAME_OVERHEAD_BYTES, encode_frame};
use crate::base::bug::{self, Bug};
use crate::base::disk::{BLOCK_BYTES, DiskDone, DiskError, DiskErrorKind, DiskOp, DiskResult, FileId};
use crate::base::limits::{DISK_WRITE_BYTES_MAX, META_LOG_BYTES_MAX};

/// Ties the end of a disk operation to what it was for. Opaque outside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MetaOp(Op);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Op {
    List,
    Load,
    Replace,
    Open,
    Write,
    Sync,
    Close,
    /// Of what is in nobody's way any more: how it ends does not matter.
    Tidy,
}

#[derive(Debug)]
pub(super) enum LogEvent {
    /// The newest file and its generation; nothing was there if `None`. [`RaftLog::replace`] comes next.
    Read(Option<(u64, Bytes)>),
    /// What was last given to write is durable.
    Durable,
    /// There is no space. What was given to write is kept; call `retry` in a while.
    Full {
        message: String,
    },
    /// The file cannot be read or written. What was given last may or may not be there at the next start.
    Failed {
        message: String,
    },
    Closed,
}

/// Disk operations asked for.
pub(super) type Asked = Vec<(MetaOp, DiskOp)>;

#[derive(Debug)]
pub(super) struct RaftLog {
    owner: u32,
    dir: PathBuf,
    state: State,
    /// The current file's.
    generation: u64,
    file: Option<FileId>,
    files_opened: u32,
    /// Where the next frame goes. Invariant: a multiple of the block.
    end: u64,
    log_bytes: u64,
    frames: u64,
    /// The frame, or the whole next generation, that is on its way to the disk.
    flying: Bytes,
    /// Files to be removed once the first generation of this run is in place.
    leftovers: Vec<PathBuf>,
    /// The log part at which the next generation is due.
    pub log_bytes_max: u64,
    closing: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Listing,
    Loading,
    Idle,
    /// The next generation is being put in place.
    Replacing,
    Opening,
    Writing,
    Syncing,
    /// A write, or putting a generation in place, found no space.
    FullWriting,
    FullReplacing,
    Closing,
    Closed,
    Failed,
}

impl RaftLog {
    /// Starts to read what is in `dir`. `owner` is the upper half of the ids of the files it opens.
    pub fn open(owner: u32, dir: PathBuf, asked: &mut Asked) -> RaftLog {
        asked.push((MetaOp(Op::List), DiskOp::List { dir: dir.clone() }));
        RaftLog {
            owner,
            dir,
            state: State::Listing,
            generation: 0,
            file: None,
            files_opened: 0,
            end: 0,
            log_bytes: 0,
            frames: 0,
            flying: Bytes::new(),
            leftovers: Vec::new(),
            log_bytes_max: META_LOG_BYTES_MAX as u64,
            closing: false,
        }
    }

    /// Another frame or generation may be given.
    pub fn is_idle(&self) -> bool {
        self.state == State::Idle
    }

    /// The next to be given is a generation, since there is none, or it has grown, or `payload_bytes` are too many for
    /// a frame.
    pub fn is_generation_due(&self, payload_bytes: usize) -> bool {
        let too_large = payload_bytes + FRAME_OVERHEAD_BYTES > DISK_WRITE_BYTES_MAX;
        self.file.is_none() || too_large || self.log_bytes >= self.log_bytes_max
    }

    /// Puts the next generation in place, which begins with this payload.
    pub fn replace(&mut self, payload: &[u8], asked: &mut Asked) {
        assert!(self.is_idle());
        self.flying = encode_frame(self.generation + 1, 0, payload).into();
        self.send_replace(asked);
    }

    /// Adds a frame.
    pub fn write(&mut self, payload: &[u8], asked: &mut Asked) {
        assert!(self.is_idle());
        assert!(!self.is_generation_due(payload.len()), "a frame goes behind others");
        assert!(self.end.is_multiple_of(BLOCK_BYTES as u64));
        self.flying = encode_frame(self.generation, self.frames, payload).into();
        self.send_write(asked);
    }

    /// Tries again what found no space. Harmless at any time.
    pub fn retry(&mut self, asked: &mut Asked) {
        match self.state {
            State::FullWriting => self.send_write(asked),
            State::FullReplacing => self.send_replace(asked),
            _ => {}
        }
    }

    /// Nothing more is given. Ends in [`LogEvent::Closed`] once everything is durable, or in [`LogEvent::Failed`]: also
    /// where space is missing, since nobody is left to wait for it.
    pub fn close(&mut self, asked: &mut Asked) -> Option<LogEvent> {
        self.closing = true;
        match (self.state, self.file) {
            (State::FullWriting | State::FullReplacing, _) => Some(self.fail("writing", "there is no space")),
            (State::Idle, None) => {
                self.state = State::Closed;
                Some(LogEvent::Closed)
            }
            (State::Idle, Some(file)) => {
                self.state = State::Closing;
                asked.push((MetaOp(Op::Close), DiskOp::Close { file }));
                None
            }
            _ => None,
        }
    }

    /// To be told once for each operation asked for.
    pub fn on_disk(&mut self, op: MetaOp, result: DiskResult, asked: &mut Asked) -> Option<LogEvent> {
        if op.0 == Op::Tidy || self.state == State::Failed {
            return None;
        }
        match (op.0, result) {
            (Op::List, Ok(DiskDone::Listed(files))) => self.on_listed(&files, asked),
            (Op::Load, Ok(DiskDone::Read(bytes))) => {
                assert!(self.state == State::Loading);
                self.state = State::Idle;
                Some(LogEvent::Read(Some((self.generation, bytes))))
            }
            (Op::Replace, Ok(_)) => Some(self.on_replaced(asked)),
            (Op::Open, Ok(_)) => {
                assert!(self.state == State::Opening);
                self.state = State::Idle;
                None
            }
            (Op::Write, Ok(_)) => self.on_written(asked),
            (Op::Sync, Ok(_)) => Some(self.on_synced()),
            (Op::Close, _) => {
                self.state = State::Closed;
                Some(LogEvent::Closed)
            }
            (Op::Write, Err(error)) if error.kind == DiskErrorKind::Full && !self.closing => {
                self.state = State::FullWriting;
                Some(self.full(&error))
            }
            (Op::Replace, Err(error)) if error.kind == DiskErrorKind::Full && !self.closing => {
                self.state = State::FullReplacing;
                Some(self.full(&error))
            }
            (op, Err(error)) => Some(self.fail(doing(op), &error.message)),
            (op, Ok(_)) => unreachable!("the answer to {op:?} is of another operation"),
        }
    }

    /// What is in the file, or was to go there, cannot be used.
    pub fn fail(&mut self, doing: &str, why: &str) -> LogEvent {
        self.state = State::Failed;
        let path = self.path(self.generation.max(1));
        LogEvent::Failed { message: format!("{doing} the metadata ({}) failed: {why}", path.display()) }
    }

    fn on_listed(&mut self, files: &[(String, u64)], asked: &mut Asked) -> Option<LogEvent> {
        assert!(self.state == State::Listing);
        let newest = files.iter().filter_map(|(name, _)| generation_of(name)).max();
        // What a crash left half done, or did not come to delete.
        for (name, _) in files {
            let superseded = generation_of(name).is_some_and(|generation| Some(generation) < newest);
            if superseded || name.ends_with(".tmp") {
                self.leftovers.push(self.dir.join(name));
            }
        }
        let Some(generation) = newest else {
            self.state = State::Idle;
            return Some(LogEvent::Read(None));
        };
        self.generation = generation;
        self.state = State::Loading;
        asked.push((MetaOp(Op::Load), DiskOp::ReadFile { path: self.path(generation) }));
        None
    }

    fn send_replace(&mut self, asked: &mut Asked) {
        self.state = State::Replacing;
        let (path, data) = (self.path(self.generation + 1), self.flying.clone());
        asked.push((MetaOp(Op::Replace), DiskOp::WriteFile { path, data }));
    }

    fn on_replaced(&mut self, asked: &mut Asked) -> LogEvent {
        assert!(self.state == State::Replacing);
        if let Some(file) = self.file.take() {
            asked.push((MetaOp(Op::Tidy), DiskOp::Close { file }));
        }
        if self.generation > 0 {
            self.leftovers.push(self.path(self.generation));
        }
        let leftovers = self.leftovers.drain(..);
        asked.extend(leftovers.map(|path| (MetaOp(Op::Tidy), DiskOp::Delete { path })));
        self.generation += 1;
        self.end = std::mem::take(&mut self.flying).len() as u64;
        self.log_bytes = 0;
        self.frames = 1;
        self.files_opened += 1;
        let file = FileId::new(self.owner, self.files_opened);
        self.file = Some(file);
        self.state = State::Opening;
        let path = self.path(self.generation);
        asked.push((MetaOp(Op::Open), DiskOp::Open { file, path, create: false }));
        LogEvent::Durable
    }

    fn send_write(&mut self, asked: &mut Asked) {
        self.state = State::Writing;
        let data = vec![self.flying.clone()];
        asked.push((MetaOp(Op::Write), DiskOp::Write { file: self.open_file(), position: self.end, data }));
    }

    fn on_written(&mut self, asked: &mut Asked) -> Option<LogEvent> {
        assert!(self.state == State::Writing);
        self.state = State::Syncing;
        if bug::on(Bug::CommitMetaBeforeSync) {
            return Some(self.on_synced());
        }
        asked.push((MetaOp(Op::Sync), DiskOp::Sync { file: self.open_file() }));
        None
    }

    fn on_synced(&mut self) -> LogEvent {
        assert!(self.state == State::Syncing);
        let frame_bytes = std::mem::take(&mut self.flying).len() as u64;
        self.end += frame_bytes;
        self.log_bytes += frame_bytes;
        self.frames += 1;
        self.state = State::Idle;
        LogEvent::Durable
    }

    fn full(&self, error: &DiskError) -> LogEvent {
        let dir = self.dir.display();
        LogEvent::Full { message: format!("no space to write the metadata ({dir}): {error}; free some space there") }
    }

    fn open_file(&self) -> FileId {
        self.file.expect("the state says that a file is open")
    }

    fn path(&self, generation: u64) -> PathBuf {
        self.dir.join(format!("{generation:020}.meta"))
    }
}

fn doing(op: Op) -> &'static str {
    match op {
        Op::List => "listing",
        Op::Load => "reading",
        Op::Open => "opening",
        Op::Write | Op::Replace => "writing",
        Op::Sync => "syncing",
        Op::Close | Op::Tidy => "closing",
    }
}

pub(super) fn generation_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".meta")?;
    let generation: u64 = digits.parse().ok()?;
    (digits.len() == 20 && generation < u64::MAX).then_some(generation)
}
