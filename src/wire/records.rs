//! The records of a batch: reading them, and building batches of them.
//!
//! *Owns*: the way between a batch and its records. *Never*: expands a batch beyond
//! [`DECOMPRESSED_BATCH_BYTES_MAX`]. *Runs on*: every core.

use bytes::Bytes;

use super::batch::{Batch, BatchError, BatchHeader, CHECKSUM_FROM, HEADER_BYTES, LOG_OVERHEAD_BYTES};
use super::compression::Compression;
use super::record::{Header, Record, read_record, write_record};
use crate::base::checksum::crc32c;
use crate::base::ids::Offset;
use crate::base::limits::DECOMPRESSED_BATCH_BYTES_MAX;
use crate::base::time::TimestampType;

/// The records of one batch, decompressed where they were compressed.
#[derive(Clone, Debug)]
pub struct BatchRecords {
    header: BatchHeader,
    records: Bytes,
}

impl BatchRecords {
    /// Opens a whole batch whose header and checksum were checked before. Decompresses it if it is compressed: at
    /// most [`DECOMPRESSED_BATCH_BYTES_MAX`].
    pub fn open(batch: &Bytes) -> Result<BatchRecords, BatchError> {
        let cut = |wanted| BatchError::Cut { wanted, left: batch.len() };
        let header = BatchHeader::read(batch).ok_or(cut(HEADER_BYTES))?;
        let size = header.size_bytes();
        if size < HEADER_BYTES {
            return Err(BatchError::Length { length: header.batch_length });
        }
        if size > batch.len() {
            return Err(cut(size));
        }
        let records = match header.compression() {
            None => return Err(BatchError::Compression { id: header.attributes & 7 }),
            Some(Compression::None) => batch.slice(HEADER_BYTES..size),
            Some(compression) => {
                compression.decompress(&batch[HEADER_BYTES..size], DECOMPRESSED_BATCH_BYTES_MAX)?.into()
            }
        };
        Ok(BatchRecords { header, records })
    }

    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The records as they lie in the batch, after decompression.
    pub fn bytes(&self) -> &[u8] {
        &self.records
    }

    pub fn size_bytes(&self) -> usize {
        self.records.len()
    }

    /// The records in order. The first error ends the walk.
    pub fn iter(&self) -> RecordsIter<'_> {
        RecordsIter { header: &self.header, rest: &self.records, index: 0 }
    }
}

impl<'a> IntoIterator for &'a BatchRecords {
    type Item = Result<PlacedRecord<'a>, BatchError>;
    type IntoIter = RecordsIter<'a>;

    fn into_iter(self) -> RecordsIter<'a> {
        self.iter()
    }
}

/// Lets a checked batch into a compacted topic: each of its records has a key. Compressed ones are decompressed for it.
pub fn check_keys(batch: &Batch) -> Result<(), BatchError> {
    let records = BatchRecords::open(&batch.bytes)?;
    for (index, record) in records.iter().enumerate() {
        if record?.record.key.is_none() {
            return Err(BatchError::NoKey { index });
        }
    }
    Ok(())
}

/// A record with its offset and its timestamp as a consumer sees them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PlacedRecord<'a> {
    pub offset: Offset,
    /// Milliseconds since the Unix epoch; −1 for none.
    pub timestamp: i64,
    pub record: Record<'a>,
}

/// See [`BatchRecords::iter`].
#[derive(Clone, Debug)]
pub struct RecordsIter<'a> {
    header: &'a BatchHeader,
    rest: &'a [u8],
    /// Records given so far; `records_count` after an error.
    index: i32,
}

impl<'a> Iterator for RecordsIter<'a> {
    type Item = Result<PlacedRecord<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.index >= self.header.records_count {
            return None;
        }
        let item = self.read();
        self.index = if item.is_ok() { self.index + 1 } else { self.header.records_count };
        Some(item)
    }
}

impl<'a> RecordsIter<'a> {
    /// Of the records that were not given yet.
    pub fn left_bytes(&self) -> usize {
        self.rest.len()
    }

    fn read(&mut self) -> Result<PlacedRecord<'a>, BatchError> {
        let index = self.index;
        let record = read_record(&mut self.rest).map_err(|fault| BatchError::Record { index, fault })?;
        // A compacted batch has gaps, but no record lies outside of what its header spans.
        if !(0..=self.header.last_offset_delta).contains(&record.offset_delta) {
            return Err(BatchError::OffsetDelta { index, delta: record.offset_delta });
        }
        if index + 1 == self.header.records_count && !self.rest.is_empty() {
            return Err(BatchError::Trailing { bytes: self.rest.len() });
        }
        let timestamp = match self.header.timestamp_type() {
            TimestampType::CreateTime => self.header.base_timestamp.wrapping_add(record.timestamp_delta),
            TimestampType::LogAppendTime => self.header.max_timestamp,
        };
        let offset = Offset(self.header.base_offset.wrapping_add(i64::from(record.offset_delta)));
        Ok(PlacedRecord { offset, timestamp, record })
    }
}

/// Builds a batch as a producer would: base offset 0, no leader epoch.
#[derive(Clone, Debug)]
pub struct BatchBuilder {
    compression: Compression,
    header: BatchHeader,
    records: Vec<u8>,
    scratch: Vec<u8>,
}

impl BatchBuilder {
    pub fn new(compression: Compression) -> BatchBuilder {
        let header = BatchHeader { attributes: compression.id(), ..BatchHeader::EMPTY };
        BatchBuilder { compression, header, records: Vec::new(), scratch: Vec::new() }
    }

    /// An idempotent producer's batch.
    pub fn producer(mut self, id: i64, epoch: i16, base_sequence: i32) -> BatchBuilder {
        self.header.producer_id = id;
        self.header.producer_epoch = epoch;
        self.header.base_sequence = base_sequence;
        self
    }

    /// Sets bits of the attributes besides the compression.
    pub fn attributes(mut self, bits: i16) -> BatchBuilder {
        self.header.attributes |= bits;
        self
    }

    /// Adds a record without headers.
    pub fn push(&mut self, timestamp_ms: i64, key: Option<&[u8]>, value: Option<&[u8]>) {
        self.push_with_headers(timestamp_ms, key, value, &[]);
    }

    pub fn push_with_headers(
        &mut self,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header<'_>],
    ) {
        let header = &mut self.header;
        if header.records_count == 0 {
            header.base_timestamp = timestamp_ms;
        }
        header.records_count += 1;
        header.last_offset_delta += 1;
        header.max_timestamp = header.max_timestamp.max(timestamp_ms);
        let timestamp_delta = timestamp_ms - header.base_timestamp;
        let deltas = (timestamp_delta, header.last_offset_delta);
        write_record(&mut self.records, &mut self.scratch, deltas, (key, value), headers);
    }

    /// Bytes of the batch so far, before compression.
    pub fn size_bytes(&self) -> usize {
        HEADER_BYTES + self.records.len()
    }

    /// The whole batch. There must be a record in it.
    pub fn build(mut self) -> Batch {
        assert!(self.header.records_count > 0, "a batch has records");
        if self.compression != Compression::None {
            self.records = self.compression.compress(&self.records);
        }
        let size = HEADER_BYTES + self.records.len();
        self.header.batch_length = i32::try_from(size - LOG_OVERHEAD_BYTES).expect("a batch of ours is below 2 GiB");
        let mut bytes = Vec::with_capacity(size);
        bytes.extend_from_slice(&self.header.to_bytes());
        bytes.extend_from_slice(&self.records);
        self.header.crc = crc32c(&bytes[CHECKSUM_FROM..]);
        bytes[..HEADER_BYTES].copy_from_slice(&self.header.to_bytes());
        Batch { header: self.header, bytes: bytes.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::LeaderEpoch;
    use crate::wire::record::RecordFault;

    #[test]
    fn records_come_back_with_their_places() {
        for compression in Compression::ALL {
            let mut builder = BatchBuilder::new(compression);
            builder.push_with_headers(1_000, Some(b"a"), None, &[(b"h", None), (b"h", Some(b"2"))]);
            builder.push(990, None, Some(&[5; 9000]));
            builder.push(2_000, Some(b""), Some(b""));
            let uncompressed = builder.size_bytes();
            let batch = builder.build();
            assert_eq!(compression == Compression::None, uncompressed == batch.bytes.len());
            assert_eq!((batch.header.base_timestamp, batch.header.max_timestamp), (1_000, 2_000));
            for (log_append_time_ms, expect) in [(None, [1_000, 990, 2_000]), (Some(7), [7, 7, 7])] {
                let stored = batch.stamp(Offset(50), LeaderEpoch(1), log_append_time_ms);
                let bytes: Bytes = stored.slices().collect::<Vec<_>>().concat().into();
                let records = BatchRecords::open(&bytes).expect("it is whole");
                let walked: Vec<_> = records.iter().collect::<Result<_, _>>().expect("every record is whole");
                assert_eq!(walked.iter().map(|r| r.offset.0).collect::<Vec<_>>(), [50, 51, 52]);
                assert_eq!(walked.iter().map(|r| r.timestamp).collect::<Vec<_>>(), expect);
                assert_eq!(walked[0].record.key, Some(&b"a"[..]));
                assert_eq!(walked[0].record.value, None);
                assert_eq!(walked[0].record.headers().len(), 2);
                assert_eq!(walked[1].record.key, None);
                assert_eq!(walked[1].record.value, Some(&[5; 9000][..]));
                assert_eq!(walked[2].record.value, Some(&b""[..]));
            }
        }
    }

    #[test]
    fn a_walk_ends_at_the_first_fault() {
        let mut builder = BatchBuilder::new(Compression::None);
        builder.push(1, None, Some(b"one"));
        builder.push(2, None, Some(b"two"));
        let whole = builder.build();
        let check = |change: &dyn Fn(&mut Vec<u8>), good: usize, expect: BatchError| {
            let mut bytes = whole.bytes.to_vec();
            change(&mut bytes);
            let records = BatchRecords::open(&bytes.into()).expect("the header is fine");
            let walked: Vec<_> = records.iter().collect();
            assert_eq!(walked.len(), good + 1);
            assert!(walked[..good].iter().all(Result::is_ok));
            assert_eq!(walked[good], Err(expect));
        };
        let second = HEADER_BYTES + 10;
        let fault = RecordFault::Short;
        check(&|bytes| bytes[second] = 40, 1, BatchError::Record { index: 1, fault });
        check(&|bytes| bytes[HEADER_BYTES + 3] = 20, 0, BatchError::OffsetDelta { index: 0, delta: 10 });
        check(&|bytes| bytes[60] = 1, 0, BatchError::Trailing { bytes: 10 });
        check(&|bytes| bytes[60] = 3, 2, BatchError::Record { index: 2, fault });
    }

    #[test]
    fn headers_that_do_not_fit_their_bytes() {
        let mut builder = BatchBuilder::new(Compression::None);
        builder.push(1, None, Some(b"one"));
        let whole = builder.build().bytes;
        for cut in 0..whole.len() {
            assert!(BatchRecords::open(&whole.slice(..cut)).is_err(), "cut at {cut}");
        }
        let mut bytes = whole.to_vec();
        bytes[8..12].copy_from_slice(&(-5i32).to_be_bytes());
        assert_eq!(BatchRecords::open(&bytes.into()).err(), Some(BatchError::Length { length: -5 }));
        let mut bytes = whole.to_vec();
        bytes[22] = 6;
        assert_eq!(BatchRecords::open(&bytes.into()).err(), Some(BatchError::Compression { id: 6 }));
    }
}
