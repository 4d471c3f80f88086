//! One segment: a file of record batches back to back, from one offset up to where the next segment begins.
//!
//! *Owns*: what is known of the file: how much of it counts, its index, whether it is open. *Never*: decides when
//! to write or to roll. *Runs on*: the core that owns the partition.

use std::path::{Path, PathBuf};

use crate::base::bounds::BOUNDS_NAME;
use crate::base::bug::{self, Bug};
use crate::base::disk::FileId;
use crate::base::ids::{LeaderEpoch, Offset};
use crate::base::layout::segment_name;
use crate::wire::batch::{BatchHeader, HEADER_BYTES, check_stored};

use super::index::Index;

/// What a log gives its files to be known by on the core.
#[derive(Debug)]
pub(super) struct FileIds {
    owner: u32,
    count: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileState {
    Closed,
    Opening(FileId),
    Open(FileId),
}

#[derive(Debug)]
pub(super) struct Segment {
    pub(super) base: Offset,
    /// Bytes of whole, safe batches. What lies beyond in the file is not part of the log. Only an upper bound while
    /// `max_timestamp` is not known.
    pub(super) len: u64,
    /// Of the safe batches; `i64::MIN` when there are none, `None` until the index of a sealed segment was read.
    pub(super) max_timestamp: Option<i64>,
    /// `None` until it is needed; the active segment always has one.
    pub(super) index: Option<Index>,
    pub(super) file: FileState,
    /// Reads in flight on the file.
    pub(super) reads: u32,
    /// The file is being synced and cut: it must stay open.
    pub(super) sealing: bool,
    /// Stands for the time of records that have none: when the segment was full, or the log opened after that.
    pub(super) sealed_ms: i64,
    /// Of its first batch, where that is known.
    pub(super) first_timestamp: Option<i64>,
    /// What in it looks like a batch to come has this offset or a later one (`lookalike`); 0 when nobody looked.
    pub(super) lookalike: Offset,
}

impl FileIds {
    pub(super) fn new(owner: u32) -> FileIds {
        FileIds { owner, count: 0 }
    }

    pub(super) fn next(&mut self) -> FileId {
        self.count = self.count.wrapping_add(1);
        FileId::new(self.owner, self.count)
    }
}

impl Segment {
    pub(super) fn active(base: Offset, index_interval_bytes: u32) -> Segment {
        Segment {
            base,
            len: 0,
            max_timestamp: Some(i64::MIN),
            index: Some(Index::new(base, index_interval_bytes)),
            file: FileState::Closed,
            reads: 0,
            sealing: false,
            sealed_ms: i64::MAX,
            first_timestamp: None,
            lookalike: Offset(0),
        }
    }

    pub(super) fn sealed(base: Offset, len: u64, max_timestamp: Option<i64>, sealed_ms: i64) -> Segment {
        Segment {
            base,
            len,
            max_timestamp,
            index: None,
            file: FileState::Closed,
            reads: 0,
            sealing: false,
            sealed_ms,
            first_timestamp: None,
            lookalike: Offset(0),
        }
    }

    pub(super) fn open_file(&self) -> Option<FileId> {
        match self.file {
            FileState::Open(file) => Some(file),
            FileState::Closed | FileState::Opening(_) => None,
        }
    }
}

/// What kind of file of a log a name is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FileName {
    Segment(Offset),
    Index(Offset),
    Snapshot(Offset),
    Checkpoint,
    MustReach,
    Bounds,
    /// What was a segment of batches below this offset, kept to become another.
    Spare(Offset),
    /// What a compaction is writing.
    Cleaned(Offset),
    /// What it has written, to take the place of all segments between these offsets.
    Swap(Offset, Offset),
}

impl FileName {
    pub(super) fn parse(name: &str) -> Option<FileName> {
        match name {
            "checkpoint" => return Some(FileName::Checkpoint),
            "must-reach" => return Some(FileName::MustReach),
            _ => {}
        }
        if name == BOUNDS_NAME {
            return Some(FileName::Bounds);
        }
        let (digits, kind) = name.split_once('.')?;
        if digits.len() != 20 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let base = Offset(digits.parse().ok()?);
        if let Some(end) = kind.strip_suffix(".swap") {
            let is_number = end.len() == 20 && end.bytes().all(|byte| byte.is_ascii_digit());
            return is_number.then(|| end.parse().ok().map(|end| FileName::Swap(base, Offset(end))))?;
        }
        match kind {
            "log" => Some(FileName::Segment(base)),
            "index" => Some(FileName::Index(base)),
            "snapshot" => Some(FileName::Snapshot(base)),
            "spare" => Some(FileName::Spare(base)),
            "cleaned" => Some(FileName::Cleaned(base)),
            _ => None,
        }
    }

    pub fn path(self, dir: &Path) -> PathBuf {
        match self {
            FileName::Segment(base) => dir.join(segment_name(base)),
            FileName::Index(base) => dir.join(format!("{:020}.index", base.0)),
            FileName::Snapshot(base) => dir.join(format!("{:020}.snapshot", base.0)),
            FileName::Checkpoint => dir.join("checkpoint"),
            FileName::MustReach => dir.join("must-reach"),
            FileName::Bounds => dir.join(BOUNDS_NAME),
            FileName::Spare(end) => dir.join(format!("{:020}.spare", end.0)),
            FileName::Cleaned(base) => dir.join(format!("{:020}.cleaned", base.0)),
            FileName::Swap(base, end) => dir.join(format!("{:020}.{:020}.swap", base.0, end.0)),
        }
    }
}

/// Goes from batch to batch by their headers.
#[derive(Debug)]
pub(super) struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
    expect: Offset,
}

#[derive(Debug)]
pub(super) enum Walked {
    /// A whole batch, at these bytes.
    Batch { header: BatchHeader, start: usize, end: usize },
    /// The bytes end within a batch, or exactly before one; `need` bytes from its start are enough to go on. The
    /// header, when it is whole.
    Incomplete { need: usize, header: Option<BatchHeader> },
    /// What lies here is not the batch that belongs here.
    Corrupt,
}

/// Offsets stay below, so that adding to one cannot overflow.
const OFFSET_MAX: i64 = 1 << 62;

impl<'a> Walk<'a> {
    /// `bytes` begin with the batch whose first offset is `expect`.
    pub(super) fn new(bytes: &'a [u8], expect: Offset) -> Walk<'a> {
        Walk { bytes, at: 0, expect }
    }

    /// Where in the bytes the next batch begins.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// The first offset of the next batch.
    pub(super) fn expect(&self) -> Offset {
        self.expect
    }

    /// Looks at the next batch and stays before it.
    pub(super) fn peek(&self) -> Walked {
        let start = self.at;
        let rest = &self.bytes[start..];
        if rest.len() < HEADER_BYTES {
            return Walked::Incomplete { need: HEADER_BYTES, header: None };
        }
        let Some(header) = BatchHeader::read(rest) else {
            return Walked::Corrupt;
        };
        let belongs = header.magic == 2
            && (header.base_offset == self.expect.0 || bug::on(Bug::TakeStaleBatches))
            && header.base_offset < OFFSET_MAX
            && header.last_offset_delta >= 0
            && header.partition_leader_epoch >= 0;
        let Some(size) = size_bytes(&header).filter(|_| belongs) else {
            return Walked::Corrupt;
        };
        if rest.len() < size {
            return Walked::Incomplete { need: size, header: Some(header) };
        }
        Walked::Batch { header, start, end: start + size }
    }

    /// Whether the next batch, which is whole, is as it was written.
    pub(super) fn is_intact(&self) -> bool {
        check_stored(&self.bytes[self.at..], self.expect, LeaderEpoch::UNKNOWN).is_ok()
    }

    /// Goes past a batch just peeked at.
    pub(super) fn pass(&mut self, header: &BatchHeader, end: usize) {
        self.at = end;
        self.expect = next_offset(header);
    }
}

/// The offset after the last of a batch that a [`Walk`] accepted.
pub(super) fn next_offset(header: &BatchHeader) -> Offset {
    Offset(header.base_offset + i64::from(header.last_offset_delta) + 1)
}

/// The whole batch with its first 12 bytes; `None` when the length cannot be one.
fn size_bytes(header: &BatchHeader) -> Option<usize> {
    let size = usize::try_from(header.batch_length).ok()?.checked_add(12)?;
    (size >= HEADER_BYTES).then_some(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_and_others_are_none_of_ours() {
        for name in [
            FileName::Segment(Offset(0)),
            FileName::Index(Offset(1234)),
            FileName::Snapshot(Offset(i64::MAX)),
            FileName::Checkpoint,
            FileName::MustReach,
            FileName::Bounds,
            FileName::Spare(Offset(77)),
            FileName::Cleaned(Offset(7)),
            FileName::Swap(Offset(7), Offset(1 << 40)),
        ] {
            let path = name.path(Path::new("t-0"));
            let text = path.file_name().and_then(|text| text.to_str()).unwrap();
            assert_eq!(FileName::parse(text), Some(name));
        }
        for name in ["0.log", "00000000000000000000.log.tmp", "99999999999999999999.log", "+0000000000000000000.log"] {
            assert_eq!(FileName::parse(name), None, "{name}");
        }
    }
}
