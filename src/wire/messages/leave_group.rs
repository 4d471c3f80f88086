//! LeaveGroup: members leave a classic group, or somebody removes them (several at once, by instance id: KIP-345;
//! reasons: KIP-800).
//!
//! *Owns*: the two tables. *Never*: knows a group. *Runs on*: every core.

use crate::wire::table::api;
use crate::wire::text::Text;

api! {
    API: 13 "LeaveGroup", versions 0-5, flexible 4;

    message LeaveGroupRequest {
        group_id: Text, 0+;
        member_id: Text, 0-2;
        members: Vec<MemberIdentity>, 3+;
    }

    part MemberIdentity {
        /// Empty: the instance id alone says who.
        member_id: Text, 3+;
        group_instance_id: Option<Text>, 3+, null 3+;
        reason: Option<Text>, 5+, null 5+;
    }

    message LeaveGroupResponse {
        throttle_time_ms: i32, 1+;
        error_code: i16, 0+;
        members: Vec<MemberResponse>, 3+;
    }

    part MemberResponse {
        member_id: Text, 3+;
        group_instance_id: Option<Text>, 3+, null 3+;
        error_code: i16, 3+;
    }
}
