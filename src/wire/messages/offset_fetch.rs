//! OffsetFetch: how far groups have read (all offsets of a group: KIP-88; stable offsets only: KIP-447; several groups:
//! KIP-709; member epochs and, from version 10, topic ids: KIP-848).
//!
//! *Owns*: the two tables. *Never*: keeps an offset. *Runs on*: every core.

use crate::base::ids::TopicId;
use crate::wire::table::api;
use crate::wire::text::Text;

api! {
    API: 9 "OffsetFetch", versions 1-10, flexible 6;

    message OffsetFetchRequest {
        group_id: Text, 0-7;
        /// `None`: every offset that the group has.
        topics: Option<Vec<OffsetFetchRequestTopic>>, 0-7, null 2-7, default Some(Vec::new());
        groups: Vec<OffsetFetchRequestGroup>, 8+;
        /// Refuse offsets that an open transaction may change.
        require_stable: bool, 7+;
    }

    part OffsetFetchRequestTopic {
        name: Text, 0-7;
        partition_indexes: Vec<i32>, 0-7;
    }

    part OffsetFetchRequestGroup {
        group_id: Text, 8+;
        /// `None`, and epoch −1, for whoever is no member of a consumer group.
        member_id: Option<Text>, 9+, null 9+;
        member_epoch: i32, 9+, default -1;
        /// `None`: every offset that the group has.
        topics: Option<Vec<OffsetFetchRequestTopics>>, 8+, null 8+, default Some(Vec::new());
    }

    part OffsetFetchRequestTopics {
        name: Text, 8-9;
        topic_id: TopicId, 10+;
        partition_indexes: Vec<i32>, 8+;
    }

    message OffsetFetchResponse {
        throttle_time_ms: i32, 3+;
        topics: Vec<OffsetFetchResponseTopic>, 0-7;
        error_code: i16, 2-7;
        groups: Vec<OffsetFetchResponseGroup>, 8+;
    }

    part OffsetFetchResponseTopic {
        name: Text, 0-7;
        partitions: Vec<OffsetFetchResponsePartition>, 0-7;
    }

    part OffsetFetchResponsePartition {
        partition_index: i32, 0-7;
        /// −1: none is committed.
        committed_offset: i64, 0-7;
        committed_leader_epoch: i32, 5-7, default -1;
        metadata: Option<Text>, 0-7, null 0-7;
        error_code: i16, 0-7;
    }

    part OffsetFetchResponseGroup {
        group_id: Text, 8+;
        topics: Vec<OffsetFetchResponseTopics>, 8+;
        error_code: i16, 8+;
    }

    part OffsetFetchResponseTopics {
        name: Text, 8-9;
        topic_id: TopicId, 10+;
        partitions: Vec<OffsetFetchResponsePartitions>, 8+;
    }

    part OffsetFetchResponsePartitions {
        partition_index: i32, 8+;
        /// −1: none is committed.
        committed_offset: i64, 8+;
        committed_leader_epoch: i32, 8+, default -1;
        metadata: Option<Text>, 8+, null 8+;
        error_code: i16, 8+;
    }
}
