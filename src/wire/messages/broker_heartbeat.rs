//! BrokerHeartbeat: a broker renews its lease with the controller and says what it wants (KIP-631).
//!
//! *Owns*: the two tables. *Never*: decides. *Runs on*: every core.

use crate::base::ids::TopicId;
use crate::wire::table::api;

api! {
    API: 63 "BrokerHeartbeat", versions 0-1, flexible 0;

    message BrokerHeartbeatRequest {
        broker_id: i32, 0+;
        broker_epoch: i64, 0+, default -1;
        /// How far the broker has applied the metadata.
        current_metadata_offset: i64, 0+;
        want_fence: bool, 0+;
        want_shut_down: bool, 0+;
        offline_log_dirs: Vec<TopicId>, 1+, tag 0;
    }

    message BrokerHeartbeatResponse {
        throttle_time_ms: i32, 0+;
        error_code: i16, 0+;
        is_caught_up: bool, 0+;
        is_fenced: bool, 0+, default true;
        should_shut_down: bool, 0+;
    }
}
