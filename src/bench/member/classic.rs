//! The classic protocol: join, synchronise, heartbeats; in a rebalance everybody gives everything up and joins again
//! (Kafka: `ConsumerCoordinator` with the eager protocol and `RangeAssignor`).
//!
//! *Owns*: what members of a classic group tell each other. *Never*: decides when it is asked. *Runs on*: the member's
//! thread.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::{HEARTBEAT_INTERVAL_NS, Member, REBALANCE_TIMEOUT_MS, SESSION_TIMEOUT_MS, Stage};
use crate::bench::consumer::Consumer;
use crate::bench::topics::Topics;
use crate::client::groups::classic_assigned;
use crate::client::offsets::TopicPartition;
use crate::wire::consumer_protocol::{ConsumerProtocolAssignment, ConsumerProtocolSubscription, TopicPartitions};
use crate::wire::errors::ErrorCode;
use crate::wire::messages::heartbeat::{self, HeartbeatRequest, HeartbeatResponse};
use crate::wire::messages::join_group::{self, JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse};
use crate::wire::messages::leave_group::{self, LeaveGroupRequest, MemberIdentity};
use crate::wire::messages::sync_group::{self, SyncGroupRequest, SyncGroupRequestAssignment, SyncGroupResponse};
use crate::wire::text::Text;

const PROTOCOL_TYPE: Text = Text::from_static("consumer");
const ASSIGNOR: Text = Text::from_static("range");

/// Of what members tell each other: the first has all that an eager member says.
const PROTOCOL_VERSION: i16 = 0;

/// The first versions of SyncGroup with the protocol's name, and of LeaveGroup with several members.
const SYNC_NAMES_FROM: i16 = 5;
const LEAVE_MEMBERS_FROM: i16 = 3;

impl Member {
    pub(super) fn ask_to_join(&mut self, now_ns: u64) -> Vec<Bytes> {
        let protocol = JoinGroupRequestProtocol { name: ASSIGNOR, metadata: subscription(&self.settings.topics) };
        let request = JoinGroupRequest {
            group_id: self.settings.group.clone(),
            session_timeout_ms: SESSION_TIMEOUT_MS,
            rebalance_timeout_ms: REBALANCE_TIMEOUT_MS,
            member_id: self.id.clone(),
            protocol_type: PROTOCOL_TYPE,
            protocols: vec![protocol],
            ..Default::default()
        };
        self.ask(join_group::API, self.version(join_group::API), &request, now_ns)
    }

    pub(super) fn on_join(&mut self, reply: JoinGroupResponse, consumer: &mut Consumer, now_ns: u64) {
        match ErrorCode::from_code(reply.error_code) {
            Some(ErrorCode::None) => {}
            Some(ErrorCode::MemberIdRequired) => return self.id = reply.member_id,
            _ => return self.on_refused(join_group::API, reply.error_code, consumer, now_ns),
        }
        self.id = reply.member_id;
        self.generation = reply.generation_id;
        if self.stage != Stage::Outside {
            return;
        }
        let mut assignments = Vec::new();
        if reply.leader == self.id && !reply.skip_assignment {
            let mut members: Vec<Text> = reply.members.into_iter().map(|member| member.member_id).collect();
            members.sort_unstable();
            let topics = &self.settings.topics;
            let ranges = ranges(topics.partitions() as usize, members.len());
            assignments =
                (members.into_iter().zip(ranges)).map(|(member, range)| (member, assignment(topics, &range))).collect();
        }
        self.stage = Stage::Syncing(assignments);
    }

    pub(super) fn ask_to_sync(&mut self, now_ns: u64) -> Vec<Bytes> {
        let version = self.version(sync_group::API);
        let assignments = match &self.stage {
            Stage::Syncing(assignments) => assignments.as_slice(),
            _ => &[],
        };
        let named = |name: Text| (version >= SYNC_NAMES_FROM).then_some(name);
        let request = SyncGroupRequest {
            group_id: self.settings.group.clone(),
            generation_id: self.generation,
            member_id: self.id.clone(),
            protocol_type: named(PROTOCOL_TYPE),
            protocol_name: named(ASSIGNOR),
            assignments: (assignments.iter().cloned())
                .map(|(member_id, assignment)| SyncGroupRequestAssignment { member_id, assignment })
                .collect(),
            ..Default::default()
        };
        self.ask(sync_group::API, version, &request, now_ns)
    }

    pub(super) fn on_sync(&mut self, reply: SyncGroupResponse, consumer: &mut Consumer, now_ns: u64) {
        if !matches!(self.stage, Stage::Syncing(_)) {
            return;
        }
        if reply.error_code != 0 {
            self.on_refused(sync_group::API, reply.error_code, consumer, now_ns);
            if ErrorCode::from_code(reply.error_code) == Some(ErrorCode::RebalanceInProgress) {
                self.stage = Stage::Outside;
            }
            return;
        }
        let Ok(assigned) = classic_assigned(&reply.assignment) else {
            self.failed = Some(format!("group {}: its assignment cannot be read", self.settings.group.as_str()));
            return;
        };
        let topics = &self.settings.topics;
        let index = |place: TopicPartition| topics.index(topics.number(&place.topic.into())?, place.partition);
        self.unplaced = assigned.into_iter().filter_map(index).collect();
        self.stage = Stage::Inside;
        self.next_heartbeat_ns = now_ns + HEARTBEAT_INTERVAL_NS;
        self.plan_commit(now_ns);
    }

    pub(super) fn ask_classic_heartbeat(&mut self, now_ns: u64) -> Vec<Bytes> {
        self.next_heartbeat_ns = now_ns + HEARTBEAT_INTERVAL_NS;
        let request = HeartbeatRequest {
            group_id: self.settings.group.clone(),
            generation_id: self.generation,
            member_id: self.id.clone(),
            ..Default::default()
        };
        self.ask(heartbeat::API, self.version(heartbeat::API), &request, now_ns)
    }

    pub(super) fn on_heartbeat(&mut self, reply: &HeartbeatResponse, consumer: &mut Consumer, now_ns: u64) {
        match ErrorCode::from_code(reply.error_code) {
            Some(ErrorCode::None) => {}
            // No trouble, but how members learn of it.
            Some(ErrorCode::RebalanceInProgress) if self.stage == Stage::Inside => {
                self.note_rebalance();
                let all: BTreeSet<u32> = consumer.positions().map(|row| row.0).collect();
                self.give_up(&all, consumer);
                self.unplaced.clear();
                self.stage = Stage::Outside;
            }
            Some(ErrorCode::RebalanceInProgress) => {}
            _ => self.on_refused(heartbeat::API, reply.error_code, consumer, now_ns),
        }
    }

    pub(super) fn ask_to_leave_classic(&mut self, now_ns: u64) -> Vec<Bytes> {
        let version = self.version(leave_group::API);
        let group_id = self.settings.group.clone();
        let request = if version >= LEAVE_MEMBERS_FROM {
            let member = MemberIdentity { member_id: self.id.clone(), ..Default::default() };
            LeaveGroupRequest { group_id, members: vec![member], ..Default::default() }
        } else {
            LeaveGroupRequest { group_id, member_id: self.id.clone(), ..Default::default() }
        };
        self.ask(leave_group::API, version, &request, now_ns)
    }
}

/// Consecutive partitions for each member, the first ones with one more where they do not come out even.
fn ranges(partitions: usize, members: usize) -> Vec<Vec<i32>> {
    let (share, more) = (partitions / members.max(1), partitions % members.max(1));
    let mut next = 0;
    let mut range = |place: usize| {
        let first = next;
        next += share + usize::from(place < more);
        (first..next).map(|index| index as i32).collect()
    };
    (0..members).map(&mut range).collect()
}

/// What a member wants to read.
fn subscription(topics: &Topics) -> Bytes {
    ConsumerProtocolSubscription { topics: topics.names().to_vec(), ..Default::default() }.write(PROTOCOL_VERSION)
}

/// What a member is to read: these partitions of each topic.
pub(super) fn assignment(topics: &Topics, partitions: &[i32]) -> Bytes {
    let assigned = |topic: &Text| TopicPartitions { topic: topic.clone(), partitions: partitions.to_vec() };
    ConsumerProtocolAssignment::write(topics.names().iter().map(assigned).collect(), PROTOCOL_VERSION)
}
