//! A disk for tests: files in memory, operations that end in any order, and everything that can go wrong.
//!
//! *Owns*: the bytes as they are now, and as they would be after a power loss. *Never*: is part of the product.
//! *Runs on*: tests.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::base::disk::{BLOCK_BYTES, DiskDone, DiskError, DiskErrorKind, DiskOp, DiskResult, FileId};
use crate::base::limits::{DISK_READ_BYTES_MAX, DISK_WRITE_BYTES_MAX};
use crate::base::rng::Rng;

#[derive(Debug, Clone)]
enum Change {
    Write { position: usize, bytes: Vec<u8> },
    Len(usize),
}

#[derive(Debug, Clone, Default)]
struct File {
    now: Vec<u8>,
    synced: Vec<u8>,
    /// What happened since, with the number of the change.
    unsynced: Vec<(u64, Change)>,
}

/// What is left after a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Crash {
    /// Of the process: what completed stays.
    Kill,
    /// Of the machine: what was not synced may be lost, block by block.
    Power,
}

#[derive(Debug, Clone)]
pub(crate) struct TestDisk<T> {
    files: BTreeMap<PathBuf, File>,
    dirs: Vec<PathBuf>,
    open: BTreeMap<FileId, PathBuf>,
    /// Those whose writes need no sync; closed ones among them.
    durable: Vec<FileId>,
    /// With the number of the last change when it was sent.
    in_flight: Vec<(T, DiskOp, u64)>,
    rng: Rng,
    changes: u64,
    /// Bytes all files together may have.
    pub(crate) capacity: usize,
    pub(crate) fail_syncs: bool,
    /// Bytes of files that cannot be read.
    pub(crate) unreadable: Vec<(PathBuf, u64)>,
    /// Bytes of files that there is no space for, reserved or not.
    pub(crate) spaceless: Vec<(PathBuf, u64)>,
    /// Operations carried out.
    pub(crate) done: u64,
    /// Of those, by name.
    pub(crate) counts: BTreeMap<&'static str, u64>,
}

impl<T: Copy> TestDisk<T> {
    pub(crate) fn new(seed: u64) -> TestDisk<T> {
        TestDisk {
            files: BTreeMap::new(),
            dirs: Vec::new(),
            open: BTreeMap::new(),
            durable: Vec::new(),
            in_flight: Vec::new(),
            rng: Rng::new(seed),
            changes: 0,
            capacity: usize::MAX,
            fail_syncs: false,
            unreadable: Vec::new(),
            spaceless: Vec::new(),
            done: 0,
            counts: BTreeMap::new(),
        }
    }

    pub(crate) fn send(&mut self, tag: T, op: DiskOp) {
        if let DiskOp::Write { file, position, data } = &op {
            let blocks = |position: u64, data: &[Bytes]| {
                let len = data.iter().map(Bytes::len).sum::<usize>().next_multiple_of(BLOCK_BYTES) as u64;
                position..position + len
            };
            let mine = blocks(*position, data);
            assert!(mine.end - mine.start <= DISK_WRITE_BYTES_MAX as u64, "a write has its bound");
            assert!(position.is_multiple_of(BLOCK_BYTES as u64));
            for (_, other, _) in &self.in_flight {
                if let DiskOp::Write { file: other, position, data } = other {
                    let theirs = blocks(*position, data);
                    let apart = other != file || theirs.end <= mine.start || mine.end <= theirs.start;
                    assert!(apart, "two writes to one block are in flight");
                }
            }
        }
        self.in_flight.push((tag, op, self.changes));
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.in_flight.is_empty()
    }

    pub(crate) fn open_files(&self) -> usize {
        self.open.len()
    }

    /// Carries out any one of the operations in flight.
    pub(crate) fn step(&mut self) -> Option<(T, DiskResult)> {
        if self.in_flight.is_empty() {
            return None;
        }
        let at = self.rng.below(self.in_flight.len() as u64) as usize;
        let (tag, op, sent_at) = self.in_flight.remove(at);
        self.done += 1;
        *self.counts.entry(op.name()).or_default() += 1;
        Some((tag, self.carry_out(op, sent_at)))
    }

    pub(crate) fn names(&self, dir: &Path) -> Vec<(String, u64)> {
        let here = self.files.iter().filter(|(path, _)| path.parent() == Some(dir));
        here.map(|(path, file)| (path.file_name().unwrap().to_str().unwrap().to_string(), file.now.len() as u64))
            .collect()
    }

    pub(crate) fn bytes(&mut self, path: &Path) -> &mut Vec<u8> {
        &mut self.files.get_mut(path).expect("the file is there").now
    }

    /// Puts bytes to their place for good, before anything is open.
    pub(crate) fn restore(&mut self, path: &Path, position: usize, bytes: &[u8]) {
        let file = self.files.get_mut(path).expect("space is reserved before bytes are given a place in it");
        put(&mut file.now, position, bytes);
        file.synced = file.now.clone();
        file.unsynced.clear();
    }

    /// A file that somebody else made.
    pub(crate) fn put(&mut self, path: &Path, bytes: Vec<u8>) {
        self.files.insert(path.into(), File { synced: bytes.clone(), now: bytes, unsynced: Vec::new() });
    }

    pub(crate) fn remove(&mut self, path: &Path) {
        self.files.remove(path).expect("the file is there");
    }

    pub(crate) fn has_dir(&self, dir: &Path) -> bool {
        self.dirs.iter().any(|other| other == dir)
    }

    /// Ends everything: what was in flight may have happened in part, files are closed.
    pub(crate) fn crash(&mut self, how: Crash) {
        for (_, op, sent_at) in std::mem::take(&mut self.in_flight) {
            match op {
                DiskOp::Write { file, position, data } => self.tear(file, position as usize, &data),
                DiskOp::Allocate { .. }
                | DiskOp::Truncate { .. }
                | DiskOp::WriteFile { .. }
                | DiskOp::Delete { .. }
                | DiskOp::Rename { .. }
                    if self.rng.below(2) == 0 =>
                {
                    let _ = self.carry_out(op, sent_at);
                }
                _ => {}
            }
        }
        self.open.clear();
        self.durable.clear();
        for file in self.files.values_mut() {
            if how == Crash::Power {
                let mut left = file.synced.clone();
                for (_, change) in std::mem::take(&mut file.unsynced) {
                    match change {
                        Change::Len(len) if self.rng.below(2) == 0 => left.resize(len, 0),
                        Change::Len(_) => {}
                        Change::Write { position, bytes } => {
                            for (block, bytes) in bytes.chunks(BLOCK_BYTES).enumerate() {
                                if self.rng.below(2) == 0 {
                                    put(&mut left, position + block * BLOCK_BYTES, bytes);
                                }
                            }
                        }
                    }
                }
                file.synced = left.clone();
                file.now = left;
            }
        }
    }

    /// A write that was in flight: any of its sectors is there or not.
    fn tear(&mut self, file: FileId, position: usize, data: &[Bytes]) {
        const SECTOR_BYTES: usize = 512;
        let Some(path) = self.open.get(&file).cloned() else { return };
        for (sector, bytes) in padded(data).chunks(SECTOR_BYTES).enumerate() {
            if self.rng.below(2) == 0 {
                self.change(&path, Change::Write { position: position + sector * SECTOR_BYTES, bytes: bytes.to_vec() });
            }
        }
    }

    fn change(&mut self, path: &Path, change: Change) {
        self.changes += 1;
        let file = self.files.get_mut(path).expect("an open file is there");
        match &change {
            Change::Write { position, bytes } => put(&mut file.now, *position, bytes),
            Change::Len(len) => file.now.resize(*len, 0),
        }
        file.unsynced.push((self.changes, change));
    }

    fn used(&self) -> usize {
        self.files.values().map(|file| file.now.len()).sum()
    }

    fn sync(&mut self, file: FileId, sent_at: u64) -> DiskResult {
        if self.fail_syncs {
            return error(DiskErrorKind::NotSynced);
        }
        let file = self.files.get_mut(&self.open[&file]).unwrap();
        let kept = file.unsynced.iter().position(|(at, _)| *at > sent_at).unwrap_or(file.unsynced.len());
        for (_, change) in file.unsynced.drain(..kept) {
            match change {
                Change::Write { position, bytes } => put(&mut file.synced, position, &bytes),
                Change::Len(len) => file.synced.resize(len, 0),
            }
        }
        Ok(DiskDone::Done)
    }

    fn carry_out(&mut self, op: DiskOp, sent_at: u64) -> DiskResult {
        match op {
            DiskOp::List { dir } => {
                if !self.has_dir(&dir) {
                    self.dirs.push(dir.clone());
                }
                Ok(DiskDone::Listed(self.names(&dir)))
            }
            DiskOp::Open { file, path, create } => {
                if !self.files.contains_key(&path) {
                    if !create {
                        return error(DiskErrorKind::NotFound);
                    }
                    self.files.insert(path.clone(), File::default());
                }
                let len = self.files[&path].now.len() as u64;
                assert!(self.open.insert(file, path).is_none(), "a file id is used once");
                Ok(DiskDone::Opened { len })
            }
            DiskOp::OpenDurable { file, path } => {
                self.durable.push(file);
                self.carry_out(DiskOp::Open { file, path, create: true }, sent_at)
            }
            DiskOp::Write { file, .. } if self.durable.contains(&file) => {
                self.on_file(op)?;
                self.sync(file, self.changes)
            }
            DiskOp::Sync { file } => self.sync(file, sent_at),
            DiskOp::Write { .. }
            | DiskOp::Read { .. }
            | DiskOp::Allocate { .. }
            | DiskOp::Truncate { .. }
            | DiskOp::Close { .. } => self.on_file(op),
            DiskOp::Rename { from, to } => match self.files.remove(&from) {
                Some(file) => {
                    // Who has it open goes on with it.
                    for path in self.open.values_mut().filter(|path| **path == from) {
                        path.clone_from(&to);
                    }
                    self.files.insert(to, file);
                    Ok(DiskDone::Done)
                }
                None => error(DiskErrorKind::NotFound),
            },
            DiskOp::Delete { path } => {
                self.files.remove(&path);
                Ok(DiskDone::Done)
            }
            DiskOp::DeleteDir { dir } => {
                assert!(self.open.values().all(|path| path.parent() != Some(&dir)), "files are closed first");
                self.files.retain(|path, _| path.parent() != Some(&dir));
                self.dirs.retain(|other| *other != dir);
                Ok(DiskDone::Done)
            }
            DiskOp::Space => Ok(DiskDone::Space { total_bytes: 1 << 40, usable_bytes: 1 << 39 }),
            DiskOp::ReadFile { path } => match self.files.get(&path) {
                Some(file) => Ok(DiskDone::Read(Bytes::copy_from_slice(&file.now))),
                None => error(DiskErrorKind::NotFound),
            },
            DiskOp::WriteFile { path, data } => {
                let old = self.files.get(&path).map_or(0, |file| file.now.len());
                if self.used() - old + data.len() > self.capacity {
                    return error(DiskErrorKind::Full);
                }
                let now = data.to_vec();
                self.files.insert(path, File { synced: now.clone(), now, unsynced: Vec::new() });
                Ok(DiskDone::Done)
            }
        }
    }

    fn on_file(&mut self, op: DiskOp) -> DiskResult {
        match op {
            DiskOp::Write { file, position, data } => {
                let path = self.open[&file].clone();
                let bytes = padded(&data);
                let grows = (position as usize + bytes.len()).saturating_sub(self.files[&path].now.len());
                let within = position..position + bytes.len() as u64;
                let is_spaceless = self.spaceless.iter().any(|(bad, at)| *bad == path && within.contains(at));
                if is_spaceless || self.used() + grows > self.capacity {
                    let some = bytes[..bytes.len() / BLOCK_BYTES / 2 * BLOCK_BYTES].to_vec();
                    self.change(&path, Change::Write { position: position as usize, bytes: some });
                    return error(DiskErrorKind::Full);
                }
                self.change(&path, Change::Write { position: position as usize, bytes });
                Ok(DiskDone::Done)
            }
            DiskOp::Read { file, position, len } => {
                assert!(len > 0 && len <= DISK_READ_BYTES_MAX);
                let path = &self.open[&file];
                let within = position..position + len as u64;
                if self.unreadable.iter().any(|(bad, at)| bad == path && within.contains(at)) {
                    return error(DiskErrorKind::Failed);
                }
                let bytes = &self.files[path].now;
                let from = bytes.len().min(position as usize);
                let upto = bytes.len().min(position as usize + len);
                Ok(DiskDone::Read(Bytes::copy_from_slice(&bytes[from..upto])))
            }
            DiskOp::Allocate { file, len } => {
                let path = self.open[&file].clone();
                let grows = (len as usize).saturating_sub(self.files[&path].now.len());
                if self.used() + grows > self.capacity {
                    return error(DiskErrorKind::Full);
                }
                if grows > 0 {
                    self.change(&path, Change::Len(len as usize));
                }
                Ok(DiskDone::Done)
            }
            DiskOp::Truncate { file, len } => {
                let path = self.open[&file].clone();
                self.change(&path, Change::Len(len as usize));
                Ok(DiskDone::Done)
            }
            DiskOp::Close { file } => {
                assert!(self.open.remove(&file).is_some(), "only open files are closed");
                let busy = self.in_flight.iter().any(|(_, op, _)| op.file() == Some(file));
                assert!(!busy, "a file is closed when nothing of it is in flight");
                Ok(DiskDone::Done)
            }
            _ => unreachable!("the others are handled by the caller"),
        }
    }
}

fn error(kind: DiskErrorKind) -> DiskResult {
    Err(DiskError { kind, message: format!("{kind:?}") })
}

fn padded(data: &[Bytes]) -> Vec<u8> {
    let mut bytes = data.concat();
    bytes.resize(bytes.len().next_multiple_of(BLOCK_BYTES), 0);
    bytes
}

fn put(to: &mut Vec<u8>, position: usize, bytes: &[u8]) {
    if to.len() < position + bytes.len() {
        to.resize(position + bytes.len(), 0);
    }
    to[position..position + bytes.len()].copy_from_slice(bytes);
}
