//! Reads that need the disk: bringing a segment's file and index, then its bytes, then whatever asked for them.
//!
//! *Owns*: the reads under way, which sealed segments are warm (file open, index loaded) and the bound on them,
//! rebuilding an index that is missing. *Never*: decides what of the bytes is wanted (`read`, `find` do).
//! *Runs on*: the core that owns the partition.

use bytes::{Bytes, BytesMut};

use crate::base::disk::{DiskDone, DiskError, DiskOp, DiskResult};
use crate::base::ids::Offset;
use crate::base::limits::DISK_READ_BYTES_MAX;
use crate::base::time::{Instant, Now};

use super::cache::{Chunk, TailCache};
use super::clean::Group;
use super::index::SealedIndex;
use super::log::{FoundOffset, Log, LogEvent, LogOut, LogSlices, ReadError, ReadTicket, Step};
use super::read::Wanted;
use super::scan::Scan;
use super::segment::{FileName, FileState};

/// The least one read asks a device for.
const READ_BYTES_MIN: usize = 64 << 10;

/// Sealed segments of one log that are kept warm.
const WARM_MAX: usize = 2;

/// A warm segment that nobody reads is let go after this.
const WARM_MS: u64 = 30_000;

/// Reads of one log that wait for the disk.
const COLD_READS_MAX: usize = 10_000;

#[derive(Debug, Default)]
pub(super) struct ColdReads {
    list: Vec<Cold>,
    tickets: u64,
    /// Segments whose index file is being read.
    loading: Vec<Offset>,
    rebuilds: Vec<Rebuild>,
    /// Sealed segments by last use, the latest last.
    warm: Vec<(Offset, Instant)>,
}

#[derive(Debug)]
struct Rebuild {
    base: Offset,
    scan: Scan,
    reading: bool,
}

/// What a read is for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Goal {
    Batches(Wanted),
    /// Nobody yet: what a sequential reader will want next.
    Ahead,
    /// The first record from `from` to below `until` with this timestamp or a later one.
    Timestamp {
        timestamp_ms: i64,
        from: Offset,
        until: Offset,
    },
    /// The first record below `until` with the largest timestamp; `seen` is the largest of what was walked.
    MaxTimestamp {
        until: Offset,
        seen: i64,
    },
}

/// A read under way.
#[derive(Debug)]
pub(super) struct Cold {
    ticket: ReadTicket,
    pub(super) goal: Goal,
    pub(super) segment: Offset,
    /// Where a batch begins, and its first offset. `None` until the index has told.
    pub(super) position: Option<u64>,
    pub(super) expect: Offset,
    /// Goes on where an earlier read ended.
    sequential: bool,
    /// Bytes needed from `position` on, 0 for as many as makes sense.
    want: usize,
    have: Vec<Bytes>,
    have_bytes: usize,
    reading: bool,
}

/// What became of the bytes a read brought.
#[derive(Debug)]
pub(super) enum Progress {
    Read(LogSlices),
    Found(Option<FoundOffset>),
    /// Read again from `start` of these bytes on, where the batch `next` begins, at least `need` bytes.
    ReadOn {
        start: usize,
        need: usize,
        next: Offset,
    },
    /// Go on in this segment.
    NextSegment(Offset),
    /// Start over with another goal.
    Instead(Goal),
    Corrupt,
}

/// Whether the index has told where to read.
#[derive(Debug)]
pub(super) enum Placed {
    Yes,
    Waiting,
    Found(Option<FoundOffset>),
}

impl Cold {
    pub(super) fn new(goal: Goal, segment: Offset) -> Cold {
        Cold {
            ticket: ReadTicket(0),
            goal,
            segment,
            position: None,
            expect: segment,
            sequential: false,
            want: 0,
            have: Vec::new(),
            have_bytes: 0,
            reading: false,
        }
    }

    /// Goes on where an earlier read ended; `place` is given when that is within a segment.
    pub(super) fn go_on_at(&mut self, place: Option<Chunk>) {
        self.sequential = true;
        if let Some(place) = place {
            self.place(place.segment, place.position, place.next);
        }
    }

    pub(super) fn is_sequential(&self) -> bool {
        self.sequential
    }

    pub(super) fn place(&mut self, segment: Offset, position: u64, expect: Offset) {
        self.segment = segment;
        self.position = Some(position);
        self.expect = expect;
        self.want = 0;
    }

    /// How much to read when nothing says more.
    fn usual_bytes(&self, interval_bytes: u32) -> usize {
        match self.goal {
            Goal::Ahead => DISK_READ_BYTES_MAX,
            Goal::Batches(_) if self.sequential => DISK_READ_BYTES_MAX,
            Goal::Batches(wanted) => {
                wanted.bytes_max.saturating_add(interval_bytes as usize).clamp(READ_BYTES_MIN, DISK_READ_BYTES_MAX)
            }
            Goal::Timestamp { .. } | Goal::MaxTimestamp { .. } => {
                (2 * interval_bytes as usize).clamp(READ_BYTES_MIN, DISK_READ_BYTES_MAX)
            }
        }
    }
}

impl ColdReads {
    /// A sealed segment was used.
    pub(super) fn warm(&mut self, base: Offset, at: Instant) {
        self.warm.retain(|(other, _)| *other != base);
        self.warm.push((base, at));
    }

    pub(super) fn forget_warm(&mut self, base: Offset) {
        self.warm.retain(|(other, _)| *other != base);
    }

    /// Something under way needs the segment, its index or its place among the others.
    pub(super) fn uses(&self, base: Offset) -> bool {
        self.list.iter().any(|cold| cold.segment == base) || self.is_indexing(base)
    }

    /// The index of the segment is being read or made.
    pub(super) fn is_indexing(&self, base: Offset) -> bool {
        self.rebuilds.iter().any(|rebuild| rebuild.base == base) || self.loading.contains(&base)
    }

    /// The segments of the group have become one: reads that wait for them look for their place again.
    pub(super) fn move_to(&mut self, group: Group) {
        self.list.retain(|cold| !(matches!(cold.goal, Goal::Ahead) && group.holds(cold.segment)));
        for cold in self.list.iter_mut().filter(|cold| group.holds(cold.segment)) {
            assert!(!cold.reading, "the old files are read no more");
            cold.segment = group.base;
            cold.position = None;
            cold.want = 0;
            cold.have.clear();
            cold.have_bytes = 0;
        }
    }

    /// All files are closed.
    pub(super) fn forget_files(&mut self) {
        assert!(self.list.is_empty() && self.loading.is_empty() && self.rebuilds.is_empty());
        self.warm.clear();
    }

    /// When the longest unused segment may be let go.
    pub(super) fn idle_due(&self) -> Option<Instant> {
        self.warm.first().map(|(_, used)| used.after_ms(WARM_MS))
    }
}

impl Log {
    pub(super) fn start_cold(&mut self, mut cold: Cold, out: &mut LogOut) -> ReadTicket {
        self.cold.tickets += 1;
        let ticket = ReadTicket(self.cold.tickets);
        cold.ticket = ticket;
        if self.cold.list.len() >= COLD_READS_MAX {
            let message = "too many reads of this partition wait for the disk".to_string();
            fail(&cold, ReadError::Io { message }, out);
        } else {
            self.drive(cold, out);
        }
        ticket
    }

    /// Starts reading what lies at a place that a sequential reader comes to next.
    pub(super) fn start_ahead(&mut self, place: Chunk, out: &mut LogOut) {
        let mut cold = Cold::new(Goal::Ahead, place.segment);
        cold.go_on_at(Some(place));
        self.start_cold(cold, out);
    }

    /// A read for what is being read ahead takes that over.
    pub(super) fn take_over_ahead(&mut self, wanted: Wanted) -> Option<ReadTicket> {
        let ahead = |cold: &&mut Cold| matches!(cold.goal, Goal::Ahead) && cold.expect == wanted.from();
        let cold = self.cold.list.iter_mut().find(ahead)?;
        cold.goal = Goal::Batches(wanted);
        Some(cold.ticket)
    }

    /// Takes every read that is not waiting for its bytes as far as it goes.
    pub(super) fn drive_reads(&mut self, out: &mut LogOut) {
        for cold in std::mem::take(&mut self.cold.list) {
            if cold.reading {
                self.cold.list.push(cold);
            } else {
                self.drive(cold, out);
            }
        }
        self.drive_rebuilds(out);
    }

    fn drive(&mut self, mut cold: Cold, out: &mut LogOut) {
        if cold.position.is_none() {
            match self.place(&mut cold, out) {
                Placed::Yes => {}
                Placed::Waiting => return self.cold.list.push(cold),
                Placed::Found(found) => {
                    return out.events.push(LogEvent::Found { ticket: cold.ticket, result: Ok(found) });
                }
            }
        }
        let Ok(at) = self.segments.binary_search_by_key(&cold.segment, |segment| segment.base) else {
            return fail(&cold, corrupt(&self.dir, cold.segment, "is gone"), out);
        };
        // Where the length is not exact, the index has it.
        let is_measured = self.segments[at].max_timestamp.is_some() || self.has_index(at, out);
        if !is_measured || self.is_held(cold.segment) {
            return self.cold.list.push(cold);
        }
        let Some(file) = self.open_segment(at, out) else { return self.cold.list.push(cold) };
        let segment = &mut self.segments[at];
        let position = cold.position.expect("it was placed");
        let interval = segment.index.as_ref().map_or(0, |index| index.interval_bytes());
        let usual = cold.usual_bytes(interval);
        let left = segment.len.saturating_sub(position);
        if cold.want as u64 > left || left == 0 {
            return fail(&cold, corrupt(&self.dir, cold.segment, "ends within a batch"), out);
        }
        cold.want = (cold.want.max(usual) as u64).min(left) as usize;
        let len = (cold.want - cold.have_bytes).min(DISK_READ_BYTES_MAX);
        assert!(len > 0);
        segment.reads += 1;
        cold.reading = true;
        let step = Step::Read { ticket: cold.ticket, segment: cold.segment };
        let position = position + cold.have_bytes as u64;
        self.cold.list.push(cold);
        self.ask(step, DiskOp::Read { file, position, len }, out);
    }

    /// Finds where to read, by the index of the segment or segments in question.
    fn place(&mut self, cold: &mut Cold, out: &mut LogOut) -> Placed {
        match cold.goal {
            Goal::Batches(wanted) => {
                let at = self.segment_of(wanted.from());
                if !self.has_index(at, out) {
                    return Placed::Waiting;
                }
                let segment = &self.segments[at];
                let index = segment.index.as_ref().expect("just seen");
                let floor = index.floor(wanted.from());
                cold.place(segment.base, floor.position, floor.offset);
                Placed::Yes
            }
            Goal::Ahead => unreachable!("read-ahead knows its place"),
            Goal::Timestamp { until, .. } | Goal::MaxTimestamp { until, .. } if !self.is_written_out(until) => {
                Placed::Waiting
            }
            Goal::Timestamp { timestamp_ms, until, .. } => self.place_timestamp(cold, timestamp_ms, until, out),
            Goal::MaxTimestamp { until, .. } => self.place_max_timestamp(cold, until, out),
        }
    }

    /// True when the segment's index is there; else it is on its way.
    pub(super) fn has_index(&mut self, at: usize, out: &mut LogOut) -> bool {
        let segment = &self.segments[at];
        if segment.index.is_some() {
            return true;
        }
        let base = segment.base;
        if self.is_held(base) {
            return false;
        }
        let rebuilding = self.cold.rebuilds.iter().any(|rebuild| rebuild.base == base);
        if !rebuilding && !self.cold.loading.contains(&base) {
            self.cold.loading.push(base);
            self.ask(Step::LoadIndex(base), DiskOp::ReadFile { path: FileName::Index(base).path(&self.dir) }, out);
        }
        false
    }

    pub(super) fn on_index_loaded(&mut self, base: Offset, result: DiskResult, now: Now, out: &mut LogOut) {
        self.cold.loading.retain(|loading| *loading != base);
        if self.readable().is_err() {
            return;
        }
        let sealed = match &result {
            Ok(DiskDone::Read(bytes)) => SealedIndex::from_file(bytes, base),
            Ok(_) | Err(_) => None,
        };
        let interval_bytes = self.settings.index_interval_bytes;
        let end = self.segment_end(self.segment_of(base));
        // Of a segment that was rewritten an old index may be left.
        let rewritten = base < self.bounding.held.rewritten;
        let segment = self.segment_at(base).expect("a segment stays while its index is read");
        match sealed.filter(|sealed| sealed.len == segment.len || (!rewritten && sealed.len < segment.len)) {
            Some(sealed) => {
                segment.len = sealed.len;
                segment.max_timestamp = Some(sealed.max_timestamp);
                segment.index = Some(sealed.index);
                self.cold.warm(base, now.mono);
            }
            None => {
                let index = super::index::Index::new(base, interval_bytes);
                let scan = Scan::new(0, base, index, (None, i64::MIN), None, segment.len, end);
                self.cold.rebuilds.push(Rebuild { base, scan, reading: false });
            }
        }
        self.drive_reads(out);
        self.cool(out);
    }

    fn drive_rebuilds(&mut self, out: &mut LogOut) {
        for mut rebuild in std::mem::take(&mut self.cold.rebuilds) {
            let at = self.segments.binary_search_by_key(&rebuild.base, |segment| segment.base);
            let at = at.expect("a segment stays while its index is rebuilt");
            if !rebuild.reading
                && let Some(file) = self.open_segment(at, out)
            {
                match rebuild.scan.next_read() {
                    Some((position, len)) => {
                        rebuild.reading = true;
                        self.segments[at].reads += 1;
                        self.ask(Step::Rebuild(rebuild.base), DiskOp::Read { file, position, len }, out);
                    }
                    None => {
                        self.finish_rebuild(at, rebuild, out);
                        continue;
                    }
                }
            }
            self.cold.rebuilds.push(rebuild);
        }
    }

    fn finish_rebuild(&mut self, at: usize, rebuild: Rebuild, out: &mut LogOut) {
        let end = self.segment_end(at);
        let Scan { next, position, index, max_timestamp, .. } = rebuild.scan;
        let segment = &mut self.segments[at];
        if next == end {
            segment.len = position;
            let data = SealedIndex { index: index.clone(), len: position, max_timestamp }.to_file();
            let path = FileName::Index(rebuild.base).path(&self.dir);
            segment.max_timestamp = Some(max_timestamp);
            segment.index = Some(index);
            self.ask(Step::Tidy, DiskOp::WriteFile { path, data }, out);
        } else {
            // Reads of the good part go on; those beyond meet what is wrong there, and say so.
            segment.max_timestamp = Some(max_timestamp);
            segment.index = Some(index);
        }
    }

    pub(super) fn on_rebuild(&mut self, base: Offset, result: DiskResult, now: Now, out: &mut LogOut) {
        if let Some(segment) = self.segment_at(base) {
            segment.reads -= 1;
        }
        let Some(at) = self.cold.rebuilds.iter().position(|rebuild| rebuild.base == base) else { return };
        match result {
            Ok(DiskDone::Read(bytes)) => {
                let rebuild = &mut self.cold.rebuilds[at];
                rebuild.reading = false;
                rebuild.scan.on_read(&bytes, |_| {});
            }
            Ok(_) => unreachable!("a read is answered with bytes"),
            Err(error) => {
                self.cold.rebuilds.swap_remove(at);
                self.fail_reads_of(base, &error, out);
            }
        }
        self.cold.warm(base, now.mono);
        self.drive_rebuilds(out);
        self.drive_reads(out);
        self.cool(out);
    }

    pub(super) fn on_read(
        &mut self,
        ticket: ReadTicket,
        base: Offset,
        result: DiskResult,
        cache: &mut TailCache,
        now: Now,
        out: &mut LogOut,
    ) {
        if let Some(segment) = self.segment_at(base) {
            segment.reads -= 1;
        }
        let Some(at) = self.cold.list.iter().position(|cold| cold.ticket == ticket) else { return };
        let mut cold = self.cold.list.swap_remove(at);
        cold.reading = false;
        if self.segments.back().is_some_and(|active| active.base != base) {
            self.cold.warm(base, now.mono);
        }
        match result {
            Ok(DiskDone::Read(bytes)) => self.on_bytes(cold, bytes, cache, out),
            Ok(_) => unreachable!("a read is answered with bytes"),
            Err(error) => fail(&cold, io(&error), out),
        }
        self.cool(out);
    }

    fn on_bytes(&mut self, mut cold: Cold, bytes: Bytes, cache: &mut TailCache, out: &mut LogOut) {
        let asked = (cold.want - cold.have_bytes).min(DISK_READ_BYTES_MAX);
        // The file was longer once; what is there may be enough.
        let is_short = bytes.len() < asked;
        cold.have_bytes += bytes.len();
        cold.have.push(bytes);
        if cold.have_bytes < cold.want && !is_short {
            return self.drive(cold, out);
        }
        let chunk = join(std::mem::take(&mut cold.have));
        cold.have_bytes = 0;
        let progress = match cold.goal {
            Goal::Batches(wanted) => self.take_batches(&cold, wanted, chunk, cache, out),
            Goal::Ahead => return self.keep_ahead(&cold, chunk, cache),
            Goal::Timestamp { timestamp_ms, from, until } => {
                self.look_for_timestamp(&cold, timestamp_ms, (from, until), &chunk)
            }
            Goal::MaxTimestamp { until, seen } => self.look_for_max_timestamp(&mut cold, until, seen, &chunk),
        };
        match progress {
            Progress::ReadOn { .. } | Progress::NextSegment(_) | Progress::Instead(_) | Progress::Found(None)
                if is_short =>
            {
                fail(&cold, corrupt(&self.dir, cold.segment, "is shorter than it was"), out);
            }
            Progress::Read(found) => out.events.push(LogEvent::Read { ticket: cold.ticket, result: Ok(found) }),
            Progress::Found(found) => out.events.push(LogEvent::Found { ticket: cold.ticket, result: Ok(found) }),
            Progress::Corrupt => {
                fail(&cold, corrupt(&self.dir, cold.segment, "does not hold the batch that belongs there"), out);
            }
            Progress::Instead(goal) => {
                cold.goal = goal;
                cold.segment = self.segments.front().expect("it was walked").base;
                cold.position = None;
                self.drive(cold, out);
            }
            Progress::NextSegment(base) => {
                cold.segment = base;
                cold.position = None;
                self.drive(cold, out);
            }
            Progress::ReadOn { start, need, next } => {
                cold.position = cold.position.map(|position| position + start as u64);
                cold.expect = next;
                cold.want = need;
                self.drive(cold, out);
            }
        }
    }

    pub(super) fn fail_reads_of(&mut self, base: Offset, error: &DiskError, out: &mut LogOut) {
        self.cold.rebuilds.retain(|rebuild| rebuild.base != base || rebuild.reading);
        // A look-up by time waits for a segment that it has not been placed in.
        let waits = |cold: &Cold| !cold.reading && (cold.segment == base || cold.position.is_none());
        self.cold.list.retain(|cold| {
            let fails = waits(cold);
            if fails {
                fail(cold, io(error), out);
            }
            !fails
        });
    }

    pub(super) fn fail_all_reads(&mut self, why: &str, out: &mut LogOut) {
        for cold in std::mem::take(&mut self.cold.list) {
            fail(&cold, ReadError::Offline { message: why.to_string() }, out);
        }
        self.cold.rebuilds.clear();
    }

    /// Lets go of the longest unused sealed segments beyond the bound.
    pub(super) fn cool(&mut self, out: &mut LogOut) {
        let mut at = 0;
        while self.cold.warm.len() - at > WARM_MAX {
            if !self.let_go(at, out) {
                at += 1;
            }
        }
    }

    pub(super) fn cool_idle(&mut self, now: Now, out: &mut LogOut) {
        while self.cold.idle_due().is_some_and(|due| due <= now.mono) {
            if !self.let_go(0, out) {
                self.cold.warm[0].1 = now.mono;
                self.cold.warm.sort_by_key(|(_, used)| *used);
            }
        }
    }

    /// Closes a warm segment's file and forgets its index, unless either is in use.
    fn let_go(&mut self, at: usize, out: &mut LogOut) -> bool {
        let base = self.cold.warm[at].0;
        let used = self.cold.uses(base);
        let segment = self.segment_at(base).expect("a warm segment is one of the log's");
        if used || segment.reads > 0 || segment.sealing || matches!(segment.file, FileState::Opening(_)) {
            return false;
        }
        let file = segment.open_file();
        segment.file = FileState::Closed;
        segment.index = None;
        self.cold.warm.remove(at);
        if let Some(file) = file {
            self.ask(Step::Tidy, DiskOp::Close { file }, out);
        }
        true
    }
}

fn fail(cold: &Cold, error: ReadError, out: &mut LogOut) {
    out.events.push(match cold.goal {
        // Whoever comes to need it reads again, and is told.
        Goal::Ahead => return,
        Goal::Batches(_) => LogEvent::Read { ticket: cold.ticket, result: Err(error) },
        Goal::Timestamp { .. } | Goal::MaxTimestamp { .. } => {
            LogEvent::Found { ticket: cold.ticket, result: Err(error) }
        }
    });
}

fn io(error: &DiskError) -> ReadError {
    ReadError::Io { message: error.message.clone() }
}

fn corrupt(dir: &std::path::Path, segment: Offset, what: &str) -> ReadError {
    ReadError::Io { message: format!("{} {what}", FileName::Segment(segment).path(dir).display()) }
}

/// One run of bytes; copied only when a batch larger than one disk read is among them.
fn join(mut slices: Vec<Bytes>) -> Bytes {
    if slices.len() == 1
        && let Some(only) = slices.pop()
    {
        return only;
    }
    let mut whole = BytesMut::with_capacity(slices.iter().map(Bytes::len).sum());
    for slice in &slices {
        whole.extend_from_slice(slice);
    }
    whole.freeze()
}
