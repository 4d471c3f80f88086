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
        let header = BatchHeader {
            base_offset: 0,
            batch_length: 0,
            partition_leader_epoch: -1,
            magic: 2,
            crc: 0,
            attributes: compression.id(),
            last_offset_delta: -1,
            base_timestamp: -1,
            max_timestamp: -1,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            records_count: 0,
        };
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
