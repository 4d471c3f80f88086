//! From the classic protocol to the consumer protocol and back, while members stay (KIP-848, "Online migration").
//!
//! A group is upgraded when a member of the consumer protocol joins it, and downgraded when the last such member has
//! left. Either way everybody keeps what it had until the next rebalance, and the old records go as the new ones come.
//!
//! *Owns*: which groups may change, and what becomes of members. *Never*: changes one that is refused.
//! *Runs on*: the core that coordinates the group.
//!
//! Rules: Kafka, `GroupMetadataManager` (`validateOnlineUpgrade`, `validateOnlineDowngradeWithFencedMembers`),
//! `ConsumerGroup.fromClassicGroup`, `ClassicGroup.fromConsumerGroup`.

use bytes::Bytes;

use crate::base::ids::GroupEpoch;
use crate::base::time::Instant;
use crate::config::Settings;
use crate::group::assignment::Assignment;
use crate::group::classic::ClassicGroup;
use crate::group::classic_member::{ClassicMember, ms};
use crate::group::consumer::{ConsumerGroup, PROTOCOL_TYPE, View};
use crate::group::consumer_member::{self, ConsumerMember, CurrentAssignment, MemberMetadata, MemberState};
use crate::group::consumer_record::{ConsumerRecord, GroupMetadata};
use crate::group::coordinator::Turn;
use crate::group::embedded;
use crate::group::topics::Topics;
use crate::group::topics_hash::hash_of;
use crate::wire::consumer_protocol::{ConsumerProtocolAssignment, ConsumerProtocolSubscription};
use crate::wire::text::Text;

/// The consumer group that a classic group becomes. Errors: one sentence about why it cannot.
pub(super) fn upgraded(
    classic: &ClassicGroup,
    view: &View,
    records: &mut Vec<ConsumerRecord>,
) -> Result<ConsumerGroup, &'static str> {
    if !view.settings.group_consumer_migration_policy.upgrade {
        return Err("online upgrade is disabled");
    }
    if classic.protocol_type.as_deref() != Some(PROTOCOL_TYPE) {
        return Err("the group does not use the consumer embedded protocol");
    }
    if classic.members.len() > view.settings.group_consumer_max_size as usize {
        return Err("the group size exceeds the consumer group maximum size");
    }
    let epoch = GroupEpoch(classic.generation);
    let mut members = Vec::with_capacity(classic.members.len());
    let mut given = Assignment::default();
    for member in classic.members.values() {
        let (metadata, assigned) = upgraded_member(member, classic.protocol.as_deref(), view.topics)?;
        // Assignors of clients may give one partition to two; here the first has it.
        let assigned = assigned.difference(&given);
        given.extend(&assigned);
        let state = MemberState::Stable;
        let current =
            CurrentAssignment { epoch, previous_epoch: epoch, state, assigned, revoking: Assignment::default() };
        members.push((member.id.clone(), ConsumerMember { metadata, current, ..Default::default() }));
    }
    let mut group = ConsumerGroup::default();
    for (id, member) in &members {
        group.put(ConsumerRecord::Member(id.clone(), Some(member.metadata.clone())), records);
    }
    let topics_hash = hash_of(group.subscribed_topics().into_iter(), view.topics);
    group.put(ConsumerRecord::Group(Some(GroupMetadata { epoch, topics_hash })), records);
    for (id, member) in &members {
        group.put(ConsumerRecord::Target(id.clone(), Some(member.current.assigned.clone())), records);
    }
    group.put(ConsumerRecord::TargetEpoch(Some(epoch)), records);
    for (id, member) in members {
        group.put(ConsumerRecord::Current(id, Some(member.current)), records);
    }
    group.start_deadlines(view);
    Ok(group)
}

fn upgraded_member(
    member: &ClassicMember,
    protocol: Option<&str>,
    topics: &dyn Topics,
) -> Result<(MemberMetadata, Assignment), &'static str> {
    const MALFORMED: &str = "the embedded consumer protocol is malformed";
    // Before the first rebalance has ended no protocol is chosen.
    let chosen = member.protocols.iter().find(|(name, _)| protocol.is_none_or(|protocol| name == protocol));
    let (_, metadata) = chosen.ok_or(MALFORMED)?;
    let (subscription, _) = ConsumerProtocolSubscription::read(metadata).map_err(|_| MALFORMED)?;
    let mut assigned = Assignment::default();
    if !member.assignment.is_empty() {
        let assignment = ConsumerProtocolAssignment::read(&member.assignment).map_err(|_| MALFORMED)?;
        if assignment.user_data.is_some_and(|data| !data.is_empty()) {
            return Err("an unsupported custom assignor is in use");
        }
        assigned = embedded::to_set(&assignment.assigned_partitions, topics);
    }
    let clamped = |ms: u64| i32::try_from(ms).unwrap_or(i32::MAX);
    let metadata = MemberMetadata {
        instance_id: member.instance_id.clone(),
        rack_id: subscription.rack_id.as_ref().map(Text::to_string),
        client_id: member.client_id.clone(),
        client_host: member.client_host.clone(),
        topics: subscription.topics.iter().map(Text::to_string).collect(),
        pattern: String::new(),
        rebalance_timeout_ms: clamped(member.rebalance_timeout_ms),
        assignor: None,
        classic: Some(consumer_member::ClassicMember {
            session_timeout_ms: clamped(member.session_timeout_ms),
            protocols: member.protocols.clone(),
        }),
    };
    Ok((metadata, assigned))
}

impl ConsumerGroup {
    /// Whether only members of the classic protocol are left, and may be among themselves.
    pub(super) fn should_downgrade(&self, settings: &Settings) -> bool {
        settings.group_consumer_migration_policy.downgrade
            && !self.members.is_empty()
            && self.members.len() <= settings.group_max_size as usize
            && self.is_all_classic()
    }

    /// The classic group it becomes, which is about to rebalance.
    pub(super) fn downgraded(&mut self, turn: &mut Turn<'_>) -> ClassicGroup {
        self.forget(turn.name, turn.out);
        self.disarm(turn);
        let topics = turn.topics;
        let members = self.members.iter().filter_map(|(id, member)| {
            let classic = member.metadata.classic.as_ref()?;
            Some(downgraded_member(id, member, classic, self.targets.get(id), topics))
        });
        ClassicGroup::migrated(self.epoch.0, members.collect(), turn)
    }
}

fn downgraded_member(
    id: &str,
    member: &ConsumerMember,
    classic: &consumer_member::ClassicMember,
    target: Option<&Assignment>,
    topics: &dyn Topics,
) -> ClassicMember {
    let version = classic.protocols.first().and_then(|(_, metadata)| ConsumerProtocolSubscription::read(metadata).ok());
    let write = |target| embedded::write_assignment(target, version.map_or(0, |(_, version)| version), topics);
    ClassicMember {
        id: id.to_owned(),
        instance_id: member.metadata.instance_id.clone(),
        client_id: member.metadata.client_id.clone(),
        client_host: member.metadata.client_host.clone(),
        rebalance_timeout_ms: ms(member.metadata.rebalance_timeout_ms),
        session_timeout_ms: ms(classic.session_timeout_ms),
        protocols: classic.protocols.clone(),
        assignment: target.map_or_else(Bytes::new, write),
        joining: None,
        syncing: None,
        is_new: false,
        alive_until: Instant::default(),
        alarm_at: None,
    }
}
