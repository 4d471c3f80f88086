//! Appending what a leader has stored: offsets, leader epochs and timestamps stay as they are.
//!
//! Becomes safe like any other append. The leader has judged the sequences of producers: here they are only remembered,
//! so that this replica can judge them when it leads.
//!
//! *Owns*: what is let in of a leader's batches. *Never*: gives out an offset; leaves a gap; takes a part of what is
//! whole. *Runs on*: the core that owns the partition.

use bytes::Bytes;

use crate::base::ids::{LeaderEpoch, Offset};
use crate::base::time::Now;
use crate::wire::batch::{Batch, BatchHeader, StoredError, check_stored};
use crate::wire::records::BatchRecords;

use super::cache::TailCache;
use super::log::{AppendError, Log, LogOut};
use super::sift::Kept;

/// What was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replicated {
    /// Where the log ends now.
    pub end: Offset,
    pub bytes: usize,
    pub batches: usize,
}

/// Why nothing was taken. The log is as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplicateError {
    /// A batch is damaged, does not begin where the log ends, or is of an earlier leader than the one before it.
    Batch(StoredError),
    /// Not open, closing, being cut, or closed for writing by a failed sync.
    Offline { message: String },
}

impl Log {
    /// Queues whole batches as a leader has them, one after the other from the log's end on: all of them, or none. A
    /// last one that is cut off is left out.
    pub fn append_replicated(
        &mut self,
        records: &Bytes,
        now: Now,
        cache: &mut TailCache,
        out: &mut LogOut,
    ) -> Result<Replicated, ReplicateError> {
        if let Err(AppendError::Offline { message }) = self.writable() {
            return Err(ReplicateError::Offline { message });
        }
        let batches = self.check_replicated(records).map_err(ReplicateError::Batch)?;
        self.producers.sweep(self.settings.producer_id_expiration_ms, self.writer.safe_end(), now.wall_ms);
        let mut bytes = 0;
        for batch in &batches {
            // The same bytes, copied where the whole answer would be kept for a small batch.
            let stamped = batch.stamp(batch.header.first_offset(), batch.header.epoch(), None);
            bytes += stamped.size_bytes();
            self.queue(stamped, now, cache);
        }
        self.pump(now, out);
        Ok(Replicated { end: self.end, bytes, batches: batches.len() })
    }

    fn check_replicated(&self, records: &Bytes) -> Result<Vec<Batch>, StoredError> {
        let mut batches: Vec<Batch> = Vec::new();
        let (mut at, mut next) = (0, self.end);
        let mut epoch = self.epochs.latest().unwrap_or_default();
        if let Some((size, rest)) = self.rest_of_compacted(records) {
            (at, next, epoch) = (size, rest.header.next_offset(), rest.header.epoch());
            batches.push(rest);
        }
        while at < records.len() {
            let header = match check_stored(&records[at..], next, epoch) {
                Ok(header) => header,
                Err(StoredError::Cut { .. }) if at > 0 => break,
                Err(error) => return Err(error),
            };
            let end = at + header.size_bytes();
            batches.push(Batch { header, bytes: records.slice(at..end) });
            (at, next, epoch) = (end, header.next_offset(), header.epoch());
        }
        Ok(batches)
    }

    /// Compaction lets a batch reach over offsets whose records are gone, and so over where this log ends: with the
    /// bytes of the first batch, one that holds nothing and spans what this log lacks of it. None where that is not so,
    /// or the batch has records that this log lacks.
    fn rest_of_compacted(&self, records: &Bytes) -> Option<(usize, Batch)> {
        let first = BatchHeader::read(records)?.first_offset();
        let header = check_stored(records, first, LeaderEpoch::UNKNOWN).ok().filter(|_| first < self.end)?;
        let (next, epoch) = (header.next_offset(), header.epoch().max(self.epochs.latest().unwrap_or_default()));
        let open = BatchRecords::open(&records.slice(..header.size_bytes())).ok()?;
        let is_known = open.iter().all(|record| record.is_ok_and(|record| record.offset < self.end));
        (is_known && self.end < next).then(|| {
            let filler = Kept::filler(self.end, next, epoch);
            let bytes = Bytes::copy_from_slice(&filler.header.to_bytes());
            (header.size_bytes(), Batch { header: filler.header, bytes })
        })
    }
}
