//! What can happen to a consumer group: one record of `__consumer_offsets` each, as Kafka 4.2 writes it.
//!
//! *Owns*: the kinds of change, and their bytes. *Never*: decides one. *Runs on*: the core that coordinates the group.

use std::collections::BTreeSet;

use bytes::Bytes;

use crate::base::ids::{GroupEpoch, TopicId};
use crate::group::assignment::Assignment;
use crate::group::consumer_member::{ClassicMember, CurrentAssignment, MemberMetadata, MemberState};
use crate::group::records::GroupRecord;
use crate::wire::codec::Stored;
use crate::wire::reader::{DecodeError, Reader};
use crate::wire::table::stored;
use crate::wire::text::Text;

/// A change of one group. `None` is the tombstone, which takes away what records of the same key said before.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ConsumerRecord {
    /// The group's epoch. Its tombstone is the end of the group.
    Group(Option<GroupMetadata>),
    /// Written by brokers before Kafka 4.1, which kept here what is a hash now. Only whether there is one matters, so
    /// that a tombstone can take it out of the log.
    PartitionMetadata(Option<()>),
    Member(String, Option<MemberMetadata>),
    /// The epoch of the target assignment, written after the changes of members' targets.
    TargetEpoch(Option<GroupEpoch>),
    Target(String, Option<Assignment>),
    Current(String, Option<CurrentAssignment>),
    Pattern(String, Option<ResolvedPattern>),
}

#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct GroupMetadata {
    pub epoch: GroupEpoch,
    /// Of the topics that are subscribed to, at that epoch (KIP-1101).
    pub topics_hash: i64,
}

/// The topics that match a pattern.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct ResolvedPattern {
    pub topics: BTreeSet<String>,
    /// Of the topics that were looked at.
    pub version: i64,
    pub timestamp_ms: i64,
}

impl ConsumerRecord {
    /// The kinds of key: what a key of ours begins with.
    pub const KINDS: &[i16] = &[GROUP, PARTITION_METADATA, MEMBER, TARGET_EPOCH, TARGET, CURRENT, PATTERN];

    /// Reads one of a key of [`ConsumerRecord::KINDS`], and the name of its group.
    pub fn read(key: &Bytes, value: Option<&Bytes>) -> Result<(Text, ConsumerRecord), DecodeError> {
        let kind = Reader::new(key.clone()).i16()?;
        if matches!(kind, GROUP | PARTITION_METADATA | TARGET_EPOCH) {
            let key = OfGroupKey::from_record(key)?;
            let record = match kind {
                GROUP => ConsumerRecord::Group(read_value(value, |group: ConsumerGroupMetadataValue| GroupMetadata {
                    epoch: GroupEpoch(group.epoch),
                    topics_hash: group.metadata_hash,
                })?),
                // What is in there does not matter, so it need not be right.
                PARTITION_METADATA => ConsumerRecord::PartitionMetadata(value.map(|_| ())),
                _ => ConsumerRecord::TargetEpoch(read_value(
                    value,
                    |target: ConsumerGroupTargetAssignmentMetadataValue| GroupEpoch(target.assignment_epoch),
                )?),
            };
            return Ok((key.group_id, record));
        }
        let OfPartKey { group_id, part } = OfPartKey::from_record(key)?;
        let part = part.to_string();
        let record = match kind {
            MEMBER => ConsumerRecord::Member(part, read_value(value, read_member)?),
            TARGET => ConsumerRecord::Target(
                part,
                read_value(value, |target: ConsumerGroupTargetAssignmentMemberValue| {
                    from_lists(&target.topic_partitions)
                })?,
            ),
            CURRENT => ConsumerRecord::Current(part, read_value(value, read_current)?),
            _ => ConsumerRecord::Pattern(part, read_value(value, read_pattern)?),
        };
        Ok((group_id, record))
    }

    /// Whether it only takes away.
    pub fn is_tombstone(&self) -> bool {
        match self {
            ConsumerRecord::Group(value) => value.is_none(),
            ConsumerRecord::PartitionMetadata(value) => value.is_none(),
            ConsumerRecord::Member(_, value) => value.is_none(),
            ConsumerRecord::TargetEpoch(value) => value.is_none(),
            ConsumerRecord::Target(_, value) => value.is_none(),
            ConsumerRecord::Current(_, value) => value.is_none(),
            ConsumerRecord::Pattern(_, value) => value.is_none(),
        }
    }

    /// Its bytes in the log.
    pub fn to_record(&self, group: &str) -> GroupRecord {
        let of_group = |kind| OfGroupKey { group_id: group.into() }.to_record(kind);
        let of_part = |kind, part: &str| OfPartKey { group_id: group.into(), part: part.into() }.to_record(kind);
        let (key, value) = match self {
            ConsumerRecord::Group(group) => (of_group(GROUP), group.as_ref().map(write_group)),
            // Only its tombstone is ever written.
            ConsumerRecord::PartitionMetadata(_) => (of_group(PARTITION_METADATA), None),
            ConsumerRecord::TargetEpoch(epoch) => {
                let value =
                    |epoch: GroupEpoch| ConsumerGroupTargetAssignmentMetadataValue { assignment_epoch: epoch.0 };
                (of_group(TARGET_EPOCH), epoch.map(|epoch| value(epoch).to_record(VALUE_VERSION)))
            }
            ConsumerRecord::Member(id, metadata) => (of_part(MEMBER, id), metadata.as_ref().map(write_member)),
            ConsumerRecord::Target(id, target) => {
                let value = |target| ConsumerGroupTargetAssignmentMemberValue { topic_partitions: to_lists(target) };
                (of_part(TARGET, id), target.as_ref().map(|target| value(target).to_record(VALUE_VERSION)))
            }
            ConsumerRecord::Current(id, current) => (of_part(CURRENT, id), current.as_ref().map(write_current)),
            ConsumerRecord::Pattern(text, resolved) => (of_part(PATTERN, text), resolved.as_ref().map(write_pattern)),
        };
        GroupRecord { key, value }
    }
}

const GROUP: i16 = 3;
const PARTITION_METADATA: i16 = 4;
const MEMBER: i16 = 5;
const TARGET_EPOCH: i16 = 6;
const TARGET: i16 = 7;
const CURRENT: i16 = 8;
const PATTERN: i16 = 16;

const VALUE_VERSION: i16 = 0;

stored! {
    /// Keys 3, 4 and 6.
    record OfGroupKey, versions 3-6, flexible 32767 {
        group_id: Text, 0+;
    }

    /// Keys 5, 7 and 8, whose part is a member id, and 16, where it is a regular expression.
    record OfPartKey, versions 5-16, flexible 32767 {
        group_id: Text, 0+;
        part: Text, 0+;
    }

    record ConsumerGroupMetadataValue, versions 0-0, flexible 0 {
        epoch: i32, 0+;
        metadata_hash: i64, 0+, tag 0;
    }

    record ConsumerGroupMemberMetadataValue, versions 0-0, flexible 0 {
        instance_id: Option<Text>, 0+, null 0+;
        rack_id: Option<Text>, 0+, null 0+;
        client_id: Text, 0+;
        client_host: Text, 0+;
        subscribed_topic_names: Vec<Text>, 0+;
        subscribed_topic_regex: Option<Text>, 0+, null 0+;
        rebalance_timeout_ms: i32, 0+, default -1;
        server_assignor: Option<Text>, 0+, null 0+;
        classic_member_metadata: Option<ClassicMemberMetadata>, 0+, null 0+, tag 0;
    }

    nullable_part ClassicMemberMetadata {
        session_timeout_ms: i32, 0+;
        supported_protocols: Vec<ClassicProtocol>, 0+;
    }

    part ClassicProtocol {
        name: Text, 0+;
        metadata: Bytes, 0+;
    }

    record ConsumerGroupTargetAssignmentMetadataValue, versions 0-0, flexible 0 {
        assignment_epoch: i32, 0+;
    }

    record ConsumerGroupTargetAssignmentMemberValue, versions 0-0, flexible 0 {
        topic_partitions: Vec<TopicPartitions>, 0+;
    }

    record ConsumerGroupCurrentMemberAssignmentValue, versions 0-0, flexible 0 {
        member_epoch: i32, 0+;
        previous_member_epoch: i32, 0+;
        state: i8, 0+;
        assigned_partitions: Vec<TopicPartitions>, 0+;
        partitions_pending_revocation: Vec<TopicPartitions>, 0+;
    }

    part TopicPartitions {
        topic_id: TopicId, 0+;
        partitions: Vec<i32>, 0+;
    }

    record ConsumerGroupRegularExpressionValue, versions 0-0, flexible 0 {
        topics: Vec<Text>, 0+;
        version: i64, 0+;
        timestamp: i64, 0+;
    }
}

fn read_value<Value: Stored, T>(
    value: Option<&Bytes>,
    make: impl FnOnce(Value) -> T,
) -> Result<Option<T>, DecodeError> {
    value.map(|bytes| Value::from_record(bytes).map(make)).transpose()
}

fn write_group(group: &GroupMetadata) -> Bytes {
    ConsumerGroupMetadataValue { epoch: group.epoch.0, metadata_hash: group.topics_hash }.to_record(VALUE_VERSION)
}

fn write_member(member: &MemberMetadata) -> Bytes {
    let text = |text: &Option<String>| text.as_ref().map(Text::from);
    let value = ConsumerGroupMemberMetadataValue {
        instance_id: text(&member.instance_id),
        rack_id: text(&member.rack_id),
        client_id: (&member.client_id).into(),
        client_host: (&member.client_host).into(),
        subscribed_topic_names: member.topics.iter().map(Text::from).collect(),
        subscribed_topic_regex: Some((&member.pattern).into()),
        rebalance_timeout_ms: member.rebalance_timeout_ms,
        server_assignor: text(&member.assignor),
        classic_member_metadata: member.classic.as_ref().map(|classic| ClassicMemberMetadata {
            session_timeout_ms: classic.session_timeout_ms,
            supported_protocols: classic
                .protocols
                .iter()
                .map(|(name, metadata)| ClassicProtocol { name: name.into(), metadata: metadata.clone() })
                .collect(),
        }),
    };
    value.to_record(VALUE_VERSION)
}

fn read_member(value: ConsumerGroupMemberMetadataValue) -> MemberMetadata {
    let string = |text: Option<Text>| text.map(|text| text.to_string());
    // The record's memory is not to be kept for a piece of it.
    let protocol = |protocol: ClassicProtocol| (protocol.name.to_string(), Bytes::copy_from_slice(&protocol.metadata));
    MemberMetadata {
        instance_id: string(value.instance_id),
        rack_id: string(value.rack_id),
        client_id: value.client_id.to_string(),
        client_host: value.client_host.to_string(),
        topics: value.subscribed_topic_names.iter().map(Text::to_string).collect(),
        pattern: string(value.subscribed_topic_regex).unwrap_or_default(),
        rebalance_timeout_ms: value.rebalance_timeout_ms,
        assignor: string(value.server_assignor),
        classic: value.classic_member_metadata.map(|classic| ClassicMember {
            session_timeout_ms: classic.session_timeout_ms,
            protocols: classic.supported_protocols.into_iter().map(protocol).collect(),
        }),
    }
}

fn write_current(current: &CurrentAssignment) -> Bytes {
    let value = ConsumerGroupCurrentMemberAssignmentValue {
        member_epoch: current.epoch.0,
        previous_member_epoch: current.previous_epoch.0,
        state: current.state.code(),
        assigned_partitions: to_lists(&current.assigned),
        partitions_pending_revocation: to_lists(&current.revoking),
    };
    value.to_record(VALUE_VERSION)
}

fn read_current(value: ConsumerGroupCurrentMemberAssignmentValue) -> CurrentAssignment {
    CurrentAssignment {
        epoch: GroupEpoch(value.member_epoch),
        previous_epoch: GroupEpoch(value.previous_member_epoch),
        state: MemberState::from_code(value.state),
        assigned: from_lists(&value.assigned_partitions),
        revoking: from_lists(&value.partitions_pending_revocation),
    }
}

fn write_pattern(resolved: &ResolvedPattern) -> Bytes {
    let value = ConsumerGroupRegularExpressionValue {
        topics: resolved.topics.iter().map(Text::from).collect(),
        version: resolved.version,
        timestamp: resolved.timestamp_ms,
    };
    value.to_record(VALUE_VERSION)
}

fn read_pattern(value: ConsumerGroupRegularExpressionValue) -> ResolvedPattern {
    ResolvedPattern {
        topics: value.topics.iter().map(Text::to_string).collect(),
        version: value.version,
        timestamp_ms: value.timestamp,
    }
}

fn to_lists(set: &Assignment) -> Vec<TopicPartitions> {
    set.lists().map(|(topic_id, partitions)| TopicPartitions { topic_id, partitions }).collect()
}

fn from_lists(lists: &[TopicPartitions]) -> Assignment {
    Assignment::from_lists(lists.iter().map(|list| (list.topic_id, list.partitions.as_slice())))
}
