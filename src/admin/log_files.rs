//! A partition's files on disk: reading all of them once, and cutting off what is damaged.
//!
//! *Owns*: the order in which a repair changes files, so that one that was interrupted can be done again. *Never*:
//! throws batches away: what is cut is kept beside the log. *Runs on*: the main thread.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use crate::admin::log_journals::{Overlay, read};
use crate::base::bounds::Bounds;
use crate::base::ids::{LeaderEpoch, Offset};
use crate::base::limits::{DISK_READ_BYTES_MAX, SMALL_FILE_BYTES_MAX};
use crate::log::inspect::{Claims, Cut, FileName, LogFiles, PlacedBatch, Rest, SegmentEnd, SegmentReader, plan_cut};
use crate::log::reach::MustReach;
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
    pub bounds: Bounds,
    /// What journals have of it: a broker that starts writes it to the segments.
    pub overlay: Overlay,
    /// What journals ask for, those before a last start included, and what was noted to be durable.
    must_reach: MustReach,
    /// What they have and cannot be written, since what comes before is missing.
    pub gaps: Vec<String>,
    pub ends: Vec<SegmentEnd>,
    pub cut: Option<Cut>,
    /// Files beside the segments that tell untruths, or of what is gone. Without them the broker goes by the segments.
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

/// Reads a segment from end to end, as it will be with what journals have of it. `on_batch` sees every good batch,
/// `on_bytes` how much was read each time.
pub fn read_segment(
    path: &Path,
    base: Offset,
    epoch: LeaderEpoch,
    overlay: &Overlay,
    mut on_batch: impl FnMut(&PlacedBatch),
    mut on_bytes: impl FnMut(usize),
) -> Result<SegmentEnd, FileError> {
    // A journal may have the first bytes of a segment that has no file yet.
    let file = if path.exists() { Some(at(path, File::open(path))?) } else { None };
    let file_len = file.as_ref().map_or(Ok(0), |file| at(path, file.metadata()).map(|metadata| metadata.len()))?;
    let len = overlay.len_of(base, file_len).unwrap_or_else(|(len, _)| len);
    let mut reader = SegmentReader::new(base, epoch, len);
    // Not beyond the length it had, since a broker may be writing.
    for position in (0..len).step_by(DISK_READ_BYTES_MAX) {
        let wanted = DISK_READ_BYTES_MAX.min(usize::try_from(len - position).unwrap_or(usize::MAX));
        let mut piece = file.as_ref().map_or(Ok(Vec::new()), |file| at(path, read(file, position, wanted)))?;
        piece.resize(wanted, 0);
        overlay.apply(base, position, &mut piece)?;
        reader.push(&piece, &mut on_batch);
        on_bytes(piece.len());
    }
    Ok(reader.finish())
}

impl Survey {
    /// Reads all files of the log in `dir`, as they will be with what journals have of them.
    pub fn take(dir: &Path, mut overlay: Overlay, mut on_bytes: impl FnMut(usize)) -> Result<Survey, FileError> {
        let mut files = LogFiles::of(if dir.is_dir() { names(dir)? } else { Vec::new() });
        let mut must_reach = overlay.must_reach.clone().join(MustReach { reach: overlay.durable, doubt: None });
        if files.has_must_reach {
            must_reach = must_reach.join(read_must_reach(dir)?);
        }
        let mut claims = Claims::default();
        let mut bounds = Bounds::default();
        if files.has_bounds {
            bounds = claims.read_bounds(&read_small(&FileName::Bounds.path(dir))?);
        }
        files.finish_swaps();
        overlay.segments.retain(|base, pieces| {
            pieces.retain(|piece| !bounds.voids(piece.truncations));
            *base >= bounds.rewritten && !pieces.is_empty()
        });
        let gaps = lay_over(dir, &overlay, bounds, &mut files)?;
        // A broker that starts removes them.
        let below = files.segments.partition_point(|base| *base <= bounds.start).saturating_sub(1);
        files.segments.drain(..below);
        let indexes = files.indexes.iter().copied().map(FileName::Index);
        let snapshots = files.snapshots.iter().copied().map(FileName::Snapshot);
        for file in indexes.chain(snapshots).chain(files.has_checkpoint.then_some(FileName::Checkpoint)) {
            claims.read(file, &read_small(&file.path(dir))?);
        }
        let (mut ends, mut unreadable) = (Vec::<SegmentEnd>::new(), Vec::new());
        for &base in &files.segments {
            let epoch = ends.last().map_or(LeaderEpoch(0), |end| end.epoch);
            let path = files.segment_file(base).path(dir);
            let on_batch = |batch: &PlacedBatch| {
                claims.on_place(base, batch.position, batch.header.first_offset());
                if let Some(why) = fault_of_records(batch) {
                    let (offset, position) = (batch.header.first_offset(), batch.position);
                    unreadable.push(format!("{}, byte {position}, offset {offset}: {why}", path.display()));
                }
            };
            let end = read_segment(&path, base, epoch, &overlay, on_batch, &mut on_bytes)?;
            claims.on_place(base, end.position, end.next);
            ends.push(end);
        }
        let cut = plan_cut(&ends);
        let untrue = claims.finish(&ends);
        Ok(Survey { dir: dir.to_owned(), files, bounds, overlay, must_reach, gaps, ends, cut, untrue, unreadable })
    }

    pub fn is_whole(&self) -> bool {
        let batches = self.cut.is_none() && self.unreadable.is_empty() && self.gaps.is_empty();
        batches && self.untrue.is_empty() && self.missing().is_none() && self.doubt().is_none()
    }

    /// Something is wrong that a repair takes away.
    pub fn can_be_repaired(&self) -> bool {
        self.is_to_be_changed() || !self.gaps.is_empty() || self.missing().is_some() || self.doubt().is_some()
    }

    /// Something must be cut or deleted.
    pub fn is_to_be_changed(&self) -> bool {
        self.cut.is_some() || !self.untrue.is_empty() || self.files.has_must_reach
    }

    /// Offsets that journals know of, or that were durable, from the first that the segments lack.
    pub fn missing(&self) -> Option<(Offset, Offset)> {
        let (_, end) = self.offsets();
        let reach = self.bounds.reach(self.must_reach.reach);
        (reach > end).then_some((end, reach))
    }

    /// Why it may lack batches that nothing is known of.
    pub fn doubt(&self) -> Option<&str> {
        self.must_reach.doubt.as_deref()
    }

    /// Offsets of the batches that are good and follow on each other: from, and the one after the last.
    pub fn offsets(&self) -> (Offset, Offset) {
        let first = self.ends.first().map_or(Offset(0), |end| end.base);
        let last = self.ends.last().map_or(first, |end| end.next);
        let start = self.bounds.start;
        (first.max(start), self.cut.as_ref().map_or(last, |cut| cut.offset).max(start))
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
        let unused = |end: &SegmentEnd| match end.rest {
            Rest::Unused { bytes } | Rest::Older { bytes } => bytes,
            Rest::None | Rest::Bad { .. } => 0,
        };
        self.kept().map(unused).sum()
    }

    /// Bytes that a cut takes off, in the segment that is cut and in those after it.
    pub fn cut_bytes(&self) -> u64 {
        let Some(cut) = &self.cut else { return 0 };
        let rest = |end: &SegmentEnd| match end.rest {
            Rest::None => 0,
            Rest::Unused { bytes } | Rest::Older { bytes } | Rest::Bad { bytes, .. } => bytes,
        };
        let taken = |end: &SegmentEnd| if end.base > cut.segment { end.position + rest(end) } else { 0 };
        let of_segment = self.ends.iter().find(|end| end.base == cut.segment).map_or(0, rest);
        self.ends.iter().map(taken).sum::<u64>() + of_segment
    }

    /// The offset after the last one that is known to have been there.
    pub fn known_end(&self) -> Offset {
        self.ends.last().map_or(Offset(0), |end| end.next).max(self.bounds.reach(self.must_reach.reach))
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
        if self.files.has_must_reach {
            let path = FileName::MustReach.path(&self.dir);
            at(&path, fs::remove_file(&path))?;
        }
        at(&self.dir, File::open(&self.dir).and_then(|dir| dir.sync_all()))
    }
}

/// Adds the segments that only journals have, and says what of them has no place.
fn lay_over(dir: &Path, overlay: &Overlay, bounds: Bounds, files: &mut LogFiles) -> Result<Vec<String>, FileError> {
    let mut gaps = Vec::new();
    for (&base, pieces) in &overlay.segments {
        let path = FileName::Segment(base).path(dir);
        let is_there = files.segments.contains(&base);
        // Retention has removed it: there is always a last segment.
        if !is_there && (base < bounds.start || files.segments.last().is_some_and(|last| *last > base)) {
            continue;
        }
        let begins = pieces.first().is_some_and(|piece| piece.start == 0);
        if !is_there && !begins {
            gaps.push(format!("{}: is missing: the journal holds bytes that follow on others in it", path.display()));
            continue;
        }
        let len = if is_there { at(&path, fs::metadata(&path))?.len() } else { 0 };
        if let Err((len, start)) = overlay.len_of(base, len) {
            let path = path.display();
            gaps.push(format!("{path}: ends at byte {len}, but what the journal holds begins at byte {start}"));
        }
        if !is_there {
            files.segments.push(base);
            files.segments.sort_unstable();
        }
    }
    Ok(gaps)
}

fn read_must_reach(dir: &Path) -> Result<MustReach, FileError> {
    let path = FileName::MustReach.path(dir);
    let damaged = || MustReach { doubt: Some(format!("{} is damaged", path.display())), ..MustReach::default() };
    Ok(MustReach::from_file(&read_small(&path)?).unwrap_or_else(damaged))
}

/// Puts a small file in the place of another, durably.
pub fn replace_small(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".tmp");
    let beside = PathBuf::from(beside);
    at(&beside, fs::write(&beside, bytes).and_then(|()| File::open(&beside)?.sync_all()))?;
    at(path, fs::rename(&beside, path))?;
    let dir = path.parent().unwrap_or(Path::new(""));
    at(dir, File::open(dir).and_then(|dir| dir.sync_all()))
}

pub fn read_small(path: &Path) -> Result<Vec<u8>, FileError> {
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
