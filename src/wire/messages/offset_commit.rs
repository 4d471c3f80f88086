//! OffsetCommit: a group remembers how far it has read (leader epochs: KIP-320; static members: KIP-345; member epochs:
//! KIP-848; topic ids: KIP-848, version 10).
//!
//! *Owns*: the two tables. *Never*: keeps an offset. *Runs on*: every core.

use crate::base::ids::TopicId;
use crate::wire::table::api;
use crate::wire::text::Text;

api! {
    API: 8 "OffsetCommit", versions 2-10, flexible 8;

    message OffsetCommitRequest {
        group_id: Text, 0+;
        /// −1 for whoever commits without being a member.
        generation_id_or_member_epoch: i32, 1+, default -1;
        member_id: Text, 1+;
        group_instance_id: Option<Text>, 7+, null 7+;
        /// −1: as long as the broker keeps offsets.
        retention_time_ms: i64, 2-4, default -1;
        topics: Vec<OffsetCommitRequestTopic>, 0+;
    }

    part OffsetCommitRequestTopic {
        name: Text, 0-9;
        topic_id: TopicId, 10+;
        partitions: Vec<OffsetCommitRequestPartition>, 0+;
    }

    part OffsetCommitRequestPartition {
        partition_index: i32, 0+;
        committed_offset: i64, 0+;
        committed_leader_epoch: i32, 6+, default -1;
        committed_metadata: Option<Text>, 0+, null 0+;
    }

    message OffsetCommitResponse {
        throttle_time_ms: i32, 3+;
        topics: Vec<OffsetCommitResponseTopic>, 0+;
    }

    part OffsetCommitResponseTopic {
        name: Text, 0-9;
        topic_id: TopicId, 10+;
        partitions: Vec<OffsetCommitResponsePartition>, 0+;
    }

    part OffsetCommitResponsePartition {
        partition_index: i32, 0+;
        error_code: i16, 0+;
    }
}
