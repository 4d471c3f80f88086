//! The sparse index of one segment: for every so many bytes, an offset, its position, and the largest timestamp
//! before it.
//!
//! *Owns*: its entries and the form of the `.index` file. *Never*: is needed for correctness; a missing one is
//! rebuilt from the batches. *Runs on*: the core that owns the partition.

use bytes::Bytes;

use crate::base::fields::Fields;
use crate::base::ids::Offset;

use super::file::{FileWriter, Kind, open_file};

/// Entries of one index. At the bound every second one is dropped and the interval doubles: an index never takes
/// more than 128 KiB, and a look-up in a 1 GiB segment walks 128 KiB of headers at most.
const ENTRIES_MAX: usize = 8192;

const ENTRY_BYTES: usize = 16;

const KIND: Kind = *b"CLI1";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    /// The first offset of the batch, relative to the segment's.
    offset_delta: u32,
    position: u32,
    /// The largest timestamp of the batches before. Invariant: never falls from one entry to the next.
    max_timestamp_before: i64,
}

/// Where to start walking batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Floor {
    pub(super) offset: Offset,
    pub(super) position: u64,
    /// The largest timestamp of the segment's batches before, `i64::MIN` when there are none.
    pub(super) max_timestamp_before: i64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Index {
    base: Offset,
    interval_bytes: u32,
    /// Invariant: offsets and positions strictly ascend; the segment's start is not an entry.
    entries: Vec<Entry>,
}

/// What the `.index` file of a sealed segment says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SealedIndex {
    pub(super) index: Index,
    pub(super) len: u64,
    pub(super) max_timestamp: i64,
}

impl Index {
    pub(super) fn new(base: Offset, interval_bytes: u32) -> Index {
        Index { base, interval_bytes: interval_bytes.max(1), entries: Vec::new() }
    }

    /// The next batch of the segment begins at `position`; `max_timestamp` is that of all batches before it.
    pub(super) fn on_batch(&mut self, offset: Offset, position: u64, max_timestamp: i64) {
        let last = self.entries.last().map_or(0, |entry| u64::from(entry.position));
        debug_assert!(position == 0 || position > last);
        if position < last + u64::from(self.interval_bytes) {
            return;
        }
        // Segments are kept below 2^32 bytes and offsets by their roll, so a delta that does not fit is skipped.
        let (Ok(offset_delta), Ok(position)) = (u32::try_from(offset.0 - self.base.0), u32::try_from(position)) else {
            return;
        };
        self.entries.push(Entry { offset_delta, position, max_timestamp_before: max_timestamp });
        if self.entries.len() == ENTRIES_MAX {
            let mut at = 0;
            self.entries.retain(|_| {
                at += 1;
                at % 2 == 0
            });
            // Batches may lie further apart than the interval asks for.
            self.interval_bytes = (position / (ENTRIES_MAX as u32 / 2)).max(self.interval_bytes.saturating_mul(2));
        }
    }

    /// Forgets the entries at `position` and beyond.
    pub(super) fn cut(&mut self, position: u64) {
        let kept = self.entries.partition_point(|entry| u64::from(entry.position) < position);
        self.entries.truncate(kept);
    }

    /// The last known batch that begins at or before `offset`.
    pub(super) fn floor(&self, offset: Offset) -> Floor {
        let above = self.entries.partition_point(|entry| self.base.0 + i64::from(entry.offset_delta) <= offset.0);
        self.at(above)
    }

    /// The last known batch before which every timestamp is below `timestamp_ms`.
    pub(super) fn floor_of_timestamp(&self, timestamp_ms: i64) -> Floor {
        let above = self.entries.partition_point(|entry| entry.max_timestamp_before < timestamp_ms);
        self.at(above)
    }

    fn at(&self, above: usize) -> Floor {
        match above.checked_sub(1) {
            None => Floor { offset: self.base, position: 0, max_timestamp_before: i64::MIN },
            Some(at) => {
                let entry = self.entries[at];
                Floor {
                    offset: Offset(self.base.0 + i64::from(entry.offset_delta)),
                    position: u64::from(entry.position),
                    max_timestamp_before: entry.max_timestamp_before,
                }
            }
        }
    }

    /// Every entry: an offset, and where its batch begins.
    pub(super) fn places(&self) -> impl Iterator<Item = (Offset, u64)> {
        let place = |entry: &Entry| (Offset(self.base.0 + i64::from(entry.offset_delta)), u64::from(entry.position));
        self.entries.iter().map(place)
    }

    pub(super) fn base(&self) -> Offset {
        self.base
    }

    pub(super) fn interval_bytes(&self) -> u32 {
        self.interval_bytes
    }

    pub(super) fn encode(&self, to: &mut FileWriter) {
        to.put_i64(self.base.0);
        to.put_u32(self.interval_bytes);
        to.put_count(self.entries.len());
        for entry in &self.entries {
            to.put_u32(entry.offset_delta);
            to.put_u32(entry.position);
            to.put_i64(entry.max_timestamp_before);
        }
    }

    pub(super) fn decode(from: &mut Fields<'_>) -> Option<Index> {
        let base = Offset(from.i64()?);
        if base < Offset(0) || base.0 > i64::MAX - i64::from(u32::MAX) {
            return None;
        }
        let interval_bytes = from.u32()?;
        let count = from.count(ENTRY_BYTES)?;
        if count >= ENTRIES_MAX || interval_bytes == 0 {
            return None;
        }
        let mut entries: Vec<Entry> = Vec::with_capacity(count);
        for _ in 0..count {
            let entry = Entry { offset_delta: from.u32()?, position: from.u32()?, max_timestamp_before: from.i64()? };
            let ascends = entries.last().is_none_or(|last| {
                last.offset_delta < entry.offset_delta
                    && last.position < entry.position
                    && last.max_timestamp_before <= entry.max_timestamp_before
            });
            if !ascends {
                return None;
            }
            entries.push(entry);
        }
        Some(Index { base, interval_bytes, entries })
    }
}

impl SealedIndex {
    pub(super) fn to_file(&self) -> Bytes {
        let mut file = FileWriter::new(KIND);
        self.index.encode(&mut file);
        file.put_u64(self.len);
        file.put_i64(self.max_timestamp);
        file.finish()
    }

    /// `None` when the bytes are not the index of the segment that begins at `base`.
    pub(super) fn from_file(bytes: &[u8], base: Offset) -> Option<SealedIndex> {
        let mut file = open_file(KIND, bytes)?;
        let sealed = SealedIndex { index: Index::decode(&mut file)?, len: file.u64()?, max_timestamp: file.i64()? };
        file.end()?;
        (sealed.index.base == base).then_some(sealed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Batches of 10 offsets and 100 bytes, timestamps as given; entries every `interval` bytes.
    fn index(interval: u32, timestamps: &[i64]) -> Index {
        let mut index = Index::new(Offset(1000), interval);
        let mut max = i64::MIN;
        for (i, timestamp) in timestamps.iter().enumerate() {
            index.on_batch(Offset(1000 + 10 * i as i64), 100 * i as u64, max);
            max = max.max(*timestamp);
        }
        index
    }

    #[test]
    fn the_floor_is_the_last_entry_at_or_before() {
        let index = index(200, &[5, 9, 7, 8, 20, 1]);
        let check = |offset: i64, expect: (i64, u64)| {
            let floor = index.floor(Offset(offset));
            assert_eq!((floor.offset.0, floor.position), expect, "offset {offset}");
        };
        check(1000, (1000, 0));
        check(1019, (1000, 0));
        check(1020, (1020, 200));
        check(1039, (1020, 200));
        check(1040, (1040, 400));
        check(9999, (1040, 400));
        let check = |timestamp: i64, position: u64| {
            assert_eq!(index.floor_of_timestamp(timestamp).position, position, "timestamp {timestamp}");
        };
        check(5, 0);
        check(9, 0);
        check(10, 400);
        check(21, 400);
    }

    #[test]
    fn a_full_index_halves_itself_and_still_finds_everything() {
        let batches = 30_000;
        let index = index(1, &vec![1; batches]);
        assert!(index.entries.len() < ENTRIES_MAX);
        assert!(index.interval_bytes() > 1);
        for i in (0..batches as i64).step_by(97) {
            let floor = index.floor(Offset(1000 + 10 * i));
            assert!(floor.offset.0 <= 1000 + 10 * i);
            assert_eq!((floor.offset.0 - 1000) * 10, floor.position as i64);
            assert!(100 * i - (floor.position as i64) < 2000);
        }
    }

    #[test]
    fn a_file_reads_back_and_a_foreign_base_does_not() {
        let sealed = SealedIndex { index: index(100, &[3, 2, 9]), len: 300, max_timestamp: 9 };
        let bytes = sealed.to_file();
        assert_eq!(SealedIndex::from_file(&bytes, Offset(1000)), Some(sealed));
        assert_eq!(SealedIndex::from_file(&bytes, Offset(1001)), None);
        assert_eq!(SealedIndex::from_file(b"", Offset(1000)), None);
    }

    #[test]
    fn a_cut_forgets_entries_from_there_on() {
        let mut index = index(100, &[1, 2, 3, 4]);
        index.cut(200);
        assert_eq!(index.floor(Offset(9999)).position, 100);
        index.on_batch(Offset(1020), 200, 2);
        assert_eq!(index.floor(Offset(9999)).position, 200);
    }
}
