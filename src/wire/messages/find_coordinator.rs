//! FindCoordinator: who coordinates a group or a transaction (KIP-98; several keys at once: KIP-699).
//!
//! *Owns*: the two tables. *Never*: knows a coordinator. *Runs on*: every core.

use crate::wire::table::api;
use crate::wire::text::Text;

api! {
    API: 10 "FindCoordinator", versions 0-6, flexible 3;

    message FindCoordinatorRequest {
        key: Text, 0-3;
        /// 0: group. 1: transaction. 2: share group, whose key is "group:topic id:partition".
        key_type: i8, 1+;
        coordinator_keys: Vec<Text>, 4+;
    }

    message FindCoordinatorResponse {
        throttle_time_ms: i32, 1+;
        error_code: i16, 0-3;
        error_message: Option<Text>, 1-3, null 1-3;
        node_id: i32, 0-3;
        host: Text, 0-3;
        port: i32, 0-3;
        coordinators: Vec<Coordinator>, 4+;
    }

    part Coordinator {
        key: Text, 4+;
        node_id: i32, 4+;
        host: Text, 4+;
        port: i32, 4+;
        error_code: i16, 4+;
        error_message: Option<Text>, 4+, null 4+;
    }
}
