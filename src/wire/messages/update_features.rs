//! UpdateFeatures: which levels of features are in use (KIP-584).
//!
//! *Owns*: the two tables. *Never*: knows a feature. *Runs on*: every core.

use crate::wire::table::api;
use crate::wire::text::Text;

api! {
    API: 57 "UpdateFeatures", versions 0-2, flexible 0;

    message UpdateFeaturesRequest {
        timeout_ms: i32, 0+, default 60_000;
        feature_updates: Vec<FeatureUpdateKey>, 0+;
        validate_only: bool, 1+;
    }

    part FeatureUpdateKey {
        feature: Text, 0+;
        max_version_level: i16, 0+;
        allow_downgrade: bool, 0-0;
        /// 1: up. 2: down, if nothing is lost. 3: down.
        upgrade_type: i8, 1+, default 1;
    }

    message UpdateFeaturesResponse {
        throttle_time_ms: i32, 0+;
        error_code: i16, 0+;
        error_message: Option<Text>, 0+, null 0+;
        results: Vec<UpdatableFeatureResult>, 0-1;
    }

    part UpdatableFeatureResult {
        feature: Text, 0+;
        error_code: i16, 0+;
        error_message: Option<Text>, 0+, null 0+;
    }
}
