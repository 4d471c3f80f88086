//! What brokers say to each other to agree on metadata, in bytes: raft's messages, and their parts that files hold too.
//!
//! Numbers are in the order of `base/fields`. What a message says beyond its form is compared with the log by
//! `quorum.rs` before raft sees it, since raft takes its peers at their word.
//!
//! *Owns*: the layout. *Never*: takes a length, a kind or an order from a peer on trust. *Runs on*: core 0.

use bytes::Bytes;
use raft::eraftpb::{ConfState, Entry, EntryType, Message, MessageType, Snapshot};

use crate::base::fields::Fields;
use crate::base::ids::NodeId;
use crate::base::limits::QUORUM_MEMBERS_MAX;

/// The version of the form, first in every message.
const VERSION: u8 = 1;

/// Of an entry, at the least: kind, term, index, two lengths.
const ENTRY_BYTES_MIN: usize = 1 + 8 + 8 + 4 + 4;

/// Bytes that are not a message of this version, or one that nobody sends who has this node's log. Nothing was
/// changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MessageError {
    pub message: &'static str,
}

impl std::fmt::Display for MessageError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.message)
    }
}

impl std::error::Error for MessageError {}

/// The kinds that cross the network, by their code there.
const KINDS: [MessageType; 10] = [
    MessageType::MsgAppend,
    MessageType::MsgAppendResponse,
    MessageType::MsgRequestVote,
    MessageType::MsgRequestVoteResponse,
    MessageType::MsgSnapshot,
    MessageType::MsgHeartbeat,
    MessageType::MsgHeartbeatResponse,
    MessageType::MsgTimeoutNow,
    MessageType::MsgRequestPreVote,
    MessageType::MsgRequestPreVoteResponse,
];

/// Raft has no id 0.
pub(super) fn raft_id(node: NodeId) -> u64 {
    u64::try_from(node.0).expect("node ids are not negative") + 1
}

/// `None` for what is nobody's id.
pub(super) fn node_of(raft_id: u64) -> Option<NodeId> {
    raft_id.checked_sub(1).and_then(|id| i32::try_from(id).ok()).map(NodeId)
}

/// `None` for a kind that is for the sender alone.
pub(super) fn encode_message(message: &Message) -> Option<Vec<u8>> {
    let kind = KINDS.iter().position(|kind| *kind == message.msg_type)?;
    let data = message.entries.iter().map(|entry| ENTRY_BYTES_MIN + entry.data.len() + entry.context.len());
    let snapshot = message.snapshot.as_ref().map_or(0, |snapshot| snapshot.data.len());
    let mut out = Vec::with_capacity(128 + data.sum::<usize>() + snapshot);
    out.extend_from_slice(&[VERSION, kind as u8, u8::from(message.reject)]);
    let Message { to, from, term, log_term, index, commit, commit_term, reject_hint, priority, .. } = message;
    for number in [to, from, term, log_term, index, commit, commit_term, reject_hint, &(*priority as u64)] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    put_bytes(&mut out, &message.context);
    put_count(&mut out, message.entries.len());
    message.entries.iter().for_each(|entry| put_entry(&mut out, entry));
    if message.msg_type == MessageType::MsgSnapshot {
        let snapshot = message.get_snapshot();
        let metadata = snapshot.get_metadata();
        out.extend_from_slice(&metadata.index.to_le_bytes());
        out.extend_from_slice(&metadata.term.to_le_bytes());
        put_members(&mut out, metadata.get_conf_state());
        put_bytes(&mut out, &snapshot.data);
    }
    Some(out)
}

pub(super) fn decode_message(bytes: &[u8]) -> Result<Message, MessageError> {
    let wrong = |message| Err(MessageError { message });
    let mut fields = Fields(bytes);
    match fields.take() {
        Some([VERSION]) => {}
        _ => return wrong("a message of a version that this broker does not know"),
    }
    let Some(message) = take_message(&mut fields).filter(|_| fields.is_empty()) else {
        return wrong("a message that is cut, or has a part that is none");
    };
    let numbered = (message.index + 1..).zip(&message.entries).all(|(index, entry)| entry.index == index);
    let ordered = message.entries.windows(2).all(|pair| pair[0].term <= pair[1].term);
    let last_term = message.entries.last().map_or(0, |entry| entry.term);
    let carries = message.msg_type == MessageType::MsgAppend || message.entries.is_empty();
    if !(numbered && ordered && carries) || last_term > message.term || message.log_term > message.term {
        return wrong("a message whose entries do not follow each other");
    }
    if message.msg_type == MessageType::MsgSnapshot {
        let metadata = message.get_snapshot().get_metadata();
        if metadata.index == 0 || metadata.term == 0 || metadata.term > message.term {
            return wrong("a snapshot of nothing");
        }
    }
    Ok(message)
}

fn take_message(fields: &mut Fields) -> Option<Message> {
    let [kind, reject] = fields.take()?;
    let mut message = Message { msg_type: *KINDS.get(usize::from(kind))?, ..Message::default() };
    message.reject = flag(reject)?;
    let Message { to, from, term, log_term, index, commit, commit_term, reject_hint, .. } = &mut message;
    for number in [to, from, term, log_term, index, commit, commit_term, reject_hint] {
        // No log has ever so many entries or terms: sums of them stay numbers.
        *number = fields.u64().filter(|number| *number < u64::MAX >> 1)?;
    }
    message.priority = fields.i64()?;
    message.context = Bytes::copy_from_slice(fields.bytes()?);
    let count = fields.count(ENTRY_BYTES_MIN)?;
    let mut entries = Vec::with_capacity(count);
    for _ in 0..count {
        entries.push(take_entry(fields)?);
    }
    message.entries = entries.into();
    if message.msg_type == MessageType::MsgSnapshot {
        let mut snapshot = Snapshot::default();
        let metadata = snapshot.mut_metadata();
        metadata.index = fields.u64().filter(|index| *index < u64::MAX >> 1)?;
        metadata.term = fields.u64()?;
        *metadata.mut_conf_state() = take_members(fields)?;
        snapshot.data = Bytes::copy_from_slice(fields.bytes()?);
        message.set_snapshot(snapshot);
    }
    Some(message)
}

pub(super) fn put_entry(out: &mut Vec<u8>, entry: &Entry) {
    out.push(u8::from(entry.entry_type == EntryType::EntryConfChange));
    out.extend_from_slice(&entry.term.to_le_bytes());
    out.extend_from_slice(&entry.index.to_le_bytes());
    put_bytes(out, &entry.data);
    put_bytes(out, &entry.context);
}

pub(super) fn take_entry(fields: &mut Fields) -> Option<Entry> {
    let [is_change] = fields.take()?;
    let entry_type = if flag(is_change)? { EntryType::EntryConfChange } else { EntryType::EntryNormal };
    let mut entry = Entry { entry_type, ..Entry::default() };
    entry.term = fields.u64()?;
    entry.index = fields.u64().filter(|index| (1..u64::MAX >> 1).contains(index))?;
    entry.data = Bytes::copy_from_slice(fields.bytes()?);
    entry.context = Bytes::copy_from_slice(fields.bytes()?);
    if entry_type == EntryType::EntryConfChange && change_of(&entry).is_none() {
        return None;
    }
    Some(entry)
}

/// Who decides, and who only follows. Joint sets are never used: one member changes at a time.
pub(super) fn put_members(out: &mut Vec<u8>, members: &ConfState) {
    for ids in [&members.voters, &members.learners] {
        put_count(out, ids.len());
        ids.iter().for_each(|id| out.extend_from_slice(&id.to_le_bytes()));
    }
}

pub(super) fn take_members(fields: &mut Fields) -> Option<ConfState> {
    let mut members = ConfState::default();
    for ids in [&mut members.voters, &mut members.learners] {
        let count = fields.count(8)?;
        for _ in 0..count {
            ids.push(fields.u64().filter(|id| node_of(*id).is_some())?);
        }
    }
    let mut all: Vec<u64> = members.voters.iter().chain(&members.learners).copied().collect();
    let count = all.len();
    all.sort_unstable();
    all.dedup();
    (all.len() == count && count <= QUORUM_MEMBERS_MAX).then_some(members)
}

/// What becomes of one member.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Change {
    AddVoter(NodeId),
    AddLearner(NodeId),
    Remove(NodeId),
}

impl Change {
    /// Stands beside the form that raft gives it, which nothing here reads.
    pub(super) fn encode(self) -> Vec<u8> {
        let (kind, node) = match self {
            Change::AddVoter(node) => (0, node),
            Change::AddLearner(node) => (1, node),
            Change::Remove(node) => (2, node),
        };
        [&[kind][..], &node.0.to_le_bytes()].concat()
    }
}

/// The change that an entry stands for.
pub(super) fn change_of(entry: &Entry) -> Option<Change> {
    let mut fields = Fields(&entry.context);
    let [kind] = fields.take()?;
    let node = fields.i32().filter(|id| *id >= 0).map(NodeId)?;
    fields.end()?;
    match kind {
        0 => Some(Change::AddVoter(node)),
        1 => Some(Change::AddLearner(node)),
        2 => Some(Change::Remove(node)),
        _ => None,
    }
}

pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_count(out, bytes.len());
    out.extend_from_slice(bytes);
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    out.extend_from_slice(&u32::try_from(count).expect("messages are bounded well below 4 GiB").to_le_bytes());
}

fn flag(byte: u8) -> Option<bool> {
    match byte {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::Rng;

    fn entry(index: u64, term: u64, data: &str) -> Entry {
        Entry { term, index, data: Bytes::copy_from_slice(data.as_bytes()), ..Entry::default() }
    }

    fn samples() -> Vec<Message> {
        let mut change = entry(9, 4, "x");
        change.entry_type = EntryType::EntryConfChange;
        change.context = Change::AddLearner(NodeId(7)).encode().into();
        let base = Message { to: 1, from: 2, term: 4, index: 7, log_term: 3, commit: 6, ..Message::default() };
        let mut append = Message { msg_type: MessageType::MsgAppend, ..base.clone() };
        append.entries = vec![entry(8, 3, "größe"), change].into();
        let mut snapshot = Message { msg_type: MessageType::MsgSnapshot, ..base.clone() };
        let metadata = snapshot.mut_snapshot().mut_metadata();
        (metadata.index, metadata.term) = (5, 3);
        metadata.mut_conf_state().voters = vec![1, 3];
        metadata.mut_conf_state().learners = vec![2];
        snapshot.mut_snapshot().data = Bytes::from_static(b"records");
        let reject = Message { msg_type: MessageType::MsgAppendResponse, reject: true, reject_hint: 3, ..base.clone() };
        let vote = Message { msg_type: MessageType::MsgRequestPreVote, priority: -1, commit_term: 2, ..base };
        vec![append, snapshot, reject, vote]
    }

    #[test]
    fn what_is_sent_arrives_and_a_part_of_it_is_refused() {
        for message in samples() {
            let bytes = encode_message(&message).expect("goes over the network");
            assert_eq!(decode_message(&bytes), Ok(message));
            for len in 0..bytes.len() {
                assert!(decode_message(&bytes[..len]).is_err(), "{len} bytes were enough");
            }
            assert!(decode_message(&[&bytes[..], &[0]].concat()).is_err());
        }
        assert_eq!(encode_message(&Message { msg_type: MessageType::MsgHup, ..Message::default() }), None);
    }

    #[test]
    fn any_bytes_are_a_message_or_an_error() {
        let mut rng = Rng::new(1);
        let mut decoded = 0;
        for _ in 0..5_000 {
            for message in samples() {
                let mut bytes = encode_message(&message).expect("goes over the network");
                for _ in 0..=rng.below(3) {
                    let at = rng.below(bytes.len() as u64) as usize;
                    bytes[at] = rng.next_u64() as u8;
                }
                bytes.truncate(bytes.len() - rng.below(2) as usize);
                if let Ok(message) = decode_message(&bytes) {
                    decoded += 1;
                    assert_eq!(encode_message(&message), Some(bytes));
                }
            }
            let random: Vec<u8> = (0..rng.below(200)).map(|_| rng.next_u64() as u8).collect();
            assert!(decode_message(&[&[VERSION], &random[..]].concat()).is_err());
        }
        assert!(decoded > 1000, "only {decoded} changed messages were messages");
    }

    #[test]
    fn what_no_peer_says_is_refused() {
        let [append, snapshot, ..] = &samples()[..] else { panic!("samples") };
        let refused = |message: &Message| {
            assert!(decode_message(&encode_message(message).expect("has a form")).is_err(), "{message:?}");
        };
        for change in [
            |message: &mut Message| message.entries[1].index = 10,
            |message: &mut Message| message.entries[0].term = 5,
            |message: &mut Message| message.entries[1].context.clear(),
            |message: &mut Message| message.log_term = 5,
            |message: &mut Message| message.msg_type = MessageType::MsgHeartbeat,
            |message: &mut Message| message.commit = u64::MAX,
        ] {
            let mut message = append.clone();
            change(&mut message);
            refused(&message);
        }
        for change in [
            |message: &mut Message| message.mut_snapshot().mut_metadata().index = 0,
            |message: &mut Message| message.mut_snapshot().mut_metadata().term = 9,
            |message: &mut Message| message.mut_snapshot().mut_metadata().mut_conf_state().learners = vec![0],
            |message: &mut Message| message.mut_snapshot().mut_metadata().mut_conf_state().learners = vec![3],
        ] {
            let mut message = snapshot.clone();
            change(&mut message);
            refused(&message);
        }
    }
}
