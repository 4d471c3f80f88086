//! The coordinator of one partition of `__consumer_offsets`: every group whose name belongs there.
//!
//! Deadlines of all its groups stand in one ordered set. A heartbeat moves none of them: a member notes until when it
//! counts as alive, and the alarm that is set looks again when it goes off.
//!
//! *Owns*: groups by name, their offsets and deadlines. *Never*: waits for a record to be safe; the host holds answers
//! back. *Runs on*: the core that owns the partition.
//!
//! Rules: Kafka, `GroupCoordinatorShard` and `GroupMetadataManager`.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::ask::{Answer, Ask, Caller, Ticket, commit_refused, describe_refused, heartbeat};
use super::classic::ClassicGroup;
use super::consumer::ConsumerGroup;
use super::consumer_heartbeat::{self, Refusal};
use super::consumer_record::ConsumerRecord;
use super::migration;
use super::offsets::{GroupOffsets, RetainedSince};
use super::records::{self, GroupRecord, StoredRecord};
use super::topics::Topics;
use crate::base::deadlines::Deadlines;
use crate::base::ids::GroupEpoch;
use crate::base::limits;
use crate::base::rng::Rng;
use crate::base::slab::{Key, Slab};
use crate::base::time::{Instant, Now};
use crate::config::Settings;
use crate::wire::errors::ErrorCode;
use crate::wire::messages::consumer_group_describe::DescribedGroup as DescribedConsumerGroup;
use crate::wire::messages::consumer_group_heartbeat::ConsumerGroupHeartbeatRequest;
use crate::wire::messages::describe_groups::DescribedGroup;
use crate::wire::messages::join_group::JoinGroupRequest;
use crate::wire::messages::leave_group::{LeaveGroupResponse, MemberResponse};
use crate::wire::messages::list_groups::ListedGroup;
use crate::wire::messages::offset_commit::{OffsetCommitRequest, OffsetCommitResponse};
use crate::wire::messages::offset_fetch::{OffsetFetchRequestGroup, OffsetFetchResponseGroup};
use crate::wire::reader::DecodeError;

/// The state of a group that is not there (Kafka: `ClassicGroupState`).
const DEAD: &str = "Dead";

/// From this version DescribeGroups says that a group is not there; before, such a group is dead (KIP-1043).
const DESCRIBE_SAYS_NOT_FOUND_VERSION: i16 = 6;

/// What the coordinator decided, filled by every `on_*` and emptied by the caller.
#[derive(Debug, Default)]
pub struct GroupOut {
    /// To be appended in this order.
    pub records: Vec<GroupRecord>,
    /// To be given when the records above and all before them are safe.
    pub answers: Vec<(Ticket, Answer)>,
}

/// What a coordinator is given with every call.
pub struct Context<'a> {
    pub settings: &'a Settings,
    pub topics: &'a dyn Topics,
    pub now: Now,
    pub rng: &'a mut Rng,
    pub out: &'a mut GroupOut,
}

/// What a group is given with every call.
pub struct Turn<'a> {
    /// The group's name.
    pub name: &'a str,
    pub settings: &'a Settings,
    pub topics: &'a dyn Topics,
    pub now: Now,
    pub rng: &'a mut Rng,
    pub out: &'a mut GroupOut,
    group: Key,
    deadlines: &'a mut Deadlines<Due>,
}

/// What is due in a group.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Alarm {
    /// A member of a classic group, or one to be, has been silent for its time.
    ClassicMember(u32),
    /// A classic group has waited long enough for members to join.
    ClassicJoin,
    /// A classic group has waited long enough for members to sync.
    ClassicSync,
    /// A member of a consumer group has been silent, or has kept partitions, for its time.
    Consumer,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Due {
    Group(Key, Alarm),
    /// Offsets may have expired.
    Expiry,
}

#[derive(Debug, Default)]
pub struct Coordinator {
    groups: Slab<Row>,
    names: BTreeMap<String, Key>,
    deadlines: Deadlines<Due>,
}

#[derive(Debug)]
struct Row {
    name: String,
    group: Group,
    offsets: GroupOffsets,
}

/// A group, by its protocol.
#[derive(Debug)]
pub enum Group {
    Classic(ClassicGroup),
    Consumer(ConsumerGroup),
}

impl Turn<'_> {
    pub fn answer(&mut self, to: Ticket, answer: Answer) {
        self.out.answers.push((to, answer));
    }

    pub fn record(&mut self, record: GroupRecord) {
        self.out.records.push(record);
    }

    pub fn set_alarm(&mut self, at: Instant, alarm: Alarm) {
        self.deadlines.set(at, Due::Group(self.group, alarm));
    }

    /// Takes an alarm back; the group remembers when it set it for.
    pub fn clear_alarm(&mut self, at: Instant, alarm: Alarm) {
        self.deadlines.clear(at, Due::Group(self.group, alarm));
    }
}

impl Coordinator {
    /// A record of the log, in its order. One that cannot be read is an error, and leaves everything as it was.
    pub fn on_record(&mut self, key: &Bytes, value: Option<&Bytes>) -> Result<(), DecodeError> {
        match records::read(key, value)? {
            None => {}
            Some(StoredRecord::Offset { key, value }) => {
                if value.is_some() {
                    self.get_or_create(&key.group);
                }
                if let Some(row) = self.row_mut(&key.group) {
                    row.offsets.on_record(&key, value.as_ref());
                }
            }
            Some(StoredRecord::Group { key, value: Some(value) }) => {
                let group = Group::Classic(ClassicGroup::from_record(&value));
                self.get_or_create(&key.group).group = group;
            }
            // One that was migrated goes on under the other protocol.
            Some(StoredRecord::Group { key, value: None }) if !self.is_consumer(&key.group) => {
                self.remove_if_without_offsets(&key.group);
            }
            Some(StoredRecord::Group { .. }) => {}
            Some(StoredRecord::Consumer { group, record }) => self.on_consumer_record(&group, &record),
        }
        Ok(())
    }

    fn is_consumer(&self, name: &str) -> bool {
        self.row(name).is_some_and(|row| matches!(row.group, Group::Consumer(_)))
    }

    fn on_consumer_record(&mut self, name: &str, record: &ConsumerRecord) {
        let row = if record.is_tombstone() { self.row_mut(name) } else { Some(self.get_or_create(name)) };
        let Some(row) = row else { return };
        match &mut row.group {
            Group::Consumer(group) => group.apply(record),
            // The group changed its protocol: this is what is left of before.
            Group::Classic(_) if record.is_tombstone() => return,
            Group::Classic(_) => {
                let mut group = ConsumerGroup::default();
                group.apply(record);
                row.group = Group::Consumer(group);
            }
        }
        if matches!(record, ConsumerRecord::Group(None)) {
            self.remove_if_without_offsets(name);
        }
    }

    /// Every record was read: from now on it is asked.
    pub fn on_loaded(&mut self, context: &mut Context<'_>) {
        let keys: Vec<Key> = self.names.values().copied().collect();
        for key in keys {
            self.on_group(key, context, |group, _, turn| match group {
                Group::Classic(group) => group.on_loaded(turn),
                Group::Consumer(group) => group.on_loaded(turn),
            });
        }
        self.forget_lost_topics(context);
        self.set_expiry(context);
    }

    pub fn on_ask(&mut self, ticket: Ticket, ask: Ask, caller: &Caller, context: &mut Context<'_>) {
        if let Some(error) = ask.group().and_then(|group| check_name(&ask, group)) {
            return context.out.answers.push((ticket, ask.refused(error)));
        }
        let answer = match ask {
            Ask::JoinGroup(_) | Ask::SyncGroup(_) | Ask::Heartbeat(_) | Ask::LeaveGroup(_) => {
                return self.on_membership(ticket, ask, caller, context);
            }
            Ask::ConsumerGroupHeartbeat(ask) => return self.on_consumer_heartbeat(ticket, &ask, caller, context),
            Ask::OffsetCommit(ask) => Answer::OffsetCommit(self.on_commit(&ask, caller, context)),
            Ask::OffsetFetch(ask) => {
                let row = self.row(&ask.group_id);
                match row.map_or(Ok(()), |row| row.group.check_fetch(&ask)) {
                    Err(error) => Ask::OffsetFetch(ask).refused(error),
                    Ok(()) => {
                        let topics = match row {
                            Some(row) => row.offsets.fetch(&ask),
                            None => GroupOffsets::default().fetch(&ask),
                        };
                        let group_id = ask.group_id;
                        Answer::OffsetFetch(OffsetFetchResponseGroup { group_id, topics, error_code: 0 })
                    }
                }
            }
            Ask::OffsetDelete(delete) => match self.row_mut(&delete.group_id) {
                None => Ask::OffsetDelete(delete).refused(ErrorCode::GroupIdNotFound),
                Some(Row { group, offsets, .. }) => match group.check_offset_delete() {
                    Err(error) => Ask::OffsetDelete(delete).refused(error),
                    Ok(()) => {
                        let reads = |topic: &str| group.is_subscribed(topic);
                        Answer::OffsetDelete(offsets.delete(&delete, reads, context.out))
                    }
                },
            },
            Ask::DescribeGroup(name) => Answer::DescribeGroup(self.describe(&name, caller)),
            Ask::DescribeConsumerGroup(name) => Answer::DescribeConsumerGroup(self.describe_consumer(&name, context)),
            Ask::DeleteGroup(name) => Answer::DeleteGroup(self.delete(&name, context.out)),
            Ask::ListGroups(filter) => {
                let rows = self.names.values().filter_map(|key| self.groups.get(*key));
                let listed = rows.map(|row| row.group.listed(&row.name));
                Answer::ListGroups(Ok(listed.filter(|group| filter.lets_through(group)).collect()))
            }
        };
        context.out.answers.push((ticket, answer));
    }

    /// Topics were deleted: nobody has read them.
    pub fn on_topics_deleted(&mut self, deleted: &[String], out: &mut GroupOut) {
        for key in self.names.values() {
            let Some(row) = self.groups.get_mut(*key) else { continue };
            for topic in deleted {
                row.offsets.delete_topic(&row.name, topic, out);
            }
        }
    }

    pub fn on_timeout(&mut self, context: &mut Context<'_>) {
        while let Some(due) = self.deadlines.pop_due(context.now.mono) {
            match due {
                Due::Group(key, alarm) => self.on_group(key, context, |group, _, turn| match (group, alarm) {
                    (Group::Classic(group), alarm) => group.on_alarm(alarm, turn),
                    (Group::Consumer(group), Alarm::Consumer) => group.on_alarm(turn),
                    // Of the classic group it was before.
                    (Group::Consumer(_), _) => {}
                }),
                Due::Expiry => {
                    self.expire(context);
                    self.set_expiry(context);
                }
            }
        }
    }

    /// Topics may have been deleted while nobody coordinated.
    fn forget_lost_topics(&mut self, context: &mut Context<'_>) {
        for key in self.names.values() {
            let Some(Row { name, offsets, .. }) = self.groups.get_mut(*key) else { continue };
            let lost = offsets.topics().filter(|topic| context.topics.by_name(topic).is_none());
            for topic in lost.map(str::to_owned).collect::<Vec<_>>() {
                offsets.delete_topic(name, &topic, context.out);
            }
        }
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.next()
    }

    /// It is about to be dropped: those who wait for others are told.
    pub fn unload(&mut self, error: ErrorCode, out: &mut GroupOut) {
        for key in self.names.values() {
            match self.groups.get_mut(*key).map(|row| &mut row.group) {
                Some(Group::Classic(group)) => group.unload(error, out),
                // Nobody waits in a consumer group.
                Some(Group::Consumer(_)) | None => {}
            }
        }
    }

    fn on_membership(&mut self, ticket: Ticket, ask: Ask, caller: &Caller, context: &mut Context<'_>) {
        if let Ask::JoinGroup(join) = &ask
            && let Some(error) = check_join(join, context.settings)
        {
            return context.out.answers.push((ticket, ask.refused(error)));
        }
        let Some(name) = ask.group().cloned() else { return };
        let creates = matches!(&ask, Ask::JoinGroup(join) if join.member_id.is_empty());
        let known = self.names.get(&*name).copied();
        let key = match known {
            Some(key) => key,
            None if creates && self.is_full() => {
                return context.out.answers.push((ticket, ask.refused(ErrorCode::CoordinatorNotAvailable)));
            }
            None if creates => self.create(&name),
            None => return context.out.answers.push((ticket, not_a_member(&ask, caller))),
        };
        if matches!(ask, Ask::JoinGroup(_)) {
            self.on_group(key, context, |group, _, turn| match group {
                Group::Consumer(consumer) if consumer.is_empty() => {
                    consumer.forget(turn.name, turn.out);
                    consumer.disarm(turn);
                    *group = Group::Classic(ClassicGroup::default());
                }
                _ => {}
            });
        }
        self.on_group(key, context, |group, _, turn| match (group, ask) {
            (Group::Classic(group), Ask::JoinGroup(ask)) => group.on_join(ticket, &ask, caller, turn),
            (Group::Classic(group), Ask::SyncGroup(ask)) => group.on_sync(ticket, &ask, caller, turn),
            (Group::Classic(group), Ask::Heartbeat(ask)) => group.on_heartbeat(ticket, &ask, turn),
            (Group::Classic(group), Ask::LeaveGroup(ask)) => group.on_leave(ticket, &ask, caller, turn),
            (Group::Consumer(group), Ask::JoinGroup(ask)) => group.on_join(ticket, &ask, caller, turn),
            (Group::Consumer(group), Ask::SyncGroup(ask)) => group.on_sync(ticket, &ask, turn),
            (Group::Consumer(group), Ask::Heartbeat(ask)) => group.on_classic_heartbeat(ticket, &ask, turn),
            (Group::Consumer(group), Ask::LeaveGroup(ask)) => group.on_leave(ticket, &ask, caller, turn),
            (_, ask) => turn.answer(ticket, ask.refused(ErrorCode::UnknownServerError)),
        });
    }

    fn on_consumer_heartbeat(
        &mut self,
        ticket: Ticket,
        ask: &ConsumerGroupHeartbeatRequest,
        caller: &Caller,
        context: &mut Context<'_>,
    ) {
        if let Err(refusal) = consumer_heartbeat::check(ask, caller.version, context.settings) {
            return context.out.answers.push((ticket, Answer::ConsumerGroupHeartbeat(refusal.into())));
        }
        let joins = GroupEpoch(ask.member_epoch) == GroupEpoch::JOIN;
        let known = self.names.get(&*ask.group_id).copied();
        let refused = |error| Ask::ConsumerGroupHeartbeat(ask.clone()).refused(error);
        let key = match known {
            Some(key) => key,
            None if joins && self.is_full() => {
                return context.out.answers.push((ticket, refused(ErrorCode::CoordinatorNotAvailable)));
            }
            None if joins => self.create(&ask.group_id),
            None => return context.out.answers.push((ticket, refused(ErrorCode::GroupIdNotFound))),
        };
        self.on_group(key, context, |group, _, turn| match group {
            Group::Consumer(group) => group.on_heartbeat(ticket, ask, caller, turn),
            Group::Classic(classic) if joins && classic.is_empty() => {
                let records_before = turn.out.records.len();
                if known.is_some() {
                    classic.forget(turn.name, turn.out);
                }
                let mut consumer = ConsumerGroup::default();
                consumer.on_heartbeat(ticket, ask, caller, turn);
                if consumer.is_empty() {
                    // Refused: nothing becomes of it.
                    turn.out.records.truncate(records_before);
                } else {
                    *group = Group::Consumer(consumer);
                }
            }
            Group::Classic(classic) if joins => {
                if let Some(consumer) = upgrade(ticket, ask, caller, classic, turn) {
                    *group = Group::Consumer(consumer);
                }
            }
            Group::Classic(_) => turn.answer(ticket, refused(ErrorCode::GroupIdNotFound)),
        });
        if known.is_none() && self.groups.get(key).is_some_and(|row| row.group.is_empty()) {
            self.remove_if_without_offsets(&ask.group_id);
        }
    }

    fn on_commit(
        &mut self,
        ask: &OffsetCommitRequest,
        caller: &Caller,
        context: &mut Context<'_>,
    ) -> OffsetCommitResponse {
        let known = self.names.get(&*ask.group_id).copied();
        let key = match known {
            Some(key) => key,
            // Not a member's: whoever keeps offsets here without the group protocol.
            None if ask.generation_id_or_member_epoch < 0 && !self.is_full() => self.create(&ask.group_id),
            None => {
                let error = match (self.is_full(), caller.version) {
                    (true, _) => ErrorCode::CoordinatorNotAvailable,
                    (false, 9..) => ErrorCode::GroupIdNotFound,
                    (false, _) => ErrorCode::IllegalGeneration,
                };
                return commit_refused(ask, error);
            }
        };
        let mut reply = None;
        self.on_group(key, context, |group, offsets, turn| {
            let checked = match group {
                Group::Classic(group) => group.on_commit(ask, turn),
                Group::Consumer(group) => group.on_commit(ask, caller),
            };
            reply = Some(match checked {
                Ok(()) => offsets.commit(ask, turn.settings, turn.now.wall_ms, turn.out),
                Err(error) => commit_refused(ask, error),
            });
        });
        reply.unwrap_or_else(|| commit_refused(ask, ErrorCode::UnknownServerError))
    }

    fn describe(&self, name: &str, caller: &Caller) -> DescribedGroup {
        let why = match self.row(name).map(|row| &row.group) {
            Some(Group::Classic(group)) => return group.described(name),
            Some(Group::Consumer(_)) => format!("Group {name} is not a classic group."),
            None => format!("Group {name} not found."),
        };
        let not_found = caller.version >= DESCRIBE_SAYS_NOT_FOUND_VERSION;
        DescribedGroup {
            error_code: if not_found { ErrorCode::GroupIdNotFound.code() } else { 0 },
            error_message: not_found.then(|| why.into()),
            group_id: name.into(),
            group_state: DEAD.into(),
            ..DescribedGroup::default()
        }
    }

    fn describe_consumer(&self, name: &str, context: &Context<'_>) -> DescribedConsumerGroup {
        let why = match self.row(name).map(|row| &row.group) {
            Some(Group::Consumer(group)) => {
                return group.described(name, &context.settings.group_consumer_assignors, context.topics);
            }
            Some(Group::Classic(_)) => format!("Group {name} is not a consumer group."),
            None => format!("Group {name} not found."),
        };
        DescribedConsumerGroup {
            error_message: Some(why.into()),
            ..describe_refused(name.into(), ErrorCode::GroupIdNotFound)
        }
    }

    fn delete(&mut self, name: &str, out: &mut GroupOut) -> ErrorCode {
        let Some(&key) = self.names.get(name) else { return ErrorCode::GroupIdNotFound };
        let Some(row) = self.groups.get_mut(key) else { return ErrorCode::GroupIdNotFound };
        if !row.group.is_empty() {
            return ErrorCode::NonEmptyGroup;
        }
        row.offsets.delete_all(name, out);
        self.remove(key, out);
        ErrorCode::None
    }

    /// Forgets offsets that nobody has asked for in their time, and groups that are left with nothing.
    fn expire(&mut self, context: &mut Context<'_>) {
        let keys: Vec<Key> = self.names.values().copied().collect();
        for key in keys {
            let Some(Row { name, group, offsets }) = self.groups.get_mut(key) else { continue };
            let (settings, wall_ms) = (context.settings, context.now.wall_ms);
            let reads = |topic: &str| group.is_subscribed(topic);
            offsets.expire(name, group.retained_since(), reads, settings, wall_ms, context.out);
            if offsets.is_empty() && group.is_empty() {
                self.remove(key, context.out);
            }
        }
    }

    fn set_expiry(&mut self, context: &Context<'_>) {
        let at = context.now.mono.after_ms(context.settings.offsets_retention_check_interval_ms);
        self.deadlines.set(at, Due::Expiry);
    }

    fn remove(&mut self, key: Key, out: &mut GroupOut) {
        let Some(row) = self.groups.remove(key) else { return };
        self.names.remove(&row.name);
        row.group.forget(&row.name, out);
    }

    fn remove_if_without_offsets(&mut self, name: &str) {
        let Some(&key) = self.names.get(name) else { return };
        let Some(row) = self.groups.get_mut(key) else { return };
        row.group = Group::Classic(ClassicGroup::default());
        if row.offsets.is_empty() {
            self.groups.remove(key);
            self.names.remove(name);
        }
    }

    #[cfg(test)]
    pub(in crate::group) fn consumer(&self, name: &str) -> Option<&ConsumerGroup> {
        match &self.row(name)?.group {
            Group::Consumer(group) => Some(group),
            Group::Classic(_) => None,
        }
    }

    fn is_full(&self) -> bool {
        self.groups.len() >= limits::GROUPS_PER_COORDINATOR_MAX
    }

    fn row(&self, name: &str) -> Option<&Row> {
        self.groups.get(*self.names.get(name)?)
    }

    fn row_mut(&mut self, name: &str) -> Option<&mut Row> {
        self.groups.get_mut(*self.names.get(name)?)
    }

    fn create(&mut self, name: &str) -> Key {
        let row = Row {
            name: name.to_owned(),
            group: Group::Classic(ClassicGroup::default()),
            offsets: GroupOffsets::default(),
        };
        let key = self.groups.insert(row);
        self.names.insert(name.to_owned(), key);
        key
    }

    fn get_or_create(&mut self, name: &str) -> &mut Row {
        let known = self.names.get(name).copied();
        let key = known.unwrap_or_else(|| self.create(name));
        self.groups.get_mut(key).expect("names and groups hold the same groups")
    }

    /// Calls one group.
    fn on_group(
        &mut self,
        key: Key,
        context: &mut Context<'_>,
        call: impl FnOnce(&mut Group, &mut GroupOffsets, &mut Turn<'_>),
    ) {
        let Some(row) = self.groups.get_mut(key) else { return };
        let mut turn = Turn {
            name: &row.name,
            settings: context.settings,
            topics: context.topics,
            now: context.now,
            rng: context.rng,
            out: context.out,
            group: key,
            deadlines: &mut self.deadlines,
        };
        call(&mut row.group, &mut row.offsets, &mut turn);
        if let Group::Consumer(consumer) = &mut row.group
            && consumer.should_downgrade(turn.settings)
        {
            row.group = Group::Classic(consumer.downgraded(&mut turn));
        }
    }
}

impl Group {
    /// Without members.
    fn is_empty(&self) -> bool {
        match self {
            Group::Classic(group) => group.is_empty(),
            Group::Consumer(group) => group.is_empty(),
        }
    }

    fn is_subscribed(&self, topic: &str) -> bool {
        match self {
            Group::Classic(group) => group.is_subscribed(topic),
            Group::Consumer(group) => group.is_subscribed(topic),
        }
    }

    fn check_offset_delete(&self) -> Result<(), ErrorCode> {
        match self {
            Group::Classic(group) => group.check_offset_delete(),
            Group::Consumer(_) => Ok(()),
        }
    }

    /// Whether offsets may be fetched in the name of a member; of a classic group's members nothing is said.
    fn check_fetch(&self, ask: &OffsetFetchRequestGroup) -> Result<(), ErrorCode> {
        match self {
            Group::Classic(_) => Ok(()),
            Group::Consumer(group) => group.on_fetch(ask),
        }
    }

    fn retained_since(&self) -> RetainedSince {
        match self {
            Group::Classic(group) => group.retained_since(),
            Group::Consumer(_) => RetainedSince::Commit,
        }
    }

    fn listed(&self, name: &str) -> ListedGroup {
        match self {
            Group::Classic(group) => group.listed(name),
            Group::Consumer(group) => group.listed(name),
        }
    }

    /// The records that take it out of the log.
    fn forget(&self, name: &str, out: &mut GroupOut) {
        match self {
            Group::Classic(group) => group.forget(name, out),
            Group::Consumer(group) => group.forget(name, out),
        }
    }
}

/// Lets a member of the consumer protocol join a classic group with members. `None`: the group stays what it is.
fn upgrade(
    ticket: Ticket,
    ask: &ConsumerGroupHeartbeatRequest,
    caller: &Caller,
    classic: &mut ClassicGroup,
    turn: &mut Turn<'_>,
) -> Option<ConsumerGroup> {
    let mut records = Vec::new();
    let upgraded = migration::upgraded(classic, &turn.view(), &mut records);
    let mut consumer = match upgraded {
        Ok(consumer) => consumer,
        Err(why) => {
            let message = format!("Cannot upgrade classic group {} to consumer group because {why}.", turn.name);
            let refusal = Refusal { error: ErrorCode::GroupIdNotFound, message };
            turn.answer(ticket, Answer::ConsumerGroupHeartbeat(refusal.into()));
            return None;
        }
    };
    let records_before = turn.out.records.len();
    classic.forget(turn.name, turn.out);
    for record in &records {
        turn.record(record.to_record(turn.name));
    }
    consumer.on_heartbeat(ticket, ask, caller, turn);
    if consumer.is_all_classic() {
        // Refused: nothing becomes of it.
        consumer.disarm(turn);
        turn.out.records.truncate(records_before);
        return None;
    }
    // Whoever waits for the others joins again, and finds the new group.
    classic.unload(ErrorCode::RebalanceInProgress, turn.out);
    Some(consumer)
}

/// What is wrong with the name of a group. Admin requests may look for any.
fn check_name(ask: &Ask, name: &str) -> Option<ErrorCode> {
    let creates = matches!(
        ask,
        Ask::JoinGroup(_) | Ask::SyncGroup(_) | Ask::Heartbeat(_) | Ask::LeaveGroup(_) | Ask::DeleteGroup(_)
    );
    let wrong = (creates && name.is_empty()) || name.len() > limits::GROUP_NAME_BYTES_MAX;
    wrong.then_some(ErrorCode::InvalidGroupId)
}

/// What is wrong with a JoinGroup before its group is looked at.
fn check_join(join: &JoinGroupRequest, settings: &Settings) -> Option<ErrorCode> {
    let session_ms = i64::from(join.session_timeout_ms);
    let allowed = settings.group_min_session_timeout_ms..=settings.group_max_session_timeout_ms;
    if u32::try_from(session_ms).map_or(true, |ms| !allowed.contains(&ms)) {
        return Some(ErrorCode::InvalidSessionTimeout);
    }
    let names = join.protocols.iter().map(|protocol| &protocol.name).chain(&join.group_instance_id);
    let mut names = names.chain([&join.protocol_type]);
    if names.any(|name| name.as_bytes().len() > limits::GROUP_NAME_BYTES_MAX) {
        return Some(ErrorCode::InvalidRequest);
    }
    // What a record cannot hold could only be refused later, when the whole group waits for it.
    let metadata: usize = join.protocols.iter().map(|protocol| protocol.metadata.len()).sum();
    (metadata > record_bytes_max(settings)).then_some(ErrorCode::UnknownServerError)
}

/// The largest record that fits the log.
pub fn record_bytes_max(settings: &Settings) -> usize {
    let segment = usize::try_from(settings.offsets_topic_segment_bytes).unwrap_or(usize::MAX);
    (settings.message_max_bytes as usize).min(segment).saturating_sub(limits::GROUP_BATCH_HEAD_BYTES_MAX)
}

/// The answer to a member of a group that is not there.
fn not_a_member(ask: &Ask, caller: &Caller) -> Answer {
    let error = ErrorCode::UnknownMemberId;
    match ask {
        Ask::Heartbeat(_) => heartbeat(error),
        // From version 3 each member has its own error.
        Ask::LeaveGroup(leave) if caller.version >= 3 => Answer::LeaveGroup(LeaveGroupResponse {
            members: leave
                .members
                .iter()
                .map(|member| MemberResponse {
                    member_id: member.member_id.clone(),
                    group_instance_id: member.group_instance_id.clone(),
                    error_code: error.code(),
                })
                .collect(),
            ..LeaveGroupResponse::default()
        }),
        ask => ask.refused(error),
    }
}
