//! A group of the classic protocol: members join, one of them assigns, all learn what is theirs.
//!
//! ```text
//! Empty ──join──▶ PreparingRebalance ──all joined, or time is up──▶ CompletingRebalance ──leader synced──▶ Stable
//!   ▲                │   ▲                                              │                                 │
//!   └──nobody left───┘   └──────────── a member joins, leaves or is silent for too long ────────────────────┘
//! ```
//!
//! A group that is gone is Dead. Kafka keeps CompletingRebalance until the assignment is safe; here the state changes
//! at once, and the answers that tell of it wait.
//!
//! *Owns*: states, members and generation of one group. *Never*: looks into an assignment. *Runs on*: the core of the
//! coordinator.
//!
//! Rules: Kafka, `ClassicGroup` and `GroupMetadataManager.classicGroup*`; KIP-394 (member ids first), KIP-345 (static
//! members), KIP-814 (skipped assignment), KIP-559 (protocol type and name).

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::ask::{Answer, Ticket, heartbeat, join_refused, sync_refused};
use super::classic_member::ClassicMember;
use super::coordinator::{Alarm, GroupOut, Turn};
use super::offsets::RetainedSince;
use super::records::{self, GroupMetadataValue};
use crate::base::time::Instant;
use crate::wire::errors::ErrorCode;
use crate::wire::messages::describe_groups::{DescribedGroup, DescribedGroupMember};
use crate::wire::messages::heartbeat::HeartbeatRequest;
use crate::wire::messages::join_group::JoinGroupRequestProtocol;
use crate::wire::messages::list_groups::ListedGroup;
use crate::wire::messages::offset_commit::OffsetCommitRequest;
use crate::wire::reader::Reader;
use crate::wire::text::Text;

/// The protocol type of Kafka's consumers; only of theirs the metadata is known.
pub const CONSUMER: &str = "consumer";

const TYPE: &str = "classic";

#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum State {
    #[default]
    Empty,
    PreparingRebalance,
    CompletingRebalance,
    Stable,
}

/// A default one is the simple group of whoever commits without being a member.
#[derive(Debug, Default)]
pub struct ClassicGroup {
    pub(super) state: State,
    /// The state before, while a rebalance is prepared.
    pub(super) was: State,
    state_since_ms: Option<i64>,
    pub(super) generation: i32,
    pub(super) protocol_type: Option<String>,
    pub(super) protocol: Option<String>,
    pub(super) leader: Option<u32>,
    /// By the number of their joining, which is never used twice.
    pub(super) members: BTreeMap<u32, ClassicMember>,
    /// Those that were given an id and have not joined with it (KIP-394).
    pub(super) pending: BTreeMap<u32, Pending>,
    /// Invariant: the numbers of exactly `members` and `pending`.
    pub(super) ids: BTreeMap<String, u32>,
    /// Invariant: the static ones of `members`.
    pub(super) instances: BTreeMap<String, u32>,
    /// How many members have each protocol.
    pub(super) supporters: BTreeMap<String, usize>,
    /// Invariant: how many of `members` wait in JoinGroup.
    pub(super) joining: usize,
    /// Those that have the generation and have not asked for their assignment.
    pub(super) to_sync: BTreeSet<u32>,
    next_number: u32,
    /// The first rebalance after the group was empty.
    pub(super) initial: Option<InitialDelay>,
    pub(super) join_at: Option<Instant>,
    pub(super) sync_at: Option<Instant>,
    /// What the members read, where their metadata says.
    subscribed: Option<BTreeSet<String>>,
}

#[derive(Debug)]
pub(super) struct Pending {
    pub id: String,
    pub until: Instant,
}

/// How long the first rebalance still waits, each time somebody joins.
#[derive(Clone, Copy, Debug)]
pub(super) struct InitialDelay {
    pub delay_ms: u64,
    pub left_ms: u64,
    pub joined: bool,
}

impl State {
    pub fn name(self) -> &'static str {
        match self {
            State::Empty => "Empty",
            State::PreparingRebalance => "PreparingRebalance",
            State::CompletingRebalance => "CompletingRebalance",
            State::Stable => "Stable",
        }
    }
}

impl ClassicGroup {
    pub fn from_record(value: &GroupMetadataValue) -> ClassicGroup {
        let mut group = ClassicGroup {
            state: if value.members.is_empty() { State::Empty } else { State::Stable },
            state_since_ms: (value.current_state_timestamp >= 0).then_some(value.current_state_timestamp),
            generation: value.generation,
            protocol_type: (!value.protocol_type.is_empty()).then(|| value.protocol_type.to_string()),
            protocol: value.protocol.as_ref().map(ToString::to_string),
            ..ClassicGroup::default()
        };
        for stored in &value.members {
            // A log that names a member or an instance twice was not written by a coordinator; the first counts.
            let again = stored.group_instance_id.as_ref().is_some_and(|id| group.instances.contains_key(&**id));
            if !again && !group.ids.contains_key(&*stored.member_id) {
                let number = group.add(ClassicMember::from_record(stored, value.protocol.as_ref()));
                if value.leader.as_ref() == Some(&stored.member_id) {
                    group.leader = Some(number);
                }
            }
        }
        group.subscribed = group.read_subscriptions();
        group
    }

    /// A group whose members come from the consumer protocol, in the generation that they know. Each has what it had,
    /// until the rebalance that begins now.
    pub(super) fn migrated(generation: i32, members: Vec<ClassicMember>, turn: &mut Turn<'_>) -> ClassicGroup {
        let mut group =
            ClassicGroup { generation, protocol_type: Some(CONSUMER.to_owned()), ..ClassicGroup::default() };
        for member in members {
            group.add(member);
        }
        group.protocol = group.choose_protocol();
        group.become_state(State::Stable, turn.now.wall_ms);
        group.store(turn);
        group.on_loaded(turn);
        if group.state == State::Stable {
            group.prepare_rebalance(turn);
        }
        group
    }

    /// The members of the log are alive until they have been silent for their time.
    pub fn on_loaded(&mut self, turn: &mut Turn<'_>) {
        let numbers: Vec<u32> = self.members.keys().copied().collect();
        for number in numbers {
            self.touch(number, turn);
        }
        if self.members.len() > turn.settings.group_max_size as usize {
            self.prepare_rebalance(turn);
        }
    }

    pub fn on_heartbeat(&mut self, ticket: Ticket, ask: &HeartbeatRequest, turn: &mut Turn<'_>) {
        let error = match self.find(&ask.member_id, ask.group_instance_id.as_ref()) {
            Err(error) => error,
            Ok(_) if ask.generation_id != self.generation => ErrorCode::IllegalGeneration,
            Ok(number) => {
                self.touch(number, turn);
                match self.state {
                    State::Empty => ErrorCode::UnknownMemberId,
                    State::PreparingRebalance => ErrorCode::RebalanceInProgress,
                    State::CompletingRebalance | State::Stable => ErrorCode::None,
                }
            }
        };
        turn.answer(ticket, heartbeat(error));
    }

    /// Whether this commit may be made. A member that commits is alive.
    pub fn on_commit(&mut self, ask: &OffsetCommitRequest, turn: &mut Turn<'_>) -> Result<(), ErrorCode> {
        let generation = ask.generation_id_or_member_epoch;
        if generation < 0 && self.state == State::Empty {
            // An admin client, or a consumer that does not use groups.
            return Ok(());
        }
        if generation < 0 && ask.member_id.is_empty() && ask.group_instance_id.is_none() {
            return if self.state == State::Empty { Ok(()) } else { Err(ErrorCode::UnknownMemberId) };
        }
        let number = self.find(&ask.member_id, ask.group_instance_id.as_ref())?;
        if generation != self.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        match self.state {
            // It knows the generation and not its assignment: whatever it has read was of an older one.
            State::CompletingRebalance => return Err(ErrorCode::RebalanceInProgress),
            State::Stable | State::PreparingRebalance => self.touch(number, turn),
            State::Empty => {}
        }
        Ok(())
    }

    pub fn on_alarm(&mut self, alarm: Alarm, turn: &mut Turn<'_>) {
        match alarm {
            Alarm::ClassicMember(number) => self.on_silence(number, turn),
            Alarm::ClassicJoin => self.on_join_alarm(turn),
            Alarm::ClassicSync => self.on_sync_alarm(turn),
            // Of the group it was before.
            Alarm::Consumer => {}
        }
    }

    /// Tells those who wait for other members that they must look for another coordinator.
    pub fn unload(&mut self, error: ErrorCode, out: &mut GroupOut) {
        for member in self.members.values_mut() {
            if let Some(ticket) = member.joining.take() {
                out.answers.push((ticket, Answer::JoinGroup(join_refused(&member.id, error))));
            }
            if let Some(ticket) = member.syncing.take() {
                out.answers.push((ticket, Answer::SyncGroup(sync_refused(error))));
            }
        }
        self.joining = 0;
    }

    pub fn is_empty(&self) -> bool {
        self.state == State::Empty && self.pending.is_empty()
    }

    pub fn is_subscribed(&self, topic: &str) -> bool {
        match &self.subscribed {
            Some(topics) => topics.contains(topic),
            None => self.is_consumers(),
        }
    }

    /// Whether single offsets may be forgotten (KIP-496): of other protocols it is not known what their members read.
    pub fn check_offset_delete(&self) -> Result<(), ErrorCode> {
        if self.state == State::Empty || self.is_consumers() { Ok(()) } else { Err(ErrorCode::NonEmptyGroup) }
    }

    /// KIP-211: with members, and metadata that says what they read, other offsets expire by their commit.
    pub fn retained_since(&self) -> RetainedSince {
        match (&self.protocol_type, self.state, self.state_since_ms) {
            (None, ..) | (Some(_), State::Empty, None) => RetainedSince::Commit,
            (Some(_), State::Empty, Some(wall_ms)) => RetainedSince::Empty { wall_ms },
            (Some(_), State::Stable, _) if self.is_consumers() && self.subscribed.is_some() => RetainedSince::Commit,
            _ => RetainedSince::Ever,
        }
    }

    pub fn listed(&self, name: &str) -> ListedGroup {
        ListedGroup {
            group_id: name.into(),
            protocol_type: self.protocol_type.as_deref().unwrap_or_default().into(),
            group_state: Text::from_static(self.state.name()),
            group_type: Text::from_static(TYPE),
        }
    }

    pub fn described(&self, name: &str) -> DescribedGroup {
        // Metadata and assignments are those of a protocol, which only a stable group has.
        let protocol = if self.state == State::Stable { self.protocol.as_deref() } else { None };
        let members = self.members.values().map(|member| DescribedGroupMember {
            member_id: member.id.as_str().into(),
            group_instance_id: member.instance_id.as_deref().map(Text::from),
            client_id: member.client_id.as_str().into(),
            client_host: member.client_host.as_str().into(),
            member_metadata: protocol.map(|protocol| member.metadata(protocol)).unwrap_or_default(),
            member_assignment: protocol.map(|_| member.assignment.clone()).unwrap_or_default(),
        });
        DescribedGroup {
            group_id: name.into(),
            group_state: Text::from_static(self.state.name()),
            protocol_type: self.protocol_type.as_deref().unwrap_or_default().into(),
            protocol_data: protocol.unwrap_or_default().into(),
            members: members.collect(),
            ..DescribedGroup::default()
        }
    }

    /// The record that takes it out of the log. Without it, its offsets alone would bring it back.
    pub fn forget(&self, name: &str, out: &mut GroupOut) {
        out.records.push(records::group(name, None));
    }

    /// As it is now, for the log.
    pub(super) fn to_record(&self) -> GroupMetadataValue {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        GroupMetadataValue {
            protocol_type: self.protocol_type.as_deref().unwrap_or_default().into(),
            generation: self.generation,
            protocol: self.protocol.as_deref().map(Text::from),
            leader: self.leader_id(),
            current_state_timestamp: self.state_since_ms.unwrap_or(-1),
            members: self.members.values().map(|member| member.to_record(protocol)).collect(),
        }
    }

    pub(super) fn store(&self, turn: &mut Turn<'_>) {
        turn.record(records::group(turn.name, Some(&self.to_record())));
    }

    pub(super) fn leader_id(&self) -> Option<Text> {
        self.leader.and_then(|number| self.members.get(&number)).map(|member| member.id.as_str().into())
    }

    pub(super) fn become_state(&mut self, state: State, wall_ms: i64) {
        self.was = self.state;
        self.state = state;
        self.state_since_ms = Some(wall_ms);
        if state != State::PreparingRebalance {
            self.subscribed = self.read_subscriptions();
        }
    }

    /// The member, if its static instance is not another's by now (KIP-345).
    pub(super) fn find(&self, id: &str, instance_id: Option<&Text>) -> Result<u32, ErrorCode> {
        let known = self.ids.get(id).copied().filter(|number| self.members.contains_key(number));
        if let Some(instance_id) = instance_id {
            let Some(number) = self.instances.get(&**instance_id) else { return Err(ErrorCode::UnknownMemberId) };
            if known != Some(*number) {
                return Err(ErrorCode::FencedInstanceId);
            }
        }
        known.ok_or(ErrorCode::UnknownMemberId)
    }

    /// Whether a member with these protocols can be in the group.
    pub(super) fn supports(&self, protocol_type: &str, protocols: &[JoinGroupRequestProtocol]) -> bool {
        if self.state == State::Empty {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        let all = self.members.len();
        self.protocol_type.as_deref() == Some(protocol_type)
            && protocols.iter().any(|protocol| self.supporters.get(&*protocol.name).copied().unwrap_or(0) == all)
    }

    /// The protocol that all have and most like best; of equals, the one that the longest member likes best.
    pub(super) fn choose_protocol(&self) -> Option<String> {
        let all = self.members.len();
        let mut votes: Vec<(&str, usize)> = Vec::new();
        for vote in self.members.values().filter_map(|member| member.vote(&self.supporters, all)) {
            match votes.iter_mut().find(|(name, _)| *name == vote) {
                Some((_, count)) => *count += 1,
                None => votes.push((vote, 1)),
            }
        }
        let most = votes.iter().map(|(_, count)| *count).max()?;
        votes.iter().find(|(_, count)| *count == most).map(|(name, _)| (*name).to_owned())
    }

    pub(super) fn number(&mut self) -> u32 {
        self.next_number = self.next_number.checked_add(1).expect("fewer than 2^32 joins between two loads");
        self.next_number
    }

    /// Takes a member in, under a number of its own.
    pub(super) fn add(&mut self, member: ClassicMember) -> u32 {
        let number = match self.ids.get(&member.id) {
            Some(number) => *number,
            None => self.number(),
        };
        self.pending.remove(&number);
        self.ids.insert(member.id.clone(), number);
        if let Some(instance) = &member.instance_id {
            let before = self.instances.insert(instance.clone(), number);
            assert!(before.is_none(), "a static member is replaced, not added again");
        }
        self.count_protocols(&member, true);
        self.joining += usize::from(member.joining.is_some());
        self.leader = self.leader.or(Some(number));
        let before = self.members.insert(number, member);
        assert!(before.is_none(), "a member joins once");
        number
    }

    /// Takes a member out, or one to be. What it waits for is answered.
    pub(super) fn remove(&mut self, number: u32, turn: &mut Turn<'_>) {
        self.to_sync.remove(&number);
        if let Some(pending) = self.pending.remove(&number) {
            turn.clear_alarm(pending.until, Alarm::ClassicMember(number));
            self.ids.remove(&pending.id);
            return;
        }
        let Some(mut member) = self.members.remove(&number) else { return };
        self.ids.remove(&member.id);
        if let Some(instance) = &member.instance_id {
            self.instances.remove(instance);
        }
        self.count_protocols(&member, false);
        if let Some(at) = member.alarm_at {
            turn.clear_alarm(at, Alarm::ClassicMember(number));
        }
        // It may still be alive, and joins anew then.
        if let Some(ticket) = member.joining.take() {
            self.joining -= 1;
            turn.answer(ticket, Answer::JoinGroup(join_refused("", ErrorCode::UnknownMemberId)));
        }
        if let Some(ticket) = member.syncing.take() {
            turn.answer(ticket, Answer::SyncGroup(sync_refused(ErrorCode::UnknownMemberId)));
        }
        if self.leader == Some(number) {
            self.leader = self.members.keys().next().copied();
        }
    }

    pub(super) fn count_protocols(&mut self, member: &ClassicMember, more: bool) {
        for (name, _) in &member.protocols {
            let count = self.supporters.entry(name.clone()).or_default();
            *count = if more { *count + 1 } else { *count - 1 };
            if *count == 0 {
                self.supporters.remove(name);
            }
        }
    }

    /// The member is alive for another session timeout.
    pub(super) fn touch(&mut self, number: u32, turn: &mut Turn<'_>) {
        let Some(session_ms) = self.members.get(&number).map(|member| member.session_timeout_ms) else { return };
        self.keep_until(number, turn.now.mono.after_ms(session_ms), turn);
    }

    pub(super) fn keep_until(&mut self, number: u32, until: Instant, turn: &mut Turn<'_>) {
        let Some(member) = self.members.get_mut(&number) else { return };
        member.alive_until = until;
        match member.alarm_at {
            // It will look again when it goes off: a heartbeat moves no deadline.
            Some(at) if at <= until => return,
            Some(at) => turn.clear_alarm(at, Alarm::ClassicMember(number)),
            None => {}
        }
        member.alarm_at = Some(until);
        turn.set_alarm(until, Alarm::ClassicMember(number));
    }

    pub(super) fn rebalance_timeout_ms(&self) -> u64 {
        self.members.values().map(|member| member.rebalance_timeout_ms).max().unwrap_or(0)
    }

    fn on_silence(&mut self, number: u32, turn: &mut Turn<'_>) {
        if self.pending.contains_key(&number) {
            self.remove(number, turn);
            return self.complete_join_if_all_are_there(turn);
        }
        let Some(member) = self.members.get_mut(&number) else { return };
        member.alarm_at = None;
        if member.alive_until > turn.now.mono {
            let until = member.alive_until;
            return self.keep_until(number, until, turn);
        }
        // Whoever waits for the others cannot send heartbeats. A new member may have gone while it waited.
        if member.is_new || !member.is_waiting() {
            self.remove(number, turn);
            self.after_removal(turn);
        }
    }

    fn is_consumers(&self) -> bool {
        self.protocol_type.as_deref() == Some(CONSUMER)
    }

    /// The topics that consumers read, of every version of their metadata: version, then the topics (Kafka:
    /// `ConsumerProtocolSubscription.json`).
    fn read_subscriptions(&self) -> Option<BTreeSet<String>> {
        if !self.is_consumers() {
            return None;
        }
        if self.members.is_empty() {
            return Some(BTreeSet::new());
        }
        let protocol = self.protocol.as_deref()?;
        let mut topics = BTreeSet::new();
        for member in self.members.values() {
            topics.extend(subscription(member.metadata(protocol))?);
        }
        Some(topics)
    }
}

fn subscription(metadata: Bytes) -> Option<Vec<String>> {
    let mut reader = Reader::new(metadata);
    let version = reader.i16().ok()?;
    if version < 0 {
        return None;
    }
    let count = reader.array_length(false, 2, size_of::<String>()).ok()??;
    (0..count).map(|_| reader.text(false).ok()?.map(|text| text.to_string())).collect()
}
