//! A batch on its way: records encoded straight into the bytes that are sent, and when each of them was due.
//!
//! *Owns*: the batch's bytes from the first record to the reply. *Never*: allocates for a record, decides when it is
//! sent. *Runs on*: the generator thread of its producer.

use bytes::Bytes;

use crate::base::checksum::crc32c;
use crate::bench::payload::{KEY_BYTES, Payload, RECORD_EXTRA_BYTES_MAX, RecordPlace, ValueHead};
use crate::wire::batch::{BatchHeader, CHECKSUM_FROM, HEADER_BYTES, LOG_OVERHEAD_BYTES};
use crate::wire::compression::Compression;

/// The most bytes a record with a value of `size` bytes takes.
pub fn record_bytes_max(size: usize, key: Option<&[u8; KEY_BYTES]>) -> usize {
    size + RECORD_EXTRA_BYTES_MAX + key.map_or(0, |key| key.len())
}

/// Who a batch is of, for a broker that knows its producers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stamp {
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
}

/// See the module. Invariant: `due_ns` has one entry a record.
#[derive(Clone, Default, Debug)]
pub struct PendingBatch {
    /// Its index over all topics.
    pub partition: u32,
    /// The sequence of the first record in its stream; the others follow.
    pub first_sequence: u64,
    /// When each record was to be sent.
    pub due_ns: Vec<u64>,
    pub value_bytes: u64,
    pub opened_ns: u64,
    pub stamp: Option<Stamp>,
    /// How often it was sent, and when it was last.
    pub attempts: u32,
    pub sent_ns: u64,
    base_wall_ms: i64,
    max_wall_ms: i64,
    /// Room for the header, then the records. Empty once `wire` is made, unless the records are compressed.
    bytes: Vec<u8>,
    /// The whole batch as it is sent.
    wire: Bytes,
    /// What it takes of its producer's memory.
    charge: usize,
}

impl PendingBatch {
    /// Starts anew, in the memory of a batch that is done.
    pub fn open(&mut self, partition: u32, first_sequence: u64, opened_ns: u64, wall_ms: i64, capacity: usize) {
        self.partition = partition;
        self.first_sequence = first_sequence;
        self.due_ns.clear();
        self.value_bytes = 0;
        self.opened_ns = opened_ns;
        self.stamp = None;
        self.attempts = 0;
        self.sent_ns = 0;
        self.base_wall_ms = wall_ms;
        self.max_wall_ms = wall_ms;
        let mut wire = std::mem::take(&mut self.wire);
        if self.bytes.capacity() == 0 && wire.is_unique() {
            // Without its contents, which would be moved.
            wire.clear();
            self.bytes = Vec::from(wire);
        }
        self.bytes.clear();
        self.bytes.reserve(capacity);
        self.bytes.resize(HEADER_BYTES, 0);
        self.charge = 0;
    }

    #[inline]
    pub fn push(
        &mut self,
        payload: &mut Payload,
        key: Option<&[u8; KEY_BYTES]>,
        size: usize,
        head: ValueHead,
        wall_ms: i64,
    ) {
        let place =
            RecordPlace { offset_delta: self.due_ns.len() as u32, timestamp_delta_ms: wall_ms - self.base_wall_ms };
        payload.append_record(&mut self.bytes, place, key, size, head);
        self.max_wall_ms = self.max_wall_ms.max(wall_ms);
        self.value_bytes += size as u64;
        self.due_ns.push(head.intended_ns);
    }

    pub fn records(&self) -> usize {
        self.due_ns.len()
    }

    /// Bytes so far, before compression.
    #[inline]
    pub fn size_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// What `close` put to the account of the producer's memory.
    pub fn charge(&self) -> usize {
        self.charge
    }

    /// No record is added from here on. Compresses.
    pub fn close(&mut self, compression: Compression) {
        assert!(!self.due_ns.is_empty(), "a batch that is closed has records");
        self.charge = self.bytes.len();
        if compression != Compression::None {
            let compressed = compression.compress(&self.bytes[HEADER_BYTES..]);
            self.bytes.truncate(HEADER_BYTES);
            self.bytes.extend_from_slice(&compressed);
        }
        let records = i32::try_from(self.due_ns.len()).expect("a batch is bounded by its bytes");
        let header = BatchHeader {
            batch_length: i32::try_from(self.bytes.len() - LOG_OVERHEAD_BYTES).expect("bounded by a setting"),
            attributes: compression.id(),
            last_offset_delta: records - 1,
            base_timestamp: self.base_wall_ms,
            max_timestamp: self.max_wall_ms,
            records_count: records,
            ..BatchHeader::EMPTY
        };
        self.bytes[..HEADER_BYTES].copy_from_slice(&header.to_bytes());
    }

    /// The bytes to send, with the producer's stamp if it has one. The same bytes each time, unless the stamp changes.
    pub fn wire(&mut self, stamp: Option<Stamp>) -> Bytes {
        if self.wire.is_empty() || self.stamp != stamp {
            let mut bytes = std::mem::take(&mut self.bytes);
            if bytes.is_empty() {
                bytes = std::mem::take(&mut self.wire).into();
            }
            let mut header = BatchHeader::read(&bytes).expect("a closed batch has its header");
            if let Some(stamp) = stamp {
                header.producer_id = stamp.producer_id;
                header.producer_epoch = stamp.producer_epoch;
                header.base_sequence = stamp.base_sequence;
                bytes[..HEADER_BYTES].copy_from_slice(&header.to_bytes());
            }
            header.crc = crc32c(&bytes[CHECKSUM_FROM..]);
            bytes[..HEADER_BYTES].copy_from_slice(&header.to_bytes());
            self.stamp = stamp;
            self.wire = Bytes::from(bytes);
        }
        self.wire.clone()
    }

    /// Bytes that sending takes. Only of a closed batch.
    pub fn wire_bytes(&self) -> usize {
        self.bytes.len().max(self.wire.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::payload::{FillerPool, RunTag, Sizes};
    use crate::wire::batch::{BatchLimits, check_produce};
    use crate::wire::records::BatchRecords;

    #[test]
    fn a_batch_is_one_a_broker_takes_and_its_memory_is_used_again() {
        let tag = RunTag::new(1);
        let pool = FillerPool::new(1.0, 100, 1).expect("a ratio");
        let mut payload = Payload::new(tag, Sizes::Fixed(100), pool, 1).expect("sizes");
        let mut batch = PendingBatch::default();
        let limits = BatchLimits {
            max_message_bytes: 1 << 20,
            timestamp_type: Default::default(),
            before_max_ms: i64::MAX,
            after_max_ms: i64::MAX,
        };
        for compression in Compression::ALL {
            for stamp in [None, Some(Stamp { producer_id: 7, producer_epoch: 1, base_sequence: 30 })] {
                batch.open(2, 40, 5, 1000, 4096);
                for n in 0..10u64 {
                    let head = ValueHead { stream: 9, sequence: 40 + n, intended_ns: 100 + n };
                    batch.push(&mut payload, None, 100, head, 1000 + n as i64);
                }
                assert!(batch.size_bytes() <= HEADER_BYTES + 10 * record_bytes_max(100, None));
                batch.close(compression);
                let wire = batch.wire(stamp);
                assert_eq!((batch.wire(stamp).as_ptr(), batch.wire_bytes()), (wire.as_ptr(), wire.len()));
                let checked = check_produce(&wire, &limits, 1000).expect("a good batch");
                assert_eq!(checked.header.producer_id, stamp.map_or(-1, |stamp| stamp.producer_id));
                assert_eq!((checked.header.base_timestamp, checked.header.max_timestamp), (1000, 1009));
                for (n, record) in BatchRecords::open(&wire).expect("it opens").iter().enumerate() {
                    let value = record.expect("a record").record.value.expect("a value");
                    let head = ValueHead::read(value, tag).expect("of this run");
                    assert_eq!((head.sequence, head.intended_ns), (40 + n as u64, batch.due_ns[n]));
                }
                let restamped = batch.wire(Some(Stamp { producer_id: 8, producer_epoch: 0, base_sequence: 0 }));
                assert_eq!(check_produce(&restamped, &limits, 1000).expect("a good batch").header.producer_id, 8);
            }
        }
        batch.open(0, 0, 0, 0, 4096);
        batch.push(&mut payload, None, 100, ValueHead { stream: 9, sequence: 0, intended_ns: 1 }, 0);
        batch.close(Compression::None);
        let before = batch.wire(None).as_ptr();
        batch.open(0, 0, 0, 0, 1024);
        assert_eq!(batch.bytes.as_ptr(), before, "the memory is used again");
    }
}
