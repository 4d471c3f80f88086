//! Reading batches: from the tail cache at once, else from what a disk read brought too much of, else from disk.
//!
//! *Owns*: which batches a read returns: whole ones, from the one that holds the offset asked for, below the bound
//! given. *Never*: copies record bytes that are cached; the slices are the memory that was received and written.
//! *Runs on*: the core that owns the partition.

use bytes::Bytes;

use crate::base::bug::{self, Bug};
use crate::base::ids::Offset;
use crate::base::limits::DISK_READ_BYTES_MAX;

use super::cache::{Chunk, ReadBy, TailCache};
use super::cold::{Cold, Goal, Progress};
use super::log::{Log, LogOut, LogSlices, Read, ReadError};
use super::segment::{Walk, Walked, next_offset};

/// What a reader asks for: whole batches from the one that holds `from`, none of which reaches `until`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadWish {
    pub from: Offset,
    /// Exclusive. What is not safe is not read, whatever this says.
    pub until: Offset,
    /// Of all batches together.
    pub bytes_max: usize,
    /// The first batch comes however large it is.
    pub at_least_one: bool,
    pub by: ReadBy,
}

/// A read for batches.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    /// What was asked for.
    asked: Offset,
    /// The same, or an offset behind batches without records.
    from: Offset,
    /// Batches without records, which compaction leaves, are passed over as long as others follow: some consumers take
    /// a reply with nothing else for one that was too small. Other replicas are to have them.
    skips_empty: bool,
    pub(super) until: Offset,
    pub(super) bytes_max: usize,
    pub(super) at_least_one: bool,
}

impl Wanted {
    fn of(wish: ReadWish) -> Wanted {
        let ReadWish { from, until, bytes_max, at_least_one, by } = wish;
        let skips_empty = by == ReadBy::Consumer;
        Wanted { asked: from, from, skips_empty, until, bytes_max, at_least_one }
    }

    /// Where to look.
    pub(super) fn from(&self) -> Offset {
        self.from
    }
}

impl Log {
    /// May return less than there is: up to the end of a segment or of what one disk read brings. Empty when
    /// `wish.from` is the end.
    pub fn read(&mut self, wish: ReadWish, cache: &mut TailCache, out: &mut LogOut) -> Result<Read, ReadError> {
        self.readable()?;
        let ReadWish { from, until, bytes_max, at_least_one, by } = wish;
        let start = match by {
            ReadBy::Consumer => self.start(),
            ReadBy::Replica => self.start_for_replicas(),
        };
        if from < start || from > self.end {
            return Err(ReadError::OutOfRange);
        }
        let until = if bug::on(Bug::ShowUnsafe) { until } else { until.min(self.safe_end()) };
        if from >= until || (bytes_max == 0 && !at_least_one) {
            return Ok(Read::Ready(LogSlices { slices: Vec::new(), bytes: 0, next: from }));
        }
        let key = cache.key(&mut self.tail);
        if let Some(found) = cache.read(key, by, from, until, bytes_max, at_least_one) {
            return Ok(Read::Ready(found));
        }
        if let Some(found) = self.writer.read(from, until, bytes_max, at_least_one) {
            return Ok(Read::Ready(found));
        }
        let wanted = Wanted::of(ReadWish { until: until.min(self.writer.safe().next), ..wish });
        if let Some(ticket) = self.take_over_ahead(wanted) {
            return Ok(Read::Later(ticket));
        }
        let mut cold = Cold::new(Goal::Batches(wanted), self.segments[self.segment_of(from)].base);
        if let Some(chunk) = cache.take_chunk(key, from) {
            let mut walk = Walk::new(&chunk.bytes, from);
            if skip_to(&mut walk, wanted)
                && let start = walk.at()
                && let Gathered::Batches { end, bytes, next } = gather(&mut walk, wanted)
            {
                let slices = vec![chunk.bytes.slice(start..end)];
                self.keep_rest(chunk, end, next, true, cache, out);
                return Ok(Read::Ready(LogSlices { slices, bytes, next }));
            }
            // It says where in the file to go on, which is how a sequential reader is known.
            cold.go_on_at(Some(chunk));
        }
        Ok(Read::Later(self.start_cold(cold, out)))
    }

    /// Takes batches out of what a disk read brought.
    pub(super) fn take_batches(
        &mut self,
        cold: &Cold,
        wanted: Wanted,
        chunk: Bytes,
        cache: &mut TailCache,
        out: &mut LogOut,
    ) -> Progress {
        let mut walk = Walk::new(&chunk, cold.expect);
        if !skip_to(&mut walk, wanted) {
            return self.read_on(cold, wanted, &walk);
        }
        let start = walk.at();
        match gather(&mut walk, wanted) {
            Gathered::Batches { end, bytes, next } => {
                let slices = vec![chunk.slice(start..end)];
                let position = cold.position.expect("it was read at a position");
                let chunk = Chunk {
                    next: wanted.from,
                    segment: cold.segment,
                    position,
                    pinned_bytes: chunk.len(),
                    bytes: chunk,
                };
                self.keep_rest(chunk, end, next, cold.is_sequential(), cache, out);
                Progress::Read(LogSlices { slices, bytes, next })
            }
            Gathered::Nothing if wanted.skips_empty && walk.expect() > wanted.asked => with_empty(wanted),
            Gathered::Nothing => Progress::Read(LogSlices { slices: Vec::new(), bytes: 0, next: wanted.asked }),
            Gathered::Incomplete { need } => Progress::ReadOn { start, need, next: walk.expect() },
            Gathered::Corrupt => Progress::Corrupt,
        }
    }

    /// What was read ends before the batch that is wanted.
    fn read_on(&self, cold: &Cold, wanted: Wanted, walk: &Walk) -> Progress {
        match walk.peek() {
            Walked::Incomplete { .. } if wanted.skips_empty && self.ends_at(cold, walk.at()) => {
                let next = self.segments.get(self.segment_of(cold.segment) + 1);
                match next.filter(|next| next.base < wanted.until) {
                    Some(next) => Progress::Instead(Goal::Batches(Wanted { from: next.base, ..wanted })),
                    None => with_empty(wanted),
                }
            }
            Walked::Incomplete { need, .. } => Progress::ReadOn { start: walk.at(), need, next: walk.expect() },
            Walked::Batch { .. } | Walked::Corrupt => Progress::Corrupt,
        }
    }

    /// Remembers what lies behind the first `end` bytes, and where, for the read that comes next. Where that is less
    /// than a batch, and reads follow on each other, the disk is asked for more.
    fn keep_rest(
        &mut self,
        chunk: Chunk,
        end: usize,
        next: Offset,
        sequential: bool,
        cache: &mut TailCache,
        out: &mut LogOut,
    ) {
        let rest = chunk.bytes.slice(end..);
        let (whole, small) = match Walk::new(&rest, next).peek() {
            Walked::Batch { .. } => (true, true),
            Walked::Incomplete { need, .. } => (false, need <= DISK_READ_BYTES_MAX / 2),
            Walked::Corrupt => (false, false),
        };
        let (bytes, pinned_bytes) = if whole { (rest, chunk.pinned_bytes) } else { (Bytes::new(), 0) };
        let mut place =
            Chunk { next, segment: chunk.segment, position: chunk.position + end as u64, bytes, pinned_bytes };
        let at = self.segment_of(place.segment);
        if place.position >= self.segments[at].len {
            match self.segments.get(at + 1) {
                Some(segment) if segment.base == next => (place.segment, place.position) = (next, 0),
                Some(_) | None => return,
            }
        }
        let key = cache.key(&mut self.tail);
        let cached = cache.holds(key, next);
        if sequential && !whole && small && !cached && cache.has_room_for_chunk(DISK_READ_BYTES_MAX) {
            self.start_ahead(place, out);
        } else {
            cache.keep_chunk(key, place);
        }
    }

    /// Keeps what was read ahead until its reader comes.
    pub(super) fn keep_ahead(&mut self, cold: &Cold, bytes: Bytes, cache: &mut TailCache) {
        let position = cold.position.expect("it was read at a position");
        let pinned_bytes = bytes.len();
        let key = cache.key(&mut self.tail);
        cache.keep_chunk(key, Chunk { next: cold.expect, segment: cold.segment, position, bytes, pinned_bytes });
    }
}

/// Only batches without records are left: a consumer must get past them too.
fn with_empty(wanted: Wanted) -> Progress {
    Progress::Instead(Goal::Batches(Wanted { from: wanted.asked, skips_empty: false, ..wanted }))
}

/// Walks to the batch that is wanted first, whose header is enough to know it. False when it does not get there.
fn skip_to(walk: &mut Walk, wanted: Wanted) -> bool {
    loop {
        match walk.peek() {
            Walked::Batch { header, .. } | Walked::Incomplete { header: Some(header), .. }
                if next_offset(&header) > wanted.from && !(wanted.skips_empty && header.records_count == 0) =>
            {
                return true;
            }
            Walked::Batch { header, end, .. } => walk.pass(&header, end),
            Walked::Incomplete { .. } | Walked::Corrupt => return false,
        }
    }
}

enum Gathered {
    /// `bytes` of them, up to `end` in what was walked.
    Batches {
        end: usize,
        bytes: usize,
        next: Offset,
    },
    /// The first batch is too large, or not below the bound.
    Nothing,
    /// The first batch is wanted and not all there.
    Incomplete {
        need: usize,
    },
    Corrupt,
}

/// As many whole batches as are wanted, from where `walk` stands.
fn gather(walk: &mut Walk, wanted: Wanted) -> Gathered {
    let first = walk.at();
    loop {
        let bytes = walk.at() - first;
        let end = match walk.peek() {
            Walked::Batch { header, start, end } => {
                let fits = end - first <= wanted.bytes_max || (wanted.at_least_one && start == first);
                let is_below = next_offset(&header) <= wanted.until;
                if fits && is_below {
                    walk.pass(&header, end);
                    continue;
                }
                // After a restart the bound may lie within a batch. One that is damaged may say anything of its offsets.
                if start > first || is_below || walk.is_intact() { Gathered::Nothing } else { Gathered::Corrupt }
            }
            Walked::Incomplete { need, .. } => {
                let fits = need <= wanted.bytes_max || wanted.at_least_one;
                if fits { Gathered::Incomplete { need } } else { Gathered::Nothing }
            }
            Walked::Corrupt => Gathered::Corrupt,
        };
        return if bytes == 0 { end } else { Gathered::Batches { end: walk.at(), bytes, next: walk.expect() } };
    }
}
