//! ListGroups: the groups that a broker coordinates (by state: KIP-518; by type: KIP-848).
//!
//! *Owns*: the two tables. *Never*: knows a group. *Runs on*: every core.

use crate::wire::table::api;
use crate::wire::text::Text;

api! {
    API: 16 "ListGroups", versions 0-5, flexible 3;

    message ListGroupsRequest {
        /// Empty: in whatever state.
        states_filter: Vec<Text>, 4+;
        /// Empty: of whatever type.
        types_filter: Vec<Text>, 5+;
    }

    message ListGroupsResponse {
        throttle_time_ms: i32, 1+;
        error_code: i16, 0+;
        groups: Vec<ListedGroup>, 0+;
    }

    part ListedGroup {
        group_id: Text, 0+;
        protocol_type: Text, 0+;
        group_state: Text, 4+;
        group_type: Text, 5+;
    }
}
