//! Following without Raft: a broker without a vote takes what is committed from any other that has it.
//!
//! What comes is committed already, so it may go into the log whoever sends it: raft takes it like the entries of a
//! leader, in order, and makes it and the commit index durable in one write before it is applied. The log that a broker
//! has so is one that a leader can go on with, once the broker is to vote. A snapshot takes the place of everything, as
//! long as nothing is on its way to the disk; where the log has its last entry already, that is committed instead, so
//! that nothing is given up that this broker has vouched for.
//!
//! Who decides is told beside it, with the term, and counts for brokers without a vote alone: their own term may be
//! above that of the leader.
//!
//! *Owns*: what is told to followers, and what is taken of it. *Never*: answers a leader in raft's name, or gives
//! everything to a voter that lost its log. *Runs on*: core 0.

use std::mem;

use raft::eraftpb::{Entry, Message, MessageType, Snapshot};
use raft::{GetEntriesContext, StateRole, Storage};

use super::{MetaEvent, MetaOut, Quorum};
use crate::base::bug::{self, Bug};
use crate::base::fields::Fields;
use crate::base::ids::NodeId;
use crate::base::limits::QUORUM_APPEND_BYTES_MAX;
use crate::meta::contents::decode_records;
use crate::meta::raft_message::{
    MessageError, decode_message, encode_message, node_of, put_entry, raft_id, take_entry,
};

/// One entry of the log that is committed, for followers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MetaStep {
    /// The version that it leads to, from the one before it.
    pub to: u64,
    /// Term and id of who decides, and the entry.
    pub bytes: Vec<u8>,
}

const CUT: MessageError = MessageError { message: "a step of metadata that is cut, or has a part that is none" };
const NO_ANSWER: MessageError = MessageError { message: "what is no answer to a pull" };
const CONTRADICTION: MessageError = MessageError { message: "metadata that contradict what is committed" };
const LOST_LOG: MessageError = MessageError { message: "everything, although this node is a member that lost its log" };

impl Quorum {
    /// Whether this node takes part in deciding, as far as it knows.
    pub fn has_vote(&self) -> bool {
        self.node.as_ref().is_some_and(|node| node.store().members.voters.contains(&raft_id(self.me)))
    }

    /// Up to where in the quorum's log this node has put it together: the same place on every node.
    pub fn version(&self) -> u64 {
        self.node.as_ref().map_or(0, |node| node.store().applied())
    }

    /// Whether somebody is known to decide.
    pub fn knows_controller(&self) -> bool {
        self.leader().is_some()
    }

    /// An entry that this node has had committed, as others are told of it.
    pub(super) fn step_of(&self, entry: &Entry) -> Option<MetaStep> {
        let node = self.node.as_ref().filter(|node| node.raft.state == StateRole::Leader)?;
        // Who is alone tells nobody.
        if !node.store().image().has_brokers() {
            return None;
        }
        let mut bytes = Vec::with_capacity(64 + entry.data.len());
        bytes.extend_from_slice(&node.raft.term.to_le_bytes());
        bytes.extend_from_slice(&raft_id(self.me).to_le_bytes());
        put_entry(&mut bytes, entry);
        Some(MetaStep { to: entry.index, bytes })
    }

    /// What `asker` lacks that has everything up to `index`, as far as one answer goes: entries, or a snapshot where
    /// they are gone. A member of the quorum that has nothing is to be taken out of it first: it does not know any more
    /// what it voted for.
    pub fn committed_after(&self, index: u64, asker: NodeId) -> Option<Vec<u8>> {
        let node = self.node.as_ref().filter(|_| self.recovered.is_none() && !self.failed)?;
        let (store, asker) = (node.store(), raft_id(asker));
        let is_member = store.members.voters.contains(&asker) || store.members.learners.contains(&asker);
        if store.is_empty() || index == 0 && is_member {
            return None;
        }
        let (term, leader) = self.known_leader();
        let (commit, to) = (store.applied(), asker);
        let mut message = Message { to, from: leader, term, index, commit, ..Message::default() };
        if index >= commit {
            message.msg_type = MessageType::MsgAppend;
        } else if let (true, Ok(log_term)) = (index > 0, store.term(index)) {
            message.msg_type = MessageType::MsgAppend;
            message.log_term = log_term;
            let (max, context) = (QUORUM_APPEND_BYTES_MAX as u64, GetEntriesContext::empty(false));
            message.entries = store.entries(index + 1, commit + 1, max, context).ok()?.into();
        } else {
            message.msg_type = MessageType::MsgSnapshot;
            message.set_snapshot(store.snapshot(commit, to).ok()?);
        }
        // A leader that is known of no term as late as these is of no use.
        let last_term = message.entries.last().map_or(message.log_term, |entry| entry.term);
        let last_term = last_term.max(message.get_snapshot().get_metadata().term);
        if last_term > term {
            (message.term, message.from) = (last_term, raft::INVALID_ID);
        }
        encode_message(&message)
    }

    /// Takes the answer to a pull. Whether there is more where it came from.
    pub fn follow(&mut self, answer: &[u8], out: &mut MetaOut) -> Result<bool, MessageError> {
        let mut message = decode_message(answer)?;
        if !self.may_follow() {
            return Ok(false);
        }
        match message.msg_type {
            MessageType::MsgAppend => self.take_entries(message.take_entries().into())?,
            MessageType::MsgSnapshot => self.take_snapshot(message.get_snapshot())?,
            _ => return Err(NO_ANSWER),
        }
        self.hear_of(message.term, message.from);
        self.work(out);
        Ok(message.commit > self.commit())
    }

    /// Takes a step that another node's controller has told of. It changes nothing unless it is the next one.
    pub fn follow_step(&mut self, step: &[u8], out: &mut MetaOut) -> Result<(), MessageError> {
        let mut fields = Fields(step);
        let mut number = || fields.u64().filter(|number| *number < u64::MAX >> 1).ok_or(CUT);
        let (term, leader) = (number()?, number()?);
        let entry = take_entry(&mut fields).filter(|entry| fields.is_empty() && entry.term <= term).ok_or(CUT)?;
        if !self.may_follow() {
            return Ok(());
        }
        if bug::on(Bug::TakeStaleMetadata) && entry.index <= self.version() {
            let records = decode_records(&entry.data).map_err(|_| CUT)?;
            out.events.push(MetaEvent::Committed { seq: entry.index, records });
        }
        self.take_entries(vec![entry])?;
        self.hear_of(term, leader);
        self.work(out);
        Ok(())
    }

    /// The term and the leader to go by. A leader of 0 is none.
    pub(super) fn known_leader(&self) -> (u64, u64) {
        let Some(node) = &self.node else { return (0, raft::INVALID_ID) };
        let own = (node.raft.term, node.raft.leader_id);
        let knows_better = own.1 != raft::INVALID_ID && own.0 >= self.told.0;
        // Somebody has led since who is not known.
        let is_over = self.told.1 == raft::INVALID_ID || self.told.0 < node.raft.raft_log.last_term();
        if knows_better || is_over || self.has_vote() { own } else { self.told }
    }

    /// A node that has led before a start is told of itself: it does not lead any more.
    fn hear_of(&mut self, term: u64, leader: u64) {
        if node_of(leader).is_some_and(|leader| leader != self.me) && term >= self.told.0 {
            self.told = (term, leader);
        }
    }

    /// A leader has everything. What waits for the disk is bounded: it comes again.
    fn may_follow(&self) -> bool {
        let leads = self.node.as_ref().is_none_or(|node| node.raft.state == StateRole::Leader);
        let able = self.recovered.is_none() && !self.closing && !self.failed;
        able && !leads && self.unwritten.len() <= QUORUM_APPEND_BYTES_MAX
    }

    /// Those that this node has, and those behind a gap, change nothing.
    fn take_entries(&mut self, mut entries: Vec<Entry>) -> Result<(), MessageError> {
        let Some(node) = self.node.as_mut().filter(|node| !node.store().is_empty()) else { return Ok(()) };
        let index = node.raft.raft_log.committed;
        entries.retain(|entry| entry.index > index);
        let Some(commit) = entries.last().map(|entry| entry.index) else { return Ok(()) };
        if entries[0].index != index + 1 {
            return Ok(());
        }
        let log_term = node.raft.raft_log.term(index).map_err(|_| CONTRADICTION)?;
        if entries[0].term < log_term {
            return Err(CONTRADICTION);
        }
        self.commit_behind(Message { index, log_term, commit, entries: entries.into(), ..Message::default() });
        Ok(())
    }

    fn take_snapshot(&mut self, snapshot: &Snapshot) -> Result<(), MessageError> {
        let settled = self.must_write.is_none() && self.flying.is_none();
        let Some(node) = self.node.as_mut() else { return Ok(()) };
        let metadata = snapshot.get_metadata();
        let (index, log_term, members) = (metadata.index, metadata.term, metadata.get_conf_state());
        if members.voters.is_empty() {
            return Err(CONTRADICTION);
        }
        let id = raft_id(self.me);
        if node.store().is_empty() && (members.voters.contains(&id) || members.learners.contains(&id)) {
            return Err(LOST_LOG);
        }
        if index <= node.raft.raft_log.committed {
            return Ok(());
        }
        if node.raft.raft_log.match_term(index, log_term) {
            self.commit_behind(Message { index, log_term, commit: index, ..Message::default() });
            return Ok(());
        }
        if !settled {
            return Ok(());
        }
        assert!(self.held.is_empty(), "nothing waits for a disk that has nothing to do");
        let mut hard_state = node.raft.hard_state();
        if log_term > hard_state.term {
            (hard_state.term, hard_state.vote) = (log_term, raft::INVALID_ID);
        }
        hard_state.commit = index;
        let records = node.mut_store().install(snapshot).map_err(|_| CONTRADICTION)?;
        let mut contents = mem::take(node.mut_store());
        contents.hard_state = hard_state;
        self.start(contents);
        // Nobody is shown what a crash could take back.
        self.installed = Some(MetaEvent::Committed { seq: index, records });
        (self.must_write, self.must_replace) = (Some(0), true);
        Ok(())
    }

    /// What is committed, as a leader might say it that nobody answers. Who leads is known otherwise.
    fn commit_behind(&mut self, mut message: Message) {
        let Some(node) = &mut self.node else { return };
        let (term, leader) = (node.raft.term, node.raft.leader_id);
        message.msg_type = MessageType::MsgAppend;
        message.to = raft_id(self.me);
        message.term = message.entries.last().map_or(message.log_term, |entry| entry.term).max(term);
        let _ = node.step(message);
        if node.raft.term == term {
            node.raft.leader_id = leader;
        }
    }
}
