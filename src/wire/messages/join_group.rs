//! JoinGroup: a member enters a classic group, or takes part in its rebalance (member ids first: KIP-394; static
//! members: KIP-345; protocol type and name in the reply: KIP-559; reasons: KIP-800; skipped assignment: KIP-814).
//!
//! *Owns*: the two tables. *Never*: knows a group. *Runs on*: every core.

use bytes::Bytes;

use crate::wire::table::api;
use crate::wire::text::Text;

api! {
    API: 11 "JoinGroup", versions 0-9, flexible 6;

    message JoinGroupRequest {
        group_id: Text, 0+;
        session_timeout_ms: i32, 0+;
        /// −1 in version 0: the session timeout holds for both.
        rebalance_timeout_ms: i32, 1+, default -1;
        /// Empty: the member has none yet.
        member_id: Text, 0+;
        group_instance_id: Option<Text>, 5+, null 5+;
        protocol_type: Text, 0+;
        /// In the order in which the member prefers them.
        protocols: Vec<JoinGroupRequestProtocol>, 0+;
        reason: Option<Text>, 8+, null 8+;
    }

    part JoinGroupRequestProtocol {
        name: Text, 0+;
        metadata: Bytes, 0+;
    }

    message JoinGroupResponse {
        throttle_time_ms: i32, 2+;
        error_code: i16, 0+;
        generation_id: i32, 0+, default -1;
        protocol_type: Option<Text>, 7+, null 7+;
        protocol_name: Option<Text>, 0+, null 7+;
        leader: Text, 0+;
        skip_assignment: bool, 9+;
        member_id: Text, 0+;
        /// For the leader alone.
        members: Vec<JoinGroupResponseMember>, 0+;
    }

    part JoinGroupResponseMember {
        member_id: Text, 0+;
        group_instance_id: Option<Text>, 5+, null 5+;
        metadata: Bytes, 0+;
    }
}
