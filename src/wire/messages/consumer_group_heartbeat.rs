//! ConsumerGroupHeartbeat: a consumer joins, stays in and leaves a group, and learns its partitions (KIP-848; ids that
//! the client makes: KIP-1082).
//!
//! *Owns*: the two tables. *Never*: knows a group. *Runs on*: every core.

use crate::base::ids::TopicId;
use crate::wire::table::api;
use crate::wire::text::Text;

api! {
    API: 68 "ConsumerGroupHeartbeat", versions 0-1, flexible 0;

    /// Of most fields `None`, or −1, says that they are as in the heartbeat before.
    message ConsumerGroupHeartbeatRequest {
        group_id: Text, 0+;
        member_id: Text, 0+;
        /// 0: join. −1: leave. −2: leave for a while, of a static member.
        member_epoch: i32, 0+;
        instance_id: Option<Text>, 0+, null 0+;
        rack_id: Option<Text>, 0+, null 0+;
        rebalance_timeout_ms: i32, 0+, default -1;
        subscribed_topic_names: Option<Vec<Text>>, 0+, null 0+;
        subscribed_topic_regex: Option<Text>, 1+, null 1+;
        server_assignor: Option<Text>, 0+, null 0+;
        /// What the member owns.
        topic_partitions: Option<Vec<TopicPartitions>>, 0+, null 0+;
    }

    message ConsumerGroupHeartbeatResponse {
        throttle_time_ms: i32, 0+;
        error_code: i16, 0+;
        error_message: Option<Text>, 0+, null 0+;
        member_id: Option<Text>, 0+, null 0+;
        member_epoch: i32, 0+;
        heartbeat_interval_ms: i32, 0+;
        /// `None`: as before.
        assignment: Option<Assignment>, 0+, null 0+;
    }

    nullable_part Assignment {
        topic_partitions: Vec<TopicPartitions>, 0+;
    }

    part TopicPartitions {
        topic_id: TopicId, 0+;
        partitions: Vec<i32>, 0+;
    }
}
