//! The metadata and its log, as a broker has them: in memory for raft, and in the payloads of a file's frames.
//!
//! A file's first frame begins with a snapshot; what follows, there and in later frames, are hard states, of which the
//! last counts, and entries, each of which ends the log before it takes its place:
//!
//! | kind | item | fields |
//! |---|---|---|
//! | 1 | snapshot | node, index and term of the last entry in it, voters, learners, records with their length |
//! | 2 | hard state | term, vote, commit index |
//! | 3 | entry | as in a message |
//! | 4 | directory | its id |
//!
//! *Owns*: the image of what is committed, the log behind it, who the members are. *Never*: does I/O, or applies what is
//! not committed. *Runs on*: core 0.

use raft::eraftpb::{ConfChange, ConfChangeType, ConfState, Entry, EntryType, HardState, Snapshot};
use raft::{GetEntriesContext, RaftState, Storage, StorageError};

use super::frame::{Damage, VERSION_OF_RECORDS, read_file};
use super::image::Image;
use super::raft_message::{Change, change_of, put_bytes, put_entry, put_members, raft_id, take_entry, take_members};
use super::record::{MetaRecord, RecordError};
use crate::base::fields::Fields;
use crate::base::ids::{DirectoryId, NodeId};

const SNAPSHOT: u8 = 1;
const HARD_STATE: u8 = 2;
const ENTRY: u8 = 3;
const DIRECTORY: u8 = 4;

/// Index and term of what a cluster begins with: raft needs something that came before the first entry.
const FOUNDED: u64 = 1;

const REMEDY: &str = "restore it from a copy, or start with the version that wrote it; nothing was changed";

#[derive(Debug, Default)]
pub(super) struct Contents {
    /// Whose file this is; `None` for one of a broker that stood alone.
    pub node: Option<NodeId>,
    /// Where this file is; `None` for one of before directories had ids.
    pub directory: Option<DirectoryId>,
    pub hard_state: HardState,
    /// As of the last entry applied.
    pub members: ConfState,
    image: Image,
    /// Index and term of the last entry that `image` has.
    applied: (u64, u64),
    /// Of the last entry before `entries`.
    compacted: (u64, u64),
    entries: Vec<Entry>,
}

impl Contents {
    /// Nothing yet, in this directory.
    pub fn new(directory: DirectoryId) -> Contents {
        Contents { directory: Some(directory), ..Contents::default() }
    }

    /// What a file says; what is of before there were several brokers is on `home`. `Err` says why it cannot be used,
    /// and what to do.
    pub fn read(generation: u64, file: &[u8], home: NodeId) -> Result<Contents, String> {
        let damaged = |damage| match damage {
            Damage::At { position } => format!("it is damaged at byte {position}; {REMEDY}"),
            Damage::Unknown { position, version } => format!(
                "its frame at byte {position} has format version {version}, which is newer than this broker; {REMEDY}"
            ),
            Damage::Record { position, error } => format!("its frame at byte {position} holds {error}; {REMEDY}"),
        };
        let frames = read_file(generation, file).map_err(damaged)?;
        let mut contents = Contents::default();
        let mut records = Vec::new();
        for (position, payload) in frames.payloads {
            let taken = match frames.version {
                VERSION_OF_RECORDS => decode_records(payload).map(|more| records.extend(more)),
                _ => contents.take_items(payload, &mut records),
            };
            taken.map_err(|error| damaged(Damage::Record { position, error }))?;
        }
        if frames.version == VERSION_OF_RECORDS {
            contents.applied = (FOUNDED, FOUNDED);
            contents.hard_state = HardState { term: FOUNDED, commit: FOUNDED, ..HardState::default() };
        }
        contents.compacted = contents.applied;
        for record in records {
            let record = contents.image.placed(record, home);
            contents.image.apply(&record).map_err(|error| contradiction(&error.message))?;
        }
        Ok(contents)
    }

    fn take_items(&mut self, payload: &[u8], records: &mut Vec<MetaRecord>) -> Result<(), RecordError> {
        let cut = RecordError { message: "an item that is cut, or of a kind that this version does not know" };
        let mut fields = Fields(payload);
        while let Some([kind]) = fields.take() {
            match kind {
                SNAPSHOT if self.node.is_none() => {
                    self.node = fields.i32().map(NodeId);
                    let (index, term) = (fields.u64().ok_or(cut.clone())?, fields.u64().ok_or(cut.clone())?);
                    self.applied = (index, term);
                    self.members = take_members(&mut fields).ok_or(cut.clone())?;
                    records.extend(decode_records(fields.bytes().ok_or(cut.clone())?)?);
                }
                HARD_STATE => {
                    let mut number = || fields.u64().ok_or(cut.clone());
                    let (term, vote, commit) = (number()?, number()?, number()?);
                    self.hard_state = HardState { term, vote, commit, ..HardState::default() };
                }
                DIRECTORY => self.directory = Some(DirectoryId(fields.take().ok_or(cut.clone())?)),
                ENTRY => {
                    let entry = take_entry(&mut fields).ok_or(cut.clone())?;
                    self.compacted = self.applied;
                    self.entries_follow(entry.index)?;
                    self.append(&[entry]);
                }
                _ => return Err(cut),
            }
        }
        Ok(())
    }

    fn entries_follow(&self, index: u64) -> Result<(), RecordError> {
        let fits = index > self.compacted.0 && index <= self.last().0 + 1;
        if fits { Ok(()) } else { Err(RecordError { message: "an entry that follows none before it" }) }
    }

    /// Makes this node the only voter of a new cluster.
    pub fn found(&mut self, node: NodeId) {
        assert!(self.is_empty(), "a cluster is founded once");
        self.applied = (FOUNDED, FOUNDED);
        self.compacted = self.applied;
        self.hard_state = HardState { term: FOUNDED, commit: FOUNDED, ..HardState::default() };
        self.members.voters = vec![raft_id(node)];
    }

    /// There is no cluster yet that this node belongs to.
    pub fn is_empty(&self) -> bool {
        self.applied.0 == 0
    }

    /// Applies what is known to be committed. A node that decides alone has committed whatever it has: what it did not
    /// finish writing counts as well, once it is durable.
    pub fn apply_committed(&mut self, me: NodeId) -> Result<(), String> {
        self.hard_state.commit = self.hard_state.commit.clamp(self.applied.0, self.last().0);
        loop {
            let next = self.applied.0 + 1;
            let alone = self.members.voters == [raft_id(me)];
            if next > self.hard_state.commit && !(alone && next <= self.last().0) {
                return Ok(());
            }
            let entry = self.entries[(next - self.compacted.0) as usize - 1].clone();
            self.apply(&entry)?;
            self.hard_state.commit = self.hard_state.commit.max(next);
        }
    }

    /// Applies one entry, the next one; answers its records. The members change by themselves.
    pub fn apply(&mut self, entry: &Entry) -> Result<Vec<MetaRecord>, String> {
        assert!(entry.index == self.applied.0 + 1, "entries are applied in order, each once");
        if entry.entry_type == EntryType::EntryConfChange {
            self.change_members(change_of(entry).ok_or("a change of members that is none")?);
        }
        let records = match entry.entry_type {
            EntryType::EntryNormal => decode_records(&entry.data).map_err(|error| error.message.to_owned())?,
            _ => Vec::new(),
        };
        for record in &records {
            self.image.apply(record).map_err(|error| contradiction(&error.message))?;
        }
        self.applied = (entry.index, entry.term);
        Ok(records)
    }

    fn change_members(&mut self, change: Change) {
        let (Change::AddVoter(node) | Change::AddLearner(node) | Change::Remove(node)) = change;
        let id = raft_id(node);
        self.members.voters.retain(|other| *other != id);
        self.members.learners.retain(|other| *other != id);
        match change {
            Change::AddVoter(_) => self.members.voters.push(id),
            Change::AddLearner(_) => self.members.learners.push(id),
            Change::Remove(_) => {}
        }
        self.members.voters.sort_unstable();
        self.members.learners.sort_unstable();
    }

    /// Takes a leader's snapshot for everything there was; answers what it changes.
    pub fn install(&mut self, snapshot: &Snapshot) -> Result<Vec<MetaRecord>, String> {
        let records = decode_records(&snapshot.data).map_err(|error| error.message.to_owned())?;
        let mut image = Image::default();
        for record in &records {
            image.apply(record).map_err(|error| contradiction(&error.message))?;
        }
        let metadata = snapshot.get_metadata();
        let changes = self.image.changes_to(&image);
        self.image = image;
        self.members = metadata.get_conf_state().clone();
        self.applied = (metadata.index, metadata.term);
        self.compacted = self.applied;
        self.entries.clear();
        Ok(changes)
    }

    /// The log goes on with these; what it had from the first of them on is given up.
    pub fn append(&mut self, entries: &[Entry]) {
        let Some(first) = entries.first() else { return };
        assert!(first.index > self.compacted.0 && first.index <= self.last().0 + 1, "a log has no holes");
        self.entries.truncate((first.index - self.compacted.0) as usize - 1);
        self.entries.extend_from_slice(entries);
    }

    /// Metadata as it is committed.
    pub fn image(&self) -> &Image {
        &self.image
    }

    /// The image with the log behind it, committed or not.
    pub fn newest_image(&self) -> Result<Image, String> {
        let mut image = self.image.clone();
        let later = self.entries.iter().filter(|entry| entry.index > self.applied.0);
        for entry in later.filter(|entry| entry.entry_type == EntryType::EntryNormal) {
            for record in decode_records(&entry.data).map_err(|error| error.message.to_owned())? {
                image.apply(&record).map_err(|error| contradiction(&error.message))?;
            }
        }
        Ok(image)
    }

    /// Index of the last entry applied.
    pub fn applied(&self) -> u64 {
        self.applied.0
    }

    /// Index and term of the last entry.
    pub fn last(&self) -> (u64, u64) {
        self.entries.last().map_or(self.compacted, |entry| (entry.index, entry.term))
    }

    /// Forgets the entries that the image has, and answers everything as the first frame of a file.
    pub fn compact(&mut self, node: NodeId) -> Vec<u8> {
        self.entries.drain(..(self.applied.0 - self.compacted.0) as usize);
        self.compacted = self.applied;
        let records = self.encoded_image();
        let mut out = Vec::with_capacity(records.len() + 64);
        out.push(SNAPSHOT);
        out.extend_from_slice(&node.0.to_le_bytes());
        out.extend_from_slice(&self.applied.0.to_le_bytes());
        out.extend_from_slice(&self.applied.1.to_le_bytes());
        put_members(&mut out, &self.members);
        put_bytes(&mut out, &records);
        if let Some(directory) = self.directory {
            out.push(DIRECTORY);
            out.extend_from_slice(&directory.0);
        }
        self.put_hard_state(&mut out);
        self.entries.iter().for_each(|entry| put_entry_item(&mut out, entry));
        out
    }

    pub fn put_hard_state(&self, out: &mut Vec<u8>) {
        out.push(HARD_STATE);
        for number in [self.hard_state.term, self.hard_state.vote, self.hard_state.commit] {
            out.extend_from_slice(&number.to_le_bytes());
        }
    }

    fn encoded_image(&self) -> Vec<u8> {
        let mut records = Vec::with_capacity(self.image.topics_bytes() + 64);
        self.image.to_records().iter().for_each(|record| record.encode(&mut records));
        records
    }
}

pub(super) fn put_entry_item(out: &mut Vec<u8>, entry: &Entry) {
    out.push(ENTRY);
    put_entry(out, entry);
}

fn contradiction(message: &str) -> String {
    format!("its records contradict each other: {message}; {REMEDY}")
}

pub(super) fn decode_records(mut bytes: &[u8]) -> Result<Vec<MetaRecord>, RecordError> {
    let mut records = Vec::new();
    while !bytes.is_empty() {
        records.push(MetaRecord::decode(&mut bytes)?);
    }
    Ok(records)
}

/// As raft has it.
pub(super) fn raft_change(change: Change) -> ConfChange {
    let (change_type, node) = match change {
        Change::AddVoter(node) => (ConfChangeType::AddNode, node),
        Change::AddLearner(node) => (ConfChangeType::AddLearnerNode, node),
        Change::Remove(node) => (ConfChangeType::RemoveNode, node),
    };
    ConfChange { change_type, node_id: raft_id(node), ..ConfChange::default() }
}

impl Storage for Contents {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(RaftState::new(self.hard_state.clone(), self.members.clone()))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low <= self.compacted.0 {
            return Err(StorageError::Compacted.into());
        }
        let at = |index: u64| (index - self.compacted.0) as usize - 1;
        let entries = self.entries.get(at(low)..at(high)).ok_or(StorageError::Unavailable)?;
        let mut entries = entries.to_vec();
        raft::util::limit_size(&mut entries, max_size.into());
        Ok(entries)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index == self.compacted.0 {
            return Ok(self.compacted.1);
        }
        let at = index.checked_sub(self.compacted.0 + 1).ok_or(StorageError::Compacted)?;
        Ok(self.entries.get(at as usize).ok_or(StorageError::Unavailable)?.term)
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.compacted.0 + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last().0)
    }

    /// Always of what is applied now, so that the entries behind it are there.
    fn snapshot(&self, request_index: u64, _: u64) -> raft::Result<Snapshot> {
        if self.applied.0 < request_index {
            return Err(StorageError::SnapshotTemporarilyUnavailable.into());
        }
        let mut snapshot = Snapshot { data: self.encoded_image().into(), ..Snapshot::default() };
        let metadata = snapshot.mut_metadata();
        (metadata.index, metadata.term) = self.applied;
        *metadata.mut_conf_state() = self.members.clone();
        Ok(snapshot)
    }
}
