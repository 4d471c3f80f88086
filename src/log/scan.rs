//! Reading a segment's batches one after the other, each checked, up to where they end.
//!
//! *Owns*: what is gathered on the way: position, next offset, index, timestamps. *Never*: takes a batch whose
//! offset, epoch, length or CRC-32C does not fit: stale batches of a recycled file are valid by themselves.
//! *Runs on*: the core that owns the partition.

use bytes::{Bytes, BytesMut};

use crate::base::bug::{self, Bug};
use crate::base::disk::BLOCK_BYTES;
use crate::base::ids::{LeaderEpoch, Offset};
use crate::base::limits::DISK_READ_BYTES_MAX;
use crate::wire::batch::{BatchHeader, check_stored};

use super::index::Index;
use super::segment::{Walk, Walked, next_offset};

/// The first read of a scan; a short tail, the usual case, costs no more.
const FIRST_READ_BYTES: usize = 64 << 10;

#[derive(Debug)]
pub(super) struct Scan {
    /// The end of the batches seen so far.
    pub(super) position: u64,
    pub(super) next: Offset,
    pub(super) index: Index,
    pub(super) max_timestamp: i64,
    pub(super) first_timestamp: Option<i64>,
    latest_epoch: Option<LeaderEpoch>,
    /// Bytes read from `position` on that hold no whole batch yet.
    have: BytesMut,
    /// No batch can lie at or beyond this.
    file_len: u64,
    /// The next segment's first offset: what lies beyond is not of this log.
    until: Offset,
    read_bytes: usize,
    need: usize,
    ended: bool,
    /// It ended at a block that goes on with something else than zeros, or a batch of an earlier segment that the file
    /// was: a write came to no end there.
    pub(super) is_torn: bool,
    /// It ended before a whole batch that goes on beyond the offset it was to end at.
    pub(super) crosses: bool,
}

impl Scan {
    /// Goes on at `position`, where the batch with offset `next` belongs, up to the offset `until`.
    pub(super) fn new(
        position: u64,
        next: Offset,
        index: Index,
        timestamps: (Option<i64>, i64),
        latest_epoch: Option<LeaderEpoch>,
        file_len: u64,
        until: Offset,
    ) -> Scan {
        Scan {
            position,
            next,
            index,
            max_timestamp: timestamps.1,
            first_timestamp: timestamps.0,
            latest_epoch,
            have: BytesMut::new(),
            file_len,
            until,
            read_bytes: FIRST_READ_BYTES,
            need: 0,
            ended: false,
            is_torn: false,
            crosses: false,
        }
    }

    /// Where to read next and how much; `None` at the end of the batches.
    pub(super) fn next_read(&self) -> Option<(u64, usize)> {
        let from = self.position + self.have.len() as u64;
        let left = self.file_len.saturating_sub(from);
        if self.ended || left == 0 || self.next >= self.until {
            return None;
        }
        let missing = self.need.saturating_sub(self.have.len());
        let len = self.read_bytes.max(missing).min(DISK_READ_BYTES_MAX) as u64;
        Some((from, len.min(left) as usize))
    }

    /// Takes what [`Scan::next_read`] asked for; `on_batch` sees each good batch's header.
    pub(super) fn on_read(&mut self, bytes: &Bytes, mut on_batch: impl FnMut(&BatchHeader)) {
        if bytes.is_empty() {
            self.ended = true;
            return;
        }
        self.read_bytes = (self.read_bytes * 2).min(DISK_READ_BYTES_MAX);
        self.have.extend_from_slice(bytes);
        if self.have.len() < self.need {
            return;
        }
        let have = std::mem::take(&mut self.have).freeze();
        let mut walk = Walk::new(&have, self.next);
        let mut done = 0;
        self.need = loop {
            match walk.peek() {
                Walked::Batch { header, start, end }
                    if next_offset(&header) <= self.until && self.accepts(&have[start..end]) =>
                {
                    self.index.on_batch(self.next, self.position, self.max_timestamp);
                    self.first_timestamp.get_or_insert(header.max_timestamp);
                    self.max_timestamp = self.max_timestamp.max(header.max_timestamp);
                    self.latest_epoch = Some(LeaderEpoch(header.partition_leader_epoch));
                    self.next = next_offset(&header);
                    self.position += (end - start) as u64;
                    done = end;
                    walk.pass(&header, end);
                    on_batch(&header);
                }
                Walked::Incomplete { need, .. } => break need,
                Walked::Batch { start, end, .. } => {
                    self.crosses = self.accepts(&have[start..end]);
                    return self.end_at(&have[done..]);
                }
                Walked::Corrupt => return self.end_at(&have[done..]),
            }
        };
        if self.need as u64 > self.file_len.saturating_sub(self.position) {
            return self.end_at(&have[done..]);
        }
        self.have = BytesMut::from(&have[done..]);
    }

    /// The bytes read from there on may be the first of many.
    fn end_at(&mut self, bytes: &[u8]) {
        self.ended = true;
        let block = BLOCK_BYTES - (self.position % BLOCK_BYTES as u64) as usize;
        let is_older = BatchHeader::read(bytes).is_some_and(|header| header.first_offset() < self.index.base());
        self.is_torn = bytes[..block.min(bytes.len())].iter().any(|byte| *byte != 0) && !is_older;
    }

    fn accepts(&self, batch: &[u8]) -> bool {
        if bug::on(Bug::TakeStaleBatches) {
            let first = BatchHeader::read(batch).map_or(self.next, |header| header.first_offset());
            return check_stored(batch, first, LeaderEpoch(0)).is_ok();
        }
        bug::on(Bug::SkipTailCheck)
            || check_stored(batch, self.next, self.latest_epoch.unwrap_or(LeaderEpoch(0))).is_ok()
    }
}
