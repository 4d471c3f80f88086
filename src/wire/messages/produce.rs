//! Produce: record batches for the leaders of partitions (KIP-98, KIP-480, KIP-951; topic ids: KIP-516).
//!
//! *Owns*: the two tables. *Never*: looks into the records. *Runs on*: every core.
//!
//! Versions 0–2 carry the record formats before v2 and have no table; a broker advertises them all the same,
//! because some clients read "from 0" as "speaks Produce at all" (KAFKA-18659).

use bytes::Bytes;

use crate::base::ids::TopicId;
use crate::wire::table::api;
use crate::wire::text::Text;

api! {
    API: 0 "Produce", versions 3-13, flexible 9;

    message ProduceRequest {
        transactional_id: Option<Text>, 3+, null 3+;
        /// 0: no reply at all. 1: the leader has it. −1: all in-sync replicas have it.
        acks: i16, 0+;
        timeout_ms: i32, 0+;
        topic_data: Vec<TopicProduceData>, 0+;
    }

    part TopicProduceData {
        name: Text, 0-12;
        topic_id: TopicId, 13+;
        partition_data: Vec<PartitionProduceData>, 0+;
    }

    part PartitionProduceData {
        index: i32, 0+;
        /// One slice of the request's frame.
        records: Option<Bytes>, 0+, null 0+;
    }

    message ProduceResponse {
        responses: Vec<TopicProduceResponse>, 0+;
        throttle_time_ms: i32, 1+;
        /// The brokers that the `current_leader` fields name.
        node_endpoints: Vec<NodeEndpoint>, 10+, tag 0;
    }

    part TopicProduceResponse {
        name: Text, 0-12;
        topic_id: TopicId, 13+;
        partition_responses: Vec<PartitionProduceResponse>, 0+;
    }

    part PartitionProduceResponse {
        index: i32, 0+;
        error_code: i16, 0+;
        /// Of the first record of the batch; −1 with an error.
        base_offset: i64, 0+;
        /// −1 if the topic keeps the producer's timestamps.
        log_append_time_ms: i64, 2+, default -1;
        log_start_offset: i64, 5+, default -1;
        record_errors: Vec<BatchIndexAndErrorMessage>, 8+;
        error_message: Option<Text>, 8+, null 8+;
        current_leader: LeaderIdAndEpoch, 10+, tag 0;
    }

    /// A record that made the broker refuse its batch.
    part BatchIndexAndErrorMessage {
        batch_index: i32, 8+;
        batch_index_error_message: Option<Text>, 8+, null 8+;
    }

    part LeaderIdAndEpoch {
        leader_id: i32, 10+, default -1;
        leader_epoch: i32, 10+, default -1;
    }

    part NodeEndpoint {
        node_id: i32, 10+;
        host: Text, 10+;
        port: i32, 10+;
        rack: Option<Text>, 10+, null 10+;
    }
}
