//! UnregisterBroker: forgets a broker that will not come back (KIP-500).
//!
//! *Owns*: the two tables. *Never*: decides. *Runs on*: every core.

use crate::wire::table::api;
use crate::wire::text::Text;

api! {
    API: 64 "UnregisterBroker", versions 0-0, flexible 0;

    message UnregisterBrokerRequest {
        broker_id: i32, 0+;
    }

    message UnregisterBrokerResponse {
        throttle_time_ms: i32, 0+;
        error_code: i16, 0+;
        error_message: Option<Text>, 0+, null 0+;
    }
}
