//! DescribeGroups: state and members of classic groups (static members: KIP-345; error messages: KIP-1043).
//!
//! *Owns*: the two tables. *Never*: knows a group. *Runs on*: every core.

use bytes::Bytes;

use crate::wire::table::api;
use crate::wire::text::Text;

api! {
    API: 15 "DescribeGroups", versions 0-6, flexible 5;

    message DescribeGroupsRequest {
        groups: Vec<Text>, 0+;
        include_authorized_operations: bool, 3+;
    }

    message DescribeGroupsResponse {
        throttle_time_ms: i32, 1+;
        groups: Vec<DescribedGroup>, 0+;
    }

    part DescribedGroup {
        error_code: i16, 0+;
        error_message: Option<Text>, 6+, null 6+;
        group_id: Text, 0+;
        group_state: Text, 0+;
        protocol_type: Text, 0+;
        /// The protocol chosen, while the group is stable.
        protocol_data: Text, 0+;
        members: Vec<DescribedGroupMember>, 0+;
        /// A bit per operation; the default means "not asked for".
        authorized_operations: i32, 3+, default i32::MIN;
    }

    part DescribedGroupMember {
        member_id: Text, 0+;
        group_instance_id: Option<Text>, 4+, null 4+;
        client_id: Text, 0+;
        client_host: Text, 0+;
        member_metadata: Bytes, 0+;
        member_assignment: Bytes, 0+;
    }
}
