//! DeleteRecords: everything below an offset of a partition goes (KIP-107).
//!
//! *Owns*: the two tables. *Never*: deletes anything. *Runs on*: every core.

use crate::wire::table::api;
use crate::wire::text::Text;

api! {
    API: 21 "DeleteRecords", versions 0-2, flexible 2;

    message DeleteRecordsRequest {
        topics: Vec<DeleteRecordsTopic>, 0+;
        timeout_ms: i32, 0+;
    }

    part DeleteRecordsTopic {
        name: Text, 0+;
        partitions: Vec<DeleteRecordsPartition>, 0+;
    }

    part DeleteRecordsPartition {
        partition_index: i32, 0+;
        /// The first that stays; −1: the high watermark.
        offset: i64, 0+;
    }

    message DeleteRecordsResponse {
        throttle_time_ms: i32, 0+;
        topics: Vec<DeleteRecordsTopicResult>, 0+;
    }

    part DeleteRecordsTopicResult {
        name: Text, 0+;
        partitions: Vec<DeleteRecordsPartitionResult>, 0+;
    }

    part DeleteRecordsPartitionResult {
        partition_index: i32, 0+;
        /// Where the log begins now; −1 after an error.
        low_watermark: i64, 0+;
        error_code: i16, 0+;
    }
}
