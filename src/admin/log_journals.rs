//! The commit journals in a data directory: what they hold that is not in its segment yet, and whether they are whole.
//!
//! *Owns*: reading them, and the segments as they will be once the journals are replayed. *Never*: changes a file.
//! *Runs on*: the main thread.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::admin::log_files::{FileError, at, names, read_small, replace_small};
use crate::base::bounds::Reach;
use crate::base::disk::BLOCK_BYTES;
use crate::base::ids::{CoreId, Offset, PartitionIndex, TopicId};
use crate::broker::message::TopicPartition;
use crate::broker::route;
use crate::journal::doubt::Doubt;
use crate::journal::format::{self, EntryHead, FileName, Header, RING_START, VERSION};
use crate::journal::noted::{self, Found, Noted, Notes};
use crate::journal::replay::next_whole;
use crate::journal::scan::{Scan, Scanned};
use crate::log::reach::MustReach;
use crate::meta::{Image, inspect};

/// One journal's file.
#[derive(Debug)]
pub struct JournalFile {
    pub path: PathBuf,
    pub name: FileName,
    pub header: Option<Header>,
    /// Why a broker would not start with it.
    pub refused: Option<String>,
    pub commits: Vec<CommitRow>,
    pub entries: Vec<EntryRow>,
    /// Where in the file, and what is wrong there.
    pub damages: Vec<(u64, String)>,
    /// How many there were, if that is known.
    cores: Option<u16>,
    /// It was in use and is not there.
    pub is_missing: bool,
    /// Of which partitions nobody can tell how far the journal had them.
    pub doubt: Doubt,
    /// Without a header: how far the commits that are whole had each partition, now or long ago.
    pub once_known: BTreeMap<(TopicId, PartitionIndex), Reach>,
}

/// A whole commit that is still needed.
#[derive(Debug, Clone, Copy)]
pub struct CommitRow {
    pub sequence: u64,
    pub position: u64,
    pub bytes: usize,
    pub entries: usize,
}

#[derive(Debug, Clone, Copy)]
pub struct EntryRow {
    pub sequence: u64,
    pub head: EntryHead,
    /// Of the payload, in the journal's file.
    pub position: u64,
}

/// All journals of a data directory.
#[derive(Debug, Default)]
pub struct Journals {
    pub dir: Option<PathBuf>,
    pub files: Vec<JournalFile>,
    /// `None` when the metadata cannot be read.
    pub image: Option<Image>,
    notes: Notes,
    /// By the name of the partition's directory.
    overlays: BTreeMap<String, Overlay>,
}

/// What journals have of one partition.
#[derive(Debug, Default, Clone)]
pub struct Overlay {
    /// By segment, in the order of the commits.
    pub segments: BTreeMap<Offset, Vec<Piece>>,
    pub must_reach: MustReach,
    /// The core has noted that its segments are durable so far.
    pub durable: Reach,
}

#[derive(Debug, Clone)]
pub struct Piece {
    pub start: u64,
    pub len: u64,
    pub truncations: u32,
    journal: PathBuf,
    position: u64,
}

impl JournalFile {
    pub fn take(path: &Path, name: FileName, notes: &Notes) -> Result<JournalFile, FileError> {
        let file = at(path, File::open(path))?;
        let len = at(path, file.metadata())?.len();
        let mut journal = JournalFile::nothing(path, name);
        // What was put aside is not the one in use.
        let objection = |found| {
            noted::objection(notes, journal_core(name), found).filter(|_| !matches!(name, FileName::Damaged(..)))
        };
        let headers = match read(&file, 0, RING_START as usize) {
            Ok(headers) => headers,
            Err(why) => {
                journal.damage(0, format!("cannot be read: {why}"));
                return Ok(journal);
            }
        };
        match format::newest_header(&headers) {
            Ok(Some(header)) => {
                if header.identity.core != journal.core() {
                    journal.refused = Some(format!("was the journal of core {}", header.identity.core));
                }
                journal.cores = Some(header.identity.cores);
                if let Some(why) = objection(Found::Run(header.run)) {
                    journal.damage(0, why);
                    journal.header = Some(header);
                    return Ok(journal);
                }
                journal.scan(&file, Scan::new(&header));
                let whole = RING_START + header.ring_bytes;
                if len < whole {
                    journal.damage(len, format!("is cut: it has {len} bytes of {whole}"));
                }
                journal.header = Some(header);
            }
            Ok(None) => {
                journal.probe(&file, len);
                if let Some(why) = objection(Found::Blank).filter(|_| journal.damages.is_empty()) {
                    journal.damage(0, why);
                }
            }
            Err(version) => {
                journal.refused = Some(format!("has format version {version}, this program knows {VERSION}"));
            }
        }
        Ok(journal)
    }

    fn nothing(path: &Path, name: FileName) -> JournalFile {
        JournalFile {
            path: path.to_owned(),
            name,
            header: None,
            refused: None,
            commits: Vec::new(),
            entries: Vec::new(),
            damages: Vec::new(),
            cores: None,
            is_missing: false,
            doubt: Doubt::default(),
            once_known: BTreeMap::new(),
        }
    }

    fn missing(path: &Path, name: FileName, cores: Option<u16>, why: String) -> JournalFile {
        let mut journal = JournalFile { cores, is_missing: true, ..JournalFile::nothing(path, name) };
        journal.damage(0, why);
        journal
    }

    fn scan(&mut self, file: &File, mut scan: Scan) {
        loop {
            match scan.step() {
                Scanned::Read { position, len } => match read(file, position, len) {
                    Ok(bytes) => scan.on_read(bytes.into()),
                    Err(_) => scan.on_unreadable(),
                },
                Scanned::Commit { position, commit, .. } => {
                    let (head, entries) = (commit.head, commit.entries.len());
                    commit.entries.iter().for_each(|(entry, _)| self.doubt.on_entry(entry.topic, entry.partition));
                    self.commits.push(CommitRow { sequence: head.sequence, position, bytes: head.bytes, entries });
                    self.entries.extend(commit.entries.into_iter().map(|(entry, payload)| EntryRow {
                        sequence: head.sequence,
                        head: entry,
                        position: position + payload.start as u64,
                    }));
                }
                Scanned::Damaged { position, sequence, found, unreadable } => {
                    let (next, is) = (next_whole(found), if unreadable { "cannot be read" } else { "is damaged" });
                    self.damage(position, format!("commit {sequence} {is}, {next}"));
                }
                Scanned::End => return,
            }
        }
    }

    /// A file without a header was never used, or has lost both.
    fn probe(&mut self, file: &File, len: u64) {
        let mut is_written = false;
        for position in (RING_START..len).step_by(BLOCK_BYTES) {
            let Ok(block) = read(file, position, BLOCK_BYTES) else {
                is_written = true;
                continue;
            };
            is_written |= format::is_written(&block);
            let Some(head) = format::CommitHead::read(&block) else { continue };
            let commit = read(file, position, head.bytes).ok().and_then(|bytes| format::read_commit(&bytes));
            for (entry, _) in commit.into_iter().flat_map(|commit| commit.entries) {
                let known = self.once_known.entry((entry.topic, entry.partition)).or_default();
                *known = (*known).max(Reach { truncations: entry.truncations, end: entry.next });
            }
        }
        if is_written {
            self.damage(0, "has no header that is whole: which of its commits are needed is not known".into());
        }
    }

    fn damage(&mut self, position: u64, message: String) {
        self.doubt.on_damage(&format!("{}, byte {position}: {message}", self.path.display()));
        self.damages.push((position, message));
    }

    fn core(&self) -> CoreId {
        journal_core(self.name)
    }

    pub fn is_aside(&self) -> bool {
        matches!(self.name, FileName::Damaged(..))
    }

    pub fn is_whole(&self) -> bool {
        !self.is_aside() && self.refused.is_none() && self.damages.is_empty()
    }

    /// There is nothing in it to replay or to put aside.
    pub fn is_idle(&self) -> bool {
        self.entries.is_empty() && self.damages.is_empty()
    }

    pub fn payload_bytes(&self) -> u64 {
        self.entries.iter().map(|entry| u64::from(entry.head.len)).sum()
    }
}

fn journal_core(name: FileName) -> CoreId {
    match name {
        FileName::Journal(core) | FileName::Damaged(core, _) => core,
    }
}

impl Journals {
    /// The journals of the data directory that `path` is, or is a partition's directory in.
    pub fn take(path: &Path) -> Result<Journals, FileError> {
        let path = at(path, path.canonicalize())?;
        let places = [Some(path.as_path()), path.parent()];
        let is_data = |data: &&Path| data.join(format::DIR).is_dir() || data.join(noted::DIR).is_dir();
        let Some(data) = places.into_iter().flatten().find(is_data) else {
            return Ok(Journals::default());
        };
        let dir = data.join(format::DIR);
        let found = if dir.is_dir() { names(&dir)? } else { Vec::new() };
        let mut known: Vec<FileName> = found.iter().filter_map(|name| FileName::parse(name)).collect();
        known.sort_unstable();
        let notes = notes(data)?;
        let mut files = Vec::with_capacity(known.len());
        for name in &known {
            files.push(JournalFile::take(&data.join(name.path()), *name, &notes)?);
        }
        for (core, cores, why) in noted::missing(&notes, |core| known.contains(&FileName::Journal(core))) {
            let name = FileName::Journal(core);
            files.push(JournalFile::missing(&data.join(name.path()), name, cores, why));
        }
        let mut journals =
            Journals { dir: Some(data.to_owned()), files, image: image(data)?, notes, overlays: BTreeMap::new() };
        journals.lay_over();
        Ok(journals)
    }

    /// One of them, or a copy that lies elsewhere.
    pub fn file(&self, path: &Path, name: FileName) -> Result<JournalFile, FileError> {
        JournalFile::take(path, name, &self.notes)
    }

    /// What was put aside was replayed before, and what its partitions lack is kept in their directories.
    fn lay_over(&mut self) {
        let mut overlays = BTreeMap::<String, Overlay>::new();
        for file in self.files.iter().filter(|file| !file.is_aside()) {
            for entry in &file.entries {
                let head = &entry.head;
                let Some(dir) = self.directory(head.topic, head.partition) else { continue };
                let overlay = overlays.entry(dir).or_default();
                let reach = Reach { truncations: head.truncations, end: head.next };
                overlay.must_reach.reach = overlay.must_reach.reach.max(reach);
                overlay.segments.entry(head.segment).or_default().push(Piece {
                    start: head.position,
                    len: u64::from(head.len),
                    truncations: head.truncations,
                    journal: file.path.clone(),
                    position: entry.position,
                });
            }
            for (&(topic, partition), known) in &file.once_known {
                let Some(dir) = self.directory(topic, partition) else { continue };
                let overlay = overlays.entry(dir).or_default();
                overlay.must_reach.reach = overlay.must_reach.reach.max(*known);
            }
            for dir in self.in_doubt(file) {
                overlays.entry(dir).or_default().must_reach.doubt = file.doubt.cause().map(str::to_owned);
            }
        }
        for (&(topic, partition), &reach) in self.notes.values().flatten().flat_map(|noted| &noted.durable) {
            let Some(dir) = self.directory(topic, partition) else { continue };
            let overlay = overlays.entry(dir).or_default();
            overlay.durable = overlay.durable.max(reach);
        }
        self.overlays = overlays;
    }

    /// Takes back what was noted of the partitions in these directories: they have been repaired.
    pub fn forget_durable(&self, dirs: &[PathBuf]) -> Result<(), FileError> {
        let Some(data) = &self.dir else { return Ok(()) };
        let dirs: Vec<_> = dirs.iter().filter_map(|dir| name_of(dir)).collect();
        for (core, noted) in &self.notes {
            let Some(noted) = noted else { continue };
            let is_kept = |topic, partition| self.directory(topic, partition).is_none_or(|dir| !dirs.contains(&dir));
            let mut kept = noted.clone();
            kept.durable.retain(|(topic, partition), _| is_kept(*topic, *partition));
            kept.committed.retain(|(topic, partition), _| is_kept(*topic, *partition));
            if kept != *noted {
                replace_small(&data.join(noted::path(*core)), &kept.to_file())?;
            }
        }
        Ok(())
    }

    /// The directories of partitions that may have lost what this journal had of them.
    fn in_doubt(&self, file: &JournalFile) -> Vec<String> {
        let topics = self.image.iter().flat_map(Image::topics);
        let all = topics.flat_map(|topic| (0..topic.partitions).map(|at| (topic.id, PartitionIndex(at))));
        // Whose it was is not known without its header.
        let is_its = |topic, partition| {
            file.cores.is_none_or(|cores| route::owner(TopicPartition { topic, partition }, cores) == file.core())
        };
        let doubtful =
            all.filter(|&(topic, partition)| file.doubt.is_about((topic, partition)) && is_its(topic, partition));
        doubtful.filter_map(|(topic, partition)| self.directory(topic, partition)).collect()
    }

    /// The name of a partition's directory; `None` when its topic was deleted or the metadata cannot be read.
    pub fn directory(&self, topic: TopicId, partition: PartitionIndex) -> Option<String> {
        let topic = self.image.as_ref()?.topic_by_id(topic)?;
        (partition.0 < topic.partitions).then(|| format!("{}-{partition}", topic.name))
    }

    /// What they have of the partition in this directory.
    pub fn overlay(&self, dir: &Path) -> Overlay {
        name_of(dir).and_then(|name| self.overlays.get(&name)).cloned().unwrap_or_default()
    }

    /// Directories that they have something of.
    pub fn directories(&self) -> impl Iterator<Item = &String> {
        self.overlays.keys()
    }

    pub fn are_whole(&self) -> bool {
        self.files.iter().all(JournalFile::is_whole) && !self.are_of_nobody()
    }

    /// They hold entries, and the metadata that says whose cannot be read.
    pub fn are_of_nobody(&self) -> bool {
        self.image.is_none() && self.files.iter().any(|file| !file.entries.is_empty())
    }
}

impl Overlay {
    /// How long the segment's file will be; `Err` where it would have a gap from one byte to another.
    pub fn len_of(&self, segment: Offset, file_len: u64) -> Result<u64, (u64, u64)> {
        let mut len = file_len;
        for piece in self.segments.get(&segment).into_iter().flatten() {
            if piece.start > len {
                return Err((len, piece.start));
            }
            len = len.max(piece.start + piece.len);
        }
        Ok(len)
    }

    /// Puts what the journals have of these bytes of a segment, the first at `position`, in their place.
    pub fn apply(&self, segment: Offset, position: u64, bytes: &mut [u8]) -> Result<(), FileError> {
        let end = position + bytes.len() as u64;
        for piece in self.segments.get(&segment).into_iter().flatten() {
            let (from, to) = (piece.start.max(position), (piece.start + piece.len).min(end));
            if from < to {
                let part = &mut bytes[(from - position) as usize..(to - position) as usize];
                let file = at(&piece.journal, File::open(&piece.journal))?;
                at(&piece.journal, file.read_exact_at(part, piece.position + (from - piece.start)))?;
            }
        }
        Ok(())
    }

    /// Journals that were not replayed yet have something of the partition, or may have had.
    pub fn asks_anything(&self) -> bool {
        self.must_reach != MustReach::default()
    }

    pub fn entries(&self) -> usize {
        self.segments.values().map(Vec::len).sum()
    }

    pub fn bytes(&self) -> u64 {
        self.segments.values().flatten().map(|piece| piece.len).sum()
    }
}

fn name_of(dir: &Path) -> Option<String> {
    dir.canonicalize().ok()?.file_name().map(|name| name.to_string_lossy().into_owned())
}

fn notes(data: &Path) -> Result<Notes, FileError> {
    let dir = data.join(noted::DIR);
    let found = if dir.is_dir() { names(&dir)? } else { Vec::new() };
    let cores = found.iter().filter_map(|name| noted::core_of(name));
    cores.map(|core| Ok((core, Noted::from_file(&read_small(&data.join(noted::path(core)))?)))).collect()
}

fn image(data: &Path) -> Result<Option<Image>, FileError> {
    let dir = data.join(inspect::DIR);
    if !dir.is_dir() {
        return Ok(None);
    }
    let Some(name) = inspect::newest(names(&dir)?) else { return Ok(None) };
    Ok(inspect::image(&name, &read_small(&dir.join(&name))?))
}

/// Shorter at the end of the file.
pub fn read(file: &File, position: u64, len: usize) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    let mut have = 0;
    while have < len {
        match file.read_at(&mut bytes[have..], position + have as u64)? {
            0 => break,
            read => have += read,
        }
    }
    bytes.truncate(have);
    Ok(bytes)
}

/// Takes journals that were put aside out of the broker's sight: somebody has looked at them.
pub fn acknowledge(journals: &Journals) -> Result<(), FileError> {
    for file in journals.files.iter().filter(|file| file.is_aside()) {
        let mut to = file.path.as_os_str().to_owned();
        to.push(".seen");
        at(&file.path, fs::rename(&file.path, to))?;
    }
    Ok(())
}
