//! CreatePartitions: more partitions for a topic (KIP-195).
//!
//! *Owns*: the two tables. *Never*: checks a count. *Runs on*: every core.

use crate::wire::table::api;
use crate::wire::text::Text;

api! {
    API: 37 "CreatePartitions", versions 0-3, flexible 2;

    message CreatePartitionsRequest {
        topics: Vec<CreatePartitionsTopic>, 0+;
        timeout_ms: i32, 0+;
        validate_only: bool, 0+;
    }

    part CreatePartitionsTopic {
        name: Text, 0+;
        /// Old and new partitions together.
        count: i32, 0+;
        /// For the new partitions, in order; `None` lets the broker choose.
        assignments: Option<Vec<CreatePartitionsAssignment>>, 0+, null 0+;
    }

    part CreatePartitionsAssignment {
        broker_ids: Vec<i32>, 0+;
    }

    message CreatePartitionsResponse {
        throttle_time_ms: i32, 0+;
        results: Vec<CreatePartitionsTopicResult>, 0+;
    }

    part CreatePartitionsTopicResult {
        name: Text, 0+;
        error_code: i16, 0+;
        error_message: Option<Text>, 0+, null 0+;
    }
}
