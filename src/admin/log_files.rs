//! A partition's files on disk: reading all of them once, and cutting off what is damaged.
//!
//! *Owns*: the order in which a repair changes files, so that one that was interrupted can be done again. *Never*:
//! throws batches away: what is cut is kept beside the log. *Runs on*: the main thread.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use crate::base::ids::{LeaderEpoch, Offset};
use crate::base::limits::{DISK_READ_BYTES_MAX, SMALL_FILE_BYTES_MAX};
use crate::log::inspect::{Claims, Cut, FileName, LogFiles, PlacedBatch, Rest, SegmentEnd, SegmentReader, plan_cut};
use crate::wire::records::BatchRecords;

/// What the bytes that are cut off are kept as: this follows their segment's name.
const CUT_SUFFIX: &str = "cut";

/// A file that could not be read or changed.
#[derive(Debug)]
pub struct FileError {
    pub path: PathBuf,
    pub why: io::Error,
}

/// Everything there is to say about one partition's files.
#[derive(Debug)]
pub struct Survey {
    pub dir: PathBuf,
    pub files: LogFiles,
    pub ends: Vec<SegmentEnd>,
    pub cut: Option<Cut>,
    /// Files beside the segments that tell untruths. The broker does without them.
    pub untrue: Vec<(FileName, String)>,
    /// Batches with the right checksum whose records cannot be read. No repair helps.
    pub unreadable: Vec<String>,
}

/// Gives `path` to what an I/O operation failed with.
pub fn at<T>(path: &Path, result: io::Result<T>) -> Result<T, FileError> {
    result.map_err(|why| FileError { path: path.to_owned(), why })
}

/// The names of the files in a directory.
pub fn names(dir: &Path) -> Result<Vec<String>, FileError> {
    let entries = at(dir, fs::read_dir(dir))?;
    let names = entries.map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()));
    at(dir, names.collect())
}

/// Reads a segment from end to end. `on_batch` sees every good batch, `on_bytes` how much was read each time.
pub fn read_segment(
    path: &Path,
    base: Offset,
    epoch: LeaderEpoch,
    mut on_batch: impl FnMut(&PlacedBatch),
    mut on_bytes: impl FnMut(usize),
) -> Result<SegmentEnd, FileError> {
    let mut file = at(path, File::open(path))?;
    let len = at(path, file.metadata())?.len();
    let mut reader = SegmentReader::new(base, epoch, len);
    let mut piece = vec![0; DISK_READ_BYTES_MAX];
    // Not beyond the length it had, since a broker may be writing.
    let mut left = len;
    while left > 0 {
        let room = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let read = at(path, file.read(&mut piece[..room]))?;
        if read == 0 {
            break;
        }
        left -= read as u64;
        reader.push(&piece[..read], &mut on_batch);
        on_bytes(read);
    }
    Ok(reader.finish())
}

impl Survey {
    /// Reads all files of the log in `dir`.
    pub fn take(dir: &Path, mut on_bytes: impl FnMut(usize)) -> Result<Survey, FileError> {
        let files = LogFiles::of(names(dir)?);
        let mut claims = Claims::default();
        let indexes = files.indexes.iter().copied().map(FileName::Index);
        let snapshots = files.snapshots.iter().copied().map(FileName::Snapshot);
        for file in indexes.chain(snapshots).chain(files.has_checkpoint.then_some(FileName::Checkpoint)) {
            claims.read(file, &read_small(&file.path(dir))?);
        }
        let (mut ends, mut unreadable) = (Vec::<SegmentEnd>::new(), Vec::new());
        for &base in &files.segments {
            let epoch = ends.last().map_or(LeaderEpoch(0), |end| end.epoch);
            let path = FileName::Segment(base).path(dir);
            let on_batch = |batch: &PlacedBatch| {
                claims.on_place(base, batch.position, batch.header.first_offset());
                if let Some(why) = fault_of_records(batch) {
                    let (offset, position) = (batch.header.first_offset(), batch.position);
                    unreadable.push(format!("{}, byte {position}, offset {offset}: {why}", path.display()));
                }
            };
            let end = read_segment(&path, base, epoch, on_batch, &mut on_bytes)?;
            claims.on_place(base, end.position, end.next);
            ends.push(end);
        }
        let cut = plan_cut(&ends);
        let untrue = claims.finish(&ends);
        Ok(Survey { dir: dir.to_owned(), files, ends, cut, untrue, unreadable })
    }

    pub fn is_whole(&self) -> bool {
        self.cut.is_none() && self.untrue.is_empty() && self.unreadable.is_empty()
    }

    /// Offsets of the batches that are good and follow on each other: from, and the one after the last.
    pub fn offsets(&self) -> (Offset, Offset) {
        let first = self.ends.first().map_or(Offset(0), |end| end.base);
        let last = self.ends.last().map_or(first, |end| end.next);
        (first, self.cut.as_ref().map_or(last, |cut| cut.offset))
    }

    /// Segments that a cut leaves.
    fn kept(&self) -> impl Iterator<Item = &SegmentEnd> {
        let until = self.cut.as_ref().map_or(Offset(i64::MAX), |cut| cut.segment);
        self.ends.iter().filter(move |end| end.base <= until)
    }

    pub fn batches(&self) -> u64 {
        self.kept().map(|end| end.batches).sum()
    }

    pub fn records(&self) -> u64 {
        self.kept().map(|end| end.records).sum()
    }

    pub fn bytes(&self) -> u64 {
        self.kept().map(|end| end.position).sum()
    }

    /// Reserved space that no batch is in.
    pub fn unused_bytes(&self) -> u64 {
        let unused = |end: &SegmentEnd| if let Rest::Unused { bytes } = end.rest { bytes } else { 0 };
        self.kept().map(unused).sum()
    }

    /// Bytes that a cut takes off, in the segment that is cut and in those after it.
    pub fn cut_bytes(&self) -> u64 {
        let Some(cut) = &self.cut else { return 0 };
        let rest = |end: &SegmentEnd| match end.rest {
            Rest::None => 0,
            Rest::Unused { bytes } | Rest::Bad { bytes, .. } => bytes,
        };
        let taken = |end: &SegmentEnd| if end.base > cut.segment { end.position + rest(end) } else { 0 };
        let of_segment = self.ends.iter().find(|end| end.base == cut.segment).map_or(0, rest);
        self.ends.iter().map(taken).sum::<u64>() + of_segment
    }

    /// The offset after the last one that is known to have been there.
    pub fn known_end(&self) -> Offset {
        self.ends.last().map_or(Offset(0), |end| end.next)
    }

    /// The files beside the segments that have to go with a cut, or because they are untrue.
    pub fn doomed(&self) -> Vec<FileName> {
        let mut doomed: Vec<FileName> = self.untrue.iter().map(|(file, _)| *file).collect();
        if let Some(cut) = &self.cut {
            doomed.extend(
                self.files.indexes.iter().filter(|base| **base >= cut.segment).map(|base| FileName::Index(*base)),
            );
            doomed.extend(
                self.files.snapshots.iter().filter(|base| **base > cut.offset).map(|base| FileName::Snapshot(*base)),
            );
            doomed.extend(self.files.has_checkpoint.then_some(FileName::Checkpoint));
        }
        doomed.sort_unstable();
        doomed.dedup();
        doomed
    }

    /// Cuts what has to be cut and deletes what is untrue. What is cut off is kept in files that end in `.cut`.
    pub fn repair(&self) -> Result<(), FileError> {
        if let Some(cut) = &self.cut {
            // The last first: until the cut is done, the segments that are left follow on each other.
            for base in cut.later.iter().rev() {
                let path = FileName::Segment(*base).path(&self.dir);
                at(&path, fs::rename(&path, kept_as(&path)?))?;
            }
        }
        for file in self.doomed() {
            let path = file.path(&self.dir);
            at(&path, fs::remove_file(&path))?;
        }
        if let Some(cut) = &self.cut {
            cut_segment(&FileName::Segment(cut.segment).path(&self.dir), cut.position)?;
        }
        at(&self.dir, File::open(&self.dir).and_then(|dir| dir.sync_all()))
    }
}

fn read_small(path: &Path) -> Result<Vec<u8>, FileError> {
    let len = at(path, fs::metadata(path))?.len();
    if len > SMALL_FILE_BYTES_MAX as u64 {
        // Larger than any the broker writes: it is read as what it is, no index or snapshot.
        return Ok(Vec::new());
    }
    at(path, fs::read(path))
}

fn fault_of_records(batch: &PlacedBatch) -> Option<String> {
    match BatchRecords::open(&batch.bytes) {
        Ok(records) => records.iter().find_map(|record| record.err()).map(|fault| fault.to_string()),
        Err(fault) => Some(fault.to_string()),
    }
}

/// A name beside the file's that is not taken.
fn kept_as(path: &Path) -> Result<PathBuf, FileError> {
    let name = |number: u32| {
        let end = if number == 0 { String::new() } else { number.to_string() };
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{CUT_SUFFIX}{end}"));
        PathBuf::from(name)
    };
    let taken = || io::Error::other("a hundred repairs have kept what they cut off; move their .cut files away");
    let free = (0..100).map(name).find(|path| !path.exists());
    free.ok_or_else(|| FileError { path: path.to_owned(), why: taken() })
}

fn cut_segment(path: &Path, position: u64) -> Result<(), FileError> {
    let mut file = at(path, OpenOptions::new().read(true).write(true).open(path))?;
    if at(path, file.metadata())?.len() > position {
        let kept = kept_as(path)?;
        at(path, file.seek(SeekFrom::Start(position)))?;
        let mut copy = at(&kept, OpenOptions::new().write(true).create_new(true).open(&kept))?;
        at(&kept, io::copy(&mut file, &mut copy).and_then(|_| copy.sync_all()))?;
        at(path, file.set_len(position))?;
    }
    at(path, file.sync_all())
}
