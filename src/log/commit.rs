//! The log's half of the commit journal: what it hands over, and what it takes back into its segment.
//!
//! Little pending goes to the journal at once and stays in memory; its segment gets it later, in large writes. Much
//! pending goes to the segment directly and is synced there. Both mean the same: everything up to here is safe.
//!
//! *Owns*: how far the journal has the log, and how far the segments are durable without it. *Never*: hands a batch
//! over before its space in the segment is reserved; has a batch on both ways at a time. *Runs on*: the core that owns
//! the partition.

use bytes::Bytes;

use crate::base::bounds::Reach;
use crate::base::disk::BLOCK_BYTES;
use crate::base::ids::{LeaderEpoch, Offset};
use crate::base::time::{Instant, Now};
use crate::config::Durability;

use super::log::{Life, Log, LogEvent, LogOut, LogSlices, WriteTimes};
use super::write::Writer;

/// So much that the journal has is written to its segment in one piece; each log has a number of its own between half
/// of it and all, or those that grow alike would hold up the core all at once.
const WRITE_BACK_BYTES: u64 = 256 << 10;

/// In space that was written before, a sync costs the device's flush and nothing else: there so many times less is
/// worth one (figures: tuning.md).
const WRITTEN_SPACE_PART: u64 = 2;

/// After a failed write, what the journal has waits this long.
const RETRY_MS: u64 = 1000;

/// Batches in one piece of a segment, for the journal to make safe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToJournal {
    /// First offset of the segment.
    pub segment: Offset,
    pub position: u64,
    /// How often the log had been truncated.
    pub truncations: u32,
    /// Of the last batch.
    pub epoch: LeaderEpoch,
    pub base: Offset,
    pub next: Offset,
    pub slices: Vec<Bytes>,
    pub len: usize,
}

/// Where pending batches go next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Journal,
    /// Those below `until`, to the segment.
    Segment {
        until: Offset,
    },
    /// Nowhere for now.
    Rest,
}

/// How far a log is in the journal. Of what is pending, the first batches are committed, then come those that were
/// handed over, then the others.
#[derive(Debug)]
pub(super) struct Commits {
    /// Everything below was handed over, or went to the segment directly before.
    pub(super) handed: Offset,
    /// Everything below that was handed over is safe.
    pub(super) committed: Offset,
    /// The segments are durable up to here.
    pub(super) synced: Offset,
    /// What was told of that.
    flushed: Offset,
    /// Pending bytes, without those being written, below `committed`.
    pub(super) committed_bytes: u64,
    /// Pending bytes from `committed` to `handed`.
    handed_bytes: u64,
    /// The journal wants the space of what lies below.
    pub(super) flush_to: Option<Offset>,
    /// Somebody waits for what lies below to be in its segment.
    pub(super) write_out: Offset,
    /// The journal had no space for what lies below: the segment is to have it.
    pub(super) direct_until: Offset,
    /// A write of what the journal has failed; not again before this.
    pub(super) retry_due: Option<Instant>,
}

/// How much the log with this number lets gather.
pub(super) fn write_back_bytes(owner: u32) -> u64 {
    WRITE_BACK_BYTES / 2 + spread(owner, WRITE_BACK_BYTES / 2)
}

/// A number below `range` for the log with this number; those of neighbours lie far apart (Fibonacci hashing).
pub(super) fn spread(owner: u32, range: u64) -> u64 {
    let part = u128::from(owner.wrapping_mul(0x9e37_79b9));
    ((u128::from(range) * part) >> 32) as u64
}

impl Commits {
    pub(super) fn recovered(end: Offset) -> Commits {
        Commits {
            handed: end,
            committed: end,
            synced: end,
            flushed: end,
            committed_bytes: 0,
            handed_bytes: 0,
            flush_to: None,
            write_out: Offset(0),
            direct_until: Offset(0),
            retry_due: None,
        }
    }
}

impl Writer {
    /// What a failed write of the segment does not take back: safe, or with the journal.
    pub(super) fn kept_end(&self) -> Offset {
        self.safe_end().max(self.commits.handed)
    }

    /// The journal has not answered yet.
    pub(super) fn is_handing_over(&self) -> bool {
        self.commits.handed_bytes > 0
    }

    /// Pending bytes that went nowhere yet.
    fn fresh_bytes(&self) -> u64 {
        self.pending_bytes() - self.commits.committed_bytes - self.commits.handed_bytes
    }

    /// Pending bytes that a write up to `until`, as [`Way::Segment`] has it, takes.
    pub(super) fn bytes_until(&self, until: Offset) -> u64 {
        if until > self.commits.committed { self.pending_bytes() } else { self.commits.committed_bytes }
    }

    /// Counts what is pending anew, after some of it was forgotten.
    pub(super) fn recount(&mut self) {
        let sum = |from: Offset, to: Offset| {
            let within = self.pending.iter().filter(|batch| batch.next > from && batch.next <= to);
            within.map(|batch| batch.len as u64).sum()
        };
        let committed_bytes = sum(Offset(-1), self.commits.committed);
        let handed_bytes = sum(self.commits.committed, self.commits.handed);
        self.commits.committed_bytes = committed_bytes;
        self.commits.handed_bytes = handed_bytes;
    }

    /// Whole batches from the one that holds `from`, as [`super::cache::TailCache::read`] gives them. `None` when that
    /// one is in its segment.
    pub(super) fn read(&self, from: Offset, until: Offset, bytes_max: usize, at_least_one: bool) -> Option<LogSlices> {
        if self.pending.front().is_none_or(|first| from < first.base) {
            return None;
        }
        let first = self.pending.partition_point(|batch| batch.next <= from);
        let mut found = LogSlices { slices: Vec::new(), bytes: 0, next: from };
        for batch in self.pending.range(first..) {
            let fits = found.bytes + batch.len <= bytes_max || (at_least_one && found.bytes == 0);
            if batch.next > until || !fits {
                break;
            }
            found.slices.extend(batch.slices.iter().filter(|slice| !slice.is_empty()).cloned());
            found.bytes += batch.len;
            found.next = batch.next;
        }
        Some(found)
    }
}

impl Log {
    /// The journal has everything up to `next` of what was handed over.
    pub fn on_committed(&mut self, next: Offset, times: WriteTimes, now: Now, out: &mut LogOut) {
        let lives = self.may_write();
        if !lives || !self.writer.is_handing_over() {
            return;
        }
        let commits = &mut self.writer.commits;
        assert!(next == commits.handed, "one piece is with the journal at a time");
        commits.committed = next;
        commits.committed_bytes += std::mem::take(&mut commits.handed_bytes);
        self.tell_safe(times, out);
        self.pump(now, out);
        self.leave(now, out);
    }

    /// The journal has no space for what was handed over last: that goes to the segment.
    pub fn on_handed_back(&mut self, now: Now, out: &mut LogOut) {
        let lives = self.may_write();
        if !lives || !self.writer.is_handing_over() {
            return;
        }
        let commits = &mut self.writer.commits;
        commits.direct_until = std::mem::replace(&mut commits.handed, commits.committed);
        commits.handed_bytes = 0;
        self.pump(now, out);
        self.leave(now, out);
    }

    /// The journal needs its space back: everything that is safe now goes to its segment and is synced there; then
    /// [`LogEvent::Flushed`].
    pub fn flush(&mut self, now: Now, out: &mut LogOut) {
        let safe_end = self.writer.safe_end();
        self.writer.commits.flush_to = Some(safe_end);
        self.tell_flushed(out);
        self.pump(now, out);
    }

    /// Whether what lies below `until` is in segments; if not, it will be. After writing has ended for good, what is
    /// not there is not looked for.
    pub(super) fn is_written_out(&mut self, until: Offset) -> bool {
        let commits = &mut self.writer.commits;
        commits.write_out = commits.write_out.max(until);
        self.writer.safe().next >= until || self.offline.is_some()
    }

    /// With so many bytes pending the segment is written directly from now on.
    pub fn set_direct_bytes(&mut self, bytes: u64) {
        self.settings.journal_direct_bytes = bytes;
    }

    /// Where pending batches go next, while no operation of the segment is in flight.
    pub(super) fn way(&self) -> Way {
        let (writer, commits) = (&self.writer, &self.writer.commits);
        let direct = self.settings.durability == Durability::Write
            || !matches!(self.life, Life::Open)
            || commits.direct_until > writer.safe_end();
        let fresh = writer.fresh_bytes();
        if fresh > 0 && !writer.is_handing_over() {
            // Of a batch larger than one write, what is left may be little.
            let begun = !writer.is_between_batches();
            if direct || begun || fresh >= self.direct_bytes() || self.fresh_rolls() {
                return Way::Segment { until: Offset(i64::MAX) };
            }
            return Way::Journal;
        }
        let wanted = direct
            || commits.flush_to.is_some()
            || commits.write_out > writer.safe().next
            || commits.committed_bytes >= self.write_back_bytes;
        if wanted && commits.retry_due.is_none() && commits.committed_bytes > 0 {
            return Way::Segment { until: commits.committed };
        }
        Way::Rest
    }

    /// With so many bytes pending that went nowhere yet, the segment is written directly.
    fn direct_bytes(&self) -> u64 {
        let bytes = self.settings.journal_direct_bytes;
        if self.writer.is_written_before(self.writer.size_bytes()) { bytes / WRITTEN_SPACE_PART } else { bytes }
    }

    /// The first batch that went nowhere yet begins a segment.
    fn fresh_rolls(&self) -> bool {
        let (Some(first), Some(active)) = (self.first_fresh(), self.segments.back()) else { return false };
        let position = self.writer.size_bytes() - self.writer.fresh_bytes();
        let settings = &self.settings;
        let batch = &self.writer.pending[first];
        self.writer.must_roll(active.base, settings.segment_bytes, settings.segment_ms, position, batch)
    }

    fn first_fresh(&self) -> Option<usize> {
        let (pending, handed) = (&self.writer.pending, self.writer.commits.handed);
        let first = pending.partition_point(|batch| batch.next <= handed);
        (first < pending.len()).then_some(first)
    }

    /// Hands over what went nowhere yet, up to where a segment begins.
    pub(super) fn hand_over(&mut self, out: &mut LogOut) {
        assert!(!self.writer.is_handing_over());
        let first = self.first_fresh().expect("there is something to hand over");
        let active = self.segments.back().expect("its space was reserved");
        let mut position = self.writer.size_bytes() - self.writer.fresh_bytes();
        let settings = &self.settings;
        let base = self.writer.pending[first].base;
        let mut piece = ToJournal {
            segment: active.base,
            position,
            truncations: self.bounding.held.truncations,
            epoch: self.epochs.latest().expect("a log that holds a batch has an epoch"),
            base,
            next: base,
            slices: Vec::new(),
            len: 0,
        };
        for batch in self.writer.pending.range(first..) {
            if self.writer.must_roll(active.base, settings.segment_bytes, settings.segment_ms, position, batch) {
                break;
            }
            assert!(batch.taken == 0);
            position += batch.len as u64;
            piece.len += batch.len;
            piece.next = batch.next;
            piece.slices.extend(batch.slices.iter().filter(|slice| !slice.is_empty()).cloned());
        }
        assert!(piece.len > 0 && piece.next > piece.base);
        let first_timestamp = self.writer.pending[first].max_timestamp;
        self.writer.begin_segment_at(first_timestamp);
        let commits = &mut self.writer.commits;
        commits.handed = piece.next;
        commits.handed_bytes = piece.len as u64;
        out.journal.push(piece);
    }

    /// The journal takes what comes while the segment is brought up to date.
    pub(super) fn hand_over_beside(&mut self, out: &mut LogOut) {
        let writer = &self.writer;
        let end = writer.size_bytes().next_multiple_of(BLOCK_BYTES as u64);
        if writer.fresh_bytes() > 0
            && writer.is_writing_back()
            && writer.has_space_to(end)
            && self.way() == Way::Journal
        {
            self.hand_over(out);
        }
    }

    /// Syncs the segment once everything that the journal wants to let go is written.
    pub(super) fn finish_flush(&mut self, out: &mut LogOut) -> bool {
        let commits = &self.writer.commits;
        let Some(to) = commits.flush_to else { return false };
        commits.synced < to && self.writer.safe().next >= to && self.sync(out)
    }

    /// Says how far the segments are durable by themselves.
    pub(super) fn tell_flushed(&mut self, out: &mut LogOut) {
        let active = self.segments.back().map_or(self.end, |active| active.base);
        let upto = self.first_unsynced_seal().unwrap_or(self.writer.commits.synced.max(active));
        let commits = &mut self.writer.commits;
        let is_news = upto > commits.flushed;
        commits.flushed = commits.flushed.max(upto);
        if commits.flush_to.is_some_and(|to| to <= commits.flushed) {
            commits.flush_to = None;
        }
        if is_news {
            self.tell_reach(upto, out);
        }
    }

    pub(super) fn tell_reach(&self, end: Offset, out: &mut LogOut) {
        let truncations = self.bounding.held.truncations;
        out.events.push(LogEvent::Flushed { upto: Reach { truncations, end } });
    }

    /// Says how far the log is safe.
    pub(super) fn tell_safe(&self, times: WriteTimes, out: &mut LogOut) {
        let end = self.writer.safe_end();
        if self.may_tell_safe(end) {
            out.events.push(LogEvent::Safe { end, times });
        }
    }

    /// What the journal has could not be written to its segment.
    pub(super) fn back_off(&mut self, now: Now) {
        let commits = &mut self.writer.commits;
        commits.retry_due = (commits.committed_bytes > 0).then(|| now.mono.after_ms(RETRY_MS));
    }

    /// Tries again, when it is time.
    pub(super) fn retry(&mut self, now: Now) {
        let retry_due = &mut self.writer.commits.retry_due;
        *retry_due = retry_due.filter(|due| *due > now.mono);
    }
}
