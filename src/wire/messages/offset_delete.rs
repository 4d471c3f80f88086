//! OffsetDelete: forgets a group's offsets of topics that it does not read any more (KIP-496).
//!
//! *Owns*: the two tables. *Never*: keeps an offset. *Runs on*: every core.

use crate::wire::table::api;
use crate::wire::text::Text;

api! {
    API: 47 "OffsetDelete", versions 0-0, flexible 32767;

    message OffsetDeleteRequest {
        group_id: Text, 0+;
        topics: Vec<OffsetDeleteRequestTopic>, 0+;
    }

    part OffsetDeleteRequestTopic {
        name: Text, 0+;
        partitions: Vec<OffsetDeleteRequestPartition>, 0+;
    }

    part OffsetDeleteRequestPartition {
        partition_index: i32, 0+;
    }

    message OffsetDeleteResponse {
        error_code: i16, 0+;
        throttle_time_ms: i32, 0+;
        topics: Vec<OffsetDeleteResponseTopic>, 0+;
    }

    part OffsetDeleteResponseTopic {
        name: Text, 0+;
        partitions: Vec<OffsetDeleteResponsePartition>, 0+;
    }

    part OffsetDeleteResponsePartition {
        partition_index: i32, 0+;
        error_code: i16, 0+;
    }
}
