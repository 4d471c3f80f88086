//! AlterPartitionReassignments: other brokers for a partition (KIP-455; replication factor: KIP-860).
//!
//! *Owns*: the two tables. *Never*: moves anything. *Runs on*: every core.

use crate::wire::table::api;
use crate::wire::text::Text;

api! {
    API: 45 "AlterPartitionReassignments", versions 0-1, flexible 0;

    message AlterPartitionReassignmentsRequest {
        timeout_ms: i32, 0+, default 60_000;
        allow_replication_factor_change: bool, 1+, default true;
        topics: Vec<ReassignableTopic>, 0+;
    }

    part ReassignableTopic {
        name: Text, 0+;
        partitions: Vec<ReassignablePartition>, 0+;
    }

    part ReassignablePartition {
        partition_index: i32, 0+;
        /// `None`: ends the one that is under way.
        replicas: Option<Vec<i32>>, 0+, null 0+;
    }

    message AlterPartitionReassignmentsResponse {
        throttle_time_ms: i32, 0+;
        allow_replication_factor_change: bool, 1+, default true;
        error_code: i16, 0+;
        error_message: Option<Text>, 0+, null 0+;
        responses: Vec<ReassignableTopicResponse>, 0+;
    }

    part ReassignableTopicResponse {
        name: Text, 0+;
        partitions: Vec<ReassignablePartitionResponse>, 0+;
    }

    part ReassignablePartitionResponse {
        partition_index: i32, 0+;
        error_code: i16, 0+;
        error_message: Option<Text>, 0+, null 0+;
    }
}
