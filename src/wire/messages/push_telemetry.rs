//! PushTelemetry: a client tells the broker what it has measured (KIP-714).
//!
//! *Owns*: the two tables. *Never*: knows a metric. *Runs on*: every core.

use bytes::Bytes;

use crate::base::ids::ClientInstanceId;
use crate::wire::table::api;

api! {
    API: 72 "PushTelemetry", versions 0-0, flexible 0;

    message PushTelemetryRequest {
        client_instance_id: ClientInstanceId, 0+;
        subscription_id: i32, 0+;
        /// The client ends, and pushes no more.
        terminating: bool, 0+;
        compression_type: i8, 0+;
        /// OpenTelemetry's `MetricsData`, compressed.
        metrics: Bytes, 0+;
    }

    message PushTelemetryResponse {
        throttle_time_ms: i32, 0+;
        error_code: i16, 0+;
    }
}
