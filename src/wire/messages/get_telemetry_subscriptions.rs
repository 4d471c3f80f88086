//! GetTelemetrySubscriptions: a client asks which of its metrics the broker wants (KIP-714).
//!
//! *Owns*: the two tables. *Never*: knows a subscription. *Runs on*: every core.

use crate::base::ids::ClientInstanceId;
use crate::wire::table::api;
use crate::wire::text::Text;

api! {
    API: 71 "GetTelemetrySubscriptions", versions 0-0, flexible 0;

    message GetTelemetrySubscriptionsRequest {
        /// Zeros: the client has none yet.
        client_instance_id: ClientInstanceId, 0+;
    }

    message GetTelemetrySubscriptionsResponse {
        throttle_time_ms: i32, 0+;
        error_code: i16, 0+;
        client_instance_id: ClientInstanceId, 0+;
        subscription_id: i32, 0+;
        /// In the order in which the broker would have them.
        accepted_compression_types: Vec<i8>, 0+;
        push_interval_ms: i32, 0+;
        telemetry_max_bytes: i32, 0+;
        /// Sums are to be pushed as what they have grown by since the last push.
        delta_temporality: bool, 0+;
        /// Prefixes of names; `*` alone for all. None: nothing is wanted.
        requested_metrics: Vec<Text>, 0+;
    }
}
