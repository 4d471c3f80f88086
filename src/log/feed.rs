//! A sealed segment, batch by batch, for compaction: in reads of bounded size, each batch checked.
//!
//! *Owns*: what was read and not given yet. *Never*: gives a batch that is not as it was stored. *Runs on*: the core
//! that owns the partition.

use bytes::{Bytes, BytesMut};

use crate::base::ids::Offset;
use crate::base::limits::DISK_READ_BYTES_MAX;
use crate::wire::batch::BatchHeader;

use super::segment::{Walk, Walked, next_offset};
use super::sift::is_sound;

/// Read at a time: what keeps a device busy for less than a write can wait.
const READ_BYTES: usize = 256 << 10;

#[derive(Debug)]
pub(super) struct Feed {
    pub(super) segment: Offset,
    /// Where the segment's offsets end.
    end: Offset,
    len: u64,
    /// Of the first byte of `have`.
    position: u64,
    next: Offset,
    have: Bytes,
    reading: bool,
}

#[derive(Debug)]
pub(super) enum Fed {
    Batch(BatchHeader, Bytes),
    /// Read this, then [`Feed::on_read`].
    Read {
        position: u64,
        len: usize,
    },
    /// A read is under way.
    Waiting,
    End,
    /// What lies at this byte is not the batch that belongs there.
    Corrupt {
        position: u64,
    },
}

impl Feed {
    /// The segment that begins at `segment`, has `len` bytes and ends before the offset `end`.
    pub(super) fn new(segment: Offset, len: u64, end: Offset) -> Feed {
        Feed { segment, end, len, position: 0, next: segment, have: Bytes::new(), reading: false }
    }

    /// What comes next. A read that is asked for counts as under way.
    pub(super) fn next(&mut self) -> Fed {
        if self.reading {
            return Fed::Waiting;
        }
        if self.next >= self.end {
            return Fed::End;
        }
        let corrupt = Fed::Corrupt { position: self.position };
        match Walk::new(&self.have, self.next).peek() {
            Walked::Batch { header, end, .. } => {
                let batch = self.have.split_to(end);
                if !is_sound(&batch, &header) {
                    return corrupt;
                }
                self.position += end as u64;
                self.next = next_offset(&header);
                Fed::Batch(header, batch)
            }
            Walked::Incomplete { need, .. } => {
                let from = self.position + self.have.len() as u64;
                let left = self.len.saturating_sub(from);
                let missing = need.saturating_sub(self.have.len());
                if missing as u64 > left {
                    return corrupt;
                }
                self.reading = true;
                let len = missing.clamp(READ_BYTES, DISK_READ_BYTES_MAX) as u64;
                Fed::Read { position: from, len: len.min(left) as usize }
            }
            Walked::Corrupt => corrupt,
        }
    }

    /// The read that was asked for is not made now.
    pub(super) fn take_back_read(&mut self) {
        self.reading = false;
    }

    /// False when the file is shorter than it was.
    pub(super) fn on_read(&mut self, bytes: Bytes) -> bool {
        self.reading = false;
        let is_more = !bytes.is_empty();
        if self.have.is_empty() {
            self.have = bytes;
        } else {
            let mut joined = BytesMut::with_capacity(self.have.len() + bytes.len());
            joined.extend_from_slice(&self.have);
            joined.extend_from_slice(&bytes);
            self.have = joined.freeze();
        }
        is_more
    }
}
