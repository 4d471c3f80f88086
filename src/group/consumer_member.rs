//! A member of a consumer group: what it said of itself, and how far it has come with its assignment (KIP-848).
//!
//! *Owns*: the two halves of a member, each of which is one record. *Never*: changes by itself.
//! *Runs on*: the core that coordinates the group.

use std::collections::BTreeSet;

use bytes::Bytes;

use crate::base::ids::GroupEpoch;
use crate::base::time::Instant;
use crate::group::assignment::Assignment;

#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct ConsumerMember {
    pub metadata: MemberMetadata,
    pub current: CurrentAssignment,
    pub deadlines: MemberDeadlines,
}

/// What a member said of itself (Kafka: `ConsumerGroupMemberMetadataValue`).
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct MemberMetadata {
    /// Of a static member (KIP-345).
    pub instance_id: Option<String>,
    pub rack_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    /// The topics it subscribes to by name.
    pub topics: BTreeSet<String>,
    /// The pattern whose topics it subscribes to besides; empty for none.
    pub pattern: String,
    /// How long it may take to give up partitions.
    pub rebalance_timeout_ms: i32,
    /// The assignor it wishes for.
    pub assignor: Option<String>,
    /// Of a member that speaks the classic protocol, in a group that is being migrated.
    pub classic: Option<ClassicMember>,
}

/// What a member of the classic protocol said when it joined.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct ClassicMember {
    pub session_timeout_ms: i32,
    /// Names and metadata of its assignors, the one it likes best first.
    pub protocols: Vec<(String, Bytes)>,
}

/// How far a member has come (Kafka: `ConsumerGroupCurrentMemberAssignmentValue`).
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct CurrentAssignment {
    /// The epoch it must send.
    pub epoch: GroupEpoch,
    /// The epoch it may still send, because the answer with the new one may have been lost.
    pub previous_epoch: GroupEpoch,
    pub state: MemberState,
    /// What it may read from. Invariant: no partition is with two members, as assigned or as being revoked.
    pub assigned: Assignment,
    /// What it was told to give up, and may still read from.
    pub revoking: Assignment,
}

#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[repr(i8)]
pub enum MemberState {
    /// It has all it is to have.
    #[default]
    Stable = 0,
    /// It has yet to say that it gave up partitions.
    UnrevokedPartitions = 1,
    /// It waits for partitions that others have yet to give up.
    UnreleasedPartitions = 2,
    /// Written by a newer broker.
    Unknown = 127,
}

/// When a member is given up. Not recorded: a restart starts them anew.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct MemberDeadlines {
    /// Without a heartbeat until then.
    pub session: Option<Instant>,
    /// Without giving up what it was told to until then.
    pub revocation: Option<Instant>,
    /// Of a member of the classic protocol: without having joined again.
    pub join: Option<Instant>,
    /// Of a member of the classic protocol: without having asked for its assignment.
    pub sync: Option<Instant>,
}

impl MemberState {
    pub fn from_code(code: i8) -> MemberState {
        match code {
            0 => MemberState::Stable,
            1 => MemberState::UnrevokedPartitions,
            2 => MemberState::UnreleasedPartitions,
            _ => MemberState::Unknown,
        }
    }

    pub fn code(self) -> i8 {
        self as i8
    }
}

impl MemberDeadlines {
    /// The earliest.
    pub fn next(&self) -> Option<Instant> {
        Instant::first_of([self.session, self.revocation, self.join, self.sync])
    }
}

impl ConsumerMember {
    pub fn epoch(&self) -> GroupEpoch {
        self.current.epoch
    }

    /// Whether it speaks the classic protocol.
    pub fn is_classic(&self) -> bool {
        self.metadata.classic.is_some()
    }

    /// Whether it has all that the target assignment of that epoch gives it.
    pub fn is_reconciled_to(&self, target_epoch: GroupEpoch) -> bool {
        self.current.state == MemberState::Stable && self.current.epoch == target_epoch
    }
}

impl CurrentAssignment {
    /// What a member has before its first assignment, and one that comes back under another member id.
    pub fn joining(assigned: Assignment, revoking: Assignment, state: MemberState) -> CurrentAssignment {
        CurrentAssignment { epoch: GroupEpoch::JOIN, previous_epoch: GroupEpoch::JOIN, state, assigned, revoking }
    }
}
