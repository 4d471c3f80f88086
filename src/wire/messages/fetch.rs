//! Fetch: record batches from an offset on (sessions: KIP-227; divergence: KIP-595; topic ids: KIP-516).
//!
//! *Owns*: the two tables. *Never*: looks into the records. *Runs on*: every core.

use crate::base::ids::TopicId;
use crate::wire::codec::Records;
use crate::wire::table::api;
use crate::wire::text::Text;

api! {
    API: 1 "Fetch", versions 4-18, flexible 12;

    message FetchRequest {
        cluster_id: Option<Text>, 12+, null 12+, tag 0;
        /// −1 for consumers. From version 15 in `replica_state`.
        replica_id: i32, 0-14, default -1;
        replica_state: ReplicaState, 15+, tag 1;
        max_wait_ms: i32, 0+;
        min_bytes: i32, 0+;
        /// Of all records together; the first batch is sent even if it is larger.
        max_bytes: i32, 3+, default i32::MAX;
        /// 0: read uncommitted. 1: read committed.
        isolation_level: i8, 4+;
        /// 0: no session.
        session_id: i32, 7+;
        /// −1: no session is wanted. 0: start one.
        session_epoch: i32, 7+, default -1;
        topics: Vec<FetchTopic>, 0+;
        forgotten_topics_data: Vec<ForgottenTopic>, 7+;
        rack_id: Text, 11+;
    }

    part ReplicaState {
        replica_id: i32, 15+, default -1;
        replica_epoch: i64, 15+, default -1;
    }

    part FetchTopic {
        topic: Text, 0-12;
        topic_id: TopicId, 13+;
        partitions: Vec<FetchPartition>, 0+;
    }

    part FetchPartition {
        partition: i32, 0+;
        /// −1: the client does not know it.
        current_leader_epoch: i32, 9+, default -1;
        fetch_offset: i64, 0+;
        last_fetched_epoch: i32, 12+, default -1;
        /// Of a follower; −1 for consumers.
        log_start_offset: i64, 5+, default -1;
        partition_max_bytes: i32, 0+;
        replica_directory_id: TopicId, 17+, tag 0;
        /// What a follower knows of it (KIP-1166).
        high_watermark: i64, 18+, tag 1, default i64::MAX;
    }

    /// Partitions that leave the session.
    part ForgottenTopic {
        topic: Text, 7-12;
        topic_id: TopicId, 13+;
        partitions: Vec<i32>, 7+;
    }

    message FetchResponse {
        throttle_time_ms: i32, 1+;
        error_code: i16, 7+;
        session_id: i32, 7+;
        responses: Vec<FetchableTopicResponse>, 0+;
        /// The brokers that the `current_leader` fields name.
        node_endpoints: Vec<NodeEndpoint>, 16+, tag 0;
    }

    part FetchableTopicResponse {
        topic: Text, 0-12;
        topic_id: TopicId, 13+;
        partitions: Vec<PartitionData>, 0+;
    }

    part PartitionData {
        partition_index: i32, 0+;
        error_code: i16, 0+;
        /// −1 with an error.
        high_watermark: i64, 0+;
        last_stable_offset: i64, 4+, default -1;
        log_start_offset: i64, 5+, default -1;
        diverging_epoch: EpochEndOffset, 12+, tag 0;
        current_leader: LeaderIdAndEpoch, 12+, tag 1;
        snapshot_id: SnapshotId, 12+, tag 2;
        aborted_transactions: Option<Vec<AbortedTransaction>>, 4+, null 4+;
        /// −1: none.
        preferred_read_replica: i32, 11+, default -1;
        /// Many clients stumble over null here: no records are `Some` of none.
        records: Option<Records>, 0+, null 0+;
    }

    /// The end of the last epoch that leader and follower share.
    part EpochEndOffset {
        epoch: i32, 12+, default -1;
        end_offset: i64, 12+, default -1;
    }

    part LeaderIdAndEpoch {
        leader_id: i32, 12+, default -1;
        leader_epoch: i32, 12+, default -1;
    }

    part SnapshotId {
        end_offset: i64, 0+, default -1;
        epoch: i32, 0+, default -1;
    }

    part AbortedTransaction {
        producer_id: i64, 4+;
        first_offset: i64, 4+;
    }

    part NodeEndpoint {
        node_id: i32, 16+;
        host: Text, 16+;
        port: i32, 16+;
        rack: Option<Text>, 16+, null 16+;
    }
}
