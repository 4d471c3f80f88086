//! The words for disk work: an operation a decision asks for, and how it ended.
//!
//! State machines on the floors above return `DiskOp`s and are told a `DiskResult` for each, exactly once, in any
//! order. The shell (or a simulated disk) carries them out.
//!
//! *Owns*: the vocabulary. *Never*: touches a file. *Runs on*: every core; a file belongs to the core that opened it.

use std::fmt;
use std::path::PathBuf;

use bytes::Bytes;

/// A file opened by a core. The number is chosen by whoever sends [`DiskOp::Open`] and must be unique on its core:
/// the owner's number in the upper 32 bits, a counter of the owner's in the lower.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FileId(pub u64);

impl FileId {
    pub fn new(owner: u32, count: u32) -> FileId {
        FileId(u64::from(owner) << 32 | u64::from(count))
    }
}

/// Direct I/O moves whole blocks of this many bytes, at multiples of it.
pub const BLOCK_BYTES: usize = 4096;

/// All paths are relative to the data directory.
#[derive(Debug, Clone)]
pub enum DiskOp {
    /// Names and lengths of the plain files in a directory, sorted by name. A directory that does not exist is
    /// created and empty.
    List { dir: PathBuf },
    /// Opens for reading and writing with O_DIRECT. With `create`, the file is made when missing; without, a
    /// missing file is [`DiskErrorKind::NotFound`]. Answered with the file's length.
    Open { file: FileId, path: PathBuf, create: bool },
    /// The same with `create`; every write to the file is durable when it is answered, and needs no sync.
    /// After a failed one nothing is known of the file's newest writes, as after a failed [`DiskOp::Sync`].
    OpenDurable { file: FileId, path: PathBuf },
    /// Writes the slices, one after the other, then zeros up to the next block boundary, at `position`, a
    /// multiple of [`BLOCK_BYTES`]. Never two writes in flight that touch one block: the sender sees to it.
    /// On failure any part may have been written.
    Write { file: FileId, position: u64, data: Vec<Bytes> },
    /// fdatasync: everything that completed before this was sent is durable when it succeeds. Fails with
    /// [`DiskErrorKind::NotSynced`], and is never repeated then.
    Sync { file: FileId },
    /// Reads up to `len` bytes at `position`; both may be unaligned. Shorter at the end of the file.
    Read { file: FileId, position: u64, len: usize },
    /// Reserves space and extends the file to `len` bytes, so that later writes inside stay asynchronous.
    Allocate { file: FileId, len: u64 },
    /// Cuts or extends the file to `len` bytes.
    Truncate { file: FileId, len: u64 },
    /// Closes the file; nothing of it may be in flight.
    Close { file: FileId },
    /// Renames, replacing `to`, and makes the directory entry durable.
    Rename { from: PathBuf, to: PathBuf },
    /// Removes a file. A missing one is success.
    Delete { path: PathBuf },
    /// Removes a directory and all in it, for good: a crash does not bring it back. A missing one is success.
    DeleteDir { dir: PathBuf },
    /// Reads a whole small file without opening it by id. Bounded by `limits::SMALL_FILE_BYTES_MAX`.
    ReadFile { path: PathBuf },
    /// Replaces a whole small file: written beside, synced, renamed over, directory synced. After a crash the
    /// old or the new content is there.
    WriteFile { path: PathBuf, data: Bytes },
    /// How much space the volume of the data directory has.
    Space,
}

impl DiskOp {
    /// Bytes that the device is given to write, in whole blocks; 0 for what writes no contents.
    pub fn write_bytes(&self) -> u64 {
        let bytes: usize = match self {
            DiskOp::Write { data, .. } => data.iter().map(Bytes::len).sum(),
            DiskOp::WriteFile { data, .. } => data.len(),
            _ => 0,
        };
        bytes.next_multiple_of(BLOCK_BYTES) as u64
    }
}

impl DiskOp {
    /// What is asked for, for logs and counts.
    pub fn name(&self) -> &'static str {
        match self {
            DiskOp::List { .. } => "list",
            DiskOp::Open { .. } | DiskOp::OpenDurable { .. } => "open",
            DiskOp::Write { .. } => "write",
            DiskOp::Sync { .. } => "sync",
            DiskOp::Read { .. } => "read",
            DiskOp::Allocate { .. } => "allocate",
            DiskOp::Truncate { .. } => "truncate",
            DiskOp::Close { .. } => "close",
            DiskOp::Rename { .. } => "rename",
            DiskOp::Delete { .. } => "delete",
            DiskOp::DeleteDir { .. } => "delete dir",
            DiskOp::ReadFile { .. } => "read file",
            DiskOp::WriteFile { .. } => "write file",
            DiskOp::Space => "space",
        }
    }

    /// The open file it is about, or the one it opens; `None` when it names a path alone.
    pub fn file(&self) -> Option<FileId> {
        match self {
            DiskOp::Open { file, .. }
            | DiskOp::OpenDurable { file, .. }
            | DiskOp::Write { file, .. }
            | DiskOp::Sync { file }
            | DiskOp::Read { file, .. }
            | DiskOp::Allocate { file, .. }
            | DiskOp::Truncate { file, .. }
            | DiskOp::Close { file } => Some(*file),
            _ => None,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiskDone {
    /// List.
    Listed(Vec<(String, u64)>),
    /// Open: the file's length in bytes.
    Opened { len: u64 },
    /// Read and ReadFile.
    Read(Bytes),
    /// Space: of the volume in all, and what may still be used of it.
    Space { total_bytes: u64, usable_bytes: u64 },
    /// Everything else.
    Done,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskErrorKind {
    NotFound,
    /// No space, or a quota is used up. Space may come back.
    Full,
    /// Too many open files.
    TooManyFiles,
    /// A sync failed, of a file or of the directory that holds it: what the device has of everything it was for is
    /// not known, and another sync would not tell. Whoever decides must end writing to the directory.
    NotSynced,
    /// The device or file system failed; the state of what was being written is not known.
    Failed,
}

/// Why a disk operation failed. For [`DiskErrorKind::Failed`] on a write, and for [`DiskErrorKind::NotSynced`], the
/// caller must treat the bytes as neither written nor unwritten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskError {
    pub kind: DiskErrorKind,
    /// The operating system's words, for the log.
    pub message: String,
}

impl fmt::Display for DiskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for DiskError {}

pub type DiskResult = Result<DiskDone, DiskError>;
