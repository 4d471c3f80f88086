//! AlterConfigs: all settings of a thing at once (KIP-133).
//!
//! *Owns*: the two tables. *Never*: knows a setting. *Runs on*: every core.

use crate::wire::table::api;
use crate::wire::text::Text;

api! {
    API: 33 "AlterConfigs", versions 0-2, flexible 2;

    message AlterConfigsRequest {
        resources: Vec<AlterConfigsResource>, 0+;
        validate_only: bool, 0+;
    }

    part AlterConfigsResource {
        /// 2: topic. 4: broker. 32: group.
        resource_type: i8, 0+;
        resource_name: Text, 0+;
        configs: Vec<AlterableConfig>, 0+;
    }

    part AlterableConfig {
        name: Text, 0+;
        value: Option<Text>, 0+, null 0+;
    }

    message AlterConfigsResponse {
        throttle_time_ms: i32, 0+;
        responses: Vec<AlterConfigsResourceResponse>, 0+;
    }

    part AlterConfigsResourceResponse {
        error_code: i16, 0+;
        error_message: Option<Text>, 0+, null 0+;
        resource_type: i8, 0+;
        resource_name: Text, 0+;
    }
}
