//! ApiVersions: what the broker speaks (KIP-35; client names: KIP-511; features: KIP-584).
//!
//! *Owns*: the two tables. *Never*: decides what is advertised. *Runs on*: every core.

use crate::wire::table::api;
use crate::wire::text::Text;

api! {
    API: 18 "ApiVersions", versions 0-4, flexible 3;

    message ApiVersionsRequest {
        client_software_name: Text, 3+;
        client_software_version: Text, 3+;
    }

    message ApiVersionsResponse {
        error_code: i16, 0+;
        api_keys: Vec<ApiVersion>, 0+;
        throttle_time_ms: i32, 1+;
        supported_features: Vec<SupportedFeatureKey>, 3+, tag 0;
        /// −1: not known.
        finalized_features_epoch: i64, 3+, tag 1, default -1;
        finalized_features: Vec<FinalizedFeatureKey>, 3+, tag 2;
        zk_migration_ready: bool, 3+, tag 3;
    }

    part ApiVersion {
        api_key: i16, 0+;
        min_version: i16, 0+;
        max_version: i16, 0+;
    }

    part SupportedFeatureKey {
        name: Text, 3+;
        min_version: i16, 3+;
        max_version: i16, 3+;
    }

    part FinalizedFeatureKey {
        name: Text, 3+;
        max_version_level: i16, 3+;
        min_version_level: i16, 3+;
    }
}
