//! AddRaftVoter: has a broker take part in deciding on metadata (KIP-853).
//!
//! *Owns*: the two tables. *Never*: decides. *Runs on*: every core.

use crate::base::ids::TopicId;
use crate::wire::table::api;
use crate::wire::text::Text;

api! {
    API: 80 "AddRaftVoter", versions 0-0, flexible 0;

    message AddRaftVoterRequest {
        cluster_id: Option<Text>, 0+, null 0+;
        timeout_ms: i32, 0+;
        voter_id: i32, 0+;
        voter_directory_id: TopicId, 0+;
        listeners: Vec<Listener>, 0+;
    }

    part Listener {
        name: Text, 0+;
        host: Text, 0+;
        port: u16, 0+;
    }

    message AddRaftVoterResponse {
        throttle_time_ms: i32, 0+;
        error_code: i16, 0+;
        error_message: Option<Text>, 0+, null 0+;
    }
}
