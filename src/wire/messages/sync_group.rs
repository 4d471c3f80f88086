//! SyncGroup: the leader of a classic group brings everybody's assignment, and each member gets its own (static
//! members: KIP-345; protocol type and name: KIP-559).
//!
//! *Owns*: the two tables. *Never*: knows a group. *Runs on*: every core.

use bytes::Bytes;

use crate::wire::table::api;
use crate::wire::text::Text;

api! {
    API: 14 "SyncGroup", versions 0-5, flexible 4;

    message SyncGroupRequest {
        group_id: Text, 0+;
        generation_id: i32, 0+;
        member_id: Text, 0+;
        group_instance_id: Option<Text>, 3+, null 3+;
        protocol_type: Option<Text>, 5+, null 5+;
        protocol_name: Option<Text>, 5+, null 5+;
        /// From the leader; the others bring none.
        assignments: Vec<SyncGroupRequestAssignment>, 0+;
    }

    part SyncGroupRequestAssignment {
        member_id: Text, 0+;
        assignment: Bytes, 0+;
    }

    message SyncGroupResponse {
        throttle_time_ms: i32, 1+;
        error_code: i16, 0+;
        protocol_type: Option<Text>, 5+, null 5+;
        protocol_name: Option<Text>, 5+, null 5+;
        assignment: Bytes, 0+;
    }
}
