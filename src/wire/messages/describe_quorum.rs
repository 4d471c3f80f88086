//! DescribeQuorum: who decides on metadata (KIP-595; times: KIP-836; nodes: KIP-853).
//!
//! *Owns*: the two tables. *Never*: decides. *Runs on*: every core.

use crate::base::ids::TopicId;
use crate::wire::table::api;
use crate::wire::text::Text;

api! {
    API: 55 "DescribeQuorum", versions 0-2, flexible 0;

    message DescribeQuorumRequest {
        topics: Vec<TopicRequest>, 0+;
    }

    part TopicRequest {
        topic_name: Text, 0+;
        partitions: Vec<PartitionRequest>, 0+;
    }

    part PartitionRequest {
        partition_index: i32, 0+;
    }

    message DescribeQuorumResponse {
        error_code: i16, 0+;
        error_message: Option<Text>, 2+, null 2+;
        topics: Vec<TopicData>, 0+;
        nodes: Vec<Node>, 2+;
    }

    part TopicData {
        topic_name: Text, 0+;
        partitions: Vec<PartitionData>, 0+;
    }

    part PartitionData {
        partition_index: i32, 0+;
        error_code: i16, 0+;
        error_message: Option<Text>, 2+, null 2+;
        leader_id: i32, 0+;
        leader_epoch: i32, 0+;
        high_watermark: i64, 0+;
        current_voters: Vec<ReplicaState>, 0+;
        observers: Vec<ReplicaState>, 0+;
    }

    part ReplicaState {
        replica_id: i32, 0+;
        replica_directory_id: TopicId, 2+;
        log_end_offset: i64, 0+;
        last_fetch_timestamp: i64, 1+, default -1;
        last_caught_up_timestamp: i64, 1+, default -1;
    }

    part Node {
        node_id: i32, 2+;
        listeners: Vec<Listener>, 2+;
    }

    part Listener {
        name: Text, 2+;
        host: Text, 2+;
        port: u16, 2+;
    }
}
