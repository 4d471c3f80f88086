//! Partitions without a log around a journal, for tests: they append, flush, roll, and compare after a crash.
//!
//! *Owns*: what each partition should hold. *Never*: is part of the product. *Runs on*: tests.

use std::path::PathBuf;

use bytes::Bytes;

use super::format::{EntryHead, FileName, RING_START};
use super::journal::{Entry, JournalEvent};
use super::replay::{Event, Loss, Replay, Report, Topics};
use super::testing::{RING_BYTES, Rig, Tag};
use crate::base::disk::{BLOCK_BYTES, DiskOp, FileId};
use crate::base::ids::{CoreId, LeaderEpoch, Offset, PartitionIndex, TopicId};
use crate::base::layout::segment_name;
use crate::base::rng::Rng;
use crate::base::testdisk::{Crash, TestDisk};

/// Partitions that there are as far as a replay knows.
pub(super) const PARTITIONS_KNOWN: u32 = 3;

/// A record is one byte here, so that a segment's positions count its offsets from its base.
#[derive(Debug, Default)]
pub(super) struct Segment {
    pub(super) base: i64,
    pub(super) bytes: Vec<u8>,
}

#[derive(Debug, Default)]
pub(super) struct Partition {
    pub(super) segments: Vec<Segment>,
    /// Everything below was reported as durable.
    pub(super) safe: i64,
    /// Everything below is durable in the segments.
    pub(super) flushed: i64,
}

pub(super) struct World {
    pub(super) rig: Rig,
    pub(super) partitions: Vec<Partition>,
    pub(super) rng: Rng,
    files: u32,
    keys: u64,
    piece_bytes: u64,
    /// Who was asked to flush and has not done it.
    wanted: Vec<u32>,
}

pub(super) fn topic(owner: u32) -> TopicId {
    TopicId([owner as u8 + 1; 16])
}

pub(super) fn dir(owner: u32) -> PathBuf {
    format!("p-{owner}").into()
}

/// The directory of a topic as `topic` numbers them.
pub(super) fn directory(topic: TopicId, partition: PartitionIndex) -> Option<PathBuf> {
    (topic.0 == [partition.0 as u8 + 1; 16]).then(|| dir(partition.0 as u32))
}

impl Partition {
    pub(super) fn next(&self) -> i64 {
        self.segments.last().map_or(0, Segment::next)
    }
}

impl Segment {
    fn next(&self) -> i64 {
        self.base + self.bytes.len() as i64
    }
}

impl World {
    pub(super) fn new(seed: u64, partitions: u32) -> World {
        let mut world = World::with(seed, partitions, RING_BYTES);
        world.rig.run();
        world
    }

    /// With a ring that begins with so many bytes.
    pub(super) fn with(seed: u64, partitions: u32, piece_bytes: u64) -> World {
        let partitions = (0..partitions).map(|_| Partition::default()).collect();
        let rig = Rig::start_with(TestDisk::new(seed), 1, piece_bytes);
        World { rig, partitions, rng: Rng::new(!seed), files: 0, keys: 1, piece_bytes, wanted: Vec::new() }
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.rng.below(bound)
    }

    /// Appends random bytes, some of them in a new segment.
    pub(super) fn append(&mut self, owner: u32, len: usize) {
        let rolls = self.rng.below(20) == 0;
        let partition = &mut self.partitions[owner as usize];
        let base = partition.next();
        if partition.segments.last().is_none_or(|last| rolls && !last.bytes.is_empty()) {
            partition.segments.push(Segment { base, bytes: Vec::new() });
        }
        let segment = partition.segments.last_mut().unwrap();
        let bytes: Vec<u8> = (0..len.div_ceil(8)).flat_map(|_| self.rng.next_u64().to_le_bytes()).take(len).collect();
        let position = segment.bytes.len() as u64;
        segment.bytes.extend_from_slice(&bytes);
        let bytes = Bytes::from(bytes);
        let half = self.rng.below(len as u64) as usize;
        self.rig.journal.append(Entry {
            owner,
            head: EntryHead {
                topic: topic(owner),
                partition: PartitionIndex(owner as i32),
                epoch: LeaderEpoch(1),
                segment: Offset(segment.base),
                position,
                truncations: 0,
                base: Offset(base),
                next: Offset(base + len as i64),
                len: len as u32,
            },
            slices: vec![bytes.slice(..half), bytes.slice(half..)],
        });
    }

    /// Appends, and waits for the commit.
    pub(super) fn commit(&mut self, owner: u32, len: usize) {
        self.append(owner, len);
        self.rig.run();
        self.listen();
    }

    /// Takes the journal's events.
    pub(super) fn listen(&mut self) {
        for event in std::mem::take(&mut self.rig.events) {
            match event {
                JournalEvent::Committed { owner, next, .. } => {
                    let partition = &mut self.partitions[owner as usize];
                    assert!(next.0 > partition.safe && next.0 <= partition.next(), "in order");
                    partition.safe = next.0;
                }
                JournalEvent::FlushWanted { owner } => self.wanted.push(owner),
                other => panic!("{other:?}"),
            }
        }
    }

    /// Flushes who was asked to.
    pub(super) fn flush_wanted(&mut self) {
        for owner in std::mem::take(&mut self.wanted) {
            self.flush(owner);
        }
    }

    /// Writes everything to the segments, and syncs it.
    pub(super) fn flush(&mut self, owner: u32) {
        let upto = self.write_segments(owner, true);
        self.partitions[owner as usize].flushed = upto;
        self.rig.journal.on_flushed(owner, Offset(upto));
    }

    /// Brings the segments up to date; what is not synced may be lost.
    pub(super) fn write_segments(&mut self, owner: u32, sync: bool) -> i64 {
        self.rig.carry_out(DiskOp::List { dir: dir(owner) }).unwrap();
        let (upto, flushed) = (self.partitions[owner as usize].next(), self.partitions[owner as usize].flushed);
        for at in 0..self.partitions[owner as usize].segments.len() {
            let segment = &self.partitions[owner as usize].segments[at];
            if segment.next() <= flushed {
                continue;
            }
            let from = (flushed - segment.base).max(0) as usize / BLOCK_BYTES * BLOCK_BYTES;
            let pieces: Vec<Bytes> = segment.bytes[from..].chunks(1 << 20).map(Bytes::copy_from_slice).collect();
            let (path, len) = (dir(owner).join(segment_name(Offset(segment.base))), segment.bytes.len() as u64);
            self.files += 1;
            let file = FileId::new(5, self.files);
            self.rig.carry_out(DiskOp::Open { file, path, create: true }).unwrap();
            for (index, data) in pieces.into_iter().enumerate() {
                let position = (from + (index << 20)) as u64;
                self.rig.carry_out(DiskOp::Write { file, position, data: vec![data] }).unwrap();
            }
            self.rig.carry_out(DiskOp::Truncate { file, len }).unwrap();
            if sync {
                self.rig.carry_out(DiskOp::Sync { file }).unwrap();
            }
            self.rig.carry_out(DiskOp::Close { file }).unwrap();
        }
        upto
    }

    /// Replays, cut short by crashes up to that many times.
    pub(super) fn replay(&mut self, mut cuts: u32) -> Report {
        loop {
            let steps = if cuts > 0 { self.rng.below(60) } else { u64::MAX };
            match replay(&mut self.rig.disk, steps) {
                Some(Ended::Done(report)) => return *report,
                Some(Ended::Failed(message)) => panic!("{message}"),
                None => {
                    cuts -= 1;
                    self.rig.disk.crash(Crash::Power);
                }
            }
        }
    }

    /// What was safe is in its segments.
    pub(super) fn check(&mut self, context: &str) {
        for (owner, partition) in self.partitions.iter().enumerate() {
            for segment in &partition.segments {
                let safe = (partition.safe.max(partition.flushed) - segment.base).clamp(0, segment.bytes.len() as i64);
                let path = dir(owner as u32).join(segment_name(Offset(segment.base)));
                if safe > 0 {
                    let bytes = self.rig.disk.bytes(&path);
                    assert!(bytes.len() as i64 >= safe, "{context}: partition {owner} is too short");
                    let same = bytes[..safe as usize] == segment.bytes[..safe as usize];
                    assert!(same, "{context}: partition {owner}, segment {}", segment.base);
                }
            }
        }
    }

    /// Opens the journal again.
    pub(super) fn restart(&mut self) {
        self.keys += 1;
        let disk = std::mem::replace(&mut self.rig.disk, TestDisk::new(0));
        self.wanted.clear();
        self.rig = Rig::start_with(disk, self.keys, self.piece_bytes);
    }

    /// Goes on after a replay as logs would that keep no more than they must; the journal is opened again.
    pub(super) fn reopen(&mut self, report: &Report) {
        self.restart();
        for owner in 0..self.partitions.len() as u32 {
            let name = (topic(owner), PartitionIndex(owner as i32));
            let partition = &mut self.partitions[owner as usize];
            let reach = report.must_reach.get(&name).map_or(0, |reach| reach.end.0);
            assert!(reach <= partition.next());
            let end = reach.max(partition.safe).max(partition.flushed);
            partition.segments.retain(|segment| segment.base < end || segment.base == 0);
            if let Some(last) = partition.segments.last_mut() {
                last.bytes.truncate((end - last.base) as usize);
            }
            (partition.safe, partition.flushed) = (end, end);
            self.cut_files(owner);
        }
    }

    fn cut_files(&mut self, owner: u32) {
        let segments = &self.partitions[owner as usize].segments;
        let lens: Vec<(String, u64)> =
            segments.iter().map(|segment| (segment_name(Offset(segment.base)), segment.bytes.len() as u64)).collect();
        for (name, _) in self.rig.disk.names(&dir(owner)) {
            let path = dir(owner).join(&name);
            match lens.iter().find(|(other, _)| *other == name) {
                Some((_, len)) => {
                    self.files += 1;
                    let file = FileId::new(5, self.files);
                    self.rig.carry_out(DiskOp::Open { file, path, create: false }).unwrap();
                    self.rig.carry_out(DiskOp::Truncate { file, len: *len }).unwrap();
                    self.rig.carry_out(DiskOp::Sync { file }).unwrap();
                    self.rig.carry_out(DiskOp::Close { file }).unwrap();
                }
                None => self.rig.disk.remove(&path),
            }
        }
    }
}

/// How a replay ended; done, the journals are empty.
#[derive(Debug)]
pub(super) enum Ended {
    Done(Box<Report>),
    Failed(String),
}

/// Replays what the disk holds, in at most that many steps; `None` when they were not enough.
pub(super) fn replay(disk: &mut TestDisk<Tag>, steps: u64) -> Option<Ended> {
    replay_as("test", 1, Loss::Refused, disk, steps)
}

pub(super) fn replay_as(cluster: &str, cores: u16, loss: Loss, disk: &mut TestDisk<Tag>, steps: u64) -> Option<Ended> {
    let mut asked = Vec::new();
    let mut replay = Replay::start(cluster.into(), 1, cores, loss, 9, &mut asked);
    let owned = |_, _| (0..PARTITIONS_KNOWN).map(|owner| (topic(owner), PartitionIndex(owner as i32))).collect();
    let topics = Topics { directory: &directory, owned: &owned };
    let mut redone = None;
    for _ in 0..steps {
        asked.drain(..).for_each(|(op, disk_op)| disk.send(Tag::Replay(op), disk_op));
        let Some((Tag::Replay(op), result)) = disk.step() else { panic!("nothing else is under way") };
        let mut event = replay.on_disk(op, result, topics, &mut asked);
        if let Some(Event::Redone(report)) = event {
            assert_eq!(disk.open_files(), 0, "everything is closed");
            redone = Some(report);
            event = replay.empty(&mut asked);
        }
        match event {
            None => {}
            Some(Event::Redone(_)) => panic!("said twice"),
            Some(Event::Emptied) => {
                assert_eq!(disk.open_files(), 0, "everything is closed");
                return redone.map(Ended::Done);
            }
            Some(Event::Failed { message }) => {
                disk.crash(Crash::Kill);
                return Some(Ended::Failed(message));
            }
        }
    }
    None
}

/// The ring of the journal of core 0.
pub(super) fn ring(disk: &mut TestDisk<Tag>) -> &mut [u8] {
    let bytes = disk.bytes(&FileName::Journal(CoreId(0)).path());
    assert_eq!(bytes.len() as u64, RING_START + RING_BYTES);
    &mut bytes[RING_START as usize..]
}
