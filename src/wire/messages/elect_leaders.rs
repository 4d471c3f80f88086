//! ElectLeaders: back to the preferred leader (KIP-183; kinds of election: KIP-460).
//!
//! *Owns*: the two tables. *Never*: elects. *Runs on*: every core.

use crate::wire::table::api;
use crate::wire::text::Text;

api! {
    API: 43 "ElectLeaders", versions 0-2, flexible 2;

    message ElectLeadersRequest {
        /// 0: the preferred replica. 1: any, although records may be lost.
        election_type: i8, 1+;
        /// `None`: all.
        topic_partitions: Option<Vec<TopicPartitions>>, 0+, null 0+, default Some(Vec::new());
        timeout_ms: i32, 0+, default 60_000;
    }

    part TopicPartitions {
        topic: Text, 0+;
        partitions: Vec<i32>, 0+;
    }

    message ElectLeadersResponse {
        throttle_time_ms: i32, 0+;
        error_code: i16, 1+;
        replica_election_results: Vec<ReplicaElectionResult>, 0+;
    }

    part ReplicaElectionResult {
        topic: Text, 0+;
        partition_result: Vec<PartitionResult>, 0+;
    }

    part PartitionResult {
        partition_id: i32, 0+;
        error_code: i16, 0+;
        error_message: Option<Text>, 0+, null 0+;
    }
}
