//! OffsetForLeaderEpoch: where a leader epoch ends (KIP-101, KIP-279, KIP-320).
//!
//! *Owns*: the two tables. *Never*: knows an epoch's end. *Runs on*: every core.

use crate::wire::table::api;
use crate::wire::text::Text;

api! {
    API: 23 "OffsetForLeaderEpoch", versions 2-4, flexible 4;

    message OffsetForLeaderEpochRequest {
        /// −1 for consumers, −2 if it does not say.
        replica_id: i32, 3+, default -2;
        topics: Vec<OffsetForLeaderTopic>, 0+;
    }

    part OffsetForLeaderTopic {
        topic: Text, 0+;
        partitions: Vec<OffsetForLeaderPartition>, 0+;
    }

    part OffsetForLeaderPartition {
        partition: i32, 0+;
        current_leader_epoch: i32, 2+, default -1;
        /// The epoch whose end is wanted.
        leader_epoch: i32, 0+;
    }

    message OffsetForLeaderEpochResponse {
        throttle_time_ms: i32, 2+;
        topics: Vec<OffsetForLeaderTopicResult>, 0+;
    }

    part OffsetForLeaderTopicResult {
        topic: Text, 0+;
        partitions: Vec<EpochEndOffset>, 0+;
    }

    part EpochEndOffset {
        error_code: i16, 0+;
        partition: i32, 0+;
        /// The epoch asked for or the last one before it; −1 if there is none.
        leader_epoch: i32, 1+, default -1;
        end_offset: i64, 0+, default -1;
    }
}
