//! What can be wrong with a batch.
//!
//! *Owns*: the faults, their words, and the code a producer is told. *Never*: decides whether there is a fault.
//! *Runs on*: every core.

use std::fmt;

use super::compression::Compression;
use super::errors::ErrorCode;
use super::record::RecordFault;
use crate::base::ids::{LeaderEpoch, Offset};

/// Why a batch was not let in. Nothing of it was kept. [`BatchError::code`] says what the producer is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BatchError {
    /// No batch at all.
    Missing,
    /// The bytes end before the batch does.
    Cut {
        wanted: usize,
        left: usize,
    },
    /// Bytes after the batch, or after its last record.
    Trailing {
        bytes: usize,
    },
    /// A second batch after the first.
    MoreThanOne,
    /// A length that cannot hold a header.
    Length {
        length: i32,
    },
    /// A format of before 2017, or none that exists.
    Magic {
        magic: i8,
    },
    /// Larger than `max.message.bytes`.
    TooLarge {
        size: usize,
        max: usize,
    },
    Checksum {
        stored: u32,
        computed: u32,
    },
    /// Producers count from 0; recovery: the offsets would not fit.
    BaseOffset {
        base_offset: i64,
    },
    /// No records, or as many as the offsets do not say.
    Count {
        count: i32,
        last_offset_delta: i32,
    },
    /// Only brokers write control batches.
    Control,
    /// A producer id without epoch or sequence, or a transaction without a producer.
    Producer {
        id: i64,
        epoch: i16,
        sequence: i32,
    },
    /// An id that no compression has.
    Compression {
        id: i16,
    },
    /// The compressed bytes are damaged, or expand to more than a broker would look at.
    Compressed {
        compression: Compression,
    },
    /// zstd in a version of Produce whose clients could not all read it back.
    ZstdBeforeVersion7,
    /// A record whose parts do not fit together.
    Record {
        index: i32,
        fault: RecordFault,
    },
    /// A record that is not numbered by its place.
    OffsetDelta {
        index: i32,
        delta: i32,
    },
    /// A record without a key, where each needs one: the topic is compacted.
    NoKey {
        index: usize,
    },
    /// Too old or too far in the future for the topic.
    Timestamp {
        timestamp: i64,
        now: i64,
    },
    /// Only brokers set the time of appending.
    TimestampType,
}

impl BatchError {
    /// What the producer is told: Kafka's code for the same fault.
    pub fn code(&self) -> ErrorCode {
        match self {
            BatchError::Cut { .. }
            | BatchError::Trailing { .. }
            | BatchError::Length { .. }
            | BatchError::Checksum { .. }
            | BatchError::Compressed { .. } => ErrorCode::CorruptMessage,
            BatchError::Magic { magic: 0 | 1 } => ErrorCode::UnsupportedForMessageFormat,
            BatchError::Magic { .. } => ErrorCode::CorruptMessage,
            BatchError::TooLarge { .. } => ErrorCode::MessageTooLarge,
            BatchError::Compression { .. } | BatchError::ZstdBeforeVersion7 => ErrorCode::UnsupportedCompressionType,
            BatchError::Timestamp { .. } | BatchError::TimestampType => ErrorCode::InvalidTimestamp,
            BatchError::Missing
            | BatchError::MoreThanOne
            | BatchError::BaseOffset { .. }
            | BatchError::Count { .. }
            | BatchError::Control
            | BatchError::Producer { .. }
            | BatchError::Record { .. }
            | BatchError::OffsetDelta { .. }
            | BatchError::NoKey { .. } => ErrorCode::InvalidRecord,
        }
    }
}

impl fmt::Display for BatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            BatchError::Missing => write!(f, "there is no batch: one batch of records is expected"),
            BatchError::Cut { wanted, left } => write!(f, "the batch is cut off: {wanted} bytes wanted, {left} there"),
            BatchError::Trailing { bytes } => write!(f, "{bytes} bytes follow the last record"),
            BatchError::MoreThanOne => write!(f, "a second batch follows: exactly one is expected"),
            BatchError::Length { length } => write!(f, "a batch length of {length} cannot hold a header"),
            BatchError::Magic { magic } => write!(f, "batch format {magic} is not supported: send format 2"),
            BatchError::TooLarge { size, max } => {
                write!(f, "the batch has {size} bytes, max.message.bytes is {max}: send smaller batches or raise it")
            }
            BatchError::Checksum { stored, computed } => {
                write!(f, "the checksum does not match: {stored:08x} in the header, {computed:08x} computed")
            }
            BatchError::BaseOffset { base_offset } => write!(f, "a base offset of {base_offset} is not allowed"),
            BatchError::Count { count, last_offset_delta } => {
                write!(f, "{count} records and a last offset delta of {last_offset_delta} contradict each other")
            }
            BatchError::NoKey { index } => {
                write!(f, "record {index} has no key, and the topic is compacted: every record must have one")
            }
            BatchError::Control => write!(f, "only brokers write control batches"),
            BatchError::Producer { id, epoch, sequence } => {
                write!(f, "producer id {id}, epoch {epoch} and sequence {sequence} do not go together")
            }
            BatchError::Compression { id } => write!(f, "compression {id} does not exist"),
            BatchError::Compressed { compression } => {
                write!(f, "the {} data is damaged or expands to too many bytes", compression.name())
            }
            BatchError::ZstdBeforeVersion7 => write!(f, "zstd takes Produce version 7 or later"),
            BatchError::Record { index, fault } => write!(f, "record {index} is malformed: {fault}"),
            BatchError::OffsetDelta { index, delta } => write!(f, "record {index} has an offset delta of {delta}"),
            BatchError::Timestamp { timestamp, now } => {
                write!(f, "timestamp {timestamp} is outside what the topic allows around {now}")
            }
            BatchError::TimestampType => write!(f, "only brokers set the LogAppendTime attribute"),
        }
    }
}

impl std::error::Error for BatchError {}

/// Why the bytes at the end of a log are not its next batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StoredError {
    /// The bytes at hand end before the batch does: it takes `wanted` from its start. A torn tail if the file has
    /// no more.
    Cut {
        wanted: usize,
    },
    /// A batch of another place or an earlier leader: left over from what the file held before.
    Stale {
        base_offset: Offset,
        epoch: LeaderEpoch,
    },
    Damaged(BatchError),
}

impl fmt::Display for StoredError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoredError::Cut { wanted } => write!(f, "the batch takes {wanted} bytes, more than there are"),
            StoredError::Stale { base_offset, epoch } => {
                write!(f, "a batch of offset {base_offset} and epoch {epoch} does not belong here")
            }
            StoredError::Damaged(BatchError::Magic { magic }) => {
                write!(f, "what lies there is no batch: format {magic} instead of 2")
            }
            StoredError::Damaged(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for StoredError {}
