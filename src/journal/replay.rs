//! Replay: what the journals of the run before hold is written to the segments, then the journals are emptied.
//!
//! To be done before any partition is opened, for all journals there are: the number of cores may have changed. A
//! journal is emptied only when everything of all of them is durable in its segment, and the logs have been opened or
//! have kept what was asked of them: until then all of it can simply be done again. One operation at a time, but for
//! the writing to segments (`redo`).
//!
//! What cannot be read, or not be written to its segment, ends the start while nothing is changed; so does a journal
//! that is missing (`noted`). Commits that were read and are not whole stay lost: the partitions that may lack them are
//! named, and their journal is put aside.
//!
//! *Owns*: `journal/` while it runs. *Never*: drops a commit that was durable without saying so; keeps more than a
//! bounded part of a journal in memory. *Runs on*: core 0.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::doubt::Doubt;
use super::format::{
    Commit, DIR, FileName, HEADER_SLOTS, Header, Identity, RING_START, Run, Tail, VERSION, is_written, newest_header,
};
use super::noted::{self, Found, Noted, Notes};
use super::redo::{Ended, Pieces, Redo, Redone};
use super::scan::{Scan, Scanned};
use crate::base::bounds::Reach;
use crate::base::bug::{self, Bug};
use crate::base::disk::{DiskDone, DiskError, DiskErrorKind, DiskOp, DiskResult, FileId};
use crate::base::ids::{CoreId, PartitionIndex, TopicId};
use crate::base::limits::{DISK_READ_BYTES_MAX, JOURNAL_DAMAGES_MAX, JOURNAL_REDO_BYTES_MAX};

/// The replay's own operations; those of a redo have the numbers of its partitions.
const OWN: ReplayOp = ReplayOp(0);

/// What is known of the topics there are.
#[derive(Clone, Copy)]
pub struct Topics<'a> {
    /// Where a partition has its directory, relative to the data directory; `None` when there is no such topic any
    /// more.
    pub directory: &'a dyn Fn(TopicId, PartitionIndex) -> Option<PathBuf>,
    /// The partitions a core has when there are so many cores.
    pub owned: &'a dyn Fn(CoreId, u16) -> Vec<(TopicId, PartitionIndex)>,
}

/// What is to be done about commits that cannot be read, or not be brought to their segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// Nothing is changed, and [`Event::Failed`] says why.
    Refused,
    /// Somebody has seen what it is.
    Accepted,
}

/// Ties the end of a disk operation to what it was for. Opaque outside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReplayOp(pub(super) u32);

/// What is asked of the disk.
pub type Asked = Vec<(ReplayOp, DiskOp)>;

/// What became of a replay.
#[derive(Debug)]
pub enum Event {
    /// Everything is in its segment that can be brought there, and journals are as they were. When what the report
    /// says is known for good, [`Replay::empty`] goes on.
    Redone(Box<Report>),
    /// The journals hold nothing any more.
    Emptied,
    /// The broker must not start; the message says what to do. Journals are as they were: nothing is lost.
    Failed { message: String },
}

/// Where a step leads.
#[derive(Debug)]
enum Step {
    Ask(DiskOp),
    /// Something is under way.
    Wait,
    Tell(Event),
}

#[derive(Debug, Default)]
pub struct Report {
    /// Where each partition's log must end at least: as far as a journal has it, or it was noted to be durable.
    pub must_reach: BTreeMap<(TopicId, PartitionIndex), Reach>,
    /// How far logs were committed, as it was noted last.
    pub committed: BTreeMap<(TopicId, PartitionIndex), Reach>,
    /// Partitions that may lack some of their last batches, and why.
    pub doubtful: BTreeMap<(TopicId, PartitionIndex), String>,
    /// Journals that held commits.
    pub journals: u32,
    pub commits: u64,
    /// Entries and bytes written to their segments.
    pub entries: u64,
    pub bytes: u64,
    /// Entries of deleted topics, of segments that retention removed, and from before a truncation.
    pub skipped: u64,
    /// What was durable and could not be brought back. The journals concerned are put aside.
    pub damages: Vec<Damage>,
    /// Damages beyond those.
    pub more_damages: u64,
    /// Where journals were put aside earlier, or are now.
    pub aside: Vec<PathBuf>,
    /// What else was not as it should be.
    pub notes: Vec<String>,
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
    loss: Loss,
    owner: u32,
    files_opened: u32,
    stage: Stage,
    notes: Notes,
    /// Notes and journals still to be read.
    cores_left: VecDeque<CoreId>,
    /// The highest number of those put aside, by core.
    aside: BTreeMap<CoreId, u32>,
    /// The file at hand, its core and length, and whether it was found damaged.
    core: CoreId,
    file: FileId,
    len: u64,
    damaged: bool,
    doubt: Doubt,
    /// The last read of the file that failed.
    unreadable: Option<DiskError>,
    /// Commits found in it.
    commits: u64,
    header: Option<Header>,
    scan: Option<Scan>,
    pieces: Pieces,
    /// Bytes of the commits `pieces` are of.
    pieces_bytes: usize,
    redo: Option<Redo>,
    directories: BTreeMap<(TopicId, PartitionIndex), Option<PathBuf>>,
    /// What is to become of the files that were read.
    ends: VecDeque<(CoreId, End)>,
    report: Report,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    ListingNotes,
    ReadingNotes,
    Listing,
    Opening,
    ReadingHeaders,
    /// There is no header: looks for what it was the header of, from here on in the file.
    Probing(u64),
    Scanning,
    Redoing,
    Closing,
    /// Writing down that no journal is needed any more.
    Noting,
    /// Opening, writing, syncing, closing what is to be emptied.
    Emptying(Emptying),
    /// Removing or renaming.
    Ending,
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
    /// From here on its journal may be gone.
    Note,
    /// What it has noted is of no use to anybody.
    ForgetNote,
    /// Nothing of it is needed, and its core is there to use it again.
    Empty(Box<Header>),
    /// Its core is not there any more.
    Remove,
    PutAside(PathBuf),
}

impl Replay {
    /// `cores` is how many there are now, `owner` the upper half of the ids of the files it opens.
    pub fn start(cluster: String, node: i32, cores: u16, loss: Loss, owner: u32, out: &mut Asked) -> Replay {
        out.push((OWN, DiskOp::List { dir: noted::DIR.into() }));
        Replay {
            cluster,
            node,
            cores,
            loss,
            owner,
            files_opened: 0,
            stage: Stage::ListingNotes,
            notes: Notes::new(),
            cores_left: VecDeque::new(),
            aside: BTreeMap::new(),
            core: CoreId(0),
            file: FileId::new(owner, 0),
            len: 0,
            damaged: false,
            doubt: Doubt::default(),
            unreadable: None,
            commits: 0,
            header: None,
            scan: None,
            pieces: Pieces::default(),
            pieces_bytes: 0,
            redo: None,
            directories: BTreeMap::new(),
            ends: VecDeque::new(),
            report: Report::default(),
        }
    }

    /// To be told how each operation asked for ended.
    pub fn on_disk(&mut self, op: ReplayOp, result: DiskResult, topics: Topics<'_>, out: &mut Asked) -> Option<Event> {
        let step = match &mut self.redo {
            Some(redo) => match redo.on_disk(op.0 as usize, result, out) {
                Some(ended) => self.on_redone(ended, topics),
                None => Step::Wait,
            },
            None => self.on_own(result, topics),
        };
        self.follow(step, topics, out)
    }

    /// Everything is durable in its segment, and what is not is known elsewhere: the journals are not needed any more.
    pub fn empty(&mut self, out: &mut Asked) -> Option<Event> {
        let is_needed = |noted: &Option<Noted>| noted.as_ref().is_none_or(|noted| noted.journal != 0);
        for (core, _) in self.notes.iter().rev().filter(|(_, noted)| is_needed(noted)) {
            self.ends.push_front((*core, End::Note));
        }
        let cores = self.cores;
        self.ends.extend(self.notes.keys().filter(|core| core.0 >= cores).map(|core| (*core, End::ForgetNote)));
        match self.end_one() {
            Step::Ask(op) => out.push((OWN, op)),
            Step::Wait => {}
            Step::Tell(event) => return Some(event),
        }
        None
    }

    /// Commits read so far, and bytes written to segments.
    pub fn progress(&self) -> (u64, u64) {
        (self.report.commits + self.commits, self.report.bytes)
    }

    fn follow(&mut self, mut step: Step, topics: Topics<'_>, out: &mut Asked) -> Option<Event> {
        loop {
            match step {
                Step::Ask(op) => out.push((OWN, op)),
                Step::Wait => {}
                Step::Tell(event) => return Some(event),
            }
            if self.stage != Stage::Redoing || self.redo.is_some() {
                return None;
            }
            let pieces = std::mem::take(&mut self.pieces);
            let redo = self.redo.insert(Redo::start(pieces, self.loss, self.owner, self.files_opened, out));
            let ended = redo.ended()?;
            step = self.on_redone(ended, topics);
        }
    }

    fn on_own(&mut self, result: DiskResult, topics: Topics<'_>) -> Step {
        let done = match result {
            Ok(done) => done,
            Err(error) => return self.on_error(error, topics),
        };
        match (self.stage, done) {
            (Stage::ListingNotes, DiskDone::Listed(names)) => {
                let cores = names.iter().filter_map(|(name, _)| noted::core_of(name));
                self.cores_left = cores.filter(|_| !bug::on(Bug::ForgetNotes)).collect();
                self.read_note()
            }
            (Stage::ReadingNotes, DiskDone::Read(bytes)) => self.on_note(Noted::from_file(&bytes)),
            (Stage::Listing, DiskDone::Listed(names)) => self.on_listed(&names, topics),
            (Stage::Opening, DiskDone::Opened { len }) => {
                self.len = len;
                self.stage = Stage::ReadingHeaders;
                Step::Ask(DiskOp::Read { file: self.file, position: 0, len: RING_START as usize })
            }
            (Stage::ReadingHeaders, DiskDone::Read(bytes)) => self.on_headers(&bytes, topics),
            (Stage::Probing(at), DiskDone::Read(bytes)) => self.on_probed(at, &bytes, topics),
            (Stage::Scanning, DiskDone::Read(bytes)) => {
                self.scan.as_mut().expect("a scan is under way").on_read(bytes);
                self.scan_on(topics)
            }
            (Stage::Closing, _) => self.read_next(topics),
            (Stage::Emptying(stage), _) => self.empty_on(stage),
            (Stage::Noting | Stage::Ending, _) => self.end_one(),
            (stage, done) => unreachable!("{done:?} is no answer while {stage:?}"),
        }
    }

    fn on_error(&mut self, error: DiskError, topics: Topics<'_>) -> Step {
        let can_fail = error.kind == DiskErrorKind::Failed;
        match self.stage {
            Stage::ListingNotes => {
                let message = format!("{} cannot be listed: {error}", noted::DIR);
                Step::Tell(Event::Failed { message })
            }
            Stage::ReadingNotes => self.on_note(None),
            // There is no space to say so: then nothing is said.
            Stage::Noting if error.kind == DiskErrorKind::Full => self.forget_note(),
            Stage::Scanning if can_fail => {
                self.unreadable = Some(error);
                self.scan.as_mut().expect("a scan is under way").on_unreadable();
                self.scan_on(topics)
            }
            Stage::ReadingHeaders | Stage::Probing(_) if can_fail => {
                self.lose(0, format!("cannot be read: {error}")).unwrap_or_else(|| self.close(topics))
            }
            Stage::Closing => self.read_next(topics),
            Stage::Emptying(Emptying::Closing) => self.end_one(),
            Stage::Listing => failed(Path::new(DIR), &format!("cannot be listed: {error}")),
            _ => failed(&self.path(), &format!("cannot be read or emptied: {error}")),
        }
    }

    fn read_note(&mut self) -> Step {
        let Some(core) = self.cores_left.pop_front() else {
            self.stage = Stage::Listing;
            return Step::Ask(DiskOp::List { dir: DIR.into() });
        };
        self.core = core;
        self.stage = Stage::ReadingNotes;
        Step::Ask(DiskOp::ReadFile { path: noted::path(core) })
    }

    fn on_note(&mut self, noted: Option<Noted>) -> Step {
        if noted.is_none() {
            self.report.notes.push(format!(
                "{} does not read back: it says which journal its core has, and how far its logs were durable at least. \
                 Damage behind the last whole batch of a log may pass for a write that a crash has torn",
                noted::path(self.core).display()
            ));
        }
        self.notes.insert(self.core, noted);
        self.read_note()
    }

    fn on_listed(&mut self, names: &[(String, u64)], topics: Topics<'_>) -> Step {
        let mut names: Vec<FileName> = names.iter().filter_map(|(name, _)| FileName::parse(name)).collect();
        names.sort_unstable();
        for name in names {
            match name {
                FileName::Journal(core) => self.cores_left.push_back(core),
                FileName::Damaged(core, number) => {
                    let highest = self.aside.entry(core).or_default();
                    *highest = (*highest).max(number);
                    self.report.aside.push(name.path());
                }
            }
        }
        self.find_missing(topics).unwrap_or_else(|| self.read_next(topics))
    }

    /// Looks for journals that were there: `Some` when the loss of one is not accepted.
    fn find_missing(&mut self, topics: Topics<'_>) -> Option<Step> {
        for (core, cores, why) in noted::missing(&self.notes, |core| self.cores_left.contains(&core)) {
            self.core = core;
            let refused = self.lose(0, why);
            if refused.is_some() {
                return refused;
            }
            self.report_doubt(cores.unwrap_or(self.cores), topics);
            self.doubt = Doubt::default();
        }
        None
    }

    /// Reads the next journal, until there is none.
    fn read_next(&mut self, topics: Topics<'_>) -> Step {
        let Some(core) = self.cores_left.pop_front() else {
            self.report_noted(topics);
            return Step::Tell(Event::Redone(Box::new(std::mem::take(&mut self.report))));
        };
        self.core = core;
        self.damaged = false;
        self.doubt = Doubt::default();
        self.unreadable = None;
        self.commits = 0;
        self.header = None;
        self.open(Stage::Opening)
    }

    fn path(&self) -> PathBuf {
        FileName::Journal(self.core).path()
    }

    fn open(&mut self, stage: Stage) -> Step {
        self.stage = stage;
        self.file = self.next_file();
        Step::Ask(DiskOp::Open { file: self.file, path: self.path(), create: false })
    }

    fn next_file(&mut self) -> FileId {
        self.files_opened = self.files_opened.wrapping_add(1);
        FileId::new(self.owner, self.files_opened)
    }

    fn on_headers(&mut self, bytes: &Bytes, topics: Topics<'_>) -> Step {
        let header = match newest_header(bytes) {
            Ok(Some(header)) => header,
            Ok(None) => return self.probe(RING_START, topics),
            Err(version) => {
                let why = format!(
                    "has format version {version}, this broker knows {VERSION}: start with the version that wrote it, \
                     stop that cleanly, then start this one"
                );
                return failed(&self.path(), &why);
            }
        };
        if let Some(why) = self.is_foreign(&header.identity) {
            return failed(&self.path(), &why);
        }
        if let Some(why) = noted::objection(&self.notes, self.core, Found::Run(header.run)) {
            return self.lose(0, why).unwrap_or_else(|| self.close(topics));
        }
        self.scan = Some(Scan::new(&header));
        self.header = Some(header);
        self.scan_on(topics)
    }

    fn is_foreign(&self, identity: &Identity) -> Option<String> {
        let remedy = "nothing was changed: put back what belongs here, or move this file out of the data directory";
        if identity.cluster != self.cluster || identity.node != self.node {
            let Identity { cluster, node, .. } = identity;
            let (mine, me) = (&self.cluster, self.node);
            Some(format!("belongs to node {node} of cluster {cluster}, this is node {me} of cluster {mine}; {remedy}"))
        } else if identity.core != self.core {
            Some(format!("was the journal of core {}, somebody has renamed or copied it; {remedy}", identity.core))
        } else {
            None
        }
    }

    /// Without a header a file was never used, or it has lost both.
    fn probe(&mut self, from: u64, topics: Topics<'_>) -> Step {
        if from >= self.len {
            return self.close_blank(topics);
        }
        self.stage = Stage::Probing(from);
        Step::Ask(DiskOp::Read { file: self.file, position: from, len: DISK_READ_BYTES_MAX })
    }

    fn on_probed(&mut self, from: u64, bytes: &Bytes, topics: Topics<'_>) -> Step {
        if is_written(bytes) {
            let why = "has no header that is whole: which of its commits are needed is not known";
            return self.lose(0, why.to_owned()).unwrap_or_else(|| self.close(topics));
        }
        if bytes.is_empty() {
            return self.close_blank(topics);
        }
        self.probe(from + DISK_READ_BYTES_MAX as u64, topics)
    }

    /// Nothing was ever written to it, unless it is not the file that was.
    fn close_blank(&mut self, topics: Topics<'_>) -> Step {
        match noted::objection(&self.notes, self.core, Found::Blank) {
            None => self.close(topics),
            Some(why) => self.lose(0, why).unwrap_or_else(|| self.close(topics)),
        }
    }

    /// What is not known any more: `Some` when that is not accepted.
    fn lose(&mut self, position: u64, why: String) -> Option<Step> {
        if self.loss == Loss::Refused {
            return Some(failed(&self.path(), &format!("{why}. {}", remedies())));
        }
        self.damage(position, why);
        None
    }

    fn scan_on(&mut self, topics: Topics<'_>) -> Step {
        self.stage = Stage::Scanning;
        loop {
            match self.scan.as_mut().expect("a scan is under way").step() {
                Scanned::Read { position, len } => {
                    return Step::Ask(DiskOp::Read { file: self.file, position, len });
                }
                Scanned::Commit { commit, bytes, .. } => {
                    self.on_commit(&commit, &bytes, topics);
                    if self.pieces_bytes >= JOURNAL_REDO_BYTES_MAX {
                        return self.redo();
                    }
                }
                Scanned::Damaged { position, sequence, found, unreadable } => {
                    let next = next_whole(found);
                    if !unreadable {
                        self.damage(position, format!("commit {sequence} is damaged, {next}"));
                    } else if let Some(refused) = self.on_unreadable(position, sequence, &next) {
                        return refused;
                    }
                }
                Scanned::End => {
                    self.scan = None;
                    self.check_length();
                    return self.redo();
                }
            }
        }
    }

    /// What cannot be read now may be read another time.
    fn on_unreadable(&mut self, position: u64, sequence: u64, next: &str) -> Option<Step> {
        let error = self.unreadable.as_ref().map_or("", |error| &error.message);
        self.lose(position, format!("commit {sequence} cannot be read at byte {position}, {next}: {error}"))
    }

    /// What was behind the end of a file that was cut is behind all that was read of it.
    fn check_length(&mut self) {
        let whole = self.header.as_ref().map_or(0, |header| RING_START + header.ring_bytes);
        if self.len < whole {
            self.damage(self.len, format!("is cut: it has {} bytes of {whole}", self.len));
        }
    }

    fn on_commit(&mut self, commit: &Commit, bytes: &Bytes, topics: Topics<'_>) {
        self.commits += 1;
        for (entry, payload) in &commit.entries {
            if bug::on(Bug::ForgetJournalEntry) && entry.base.0 % 8 == 0 {
                continue;
            }
            let name = (entry.topic, entry.partition);
            let dir = self.directories.entry(name).or_insert_with(|| (topics.directory)(name.0, name.1));
            let Some(dir) = dir else {
                self.report.skipped += 1;
                continue;
            };
            let reach = self.report.must_reach.entry(name).or_default();
            *reach = (*reach).max(Reach { truncations: entry.truncations, end: entry.next });
            self.doubt.on_entry(name.0, name.1);
            self.pieces.push(name, dir, entry, bytes.slice(payload.clone()));
        }
        self.pieces_bytes += bytes.len();
    }

    /// What was read goes to its segments next.
    fn redo(&mut self) -> Step {
        self.stage = Stage::Redoing;
        self.pieces_bytes = 0;
        Step::Wait
    }

    fn on_redone(&mut self, ended: Ended, topics: Topics<'_>) -> Step {
        let Redone { entries, bytes, retired, damages, files_opened } = match ended {
            Ended::Done(redone) => redone,
            Ended::Failed(message) => return Step::Tell(Event::Failed { message }),
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
        if self.scan.is_some() { self.scan_on(topics) } else { self.close(topics) }
    }

    /// Something of the journal at hand is lost.
    fn damage(&mut self, position: u64, message: String) {
        self.damaged = true;
        let path = self.path();
        self.doubt.on_damage(&format!("{}, byte {position}: {message}", path.display()));
        self.tell(Damage { path, position, message });
    }

    fn tell(&mut self, damage: Damage) {
        if self.report.damages.len() < JOURNAL_DAMAGES_MAX {
            self.report.damages.push(damage);
        } else {
            self.report.more_damages += 1;
        }
    }

    fn close(&mut self, topics: Topics<'_>) -> Step {
        self.stage = Stage::Closing;
        self.report.journals += u32::from(self.commits > 0);
        self.report.commits += self.commits;
        if let Some(cores) = self.header.as_ref().map(|header| header.identity.cores) {
            self.report_doubt(cores, topics);
        }
        match self.header.take() {
            _ if self.damaged => {
                let number = self.aside.entry(self.core).or_default();
                *number += 1;
                let to = FileName::Damaged(self.core, *number).path();
                self.report.aside.push(to.clone());
                self.ends.push_back((self.core, End::PutAside(to)));
            }
            _ if self.core.0 >= self.cores => self.ends.push_back((self.core, End::Remove)),
            Some(header) => self.ends.push_back((self.core, End::Empty(Box::new(header)))),
            None => {}
        }
        Step::Ask(DiskOp::Close { file: self.file })
    }

    /// Of the journal at hand, whose core was one of so many.
    fn report_doubt(&mut self, cores: u16, topics: Topics<'_>) {
        let Some(cause) = self.doubt.cause() else { return };
        let owned = (topics.owned)(self.core, cores);
        let doubtful = owned.into_iter().filter(|name| self.doubt.is_about(*name));
        self.report.doubtful.extend(doubtful.map(|name| (name, cause.to_owned())));
    }

    /// What was noted of topics that are still there.
    fn report_noted(&mut self, topics: Topics<'_>) {
        let Report { must_reach, committed, .. } = &mut self.report;
        for noted in self.notes.values().flatten() {
            for (rows, reported) in [(&noted.durable, &mut *must_reach), (&noted.committed, &mut *committed)] {
                for (name, end) in rows.iter().filter(|(name, _)| (topics.directory)(name.0, name.1).is_some()) {
                    let reach = reported.entry(*name).or_default();
                    *reach = (*reach).max(*end);
                }
            }
        }
    }

    /// Empties the next journal, or moves it away.
    fn end_one(&mut self) -> Step {
        let Some((core, end)) = self.ends.pop_front() else { return Step::Tell(Event::Emptied) };
        self.core = core;
        match end {
            End::Note => {
                self.stage = Stage::Noting;
                let noted = self.notes.remove(&core).flatten().unwrap_or_default();
                let data = Noted { journal: 0, ..noted }.to_file();
                Step::Ask(DiskOp::WriteFile { path: noted::path(core), data })
            }
            End::ForgetNote => self.forget_note(),
            End::Empty(header) => {
                self.header = Some(*header);
                self.open(Stage::Emptying(Emptying::Opening))
            }
            End::Remove => {
                self.stage = Stage::Ending;
                Step::Ask(DiskOp::Delete { path: self.path() })
            }
            End::PutAside(to) => {
                self.stage = Stage::Ending;
                Step::Ask(DiskOp::Rename { from: self.path(), to })
            }
        }
    }

    fn forget_note(&mut self) -> Step {
        self.stage = Stage::Ending;
        Step::Ask(DiskOp::Delete { path: noted::path(self.core) })
    }

    /// Writes both headers, one after the other: if the newer one were damaged, the older would count.
    fn empty_on(&mut self, stage: Emptying) -> Step {
        let file = self.file;
        let (next, op) = match stage {
            Emptying::Opening => self.write_header(0),
            Emptying::Writing(slots) => (Emptying::Syncing(slots), DiskOp::Sync { file }),
            Emptying::Syncing(slots) if slots < HEADER_SLOTS => self.write_header(slots),
            Emptying::Syncing(_) => (Emptying::Closing, DiskOp::Close { file }),
            Emptying::Closing => return self.end_one(),
        };
        self.stage = Stage::Emptying(next);
        Step::Ask(op)
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

/// What follows on a damage, in words.
pub fn next_whole(found: Option<u64>) -> String {
    found.map_or("none follows".to_owned(), |next| format!("the next whole one is {next}"))
}

/// What can be done about a journal, or a segment it would complete, that cannot be read or written.
pub(super) fn remedies() -> &'static str {
    "Records that were acknowledged would be missing and nobody would know, so the broker does not start. Nothing was \
     changed: put the disk right, or the data on another one, or back what is missing, and start again. To go on without \
     what only the journal has, `corelog log repair` on the data directory says what that is, and gives it up with --yes"
}

fn failed(path: &Path, why: &str) -> Step {
    Step::Tell(Event::Failed { message: format!("the commit journal {} {why}", path.display()) })
}
