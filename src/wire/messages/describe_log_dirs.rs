//! DescribeLogDirs: where partitions are kept and how large they are (KIP-113; space of the volume: KIP-827).
//!
//! *Owns*: the two tables. *Never*: looks at a disk. *Runs on*: every core.

use crate::wire::table::api;
use crate::wire::text::Text;

api! {
    API: 35 "DescribeLogDirs", versions 1-4, flexible 2;

    message DescribeLogDirsRequest {
        /// `None`: all.
        topics: Option<Vec<DescribableLogDirTopic>>, 0+, null 0+, default Some(Vec::new());
    }

    part DescribableLogDirTopic {
        topic: Text, 0+;
        partitions: Vec<i32>, 0+;
    }

    message DescribeLogDirsResponse {
        throttle_time_ms: i32, 0+;
        error_code: i16, 3+;
        results: Vec<DescribeLogDirsResult>, 0+;
    }

    part DescribeLogDirsResult {
        error_code: i16, 0+;
        log_dir: Text, 0+;
        topics: Vec<DescribeLogDirsTopic>, 0+;
        /// Of the volume; −1: not known.
        total_bytes: i64, 4+, default -1;
        /// Of the volume; −1: not known.
        usable_bytes: i64, 4+, default -1;
    }

    part DescribeLogDirsTopic {
        name: Text, 0+;
        partitions: Vec<DescribeLogDirsPartition>, 0+;
    }

    part DescribeLogDirsPartition {
        partition_index: i32, 0+;
        partition_size: i64, 0+;
        /// How far the log is behind the leader's.
        offset_lag: i64, 0+;
        /// Is to take the place of the log in another directory.
        is_future_key: bool, 0+;
    }
}
