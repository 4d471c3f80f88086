//! A record batch, format 2: its header, the check of what a producer sends, and the stamp it is stored with.
//!
//! *Owns*: the 61 header bytes, and which batches are let into a log. *Never*: decompresses, changes a record,
//! copies a large batch. *Runs on*: every core.
//!
//! Layout: Kafka, `org.apache.kafka.common.record.DefaultRecordBatch`. Rules for producers: Kafka's `LogValidator`,
//! `UnifiedLog.analyzeAndValidateRecords` and `ProduceRequest.validateRecords`.

use bytes::Bytes;

pub use super::batch_error::{BatchError, StoredError};
use super::compression::Compression;
use super::record::{RecordFault, read_record};
use crate::base::checksum::{crc32c, crc32c_of};
use crate::base::ids::{LeaderEpoch, Offset};
use crate::base::time::TimestampType;

/// Bytes before the first record.
pub const HEADER_BYTES: usize = 61;

/// Base offset and length: what `batch_length` does not count.
pub const LOG_OVERHEAD_BYTES: usize = 12;

/// The checksum covers from here (the attributes) to the end: what a broker stamps lies before.
pub const CHECKSUM_FROM: usize = 21;

/// No timestamp, no producer, no sequence.
pub const NONE: i64 = -1;

/// Stored batches below this are copied whole: a small batch kept in memory must not keep the receive buffer it
/// came in, which is many times its size.
const COPIED_BATCH_BYTES_MAX: usize = 8 << 10;

const MAGIC: i8 = 2;
const MAGIC_AT: usize = 16;

const COMPRESSION_MASK: i16 = 0x07;
const LOG_APPEND_TIME_BIT: i16 = 0x08;
const TRANSACTIONAL_BIT: i16 = 0x10;
const CONTROL_BIT: i16 = 0x20;

/// The header's fields. The getters have meaning for a header that one of the checks let through; for any other
/// they give some number and never fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BatchHeader {
    pub base_offset: i64,
    /// Bytes after this field.
    pub batch_length: i32,
    pub partition_leader_epoch: i32,
    pub magic: i8,
    /// CRC-32C of everything after this field.
    pub crc: u32,
    pub attributes: i16,
    pub last_offset_delta: i32,
    pub base_timestamp: i64,
    /// The largest timestamp in the batch; the time of appending where that is the batch's timestamp type.
    pub max_timestamp: i64,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub records_count: i32,
}

impl BatchHeader {
    /// Of a batch that holds nothing, nobody has numbered and no producer has stamped. It has no checksum either.
    pub const EMPTY: BatchHeader = BatchHeader {
        base_offset: 0,
        batch_length: (HEADER_BYTES - LOG_OVERHEAD_BYTES) as i32,
        partition_leader_epoch: -1,
        magic: MAGIC,
        crc: 0,
        attributes: 0,
        last_offset_delta: -1,
        base_timestamp: NONE,
        max_timestamp: NONE,
        producer_id: NONE,
        producer_epoch: -1,
        base_sequence: -1,
        records_count: 0,
    };

    /// The fields at the start of `bytes`, as they are: nothing is checked but that there are enough bytes.
    #[inline]
    pub fn read(bytes: &[u8]) -> Option<BatchHeader> {
        let bytes = bytes.first_chunk::<HEADER_BYTES>()?;
        Some(BatchHeader {
            base_offset: i64::from_be_bytes(part(bytes, 0)),
            batch_length: i32::from_be_bytes(part(bytes, 8)),
            partition_leader_epoch: i32::from_be_bytes(part(bytes, 12)),
            magic: i8::from_be_bytes(part(bytes, MAGIC_AT)),
            crc: u32::from_be_bytes(part(bytes, 17)),
            attributes: i16::from_be_bytes(part(bytes, CHECKSUM_FROM)),
            last_offset_delta: i32::from_be_bytes(part(bytes, 23)),
            base_timestamp: i64::from_be_bytes(part(bytes, 27)),
            max_timestamp: i64::from_be_bytes(part(bytes, 35)),
            producer_id: i64::from_be_bytes(part(bytes, 43)),
            producer_epoch: i16::from_be_bytes(part(bytes, 51)),
            base_sequence: i32::from_be_bytes(part(bytes, 53)),
            records_count: i32::from_be_bytes(part(bytes, 57)),
        })
    }

    /// The same fields as bytes.
    pub fn to_bytes(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..8].copy_from_slice(&self.base_offset.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.batch_length.to_be_bytes());
        bytes[12..16].copy_from_slice(&self.partition_leader_epoch.to_be_bytes());
        bytes[MAGIC_AT..17].copy_from_slice(&self.magic.to_be_bytes());
        bytes[17..21].copy_from_slice(&self.crc.to_be_bytes());
        bytes[CHECKSUM_FROM..23].copy_from_slice(&self.attributes.to_be_bytes());
        bytes[23..27].copy_from_slice(&self.last_offset_delta.to_be_bytes());
        bytes[27..35].copy_from_slice(&self.base_timestamp.to_be_bytes());
        bytes[35..43].copy_from_slice(&self.max_timestamp.to_be_bytes());
        bytes[43..51].copy_from_slice(&self.producer_id.to_be_bytes());
        bytes[51..53].copy_from_slice(&self.producer_epoch.to_be_bytes());
        bytes[53..57].copy_from_slice(&self.base_sequence.to_be_bytes());
        bytes[57..61].copy_from_slice(&self.records_count.to_be_bytes());
        bytes
    }

    /// `None` for an id that no compression has.
    pub fn compression(&self) -> Option<Compression> {
        Compression::from_id(self.attributes & COMPRESSION_MASK)
    }

    pub fn timestamp_type(&self) -> TimestampType {
        if self.attributes & LOG_APPEND_TIME_BIT == 0 {
            TimestampType::CreateTime
        } else {
            TimestampType::LogAppendTime
        }
    }

    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL_BIT != 0
    }

    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL_BIT != 0
    }

    /// Bytes of the whole batch, header included.
    pub fn size_bytes(&self) -> usize {
        LOG_OVERHEAD_BYTES + usize::try_from(self.batch_length).unwrap_or(0)
    }

    pub fn first_offset(&self) -> Offset {
        Offset(self.base_offset)
    }

    pub fn last_offset(&self) -> Offset {
        Offset(self.base_offset.saturating_add(i64::from(self.last_offset_delta)))
    }

    /// The offset of the batch after this one.
    pub fn next_offset(&self) -> Offset {
        Offset(self.last_offset().0.saturating_add(1))
    }

    pub fn epoch(&self) -> LeaderEpoch {
        LeaderEpoch(self.partition_leader_epoch)
    }

    pub fn has_producer(&self) -> bool {
        self.producer_id > NONE
    }

    /// The sequence of the last record: after `i32::MAX` comes 0. −1 without a producer's sequence.
    pub fn last_sequence(&self) -> i32 {
        if self.base_sequence < 0 {
            return -1;
        }
        let sum = i64::from(self.base_sequence) + i64::from(self.last_offset_delta);
        (sum & i64::from(i32::MAX)) as i32
    }
}

fn part<const N: usize>(bytes: &[u8; HEADER_BYTES], at: usize) -> [u8; N] {
    bytes[at..].first_chunk().copied().expect("the field lies within the header")
}

/// What a topic allows of a producer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BatchLimits {
    /// `max.message.bytes`: of a whole batch.
    pub max_message_bytes: usize,
    pub timestamp_type: TimestampType,
    /// How old a record may be, in milliseconds (`message.timestamp.before.max.ms`). Not asked with LogAppendTime.
    pub before_max_ms: i64,
    /// How far in the future (`message.timestamp.after.max.ms`). Not asked with LogAppendTime.
    pub after_max_ms: i64,
}

/// One whole batch. Invariant: `header` is what `bytes` begin with, but for a `max_timestamp` that the records
/// contradicted: then `header` has the right one, and [`Batch::stamp`] writes it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Batch {
    pub header: BatchHeader,
    pub bytes: Bytes,
}

/// Lets a producer's records in: exactly one batch of format 2, undamaged, within the limits.
///
/// The records of an uncompressed batch are walked: each must be well formed, numbered from 0, and within the time
/// limits. A compressed batch is taken at its header's word for the count, the deltas and the timestamps (the
/// largest is compared with the limits). Kafka decompresses it here; that would cost more than everything else a
/// broker does with it, on the core that serves everybody, and consumers decompress and check for themselves.
pub fn check_produce(records: &Bytes, limits: &BatchLimits, now_wall_ms: i64) -> Result<Batch, BatchError> {
    let size = check_shape(records)?;
    if size > limits.max_message_bytes {
        return Err(BatchError::TooLarge { size, max: limits.max_message_bytes });
    }
    let header = BatchHeader::read(records).ok_or(BatchError::Cut { wanted: HEADER_BYTES, left: records.len() })?;
    check_checksum(&header, records)?;
    check_header(&header)?;
    let mut batch = Batch { header, bytes: records.clone() };
    match header.compression() {
        None => return Err(BatchError::Compression { id: header.attributes & COMPRESSION_MASK }),
        Some(Compression::None) => batch.header.max_timestamp = check_records(&batch, limits, now_wall_ms)?,
        Some(_) => {
            limits.check_timestamp(header.max_timestamp, now_wall_ms)?;
            if header.size_bytes() == HEADER_BYTES {
                return Err(BatchError::Record { index: 0, fault: RecordFault::Short });
            }
        }
    }
    Ok(batch)
}

impl Batch {
    /// Whether a producer may send this batch in that version of Produce: zstd came with version 7 (KIP-110).
    pub fn check_version(&self, produce_version: i16) -> Result<(), BatchError> {
        if produce_version < 7 && self.header.compression() == Some(Compression::Zstd) {
            return Err(BatchError::ZstdBeforeVersion7);
        }
        Ok(())
    }

    /// The batch as it is stored and sent to consumers from then on: with its place in the log, and with the time
    /// of appending where the topic keeps that. The records are slices of what the producer sent, unless the batch
    /// is so small that a copy is better (see [`StampedBatch`]).
    pub fn stamp(&self, base_offset: Offset, epoch: LeaderEpoch, log_append_time_ms: Option<i64>) -> StampedBatch {
        assert!(base_offset.0 >= 0, "a stored batch has an offset");
        let mut header = self.header;
        header.base_offset = base_offset.0;
        header.partition_leader_epoch = epoch.0;
        if let Some(time_ms) = log_append_time_ms {
            // The base timestamp stays, as in Kafka: readers take the largest for all records.
            header.attributes |= LOG_APPEND_TIME_BIT;
            header.max_timestamp = time_ms;
        }
        let (old, records) = self.bytes.split_at(HEADER_BYTES);
        if header.to_bytes()[CHECKSUM_FROM..] != old[CHECKSUM_FROM..] {
            header.crc = crc32c_of([&header.to_bytes()[CHECKSUM_FROM..], records]);
        }
        let bytes = header.to_bytes();
        if self.bytes.len() < COPIED_BATCH_BYTES_MAX {
            let mut copy = Vec::with_capacity(self.bytes.len());
            copy.extend_from_slice(&bytes);
            copy.extend_from_slice(records);
            return StampedBatch { header, head: Bytes::from(copy), rest: Bytes::new() };
        }
        StampedBatch { header, head: Bytes::copy_from_slice(&bytes), rest: self.bytes.slice(HEADER_BYTES..) }
    }
}

/// A batch as stored: `head`, then `rest`. A small batch is all in `head`, which is then an allocation of exactly
/// its size; of a large one `head` is the header and `rest` a slice of the memory the producer's request lies in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StampedBatch {
    pub header: BatchHeader,
    pub head: Bytes,
    pub rest: Bytes,
}

impl StampedBatch {
    /// The one or two slices that are not empty.
    pub fn slices(self) -> impl Iterator<Item = Bytes> {
        [self.head, self.rest].into_iter().filter(|slice| !slice.is_empty())
    }

    pub fn size_bytes(&self) -> usize {
        self.head.len() + self.rest.len()
    }
}

/// What recovery finds where a batch should be. `bytes` may go on after the batch. The batch must be undamaged,
/// begin at exactly `next`, and be of `epoch_min` or later: recycled files hold whole, valid batches of an earlier
/// life beyond the end of the log.
pub fn check_stored(bytes: &[u8], next: Offset, epoch_min: LeaderEpoch) -> Result<BatchHeader, StoredError> {
    let header = BatchHeader::read(bytes).ok_or(StoredError::Cut { wanted: HEADER_BYTES })?;
    let size = header.size_bytes();
    if header.magic != MAGIC {
        return Err(StoredError::Damaged(BatchError::Magic { magic: header.magic }));
    }
    if size < HEADER_BYTES {
        return Err(StoredError::Damaged(BatchError::Length { length: header.batch_length }));
    }
    if header.first_offset() != next || header.epoch() < epoch_min {
        return Err(StoredError::Stale { base_offset: header.first_offset(), epoch: header.epoch() });
    }
    let Some(batch) = bytes.get(..size) else {
        return Err(StoredError::Cut { wanted: size });
    };
    check_checksum(&header, batch).map_err(StoredError::Damaged)?;
    // A compacted batch keeps its offsets and has fewer records, or none.
    let span = i64::from(header.last_offset_delta) + 1;
    if span <= 0 || !(0..=span).contains(&i64::from(header.records_count)) {
        return Err(StoredError::Damaged(header.count_error()));
    }
    if header.base_offset.checked_add(span).is_none() {
        return Err(StoredError::Damaged(BatchError::BaseOffset { base_offset: header.base_offset }));
    }
    Ok(header)
}

/// Size and magic: the bytes are one batch and nothing else. Gives its size.
fn check_shape(bytes: &[u8]) -> Result<usize, BatchError> {
    if bytes.is_empty() {
        return Err(BatchError::Missing);
    }
    let Some(start) = bytes.first_chunk::<{ MAGIC_AT + 1 }>() else {
        return Err(BatchError::Cut { wanted: MAGIC_AT + 1, left: bytes.len() });
    };
    let magic = start[MAGIC_AT] as i8;
    if magic != MAGIC {
        return Err(BatchError::Magic { magic });
    }
    let length = i32::from_be_bytes([start[8], start[9], start[10], start[11]]);
    let size = LOG_OVERHEAD_BYTES + usize::try_from(length).map_err(|_| BatchError::Length { length })?;
    if size < HEADER_BYTES {
        return Err(BatchError::Length { length });
    }
    match bytes.get(size..) {
        None => Err(BatchError::Cut { wanted: size, left: bytes.len() }),
        Some([]) => Ok(size),
        Some(after) if check_start(after) => Err(BatchError::MoreThanOne),
        Some(after) => Err(BatchError::Trailing { bytes: after.len() }),
    }
}

/// Whether these bytes could be a batch of any format.
fn check_start(bytes: &[u8]) -> bool {
    let Some(start) = bytes.first_chunk::<{ MAGIC_AT + 1 }>() else {
        return false;
    };
    let length = i32::from_be_bytes([start[8], start[9], start[10], start[11]]);
    (0..=MAGIC).contains(&(start[MAGIC_AT] as i8))
        && usize::try_from(length).is_ok_and(|length| length <= bytes.len() - LOG_OVERHEAD_BYTES)
}

fn check_checksum(header: &BatchHeader, batch: &[u8]) -> Result<(), BatchError> {
    let computed = crc32c(&batch[CHECKSUM_FROM..]);
    if computed != header.crc {
        return Err(BatchError::Checksum { stored: header.crc, computed });
    }
    Ok(())
}

/// What a header from a producer must say of itself.
fn check_header(header: &BatchHeader) -> Result<(), BatchError> {
    if header.base_offset != 0 {
        return Err(BatchError::BaseOffset { base_offset: header.base_offset });
    }
    if header.records_count <= 0 || i64::from(header.last_offset_delta) + 1 != i64::from(header.records_count) {
        return Err(header.count_error());
    }
    if header.is_control() {
        return Err(BatchError::Control);
    }
    let producer_error =
        BatchError::Producer { id: header.producer_id, epoch: header.producer_epoch, sequence: header.base_sequence };
    if header.has_producer() && (header.producer_epoch < 0 || header.base_sequence < 0) {
        return Err(producer_error);
    }
    if header.is_transactional() && !header.has_producer() {
        return Err(producer_error);
    }
    if header.timestamp_type() == TimestampType::LogAppendTime {
        return Err(BatchError::TimestampType);
    }
    Ok(())
}

impl BatchHeader {
    fn count_error(&self) -> BatchError {
        BatchError::Count { count: self.records_count, last_offset_delta: self.last_offset_delta }
    }
}

/// Walks the records of an uncompressed batch. Gives the largest timestamp.
fn check_records(batch: &Batch, limits: &BatchLimits, now_wall_ms: i64) -> Result<i64, BatchError> {
    let mut rest = &batch.bytes[HEADER_BYTES..];
    let mut timestamp_max = NONE;
    for index in 0..batch.header.records_count {
        let record = read_record(&mut rest).map_err(|fault| BatchError::Record { index, fault })?;
        if record.offset_delta != index {
            return Err(BatchError::OffsetDelta { index, delta: record.offset_delta });
        }
        let timestamp = (batch.header.base_timestamp)
            .checked_add(record.timestamp_delta)
            .ok_or(BatchError::Timestamp { timestamp: record.timestamp_delta, now: now_wall_ms })?;
        limits.check_timestamp(timestamp, now_wall_ms)?;
        timestamp_max = timestamp_max.max(timestamp);
    }
    if !rest.is_empty() {
        return Err(BatchError::Trailing { bytes: rest.len() });
    }
    Ok(timestamp_max)
}

impl BatchLimits {
    #[inline]
    fn check_timestamp(&self, timestamp: i64, now_wall_ms: i64) -> Result<(), BatchError> {
        if self.timestamp_type == TimestampType::LogAppendTime || timestamp == NONE {
            return Ok(());
        }
        let too_old = now_wall_ms.saturating_sub(timestamp) > self.before_max_ms;
        let too_new = timestamp.saturating_sub(now_wall_ms) > self.after_max_ms;
        if too_old || too_new {
            return Err(BatchError::Timestamp { timestamp, now: now_wall_ms });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::Rng;
    use crate::wire::errors::ErrorCode;
    use crate::wire::records::{BatchBuilder, BatchRecords};

    const NOW_MS: i64 = 1_700_000_000_000;

    const LIMITS: BatchLimits = BatchLimits {
        max_message_bytes: 1 << 20,
        timestamp_type: TimestampType::CreateTime,
        before_max_ms: 1_000,
        after_max_ms: 500,
    };

    /// Four records of 100 bytes.
    fn batch(compression: Compression) -> Batch {
        let mut builder = BatchBuilder::new(compression).producer(7, 1, 40);
        for i in 0..4u8 {
            builder.push_with_headers(NOW_MS + i64::from(i), Some(&[i]), Some(&[i; 100]), &[(b"name", Some(b"x"))]);
        }
        builder.build()
    }

    /// The bytes of `batch` with the header changed and the checksum right for it.
    fn with(batch: &Batch, change: impl FnOnce(&mut BatchHeader)) -> Vec<u8> {
        let mut header = batch.header;
        change(&mut header);
        let mut bytes = batch.bytes.to_vec();
        bytes[..HEADER_BYTES].copy_from_slice(&header.to_bytes());
        header.crc = crc32c(&bytes[CHECKSUM_FROM..]);
        bytes[..HEADER_BYTES].copy_from_slice(&header.to_bytes());
        bytes
    }

    fn checked(bytes: &[u8]) -> Result<Batch, BatchError> {
        check_produce(&Bytes::copy_from_slice(bytes), &LIMITS, NOW_MS)
    }

    #[test]
    fn whole_batches_are_let_in_as_they_are() {
        for compression in Compression::ALL {
            let batch = batch(compression);
            let let_in = checked(&batch.bytes).expect("it is whole");
            assert_eq!(let_in, batch);
            assert_eq!(BatchHeader::read(&batch.bytes), Some(batch.header));
            assert_eq!(batch.header.compression(), Some(compression));
            assert_eq!(batch.header.size_bytes(), batch.bytes.len());
            assert_eq!(batch.header.last_offset(), Offset(3));
            assert_eq!(batch.header.last_sequence(), 43);
            assert_eq!(batch.header.max_timestamp, NOW_MS + 3);
        }
    }

    #[test]
    fn headers_that_producers_must_not_send() {
        let check = |change: fn(&mut BatchHeader), expect: ErrorCode| {
            for compression in Compression::ALL {
                let got = checked(&with(&batch(compression), change)).map_err(|error| error.code());
                assert_eq!(got.expect_err("refused"), expect, "{}", compression.name());
            }
        };
        check(|h| h.base_offset = 1, ErrorCode::InvalidRecord);
        check(|h| h.base_offset = -1, ErrorCode::InvalidRecord);
        check(|h| h.batch_length += 1, ErrorCode::CorruptMessage);
        check(|h| h.batch_length -= 1, ErrorCode::CorruptMessage);
        check(|h| h.batch_length = 48, ErrorCode::CorruptMessage);
        check(|h| h.batch_length = -1, ErrorCode::CorruptMessage);
        check(|h| h.batch_length = i32::MIN, ErrorCode::CorruptMessage);
        check(|h| h.batch_length = i32::MAX, ErrorCode::CorruptMessage);
        check(|h| h.magic = 0, ErrorCode::UnsupportedForMessageFormat);
        check(|h| h.magic = 1, ErrorCode::UnsupportedForMessageFormat);
        check(|h| h.magic = 3, ErrorCode::CorruptMessage);
        check(|h| h.magic = -1, ErrorCode::CorruptMessage);
        check(|h| h.attributes |= CONTROL_BIT, ErrorCode::InvalidRecord);
        check(|h| h.attributes |= LOG_APPEND_TIME_BIT, ErrorCode::InvalidTimestamp);
        check(|h| h.attributes |= COMPRESSION_MASK, ErrorCode::UnsupportedCompressionType);
        check(|h| h.last_offset_delta = 4, ErrorCode::InvalidRecord);
        check(|h| h.last_offset_delta = -1, ErrorCode::InvalidRecord);
        check(|h| h.records_count = 5, ErrorCode::InvalidRecord);
        check(|h| h.records_count = 0, ErrorCode::InvalidRecord);
        check(|h| (h.records_count, h.last_offset_delta) = (0, -1), ErrorCode::InvalidRecord);
        check(|h| (h.records_count, h.last_offset_delta) = (i32::MIN, i32::MAX), ErrorCode::InvalidRecord);
        check(|h| h.producer_epoch = -1, ErrorCode::InvalidRecord);
        check(|h| h.base_sequence = -1, ErrorCode::InvalidRecord);
        check(|h| (h.producer_id, h.attributes) = (-1, h.attributes | TRANSACTIONAL_BIT), ErrorCode::InvalidRecord);
    }

    #[test]
    fn sizes_and_what_follows() {
        let check = |bytes: &[u8], expect: ErrorCode| {
            assert_eq!(checked(bytes).expect_err("refused").code(), expect, "{} bytes", bytes.len());
        };
        let whole = batch(Compression::None).bytes;
        check(&[], ErrorCode::InvalidRecord);
        check(&[&whole[..], &whole[..]].concat(), ErrorCode::InvalidRecord);
        check(&[&whole[..], &whole[..90]].concat(), ErrorCode::CorruptMessage);
        check(&[&whole[..], &[0]].concat(), ErrorCode::CorruptMessage);
        check(&[&whole[..], &[0; 100]].concat(), ErrorCode::InvalidRecord);
        for cut in 1..whole.len() {
            check(&whole[..cut], ErrorCode::CorruptMessage);
        }
        let limits = BatchLimits { max_message_bytes: whole.len() - 1, ..LIMITS };
        let error = check_produce(&whole, &limits, NOW_MS).expect_err("a byte too large");
        assert_eq!(error.code(), ErrorCode::MessageTooLarge);
        let limits = BatchLimits { max_message_bytes: whole.len(), ..LIMITS };
        assert!(check_produce(&whole, &limits, NOW_MS).is_ok());
    }

    #[test]
    fn zstd_came_with_version_7() {
        let check = |compression, version, expect: Option<ErrorCode>| {
            let got = batch(compression).check_version(version).err().map(|error| error.code());
            assert_eq!(got, expect, "{compression:?} in version {version}");
        };
        check(Compression::Zstd, 3, Some(ErrorCode::UnsupportedCompressionType));
        check(Compression::Zstd, 6, Some(ErrorCode::UnsupportedCompressionType));
        check(Compression::Zstd, 7, None);
        check(Compression::Lz4, 3, None);
    }

    #[test]
    fn timestamps_have_bounds_unless_the_broker_sets_them() {
        let check = |timestamp: i64, before_max_ms: i64, create: bool, append: bool| {
            for compression in [Compression::None, Compression::Gzip] {
                let mut builder = BatchBuilder::new(compression);
                builder.push(timestamp, None, Some(b"v"));
                let bytes = builder.build().bytes;
                for (timestamp_type, fine) in
                    [(TimestampType::CreateTime, create), (TimestampType::LogAppendTime, append)]
                {
                    let limits = BatchLimits { timestamp_type, before_max_ms, ..LIMITS };
                    let got = check_produce(&bytes, &limits, NOW_MS).map(|_| ()).map_err(|error| error.code());
                    let expect = if fine { Ok(()) } else { Err(ErrorCode::InvalidTimestamp) };
                    assert_eq!(got, expect, "{timestamp} {timestamp_type:?} {compression:?}");
                }
            }
        };
        check(NOW_MS, 1000, true, true);
        check(NOW_MS - 1000, 1000, true, true);
        check(NOW_MS - 1001, 1000, false, true);
        check(NOW_MS + 500, 1000, true, true);
        check(NOW_MS + 501, 1000, false, true);
        check(NONE, 1000, true, true);
        check(0, i64::MAX, true, true);
        check(i64::MAX, i64::MAX, false, true);
    }

    #[test]
    fn a_wrong_largest_timestamp_is_put_right() {
        let batch = batch(Compression::None);
        let wrong = checked(&with(&batch, |h| h.max_timestamp = 5)).expect("the records are fine");
        assert_eq!(wrong.header.max_timestamp, NOW_MS + 3);
        let stored = wrong.stamp(Offset(0), LeaderEpoch(0), None);
        assert_eq!(stored, batch.stamp(Offset(0), LeaderEpoch(0), None));
        assert_eq!(check_stored(&stored.head, Offset(0), LeaderEpoch(0)), Ok(stored.header));
    }

    #[test]
    fn a_stamped_batch_is_the_batch_with_its_place() {
        let check = |value_bytes: usize, log_append_time_ms: Option<i64>, copied: bool| {
            let mut builder = BatchBuilder::new(Compression::None);
            builder.push(NOW_MS, None, Some(&vec![1; value_bytes]));
            let batch = checked(&builder.build().bytes).expect("it is whole");
            let stamped = batch.stamp(Offset(1 << 40), LeaderEpoch(9), log_append_time_ms);
            assert_eq!(stamped.size_bytes(), batch.bytes.len());
            assert_eq!(stamped.rest.is_empty(), copied);
            if !copied {
                assert_eq!(stamped.rest.as_ptr(), batch.bytes[HEADER_BYTES..].as_ptr(), "the records are not copied");
            }
            let (header, slices) = (stamped.header, stamped.slices().collect::<Vec<_>>());
            assert_eq!(slices.len(), if copied { 1 } else { 2 });
            let bytes = slices.concat();
            assert_eq!(check_stored(&bytes, Offset(1 << 40), LeaderEpoch(9)), Ok(header));
            assert_eq!(bytes[HEADER_BYTES..], batch.bytes[HEADER_BYTES..]);
            let mut expect = batch.header;
            expect.base_offset = 1 << 40;
            expect.partition_leader_epoch = 9;
            if let Some(time_ms) = log_append_time_ms {
                expect.attributes |= LOG_APPEND_TIME_BIT;
                expect.max_timestamp = time_ms;
                expect.crc = header.crc;
                assert_ne!(header.crc, batch.header.crc);
            }
            assert_eq!(header, expect);
        };
        for log_append_time_ms in [None, Some(NOW_MS + 77)] {
            check(10, log_append_time_ms, true);
            check(COPIED_BATCH_BYTES_MAX, log_append_time_ms, false);
            check(300_000, log_append_time_ms, false);
        }
    }

    #[test]
    fn sequences_wrap_after_the_largest() {
        let check = |base_sequence: i32, last_offset_delta: i32, expect: i32| {
            let header = BatchHeader { base_sequence, last_offset_delta, ..batch(Compression::None).header };
            assert_eq!(header.last_sequence(), expect);
        };
        check(0, 0, 0);
        check(i32::MAX - 1, 1, i32::MAX);
        check(i32::MAX, 1, 0);
        check(i32::MAX - 2, 10, 7);
        check(-1, 5, -1);
    }

    #[test]
    fn recovery_takes_the_next_batch_and_nothing_else() {
        let stored = batch(Compression::None).stamp(Offset(100), LeaderEpoch(4), None);
        let mut bytes = stored.head.to_vec();
        let check = |bytes: &[u8], next: i64, epoch_min: i32, expect: Result<BatchHeader, StoredError>| {
            assert_eq!(check_stored(bytes, Offset(next), LeaderEpoch(epoch_min)), expect);
        };
        let stale = Err(StoredError::Stale { base_offset: Offset(100), epoch: LeaderEpoch(4) });
        check(&bytes, 100, 4, Ok(stored.header));
        check(&bytes, 100, -1, Ok(stored.header));
        check(&bytes, 100, 5, stale);
        check(&bytes, 99, 4, stale);
        check(&bytes, 101, 4, stale);
        for cut in 0..bytes.len() {
            let wanted = if cut < HEADER_BYTES { HEADER_BYTES } else { bytes.len() };
            check(&bytes[..cut], 100, 4, Err(StoredError::Cut { wanted }));
        }
        for at in 0..bytes.len() {
            for bit in 0..8 {
                bytes[at] ^= 1 << bit;
                let got = check_stored(&bytes, Offset(100), LeaderEpoch(4));
                // A later epoch is what a new leader writes, and the checksum does not cover it.
                let later_epoch = (12..16).contains(&at) && got.is_ok_and(|header| header.epoch() > LeaderEpoch(4));
                assert!(got.is_err() || later_epoch, "bit {bit} of byte {at}");
                bytes[at] ^= 1 << bit;
            }
        }
        bytes.extend_from_slice(&[0xee; 50]);
        check(&bytes, 100, 4, Ok(stored.header));
        check(&[0; 4096], 0, 0, Err(StoredError::Damaged(BatchError::Magic { magic: 0 })));
    }

    #[test]
    fn a_flipped_bit_is_found_wherever_the_checksum_or_the_checks_reach() {
        for compression in Compression::ALL {
            let mut bytes = batch(compression).bytes.to_vec();
            for at in 0..bytes.len() {
                for bit in 0..8 {
                    bytes[at] ^= 1 << bit;
                    // The leader epoch is the broker's to set: what a producer sends there is overwritten.
                    let harmless = (12..16).contains(&at);
                    match checked(&bytes) {
                        Ok(batch) => {
                            assert!(harmless, "{} bit {bit} of byte {at}", compression.name());
                            assert_eq!(batch.bytes[CHECKSUM_FROM..], bytes[CHECKSUM_FROM..]);
                        }
                        Err(error) => assert!(!harmless, "{error}"),
                    }
                    bytes[at] ^= 1 << bit;
                }
            }
        }
    }

    /// Damage under a checksum that is right for it, as a broken or hostile producer would send.
    #[test]
    fn seeded_damage_under_a_right_checksum_never_panics() {
        let mut rng = Rng::new(2);
        let (mut refused, mut let_in) = (0, 0);
        for round in 0..20_000 {
            let compression = Compression::ALL[round % Compression::ALL.len()];
            let mut bytes = batch(compression).bytes.to_vec();
            for _ in 0..=rng.below(3) {
                let at = CHECKSUM_FROM + rng.below((bytes.len() - CHECKSUM_FROM) as u64) as usize;
                bytes[at] = rng.next_u64() as u8;
            }
            let crc = crc32c(&bytes[CHECKSUM_FROM..]);
            bytes[17..21].copy_from_slice(&crc.to_be_bytes());
            let bytes = Bytes::from(bytes);
            match check_produce(&bytes, &LIMITS, NOW_MS) {
                Ok(batch) => {
                    let_in += 1;
                    let stored = batch.stamp(Offset(1), LeaderEpoch(0), Some(NOW_MS));
                    assert_eq!(check_stored(&stored.head, Offset(1), LeaderEpoch(0)), Ok(stored.header));
                }
                Err(error) => {
                    refused += 1;
                    assert!(!error.to_string().is_empty());
                    assert_ne!(error.code(), ErrorCode::None);
                }
            }
            if let Ok(records) = BatchRecords::open(&bytes) {
                let walked = records.iter().filter(|record| record.is_ok()).count();
                assert!(walked <= 4 * bytes.len());
            }
        }
        assert!(refused > 2_000 && let_in > 2_000, "{refused} refused, {let_in} let in");
    }
}
