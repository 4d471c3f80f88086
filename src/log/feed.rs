//! A sealed segment, batch by batch, for compaction: in reads of bounded size, each batch checked.
//!
//! The next read is under way while what came with the last one is worked on.
//!
//! *Owns*: what was read and not given yet. *Never*: gives a batch that is not as it was stored. *Runs on*: the core
//! that owns the partition.

use bytes::{Bytes, BytesMut};

use crate::base::ids::Offset;
use crate::base::limits::DISK_READ_BYTES_MAX;
use crate::wire::batch::BatchHeader;

use super::segment::{Walk, Walked, next_offset};
use super::sift::is_sound;

/// Read at a time. Commits wait for a device that reads: larger reads are less work, and felt more (tuning.md).
const READ_BYTES: usize = 64 << 10;

#[derive(Debug)]
pub(super) struct Feed {
    pub(super) segment: Offset,
    /// Where the segment's offsets end.
    end: Offset,
    len: u64,
    next: Offset,
    /// Where in the file the next batch begins.
    position: u64,
    /// The beginning of a batch that goes on in `have`.
    begun: BytesMut,
    have: Bytes,
    /// What was read after that.
    ahead: Bytes,
    /// Bytes from the beginning of a batch that are needed to go on.
    need: usize,
    reading: bool,
}

#[derive(Debug)]
pub(super) enum Fed {
    Batch(BatchHeader, Bytes),
    /// For the end of a read.
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
        Feed {
            segment,
            end,
            len,
            next: segment,
            position: 0,
            begun: BytesMut::new(),
            have: Bytes::new(),
            ahead: Bytes::new(),
            need: 0,
            reading: false,
        }
    }

    /// What comes next.
    pub(super) fn next(&mut self) -> Fed {
        if self.next >= self.end {
            return if self.reading { Fed::Waiting } else { Fed::End };
        }
        let corrupt = Fed::Corrupt { position: self.position };
        loop {
            let bytes = if self.begun.is_empty() { &self.have[..] } else { &self.begun[..] };
            match Walk::new(bytes, self.next).peek() {
                Walked::Batch { header, end, .. } => {
                    let batch =
                        if self.begun.is_empty() { self.have.split_to(end) } else { self.begun.split().freeze() };
                    assert_eq!(batch.len(), end, "a batch is begun with no more than its bytes");
                    if !is_sound(&batch, &header) {
                        return corrupt;
                    }
                    self.position += end as u64;
                    self.next = next_offset(&header);
                    self.need = 0;
                    return Fed::Batch(header, batch);
                }
                Walked::Incomplete { need, .. } => {
                    if need as u64 > self.len.saturating_sub(self.position) {
                        return corrupt;
                    }
                    self.need = need;
                    if !self.gather() {
                        return Fed::Waiting;
                    }
                }
                Walked::Corrupt => return corrupt,
            }
        }
    }

    /// Has more of the next batch at hand; false when nothing more was read.
    fn gather(&mut self) -> bool {
        if self.have.is_empty() {
            self.have = std::mem::take(&mut self.ahead);
            return !self.have.is_empty();
        }
        let missing = self.need - self.begun.len();
        self.begun.reserve(missing);
        let more = self.have.split_to(missing.min(self.have.len()));
        self.begun.extend_from_slice(&more);
        true
    }

    /// What to read next, position and length, if anything: then a read is under way until [`Feed::on_read`].
    pub(super) fn next_read(&mut self) -> Option<(u64, usize)> {
        let from = self.position + (self.begun.len() + self.have.len()) as u64;
        let left = self.len.saturating_sub(from);
        // The file may be longer than its batches are: nobody needs what lies beyond the last of them.
        if self.reading || !self.ahead.is_empty() || left == 0 || self.next >= self.end {
            return None;
        }
        self.reading = true;
        let missing = self.need.saturating_sub(self.begun.len() + self.have.len());
        let len = missing.clamp(READ_BYTES, DISK_READ_BYTES_MAX) as u64;
        Some((from, len.min(left) as usize))
    }

    pub(super) fn is_reading(&self) -> bool {
        self.reading
    }

    /// The read that was asked for is not made now.
    pub(super) fn take_back_read(&mut self) {
        self.reading = false;
    }

    /// False when the file is shorter than it was.
    pub(super) fn on_read(&mut self, bytes: Bytes) -> bool {
        self.reading = false;
        self.ahead = bytes;
        !self.ahead.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::testing::stored;

    /// The batches that come out with reads that end after so many bytes, or sooner.
    fn feed(bytes: &[u8], batches: i64, read_bytes_max: usize) -> Result<Vec<i64>, u64> {
        let mut feed = Feed::new(Offset(10), bytes.len() as u64, Offset(10 + 2 * batches));
        let mut bases = Vec::new();
        loop {
            match feed.next() {
                Fed::Batch(header, batch) => {
                    assert_eq!(batch.len(), header.size_bytes());
                    bases.push(header.base_offset);
                }
                Fed::Waiting => {
                    let (position, len) = feed.next_read().expect("there is more to read");
                    assert!(feed.is_reading() && feed.next_read().is_none(), "one read at a time");
                    let (from, len) = (position as usize, len.min(read_bytes_max));
                    assert!(feed.on_read(Bytes::copy_from_slice(&bytes[from..from + len])));
                }
                Fed::End => return Ok(bases),
                Fed::Corrupt { position } => return Err(position),
            }
        }
    }

    #[test]
    fn batches_come_whole_wherever_reads_end() {
        let bytes = stored(10, 7);
        for read_bytes_max in 1..bytes.len() + 1 {
            assert_eq!(feed(&bytes, 7, read_bytes_max), Ok(vec![10, 12, 14, 16, 18, 20, 22]));
        }
    }

    #[test]
    fn nothing_is_read_beyond_the_last_batch() {
        let bytes = stored(10, 3);
        let mut feed = Feed::new(Offset(10), bytes.len() as u64 + 100_000, Offset(16));
        assert_eq!(feed.next_read().map(|(from, _)| from), Some(0));
        assert!(feed.on_read(Bytes::from([&bytes[..], &[0; 1000]].concat())));
        while let Fed::Batch(..) = feed.next() {}
        assert_eq!((feed.next_read(), feed.is_reading()), (None, false));
    }

    #[test]
    fn what_is_damaged_or_cut_off_is_named() {
        let whole = stored(10, 3);
        let each = whole.len() / 3;
        for read_bytes_max in [5, 100, whole.len()] {
            let mut bytes = whole.clone();
            bytes[each + 70] ^= 1;
            assert_eq!(feed(&bytes, 3, read_bytes_max), Err(each as u64));
            assert_eq!(feed(&whole[..whole.len() - 1], 3, read_bytes_max), Err(2 * each as u64));
            assert_eq!(feed(&whole, 4, read_bytes_max), Err(3 * each as u64));
        }
    }
}
