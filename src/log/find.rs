//! Finding records by their timestamps (Kafka's ListOffsets by time, and the offset of the largest timestamp).
//!
//! The time index says before which batch every timestamp is too small; from there batches are walked by their
//! headers, and the first whose largest timestamp fits is looked into, through its compression.
//!
//! *Owns*: this search. *Never*: assumes that timestamps ascend. *Runs on*: the core that owns the partition.

use bytes::Bytes;

use crate::base::ids::Offset;
use crate::base::time::Now;
use crate::wire::batch::BatchHeader;
use crate::wire::records::BatchRecords;

use super::cold::{Cold, Goal, Placed, Progress};
use super::log::{Find, FoundOffset, Log, LogOut, ReadError};
use super::segment::{Walk, Walked, next_offset};

impl Log {
    /// The first record below `until` whose timestamp is `timestamp_ms` or later.
    pub fn find_timestamp(
        &mut self,
        timestamp_ms: i64,
        until: Offset,
        now: Now,
        out: &mut LogOut,
    ) -> Result<Find, ReadError> {
        let from = self.start();
        self.start_find(until, now, out, |until| Goal::Timestamp { timestamp_ms, from, until })
    }

    /// The first record below `until` that has the largest timestamp of all in the segments; as in Kafka (UnifiedLog)
    /// it may lie below the log's start.
    pub fn max_timestamp(&mut self, until: Offset, now: Now, out: &mut LogOut) -> Result<Find, ReadError> {
        self.start_find(until, now, out, |until| Goal::MaxTimestamp { until, seen: i64::MIN })
    }

    fn start_find(
        &mut self,
        until: Offset,
        now: Now,
        out: &mut LogOut,
        goal: impl FnOnce(Offset) -> Goal,
    ) -> Result<Find, ReadError> {
        self.readable()?;
        let until = until.min(self.safe_end());
        match self.segments.front() {
            Some(first) if first.base < until => {
                let cold = Cold::new(goal(until), first.base);
                let ticket = self.start_cold(cold, out);
                self.pump(now, out);
                Ok(Find::Later(ticket))
            }
            Some(_) | None => Ok(Find::Ready(None)),
        }
    }

    /// The first segment that holds such a timestamp, and where in it to begin.
    pub(super) fn place_timestamp(
        &mut self,
        cold: &mut Cold,
        timestamp_ms: i64,
        until: Offset,
        out: &mut LogOut,
    ) -> Placed {
        for at in self.segment_of(cold.segment)..self.segments.len() {
            let segment = &self.segments[at];
            if segment.base >= until {
                break;
            }
            if segment.max_timestamp.is_some_and(|max| max < timestamp_ms) {
                continue;
            }
            cold.segment = segment.base;
            if !self.has_index(at, out) {
                return Placed::Waiting;
            }
            let segment = &self.segments[at];
            if segment.max_timestamp.is_some_and(|max| max < timestamp_ms) {
                continue;
            }
            let index = segment.index.as_ref().expect("just seen");
            let floor = index.floor_of_timestamp(timestamp_ms);
            if floor.offset >= until {
                break;
            }
            cold.place(segment.base, floor.position, floor.offset);
            return Placed::Yes;
        }
        Placed::Found(None)
    }

    /// Where the batches end that an index knows; from there on the walk gathers the largest timestamp.
    pub(super) fn place_max_timestamp(&mut self, cold: &mut Cold, until: Offset, out: &mut LogOut) -> Placed {
        let last = self.segment_of(Offset(until.0 - 1));
        for at in 0..last {
            if self.segments[at].max_timestamp.is_none() {
                cold.segment = self.segments[at].base;
                if !self.has_index(at, out) {
                    return Placed::Waiting;
                }
            }
        }
        cold.segment = self.segments[last].base;
        if !self.has_index(last, out) {
            return Placed::Waiting;
        }
        let segment = &self.segments[last];
        let floor = segment.index.as_ref().expect("just seen").floor(Offset(until.0 - 1));
        cold.place(segment.base, floor.position, floor.offset);
        Placed::Yes
    }

    pub(super) fn look_for_timestamp(
        &self,
        cold: &Cold,
        timestamp_ms: i64,
        (from, until): (Offset, Offset),
        chunk: &Bytes,
    ) -> Progress {
        let mut walk = Walk::new(chunk, cold.expect);
        loop {
            if walk.expect() >= until {
                return Progress::Found(None);
            }
            match walk.peek() {
                Walked::Batch { header, start, end } => {
                    if header.max_timestamp >= timestamp_ms && next_offset(&header) <= until {
                        let batch = chunk.slice(start..end);
                        if let Some(found) = first_at_or_after(&batch, &header, timestamp_ms, from) {
                            return Progress::Found(Some(found));
                        }
                    }
                    walk.pass(&header, end);
                }
                Walked::Incomplete { .. } if self.ends_at(cold, walk.at()) => {
                    return match self.segments.get(self.segment_of(cold.segment) + 1) {
                        Some(next) => Progress::NextSegment(next.base),
                        None => Progress::Found(None),
                    };
                }
                Walked::Incomplete { need, .. } => {
                    return Progress::ReadOn { start: walk.at(), need, next: walk.expect() };
                }
                Walked::Corrupt => return Progress::Corrupt,
            }
        }
    }

    /// Gathers the largest timestamp up to `until`; then the first record that has it is looked for.
    pub(super) fn look_for_max_timestamp(&self, cold: &mut Cold, until: Offset, seen: i64, chunk: &Bytes) -> Progress {
        let at = self.segment_of(cold.segment);
        let before = self.segments.iter().take(at).filter_map(|segment| segment.max_timestamp);
        let floor = self.segments[at].index.as_ref().map(|index| index.floor(cold.expect).max_timestamp_before);
        let mut max = before.chain(floor).max().unwrap_or(i64::MIN).max(seen);
        let mut walk = Walk::new(chunk, cold.expect);
        loop {
            if walk.expect() >= until {
                return Progress::Instead(Goal::Timestamp { timestamp_ms: max, from: Offset(0), until });
            }
            match walk.peek() {
                Walked::Batch { header, end, .. } => {
                    max = max.max(header.max_timestamp);
                    walk.pass(&header, end);
                }
                Walked::Incomplete { need, .. } => {
                    cold.goal = Goal::MaxTimestamp { until, seen: max };
                    return Progress::ReadOn { start: walk.at(), need, next: walk.expect() };
                }
                Walked::Corrupt => return Progress::Corrupt,
            }
        }
    }

    /// Whether the segment's batches end at `at` of what was read.
    pub(super) fn ends_at(&self, cold: &Cold, at: usize) -> bool {
        let len = self.segments[self.segment_of(cold.segment)].len;
        cold.position.is_some_and(|position| position + at as u64 == len)
    }
}

/// The first record of the batch from `from` on that fits, if its header told the truth. A producer may have sent
/// records that cannot be decompressed; the batch's first offset then stands for them, so that the search does not end
/// there.
fn first_at_or_after(batch: &Bytes, header: &BatchHeader, timestamp_ms: i64, from: Offset) -> Option<FoundOffset> {
    let found = |offset, timestamp_ms| FoundOffset { offset, timestamp_ms, leader_epoch: header.epoch() };
    let unreadable = found(header.first_offset(), header.max_timestamp);
    let Ok(records) = BatchRecords::open(batch) else { return Some(unreadable) };
    for record in &records {
        match record {
            Ok(record) if record.timestamp >= timestamp_ms && record.offset >= from => {
                return Some(found(record.offset, record.timestamp));
            }
            Ok(_) => {}
            Err(_) => return Some(unreadable),
        }
    }
    None
}
