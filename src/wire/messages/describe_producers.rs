//! DescribeProducers: the idempotent producers of a partition (KIP-664).
//!
//! *Owns*: the two tables. *Never*: holds a producer. *Runs on*: every core.

use crate::wire::table::api;
use crate::wire::text::Text;

api! {
    API: 61 "DescribeProducers", versions 0-0, flexible 0;

    message DescribeProducersRequest {
        topics: Vec<TopicRequest>, 0+;
    }

    part TopicRequest {
        name: Text, 0+;
        partition_indexes: Vec<i32>, 0+;
    }

    message DescribeProducersResponse {
        throttle_time_ms: i32, 0+;
        topics: Vec<TopicResponse>, 0+;
    }

    part TopicResponse {
        name: Text, 0+;
        partitions: Vec<PartitionResponse>, 0+;
    }

    part PartitionResponse {
        partition_index: i32, 0+;
        error_code: i16, 0+;
        error_message: Option<Text>, 0+, null 0+;
        active_producers: Vec<ProducerState>, 0+;
    }

    part ProducerState {
        producer_id: i64, 0+;
        producer_epoch: i32, 0+;
        last_sequence: i32, 0+, default -1;
        last_timestamp: i64, 0+, default -1;
        coordinator_epoch: i32, 0+;
        /// −1: no transaction is open.
        current_txn_start_offset: i64, 0+, default -1;
    }
}
