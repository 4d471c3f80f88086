//! InitProducerId: an id for an idempotent or transactional producer (KIP-98; epoch bumps: KIP-360).
//!
//! *Owns*: the two tables. *Never*: hands out an id. *Runs on*: every core.

use crate::wire::table::api;
use crate::wire::text::Text;

api! {
    API: 22 "InitProducerId", versions 0-5, flexible 2;

    message InitProducerIdRequest {
        /// `None`: idempotent without transactions.
        transactional_id: Option<Text>, 0+, null 0+;
        transaction_timeout_ms: i32, 0+;
        /// −1: the producer has none yet.
        producer_id: i64, 3+, default -1;
        producer_epoch: i16, 3+, default -1;
    }

    message InitProducerIdResponse {
        throttle_time_ms: i32, 0+;
        error_code: i16, 0+;
        producer_id: i64, 0+, default -1;
        producer_epoch: i16, 0+;
    }
}
