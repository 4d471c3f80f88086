//! ListPartitionReassignments: partitions that are being moved (KIP-455).
//!
//! *Owns*: the two tables. *Never*: moves anything. *Runs on*: every core.

use crate::wire::table::api;
use crate::wire::text::Text;

api! {
    API: 46 "ListPartitionReassignments", versions 0-0, flexible 0;

    message ListPartitionReassignmentsRequest {
        timeout_ms: i32, 0+, default 60_000;
        /// `None`: all.
        topics: Option<Vec<ListPartitionReassignmentsTopics>>, 0+, null 0+;
    }

    part ListPartitionReassignmentsTopics {
        name: Text, 0+;
        partition_indexes: Vec<i32>, 0+;
    }

    message ListPartitionReassignmentsResponse {
        throttle_time_ms: i32, 0+;
        error_code: i16, 0+;
        error_message: Option<Text>, 0+, null 0+;
        topics: Vec<OngoingTopicReassignment>, 0+;
    }

    part OngoingTopicReassignment {
        name: Text, 0+;
        partitions: Vec<OngoingPartitionReassignment>, 0+;
    }

    part OngoingPartitionReassignment {
        partition_index: i32, 0+;
        replicas: Vec<i32>, 0+;
        adding_replicas: Vec<i32>, 0+;
        removing_replicas: Vec<i32>, 0+;
    }
}
