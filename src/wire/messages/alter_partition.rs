//! AlterPartition: a leader proposes the in-sync replicas of its partitions (KIP-497; epochs of brokers: KIP-903).
//!
//! *Owns*: the two tables. *Never*: decides. *Runs on*: every core.

use crate::base::ids::TopicId;
use crate::wire::table::api;

api! {
    API: 56 "AlterPartition", versions 2-3, flexible 0;

    message AlterPartitionRequest {
        broker_id: i32, 0+;
        broker_epoch: i64, 0+, default -1;
        topics: Vec<TopicRequest>, 0+;
    }

    part TopicRequest {
        topic_id: TopicId, 2+;
        partitions: Vec<PartitionRequest>, 0+;
    }

    part PartitionRequest {
        partition_index: i32, 0+;
        leader_epoch: i32, 0+;
        new_isr: Vec<i32>, 0-2;
        new_isr_with_epochs: Vec<BrokerState>, 3+;
        /// 1: the partition is recovering from an unclean election.
        leader_recovery_state: i8, 1+;
        /// What the proposal is based on.
        partition_epoch: i32, 0+;
    }

    part BrokerState {
        broker_id: i32, 3+;
        /// −1: the leader does not know it.
        broker_epoch: i64, 3+, default -1;
    }

    message AlterPartitionResponse {
        throttle_time_ms: i32, 0+;
        error_code: i16, 0+;
        topics: Vec<TopicData>, 0+;
    }

    part TopicData {
        topic_id: TopicId, 2+;
        partitions: Vec<PartitionData>, 0+;
    }

    part PartitionData {
        partition_index: i32, 0+;
        error_code: i16, 0+;
        leader_id: i32, 0+;
        leader_epoch: i32, 0+;
        isr: Vec<i32>, 0+;
        leader_recovery_state: i8, 1+;
        partition_epoch: i32, 0+;
    }
}
