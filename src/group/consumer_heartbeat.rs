//! ConsumerGroupHeartbeat: how members join, stay and leave (KIP-848).
//!
//! A request is either refused, and changes nothing, or carried out. A heartbeat that says nothing new costs a look at
//! its member, and no record.
//!
//! *Owns*: which request is refused with what, and what it changes. *Never*: computes an assignment.
//! *Runs on*: the core that coordinates the group.
//!
//! Rules: Kafka, `GroupCoordinatorService` (`throwIfConsumerGroupHeartbeatRequestIsInvalid`) and
//! `GroupMetadataManager` (`consumerGroupHeartbeat`, `consumerGroupLeave`).

use std::collections::BTreeSet;

use crate::base::ids::GroupEpoch;
use crate::base::limits::GROUP_NAME_BYTES_MAX;
use crate::base::pattern::Pattern;
use crate::base::time::Instant;
use crate::config::{Assignor, Settings};
use crate::group::ask::Caller;
use crate::group::assignment::Assignment;
use crate::group::consumer::{ConsumerGroup, View};
use crate::group::consumer_member::{ConsumerMember, CurrentAssignment, MemberMetadata, MemberState};
use crate::group::consumer_rebalance::{after, check_resolved, resolve};
use crate::group::consumer_record::ConsumerRecord;
use crate::group::coordinator::record_bytes_max;
use crate::wire::errors::ErrorCode;
use crate::wire::messages::consumer_group_heartbeat::{
    self as message, ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, TopicPartitions,
};
use crate::wire::text::Text;

/// From this version on a member makes its id itself (KIP-1082).
const MEMBER_MAKES_ID_VERSION: i16 = 1;

const TARGET_TOO_LARGE: &str = "With this subscription, what some member of the group would have to read is more than a record of \
     __consumer_offsets can hold: let more members share it, or raise message.max.bytes.";

/// The length before a text.
pub(super) const TEXT_HEAD_BYTES_MAX: usize = 5;

/// Why a request was not carried out. The group is as it was before.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    pub error: ErrorCode,
    pub message: String,
}

impl Refusal {
    pub(super) fn new(error: ErrorCode, message: impl Into<String>) -> Refusal {
        Refusal { error, message: message.into() }
    }
}

impl From<Refusal> for ConsumerGroupHeartbeatResponse {
    fn from(refusal: Refusal) -> ConsumerGroupHeartbeatResponse {
        let error_message = Some(refusal.message.into());
        ConsumerGroupHeartbeatResponse { error_code: refusal.error.code(), error_message, ..Default::default() }
    }
}

/// What can be refused before the group is looked at.
pub fn check(ask: &ConsumerGroupHeartbeatRequest, version: i16, settings: &Settings) -> Result<(), Refusal> {
    let invalid = |message: &str| Err(Refusal::new(ErrorCode::InvalidRequest, message));
    let epoch = GroupEpoch(ask.member_epoch);
    let has_id = version >= MEMBER_MAKES_ID_VERSION || epoch > GroupEpoch::JOIN || epoch == GroupEpoch::LEAVE;
    let is_blank = |text: &Text| text.trim().is_empty();
    if has_id && is_blank(&ask.member_id) {
        return invalid("MemberId can't be empty.");
    }
    if is_blank(&ask.group_id) {
        return invalid("GroupId can't be empty.");
    }
    if ask.instance_id.as_ref().is_some_and(is_blank) {
        return invalid("InstanceId can't be empty.");
    }
    if ask.rack_id.as_ref().is_some_and(is_blank) {
        return invalid("RackId can't be empty.");
    }
    if epoch == GroupEpoch::JOIN {
        if ask.rebalance_timeout_ms == -1 {
            return invalid("RebalanceTimeoutMs must be provided in first request.");
        }
        if ask.topic_partitions.as_ref().is_none_or(|owned| !owned.is_empty()) {
            return invalid("TopicPartitions must be empty when (re-)joining.");
        }
        if ask.subscribed_topic_names.is_none() && ask.subscribed_topic_regex.is_none() {
            return invalid("Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.");
        }
    } else if epoch == GroupEpoch::LEAVE_STATIC && ask.instance_id.is_none() {
        return invalid("InstanceId can't be null.");
    } else if epoch < GroupEpoch::LEAVE_STATIC {
        return invalid("MemberEpoch is invalid.");
    }
    check_size(ask, settings)?;
    check_assignor(ask.server_assignor.as_ref(), &settings.group_consumer_assignors)
}

/// What a record cannot hold could only be refused when it is written, for the whole group.
fn check_size(ask: &ConsumerGroupHeartbeatRequest, settings: &Settings) -> Result<(), Refusal> {
    let bytes = |text: &Text| text.as_bytes().len();
    let short = [Some(&ask.member_id), ask.instance_id.as_ref(), ask.rack_id.as_ref(), ask.server_assignor.as_ref()];
    if short.into_iter().flatten().any(|text| bytes(text) > GROUP_NAME_BYTES_MAX) {
        let message = format!("No id and no name may have more than {GROUP_NAME_BYTES_MAX} bytes.");
        return Err(Refusal::new(ErrorCode::InvalidRequest, message));
    }
    let names: usize = ask.subscribed_topic_names.iter().flatten().map(|name| bytes(name) + TEXT_HEAD_BYTES_MAX).sum();
    let names_max = record_bytes_max(settings).saturating_sub(5 * GROUP_NAME_BYTES_MAX);
    if names > names_max {
        let message = format!("The names of subscribed topics take {names} bytes, and may take {names_max}.");
        return Err(Refusal::new(ErrorCode::InvalidRequest, message));
    }
    Ok(())
}

fn check_assignor(name: Option<&Text>, allowed: &[Assignor]) -> Result<(), Refusal> {
    let Some(name) = name else { return Ok(()) };
    if allowed.iter().any(|assignor| *name == assignor.name()) {
        return Ok(());
    }
    let names: Vec<&str> = allowed.iter().map(|assignor| assignor.name()).collect();
    let message = format!("ServerAssignor {name} is not supported. Supported assignors: {}.", names.join(", "));
    Err(Refusal::new(ErrorCode::UnsupportedAssignor, message))
}

/// What a request changes of its member. `None`: nothing.
pub(super) struct Change {
    pub metadata: Option<MemberMetadata>,
    /// If it is one that the group does not know.
    pub pattern: Option<Pattern>,
}

/// Where a request finds its member.
pub(super) enum Seat {
    Member,
    New,
    /// A static member that comes back under a new id takes the place of the old one.
    Replaces(String),
}

impl ConsumerGroup {
    /// A member joins or stays. `member_id` is the one sent, or made for it.
    pub(super) fn stay(
        &mut self,
        ask: &ConsumerGroupHeartbeatRequest,
        member_id: &str,
        caller: &Caller,
        view: &View,
        records: &mut Vec<ConsumerRecord>,
    ) -> Result<ConsumerGroupHeartbeatResponse, Refusal> {
        self.check_members(member_id, view.settings)?;
        let owned = ask.topic_partitions.as_deref().map(owned_set);
        let epoch = GroupEpoch(ask.member_epoch);
        let seat = self.find_seat(member_id, ask.instance_id.as_deref(), epoch, owned.as_ref())?;
        let member = self.seated(&seat, member_id);
        check_state(member, owned.as_ref())?;
        let metadata = match member.map(|member| &member.metadata) {
            Some(before) if says_the_same(before, ask, caller) => None,
            Some(before) => Some(updated(before, ask, caller)),
            None => Some(updated(&MemberMetadata::default(), ask, caller)),
        };
        let assigned_before = member.map(|member| member.current.assigned.clone()).unwrap_or_default();
        let pattern = self.new_pattern(metadata.as_ref(), view)?;
        let subscription_changed = metadata.is_some();
        self.admit(&seat, member_id, Change { metadata, pattern }, owned.as_ref(), view, records);
        let session_timeout_ms = view.own.consumer_session_timeout_ms;
        let session = view.now.mono.after_ms(u64::from(session_timeout_ms));
        self.set_deadlines(member_id, |deadlines| {
            deadlines.session = Some(session);
            (deadlines.join, deadlines.sync) = (None, None);
        });
        if self.is_left_out(member_id, subscription_changed) {
            return Err(Refusal::new(ErrorCode::UnknownServerError, TARGET_TOO_LARGE));
        }
        Ok(self.answer(ask, member_id, &assigned_before, view))
    }

    /// Carries out what a member wants that joins or stays.
    pub(super) fn admit(
        &mut self,
        seat: &Seat,
        member_id: &str,
        change: Change,
        owned: Option<&Assignment>,
        view: &View,
        records: &mut Vec<ConsumerRecord>,
    ) {
        if let Seat::Replaces(old) = seat {
            self.replace_member(old, member_id, records);
        }
        let mut subscription_changed = false;
        if let Some(metadata) = change.metadata {
            let before = self.members.get(member_id).map(|member| &member.metadata);
            let pattern_changed = before.map_or("", |before| &before.pattern) != metadata.pattern;
            let topics_changed = before.map_or(!metadata.topics.is_empty(), |before| before.topics != metadata.topics);
            subscription_changed = pattern_changed || topics_changed;
            let text = metadata.pattern.clone();
            self.put(ConsumerRecord::Member(member_id.to_owned(), Some(metadata)), records);
            if pattern_changed {
                self.drop_unused_patterns(records);
            }
            if let Some(pattern) = change.pattern {
                self.put_pattern(&text, &pattern, view, records);
            }
        }
        let topics_changed = self.refresh_patterns(view, records);
        let is_first = self.epoch == GroupEpoch::default();
        self.rebalance(is_first || subscription_changed || topics_changed, view, records);
        self.reconcile(member_id, subscription_changed, owned, view, records);
    }

    /// What the member that takes a seat was before; `None`: it is new.
    pub(super) fn seated(&self, seat: &Seat, member_id: &str) -> Option<&ConsumerMember> {
        match seat {
            Seat::Member => self.members.get(member_id),
            Seat::New => None,
            Seat::Replaces(old) => self.members.get(old),
        }
    }

    /// A member leaves, for good or, if it is static, for a while.
    pub(super) fn leave(
        &mut self,
        ask: &ConsumerGroupHeartbeatRequest,
        view: &View,
        records: &mut Vec<ConsumerRecord>,
    ) -> Result<ConsumerGroupHeartbeatResponse, Refusal> {
        let id = self.leaver(ask)?;
        let member_epoch = GroupEpoch(ask.member_epoch);
        if ask.instance_id.is_some() && member_epoch == GroupEpoch::LEAVE_STATIC {
            let current = CurrentAssignment {
                epoch: GroupEpoch::LEAVE_STATIC,
                revoking: Assignment::default(),
                ..self.members[&id].current.clone()
            };
            self.put(ConsumerRecord::Current(id.clone(), Some(current)), records);
        } else {
            self.remove_members(std::slice::from_ref(&id), view, records);
        }
        let member_id = Some(id.into());
        Ok(ConsumerGroupHeartbeatResponse { member_id, member_epoch: member_epoch.0, ..Default::default() })
    }

    /// Whose deadline has come.
    pub(super) fn overdue(&mut self, now: Instant) -> Vec<String> {
        let mut late = Vec::new();
        self.alarm = None;
        for (id, member) in &self.members {
            match member.deadlines.next() {
                Some(next) if next <= now => late.push(id.clone()),
                next => self.alarm = self.alarm.into_iter().chain(next).min(),
            }
        }
        late
    }

    /// Gives every member its full time from now on.
    pub(super) fn start_deadlines(&mut self, view: &View) {
        let ids: Vec<String> = self.members.keys().cloned().collect();
        for id in ids {
            let member = &self.members[&id];
            let session_ms = match &member.metadata.classic {
                Some(classic) => classic.session_timeout_ms,
                None => view.own.consumer_session_timeout_ms.cast_signed(),
            };
            let must_revoke = member.current.state == MemberState::UnrevokedPartitions && !member.is_classic();
            let revocation = must_revoke.then(|| after(view.now.mono, member.metadata.rebalance_timeout_ms));
            let session = Some(after(view.now.mono, session_ms));
            self.set_deadlines(&id, |deadlines| (deadlines.session, deadlines.revocation) = (session, revocation));
        }
    }

    pub(super) fn check_members(&self, member_id: &str, settings: &Settings) -> Result<(), Refusal> {
        let size_max = settings.group_consumer_max_size as usize;
        if self.members.len() < size_max || self.members.contains_key(member_id) {
            return Ok(());
        }
        let message = format!("The consumer group has reached its maximum capacity of {size_max} members.");
        Err(Refusal::new(ErrorCode::GroupMaxSizeReached, message))
    }

    fn find_seat(
        &self,
        member_id: &str,
        instance_id: Option<&str>,
        epoch: GroupEpoch,
        owned: Option<&Assignment>,
    ) -> Result<Seat, Refusal> {
        let joins = epoch == GroupEpoch::JOIN;
        let Some(instance_id) = instance_id else {
            return match self.members.get(member_id) {
                Some(member) => check_epoch(member, epoch, owned).map(|()| Seat::Member),
                None if joins => Ok(Seat::New),
                None => Err(unknown_member(member_id)),
            };
        };
        let Some(holder) = self.static_members.get(instance_id) else {
            return if joins { Ok(Seat::New) } else { Err(unknown_instance(instance_id)) };
        };
        let member = &self.members[holder];
        if joins {
            let is_released = member.epoch() == GroupEpoch::LEAVE_STATIC || member.is_classic();
            if is_released {
                return Ok(Seat::Replaces(holder.clone()));
            }
            let message = format!("Instance id {instance_id} is still in use by member {holder}.");
            return Err(Refusal::new(ErrorCode::UnreleasedInstanceId, message));
        }
        check_instance(holder, member_id, instance_id)?;
        check_epoch(member, epoch, owned).map(|()| Seat::Member)
    }

    fn leaver(&self, ask: &ConsumerGroupHeartbeatRequest) -> Result<String, Refusal> {
        let Some(instance_id) = ask.instance_id.as_deref() else {
            let known = self.members.contains_key(&*ask.member_id);
            return if known { Ok(ask.member_id.to_string()) } else { Err(unknown_member(&ask.member_id)) };
        };
        let holder = self.static_members.get(instance_id).ok_or_else(|| unknown_instance(instance_id))?;
        check_instance(holder, &ask.member_id, instance_id)?;
        Ok(holder.clone())
    }

    /// The pattern that somebody begins to subscribe to, if the group does not know what it stands for.
    fn new_pattern(&self, metadata: Option<&MemberMetadata>, view: &View) -> Result<Option<Pattern>, Refusal> {
        let Some(text) = metadata.map(|metadata| &metadata.pattern) else { return Ok(None) };
        if text.is_empty() || self.patterns.contains_key(text) {
            return Ok(None);
        }
        let pattern = Pattern::new(text).map_err(|why| {
            let message = format!("SubscribedTopicRegex `{text}` is not a valid regular expression: {why}.");
            Refusal::new(ErrorCode::InvalidRegularExpression, message)
        })?;
        let checked = check_resolved(&resolve(&pattern, view), view);
        checked.map_err(|why| Refusal::new(ErrorCode::InvalidRequest, why)).map(|()| Some(pattern))
    }

    /// Gives the place of a static member to the same one under another id, with all it had.
    pub(super) fn replace_member(&mut self, old: &str, new: &str, records: &mut Vec<ConsumerRecord>) {
        let Some(ConsumerMember { metadata, current, .. }) = self.members.get(old).cloned() else { return };
        let target = self.targets.get(old).cloned().unwrap_or_default();
        let current = CurrentAssignment::joining(current.assigned, current.revoking, current.state);
        self.put_member_tombstones(old, records);
        self.put(ConsumerRecord::Member(new.to_owned(), Some(metadata)), records);
        self.put(ConsumerRecord::Target(new.to_owned(), Some(target)), records);
        self.put(ConsumerRecord::Current(new.to_owned(), Some(current)), records);
    }

    fn answer(
        &self,
        ask: &ConsumerGroupHeartbeatRequest,
        member_id: &str,
        assigned_before: &Assignment,
        view: &View,
    ) -> ConsumerGroupHeartbeatResponse {
        let current = &self.members[member_id].current;
        let subscribes = ask.subscribed_topic_names.is_some() || ask.subscribed_topic_regex.is_some();
        // Who says everything has lost something, and is told everything.
        let is_full = ask.rebalance_timeout_ms != -1 && subscribes && ask.topic_partitions.is_some();
        let is_told = ask.member_epoch == 0 || is_full || current.assigned != *assigned_before;
        let assignment = is_told.then(|| message::Assignment {
            topic_partitions: current
                .assigned
                .lists()
                .map(|(topic_id, partitions)| TopicPartitions { topic_id, partitions })
                .collect(),
        });
        ConsumerGroupHeartbeatResponse {
            member_id: Some(member_id.into()),
            member_epoch: current.epoch.0,
            heartbeat_interval_ms: view.own.consumer_heartbeat_interval_ms.cast_signed(),
            assignment,
            ..Default::default()
        }
    }
}

fn owned_set(lists: &[TopicPartitions]) -> Assignment {
    Assignment::from_lists(lists.iter().map(|list| (list.topic_id, list.partitions.as_slice())))
}

fn says_the_same(before: &MemberMetadata, ask: &ConsumerGroupHeartbeatRequest, caller: &Caller) -> bool {
    let same = |before: &Option<String>, now: &Option<Text>| now.is_none() || before.as_deref() == now.as_deref();
    let same_topics = |names: &Vec<Text>| {
        // A client may name a topic twice.
        let names: BTreeSet<&str> = names.iter().map(Text::as_str).collect();
        names.iter().copied().eq(before.topics.iter().map(String::as_str))
    };
    same(&before.instance_id, &ask.instance_id)
        && same(&before.rack_id, &ask.rack_id)
        && same(&before.assignor, &ask.server_assignor)
        && (ask.rebalance_timeout_ms == -1 || before.rebalance_timeout_ms == ask.rebalance_timeout_ms)
        && ask.subscribed_topic_regex.as_ref().is_none_or(|pattern| *pattern == before.pattern.as_str())
        && ask.subscribed_topic_names.as_ref().is_none_or(same_topics)
        && caller.client_id == before.client_id.as_str()
        && caller.client_host == before.client_host.as_str()
        && before.classic.is_none()
}

/// What a member says of itself with a heartbeat, together with what it said before.
fn updated(before: &MemberMetadata, ask: &ConsumerGroupHeartbeatRequest, caller: &Caller) -> MemberMetadata {
    let or_before = |now: &Option<Text>, before: &Option<String>| match now {
        Some(now) => Some(now.to_string()),
        None => before.clone(),
    };
    let topics = ask.subscribed_topic_names.as_ref().map(|names| names.iter().map(Text::to_string).collect());
    let timeout_ms = ask.rebalance_timeout_ms;
    MemberMetadata {
        instance_id: or_before(&ask.instance_id, &before.instance_id),
        rack_id: or_before(&ask.rack_id, &before.rack_id),
        client_id: caller.client_id.to_string(),
        client_host: caller.client_host.to_string(),
        topics: topics.unwrap_or_else(|| before.topics.clone()),
        pattern: ask.subscribed_topic_regex.as_ref().map_or_else(|| before.pattern.clone(), Text::to_string),
        rebalance_timeout_ms: if timeout_ms == -1 { before.rebalance_timeout_ms } else { timeout_ms },
        assignor: or_before(&ask.server_assignor, &before.assignor),
        classic: None,
    }
}

/// The epoch a member sends is its own, or the one before if it owns nothing that its epoch does not give it: the
/// answer that told it the new one was lost.
fn check_epoch(member: &ConsumerMember, epoch: GroupEpoch, owned: Option<&Assignment>) -> Result<(), Refusal> {
    let current = &member.current;
    let is_retry = epoch == current.previous_epoch && owned.is_some_and(|owned| owned.is_subset(&current.assigned));
    if epoch == current.epoch || (epoch < current.epoch && is_retry) {
        return Ok(());
    }
    let message = format!(
        "The member sent epoch {epoch}, and the group coordinator knows it with epoch {}. \
         The member must abandon all its partitions and rejoin.",
        current.epoch
    );
    Err(Refusal::new(ErrorCode::FencedMemberEpoch, message))
}

/// A member whose state was written by a newer broker starts again from nothing.
fn check_state(member: Option<&ConsumerMember>, owned: Option<&Assignment>) -> Result<(), Refusal> {
    let is_known = member.is_none_or(|member| member.current.state != MemberState::Unknown);
    if is_known || owned.is_some_and(Assignment::is_empty) {
        return Ok(());
    }
    let message = "The member is in a state that this broker does not know. \
                   The member must abandon all its partitions and rejoin.";
    Err(Refusal::new(ErrorCode::FencedMemberEpoch, message))
}

fn check_instance(holder: &str, member_id: &str, instance_id: &str) -> Result<(), Refusal> {
    if holder == member_id {
        return Ok(());
    }
    let message = format!("Static member {member_id} with instance id {instance_id} was fenced by member {holder}.");
    Err(Refusal::new(ErrorCode::FencedInstanceId, message))
}

fn unknown_member(member_id: &str) -> Refusal {
    Refusal::new(ErrorCode::UnknownMemberId, format!("Member {member_id} is not a member of the group."))
}

fn unknown_instance(instance_id: &str) -> Refusal {
    Refusal::new(ErrorCode::UnknownMemberId, format!("Instance id {instance_id} is unknown."))
}
