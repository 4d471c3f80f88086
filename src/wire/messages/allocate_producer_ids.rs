//! AllocateProducerIds: a broker asks the controller for a block of producer ids (KIP-730).
//!
//! *Owns*: the two tables. *Never*: decides. *Runs on*: every core.

use crate::wire::table::api;

api! {
    API: 67 "AllocateProducerIds", versions 0-0, flexible 0;

    message AllocateProducerIdsRequest {
        broker_id: i32, 0+;
        broker_epoch: i64, 0+, default -1;
    }

    message AllocateProducerIdsResponse {
        throttle_time_ms: i32, 0+;
        error_code: i16, 0+;
        producer_id_start: i64, 0+;
        producer_id_len: i32, 0+;
    }
}
