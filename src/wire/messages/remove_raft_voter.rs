//! RemoveRaftVoter: has a broker take no more part in deciding on metadata (KIP-853).
//!
//! *Owns*: the two tables. *Never*: decides. *Runs on*: every core.

use crate::base::ids::TopicId;
use crate::wire::table::api;
use crate::wire::text::Text;

api! {
    API: 81 "RemoveRaftVoter", versions 0-0, flexible 0;

    message RemoveRaftVoterRequest {
        cluster_id: Option<Text>, 0+, null 0+;
        voter_id: i32, 0+;
        voter_directory_id: TopicId, 0+;
    }

    message RemoveRaftVoterResponse {
        throttle_time_ms: i32, 0+;
        error_code: i16, 0+;
        error_message: Option<Text>, 0+, null 0+;
    }
}
