//! One partition's log: what it holds, what may be appended, and the life of its files from open to close.
//!
//! A log asks for disk work in [`LogOut::disk`] and says what happened in [`LogOut::events`]; whoever owns it
//! carries each operation out and returns the result through [`Log::on_disk`], exactly once, in any order.
//!
//! *Owns*: the offsets, the segments, the producer and epoch tables. *Never*: knows of replicas, high watermarks or
//! requests; touches a file. *Runs on*: the core that owns the partition.

use std::collections::VecDeque;
use std::path::PathBuf;

use bytes::Bytes;

use crate::base::bounds::Reach;
use crate::base::bug::{self, Bug};
use crate::base::disk::{DiskOp, DiskResult, FileId};
use crate::base::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};
use crate::base::time::TimestampType;
use crate::base::time::{Instant, Now};
use crate::config::TopicSettings;
use crate::wire::batch::{Batch, StampedBatch};

use super::cache::{TailCache, TailKey};
use super::clean::{CleanCounts, CleanStep, Cleaning};
use super::close::Closing;
use super::cold::ColdReads;
use super::commit::{ToJournal, write_back_bytes};
use super::epochs::Epochs;
use super::producer::{Producers, Verdict};
use super::reach::MustReach;
use super::recovery::{Next, Recovered, Recovery};
use super::retention;
use super::seal::Seals;
use super::segment::{FileIds, FileName, FileState, Segment};
use super::settings::Stricter;
use super::spare::Spare;
use super::start::Bounding;
use super::truncate::Truncating;
use super::write::{Pending, Writer};

/// Names a disk operation of a log; goes back with its result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogOp(pub(super) Step);

/// Who within the log is waiting for a disk operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Recover,
    OpenSegment(Offset),
    UseSpare(Offset),
    KeepSpare(Offset),
    Cut,
    Allocate,
    Ahead,
    Write,
    Sync,
    Seal,
    LoadIndex(Offset),
    Rebuild(Offset),
    Read {
        ticket: ReadTicket,
        segment: Offset,
    },
    Finish,
    Remove,
    Bounds,
    RemoveSegment,
    Truncate,
    Clean(CleanStep),
    /// Nobody: housekeeping that may fail.
    Tidy,
}

#[derive(Debug, Default)]
pub struct LogOut {
    pub disk: Vec<(LogOp, DiskOp)>,
    /// For the journal; answered with [`Log::on_committed`]. One piece at a time.
    pub journal: Vec<ToJournal>,
    pub events: Vec<LogEvent>,
}

#[derive(Debug, PartialEq, Eq)]
pub enum LogEvent {
    /// Before `Opened`: something in the files was not as it should be, and what became of it.
    Noted { message: String },
    /// Recovered: append, read and look-ups work from now on.
    Opened,
    /// The files could not be read. The log is unusable; its files are as they were.
    OpenFailed {
        message: String,
        /// What was asked of the log is kept in its directory: the journals are not needed to know it.
        kept: bool,
    },
    /// Everything below `end` is written, and synced where `durability` or `flush.messages` asks for it.
    Safe { end: Offset, times: WriteTimes },
    /// A write failed: everything from `from` on is forgotten and was never safe. With `full` there was no space:
    /// appending again later makes sense. After a failed sync the log refuses appends for good
    /// ([`AppendError::Offline`]); reads below `from` go on.
    Failed { from: Offset, full: bool, message: String },
    /// The segments are durable below `upto`: the journal may let go of what it has from there. Also after `Opened`,
    /// of what was found to be. With more truncations than before, everything that was handed over is void.
    Flushed { upto: Reach },
    /// The log ends here: what came after is given up for good, and appends and reads work again.
    Truncated { end: Offset },
    /// See [`Log::truncate`].
    TruncateFailed { message: String },
    /// The log's start could not be made durable: it is where it was, and will be tried again.
    StartFailed { message: String },
    /// A segment with so many bytes of batches is removed.
    Removed { bytes: u64 },
    /// A compaction ended: what it did, or why it did not come to its end.
    Cleaned { result: Result<CleanCounts, String> },
    /// The end of a [`Read::Later`].
    Read { ticket: ReadTicket, result: Result<LogSlices, ReadError> },
    /// The end of a [`Find::Later`].
    Found { ticket: ReadTicket, result: Result<Option<FoundOffset>, ReadError> },
    /// After [`Log::close`]: nothing is in flight, every file is closed.
    Closed,
    /// After [`Log::delete`]: the directory is gone.
    Deleted,
}

/// When what has just become safe was written. Each is the beginning of the step in which it happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WriteTimes {
    /// The first write since the last time that anything became safe.
    pub began: Instant,
    pub written: Instant,
    /// After the sync, where there was one.
    pub safe: Instant,
}

/// Where a batch came to lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    pub base: Offset,
    pub last: Offset,
    /// −1 where the topic keeps the producer's timestamps.
    pub log_append_time_ms: i64,
    /// The batch was in the log already, at these offsets; safe or about to be.
    pub duplicate: bool,
}

/// Why a batch was not appended. The log is as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AppendError {
    /// A sequence number is missing before this batch (OUT_OF_ORDER_SEQUENCE_NUMBER).
    OutOfOrderSequence,
    /// The producer was fenced by a later incarnation (INVALID_PRODUCER_EPOCH).
    InvalidProducerEpoch,
    /// Larger than a whole segment may be (RECORD_LIST_TOO_LARGE).
    LargerThanSegment,
    /// The log has batches of a later leader: this one must not write any more.
    LeaderEpochBehind { latest: LeaderEpoch },
    /// Not open, closing, or closed for writing by a failed sync.
    Offline { message: String },
}

/// Whole batches. `next` is the offset after the last of them, or the offset asked for when there are none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSlices {
    pub slices: Vec<Bytes>,
    pub bytes: usize,
    pub next: Offset,
}

/// Ties a read that needs the disk to its end. Unique within a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReadTicket(pub(super) u64);

#[derive(Debug, PartialEq, Eq)]
pub enum Read {
    Ready(LogSlices),
    Later(ReadTicket),
}

#[derive(Debug, PartialEq, Eq)]
pub enum Find {
    Ready(Option<FoundOffset>),
    Later(ReadTicket),
}

/// A record found by its timestamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoundOffset {
    pub offset: Offset,
    pub timestamp_ms: i64,
    pub leader_epoch: LeaderEpoch,
}

/// An idempotent producer, as its last batch shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ActiveProducer {
    pub id: ProducerId,
    pub epoch: ProducerEpoch,
    pub last_sequence: i32,
    pub last_timestamp_ms: i64,
}

/// Why nothing was read. The log is as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadError {
    /// The offset is below the log's start or above its end.
    OutOfRange,
    /// The log is not open.
    Offline { message: String },
    /// The disk failed, or what it holds is not what was written.
    Io { message: String },
}

#[derive(Debug)]
pub(super) enum Life {
    Opening(Box<Recovery>),
    Open,
    /// The files could not be read; holds nothing open.
    Failed,
    Closing(Closing),
    Truncating(Truncating),
    Closed,
    Deleting,
    Deleted,
}

#[derive(Debug)]
pub struct Log {
    pub(super) dir: PathBuf,
    pub(super) settings: TopicSettings,
    /// What of the settings does not count yet.
    pub(super) stricter: Option<Stricter>,
    pub(super) life: Life,
    pub(super) files: FileIds,
    /// Disk operations asked for and not answered yet.
    pub(super) in_flight: usize,
    /// In the order of their offsets, without gaps. The last one is appended to; none before the first append.
    pub(super) segments: VecDeque<Segment>,
    /// Where the log begins: in the first segment, or behind segments that are about to be removed.
    pub(super) start: Offset,
    pub(super) bounding: Bounding,
    /// When to look next for segments that are too old or too much.
    pub(super) retention_due: Instant,
    /// What lies from here on does not go, however old or much it is.
    pub(super) held_from: Offset,
    pub(super) cleaning: Option<Box<Cleaning>>,
    /// Why the compaction under way cannot go on, while something of it is in flight.
    pub(super) clean_failure: Option<String>,
    /// Something was found that compaction must not touch, until the next start.
    pub(super) uncleanable: bool,
    /// The offset the next batch gets.
    pub(super) end: Offset,
    pub(super) producers: Producers,
    pub(super) epochs: Epochs,
    pub(super) writer: Writer,
    /// So many bytes that only the journal has are written to their segment.
    pub(super) write_back_bytes: u64,
    pub(super) seals: Seals,
    pub(super) spare: Spare,
    pub(super) cold: ColdReads,
    pub(super) tail: Option<TailKey>,
    /// It is opened again by a recovery after a truncation, or that failed.
    pub(super) is_reopening: bool,
    /// A recovery that closing or deleting cut short; it may have a file open.
    pub(super) abandoned: Option<Box<Recovery>>,
    /// Why writing ended for good.
    pub(super) offline: Option<String>,
}

impl Log {
    /// Starts recovery of the log in `dir`, which is relative to the data directory and made when missing. `owner`
    /// is in the file ids this log uses and must be unique on the core. When it lacks what it `must_reach`, it does
    /// not open. Usable after [`LogEvent::Opened`].
    pub fn open(
        owner: u32,
        dir: PathBuf,
        settings: TopicSettings,
        must_reach: MustReach,
        now: Now,
        out: &mut LogOut,
    ) -> Log {
        let (recovery, first) = Recovery::start(FileIds::new(owner), dir.clone(), &settings, must_reach, now);
        let retention_due = retention::first_check(owner, settings.retention_check_ms, now);
        let mut log = Log {
            dir,
            settings,
            stricter: None,
            life: Life::Opening(Box::new(recovery)),
            files: FileIds::new(owner),
            in_flight: 0,
            segments: VecDeque::new(),
            start: Offset(0),
            bounding: Bounding::default(),
            retention_due,
            held_from: Offset(i64::MAX),
            cleaning: None,
            clean_failure: None,
            uncleanable: false,
            end: Offset(0),
            producers: Producers::default(),
            epochs: Epochs::default(),
            writer: Writer::default(),
            write_back_bytes: write_back_bytes(owner),
            seals: Seals::default(),
            spare: Spare::default(),
            cold: ColdReads::default(),
            tail: None,
            is_reopening: false,
            abandoned: None,
            offline: None,
        };
        log.ask(Step::Recover, first, out);
        log
    }

    /// The end of a disk operation this log asked for.
    pub fn on_disk(&mut self, op: LogOp, result: DiskResult, cache: &mut TailCache, now: Now, out: &mut LogOut) {
        self.in_flight = self.in_flight.checked_sub(1).expect("each operation is answered once");
        match op.0 {
            Step::Recover => self.on_recover(result, out),
            Step::OpenSegment(base) => self.on_segment_open(base, result, cache, now, out),
            Step::UseSpare(base) => self.on_spare_used(base, result, cache, now, out),
            Step::KeepSpare(end) => {
                self.on_spare_kept(end, &result);
                self.on_segment_removed(result);
            }
            Step::Cut => self.on_cut(result, cache, now, out),
            Step::Allocate => self.on_allocated(result, now, out),
            Step::Ahead => self.on_ahead(result, now, out),
            Step::Write => self.on_written(result, cache, now, out),
            Step::Sync => self.on_synced(result, cache, now, out),
            Step::Seal => self.on_seal(result, cache, now, out),
            Step::LoadIndex(base) => self.on_index_loaded(base, result, now, out),
            Step::Rebuild(base) => self.on_rebuild(base, result, now, out),
            Step::Read { ticket, segment } => self.on_read(ticket, segment, result, cache, now, out),
            Step::Finish => self.on_finish(result, out),
            Step::Remove => self.on_removed(result, out),
            Step::Bounds => self.on_bounds(result, now, out),
            Step::RemoveSegment => self.on_segment_removed(result),
            Step::Truncate => self.on_truncate_step(result, cache, out),
            Step::Clean(step) => self.on_clean(step, result, cache, now, out),
            Step::Tidy => {}
        }
        self.drive_clean(now, out);
        self.remove_first(out);
        self.leave(now, out);
    }

    /// Gives a checked batch its offsets and queues it for writing; at once, if no write is in flight. It may be
    /// acked when [`LogEvent::Safe`] passes it.
    pub fn append(
        &mut self,
        batch: Batch,
        epoch: LeaderEpoch,
        now: Now,
        cache: &mut TailCache,
        out: &mut LogOut,
    ) -> Result<Appended, AppendError> {
        self.writable()?;
        let header = batch.header;
        if let Some(duplicate) = self.admit(&batch, epoch, now)? {
            return Ok(duplicate);
        }
        let reused = bug::on(Bug::ReuseOffset) && now.wall_ms % 16 == 0 && self.end.0 > 0;
        let base = if reused { Offset(self.end.0 - 1) } else { self.end };
        let last = base.plus(i64::from(header.last_offset_delta));
        assert!(last >= base, "a checked batch holds at least one record");
        let append_time_ms = self.append_time_ms(now);
        let stamped = batch.stamp(base, epoch, append_time_ms);
        assert!(stamped.size_bytes() == batch.bytes.len());
        self.queue(stamped, now, cache);
        self.pump(now, out);
        Ok(Appended { base, last, log_append_time_ms: append_time_ms.unwrap_or(-1), duplicate: false })
    }

    /// Takes a batch that has its place, and remembers what belongs to it.
    pub(super) fn queue(&mut self, batch: StampedBatch, now: Now, cache: &mut TailCache) {
        let StampedBatch { header, head, rest } = batch;
        let (base, next, max_timestamp) = (header.first_offset(), header.next_offset(), header.max_timestamp);
        let slices = [head, rest];
        let len = slices.iter().map(Bytes::len).sum();
        self.end = next;
        self.epochs.on_batch(header.epoch(), base);
        self.producers.on_batch(&header, base, max_timestamp, self.writer.safe_end(), now.wall_ms);
        let key = cache.key(&mut self.tail);
        cache.push(key, base, next, slices.clone());
        self.writer.queue(Pending { base, next, max_timestamp, slices, len, taken: 0 });
    }

    /// Retention lets nothing go from here on: it may still be given up, or others do not have it yet.
    pub fn hold_from(&mut self, from: Offset) {
        self.held_from = from;
    }

    /// The log end offset: what the next record gets.
    pub fn end(&self) -> Offset {
        self.end
    }

    /// Everything below is written, and synced where `durability` or `flush.messages` asks for it.
    pub fn safe_end(&self) -> Offset {
        self.writer.safe_end()
    }

    /// All segments that are written no more end here at the latest.
    pub fn sealed_end(&self) -> Offset {
        self.segments.back().map_or(self.start, |active| active.base)
    }

    /// Bytes of all batches below [`Log::end`].
    pub fn size_bytes(&self) -> u64 {
        let sealed = self.segments.len().saturating_sub(1);
        let sealed: u64 = self.segments.iter().take(sealed).map(|segment| segment.len).sum();
        sealed + self.writer.size_bytes()
    }

    /// Producers that the log remembers, by id, at most so many.
    pub fn active_producers(&self, count_max: usize) -> Vec<ActiveProducer> {
        self.producers.active().take(count_max).collect()
    }

    /// The epoch of the last batch: no lower one may append.
    pub fn latest_epoch(&self) -> Option<LeaderEpoch> {
        self.epochs.latest()
    }

    /// The largest epoch not above `epoch` that the log knows, and where it ended. `None` when there is no answer
    /// (Kafka's OffsetForLeaderEpoch answers −1 and −1).
    pub fn epoch_end(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        self.epochs.end_of(epoch, self.end)
    }

    /// When [`Log::on_timeout`] has something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        match self.life {
            Life::Open => Instant::first_of([
                self.writer.sync_due(),
                self.writer.commits.retry_due,
                self.cold.idle_due(),
                self.bounding.retry_due(),
                self.retention_deadline(),
                self.cleaning.as_ref().and_then(|cleaning| cleaning.due()),
            ]),
            _ => None,
        }
    }

    /// Early or spurious calls do no harm.
    pub fn on_timeout(&mut self, now: Now, _cache: &mut TailCache, out: &mut LogOut) {
        if matches!(self.life, Life::Open) {
            self.retry(now);
            self.pump(now, out);
            self.cool_idle(now, out);
            self.retry_bounds(now, out);
            self.check_retention(now, out);
            self.drive_clean(now, out);
            self.remove_first(out);
        }
    }

    pub(super) fn ask(&mut self, step: Step, op: DiskOp, out: &mut LogOut) {
        self.in_flight += 1;
        out.disk.push((LogOp(step), op));
    }

    /// The segment that holds `offset`, which is not below the start.
    pub(super) fn segment_of(&self, offset: Offset) -> usize {
        self.segments.partition_point(|segment| segment.base <= offset).saturating_sub(1)
    }

    pub(super) fn segment_at(&mut self, base: Offset) -> Option<&mut Segment> {
        let at = self.segments.binary_search_by_key(&base, |segment| segment.base).ok()?;
        self.segments.get_mut(at)
    }

    /// Where the segment ends: the next one's first offset, or what of the safe batches is in it.
    pub(super) fn segment_end(&self, at: usize) -> Offset {
        self.segments.get(at + 1).map_or(self.writer.safe().next, |next| next.base)
    }

    pub(super) fn writable(&self) -> Result<(), AppendError> {
        let message = match (&self.life, &self.offline) {
            (Life::Open, None) => return Ok(()),
            (Life::Open, Some(why)) => why.clone(),
            (Life::Opening(_), _) => "the log is still being recovered".to_string(),
            (Life::Failed, _) => "the log could not be opened".to_string(),
            (Life::Truncating(_), _) => "the log is being truncated".to_string(),
            (Life::Closing(_) | Life::Closed | Life::Deleting | Life::Deleted, _) => "the log is closed".to_string(),
        };
        Err(AppendError::Offline { message })
    }

    pub(super) fn readable(&self) -> Result<(), ReadError> {
        match self.life {
            Life::Open => Ok(()),
            _ => Err(ReadError::Offline { message: "the log is not open".to_string() }),
        }
    }

    /// A duplicate's place, or `None` when the batch is to be appended.
    fn admit(&mut self, batch: &Batch, epoch: LeaderEpoch, now: Now) -> Result<Option<Appended>, AppendError> {
        if batch.bytes.len() as u64 > self.settings.segment_bytes {
            return Err(AppendError::LargerThanSegment);
        }
        if let Some(latest) = self.epochs.latest().filter(|latest| epoch < *latest) {
            return Err(AppendError::LeaderEpochBehind { latest });
        }
        let expiration_ms = self.settings.producer_id_expiration_ms;
        self.producers.sweep(expiration_ms, self.writer.safe_end(), now.wall_ms);
        match self.producers.judge(&batch.header, expiration_ms, now.wall_ms) {
            Verdict::Append => Ok(None),
            Verdict::OutOfOrder => Err(AppendError::OutOfOrderSequence),
            Verdict::Fenced => Err(AppendError::InvalidProducerEpoch),
            Verdict::Duplicate { .. } if bug::on(Bug::StoreDuplicates) => Ok(None),
            Verdict::Duplicate { base, last, timestamp_ms } => {
                let log_append_time_ms = self.append_time_ms(now).map_or(-1, |_| timestamp_ms);
                Ok(Some(Appended { base, last, log_append_time_ms, duplicate: true }))
            }
        }
    }

    fn append_time_ms(&self, now: Now) -> Option<i64> {
        match self.settings.message_timestamp_type {
            TimestampType::CreateTime => None,
            TimestampType::LogAppendTime => Some(now.wall_ms),
        }
    }

    fn on_recover(&mut self, result: DiskResult, out: &mut LogOut) {
        let Life::Opening(recovery) = &mut self.life else {
            if let Some(recovery) = &mut self.abandoned {
                recovery.settle(&result);
            }
            return;
        };
        match recovery.on_disk(result) {
            Next::Ask(op) => self.ask(Step::Recover, op, out),
            Next::Done(recovered) => self.begin(*recovered, out),
            Next::Failed { message, close, kept } => {
                self.life = Life::Failed;
                if let Some(file) = close {
                    self.ask(Step::Tidy, DiskOp::Close { file }, out);
                }
                out.events.push(match self.is_reopening {
                    true => LogEvent::TruncateFailed { message },
                    false => LogEvent::OpenFailed { message, kept },
                });
            }
        }
    }

    fn begin(&mut self, recovered: Recovered, out: &mut LogOut) {
        self.end = recovered.end;
        self.start = recovered.segments.front().map_or(self.end, |segment| segment.base).max(recovered.bounds.start);
        self.bounding = Bounding::recovered(recovered.bounds);
        self.segments = recovered.segments;
        self.epochs = recovered.epochs;
        self.producers = recovered.producers;
        self.files = recovered.files;
        self.writer = recovered.writer;
        self.seals = Seals::recovered(recovered.snapshots);
        self.spare = Spare::recovered(recovered.spare);
        self.life = Life::Open;
        out.events.extend(recovered.notes.into_iter().map(|message| LogEvent::Noted { message }));
        match std::mem::take(&mut self.is_reopening) {
            true => self.end_reopening(out),
            false => out.events.push(LogEvent::Opened),
        }
        if recovered.durable > Offset(0) {
            self.tell_reach(recovered.durable, out);
        }
        for name in recovered.leftovers {
            self.ask(Step::Tidy, DiskOp::Delete { path: name.path(&self.dir) }, out);
        }
        if let Some(file) = recovered.close {
            self.ask(Step::Tidy, DiskOp::Close { file }, out);
        }
    }

    /// Asks for a segment's file unless that is under way; the id when it is open.
    pub(super) fn open_segment(&mut self, at: usize, out: &mut LogOut) -> Option<FileId> {
        let active = at + 1 == self.segments.len();
        let segment = &mut self.segments[at];
        match segment.file {
            FileState::Open(file) => Some(file),
            FileState::Opening(_) => None,
            FileState::Closed => {
                let file = self.files.next();
                segment.file = FileState::Opening(file);
                let base = segment.base;
                // Only a segment that holds nothing may be missing.
                let create = active && segment.len == 0;
                if create && self.use_spare(base, out) {
                    return None;
                }
                let path = FileName::Segment(base).path(&self.dir);
                self.ask(Step::OpenSegment(base), DiskOp::Open { file, path, create }, out);
                None
            }
        }
    }

    pub(super) fn on_segment_open(
        &mut self,
        base: Offset,
        result: DiskResult,
        cache: &mut TailCache,
        now: Now,
        out: &mut LogOut,
    ) {
        let active = self.segments.back().is_some_and(|segment| segment.base == base);
        let segment = self.segment_at(base).expect("a segment stays while its file is being opened");
        let FileState::Opening(file) = segment.file else { panic!("a file is opened once at a time") };
        match result {
            Ok(done) => {
                segment.file = FileState::Open(file);
                if active {
                    let is_new = segment.len == 0;
                    self.writer.on_opened(&done, is_new);
                } else {
                    self.cold.warm(base, now.mono);
                }
            }
            Err(error) => {
                segment.file = FileState::Closed;
                self.fail_reads_of(base, &error, out);
                if self.cleaning.as_ref().is_some_and(|cleaning| cleaning.uses(base)) {
                    self.clean_failure = Some(error.message.clone());
                }
                if active {
                    self.fail_writes(&error, cache, now, out);
                }
            }
        }
        self.pump(now, out);
        self.drive_reads(out);
    }
}
