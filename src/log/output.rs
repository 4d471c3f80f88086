//! The segment that compaction writes: batches without a gap between their offsets, and the index that belongs to them.
//!
//! *Owns*: how a gap is closed, what is gathered for the next write. *Never*: has two writes in flight. *Runs on*: the
//! core that owns the partition.

use bytes::{Bytes, BytesMut};

use crate::base::disk::{BLOCK_BYTES, FileId};
use crate::base::ids::{LeaderEpoch, Offset};
use crate::base::limits::DISK_WRITE_BYTES_MAX;

use super::index::Index;
use super::sift::Kept;

/// So much is gathered for one write.
const WRITE_BYTES: usize = 256 << 10;

#[derive(Debug)]
pub(super) struct Output {
    pub(super) file: FileId,
    /// All offsets below are in it, or in `held`.
    next: Offset,
    /// The last batch, which may have to span the offsets of those that are gone after it.
    held: Option<Kept>,
    buffer: BytesMut,
    /// Where in the file the buffer belongs. A multiple of the block.
    position: u64,
    pub(super) index: Index,
    pub(super) max_timestamp: i64,
}

impl Output {
    pub(super) fn new(file: FileId, base: Offset, index_interval_bytes: u32) -> Output {
        Output {
            file,
            next: base,
            held: None,
            buffer: BytesMut::new(),
            position: 0,
            index: Index::new(base, index_interval_bytes),
            max_timestamp: i64::MIN,
        }
    }

    /// The next batch that stays.
    pub(super) fn push(&mut self, kept: Kept) {
        self.fill_to(kept.header.first_offset(), kept.header.epoch());
        self.next = kept.header.next_offset();
        self.held = Some(kept);
    }

    /// Nothing stays up to `next`; `epoch` is that of the last batch that went, or of one before.
    pub(super) fn fill_to(&mut self, next: Offset, epoch: LeaderEpoch) {
        assert!(next >= self.next, "batches come in order");
        let gap = next > self.next;
        match self.held.take() {
            Some(mut held) => {
                let filled = !gap || held.widen(next);
                let epoch = held.header.epoch();
                self.emit(&held);
                if !filled {
                    self.emit(&Kept::filler(self.next, next, epoch));
                }
            }
            None if gap => self.emit(&Kept::filler(self.next, next, epoch)),
            None => {}
        }
        self.next = next;
    }

    /// Bytes of its batches, what is held not counted.
    pub(super) fn len(&self) -> u64 {
        self.position + self.buffer.len() as u64
    }

    pub(super) fn buffered_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Whole blocks to be written next, and where, once there are enough of them.
    pub(super) fn take_write(&mut self) -> Option<(u64, Bytes)> {
        if self.buffer.len() < WRITE_BYTES {
            return None;
        }
        let len = (self.buffer.len() / BLOCK_BYTES * BLOCK_BYTES).min(DISK_WRITE_BYTES_MAX);
        Some(self.take(len))
    }

    /// The next write when nothing more comes. The last is padded.
    pub(super) fn take_rest(&mut self) -> Option<(u64, Bytes)> {
        (!self.buffer.is_empty()).then(|| self.take(self.buffer.len().min(DISK_WRITE_BYTES_MAX)))
    }

    fn take(&mut self, len: usize) -> (u64, Bytes) {
        let position = self.position;
        self.position += len as u64;
        (position, self.buffer.split_to(len).freeze())
    }

    fn emit(&mut self, kept: &Kept) {
        self.index.on_batch(kept.header.first_offset(), self.len(), self.max_timestamp);
        self.max_timestamp = self.max_timestamp.max(kept.header.max_timestamp);
        self.buffer.reserve(kept.size_bytes());
        self.buffer.extend_from_slice(&kept.header.to_bytes());
        self.buffer.extend_from_slice(&kept.records);
    }
}
