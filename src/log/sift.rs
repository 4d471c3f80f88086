//! Sifting a batch: which of its records compaction keeps, and the batch that is left of it.
//!
//! The rules are Kafka's (Cleaner.shouldRetainRecord, MemoryRecords.filterTo; KIP-534 for the time after which a
//! tombstone goes). A batch keeps its offsets and sequences whatever goes from it.
//!
//! *Owns*: these rules. *Never*: takes a batch apart that it cannot read, or that is part of a transaction: whether
//! that was committed is not known here. *Runs on*: the core that owns the partition.

use std::ops::Range;

use bytes::Bytes;

use crate::base::bug::{self, Bug};
use crate::base::checksum::{crc32c, crc32c_of};
use crate::base::ids::{LeaderEpoch, Offset};
use crate::wire::batch::{BatchHeader, CHECKSUM_FROM, HEADER_BYTES, LOG_OVERHEAD_BYTES};
use crate::wire::compression::Compression;
use crate::wire::record::{Header, Record, write_record};
use crate::wire::records::BatchRecords;

use super::keys::{KEYS_AT_A_TIME, KeyHash, Keys};
use super::producer::Producers;

/// Bit of the attributes: the base timestamp is the time after which tombstones go.
const DELETE_HORIZON_BIT: i16 = 0x40;
const COMPRESSION_MASK: i16 = 0x07;

/// What looking at a record costs, in bytes that are copied; and a byte that is compressed, or decompressed.
/// `cargo bench --bench compaction` has what these are made of.
const RECORD_WORK: usize = 400;

fn compress_work(compression: Compression) -> usize {
    match compression {
        Compression::None => 0,
        Compression::Gzip => 120,
        Compression::Snappy | Compression::Lz4 => 8,
        Compression::Zstd => 20,
    }
}

fn decompress_work(compression: Compression) -> usize {
    match compression {
        Compression::None => 0,
        Compression::Gzip => 20,
        Compression::Snappy | Compression::Lz4 | Compression::Zstd => 6,
    }
}

/// What decides on a record.
pub(super) struct Sieve<'a> {
    pub(super) keys: &'a Keys,
    /// The end of what the keys are of: what lies beyond stays.
    pub(super) upto: Offset,
    pub(super) now_ms: i64,
    pub(super) delete_retention_ms: i64,
    pub(super) producers: &'a Producers,
}

/// A batch as it is to be stored.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    pub(super) header: BatchHeader,
    /// What follows on the header.
    pub(super) records: Bytes,
}

#[derive(Debug)]
pub(super) struct Sifted {
    /// `None` when nothing of the batch has to stay.
    pub(super) kept: Option<Kept>,
    /// What it took, in bytes that are copied.
    pub(super) work: usize,
}

/// What becomes of the records of one batch.
#[derive(Debug, Default)]
struct Verdict {
    /// Bytes of those that stay, and how many they are.
    ranges: Vec<Range<usize>>,
    count: i32,
    max_timestamp: i64,
    tombstones: bool,
}

impl Verdict {
    fn keep(&mut self, Candidate { range, timestamp, is_tombstone, .. }: Candidate) {
        self.count += 1;
        self.max_timestamp = self.max_timestamp.max(timestamp);
        self.tombstones |= is_tombstone;
        match self.ranges.last_mut().filter(|last| last.end == range.start) {
            Some(last) => last.end = range.end,
            None => self.ranges.push(range),
        }
    }

    fn bytes(&self) -> usize {
        self.ranges.iter().map(ExactSizeIterator::len).sum()
    }
}

/// A record that is about to be judged.
struct Candidate {
    range: Range<usize>,
    offset: Offset,
    timestamp: i64,
    is_tombstone: bool,
    /// `None` for one without a key.
    hash: Option<KeyHash>,
}

/// Enters the keys of a batch's records from `from` on. What cannot be read has none. Gives what it took, or `None`
/// when there is no room.
pub(super) fn map_keys(batch: &Bytes, header: &BatchHeader, from: Offset, keys: &mut Keys) -> Option<usize> {
    if header.is_control() || header.is_transactional() || header.records_count == 0 {
        return Some(0);
    }
    if usize::try_from(header.records_count).is_ok_and(|count| count > keys.room()) {
        return None;
    }
    let Some(records) = open(batch, header) else { return Some(batch.len()) };
    let mut some = Vec::with_capacity(KEYS_AT_A_TIME);
    for record in records.iter().flatten().filter(|record| record.offset >= from) {
        let Some(key) = record.record.key else { continue };
        some.push((keys.hash(key), record.offset));
        if some.len() == KEYS_AT_A_TIME {
            put_all(&mut some, keys);
        }
    }
    put_all(&mut some, keys);
    Some(read_work(header, batch.len(), &records))
}

fn put_all(some: &mut Vec<(KeyHash, Offset)>, keys: &mut Keys) {
    keys.fetch(some.iter().map(|(hash, _)| *hash));
    for (hash, offset) in some.drain(..) {
        keys.put(hash, offset);
    }
}

/// All records of a batch, or `None` when one of them cannot be read.
fn open(batch: &Bytes, header: &BatchHeader) -> Option<BatchRecords> {
    let records = BatchRecords::open(batch).ok()?;
    let is_whole = header.compression() == Some(Compression::None) || records.iter().all(|record| record.is_ok());
    is_whole.then_some(records)
}

fn read_work(header: &BatchHeader, stored: usize, records: &BatchRecords) -> usize {
    let count = usize::try_from(header.records_count).unwrap_or(0);
    let decompressing = decompress_work(header.compression().unwrap_or_default()) * records.size_bytes();
    stored + RECORD_WORK * count + decompressing
}

impl Sieve<'_> {
    pub(super) fn sift(&self, batch: &Bytes, header: &BatchHeader) -> Sifted {
        let as_it_is = || Some(Kept { header: *header, records: batch.slice(HEADER_BYTES..) });
        if header.is_control() || header.is_transactional() {
            return Sifted { kept: as_it_is(), work: batch.len() };
        }
        if header.records_count == 0 {
            return Sifted { kept: self.empty(header), work: HEADER_BYTES };
        }
        let Some(records) = open(batch, header) else {
            return Sifted { kept: as_it_is(), work: batch.len() };
        };
        let work = read_work(header, batch.len(), &records);
        let Some(verdict) = self.judge(&records) else { return Sifted { kept: as_it_is(), work } };
        if verdict.count == 0 {
            return Sifted { kept: self.empty(header), work };
        }
        let horizon_is_due = verdict.tombstones && header.attributes & DELETE_HORIZON_BIT == 0;
        if verdict.count == header.records_count && !horizon_is_due {
            return Sifted { kept: as_it_is(), work };
        }
        let kept = if horizon_is_due {
            self.with_horizon(header, &records, &verdict)
        } else {
            let parts: Vec<&[u8]> = verdict.ranges.iter().map(|range| &records.bytes()[range.clone()]).collect();
            rebuilt(*header, &verdict, parts.concat())
        };
        let compressing = compress_work(header.compression().unwrap_or_default()) * verdict.bytes();
        Sifted { work: work + verdict.bytes() + compressing, kept: Some(kept) }
    }

    /// `None` when a record cannot be read: then the batch is left alone.
    fn judge(&self, records: &BatchRecords) -> Option<Verdict> {
        let header = records.header();
        let horizon_ms = (header.attributes & DELETE_HORIZON_BIT != 0).then_some(header.base_timestamp);
        let mut verdict = Verdict { max_timestamp: i64::MIN, ..Verdict::default() };
        let whole = records.bytes().len();
        let mut walk = records.iter();
        let mut start = 0;
        let mut some = Vec::with_capacity(KEYS_AT_A_TIME);
        loop {
            while some.len() < KEYS_AT_A_TIME
                && let Some(placed) = walk.next()
            {
                let placed = placed.ok()?;
                let end = whole - walk.left_bytes();
                some.push(Candidate {
                    range: start..end,
                    offset: placed.offset,
                    timestamp: placed.timestamp,
                    is_tombstone: placed.record.value.is_none(),
                    hash: placed.record.key.map(|key| self.keys.hash(key)),
                });
                start = end;
            }
            if some.is_empty() {
                return Some(verdict);
            }
            self.keys.fetch(some.iter().filter_map(|candidate| candidate.hash));
            for candidate in some.drain(..).filter(|candidate| self.keeps(candidate, horizon_ms)) {
                verdict.keep(candidate);
            }
        }
    }

    fn keeps(&self, candidate: &Candidate, horizon_ms: Option<i64>) -> bool {
        if candidate.offset >= self.upto {
            return true;
        }
        let Some(hash) = candidate.hash else { return false };
        let is_latest = self.keys.latest(hash).is_none_or(|latest| candidate.offset >= latest);
        if bug::on(Bug::DropTombstones) && candidate.is_tombstone {
            return false;
        }
        is_latest && (!candidate.is_tombstone || horizon_ms.is_none_or(|horizon_ms| self.now_ms < horizon_ms))
    }

    /// A batch without records stays while it tells the last sequence of its producer.
    fn empty(&self, header: &BatchHeader) -> Option<Kept> {
        if !header.has_producer() || self.producers.last_offset(header.producer_id) != Some(header.last_offset()) {
            return None;
        }
        let attributes = header.attributes & !(COMPRESSION_MASK | DELETE_HORIZON_BIT);
        let header = BatchHeader { attributes, records_count: 0, ..*header };
        Some(sealed(header, Bytes::new()))
    }

    /// The tombstones in it go when the time has come that is now written into it.
    fn with_horizon(&self, header: &BatchHeader, records: &BatchRecords, verdict: &Verdict) -> Kept {
        let horizon_ms = self.now_ms.saturating_add(self.delete_retention_ms).max(0);
        let (mut out, mut scratch, mut headers) = (Vec::with_capacity(records.size_bytes()), Vec::new(), Vec::new());
        let mut stays = verdict.ranges.iter().peekable();
        let whole = records.bytes().len();
        let mut walk = records.iter();
        while let Some(Ok(record)) = walk.next() {
            let end = whole - walk.left_bytes();
            while stays.next_if(|range| range.end < end).is_some() {}
            if stays.peek().is_none_or(|range| range.start >= end) {
                continue;
            }
            let Record { offset_delta, key, value, .. } = record.record;
            headers.clear();
            headers.extend(record.record.headers().map(|header: Header<'_>| header));
            let delta = record.timestamp.wrapping_sub(horizon_ms);
            write_record(&mut out, &mut scratch, (delta, offset_delta), (key, value), &headers);
        }
        let header =
            BatchHeader { attributes: header.attributes | DELETE_HORIZON_BIT, base_timestamp: horizon_ms, ..*header };
        rebuilt(header, verdict, out)
    }
}

/// The batch with these records, compressed as it was.
fn rebuilt(mut header: BatchHeader, verdict: &Verdict, records: Vec<u8>) -> Kept {
    header.records_count = verdict.count;
    header.max_timestamp = verdict.max_timestamp;
    let compression = header.compression().unwrap_or_default();
    let records = if compression == Compression::None { records } else { compression.compress(&records) };
    sealed(header, Bytes::from(records))
}

/// With length and checksum made right.
fn sealed(mut header: BatchHeader, records: Bytes) -> Kept {
    let size = HEADER_BYTES + records.len();
    header.batch_length =
        i32::try_from(size - LOG_OVERHEAD_BYTES).expect("what is left of a batch is no larger than 2 GiB");
    header.crc = crc32c_of([&header.to_bytes()[CHECKSUM_FROM..], &records]);
    Kept { header, records }
}

impl Kept {
    /// The same, but it spans all offsets up to `next`: what followed is gone. Sequences are told from the span, so
    /// this is `false`, and nothing is changed, where a producer has them.
    pub(super) fn widen(&mut self, next: Offset) -> bool {
        let header = &self.header;
        if header.has_producer() || header.is_control() || header.is_transactional() {
            return false;
        }
        let Ok(delta) = i32::try_from(next.0 - 1 - header.base_offset) else { return false };
        *self = sealed(BatchHeader { last_offset_delta: delta, ..*header }, std::mem::take(&mut self.records));
        true
    }

    /// A batch that holds nothing and spans these offsets: readers and recovery go from batch to batch without a gap.
    pub(super) fn filler(from: Offset, next: Offset, epoch: LeaderEpoch) -> Kept {
        let span = i32::try_from(next.0 - from.0 - 1).expect("a segment's offsets fit 31 bits");
        let header = BatchHeader {
            base_offset: from.0,
            partition_leader_epoch: epoch.0,
            last_offset_delta: span,
            ..BatchHeader::EMPTY
        };
        sealed(header, Bytes::new())
    }

    pub(super) fn size_bytes(&self) -> usize {
        HEADER_BYTES + self.records.len()
    }
}

/// Whether the bytes are those that were stored.
pub(super) fn is_sound(batch: &[u8], header: &BatchHeader) -> bool {
    crc32c(&batch[CHECKSUM_FROM..]) == header.crc
}
