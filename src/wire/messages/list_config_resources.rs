//! ListConfigResources: what has settings (KIP-1142; version 0 is KIP-714's ListClientMetricsResources).
//!
//! *Owns*: the two tables. *Never*: holds metadata. *Runs on*: every core.

use crate::wire::table::api;
use crate::wire::text::Text;

api! {
    API: 74 "ListConfigResources", versions 0-1, flexible 0;

    message ListConfigResourcesRequest {
        /// None: all there are.
        resource_types: Vec<i8>, 1+;
    }

    message ListConfigResourcesResponse {
        throttle_time_ms: i32, 0+;
        error_code: i16, 0+;
        config_resources: Vec<ConfigResource>, 0+;
    }

    part ConfigResource {
        resource_name: Text, 0+;
        /// 16: client metrics.
        resource_type: i8, 1+, default 16;
    }
}
