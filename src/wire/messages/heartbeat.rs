//! Heartbeat: a member of a classic group is alive, and learns whether the group rebalances (static members: KIP-345).
//!
//! *Owns*: the two tables. *Never*: knows a group. *Runs on*: every core.

use crate::wire::table::api;
use crate::wire::text::Text;

api! {
    API: 12 "Heartbeat", versions 0-4, flexible 4;

    message HeartbeatRequest {
        group_id: Text, 0+;
        generation_id: i32, 0+;
        member_id: Text, 0+;
        group_instance_id: Option<Text>, 3+, null 3+;
    }

    message HeartbeatResponse {
        throttle_time_ms: i32, 1+;
        error_code: i16, 0+;
    }
}
