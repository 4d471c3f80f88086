//! What the tests of this room share.
//!
//! *Owns*: a journal on a test disk, entries made to measure. *Never*: is part of the product. *Runs on*: tests.

use std::path::PathBuf;

use bytes::Bytes;

use super::format::{EntryHead, FileName, Identity};
use super::journal::{Entry, Journal, JournalEvent, JournalOp, JournalOut};
use super::replay::ReplayOp;
use crate::base::disk::{DiskOp, DiskResult, FileId};
use crate::base::ids::{CoreId, LeaderEpoch, Offset, PartitionIndex, TopicId};
use crate::base::testdisk::TestDisk;
use crate::base::time::{Instant, Now};

pub(super) const RING_BYTES: u64 = 1 << 20;

pub(super) fn identity() -> Identity {
    Identity { cluster: "test".into(), node: 1, core: CoreId(0), cores: 1 }
}

pub(super) fn path() -> PathBuf {
    FileName::Journal(CoreId(0)).path()
}

/// An entry of `records` records of `len` bytes that begins at `base`, where one record is one byte of position.
pub(super) fn entry(owner: u32, base: i64, records: i64, len: usize) -> Entry {
    let fill = (base as u8).wrapping_mul(7).wrapping_add(owner as u8) | 1;
    let bytes = Bytes::from(vec![fill; len]);
    Entry {
        owner,
        head: EntryHead {
            topic: TopicId([owner as u8 + 1; 16]),
            partition: PartitionIndex(owner as i32),
            epoch: LeaderEpoch(0),
            segment: Offset(0),
            position: base as u64,
            truncations: 0,
            base: Offset(base),
            next: Offset(base + records),
            len: len as u32,
        },
        slices: vec![bytes.slice(..len / 3), bytes.slice(len / 3..)],
    }
}

/// A journal on a [`TestDisk`].
pub(super) struct Rig {
    pub(super) disk: TestDisk<Tag>,
    pub(super) journal: Journal,
    pub(super) out: JournalOut,
    pub(super) events: Vec<JournalEvent>,
    pub(super) now: Now,
    /// Times that it said so.
    pub(super) made: u32,
    /// How an operation that is not the journal's ended.
    other: Option<DiskResult>,
}

/// Whose operation it is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Tag {
    Journal(JournalOp),
    Replay(ReplayOp),
    Other,
}

impl Rig {
    /// One that is open.
    pub(super) fn new(seed: u64) -> Rig {
        let mut rig = Rig::start(TestDisk::new(seed), 1);
        rig.run();
        assert_eq!(rig.made, 1);
        assert_eq!(rig.events, []);
        rig
    }

    /// Begins to open what the disk holds.
    pub(super) fn start(disk: TestDisk<Tag>, key: u64) -> Rig {
        Rig::start_with(disk, key, RING_BYTES)
    }

    /// With a ring that grows by so many bytes.
    pub(super) fn start_with(disk: TestDisk<Tag>, key: u64, piece_bytes: u64) -> Rig {
        let mut out = JournalOut::default();
        let mut journal = Journal::new(identity(), RING_BYTES, key, FileId::new(u32::MAX, 1));
        journal.set_piece_bytes(piece_bytes);
        journal.open(&mut out);
        let now = Now { mono: Instant(1), wall_ms: 1 };
        let mut rig = Rig { disk, journal, out, events: Vec::new(), now, made: 0, other: None };
        rig.send();
        rig
    }

    fn send(&mut self) {
        for (op, disk) in self.out.disk.drain(..) {
            self.disk.send(Tag::Journal(op), disk);
        }
        for event in self.out.events.drain(..) {
            match event {
                JournalEvent::Made { .. } => {
                    self.made += 1;
                    self.journal.begin();
                }
                event => self.events.push(event),
            }
        }
    }

    pub(super) fn pump(&mut self) {
        self.journal.pump(self.now, &mut self.out);
        self.send();
    }

    pub(super) fn close(&mut self) {
        self.journal.close(&mut self.out);
        self.send();
    }

    /// Carries out one operation, and ends the step.
    pub(super) fn step(&mut self) -> bool {
        self.now.mono.0 += 1;
        let Some((tag, result)) = self.disk.step() else { return false };
        match tag {
            Tag::Journal(op) => self.journal.on_disk(op, result, self.now, &mut self.out),
            Tag::Replay(_) => unreachable!("a replay is over when the journal is opened"),
            Tag::Other => self.other = Some(result),
        }
        self.send();
        self.pump();
        true
    }

    /// Carries out an operation that is not the journal's; the journal goes on meanwhile.
    pub(super) fn carry_out(&mut self, op: DiskOp) -> DiskResult {
        self.disk.send(Tag::Other, op);
        loop {
            assert!(self.step());
            if let Some(result) = self.other.take() {
                return result;
            }
        }
    }

    /// Until nothing is in flight.
    pub(super) fn run(&mut self) {
        self.pump();
        while self.step() {}
    }

    /// Owner and end of what was committed since last asked; wishes to flush are left out.
    pub(super) fn committed(&mut self) -> Vec<(u32, i64)> {
        let committed = |event: JournalEvent| match event {
            JournalEvent::Committed { owner, next, times } => {
                assert!(times.began <= times.safe);
                Some((owner, next.0))
            }
            JournalEvent::FlushWanted { .. } => None,
            other => panic!("{other:?}"),
        };
        self.events.drain(..).filter_map(committed).collect()
    }

    /// The owners asked to flush since last asked; commits are left out.
    pub(super) fn wanted(&mut self) -> Vec<u32> {
        let wanted = |event: JournalEvent| match event {
            JournalEvent::FlushWanted { owner } => Some(owner),
            JournalEvent::Committed { .. } => None,
            other => panic!("{other:?}"),
        };
        self.events.drain(..).filter_map(wanted).collect()
    }
}
