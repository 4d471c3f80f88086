//! DeleteGroups: forgets groups without members, and their offsets (KIP-229).
//!
//! *Owns*: the two tables. *Never*: knows a group. *Runs on*: every core.

use crate::wire::table::api;
use crate::wire::text::Text;

api! {
    API: 42 "DeleteGroups", versions 0-2, flexible 2;

    message DeleteGroupsRequest {
        groups_names: Vec<Text>, 0+;
    }

    message DeleteGroupsResponse {
        throttle_time_ms: i32, 0+;
        results: Vec<DeletableGroupResult>, 0+;
    }

    part DeletableGroupResult {
        group_id: Text, 0+;
        error_code: i16, 0+;
    }
}
