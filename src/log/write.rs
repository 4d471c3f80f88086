//! The write pipeline of a log's active segment: one operation in flight, what arrives meanwhile becomes the next.
//!
//! What is safe in the commit journal (`commit`) stays pending here until there is much of it, or the journal wants its
//! space back.
//!
//! *Owns*: what is pending, how far the file is written and safe, the partly filled tail block (kept in memory and
//! rewritten with what follows it), space reserved ahead, when to sync. *Never*: has two writes in flight; calls
//! anything safe before the write, and the sync where one is due, succeeded. *Runs on*: the core that owns the
//! partition.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::base::bug::{self, Bug};
use crate::base::disk::{BLOCK_BYTES, DiskDone, DiskError, DiskErrorKind, DiskOp, DiskResult, FileId};
use crate::base::ids::Offset;
use crate::base::limits::DISK_WRITE_BYTES_MAX;
use crate::base::time::{Instant, Now};
use crate::config::Durability;

use super::cache::TailCache;
use super::commit::{Commits, Way};
use super::log::{Life, Log, LogEvent, LogOut, Step, WriteTimes};
use super::lookalike::Lookalikes;
use super::segment::Segment;

/// Space reserved first; doubled with each further reservation of a segment, so that a partition with little
/// reserves little.
const RESERVE_BYTES_MIN: u64 = 256 << 10;
const RESERVE_BYTES_MAX: u64 = 256 << 20;

/// Zeros written ahead at a time. A small write into space that is reserved and was never written is handed to a kernel
/// worker, and a sync after it waits for the file system's journal, ten times as long as one into written space.
/// Larger pieces bring more throughput and hold the writes of other partitions up for longer (tuning.md).
const ZEROS_BYTES: usize = 128 << 10;
static ZEROS: [u8; ZEROS_BYTES] = [0; ZEROS_BYTES];

/// Logs that sync at least this often have their space written ahead whatever their size.
const ZEROED_FLUSH_MESSAGES_MAX: u64 = 100;
/// Larger writes of theirs are not worth writing their space twice.
const ZEROED_SYNCED_WRITE_BYTES_MAX: u64 = 64 << 10;

/// Others only for writes as small as this, and once the segment has grown to `ZEROS_BYTES`: a partition with a
/// handful of records would have more zeros written than records.
const ZEROED_WRITE_BYTES_MAX: u64 = 16 << 10;

/// Positions in a segment fit the index, whatever `segment.bytes` says.
const SEGMENT_BYTES_MAX: u64 = u32::MAX as u64;

/// Offsets of a segment fit the index.
const SEGMENT_OFFSETS_MAX: i64 = i32::MAX as i64;

const BLOCK: u64 = BLOCK_BYTES as u64;

/// A batch that has its offsets and is not in its segment yet.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) base: Offset,
    pub(super) next: Offset,
    pub(super) max_timestamp: i64,
    pub(super) slices: [Bytes; 2],
    pub(super) len: usize,
    /// Bytes of it that are written or being written: not 0 only while a batch larger than one write is on its way.
    pub(super) taken: usize,
}

/// A place between two batches (or, while a large batch is on its way, within one) of the active segment.
#[derive(Debug, Clone)]
pub(super) struct Mark {
    /// The offset after the last whole batch.
    pub(super) next: Offset,
    pub(super) position: u64,
    /// The bytes from the last block boundary to `position`.
    pub(super) tail: Bytes,
    /// Of the segment's batches so far; `i64::MIN` when there are none.
    pub(super) max_timestamp: i64,
}

impl Mark {
    pub(super) fn start_of(base: Offset) -> Mark {
        Mark { next: base, position: 0, tail: Bytes::new(), max_timestamp: i64::MIN }
    }
}

#[derive(Debug, Default)]
enum Stage {
    #[default]
    Idle,
    Cutting,
    Allocating,
    /// When the write succeeds, it reaches as far as this, and so many batches are no longer pending.
    Writing(Mark, usize),
    /// What is written becomes safe when the sync succeeds.
    Syncing,
}

/// What is in flight beside the stage's operation, beyond what is being written: while it is, the file may not be cut
/// or closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ahead {
    Nothing,
    /// The file's length afterwards.
    Reserving(u64),
    /// The first and last position.
    Zeroing(u64, u64),
}

#[derive(Debug)]
pub(super) struct Writer {
    /// Those being written included.
    pub(super) pending: VecDeque<Pending>,
    /// Of `pending`, without those being written.
    pending_bytes: u64,
    pub(super) commits: Commits,
    stage: Stage,
    written: Mark,
    /// Up to here the segment's batches are safe: there, or in the journal. Invariant: never beyond `written`.
    safe: Mark,
    /// The first write beyond `safe`.
    write_began: Option<Instant>,
    write_ended: Instant,
    /// The length of the file, zeros ahead included.
    allocated: u64,
    reserve_bytes: u64,
    /// The length that the reservation in flight asked for.
    reserving: u64,
    ahead: Ahead,
    /// The space up to here was written before.
    zeroed: u64,
    /// Batches from this offset on do not belong into the file, which was another segment's before (`lookalike`).
    pub(super) horizon: Offset,
    /// The file system cannot reserve: writes extend the file.
    cannot_reserve: bool,
    /// A failed write left bytes beyond what counts: they must go before the next write.
    must_cut: bool,
    /// The timestamp of the segment's first batch.
    first_timestamp: Option<i64>,
    unsynced_messages: u64,
    sync_due: Option<Instant>,
    /// Something was written since the last checkpoint.
    dirty: bool,
}

impl Default for Writer {
    fn default() -> Self {
        Writer::recovered(Mark::start_of(Offset(0)), 0, None, false)
    }
}

impl Writer {
    /// Goes on at `mark` of a file of `allocated` bytes.
    pub(super) fn recovered(mark: Mark, allocated: u64, first_timestamp: Option<i64>, dirty: bool) -> Writer {
        assert!(mark.tail.len() as u64 == mark.position % BLOCK);
        Writer {
            pending: VecDeque::new(),
            pending_bytes: 0,
            commits: Commits::recovered(mark.next),
            stage: Stage::Idle,
            written: mark.clone(),
            safe: mark,
            write_began: None,
            write_ended: Instant::default(),
            allocated,
            reserve_bytes: RESERVE_BYTES_MIN,
            reserving: 0,
            ahead: Ahead::Nothing,
            zeroed: 0,
            horizon: Offset(i64::MAX),
            cannot_reserve: false,
            must_cut: false,
            first_timestamp,
            unsynced_messages: 0,
            sync_due: None,
            dirty,
        }
    }

    pub(super) fn queue(&mut self, batch: Pending) {
        self.pending_bytes += batch.len as u64;
        self.pending.push_back(batch);
        self.dirty = true;
    }

    /// Everything below is safe: in its segment, or in the journal.
    pub(super) fn safe_end(&self) -> Offset {
        self.safe.next.max(self.commits.committed)
    }

    /// How far the segment's batches can be read from its file.
    pub(super) fn safe(&self) -> &Mark {
        &self.safe
    }

    pub(super) fn first_timestamp(&self) -> Option<i64> {
        self.first_timestamp
    }

    pub(super) fn sync_due(&self) -> Option<Instant> {
        self.sync_due
    }

    /// What is written and not synced is synced within so much time.
    pub(super) fn sync_within(&mut self, ms: u64, now: Now) {
        if self.unsynced_messages > 0 {
            let due = now.mono.after_ms(ms);
            self.sync_due = Some(self.sync_due.map_or(due, |earlier| earlier.min(due)));
        }
    }

    pub(super) fn is_dirty(&self) -> bool {
        self.dirty
    }

    /// Bytes of the active segment's batches, pending ones included.
    pub(super) fn size_bytes(&self) -> u64 {
        let in_flight = match &self.stage {
            Stage::Writing(after, _) => after.position,
            Stage::Idle | Stage::Cutting | Stage::Allocating | Stage::Syncing => self.written.position,
        };
        in_flight + self.pending_bytes
    }

    /// Those being written are not counted.
    pub(super) fn pending_bytes(&self) -> u64 {
        self.pending_bytes
    }

    /// The segment has batches from `timestamp` on, unless it had some before.
    pub(super) fn begin_segment_at(&mut self, timestamp: i64) {
        self.first_timestamp.get_or_insert(timestamp);
    }

    /// What is in flight concerns only batches that are safe in the journal.
    pub(super) fn is_writing_back(&self) -> bool {
        match &self.stage {
            Stage::Writing(after, _) => after.next <= self.commits.committed && self.is_between_batches(),
            Stage::Syncing => self.written.next <= self.safe_end(),
            Stage::Idle | Stage::Cutting | Stage::Allocating => false,
        }
    }

    /// Batches up to this place in the segment find room there.
    pub(super) fn has_space_to(&self, end: u64) -> bool {
        self.cannot_reserve || end.next_multiple_of(BLOCK) <= self.allocated
    }

    /// All space up to this place was written before the segment's batches are.
    pub(super) fn is_written_before(&self, end: u64) -> bool {
        end.next_multiple_of(BLOCK) <= self.zeroed
    }

    /// No batch is partly written.
    pub(super) fn is_between_batches(&self) -> bool {
        self.pending.front().is_none_or(|batch| batch.taken == 0)
    }

    /// Nothing pending and nothing in flight.
    pub(super) fn is_idle(&self) -> bool {
        matches!(self.stage, Stage::Idle) && self.pending.is_empty() && self.ahead == Ahead::Nothing
    }

    /// Bytes the next write may add to the tail block's.
    fn room(&self) -> usize {
        DISK_WRITE_BYTES_MAX - self.written.tail.len()
    }

    /// All of a new segment's space was written before, when there is any.
    pub(super) fn on_opened(&mut self, done: &DiskDone, is_new: bool) {
        if let DiskDone::Opened { len } = done {
            self.allocated = *len;
            self.zeroed = if is_new { *len / BLOCK * BLOCK } else { 0 };
        }
    }

    /// The next batch does not fit the segment any more (Kafka's LogSegment.shouldRoll: time is told by the batches'
    /// timestamps, so that old data does not roll a segment per batch).
    pub(super) fn must_roll(
        &self,
        base: Offset,
        segment_bytes: u64,
        segment_ms: u64,
        position: u64,
        batch: &Pending,
    ) -> bool {
        // What the journal has was given its place.
        if batch.taken > 0 || position == 0 || batch.next <= self.commits.handed {
            return false;
        }
        let age_ms = self.first_timestamp.map_or(0, |first| batch.max_timestamp.saturating_sub(first));
        position + batch.len as u64 > segment_bytes.min(SEGMENT_BYTES_MAX)
            || u64::try_from(age_ms).is_ok_and(|age_ms| age_ms > segment_ms)
            || batch.next.0 - base.0 > SEGMENT_OFFSETS_MAX
            || batch.next > self.horizon
    }

    /// What the file's length should be before a write that ends at `end`; `None` when it is long enough.
    fn reservation(&self, end: u64, segment_bytes: u64) -> Option<u64> {
        if self.has_space_to(end) {
            return None;
        }
        Some(self.reserve_to(end, segment_bytes))
    }

    /// Half of what was reserved last is used up: the length to reserve next, beside the write.
    fn reservation_ahead(&self, end: u64, segment_bytes: u64) -> Option<u64> {
        let left = self.allocated.saturating_sub(end);
        if self.cannot_reserve || left > self.reserve_bytes / 4 {
            return None;
        }
        let to = self.reserve_to(self.allocated, segment_bytes);
        (to > self.allocated).then_some(to)
    }

    /// Where to write zeros ahead of a write that ends at `end`, in pieces of [`ZEROS_BYTES`].
    fn zeros_ahead(&self, end: u64, bytes: u64, flush_messages: u64) -> Option<(u64, u64)> {
        let worth_it = if flush_messages <= ZEROED_FLUSH_MESSAGES_MAX {
            bytes <= ZEROED_SYNCED_WRITE_BYTES_MAX
        } else {
            bytes <= ZEROED_WRITE_BYTES_MAX && end >= ZEROS_BYTES as u64
        };
        let from = self.zeroed.max(end.next_multiple_of(BLOCK));
        let to = (from + ZEROS_BYTES as u64).min(self.allocated / BLOCK * BLOCK);
        let soon = from - end < ZEROS_BYTES as u64 / 4;
        (worth_it && soon && from < to).then_some((from, to))
    }

    fn reserve_to(&self, from: u64, segment_bytes: u64) -> u64 {
        let most = segment_bytes.min(SEGMENT_BYTES_MAX).next_multiple_of(BLOCK);
        let least = from.next_multiple_of(BLOCK);
        (self.allocated + self.reserve_bytes).min(most).max(least)
    }
}

impl Log {
    pub(super) fn may_write(&self) -> bool {
        matches!(self.life, Life::Open | Life::Closing(_) | Life::Truncating(_)) && self.offline.is_none()
    }

    /// Starts the next operation of the pipeline, if none is in flight and there is something to do.
    pub(super) fn pump(&mut self, now: Now, out: &mut LogOut) {
        if !self.may_write() {
            return;
        }
        if !matches!(self.writer.stage, Stage::Idle) {
            return self.hand_over_beside(out);
        }
        if self.writer.sync_due.is_some_and(|due| due <= now.mono) && self.sync(out) {
            return self.hand_over_beside(out);
        }
        if self.is_becoming_stricter(out) {
            return;
        }
        if self.finish_flush(out) {
            return self.hand_over_beside(out);
        }
        let way = self.way();
        let Some(first) = self.writer.pending.front().filter(|_| way != Way::Rest) else { return };
        if self.segments.is_empty() {
            self.segments.push_back(Segment::active(first.base, self.settings.index_interval_bytes));
            self.spare.lookalikes = Lookalikes::default();
        }
        let Some(file) = self.open_segment(self.segments.len() - 1, out) else { return };
        if self.writer.must_cut {
            return self.cut(file, out);
        }
        if self.rolls_before_first() {
            if self.writer.ahead != Ahead::Nothing || self.seals.are_many() {
                return;
            }
            self.roll(out);
            self.open_segment(self.segments.len() - 1, out);
            return;
        }
        let bytes = match way {
            Way::Rest => return,
            Way::Segment { until } => self.writer.bytes_until(until).min(self.writer.room() as u64),
            Way::Journal => self.writer.pending_bytes,
        };
        let end = self.writer.written.position + bytes;
        let zeroing = matches!(self.writer.ahead, Ahead::Zeroing(from, _) if end.next_multiple_of(BLOCK) > from);
        let reservation = self.writer.reservation(end, self.settings.segment_bytes);
        if zeroing || (reservation.is_some() && self.writer.ahead != Ahead::Nothing) {
            return;
        }
        if let Some(len) = reservation {
            self.writer.stage = Stage::Allocating;
            self.writer.reserving = len;
            return self.ask(Step::Allocate, DiskOp::Allocate { file, len }, out);
        }
        match way {
            Way::Segment { until } => self.write(file, until, now, out),
            Way::Journal | Way::Rest => {
                self.hand_over(out);
                // Much may have gathered that the journal has.
                if let Way::Segment { until } = self.way() {
                    self.write(file, until, now, out);
                }
            }
        }
        self.look_ahead(file, end, bytes, out);
    }

    /// Reserves space, or writes it, before it is needed.
    fn look_ahead(&mut self, file: FileId, end: u64, bytes: u64, out: &mut LogOut) {
        if self.writer.ahead != Ahead::Nothing {
            return;
        }
        if let Some(len) = self.writer.reservation_ahead(end, self.settings.segment_bytes) {
            self.writer.ahead = Ahead::Reserving(len);
            self.ask(Step::Ahead, DiskOp::Allocate { file, len }, out);
        } else if let Some((from, to)) = self.writer.zeros_ahead(end, bytes, self.settings.flush_messages) {
            self.writer.ahead = Ahead::Zeroing(from, to);
            let data = vec![Bytes::from_static(&ZEROS[..(to - from) as usize])];
            self.ask(Step::Ahead, DiskOp::Write { file, position: from, data }, out);
        }
    }

    fn rolls_before_first(&self) -> bool {
        let (Some(first), Some(active)) = (self.writer.pending.front(), self.segments.back()) else { return false };
        let settings = &self.settings;
        let position = self.writer.written.position;
        self.writer.must_roll(active.base, settings.segment_bytes, settings.segment_ms, position, first)
    }

    /// Takes pending batches below `until`, up to the bound of one write, and writes them after the tail block's bytes.
    fn write(&mut self, file: FileId, until: Offset, now: Now, out: &mut LogOut) {
        let writer = &mut self.writer;
        writer.write_began.get_or_insert(now.mono);
        let active = self.segments.back_mut().expect("a write has a segment");
        let index = active.index.as_mut().expect("the active segment has its index");
        let mut after = Mark { next: writer.written.next, tail: Bytes::new(), ..writer.written };
        let room = writer.room();
        let (mut bytes, mut batches, mut committed_bytes) = (0, 0, 0);
        let mut data = Vec::with_capacity(1 + 2 * writer.pending.len().min(512));
        if !writer.written.tail.is_empty() {
            data.push(writer.written.tail.clone());
        }
        while let Some(batch) = writer.pending.get(batches).filter(|batch| batch.next <= until) {
            let (segment_bytes, segment_ms) = (self.settings.segment_bytes, self.settings.segment_ms);
            let left = batch.len - batch.taken;
            let whole = bytes + left <= room;
            if bytes > 0 && (!whole || writer.must_roll(active.base, segment_bytes, segment_ms, after.position, batch))
            {
                break;
            }
            if batch.taken == 0 {
                index.on_batch(batch.base, after.position, after.max_timestamp);
                self.spare.look(batch, &self.settings);
                writer.first_timestamp.get_or_insert(batch.max_timestamp);
            }
            if !whole {
                // A batch larger than one write: as much of it as fits, ending at a block's end.
                push_part(&mut data, &mut writer.pending[batches], room);
                bytes = room;
                after.position += room as u64;
                break;
            }
            bytes += left;
            if batch.next <= writer.commits.committed {
                committed_bytes += left as u64;
            }
            after.position += left as u64;
            after.next = batch.next;
            after.max_timestamp = after.max_timestamp.max(batch.max_timestamp);
            if batch.taken == 0 {
                data.extend(batch.slices.iter().filter(|slice| !slice.is_empty()).cloned());
            } else {
                push_part(&mut data, &mut writer.pending[batches], left);
            }
            batches += 1;
        }
        assert!(bytes > 0 && bytes <= room);
        writer.pending_bytes -= bytes as u64;
        writer.commits.committed_bytes -= committed_bytes;
        let position = writer.written.position - writer.written.tail.len() as u64;
        assert!(position.is_multiple_of(BLOCK));
        after.tail = last_bytes(&data, (after.position % BLOCK) as usize);
        writer.stage = Stage::Writing(after, batches);
        self.ask(Step::Write, DiskOp::Write { file, position, data }, out);
    }

    pub(super) fn on_written(&mut self, result: DiskResult, cache: &mut TailCache, now: Now, out: &mut LogOut) {
        let Stage::Writing(after, batches) = std::mem::take(&mut self.writer.stage) else {
            // Writing ended for good while this was in flight; what it held is forgotten already.
            assert!(self.offline.is_some());
            return;
        };
        if let Err(error) = result {
            self.fail_writes(&error, cache, now, out);
            return self.pump(now, out);
        }
        let writer = &mut self.writer;
        let messages = after.next.0 - writer.written.next.0;
        writer.pending.drain(..batches);
        writer.allocated = writer.allocated.max(after.position.next_multiple_of(BLOCK));
        writer.written = after;
        writer.write_ended = now.mono;
        if bug::on(Bug::FlushBeforeSync) {
            writer.commits.synced = writer.written.next;
            self.tell_flushed(out);
        }
        if messages > 0 {
            self.writer.unsynced_messages += messages as u64;
            if self.must_sync() {
                self.spare.on_awaited_sync();
                let syncing = self.sync(out);
                assert!(syncing, "what was just written has an open file");
                return self.hand_over_beside(out);
            }
            let writer = &mut self.writer;
            if writer.sync_due.is_none() {
                let due = now.mono.after_ms(self.settings.flush_ms);
                writer.sync_due = (due != Instant(u64::MAX)).then_some(due);
            }
            self.become_safe(now, out);
        }
        self.pump(now, out);
        self.drive_reads(out);
    }

    /// What was just written may be acknowledged only when it is synced.
    fn must_sync(&self) -> bool {
        if bug::on(Bug::AckBeforeSync) {
            return false;
        }
        let writer = &self.writer;
        let unsafe_yet = writer.written.next > writer.safe_end();
        (self.settings.durability == Durability::Sync && unsafe_yet)
            || writer.unsynced_messages >= self.settings.flush_messages
    }

    /// Starts a sync, unless nothing was written to the segment.
    pub(super) fn sync(&mut self, out: &mut LogOut) -> bool {
        self.writer.sync_due = None;
        let Some(file) = self.segments.back().and_then(Segment::open_file) else { return false };
        self.writer.stage = Stage::Syncing;
        self.ask(Step::Sync, DiskOp::Sync { file }, out);
        true
    }

    pub(super) fn on_synced(&mut self, result: DiskResult, cache: &mut TailCache, now: Now, out: &mut LogOut) {
        self.writer.stage = Stage::Idle;
        if self.offline.is_some() {
            return;
        }
        match result {
            Ok(_) => {
                self.writer.unsynced_messages = 0;
                self.writer.sync_due = None;
                self.writer.commits.synced = self.writer.written.next;
                self.become_safe(now, out);
                self.become_stricter();
                self.tell_flushed(out);
                self.pump(now, out);
                self.drive_reads(out);
            }
            Err(error) => self.go_offline(&error, cache, out),
        }
    }

    fn become_safe(&mut self, now: Now, out: &mut LogOut) {
        let writer = &mut self.writer;
        if !writer.is_between_batches() || writer.safe.next == writer.written.next {
            return;
        }
        assert!(writer.safe.next < writer.written.next);
        let before = writer.safe_end();
        writer.safe = writer.written.clone();
        let active = self.segments.back_mut().expect("something was written");
        active.len = writer.safe.position;
        active.max_timestamp = Some(writer.safe.max_timestamp);
        let began = writer.write_began.take().unwrap_or(writer.write_ended);
        if writer.safe_end() > before {
            let times = WriteTimes { began, written: writer.write_ended, safe: now.mono };
            self.tell_safe(times, out);
        }
    }

    /// A write failed: falls back to the last safe end, and tries again with the next append.
    pub(super) fn fail_writes(&mut self, error: &DiskError, cache: &mut TailCache, now: Now, out: &mut LogOut) {
        if error.kind == DiskErrorKind::Full {
            self.give_up_spare(out);
        }
        let from = self.writer.kept_end();
        let fails = self.end > from;
        self.forget_from(from, cache);
        self.back_off(now);
        if fails {
            let full = error.kind == DiskErrorKind::Full;
            out.events.push(LogEvent::Failed { from, full, message: error.message.clone() });
        }
    }

    /// A sync failed: what the device holds is not known, and asking again would not tell.
    pub(super) fn go_offline(&mut self, error: &DiskError, cache: &mut TailCache, out: &mut LogOut) {
        self.take_offline(&format!("a sync failed, and the log takes no more writes: {}", error.message), cache, out);
    }

    /// Ends writing for good: what is not safe is forgotten ([`LogEvent::Failed`]), appends are refused with
    /// `message`, reads of what is safe go on. Does nothing to a log that is not open, or offline already.
    pub fn take_offline(&mut self, message: &str, cache: &mut TailCache, out: &mut LogOut) {
        if self.is_reopening {
            // What it finds may be read.
            self.offline.get_or_insert_with(|| message.to_owned());
        }
        if !self.may_write() {
            return;
        }
        let message = message.to_owned();
        self.offline = Some(message.clone());
        self.writer.sync_due = None;
        self.abandon_seals();
        self.writer.commits.handed = self.writer.safe_end();
        self.forget_from(self.writer.safe_end(), cache);
        out.events.push(LogEvent::Failed { from: self.end, full: false, message });
        self.drive_reads(out);
    }

    fn forget_from(&mut self, from: Offset, cache: &mut TailCache) {
        let writer = &mut self.writer;
        let kept = writer.pending.partition_point(|batch| batch.next <= from);
        writer.pending.truncate(kept);
        writer.pending_bytes = writer.pending.iter().map(|batch| batch.len as u64).sum();
        writer.recount();
        writer.commits.direct_until = writer.commits.direct_until.min(from);
        writer.write_began = None;
        writer.stage = Stage::Idle;
        writer.written = writer.safe.clone();
        writer.must_cut = true;
        // What was written and is forgotten would have to be forgotten there.
        self.spare.lookalikes = Lookalikes::unknown();
        writer.reserve_bytes = RESERVE_BYTES_MIN;
        if let Some(active) = self.segments.back_mut() {
            if active.len == 0 {
                writer.first_timestamp = writer.pending.front().map(|batch| batch.max_timestamp);
            }
            if let Some(index) = &mut active.index {
                index.cut(active.len);
            }
        }
        self.end = from;
        self.producers.cut(from);
        self.epochs.cut(from);
        if let Some(key) = self.tail {
            cache.cut(key, from);
        }
    }

    fn cut(&mut self, file: FileId, out: &mut LogOut) {
        if self.writer.ahead != Ahead::Nothing {
            return;
        }
        self.writer.stage = Stage::Cutting;
        self.ask(Step::Cut, DiskOp::Truncate { file, len: self.writer.safe.position }, out);
    }

    pub(super) fn on_cut(&mut self, result: DiskResult, cache: &mut TailCache, now: Now, out: &mut LogOut) {
        self.writer.stage = Stage::Idle;
        if self.offline.is_some() {
            return;
        }
        match result {
            Ok(_) => {
                self.writer.must_cut = false;
                self.writer.allocated = self.writer.safe.position;
                self.writer.zeroed = 0;
            }
            Err(error) => self.fail_writes(&error, cache, now, out),
        }
        self.pump(now, out);
    }

    pub(super) fn on_allocated(&mut self, result: DiskResult, now: Now, out: &mut LogOut) {
        self.writer.stage = Stage::Idle;
        if self.offline.is_some() {
            return;
        }
        let len = self.writer.reserving;
        let failed = result.is_err();
        self.reserved(len, result);
        if !failed {
            return self.pump(now, out);
        }
        // Without a reservation the write itself extends the file, or says why it cannot.
        let until = if self.writer.is_handing_over() { self.writer.commits.committed } else { Offset(i64::MAX) };
        let file = self.segments.back().and_then(Segment::open_file);
        if let Some(file) = file.filter(|_| self.writer.bytes_until(until) > 0) {
            self.write(file, until, now, out);
        }
    }

    pub(super) fn on_ahead(&mut self, result: DiskResult, now: Now, out: &mut LogOut) {
        match std::mem::replace(&mut self.writer.ahead, Ahead::Nothing) {
            Ahead::Nothing => unreachable!("something was in flight"),
            Ahead::Reserving(len) => self.reserved(len, result),
            // Zeros that failed may be there or not; the space is as good as before.
            Ahead::Zeroing(_, to) => self.writer.zeroed = to,
        }
        self.pump(now, out);
    }

    fn reserved(&mut self, len: u64, result: DiskResult) {
        let writer = &mut self.writer;
        match result {
            Ok(_) => {
                writer.allocated = writer.allocated.max(len);
                writer.reserve_bytes = (writer.reserve_bytes * 2).min(RESERVE_BYTES_MAX);
            }
            Err(error) if error.kind == DiskErrorKind::Full => writer.reserve_bytes = RESERVE_BYTES_MIN,
            Err(_) => writer.cannot_reserve = true,
        }
    }

    /// All of the active segment is safe in it, and nothing more is on its way.
    pub(super) fn can_roll(&self) -> bool {
        let writer = &self.writer;
        writer.is_idle() && !writer.must_cut && !self.seals.are_many() && self.offline.is_none()
    }

    /// The active segment is full, or has expired: the next batch begins another.
    pub(super) fn roll(&mut self, out: &mut LogOut) {
        let writer = &mut self.writer;
        assert!(writer.safe.next == writer.written.next, "a segment is sealed when all of it is safe");
        assert!(writer.ahead == Ahead::Nothing && !writer.must_cut);
        let base = writer.safe.next;
        let reserve_bytes = (writer.reserve_bytes / 4).max(RESERVE_BYTES_MIN);
        self.seal_active(base, out);
        self.spare.on_roll();
        if self.spare.is_wanted() {
            // A segment that goes now is there for the next roll.
            self.retention_due = Instant::default();
        }
        let mark = Mark::start_of(base);
        let writer = &mut self.writer;
        writer.written = mark.clone();
        writer.safe = mark;
        writer.allocated = 0;
        writer.zeroed = 0;
        writer.horizon = Offset(i64::MAX);
        writer.reserve_bytes = reserve_bytes;
        writer.first_timestamp = None;
        writer.unsynced_messages = 0;
        writer.sync_due = None;
        self.segments.push_back(Segment::active(base, self.settings.index_interval_bytes));
    }
}

/// Appends the next `len` bytes of a batch that takes several writes.
fn push_part(data: &mut Vec<Bytes>, batch: &mut Pending, len: usize) {
    let mut from = batch.taken;
    let end = from + len;
    let mut start = 0;
    for slice in &batch.slices {
        let upto = (start + slice.len()).min(end);
        if from < upto {
            data.push(slice.slice(from - start..upto - start));
            from = upto;
        }
        start += slice.len();
    }
    assert!(from == end);
    batch.taken = end;
}

/// A copy of the last `len` bytes: the slices themselves would keep whole receive buffers alive.
fn last_bytes(data: &[Bytes], len: usize) -> Bytes {
    if len == 0 {
        return Bytes::new();
    }
    let mut left = len;
    let mut first = data.len();
    while left > 0 {
        first -= 1;
        left = left.saturating_sub(data[first].len());
    }
    let mut tail = Vec::with_capacity(len);
    let surplus = data[first..].iter().map(Bytes::len).sum::<usize>() - len;
    tail.extend_from_slice(&data[first][surplus..]);
    for slice in &data[first + 1..] {
        tail.extend_from_slice(slice);
    }
    Bytes::from(tail)
}
