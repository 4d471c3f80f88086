//! What a coordinator is asked and what it answers: the requests and replies of Kafka, one group each.
//!
//! *Owns*: the vocabulary, and the form that an error has in each answer. *Never*: decides. *Runs on*: every core.

use crate::base::ids::CoreId;
use crate::base::slab::Key;
use crate::wire::errors::ErrorCode;
use crate::wire::messages::consumer_group_describe::DescribedGroup as DescribedConsumerGroup;
use crate::wire::messages::consumer_group_heartbeat::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};
use crate::wire::messages::describe_groups::DescribedGroup;
use crate::wire::messages::heartbeat::{HeartbeatRequest, HeartbeatResponse};
use crate::wire::messages::join_group::{JoinGroupRequest, JoinGroupResponse};
use crate::wire::messages::leave_group::{LeaveGroupRequest, LeaveGroupResponse};
use crate::wire::messages::list_groups::ListedGroup;
use crate::wire::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitResponse, OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use crate::wire::messages::offset_delete::{OffsetDeleteRequest, OffsetDeleteResponse};
use crate::wire::messages::offset_fetch::{OffsetFetchRequestGroup, OffsetFetchResponseGroup};
use crate::wire::messages::sync_group::{SyncGroupRequest, SyncGroupResponse};
use crate::wire::text::Text;

/// Who waits for an answer: a job of a core, and which part of it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Ticket {
    pub core: CoreId,
    pub job: Key,
    pub at: u32,
}

/// Who asks.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Caller {
    /// Of the request.
    pub version: i16,
    pub client_id: Text,
    /// As Kafka shows it: a slash and the address.
    pub client_host: Text,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ask {
    JoinGroup(JoinGroupRequest),
    SyncGroup(SyncGroupRequest),
    Heartbeat(HeartbeatRequest),
    LeaveGroup(LeaveGroupRequest),
    ConsumerGroupHeartbeat(ConsumerGroupHeartbeatRequest),
    /// Topics are named, whatever the version.
    OffsetCommit(OffsetCommitRequest),
    /// Topics are named, whatever the version.
    OffsetFetch(OffsetFetchRequestGroup),
    OffsetDelete(OffsetDeleteRequest),
    DescribeGroup(Text),
    DescribeConsumerGroup(Text),
    DeleteGroup(Text),
    /// Of every coordinator: what it has.
    ListGroups(ListFilter),
}

/// In any case; empty lets everything through.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct ListFilter {
    pub states: Vec<String>,
    pub types: Vec<String>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    JoinGroup(JoinGroupResponse),
    SyncGroup(SyncGroupResponse),
    Heartbeat(HeartbeatResponse),
    LeaveGroup(LeaveGroupResponse),
    ConsumerGroupHeartbeat(ConsumerGroupHeartbeatResponse),
    OffsetCommit(OffsetCommitResponse),
    OffsetFetch(OffsetFetchResponseGroup),
    OffsetDelete(OffsetDeleteResponse),
    DescribeGroup(DescribedGroup),
    DescribeConsumerGroup(DescribedConsumerGroup),
    DeleteGroup(ErrorCode),
    ListGroups(Result<Vec<ListedGroup>, ErrorCode>),
}

impl Ask {
    /// The group that is asked about; `None` for what concerns all.
    pub fn group(&self) -> Option<&Text> {
        match self {
            Ask::JoinGroup(ask) => Some(&ask.group_id),
            Ask::SyncGroup(ask) => Some(&ask.group_id),
            Ask::Heartbeat(ask) => Some(&ask.group_id),
            Ask::LeaveGroup(ask) => Some(&ask.group_id),
            Ask::ConsumerGroupHeartbeat(ask) => Some(&ask.group_id),
            Ask::OffsetCommit(ask) => Some(&ask.group_id),
            Ask::OffsetFetch(ask) => Some(&ask.group_id),
            Ask::OffsetDelete(ask) => Some(&ask.group_id),
            Ask::DescribeGroup(group) | Ask::DescribeConsumerGroup(group) | Ask::DeleteGroup(group) => Some(group),
            Ask::ListGroups(_) => None,
        }
    }

    /// The answer that refuses all of it.
    pub fn refused(&self, error: ErrorCode) -> Answer {
        let code = error.code();
        match self {
            Ask::JoinGroup(ask) => Answer::JoinGroup(join_refused(&ask.member_id, error)),
            Ask::SyncGroup(_) => Answer::SyncGroup(sync_refused(error)),
            Ask::Heartbeat(_) => heartbeat(error),
            Ask::LeaveGroup(_) => {
                Answer::LeaveGroup(LeaveGroupResponse { error_code: code, ..LeaveGroupResponse::default() })
            }
            Ask::ConsumerGroupHeartbeat(_) => consumer_heartbeat(error),
            Ask::OffsetCommit(ask) => Answer::OffsetCommit(commit_refused(ask, error)),
            Ask::OffsetFetch(ask) => Answer::OffsetFetch(OffsetFetchResponseGroup {
                group_id: ask.group_id.clone(),
                topics: Vec::new(),
                error_code: code,
            }),
            Ask::OffsetDelete(_) => {
                Answer::OffsetDelete(OffsetDeleteResponse { error_code: code, ..OffsetDeleteResponse::default() })
            }
            Ask::DescribeGroup(group) => Answer::DescribeGroup(DescribedGroup {
                error_code: code,
                group_id: group.clone(),
                ..DescribedGroup::default()
            }),
            Ask::DescribeConsumerGroup(group) => Answer::DescribeConsumerGroup(describe_refused(group.clone(), error)),
            Ask::DeleteGroup(_) => Answer::DeleteGroup(error),
            Ask::ListGroups(_) => Answer::ListGroups(Err(error)),
        }
    }

    /// The answer while the records are still being read. A heartbeat is taken on trust, so that nobody notices.
    pub fn while_loading(&self) -> Answer {
        match self {
            Ask::Heartbeat(_) => heartbeat(ErrorCode::None),
            _ => self.refused(ErrorCode::CoordinatorLoadInProgress),
        }
    }
}

impl ListFilter {
    pub fn lets_through(&self, group: &ListedGroup) -> bool {
        let has =
            |wanted: &[String], is: &str| wanted.is_empty() || wanted.iter().any(|one| one.eq_ignore_ascii_case(is));
        has(&self.states, &group.group_state) && has(&self.types, &group.group_type)
    }
}

impl Answer {
    /// The answer instead of this one, when what it says did not come to be.
    pub fn refused(self, error: ErrorCode) -> Answer {
        let code = error.code();
        match self {
            Answer::JoinGroup(answer) => Answer::JoinGroup(join_refused(&answer.member_id, error)),
            Answer::SyncGroup(_) => Answer::SyncGroup(sync_refused(error)),
            Answer::Heartbeat(_) => heartbeat(error),
            Answer::LeaveGroup(_) => {
                Answer::LeaveGroup(LeaveGroupResponse { error_code: code, ..LeaveGroupResponse::default() })
            }
            Answer::ConsumerGroupHeartbeat(_) => consumer_heartbeat(error),
            Answer::OffsetCommit(mut answer) => {
                let rows = answer.topics.iter_mut().flat_map(|topic| &mut topic.partitions);
                rows.filter(|row| row.error_code == 0).for_each(|row| row.error_code = code);
                Answer::OffsetCommit(answer)
            }
            Answer::OffsetFetch(answer) => Answer::OffsetFetch(OffsetFetchResponseGroup {
                group_id: answer.group_id,
                topics: Vec::new(),
                error_code: code,
            }),
            Answer::OffsetDelete(_) => {
                Answer::OffsetDelete(OffsetDeleteResponse { error_code: code, ..OffsetDeleteResponse::default() })
            }
            Answer::DescribeGroup(answer) => Answer::DescribeGroup(DescribedGroup {
                error_code: code,
                group_id: answer.group_id,
                ..DescribedGroup::default()
            }),
            Answer::DescribeConsumerGroup(answer) => {
                Answer::DescribeConsumerGroup(describe_refused(answer.group_id, error))
            }
            Answer::DeleteGroup(_) => Answer::DeleteGroup(error),
            Answer::ListGroups(_) => Answer::ListGroups(Err(error)),
        }
    }
}

pub fn heartbeat(error: ErrorCode) -> Answer {
    Answer::Heartbeat(HeartbeatResponse { error_code: error.code(), ..HeartbeatResponse::default() })
}

fn consumer_heartbeat(error: ErrorCode) -> Answer {
    Answer::ConsumerGroupHeartbeat(ConsumerGroupHeartbeatResponse { error_code: error.code(), ..Default::default() })
}

pub fn describe_refused(group_id: Text, error: ErrorCode) -> DescribedConsumerGroup {
    DescribedConsumerGroup { error_code: error.code(), group_id, ..DescribedConsumerGroup::default() }
}

pub fn join_refused(member_id: &str, error: ErrorCode) -> JoinGroupResponse {
    JoinGroupResponse { error_code: error.code(), member_id: member_id.into(), ..JoinGroupResponse::default() }
}

pub fn sync_refused(error: ErrorCode) -> SyncGroupResponse {
    SyncGroupResponse { error_code: error.code(), ..SyncGroupResponse::default() }
}

/// An error of the whole request stands in every row: the reply has no other place for it.
pub fn commit_refused(ask: &OffsetCommitRequest, error: ErrorCode) -> OffsetCommitResponse {
    let topics = ask.topics.iter().map(|topic| OffsetCommitResponseTopic {
        name: topic.name.clone(),
        topic_id: topic.topic_id,
        partitions: topic
            .partitions
            .iter()
            .map(|partition| OffsetCommitResponsePartition {
                partition_index: partition.partition_index,
                error_code: error.code(),
            })
            .collect(),
    });
    OffsetCommitResponse { topics: topics.collect(), ..OffsetCommitResponse::default() }
}
