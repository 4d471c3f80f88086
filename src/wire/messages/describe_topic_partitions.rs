//! DescribeTopicPartitions: Metadata of topics, a page at a time (KIP-966).
//!
//! *Owns*: the two tables. *Never*: holds metadata. *Runs on*: every core.

use crate::base::ids::TopicId;
use crate::wire::table::api;
use crate::wire::text::Text;

api! {
    API: 75 "DescribeTopicPartitions", versions 0-0, flexible 0;

    message DescribeTopicPartitionsRequest {
        /// None: all topics.
        topics: Vec<TopicRequest>, 0+;
        response_partition_limit: i32, 0+, default 2000;
        /// Where the last page ended; `None` for the first one.
        cursor: Option<Cursor>, 0+, null 0+;
    }

    part TopicRequest {
        name: Text, 0+;
    }

    /// The first partition of the next page.
    nullable_part Cursor {
        topic_name: Text, 0+;
        partition_index: i32, 0+;
    }

    message DescribeTopicPartitionsResponse {
        throttle_time_ms: i32, 0+;
        topics: Vec<DescribeTopicPartitionsResponseTopic>, 0+;
        /// `None`: this is the last page.
        next_cursor: Option<Cursor>, 0+, null 0+;
    }

    part DescribeTopicPartitionsResponseTopic {
        error_code: i16, 0+;
        name: Option<Text>, 0+, null 0+;
        topic_id: TopicId, 0+;
        is_internal: bool, 0+;
        partitions: Vec<DescribeTopicPartitionsResponsePartition>, 0+;
        /// A bit per operation; the default means "not asked for".
        topic_authorized_operations: i32, 0+, default i32::MIN;
    }

    part DescribeTopicPartitionsResponsePartition {
        error_code: i16, 0+;
        partition_index: i32, 0+;
        leader_id: i32, 0+;
        leader_epoch: i32, 0+, default -1;
        replica_nodes: Vec<i32>, 0+;
        isr_nodes: Vec<i32>, 0+;
        eligible_leader_replicas: Option<Vec<i32>>, 0+, null 0+;
        last_known_elr: Option<Vec<i32>>, 0+, null 0+;
        offline_replicas: Vec<i32>, 0+;
    }
}
