//! ListOffsets: the offset for a timestamp, or for an end of the log (KIP-79; special timestamps: KIP-734, KIP-405,
//! KIP-1005, KIP-1023).
//!
//! *Owns*: the two tables. *Never*: looks for an offset. *Runs on*: every core.

use crate::wire::table::api;
use crate::wire::text::Text;

api! {
    // Versions 7, 8, 9 and 11 add meanings of `timestamp`, and no field.
    API: 2 "ListOffsets", versions 1-11, flexible 6;

    message ListOffsetsRequest {
        /// −1 for consumers.
        replica_id: i32, 0+;
        /// 0: read uncommitted. 1: read committed.
        isolation_level: i8, 2+;
        topics: Vec<ListOffsetsTopic>, 0+;
        timeout_ms: i32, 10+;
    }

    part ListOffsetsTopic {
        name: Text, 0+;
        partitions: Vec<ListOffsetsPartition>, 0+;
    }

    part ListOffsetsPartition {
        partition_index: i32, 0+;
        current_leader_epoch: i32, 4+, default -1;
        /// In ms, or −1: the end, −2: the start, −3: the largest timestamp, −4: the start of what is on local disk,
        /// −5: the end of what is in tiered storage, −6: the start of what is not in tiered storage yet.
        timestamp: i64, 0+;
    }

    message ListOffsetsResponse {
        throttle_time_ms: i32, 2+;
        topics: Vec<ListOffsetsTopicResponse>, 0+;
    }

    part ListOffsetsTopicResponse {
        name: Text, 0+;
        partitions: Vec<ListOffsetsPartitionResponse>, 0+;
    }

    part ListOffsetsPartitionResponse {
        partition_index: i32, 0+;
        error_code: i16, 0+;
        /// Of the record found; −1 if none was looked for.
        timestamp: i64, 1+, default -1;
        /// −1: no record is as young as that.
        offset: i64, 1+, default -1;
        leader_epoch: i32, 4+, default -1;
    }
}
