//! What a consumer does with the bytes of a partition: batches, records, latencies, the tally.
//!
//! *Owns*: taking records apart, and the counts of it. *Never*: expands a batch beyond the wire's bound, copies a
//! record. *Runs on*: the consumer's thread.

use std::fmt;

use bytes::Bytes;

use super::ConsumerSettings;
use super::partition::Partition;
use crate::base::checksum::crc32c;
use crate::bench::payload::{UNMEASURED_NS, ValueHead};
use crate::bench::tally::{Seen, Tally};
use crate::wire::batch::{BatchError, BatchHeader, CHECKSUM_FROM, HEADER_BYTES};
use crate::wire::records::BatchRecords;

/// When a record was to be sent, and when it was there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arrival {
    pub due_ns: u64,
    pub at_ns: u64,
}

/// What came, of as many consumers as share it, since it was last cleared.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Received {
    /// Of each record the first time, in the order of coming. For whoever measures to take out.
    pub arrivals: Vec<Arrival>,
    /// Records of the run, one that came twice counted twice, and their value bytes.
    pub records: u64,
    pub value_bytes: u64,
    /// Bytes of batches as they came, whosever they were.
    pub batch_bytes: u64,
    pub duplicates: u64,
    pub reordered: u64,
    /// Records of other runs and of others, and their value bytes.
    pub foreign: u64,
    pub foreign_bytes: u64,
    /// Replies with something in them that is no batch, or a damaged one.
    pub faults: u64,
}

/// What is wrong with the bytes of a partition. What came before them was taken; the position is after it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Fault {
    Magic(i8),
    Length(i32),
    Checksum,
    Batch(BatchError),
    /// Not even the first batch is whole, which KIP-74 promises.
    Partial {
        wanted: usize,
        bytes: usize,
    },
    /// Only what had been received before.
    Old,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Magic(magic) => write!(f, "records in format {magic}; only format 2 is understood"),
            Fault::Length(length) => write!(f, "a batch that says it is {length} bytes long"),
            Fault::Checksum => write!(f, "a batch whose checksum is wrong"),
            Fault::Batch(error) => write!(f, "a batch that cannot be read: {error}"),
            Fault::Partial { wanted, bytes } => write!(f, "{bytes} bytes of a first batch of {wanted}"),
            Fault::Old => write!(f, "records from before the offset that was asked for, and no others"),
        }
    }
}

/// Takes the records of a partition and moves its position past them. A batch that is cut off at the end is left,
/// because brokers cut where a reply is full.
pub(super) fn take(
    partition: &mut Partition,
    bytes: Bytes,
    settings: &ConsumerSettings,
    tally: &mut Tally,
    received: &mut Received,
    clock: &mut dyn FnMut() -> u64,
) -> Result<(), Fault> {
    let (records, duplicates, reordered) = (received.records, received.duplicates, received.reordered);
    let taken = take_batches(partition, bytes, settings, tally, received, clock);
    partition.came.records += received.records - records;
    partition.came.duplicates += received.duplicates - duplicates;
    partition.came.reordered += received.reordered - reordered;
    taken
}

fn take_batches(
    partition: &mut Partition,
    mut bytes: Bytes,
    settings: &ConsumerSettings,
    tally: &mut Tally,
    received: &mut Received,
    clock: &mut dyn FnMut() -> u64,
) -> Result<(), Fault> {
    let before = partition.position;
    let total = bytes.len();
    while let Some(header) = BatchHeader::read(&bytes) {
        if header.magic != 2 {
            return Err(Fault::Magic(header.magic));
        }
        let size = header.size_bytes();
        if size < HEADER_BYTES {
            return Err(Fault::Length(header.batch_length));
        }
        if size > bytes.len() {
            break;
        }
        let batch = bytes.split_to(size);
        received.batch_bytes += size as u64;
        if settings.check_crcs && crc32c(&batch[CHECKSUM_FROM..]) != header.crc {
            return Err(Fault::Checksum);
        }
        let next = header.next_offset().0;
        if next <= partition.position {
            continue;
        }
        if !header.is_control() {
            take_batch(partition.position, &batch, settings, tally, received, clock)?;
        }
        partition.position = next;
    }
    if partition.position > before {
        return Ok(());
    }
    match BatchHeader::read(&bytes) {
        Some(header) => Err(Fault::Partial { wanted: header.size_bytes(), bytes: bytes.len() }),
        None if bytes.is_empty() => Err(Fault::Old),
        None => Err(Fault::Partial { wanted: HEADER_BYTES, bytes: total }),
    }
}

fn take_batch(
    position: i64,
    batch: &Bytes,
    settings: &ConsumerSettings,
    tally: &mut Tally,
    received: &mut Received,
    clock: &mut dyn FnMut() -> u64,
) -> Result<(), Fault> {
    let records = BatchRecords::open(batch).map_err(Fault::Batch)?;
    let now_ns = clock();
    for record in &records {
        let record = record.map_err(Fault::Batch)?;
        if record.offset.0 < position {
            continue;
        }
        let value = record.record.value.unwrap_or(&[]);
        let Some(head) = ValueHead::read(value, settings.tag) else {
            received.foreign += 1;
            received.foreign_bytes += value.len() as u64;
            continue;
        };
        received.records += 1;
        received.value_bytes += value.len() as u64;
        match tally.on_received(head.stream, head.sequence) {
            Seen::New => {}
            Seen::Late => received.reordered += 1,
            Seen::Again => {
                received.duplicates += 1;
                continue;
            }
            Seen::Unsure | Seen::Foreign => continue,
        }
        if settings.latency && head.intended_ns != UNMEASURED_NS {
            received.arrivals.push(Arrival { due_ns: head.intended_ns, at_ns: now_ns });
        }
    }
    Ok(())
}
