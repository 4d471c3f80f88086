//! A disk in memory that forgets: what was not synced may be gone after a power loss, sector by sector.
//!
//! A file is its bytes as a reader sees them now, its bytes as they are known to be durable, and the changes between
//! the two. A sync carries over the changes that were complete when it was sent. What changes names (making, renaming
//! and replacing whole files) is durable when answered, as the shell sees to it; a removal only when something else
//! in its directory was made durable after it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use corelog::base::disk::{BLOCK_BYTES, DiskDone, DiskError, DiskErrorKind, DiskOp, DiskResult, FileId};
use corelog::base::limits::{DISK_READ_BYTES_MAX, DISK_WRITE_BYTES_MAX, SMALL_FILE_BYTES_MAX};
use corelog::base::rng::Rng;
use corelog::broker::effect::DiskToken;

pub const SECTOR_BYTES: usize = 512;

/// What is left after a crash.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Crash {
    /// Of the process: what completed stays.
    Kill,
    /// Of the machine: what was not synced may be lost.
    Power,
}

/// How often things go wrong, of 1000, at present.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct DiskFaults {
    pub failing_writes: u64,
    pub failing_syncs: u64,
    pub failing_reads: u64,
}

#[derive(Debug)]
enum Change {
    Write { position: usize, bytes: Vec<u8> },
    Len(usize),
}

#[derive(Debug, Default)]
struct File {
    now: Vec<u8>,
    durable: Vec<u8>,
    /// What leads from `durable` to `now`, with its number.
    changes: Vec<(u64, Change)>,
}

#[derive(Debug)]
struct InFlight {
    core: u16,
    token: DiskToken,
    op: DiskOp,
    /// The last change of any file when it was sent.
    sent_after: u64,
}

pub struct SimDisk {
    names: BTreeMap<PathBuf, u64>,
    files: BTreeMap<u64, File>,
    open: BTreeMap<(u16, FileId), u64>,
    /// Those whose writes need no sync; closed ones among them.
    durable: BTreeSet<(u16, FileId)>,
    dirs: BTreeSet<PathBuf>,
    /// Removals that a power loss may undo, oldest first.
    removed: Vec<(PathBuf, u64)>,
    in_flight: BTreeMap<u64, InFlight>,
    rng: Rng,
    changes: u64,
    files_made: u64,
    ops: u64,
    pub faults: DiskFaults,
    /// Bytes all files together may have.
    pub space_bytes: Option<usize>,
    /// Operations carried out, by name.
    pub counts: BTreeMap<&'static str, u64>,
}

impl SimDisk {
    pub fn new(seed: u64) -> SimDisk {
        SimDisk {
            names: BTreeMap::new(),
            files: BTreeMap::new(),
            open: BTreeMap::new(),
            durable: BTreeSet::new(),
            dirs: BTreeSet::new(),
            removed: Vec::new(),
            in_flight: BTreeMap::new(),
            rng: Rng::new(seed),
            changes: 0,
            files_made: 0,
            ops: 0,
            faults: DiskFaults::default(),
            space_bytes: None,
            counts: BTreeMap::new(),
        }
    }

    /// Takes an operation; its number is for [`SimDisk::complete`].
    pub fn send(&mut self, core: u16, token: DiskToken, op: DiskOp) -> u64 {
        if let DiskOp::Write { file, position, data } = &op {
            let mine = blocks(*position, data);
            assert!(mine.end - mine.start <= DISK_WRITE_BYTES_MAX as u64, "a write has its bound");
            assert!(position.is_multiple_of(BLOCK_BYTES as u64), "a write begins at a block");
            for other in self.in_flight.values().filter(|other| other.core == core) {
                if let DiskOp::Write { file: other, position, data } = &other.op {
                    let theirs = blocks(*position, data);
                    let apart = other != file || theirs.end <= mine.start || mine.end <= theirs.start;
                    assert!(apart, "two writes to one block are in flight");
                }
            }
        }
        self.ops += 1;
        self.in_flight.insert(self.ops, InFlight { core, token, op, sent_after: self.changes });
        self.ops
    }

    /// Carries out an operation that was sent.
    pub fn complete(&mut self, number: u64) -> (u16, DiskToken, DiskResult) {
        let InFlight { core, token, op, sent_after } = self.in_flight.remove(&number).expect("it was sent");
        *self.counts.entry(op.name()).or_default() += 1;
        let result = self.carry_out(core, op, sent_after);
        (core, token, result)
    }

    /// An operation in flight, for a reader.
    pub fn words(&self, number: u64) -> String {
        let InFlight { core, op, .. } = &self.in_flight[&number];
        let named = op.file().and_then(|file| self.open.get(&(*core, file)));
        let path = named.and_then(|file| self.names.iter().find(|(_, other)| *other == file));
        let path = path.map(|(path, _)| path.display().to_string()).unwrap_or_default();
        match op {
            DiskOp::Write { position, data, .. } => {
                format!("write {path} at {position}, {}", data.iter().map(Bytes::len).sum::<usize>())
            }
            DiskOp::WriteFile { path, data } => format!("write file {} {}", path.display(), data.len()),
            op => format!("{op:?} {path}"),
        }
    }

    /// The name of an operation in flight and how many bytes it moves.
    pub fn describe(&self, number: u64) -> (&'static str, usize) {
        let op = &self.in_flight[&number].op;
        let bytes = match op {
            DiskOp::Write { data, .. } => data.iter().map(Bytes::len).sum(),
            DiskOp::Read { len, .. } => *len,
            DiskOp::WriteFile { data, .. } => data.len(),
            _ => 0,
        };
        (op.name(), bytes)
    }

    pub fn used_bytes(&self) -> usize {
        self.names.values().map(|file| self.files[file].now.len()).sum()
    }

    /// The files whose names `wanted` takes, with their lengths up to the last byte that is not zero.
    pub fn files(&self, wanted: impl Fn(&Path) -> bool) -> Vec<(PathBuf, usize)> {
        let wanted = self.names.iter().filter(|(path, _)| wanted(path));
        let written = |file: &u64| self.files[file].now.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        wanted.map(|(path, file)| (path.clone(), written(file))).collect()
    }

    /// All of a file, as a reader sees it.
    pub fn contents(&self, path: &Path) -> Bytes {
        Bytes::copy_from_slice(&self.files[&self.names[path]].now)
    }

    /// The device gives other bytes than it was given, for good.
    pub fn rot(&mut self, path: &Path, position: usize) {
        let file = self.files.get_mut(&self.names[path]).expect("a name has its file");
        let from = position / SECTOR_BYTES * SECTOR_BYTES;
        let whole = self.rng.below(2) == 0;
        for (at, byte) in file.now.iter_mut().enumerate().skip(from).take(SECTOR_BYTES) {
            if whole || at == position {
                *byte ^= 1 + self.rng.below(255) as u8;
            }
        }
        file.durable.clone_from(&file.now);
        file.changes.clear();
    }

    /// Somebody removes a file, for good.
    pub fn lose(&mut self, path: &Path) {
        self.names.remove(path).expect("it was there");
        self.settle_names(path.parent().expect("a file is in a directory"));
    }

    /// Ends everything. What was in flight may have happened, in part or not at all.
    pub fn crash(&mut self, how: Crash) {
        for (_, InFlight { core, op, sent_after, .. }) in std::mem::take(&mut self.in_flight) {
            self.interrupt(core, op, sent_after);
        }
        self.open.clear();
        self.durable.clear();
        if how == Crash::Power {
            let kept = self.rng.below(self.removed.len() as u64 + 1) as usize;
            for (path, file) in self.removed.split_off(kept) {
                self.names.entry(path).or_insert(file);
            }
            let keep_of_8 = self.rng.below(9);
            for file in self.files.values_mut() {
                file.lose_power(keep_of_8, &mut self.rng);
            }
        }
        self.removed.clear();
        let named: BTreeSet<u64> = self.names.values().copied().collect();
        self.files.retain(|file, _| named.contains(file));
        for file in self.files.values_mut().filter(|_| how == Crash::Power) {
            file.durable.clone_from(&file.now);
            file.changes.clear();
        }
    }

    fn interrupt(&mut self, core: u16, op: DiskOp, sent_after: u64) {
        match op {
            DiskOp::Write { file, position, data } => self.write_some((core, file), position, &data),
            DiskOp::WriteFile { path, data } => match self.rng.below(3) {
                0 => self.put_file(path, data.to_vec()),
                1 => {
                    let mut beside = path.into_os_string();
                    beside.push(".tmp");
                    let part = self.rng.below(data.len() as u64 + 1) as usize;
                    self.put_file(beside.into(), data[..part].to_vec());
                }
                _ => {}
            },
            DiskOp::Read { .. } | DiskOp::ReadFile { .. } | DiskOp::Close { .. } => {}
            op if self.rng.below(2) == 0 => drop(self.carry_out(core, op, sent_after)),
            _ => {}
        }
    }

    fn carry_out(&mut self, core: u16, op: DiskOp, sent_after: u64) -> DiskResult {
        match op {
            DiskOp::List { dir } => {
                let inside = self.names.iter().filter(|(path, _)| path.parent() == Some(&dir));
                let named = inside.map(|(path, file)| (file_name(path), self.files[file].now.len() as u64)).collect();
                self.dirs.insert(dir.clone());
                self.settle_names(&dir);
                Ok(DiskDone::Listed(named))
            }
            DiskOp::Open { file, path, create } => self.open((core, file), path, create),
            DiskOp::OpenDurable { file, path } => {
                self.durable.insert((core, file));
                self.open((core, file), path, true)
            }
            DiskOp::Sync { file } => self.sync((core, file), sent_after),
            DiskOp::Write { file, position, data } => {
                self.write((core, file), position, &data)?;
                if self.durable.contains(&(core, file)) {
                    return self.sync((core, file), self.changes);
                }
                Ok(DiskDone::Done)
            }
            DiskOp::Read { file, position, len } => {
                assert!(len > 0 && len <= DISK_READ_BYTES_MAX, "a read has its bound");
                self.maybe_fail(self.faults.failing_reads, "read")?;
                let bytes = &self.file((core, file)).now;
                let from = bytes.len().min(position as usize);
                let upto = bytes.len().min(position as usize + len);
                Ok(DiskDone::Read(Bytes::copy_from_slice(&bytes[from..upto])))
            }
            DiskOp::Allocate { file, len } => self.allocate((core, file), len as usize),
            DiskOp::Truncate { file, len } => {
                self.change((core, file), Change::Len(len as usize));
                Ok(DiskDone::Done)
            }
            DiskOp::Close { file } => {
                let busy = self.in_flight.values().any(|other| other.core == core && other.op.file() == Some(file));
                assert!(!busy, "a file is closed when nothing of it is in flight");
                assert!(self.open.remove(&(core, file)).is_some(), "only open files are closed");
                Ok(DiskDone::Done)
            }
            DiskOp::Rename { from, to } => self.rename(&from, to),
            DiskOp::Delete { path } => {
                self.remove(&path);
                Ok(DiskDone::Done)
            }
            DiskOp::DeleteDir { dir } => {
                let inside: Vec<PathBuf> = self.names.keys().filter(|path| path.starts_with(&dir)).cloned().collect();
                for path in inside {
                    self.remove(&path);
                }
                self.dirs.remove(&dir);
                self.settle_names(&dir);
                Ok(DiskDone::Done)
            }
            DiskOp::Space => Ok(DiskDone::Space { total_bytes: 1 << 40, usable_bytes: 1 << 39 }),
            DiskOp::ReadFile { path } => {
                self.maybe_fail(self.faults.failing_reads, "read")?;
                let file = self.names.get(&path).ok_or_else(|| error(DiskErrorKind::NotFound, "read"))?;
                let bytes = Bytes::copy_from_slice(&self.files[file].now);
                assert!(bytes.len() <= SMALL_FILE_BYTES_MAX);
                Ok(DiskDone::Read(bytes))
            }
            DiskOp::WriteFile { path, data } => {
                assert!(data.len() <= SMALL_FILE_BYTES_MAX);
                self.maybe_fail(self.faults.failing_writes, "write")?;
                self.check_space(data.len())?;
                self.put_file(path, data.to_vec());
                Ok(DiskDone::Done)
            }
        }
    }

    fn allocate(&mut self, id: (u16, FileId), len: usize) -> DiskResult {
        let now = self.file(id).now.len();
        self.check_space(len.saturating_sub(now))?;
        if len > now {
            self.change(id, Change::Len(len));
        }
        Ok(DiskDone::Done)
    }

    fn rename(&mut self, from: &Path, to: PathBuf) -> DiskResult {
        let file = self.names.remove(from).ok_or_else(|| error(DiskErrorKind::NotFound, "rename"))?;
        for path in [from, &to] {
            self.settle_names(path.parent().expect("a file is in a directory"));
        }
        self.names.insert(to, file);
        Ok(DiskDone::Done)
    }

    fn open(&mut self, id: (u16, FileId), path: PathBuf, create: bool) -> DiskResult {
        if !self.names.contains_key(&path) {
            if !create {
                return Err(error(DiskErrorKind::NotFound, "open"));
            }
            self.put_file(path.clone(), Vec::new());
        }
        let file = self.names[&path];
        let shared = self.open.iter().any(|((core, _), open)| *open == file && *core != id.0);
        assert!(!shared, "{} is opened by two cores", path.display());
        assert!(self.open.insert(id, file).is_none(), "a file id is used once");
        Ok(DiskDone::Opened { len: self.files[&file].now.len() as u64 })
    }

    fn sync(&mut self, id: (u16, FileId), sent_after: u64) -> DiskResult {
        // When it fails, what it was for may be lost as before.
        let failed = self.maybe_fail(self.faults.failing_syncs, "sync");
        failed.map_err(|error| DiskError { kind: DiskErrorKind::NotSynced, ..error })?;
        let file = self.file_mut(id);
        let upto = file.changes.iter().position(|(number, _)| *number > sent_after).unwrap_or(file.changes.len());
        let done: Vec<_> = file.changes.drain(..upto).collect();
        for (_, change) in done {
            change.apply(&mut file.durable);
        }
        Ok(DiskDone::Done)
    }

    fn write(&mut self, id: (u16, FileId), position: u64, data: &[Bytes]) -> DiskResult {
        let bytes = padded(data);
        let grows = (position as usize + bytes.len()).saturating_sub(self.file(id).now.len());
        let failed = self.check_space(grows).and_then(|_| self.maybe_fail(self.faults.failing_writes, "write"));
        if failed.is_err() {
            self.write_some(id, position, data);
            return failed;
        }
        self.change(id, Change::Write { position: position as usize, bytes });
        failed
    }

    /// A write that did not end well: any of its sectors is there or not.
    fn write_some(&mut self, id: (u16, FileId), position: u64, data: &[Bytes]) {
        if !self.open.contains_key(&id) {
            return;
        }
        let len = self.file(id).now.len();
        let keep_of_8 = self.rng.below(9);
        for (sector, bytes) in padded(data).chunks(SECTOR_BYTES).enumerate() {
            let position = position as usize + sector * SECTOR_BYTES;
            if self.rng.below(8) < keep_of_8 && (self.space_bytes.is_none() || position + bytes.len() <= len) {
                self.change(id, Change::Write { position, bytes: bytes.to_vec() });
            }
        }
    }

    fn change(&mut self, id: (u16, FileId), change: Change) {
        self.changes += 1;
        let number = self.changes;
        let file = self.file_mut(id);
        change.apply(&mut file.now);
        file.changes.push((number, change));
    }

    fn put_file(&mut self, path: PathBuf, bytes: Vec<u8>) {
        self.settle_names(path.parent().expect("a file is in a directory"));
        self.files_made += 1;
        let file = File { now: bytes.clone(), durable: bytes, changes: Vec::new() };
        self.files.insert(self.files_made, file);
        self.names.insert(path, self.files_made);
    }

    fn remove(&mut self, path: &Path) {
        if let Some(file) = self.names.remove(path) {
            self.removed.push((path.to_owned(), file));
        }
    }

    /// The directory was synced: what was removed from it stays so.
    fn settle_names(&mut self, dir: &Path) {
        self.removed.retain(|(path, _)| path.parent() != Some(dir));
    }

    fn file(&self, id: (u16, FileId)) -> &File {
        &self.files[self.open.get(&id).expect("the file is open")]
    }

    fn file_mut(&mut self, id: (u16, FileId)) -> &mut File {
        let file = self.open.get(&id).expect("the file is open");
        self.files.get_mut(file).expect("an open file is there")
    }

    fn maybe_fail(&mut self, of_1000: u64, what: &str) -> DiskResult {
        if of_1000 > 0 && self.rng.below(1000) < of_1000 {
            return Err(error(DiskErrorKind::Failed, what));
        }
        Ok(DiskDone::Done)
    }

    fn check_space(&self, grows: usize) -> DiskResult {
        match self.space_bytes {
            Some(space) if grows > 0 && self.used_bytes() + grows > space => {
                Err(error(DiskErrorKind::Full, "no space"))
            }
            _ => Ok(DiskDone::Done),
        }
    }
}

impl File {
    /// Some of what was not synced is there and some is not. Lengths are kept in the file system's journal: of those
    /// the first so many. Of what was written each sector is by itself.
    fn lose_power(&mut self, keep_of_8: u64, rng: &mut Rng) {
        let mut left = std::mem::take(&mut self.durable);
        let lengthening = self.changes.iter().filter(|(_, change)| matches!(change, Change::Len(_))).count();
        let mut lengths_kept = rng.below(lengthening as u64 + 1);
        // What lies beyond a length that was lost is lost with it, but a write can lengthen by itself.
        for (_, change) in self.changes.drain(..) {
            match change {
                Change::Len(_) if lengths_kept == 0 => {}
                Change::Len(_) => {
                    lengths_kept -= 1;
                    change.apply(&mut left);
                }
                Change::Write { position, bytes } => {
                    // Whole, not at all, or torn.
                    let keep_of_8 = [0, 8, keep_of_8, keep_of_8][rng.below(4) as usize];
                    for (sector, bytes) in bytes.chunks(SECTOR_BYTES).enumerate() {
                        if rng.below(8) < keep_of_8 {
                            let position = position + sector * SECTOR_BYTES;
                            Change::Write { position, bytes: bytes.to_vec() }.apply(&mut left);
                        }
                    }
                }
            }
        }
        self.now = left;
    }
}

impl Change {
    fn apply(&self, to: &mut Vec<u8>) {
        match self {
            Change::Len(len) => to.resize(*len, 0),
            Change::Write { position, bytes } => {
                let end = position + bytes.len();
                if to.len() < end {
                    to.resize(end, 0);
                }
                to[*position..end].copy_from_slice(bytes);
            }
        }
    }
}

fn blocks(position: u64, data: &[Bytes]) -> Range<u64> {
    position..position + data.iter().map(Bytes::len).sum::<usize>().next_multiple_of(BLOCK_BYTES) as u64
}

fn padded(data: &[Bytes]) -> Vec<u8> {
    let mut bytes = data.concat();
    bytes.resize(bytes.len().next_multiple_of(BLOCK_BYTES), 0);
    bytes
}

fn file_name(path: &Path) -> String {
    path.file_name().and_then(|name| name.to_str()).expect("a name of ours").to_owned()
}

fn error(kind: DiskErrorKind, what: &str) -> DiskError {
    DiskError { kind, message: format!("{what}: simulated {kind:?}") }
}
