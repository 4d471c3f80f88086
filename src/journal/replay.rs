//! Replay: what the journals of the run before hold is written to the segments, then the journals are emptied.
//!
//! To be done before any partition is opened, for all journals there are: the number of cores may have changed. A
//! journal is emptied only when everything of all of them is durable in its segment, so that a replay that is cut
//! short is simply done again. One operation at a time.
//!
//! *Owns*: `journal/` while it runs. *Never*: drops a commit that was durable without saying so; keeps more than a
//! bounded part of a journal in memory. *Runs on*: core 0.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::format::{
    Commit, DIR, FileName, HEADER_SLOTS, Header, Identity, RING_START, Run, Tail, VERSION, may_hold_commits,
    newest_header,
};
use super::redo::{self, Pieces, Redo, Redone};
use super::scan::{Scan, Scanned};
use crate::base::bug::{self, Bug};
use crate::base::disk::{DiskDone, DiskError, DiskErrorKind, DiskOp, DiskResult, FileId};
use crate::base::ids::{CoreId, Offset, PartitionIndex, TopicId};
use crate::base::limits::{DISK_READ_BYTES_MAX, JOURNAL_DAMAGES_MAX, JOURNAL_REDO_BYTES_MAX};

/// Where the partition of a topic has its directory, relative to the data directory; `None` when there is no such
/// topic any more.
pub type Directory<'a> = &'a dyn Fn(TopicId, PartitionIndex) -> Option<PathBuf>;

/// What replay asks for next, or how it ended.
#[derive(Debug)]
pub enum Next {
    Ask(DiskOp),
    Done(Box<Report>),
    /// The broker must not start; the message says what to do. Journals are as they were: nothing is lost.
    Failed {
        message: String,
    },
}

#[derive(Debug, Default)]
pub struct Report {
    /// Where each partition's log must end at least.
    pub must_reach: BTreeMap<(TopicId, PartitionIndex), Offset>,
    /// Journals that held commits.
    pub journals: u32,
    pub commits: u64,
    /// Entries and bytes written to their segments.
    pub entries: u64,
    pub bytes: u64,
    /// Entries of deleted topics and of segments that retention removed.
    pub skipped: u64,
    /// What was durable and could not be brought back, or not be read. The journals concerned were put aside.
    pub damages: Vec<Damage>,
    /// Damages beyond those.
    pub more_damages: u64,
    /// Journals put aside, now or earlier. As long as they are there, their partitions must reach what they held.
    pub aside: Vec<PathBuf>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    pub path: PathBuf,
    /// In the file.
    pub position: u64,
    pub message: String,
}

#[derive(Debug)]
pub struct Replay {
    cluster: String,
    node: i32,
    cores: u16,
    owner: u32,
    files_opened: u32,
    stage: Stage,
    /// Still to be read.
    names: VecDeque<FileName>,
    /// The highest number of those put aside, by core.
    aside: BTreeMap<CoreId, u32>,
    /// The file at hand, its length, and whether it was found damaged.
    name: FileName,
    file: FileId,
    len: u64,
    damaged: bool,
    /// Commits found in it.
    commits: u64,
    header: Option<Header>,
    scan: Option<Scan>,
    pieces: Pieces,
    /// Bytes of the commits `pieces` are of.
    pieces_bytes: usize,
    redo: Option<Redo>,
    directories: BTreeMap<(TopicId, PartitionIndex), Option<PathBuf>>,
    /// Files that were read, and what is to become of them.
    ends: VecDeque<End>,
    report: Report,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Listing,
    Opening,
    ReadingHeaders,
    /// There is no header: looks for what it was the header of, from here on in the file.
    Probing(u64),
    Scanning,
    Redoing,
    Closing,
    /// Opening, writing, syncing, closing what is to be emptied.
    Emptying(Emptying),
    Removing,
    PuttingAside,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Emptying {
    Opening,
    /// The header, to so many slots so far.
    Writing(u64),
    Syncing(u64),
    Closing,
}

#[derive(Debug)]
enum End {
    /// Nothing of it is needed, and its core is there to use it again.
    Empty(FileName, Box<Header>),
    /// Its core is not there any more.
    Remove(FileName),
    PutAside(CoreId),
}

impl Replay {
    /// `cores` is how many there are now, `owner` the upper half of the ids of the files it opens.
    pub fn start(cluster: String, node: i32, cores: u16, owner: u32) -> (Replay, DiskOp) {
        let replay = Replay {
            cluster,
            node,
            cores,
            owner,
            files_opened: 0,
            stage: Stage::Listing,
            names: VecDeque::new(),
            aside: BTreeMap::new(),
            name: FileName::Journal(CoreId(0)),
            file: FileId::new(owner, 0),
            len: 0,
            damaged: false,
            commits: 0,
            header: None,
            scan: None,
            pieces: Pieces::default(),
            pieces_bytes: 0,
            redo: None,
            directories: BTreeMap::new(),
            ends: VecDeque::new(),
            report: Report::default(),
        };
        (replay, DiskOp::List { dir: DIR.into() })
    }

    /// To be told how the operation asked for ended.
    pub fn on_disk(&mut self, result: DiskResult, directory: Directory<'_>) -> Next {
        if self.stage == Stage::Redoing {
            let next = self.redo.as_mut().expect("a redo is under way").on_disk(result);
            return self.on_redo(next, directory);
        }
        let done = match result {
            Ok(done) => done,
            Err(error) => return self.on_error(&error, directory),
        };
        match (self.stage, done) {
            (Stage::Listing, DiskDone::Listed(names)) => self.on_listed(&names),
            (Stage::Opening, DiskDone::Opened { len }) => {
                self.len = len;
                self.stage = Stage::ReadingHeaders;
                Next::Ask(DiskOp::Read { file: self.file, position: 0, len: RING_START as usize })
            }
            (Stage::ReadingHeaders, DiskDone::Read(bytes)) => self.on_headers(&bytes, directory),
            (Stage::Probing(at), DiskDone::Read(bytes)) => self.on_probed(at, &bytes),
            (Stage::Scanning, DiskDone::Read(bytes)) => {
                self.scan.as_mut().expect("a scan is under way").on_read(bytes);
                self.scan_on(directory)
            }
            (Stage::Closing, _) => self.read_next(),
            (Stage::Emptying(stage), _) => self.empty_on(stage),
            (Stage::Removing | Stage::PuttingAside, _) => self.end_next(),
            (stage, done) => unreachable!("{done:?} is no answer while {stage:?}"),
        }
    }

    fn on_error(&mut self, error: &DiskError, directory: Directory<'_>) -> Next {
        let path = self.name.path();
        match self.stage {
            Stage::Scanning if error.kind == DiskErrorKind::Failed => {
                self.scan.as_mut().expect("a scan is under way").on_unreadable();
                self.scan_on(directory)
            }
            Stage::ReadingHeaders | Stage::Probing(_) if error.kind == DiskErrorKind::Failed => {
                self.damage(0, format!("cannot be read: {error}"));
                self.close()
            }
            Stage::Opening if self.is_aside() => self.read_next(),
            Stage::Closing => self.read_next(),
            Stage::Emptying(Emptying::Closing) => self.end_next(),
            Stage::Listing => failed(Path::new(DIR), &format!("cannot be listed: {error}")),
            _ => failed(&path, &format!("cannot be read or emptied: {error}")),
        }
    }

    fn on_listed(&mut self, names: &[(String, u64)]) -> Next {
        let mut names: Vec<FileName> = names.iter().filter_map(|(name, _)| FileName::parse(name)).collect();
        names.sort_unstable();
        for name in &names {
            if let FileName::Damaged(core, number) = name {
                let highest = self.aside.entry(*core).or_default();
                *highest = (*highest).max(*number);
                self.report.aside.push(name.path());
            }
        }
        self.names = names.into();
        self.read_next()
    }

    /// Reads the next journal; after the last, ends all of them.
    fn read_next(&mut self) -> Next {
        let Some(name) = self.names.pop_front() else { return self.end_next() };
        self.name = name;
        self.damaged = false;
        self.commits = 0;
        self.header = None;
        self.open(name, Stage::Opening)
    }

    fn open(&mut self, name: FileName, stage: Stage) -> Next {
        self.stage = stage;
        self.file = self.next_file();
        Next::Ask(DiskOp::Open { file: self.file, path: name.path(), create: false })
    }

    fn next_file(&mut self) -> FileId {
        self.files_opened = self.files_opened.wrapping_add(1);
        FileId::new(self.owner, self.files_opened)
    }

    fn on_headers(&mut self, bytes: &Bytes, directory: Directory<'_>) -> Next {
        let header = match newest_header(bytes) {
            Ok(Some(header)) => header,
            Ok(None) => return self.probe(RING_START),
            Err(_) if self.is_aside() => return self.close(),
            Err(version) => {
                let why = format!(
                    "has format version {version}, this broker knows {VERSION}: start with the version that wrote it, \
                     stop that cleanly, then start this one"
                );
                return failed(&self.name.path(), &why);
            }
        };
        if let FileName::Journal(core) = self.name
            && let Some(why) = self.is_foreign(core, &header.identity)
        {
            return failed(&self.name.path(), &why);
        }
        if self.len < RING_START + header.ring_bytes {
            let whole = RING_START + header.ring_bytes;
            self.damage(self.len, format!("is cut: it has {} bytes of {whole}", self.len));
        }
        self.scan = Some(Scan::new(&header));
        self.header = Some(header);
        self.scan_on(directory)
    }

    fn is_foreign(&self, core: CoreId, identity: &Identity) -> Option<String> {
        let remedy = "nothing was changed: put back what belongs here, or move this file out of the data directory";
        if identity.cluster != self.cluster || identity.node != self.node {
            let Identity { cluster, node, .. } = identity;
            let (mine, me) = (&self.cluster, self.node);
            Some(format!("belongs to node {node} of cluster {cluster}, this is node {me} of cluster {mine}; {remedy}"))
        } else if identity.core != core {
            Some(format!("was the journal of core {}, somebody has renamed or copied it; {remedy}", identity.core))
        } else {
            None
        }
    }

    /// Without a header a file was never used, or it has lost both.
    fn probe(&mut self, from: u64) -> Next {
        if from >= self.len {
            return self.close();
        }
        self.stage = Stage::Probing(from);
        Next::Ask(DiskOp::Read { file: self.file, position: from, len: DISK_READ_BYTES_MAX })
    }

    fn on_probed(&mut self, from: u64, bytes: &Bytes) -> Next {
        if may_hold_commits(bytes) {
            self.damage(0, "has no header that is whole: which of its commits are needed is not known".into());
            return self.close();
        }
        if bytes.is_empty() {
            return self.close();
        }
        self.probe(from + DISK_READ_BYTES_MAX as u64)
    }

    fn scan_on(&mut self, directory: Directory<'_>) -> Next {
        self.stage = Stage::Scanning;
        loop {
            match self.scan.as_mut().expect("a scan is under way").step() {
                Scanned::Read { position, len } => {
                    return Next::Ask(DiskOp::Read { file: self.file, position, len });
                }
                Scanned::Commit { commit, bytes, .. } => {
                    self.on_commit(&commit, &bytes, directory);
                    if self.pieces_bytes >= JOURNAL_REDO_BYTES_MAX {
                        return self.redo(directory);
                    }
                }
                Scanned::Damaged { position, sequence, found } => {
                    let next = found.map_or("none follows".to_owned(), |next| format!("the next whole one is {next}"));
                    self.damage(position, format!("commit {sequence} is damaged, {next}"));
                }
                Scanned::End => {
                    self.scan = None;
                    return self.redo(directory);
                }
            }
        }
    }

    fn on_commit(&mut self, commit: &Commit, bytes: &Bytes, directory: Directory<'_>) {
        let is_aside = self.is_aside();
        self.commits += 1;
        for (entry, payload) in &commit.entries {
            if bug::on(Bug::ForgetJournalEntry) && entry.base.0 % 8 == 0 {
                continue;
            }
            let name = (entry.topic, entry.partition);
            let dir = self.directories.entry(name).or_insert_with(|| directory(name.0, name.1));
            let Some(dir) = dir else {
                self.report.skipped += u64::from(!is_aside);
                continue;
            };
            let reach = self.report.must_reach.entry(name).or_default();
            *reach = (*reach).max(entry.next);
            if !is_aside {
                self.pieces.push(name, dir, entry.segment, entry.position, bytes.slice(payload.clone()));
            }
        }
        self.pieces_bytes += bytes.len();
    }

    /// The file at hand was put aside earlier: what it holds was redone then.
    fn is_aside(&self) -> bool {
        matches!(self.name, FileName::Damaged(..))
    }

    fn redo(&mut self, directory: Directory<'_>) -> Next {
        self.stage = Stage::Redoing;
        self.pieces_bytes = 0;
        let (redo, next) = Redo::start(std::mem::take(&mut self.pieces), self.owner, self.files_opened);
        self.redo = Some(redo);
        self.on_redo(next, directory)
    }

    fn on_redo(&mut self, next: redo::Next, directory: Directory<'_>) -> Next {
        let Redone { entries, bytes, retired, damages, files_opened } = match next {
            redo::Next::Ask(op) => return Next::Ask(op),
            redo::Next::Failed(message) => return Next::Failed { message },
            redo::Next::Done(redone) => redone,
        };
        self.redo = None;
        self.files_opened = files_opened;
        self.report.entries += entries;
        self.report.bytes += bytes;
        self.report.skipped += retired;
        for damage in damages {
            self.damaged = true;
            self.tell(damage);
        }
        if self.scan.is_some() { self.scan_on(directory) } else { self.close() }
    }

    fn damage(&mut self, position: u64, message: String) {
        self.damaged = true;
        // What was put aside was told of when it was.
        if !self.is_aside() {
            self.tell(Damage { path: self.name.path(), position, message });
        }
    }

    fn tell(&mut self, damage: Damage) {
        if self.report.damages.len() < JOURNAL_DAMAGES_MAX {
            self.report.damages.push(damage);
        } else {
            self.report.more_damages += 1;
        }
    }

    fn close(&mut self) -> Next {
        self.stage = Stage::Closing;
        if let FileName::Journal(core) = self.name {
            self.report.journals += u32::from(self.commits > 0);
            self.report.commits += self.commits;
            match self.header.take() {
                _ if self.damaged => self.ends.push_back(End::PutAside(core)),
                _ if core.0 >= self.cores => self.ends.push_back(End::Remove(self.name)),
                Some(header) => self.ends.push_back(End::Empty(self.name, Box::new(header))),
                None => {}
            }
        }
        Next::Ask(DiskOp::Close { file: self.file })
    }

    /// Everything is durable in its segment: the journals are not needed any more.
    fn end_next(&mut self) -> Next {
        match self.ends.pop_front() {
            Some(End::Empty(name, header)) => {
                self.name = name;
                self.header = Some(*header);
                self.open(name, Stage::Emptying(Emptying::Opening))
            }
            Some(End::Remove(name)) => {
                self.name = name;
                self.stage = Stage::Removing;
                Next::Ask(DiskOp::Delete { path: name.path() })
            }
            Some(End::PutAside(core)) => {
                self.name = FileName::Journal(core);
                self.stage = Stage::PuttingAside;
                let number = self.aside.entry(core).or_default();
                *number += 1;
                let to = FileName::Damaged(core, *number).path();
                self.report.aside.push(to.clone());
                Next::Ask(DiskOp::Rename { from: self.name.path(), to })
            }
            None => Next::Done(Box::new(std::mem::take(&mut self.report))),
        }
    }

    /// Writes both headers, one after the other: if the newer one were damaged, the older would count.
    fn empty_on(&mut self, stage: Emptying) -> Next {
        let file = self.file;
        let (next, op) = match stage {
            Emptying::Opening => self.write_header(0),
            Emptying::Writing(slots) => (Emptying::Syncing(slots), DiskOp::Sync { file }),
            Emptying::Syncing(slots) if slots < HEADER_SLOTS => self.write_header(slots),
            Emptying::Syncing(_) => (Emptying::Closing, DiskOp::Close { file }),
            Emptying::Closing => return self.end_next(),
        };
        self.stage = Stage::Emptying(next);
        Next::Ask(op)
    }

    /// The header of a journal that holds nothing, of a run without commits, when that many slots have it.
    fn write_header(&mut self, slots: u64) -> (Emptying, DiskOp) {
        let header = self.header.as_mut().expect("a journal that is emptied has one");
        if slots == 0 {
            header.run = Run { generation: header.run.generation + 1, key: 0 };
            header.tail = Tail { position: 0, sequence: 1 };
            header.end = Some(1);
        }
        header.count += 1;
        let (position, data) = (header.position(), vec![header.encode()]);
        (Emptying::Writing(slots + 1), DiskOp::Write { file: self.file, position, data })
    }
}

fn failed(path: &Path, why: &str) -> Next {
    Next::Failed { message: format!("the commit journal {} {why}", path.display()) }
}
