//! What the tests of this room share.
//!
//! *Owns*: batches made to measure, a log on a test disk. *Never*: is part of the product. *Runs on*: tests.

use std::collections::VecDeque;
use std::path::PathBuf;

use bytes::Bytes;

use crate::base::bounds::{Bounds, Reach};
use crate::base::ids::{LeaderEpoch, Offset};
use crate::base::rng::Rng;
use crate::base::time::{Instant, Now};
use crate::config::{Durability, TopicSettings};
use crate::wire::batch::{Batch, BatchHeader};
use crate::wire::compression::Compression;
use crate::wire::records::BatchBuilder;

use super::cache::{ReadBy, TailCache};
use super::commit::ToJournal;
use super::log::{
    AppendError, Appended, Find, FoundOffset, Log, LogEvent, LogOp, LogOut, LogSlices, Read, ReadError, WriteTimes,
};
use super::reach::MustReach;
use super::read::ReadWish;
use super::replicate::{ReplicateError, Replicated};
use super::segment::FileName;
use super::testdisk::{Crash, TestDisk};

/// A header of `count` records by a producer.
pub(super) fn header(producer_id: i64, epoch: i16, sequence: i32, count: i32) -> BatchHeader {
    BatchHeader {
        partition_leader_epoch: 0,
        last_offset_delta: count - 1,
        base_timestamp: 0,
        max_timestamp: 0,
        producer_id,
        producer_epoch: epoch,
        base_sequence: sequence,
        records_count: count,
        ..BatchHeader::EMPTY
    }
}

/// Batches of two records from `base` on, as they are stored.
pub(super) fn stored(base: i64, batches: i64) -> Vec<u8> {
    let mut bytes = Vec::new();
    for number in 0..batches {
        for part in batch(2, 50, 5).stamp(Offset(base + 2 * number), LeaderEpoch(3), None).slices() {
            bytes.extend_from_slice(&part);
        }
    }
    bytes
}

/// A log on a [`TestDisk`], with a model of what it holds beside it.
pub(super) struct Rig {
    pub(super) disk: TestDisk<LogOp>,
    pub(super) log: Log,
    pub(super) cache: TailCache,
    pub(super) settings: TopicSettings,
    pub(super) now: Now,
    pub(super) out: LogOut,
    pub(super) events: Vec<LogEvent>,
    /// What recovery found not as it should be.
    pub(super) notes: Vec<String>,
    pub(super) journal: TestJournal,
    /// Every batch appended and not failed, as stored: first offset, next offset, bytes.
    pub(super) model: Vec<(Offset, Offset, Vec<u8>)>,
}

/// A commit journal of one partition that never fails.
#[derive(Debug, Clone)]
pub(super) struct TestJournal {
    rng: Rng,
    waiting: Option<ToJournal>,
    /// What a replay would find.
    live: VecDeque<ToJournal>,
    /// Pieces committed in all.
    pub(super) commits: u64,
    /// The log knows its segments to be durable up to here.
    pub(super) flushed: Reach,
    /// With so many live bytes the log is asked to flush.
    pub(super) bytes_max: usize,
    /// What is handed over is handed back.
    pub(super) is_full: bool,
    /// How far the log was flushed is known after a crash.
    pub(super) notes: bool,
}

impl TestJournal {
    pub(super) fn new(seed: u64) -> TestJournal {
        TestJournal {
            rng: Rng::new(seed ^ 0x6a6f),
            waiting: None,
            live: VecDeque::new(),
            commits: 0,
            flushed: Reach::default(),
            bytes_max: 12_000,
            is_full: false,
            notes: false,
        }
    }

    fn live_bytes(&self) -> usize {
        self.live.iter().map(|piece| piece.len).sum()
    }

    fn on_flushed(&mut self, upto: Reach) {
        assert!(upto > self.flushed, "{upto:?} after {:?}", self.flushed);
        self.flushed = upto;
        // Another partition may hold the tail: then what is flushed stays, and is replayed for nothing.
        if self.rng.below(2) == 0 {
            self.live.retain(|piece| reach_of(piece) > upto);
        }
    }

    pub(super) fn forget_before(&mut self, base: Offset) {
        self.live.retain(|piece| piece.base >= base);
    }

    /// What was on its way is there or not.
    fn crash(&mut self) {
        if let Some(piece) = self.waiting.take().filter(|_| self.rng.below(2) == 0) {
            self.live.push_back(piece);
        }
    }

    /// Puts everything to its place; how far the log must reach then.
    fn replay(&mut self, disk: &mut TestDisk<LogOp>) -> Reach {
        let mut must_reach = if self.notes { self.flushed } else { Reach::default() };
        for piece in self.live.drain(..) {
            let path = FileName::Segment(piece.segment).path(&dir());
            must_reach = must_reach.max(reach_of(&piece));
            if is_retired(disk, &piece) {
                continue;
            }
            disk.restore(&path, piece.position as usize, &piece.slices.concat());
        }
        self.flushed = Reach::default();
        must_reach
    }
}

fn reach_of(piece: &ToJournal) -> Reach {
    Reach { truncations: piece.truncations, end: piece.next }
}

/// As a replay knows it: the segment was removed or rewritten, or the log truncated.
fn is_retired(disk: &mut TestDisk<LogOp>, piece: &ToJournal) -> bool {
    let segment = piece.segment;
    let names = disk.names(&dir());
    let has = |wanted: FileName| names.iter().any(|(name, _)| FileName::parse(name) == Some(wanted));
    let path = FileName::Bounds.path(&dir());
    let bounds = if has(FileName::Bounds) { Bounds::from_file(disk.bytes(&path)).unwrap() } else { Bounds::default() };
    let later = |name: &str| matches!(FileName::parse(name), Some(FileName::Segment(base)) if base > segment);
    let is_removed = segment < bounds.start || names.iter().any(|(name, _)| later(name));
    let is_gone = is_removed && !has(FileName::Segment(segment));
    segment < bounds.rewritten || is_gone || bounds.voids(piece.truncations)
}

pub(super) fn dir() -> PathBuf {
    PathBuf::from("t-0")
}

impl Rig {
    /// A log that is open and empty.
    pub(super) fn new(seed: u64, settings: TopicSettings) -> Rig {
        let mut rig = Rig::start(TestDisk::new(seed), TestJournal::new(seed), settings, 1 << 20);
        rig.run();
        assert_eq!(rig.events, [LogEvent::Opened]);
        rig.events.clear();
        rig
    }

    /// Begins to open what the disk holds.
    pub(super) fn start(
        mut disk: TestDisk<LogOp>,
        mut journal: TestJournal,
        settings: TopicSettings,
        cache_bytes: usize,
    ) -> Rig {
        let must_reach = MustReach { reach: journal.replay(&mut disk), doubt: None };
        Rig::start_asked(disk, journal, settings, cache_bytes, must_reach)
    }

    /// The same, when something was replayed before.
    pub(super) fn start_asked(
        disk: TestDisk<LogOp>,
        journal: TestJournal,
        settings: TopicSettings,
        cache_bytes: usize,
        must_reach: MustReach,
    ) -> Rig {
        let now = Now { mono: Instant(1), wall_ms: 1_000_000 };
        let mut out = LogOut::default();
        let log = Log::open(7, dir(), settings.clone(), must_reach, now, &mut out);
        let cache = TailCache::new(cache_bytes);
        let (events, notes, model) = (Vec::new(), Vec::new(), Vec::new());
        let mut rig = Rig { disk, log, cache, settings, now, out, events, notes, journal, model };
        rig.send();
        rig
    }

    /// Hands what the log asked for to the disk, and keeps its events.
    pub(super) fn send(&mut self) {
        for (op, what) in self.out.disk.drain(..) {
            self.disk.send(op, what);
        }
        for piece in self.out.journal.drain(..) {
            assert!(self.journal.waiting.is_none(), "one piece is with the journal at a time");
            assert_eq!(piece.slices.iter().map(Bytes::len).sum::<usize>(), piece.len);
            self.journal.waiting = Some(piece);
        }
        for event in self.out.events.drain(..) {
            if let LogEvent::Flushed { upto } = event {
                self.journal.on_flushed(upto);
                continue;
            }
            if let LogEvent::Noted { message } = event {
                self.notes.push(message);
                continue;
            }
            if let LogEvent::Failed { from: end, .. } | LogEvent::Truncated { end } = &event {
                self.model.retain(|(_, next, _)| next <= end);
            }
            self.events.push(event);
        }
    }

    /// Ends one disk operation or commit; false when there is none.
    pub(super) fn step(&mut self) -> bool {
        if self.journal.waiting.is_some() && (self.disk.is_idle() || self.journal.rng.below(2) == 0) {
            self.commit();
            return true;
        }
        let Some((op, result)) = self.disk.step() else { return false };
        self.log.on_disk(op, result, &mut self.cache, self.now, &mut self.out);
        self.send();
        true
    }

    /// Makes so many steps. False when it would not, because the disk has done so many operations in all.
    pub(super) fn step_within(&mut self, steps: u64, operations: u64) -> bool {
        for _ in 0..steps {
            if self.disk.done >= operations {
                return false;
            }
            self.step();
        }
        true
    }

    pub(super) fn run(&mut self) {
        while self.step() {}
    }

    fn commit(&mut self) {
        let piece = self.journal.waiting.take().expect("just seen");
        if self.journal.is_full {
            self.log.on_handed_back(self.now, &mut self.out);
            return self.send();
        }
        let next = piece.next;
        self.journal.live.push_back(piece);
        self.journal.commits += 1;
        self.log.on_committed(next, WriteTimes::default(), self.now, &mut self.out);
        if self.journal.live_bytes() > self.journal.bytes_max {
            self.log.flush(self.now, &mut self.out);
        }
        self.send();
    }

    pub(super) fn crash(&mut self, how: Crash) {
        self.journal.crash();
        self.disk.crash(how);
    }

    pub(super) fn append(&mut self, batch: &Batch) -> Result<Appended, AppendError> {
        self.append_in(batch, LeaderEpoch(0))
    }

    pub(super) fn append_in(&mut self, batch: &Batch, epoch: LeaderEpoch) -> Result<Appended, AppendError> {
        let appended = self.log.append(batch.clone(), epoch, self.now, &mut self.cache, &mut self.out);
        if let Ok(appended) = appended
            && !appended.duplicate
        {
            let time = (appended.log_append_time_ms >= 0).then_some(appended.log_append_time_ms);
            let stored: Vec<Bytes> = batch.stamp(appended.base, epoch, time).slices().collect();
            self.model.push((appended.base, appended.last.plus(1), stored.concat()));
        }
        self.send();
        appended
    }

    /// Takes what a leader has; the model is the leader's.
    pub(super) fn replicate(&mut self, records: &Bytes) -> Result<Replicated, ReplicateError> {
        let taken = self.log.append_replicated(records, self.now, &mut self.cache, &mut self.out);
        self.send();
        taken
    }

    /// Gives up the log's end, in the model when that is over.
    pub(super) fn truncate(&mut self, end: Offset) {
        self.log.truncate(end, &mut self.cache, self.now, &mut self.out);
        self.send();
    }

    pub(super) fn truncate_fully(&mut self, start: Offset) {
        self.log.truncate_fully(start, &mut self.cache, self.now, &mut self.out);
        self.send();
    }

    pub(super) fn move_start(&mut self, to: Offset) {
        self.log.move_start(to, self.now, &mut self.out);
        self.send();
    }

    /// Lets so much time go by, on both clocks.
    pub(super) fn pass_ms(&mut self, ms: u64) {
        self.now = Now { mono: self.now.mono.after_ms(ms), wall_ms: self.now.wall_ms + ms as i64 };
        self.timeout();
    }

    pub(super) fn timeout(&mut self) {
        self.log.on_timeout(self.now, &mut self.cache, &mut self.out);
        self.send();
    }

    pub(super) fn close(&mut self) {
        self.log.close(&mut self.cache, self.now, &mut self.out);
        self.send();
        self.run();
        assert_eq!(self.events.pop(), Some(LogEvent::Closed));
        assert_eq!(self.disk.open_files(), 0);
        assert!(self.journal.live.iter().all(|piece| reach_of(piece) <= self.journal.flushed));
    }

    /// Closes the log. False when that ended early, because the disk has done so many operations in all.
    pub(super) fn close_within(&mut self, operations: u64) -> bool {
        self.log.close(&mut self.cache, self.now, &mut self.out);
        self.send();
        while self.disk.done < operations && self.step() {}
        self.disk.done < operations
    }

    /// The same after a crash.
    pub(super) fn reopen_at(mut self, how: Crash) -> Rig {
        self.crash(how);
        self.reopen()
    }

    /// What a crash now would leave, and a log that has begun to open it; this one goes on.
    pub(super) fn as_if_crashed(&self, how: Crash) -> Rig {
        let (mut disk, mut journal) = (self.disk.clone(), self.journal.clone());
        journal.crash();
        disk.crash(how);
        Rig { now: self.now, ..Rig::start(disk, journal, self.settings.clone(), 1 << 20) }
    }

    /// The same disk under a new log, with an empty cache, run until it says how opening ended.
    pub(super) fn reopen(self) -> Rig {
        self.try_reopen().unwrap_or_else(|not_opened| panic!("{}", not_opened.0))
    }

    /// The same, or why it did not open, and the disk.
    pub(super) fn try_reopen(self) -> Result<Rig, Box<(String, TestDisk<LogOp>)>> {
        let mut rig = Rig::start(self.disk, self.journal, self.settings, 1 << 20);
        rig.now = self.now;
        rig.model = self.model;
        rig.run();
        match std::mem::take(&mut rig.events).as_slice() {
            [LogEvent::Opened] => Ok(rig),
            [LogEvent::OpenFailed { message, .. }] => Err(Box::new((message.clone(), rig.disk))),
            other => panic!("{other:?}"),
        }
    }

    /// As a consumer reads.
    pub(super) fn begin_read(
        &mut self,
        from: i64,
        until: i64,
        bytes_max: usize,
        at_least_one: bool,
    ) -> Result<Read, ReadError> {
        let (from, until, by) = (Offset(from), Offset(until), ReadBy::Consumer);
        let wish = ReadWish { from, until, bytes_max, at_least_one, by };
        self.log.read(wish, &mut self.cache, &mut self.out)
    }

    /// Reads to the end of the read, through the disk if need be.
    pub(super) fn read(
        &mut self,
        from: i64,
        until: i64,
        bytes_max: usize,
        at_least_one: bool,
    ) -> Result<LogSlices, ReadError> {
        let read = self.begin_read(from, until, bytes_max, at_least_one)?;
        self.send();
        match read {
            Read::Ready(found) => Ok(found),
            Read::Later(ticket) => {
                self.run();
                let at = |event: &LogEvent| matches!(event, LogEvent::Read { ticket: other, .. } if *other == ticket);
                let at = self.events.iter().position(at).expect("a read ends");
                let LogEvent::Read { result, .. } = self.events.swap_remove(at) else { unreachable!() };
                result
            }
        }
    }

    pub(super) fn find(&mut self, find: Result<Find, ReadError>) -> Result<Option<FoundOffset>, ReadError> {
        self.send();
        match find? {
            Find::Ready(found) => Ok(found),
            Find::Later(ticket) => {
                self.run();
                let at = |event: &LogEvent| matches!(event, LogEvent::Found { ticket: other, .. } if *other == ticket);
                let at = self.events.iter().position(at).expect("a look-up ends");
                let LogEvent::Found { result, .. } = self.events.swap_remove(at) else { unreachable!() };
                result
            }
        }
    }

    pub(super) fn find_timestamp(
        &mut self,
        timestamp_ms: i64,
        until: Offset,
    ) -> Result<Option<FoundOffset>, ReadError> {
        let find = self.log.find_timestamp(timestamp_ms, until, self.now, &mut self.out);
        self.find(find)
    }

    pub(super) fn max_timestamp(&mut self, until: Offset) -> Result<Option<FoundOffset>, ReadError> {
        let find = self.log.max_timestamp(until, self.now, &mut self.out);
        self.find(find)
    }

    /// Everything below the safe end, in reads of any size.
    pub(super) fn read_all(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        let mut from = self.log.start();
        let until = self.log.safe_end();
        while from < until {
            let found = self.read(from.0, until.0, 10_000, true).expect("what is safe can be read");
            assert!(found.next > from, "a read that may return one batch returns one");
            let bytes = found.slices.concat();
            assert_eq!(bytes.len(), found.bytes);
            all.extend_from_slice(&bytes);
            from = found.next;
        }
        all
    }

    /// The log holds exactly the batches of the model from its start to its end, and at least up to `end`.
    pub(super) fn check_holds(&mut self, end: Offset) {
        assert!(self.log.end() >= end, "safe up to {end}, and only {} is left", self.log.end());
        let log_end = self.log.end();
        let at = self.model.partition_point(|(_, next, _)| *next <= log_end);
        let is_empty = log_end == self.log.start();
        assert!(at == 0 || is_empty || self.model[at - 1].1 == log_end);
        self.model.truncate(at);
        let from = |start: Offset| {
            let from = self.model.partition_point(|(_, next, _)| *next <= start);
            self.model[from..].iter().flat_map(|(_, _, bytes)| bytes.clone()).collect::<Vec<u8>>()
        };
        let expect = from(self.log.start());
        let first = self.log.segments.front().map_or(log_end, |segment| segment.base);
        assert_eq!(self.log.size_bytes(), from(first).len() as u64);
        assert_eq!(self.read_all(), expect);
    }
}

/// A batch of `count` records of about `value_bytes` each, with the timestamps from `timestamp_ms` on.
pub(super) fn batch(count: usize, value_bytes: usize, timestamp_ms: i64) -> Batch {
    let mut builder = BatchBuilder::new(Compression::None);
    let value = vec![b'v'; value_bytes];
    for i in 0..count {
        builder.push(timestamp_ms + i as i64, None, Some(&value));
    }
    builder.build()
}

/// A batch of one record by an idempotent producer; its value tells it from any other.
pub(super) fn batch_of(producer_id: i64, epoch: i16, sequence: i32, value_bytes: usize) -> Batch {
    let mut builder = BatchBuilder::new(Compression::None).producer(producer_id, epoch, sequence);
    let mut value = format!("{producer_id}/{epoch}/{sequence}/").into_bytes();
    value.resize(value.len().max(value_bytes), b'.');
    builder.push(i64::from(sequence), None, Some(&value));
    builder.build()
}

/// A log without a journal, whose records are safe when they are written.
pub(super) fn written() -> TopicSettings {
    TopicSettings { durability: Durability::Write, ..TopicSettings::default() }
}

/// Segments so small that a few batches fill one.
pub(super) fn small_segments() -> TopicSettings {
    TopicSettings { segment_bytes: 20_000, index_interval_bytes: 1000, ..written() }
}

/// The same, synced: batches of a few thousand bytes go through the journal, more goes to the segment.
pub(super) fn small_synced_segments() -> TopicSettings {
    TopicSettings { durability: Durability::Sync, journal_direct_bytes: 8000, ..small_segments() }
}
