//! A consumer group: its members, what each is to have and what each has (KIP-848).
//!
//! The group changes by its records and by nothing else, so what a restart reads is what was there before. Only
//! deadlines are not recorded: they start anew.
//!
//! *Owns*: the state, and how each record changes it. *Never*: decides what is recorded: `consumer_heartbeat` and
//! `consumer_rebalance` do. *Runs on*: the core that coordinates the group.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::ids::{GroupEpoch, PartitionIndex, TopicId};
use crate::base::time::{Instant, Now};
use crate::config::{GroupSettings, Settings};
use crate::group::assignment::Assignment;
use crate::group::consumer_member::{ConsumerMember, CurrentAssignment, MemberDeadlines};
use crate::group::consumer_record::{ConsumerRecord, ResolvedPattern};
use crate::group::topics::Topics;
use crate::wire::errors::ErrorCode;

/// The only protocol type whose members the broker assigns partitions to.
pub const PROTOCOL_TYPE: &str = "consumer";

/// From this version on OffsetCommit has a member's epoch.
const COMMIT_HAS_MEMBER_EPOCH_VERSION: i16 = 9;

#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct ConsumerGroup {
    /// Grows with everything that asks for another target assignment.
    pub(super) epoch: GroupEpoch,
    pub(super) topics_hash: i64,
    /// The epoch that the target assignment was made for.
    pub(super) target_epoch: GroupEpoch,
    pub(super) members: BTreeMap<String, ConsumerMember>,
    pub(super) targets: BTreeMap<String, Assignment>,
    /// The member of each instance id.
    pub(super) static_members: BTreeMap<String, String>,
    /// Who has a partition, or has yet to give it up. Derived from the members.
    pub(super) owners: BTreeMap<(TopicId, PartitionIndex), String>,
    pub(super) patterns: BTreeMap<String, ResolvedPattern>,
    pub(super) has_partition_metadata: bool,
    /// The version of the topics that the group has taken in. Not recorded.
    pub(super) topics_version: Option<u64>,
    /// The version of the topics that the patterns were last held against, and when. Not recorded.
    pub(super) patterns_seen: Option<(u64, Instant)>,
    /// The epoch for which there is no target, because a record cannot hold it. Not recorded.
    pub(super) refused_epoch: Option<GroupEpoch>,
    /// No deadline of a member is earlier. Not recorded.
    pub(super) alarm: Option<Instant>,
    /// What the coordinator's alarm for the group is set to. Not recorded.
    pub(super) armed: Option<Instant>,
}

/// What a decision depends on besides the group.
#[derive(Clone, Copy)]
pub struct View<'a> {
    pub settings: &'a Settings,
    /// What is set for this group.
    pub own: GroupSettings,
    pub topics: &'a dyn Topics,
    pub now: Now,
}

/// Kafka's `ConsumerGroupState`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConsumerGroupState {
    Empty,
    /// There is no target assignment of the group's epoch yet.
    Assigning,
    /// Some member has yet to get to its target.
    Reconciling,
    Stable,
}

impl ConsumerGroupState {
    pub const fn name(self) -> &'static str {
        match self {
            ConsumerGroupState::Empty => "Empty",
            ConsumerGroupState::Assigning => "Assigning",
            ConsumerGroupState::Reconciling => "Reconciling",
            ConsumerGroupState::Stable => "Stable",
        }
    }
}

impl ConsumerGroup {
    pub fn state(&self) -> ConsumerGroupState {
        if self.members.is_empty() {
            ConsumerGroupState::Empty
        } else if self.epoch > self.target_epoch {
            ConsumerGroupState::Assigning
        } else if self.members.values().any(|member| !member.is_reconciled_to(self.target_epoch)) {
            ConsumerGroupState::Reconciling
        } else {
            ConsumerGroupState::Stable
        }
    }

    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Whether nobody in it speaks the consumer protocol.
    pub(super) fn is_all_classic(&self) -> bool {
        self.members.values().all(ConsumerMember::is_classic)
    }

    pub fn member(&self, id: &str) -> Option<&ConsumerMember> {
        self.members.get(id)
    }

    /// Whether some member reads the topic: its offsets stay then.
    pub fn is_subscribed(&self, topic: &str) -> bool {
        self.members.values().any(|member| self.subscribes(member, topic))
    }

    /// Whether a member may commit offsets (Kafka: `ConsumerGroup.validateOffsetCommit`). `version` is that of the
    /// request. Errors: UNKNOWN_MEMBER_ID, STALE_MEMBER_EPOCH, ILLEGAL_GENERATION, UNSUPPORTED_VERSION.
    pub fn check_commit(&self, member_id: &str, epoch: GroupEpoch, version: i16) -> Result<(), ErrorCode> {
        // Tools, and consumers that assign partitions to themselves, may commit while nobody is there.
        if epoch < GroupEpoch::JOIN && self.members.is_empty() {
            return Ok(());
        }
        let member = self.members.get(member_id).ok_or(ErrorCode::UnknownMemberId)?;
        if !member.is_classic() && version < COMMIT_HAS_MEMBER_EPOCH_VERSION {
            return Err(ErrorCode::UnsupportedVersion);
        }
        check_epoch(member, epoch)
    }

    /// Whether offsets may be fetched in the name of a member. `None` and a negative epoch: of nobody.
    /// Errors: UNKNOWN_MEMBER_ID, STALE_MEMBER_EPOCH, ILLEGAL_GENERATION.
    pub fn check_fetch(&self, member_id: Option<&str>, epoch: GroupEpoch) -> Result<(), ErrorCode> {
        let Some(member_id) = member_id else {
            return if epoch < GroupEpoch::JOIN { Ok(()) } else { Err(ErrorCode::UnknownMemberId) };
        };
        let member = self.members.get(member_id).ok_or(ErrorCode::UnknownMemberId)?;
        check_epoch(member, epoch)
    }

    /// No member is overdue before.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.alarm
    }

    /// Takes over what a record says: one that was just made, or one of the log.
    pub fn apply(&mut self, record: &ConsumerRecord) {
        match record {
            ConsumerRecord::Group(group) => {
                let group = group.unwrap_or_default();
                (self.epoch, self.topics_hash) = (group.epoch, group.topics_hash);
            }
            ConsumerRecord::PartitionMetadata(there) => self.has_partition_metadata = there.is_some(),
            ConsumerRecord::Member(id, Some(metadata)) => {
                let member = self.members.entry(id.clone()).or_default();
                member.metadata.clone_from(metadata);
                if let Some(instance_id) = &metadata.instance_id {
                    self.static_members.insert(instance_id.clone(), id.clone());
                }
            }
            ConsumerRecord::Member(id, None) => self.remove(id),
            ConsumerRecord::TargetEpoch(epoch) => self.target_epoch = epoch.unwrap_or_default(),
            ConsumerRecord::Target(id, Some(target)) => {
                self.targets.insert(id.clone(), target.clone());
            }
            ConsumerRecord::Target(id, None) => {
                self.targets.remove(id);
            }
            ConsumerRecord::Current(id, Some(current)) => {
                // In a log that is compacted this record may come before the one that names the member.
                self.members.entry(id.clone()).or_default();
                self.set_current(id, current.clone());
            }
            ConsumerRecord::Current(id, None) => {
                let (epoch, previous_epoch) = (GroupEpoch::LEAVE, GroupEpoch::LEAVE);
                self.set_current(id, CurrentAssignment { epoch, previous_epoch, ..CurrentAssignment::default() });
            }
            ConsumerRecord::Pattern(pattern, Some(resolved)) => {
                self.patterns.insert(pattern.clone(), resolved.clone());
            }
            ConsumerRecord::Pattern(pattern, None) => {
                self.patterns.remove(pattern);
            }
        }
    }

    /// The records that take the group out of the log.
    pub(super) fn tombstones(&self) -> Vec<ConsumerRecord> {
        let mut records = Vec::new();
        records.extend(self.members.keys().map(|id| ConsumerRecord::Current(id.clone(), None)));
        records.extend(self.members.keys().map(|id| ConsumerRecord::Target(id.clone(), None)));
        records.push(ConsumerRecord::TargetEpoch(None));
        records.extend(self.members.keys().map(|id| ConsumerRecord::Member(id.clone(), None)));
        records.extend(self.patterns.keys().map(|text| ConsumerRecord::Pattern(text.clone(), None)));
        records.extend([ConsumerRecord::PartitionMetadata(None), ConsumerRecord::Group(None)]);
        records
    }

    /// Makes a change: the group has it at once, and the log is to have it.
    pub(super) fn put(&mut self, record: ConsumerRecord, records: &mut Vec<ConsumerRecord>) {
        self.apply(&record);
        records.push(record);
    }

    pub(super) fn subscribes(&self, member: &ConsumerMember, topic: &str) -> bool {
        let resolved = self.patterns.get(&member.metadata.pattern);
        member.metadata.topics.contains(topic) || resolved.is_some_and(|resolved| resolved.topics.contains(topic))
    }

    /// All topics that members subscribe to, whether they exist or not.
    pub(super) fn subscribed_topics(&self) -> BTreeSet<&str> {
        let names = self.members.values().flat_map(|member| &member.metadata.topics);
        names.chain(self.patterns.values().flat_map(|resolved| &resolved.topics)).map(String::as_str).collect()
    }

    /// Whether someone else has the partition, or has yet to give it up.
    pub(super) fn is_taken(&self, member_id: &str, topic: TopicId, partition: PartitionIndex) -> bool {
        self.owners.get(&(topic, partition)).is_some_and(|owner| owner != member_id)
    }

    /// Notes a member's deadlines. A later one than before needs no earlier alarm: it looks again when it goes off.
    pub(super) fn set_deadlines(&mut self, member_id: &str, change: impl FnOnce(&mut MemberDeadlines)) {
        let Some(member) = self.members.get_mut(member_id) else { return };
        change(&mut member.deadlines);
        if let Some(next) = member.deadlines.next() {
            self.alarm = Some(self.alarm.map_or(next, |alarm| alarm.min(next)));
        }
    }

    fn set_current(&mut self, id: &str, current: CurrentAssignment) {
        let Some(member) = self.members.get_mut(id) else { return };
        let before = std::mem::replace(&mut member.current, current);
        for partition in before.assigned.iter().chain(before.revoking.iter()) {
            if self.owners.get(&partition).is_some_and(|owner| owner == id) {
                self.owners.remove(&partition);
            }
        }
        for partition in member.current.assigned.iter().chain(member.current.revoking.iter()) {
            self.owners.insert(partition, id.to_owned());
        }
    }

    fn remove(&mut self, id: &str) {
        self.set_current(id, CurrentAssignment::default());
        let Some(member) = self.members.remove(id) else { return };
        // A member under a new id may have the place already.
        if let Some(instance_id) = member.metadata.instance_id
            && self.static_members.get(&instance_id).is_some_and(|owner| owner == id)
        {
            self.static_members.remove(&instance_id);
        }
    }
}

fn check_epoch(member: &ConsumerMember, epoch: GroupEpoch) -> Result<(), ErrorCode> {
    if epoch == member.epoch() {
        Ok(())
    } else if member.is_classic() {
        Err(ErrorCode::IllegalGeneration)
    } else {
        Err(ErrorCode::StaleMemberEpoch)
    }
}
