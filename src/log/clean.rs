//! Compaction: of each key the last record stays. Two passes over sealed segments, in slices of bounded work.
//!
//! The first pass enters the newest offset of each key of what was not seen before (Kafka's LogCleaner). The second
//! copies all segments up to there, group by group, without the records that are superseded; small segments grow
//! together up to `segment.bytes`. A group is then put in the place of the old ones (`swap`).
//!
//! A slice is a bounded part of what the disk has brought; after each the core is left alone, the longer the more work
//! it was.
//!
//! *Owns*: the passes, and their pace. *Never*: changes a segment; loses the last record of a key. *Runs on*: the
//! core that owns the partition.

use crate::base::bounds::Bounds;
use crate::base::bug::{self, Bug};
use crate::base::disk::{DiskDone, DiskOp, DiskResult};
use crate::base::ids::{LeaderEpoch, Offset};
use crate::base::siphash::HashKey;
use crate::base::time::{Instant, Now};

use super::cache::TailCache;
use super::feed::{Fed, Feed};
use super::keys::Keys;
use super::log::{Life, Log, LogEvent, LogOut, Step};
use super::output::Output;
use super::segment::FileName;
use super::sift::{Sieve, map_keys};
use super::swap::Swap;

/// Work of one slice, in bytes that are copied: some 30 microseconds, by which a request may be late.
const SLICE_WORK: usize = 160 << 10;

/// Giving some memory back is taken for so much work.
const FORGET_WORK: usize = 128 << 10;

/// From the beginning of one slice to that of the next, for each KiB of its work. Up to a quarter of a core goes into
/// it, with the reads and writes that come of it (`perf/run.py compacted`).
const SLICE_NS_PER_KIB: u64 = 1250;

/// The first pass stops when there is no room for the keys of so many further records, and the second pass does not
/// read on while so much waits to be written.
const WAITING_BYTES_MAX: usize = 1 << 20;

/// What compaction may use.
#[derive(Debug, Clone, Copy)]
pub struct CleanOrder {
    /// Random: keys are hashed with it.
    pub key: HashKey,
    /// Memory for keys.
    pub bytes_max: usize,
}

/// What a compaction did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CleanCounts {
    /// Bytes of segments read by the second pass, and written.
    pub read_bytes: u64,
    pub written_bytes: u64,
    /// Segments that are there no more.
    pub removed: u64,
}

#[derive(Debug)]
pub(super) struct Cleaning {
    keys: Keys,
    /// Keys are entered from here on.
    from: Offset,
    /// The first segment that is left alone begins here.
    until: Offset,
    /// Up to here keys were entered.
    upto: Offset,
    /// No more keys are.
    is_mapped: bool,
    pub(super) stage: Stage,
    pub(super) in_flight: u32,
    rest_until: Instant,
    pub(super) counts: CleanCounts,
}

#[derive(Debug)]
pub(super) enum Stage {
    /// Recovery and the replay of journals must know first that segments may change.
    Bounding,
    Mapping(Feed),
    Copying(Copying),
    Swapping(Swap),
    /// All is done; the keys' memory is given back.
    Forgetting,
}

/// The second pass over some segments in a row.
#[derive(Debug)]
pub(super) struct Copying {
    pub(super) group: Group,
    feed: Feed,
    pub(super) output: Output,
    writing: FileStage,
    /// Every batch of the group was seen.
    is_copied: bool,
    /// Of the last batch seen.
    epoch: LeaderEpoch,
}

/// Segments that become one: the first begins at `base`, the last ends before `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) base: Offset,
    pub(super) end: Offset,
}

/// What the output's file is at; all but three are in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FileStage {
    Opening,
    /// Something is in it, which a compaction left that did not come to its end.
    Stale,
    Emptying,
    Ready,
    Writing,
    Cutting,
    Cut,
    Syncing,
    Done,
}

/// Which disk operation of a compaction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CleanStep {
    Read(Offset),
    Output,
    Swap,
}

/// What became of a slice.
enum Slice {
    /// Nothing to do before a disk operation or a rest ends.
    Wait,
    /// Go on with this.
    Next(Box<Stage>),
    Done,
    Failed(String),
}

impl Group {
    pub(super) fn holds(self, base: Offset) -> bool {
        (self.base..self.end).contains(&base)
    }
}

impl Cleaning {
    /// The segment must stay as it is.
    pub(super) fn uses(&self, base: Offset) -> bool {
        match &self.stage {
            Stage::Bounding | Stage::Forgetting => false,
            Stage::Mapping(feed) => feed.segment == base,
            Stage::Copying(copying) => copying.group.holds(base),
            Stage::Swapping(swap) => swap.group.holds(base),
        }
    }

    /// When the next slice may begin, if no disk operation is waited for.
    pub(super) fn due(&self) -> Option<Instant> {
        (self.rest_until > Instant::default()).then_some(self.rest_until)
    }

    /// After so much work. Without any, what is waited for ends the rest.
    fn rest(&mut self, work: usize, now: Now) {
        if work == 0 {
            return;
        }
        let rest_ns = (work as u64).saturating_mul(SLICE_NS_PER_KIB) >> 10;
        self.rest_until = Instant(now.mono.0.saturating_add(rest_ns));
    }

    fn feed(&mut self) -> Option<&mut Feed> {
        match &mut self.stage {
            Stage::Mapping(feed) | Stage::Copying(Copying { feed, .. }) => Some(feed),
            Stage::Bounding | Stage::Swapping(_) | Stage::Forgetting => None,
        }
    }
}

impl Log {
    /// Begins to compact what lies below `until`, the beginning of a segment that is left alone, if anything does; then
    /// [`LogEvent::Cleaned`]. At most one compaction at a time.
    pub(super) fn begin_clean(&mut self, order: CleanOrder, until: Offset, now: Now, out: &mut LogOut) {
        assert!(self.cleaning.is_none(), "one compaction at a time");
        let from = self.bounding.held.cleaned.max(self.start);
        let keys_max = u64::try_from(until.0 - from.0).unwrap_or(0);
        self.cleaning = Some(Box::new(Cleaning {
            keys: Keys::new(order.key, order.bytes_max, keys_max),
            from,
            until,
            upto: from,
            is_mapped: false,
            stage: Stage::Bounding,
            in_flight: 0,
            rest_until: Instant::default(),
            counts: CleanCounts::default(),
        }));
        self.want_bounds(Bounds { rewritten: until, ..Bounds::default() }, now, out);
        self.drive_clean(now, out);
    }

    pub(super) fn on_clean(
        &mut self,
        step: CleanStep,
        result: DiskResult,
        cache: &mut TailCache,
        now: Now,
        out: &mut LogOut,
    ) {
        if let CleanStep::Read(base) = step {
            let segment = self.segment_at(base).expect("a segment stays while it is read");
            segment.reads -= 1;
        }
        let mut cleaning = self.cleaning.take().expect("it asked for this");
        cleaning.in_flight -= 1;
        if let Some(message) = self.clean_failure.take() {
            if let (Stage::Copying(copying), CleanStep::Output, Ok(done)) = (&mut cleaning.stage, step, &result) {
                copying.on_output(done);
            }
            return self.give_up_clean(cleaning, message, out);
        }
        let failed = match (&mut cleaning.stage, step, result) {
            (
                Stage::Mapping(feed) | Stage::Copying(Copying { feed, .. }),
                CleanStep::Read(_),
                Ok(DiskDone::Read(bytes)),
            ) => (!feed.on_read(bytes)).then(|| "a segment is shorter than it was".to_owned()),
            (Stage::Copying(copying), CleanStep::Output, Ok(done)) => {
                copying.on_output(&done);
                None
            }
            (Stage::Swapping(_), CleanStep::Swap, result) => {
                return self.on_swap(cleaning, result, cache, now, out);
            }
            (_, _, Err(error)) => Some(error.message),
            (stage, step, Ok(done)) => unreachable!("{done:?} for {step:?} in {stage:?}"),
        };
        match failed {
            Some(message) => self.give_up_clean(cleaning, message, out),
            None => {
                self.cleaning = Some(cleaning);
                self.drive_clean(now, out);
            }
        }
    }

    /// Goes on with the compaction as far as one slice goes.
    pub(super) fn drive_clean(&mut self, now: Now, out: &mut LogOut) {
        let Some(mut cleaning) = self.cleaning.take() else { return };
        if !matches!(self.life, Life::Open) || self.offline.is_some() || self.clean_failure.is_some() {
            if matches!(cleaning.stage, Stage::Forgetting) {
                return finish_clean(&cleaning, out);
            }
            return self.give_up_clean(cleaning, "the log takes no more writes".to_owned(), out);
        }
        if cleaning.rest_until > now.mono {
            self.cleaning = Some(cleaning);
            return;
        }
        cleaning.rest_until = Instant::default();
        loop {
            let slice = match &mut cleaning.stage {
                Stage::Bounding if self.bounding.held.rewritten >= cleaning.until => {
                    Slice::Next(Box::new(self.begin_map(&mut cleaning, now, out)))
                }
                Stage::Bounding => Slice::Wait,
                Stage::Mapping(_) => self.map_slice(&mut cleaning, now, out),
                Stage::Copying(_) => self.copy_slice(&mut cleaning, now, out),
                Stage::Swapping(_) => return self.drive_swap(cleaning, out),
                Stage::Forgetting if cleaning.keys.let_go() => {
                    cleaning.rest(FORGET_WORK, now);
                    Slice::Wait
                }
                Stage::Forgetting => Slice::Done,
            };
            match slice {
                Slice::Wait => break,
                Slice::Next(stage) => cleaning.stage = *stage,
                Slice::Done => return finish_clean(&cleaning, out),
                Slice::Failed(message) => return self.give_up_clean(cleaning, message, out),
            }
        }
        self.cleaning = Some(cleaning);
    }

    fn feed_of(&self, at: usize) -> Feed {
        Feed::new(self.segments[at].base, self.segments[at].len, self.segment_end(at))
    }

    fn begin_map(&mut self, cleaning: &mut Cleaning, now: Now, out: &mut LogOut) -> Stage {
        // What was deleted meanwhile has no keys to be remembered.
        cleaning.from = cleaning.from.max(self.start);
        cleaning.upto = cleaning.upto.max(cleaning.from);
        if cleaning.from >= cleaning.until {
            return self.end_copy(cleaning, now, out);
        }
        Stage::Mapping(self.feed_of(self.segment_of(cleaning.from)))
    }

    fn map_slice(&mut self, cleaning: &mut Cleaning, now: Now, out: &mut LogOut) -> Slice {
        self.read_ahead(cleaning, out);
        let work = match self.map_batches(cleaning) {
            Ok(work) => work,
            Err(message) => return Slice::Failed(message),
        };
        if cleaning.is_mapped && cleaning.feed().is_some_and(|feed| !feed.is_reading()) {
            return self.begin_copy(cleaning, now, out);
        }
        self.read_ahead(cleaning, out);
        cleaning.rest(work, now);
        Slice::Wait
    }

    /// Enters the keys of a slice, and says how much work it was.
    fn map_batches(&mut self, cleaning: &mut Cleaning) -> Result<usize, String> {
        let Cleaning { stage: Stage::Mapping(feed), keys, from, until, upto, is_mapped, .. } = &mut *cleaning else {
            unreachable!("the caller looked")
        };
        let mut work = 0;
        while work < SLICE_WORK && !*is_mapped {
            match feed.next() {
                Fed::Batch(header, batch) => match map_keys(&batch, &header, *from, keys) {
                    Some(taken) => {
                        work += taken;
                        *upto = (*upto).max(header.next_offset());
                    }
                    // What has no room now is left for the next time.
                    None => *is_mapped = true,
                },
                Fed::Waiting => break,
                Fed::End => {
                    let at = self.segment_of(feed.segment) + 1;
                    if self.segments[at].base >= *until {
                        *is_mapped = true;
                    } else {
                        *feed = self.feed_of(at);
                    }
                }
                Fed::Corrupt { position } => {
                    let segment = feed.segment;
                    return Err(self.corrupt_clean(segment, position));
                }
            }
        }
        Ok(work)
    }

    fn corrupt_clean(&mut self, segment: Offset, position: u64) -> String {
        self.uncleanable = true;
        let path = FileName::Segment(segment).path(&self.dir);
        format!("{} is damaged at byte {position}: the log is not compacted any more", path.display())
    }

    /// Has the next part of a segment read, if it is not there yet and not under way.
    fn read_ahead(&mut self, cleaning: &mut Cleaning, out: &mut LogOut) {
        let Some(feed) = cleaning.feed() else { return };
        let segment = feed.segment;
        let Some((position, len)) = feed.next_read() else { return };
        let at = self.segments.binary_search_by_key(&segment, |segment| segment.base);
        let at = at.expect("a segment stays while it is compacted");
        let Some(file) = self.open_segment(at, out) else {
            // It is asked for again once the file is open.
            return feed.take_back_read();
        };
        self.segments[at].reads += 1;
        cleaning.in_flight += 1;
        self.ask(Step::Clean(CleanStep::Read(segment)), DiskOp::Read { file, position, len }, out);
    }

    fn begin_copy(&mut self, cleaning: &mut Cleaning, now: Now, out: &mut LogOut) -> Slice {
        if cleaning.upto <= cleaning.from {
            self.uncleanable = true;
            return Slice::Failed("log.cleaner.dedupe.buffer.size has no room for one batch's keys".to_owned());
        }
        let first = self.segments.front().map_or(self.end, |segment| segment.base);
        Slice::Next(Box::new(self.next_group(cleaning, first, now, out)))
    }

    /// Begins to copy the segments from this offset on, or ends when none is left.
    fn next_group(&mut self, cleaning: &mut Cleaning, from: Offset, now: Now, out: &mut LogOut) -> Stage {
        let limit = cleaning.upto.min(cleaning.until);
        let first = self.segments.partition_point(|segment| segment.base < from);
        let Some(segment) = self.segments.get(first).filter(|segment| segment.base < limit) else {
            return self.end_copy(cleaning, now, out);
        };
        let (base, mut bytes, mut last) = (segment.base, segment.len, first);
        while let Some(next) = self.segments.get(last + 1).filter(|next| next.base < limit) {
            let fits = bytes + next.len <= self.settings.segment_bytes;
            let spans = self.segment_end(last + 1).0 - base.0 <= i64::from(i32::MAX);
            if !fits || !spans {
                break;
            }
            bytes += next.len;
            last += 1;
        }
        let group = Group { base, end: self.segment_end(last) };
        let file = self.files.next();
        let path = FileName::Cleaned(base).path(&self.dir);
        cleaning.in_flight += 1;
        self.ask(Step::Clean(CleanStep::Output), DiskOp::Open { file, path, create: true }, out);
        let output = Output::new(file, base, self.settings.index_interval_bytes);
        let feed = self.feed_of(first);
        let epoch = LeaderEpoch(0);
        Stage::Copying(Copying { group, feed, output, writing: FileStage::Opening, is_copied: false, epoch })
    }

    /// All groups are in place.
    fn end_copy(&mut self, cleaning: &Cleaning, now: Now, out: &mut LogOut) -> Stage {
        self.want_bounds(Bounds { cleaned: cleaning.upto, ..Bounds::default() }, now, out);
        Stage::Forgetting
    }

    fn copy_slice(&mut self, cleaning: &mut Cleaning, now: Now, out: &mut LogOut) -> Slice {
        self.write_output(cleaning, out);
        let Stage::Copying(copying) = &cleaning.stage else { unreachable!("the caller looked") };
        match copying.writing {
            FileStage::Done => return Self::begin_swap(cleaning),
            FileStage::Ready | FileStage::Writing if !copying.is_copied => {}
            _ => return Slice::Wait,
        }
        self.read_ahead(cleaning, out);
        let work = match self.copy_batches(cleaning, now) {
            Ok(work) => work,
            Err(message) => return Slice::Failed(message),
        };
        self.read_ahead(cleaning, out);
        self.write_output(cleaning, out);
        cleaning.rest(work, now);
        Slice::Wait
    }

    fn write_output(&mut self, cleaning: &mut Cleaning, out: &mut LogOut) {
        let Stage::Copying(copying) = &mut cleaning.stage else { unreachable!("the caller looked") };
        if let Some(op) = copying.next_op() {
            cleaning.in_flight += 1;
            self.ask(Step::Clean(CleanStep::Output), op, out);
        }
    }

    /// Copies a slice, unless too much waits to be written, and says how much work it was.
    fn copy_batches(&mut self, cleaning: &mut Cleaning, now: Now) -> Result<usize, String> {
        let Cleaning { keys, upto, stage: Stage::Copying(copying), counts, .. } = &mut *cleaning else {
            unreachable!("the caller looked")
        };
        let delete_retention_ms = i64::try_from(self.settings.delete_retention_ms).unwrap_or(i64::MAX);
        let sieve = Sieve { keys, upto: *upto, now_ms: now.wall_ms, delete_retention_ms, producers: &self.producers };
        let mut work = 0;
        while work < SLICE_WORK && copying.output.buffered_bytes() < WAITING_BYTES_MAX {
            match copying.feed.next() {
                Fed::Batch(header, batch) => {
                    counts.read_bytes += batch.len() as u64;
                    if copying.epoch != header.epoch() {
                        // No batch spans the beginning of an epoch: followers go by where epochs end.
                        copying.output.fill_to(header.first_offset(), copying.epoch);
                        copying.epoch = header.epoch();
                    }
                    let sifted = sieve.sift(&batch, &header);
                    work += sifted.work;
                    if let Some(kept) = sifted.kept {
                        copying.output.push(kept);
                    }
                }
                Fed::Waiting => break,
                Fed::End => {
                    let at = self.segment_of(copying.feed.segment) + 1;
                    if self.segments[at].base >= copying.group.end {
                        copying.output.fill_to(copying.group.end, copying.epoch);
                        copying.is_copied = true;
                        break;
                    }
                    copying.feed = self.feed_of(at);
                }
                Fed::Corrupt { position } => {
                    let segment = copying.feed.segment;
                    return Err(self.corrupt_clean(segment, position));
                }
            }
        }
        Ok(work)
    }

    fn begin_swap(cleaning: &mut Cleaning) -> Slice {
        let Stage::Copying(copying) = std::mem::replace(&mut cleaning.stage, Stage::Bounding) else {
            unreachable!("the caller looked")
        };
        cleaning.counts.written_bytes += copying.output.len();
        Slice::Next(Box::new(Stage::Swapping(Swap::new(copying.group, copying.output))))
    }

    /// A group is in its place: the next one, or the end.
    pub(super) fn end_group(&mut self, mut cleaning: Box<Cleaning>, end: Offset, now: Now, out: &mut LogOut) {
        cleaning.stage = self.next_group(&mut cleaning, end, now, out);
        self.cleaning = Some(cleaning);
        self.drive_clean(now, out);
    }

    /// Ends a compaction that cannot go on, once nothing of it is in flight. The segments are as they were, or as a
    /// group that was finished left them.
    pub(super) fn give_up_clean(&mut self, mut cleaning: Box<Cleaning>, message: String, out: &mut LogOut) {
        if cleaning.in_flight > 0 {
            // The end of the last operation ends it, and no deadline.
            cleaning.rest_until = Instant::default();
            self.clean_failure.get_or_insert(message);
            self.cleaning = Some(cleaning);
            return;
        }
        let message = self.clean_failure.take().unwrap_or(message);
        let output = match &cleaning.stage {
            Stage::Copying(copying) if copying.writing != FileStage::Opening => {
                Some((copying.output.file, copying.group))
            }
            Stage::Swapping(swap) => swap.output(),
            _ => None,
        };
        if let Some((file, group)) = output {
            self.ask(Step::Tidy, DiskOp::Close { file }, out);
            self.ask(Step::Tidy, DiskOp::Delete { path: FileName::Cleaned(group.base).path(&self.dir) }, out);
        }
        out.events.push(LogEvent::Cleaned { result: Err(message) });
    }
}

fn finish_clean(cleaning: &Cleaning, out: &mut LogOut) {
    assert!(cleaning.in_flight == 0);
    out.events.push(LogEvent::Cleaned { result: Ok(cleaning.counts) });
}

impl Copying {
    /// What the file needs next, if nothing of it is in flight.
    fn next_op(&mut self) -> Option<DiskOp> {
        let file = self.output.file;
        let (writing, op) = match self.writing {
            FileStage::Stale => (FileStage::Emptying, DiskOp::Truncate { file, len: 0 }),
            FileStage::Ready => {
                let write = if self.is_copied { self.output.take_rest() } else { self.output.take_write() };
                match write {
                    Some((position, bytes)) => {
                        (FileStage::Writing, DiskOp::Write { file, position, data: vec![bytes] })
                    }
                    None if self.is_copied => (FileStage::Cutting, DiskOp::Truncate { file, len: self.output.len() }),
                    None => return None,
                }
            }
            FileStage::Cut if bug::on(Bug::SwapBeforeSync) => {
                (FileStage::Syncing, DiskOp::Truncate { file, len: self.output.len() })
            }
            FileStage::Cut => (FileStage::Syncing, DiskOp::Sync { file }),
            _ => return None,
        };
        self.writing = writing;
        Some(op)
    }

    fn on_output(&mut self, done: &DiskDone) {
        self.writing = match self.writing {
            FileStage::Opening if *done != (DiskDone::Opened { len: 0 }) => FileStage::Stale,
            FileStage::Opening | FileStage::Emptying | FileStage::Writing => FileStage::Ready,
            FileStage::Cutting => FileStage::Cut,
            FileStage::Syncing => FileStage::Done,
            state @ (FileStage::Stale | FileStage::Ready | FileStage::Cut | FileStage::Done) => {
                unreachable!("nothing is in flight in {state:?}")
            }
        };
    }
}
